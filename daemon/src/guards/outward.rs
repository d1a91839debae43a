//! Between a worker's words and whoever reads the answer: texts pass guards, and with them the count of tokens, so that what is
//! held back and never delivered is not billed. One text is one channel of one answer, from its first piece to the next channel.
//! Never here: frames, the ledger.

use std::collections::VecDeque;

use hone_protocol::generate::{Channel, Finish, TokenChance};
use hone_protocol::guard::GuardSide;

use super::stream::{self, Bit, Letters, Scanner};
use super::{Hits, Set};
use crate::http::desk::{AnswerStep, Piece};

/// Tokens that one piece tells of at most, so that no more than 64 are ever written beyond what is durably billed.
const PIECE_TOKENS_MAX: u64 = 48;

/// A piece as the worker told it.
struct Chunk {
    /// Bytes of its text's channel up to its end.
    end: usize,
    /// Tokens that it brought.
    tokens: u64,
    /// Log-probabilities, and where the bytes of the first of them begin.
    chances: Vec<TokenChance>,
    chances_from: usize,
}

/// One channel of one answer.
struct Text {
    channel: Channel,
    scanner: Scanner,
    flags: Scanner,
    letters: Option<Letters>,
    flag_letters: Option<Letters>,
    /// What is not released wholly.
    chunks: VecDeque<Chunk>,
    /// Bytes that came.
    came: usize,
    /// Bytes of tokens with log-probabilities that came; never more than `came`.
    told: usize,
    /// Bytes that are decided.
    released: usize,
    /// Where the last masked match ended.
    masked_to: usize,
}

/// One answer of the request.
#[derive(Default)]
struct Choice {
    text: Option<Text>,
    /// Tokens that are released with the next piece.
    due: u64,
    is_ended: bool,
}

/// The guards over all answers of a request.
pub(crate) struct Outward {
    set: Set,
    choices: Vec<Choice>,
    /// Tokens of all answers that the worker told of, and those that were let through.
    seen: u64,
    released: u64,
    is_json: bool,
    /// What was found.
    pub(crate) hits: Hits,
}

/// What is let through of a text.
#[derive(Default)]
struct Out {
    pieces: Vec<Piece>,
    is_refused: bool,
}

impl Outward {
    /// Guards over so many answers, whose texts are JSON or not.
    pub(crate) fn new(set: Set, choices: usize, is_json: bool) -> Outward {
        let choices = (0..choices).map(|_| Choice::default()).collect();
        Outward { set, choices, seen: 0, released: 0, is_json, hits: Hits::default() }
    }

    /// Takes a step of an answer; gives the steps that may be told now. The number of an answer that a guard has ended comes with
    /// them: nothing more is wanted of it.
    pub(crate) fn take(&mut self, step: AnswerStep, steps: &mut VecDeque<AnswerStep>) -> Option<u32> {
        match step {
            AnswerStep::Piece(piece) => self.piece(piece, steps),
            AnswerStep::Ended { choice, finish, tokens, end } => {
                let fresh = tokens.saturating_sub(self.seen);
                self.seen = self.seen.max(tokens);
                if self.choices[choice as usize].is_ended {
                    return None;
                }
                if self.flush(choice, steps) {
                    return None;
                }
                self.choices[choice as usize].is_ended = true;
                self.released += std::mem::take(&mut self.choices[choice as usize].due) + fresh;
                let end = end.into_iter().filter_map(|chance| self.shown(chance)).collect();
                steps.push_back(AnswerStep::Ended { choice, finish, tokens: self.released, end });
                None
            }
            other => {
                steps.push_back(other);
                None
            }
        }
    }

    fn piece(&mut self, piece: Piece, steps: &mut VecDeque<AnswerStep>) -> Option<u32> {
        let fresh = piece.tokens.saturating_sub(self.seen);
        self.seen = self.seen.max(piece.tokens);
        let at = piece.choice as usize;
        if self.choices[at].is_ended {
            return None;
        }
        let is_other = self.choices[at].text.as_ref().is_some_and(|text| text.channel != piece.channel);
        if is_other && self.flush(piece.choice, steps) {
            return Some(piece.choice);
        }
        if let Channel::Call { .. } = piece.channel {
            self.choices[at].due += fresh;
            let tokens = self.pay(at);
            steps.push_back(AnswerStep::Piece(Piece { tokens, ..piece }));
            return None;
        }
        let is_json =
            matches!(piece.channel, Channel::Arguments { .. }) || (self.is_json && piece.channel == Channel::Text);
        let set = &self.set;
        let text = self.choices[at].text.get_or_insert_with(|| Text {
            channel: piece.channel.clone(),
            scanner: Scanner::new(set.stops.clone()),
            flags: Scanner::new(set.flags.clone()),
            letters: is_json.then(Letters::default),
            flag_letters: is_json.then(Letters::default),
            chunks: VecDeque::new(),
            came: 0,
            told: 0,
            released: 0,
            masked_to: 0,
        });
        text.came += piece.text.len();
        let bytes: usize = piece.chances.iter().map(|chance| chance.bytes.0.len()).sum();
        text.chunks.push_back(Chunk { end: text.came, tokens: fresh, chances: piece.chances, chances_from: text.told });
        text.told = (text.told + bytes).min(text.came);
        let ended = self.look(piece.choice, &piece.text, false, steps);
        ended.then_some(piece.choice)
    }

    /// Ends the text that is open; true when a guard ended the answer by it.
    fn flush(&mut self, choice: u32, steps: &mut VecDeque<AnswerStep>) -> bool {
        if self.choices[choice as usize].text.is_none() {
            return false;
        }
        let ended = self.look(choice, "", true, steps);
        self.choices[choice as usize].text = None;
        ended
    }

    /// Looks at more of a text and lets through what is decided.
    fn look(&mut self, choice: u32, more: &str, is_last: bool, steps: &mut VecDeque<AnswerStep>) -> bool {
        let at = choice as usize;
        let Some(mut text) = self.choices[at].text.take() else { return false };
        for guard in text.flagged(more, is_last) {
            self.hits.add(&self.set.flags[guard], GuardSide::Output);
        }
        let bits = text.decided(more, is_last);
        let mut out = Out::default();
        let mut said = String::new();
        for (bit, bytes) in bits {
            match bit {
                Bit::Plain(plain) => self.let_through(choice, &mut text, &plain, bytes, (&mut said, &mut out)),
                Bit::Mask { mask, guard, .. } => {
                    self.hits.add(&self.set.stops[guard], GuardSide::Output);
                    text.masked_to = text.released + bytes;
                    self.let_through(choice, &mut text, "", bytes, (&mut said, &mut out));
                    // After what it stands for, so that the tokens of all of that are due with it.
                    said.push_str(mask);
                }
                Bit::Refused(guard) => {
                    self.hits.add(&self.set.stops[guard], GuardSide::Output);
                    out.is_refused = true;
                }
                Bit::Flag(_) => {}
            }
        }
        let rest = std::mem::take(&mut said);
        self.say(choice, &text.channel, rest, Vec::new(), &mut out);
        steps.extend(out.pieces.into_iter().map(AnswerStep::Piece));
        if out.is_refused {
            self.choices[at].is_ended = true;
            let (finish, tokens) = (Finish::Filtered, self.released);
            steps.push_back(AnswerStep::Ended { choice, finish, tokens, end: Vec::new() });
        }
        self.choices[at].text = Some(text);
        out.is_refused
    }

    /// Lets so many bytes of what came through, which are `plain` or a mask that is said already: piece by piece as they came, so
    /// that no piece tells of more tokens than it did.
    fn let_through(
        &mut self,
        choice: u32,
        text: &mut Text,
        mut plain: &str,
        mut bytes: usize,
        (said, out): (&mut String, &mut Out),
    ) {
        let is_plain = plain.len() == bytes;
        while let Some(chunk) = text.chunks.front() {
            let here = chunk.end.saturating_sub(text.released);
            if here > bytes {
                break;
            }
            if is_plain {
                let (now, later) = plain.split_at(here);
                said.push_str(now);
                plain = later;
            }
            text.released += here;
            bytes -= here;
            let Some(chunk) = text.chunks.pop_front() else { break };
            self.choices[choice as usize].due += chunk.tokens;
            // Of a token that a mask covers in part, nothing is told.
            let covered = text.masked_to > chunk.chances_from;
            let chances = if covered { Vec::new() } else { chunk.chances };
            let chances = chances.into_iter().filter_map(|chance| self.shown(chance)).collect();
            self.say(choice, &text.channel, std::mem::take(said), chances, out);
        }
        said.push_str(plain);
        text.released += bytes;
    }

    /// Says a text with the tokens that are due, in several pieces where they are many.
    fn say(&mut self, choice: u32, channel: &Channel, text: String, chances: Vec<TokenChance>, out: &mut Out) {
        if text.is_empty() {
            // Log-probabilities without a text have nowhere to stand.
            return;
        }
        let due = self.choices[choice as usize].due;
        let parts = due.div_ceil(PIECE_TOKENS_MAX).clamp(1, text.chars().count() as u64) as usize;
        let mut rest = text.as_str();
        let mut chances = Some(chances);
        for left in (1..=parts).rev() {
            let cut = if left == 1 { rest.len() } else { rest.chars().next().map_or(0, char::len_utf8) };
            let (now, later) = rest.split_at(cut);
            rest = later;
            let tokens = self.pay(choice as usize);
            let (channel, text) = (channel.clone(), now.to_owned());
            out.pieces.push(Piece { choice, channel, text, chances: chances.take().unwrap_or_default(), tokens });
        }
    }

    /// Counts what is due of an answer, as much as one piece may tell of; gives the tokens of all answers.
    fn pay(&mut self, choice: usize) -> u64 {
        let now = self.choices[choice].due.min(PIECE_TOKENS_MAX);
        self.choices[choice].due -= now;
        self.released += now;
        self.released
    }

    /// A token without those in its place that a guard would not let out; nothing where it is itself one.
    fn shown(&self, mut chance: TokenChance) -> Option<TokenChance> {
        let passes = |bytes: &[u8]| stream::matches(&self.set.stops, &String::from_utf8_lossy(bytes)).is_empty();
        if self.set.stops.is_empty() {
            return Some(chance);
        }
        chance.top.retain(|(_, bytes, _)| passes(&bytes.0));
        passes(&chance.bytes.0).then_some(chance)
    }
}

impl Text {
    /// What is decided by more of the text, with the bytes of what came that it is of.
    fn decided(&mut self, more: &str, is_last: bool) -> Vec<(Bit, usize)> {
        match &mut self.letters {
            Some(letters) => {
                let meant = letters.read(more, is_last);
                let bits = self.scanner.push(&meant, is_last);
                letters.written(bits)
            }
            None => {
                let bits = self.scanner.push(more, is_last);
                let bytes = |bit: &Bit| match bit {
                    Bit::Plain(text) => text.len(),
                    Bit::Mask { bytes, .. } => *bytes,
                    Bit::Flag(_) | Bit::Refused(_) => 0,
                };
                bits.into_iter().map(|bit| (bytes(&bit), bit)).map(|(bytes, bit)| (bit, bytes)).collect()
            }
        }
    }

    /// The guards that count something in more of the text.
    fn flagged(&mut self, more: &str, is_last: bool) -> Vec<usize> {
        let bits = match &mut self.flag_letters {
            Some(letters) => {
                let meant = letters.read(more, is_last);
                let bits = self.flags.push(&meant, is_last);
                drop(letters.written(bits.clone()));
                bits
            }
            None => self.flags.push(more, is_last),
        };
        let flag = |bit: Bit| if let Bit::Flag(guard) = bit { Some(guard) } else { None };
        bits.into_iter().filter_map(flag).collect()
    }
}
