//! A list of rows with columns: a selection that stays on its item while the list changes under it, a filter that is
//! typed live, and scrolling. Never here: what the rows are.

use crossterm::event::{KeyCode, KeyEvent};
use hone_protocol::catalogue;
use ratatui::layout::Rect;

use super::canvas::{Canvas, Piece};
use super::line::TypedLine;
use super::text;
use crate::action::Action;
use crate::theme::Token;

/// One row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// What the selection and the filter remember it by; unique in the list.
    pub(crate) key: String,
    /// One entry a column.
    pub(crate) cells: Vec<Piece>,
}

/// One column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// Its heading.
    pub(crate) title: &'static str,
    /// Cells it takes; 0 takes what is left.
    pub(crate) cells: u16,
    /// Numbers stand at the right.
    pub(crate) right: bool,
    /// Left out when the list is narrower than this many cells.
    pub(crate) from: u16,
}

/// The title of a column: words of the catalogue begin small where they stand in sentences.
fn heading(title: &str) -> String {
    let mut letters = title.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

/// A column with a fixed width.
pub(crate) const fn column(title: &'static str, cells: u16) -> Column {
    Column { title, cells, right: false, from: 0 }
}

impl Column {
    /// Numbers stand at the right.
    pub(crate) const fn right(self) -> Column {
        Column { right: true, ..self }
    }

    /// Left out when the list is narrower than `cells`.
    pub(crate) const fn from(self, cells: u16) -> Column {
        Column { from: cells, ..self }
    }
}

/// Where one is in a list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listing {
    key: Option<String>,
    index: usize,
    top: usize,
    page: usize,
    filter: TypedLine,
    /// The filter is being typed.
    pub(crate) filtering: bool,
}

impl Listing {
    /// Rows that pass the filter: every word of it occurs in some cell; `!word` must not occur.
    pub(crate) fn passing(&self, rows: Vec<Row>) -> Vec<Row> {
        let filter = self.filter.text().to_lowercase();
        if filter.trim().is_empty() {
            return rows;
        }
        let passes = |row: &Row| {
            let all = row.cells.iter().map(|c| c.text.to_lowercase()).collect::<Vec<_>>().join(" ");
            filter.split_whitespace().all(|word| match word.strip_prefix('!') {
                Some(not) => not.is_empty() || !all.contains(not),
                None => all.contains(word),
            })
        };
        rows.into_iter().filter(passes).collect()
    }

    /// The key of the selected row; keeps the selection on its item when rows came or went.
    pub(crate) fn selected(&mut self, rows: &[Row]) -> Option<String> {
        if let Some(at) = self.key.as_ref().and_then(|key| rows.iter().position(|r| r.key == *key)) {
            self.index = at;
        }
        self.index = self.index.min(rows.len().saturating_sub(1));
        self.key = rows.get(self.index).map(|r| r.key.clone());
        self.key.clone()
    }

    /// Selects a row by its key.
    pub(crate) fn select(&mut self, key: impl Into<String>) {
        self.key = Some(key.into());
    }

    /// The key of the row that was selected last.
    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Whether a filter hides rows.
    pub(crate) fn is_filtered(&self) -> bool {
        !self.filter.is_empty()
    }

    /// Shows all rows again.
    pub(crate) fn clear_filter(&mut self) {
        self.filter = TypedLine::default();
        self.filtering = false;
    }

    /// Moves; false when the action is no movement.
    pub(crate) fn act(&mut self, action: Action, rows: &[Row]) -> bool {
        self.selected(rows);
        let last = rows.len().saturating_sub(1);
        let page = self.page.max(2) - 1;
        self.index = match action {
            Action::Up => self.index.saturating_sub(1),
            Action::Down => (self.index + 1).min(last),
            Action::PageUp => self.index.saturating_sub(page),
            Action::PageDown => (self.index + page).min(last),
            Action::First => 0,
            Action::Last => last,
            Action::Filter => {
                self.filtering = true;
                self.index
            }
            _ => return false,
        };
        self.key = rows.get(self.index).map(|r| r.key.clone());
        true
    }

    /// Takes a key while the filter is typed.
    pub(crate) fn type_key(&mut self, key: KeyEvent) {
        // A key that means nothing is no text either while nothing is typed.
        if !self.filtering {
            return;
        }
        match key.code {
            KeyCode::Esc => self.clear_filter(),
            KeyCode::Enter | KeyCode::Down | KeyCode::Up => self.filtering = false,
            _ => {
                self.filter.key(key);
                self.index = 0;
                self.key = None;
            }
        }
    }

    /// Draws headings, rows and the filter line. The real cursor follows the selected row of the focused list.
    pub(crate) fn draw(
        &mut self,
        canvas: &mut Canvas<'_>,
        area: Rect,
        columns: &[Column],
        rows: &[Row],
        focused: bool,
    ) {
        self.selected(rows);
        let shown: Vec<(usize, Column)> =
            columns.iter().copied().enumerate().filter(|(_, c)| area.width >= c.from).collect();
        // Three cells at the left hold the pointer; one at the right keeps text off a rule.
        let widths = widths(&shown, area.width.saturating_sub(4));
        let mut y = area.y;
        if columns.iter().any(|c| !c.title.is_empty()) && area.height > 2 {
            let mut x = area.x + 3;
            for ((_, column), cells) in shown.iter().zip(&widths) {
                let title = heading(column.title);
                match column.right {
                    true => canvas.put_right(x + cells, y, *cells, &title, Token::Muted),
                    false => {
                        canvas.put(x, y, *cells, &title, Token::Muted);
                    }
                }
                x += cells + 2;
            }
            y += 1;
        }
        let filter_rows = u16::from(self.filtering || self.is_filtered());
        let height = usize::from(area.bottom().saturating_sub(y + filter_rows));
        self.page = height;
        if self.index < self.top {
            self.top = self.index;
        } else if height > 0 && self.index >= self.top + height {
            self.top = self.index + 1 - height;
        }
        self.top = self.top.min(rows.len().saturating_sub(height));
        if rows.is_empty() && self.is_filtered() && height > 0 {
            let said = catalogue::text(canvas.language, "list.nothing_matches");
            canvas.put(area.x + 3, y, area.width.saturating_sub(4), said, Token::Muted);
        }
        for (at, row) in rows.iter().enumerate().skip(self.top).take(height) {
            canvas.clickable_row(Rect { y, ..area }, at, self.index);
            self.draw_row(canvas, (area, y), &shown, &widths, row, (at == self.index, focused));
            y += 1;
        }
        if filter_rows > 0 {
            self.draw_filter(canvas, area, rows.len());
        }
    }

    fn draw_row(
        &self,
        canvas: &mut Canvas<'_>,
        (area, y): (Rect, u16),
        shown: &[(usize, Column)],
        widths: &[u16],
        row: &Row,
        (selected, focused): (bool, bool),
    ) {
        let mut x = area.x + 3;
        let is_empty = |index: usize| row.cells.get(index).is_none_or(|c| c.text.is_empty());
        for (n, ((index, column), cells)) in shown.iter().zip(widths).enumerate() {
            if let Some(cell) = row.cells.get(*index) {
                match column.right {
                    true => canvas.put_right(x + cells, y, *cells, &cell.text, cell.token),
                    false => {
                        // A text may run on over the empty cells behind it.
                        let free = shown[n + 1..].iter().zip(&widths[n + 1..]).take_while(|((i, _), _)| is_empty(*i));
                        let room = free.fold(*cells, |room, (_, cells)| room + cells + 2);
                        canvas.put(x, y, room, &cell.text, cell.token);
                    }
                }
            }
            x += cells + 2;
        }
        if selected {
            canvas.put(area.x + 1, y, 1, canvas.glyphs.point, Token::Accent);
            let token = if focused { Token::Selected } else { Token::SelectedIdle };
            canvas.highlight(area.x + 3, y, area.width.saturating_sub(4), token);
            if focused && !self.filtering {
                canvas.cursor_at(area.x + 1, y);
            }
        }
    }

    fn draw_filter(&self, canvas: &mut Canvas<'_>, area: Rect, count: usize) {
        let y = area.bottom().saturating_sub(1);
        let x = canvas.put(area.x + 1, y, 2, "/", Token::Accent) + 1;
        let room = area.width.saturating_sub(10);
        if self.filtering {
            self.filter.draw(canvas, x, y, room, Token::Text);
        } else {
            canvas.put(x, y, room, &self.filter.text(), Token::Match);
        }
        canvas.put_right(area.right(), y, 6, &count.to_string(), Token::Muted);
    }
}

/// Widths of the columns: what is left goes to the one with 0.
fn widths(shown: &[(usize, Column)], cells: u16) -> Vec<u16> {
    let gaps = 2 * (shown.len() as u16).saturating_sub(1);
    let fixed: u16 = shown.iter().map(|(_, c)| c.cells).sum();
    let rest = cells.saturating_sub(fixed + gaps);
    shown.iter().map(|(_, c)| if c.cells == 0 { rest.max(4) } else { c.cells }).collect()
}

/// Cuts a text for a cell.
pub(crate) fn cell(text: &str) -> String {
    text::one_line(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::widgets::canvas::piece;

    fn rows(names: &[&str]) -> Vec<Row> {
        names.iter().map(|n| Row { key: (*n).into(), cells: vec![piece(*n, Token::Text)] }).collect()
    }

    #[test]
    fn the_selection_stays_on_its_item() {
        let mut list = Listing::default();
        let first = rows(&["a", "b", "c"]);
        list.act(Action::Down, &first);
        assert_eq!(list.selected(&first).as_deref(), Some("b"));
        let grown = rows(&["new", "a", "b", "c"]);
        assert_eq!(list.selected(&grown).as_deref(), Some("b"));
        assert_eq!(list.index, 2);
        let gone = rows(&["new", "a"]);
        assert_eq!(list.selected(&gone).as_deref(), Some("a"));
        assert_eq!(list.selected(&[]), None);
    }

    #[test]
    fn a_filter_keeps_rows_with_every_word_and_without_negated_ones() {
        let mut list = Listing::default();
        list.act(Action::Filter, &rows(&[]));
        for c in "train !failed".chars() {
            list.type_key(KeyEvent::from(KeyCode::Char(c)));
        }
        let kept = list.passing(rows(&["train ok", "train failed", "import"]));
        assert_eq!(kept.len(), 1);
        list.type_key(KeyEvent::from(KeyCode::Esc));
        assert!(!list.is_filtered() && !list.filtering);
    }
}
