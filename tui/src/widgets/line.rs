//! One line being typed, with the real cursor at the insertion point.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::canvas::Canvas;
use super::text;
use crate::theme::Token;

/// Longest line that can be typed or pasted, in characters; the rest of a paste is left out.
pub(crate) const LINE_CHARS_MAX: usize = 4096;

/// A text with an insertion point.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TypedLine {
    chars: Vec<char>,
    at: usize,
}

impl TypedLine {
    /// A line that already has text; the insertion point is at its end.
    pub(crate) fn with(text: &str) -> TypedLine {
        let chars: Vec<char> = text.chars().filter(|c| !c.is_control()).take(LINE_CHARS_MAX).collect();
        TypedLine { at: chars.len(), chars }
    }

    /// What was typed.
    pub(crate) fn text(&self) -> String {
        self.chars.iter().collect()
    }

    /// Whether nothing was typed.
    pub(crate) fn is_empty(&self) -> bool {
        self.chars.is_empty()
    }

    /// Puts text in; line breaks become spaces.
    pub(crate) fn insert(&mut self, text: &str) {
        for c in text.chars() {
            if self.chars.len() < LINE_CHARS_MAX {
                let c = if c.is_control() { ' ' } else { c };
                self.chars.insert(self.at, c);
                self.at += 1;
            }
        }
    }

    /// Takes an editing key; false when it is none.
    pub(crate) fn key(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('a') if control => self.at = 0,
            KeyCode::Char('e') if control => self.at = self.chars.len(),
            KeyCode::Char('u') if control => {
                self.chars.drain(..self.at);
                self.at = 0;
            }
            KeyCode::Char('w') if control => {
                let head = &self.chars[..self.at];
                let word_end = head.iter().rposition(|c| !c.is_whitespace()).map_or(0, |i| i + 1);
                let start = head[..word_end].iter().rposition(|c| c.is_whitespace()).map_or(0, |i| i + 1);
                self.chars.drain(start..self.at);
                self.at = start;
            }
            KeyCode::Char(c) if !control && !key.modifiers.contains(KeyModifiers::ALT) => {
                self.insert(c.encode_utf8(&mut [0; 4]));
            }
            KeyCode::Backspace if self.at > 0 => {
                self.at -= 1;
                self.chars.remove(self.at);
            }
            KeyCode::Backspace => {}
            KeyCode::Delete if self.at < self.chars.len() => {
                self.chars.remove(self.at);
            }
            KeyCode::Left => self.at = self.at.saturating_sub(1),
            KeyCode::Right => self.at = (self.at + 1).min(self.chars.len()),
            KeyCode::Home => self.at = 0,
            KeyCode::End => self.at = self.chars.len(),
            _ => return false,
        }
        true
    }

    /// Draws it; the part around the insertion point is shown when it is longer than the room.
    pub(crate) fn draw(&self, canvas: &mut Canvas<'_>, x: u16, y: u16, cells: u16, token: Token) -> u16 {
        let room = usize::from(cells).saturating_sub(1).max(1);
        let mut from = 0;
        let piece = |a: usize, b: usize| self.chars[a..b].iter().collect::<String>();
        while text::width(&piece(from, self.at)) > room {
            from += 1;
        }
        let before = piece(from, self.at);
        let after = piece(self.at, self.chars.len());
        let at = canvas.put(x, y, cells, &before, token);
        let end = canvas.put(at, y, (x + cells).saturating_sub(at), &after, token);
        canvas.cursor_at(at, y);
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(line: &mut TypedLine, code: KeyCode) {
        assert!(line.key(KeyEvent::new(code, KeyModifiers::NONE)));
    }

    #[test]
    fn typing_moves_by_characters_of_any_width() {
        let mut line = TypedLine::with("模型");
        press(&mut line, KeyCode::Left);
        press(&mut line, KeyCode::Char('x'));
        assert_eq!(line.text(), "模x型");
        press(&mut line, KeyCode::Backspace);
        press(&mut line, KeyCode::Backspace);
        assert_eq!(line.text(), "型");
        press(&mut line, KeyCode::Backspace);
        assert_eq!(line.text(), "型");
    }

    #[test]
    fn a_paste_cannot_bring_in_line_breaks_or_escapes() {
        let mut line = TypedLine::default();
        line.insert("/data/a\nb\x1b");
        assert_eq!(line.text(), "/data/a b ");
        line.key(KeyEvent::new(KeyCode::Char('w'), KeyModifiers::CONTROL));
        assert_eq!(line.text(), "/data/a ");
    }
}
