//! What a generation may come to, before it begins, and its ceilings. Bytes stand for tokens, so it is an estimate; the ceilings are
//! not. Never here: counting what was used.

use hone_protocol::application::{LedgerRow, Outcome, amount};
use hone_protocol::dataset::Row;
use hone_protocol::failure::Failure;
use hone_protocol::generation::{GENERATE_REQUESTS_MAX, GENERATED_MAX, GenerateEstimate, GenerateMethod, GenerateSpec};
use hone_protocol::standard::StandardSpec;
use hone_protocol::value::Pico;

use crate::dispatcher::ledger_prefix;
use crate::state::State;
use crate::store::{Store, Table, after, codec};

/// Rows of the source that its length is taken from.
pub(crate) const SAMPLE_ROWS: u32 = 64;
/// A ceiling that nobody set, in times of the estimate.
const CEILING_TIMES: u64 = 4;
/// Bytes of text for a token, as English has it.
const BYTES_PER_TOKEN: u64 = 4;
/// What stands around a source row in a prompt, in bytes.
const AROUND_BYTES: u64 = 240;
/// Rows of the ledger that say how fast a service is.
const PACE_ROWS: usize = 200;

/// Mean bytes of the messages of some rows.
fn mean_bytes(rows: &[Row]) -> u64 {
    let bytes: usize = rows.iter().flat_map(|row| &row.messages).map(|message| message.content.len()).sum();
    bytes as u64 / (rows.len() as u64).max(1)
}

/// The estimate. `sample` are the first rows of the source, `sources` how many there are.
pub(crate) fn estimate(
    state: &State,
    store: &Store,
    spec: &GenerateSpec,
    standard: &StandardSpec,
    sample: &[Row],
    sources: u64,
) -> Result<GenerateEstimate, Failure> {
    let example_bytes: usize = standard.examples.iter().flat_map(|e| &e.messages).map(|m| m.content.len()).sum();
    let row_bytes = match sample.is_empty() {
        true => example_bytes as u64 / (standard.examples.len() as u64).max(1),
        false => mean_bytes(sample),
    };
    let (row_bytes, things) = match &spec.method {
        GenerateMethod::Documents { chunk_chars, overlap_chars } => {
            let (size, step) = (u64::from(*chunk_chars), u64::from(chunk_chars.saturating_sub(*overlap_chars)).max(1));
            (row_bytes.min(size), sources * row_bytes.div_ceil(step).max(1))
        }
        _ => (row_bytes, if spec.source.is_empty() { standard.examples.len() as u64 } else { sources }),
    };
    let rows = if spec.count == 0 { things.min(u64::from(GENERATED_MAX)) } else { u64::from(spec.count) };
    let (writes, answers, seeds) = match spec.method {
        // Every third prompt is too like another one.
        GenerateMethod::SelfInstruct => (rows * 3 / 2, rows, 6),
        GenerateMethod::Answers => (0, rows, 1),
        _ => (rows, 0, 1),
    };
    let judged = if spec.judge.is_empty() { 0 } else { rows };
    let half = u64::from(spec.tokens_max).div_ceil(2);
    let asked = |requests: u64, bytes: u64| requests * (bytes + AROUND_BYTES).div_ceil(BYTES_PER_TOKEN);
    let about = standard.about.len() as u64;
    let written = asked(writes, about + seeds * row_bytes) + asked(answers, about + row_bytes);
    let judged_tokens = asked(judged, about + 2 * row_bytes);
    let (own, judges) = ((writes + answers) * half, judged * 8 * standard.criteria.len() as u64);
    let service = state.service(&spec.service)?;
    let priced = service.price.input_micros.is_some() || service.price.output_micros.is_some();
    let mut cost = priced.then(|| amount(&service.price, written, 0, own));
    if judged > 0 {
        let price = state.service(&spec.judge)?.price;
        let more = (price.input_micros.is_some() || price.output_micros.is_some())
            .then(|| amount(&price, judged_tokens, 0, judges));
        cost = cost.zip(more).map(|(cost, more)| Pico(cost.0 + more.0));
    }
    let requests = writes + answers + judged;
    let at_once = if spec.at_once == 0 { service.slots.saturating_sub(1).max(1) } else { spec.at_once };
    let (prompt_tokens, completion_tokens) = (written + judged_tokens, own + judges);
    let duration_ms = token_ms(state, store, spec)?.map(|ms| {
        let tokens = completion_tokens as f64 / f64::from(at_once);
        (ms * tokens) as u64
    });
    let ceiling = |said: u64, estimated: u64| if said == 0 { estimated * CEILING_TIMES } else { said };
    Ok(GenerateEstimate {
        rows,
        requests,
        prompt_tokens,
        completion_tokens,
        cost,
        duration_ms,
        requests_max: ceiling(spec.requests_max, requests).clamp(1, GENERATE_REQUESTS_MAX),
        total_tokens_max: ceiling(spec.total_tokens_max, prompt_tokens + completion_tokens).max(1),
    })
}

/// Milliseconds for a token of an answer, as the payer's last requests to the service had it.
fn token_ms(state: &State, store: &Store, spec: &GenerateSpec) -> Result<Option<f64>, Failure> {
    let service = state.service(&spec.service)?.id;
    let prefix = ledger_prefix(state.application(&spec.payer)?.id);
    let unreadable = |error: crate::store::StoreError| {
        Failure::new(hone_protocol::failure::FailureCode::Internal, error.to_string())
    };
    let pairs = store.range(Table::Ledger, &prefix, &after(&prefix), true, PACE_ROWS).map_err(unreadable)?;
    let rows: Vec<LedgerRow> = codec::read_all(Table::Ledger, &pairs).map_err(unreadable)?;
    let mut sum = (0u64, 0u64);
    for row in rows.iter().filter(|row| row.service == service && row.outcome == Outcome::Complete) {
        sum = (sum.0 + row.total_ms.map_or(0, u64::from), sum.1 + row.completion_tokens);
    }
    Ok((sum.0 > 0 && sum.1 > 0).then(|| sum.0 as f64 / sum.1 as f64))
}
