//! `hone label`: projects of labelling, and labelling by script. Never here: who gets which row, agreement (the daemon has both); files
//! (`label_files.rs`).

use clap::{Args, Subcommand};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::labelling::{
    Agreement, Decision, Disputed, Estimate, GUIDE_BYTES_MAX, How, LabelAnswer, LabelRecord, LabelRequest, LabelValue,
    NEXT_ROWS_MAX, NextRow, Order, PairAnswer, ProjectSpec, ProjectView, Span, Task,
};
use hone_protocol::request::{Answer, ROWS_MAX, Request};

use super::context::{Context, surprise};
use super::label_out::{Export, Import, Make, Suggest};
use crate::labels;
use crate::link::Link;
use crate::print::{self, Cell, Outcome, Table};

/// Labelling: projects over the rows of a dataset, one key a decision.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    List(List),
    New(New),
    Change(Change),
    Show(Show),
    Open(Open),
    Desk(DeskOf),
    Next(Next),
    Answer(Decide),
    Undo(Undo),
    Labels(Labels),
    Suggest(Suggest),
    Disputed(DisputedOf),
    Make(Make),
    Export(Export),
    Import(Import),
    Close(Close),
    Reopen(Reopen),
}

impl Verb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            Verb::List(verb) => verb.run(context),
            Verb::New(verb) => verb.run(context),
            Verb::Change(verb) => verb.run(context),
            Verb::Show(verb) => verb.run(context),
            Verb::Open(verb) => super::full_screen_at(context, &verb.project, false),
            Verb::Desk(verb) => super::full_screen_at(context, &verb.project, true),
            Verb::Next(verb) => verb.run(context),
            Verb::Answer(verb) => verb.run(context),
            Verb::Undo(verb) => verb.run(context),
            Verb::Labels(verb) => verb.run(context),
            Verb::Suggest(verb) => verb.run(context),
            Verb::Disputed(verb) => verb.run(context),
            Verb::Make(verb) => verb.run(context),
            Verb::Export(verb) => verb.run(context),
            Verb::Import(verb) => verb.run(context),
            Verb::Close(verb) => close(context, verb.project, true),
            Verb::Reopen(verb) => close(context, verb.project, false),
        }
    }
}

/// Asks about labelling.
pub(super) fn ask(link: &mut Link, request: LabelRequest) -> Result<LabelAnswer, Failure> {
    match link.ask(Request::Labelling(request))? {
        Answer::Labelling(answer) => Ok(answer),
        other => Err(surprise(&other)),
    }
}

/// Changes something of labelling, under the typed idempotency key when there is one.
pub(super) fn change(context: &Context, link: &mut Link, request: LabelRequest) -> Result<LabelAnswer, Failure> {
    match context.change(link, "label", Request::Labelling(request))? {
        Answer::Labelling(answer) => Ok(answer),
        other => Err(surprise(&other)),
    }
}

/// An answer that does not belong to the question.
pub(super) fn odd(answer: LabelAnswer) -> Failure {
    surprise(&Answer::Labelling(answer))
}

/// All projects.
pub(super) fn projects(link: &mut Link) -> Result<Vec<ProjectView>, Failure> {
    match ask(link, LabelRequest::Projects)? {
        LabelAnswer::Projects(projects) => Ok(projects),
        other => Err(odd(other)),
    }
}

/// One project by its name.
pub(super) fn project(link: &mut Link, name: &str) -> Result<ProjectView, Failure> {
    let found = projects(link)?.into_iter().find(|project| project.record.name == name);
    found.ok_or_else(|| Failure::not_found("project", name))
}

/// List projects with how far they are.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone label list")]
pub(super) struct List {}

impl List {
    fn run(self, context: &Context) -> Outcome {
        let projects = projects(&mut context.link()?)?;
        if context.json {
            return print::json(&projects);
        }
        if projects.is_empty() {
            context.say("cli.no_projects", &[]);
            return Ok(());
        }
        let keys = [
            "cli.col.project",
            "cli.col.task",
            "cli.col.dataset",
            "cli.col.rows",
            "cli.col.done",
            "cli.col.disputed",
            "cli.col.person",
        ];
        let mut table = Table::new(context.language, &keys);
        for project in &projects {
            let persons: Vec<&str> = project.counts.persons.iter().map(|person| person.person.as_str()).collect();
            table.row(vec![
                project.record.name.as_str().into(),
                project.record.spec.task.word().into(),
                project.record.spec.dataset.as_str().into(),
                Cell::number(project.record.rows),
                Cell::number(project.counts.done),
                Cell::number(project.counts.disputed),
                persons.join(", ").into(),
            ]);
        }
        print::out(&table.render(print::colour()))
    }
}

/// What a project is, as typed.
#[derive(Debug, Args)]
pub(super) struct Form {
    /// choice, several, span, pair, rank, rating or edit.
    #[arg(long, value_name = "KIND", default_value = "choice", value_parser = clap::builder::PossibleValuesParser::new(labels::KINDS))]
    task: String,
    /// Labels with commas between them, the first on key 1: good,fixable,-unsafe=Not safe. A minus leaves rows with it out of the version.
    #[arg(long, value_name = "LABELS", default_value = "")]
    labels: String,
    /// Reasons to choose from after a pair is judged, with commas between them.
    #[arg(long, value_name = "REASONS", default_value = "")]
    reasons: String,
    /// Points of a rating go from 1 to this.
    #[arg(long, value_name = "N", default_value_t = 5)]
    scale: u32,
    /// What is asked of each row, in one line.
    #[arg(long, value_name = "TEXT", default_value = "")]
    question: String,
    /// The standard that rows are judged by.
    #[arg(long, value_name = "STANDARD")]
    standard: Option<String>,
    /// What persons should know, or @FILE.
    #[arg(long, value_name = "TEXT", default_value = "")]
    guide: String,
    /// file, random or unsure (what the model is least sure of comes first) [default: file].
    #[arg(long, value_name = "ORDER", value_parser = ["file", "random", "unsure"])]
    order: Option<String>,
    /// How many persons judge each row [default: 1].
    #[arg(long, value_name = "N")]
    persons: Option<u32>,
    /// Of a hundred rows so many are shown a second time [default: 5].
    #[arg(long, value_name = "N")]
    repeat_percent: Option<u32>,
}

impl Form {
    fn spec(&self, dataset: &str, seed: u64, rows_max: u64) -> Result<ProjectSpec, Failure> {
        let guide = match self.guide.strip_prefix('@') {
            None => self.guide.clone(),
            Some(path) => {
                let wrong = |message: String| Failure::new(FailureCode::FileUnreadable, message).at(path);
                let meta = std::fs::metadata(path).map_err(|error| wrong(format!("{path} cannot be read: {error}")))?;
                if meta.len() > GUIDE_BYTES_MAX as u64 {
                    return Err(
                        wrong(format!("{path} has more than {GUIDE_BYTES_MAX} bytes")).hint(HintCode::CorrectFile)
                    );
                }
                std::fs::read_to_string(path).map_err(|error| wrong(format!("{path} cannot be read: {error}")))?
            }
        };
        let order = Order::ALL.into_iter().find(|(word, _)| Some(*word) == self.order.as_deref());
        let task = labels::task(&self.task, &self.labels, &self.reasons, self.scale);
        Ok(ProjectSpec {
            title: String::new(),
            dataset: dataset.to_owned(),
            standard: self.standard.clone().filter(|name| !name.is_empty()),
            question: self.question.clone(),
            task: task.ok_or_else(|| Failure::field("task", "there is no such kind of task"))?,
            guide,
            order: order.map_or(Order::File, |(_, order)| order),
            seed,
            repeat_percent: self.repeat_percent.unwrap_or(5),
            persons: self.persons.unwrap_or(1),
            rows_max,
        })
    }
}

/// Make a project over the rows of a dataset.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone label new tone --dataset support-desk --labels good,fixable,-wrong --guide \"Good is true and polite.\"\n  hone label new names --dataset mails --task span --labels person,place --order random --rows-max 500"
)]
pub(super) struct New {
    /// Its name.
    project: String,
    /// NAME or NAME@NUMBER of the dataset.
    #[arg(long, value_name = "DATASET")]
    dataset: String,
    #[command(flatten)]
    form: Form,
    /// At most so many rows, in the order of the project; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    rows_max: u64,
    /// Ids of the rows, with commas between them; all of the dataset otherwise.
    #[arg(long, value_name = "ROWS", value_delimiter = ',')]
    rows: Option<Vec<u64>>,
    /// Chooses the shuffled order, the sides of pairs and the repeats.
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
}

impl New {
    fn run(self, context: &Context) -> Outcome {
        let spec = self.form.spec(&self.dataset, self.seed, self.rows_max)?;
        set(context, &mut context.link()?, self.project, spec, self.rows)
    }
}

fn set(context: &Context, link: &mut Link, name: String, spec: ProjectSpec, rows: Option<Vec<u64>>) -> Outcome {
    let request = LabelRequest::SetProject { name, spec: Box::new(spec), rows };
    let project = match change(context, link, request)? {
        LabelAnswer::Project(project) => project,
        other => return Err(odd(other).into()),
    };
    if context.json {
        return print::json(&project);
    }
    let record = &project.record;
    let args =
        [("project", record.name.as_str()), ("rows", &record.rows.to_string()), ("dataset", &record.spec.dataset)];
    context.say("cli.project_saved", &args);
    Ok(())
}

/// Change a project: question, guide, standard, order, persons, repeats; labels may be added.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone label change tone --labels good,fixable,-wrong,-unsafe --persons 2")]
pub(super) struct Change {
    /// Its name.
    project: String,
    #[command(flatten)]
    form: Form,
}

impl Change {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let before = project(&mut link, &self.project)?.record.spec;
        let mut form = self.form;
        // What is not typed stays as it is.
        if form.labels.is_empty() {
            form.labels = labels::typed(before.task.labels());
        }
        form.task = before.task.word().to_owned();
        if let (Task::Pair { reasons }, true) = (&before.task, form.reasons.is_empty()) {
            form.reasons = reasons.join(",");
        }
        if let Task::Rating { scale } = before.task {
            form.scale = scale;
        }
        if form.question.is_empty() {
            form.question.clone_from(&before.question);
        }
        if form.guide.is_empty() {
            form.guide.clone_from(&before.guide);
        }
        form.standard = form.standard.or(before.standard.clone());
        form.order = form.order.or(Some(before.order.word().to_owned()));
        form.persons = form.persons.or(Some(before.persons));
        form.repeat_percent = form.repeat_percent.or(Some(before.repeat_percent));
        let spec = form.spec(&before.dataset, before.seed, before.rows_max)?;
        set(context, &mut link, self.project, spec, None)
    }
}

/// Show a project: how far it is, by whom, and how far persons agree.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone label show tone")]
pub(super) struct Show {
    /// Its name.
    project: String,
}

impl Show {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let view = project(&mut link, &self.project)?;
        let agreement = match ask(&mut link, LabelRequest::Agreement { project: self.project })? {
            LabelAnswer::Agreement(agreement) => *agreement,
            other => return Err(odd(other).into()),
        };
        if context.json {
            return print::json(&serde_json::json!({ "project": view, "agreement": agreement }));
        }
        print::out(&shown(&view, &agreement))
    }
}

fn figure(estimate: Option<Estimate>) -> String {
    estimate.map_or("-".to_owned(), |e| format!("{:.4} ({:.4} .. {:.4})", e.value, e.low, e.high))
}

fn shown(view: &ProjectView, agreement: &Agreement) -> String {
    let spec = &view.record.spec;
    let mut lines = vec![
        format!("{}  {}  {}", view.record.name, spec.task.word(), spec.dataset),
        format!(
            "done {} of {}, disputed {}, suggested {}",
            view.counts.done, view.record.rows, view.counts.disputed, view.counts.suggested
        ),
    ];
    for person in &view.counts.persons {
        lines.push(format!(
            "{}: {} done, {} skipped, {} flagged, {} of {} repeats the same, {} of {} as suggested",
            person.person,
            person.done,
            person.skipped,
            person.flagged,
            person.repeats_same,
            person.repeats,
            person.suggested_same,
            person.suggested
        ));
    }
    lines.push(format!("alpha {}", figure(agreement.alpha)));
    lines.push(format!("fleiss {}", figure(agreement.fleiss)));
    for pair in &agreement.pairs {
        let same = figure(Some(pair.same));
        lines.push(format!(
            "{} / {}: {} rows, same {same}, kappa {}",
            pair.one,
            pair.other,
            pair.rows,
            figure(pair.kappa)
        ));
    }
    lines.join("\n") + "\n"
}

/// Open the screen at a project.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone label open tone")]
pub(super) struct Open {
    /// Its name.
    project: String,
}

/// Open the screen at a project and nothing else: for the forced command of an annotator's SSH key.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone label desk tone --as lin")]
pub(super) struct DeskOf {
    /// Its name.
    project: String,
}

/// Take rows to label, as JSON lines for scripts. They are yours for a quarter of an hour.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone label next tone --count 20")]
pub(super) struct Next {
    /// Name of the project.
    project: String,
    /// How many, at most 100.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(NEXT_ROWS_MAX)))]
    count: u32,
}

impl Next {
    fn run(self, context: &Context) -> Outcome {
        let request = LabelRequest::Next { project: self.project, session: 0, held: Vec::new(), count: self.count };
        let next = match ask(&mut context.link()?, request)? {
            LabelAnswer::Next(next) => next,
            other => return Err(odd(other).into()),
        };
        if next.rows.is_empty() && !context.json {
            context.say("cli.no_more_rows", &[("person", context.options.person.as_deref().unwrap_or("you"))]);
        }
        let lines: String = next.rows.iter().map(hone_protocol::wire::encode_line).collect();
        print::out(&lines)
    }
}

/// Decide on a row.
///
/// VALUE is a label (choice), labels with commas between them (several), spans as MESSAGE:START-END=LABEL with commas between them, one of
/// first_much, first, same, second, second_much and both_bad (pair), places with commas between them (rank), points, or the text that should
/// stand there (edit). `skip` skips the row.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone label answer tone 12 good --note \"a fine one\"\n  hone label answer names 3 1:5-8=person,1:20-26=place"
)]
pub(super) struct Decide {
    /// Name of the project.
    project: String,
    /// Id of the row.
    row: u64,
    /// What is said of it.
    value: String,
    /// A note.
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    /// Why somebody else should look at it; goes with `skip`.
    #[arg(long, value_name = "REASON", default_value = "")]
    flag: String,
    /// Settle what others disagree on.
    #[arg(long)]
    settle: bool,
}

impl Decide {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let task = project(&mut link, &self.project)?.record.spec.task;
        let value = value(&task, &self.value).map_err(|message| Failure::field("value", message))?;
        let how = if self.settle { How::Final } else { How::Own };
        let decision = Decision { row_id: self.row, value, flag: self.flag, note: self.note, spent_ms: 0, how };
        let request = LabelRequest::Decide { project: self.project, person: None, decisions: vec![decision] };
        match change(context, &mut link, request)? {
            LabelAnswer::Decided { seq, counts } if context.json => {
                print::json(&serde_json::json!({"seq": seq, "counts": counts}))
            }
            LabelAnswer::Decided { .. } => {
                context.say("cli.labelled", &[("row", &self.row.to_string()), ("value", &self.value)]);
                Ok(())
            }
            other => Err(odd(other).into()),
        }
    }
}

/// A value as it is typed.
pub(super) fn value(task: &Task, typed: &str) -> Result<LabelValue, String> {
    let typed = typed.trim();
    if typed == "skip" {
        return Ok(LabelValue::Skip);
    }
    let parts = || typed.split(',').map(str::trim).filter(|part| !part.is_empty());
    Ok(match task {
        Task::Choice { .. } => LabelValue::Labels(vec![typed.to_owned()]),
        Task::Several { .. } => LabelValue::Labels(parts().map(str::to_owned).collect()),
        Task::Span { .. } => {
            let span = |part: &str| {
                let (place, label) = part.split_once('=')?;
                let (message, range) = place.split_once(':').unwrap_or(("0", place));
                let (start, end) = range.split_once('-')?;
                let number = |text: &str| text.trim().parse().ok();
                Some(Span {
                    message: number(message)?,
                    start: number(start)?,
                    end: number(end)?,
                    label: label.trim().to_owned(),
                })
            };
            let spans =
                parts().map(|part| span(part).ok_or_else(|| format!("{part:?} is not MESSAGE:START-END=LABEL")));
            LabelValue::Spans(spans.collect::<Result<_, _>>()?)
        }
        Task::Pair { .. } => {
            let (word, reason) = typed.split_once(':').unwrap_or((typed, ""));
            let known = PairAnswer::ALL.into_iter().find(|(known, _)| *known == word.trim());
            let words: Vec<&str> = PairAnswer::ALL.iter().map(|(word, _)| *word).collect();
            let (_, answer) = known.ok_or_else(|| format!("{word:?} is none of {}", words.join(", ")))?;
            LabelValue::Pair { answer, reason: reason.trim().to_owned(), is_swapped: false }
        }
        Task::Rank => {
            let places = parts().map(|part| part.parse().map_err(|_| format!("{part:?} is no place")));
            LabelValue::Ranks(places.collect::<Result<_, _>>()?)
        }
        Task::Rating { .. } => {
            LabelValue::Points(typed.parse().map_err(|_| format!("{typed:?} is no number of points"))?)
        }
        Task::Edit => LabelValue::Text(typed.to_owned()),
    })
}

/// Take your newest decision back, or the one on a row.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone label undo tone\n  hone label undo tone 12")]
pub(super) struct Undo {
    /// Name of the project.
    project: String,
    /// Id of the row; the newest decision otherwise.
    row: Option<u64>,
}

impl Undo {
    fn run(self, context: &Context) -> Outcome {
        let request = LabelRequest::TakeBack { project: self.project, row_id: self.row };
        match change(context, &mut context.link()?, request)? {
            LabelAnswer::TakenBack { row_ids, seqs, .. } => {
                if context.json {
                    return print::json(&serde_json::json!({"row_ids": row_ids, "seqs": seqs}));
                }
                let rows = row_ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
                context.say("cli.taken_back", &[("rows", &rows)]);
                Ok(())
            }
            other => Err(odd(other).into()),
        }
    }
}

/// List labels, newest first.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone label labels tone --person lin --count 20")]
pub(super) struct Labels {
    /// Name of the project.
    project: String,
    /// Only of this person.
    #[arg(long = "person", value_name = "PERSON", default_value = "")]
    whose: String,
    /// Only of this row.
    #[arg(long, value_name = "ROW")]
    row: Option<u64>,
    /// Also those that were taken back.
    #[arg(long)]
    taken_back: bool,
    /// How many, at most 1000.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROWS_MAX)))]
    count: u32,
}

impl Labels {
    fn run(self, context: &Context) -> Outcome {
        let request = LabelRequest::Labels {
            project: self.project,
            person: self.whose,
            row_id: self.row,
            before: None,
            taken_back: self.taken_back,
            count: self.count,
        };
        let labels = match ask(&mut context.link()?, request)? {
            LabelAnswer::Labels(labels) => labels,
            other => return Err(odd(other).into()),
        };
        if context.json {
            return print::json(&labels);
        }
        if labels.is_empty() {
            context.say("cli.no_labels", &[]);
            return Ok(());
        }
        let keys = ["cli.col.number", "cli.col.row", "cli.col.person", "cli.col.said", "cli.col.made"];
        let mut table = Table::new(context.language, &keys);
        for label in &labels {
            let mut said = remarked(label);
            if label.taken_back_at_ms.is_some() {
                said = format!("({said})");
            }
            table.row(vec![
                Cell::number(label.seq),
                Cell::number(label.decision.row_id),
                label.person.as_str().into(),
                said.into(),
                print::moment(label.at_ms).into(),
            ]);
        }
        print::out(&table.render(print::colour()))
    }
}

/// A value in a few words, as `answer` takes it.
fn said(value: &LabelValue) -> String {
    match value {
        LabelValue::Skip => "skip".to_owned(),
        LabelValue::Labels(names) => names.join(","),
        LabelValue::Spans(spans) => {
            let one = |s: &Span| format!("{}:{}-{}={}", s.message, s.start, s.end, s.label);
            spans.iter().map(one).collect::<Vec<_>>().join(",")
        }
        LabelValue::Pair { answer, reason, .. } if reason.is_empty() => answer.word().to_owned(),
        LabelValue::Pair { answer, reason, .. } => format!("{}: {reason}", answer.word()),
        LabelValue::Ranks(ranks) => ranks.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
        LabelValue::Points(points) => points.to_string(),
        LabelValue::Text(text) => print::harmless(text),
    }
}

/// What was said, with the reason of a flag and the note.
fn remarked(label: &LabelRecord) -> String {
    let mut text = said(&label.decision.value);
    if !label.decision.flag.is_empty() {
        text = format!("flag ({})", print::harmless(&label.decision.flag));
    }
    if !label.decision.note.is_empty() {
        text.push_str(&format!(" ({})", print::harmless(&label.decision.note)));
    }
    text
}

/// List rows that persons disagree on or flagged.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone label disputed tone")]
pub(super) struct DisputedOf {
    /// Name of the project.
    project: String,
    /// How many, at most 1000.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROWS_MAX)))]
    count: u32,
}

impl DisputedOf {
    fn run(self, context: &Context) -> Outcome {
        let request = LabelRequest::Disputed { project: self.project, offset: 0, count: self.count };
        let rows = match ask(&mut context.link()?, request)? {
            LabelAnswer::Disputed { rows, .. } => rows,
            other => return Err(odd(other).into()),
        };
        if context.json {
            return print::json(&rows);
        }
        if rows.is_empty() {
            context.say("cli.no_disputed", &[]);
            return Ok(());
        }
        let mut table = Table::new(context.language, &["cli.col.row", "cli.col.said"]);
        for Disputed { row, labels } in &rows {
            let words: Vec<String> =
                labels.iter().map(|label| format!("{}: {}", label.person, remarked(label))).collect();
            table.row(vec![Cell::number(row.row_id), words.join("  ").into()]);
        }
        print::out(&table.render(print::colour()))
    }
}

/// Close a project: nobody labels it any more, and nothing is lost.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone label close tone")]
pub(super) struct Close {
    /// Its name.
    project: String,
}

/// Open a closed project again.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone label reopen tone")]
pub(super) struct Reopen {
    /// Its name.
    project: String,
}

fn close(context: &Context, name: String, closed: bool) -> Outcome {
    let request = LabelRequest::CloseProject { name: name.clone(), closed };
    match change(context, &mut context.link()?, request)? {
        LabelAnswer::Project(view) if context.json => print::json(&view),
        LabelAnswer::Project(_) => {
            context.say(if closed { "cli.project_closed" } else { "cli.project_open" }, &[("project", &name)]);
            Ok(())
        }
        other => Err(odd(other).into()),
    }
}

/// Rows with what was suggested, for an export.
pub(super) fn rows(link: &mut Link, project: &str, row_ids: Vec<u64>) -> Result<Vec<NextRow>, Failure> {
    match ask(link, LabelRequest::Rows { project: project.to_owned(), row_ids })? {
        LabelAnswer::Rows(rows) => Ok(rows),
        other => Err(odd(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_what_is_shown() {
        let labels = labels::parse("a,b");
        let cases = [
            (Task::Choice { labels: labels.clone() }, "a"),
            (Task::Several { labels: labels.clone() }, "a,b"),
            (Task::Span { labels }, "1:5-8=a,0:2-3=b"),
            (Task::Pair { reasons: vec!["tone".into()] }, "second_much: tone"),
            (Task::Rank, "2,1,1"),
            (Task::Rating { scale: 5 }, "4"),
            (Task::Edit, "a better text"),
        ];
        for (task, typed) in cases {
            assert_eq!(said(&value(&task, typed).unwrap()), typed, "{}", task.word());
            assert_eq!(value(&task, "skip").unwrap(), LabelValue::Skip);
        }
        assert!(value(&Task::Rank, "x").is_err() && value(&Task::Pair { reasons: Vec::new() }, "left").is_err());
        assert!(value(&Task::Span { labels: Vec::new() }, "5=a").is_err());
    }
}
