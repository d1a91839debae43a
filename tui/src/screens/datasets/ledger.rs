//! What each step of a recipe did to the rows of the version that it made: dropped and changed rows, one by one, and marks for those that
//! are to be rescued. Never here: the recipe itself (see `steps`).

use std::collections::BTreeSet;

use hone_protocol::dataset::DatasetView;
use hone_protocol::job::JobSpec;
use hone_protocol::recipe::{LedgerAct, LedgerEntry, ProcessSpec, Processed, Recipe, step_form};
use hone_protocol::request::Request;
use ratatui::layout::Rect;

use super::steps::{changes, said};
use crate::action::{Action, Offer, offer};
use crate::screens::window::Window;
use crate::screens::{Class, Deed, Desk, Errand, View};
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, piece};
use crate::widgets::list::cell;
use crate::widgets::number;
use crate::widgets::page::Page;
use crate::widgets::text;

/// Entries in one window.
const WINDOW: u32 = 100;

type Key = (String, u32, u64);
/// Entries, how many there are in all, and the index of the first of these.
type Held = (Vec<LedgerEntry>, u64, u64);

/// The browser.
#[derive(Default)]
pub(super) struct Ledger {
    /// `name@number` of the version that came out.
    version: String,
    processed: Option<Processed>,
    step: u32,
    at: u64,
    page: Window<Key, Held>,
    /// Rows to rescue from the step in sight.
    marked: BTreeSet<u64>,
}

impl Ledger {
    /// Opens the newest version that a recipe made; false when none was.
    pub(super) fn open(&mut self, dataset: &DatasetView) -> bool {
        let Some(version) = dataset.versions.iter().rev().find(|version| version.processed.is_some()) else {
            return false;
        };
        let name = format!("{}@{}", dataset.record.name, version.number);
        if self.version != name {
            let processed = version.processed.as_deref().cloned();
            let steps = processed.iter().flat_map(|processed| &processed.steps);
            let first = steps.enumerate().find(|(_, step)| step.dropped + step.changed > 0).map_or(0, |(at, _)| at);
            *self = Ledger { version: name, processed, step: first as u32, ..Ledger::default() };
        }
        true
    }

    pub(super) fn trail(&self, view: &View<'_>) -> Vec<String> {
        vec![self.version.clone(), view.t("datasets.ledger").to_owned()]
    }

    fn steps(&self) -> u32 {
        self.processed.as_ref().map_or(0, |processed| processed.steps.len() as u32)
    }

    fn total(&self) -> u64 {
        let step = self.processed.as_ref().and_then(|processed| processed.steps.get(self.step as usize));
        step.map_or(0, |step| step.dropped + step.changed)
    }

    fn current(&self) -> Option<&LedgerEntry> {
        let (entries, _, from) = self.page.get_if(|(name, step, _)| *name == self.version && *step == self.step)?;
        entries.get(self.at.checked_sub(*from)? as usize)
    }

    fn window_start(&self) -> u64 {
        let step = u64::from(WINDOW) / 2;
        (self.at / step).saturating_sub(1) * step
    }

    pub(super) fn offers(&self) -> Vec<Offer> {
        let mut offers = vec![offer(Action::Left, "datasets.other_step"), offer(Action::Right, "datasets.other_step")];
        if self.total() > 0 {
            offers.insert(0, offer(Action::Down, "hint_row.choose"));
        }
        if self.current().is_some_and(|entry| entry.act == LedgerAct::Dropped) {
            offers.insert(0, offer(Action::Mark, "datasets.rescue"));
        }
        if !self.marked.is_empty() {
            offers.insert(0, offer(Action::Run, "datasets.run_rescue"));
        }
        offers.push(offer(Action::Out, "act.out"));
        offers
    }

    /// Whether the key meant something; `None` to leave the browser.
    pub(super) fn act(&mut self, action: Action, desk: &mut Desk<'_>) -> Option<bool> {
        let last = self.total().saturating_sub(1);
        match action {
            Action::Out => return None,
            Action::Up => self.at = self.at.saturating_sub(1),
            Action::Down => self.at = (self.at + 1).min(last),
            Action::PageUp => self.at = self.at.saturating_sub(10),
            Action::PageDown => self.at = (self.at + 10).min(last),
            Action::First => self.at = 0,
            Action::Last => self.at = last,
            Action::Left | Action::Right if self.steps() > 0 => {
                let back = action == Action::Left;
                let step = if back { self.step + self.steps() - 1 } else { self.step + 1 } % self.steps();
                (self.step, self.at) = (step, 0);
                self.marked.clear();
            }
            Action::Mark => {
                let Some(entry) = self.current().filter(|entry| entry.act == LedgerAct::Dropped) else {
                    return Some(false);
                };
                let row = entry.row_id;
                if !self.marked.remove(&row) {
                    self.marked.insert(row);
                }
                self.at = (self.at + 1).min(last);
            }
            Action::Run if !self.marked.is_empty() => self.rescue(desk),
            _ => return Some(false),
        }
        Some(true)
    }

    /// The same run again, with rows that the step must not drop.
    fn rescue(&mut self, desk: &mut Desk<'_>) {
        let Some(processed) = &self.processed else { return };
        let mut steps: Vec<_> = processed.steps.iter().map(|step| step.spec.clone()).collect();
        if let Some(step) = steps.get_mut(self.step as usize) {
            step.keep.extend(&self.marked);
        }
        let spec = JobSpec::Process(Box::new(ProcessSpec {
            source: processed.source_name.clone(),
            name: self.version.split('@').next().unwrap_or_default().to_owned(),
            recipe_name: processed.recipe_name.clone(),
            recipe: Recipe { steps },
        }));
        desk.ask(Errand::Act(Deed::Submit), Request::Submit { spec, payer: None, pool: None });
    }

    pub(super) fn submitted(&mut self) {
        self.marked.clear();
    }

    pub(super) fn needs(&mut self, desk: &mut Desk<'_>) {
        if desk.view.away || self.total() == 0 {
            return;
        }
        let offset = self.window_start();
        if self.page.want((self.version.clone(), self.step, offset)) {
            let (dataset, step) = (self.version.clone(), self.step);
            desk.ask(Errand::StepLedger, Request::RecipeLedger { dataset, step, offset, count: WINDOW });
        }
    }

    pub(super) fn paged(&mut self, page: Result<(Vec<LedgerEntry>, u64), String>) {
        match page {
            Ok((entries, total)) => {
                let offset = self.page.asked().map_or(0, |(.., offset)| *offset);
                self.page.take((entries, total, offset));
            }
            Err(said) => self.page.fail(said),
        }
    }

    pub(super) fn forget(&mut self) {
        self.page.forget();
    }

    pub(super) fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let Some(processed) = &self.processed else { return };
        let numbers = [processed.rows_in, processed.rows_out].map(number::grouped);
        let args = [("source", processed.source_name.as_str()), ("in", &numbers[0]), ("out", &numbers[1])];
        canvas.put(area.x + 1, area.y, area.width - 1, &view.fill("cli.recipe_sum", &args), Token::Muted);
        let Some(step) = processed.steps.get(self.step as usize) else { return };
        let label = step_form(&step.spec.step).map_or("?", |form| view.both(form.label));
        let counts = [u64::from(self.step) + 1, processed.steps.len() as u64, step.dropped, step.changed];
        let counts = counts.map(number::grouped);
        let args = [
            ("at", counts[0].as_str()),
            ("of", &counts[1]),
            ("step", label),
            ("dropped", &counts[2]),
            ("changed", &counts[3]),
        ];
        canvas.put(area.x + 1, area.y + 1, area.width - 1, &view.fill("datasets.step_sum", &args), Token::Heading);
        let area = Rect { y: area.y + 2, height: area.height - 2, ..area };
        let said = match (&self.page.problem, self.total(), self.current()) {
            (Some(problem), ..) => Some((format!("! {problem}"), Token::Warn)),
            (None, 0, _) => Some((view.t("datasets.step_did_nothing").to_owned(), Token::Muted)),
            (None, _, None) => Some((view.t("datasets.loading").to_owned(), Token::Muted)),
            _ => None,
        };
        if let Some((said, token)) = said {
            canvas.put(area.x + 1, area.y, area.width - 1, &said, token);
            return;
        }
        let wide = view.class >= Class::M;
        let list =
            if wide { Rect { width: area.width / 2 - 1, ..area } } else { Rect { height: area.height / 2, ..area } };
        self.draw_list(canvas, list, view);
        let page = self.entry_page(view);
        if wide {
            canvas.bar(list.right(), area);
            page.draw_top(canvas, Rect { x: list.right() + 2, width: area.right() - list.right() - 2, ..area });
        } else {
            canvas.rule(area, list.bottom(), true);
            let height = area.bottom().saturating_sub(list.bottom() + 1);
            page.draw_top(canvas, Rect { x: area.x + 1, y: list.bottom() + 1, width: area.width - 2, height });
        }
    }

    fn draw_list(&self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let Some((entries, _, from)) = self.page.get() else { return };
        let shown = u64::from(area.height).max(1);
        let top = self.at.saturating_sub(shown / 2).min(self.total().saturating_sub(shown));
        for n in 0..shown {
            let index = top + n;
            let Some(entry) = index.checked_sub(*from).and_then(|n| entries.get(n as usize)) else { continue };
            let y = area.y + n as u16;
            let dropped = entry.act == LedgerAct::Dropped;
            let sign = match (self.marked.contains(&entry.row_id), dropped) {
                (true, _) => "*",
                (false, true) => "-",
                (false, false) => "~",
            };
            let token = if dropped { Token::Warn } else { Token::Accent };
            canvas.put(area.x + 2, y, 1, sign, token);
            canvas.put_right(area.x + 11, y, 8, &entry.row_id.to_string(), Token::Muted);
            let first = entry.before.iter().find(|m| m.role != "system").map_or("", |m| m.content.as_str());
            let said = format!("{}  {}", said(view, &entry.reason), text::one_line(first));
            canvas.put(area.x + 12, y, area.width.saturating_sub(13), &said, Token::Text);
            canvas.clickable_row(Rect { y, height: 1, ..area }, index as usize, self.at as usize);
            if index == self.at {
                canvas.put(area.x + 1, y, 1, canvas.glyphs.point, Token::Accent);
                canvas.highlight(area.x + 12, y, area.width.saturating_sub(13), Token::Selected);
                canvas.cursor_at(area.x + 1, y);
            }
        }
    }

    fn entry_page(&self, view: &View<'_>) -> Page {
        let mut page = Page::new();
        let Some(entry) = self.current() else { return page };
        let (key, token) = match entry.act {
            LedgerAct::Dropped => ("recipe.dropped", Token::Warn),
            LedgerAct::Changed => ("recipe.changed", Token::Accent),
        };
        page.line(vec![
            piece(format!("#{} ", entry.row_id), Token::Heading),
            piece(format!("{}: {}", view.t(key), said(view, &entry.reason)), token),
        ]);
        let short = |value: f64| format!("{}", (value * 1000.0).round() / 1000.0);
        page.fact(view.t("datasets.measured"), short(entry.value));
        page.fact(view.t("datasets.threshold"), short(entry.threshold));
        if !entry.detail.is_empty() {
            page.fact(view.t("datasets.detail"), cell(&entry.detail));
        }
        page.blank();
        if entry.act == LedgerAct::Changed {
            changes(&mut page, &entry.before, &entry.after);
            return page;
        }
        for message in &entry.before {
            page.line(vec![piece(cell(&message.role), Token::Muted)]);
            page.indented(text::clean(&message.content), Token::Text, 2);
        }
        page
    }
}
