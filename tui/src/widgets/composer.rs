//! Several lines being typed. The editing is `tui-textarea`'s; the drawing is ours, because an input method needs the
//! real cursor at the insertion point and `tui-textarea` only paints one.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;
use tui_textarea::TextArea;

use super::canvas::Canvas;
use super::text;
use crate::theme::Token;

/// Longest text that can be typed or pasted, in bytes; the rest of a paste is left out.
pub(crate) const COMPOSER_BYTES_MAX: usize = 256 * 1024;

/// A text of several lines with an insertion point.
#[derive(Default)]
pub(crate) struct Composer {
    area: TextArea<'static>,
}

/// What a key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typed {
    /// The text or the insertion point changed, or nothing did.
    Edit,
    /// Enter: the text is ready.
    Send,
}

impl Composer {
    /// A composer that already has text.
    pub(crate) fn with(text: &str) -> Composer {
        let mut composer = Composer::default();
        composer.insert(text);
        composer
    }

    /// What was typed.
    pub(crate) fn text(&self) -> String {
        self.area.lines().join("\n")
    }

    /// Whether nothing was typed.
    pub(crate) fn is_empty(&self) -> bool {
        self.area.lines().iter().all(String::is_empty)
    }

    /// Puts text in.
    pub(crate) fn insert(&mut self, text: &str) {
        let room = COMPOSER_BYTES_MAX.saturating_sub(self.area.lines().iter().map(String::len).sum());
        let mut end = text.len().min(room);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        // A carriage return alone is what some terminals paste for a line break.
        self.area.insert_str(text::clean(&text[..end].replace("\r\n", "\n").replace('\r', "\n")));
    }

    /// Takes an editing key. Enter sends; Alt-Enter, Shift-Enter and Ctrl-J make a new line.
    pub(crate) fn key(&mut self, key: KeyEvent) -> Typed {
        let newline = (key.code == KeyCode::Enter && !key.modifiers.is_empty())
            || (key.code == KeyCode::Char('j') && key.modifiers == KeyModifiers::CONTROL);
        if newline {
            self.area.insert_newline();
        } else if key.code == KeyCode::Enter {
            return Typed::Send;
        } else if self.area.lines().iter().map(String::len).sum::<usize>() < COMPOSER_BYTES_MAX
            || !matches!(key.code, KeyCode::Char(_))
        {
            self.area.input(Event::Key(key));
        }
        Typed::Edit
    }

    /// Lines as drawn at a width, and where the insertion point is among them (column, row).
    fn layout(&self, cells: usize) -> (Vec<String>, (usize, usize)) {
        let at = self.area.cursor();
        let mut rows = Vec::new();
        let mut cursor = (0, 0);
        for (index, line) in self.area.lines().iter().enumerate() {
            // Cut at exactly the width: a composer shows every space that was typed.
            let (mut row, mut used) = (String::new(), 0);
            for (column, c) in line.chars().chain(std::iter::once('\n')).enumerate() {
                let wide = if c == '\n' { 0 } else { text::width(c.encode_utf8(&mut [0; 4])) };
                if used + wide > cells.saturating_sub(1) && c != '\n' {
                    rows.push(std::mem::take(&mut row));
                    used = 0;
                }
                if (index, column) == (at.0, at.1) {
                    cursor = (used, rows.len());
                }
                if c != '\n' {
                    row.push(c);
                    used += wide;
                }
            }
            rows.push(row);
        }
        (rows, cursor)
    }

    /// Rows it wants at a width, at least one and at most `max`.
    pub(crate) fn rows(&self, cells: u16, max: u16) -> u16 {
        (self.layout(usize::from(cells)).0.len() as u16).clamp(1, max.max(1))
    }

    /// Draws the part around the insertion point; the real cursor stands there when focused.
    pub(crate) fn draw(&self, canvas: &mut Canvas<'_>, area: Rect, focused: bool) {
        let (rows, (x, y)) = self.layout(usize::from(area.width));
        let height = usize::from(area.height);
        let top = (y + 1).saturating_sub(height);
        for (line, row) in rows.iter().skip(top).take(height).enumerate() {
            canvas.put(area.x, area.y + line as u16, area.width, row, Token::Text);
        }
        if focused {
            canvas.cursor_at(area.x + x as u16, area.y + (y - top) as u16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_insertion_point_counts_cells_and_not_characters() {
        let mut composer = Composer::with("模型 ok");
        assert_eq!(composer.layout(40).1, (7, 0));
        composer.key(KeyEvent::new(KeyCode::Enter, KeyModifiers::ALT));
        composer.insert("训");
        assert_eq!(composer.layout(40).1, (2, 1));
        assert_eq!(composer.text(), "模型 ok\n训");
    }

    #[test]
    fn a_long_line_wraps_and_the_point_goes_with_it() {
        let composer = Composer::with("abcdefghij");
        let (rows, at) = composer.layout(5);
        assert_eq!(rows, ["abcd", "efgh", "ij"]);
        assert_eq!(at, (2, 2));
    }

    #[test]
    fn enter_sends_and_changed_enter_breaks_the_line() {
        let mut composer = Composer::default();
        assert_eq!(composer.key(KeyEvent::from(KeyCode::Enter)), Typed::Send);
        composer.key(KeyEvent::new(KeyCode::Char('j'), KeyModifiers::CONTROL));
        assert_eq!(composer.text(), "\n");
        assert!(composer.is_empty());
    }
}
