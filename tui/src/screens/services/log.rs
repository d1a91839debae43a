//! The sub-tab of the request log: what one application asked and was answered, page by page, the selected request in full, what people
//! said of it, and rows out of it. Never here: which requests are logged, a row.

use std::collections::BTreeSet;

use hone_protocol::application::ApplicationView;
use hone_protocol::dataset::{DatasetSource, RowFormat, Shape};
use hone_protocol::failure::Failure;
use hone_protocol::form::FieldKind;
use hone_protocol::generate::{Prompt, PromptText};
use hone_protocol::id::LedgerId;
use hone_protocol::job::JobSpec;
use hone_protocol::log::{
    Feedback, FeedbackFilter, FeedbackRecord, LogDetail, LogEntry, LogLine, LogPage, LogQuery, LogSelection, Rating,
};
use hone_protocol::request::{Answer, Request};

use super::super::tables::{dataset_names, service_names};
use super::super::window::Window;
use super::super::{Deed, Desk, Errand, View};
use crate::action::{Action, Offer, offer};
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, Piece, piece};
use crate::widgets::form::{Form, FormField, Rule, Stride};
use crate::widgets::list::{Column, Row, cell, column};
use crate::widgets::number;
use crate::widgets::page::Page;
use crate::widgets::text;

/// Entries of a page.
const PAGE: u32 = 100;
/// Entries that are held. Past it the search has to be narrower.
const HELD_MAX: usize = 2000;

/// What people said, as the search form has it.
const SAID: &[&str] = &["all", "any", "up", "down", "corrected", "none"];

/// What is searched for.
#[derive(Clone, Default, PartialEq, Eq)]
struct Search {
    service: String,
    user: String,
    text: String,
    feedback: Option<FeedbackFilter>,
}

impl Search {
    fn query(&self, application: &str, after: String) -> LogQuery {
        LogQuery {
            application: application.to_owned(),
            service: self.service.clone(),
            user: self.user.clone(),
            text: self.text.clone(),
            feedback: self.feedback,
            after,
            count: PAGE,
            ..LogQuery::default()
        }
    }
}

/// What a page is of: the application, the search, what it had asked for, what was said, and where the page begins.
type Key = (String, Search, u64, u64, String);

/// The sub-tab.
#[derive(Default)]
pub(super) struct LogPane {
    application: String,
    search: Search,
    page: Window<Key, ()>,
    held: LogPage,
    /// Pages that are held.
    pages: usize,
    detail: Window<(LedgerId, u64), LogDetail>,
    marked: BTreeSet<LedgerId>,
    /// Raised with each thing that is said, so that it is read again.
    said: u64,
}

impl LogPane {
    /// Shows the log of an application.
    pub(super) fn open(&mut self, application: &str) {
        if self.application != application {
            *self = LogPane { application: application.to_owned(), said: self.said, ..LogPane::default() };
        }
    }

    fn shown<'a>(&self, view: &View<'a>) -> Option<&'a ApplicationView> {
        let all = view.mirror.applications();
        let named = all.iter().find(|a| a.record.name == self.application);
        named.or_else(|| all.iter().find(|a| is_on(a))).or_else(|| all.first())
    }

    /// The next or the former application.
    pub(super) fn turn(&mut self, view: &View<'_>, forward: bool) {
        let names: Vec<&str> = view.mirror.applications().iter().map(|a| a.record.name.as_str()).collect();
        let Some(at) = self.shown(view).and_then(|a| names.iter().position(|name| *name == a.record.name)) else {
            return;
        };
        let next = names[(at + if forward { 1 } else { names.len() - 1 }) % names.len()].to_owned();
        self.open(&next);
    }

    /// Asks for what the sub-tab shows.
    pub(super) fn needs(&mut self, desk: &mut Desk<'_>, selected: Option<&str>) {
        let Some(application) = self.shown(&desk.view) else { return };
        let name = application.record.name.clone();
        self.open(&name);
        // Where more pages are read than one, the list stays as it was read.
        let metered = if self.pages > 1 { 0 } else { application.usage.requests };
        let is_last = self.held.lines.last().is_some_and(|line| Some(line.id.to_string().as_str()) == selected);
        let after = match &self.held.next {
            Some(next) if is_last && self.held.lines.len() < HELD_MAX => next.clone(),
            _ if self.pages > 1 => self.page.asked().map(|key| key.4.clone()).unwrap_or_default(),
            _ => String::new(),
        };
        let key =
            (name.clone(), self.search.clone(), if after.is_empty() { metered } else { 0 }, self.said, after.clone());
        if !self.page.is_waiting() && self.page.want(key) {
            desk.ask(Errand::LogPage, Request::LogPage(Box::new(self.search.query(&name, after))));
        }
        let id = selected.and_then(|id| id.parse::<LedgerId>().ok());
        if let Some(id) = id
            && !self.detail.is_waiting()
            && self.detail.want((id, self.said))
        {
            desk.ask(Errand::LogEntry, Request::LogEntry { response: id.to_string() });
        }
    }

    /// Takes an answer; gives back what is none of these.
    pub(super) fn answer(
        &mut self,
        errand: Errand,
        answer: Result<Answer, Failure>,
        desk: &Desk<'_>,
    ) -> Option<Result<Answer, Failure>> {
        match (errand, answer) {
            (Errand::LogPage, Ok(Answer::LogPage(page))) => {
                let goes_on = self.page.asked().is_some_and(|key| !key.4.is_empty());
                self.page.take(());
                if goes_on && self.held.next.is_some() {
                    self.held.lines.extend(page.lines);
                    (self.held.next, self.pages) = (page.next, self.pages + 1);
                } else if !goes_on {
                    (self.held, self.pages) = (page, 1);
                }
            }
            (Errand::LogPage, Err(failure)) => self.page.fail(desk.view.failure(&failure)),
            (Errand::LogEntry, Ok(Answer::LogEntry(detail))) => self.detail.take(*detail),
            (Errand::LogEntry, Err(failure)) => self.detail.fail(desk.view.failure(&failure)),
            (Errand::Act(Deed::Rate), Ok(answer)) => {
                self.said += 1;
                self.pages = self.pages.min(1);
                return Some(Ok(answer));
            }
            (_, answer) => return Some(answer),
        }
        None
    }

    pub(super) fn forget(&mut self) {
        self.page.forget();
        self.detail.forget();
        self.pages = self.pages.min(1);
    }

    fn line(&self, selected: Option<&str>) -> Option<&LogLine> {
        let selected = selected?;
        self.held.lines.iter().find(|line| line.id.to_string() == selected)
    }

    /// Does what a key means here; false where it means nothing.
    pub(super) fn act(&mut self, action: Action, selected: Option<&str>, desk: &mut Desk<'_>) -> bool {
        let line = self.line(selected).map(|line| line.id);
        match (action, line) {
            (Action::Left | Action::Right, _) => {
                let view = desk.view;
                self.turn(&view, action == Action::Right);
            }
            (Action::Mark, Some(id)) => {
                if !self.marked.remove(&id) {
                    self.marked.insert(id);
                }
            }
            (Action::Add | Action::Delete, Some(id)) => {
                let rating = if action == Action::Add { Rating::Up } else { Rating::Down };
                let feedback = Feedback { rating: Some(rating), ..Feedback::default() };
                desk.ask(Errand::Act(Deed::Rate), Request::Rate { response: id.to_string(), feedback });
            }
            (Action::Copy, Some(id)) => desk.copy(id.to_string()),
            _ => return false,
        }
        true
    }

    pub(super) fn offers(&self, selected: Option<&str>) -> Vec<Offer> {
        let mut offers = Vec::new();
        if self.line(selected).is_some() {
            offers.push(offer(Action::Add, "services.rate_up"));
            offers.push(offer(Action::Delete, "services.rate_down"));
            offers.push(offer(Action::Mark, "act.mark"));
            offers.push(offer(Action::New, "services.log_rows"));
            offers.push(offer(Action::Copy, "hint_row.copy"));
        }
        offers.push(offer(Action::Edit, "services.log_search"));
        offers.push(offer(Action::Right, "services.log_other"));
        offers.push(offer(Action::Left, "services.log_other"));
        offers
    }

    pub(super) fn rows(&self, view: &View<'_>) -> Vec<Row> {
        if self.shown(view).is_none_or(|application| application.record.name != self.application) {
            return Vec::new();
        }
        self.held.lines.iter().map(|line| self.row(view, line)).collect()
    }

    fn row(&self, view: &View<'_>, line: &LogLine) -> Row {
        let mark = if self.marked.contains(&line.id) { "*" } else { " " };
        let said = said(line);
        let token = match (line.ratings.0.cmp(&line.ratings.1), said.is_empty()) {
            (_, true) => Token::Muted,
            (std::cmp::Ordering::Less, _) => Token::Warn,
            _ => Token::Ok,
        };
        Row {
            key: line.id.to_string(),
            cells: vec![
                piece(format!("{mark}{}", number::ago(view.language, view.now_ms, line.at_ms)), Token::Muted),
                piece(cell(&line.asked), Token::Text),
                piece(cell(&line.answered), Token::Muted),
                piece(said, token),
                piece(cell(&line.service), Token::Muted),
                piece(cell(&line.user), Token::Muted),
            ],
        }
    }

    pub(super) fn columns(&self, view: &View<'_>) -> Vec<Column> {
        let c = |key, cells| column(view.t(key), cells);
        vec![
            c("col.when", 10),
            c("col.question", 0),
            c("col.answer", 24).from(70),
            c("col.said", 6),
            c("word.service", 10).from(90),
            c("col.user", 10).from(110),
        ]
    }

    /// Why nothing is in the list.
    pub(super) fn nothing(&self, view: &View<'_>) -> String {
        if let Some(problem) = &self.page.problem {
            return format!("! {problem}");
        }
        if self.page.is_waiting() || self.pages == 0 {
            return view.t("datasets.loading").to_owned();
        }
        let is_off = self.shown(view).is_none_or(|a| !is_on(a));
        view.t(if is_off { "services.log_off" } else { "services.log_none" }).to_owned()
    }

    /// The selected request in full.
    pub(super) fn page(&self, view: &View<'_>, selected: Option<&str>, _: &Canvas<'_>) -> Page {
        let mut page = Page::new();
        let name = self.shown(view).map_or("", |a| a.record.name.as_str());
        page.heading(view.fill("services.log_of", &[("application", name)]));
        page.fact(view.t("services.log_size"), number::bytes(self.held.bytes));
        if self.held.dropped > 0 {
            page.fact_as(view.t("services.log_dropped"), number::grouped(self.held.dropped), Token::Warn);
        }
        if self.held.next.is_some() {
            page.text(view.t("services.log_more"), Token::Muted);
        }
        let Some(line) = self.line(selected) else { return page };
        page.blank();
        match self.detail.get_if(|(id, _)| *id == line.id) {
            Some(detail) => entry_page(view, detail, &mut page),
            None => {
                let said = self.detail.problem.clone().unwrap_or_else(|| view.t("datasets.loading").to_owned());
                page.text(said, Token::Muted);
            }
        }
        page
    }

    /// The form that searches.
    pub(super) fn search_form(&self, view: &View<'_>) -> Form {
        let section = "services.log_search";
        let word = match self.search.feedback {
            None => "all",
            Some(FeedbackFilter::Any) => "any",
            Some(FeedbackFilter::Up) => "up",
            Some(FeedbackFilter::Down) => "down",
            Some(FeedbackFilter::Corrected) => "corrected",
            Some(FeedbackFilter::None) => "none",
        };
        let mut form = Form::new(vec![
            FormField::text("text", section, "field.log_text", "field.log_text.about"),
            FormField::text("service", section, "word.service", "field.log_service.about")
                .filled(self.search.service.clone(), service_names(view)),
            FormField::text("user", section, "field.log_user", "field.log_user.about"),
            FormField::text("feedback", section, "field.log_feedback", "field.log_feedback.about").of(
                FieldKind::Choice(SAID),
                Stride::Add(1.0),
                "all",
            ),
        ]);
        form.set("text", self.search.text.clone());
        form.set("user", self.search.user.clone());
        form.set("feedback", word);
        form
    }

    /// Searches as the form says.
    pub(super) fn searched(&mut self, form: &Form) {
        let feedback = match form.value("feedback") {
            "any" => Some(FeedbackFilter::Any),
            "up" => Some(FeedbackFilter::Up),
            "down" => Some(FeedbackFilter::Down),
            "corrected" => Some(FeedbackFilter::Corrected),
            "none" => Some(FeedbackFilter::None),
            _ => None,
        };
        let text = |key: &str| form.value(key).trim().to_owned();
        self.search = Search { service: text("service"), user: text("user"), text: text("text"), feedback };
        self.pages = 0;
        self.held = LogPage::default();
        self.page.forget();
    }

    /// The form that makes rows: of the marked entries, else of the selected one.
    pub(super) fn rows_form(&self, view: &View<'_>) -> Form {
        let section = "services.log_make";
        let fields = vec![
            FormField::text("dataset", section, "word.dataset", "field.log_rows_dataset.about")
                .rule(Rule::Name)
                .filled(format!("{}-log", self.application), dataset_names(view)),
            FormField::text("shape", section, "field.log_rows_shape", "field.log_rows_shape.about").of(
                FieldKind::Choice(&["chat", "preference"]),
                Stride::Add(1.0),
                "chat",
            ),
            FormField::text("which", section, "field.log_rows_which", "field.log_rows_which.about").of(
                FieldKind::Choice(&["selected", "all"]),
                Stride::Add(1.0),
                "selected",
            ),
        ];
        Form::new(fields)
    }

    /// The job that makes rows as the form says.
    pub(super) fn rows_wanted(&self, form: &Form, selected: Option<&str>) -> Request {
        let shape = if form.value("shape") == "preference" { Shape::Preference } else { Shape::Chat };
        let chosen = match self.marked.is_empty() {
            true => self.line(selected).map(|line| line.id).into_iter().collect(),
            false => self.marked.iter().copied().collect(),
        };
        let is_all = form.value("which") == "all";
        let ids = if is_all { Vec::new() } else { chosen };
        let search = if is_all { self.search.clone() } else { Search::default() };
        let query = search.query(&self.application, String::new());
        let source = DatasetSource::Log(Box::new(LogSelection { query, ids, shape }));
        let name = form.value("dataset").to_owned();
        Request::Submit {
            spec: JobSpec::ImportDataset { source, name, format: RowFormat::Detect },
            payer: None,
            pool: None,
        }
    }
}

/// Whether requests of an application are logged.
pub(super) fn is_on(application: &ApplicationView) -> bool {
    application.record.log.is_some_and(|log| log.share_percent > 0)
}

/// What people said, in signs.
fn said(line: &LogLine) -> String {
    let part = |sign: &str, count: u32| if count > 0 { format!("{sign}{count}") } else { String::new() };
    let better = if line.is_corrected { "~" } else { "" };
    format!("{}{}{better}", part("+", line.ratings.0), part("-", line.ratings.1))
}

/// A prompt, its control tokens apart.
fn rendered(prompt: &PromptText, page: &mut Page) {
    let mut lines: Vec<Vec<Piece>> = vec![Vec::new()];
    let mut add = |said: &str, token| {
        for (at, part) in said.split('\n').enumerate() {
            if at > 0 {
                lines.push(Vec::new());
            }
            if let (false, Some(line)) = (part.is_empty(), lines.last_mut()) {
                line.push(piece(text::clean(part), token));
            }
        }
    };
    let mut from = 0;
    for &(start, end) in &prompt.control {
        let (start, end) = (start as usize, end as usize);
        add(prompt.text.get(from..start).unwrap_or_default(), Token::Text);
        add(prompt.text.get(start..end).unwrap_or_default(), Token::Accent);
        from = end;
    }
    add(prompt.text.get(from..).unwrap_or_default(), Token::Text);
    for line in lines {
        page.line(line);
    }
}

fn entry_page(view: &View<'_>, detail: &LogDetail, page: &mut Page) {
    if let Some(entry) = &detail.entry {
        facts(view, entry, page);
        for (at, prompt) in entry.prompts.iter().enumerate() {
            match (entry.rendered.get(at), prompt) {
                (Some(prompt), _) => {
                    page.blank().heading(view.t("services.log_rendered"));
                    rendered(prompt, page);
                }
                (None, Prompt::Chat(chat)) => {
                    page.blank().heading(view.t("services.log_sent"));
                    for turn in &chat.turns {
                        page.text(format!("{}: {}", turn.role, text::clean(&turn.content)), Token::Text);
                    }
                }
                (None, Prompt::Text { text: sent, .. }) => {
                    page.blank().heading(view.t("services.log_sent")).text(text::clean(sent), Token::Text);
                }
                (None, Prompt::Tokens(_)) => {}
            }
        }
        for answer in &entry.answers {
            if !answer.reasoning.is_empty() {
                page.blank().heading(view.t("services.log_reasoning"));
                page.text(text::clean(&answer.reasoning), Token::Muted);
            }
            page.blank().heading(view.t("services.log_answer")).text(text::clean(&answer.text), Token::Text);
            for (name, arguments) in &answer.calls {
                page.fact(view.t("services.log_call"), text::clean(&format!("{name}({arguments})")));
            }
        }
    }
    for record in &detail.feedback {
        feedback(view, record, page);
    }
}

fn facts(view: &View<'_>, entry: &LogEntry, page: &mut Page) {
    let finish: Vec<&str> = entry.answers.iter().map(|answer| answer.finish.as_str()).collect();
    page.fact("id", entry.id.to_string());
    page.fact_as(view.t("word.version"), entry.version.clone(), Token::Accent);
    page.fact(view.t("col.outcome"), finish.join(" "));
    page.fact(view.t("col.prompt"), format!("{} ({})", entry.prompt_tokens, entry.cached_tokens));
    page.fact(view.t("col.answer"), entry.completion_tokens.to_string());
    if let Some(ms) = entry.total_ms {
        page.fact(view.t("services.total_times"), format!("{ms} ms"));
    }
    for hit in &entry.guards {
        page.fact_as(
            view.t("services.guard"),
            format!("{} {} ×{}", hit.guard, hit.act.word(), hit.matches),
            Token::Warn,
        );
    }
    if entry.cut_bytes > 0 {
        page.text(view.fill("services.log_cut", &[("n", &number::bytes(entry.cut_bytes))]), Token::Warn);
    }
}

fn feedback(view: &View<'_>, record: &FeedbackRecord, page: &mut Page) {
    let said = &record.feedback;
    page.blank().heading(view.t("services.log_feedback"));
    let rating = said.rating.map_or("", |rating| match rating {
        Rating::Up => view.t("services.rate_up"),
        Rating::Down => view.t("services.rate_down"),
    });
    let ago = number::ago(view.language, view.now_ms, record.at_ms);
    page.line(vec![piece(format!("{} {rating} {ago}", cell(&said.user)), Token::Muted)]);
    for more in [&said.comment, &said.correction].into_iter().filter(|more| !more.is_empty()) {
        page.indented(text::clean(more), Token::Text, 2);
    }
}
