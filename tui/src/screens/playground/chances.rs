//! How likely each token of an answer was: the answer with each token marked by its probability, and for the token under the
//! cursor the figure and what could have stood there. Never here: asking for it.

use hone_protocol::generate::TokenChance;
use ratatui::layout::Rect;

use crate::action::Action;
use crate::screens::View;
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, piece};
use crate::widgets::number;
use crate::widgets::text::{clean, width};

/// Rows for the token under the cursor: its figure, and the likeliest in its place.
const BELOW: u16 = 9;
/// Cells of a bar.
const BAR: u16 = 20;
/// Lowest probability of each class, with the token that shows it.
const CLASSES: [(f64, Token, &str); 4] =
    [(0.8, Token::Ok, "80%+"), (0.4, Token::Text, "40%+"), (0.1, Token::Warn, "10%+"), (0.0, Token::Error, "<10%")];

/// Where one is in the tokens of an answer.
#[derive(Default)]
pub(super) struct Chances {
    pub(super) tokens: Vec<TokenChance>,
    pub(super) service: String,
    at: usize,
    top: usize,
    /// First token of each row, as drawn last.
    rows: Vec<usize>,
}

fn probability(ln_p: f32) -> f64 {
    f64::from(ln_p).exp().clamp(0.0, 1.0)
}

fn class(p: f64) -> Token {
    CLASSES.iter().find(|(low, _, _)| p >= *low).map_or(Token::Error, |(_, token, _)| *token)
}

/// A token as it can be shown: what is no text on its own as bytes, line breaks and spaces at its ends visible.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => clean(&text.replace('\n', "\\n")),
        Err(_) => bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect(),
    }
}

/// A share in percent with what small ones need.
fn percent(p: f64) -> String {
    if p >= 0.1 { format!("{:.1}%", p * 100.0) } else { format!("{:.2}%", p * 100.0) }
}

impl Chances {
    pub(super) fn of(service: String, tokens: Vec<TokenChance>) -> Chances {
        Chances { tokens, service, ..Chances::default() }
    }

    pub(super) fn act(&mut self, action: Action) -> bool {
        let last = self.tokens.len().saturating_sub(1);
        let row = self.rows.iter().rposition(|first| *first <= self.at).unwrap_or(0);
        let column = self.at - self.rows.get(row).copied().unwrap_or(0);
        let go = |row: usize| {
            let first = self.rows.get(row).copied().unwrap_or(0);
            let next = self.rows.get(row + 1).copied().unwrap_or(last + 1);
            (first + column).min(next.saturating_sub(1)).min(last)
        };
        self.at = match action {
            Action::Left => self.at.saturating_sub(1),
            Action::Right => (self.at + 1).min(last),
            Action::Up => go(row.saturating_sub(1)),
            Action::Down if row + 1 < self.rows.len() => go(row + 1),
            Action::Down => self.at,
            Action::First => 0,
            Action::Last => last,
            // The next one that the model was not sure of.
            Action::NextPane => (self.at + 1..=last).find(|n| self.chance(*n) < 0.4).unwrap_or(self.at),
            Action::PreviousPane => (0..self.at).rev().find(|n| self.chance(*n) < 0.4).unwrap_or(self.at),
            _ => return false,
        };
        true
    }

    fn chance(&self, index: usize) -> f64 {
        self.tokens.get(index).and_then(|t| t.ln_p).map_or(1.0, probability)
    }

    /// The tokens in rows: for each its column, its text and its place among the tokens.
    fn layout(&self, cells: usize) -> Vec<Vec<(usize, String, usize)>> {
        let mut rows = vec![Vec::new()];
        let mut used = 0;
        for (index, token) in self.tokens.iter().enumerate() {
            let text = shown(&token.bytes.0);
            let wide = width(&text);
            if used > 0 && used + wide > cells {
                rows.push(Vec::new());
                used = 0;
            }
            let last = rows.len() - 1;
            rows[last].push((used, text, index));
            used += wide;
            if token.bytes.0.ends_with(b"\n") {
                rows.push(Vec::new());
                used = 0;
            }
        }
        rows.retain(|row| !row.is_empty());
        rows
    }

    pub(super) fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let known: Vec<f64> = self.tokens.iter().filter_map(|t| t.ln_p).map(f64::from).collect();
        let mean = (known.iter().sum::<f64>() / known.len().max(1) as f64).exp();
        let count = self.tokens.len().to_string();
        let title =
            view.fill("chances.title", &[("service", &self.service), ("n", &count), ("mean", &number::percent(mean))]);
        canvas.put(area.x, area.y, area.width, &title, Token::Heading);
        let legend: Vec<_> = CLASSES.iter().map(|(_, token, word)| piece(format!("{word}  "), *token)).collect();
        canvas.pieces(area.x, area.y + 1, area.width, &legend);
        let below = BELOW.min(area.height.saturating_sub(4));
        let body = Rect { y: area.y + 3, height: area.height.saturating_sub(3 + below), ..area };
        let rows = self.layout(usize::from(body.width));
        self.rows = rows.iter().map(|row| row[0].2).collect();
        let here = rows.iter().position(|row| row.iter().any(|(_, _, index)| *index == self.at)).unwrap_or(0);
        let height = usize::from(body.height).max(1);
        self.top = self.top.clamp((here + 1).saturating_sub(height), here);
        for (y, row) in (body.y..body.bottom()).zip(rows.iter().skip(self.top)) {
            for (column, text, index) in row {
                let x = body.x + *column as u16;
                let room = body.right().saturating_sub(x);
                let end = canvas.put(x, y, room, text, class(self.chance(*index)));
                if *index == self.at {
                    canvas.highlight(x, y, (end - x).max(1), Token::Selected);
                    canvas.cursor_at(x, y);
                }
            }
        }
        canvas.rule(area, body.bottom(), true);
        self.draw_token(canvas, Rect { y: body.bottom() + 1, height: below.saturating_sub(1), ..area }, view);
    }

    /// The token under the cursor, and the likeliest in its place.
    fn draw_token(&self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let Some(token) = self.tokens.get(self.at).filter(|_| area.height > 0) else { return };
        let (at, count) = ((self.at + 1).to_string(), self.tokens.len().to_string());
        let figure = token.ln_p.map_or("-".to_owned(), |ln_p| percent(probability(ln_p)));
        let args = [("at", at.as_str()), ("n", count.as_str()), ("p", figure.as_str())];
        let said = format!("\"{}\"  {}", shown(&token.bytes.0), view.fill("chances.token", &args));
        canvas.put(area.x, area.y, area.width, &said, Token::Text);
        for (n, (id, bytes, ln_p)) in token.top.iter().enumerate() {
            let y = area.y + 1 + n as u16;
            if y >= area.bottom() {
                break;
            }
            let (p, taken) = (probability(*ln_p), *id == token.token);
            let mark = if taken { canvas.glyphs.point } else { " " };
            canvas.put(area.x, y, 2, mark, Token::Accent);
            let word = format!("\"{}\"", shown(&bytes.0));
            canvas.put(area.x + 2, y, 22, &word, if taken { Token::Accent } else { Token::Text });
            canvas.put_right(area.x + 33, y, 8, &percent(p), Token::Text);
            canvas.meter(area.x + 35, y, BAR.min(area.width.saturating_sub(36)), p);
        }
    }
}

#[cfg(test)]
mod tests {
    use hone_protocol::value::Bytes;

    use super::*;

    fn token(bytes: &[u8], p: f32) -> TokenChance {
        TokenChance { token: 1, bytes: Bytes(bytes.to_vec()), ln_p: Some(p.ln()), top: Vec::new() }
    }

    #[test]
    fn the_cursor_goes_by_rows_and_to_unsure_tokens_and_never_out() {
        let tokens = [" one", " two", " three\n", " four", " five"].map(|t| token(t.as_bytes(), 0.9));
        let mut chances = Chances::of("desk".into(), tokens.to_vec());
        chances.tokens[3].ln_p = Some(0.2_f32.ln());
        chances.rows = chances.layout(40).iter().map(|row| row[0].2).collect();
        assert_eq!(chances.rows, [0, 3]);
        assert!(chances.act(Action::Right) && chances.act(Action::Down));
        assert_eq!(chances.at, 4);
        assert!(chances.act(Action::Down) && chances.at == 4);
        assert!(chances.act(Action::Up) && chances.at == 1);
        assert!(chances.act(Action::NextPane) && chances.at == 3);
        assert!(chances.act(Action::NextPane) && chances.at == 3, "no unsure token follows");
        assert!(chances.act(Action::Last) && chances.act(Action::Right) && chances.at == 4);
        assert!(!chances.act(Action::Edit));
    }

    #[test]
    fn halves_of_characters_are_shown_as_bytes_and_control_codes_are_not_obeyed() {
        assert_eq!(shown(&[0xe6, 0xa8]), "\\xe6\\xa8");
        assert_eq!(shown(b"\x1b]52\n"), "\\x1b]52\\n");
        assert_eq!(shown("模".as_bytes()), "模");
    }
}
