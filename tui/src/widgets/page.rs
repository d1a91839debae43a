//! A page to read: headings, facts, paragraphs, wrapped to the width at drawing, scrolled by whole lines.

use ratatui::layout::Rect;

use super::canvas::{Canvas, Piece, piece};
use super::text;
use crate::theme::Token;

/// One entry of a page.
enum Entry {
    Blank,
    Line(Vec<Piece>),
    Fact(String, Vec<Piece>),
    Paragraph(String, Token, u16),
    Meter(f64, String),
}

/// Column headings serve as labels too; in running text they begin small, but for words like LoRA and HTTP.
fn plain_label(label: &str) -> String {
    let mut chars = label.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if second.is_lowercase() && !label.chars().skip(2).any(char::is_uppercase) => {
            first.to_lowercase().chain(label.chars().skip(1)).collect()
        }
        _ => label.to_owned(),
    }
}

/// What is to be read.
#[derive(Default)]
pub(crate) struct Page {
    entries: Vec<Entry>,
}

impl Page {
    /// An empty page.
    pub(crate) fn new() -> Page {
        Page::default()
    }

    /// A bold line.
    pub(crate) fn heading(&mut self, text: impl Into<String>) -> &mut Page {
        self.line(vec![piece(text, Token::Heading)])
    }

    /// An empty line.
    pub(crate) fn blank(&mut self) -> &mut Page {
        self.entries.push(Entry::Blank);
        self
    }

    /// A line of pieces; cut, never wrapped.
    pub(crate) fn line(&mut self, pieces: Vec<Piece>) -> &mut Page {
        self.entries.push(Entry::Line(pieces));
        self
    }

    /// A label with its value; values of neighbouring facts stand below each other. Long values wrap.
    pub(crate) fn fact(&mut self, label: &str, value: impl Into<String>) -> &mut Page {
        self.fact_as(label, value, Token::Text)
    }

    /// A label with a value that means something.
    pub(crate) fn fact_as(&mut self, label: &str, value: impl Into<String>, token: Token) -> &mut Page {
        self.entries.push(Entry::Fact(plain_label(label), vec![piece(value, token)]));
        self
    }

    /// Wrapped text.
    pub(crate) fn text(&mut self, text: impl Into<String>, token: Token) -> &mut Page {
        self.indented(text, token, 0)
    }

    /// Wrapped text with a margin.
    pub(crate) fn indented(&mut self, text: impl Into<String>, token: Token, margin: u16) -> &mut Page {
        self.entries.push(Entry::Paragraph(text.into(), token, margin));
        self
    }

    /// A meter with its number.
    pub(crate) fn meter(&mut self, share: f64, number: impl Into<String>) -> &mut Page {
        self.entries.push(Entry::Meter(share, number.into()));
        self
    }

    /// Puts another page below.
    pub(crate) fn append(&mut self, mut other: Page) -> &mut Page {
        self.entries.append(&mut other.entries);
        self
    }

    /// Widest label of the facts, so that values line up.
    fn gutter(&self, cells: usize) -> usize {
        let widest = self.entries.iter().filter_map(|e| match e {
            Entry::Fact(label, _) => Some(text::width(label)),
            _ => None,
        });
        widest.max().unwrap_or(0).min(cells / 2) + 2
    }

    /// The lines at a width; a meter is one line that is drawn later.
    fn lines(&self, canvas: &Canvas<'_>, cells: u16) -> Vec<Row> {
        let cells = usize::from(cells);
        let gutter = self.gutter(cells);
        let mut lines = Vec::new();
        for entry in &self.entries {
            match entry {
                Entry::Blank => lines.push(Row::Pieces(Vec::new())),
                Entry::Line(pieces) => lines.push(Row::Pieces(pieces.clone())),
                Entry::Paragraph(content, token, margin) => {
                    let margin = usize::from(*margin);
                    for line in text::wrap(content, cells.saturating_sub(margin)) {
                        lines.push(Row::Pieces(vec![piece(" ".repeat(margin) + &line, *token)]));
                    }
                }
                Entry::Fact(label, value) => {
                    let label = text::pad(label, gutter, canvas.glyphs.ellipsis);
                    let token = value.first().map_or(Token::Text, |p| p.token);
                    let all: String = value.iter().map(|p| p.text.as_str()).collect();
                    let mut first = true;
                    for part in text::wrap(&all, cells.saturating_sub(gutter)) {
                        let head = if first { label.clone() } else { " ".repeat(gutter) };
                        lines.push(Row::Pieces(vec![piece(head, Token::Muted), piece(part, token)]));
                        first = false;
                    }
                }
                Entry::Meter(share, number) => lines.push(Row::Meter(*share, number.clone())),
            }
        }
        lines
    }

    /// How many entries it has, blank ones too.
    pub(crate) fn entries(&self) -> usize {
        self.entries.len()
    }

    /// How many rows it takes at a width.
    pub(crate) fn rows(&self, canvas: &Canvas<'_>, cells: u16) -> usize {
        self.lines(canvas, cells).len()
    }

    /// Draws from line `scroll` on; returns how many lines there are in all. `scroll` is brought into range.
    pub(crate) fn draw(&self, canvas: &mut Canvas<'_>, area: Rect, scroll: &mut usize) -> usize {
        let lines = self.lines(canvas, area.width);
        let height = usize::from(area.height);
        *scroll = (*scroll).min(lines.len().saturating_sub(height));
        let below = lines.len().saturating_sub(*scroll + height);
        let note = match below > 0 && area.height > 1 {
            true => format!(" +{below} {}", canvas.glyphs.ellipsis),
            false => String::new(),
        };
        for (y, row) in (area.y..area.bottom()).zip(lines.iter().skip(*scroll)) {
            // The last line leaves room for the note about what is below: text is cut, never covered.
            let taken = if y + 1 == area.bottom() { text::width(&note) as u16 } else { 0 };
            let width = area.width.saturating_sub(taken);
            match row {
                Row::Pieces(pieces) => {
                    canvas.pieces(area.x, y, width, pieces);
                }
                Row::Meter(share, number) => {
                    let room = width.saturating_sub(text::width(number) as u16 + 2).min(30);
                    let at = canvas.meter(area.x, y, room, *share);
                    canvas.put(at + 2, y, (area.x + width).saturating_sub(at + 2), number, Token::Text);
                }
            }
        }
        if !note.is_empty() {
            canvas.put_right(area.right(), area.bottom() - 1, area.width, &note, Token::Muted);
        }
        lines.len()
    }

    /// Draws from the top.
    pub(crate) fn draw_top(&self, canvas: &mut Canvas<'_>, area: Rect) -> usize {
        self.draw(canvas, area, &mut 0)
    }
}

enum Row {
    Pieces(Vec<Piece>),
    Meter(f64, String),
}
