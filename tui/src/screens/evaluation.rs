//! Evaluation, first form: the list of evaluations with their rows, worst first, and a form that makes a suite from
//! held-out rows when there is none. Never here: scoring. The width comes with a later issue.

use crossterm::event::KeyEvent;
use hone_protocol::dataset::{Part, Split};
use hone_protocol::evaluation::{EvaluateSpec, EvaluationRecord, EvaluationRow, Scorer, SuiteRecord};
use hone_protocol::failure::Failure;
use hone_protocol::form::FieldKind;
use hone_protocol::id::EvaluationId;
use hone_protocol::job::JobSpec;
use hone_protocol::request::{Answer, Request};
use ratatui::layout::Rect;

use super::models::form_offers;
use super::panes::{draw_empty, panes};
use super::tables::{dataset_names, version_names};
use super::window::Window;
use super::{Class, Deed, Desk, Errand, Place, Screen, View};
use crate::action::{Action, Offer, offer};
use crate::draft::SPLIT_SEED;
use crate::keymap::Context;
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, piece};
use crate::widgets::form::{Form, FormField, FormReply, Rule, Stride};
use crate::widgets::list::{Listing, Row, cell, column};
use crate::widgets::number;
use crate::widgets::page::Page;
use crate::widgets::text::{clean, one_line};

/// Rows in the third pane.
const WORST_ROWS: usize = 12;
/// Results that are asked for.
const RESULTS: u32 = 500;

#[derive(Default, PartialEq, Eq)]
enum Level {
    #[default]
    List,
    Rows,
    OneRow,
    Form,
}

/// The area.
#[derive(Default)]
pub(crate) struct Evaluations {
    level: Level,
    list: Listing,
    row_list: Listing,
    results: Window<EvaluationId, Vec<EvaluationRow>>,
    form: Form,
    /// What to submit once the suite is made.
    then: Option<EvaluateSpec>,
    scroll: usize,
}

fn suite_of<'a>(view: &View<'a>, evaluation: &EvaluationRecord) -> Option<&'a SuiteRecord> {
    view.mirror.suites().iter().find(|s| s.id == evaluation.suite)
}

fn version_of(view: &View<'_>, evaluation: &EvaluationRecord) -> String {
    view.mirror.version(evaluation.version).map_or_else(|| evaluation.version.short(), |v| v.reference.clone())
}

fn three(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{v:.3}"))
}

fn list_rows(view: &View<'_>) -> Vec<Row> {
    let row = |e: &EvaluationRecord| Row {
        key: e.id.to_string(),
        cells: vec![
            piece(suite_of(view, e).map_or_else(String::new, |s| cell(&s.name)), Token::Text),
            piece(version_of(view, e), Token::Text),
            piece(three(e.score), Token::Accent),
            piece(three(e.loss), Token::Text),
            piece(three(e.perplexity()), Token::Muted),
            piece(number::grouped(e.rows), Token::Muted),
            piece(number::ago(view.language, view.now_ms, e.created_at_ms), Token::Muted),
        ],
    };
    view.mirror.evaluations().iter().map(row).collect()
}

/// Mean of a row's scores; rows without one sort by their loss.
fn row_score(row: &EvaluationRow) -> f64 {
    match row.scores.len() {
        0 => 2.0 - row.loss_sum / row.loss_tokens.max(1) as f64,
        n => row.scores.iter().map(|(_, s)| s).sum::<f64>() / n as f64,
    }
}

fn result_rows(rows: &[EvaluationRow]) -> Vec<Row> {
    let mut sorted: Vec<&EvaluationRow> = rows.iter().collect();
    sorted.sort_by(|a, b| row_score(a).total_cmp(&row_score(b)));
    let row = |r: &EvaluationRow| Row {
        key: r.row_id.to_string(),
        cells: vec![
            piece(format!("#{}", r.row_id), Token::Muted),
            piece(if r.scores.is_empty() { "-".into() } else { format!("{:.2}", row_score(r)) }, Token::Accent),
            piece(format!("{:.2}", r.loss_sum / r.loss_tokens.max(1) as f64), Token::Muted),
            piece(one_line(&r.answer), Token::Text),
        ],
    };
    sorted.into_iter().map(row).collect()
}

impl Evaluations {
    fn selected<'a>(&mut self, view: &View<'a>) -> Option<&'a EvaluationRecord> {
        let rows = self.list.passing(list_rows(view));
        let key = self.list.selected(&rows)?;
        view.mirror.evaluations().iter().find(|e| e.id.to_string() == key)
    }

    fn rows_shown(&self) -> Vec<Row> {
        self.row_list.passing(self.results.get().map(|r| result_rows(r)).unwrap_or_default())
    }

    fn result(&mut self) -> Option<EvaluationRow> {
        let rows = self.rows_shown();
        let key = self.row_list.selected(&rows)?;
        self.results.get()?.iter().find(|r| r.row_id.to_string() == key).cloned()
    }

    fn open_form(&mut self, view: &View<'_>, version: &str) {
        let suites: Vec<String> = view.mirror.suites().iter().map(|s| s.name.clone()).collect();
        let datasets = dataset_names(view);
        let dataset = datasets.last().cloned().unwrap_or_default();
        let suite = suites
            .last()
            .cloned()
            .unwrap_or_else(|| if dataset.is_empty() { String::new() } else { format!("{dataset}-held-out") });
        let newest = view.mirror.adapters().last().or(view.mirror.bases().last()).map(|v| v.reference.clone());
        let version = if version.is_empty() { newest.unwrap_or_default() } else { version.to_owned() };
        let section = "evaluation.new";
        self.form = Form::new(vec![
            FormField::text("version", section, "word.version", "field.evaluate_version.about")
                .rule(Rule::OneOf)
                .filled(version, version_names(view)),
            FormField::text("suite", section, "word.suite", "field.suite.about").rule(Rule::Name).filled(suite, suites),
            FormField::text("dataset", section, "word.dataset", "field.suite_dataset.about").filled(dataset, datasets),
            FormField::text("rows", section, "field.rows_max", "field.rows_max.about").of(
                FieldKind::Whole { low: 0, high: 1_000_000 },
                Stride::Add(10.0),
                "0",
            ),
            FormField::text("tokens", section, "field.answer_tokens", "field.answer_tokens.about").of(
                FieldKind::Whole { low: 1, high: 4096 },
                Stride::Add(16.0),
                "64",
            ),
        ]);
        self.level = Level::Form;
    }

    fn submit(&mut self, desk: &mut Desk<'_>) {
        let suite = self.form.value("suite").to_owned();
        let spec = EvaluateSpec {
            version: self.form.value("version").to_owned(),
            suite: suite.clone(),
            answer_tokens_max: self.form.number("tokens").unwrap_or(64),
            rows_max: self.form.number("rows").unwrap_or(0),
        };
        if desk.view.mirror.suites().iter().any(|s| s.name == suite) {
            return desk.ask(
                Errand::Act(Deed::Submit),
                Request::Submit { spec: JobSpec::Evaluate(spec), payer: None, pool: None },
            );
        }
        let dataset = self.form.value("dataset").to_owned();
        if dataset.is_empty() {
            self.form.remote.insert("dataset".into(), desk.view.t("form.required").to_owned());
            return self.form.focus_on("dataset");
        }
        // The rows that a run with the same settings does not see.
        self.then = Some(spec);
        desk.ask(
            Errand::Act(Deed::Suite),
            Request::CreateSuite {
                name: suite,
                dataset,
                split: Split { held_out_percent: 15, seed: SPLIT_SEED },
                part: Part::HeldOut,
                scorers: vec![Scorer::Loss, Scorer::Expect],
            },
        );
    }

    /// The selected row: what was asked, expected and answered.
    fn row_page(&mut self, view: &View<'_>) -> Page {
        let mut page = Page::new();
        let Some(row) = self.result() else { return page };
        let scores: Vec<String> = row.scores.iter().map(|(n, s)| format!("{n} {s:.2}")).collect();
        page.heading(format!("#{}  {}", row.row_id, scores.join("  "))).blank();
        for (key, said, token) in [
            ("evaluation.prompt", &row.prompt, Token::Text),
            ("evaluation.expected", &row.expected, Token::Text),
            ("evaluation.answer", &row.answer, Token::Model),
        ] {
            page.heading(view.t(key)).indented(clean(said), token, 2).blank();
        }
        if !row.notes.0.is_null() {
            page.heading(view.t("evaluation.notes")).indented(clean(&row.notes.0.to_string()), Token::Warn, 2);
        }
        page
    }

    /// The rows that went worst, for the third pane.
    fn worst(&mut self, view: &View<'_>) -> Page {
        let mut page = Page::new();
        page.heading(view.t("evaluation.worst")).blank();
        let id = self.selected(view).map(|e| e.id);
        let Some(rows) = self.results.get_if(|asked| Some(*asked) == id) else {
            let said = self.results.problem.clone().unwrap_or_else(|| view.t("datasets.loading").to_owned());
            page.text(said, Token::Muted);
            return page;
        };
        let mut sorted: Vec<&EvaluationRow> = rows.iter().collect();
        sorted.sort_by(|a, b| row_score(a).total_cmp(&row_score(b)));
        for row in sorted.into_iter().take(WORST_ROWS) {
            let score = if row.scores.is_empty() { "-".to_owned() } else { format!("{:.2}", row_score(row)) };
            page.line(vec![
                piece(format!("#{}  {score}  ", row.row_id), Token::Muted),
                piece(one_line(&row.prompt), Token::Text),
            ]);
            page.line(vec![piece(format!("  {}", one_line(&row.answer)), Token::Model)]).blank();
        }
        page
    }

    fn summary(&mut self, view: &View<'_>) -> Page {
        let mut page = Page::new();
        let Some(evaluation) = self.selected(view) else { return page };
        let suite = suite_of(view, evaluation);
        page.heading(format!("{}  {}", suite.map_or("", |s| s.name.as_str()), version_of(view, evaluation))).blank();
        page.fact_as(view.t("col.score"), three(evaluation.score), Token::Accent);
        page.fact(view.t("col.loss"), three(evaluation.loss));
        page.fact(view.t("col.perplexity"), three(evaluation.perplexity()));
        page.fact(view.t("word.row"), number::grouped(evaluation.rows));
        page.fact(view.t("col.made"), number::ago(view.language, view.now_ms, evaluation.created_at_ms));
        if let Some(suite) = suite {
            page.fact_as(
                view.t("word.dataset"),
                view.mirror.dataset_reference(suite.dataset).unwrap_or_default(),
                Token::Accent,
            );
        }
        page.blank().heading(view.t("evaluation.same_suite"));
        for other in view.mirror.evaluations().iter().filter(|e| e.suite == evaluation.suite) {
            let said = format!("{}  {} {}", three(other.score), view.t("col.loss"), three(other.loss));
            let token = if other.id == evaluation.id { Token::Heading } else { Token::Text };
            page.fact_as(&version_of(view, other), said, token);
        }
        page
    }
}

impl Screen for Evaluations {
    fn trail(&self, view: &View<'_>) -> Vec<String> {
        match self.level {
            Level::List => Vec::new(),
            Level::Form => vec![view.t("evaluation.new").to_owned()],
            Level::Rows => vec![view.t("evaluation.rows").to_owned()],
            Level::OneRow => {
                let row = self.row_list.key().map(|k| format!("#{k}")).unwrap_or_default();
                vec![view.t("evaluation.rows").to_owned(), row]
            }
        }
    }

    fn context(&self) -> Context {
        let typing = match self.level {
            Level::Form => self.form.is_editing(),
            Level::List => self.list.filtering,
            Level::Rows => self.row_list.filtering,
            Level::OneRow => false,
        };
        if typing { Context::Field } else { Context::Browse }
    }

    fn takes_digits(&self) -> bool {
        self.level == Level::Form && self.form.takes_digits()
    }

    fn offers(&mut self, view: &View<'_>) -> Vec<Offer> {
        match self.level {
            Level::Form => form_offers("form.go"),
            Level::Rows => vec![
                offer(Action::Enter, "datasets.whole_row"),
                offer(Action::Filter, "hint_row.filter"),
                offer(Action::Out, "act.out"),
            ],
            Level::OneRow => vec![offer(Action::Down, "hint_row.scroll"), offer(Action::Out, "act.out")],
            Level::List => {
                let mut offers = vec![offer(Action::New, "evaluation.new")];
                if self.selected(view).is_some() {
                    offers.insert(0, offer(Action::Enter, "evaluation.rows"));
                }
                if !view.mirror.evaluations().is_empty() {
                    offers.push(offer(Action::Filter, "hint_row.filter"));
                }
                offers
            }
        }
    }

    fn act(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        match self.level {
            Level::Form => match action {
                Action::Out => self.level = Level::List,
                action => match self.form.act(action, &desk.view) {
                    FormReply::No => return false,
                    FormReply::Start => self.submit(desk),
                    FormReply::Wrong => desk.warn(desk.view.t("form.wrong")),
                    _ => {}
                },
            },
            Level::OneRow => match action {
                Action::Up => self.scroll = self.scroll.saturating_sub(1),
                Action::Down => self.scroll += 1,
                Action::Out => self.level = Level::Rows,
                _ => return false,
            },
            Level::Rows => {
                let rows = self.rows_shown();
                if self.row_list.act(action, &rows) {
                    return true;
                }
                match action {
                    Action::Enter => {
                        self.scroll = 0;
                        self.level = Level::OneRow;
                    }
                    Action::Out if self.row_list.is_filtered() => self.row_list.clear_filter(),
                    Action::Out => self.level = Level::List,
                    _ => return false,
                }
            }
            Level::List => {
                let rows = self.list.passing(list_rows(&desk.view));
                if self.list.act(action, &rows) {
                    return true;
                }
                match (action, self.selected(&desk.view)) {
                    (Action::New, _) | (Action::Enter, None) => self.open_form(&desk.view, ""),
                    (Action::Enter, Some(_)) => self.level = Level::Rows,
                    (Action::Out, _) if self.list.is_filtered() => self.list.clear_filter(),
                    _ => return false,
                }
            }
        }
        true
    }

    fn key(&mut self, key: KeyEvent, _: &mut Desk<'_>) {
        match self.level {
            Level::Form => {
                self.form.key(key);
            }
            Level::Rows => self.row_list.type_key(key),
            _ => self.list.type_key(key),
        }
    }

    fn paste(&mut self, text: &str, _: &mut Desk<'_>) -> bool {
        let typing = self.level == Level::Form && self.form.is_editing();
        if typing {
            self.form.paste(text);
        }
        typing
    }

    fn open(&mut self, place: Place, desk: &mut Desk<'_>) {
        match place {
            Place::Evaluate(version) => self.open_form(&desk.view, &version),
            _ => self.level = Level::List,
        }
    }

    fn needs(&mut self, desk: &mut Desk<'_>) {
        let Some(id) = self.selected(&desk.view).map(|e| e.id) else { return };
        let beside = self.level == Level::List && desk.view.class == Class::Xl;
        let shown = (beside || matches!(self.level, Level::Rows | Level::OneRow)) && !desk.view.away;
        if shown && self.results.want(id) {
            desk.ask(Errand::Results, Request::EvaluationRows { evaluation: id, offset: 0, count: RESULTS });
        }
    }

    fn answer(&mut self, errand: Errand, answer: Result<Answer, Failure>, desk: &mut Desk<'_>) {
        match (errand, answer) {
            (Errand::Results, Ok(Answer::EvaluationRows(rows))) => self.results.take(rows),
            (Errand::Results, Err(failure)) => self.results.fail(desk.view.failure(&failure)),
            (Errand::Act(Deed::Suite), Ok(_)) => {
                if let Some(spec) = self.then.take() {
                    desk.ask(
                        Errand::Act(Deed::Submit),
                        Request::Submit { spec: JobSpec::Evaluate(spec), payer: None, pool: None },
                    );
                }
            }
            (Errand::Act(Deed::Submit), Ok(Answer::Job(job))) => {
                self.level = Level::List;
                desk.open(Place::Job(job.record.id));
            }
            (Errand::Act(_), Err(failure)) => {
                self.then = None;
                self.form.remote.insert(failure.place.clone(), desk.view.failure(&failure));
                self.form.focus_on(&failure.place);
            }
            _ => {}
        }
    }

    fn forget(&mut self) {
        self.results.forget();
    }

    fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        match self.level {
            Level::Form => {
                let mut more = Page::new();
                more.blank().text(view.t("form.r_goes"), Token::Accent);
                self.form.draw(canvas, area, view, more);
            }
            Level::OneRow => {
                let page = self.row_page(view);
                page.draw(canvas, Rect { x: area.x + 1, width: area.width - 2, ..area }, &mut self.scroll);
            }
            Level::Rows => {
                let rows = self.rows_shown();
                if rows.is_empty() {
                    let said = self.results.problem.clone().unwrap_or_else(|| view.t("datasets.loading").to_owned());
                    canvas.put(area.x + 2, area.y + 1, area.width - 2, &said, Token::Muted);
                    return;
                }
                let columns = [
                    column(view.t("word.row"), 8),
                    column(view.t("col.score"), 6).right(),
                    column(view.t("col.loss"), 6).right(),
                    column(view.t("evaluation.answer"), 0),
                ];
                let panes = panes(canvas, area, view, 11, false);
                self.row_list.draw(canvas, panes.list, &columns, &rows, true);
                if let Some(reader) = panes.reader {
                    self.row_page(view).draw_top(canvas, reader);
                }
            }
            Level::List => {
                let rows = self.list.passing(list_rows(view));
                if rows.is_empty() && !self.list.is_filtered() {
                    return draw_empty(canvas, area, view.t("evaluation.empty"));
                }
                let panes = panes(canvas, area, view, 12, true);
                let columns = [
                    column(view.t("word.suite"), 0),
                    column(view.t("word.version"), 22),
                    column(view.t("col.score"), 6).right(),
                    column(view.t("col.loss"), 6).right(),
                    column(view.t("col.perplexity"), 8).right().from(90),
                    column(view.t("word.row"), 6).right().from(76),
                    column(view.t("col.made"), 10).from(100),
                ];
                self.list.draw(canvas, panes.list, &columns, &rows, true);
                if let Some(reader) = panes.reader {
                    self.summary(view).draw_top(canvas, reader);
                }
                if let Some(context) = panes.context {
                    self.worst(view).draw_top(canvas, context);
                }
            }
        }
    }
}
