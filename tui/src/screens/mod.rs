//! The twelve areas: the trait they implement, the one table they stand in, and what they may see and wish for.
//! Never here: keys, threads, or the shell around a screen.

mod compare;
mod datasets;
mod empty;
mod evaluation;
mod home;
mod howto;
mod jobs;
mod labelling;
mod models;
mod panes;
mod playground;
mod run;
mod samples;
mod service_pages;
mod services;
mod tables;
mod training;
mod window;

pub(crate) use tables::{base_names, job_line, job_subject, pool_names};

#[cfg(test)]
mod behaviour;
#[cfg(test)]
mod bench;
#[cfg(test)]
pub(crate) use crate::sample;
#[cfg(test)]
mod snapshots;
#[cfg(test)]
pub(crate) mod visits;

use crossterm::event::KeyEvent;
use hone_protocol::catalogue::{self, Language};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::form::Both;
use hone_protocol::id::JobId;
use hone_protocol::note::NoteKind;
use hone_protocol::request::{Answer, Request, StreamPart};
use hone_protocol::train::TrainSpec;
use ratatui::layout::Rect;

use crate::action::{Action, Area, Offer};
use crate::keymap::Context;
use crate::layers::Layer;
use crate::mirror::Mirror;
use crate::widgets::canvas::Canvas;

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// From 40x10: one pane, tab bar and breadcrumb on one row.
    Xs,
    /// From 80x24: one pane at a time.
    S,
    /// From 100x30: two panes.
    M,
    /// From 140x40: the reader has sub-panes.
    L,
    /// From 200x50: three panes.
    Xl,
}

impl Class {
    /// The class of a size in cells; none when it is too small to draw.
    pub(crate) fn of(width: u16, height: u16) -> Option<Class> {
        match (width, height) {
            (200.., 50..) => Some(Class::Xl),
            (140.., 40..) => Some(Class::L),
            (100.., 30..) => Some(Class::M),
            (80.., 24..) => Some(Class::S),
            (40.., 10..) => Some(Class::Xs),
            _ => None,
        }
    }
}

/// What a screen may see.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    /// The facts.
    pub(crate) mirror: &'a Mirror,
    /// The language.
    pub(crate) language: Language,
    /// The client's clock, Unix milliseconds.
    pub(crate) now_ms: i64,
    /// How much room there is.
    pub(crate) class: Class,
    /// The daemon does not answer: the facts are as of an earlier time.
    pub(crate) away: bool,
    /// Wishes that wait on this machine for the daemon.
    pub(crate) waiting: usize,
}

impl<'a> View<'a> {
    /// A text of the catalogue.
    pub(crate) fn t(&self, key: &'static str) -> &'static str {
        catalogue::text(self.language, key)
    }

    /// A text of the catalogue with its variables.
    pub(crate) fn fill(&self, key: &'static str, args: &[(&str, &str)]) -> String {
        catalogue::fill(self.language, key, args)
    }

    /// The text of a key that came over the wire; the key itself when it is unknown.
    pub(crate) fn wire(&self, key: &str) -> String {
        catalogue::find(self.language, key).map_or_else(|| key.to_owned(), str::to_owned)
    }

    /// The side of a text in this language.
    pub(crate) fn both(&self, both: Both) -> &'static str {
        match self.language {
            Language::En => both.en,
            Language::Zh => both.zh,
        }
    }

    /// What went wrong, as a sentence in this language. Details that only exist in English follow it.
    pub(crate) fn failure(&self, failure: &Failure) -> String {
        let place = if failure.place.is_empty() { String::new() } else { format!(" ({})", failure.place) };
        match (self.language, code_word(failure.code)) {
            (Language::Zh, Some(word)) => match catalogue::find(Language::Zh, &format!("failure.{word}")) {
                Some(text) => format!("{text}：{}{place}", failure.message_en),
                None => format!("{}{place}", failure.message_en),
            },
            _ => format!("{}{place}", failure.message_en),
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self, failure: &Failure) -> Option<&'static str> {
        catalogue::find(self.language, &format!("hint.{}", hint_word(failure.hint?)?))
    }

    /// A view for tests.
    #[cfg(test)]
    pub(crate) fn plain(mirror: &'a Mirror) -> View<'a> {
        View { mirror, language: Language::En, now_ms: sample::NOW_MS, class: Class::M, away: false, waiting: 0 }
    }
}

/// The wire word of a failure's code.
fn code_word(code: FailureCode) -> Option<String> {
    serde_json::to_value(code).ok()?.as_str().map(str::to_owned)
}

/// The wire word of a hint.
fn hint_word(hint: HintCode) -> Option<String> {
    serde_json::to_value(hint).ok()?.as_str().map(str::to_owned)
}

/// Why something was asked: where its answer goes. Of the windows (everything but acts) the latest one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Errand {
    /// A window of rows.
    Rows,
    /// A row as the model sees it.
    Rendered,
    /// What an import would do.
    Arriving,
    /// The end of a log.
    Log,
    /// A series of a run.
    Series(&'static str),
    /// Answers of a run to its fixed prompts.
    Samples,
    /// The series that is shown of a compared run, by its place among them.
    Compared(u8),
    /// What a run would do.
    Plan,
    /// A chat answer, by its column in the playground.
    Chat(u8),
    /// How many tokens a talk has.
    Count,
    /// The judgements for a dataset, in numbers.
    Judged,
    /// Names of kept things.
    Notes(NoteKind),
    /// A kept thing.
    Note(NoteKind),
    /// Something was kept; only a failure is told.
    Saved(NoteKind),
    /// Ledger rows.
    Ledger,
    /// What was used.
    Usage,
    /// How services did.
    Stats,
    /// A page of a request log.
    LogPage,
    /// A logged request.
    LogEntry,
    /// All guards.
    Guards,
    /// What a guard would do to a text.
    Trial,
    /// Results of an evaluation.
    Results,
    /// What touched a version.
    History,
    /// What is in the trash.
    Trash,
    /// What is kept of a run.
    Kept,
    /// What a recipe would do.
    Preview,
    /// What a step of a recipe did.
    StepLedger,
    /// All standards.
    Standards,
    /// What a generation may come to.
    Estimate,
    /// Candidates of a generation that became no rows.
    Rejected,
    /// What differs between two versions of a dataset.
    Diff,
    /// What came from what among datasets.
    Lineage,
    /// Rows to label.
    NextRows,
    /// A row that is labelled again.
    AgainRow,
    /// A person's last labels.
    LastLabels,
    /// How far persons agree.
    Agreement,
    /// Rows that persons disagree on.
    Disputed,
    /// A decision, by its number in this client.
    Decision(u32),
    /// Something that changes facts; every answer counts.
    Act(Deed),
}

/// Something that changes facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Deed {
    /// A job was submitted.
    Submit,
    /// A suite was made; its evaluation follows.
    Suite,
    /// A service was published or moved.
    Publish,
    /// A service was turned on or off.
    Switch,
    /// An alias was set.
    Alias,
    /// A version was put into the trash.
    Trash,
    /// A version was taken out of it.
    Restore,
    /// The file of a version was removed.
    Purge,
    /// An application was made.
    Application,
    /// Its limits were set.
    Limits,
    /// A key was made.
    Key,
    /// A service was removed.
    DeleteService,
    /// A payment was entered.
    Pay,
    /// A pool was made or changed.
    Pool,
    /// A pool was removed.
    RemovePool,
    /// A key was revoked.
    Revoke,
    /// A job was cancelled.
    Cancel,
    /// A job was paused.
    Pause,
    /// A job goes on.
    Resume,
    /// Answers were judged.
    Judge,
    /// A judgement was taken back.
    Unjudge,
    /// A kept thing was dropped.
    DropNote,
    /// A request log was turned on or off.
    Log,
    /// Something was said of an answer.
    Rate,
    /// A guard was set.
    Guard,
    /// A guard was removed.
    RemoveGuard,
    /// An alias was rolled back.
    RollBack,
    /// A hook was made or changed.
    Hook,
    /// A hook is tried.
    TestHook,
    /// A hook was removed.
    RemoveHook,
    /// A standard was set.
    Standard,
    /// A standard was removed.
    RemoveStandard,
    /// A version of a dataset was released.
    Release,
    /// It is a draft again.
    TakeBack,
    /// A version of a dataset was put into the trash.
    PutAway,
    /// Its rows were removed.
    RemoveRows,
    /// A project was made or changed.
    Project,
    /// A project was closed or opened.
    CloseProject,
}

impl Deed {
    /// Catalogue key of what to say when it worked.
    pub(crate) fn done(self) -> &'static str {
        match self {
            Deed::Submit => "done.submit",
            Deed::Suite => "done.suite",
            Deed::Publish => "done.publish",
            Deed::Switch => "done.switch",
            Deed::Alias => "done.alias",
            Deed::Trash => "done.trash",
            Deed::Restore => "done.restore",
            Deed::Purge => "done.purge",
            Deed::Application => "done.application",
            Deed::Limits => "done.limits",
            Deed::Key => "done.key",
            Deed::DeleteService => "done.delete_service",
            Deed::Pay => "done.pay",
            Deed::Pool => "done.pool",
            Deed::RemovePool => "done.remove_pool",
            Deed::Revoke => "done.revoke",
            Deed::Cancel => "done.cancel",
            Deed::Pause => "done.pause",
            Deed::Resume => "done.resume",
            Deed::Judge => "done.judge",
            Deed::Unjudge => "done.unjudge",
            Deed::DropNote => "done.drop_note",
            Deed::Log => "done.log",
            Deed::Rate => "done.rate",
            Deed::Guard => "done.guard",
            Deed::RemoveGuard => "done.remove_guard",
            Deed::RollBack => "done.rolled_back",
            Deed::Hook => "done.hook",
            Deed::TestHook => "done.test_hook",
            Deed::RemoveHook => "done.remove_hook",
            Deed::Standard => "done.standard",
            Deed::RemoveStandard => "done.remove_standard",
            Deed::Release => "done.release",
            Deed::TakeBack => "done.take_back",
            Deed::PutAway => "done.put_away",
            Deed::RemoveRows => "done.rows_removed",
            Deed::Project => "done.project",
            Deed::CloseProject => "done.close_project",
        }
    }
}

/// A place to go to, with what is known about it.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// An area as it was left.
    Area(Area),
    /// The form that imports a model, with a path when one was pasted.
    ImportModel(String),
    /// A model or `name@number` in the list.
    Model(String),
    /// The form that makes a version of a run's checkpoint.
    Register(JobId),
    /// The form that imports rows, with a path when one was pasted.
    ImportDataset(String),
    /// A dataset in the list.
    Dataset(String),
    /// The training form with these filled in; empty keeps what the draft has.
    NewRun {
        /// `name@number` of the base.
        base: String,
        /// Name of the dataset.
        dataset: String,
    },
    /// The training form with the settings of a run.
    CloneRun(Box<TrainSpec>),
    /// A run with its curve.
    Run(JobId),
    /// A job in the list.
    Job(JobId),
    /// The log of a job.
    Log(JobId),
    /// The form that publishes a version.
    Publish(String),
    /// The form that makes a key, for an application when it is known.
    NewKey(String),
    /// How a service is called.
    HowTo(String),
    /// Talk to a service.
    Chat(String),
    /// The form for an evaluation of a version.
    Evaluate(String),
    /// A project, at work.
    Label(String),
    /// The form for a project over a dataset.
    NewProject(String),
}

impl Place {
    /// The area it is in.
    pub(crate) fn area(&self) -> Area {
        match self {
            Place::Area(area) => *area,
            Place::ImportModel(_) | Place::Model(_) | Place::Register(_) => Area::Models,
            Place::ImportDataset(_) | Place::Dataset(_) => Area::Datasets,
            Place::NewRun { .. } | Place::CloneRun(_) | Place::Run(_) => Area::Training,
            Place::Job(_) | Place::Log(_) => Area::Jobs,
            Place::Publish(_) | Place::NewKey(_) | Place::HowTo(_) => Area::Services,
            Place::Chat(_) => Area::Playground,
            Place::Evaluate(_) => Area::Evaluation,
            Place::Label(_) | Place::NewProject(_) => Area::Labelling,
        }
    }
}

/// How serious a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Goes away by itself.
    Info,
    /// Stays until a key.
    Error,
}

/// A setting of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    /// The language.
    Language(Language),
    /// The colours.
    Theme(crate::theme::Palette),
    /// The signs.
    Glyphs(crate::glyphs::GlyphSet),
    /// Whether the last row shows hints.
    Hints(bool),
}

/// What a screen or an overlay wants to happen.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Ask the daemon.
    Ask {
        /// Why.
        errand: Errand,
        /// What.
        request: Request,
    },
    /// Ask what must not be lost: it is kept on this machine until the daemon has answered.
    Keep {
        /// Why.
        errand: Errand,
        /// What.
        request: Request,
    },
    /// End the stream of an errand.
    Stop(Errand),
    /// Go somewhere.
    Open(Place),
    /// Lay something over the screen.
    Push(Layer),
    /// Say something in the toast row.
    Say(Tone, String),
    /// Put text into the person's clipboard.
    Copy(String),
    /// Do as if a key was pressed.
    Act(Action),
    /// Change a setting.
    Set(Setting),
    /// Show what was said so far.
    Messages,
}

/// Where a screen works: what it sees, and the wishes that it leaves.
pub(crate) struct Desk<'a> {
    /// What it sees.
    pub(crate) view: View<'a>,
    /// What it wants.
    pub(crate) wishes: Vec<Wish>,
}

impl<'a> Desk<'a> {
    /// A desk without wishes.
    pub(crate) fn new(view: View<'a>) -> Desk<'a> {
        Desk { view, wishes: Vec::new() }
    }

    /// Asks the daemon.
    pub(crate) fn ask(&mut self, errand: Errand, request: Request) {
        self.wishes.push(Wish::Ask { errand, request });
    }

    /// Asks what must not be lost.
    pub(crate) fn keep(&mut self, errand: Errand, request: Request) {
        self.wishes.push(Wish::Keep { errand, request });
    }

    /// Goes somewhere.
    pub(crate) fn open(&mut self, place: Place) {
        self.wishes.push(Wish::Open(place));
    }

    /// Lays something over the screen.
    pub(crate) fn push(&mut self, layer: Layer) {
        self.wishes.push(Wish::Push(layer));
    }

    /// Says something that goes away by itself.
    pub(crate) fn say(&mut self, text: impl Into<String>) {
        self.wishes.push(Wish::Say(Tone::Info, text.into()));
    }

    /// Says something that stays until a key.
    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        self.wishes.push(Wish::Say(Tone::Error, text.into()));
    }

    /// Copies and says so.
    pub(crate) fn copy(&mut self, text: impl Into<String>) {
        self.wishes.push(Wish::Copy(text.into()));
    }
}

/// One area's screen. It keeps where the person is in it; it never keeps a fact.
pub(crate) trait Screen {
    /// Where the person is, below the area's name.
    fn trail(&self, _view: &View<'_>) -> Vec<String> {
        Vec::new()
    }
    /// What keys mean now.
    fn context(&self) -> Context {
        Context::Browse
    }
    /// Whether a digit belongs to the focused field instead of changing the area.
    fn takes_digits(&self) -> bool {
        false
    }
    /// The actions that work now, most useful first.
    fn offers(&mut self, view: &View<'_>) -> Vec<Offer>;
    /// Does an action; false when it means nothing here.
    fn act(&mut self, action: Action, desk: &mut Desk<'_>) -> bool;
    /// Whether the screen wants this key itself, whatever it means elsewhere.
    fn takes(&self, _key: KeyEvent) -> bool {
        false
    }
    /// Gives a pane the focus, after a click in it.
    fn focus(&mut self, _pane: u8) {}
    /// One row up or down by the wheel.
    fn wheel(&mut self, action: Action, desk: &mut Desk<'_>) {
        self.act(action, desk);
    }
    /// Takes a key while something is typed or a digit that belongs to a field.
    fn key(&mut self, _key: KeyEvent, _desk: &mut Desk<'_>) {}
    /// Takes a paste; false when it means nothing here.
    fn paste(&mut self, _text: &str, _desk: &mut Desk<'_>) -> bool {
        false
    }
    /// Goes to a place in this area.
    fn open(&mut self, _place: Place, _desk: &mut Desk<'_>) {}
    /// Asks for the windows that are shown and not there. Called after every event while the area is shown.
    fn needs(&mut self, _desk: &mut Desk<'_>) {}
    /// Takes the answer to something that it asked.
    fn answer(&mut self, _errand: Errand, _answer: Result<Answer, Failure>, _desk: &mut Desk<'_>) {}
    /// Takes a part of a longer answer.
    fn part(&mut self, _errand: Errand, _part: StreamPart) {}
    /// The connection is lost: what was asked will not be answered.
    fn forget(&mut self) {}
    /// Stops what is in flight; false when nothing is.
    fn interrupt(&mut self, _desk: &mut Desk<'_>) -> bool {
        false
    }
    /// When something here changes by itself, Unix milliseconds; none for never.
    fn wakes_at_ms(&self, _view: &View<'_>) -> Option<i64> {
        None
    }
    /// Draws the body.
    fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>);
}

/// One line of the table of screens.
pub(crate) struct Entry {
    /// The area; its digit and names follow from it.
    pub(crate) area: Area,
    /// Makes the screen.
    pub(crate) make: fn() -> Box<dyn Screen>,
    /// The page that `?` opens, in English and Chinese; the same files that `docs/` holds.
    pub(crate) page: (&'static str, &'static str),
}

macro_rules! page {
    ($name:literal) => {
        (
            include_str!(concat!("../../../docs/screens/", $name, ".md")),
            include_str!(concat!("../../../docs/zh/screens/", $name, ".md")),
        )
    };
}

/// All screens, in the order of their digits.
pub(crate) static SCREENS: [Entry; 12] = [
    Entry { area: Area::Home, make: || Box::new(home::Home::default()), page: page!("home") },
    Entry { area: Area::Models, make: || Box::new(models::Models::default()), page: page!("models") },
    Entry { area: Area::Playground, make: || Box::new(playground::Playground::default()), page: page!("playground") },
    Entry { area: Area::Datasets, make: || Box::new(datasets::Datasets::default()), page: page!("datasets") },
    Entry { area: Area::Labelling, make: || Box::new(labelling::Labelling::default()), page: page!("labelling") },
    Entry { area: Area::Training, make: || Box::new(training::Training::default()), page: page!("training") },
    Entry { area: Area::Evaluation, make: || Box::new(evaluation::Evaluations::default()), page: page!("evaluation") },
    Entry { area: Area::Prompts, make: || Box::new(empty::Empty("empty.prompts")), page: page!("prompts") },
    Entry { area: Area::Assistants, make: || Box::new(empty::Empty("empty.assistants")), page: page!("assistants") },
    Entry { area: Area::Services, make: || Box::new(services::Services::default()), page: page!("services") },
    Entry { area: Area::Jobs, make: || Box::new(jobs::Jobs::default()), page: page!("jobs") },
    Entry { area: Area::System, make: || Box::new(empty::Empty("empty.system")), page: page!("system") },
];

/// The page of an area in a language.
pub(crate) fn page(area: Area, language: Language) -> &'static str {
    let (en, zh) = SCREENS.iter().find(|e| e.area == area).map_or(("", ""), |e| e.page);
    match language {
        Language::En => en,
        Language::Zh => zh,
    }
}
