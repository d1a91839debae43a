//! The talk as it is drawn: rounds with their answers beside each other, what stands under each answer, and the box below
//! them. Never here: sending.

use ratatui::layout::Rect;

use super::tree::{Reply, Round};
use super::verdict::LETTERS;
use super::{COMPOSER_ROWS, Pane, Playground};
use crate::action::Action;
use crate::screens::View;
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, Piece, piece};
use crate::widgets::number::grouped;
use crate::widgets::page::Page;
use crate::widgets::text::{clean, width, wrap};

/// Narrowest column that is read without effort, in cells; where there is less room, fewer stand beside each other.
const COLUMN_CELLS: u16 = 30;
/// Cells between two columns.
const GAP: u16 = 3;

/// One line: pieces at their places, each within its cells.
type Line = Vec<(u16, u16, Vec<Piece>)>;

/// How many of so many columns stand beside each other in so many cells.
pub(super) fn beside(count: usize, cells: u16) -> usize {
    count.min(usize::from((cells + GAP) / (COLUMN_CELLS + GAP))).max(1)
}

impl Playground {
    /// The talk as lines at a width, and the line at which each round begins.
    fn lines(&self, view: &View<'_>, cells: u16, glyph: &str) -> (Vec<Line>, Vec<usize>) {
        let mut lines: Vec<Line> = Vec::new();
        let mut starts = Vec::new();
        let path = self.talk.path();
        for (place, (index, kept)) in path.iter().enumerate() {
            starts.push(lines.len());
            let round = &self.talk.rounds[*index];
            let full = |pieces: Vec<Piece>| vec![(0, cells, pieces)];
            let mut who = vec![piece(view.t("chat.you"), Token::User)];
            let siblings = self.talk.siblings(*index);
            if siblings.len() > 1 {
                let at = siblings.iter().position(|s| s == index).unwrap_or(0) + 1;
                let args = [("at", at.to_string()), ("n", siblings.len().to_string())];
                let args = args.each_ref().map(|(k, v)| (*k, v.as_str()));
                who.push(piece(format!("  {}", view.fill("chat.branch", &args)), Token::Muted));
            }
            lines.push(full(who));
            let asked = wrap(&clean(&round.question), usize::from(cells).saturating_sub(2));
            lines.extend(asked.into_iter().map(|line| full(vec![piece(format!("  {line}"), Token::Text)])));
            lines.push(Vec::new());
            let last = place + 1 == path.len();
            let side = if place == self.chosen { self.side } else { *kept };
            lines.extend(self.answer_lines(view, (*index, round), (*kept, side), cells, glyph));
            let verdict = self.verdict_lines(view, *index);
            if !verdict.is_empty() {
                lines.push(Vec::new());
                lines.extend(fold(verdict, cells).into_iter().map(full));
            }
            if last && !self.talk.after(Some(*index)).is_empty() {
                lines.push(full(vec![piece(view.t("chat.more_below"), Token::Muted)]));
            }
            if !last {
                lines.push(Vec::new());
            }
        }
        (lines, starts)
    }

    /// The answers of a round beside each other.
    fn answer_lines(
        &self,
        view: &View<'_>,
        (index, round): (usize, &Round),
        (kept, side): (usize, usize),
        cells: u16,
        glyph: &str,
    ) -> Vec<Line> {
        let count = round.answers.len();
        let shown = beside(count, cells);
        let side = side.min(count.saturating_sub(1));
        let first = (side + 1).saturating_sub(shown);
        let wide = (cells - GAP * (shown as u16 - 1)) / shown as u16;
        let column = |at: usize| {
            let streams = self
                .streaming
                .as_ref()
                .is_some_and(|s| s.round == index && s.columns.contains(&round.answers[at].column));
            let mut lines = vec![self.heading(view, round, at, (kept, side), glyph)];
            if shown < count && at == side {
                let args = [("at", (at + 1).to_string()), ("n", count.to_string())];
                let args = args.each_ref().map(|(k, v)| (*k, v.as_str()));
                lines[0].push(piece(format!("  {}", view.fill("chat.column_of", &args)), Token::Muted));
            }
            lines.extend(reply_lines(view, &round.answers[at], wide, streams, round.is_hidden()));
            lines
        };
        let columns: Vec<Vec<Vec<Piece>>> = (first..first + shown).map(column).collect();
        let height = columns.iter().map(Vec::len).max().unwrap_or(0);
        let row = |y: usize| {
            let cell =
                |(n, lines): (usize, &Vec<Vec<Piece>>)| Some((n as u16 * (wide + GAP), wide, lines.get(y)?.clone()));
            columns.iter().enumerate().filter_map(cell).collect()
        };
        (0..height).map(row).collect()
    }

    /// Who answers, unless that is hidden, and whether the talk goes on from it.
    fn heading(
        &self,
        view: &View<'_>,
        round: &Round,
        at: usize,
        (kept, side): (usize, usize),
        glyph: &str,
    ) -> Vec<Piece> {
        let reply = &round.answers[at];
        if round.answers.len() == 1 {
            return vec![piece(reply.asked.service.clone(), Token::Heading)];
        }
        let mark = if at == side && self.pane == Pane::Transcript { glyph } else { " " };
        let mut pieces = vec![piece(mark, Token::Accent), piece(format!("{} ", LETTERS[at.min(3)]), Token::Accent)];
        if !round.is_hidden() {
            pieces.push(piece(reply.asked.service.clone(), Token::Heading));
            let others = round.answers.iter().filter(|other| other.asked.service == reply.asked.service);
            // Two columns of one service are told apart by how they ask.
            if others.count() > 1 {
                pieces.push(piece(format!("  t {}", reply.asked.sampling.temperature), Token::Muted));
            }
        }
        if at == kept && self.streaming.is_none() {
            pieces.push(piece(format!("  {}", view.t("chat.kept")), Token::Muted));
        }
        pieces
    }

    pub(super) fn draw_chat(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let box_rows = self.composer.rows(area.width.saturating_sub(4), COMPOSER_ROWS.min(area.height / 3));
        let talk = Rect { height: area.height.saturating_sub(box_rows + 2), ..area };
        let (lines, starts) = self.lines(view, talk.width.saturating_sub(2), canvas.glyphs.point);
        let height = usize::from(talk.height);
        if self.pane == Pane::Transcript
            && let Some(start) = starts.get(self.chosen)
        {
            // Keep the beginning of the chosen round in sight.
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
        self.let_rounds_be_clicked(canvas, talk, &starts, (from, end));
        for (i, line) in lines[from..end].iter().enumerate() {
            for (x, cells, pieces) in line {
                canvas.pieces(talk.x + 2 + x, talk.y + i as u16, *cells, pieces);
            }
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
        if starts.is_empty() {
            let mut page = Page::new();
            let key = if self.settings.value("service").is_empty() { "chat.empty_no_service" } else { "chat.empty" };
            page.blank().text(view.t(key), Token::Muted);
            if !self.talk.rounds.is_empty() {
                page.blank().text(view.t("chat.more_below"), Token::Muted);
            }
            page.draw_top(canvas, Rect { x: talk.x + 2, width: talk.width.saturating_sub(3).min(80), ..talk });
        }
        self.draw_box(canvas, below, view, box_rows);
    }

    fn let_rounds_be_clicked(
        &self,
        canvas: &mut Canvas<'_>,
        talk: Rect,
        starts: &[usize],
        (from, end): (usize, usize),
    ) {
        for (round, start) in starts.iter().enumerate().filter(|(_, s)| (from..end).contains(*s)) {
            let row = Rect { y: talk.y + (start - from) as u16, ..talk };
            let first = canvas.hits.len();
            canvas.clickable_row(row, round, self.chosen.min(starts.len() - 1));
            let hit = &mut canvas.hits[first];
            hit.pane = Some(Pane::Transcript as u8);
            // The chosen round is there already; opening it would leave it for the box.
            hit.times = if hit.action == Action::Enter { 0 } else { hit.times };
        }
    }

    fn draw_box(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>, rows: u16) {
        canvas.rule(area, area.y, true);
        self.draw_meter(canvas, area, area.y, view);
        let focused = self.pane == Pane::Composer;
        canvas.put(area.x, area.y + 1, 2, ">", if focused { Token::Accent } else { Token::Faint });
        let input = Rect { x: area.x + 2, y: area.y + 1, width: area.width.saturating_sub(3), height: rows };
        if self.composer.is_empty() && self.talk.at.is_none() {
            canvas.put(input.x, input.y, input.width, view.t("chat.type_here"), Token::Faint);
        }
        self.composer.draw(canvas, input, focused);
    }
}

/// Pieces over as many lines as they need; no piece is cut in two.
fn fold(pieces: Vec<Piece>, cells: u16) -> Vec<Vec<Piece>> {
    if pieces.len() == 1 {
        let token = pieces[0].token;
        return wrap(&pieces[0].text, usize::from(cells)).into_iter().map(|line| vec![piece(line, token)]).collect();
    }
    let mut lines = vec![Vec::new()];
    let mut used = 0;
    // A key and its word stay together.
    for pair in pieces.chunks(2) {
        let wide: usize = pair.iter().map(|p| width(p.text.trim_end())).sum();
        if used > 0 && used + wide > usize::from(cells) {
            lines.push(Vec::new());
            used = 0;
        }
        used += pair.iter().map(|p| width(&p.text)).sum::<usize>();
        lines.last_mut().into_iter().for_each(|line| line.extend(pair.iter().cloned()));
    }
    lines
}

/// An answer within its cells: text, trouble, and the figures under it.
fn reply_lines(view: &View<'_>, reply: &Reply, cells: u16, streams: bool, hidden: bool) -> Vec<Vec<Piece>> {
    let mut lines = Vec::new();
    let room = usize::from(cells).saturating_sub(2);
    if !reply.text.trim().is_empty() {
        let spoken = wrap(&clean(reply.text.trim()), room);
        lines.extend(spoken.into_iter().map(|line| vec![piece(format!("  {line}"), Token::Text)]));
    }
    if let Some(problem) = &reply.problem {
        for (n, line) in wrap(problem, room.saturating_sub(2)).into_iter().enumerate() {
            lines.push(vec![piece(format!("  {} {line}", if n == 0 { "!" } else { " " }), Token::Error)]);
        }
    }
    let notes = if streams { vec![streaming_note(view, reply)] } else { end_notes(view, reply, hidden) };
    for note in notes {
        lines.extend(fold_note(&note, room).into_iter().map(|line| vec![piece(format!("  {line}"), Token::Muted)]));
    }
    lines
}

/// A note over as many lines as it needs. Two spaces stand between its figures, and a figure keeps its unit.
fn fold_note(note: &str, cells: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for figure in note.split("  ") {
        match lines.last_mut() {
            Some(line) if width(line) + 2 + width(figure) <= cells => line.push_str(&format!("  {figure}")),
            _ => lines.extend(wrap(figure, cells)),
        }
    }
    lines
}

fn streaming_note(view: &View<'_>, reply: &Reply) -> String {
    let key = if reply.tokens == 0 { "chat.waiting" } else { "chat.streaming" };
    view.fill(key, &[("n", &reply.tokens.to_string())])
}

/// What stands under an answer that ended: speed, tokens, cost, why it ended. Speed and cost would tell who it was.
fn end_notes(view: &View<'_>, reply: &Reply, hidden: bool) -> Vec<String> {
    let Some(end) = &reply.end else {
        return if reply.stopped { vec![view.t("chat.stopped").to_owned()] } else { Vec::new() };
    };
    if hidden {
        return vec![view.fill("chat.note_hidden", &[("n", &end.completion_tokens.to_string())])];
    }
    let after_first = f64::from(end.total_ms.saturating_sub(end.first_token_ms)).max(1.0) / 1000.0;
    let rate = end.completion_tokens.saturating_sub(1) as f64 / after_first;
    let mut note = view.fill(
        "chat.note",
        &[
            ("n", &end.completion_tokens.to_string()),
            ("first", &format!("{:.2}", f64::from(end.first_token_ms) / 1000.0)),
            ("total", &format!("{:.1}", f64::from(end.total_ms) / 1000.0)),
            ("rate", &format!("{rate:.0}")),
        ],
    );
    if end.finish == "length" {
        note = format!("{note}  {}", view.t("chat.cut_off"));
    }
    let prompt = [("n", grouped(end.prompt_tokens)), ("cached", grouped(end.cached_tokens))];
    let mut paid = view.fill("chat.note_prompt", &prompt.each_ref().map(|(k, v)| (*k, v.as_str())));
    if end.amount.0 != 0 {
        let currency = view.mirror.facts().map_or("", |facts| facts.currency.as_str());
        paid = format!("{paid}  {} {currency}", end.amount.rounded());
    }
    vec![note, paid]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_beside_each_other_only_where_each_can_be_read() {
        assert_eq!((beside(4, 77), beside(4, 97), beside(4, 140)), (2, 3, 4));
        assert_eq!((beside(1, 20), beside(3, 20), beside(2, 64)), (1, 1, 2));
    }

    #[test]
    fn a_key_and_its_word_are_never_on_two_lines() {
        let pieces: Vec<Piece> =
            (1..=4).flat_map(|n| [piece(format!("{n} "), Token::Accent), piece("better   ", Token::Text)]).collect();
        let lines = fold(pieces, 20);
        assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4]);
        assert_eq!(fold_note("40 tok  first 0.06 s  46 tok/s", 22), ["40 tok  first 0.06 s", "46 tok/s"]);
        assert_eq!(fold(vec![piece("one two three", Token::Ok)], 7).len(), 2);
    }
}
