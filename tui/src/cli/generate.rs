//! `hone dataset generate` and `rejected`: a service writes rows to a standard. Never here: prompts, asking.

use clap::{Args, ValueEnum};
use hone_protocol::batch::ROWS_AT_ONCE_MAX;
use hone_protocol::catalogue::Language;
use hone_protocol::failure::Failure;
use hone_protocol::generation::{GENERATED_MAX, GenerateEstimate, GenerateMethod, GenerateSpec, RejectedCandidate};
use hone_protocol::job::JobSpec;
use hone_protocol::request::{ROWS_MAX, Request};

use super::context::{Context, answer};
use super::{job, wait};
use crate::print::{self, Outcome};

/// Longest piece of a document where nothing else is typed, in characters.
const CHUNK_CHARS: u32 = 1500;
/// Characters that two pieces share where nothing else is typed.
const OVERLAP_CHARS: u32 = 200;

/// How, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    /// New prompts in the manner of seeds, and answers to them
    SelfInstruct,
    /// The same in other words; the answer stays
    Paraphrase,
    /// Answers to the prompts of a dataset
    Answers,
    /// A question and its answer out of each piece of texts
    Documents,
    /// Rows in another language
    Translate,
}

/// Let a service write rows to a standard, and wait for the version.
///
/// Says first what it may come to, and never asks or uses more than its ceilings. Whoever waits for an answer of the service goes
/// first; each request is answered and paid once, also over a crash. The version is a draft, and its rows are never held out.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone dataset generate tone --service desk --from support-desk --count 50 --name made\n  hone dataset generate tone --service desk --method documents --from manuals --estimate"
)]
pub(super) struct Generate {
    /// The standard: NAME or NAME@NUMBER.
    standard: String,
    /// The service that writes.
    #[arg(long)]
    service: String,
    /// How.
    #[arg(long, value_enum, default_value = "self-instruct")]
    method: Method,
    /// Dataset that it begins with: seeds, prompts, documents or rows [default: good examples of the standard].
    #[arg(long, value_name = "DATASET")]
    from: Option<String>,
    /// Name of the dataset that gets the version [default: STANDARD-made].
    #[arg(long)]
    name: Option<String>,
    /// Rows that are wanted; 0 for one of each row or piece of the source.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=i64::from(GENERATED_MAX)))]
    count: u32,
    /// Same seed, same choice of seeds and tokens.
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// 0 always takes the likeliest token; up to 2.
    #[arg(long, value_name = "T", default_value_t = 0.8)]
    temperature: f32,
    /// Share of the probability to keep.
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    top_p: f32,
    /// Longest answer in tokens.
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_tokens: u32,
    /// Most percent of ROUGE-L to a seed or an earlier row; 100 for any [default: 70; 90 to paraphrase].
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    similarity: Option<u32>,
    /// Service that judges each row by the rubric of the standard.
    #[arg(long, value_name = "SERVICE")]
    judge: Option<String>,
    /// Least percent of the rubric's points.
    #[arg(long, value_name = "PERCENT", default_value_t = 60, value_parser = clap::value_parser!(u32).range(0..=100))]
    judge_least: u32,
    /// No more requests than this; 0 for four times the estimate.
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_requests: u64,
    /// No more tokens than this, prompts and answers; 0 for four times the estimate.
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_total_tokens: u64,
    /// Requests at once; 0 for one less than the service has slots.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=i64::from(ROWS_AT_ONCE_MAX)))]
    at_once: u32,
    /// Longest piece of a document, in characters.
    #[arg(long, value_name = "N", default_value_t = CHUNK_CHARS)]
    chunk_chars: u32,
    /// Characters that two pieces share.
    #[arg(long, value_name = "N", default_value_t = OVERLAP_CHARS)]
    overlap_chars: u32,
    /// Language to translate into, for example French.
    #[arg(long, value_name = "LANGUAGE", default_value = "")]
    into: String,
    /// Only say what it may come to.
    #[arg(long)]
    estimate: bool,
    /// Do not wait; print the job's id.
    #[arg(long)]
    detach: bool,
}

impl Generate {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let (only_estimate, detach) = (self.estimate, self.detach);
        let spec = Box::new(self.spec(context.payer.as_deref()));
        let mut link = context.link()?;
        let estimate = answer!(link.ask(Request::EstimateGenerate { spec: spec.clone() })?, Estimate);
        if only_estimate {
            return match context.json {
                true => print::json(&estimate),
                false => print::out(&(estimate_text(context.language, &estimate) + "\n")),
            };
        }
        print::note(&estimate_text(context.language, &estimate));
        let spec = JobSpec::Generate(spec);
        let Some((view, _)) = wait::submit(context, &mut link, "generate", spec, detach)? else {
            return Ok(());
        };
        if context.json {
            return print::json(&view);
        }
        print::out(&job::details(context.language, &view))?;
        context.say("cli.generated", &[("job", &view.record.id.short())]);
        Ok(())
    }

    fn spec(self, payer: Option<&str>) -> GenerateSpec {
        let (method, similarity) = match self.method {
            Method::SelfInstruct => (GenerateMethod::SelfInstruct, 70),
            Method::Paraphrase => (GenerateMethod::Paraphrase, 90),
            Method::Answers => (GenerateMethod::Answers, 100),
            Method::Documents => {
                let (chunk_chars, overlap_chars) = (self.chunk_chars, self.overlap_chars);
                (GenerateMethod::Documents { chunk_chars, overlap_chars }, 70)
            }
            Method::Translate => (GenerateMethod::Translate { language: self.into }, 100),
        };
        let name = self.name.unwrap_or_else(|| format!("{}-made", self.standard.split('@').next().unwrap_or_default()));
        GenerateSpec {
            standard: self.standard,
            service: self.service,
            name,
            method,
            source: self.from.unwrap_or_default(),
            count: self.count,
            seed: self.seed,
            temperature: self.temperature,
            top_p: self.top_p,
            tokens_max: self.max_tokens,
            similarity_max_percent: self.similarity.unwrap_or(similarity),
            judge: self.judge.unwrap_or_default(),
            judge_least_percent: self.judge_least,
            requests_max: self.max_requests,
            total_tokens_max: self.max_total_tokens,
            payer: payer.unwrap_or("owner").to_owned(),
            at_once: self.at_once,
        }
    }
}

/// What a generation may come to, in one sentence.
pub(crate) fn estimate_text(language: Language, estimate: &GenerateEstimate) -> String {
    use hone_protocol::catalogue::{fill, text};
    let cost = estimate.cost.map_or_else(|| text(language, "generate.no_price").to_owned(), |cost| cost.rounded());
    let time = match estimate.duration_ms {
        None => text(language, "generate.no_time").to_owned(),
        Some(ms) => print::duration(ms),
    };
    let numbers = [
        estimate.rows,
        estimate.requests,
        estimate.prompt_tokens,
        estimate.completion_tokens,
        estimate.requests_max,
        estimate.total_tokens_max,
    ]
    .map(|number| number.to_string());
    let args = [
        ("rows", &*numbers[0]),
        ("requests", &*numbers[1]),
        ("prompt", &*numbers[2]),
        ("completion", &*numbers[3]),
        ("requests_max", &*numbers[4]),
        ("tokens_max", &*numbers[5]),
        ("cost", &cost),
        ("time", &time),
    ];
    fill(language, "generate.estimate", &args)
}

/// Print the candidates of a generation that did not become rows, with reasons; with --json, one a line.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone dataset rejected last --count 50")]
pub(super) struct Rejected {
    /// A job's id, the end of it, or `last`.
    job: String,
    /// From this candidate on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROWS_MAX)))]
    count: u32,
}

impl Rejected {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let job = context.job(&mut link, &self.job)?;
        let rejected: Result<_, Failure> =
            link.ask(Request::RejectedCandidates { job, from: self.from, count: self.count });
        let candidates = answer!(rejected?, Rejected);
        if context.json {
            return candidates.iter().try_for_each(print::json);
        }
        candidates.iter().try_for_each(|candidate| print::out(&candidate_text(candidate)))
    }
}

fn candidate_text(candidate: &RejectedCandidate) -> String {
    let reasons: Vec<String> =
        candidate.faults.iter().map(|fault| format!("{}: {}", fault.check, fault.reason)).collect();
    let mut text = print::harmless(&format!("#{}  {}", candidate.number, reasons.join("; "))) + "\n";
    for message in &candidate.messages {
        let content = print::harmless(&message.content).replace('\n', "\n             ");
        text.push_str(&format!("  {:<9}  {content}\n", print::harmless(&message.role)));
    }
    text
}

#[cfg(test)]
mod tests {
    use hone_protocol::dataset::ChatMessage;
    use hone_protocol::standard::CheckFault;
    use hone_protocol::value::Pico;

    use super::*;

    #[test]
    fn estimates_and_candidates() {
        let estimate = GenerateEstimate {
            rows: 50,
            requests: 125,
            prompt_tokens: 30_000,
            completion_tokens: 16_000,
            cost: Some(Pico(46_000_000_000)),
            duration_ms: Some(754_000),
            requests_max: 500,
            total_tokens_max: 184_000,
        };
        let bare = GenerateEstimate { cost: None, duration_ms: None, ..estimate.clone() };
        let said = [estimate_text(Language::En, &estimate), estimate_text(Language::Zh, &bare)].join("\n");
        insta::assert_snapshot!("generate-estimate", said);
        let candidate = RejectedCandidate {
            number: 7,
            messages: vec![ChatMessage { role: "user".into(), content: "When do you open?".into() }],
            faults: vec![CheckFault {
                check: "similarity".into(),
                reason: "it is 83 percent like row 0 of the source".into(),
            }],
        };
        insta::assert_snapshot!("generate-rejected", candidate_text(&candidate));
    }
}
