//! The text of a row with its spans: a line of marks below each line of text that has some, with the label written in it. Never here: what
//! keys do (`spans.rs`).

use hone_protocol::labelling::{NextRow, ProjectSpec};
use ratatui::layout::Rect;

use super::spans::{Marked, SpanDraft};
use crate::screens::View;
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, Piece, piece};
use crate::widgets::text::{clean, width};

/// A piece of a line of text: the characters from `start` to `end` of the message.
struct TextLine {
    message: usize,
    start: u32,
    end: u32,
}

/// Cells of one character as it is drawn.
fn cells_of(c: char) -> usize {
    width(&drawn(c))
}

/// How a character is drawn: what a terminal obeys is shown.
fn drawn(c: char) -> String {
    match c {
        '\n' | '\r' => String::new(),
        '\t' => " ".to_owned(),
        c => clean(&c.to_string()),
    }
}

/// Divides a message into lines of at most `cells`, at line ends and, where it can be, before words.
fn lines_of(row: &NextRow, message: usize, cells: usize) -> Vec<TextLine> {
    let chars: Vec<char> = row.row.messages[message].content.chars().collect();
    let words = row.words.get(message).map(Vec::as_slice).unwrap_or_default();
    let mut lines = Vec::new();
    let (mut start, mut used, mut at) = (0, 0, 0);
    while at < chars.len() {
        if chars[at] == '\n' {
            lines.push(TextLine { message, start: start as u32, end: at as u32 });
            (start, used, at) = (at + 1, 0, at + 1);
            continue;
        }
        let wide = cells_of(chars[at]);
        if used + wide > cells && at > start {
            let closes = |begin: &usize| "，。、；：！？）」』”》,.;:!?)".contains(chars[*begin]);
            let border = words.iter().rev().map(|begin| *begin as usize).find(|begin| *begin <= at && !closes(begin));
            let border = border.filter(|border| *border > start).unwrap_or(at);
            lines.push(TextLine { message, start: start as u32, end: border as u32 });
            (start, at) = (border, border);
            used = 0;
            continue;
        }
        used += wide;
        at += 1;
    }
    lines.push(TextLine { message, start: start as u32, end: chars.len() as u32 });
    lines
}

/// One row on the screen.
enum Drawn {
    Role(String),
    Text(TextLine),
    Marks(TextLine, Vec<usize>),
    Blank,
}

/// Draws the messages with their spans. `active` says whether the cursor stands in them.
pub(super) fn draw(
    canvas: &mut Canvas<'_>,
    area: Rect,
    view: &View<'_>,
    row: &NextRow,
    spans: &SpanDraft,
    active: bool,
    scroll: &mut usize,
) {
    let cells = usize::from(area.width).saturating_sub(2).max(4);
    let mut drawn = Vec::new();
    let mut cursor_row = 0;
    for (message, content) in row.row.messages.iter().enumerate() {
        let name = match content.role.as_str() {
            "user" => view.t("role.user").to_owned(),
            "assistant" => view.t("role.assistant").to_owned(),
            "system" => view.t("role.system").to_owned(),
            "text" => view.t("labelling.text").to_owned(),
            other => other.to_owned(),
        };
        drawn.push(Drawn::Role(name));
        for line in lines_of(row, message, cells) {
            if spans.cursor.0 == message && (line.start..=line.end).contains(&spans.cursor.1) {
                cursor_row = drawn.len();
            }
            let lanes = lanes(&spans.marked, &line);
            let again = |line: &TextLine| TextLine { message, start: line.start, end: line.end };
            drawn.push(Drawn::Text(again(&line)));
            drawn.extend(lanes.into_iter().map(|lane| Drawn::Marks(again(&line), lane)));
        }
        drawn.push(Drawn::Blank);
    }
    // The cursor is always in sight.
    let height = usize::from(area.height);
    if active {
        *scroll = (*scroll).clamp((cursor_row + 3).saturating_sub(height), cursor_row.saturating_sub(1));
    }
    *scroll = (*scroll).min(drawn.len().saturating_sub(height));
    for (y, line) in (area.y..area.bottom()).zip(drawn.iter().skip(*scroll)) {
        match line {
            Drawn::Role(name) => drop(canvas.put(area.x, y, area.width, name, Token::Muted)),
            Drawn::Text(line) => draw_text(canvas, (area.x + 2, y), row, spans, line, active),
            Drawn::Marks(line, lane) => draw_marks(canvas, (area.x + 2, y), row, spans, line, lane),
            Drawn::Blank => {}
        }
    }
    let below = drawn.len().saturating_sub(*scroll + height);
    if below > 0 && area.height > 1 {
        let note = format!(" +{below} {}", canvas.glyphs.ellipsis);
        canvas.put_right(area.right(), area.bottom() - 1, area.width, &note, Token::Muted);
    }
}

/// Spans of a line in as few lanes as hold them without touching.
fn lanes(marked: &[Marked], line: &TextLine) -> Vec<Vec<usize>> {
    let mut lanes: Vec<(u32, Vec<usize>)> = Vec::new();
    for (at, one) in marked.iter().enumerate() {
        let span = &one.span;
        if span.message as usize != line.message || span.end <= line.start || span.start >= line.end {
            continue;
        }
        match lanes.iter_mut().find(|(end, _)| *end <= span.start) {
            Some((end, lane)) => {
                *end = span.end;
                lane.push(at);
            }
            None => lanes.push((span.end, vec![at])),
        }
    }
    lanes.into_iter().map(|(_, lane)| lane).collect()
}

fn draw_text(
    canvas: &mut Canvas<'_>,
    (x, y): (u16, u16),
    row: &NextRow,
    spans: &SpanDraft,
    line: &TextLine,
    active: bool,
) {
    let (message, from, to) = spans.reach(row);
    let content: Vec<char> = row.row.messages[line.message].content.chars().collect();
    let mut at = x;
    for position in line.start..line.end {
        let c = content[position as usize];
        let inside = |one: &Marked| {
            one.span.message as usize == line.message && (one.span.start..one.span.end).contains(&position)
        };
        let reached = active && spans.selected.is_none() && line.message == message && (from..to).contains(&position);
        let token = if reached {
            Token::Selected
        } else if spans.marked.iter().any(|one| inside(one) && !one.is_suggested) {
            Token::Accent
        } else {
            Token::Text
        };
        let text = drawn(c);
        at = canvas.put(at, y, width(&text) as u16, &text, token);
        if active && line.message == spans.cursor.0 && position == spans.cursor.1 {
            canvas.cursor_at(at.saturating_sub(width(&text) as u16), y);
        }
    }
}

/// Marks below the text: `~` taken, `=` selected, `^` suggested, each with its label from the left.
fn draw_marks(
    canvas: &mut Canvas<'_>,
    (x, y): (u16, u16),
    row: &NextRow,
    spans: &SpanDraft,
    line: &TextLine,
    lane: &[usize],
) {
    let content: Vec<char> = row.row.messages[line.message].content.chars().collect();
    let cells =
        |from: u32, to: u32| -> usize { content[from as usize..to as usize].iter().map(|c| cells_of(*c)).sum() };
    for at in lane {
        let one = &spans.marked[*at];
        let (start, end) = (one.span.start.max(line.start), one.span.end.min(line.end));
        let (sign, token) = match (spans.selected == Some(*at), one.is_suggested) {
            (true, _) => ('=', Token::Selected),
            (false, true) => ('^', Token::Model),
            (false, false) => ('~', Token::Accent),
        };
        let room = cells(start, end);
        // The label is written where there is room for it and a mark.
        let mut text = if width(&one.span.label) < room { one.span.label.clone() } else { String::new() };
        while width(&text) < room {
            text.push(sign);
        }
        canvas.put(x + cells(line.start, start) as u16, y, room as u16, &text, token);
    }
}

/// What is selected, in a line.
pub(super) fn selected(view: &View<'_>, spec: &ProjectSpec, row: &NextRow, spans: &SpanDraft) -> Vec<Piece> {
    let text = |message: usize, start: u32, end: u32| -> String {
        let content = row.row.messages.get(message).map_or("", |message| message.content.as_str());
        let part = content.chars().skip(start as usize).take((end.saturating_sub(start)) as usize);
        part.map(drawn).collect()
    };
    let taken = spans.taken().len();
    let waiting = spans.marked.len() - taken;
    let mut line = vec![piece(
        view.fill("labelling.span_counts", &[("n", &taken.to_string()), ("m", &waiting.to_string())]),
        Token::Muted,
    )];
    let (message, start, end, label) = match spans.selected.and_then(|at| spans.marked.get(at)) {
        Some(one) => {
            let label =
                spec.task.label(&one.span.label).map_or(one.span.label.clone(), |label| label.shown().to_owned());
            (one.span.message as usize, one.span.start, one.span.end, label)
        }
        None => {
            let (message, start, end) = spans.reach(row);
            (message, start, end, String::new())
        }
    };
    line.push(piece(format!("   {}", text(message, start, end)), Token::Text));
    if !label.is_empty() {
        line.push(piece(format!("  {label}"), Token::Accent));
    }
    line
}

#[cfg(test)]
mod tests {
    use hone_protocol::dataset::{ChatMessage, Row};
    use hone_protocol::labelling::Span;
    use hone_protocol::value::{Hash, JsonText};

    use super::*;

    #[test]
    fn lines_break_before_words_and_keep_every_character() {
        let content = "请把包裹改寄到杭州市西湖区\n谢谢 you all";
        let message = ChatMessage { role: "user".into(), content: content.into() };
        let row =
            Row { row_id: 1, messages: vec![message], content_sha256: Hash([0; 32]), original: JsonText::new("{}") };
        let row = NextRow { row, suggestion: None, words: vec![vec![0, 1, 2, 4, 6, 7, 10, 14, 17, 21]] };
        let lines = lines_of(&row, 0, 9);
        let chars: Vec<char> = content.chars().collect();
        let said: Vec<String> =
            lines.iter().map(|line| chars[line.start as usize..line.end as usize].iter().collect()).collect();
        assert_eq!(said, ["请把包裹", "改寄到", "杭州市", "西湖区", "谢谢 you ", "all"]);
        let span =
            |start, end| Marked { span: Span { message: 0, start, end, label: "x".into() }, is_suggested: false };
        let all = TextLine { message: 0, start: 0, end: 13 };
        assert_eq!(lanes(&[span(0, 4), span(2, 3), span(4, 6), span(14, 16)], &all), [vec![0, 2], vec![1]]);
    }
}
