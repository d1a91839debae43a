//! Spans in the making: a cursor that moves by words, a span that grows by characters, suggestions to take or leave. Never here: where
//! words begin (the daemon's child finds that), drawing.

use hone_protocol::labelling::{LabelValue, NextRow, Span};

use super::answers::Said;

/// One span on the table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Marked {
    pub(super) span: Span,
    /// Whether only a service thinks so; it counts for nothing.
    pub(super) is_suggested: bool,
}

/// The spans of a row, the cursor, and what is selected.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SpanDraft {
    /// In the order of the text.
    pub(super) marked: Vec<Marked>,
    /// Message and character that the cursor stands on.
    pub(super) cursor: (usize, u32),
    /// Where a new span was begun.
    pub(super) anchor: Option<(usize, u32)>,
    /// Which of `marked` is selected.
    pub(super) selected: Option<usize>,
}

/// A way to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// To the next word.
    Word,
    /// To the next character.
    Character,
    /// To the next message.
    Message,
}

fn chars_of(row: &NextRow, message: usize) -> u32 {
    row.row.messages.get(message).map_or(0, |message| message.content.chars().count() as u32)
}

/// Where words begin in a message; each character where nobody said it.
fn words_of(row: &NextRow, message: usize) -> Vec<u32> {
    match row.words.get(message) {
        Some(words) if !words.is_empty() => words.clone(),
        _ => (0..chars_of(row, message)).collect(),
    }
}

/// The end of the word at a character: before white space.
fn word_end(row: &NextRow, (message, at): (usize, u32)) -> u32 {
    let next = words_of(row, message).into_iter().find(|begin| *begin > at);
    let end = next.unwrap_or_else(|| chars_of(row, message));
    let text: Vec<char> = row.row.messages.get(message).map_or(Vec::new(), |m| m.content.chars().collect());
    let mut end = end as usize;
    while end > at as usize + 1 && text.get(end - 1).is_some_and(|c| c.is_whitespace()) {
        end -= 1;
    }
    end as u32
}

impl SpanDraft {
    pub(super) fn new(row: &NextRow, before: Option<&LabelValue>, suggested: Option<&LabelValue>) -> SpanDraft {
        let of = |value: Option<&LabelValue>, is_suggested| match value {
            Some(LabelValue::Spans(spans)) => {
                spans.iter().map(|span| Marked { span: span.clone(), is_suggested }).collect()
            }
            _ => Vec::new(),
        };
        let mut marked: Vec<Marked> = if before.is_some() { of(before, false) } else { of(suggested, true) };
        marked.sort_by(|a, b| a.span.cmp(&b.span));
        // Labelling begins in the first message that a person or a model said.
        let first = row.row.messages.iter().position(|message| message.role != "system").unwrap_or(0);
        let begin = words_of(row, first).first().copied().unwrap_or(0);
        SpanDraft { marked, cursor: (first, begin), anchor: None, selected: None }
    }

    /// The spans that count.
    pub(super) fn taken(&self) -> Vec<Span> {
        self.marked.iter().filter(|marked| !marked.is_suggested).map(|marked| marked.span.clone()).collect()
    }

    /// Whether a suggestion waits.
    pub(super) fn has_suggestions(&self) -> bool {
        self.marked.iter().any(|marked| marked.is_suggested)
    }

    /// What a digit would label: from where the span was begun, or the word at the cursor.
    pub(super) fn reach(&self, row: &NextRow) -> (usize, u32, u32) {
        let (message, at) = self.cursor;
        match self.anchor.filter(|(begun, _)| *begun == message) {
            Some((_, begun)) => (message, begun.min(at), word_end(row, (message, begun.max(at)))),
            None => (message, at, word_end(row, self.cursor)),
        }
    }

    /// Moves the cursor.
    pub(super) fn go(&mut self, row: &NextRow, step: Step, forward: bool) {
        self.selected = None;
        let (message, at) = self.cursor;
        let messages = row.row.messages.len();
        let next = match step {
            Step::Message => None,
            Step::Character if forward => Some(at + 1).filter(|at| *at < chars_of(row, message)),
            Step::Character => at.checked_sub(1),
            Step::Word if forward => words_of(row, message).into_iter().find(|begin| *begin > at),
            Step::Word => words_of(row, message).into_iter().rfind(|begin| *begin < at),
        };
        if let Some(next) = next {
            self.cursor = (message, next);
            return;
        }
        let to = if forward { message + 1 } else { message.wrapping_sub(1) };
        if to < messages {
            let words = words_of(row, to);
            let end = if forward || step == Step::Message { words.first() } else { words.last() };
            self.cursor = (to, end.copied().unwrap_or(0));
            self.anchor = None;
        }
    }

    /// Begins a span at the cursor, or gives it up.
    pub(super) fn begin(&mut self) {
        self.selected = None;
        self.anchor = match self.anchor {
            Some(_) => None,
            None => Some(self.cursor),
        };
    }

    /// Selects the next span, suggestions first; behind the last one nothing is selected.
    pub(super) fn next(&mut self, forward: bool) -> Said {
        if self.marked.is_empty() {
            return Said::Nothing;
        }
        self.anchor = None;
        self.selected = match (self.selected, forward) {
            (None, true) => Some(self.marked.iter().position(|marked| marked.is_suggested).unwrap_or(0)),
            (None, false) => Some(self.marked.len() - 1),
            (Some(at), true) => Some(at + 1).filter(|at| *at < self.marked.len()),
            (Some(at), false) => at.checked_sub(1),
        };
        if let Some(at) = self.selected {
            let span = &self.marked[at].span;
            self.cursor = (span.message as usize, span.start);
        }
        Said::Changed
    }

    /// Labels what is selected, or the words that are reached.
    pub(super) fn label(&mut self, row: &NextRow, label: &str) -> Said {
        if let Some(marked) = self.selected.and_then(|at| self.marked.get_mut(at)) {
            marked.span.label = label.to_owned();
            marked.is_suggested = false;
            return Said::Changed;
        }
        let (message, start, end) = self.reach(row);
        if start >= end {
            return Said::Nothing;
        }
        let span = Span { message: message as u32, start, end, label: label.to_owned() };
        self.anchor = None;
        // The same words have one label each time they are marked; other words may lie inside.
        self.marked
            .retain(|marked| (marked.span.message, marked.span.start, marked.span.end) != (span.message, start, end));
        self.marked.push(Marked { span: span.clone(), is_suggested: false });
        self.marked.sort_by(|a, b| a.span.cmp(&b.span));
        self.selected = None;
        let after = words_of(row, message).into_iter().find(|begin| *begin >= end);
        if let Some(after) = after {
            self.cursor = (message, after);
        }
        Said::Changed
    }

    /// Takes the selected suggestion, or all of them, and goes on to the next.
    pub(super) fn accept(&mut self) -> Said {
        match self.selected {
            Some(at) if self.marked[at].is_suggested => {
                self.marked[at].is_suggested = false;
                let next = self.marked.iter().position(|marked| marked.is_suggested);
                self.selected = next;
                if let Some(next) = next {
                    let span = &self.marked[next].span;
                    self.cursor = (span.message as usize, span.start);
                }
                Said::Changed
            }
            None if self.has_suggestions() => {
                self.marked.iter_mut().for_each(|marked| marked.is_suggested = false);
                Said::Changed
            }
            _ => Said::Nothing,
        }
    }

    /// Takes away what is selected, or the span at the cursor.
    pub(super) fn remove(&mut self) -> Said {
        if self.anchor.take().is_some() {
            return Said::Changed;
        }
        let (message, at) = self.cursor;
        let holds = |marked: &Marked| {
            marked.span.message as usize == message && (marked.span.start..marked.span.end).contains(&at)
        };
        let found = self.selected.or_else(|| self.marked.iter().rposition(holds)).or_else(|| {
            // The one that was just made lies behind the cursor.
            let before = |marked: &Marked| marked.span.message as usize == message && marked.span.end <= at;
            self.marked.iter().rposition(before)
        });
        match found {
            Some(found) => {
                self.marked.remove(found);
                self.selected = None;
                Said::Changed
            }
            None => Said::Nothing,
        }
    }

    /// Lets the selected span, else the one before the cursor, grow or shrink by a character at its end.
    pub(super) fn grow(&mut self, row: &NextRow, grows: bool) -> Said {
        let (message, at) = self.cursor;
        let near = |marked: &Marked| marked.span.message as usize == message && marked.span.start <= at;
        let Some(index) = self.selected.or_else(|| self.marked.iter().rposition(near)) else { return Said::Nothing };
        let span = &mut self.marked[index].span;
        let most = chars_of(row, span.message as usize);
        let end = if grows { span.end + 1 } else { span.end - 1 };
        if end <= span.start || end > most {
            return Said::Nothing;
        }
        span.end = end;
        self.marked[index].is_suggested = false;
        self.selected = Some(index);
        Said::Changed
    }
}

#[cfg(test)]
mod tests {
    use hone_protocol::dataset::{ChatMessage, Row};
    use hone_protocol::labelling::Suggestion;
    use hone_protocol::value::{Hash, JsonText};

    use super::*;

    fn row(texts: &[(&str, &[u32])]) -> NextRow {
        let message = |(content, _): &(&str, &[u32])| ChatMessage { role: "user".into(), content: (*content).into() };
        let row = Row {
            row_id: 1,
            messages: texts.iter().map(message).collect(),
            content_sha256: Hash([0; 32]),
            original: JsonText::new("{}"),
        };
        NextRow { row, suggestion: None, words: texts.iter().map(|(_, words)| words.to_vec()).collect() }
    }

    fn spans(draft: &SpanDraft) -> Vec<(u32, u32, String)> {
        draft.taken().into_iter().map(|span| (span.start, span.end, span.label)).collect()
    }

    #[test]
    fn a_chinese_name_and_a_place_are_marked_by_words() {
        // 你好|，|我|叫|王|小明|，|住|在|杭州市|西湖区|。
        let row = row(&[("你好，我叫王小明，住在杭州市西湖区。", &[0, 2, 3, 4, 5, 6, 8, 9, 10, 11, 14, 17])]);
        let mut draft = SpanDraft::new(&row, None, None);
        for _ in 0..4 {
            draft.go(&row, Step::Word, true);
        }
        draft.begin();
        draft.go(&row, Step::Word, true);
        assert_eq!(draft.reach(&row), (0, 5, 8));
        assert_eq!(draft.label(&row, "name"), Said::Changed);
        assert_eq!(draft.cursor, (0, 8));
        for _ in 0..3 {
            draft.go(&row, Step::Word, true);
        }
        draft.begin();
        draft.go(&row, Step::Word, true);
        draft.label(&row, "place");
        assert_eq!(spans(&draft), [(5, 8, "name".into()), (11, 17, "place".into())]);
        assert_eq!(draft.grow(&row, false), Said::Changed);
        assert_eq!(spans(&draft)[1], (11, 16, "place".into()));
        assert_eq!(draft.remove(), Said::Changed);
        assert_eq!(spans(&draft).len(), 1);
    }

    #[test]
    fn english_words_end_before_the_space_and_one_word_is_labelled_by_a_digit_alone() {
        let row = row(&[("My parcel is late", &[0, 3, 10, 13])]);
        let mut draft = SpanDraft::new(&row, None, None);
        draft.go(&row, Step::Word, true);
        draft.label(&row, "thing");
        assert_eq!(spans(&draft), [(3, 9, "thing".into())]);
        draft.go(&row, Step::Word, false);
        draft.go(&row, Step::Character, true);
        assert_eq!(draft.cursor, (0, 4));
    }

    #[test]
    fn suggestions_count_for_nothing_until_they_are_taken() {
        let mut row = row(&[("Ada met Lin", &[0, 4, 8])]);
        let span = |start, end| Span { message: 0, start, end, label: "name".into() };
        let value = LabelValue::Spans(vec![span(8, 11), span(0, 3)]);
        row.suggestion = Some(Suggestion { row_id: 1, value: value.clone(), probability: None, by: "desk".into() });
        let mut draft = SpanDraft::new(&row, None, Some(&value));
        assert!(draft.taken().is_empty() && draft.has_suggestions());
        draft.next(true);
        assert_eq!(draft.accept(), Said::Changed);
        assert_eq!(spans(&draft), [(0, 3, "name".into())]);
        // The next suggestion is selected; another label is one's own word.
        draft.label(&row, "place");
        assert_eq!(spans(&draft)[1], (8, 11, "place".into()));
        let mut all = SpanDraft::new(&row, None, Some(&value));
        assert_eq!(all.accept(), Said::Changed);
        assert_eq!(all.taken().len(), 2);
        let mut one = SpanDraft::new(&row, None, Some(&value));
        one.next(true);
        one.remove();
        assert_eq!(one.marked.len(), 1);
    }
}
