//! Labelling: projects over the rows of a dataset version, what persons decide on rows, what services suggest, and how far persons agree.
//! Never here: handing out rows, agreement's formulas (the daemon has both), keys (the terminal has them).

use serde::{Deserialize, Serialize};

use crate::dataset::{CHOSEN, ChatMessage, REJECTED, Row, Segment};
use crate::value::Json;

/// Projects of a store, closed ones included. More are refused.
pub const PROJECTS_MAX: usize = 1000;
/// Labels of a project.
pub const LABELS_MAX: usize = 64;
/// Reasons of a project's pairs.
pub const REASONS_MAX: usize = 9;
/// Longest title or reason in characters.
pub const TITLE_CHARS_MAX: usize = 200;
/// Longest guide or question in bytes.
pub const GUIDE_BYTES_MAX: usize = 64 << 10;
/// Most persons that judge one row.
pub const PERSONS_MAX: u32 = 20;
/// Most percent of rows that are shown a second time.
pub const REPEAT_PERCENT_MAX: u32 = 50;
/// Rows of a project. More are refused.
pub const PROJECT_ROWS_MAX: u64 = 2_000_000;
/// Rows that are handed out at once.
pub const NEXT_ROWS_MAX: u32 = 100;
/// Decisions of one request.
pub const DECISIONS_MAX: usize = 1000;
/// Suggestions of one request.
pub const SUGGESTIONS_MAX: usize = 1000;
/// Spans of one row.
pub const SPANS_MAX: usize = 500;
/// Longest edited answer in bytes.
pub const EDIT_BYTES_MAX: usize = 1 << 20;
/// Longest note or reason of a flag in bytes.
pub const REMARK_BYTES_MAX: usize = 4096;
/// Most points of a rating.
pub const RATING_MAX: u32 = 10;
/// How long a row stays with who asked for it, in milliseconds.
pub const LEASE_MS: i64 = 15 * 60 * 1000;
/// Below so many percent of agreement with suggestions they are no longer chosen beforehand.
pub const SUGGESTED_LEAST_PERCENT: u64 = 80;
/// Over so many of a person's last decisions on rows with a suggestion that is looked at, and not before there are half as many.
pub const SUGGESTED_LOOK: usize = 40;

/// What a project wants to know of each row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One of several labels.
    Choice {
        /// The labels, the first on key 1.
        labels: Vec<LabelName>,
    },
    /// Any of several labels, also none.
    Several {
        /// The labels.
        labels: Vec<LabelName>,
    },
    /// Parts of the text with a label.
    Span {
        /// The labels.
        labels: Vec<LabelName>,
    },
    /// Which of two answers is better; of preference rows.
    Pair {
        /// Reasons to choose from afterwards, may be empty.
        reasons: Vec<String>,
    },
    /// The order of several answers: the two of a preference row, or the `responses` of the object as it was imported.
    Rank,
    /// Points.
    Rating {
        /// From 1 to this number, 2 to [`RATING_MAX`].
        scale: u32,
    },
    /// A better text in the place of the last answer, or of a text row's text.
    Edit,
}

/// A label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelName {
    /// Its name in data: `[a-z0-9._-]`.
    pub name: String,
    /// What persons see; empty for the name.
    pub title: String,
    /// Whether rows with this label become rows of a version that is made of the labels.
    pub keep: bool,
}

/// In which order rows come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// As they stand in the version.
    File,
    /// Shuffled, the same for everybody.
    Random,
    /// Those first of whose suggestion the service was least sure; rows without one last.
    Unsure,
}

/// What a project is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProjectSpec {
    /// Free display title, may be empty.
    pub title: String,
    /// `name` or `name@number` of the dataset; a number once it is stored.
    pub dataset: String,
    /// `name` or `name@number` of the standard that rows are judged by, which is the guide where `guide` is empty; none for none.
    pub standard: Option<String>,
    /// What is asked of each row, one line; empty for the words of the task.
    pub question: String,
    /// What is wanted.
    pub task: Task,
    /// What persons should know, shown with the first rows and by `?`.
    pub guide: String,
    /// In which order rows come.
    pub order: Order,
    /// Chooses the shuffled order, the sides of pairs and the repeats.
    pub seed: u64,
    /// Of a hundred rows a person is shown so many a second time, without a word.
    pub repeat_percent: u32,
    /// How many persons judge each row.
    pub persons: u32,
    /// At most this many rows, in the order of the project; 0 for all.
    pub rows_max: u64,
}

/// A project as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProjectRecord {
    /// Unique name, `[a-z0-9._-]`.
    pub name: String,
    /// What it is.
    pub spec: ProjectSpec,
    /// Rows in it.
    pub rows: u64,
    /// Whether rows were chosen one by one, rather than all of the version.
    pub is_chosen: bool,
    /// When it was made, Unix milliseconds.
    pub created_at_ms: i64,
    /// Who made it.
    pub created_by: String,
    /// When it was closed, Unix milliseconds; none while it is open.
    pub closed_at_ms: Option<i64>,
}

/// What a person said of a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelValue {
    /// Not now; the row comes again at the end. With a flag: not without somebody else.
    Skip,
    /// Names of labels: one of a choice, any number of several.
    Labels(Vec<String>),
    /// Parts of the text.
    Spans(Vec<Span>),
    /// Which of two answers is better.
    Pair {
        /// How they compare.
        answer: PairAnswer,
        /// One of the project's reasons; empty for none.
        reason: String,
        /// Whether the second answer of the row stood on the left, as A.
        is_swapped: bool,
    },
    /// The place of each answer as it stands in the row, from 1; equal places are equally good.
    Ranks(Vec<u32>),
    /// Points.
    Points(u32),
    /// The text that should stand there.
    Text(String),
}

/// How the two answers of a row compare: the first is the one that the row holds first, wherever it was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairAnswer {
    /// The first is much better.
    FirstMuch,
    /// The first is better.
    First,
    /// They are equally good.
    Same,
    /// The second is better.
    Second,
    /// The second is much better.
    SecondMuch,
    /// Neither is good enough to learn from.
    BothBad,
}

/// A part of a message's text with a label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// Index of the message.
    pub message: u32,
    /// The first character, counted in Unicode scalar values.
    pub start: u32,
    /// The one behind the last.
    pub end: u32,
    /// Name of the label.
    pub label: String,
}

/// How a decision came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// A person decided.
    Own,
    /// A person took what a service suggested.
    Accepted,
    /// A person decided on several rows at once.
    Bulk,
    /// It was read from a file.
    Imported,
    /// Somebody settled what others disagreed on; it stands above all other decisions on the row.
    Final,
}

/// A decision on one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The row.
    pub row_id: u64,
    /// What is said of it.
    pub value: LabelValue,
    /// Why somebody else should look at the row; empty for no flag.
    pub flag: String,
    /// A free note, may be empty.
    pub note: String,
    /// How long the person looked at the row, in milliseconds.
    pub spent_ms: u64,
    /// How it came about.
    pub how: How,
}

/// A label as it is stored: a decision with who, when and under which number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelRecord {
    /// Its number in the project, from 0; a number is not given twice.
    pub seq: u64,
    /// The number of the first one of its request: they are taken back together.
    pub group: u64,
    /// Who decided.
    pub person: String,
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// What was decided.
    pub decision: Decision,
    /// Whether the person had judged the row before and was shown it again: it measures the person, and counts for nothing else.
    pub is_repeat: bool,
    /// Whether it says what was suggested; none where nothing was.
    pub as_suggested: Option<bool>,
    /// When it was taken back, Unix milliseconds; none while it stands.
    pub taken_back_at_ms: Option<i64>,
}

/// What a service, or a script, thinks of a row. It counts for nothing until a person takes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suggestion {
    /// The row.
    pub row_id: u64,
    /// What it would say.
    pub value: LabelValue,
    /// How sure it is, 0 to 1; none when it does not say.
    pub probability: Option<f32>,
    /// Who thinks so: `service (name@number)`, or the name of a script.
    pub by: String,
}

/// A row to look at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NextRow {
    /// The row.
    pub row: Row,
    /// What was suggested for it.
    pub suggestion: Option<Suggestion>,
    /// Where words begin in each of its messages, in characters; Chinese is divided by a dictionary. Empty but for tasks of spans.
    pub words: Vec<Vec<u32>>,
}

/// Rows that are the asker's for a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NextRows {
    /// The rows, in the order in which they should be looked at; none when there are no more for this person.
    pub rows: Vec<NextRow>,
    /// Whether suggestions may be chosen beforehand: the person agreed with enough of them.
    pub is_suggesting: bool,
}

/// How far one person is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PersonCounts {
    /// Who.
    pub person: String,
    /// Rows decided.
    pub done: u64,
    /// Rows skipped and not decided later.
    pub skipped: u64,
    /// Rows flagged and not decided later.
    pub flagged: u64,
    /// Rows that were shown a second time.
    pub repeats: u64,
    /// Of those, how many were judged as before.
    pub repeats_same: u64,
    /// Decisions on rows with a suggestion.
    pub suggested: u64,
    /// Of those, how many say the same.
    pub suggested_same: u64,
    /// Time spent on decisions, in milliseconds.
    pub spent_ms: u64,
    /// When the last decision was made, Unix milliseconds.
    pub last_at_ms: i64,
}

/// How far a project is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ProjectCounts {
    /// Rows that as many persons have decided as should, or that are settled.
    pub done: u64,
    /// Rows that at least one person has decided.
    pub begun: u64,
    /// Rows that persons disagree on or flagged, and nobody has settled.
    pub disputed: u64,
    /// Rows with a suggestion.
    pub suggested: u64,
    /// The next number of a label.
    pub next_seq: u64,
    /// Persons, in the order of their first decision.
    pub persons: Vec<PersonCounts>,
}

/// A project as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProjectView {
    /// The record.
    pub record: ProjectRecord,
    /// How far it is.
    pub counts: ProjectCounts,
}

/// A share with an interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Lower end of the 95 % interval: percentiles of a bootstrap over rows.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How far two persons agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairAgreement {
    /// One.
    pub one: String,
    /// The other.
    pub other: String,
    /// Rows that both decided.
    pub rows: u64,
    /// Share of those on which they said the same; for spans the F1 of one's spans against the other's.
    pub same: Estimate,
    /// Cohen's kappa; with quadratic weights for points. None for spans and texts, and where it is not defined.
    pub kappa: Option<Estimate>,
    /// The values, in order, that the confusion is of; empty for spans and texts.
    pub values: Vec<String>,
    /// Rows by what one said and what the other said, `values` long in both.
    pub confusion: Vec<Vec<u64>>,
}

/// How far the persons of a project agree.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Agreement {
    /// Rows that at least two persons decided.
    pub rows: u64,
    /// Fleiss' kappa over rows that as many persons decided as most rows; none where it is not defined.
    pub fleiss: Option<Estimate>,
    /// How many persons decided each of those rows.
    pub fleiss_persons: u32,
    /// Rows of it.
    pub fleiss_rows: u64,
    /// Krippendorff's alpha over all rows: nominal, for points interval. None where it is not defined.
    pub alpha: Option<Estimate>,
    /// Each two persons that have rows in common.
    pub pairs: Vec<PairAgreement>,
    /// How far each person agrees with themselves on repeats: their kappa, in the order of the project's persons; none where it is
    /// not defined.
    pub own: Vec<Option<Estimate>>,
}

/// A row that persons disagree on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Disputed {
    /// The row.
    pub row: Row,
    /// What was said of it, in order.
    pub labels: Vec<LabelRecord>,
}

/// Wishes and questions about labelling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelRequest {
    /// All projects.
    Projects,
    /// Make a project, or change one. The dataset and the kind of task stay; labels may come and change their titles, and those that
    /// are used stay.
    SetProject {
        /// Its name.
        name: String,
        /// What it is.
        spec: Box<ProjectSpec>,
        /// Ids of its rows; none for all of the version, and for those that it has where it is there already.
        rows: Option<Vec<u64>>,
    },
    /// Close a project, so that nobody labels it, or open it again. Nothing is lost.
    CloseProject {
        /// Its name.
        name: String,
        /// Whether it is closed from now on.
        closed: bool,
    },
    /// Rows to look at. They are the asker's for [`LEASE_MS`], or until the same session asks without holding them or its connection ends.
    Next {
        /// Name of the project.
        project: String,
        /// Chosen by the client at random; one for each window that labels. 0 is a script's that comes back on another connection: its rows
        /// stay when a connection ends.
        session: u64,
        /// Rows that it has and wants to keep.
        held: Vec<u64>,
        /// At most this many more, up to [`NEXT_ROWS_MAX`].
        count: u32,
    },
    /// Rows of a project by their ids; those that are not in it are left out. Nobody holds them by it.
    Rows {
        /// Name of the project.
        project: String,
        /// Up to [`ROWS_MAX`](crate::request::ROWS_MAX).
        row_ids: Vec<u64>,
    },
    /// Decide on rows: all or none. Durable when it is answered. Refused for a row that others have decided meanwhile.
    Decide {
        /// Name of the project.
        project: String,
        /// Whose decisions they are, where somebody brings in what others decided elsewhere ([`How::Imported`] or [`How::Final`]); none for
        /// the asker's own.
        person: Option<String>,
        /// Up to [`DECISIONS_MAX`].
        decisions: Vec<Decision>,
    },
    /// Take back the asker's newest decision on a row, with those that were made in the same request.
    TakeBack {
        /// Name of the project.
        project: String,
        /// The row; none for the asker's newest decision.
        row_id: Option<u64>,
    },
    /// Say what a service or a script thinks of rows. What was suggested for a row before is replaced.
    Suggest {
        /// Name of the project.
        project: String,
        /// Up to [`SUGGESTIONS_MAX`].
        suggestions: Vec<Suggestion>,
    },
    /// Labels, newest first.
    Labels {
        /// Name of the project.
        project: String,
        /// Only of this person; empty for all.
        person: String,
        /// Only of this row.
        row_id: Option<u64>,
        /// Only below this number.
        before: Option<u64>,
        /// Whether those that were taken back come too.
        taken_back: bool,
        /// At most this many, up to [`ROWS_MAX`](crate::request::ROWS_MAX).
        count: u32,
    },
    /// How far persons agree.
    Agreement {
        /// Name of the project.
        project: String,
    },
    /// Rows that persons disagree on or flagged, and nobody has settled, in the order of the version.
    Disputed {
        /// Name of the project.
        project: String,
        /// The first.
        offset: u64,
        /// At most this many, up to [`ROWS_MAX`](crate::request::ROWS_MAX).
        count: u32,
    },
    /// Suggestions for rows.
    Suggestions {
        /// Name of the project.
        project: String,
        /// From this row on.
        from: u64,
        /// At most this many, up to [`ROWS_MAX`](crate::request::ROWS_MAX).
        count: u32,
    },
}

/// What is answered to a [`LabelRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelAnswer {
    /// To `projects`.
    Projects(Vec<ProjectView>),
    /// To `set_project` and `close_project`.
    Project(Box<ProjectView>),
    /// To `next`.
    Next(NextRows),
    /// To `rows`.
    Rows(Vec<NextRow>),
    /// To `decide`: the number of the first, and how far the project is.
    Decided {
        /// Number of the first decision.
        seq: u64,
        /// How far the project is.
        counts: ProjectCounts,
    },
    /// To `take_back`: what was taken back, the newest first.
    TakenBack {
        /// Ids of the rows.
        row_ids: Vec<u64>,
        /// Numbers of their labels.
        seqs: Vec<u64>,
        /// How far the project is.
        counts: ProjectCounts,
    },
    /// To `labels`.
    Labels(Vec<LabelRecord>),
    /// To `agreement`.
    Agreement(Box<Agreement>),
    /// To `disputed`.
    Disputed {
        /// The page.
        rows: Vec<Disputed>,
        /// How many there are in all.
        total: u64,
    },
    /// To `suggestions`.
    Suggestions(Vec<Suggestion>),
}

impl LabelRequest {
    /// Whether it changes nothing. `next` changes who holds a row, and nothing that is stored.
    pub fn is_read(&self) -> bool {
        use LabelRequest::*;
        matches!(self, Projects | Rows { .. } | Labels { .. } | Agreement { .. } | Disputed { .. } | Suggestions { .. })
    }
}

/// Let a service suggest a label for each row that has none. Answers are kept to a form that can be read; how sure the service is comes
/// from the probabilities of its tokens, where it gives them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuggestSpec {
    /// Name of the project.
    pub project: String,
    /// Name of the service.
    pub service: String,
    /// Name of the application that is metered.
    pub payer: String,
    /// Rows at once; 0 for as many as the service has slots.
    pub at_once: u32,
    /// At most this many rows, in the order of the project; 0 for all.
    pub rows_max: u64,
}

/// Rows of a version that become lines with the labels of a project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelledTask {
    /// Folder of the segment files.
    pub folder: String,
    /// `name@number` of the version, which rows name as their parent's.
    pub reference: String,
    /// The segments of the version, in order.
    pub segments: Vec<Segment>,
    /// Absolute path of the labels: a line of JSON for each row, [`LabelledRow`], by ascending row id.
    pub labels: String,
    /// Name of the project, which the labels of rows stand under.
    pub project: String,
    /// Absolute path of the file to write.
    pub path: String,
}

/// What is made of one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelledRow {
    /// The row.
    pub row_id: u64,
    /// What stands in the row under the name of the project.
    pub label: Json,
    /// What becomes of its messages.
    pub change: RowChange,
}

/// What becomes of the messages of a labelled row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowChange {
    /// They stay.
    None,
    /// The last one says this.
    Last(String),
    /// The two answers of a pair change places.
    Swap,
    /// The row becomes pairs of answers: the better before the worse, as indexes of the answers of the row.
    Pairs(Vec<(u32, u32)>),
}

/// The answers of a row that can be put in an order: the `responses` of the object as it was imported, else the two of a pair.
pub fn answers(original: &str, messages: &[ChatMessage]) -> Vec<String> {
    use serde_json::Value;
    let original: Value = serde_json::from_str(original).unwrap_or_default();
    if let Some(responses) = original.get("responses").and_then(Value::as_array) {
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            other => other.get("content").or(other.get("text")).and_then(Value::as_str).map(str::to_owned),
        };
        let texts: Vec<String> = responses.iter().filter_map(text).collect();
        if texts.len() == responses.len() && texts.len() > 1 {
            return texts;
        }
    }
    let answer = |message: &&ChatMessage| message.role == CHOSEN || message.role == REJECTED;
    messages.iter().filter(answer).map(|message| message.content.clone()).collect()
}

impl Task {
    /// The word of the kind on the wire.
    pub fn word(&self) -> &'static str {
        match self {
            Task::Choice { .. } => "choice",
            Task::Several { .. } => "several",
            Task::Span { .. } => "span",
            Task::Pair { .. } => "pair",
            Task::Rank => "rank",
            Task::Rating { .. } => "rating",
            Task::Edit => "edit",
        }
    }

    /// Its labels; none of kinds that have no labels.
    pub fn labels(&self) -> &[LabelName] {
        match self {
            Task::Choice { labels } | Task::Several { labels } | Task::Span { labels } => labels,
            _ => &[],
        }
    }

    /// The label of a name.
    pub fn label(&self, name: &str) -> Option<&LabelName> {
        self.labels().iter().find(|label| label.name == name)
    }
}

impl LabelName {
    /// What persons see.
    pub fn shown(&self) -> &str {
        if self.title.is_empty() { &self.name } else { &self.title }
    }
}

impl Order {
    /// All orders with their words.
    pub const ALL: [(&'static str, Order); 3] =
        [("file", Order::File), ("random", Order::Random), ("unsure", Order::Unsure)];

    /// The word on the wire.
    pub fn word(self) -> &'static str {
        Order::ALL.iter().find(|(_, order)| *order == self).map_or("file", |(word, _)| word)
    }
}

impl PairAnswer {
    /// All answers with their words, from the first answer of a row to the second.
    pub const ALL: [(&'static str, PairAnswer); 6] = [
        ("first_much", PairAnswer::FirstMuch),
        ("first", PairAnswer::First),
        ("same", PairAnswer::Same),
        ("second", PairAnswer::Second),
        ("second_much", PairAnswer::SecondMuch),
        ("both_bad", PairAnswer::BothBad),
    ];

    /// The word on the wire.
    pub fn word(self) -> &'static str {
        PairAnswer::ALL.iter().find(|(_, answer)| *answer == self).map_or("same", |(word, _)| word)
    }

    /// The same said of the answers the other way round.
    pub fn swapped(self) -> PairAnswer {
        match self {
            PairAnswer::FirstMuch => PairAnswer::SecondMuch,
            PairAnswer::First => PairAnswer::Second,
            PairAnswer::Second => PairAnswer::First,
            PairAnswer::SecondMuch => PairAnswer::FirstMuch,
            same => same,
        }
    }
}

impl LabelValue {
    /// Whether it decides anything.
    pub fn is_skip(&self) -> bool {
        *self == LabelValue::Skip
    }

    /// What decisions are compared by: two that say the same have the same key. Neither the side that an answer was shown on nor the reason counts.
    pub fn key(&self) -> String {
        match self {
            LabelValue::Skip => String::new(),
            LabelValue::Labels(names) => {
                let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
                names.sort_unstable();
                names.dedup();
                names.join(" ")
            }
            LabelValue::Spans(spans) => {
                let mut spans: Vec<&Span> = spans.iter().collect();
                spans.sort();
                let said = spans.iter().map(|s| format!("{}:{}-{}={}", s.message, s.start, s.end, s.label));
                said.collect::<Vec<_>>().join(" ")
            }
            LabelValue::Pair { answer, .. } => answer.word().to_owned(),
            LabelValue::Ranks(ranks) => ranks.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
            LabelValue::Points(points) => points.to_string(),
            LabelValue::Text(text) => text.trim().to_owned(),
        }
    }
}

impl ProjectView {
    /// How far a person is.
    pub fn person(&self, person: &str) -> Option<&PersonCounts> {
        self.counts.persons.iter().find(|counts| counts.person == person)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_the_same_has_the_same_key() {
        let labels = |names: &[&str]| LabelValue::Labels(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(labels(&["b", "a", "b"]).key(), labels(&["a", "b"]).key());
        let pair = |answer, is_swapped| LabelValue::Pair { answer, reason: "tone".into(), is_swapped };
        assert_eq!(pair(PairAnswer::First, true).key(), pair(PairAnswer::First, false).key());
        assert_ne!(pair(PairAnswer::First, true).key(), pair(PairAnswer::FirstMuch, true).key());
        assert!(PairAnswer::ALL.iter().all(|(_, answer)| answer.swapped().swapped() == *answer));
    }
}
