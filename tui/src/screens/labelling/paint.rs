//! What a person sees who labels: the row, the answers with their keys, how far it is. Never here: what keys do.

use hone_protocol::dataset::{CHOSEN, ChatMessage, REJECTED, TEXT};
use hone_protocol::labelling::{
    Decision, How, LabelRecord, LabelValue, NextRow, PairAnswer, ProjectSpec, ProjectView, Task, answers,
};
use ratatui::layout::Rect;

use super::answers::{Draft, is_swapped, key_of};
use super::span_paint;
use super::work::Work;
use crate::screens::{Class, View};
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, Piece, piece};
use crate::widgets::number;
use crate::widgets::page::Page;
use crate::widgets::text::{clean, one_line, pad, width, wrap};

/// Cells of the pane beside the row.
const SIDE_CELLS: u16 = 34;
/// Widest text that reads well, in cells.
const READ_CELLS: u16 = 110;
/// Decisions that are shown.
const LAST_SHOWN: usize = 5;
/// Widest column of answers.
const ANSWER_CELLS: usize = 40;

/// Who says a message, in words.
fn role<'v>(view: &View<'v>, message: &ChatMessage) -> String {
    match message.role.as_str() {
        "user" => view.t("role.user").to_owned(),
        "assistant" => view.t("role.assistant").to_owned(),
        "system" => view.t("role.system").to_owned(),
        TEXT => view.t("labelling.text").to_owned(),
        other => other.to_owned(),
    }
}

fn token(message: &ChatMessage) -> Token {
    match message.role.as_str() {
        "assistant" | CHOSEN | REJECTED => Token::Model,
        "user" => Token::User,
        "system" => Token::Muted,
        _ => Token::Text,
    }
}

/// The row as a page.
pub(super) fn row_page(view: &View<'_>, messages: &[ChatMessage]) -> Page {
    let mut page = Page::new();
    for message in messages {
        page.line(vec![piece(role(view, message), Token::Muted)]);
        page.indented(clean(&message.content), token(message), 2).blank();
    }
    page
}

/// A value in a few words.
pub(super) fn said(view: &View<'_>, spec: &ProjectSpec, value: &LabelValue) -> String {
    let shown = |name: &String| spec.task.label(name).map_or(name.clone(), |label| label.shown().to_owned());
    match value {
        LabelValue::Skip => view.t("labelling.skipped").to_owned(),
        LabelValue::Labels(names) if names.is_empty() => view.t("labelling.none").to_owned(),
        LabelValue::Labels(names) => names.iter().map(shown).collect::<Vec<_>>().join(", "),
        LabelValue::Spans(spans) => view.fill("labelling.spans", &[("n", &spans.len().to_string())]),
        LabelValue::Pair { answer, reason, is_swapped } => {
            let answer = if *is_swapped { answer.swapped() } else { *answer };
            let word = view.t(pair_word(answer));
            if reason.is_empty() { word.to_owned() } else { format!("{word}: {reason}") }
        }
        LabelValue::Ranks(ranks) => {
            let letters = |place: u32| -> String {
                let at = ranks.iter().enumerate().filter(|(_, rank)| **rank == place);
                at.map(|(at, _)| letter(at)).collect::<Vec<_>>().join("=")
            };
            let places = 1..=ranks.len() as u32;
            places.map(letters).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" > ")
        }
        LabelValue::Points(points) => points.to_string(),
        LabelValue::Text(text) => one_line(text),
    }
}

/// The name of an answer.
pub(super) fn letter(at: usize) -> String {
    char::from(b'A' + at.min(25) as u8).to_string()
}

/// Catalogue key of an answer of sides as they stand.
fn pair_word(answer: PairAnswer) -> &'static str {
    match answer {
        PairAnswer::FirstMuch => "pair.a_much",
        PairAnswer::First => "pair.a",
        PairAnswer::Same => "pair.same",
        PairAnswer::Second => "pair.b",
        PairAnswer::SecondMuch => "pair.b_much",
        PairAnswer::BothBad => "pair.both_bad",
    }
}

/// What the six keys of a pair say, as the sides stand.
pub(super) fn sides(view: &View<'_>) -> impl Iterator<Item = String> {
    PairAnswer::ALL.into_iter().map(move |(_, answer)| view.t(pair_word(answer)).to_owned())
}

/// The question of a project.
pub(super) fn question(view: &View<'_>, spec: &ProjectSpec) -> String {
    if !spec.question.is_empty() {
        return one_line(&spec.question);
    }
    view.t(match spec.task {
        Task::Choice { .. } => "ask.choice",
        Task::Several { .. } => "ask.several",
        Task::Span { .. } => "ask.span",
        Task::Pair { .. } => "ask.pair",
        Task::Rank => "ask.rank",
        Task::Rating { .. } => "ask.rating",
        Task::Edit => "ask.edit",
    })
    .to_owned()
}

/// One answer with its key.
struct Choice {
    key: String,
    text: String,
    token: Token,
}

/// The answers that keys give now.
fn choices(
    view: &View<'_>,
    canvas: &Canvas<'_>,
    spec: &ProjectSpec,
    row: &NextRow,
    draft: &Draft,
    is_suggesting: bool,
    before: Option<&LabelValue>,
) -> Vec<Choice> {
    let suggested = row.suggestion.as_ref();
    // The side of a pair is shown after the decision only, so that it does not steer it.
    let shows = !matches!(spec.task, Task::Pair { .. });
    let sure = |value: &LabelValue| {
        let suggestion = suggested.filter(|s| shows && is_suggesting && s.value.key() == value.key())?;
        let percent = suggestion.probability.map_or(String::new(), |sure| format!(" {sure:.2}"));
        Some(format!("  {} {}{percent}", canvas.glyphs.point, view.t("labelling.model")))
    };
    let mark = |value: &LabelValue| before.is_some_and(|before| before.key() == value.key());
    let choice = |index: usize, text: String, value: Option<LabelValue>| {
        let model = value.as_ref().and_then(sure).unwrap_or_default();
        let done = if value.as_ref().is_some_and(mark) { format!("  {}", canvas.glyphs.ok) } else { String::new() };
        let token = if model.is_empty() { Token::Text } else { Token::Model };
        let key = key_of(index).map_or(String::new(), |key| key.to_string());
        Choice { key, text: format!("{text}{model}{done}"), token }
    };
    match (&spec.task, draft) {
        (Task::Choice { labels }, _) => labels
            .iter()
            .enumerate()
            .map(|(at, label)| choice(at, label.shown().to_owned(), Some(LabelValue::Labels(vec![label.name.clone()]))))
            .collect(),
        (Task::Several { labels }, Draft::Several(chosen)) => {
            let suggests = |name: &String| match suggested.filter(|_| is_suggesting).map(|s| &s.value) {
                Some(LabelValue::Labels(names)) => names.contains(name),
                _ => false,
            };
            let one = |(at, label): (usize, &hone_protocol::labelling::LabelName)| {
                let mark = if chosen.contains(&at) { "[x]" } else { "[ ]" };
                let model = if suggests(&label.name) {
                    format!("  {} {}", canvas.glyphs.point, view.t("labelling.model"))
                } else {
                    String::new()
                };
                let token = if chosen.contains(&at) { Token::Accent } else { Token::Text };
                Choice { token, ..choice(at, format!("{mark} {}{model}", label.shown()), None) }
            };
            labels.iter().enumerate().map(one).collect()
        }
        (Task::Span { labels }, _) => {
            labels.iter().enumerate().map(|(at, label)| choice(at, label.shown().to_owned(), None)).collect()
        }
        (Task::Pair { reasons }, Draft::Pair { answer: Some(_), .. }) => {
            reasons.iter().enumerate().map(|(at, reason)| choice(at, reason.clone(), None)).collect()
        }
        (Task::Pair { .. }, _) => {
            let sides = PairAnswer::ALL.map(|(_, side)| side);
            let swapped = is_swapped(spec.seed, row.row.row_id);
            let one = |(at, side): (usize, PairAnswer)| {
                let value = if swapped { side.swapped() } else { side };
                let value = LabelValue::Pair { answer: value, reason: String::new(), is_swapped: swapped };
                choice(at, view.t(pair_word(side)).to_owned(), Some(value))
            };
            sides.into_iter().enumerate().map(one).collect()
        }
        (Task::Rank, Draft::Rank(order)) => {
            let there = answers(row.row.original.as_str(), &row.row.messages).len();
            let one = |at: usize| {
                let place = order.iter().position(|(placed, _)| *placed == at);
                let text = place.map_or(letter(at), |place| {
                    format!("{}  {}", letter(at), view.fill("labelling.place", &[("n", &(place + 1).to_string())]))
                });
                let token = if place.is_some() { Token::Accent } else { Token::Text };
                Choice { token, ..choice(at, text, None) }
            };
            (0..there).map(one).collect()
        }
        (Task::Rating { scale }, _) => (0..*scale as usize)
            .map(|at| {
                let text = match at {
                    0 => view.t("labelling.worst").to_owned(),
                    _ if at + 1 == *scale as usize => view.t("labelling.best").to_owned(),
                    _ => String::new(),
                };
                choice(at, text, Some(LabelValue::Points(at as u32 + 1)))
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The block of answers: rows of pieces that fit into a width.
fn answer_rows(choices: &[Choice], cells: u16) -> Vec<Vec<Piece>> {
    let cells = usize::from(cells).max(8);
    let widest = choices.iter().map(|choice| width(&choice.key) + 1 + width(&choice.text)).max().unwrap_or(0) + 3;
    let column = widest.clamp(8, ANSWER_CELLS).min(cells);
    let columns = (cells / column).max(1);
    let rows = choices.len().div_ceil(columns);
    let mut lines = Vec::new();
    for line in choices.chunks(columns.max(choices.len().div_ceil(rows.max(1)))) {
        let mut pieces = Vec::new();
        for choice in line {
            pieces.push(piece(format!("{} ", choice.key), Token::Accent));
            pieces.push(piece(pad(&choice.text, column.saturating_sub(width(&choice.key) + 1), "…"), choice.token));
        }
        lines.push(pieces);
    }
    lines
}

/// What is drawn below the row.
pub(super) struct Foot {
    lines: Vec<Vec<Piece>>,
}

impl Foot {
    /// The question, the answers with their keys, and what a suggestion says.
    fn of(view: &View<'_>, canvas: &Canvas<'_>, project: &ProjectView, work: &Work, cells: u16) -> Foot {
        let spec = &project.record.spec;
        let mut lines = vec![vec![piece(question(view, spec), Token::Heading)]];
        let Some((row, decision)) = work.shown() else { return Foot { lines } };
        let fresh;
        let draft = match (&work.current, decision) {
            (Some(current), None) => &current.draft,
            _ => {
                fresh = Draft::new(&spec.task, row, decision.map(|decision| &decision.value), false);
                &fresh
            }
        };
        if let (Task::Pair { .. }, Draft::Pair { answer: Some(_), .. }) = (&spec.task, draft) {
            lines[0] = vec![piece(view.t("ask.why"), Token::Heading)];
        }
        let before = decision.map(|decision| &decision.value).or_else(|| draft.before());
        let choices = choices(view, canvas, spec, row, draft, work.is_suggesting, before);
        lines.extend(answer_rows(&choices, cells));
        if let Draft::Spans(spans) = draft {
            lines.push(span_paint::selected(view, spec, row, spans));
        }
        let suggestion = row.suggestion.as_ref().filter(|_| decision.is_none());
        if let Some(suggestion) = suggestion {
            let value = said(view, spec, &suggestion.value);
            let sure = suggestion.probability.map_or(String::new(), |sure| format!(" {sure:.2}"));
            let args = [("value", value.as_str()), ("sure", sure.as_str())];
            let line = match (&spec.task, work.is_suggesting) {
                (Task::Pair { .. }, _) => None,
                (_, false) => Some(piece(view.fill("labelling.model_said", &args), Token::Muted)),
                (Task::Edit, true) => Some(piece(view.fill("labelling.model_writes", &args), Token::Model)),
                (Task::Span { .. }, true) => Some(piece(view.t("labelling.enter_spans"), Token::Muted)),
                (Task::Rank, true) => None,
                (_, true) => Some(piece(view.t("labelling.enter_takes"), Token::Muted)),
            };
            lines.extend(line.map(|line| vec![line]));
        }
        Foot { lines }
    }

    fn rows(&self) -> u16 {
        self.lines.len() as u16 + 1
    }

    fn draw(&self, canvas: &mut Canvas<'_>, area: Rect) {
        canvas.rule(Rect { height: 1, ..area }, area.y, true);
        for (line, y) in self.lines.iter().zip(area.y + 1..area.bottom()) {
            canvas.pieces(area.x + 1, y, area.width.saturating_sub(1), line);
        }
    }
}

/// The head of a row: project, row, what it was.
fn head(view: &View<'_>, project: &ProjectView, work: &Work) -> Vec<Piece> {
    let counts = &project.counts;
    let done = counts.done;
    let share = number::percent(done as f64 / project.record.rows.max(1) as f64);
    let mut pieces = vec![piece(
        format!("{}/{} {share}", number::grouped(done), number::grouped(project.record.rows)),
        Token::Heading,
    )];
    if view.class < Class::M
        && let Some(left) = time_left(view, project, work)
    {
        pieces.push(piece(format!("  {left}"), Token::Muted));
    }
    if let Some((row, decision)) = work.shown() {
        pieces.push(piece(
            format!("   {}", view.fill("labelling.row", &[("n", &row.row.row_id.to_string())])),
            Token::Text,
        ));
        if decision.is_some() {
            pieces.push(piece(format!("  {}", view.t("labelling.decided")), Token::Warn));
        }
    }
    let note = work.current.as_ref().map(|current| one_line(&current.note)).filter(|note| !note.is_empty());
    if let Some(note) = note {
        pieces.push(piece(format!("   {}: {note}", view.t("labelling.note")), Token::Accent));
    }
    if view.waiting > 0 {
        let waits = view.fill("labelling.waits", &[("n", &view.waiting.to_string())]);
        // A decision on its way is no news; one that waits for the daemon is.
        if view.away {
            pieces.push(piece(format!("   {waits}"), Token::Warn));
        }
    }
    pieces
}

/// About how long the rest takes, at the pace of now.
fn time_left(view: &View<'_>, project: &ProjectView, work: &Work) -> Option<String> {
    let left = project.record.rows.saturating_sub(project.counts.done);
    let pace = work.pace().filter(|pace| *pace > 0.0)?;
    let ms = (left as f64 / pace * 60_000.0) as u64;
    Some(view.fill("labelling.left", &[("t", &number::duration(view.language, ms))]))
}

/// What stands beside the row.
fn side(view: &View<'_>, project: &ProjectView, work: &Work) -> Page {
    let spec = &project.record.spec;
    let counts = &project.counts;
    let mut page = Page::new();
    page.heading(view.t("labelling.progress"));
    let rows = project.record.rows;
    page.meter(counts.done as f64 / rows.max(1) as f64, "");
    page.text(
        view.fill(
            "labelling.done_left",
            &[("done", &number::grouped(counts.done)), ("left", &number::grouped(rows.saturating_sub(counts.done)))],
        ),
        Token::Text,
    );
    let own = project.person(view.mirror.person());
    if let Some(pace) = work.pace() {
        page.blank().heading(view.t("labelling.pace"));
        let usual = own.filter(|own| own.done > 20).map(|own| own.done as f64 * 60_000.0 / own.spent_ms.max(1) as f64);
        let now = format!("{pace:.0}");
        page.text(
            match usual {
                Some(usual) => view.fill("labelling.pace_usual", &[("now", &now), ("usual", &format!("{usual:.0}"))]),
                None => view.fill("labelling.pace_now", &[("now", &now)]),
            },
            Token::Text,
        );
        if let Some(left) = time_left(view, project, work) {
            page.text(left, Token::Muted);
        }
    }
    page.blank().heading(view.t("labelling.last"));
    let mut shown = 0;
    for past in work.past.iter().rev().take(LAST_SHOWN) {
        shown += 1;
        page.line(last_line(
            view,
            spec,
            past.decision.row_id,
            &past.decision,
            past.row.suggestion.as_ref().map(|s| s.value.key()),
        ));
    }
    let mine = |label: &&LabelRecord| !work.past.iter().any(|past| past.decision.row_id == label.decision.row_id);
    for label in work.earlier.iter().filter(mine).take(LAST_SHOWN - shown) {
        shown += 1;
        let key = label.as_suggested.filter(|same| *same).map(|_| label.decision.value.key());
        page.line(last_line(view, spec, label.decision.row_id, &label.decision, key));
    }
    if shown == 0 {
        page.text(view.t("labelling.no_last"), Token::Muted);
    }
    if let Some(own) = own {
        page.blank();
        let args = [("flagged", number::grouped(own.flagged)), ("skipped", number::grouped(own.skipped))];
        page.text(view.fill("labelling.set_aside", &[("flagged", &args[0].1), ("skipped", &args[1].1)]), Token::Muted);
        if own.suggested >= 10 {
            let percent = number::percent(own.suggested_same as f64 / own.suggested as f64);
            page.text(view.fill("labelling.model_agrees", &[("percent", &percent)]), Token::Muted);
        }
        if own.repeats >= 10 {
            let percent = number::percent(own.repeats_same as f64 / own.repeats as f64);
            page.text(view.fill("labelling.own_agrees", &[("percent", &percent)]), Token::Muted);
        }
    }
    if !spec.guide.trim().is_empty() {
        page.blank().line(vec![piece(view.t("labelling.guide"), Token::Heading), piece("  ?", Token::Accent)]);
        page.text(clean(spec.guide.trim()), Token::Muted);
    }
    page
}

fn last_line(
    view: &View<'_>,
    spec: &ProjectSpec,
    row_id: u64,
    decision: &Decision,
    suggested: Option<String>,
) -> Vec<Piece> {
    let mut text = said(view, spec, &decision.value);
    let token = if decision.value.is_skip() { Token::Muted } else { Token::Text };
    if !decision.flag.is_empty() {
        text = format!("{} {}", view.t("labelling.flagged"), one_line(&decision.flag));
    }
    let same = suggested.is_some_and(|key| key == decision.value.key()) && !decision.value.is_skip();
    let model = match (decision.how, same) {
        (How::Bulk, _) => format!("  {}", view.t("labelling.bulk")),
        (_, true) => format!("  = {}", view.t("labelling.model")),
        _ => String::new(),
    };
    vec![piece(format!("#{row_id} "), Token::Muted), piece(text, token), piece(model, Token::Muted)]
}

/// Draws the project at work; what is typed now takes the last line of the row's pane.
pub(super) fn draw(canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>, project: &ProjectView, work: &mut Work) {
    let beside = view.class >= Class::M;
    let main = if beside { Rect { width: area.width - SIDE_CELLS - 1, ..area } } else { area };
    if beside {
        canvas.bar(main.right(), area);
        let x = main.right() + 2;
        side(view, project, work).draw_top(canvas, Rect { x, width: area.right().saturating_sub(x), ..area });
    }
    canvas.pieces(main.x + 1, main.y, main.width.saturating_sub(1), &head(view, project, work));
    let foot = Foot::of(view, canvas, project, work, main.width.saturating_sub(2));
    let foot_rows = foot.rows().min(main.height / 2);
    let read_cells = main.width.saturating_sub(2).min(READ_CELLS);
    let body =
        Rect { x: main.x + 1, y: main.y + 2, width: read_cells, height: main.height.saturating_sub(2 + foot_rows) };
    foot.draw(canvas, Rect { y: main.bottom() - foot_rows, height: foot_rows, ..main });
    let Some((row, decision)) = work.shown() else { return };
    let spec = &project.record.spec;
    let mut scroll = work.scroll;
    match &spec.task {
        Task::Span { .. } => {
            let fresh;
            let spans = match (&work.current, decision) {
                (Some(current), None) => match &current.draft {
                    Draft::Spans(spans) => spans,
                    _ => return,
                },
                _ => {
                    fresh = super::spans::SpanDraft::new(row, decision.map(|decision| &decision.value), None);
                    &fresh
                }
            };
            span_paint::draw(canvas, body, view, row, spans, decision.is_none(), &mut scroll);
        }
        Task::Pair { .. } => draw_pair(canvas, body, view, spec, row, &mut scroll),
        Task::Rank => {
            let mut page = row_page(view, &prompt_of(row));
            for (at, answer) in answers(row.row.original.as_str(), &row.row.messages).iter().enumerate() {
                page.line(vec![piece(letter(at), Token::Heading)]);
                page.indented(clean(answer), Token::Model, 2).blank();
            }
            page.draw(canvas, body, &mut scroll);
        }
        Task::Edit => {
            let mut messages = row.row.messages.clone();
            let now = match (decision.map(|d| &d.value), work.current.as_ref().map(|current| &current.draft)) {
                (Some(LabelValue::Text(text)), _) => Some(text.clone()),
                (None, Some(Draft::Edit(text))) => Some(text.clone()),
                _ => None,
            };
            if let (Some(last), Some(now)) = (messages.last_mut(), now) {
                last.content = now;
            }
            row_page(view, &messages).draw(canvas, body, &mut scroll);
        }
        _ => {
            row_page(view, &row.row.messages).draw(canvas, body, &mut scroll);
        }
    }
    work.scroll = scroll;
}

/// The messages before the answers of a pair or of a ranked row.
pub(super) fn prompt_of(row: &NextRow) -> Vec<ChatMessage> {
    let answer = |message: &&ChatMessage| message.role != CHOSEN && message.role != REJECTED;
    let mut prompt: Vec<ChatMessage> = row.row.messages.iter().filter(answer).cloned().collect();
    if prompt.last().is_some_and(|last| last.role == "assistant") {
        prompt.pop();
    }
    prompt
}

/// The two answers beside each other, or below each other where there is no room.
fn draw_pair(
    canvas: &mut Canvas<'_>,
    area: Rect,
    view: &View<'_>,
    spec: &ProjectSpec,
    row: &NextRow,
    scroll: &mut usize,
) {
    let content = |role: &str| row.row.messages.iter().find(|m| m.role == role).map_or("", |m| m.content.as_str());
    let (mut left, mut right) = (content(CHOSEN), content(REJECTED));
    if is_swapped(spec.seed, row.row.row_id) {
        std::mem::swap(&mut left, &mut right);
    }
    let mut prompt = row_page(view, &prompt_of(row));
    if area.width < 60 {
        for (name, text) in [("A", left), ("B", right)] {
            prompt.line(vec![piece(name, Token::Heading)]);
            prompt.indented(clean(text), Token::Model, 2).blank();
        }
        prompt.draw(canvas, area, scroll);
        return;
    }
    let prompt_rows = (prompt.rows(canvas, area.width) as u16).min(area.height / 2);
    prompt.draw_top(canvas, Rect { height: prompt_rows, ..area });
    let below = Rect { y: area.y + prompt_rows, height: area.height - prompt_rows, ..area };
    let middle = below.x + below.width / 2;
    canvas.bar(middle, below);
    let mut most = 0;
    for (name, text, x, end) in
        [("A", left, below.x, middle.saturating_sub(1)), ("B", right, middle + 2, below.right())]
    {
        let mut page = Page::new();
        page.line(vec![piece(name, Token::Heading)]).text(clean(text), Token::Model);
        let column = Rect { x, width: end.saturating_sub(x), ..below };
        let mut own = *scroll;
        page.draw(canvas, column, &mut own);
        most = most.max(own);
    }
    // Both sides move together, as far as the longer one goes.
    *scroll = most;
}

/// The guide as a sheet: what the owner wrote, what the standard says is in its own place, and the keys.
pub(super) fn guide(view: &View<'_>, project: &ProjectView, cells: usize) -> Vec<Piece> {
    let spec = &project.record.spec;
    let mut lines = Vec::new();
    let mut put = |text: &str, token| lines.extend(wrap(text, cells).into_iter().map(|line| piece(line, token)));
    put(&question(view, spec), Token::Heading);
    if spec.guide.trim().is_empty() {
        put(view.t("labelling.no_guide"), Token::Muted);
    } else {
        put(&clean(spec.guide.trim()), Token::Text);
    }
    if let Some(standard) = &spec.standard {
        put(&view.fill("labelling.by_standard", &[("standard", standard)]), Token::Muted);
    }
    put("", Token::Text);
    for label in spec.task.labels() {
        let kept = if label.keep { "" } else { view.t("labelling.not_kept") };
        put(&format!("{}  {kept}", label.shown()), Token::Text);
    }
    put("", Token::Text);
    put(view.t(keys_of(&spec.task)), Token::Muted);
    put(view.t("labelling.keys"), Token::Muted);
    lines
}

/// Catalogue key of what keys do in a kind of task.
fn keys_of(task: &Task) -> &'static str {
    match task {
        Task::Choice { .. } | Task::Rating { .. } => "labelling.keys_one",
        Task::Several { .. } => "labelling.keys_several",
        Task::Span { .. } => "labelling.keys_span",
        Task::Pair { .. } => "labelling.keys_pair",
        Task::Rank => "labelling.keys_rank",
        Task::Edit => "labelling.keys_edit",
    }
}
