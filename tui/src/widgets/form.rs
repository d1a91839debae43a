//! A form: a list whose rows are fields. Left and Right step, Enter types, the explanation of the focused field is
//! always beside it. Never here: what the values are for.

use std::collections::BTreeMap;

use crossterm::event::{KeyCode, KeyEvent};
use ratatui::layout::Rect;

use super::canvas::{Canvas, piece};
use super::field::range_end;
use super::line::TypedLine;
use super::number;
use super::page::Page;
use crate::action::Action;
use crate::screens::{Class, View};
use crate::theme::Token;

pub(crate) use super::field::{FormField, Rule, Stride};

/// Choices that are shown at once below a field that is being edited.
const CHOICES_SHOWN: usize = 6;
/// What stands for a value that is not shown.
const SECRET: &str = "********";
/// Changes that `u` can take back.
const UNDO_MAX: usize = 100;

/// What a key did to a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FormReply {
    /// Nothing: not a form's key.
    No,
    /// The focus or the editing changed.
    Moved,
    /// A value changed.
    Changed,
    /// Start was wished and every field is right.
    Start,
    /// Start was wished; the first wrong field has the focus now.
    Wrong,
}

/// The fields with what is being done to them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Form {
    /// All fields in order; sections are runs of equal `section`.
    pub(crate) fields: Vec<FormField>,
    focus: usize,
    top: usize,
    unfolded: bool,
    editing: Option<Editing>,
    undo: Vec<(usize, String)>,
    /// Problems that the daemon found, by field.
    pub(crate) remote: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Editing {
    line: TypedLine,
    before: String,
    /// The highlighted choice; none keeps what was typed.
    choice: Option<usize>,
}

impl Form {
    /// A form of these fields.
    pub(crate) fn new(fields: Vec<FormField>) -> Form {
        Form { fields, ..Form::default() }
    }

    /// The value of a field; empty when there is none of that key.
    pub(crate) fn value(&self, key: &str) -> &str {
        self.fields.iter().find(|f| f.key == key).map_or("", |f| f.value.trim())
    }

    /// The number of a field, when it is one.
    pub(crate) fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.value(key).parse().ok()
    }

    /// Sets a value; no undo step.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<String>) {
        if let Some(field) = self.fields.iter_mut().find(|f| f.key == key) {
            field.value = value.into();
        }
    }

    /// Renews the names to choose from.
    pub(crate) fn offer(&mut self, key: &str, options: Vec<String>) {
        if let Some(field) = self.fields.iter_mut().find(|f| f.key == key) {
            field.options = options;
        }
    }

    /// Puts the focus on a field.
    pub(crate) fn focus_on(&mut self, key: &str) {
        if let Some(at) = self.fields.iter().position(|f| f.key == key) {
            self.unfolded |= self.fields[at].folded;
            self.focus = at;
        }
    }

    /// The focused field.
    pub(crate) fn focused(&self) -> Option<&FormField> {
        self.fields.get(self.focus)
    }

    /// Whether a value is being typed.
    pub(crate) fn is_editing(&self) -> bool {
        self.editing.is_some()
    }

    /// Whether a digit starts typing into the focused field.
    pub(crate) fn takes_digits(&self) -> bool {
        self.editing.is_none() && self.focused().is_some_and(|f| f.range().is_some())
    }

    /// How many fields are wrong.
    pub(crate) fn problems(&self, view: &View<'_>) -> usize {
        self.fields.iter().filter(|f| self.problem(f, view).is_some()).count()
    }

    /// Whether a field means something beside the others' values.
    pub(crate) fn concerns(&self, field: &FormField) -> bool {
        field.only.iter().all(|(key, values)| values.contains(&self.value(key)))
    }

    fn problem(&self, field: &FormField, view: &View<'_>) -> Option<String> {
        let own = field.problem(view).filter(|_| self.concerns(field));
        own.or_else(|| self.remote.get(field.key).cloned())
    }

    fn is_visible(&self, index: usize) -> bool {
        let field = &self.fields[index];
        index == self.focus || self.concerns(field) && (self.unfolded || !field.folded)
    }

    fn step_focus(&mut self, down: bool) {
        let count = self.fields.len();
        let next = if down {
            (self.focus + 1..count).find(|i| self.is_visible(*i))
        } else {
            (0..self.focus).rev().find(|i| self.is_visible(*i))
        };
        self.focus = next.unwrap_or(self.focus);
    }

    fn change(&mut self, value: String) -> FormReply {
        let at = self.focus;
        let Some(field) = self.fields.get_mut(at) else { return FormReply::No };
        if field.value == value {
            return FormReply::Moved;
        }
        self.remote.remove(field.key);
        self.undo.push((at, std::mem::replace(&mut field.value, value)));
        if self.undo.len() > UNDO_MAX {
            self.undo.remove(0);
        }
        FormReply::Changed
    }

    /// Takes an action.
    pub(crate) fn act(&mut self, action: Action, view: &View<'_>) -> FormReply {
        match action {
            Action::Up => self.step_focus(false),
            Action::Down => self.step_focus(true),
            Action::First => self.focus = 0,
            Action::Last => {
                self.focus = (0..self.fields.len()).rev().find(|i| self.is_visible(*i)).unwrap_or(0);
            }
            Action::Left | Action::Right => {
                let Some(value) = self.focused().map(|f| f.stepped(action == Action::Right)) else {
                    return FormReply::No;
                };
                return self.change(value);
            }
            Action::Enter => self.edit(None),
            Action::Delete => {
                let Some(value) = self.focused().map(|f| f.default.clone()) else { return FormReply::No };
                return self.change(value);
            }
            Action::Undo => {
                let Some((at, value)) = self.undo.pop() else { return FormReply::Moved };
                self.focus = at;
                self.fields[at].value = value;
                return FormReply::Changed;
            }
            Action::Add => self.unfolded = !self.unfolded,
            Action::Run => {
                let wrong = (0..self.fields.len()).find(|i| self.problem(&self.fields[*i], view).is_some());
                let Some(at) = wrong else { return FormReply::Start };
                self.focus = at;
                return FormReply::Wrong;
            }
            _ => return FormReply::No,
        }
        FormReply::Moved
    }

    /// Starts typing into the focused field; a digit replaces the value.
    fn edit(&mut self, digit: Option<char>) {
        let Some(field) = self.focused() else { return };
        let choices = field.choices();
        let line = match digit {
            Some(c) => TypedLine::with(&c.to_string()),
            None if field.is_closed() => TypedLine::default(),
            None => TypedLine::with(&field.value),
        };
        let choice = field.is_closed().then(|| choices.iter().position(|c| *c == field.value).unwrap_or(0));
        self.editing = Some(Editing { line, before: field.value.clone(), choice });
    }

    /// Choices that match what was typed.
    fn matching(&self) -> Vec<String> {
        let (Some(field), Some(editing)) = (self.focused(), &self.editing) else { return Vec::new() };
        let typed = editing.line.text().to_lowercase();
        let all = field.choices();
        // A value that was there before typing began filters nothing.
        if typed.is_empty() || typed == editing.before.to_lowercase() {
            return all;
        }
        all.into_iter().filter(|c| c.to_lowercase().contains(&typed)).collect()
    }

    /// Takes a key while a value is typed, or a digit that starts typing.
    pub(crate) fn key(&mut self, key: KeyEvent) -> FormReply {
        if self.editing.is_none() {
            match key.code {
                KeyCode::Char(c) if crate::keymap::plain(c).is_ascii_digit() && self.takes_digits() => {
                    self.edit(Some(crate::keymap::plain(c)));
                    return FormReply::Moved;
                }
                _ => return FormReply::No,
            }
        }
        let choices = self.matching();
        let closed = self.focused().is_some_and(FormField::is_closed);
        let Some(editing) = self.editing.as_mut() else { return FormReply::No };
        match key.code {
            KeyCode::Esc => self.editing = None,
            KeyCode::Up if !choices.is_empty() => {
                editing.choice = match editing.choice {
                    Some(0) | None if !closed => None,
                    at => Some(at.unwrap_or(0).saturating_sub(1)),
                };
            }
            KeyCode::Down if !choices.is_empty() => {
                editing.choice = Some(editing.choice.map_or(0, |at| at + 1).min(choices.len() - 1));
            }
            KeyCode::Enter | KeyCode::Up | KeyCode::Down | KeyCode::Tab => {
                let chosen = editing.choice.and_then(|at| choices.get(at.min(choices.len().max(1) - 1)).cloned());
                let value = match chosen {
                    Some(choice) => choice,
                    None if closed => editing.before.clone(),
                    None => editing.line.text().trim().to_owned(),
                };
                self.editing = None;
                let reply = self.change(value);
                match key.code {
                    KeyCode::Up => self.step_focus(false),
                    _ => self.step_focus(true),
                }
                return reply;
            }
            _ => {
                editing.line.key(key);
                editing.choice = closed.then_some(0);
            }
        }
        FormReply::Moved
    }

    /// Takes a paste while a value is typed.
    pub(crate) fn paste(&mut self, text: &str) {
        if let Some(editing) = self.editing.as_mut() {
            editing.line.insert(text);
        }
    }

    /// The explanation of the focused field: what it is, too low, too high, last good use, range and default.
    pub(crate) fn explain(&self, view: &View<'_>, page: &mut Page) {
        let Some(field) = self.focused() else { return };
        page.heading(view.both(field.label)).blank();
        page.text(view.both(field.about), Token::Text).blank();
        for (label, what) in [("form.too_low", field.too_low), ("form.too_high", field.too_high)] {
            if !view.both(what).is_empty() {
                page.fact(view.t(label), view.both(what));
            }
        }
        if !field.last_good.is_empty() {
            page.fact(view.t("form.last_good"), field.last_good.clone());
        }
        if let Some((low, high)) = field.range() {
            page.fact(view.t("form.range_label"), format!("{} - {}", number::typed(low), range_end(high)));
        }
        if !field.default.is_empty() {
            page.fact(view.t("form.default"), field.default.clone());
        }
        if let Some(problem) = self.problem(field, view) {
            page.blank().text(format!("! {problem}"), Token::Warn);
        }
    }

    /// Draws the fields at the left and the explanation, followed by `more`, at the right; below each other when
    /// there is one pane only; side by side in three at the largest size.
    pub(crate) fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>, more: Page) {
        if view.class >= Class::M {
            let left = (area.width * 11 / 20).min(70);
            let bar = area.x + left;
            self.draw_fields(canvas, Rect { width: left - 1, ..area }, view);
            canvas.bar(bar, area);
            let mut page = Page::new();
            self.explain(view, &mut page);
            let right = Rect { x: bar + 2, width: area.right().saturating_sub(bar + 2), ..area };
            // A single line needs no pane of its own.
            if view.class < Class::Xl || more.entries() <= 3 {
                page.append(more).draw_top(canvas, right);
                return;
            }
            // Three panes: fields, what the focused one means, and what would happen.
            let half = Rect { width: right.width / 2 - 1, ..right };
            page.draw_top(canvas, half);
            canvas.bar(half.right(), area);
            more.draw_top(canvas, Rect { x: half.right() + 2, width: area.right() - half.right() - 2, ..area });
            return;
        }
        let below = 5.min(area.height / 3);
        let fields = Rect { height: area.height - below, ..area };
        self.draw_fields(canvas, fields, view);
        if below >= 2 {
            let y = fields.bottom();
            canvas.rule(area, y, true);
            let mut page = Page::new();
            if let Some(field) = self.focused() {
                let mut text = view.both(field.about).to_owned();
                for (label, what) in [("form.too_low", field.too_low), ("form.too_high", field.too_high)] {
                    if !view.both(what).is_empty() {
                        text.push_str(&format!("  {}: {}", view.t(label), view.both(what)));
                    }
                }
                page.text(text, Token::Muted);
            }
            page.append(more);
            page.draw_top(canvas, Rect { x: area.x + 1, y: y + 1, width: area.width - 2, height: below - 1 });
        }
    }

    /// Draws the fields alone.
    pub(crate) fn draw_list(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        self.draw_fields(canvas, area, view);
    }

    fn draw_fields(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let label = self.fields.iter().map(|f| super::text::width(view.both(f.label))).max().unwrap_or(0);
        let label = (label as u16 + 2).min(area.width / 2);
        let rows = self.rows(view);
        let at = rows.iter().position(|r| matches!(r, FieldRow::Field(i) if *i == self.focus)).unwrap_or(0);
        let height = usize::from(area.height);
        // Keep the choices of an open field in sight too.
        let tail = if self.editing.is_some() { self.matching().len().min(CHOICES_SHOWN) } else { 1 };
        if at < self.top + 1 {
            self.top = at.saturating_sub(1);
        } else if at + tail >= self.top + height {
            self.top = at + tail + 1 - height;
        }
        self.top = self.top.min(rows.len().saturating_sub(height));
        // Clicks count in fields: headings and choices between them are no steps.
        let order: Vec<usize> = (0..self.fields.len()).filter(|i| self.is_visible(*i)).collect();
        let place = |field: usize| order.iter().position(|i| *i == field).unwrap_or(0);
        for (y, row) in (area.y..area.bottom()).zip(rows.iter().skip(self.top)) {
            match row {
                FieldRow::Field(i) => canvas.clickable_row(Rect { y, ..area }, place(*i), place(self.focus)),
                FieldRow::More(_) => canvas.clickable(Rect { y, height: 1, ..area }, Action::Add),
                _ => {}
            }
            self.draw_row(canvas, (area, y), view, row, label);
        }
    }

    fn rows(&self, view: &View<'_>) -> Vec<FieldRow> {
        let mut rows = Vec::new();
        let mut section = "";
        for (i, field) in self.fields.iter().enumerate() {
            if field.section != section {
                section = field.section;
                let wrong = self.fields.iter().filter(|f| f.section == section && self.problem(f, view).is_some());
                rows.push(FieldRow::Section(section, wrong.count()));
            }
            if self.is_visible(i) {
                rows.push(FieldRow::Field(i));
                if i == self.focus && self.editing.is_some() {
                    let choices = self.matching();
                    let at = self.editing.as_ref().and_then(|e| e.choice).unwrap_or(0);
                    let from = (at + 1).saturating_sub(CHOICES_SHOWN);
                    let end = choices.len().min(from + CHOICES_SHOWN);
                    rows.extend(
                        choices[from..end].iter().enumerate().map(|(n, c)| FieldRow::Choice(from + n, c.clone())),
                    );
                } else if self.problem(field, view).is_some() && !field.value.is_empty() {
                    rows.push(FieldRow::Problem(i));
                }
            }
            let last_of_section = self.fields.get(i + 1).is_none_or(|next| next.section != section);
            let hidden = (self.fields.iter().enumerate())
                .filter(|(n, f)| f.section == section && self.concerns(f) && !self.is_visible(*n))
                .count();
            if last_of_section && hidden > 0 {
                rows.push(FieldRow::More(hidden));
            }
        }
        rows
    }

    fn draw_row(&self, canvas: &mut Canvas<'_>, (area, y): (Rect, u16), view: &View<'_>, row: &FieldRow, label: u16) {
        let value_x = area.x + 3 + label + 1;
        let room = area.right().saturating_sub(value_x);
        match row {
            FieldRow::Section(key, wrong) => {
                let at = canvas.put(area.x + 1, y, area.width - 1, view.t(key), Token::Heading);
                let (note, token) = match wrong {
                    0 => (canvas.glyphs.ok.to_owned(), Token::Ok),
                    n => (view.fill("form.to_fix", &[("n", &n.to_string())]), Token::Warn),
                };
                canvas.put((at + 2).max(value_x), y, area.right().saturating_sub((at + 2).max(value_x)), &note, token);
            }
            FieldRow::Field(i) => {
                let field = &self.fields[*i];
                let focused = *i == self.focus;
                canvas.put(
                    area.x + 3,
                    y,
                    label,
                    view.both(field.label),
                    if focused { Token::Heading } else { Token::Muted },
                );
                if focused {
                    canvas.put(area.x + 1, y, 1, canvas.glyphs.point, Token::Accent);
                }
                match &self.editing {
                    Some(editing) if focused => {
                        let at = canvas.put(value_x - 1, y, 1, "[", Token::Accent);
                        let end = editing.line.draw(canvas, at, y, room.saturating_sub(1), Token::Text);
                        canvas.put((end + 1).min(area.right() - 1), y, 1, "]", Token::Accent);
                    }
                    _ => {
                        let wrong = self.problem(field, view).is_some();
                        let (shown, token) = match field.value.as_str() {
                            "" if wrong => (view.t("form.empty_wrong"), Token::Warn),
                            "" => (view.t("form.empty"), Token::Faint),
                            _ if field.rule == Rule::Secret => (SECRET, Token::Text),
                            v => (v, if wrong { Token::Warn } else { Token::Text }),
                        };
                        let end = canvas.put(value_x, y, room, shown, token);
                        if focused {
                            canvas.highlight(value_x, y, end - value_x, Token::Selected);
                            canvas.cursor_at(value_x, y);
                        }
                    }
                }
            }
            FieldRow::Choice(n, choice) => {
                let chosen = self.editing.as_ref().and_then(|e| e.choice) == Some(*n);
                let sign = if chosen { canvas.glyphs.point } else { " " };
                let token = if chosen { Token::Accent } else { Token::Muted };
                canvas.pieces(
                    value_x,
                    y,
                    room,
                    &[piece(format!("{sign} "), Token::Accent), piece(choice.clone(), token)],
                );
            }
            FieldRow::Problem(i) => {
                let text = self.problem(&self.fields[*i], view).unwrap_or_default();
                canvas.put(value_x, y, room, &format!("! {text}"), Token::Warn);
            }
            FieldRow::More(n) => {
                canvas.put(
                    area.x + 3,
                    y,
                    area.width - 3,
                    &view.fill("form.more", &[("n", &n.to_string())]),
                    Token::Muted,
                );
            }
        }
    }
}

enum FieldRow {
    Section(&'static str, usize),
    Field(usize),
    Choice(usize, String),
    Problem(usize),
    More(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_is_kept_by_enter_and_undone_by_escape_and_u() {
        let mut form = Form::new(vec![
            FormField::text("name", "s", "act.up", "act.up").filled("a", vec![]),
            FormField::text("other", "s", "act.up", "act.up"),
        ]);
        let mirror = crate::mirror::Mirror::default();
        let view = View::plain(&mirror);
        form.act(Action::Enter, &view);
        form.key(KeyEvent::from(KeyCode::Char('b')));
        form.key(KeyEvent::from(KeyCode::Esc));
        assert_eq!(form.value("name"), "a");
        form.act(Action::Enter, &view);
        form.key(KeyEvent::from(KeyCode::Char('b')));
        assert_eq!(form.key(KeyEvent::from(KeyCode::Enter)), FormReply::Changed);
        assert_eq!(form.value("name"), "ab");
        assert_eq!(form.focused().map(|f| f.key), Some("other"));
        form.act(Action::Undo, &view);
        assert_eq!(form.value("name"), "a");
    }

    #[test]
    fn a_wrong_field_gets_the_focus_instead_of_a_start() {
        let mut form = Form::new(vec![
            FormField::text("a", "s", "act.up", "act.up"),
            FormField::text("b", "s", "act.up", "act.up").rule(Rule::Name),
        ]);
        let mirror = crate::mirror::Mirror::default();
        let view = View::plain(&mirror);
        assert_eq!(form.act(Action::Run, &view), FormReply::Wrong);
        assert_eq!(form.focused().map(|f| f.key), Some("b"));
        form.set("b", "good-name");
        assert_eq!(form.act(Action::Run, &view), FormReply::Start);
    }

    #[test]
    fn a_closed_list_is_chosen_from_and_filtered_by_typing() {
        let mut form = Form::new(vec![
            FormField::text("v", "s", "act.up", "act.up")
                .rule(Rule::OneOf)
                .filled("", vec!["alpha@1".into(), "beta@1".into(), "beta@2".into()]),
        ]);
        let mirror = crate::mirror::Mirror::default();
        form.act(Action::Enter, &View::plain(&mirror));
        for c in "beta".chars() {
            form.key(KeyEvent::from(KeyCode::Char(c)));
        }
        form.key(KeyEvent::from(KeyCode::Down));
        form.key(KeyEvent::from(KeyCode::Enter));
        assert_eq!(form.value("v"), "beta@2");
    }
}
