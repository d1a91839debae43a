//! What keys say of a row: for each kind of task the half-made answer, and what a digit, Enter or Space makes of it. Never here: moving on
//! (`work.rs`), spans (`spans.rs`), drawing.

use hone_protocol::labelling::{LabelValue, NextRow, PairAnswer, RATING_MAX, Task, answers};

use super::spans::SpanDraft;

/// An answer that is being made.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Draft {
    /// One key is the answer.
    One {
        /// What was said before, for a row that is looked at again.
        before: Option<LabelValue>,
    },
    /// Labels that are chosen, by index.
    Several(Vec<usize>),
    /// Spans.
    Spans(SpanDraft),
    /// The answer of a pair that waits for its reason.
    Pair {
        /// What was said before.
        before: Option<LabelValue>,
        /// What is said; the reason follows.
        answer: Option<PairAnswer>,
    },
    /// Answers in the order in which they were put, best first; each with whether it is as good as the one before.
    Rank(Vec<(usize, bool)>),
    /// The text as it is.
    Edit(String),
}

/// What a key came to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// It means nothing here.
    Nothing,
    /// The half-made answer changed.
    Changed,
    /// This is the answer.
    Value(LabelValue),
}

/// Whether the second answer of a row stands on the left: by seed and row, so that it stands there again tomorrow.
pub(super) fn is_swapped(seed: u64, row_id: u64) -> bool {
    // SplitMix64 (Steele, Lea, Flood 2014).
    let mut z = seed.wrapping_add((row_id + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 63 == 1
}

/// The index that a key chooses: digits from 1, 0 for the tenth, then capital letters.
pub(super) fn index_of(key: char) -> Option<usize> {
    match key {
        '1'..='9' => Some(key as usize - '1' as usize),
        '0' => Some(9),
        'A'..='Z' => Some(10 + key as usize - 'A' as usize),
        _ => None,
    }
}

/// The key that chooses an index; none beyond the letters.
pub(super) fn key_of(index: usize) -> Option<char> {
    match index {
        0..=8 => char::from_digit(index as u32 + 1, 10),
        9 => Some('0'),
        10..=35 => Some((b'A' + (index - 10) as u8) as char),
        _ => None,
    }
}

impl Draft {
    /// The answer of a row that nobody has touched, or as it was said before. Where suggestions may be chosen beforehand, what can be
    /// changed begins with them.
    pub(super) fn new(task: &Task, row: &NextRow, before: Option<&LabelValue>, is_suggesting: bool) -> Draft {
        let suggested = row.suggestion.as_ref().filter(|_| is_suggesting).map(|suggestion| &suggestion.value);
        match task {
            Task::Choice { .. } | Task::Rating { .. } => Draft::One { before: before.cloned() },
            Task::Several { labels } => {
                let chosen = match before {
                    Some(LabelValue::Labels(names)) => names.clone(),
                    _ => Vec::new(),
                };
                Draft::Several((0..labels.len()).filter(|at| chosen.contains(&labels[*at].name)).collect())
            }
            Task::Span { .. } => Draft::Spans(SpanDraft::new(row, before, suggested)),
            Task::Pair { .. } => Draft::Pair { before: before.cloned(), answer: None },
            Task::Rank => Draft::Rank(Vec::new()),
            Task::Edit => {
                let last = row.row.messages.last().map_or(String::new(), |message| message.content.clone());
                match (before, suggested) {
                    (Some(LabelValue::Text(text)), _) => Draft::Edit(text.clone()),
                    _ => Draft::Edit(last),
                }
            }
        }
    }

    /// What a digit or capital letter says.
    pub(super) fn choose(&mut self, task: &Task, row: &NextRow, swapped: bool, index: usize) -> Said {
        match (self, task) {
            (Draft::One { .. }, Task::Choice { labels }) => match labels.get(index) {
                Some(label) => Said::Value(LabelValue::Labels(vec![label.name.clone()])),
                None => Said::Nothing,
            },
            (Draft::One { .. }, Task::Rating { scale }) => {
                let points = index as u32 + 1;
                if points <= *scale && points <= RATING_MAX {
                    Said::Value(LabelValue::Points(points))
                } else {
                    Said::Nothing
                }
            }
            (Draft::Several(chosen), Task::Several { labels }) if index < labels.len() => {
                match chosen.iter().position(|at| *at == index) {
                    Some(at) => drop(chosen.remove(at)),
                    None => chosen.push(index),
                }
                Said::Changed
            }
            (Draft::Spans(spans), Task::Span { labels }) => match labels.get(index) {
                Some(label) => spans.label(row, &label.name),
                None => Said::Nothing,
            },
            (Draft::Pair { answer, .. }, Task::Pair { reasons }) => match answer {
                Some(said) => match reasons.get(index) {
                    Some(reason) => Said::Value(pair(*said, reason, swapped)),
                    None => Said::Nothing,
                },
                None => {
                    let Some((_, said)) = PairAnswer::ALL.get(index) else { return Said::Nothing };
                    // Keys are of A and B as they stand; what is stored is of the row.
                    let said = if swapped { said.swapped() } else { *said };
                    if reasons.is_empty() || said == PairAnswer::Same {
                        return Said::Value(pair(said, "", swapped));
                    }
                    *answer = Some(said);
                    Said::Changed
                }
            },
            (Draft::Rank(order), Task::Rank) => {
                let there = answers(row.row.original.as_str(), &row.row.messages).len();
                if index >= there || order.iter().any(|(at, _)| *at == index) {
                    return Said::Nothing;
                }
                let tied = matches!(order.last(), Some((usize::MAX, _))) && order.pop().is_some();
                order.push((index, tied && !order.is_empty()));
                // The last place is what is left.
                if order.len() + 1 == there {
                    let left = (0..there).find(|at| !order.iter().any(|(placed, _)| placed == at));
                    order.extend(left.map(|at| (at, false)));
                }
                if order.len() == there { Said::Value(LabelValue::Ranks(places(order))) } else { Said::Changed }
            }
            _ => Said::Nothing,
        }
    }

    /// Puts the next answer on the same place as the last one.
    pub(super) fn tie(&mut self) -> Said {
        match self {
            Draft::Rank(order) if !order.is_empty() && order.last().is_some_and(|(at, _)| *at != usize::MAX) => {
                order.push((usize::MAX, true));
                Said::Changed
            }
            _ => Said::Nothing,
        }
    }

    /// Takes the last part of a half-made answer away.
    pub(super) fn remove(&mut self) -> Said {
        let went = match self {
            Draft::Several(chosen) => chosen.pop().is_some(),
            Draft::Spans(spans) => return spans.remove(),
            Draft::Rank(order) => order.pop().is_some(),
            Draft::Pair { answer, .. } => answer.take().is_some(),
            Draft::One { .. } | Draft::Edit(_) => false,
        };
        if went { Said::Changed } else { Said::Nothing }
    }

    /// The answer is as it stands: Space, and Enter where nothing is suggested.
    pub(super) fn finish(&self, task: &Task, swapped: bool) -> Said {
        match (self, task) {
            (Draft::Several(chosen), Task::Several { labels }) => {
                let mut chosen = chosen.clone();
                chosen.sort_unstable();
                let names = chosen.into_iter().filter_map(|at| labels.get(at)).map(|label| label.name.clone());
                Said::Value(LabelValue::Labels(names.collect()))
            }
            (Draft::Spans(spans), _) => Said::Value(LabelValue::Spans(spans.taken())),
            (Draft::Pair { answer: Some(answer), .. }, _) => Said::Value(pair(*answer, "", swapped)),
            (Draft::Edit(text), _) if !text.trim().is_empty() => Said::Value(LabelValue::Text(text.clone())),
            _ => Said::Nothing,
        }
    }

    /// What was said of the row before, for the mark beside it.
    pub(super) fn before(&self) -> Option<&LabelValue> {
        match self {
            Draft::One { before } | Draft::Pair { before, .. } => before.as_ref(),
            _ => None,
        }
    }
}

fn pair(answer: PairAnswer, reason: &str, is_swapped: bool) -> LabelValue {
    LabelValue::Pair { answer, reason: reason.to_owned(), is_swapped }
}

/// The place of each answer, from 1.
fn places(order: &[(usize, bool)]) -> Vec<u32> {
    let mut places = vec![1; order.len()];
    let mut place = 0;
    for (at, (answer, tied)) in order.iter().enumerate() {
        if !tied {
            place = at as u32 + 1;
        }
        if let Some(slot) = places.get_mut(*answer) {
            *slot = place.max(1);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use hone_protocol::dataset::{CHOSEN, ChatMessage, REJECTED, Row};
    use hone_protocol::labelling::LabelName;
    use hone_protocol::value::{Hash, JsonText};

    use super::*;

    fn row(turns: &[(&str, &str)], original: &str) -> NextRow {
        let message = |(role, content): &(&str, &str)| ChatMessage { role: (*role).into(), content: (*content).into() };
        let messages = turns.iter().map(message).collect();
        let original = JsonText::new(original);
        let row = Row { row_id: 1, messages, content_sha256: Hash([0; 32]), original };
        NextRow { row, suggestion: None, words: Vec::new() }
    }

    fn labels(names: &[&str]) -> Vec<LabelName> {
        names.iter().map(|name| LabelName { name: (*name).into(), title: String::new(), keep: true }).collect()
    }

    #[test]
    fn one_key_is_an_answer_and_several_are_toggled() {
        let row = row(&[("user", "hi")], "{}");
        let choice = Task::Choice { labels: labels(&["good", "bad"]) };
        let mut draft = Draft::new(&choice, &row, None, true);
        assert_eq!(draft.choose(&choice, &row, false, 1), Said::Value(LabelValue::Labels(vec!["bad".into()])));
        assert_eq!(draft.choose(&choice, &row, false, 2), Said::Nothing);
        let several = Task::Several { labels: labels(&["a", "b", "c"]) };
        let mut draft = Draft::new(&several, &row, None, true);
        for index in [2, 0, 1, 1] {
            assert_eq!(draft.choose(&several, &row, false, index), Said::Changed);
        }
        let said = LabelValue::Labels(vec!["a".into(), "c".into()]);
        assert_eq!(draft.finish(&several, false), Said::Value(said.clone()));
        assert_eq!(Draft::new(&several, &row, Some(&said), true), Draft::Several(vec![0, 2]));
        assert_eq!(
            (0..36).map(|at| key_of(at).and_then(index_of)).collect::<Vec<_>>(),
            (0..36).map(Some).collect::<Vec<_>>()
        );
    }

    #[test]
    fn keys_of_a_pair_are_of_the_sides_and_the_value_is_of_the_row() {
        let row = row(&[("user", "q"), (CHOSEN, "x"), (REJECTED, "y")], "{}");
        let task = Task::Pair { reasons: vec!["fact".into(), "tone".into()] };
        let mut draft = Draft::new(&task, &row, None, true);
        // A stands on the left; it is the row's second answer.
        assert_eq!(draft.choose(&task, &row, true, 0), Said::Changed);
        let said = LabelValue::Pair { answer: PairAnswer::SecondMuch, reason: "tone".into(), is_swapped: true };
        assert_eq!(draft.choose(&task, &row, true, 1), Said::Value(said));
        assert_eq!(draft.remove(), Said::Changed);
        let same = LabelValue::Pair { answer: PairAnswer::Same, reason: String::new(), is_swapped: false };
        assert_eq!(draft.choose(&task, &row, false, 2), Said::Value(same), "what is equal has no reason");
        let both = (0..200).filter(|row| is_swapped(7, *row)).count();
        assert!((60..140).contains(&both), "{both}");
    }

    #[test]
    fn answers_are_put_in_order_best_first_with_ties() {
        let row = row(&[("user", "q")], r#"{"responses":["a","b","c","d"]}"#);
        let mut draft = Draft::new(&Task::Rank, &row, None, true);
        assert_eq!(draft.choose(&Task::Rank, &row, false, 2), Said::Changed);
        assert_eq!(draft.choose(&Task::Rank, &row, false, 2), Said::Nothing);
        assert_eq!(draft.tie(), Said::Changed);
        assert_eq!(draft.tie(), Said::Nothing);
        assert_eq!(draft.choose(&Task::Rank, &row, false, 0), Said::Changed);
        assert_eq!(draft.choose(&Task::Rank, &row, false, 3), Said::Value(LabelValue::Ranks(vec![1, 4, 1, 3])));
    }
}
