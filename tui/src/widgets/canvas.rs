//! Where a frame is drawn: a buffer of cells with the theme and the signs at hand. Never here: facts.

use hone_protocol::catalogue::Language;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;

use super::hits::{self, Hit};
use super::text;
use crate::action::Action;
use crate::glyphs::Glyphs;
use crate::theme::{Theme, Token};

/// A piece of text with what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The text, clean.
    pub(crate) text: String,
    /// What it means.
    pub(crate) token: Token,
}

/// A piece.
pub(crate) fn piece(text: impl Into<String>, token: Token) -> Piece {
    Piece { text: text.into(), token }
}

/// A frame being drawn.
pub(crate) struct Canvas<'a> {
    /// The cells.
    pub(crate) buffer: &'a mut Buffer,
    /// The colours.
    pub(crate) theme: Theme,
    /// The signs.
    pub(crate) glyphs: &'static Glyphs,
    /// Draw everything as of an earlier time.
    pub(crate) stale: bool,
    /// Where the real cursor shall stand.
    pub(crate) cursor: Option<Position>,
    /// The language of the few words that widgets say by themselves.
    pub(crate) language: Language,
    /// What can be clicked, the topmost last.
    pub(crate) hits: Vec<Hit>,
}

impl Canvas<'_> {
    /// What a token looks like here.
    pub(crate) fn style(&self, token: Token) -> Style {
        let keeps = matches!(token, Token::Selected | Token::SelectedIdle | Token::Faint | Token::Heading);
        if self.stale && !keeps { self.theme.style(Token::Stale) } else { self.theme.style(token) }
    }

    /// Writes at most `cells` of a text and returns the column behind it.
    pub(crate) fn put(&mut self, x: u16, y: u16, cells: u16, text: &str, token: Token) -> u16 {
        let area = self.buffer.area;
        if cells == 0 || y >= area.bottom() || x >= area.right() {
            return x;
        }
        let text = text::cut(text, usize::from(cells.min(area.right() - x)), self.glyphs.ellipsis);
        let style = self.style(token);
        self.buffer.set_stringn(x, y, &text, usize::from(cells), style).0
    }

    /// Writes pieces one after the other in at most `cells`. What has no room leaves an ellipsis, also when the cut
    /// falls between two pieces.
    pub(crate) fn pieces(&mut self, x: u16, y: u16, cells: u16, pieces: &[Piece]) -> u16 {
        let end = x.saturating_add(cells).min(self.buffer.area.right());
        let mut at = x;
        for (n, piece) in pieces.iter().enumerate() {
            let rest = &pieces[n + 1..];
            let room = usize::from(end.saturating_sub(at));
            let more = rest.iter().any(|p| !p.text.trim().is_empty());
            if more && text::width(&piece.text) == room && room > 0 {
                let cut = text::cut(&format!("{} ", piece.text), room, self.glyphs.ellipsis);
                return self.put(at, y, room as u16, &cut, piece.token);
            }
            at = self.put(at, y, room as u16, &piece.text, piece.token);
        }
        at
    }

    /// Lets a click on an area mean an action.
    pub(crate) fn clickable(&mut self, area: Rect, action: Action) {
        self.hits.push(Hit { area, action, times: 1, pane: None });
    }

    /// Lets a click on a row move the selection there.
    pub(crate) fn clickable_row(&mut self, area: Rect, clicked: usize, selected: usize) {
        self.hits.push(hits::step(Rect { height: 1, ..area }, clicked, selected));
    }

    /// Lets clicks on what was drawn since `from` give a pane the focus first, and other clicks in `area` only that.
    pub(crate) fn clickable_pane(&mut self, area: Rect, pane: u8, from: usize) {
        for hit in &mut self.hits[from..] {
            hit.pane = Some(pane);
        }
        self.hits.insert(from, Hit { area, action: Action::Up, times: 0, pane: Some(pane) });
    }

    /// Writes a text that ends at column `right` (exclusive).
    pub(crate) fn put_right(&mut self, right: u16, y: u16, cells: u16, text: &str, token: Token) {
        let text = text::cut(text, usize::from(cells), self.glyphs.ellipsis);
        let wide = text::width(&text) as u16;
        self.put(right.saturating_sub(wide), y, wide, &text, token);
    }

    /// A horizontal rule.
    pub(crate) fn rule(&mut self, area: Rect, y: u16, dashed: bool) {
        let sign = if dashed { self.glyphs.dashes } else { self.glyphs.rule };
        let line = sign.repeat(usize::from(area.width));
        self.put(area.x, y, area.width, &line, Token::Faint);
    }

    /// A vertical rule over the whole height of an area.
    pub(crate) fn bar(&mut self, x: u16, area: Rect) {
        for y in area.y..area.bottom() {
            self.put(x, y, 1, self.glyphs.bar, Token::Faint);
        }
    }

    /// Empties an area, for an overlay.
    pub(crate) fn clear(&mut self, area: Rect) {
        for y in area.y..area.bottom().min(self.buffer.area.bottom()) {
            for x in area.x..area.right().min(self.buffer.area.right()) {
                self.buffer[(x, y)].reset();
            }
        }
    }

    /// Restyles a row of cells, for a selection.
    pub(crate) fn highlight(&mut self, x: u16, y: u16, cells: u16, token: Token) {
        let style = self.theme.style(token);
        self.buffer.set_style(Rect { x, y, width: cells, height: 1 }.intersection(self.buffer.area), style);
    }

    /// Puts the real cursor somewhere, for input methods and screen readers.
    pub(crate) fn cursor_at(&mut self, x: u16, y: u16) {
        let area = self.buffer.area;
        self.cursor =
            Some(Position { x: x.min(area.right().saturating_sub(1)), y: y.min(area.bottom().saturating_sub(1)) });
    }

    /// A meter of `cells` with its share full; the number beside it is the caller's duty.
    pub(crate) fn meter(&mut self, x: u16, y: u16, cells: u16, share: f64) -> u16 {
        let full = ((f64::from(cells) * share.clamp(0.0, 1.0)).round() as u16).min(cells);
        let (fill, rest) = (self.glyphs.fill, self.glyphs.rest);
        let at = self.put(x, y, full, &fill.repeat(usize::from(full)), Token::Fill);
        self.put(at, y, cells - full, &rest.repeat(usize::from(cells - full)), Token::Faint)
    }
}
