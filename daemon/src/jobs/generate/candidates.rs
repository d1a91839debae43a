//! The candidates of a generation, by what was answered so far. The same answers in the same order make the same rows, so an attempt
//! goes on from what earlier ones kept. Never here: asking, files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hone_protocol::batch::BatchRow;
use hone_protocol::dataset::{ChatMessage, Shape};
use hone_protocol::failure::Failure;
use hone_protocol::generation::{GENERATED_MAX, GenerateMethod, GenerateSpec, RejectedCandidate};
use hone_protocol::id::LedgerId;
use hone_protocol::standard::{CheckFault, StandardRecord};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::prompts::{self, Question};
use crate::standards::similar::Likeness;
use crate::standards::{Checker, prompt_of};

/// Seeds that a new prompt is made in the manner of: as Self-Instruct has it, six of people and two of its own.
const SEEDS_OF_PEOPLE: usize = 6;
const SEEDS_OF_ITS_OWN: usize = 2;
/// Candidates that may be tried for each row that is wanted.
const TRIES: u64 = 4;

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// To write the candidate, or its prompt.
    Write,
    /// To answer its prompt.
    Answer,
    /// To judge it.
    Judge,
}

impl Stage {
    /// The name of a request of this stage.
    pub(super) fn mark(self, candidate: u64) -> String {
        let stage = match self {
            Stage::Write => 'w',
            Stage::Answer => 'a',
            Stage::Judge => 'j',
        };
        format!("{stage}{candidate}")
    }

    fn of(mark: &str) -> Option<(Stage, u64)> {
        let number = mark.get(1..)?.parse().ok()?;
        match mark.get(..1)? {
            "w" => Some((Stage::Write, number)),
            "a" => Some((Stage::Answer, number)),
            "j" => Some((Stage::Judge, number)),
            _ => None,
        }
    }
}

/// Where a seed comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Seed {
    /// A row of the source.
    RowId(u64),
    /// A piece of a row of the source, from 0.
    Piece(u64, u32),
    /// An example of the standard, from 1.
    Example(u32),
    /// A candidate that became a row.
    Candidate(u64),
}

/// What is kept of an answered request: all that the row needs to tell where it came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The answer.
    pub(super) text: String,
    /// What the candidate was made of; only where it was written.
    pub(super) seeds: Vec<Seed>,
    /// What was sent.
    pub(super) sent: Vec<ChatMessage>,
}

/// One thing to begin with.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Source {
    pub(super) seed: Seed,
    pub(super) messages: Vec<ChatMessage>,
}

/// A request that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    pub(super) stage: Stage,
    pub(super) candidate: u64,
    pub(super) seeds: Vec<Seed>,
    pub(super) question: Question,
}

/// A candidate on its way.
#[derive(Debug, Clone, PartialEq, Default)]
struct Candidate {
    seeds: Vec<Seed>,
    row: Vec<ChatMessage>,
    /// What was sent for it, request by request; judgements are left out.
    sent: Vec<Vec<ChatMessage>>,
    versions: BTreeSet<String>,
    requests: Vec<LedgerId>,
    percent: Option<f64>,
    /// The request that it waits for; none while that is under way.
    due: Option<Stage>,
}

/// A row that is made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Made {
    pub(super) number: u64,
    candidate: Candidate,
}

/// All candidates.
pub(super) struct Candidates<'s> {
    spec: &'s GenerateSpec,
    standard: &'s StandardRecord,
    sources: &'s [Source],
    checker: Checker,
    /// Prompts, or texts, of seeds and of what was written.
    likeness: Likeness,
    likened: Vec<String>,
    open: BTreeMap<u64, Candidate>,
    due: VecDeque<(Stage, u64)>,
    next: u64,
    /// Candidates that something was answered for, by this attempt or one before.
    seen: BTreeSet<u64>,
    /// Number of the next request.
    pub(super) next_row: u64,
    pub(super) made: Vec<Made>,
    pub(super) rejected: Vec<RejectedCandidate>,
    pub(super) requests: u64,
    pub(super) tokens: u64,
}

impl<'s> Candidates<'s> {
    pub(super) fn new(
        spec: &'s GenerateSpec,
        standard: &'s StandardRecord,
        sources: &'s [Source],
    ) -> Result<Candidates<'s>, Failure> {
        let mut candidates = Candidates {
            spec,
            standard,
            sources,
            checker: Checker::new(&standard.spec)?,
            likeness: Likeness::default(),
            likened: Vec::new(),
            open: BTreeMap::new(),
            due: VecDeque::new(),
            next: 0,
            seen: BTreeSet::new(),
            next_row: 0,
            made: Vec::new(),
            rejected: Vec::new(),
            requests: 0,
            tokens: 0,
        };
        if candidates.cuts() {
            for source in sources {
                candidates.liken(&source.messages, &name_of(&source.seed));
            }
        }
        Ok(candidates)
    }

    /// Whether candidates are compared: what answers given prompts or translates has the prompts of its source.
    fn cuts(&self) -> bool {
        let compares = !matches!(self.spec.method, GenerateMethod::Answers | GenerateMethod::Translate { .. });
        compares && self.spec.similarity_max_percent < 100
    }

    fn liken(&mut self, row: &[ChatMessage], name: &str) {
        self.likeness.add(&compared(&self.standard.spec.shape, row));
        self.likened.push(name.to_owned());
    }

    /// Rows that are wanted.
    pub(super) fn wanted(&self) -> u64 {
        match self.spec.count {
            0 => (self.sources.len() as u64).min(u64::from(GENERATED_MAX)),
            count => u64::from(count),
        }
    }

    /// Candidates that may be tried.
    fn tries(&self) -> u64 {
        match self.spec.method {
            GenerateMethod::Answers | GenerateMethod::Translate { .. } => self.wanted().min(self.sources.len() as u64),
            _ if self.spec.count == 0 => self.wanted(),
            _ => self.wanted() * TRIES,
        }
    }

    /// Whether all rows are there.
    pub(super) fn is_complete(&self) -> bool {
        self.made.len() as u64 >= self.wanted()
    }

    /// The next requests, at most so many: first those that candidates on their way wait for. None when nothing is left to try.
    pub(super) fn next(&mut self, most: usize) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        while wanted.len() < most && !self.is_complete() {
            let Some((stage, number)) = self.due.pop_front() else { break };
            let waits = self.open.get_mut(&number).filter(|candidate| candidate.due == Some(stage));
            let Some(candidate) = waits else { continue };
            candidate.due = None;
            let question = match stage {
                Stage::Judge => prompts::judge(&self.standard.spec, &candidate.row),
                _ => prompts::answer(&self.standard.spec, &candidate.row),
            };
            wanted.push(Wanted { stage, candidate: number, seeds: Vec::new(), question });
        }
        let mut missing = self.wanted().saturating_sub((self.made.len() + self.open.len()) as u64);
        while wanted.len() < most && missing > 0 && self.next < self.tries() {
            if !self.seen.contains(&self.next) {
                wanted.push(self.begin(self.next));
                missing -= 1;
            }
            self.next += 1;
        }
        wanted
    }

    /// The first request of a candidate.
    fn begin(&mut self, number: u64) -> Wanted {
        let standard = &self.standard.spec;
        let source = self.sources.get((number % (self.sources.len() as u64).max(1)) as usize);
        let (seed, messages) = source.map_or((Vec::new(), Vec::new()), |s| (vec![s.seed.clone()], s.messages.clone()));
        let whole = || messages.iter().map(|m| m.content.as_str()).collect::<Vec<_>>().join("\n");
        let (stage, seeds, question) = match &self.spec.method {
            GenerateMethod::SelfInstruct => {
                let (seeds, texts) = self.few(number);
                (Stage::Write, seeds, prompts::invent(standard, &texts))
            }
            GenerateMethod::Paraphrase if standard.shape == Shape::Text => {
                (Stage::Write, seed, prompts::paraphrase(standard, &whole()))
            }
            GenerateMethod::Paraphrase => {
                let last = messages.iter().rfind(|message| message.role == "user");
                let said = last.map_or("", |message| message.content.as_str());
                (Stage::Write, seed, prompts::paraphrase(standard, said))
            }
            GenerateMethod::Documents { .. } => (Stage::Write, seed, prompts::out_of(standard, &whole())),
            GenerateMethod::Translate { language } => (Stage::Write, seed, prompts::translate(&messages, language)),
            GenerateMethod::Answers => (Stage::Answer, seed, prompts::answer(standard, &messages)),
        };
        let row = if stage == Stage::Answer { messages } else { Vec::new() };
        self.open.insert(number, Candidate { row, seeds: seeds.clone(), ..Candidate::default() });
        Wanted { stage, candidate: number, seeds, question }
    }

    /// Seeds of a new prompt, chosen by the job's seed and the candidate's number.
    fn few(&self, number: u64) -> (Vec<Seed>, Vec<String>) {
        let mut state = self.spec.seed ^ number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut below = |most: usize| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) % most.max(1) as u64) as usize
        };
        let mut places: Vec<usize> = (0..self.sources.len()).collect();
        let (mut seeds, mut texts) = (Vec::new(), Vec::new());
        while seeds.len() < SEEDS_OF_PEOPLE && !places.is_empty() {
            let source = &self.sources[places.swap_remove(below(places.len()))];
            seeds.push(source.seed.clone());
            texts.push(compared(&self.standard.spec.shape, &source.messages));
        }
        for _ in 0..SEEDS_OF_ITS_OWN.min(self.made.len()) {
            let made = &self.made[below(self.made.len())];
            if !seeds.contains(&Seed::Candidate(made.number)) {
                seeds.push(Seed::Candidate(made.number));
                texts.push(compared(&self.standard.spec.shape, &made.candidate.row));
            }
        }
        (seeds, texts)
    }

    /// Takes what became of a request; in the order of their numbers.
    pub(super) fn take(&mut self, done: &BatchRow) {
        self.requests += 1;
        self.tokens += done.prompt_tokens + done.completion_tokens;
        self.next_row = self.next_row.max(done.row + 1);
        let Some((stage, number)) = Stage::of(&done.custom_id) else { return };
        self.seen.insert(number);
        let kept = done
            .answer
            .as_ref()
            .map_err(|failure| CheckFault { check: "request".into(), reason: failure.message_en.clone() });
        let kept = kept.and_then(|text| {
            serde_json::from_str::<Kept>(text)
                .map_err(|error| CheckFault { check: "request".into(), reason: error.to_string() })
        });
        let mut candidate = self.open.remove(&number).unwrap_or_default();
        if !done.version.is_empty() {
            candidate.versions.insert(done.version.clone());
        }
        candidate.requests.extend(done.ledger);
        let grown =
            kept.map_err(|fault| vec![fault]).and_then(|kept| self.grow(stage, &mut candidate, kept, &done.finish));
        if stage == Stage::Write && grown.is_ok() && self.cuts() {
            // At once, so that the next of the same round is compared with it.
            self.liken(&candidate.row, &format!("candidate {number}"));
        }
        match grown {
            Err(faults) => self.reject(number, candidate.row, faults),
            Ok(Some(stage)) => {
                candidate.due = Some(stage);
                self.open.insert(number, candidate);
                self.due.push_back((stage, number));
            }
            Ok(None) if self.is_complete() => {
                let fault = CheckFault { check: "count".into(), reason: "all rows that are wanted are there".into() };
                self.reject(number, candidate.row, vec![fault]);
            }
            Ok(None) => self.made.push(Made { number, candidate }),
        }
    }

    /// What an answer makes of a candidate, and what it needs next; nothing when it is a row.
    fn grow(
        &self,
        stage: Stage,
        candidate: &mut Candidate,
        kept: Kept,
        finish: &str,
    ) -> Result<Option<Stage>, Vec<CheckFault>> {
        let standard = &self.standard.spec;
        let cut = CheckFault { check: "format".into(), reason: "the answer was cut at its longest length".into() };
        if stage != Stage::Judge {
            candidate.sent.push(kept.sent.clone());
            if !kept.seeds.is_empty() {
                candidate.seeds = kept.seeds;
            }
        }
        match stage {
            Stage::Write => {
                let source = candidate.seeds.first().and_then(|seed| self.sources.iter().find(|s| s.seed == *seed));
                let source = source.map_or(&[][..], |source| &source.messages);
                let written = prompts::written(self.spec, standard, source, &kept.text);
                candidate.row = written.map_err(|fault| vec![if finish == "length" { cut } else { fault }])?;
                self.is_new(&candidate.row)?;
                let is_open = candidate.row.last().is_some_and(|message| message.role == "user");
                if is_open && standard.shape != Shape::Prompt {
                    return Ok(Some(Stage::Answer));
                }
                self.checked(candidate)
            }
            Stage::Answer => {
                if candidate.row.is_empty() {
                    // What answers a prompt of the source has no other request before.
                    candidate.row = kept.sent.clone();
                    let own = self.sources.iter().find(|source| candidate.seeds.first() == Some(&source.seed));
                    own.into_iter().for_each(|own| candidate.row.clone_from(&own.messages));
                }
                if finish == "length" {
                    return Err(vec![cut]);
                }
                candidate.row.push(prompts::message("assistant", kept.text));
                self.checked(candidate)
            }
            Stage::Judge => {
                let percent = prompts::points(standard, &kept.text).map_err(|fault| vec![fault])?;
                candidate.percent = Some(percent);
                if percent >= f64::from(self.spec.judge_least_percent) {
                    return Ok(None);
                }
                let reason = format!(
                    "the judge gave {percent:.0} percent of the points; at least {} are wanted",
                    self.spec.judge_least_percent
                );
                Err(vec![CheckFault { check: "judge".into(), reason }])
            }
        }
    }

    fn checked(&self, candidate: &Candidate) -> Result<Option<Stage>, Vec<CheckFault>> {
        let faults = self.checker.faults(&candidate.row);
        match faults.is_empty() {
            false => Err(faults),
            true if self.spec.judge.is_empty() => Ok(None),
            true => Ok(Some(Stage::Judge)),
        }
    }

    /// Refuses what is too like a seed or an earlier row.
    fn is_new(&self, row: &[ChatMessage]) -> Result<(), Vec<CheckFault>> {
        let most = self.spec.similarity_max_percent;
        let text = compared(&self.standard.spec.shape, row);
        match self.likeness.nearest(&text, f64::from(most)).filter(|_| self.cuts()) {
            None => Ok(()),
            Some((percent, at)) => {
                let name = &self.likened[at];
                let reason = format!("it is {percent:.0} percent like {name}; at most {most} is allowed");
                Err(vec![CheckFault { check: "similarity".into(), reason }])
            }
        }
    }

    fn reject(&mut self, number: u64, messages: Vec<ChatMessage>, faults: Vec<CheckFault>) {
        self.rejected.push(RejectedCandidate { number, messages, faults });
    }

    /// Lets go what is under way, because no more may be asked.
    pub(super) fn close(&mut self, why: &str) {
        for (number, candidate) in std::mem::take(&mut self.open) {
            let fault = CheckFault { check: "ceiling".into(), reason: why.to_owned() };
            self.reject(number, candidate.row, vec![fault]);
        }
    }

    /// The line of a row, with where it came from.
    pub(super) fn line(&self, made: &Made, source: &str) -> Value {
        let candidate = &made.candidate;
        let seed = |seed: &Seed| match seed {
            Seed::RowId(row_id) => json!({"dataset": source, "row_id": row_id}),
            Seed::Piece(row_id, piece) => json!({"dataset": source, "row_id": row_id, "piece": piece}),
            Seed::Example(number) => json!({"standard": self.standard.reference(), "example": number}),
            Seed::Candidate(number) => json!({"candidate": number}),
        };
        let mut generated = json!({
            "candidate": made.number,
            "standard": self.standard.reference(),
            "method": self.spec.method.word(),
            "service": self.spec.service,
            "versions": candidate.versions,
            "seeds": candidate.seeds.iter().map(seed).collect::<Vec<_>>(),
            "prompts": candidate.sent,
            "requests": candidate.requests,
        });
        if let Some(percent) = candidate.percent {
            generated["judge"] = json!({"service": self.spec.judge, "percent": percent});
        }
        match self.standard.spec.shape {
            Shape::Text => json!({"text": candidate.row.first().map(|m| &m.content), "generated": generated}),
            _ => json!({"messages": candidate.row, "generated": generated}),
        }
    }

    /// Every version that answered for a row.
    pub(super) fn versions(&self) -> Vec<String> {
        let all: BTreeSet<String> = self.made.iter().flat_map(|made| made.candidate.versions.clone()).collect();
        all.into_iter().collect()
    }
}

fn name_of(seed: &Seed) -> String {
    match seed {
        Seed::RowId(row_id) | Seed::Piece(row_id, _) => format!("row {row_id} of the source"),
        Seed::Example(number) => format!("example {number} of the standard"),
        Seed::Candidate(number) => format!("candidate {number}"),
    }
}

/// What is compared of a row: its prompt, or its text.
fn compared(shape: &Shape, row: &[ChatMessage]) -> String {
    match shape {
        Shape::Text => row.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n"),
        _ => prompt_of(row),
    }
}

#[cfg(test)]
#[path = "candidates_tests.rs"]
mod tests;
