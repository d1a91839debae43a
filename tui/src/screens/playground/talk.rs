//! The talk as it is drawn: turns with what stands under each answer, and the box below them. Never here: sending.

use ratatui::layout::Rect;

use super::super::View;
use super::{COMPOSER_ROWS, Pane, Playground, Turn};
use crate::action::Action;
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, Piece, piece};
use crate::widgets::page::Page;
use crate::widgets::text::{clean, wrap};

impl Playground {
    /// The talk as lines at a width, and the line at which each turn begins.
    fn lines(&self, view: &View<'_>, cells: u16) -> (Vec<Vec<Piece>>, Vec<usize>) {
        let mut lines: Vec<Vec<Piece>> = Vec::new();
        let mut starts = Vec::new();
        let service = self.settings.value("service");
        for (index, turn) in self.turns.iter().enumerate() {
            starts.push(lines.len());
            let (name, token) = match turn.from_person {
                true => (view.t("chat.you").to_owned(), Token::User),
                false => (service.to_owned(), Token::Heading),
            };
            lines.push(vec![piece(name, token)]);
            if !turn.text.is_empty() {
                let spoken = wrap(&clean(&turn.text), usize::from(cells).saturating_sub(2));
                lines.extend(spoken.into_iter().map(|line| vec![piece(format!("  {line}"), Token::Text)]));
            }
            if let Some(problem) = &turn.problem {
                for line in wrap(problem, usize::from(cells).saturating_sub(4)) {
                    lines.push(vec![piece(format!("  ! {line}"), Token::Error)]);
                }
            }
            let last = index + 1 == self.turns.len();
            if let Some(note) = turn_note(view, turn, last && self.streaming) {
                lines.push(vec![piece(format!("  {note}"), Token::Muted)]);
            }
            lines.push(Vec::new());
        }
        (lines, starts)
    }

    pub(super) fn draw_chat(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let box_rows = self.composer.rows(area.width.saturating_sub(4), COMPOSER_ROWS.min(area.height / 3));
        let talk = Rect { height: area.height.saturating_sub(box_rows + 2), ..area };
        let (lines, starts) = self.lines(view, talk.width.saturating_sub(2));
        let height = usize::from(talk.height);
        if self.pane == Pane::Transcript
            && let Some(start) = starts.get(self.chosen)
        {
            // Keep the beginning of the chosen turn in sight.
            let end = lines.len().saturating_sub(self.up);
            if *start < end.saturating_sub(height) || *start >= end {
                self.up = lines.len().saturating_sub(start + height.min(lines.len() - start));
            }
        }
        self.up = self.up.min(lines.len().saturating_sub(height));
        canvas.clickable_pane(talk, Pane::Transcript as u8, canvas.hits.len());
        let below = Rect { y: talk.bottom(), height: area.bottom().saturating_sub(talk.bottom()), ..area };
        canvas.clickable_pane(below, Pane::Composer as u8, canvas.hits.len());
        let end = lines.len() - self.up;
        let from = end.saturating_sub(height);
        for (turn, start) in starts.iter().enumerate().filter(|(_, s)| (from..end).contains(*s)) {
            let row = Rect { y: talk.y + (start - from) as u16, ..talk };
            let first = canvas.hits.len();
            canvas.clickable_row(row, turn, self.chosen.min(starts.len() - 1));
            let hit = &mut canvas.hits[first];
            hit.pane = Some(Pane::Transcript as u8);
            // The chosen turn is there already; opening it would leave it for the box.
            hit.times = if hit.action == Action::Enter { 0 } else { hit.times };
        }
        for (i, line) in lines[from..end].iter().enumerate() {
            canvas.pieces(talk.x + 2, talk.y + i as u16, talk.width.saturating_sub(2), line);
        }
        if self.pane == Pane::Transcript
            && let Some(start) = starts.get(self.chosen).filter(|s| (from..end).contains(s))
        {
            let y = talk.y + (start - from) as u16;
            canvas.put(talk.x, y, 1, canvas.glyphs.point, Token::Accent);
            canvas.cursor_at(talk.x, y);
        }
        if self.up > 0 {
            let below = view.fill("log.below", &[("n", &self.up.to_string())]);
            canvas.put_right(talk.right(), talk.bottom().saturating_sub(1), talk.width, &below, Token::Accent);
        }
        if self.turns.is_empty() {
            let mut page = Page::new();
            let key = if self.settings.value("service").is_empty() { "chat.empty_no_service" } else { "chat.empty" };
            page.blank().text(view.t(key), Token::Muted);
            page.draw_top(canvas, Rect { x: talk.x + 2, width: talk.width.saturating_sub(3).min(80), ..talk });
        }
        let y = talk.bottom();
        canvas.rule(area, y, true);
        let focused = self.pane == Pane::Composer;
        canvas.put(area.x, y + 1, 2, ">", if focused { Token::Accent } else { Token::Faint });
        let input = Rect { x: area.x + 2, y: y + 1, width: area.width.saturating_sub(3), height: box_rows };
        if self.composer.is_empty() && self.turns.is_empty() {
            canvas.put(input.x, input.y, input.width, view.t("chat.type_here"), Token::Faint);
        }
        self.composer.draw(canvas, input, focused);
    }
}

/// What stands under an answer: speed and why it ended.
fn turn_note(view: &View<'_>, turn: &Turn, streaming: bool) -> Option<String> {
    if turn.from_person {
        return None;
    }
    if streaming {
        let key = if turn.tokens == 0 { "chat.waiting" } else { "chat.streaming" };
        return Some(view.fill(key, &[("n", &turn.tokens.to_string())]));
    }
    if turn.stopped && turn.end.is_none() {
        return Some(view.t("chat.stopped").to_owned());
    }
    let end = turn.end.as_ref()?;
    let after_first = f64::from(end.total_ms.saturating_sub(end.first_token_ms)).max(1.0) / 1000.0;
    let rate = end.completion_tokens.saturating_sub(1) as f64 / after_first;
    let note = view.fill(
        "chat.note",
        &[
            ("n", &end.completion_tokens.to_string()),
            ("first", &format!("{:.2}", f64::from(end.first_token_ms) / 1000.0)),
            ("total", &format!("{:.1}", f64::from(end.total_ms) / 1000.0)),
            ("rate", &format!("{rate:.0}")),
        ],
    );
    Some(if end.finish == "length" { format!("{note}  {}", view.t("chat.cut_off")) } else { note })
}
