//! Pages of labelling beside the desk: a project in short, agreement, rows that persons disagree on, several rows together, and what is typed
//! beside a row. Never here: what keys say of a row.

use hone_protocol::labelling::{Agreement, Estimate, How, ProjectView, Task};
use ratatui::layout::Rect;

use super::answers::{Draft, Said, key_of};
use super::spans::Step;
use super::{Labelling, Level, Typing, paint, task_word};
use crate::action::{Action, Offer, offer};
use crate::screens::{Desk, View};
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, piece};
use crate::widgets::list::column;
use crate::widgets::number;
use crate::widgets::page::Page;
use crate::widgets::text::pad;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Values of a confusion that are shown.
const CONFUSION_MAX: usize = 8;
/// Pairs of persons that are shown.
const PAIRS_MAX: usize = 12;

/// What stands below a form's explanation.
pub(super) fn form_more(view: &View<'_>) -> Page {
    let mut more = Page::new();
    more.blank().text(view.t("form.r_goes"), Token::Accent);
    more
}

/// A project in short.
pub(super) fn summary(view: &View<'_>, project: &ProjectView) -> Page {
    let spec = &project.record.spec;
    let counts = &project.counts;
    let mut page = Page::new();
    page.heading(project.record.name.clone()).text(paint::question(view, spec), Token::Text).blank();
    page.meter(counts.done as f64 / project.record.rows.max(1) as f64, number::grouped(counts.done)).blank();
    page.fact_as(view.t("word.dataset"), spec.dataset.clone(), Token::Accent);
    page.fact(view.t("labelling.task"), view.t(task_word(&spec.task)));
    let labels: Vec<&str> = spec.task.labels().iter().map(|label| label.shown()).collect();
    if !labels.is_empty() {
        page.fact(view.t("labelling.labels"), labels.join(", "));
    }
    if let Some(standard) = &spec.standard {
        page.fact_as(view.t("word.standard"), standard.clone(), Token::Accent);
    }
    page.fact(view.t("labelling.order"), spec.order.word());
    if spec.persons > 1 {
        page.fact(view.t("labelling.persons"), spec.persons.to_string());
    }
    page.fact(view.t("labelling.suggested"), number::grouped(counts.suggested));
    if counts.disputed > 0 {
        page.fact_as(view.t("labelling.disputed"), number::grouped(counts.disputed), Token::Warn);
    }
    page.blank();
    for person in &counts.persons {
        let mut said = view.fill("labelling.person_done", &[("n", &number::grouped(person.done))]);
        if person.repeats > 0 {
            let percent = number::percent(person.repeats_same as f64 / person.repeats as f64);
            said.push_str(&format!("  {}", view.fill("labelling.own_agrees", &[("percent", &percent)])));
        }
        page.fact(&person.person, said);
    }
    page
}

fn estimate(value: Option<Estimate>) -> String {
    value.map_or("-".to_owned(), |e| format!("{:.2} ({:.2}..{:.2})", e.value, e.low, e.high))
}

/// How far persons agree.
pub(super) fn agreement(view: &View<'_>, project: &ProjectView, agreement: Option<&Agreement>) -> Page {
    let mut page = Page::new();
    page.heading(view.t("labelling.agreement")).blank();
    let Some(agreement) = agreement else {
        page.text(view.t("datasets.loading"), Token::Muted);
        return page;
    };
    if agreement.pairs.is_empty() && agreement.own.iter().all(Option::is_none) {
        page.text(view.t("labelling.one_person"), Token::Muted);
        return page;
    }
    page.fact(view.t("labelling.rows_of_several"), number::grouped(agreement.rows));
    page.fact(view.t("labelling.alpha"), estimate(agreement.alpha));
    page.fact(view.t("labelling.fleiss"), estimate(agreement.fleiss));
    for (person, own) in project.counts.persons.iter().zip(&agreement.own) {
        if own.is_some() {
            page.fact(&view.fill("labelling.with_self", &[("person", &person.person)]), estimate(*own));
        }
    }
    for pair in agreement.pairs.iter().take(PAIRS_MAX) {
        page.blank().heading(format!("{} / {}", pair.one, pair.other));
        page.fact(view.t("word.row"), number::grouped(pair.rows));
        page.fact(view.t("labelling.same"), estimate(Some(pair.same)));
        if pair.kappa.is_some() {
            page.fact(view.t("labelling.kappa"), estimate(pair.kappa));
        }
        if pair.values.is_empty() || pair.values.len() > CONFUSION_MAX {
            continue;
        }
        let cell = |text: &str| pad(text, 9, "…");
        let head: String = pair.values.iter().map(|value| format!(" {}", cell(value))).collect();
        page.line(vec![piece(format!("{}{head}", cell("")), Token::Muted)]);
        for (at, (value, row)) in pair.values.iter().zip(&pair.confusion).enumerate() {
            let mut pieces = vec![piece(cell(value), Token::Muted)];
            for (other, count) in row.iter().enumerate() {
                let token = if at == other {
                    Token::Ok
                } else if *count > 0 {
                    Token::Warn
                } else {
                    Token::Faint
                };
                pieces.push(piece(format!(" {}", cell(&count.to_string())), token));
            }
            page.line(pieces);
        }
    }
    page
}

impl Labelling {
    pub(super) fn work_offers(&mut self, view: &View<'_>) -> Vec<Offer> {
        let Some(work) = &self.work else { return Vec::new() };
        let task = self.project(view).map(|project| &project.record.spec.task);
        let mut offers = Vec::new();
        if work.current.is_none() && work.browsing.is_none() {
            if work.is_exhausted {
                offers.push(offer(Action::Enter, "labelling.make"));
                offers.push(offer(Action::Run, "labelling.train"));
            }
        } else {
            let suggested = work.shown().is_some_and(|(row, _)| row.suggestion.is_some()) && work.is_suggesting;
            match task {
                Some(Task::Span { .. }) => {
                    offers.push(offer(Action::Compare, "labelling.begin_span"));
                    offers.push(offer(Action::NextPane, "labelling.next_span"));
                    offers.push(offer(Action::Mark, "labelling.row_done"));
                }
                Some(Task::Several { .. }) => offers.push(offer(Action::Mark, "labelling.row_done")),
                Some(Task::Edit) => {
                    offers.push(offer(Action::Enter, "labelling.accept_text"));
                    offers.push(offer(Action::Edit, "act.edit"));
                }
                Some(Task::Choice { .. } | Task::Rating { .. }) if suggested => {
                    offers.push(offer(Action::Enter, "labelling.accept"));
                }
                _ => {}
            }
            offers.push(offer(Action::Stop, "labelling.skip"));
            offers.push(offer(Action::Flag, "labelling.flag"));
            offers.push(offer(Action::New, "labelling.note"));
        }
        offers.push(offer(Action::Undo, "labelling.undo"));
        if !matches!(task, Some(Task::Span { .. })) {
            offers.push(offer(Action::Left, "labelling.browse"));
        }
        if matches!(task, Some(Task::Choice { .. } | Task::Several { .. } | Task::Rating { .. })) {
            offers.push(offer(Action::Label, "labelling.together"));
        }
        offers.push(offer(Action::Inspect, "labelling.raw"));
        offers.push(offer(Action::Help, "labelling.guide"));
        offers.push(offer(Action::Out, "act.out"));
        offers
    }

    /// Keys without a letter: Backspace, and arrows with Shift or Alt.
    pub(super) fn shape_key(&mut self, key: KeyEvent, desk: &mut Desk<'_>) {
        let forward = key.code == KeyCode::Right;
        match (self.level, key.code) {
            (Level::Settle, KeyCode::Backspace) => self.settle_remove(desk),
            (Level::Work, KeyCode::Backspace) => self.say(|draft, _, _, _| draft.remove(), How::Own, desk),
            (Level::Work, KeyCode::Left | KeyCode::Right) if key.modifiers.contains(KeyModifiers::SHIFT) => {
                let grow =
                    move |draft: &mut Draft, _: &Task, row: &hone_protocol::labelling::NextRow, _: bool| match draft {
                        Draft::Spans(spans) => spans.grow(row, forward),
                        _ => Said::Nothing,
                    };
                self.say(grow, How::Own, desk);
            }
            (Level::Work, KeyCode::Left | KeyCode::Right) if key.modifiers.contains(KeyModifiers::ALT) => {
                let go =
                    move |draft: &mut Draft, _: &Task, row: &hone_protocol::labelling::NextRow, _: bool| match draft {
                        Draft::Spans(spans) => {
                            spans.go(row, Step::Character, forward);
                            Said::Changed
                        }
                        _ => Said::Nothing,
                    };
                self.say(go, How::Own, desk);
            }
            _ => {}
        }
    }

    pub(super) fn draw_work(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let Some(project) = self.project(view).cloned() else { return };
        let typed_rows = match &self.typing {
            None => 0,
            Some(Typing::Text(composer)) => composer.rows(area.width.saturating_sub(4), area.height / 2) + 2,
            Some(_) => 2,
        };
        let Some(work) = &mut self.work else { return };
        let above = Rect { height: area.height.saturating_sub(typed_rows), ..area };
        if work.shown().is_none() {
            let mut page = Page::new();
            page.blank();
            let own = project.person(view.mirror.person());
            let (key, token) = match (work.is_exhausted, project.counts.done >= project.record.rows) {
                (false, _) => ("datasets.loading", Token::Muted),
                (true, true) => ("labelling.all_done", Token::Ok),
                (true, false) => ("labelling.others_left", Token::Text),
            };
            page.text(view.t(key), token).blank();
            if let Some(own) = own.filter(|own| own.repeats > 0) {
                let percent = number::percent(own.repeats_same as f64 / own.repeats as f64);
                page.text(view.fill("labelling.own_agrees", &[("percent", &percent)]), Token::Text).blank();
            }
            if work.is_exhausted {
                page.text(view.t("labelling.then"), Token::Accent);
            }
            page.append(summary(view, &project));
            let inner = Rect { x: area.x + 2, width: area.width.saturating_sub(4).min(76), ..above };
            page.draw_top(canvas, inner);
        } else {
            paint::draw(canvas, above, view, &project, work);
        }
        let below = Rect { y: above.bottom(), height: typed_rows, ..area };
        match &self.typing {
            Some(Typing::Note(line)) => draw_line(canvas, below, view.t("labelling.note_prompt"), line),
            Some(Typing::Flag(line)) => draw_line(canvas, below, view.t("labelling.flag_prompt"), line),
            Some(Typing::Text(composer)) => {
                canvas.rule(Rect { height: 1, ..below }, below.y, true);
                let foot = view.t("labelling.text_keys");
                canvas.put(below.x + 1, below.bottom() - 1, below.width - 1, foot, Token::Muted);
                let inner = Rect { x: below.x + 2, y: below.y + 1, width: below.width - 4, height: typed_rows - 2 };
                composer.draw(canvas, inner, true);
            }
            None => {}
        }
    }

    pub(super) fn draw_bulk(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let rows = self.bulk.passing(self.bulk_rows());
        let labels: Vec<String> = self.project(view).map_or(Vec::new(), |project| {
            if let Task::Rating { scale } = project.record.spec.task {
                return vec![format!("1 .. {scale}")];
            }
            let one = |(at, label): (usize, &hone_protocol::labelling::LabelName)| {
                key_of(at).map(|key| format!("{key} {}", label.shown())).unwrap_or_default()
            };
            project.record.spec.task.labels().iter().enumerate().map(one).collect()
        });
        let said =
            view.fill("labelling.bulk_keys", &[("n", &self.marked.len().to_string()), ("labels", &labels.join("  "))]);
        canvas.put(area.x + 1, area.y, area.width - 1, &said, Token::Text);
        let columns = [
            column("", 4),
            column(view.t("word.row"), 10),
            column(view.t("labelling.model"), 6).right(),
            column(view.t("labelling.text"), 0),
        ];
        let list = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        self.bulk.draw(canvas, list, &columns, &rows, true);
    }
}

fn draw_line(canvas: &mut Canvas<'_>, area: Rect, prompt: &str, line: &crate::widgets::line::TypedLine) {
    canvas.rule(Rect { height: 1, ..area }, area.y, true);
    let at = canvas.put(area.x + 1, area.y + 1, area.width - 1, prompt, Token::Heading);
    line.draw(canvas, at + 1, area.y + 1, (area.right()).saturating_sub(at + 1), Token::Text);
}
