//! How the command line writes: tables, sizes, times, failures, and the one progress line. Pure text first, then
//! the two streams. Never here: what is asked of the daemon.

use std::io::{self, IsTerminal, Write};

use hone_protocol::catalogue::{self, Language};
use hone_protocol::convert::Receipt;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::job::{JobView, ShownState};
use hone_protocol::model::HistoryEntry;
use hone_protocol::service::{Price, ServiceState};
use serde::Serialize;
use unicode_width::UnicodeWidthStr;

/// Spaces between two columns.
const GUTTER: usize = 2;

/// How a run of the command line ends early.
#[derive(Debug)]
pub enum End {
    /// It failed; the failure is still to be shown.
    Failed(Box<Failure>),
    /// Everything was said already; the process ends with this status.
    Said(u8),
    /// The reader of our output went away, which is its right: `hone job log X | head`.
    PipeClosed,
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        End::Failed(Box::new(failure))
    }
}

/// What a verb returns.
pub type Outcome = Result<(), End>;

/// Writes data to stdout.
pub fn out(text: &str) -> Outcome {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => End::PipeClosed,
        _ => Failure::new(FailureCode::FileUnreadable, format!("stdout cannot be written: {error}")).into(),
    })
}

/// Writes one JSON document, on one line, to stdout.
pub fn json<T: Serialize>(value: &T) -> Outcome {
    out(&hone_protocol::wire::encode_line(value))
}

/// Writes a sentence to stderr. A closed stderr leaves nobody to tell.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether stdout takes colour: a terminal, and `NO_COLOR` is unset or empty.
pub fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// What a cell's colour says; the text says it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// Well.
    Good,
    /// Under way or waiting.
    Busy,
    /// Not well.
    Bad,
}

/// One cell of a table.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    tone: Tone,
    right: bool,
}

impl Cell {
    /// A cell with a tone.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Cell {
        Cell { text: text.into(), tone, right: false }
    }
    /// A number: set to the right edge.
    pub fn number(text: impl ToString) -> Cell {
        Cell { text: text.to_string(), tone: Tone::Plain, right: true }
    }
    /// What stands in it.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::toned(text, Tone::Plain)
    }
}

/// Rows under a heading, in columns as wide as they need. Nothing is cut: pipes and wide windows get it all.
#[derive(Debug)]
pub struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with the headings of some catalogue keys.
    pub fn new(language: Language, keys: &[&'static str]) -> Table {
        Table { heading: keys.iter().map(|k| catalogue::text(language, k).to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.heading.len(), "a row has as many cells as the heading");
        self.rows.push(cells);
    }

    /// The text, one line per row.
    pub fn render(&self, colour: bool) -> String {
        // A newline inside a cell would break the row; control characters from data must not reach a terminal.
        let clean = |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
        let rows: Vec<Vec<Cell>> = self
            .rows
            .iter()
            .map(|row| row.iter().map(|c| Cell { text: clean(&c.text), ..c.clone() }).collect())
            .collect();
        let widths: Vec<usize> = (0..self.heading.len())
            .map(|i| rows.iter().map(|r| r[i].text.width()).chain([self.heading[i].width()]).max().unwrap_or(0))
            .collect();
        let right = |i: usize| rows.iter().any(|r| r[i].right);
        let heading: Vec<Cell> = self
            .heading
            .iter()
            .enumerate()
            .map(|(i, text)| Cell { text: text.clone(), tone: Tone::Plain, right: right(i) })
            .collect();
        let mut text = String::new();
        let line = render_line(&heading, &widths, false);
        text.push_str(&if colour { format!("\x1b[1m{line}\x1b[0m\n") } else { format!("{line}\n") });
        for row in &rows {
            text.push_str(&render_line(row, &widths, colour));
            text.push('\n');
        }
        text
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

fn render_line(cells: &[Cell], widths: &[usize], colour: bool) -> String {
    let mut line = String::new();
    for (i, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let last = i + 1 == cells.len();
        let pad = " ".repeat(width.saturating_sub(cell.text.width()));
        if cell.right {
            line.push_str(&pad);
        }
        line.push_str(&paint(&cell.text, cell.tone, colour));
        if !last {
            if !cell.right {
                line.push_str(&pad);
            }
            line.push_str(&" ".repeat(GUTTER));
        }
    }
    line.trim_end().to_owned()
}

fn paint(text: &str, tone: Tone, colour: bool) -> String {
    match (colour, tone) {
        (false, _) | (_, Tone::Plain) => text.to_owned(),
        (true, Tone::Good) => format!("\x1b[32m{text}\x1b[39m"),
        (true, Tone::Busy) => format!("\x1b[33m{text}\x1b[39m"),
        (true, Tone::Bad) => format!("\x1b[31m{text}\x1b[39m"),
    }
}

/// Names and values, one pair a line, values in one column.
pub fn pairs(language: Language, pairs: &[(&'static str, String)]) -> String {
    let name = |key: &'static str| catalogue::text(language, key);
    let width = pairs.iter().map(|(key, _)| name(key).width()).max().unwrap_or(0);
    let line = |(key, value): &(&'static str, String)| {
        let pad = " ".repeat(width - name(key).width() + GUTTER);
        let indent = format!("\n{}", " ".repeat(width + GUTTER));
        format!("{}{pad}{}\n", name(key), value.trim_end().replace('\n', &indent))
    };
    pairs.iter().map(line).collect()
}

/// Text from data, for a terminal: control characters other than newline and tab become visible, so that no log
/// line or model answer can move the cursor or change the window's title.
pub fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => {
                char::from_u32(0x2400 + c as u32).filter(|_| (c as u32) < 0x20).unwrap_or('\u{fffd}')
            }
            c => c,
        })
        .collect()
}

/// A size in bytes, in binary units.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A count with `k`, `M` or `B` behind it: for parameters and contexts.
pub fn count(number: u64) -> String {
    match number {
        n if n < 10_000 => n.to_string(),
        n if n < 1_000_000 => format!("{:.0}k", n as f64 / 1e3),
        n if n < 1_000_000_000 => format!("{:.1}M", n as f64 / 1e6),
        n => format!("{:.1}B", n as f64 / 1e9),
    }
}

/// A duration, as two units at most.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 if ms > 0 => format!("{ms} ms"),
        s if s < 60 => format!("{s} s"),
        s if s < 3600 => format!("{} min {:02} s", s / 60, s % 60),
        s if s < 86_400 => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
        s => format!("{} d {:02} h", s / 86_400, s % 86_400 / 3600),
    }
}

/// How long ago a moment was.
pub fn ago(language: Language, at_ms: i64, now_ms: i64) -> String {
    let seconds = (now_ms - at_ms).max(0) / 1000;
    let (number, key) = match seconds {
        s if s < 60 => (s, "cli.ago_s"),
        s if s < 3600 => (s / 60, "cli.ago_min"),
        s if s < 86_400 => (s / 3600, "cli.ago_h"),
        s => (s / 86_400, "cli.ago_d"),
    };
    catalogue::fill(language, key, &[("n", &number.to_string())])
}

/// A moment as `2026-11-23 16:05:12Z`. Days to civil date after Howard Hinnant's `civil_from_days`.
pub fn moment(at_ms: i64) -> String {
    let seconds = at_ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second % 3600 / 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// The clock, Unix milliseconds.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// Micro-units as units, without trailing zeros; a dash when there is no price.
pub fn micros(value: Option<u64>) -> String {
    let Some(value) = value else { return "-".into() };
    let text = format!("{}.{:06}", value / 1_000_000, value % 1_000_000);
    let text = text.trim_end_matches('0');
    text.trim_end_matches('.').to_owned()
}

/// The three prices of a service: input/cached/output.
pub fn price(price: &Price) -> String {
    if *price == Price::default() {
        return "-".into();
    }
    [price.input_micros, price.cached_micros, price.output_micros].map(micros).join("/")
}

/// The state of a job, as a cell.
pub fn job_state(language: Language, state: ShownState) -> Cell {
    let (key, tone) = match state {
        ShownState::Queued => ("state.queued", Tone::Busy),
        ShownState::Running => ("state.running", Tone::Busy),
        ShownState::Paused => ("state.paused", Tone::Busy),
        ShownState::Succeeded => ("state.succeeded", Tone::Good),
        ShownState::Failed => ("state.failed", Tone::Bad),
        ShownState::Cancelled => ("state.cancelled", Tone::Plain),
    };
    Cell::toned(catalogue::text(language, key), tone)
}

/// The state of a service, as a cell.
pub fn service_state(language: Language, state: &ServiceState) -> Cell {
    let (key, tone) = match state {
        ServiceState::Off => ("state.off", Tone::Plain),
        ServiceState::Asleep => ("state.asleep", Tone::Plain),
        ServiceState::Starting => ("state.starting", Tone::Busy),
        ServiceState::On => ("state.on", Tone::Good),
        ServiceState::Waiting { .. } => ("state.waiting", Tone::Bad),
        ServiceState::Failed { .. } => ("state.failed", Tone::Bad),
    };
    Cell::toned(catalogue::text(language, key), tone)
}

/// How far a job is: `training 12/100, 3 min 04 s left`.
pub fn progress(language: Language, view: &JobView) -> String {
    let state = |cell: Cell| cell.text;
    let Some(progress) = &view.progress else {
        let shown = state(job_state(language, view.shown));
        return if view.waits_for.is_empty() { shown } else { format!("{shown}: {}", view.waits_for) };
    };
    // A phase that an older client does not know is shown by its key.
    let phase = catalogue::find(language, &progress.phase).unwrap_or(&progress.phase);
    let mut text = phase.to_owned();
    // These two count bytes; the others count things.
    let in_bytes = matches!(progress.phase.as_str(), "phase.fetch" | "phase.hash" | "phase.merge" | "phase.tokenize");
    let amount = |number: u64| if in_bytes { bytes(number) } else { number.to_string() };
    if progress.total > 0 {
        text.push_str(&format!(" {}/{}", amount(progress.done), amount(progress.total)));
    } else if progress.done > 0 {
        text.push_str(&format!(" {}", amount(progress.done)));
    }
    if let Some(ms) = progress.remaining_ms {
        text.push_str(&catalogue::fill(language, "cli.left", &[("time", &duration(ms))]));
    }
    if let Some(rate) = view.tokens_per_s {
        text.push_str(&catalogue::fill(language, "cli.rate_now", &[("rate", &format!("{rate:.0}"))]));
    }
    if let Some(loss) = view.last_loss {
        text.push_str(&catalogue::fill(language, "cli.loss_now", &[("loss", &format!("{loss:.4}"))]));
    }
    text
}

/// The lines of a failure: what, where, and what to do next.
pub fn failure(language: Language, failure: &Failure) -> String {
    let word = catalogue::find(language, &format!("trouble.{}", code_word(failure.code)));
    let mut text = match (language, word) {
        // English sentences say it all; in Chinese the kind comes first, because the sentence itself is English.
        (Language::Zh, Some(word)) => format!("hone: {word}：{}\n", harmless(&failure.message_en)),
        _ => format!("hone: {}\n", harmless(&failure.message_en)),
    };
    if !failure.place.is_empty() {
        text.push_str(&catalogue::fill(language, "cli.place", &[("place", &harmless(&failure.place))]));
        text.push('\n');
    }
    if let Some(hint) = failure.hint.and_then(|hint| hint_text(language, hint)) {
        text.push_str(&format!("hint: {hint}\n"));
    }
    text
}

/// What a history entry is, in words: the kind of job or act, and how a job stands.
pub(crate) fn history_words(language: Language, entry: &HistoryEntry) -> (String, String) {
    let word = |key: String, own: &str| catalogue::find(language, &key).map_or_else(|| own.to_owned(), str::to_owned);
    let kind = if entry.job.is_some() { "kind" } else { "act_on" };
    let state = entry.state.map_or_else(String::new, |state| {
        let own = word_of(&state);
        word(format!("state.{own}"), &own)
    });
    (word(format!("{kind}.{}", entry.what), &entry.what), state)
}

/// The wire word of a failure code.
pub fn code_word(code: FailureCode) -> String {
    word_of(&code)
}

/// The sentence of a hint.
pub fn hint_text(language: Language, hint: HintCode) -> Option<&'static str> {
    catalogue::find(language, &format!("hint.{}", word_of(&hint)))
}

/// The wire word of a plain enum value.
pub fn word_of<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        // A variant with content: its name is the only key.
        Ok(serde_json::Value::Object(map)) => map.keys().next().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

/// A quality receipt in one sentence.
pub(crate) fn receipt(language: Language, receipt: &Receipt) -> String {
    let args = [
        ("here", format!("{:.3}", receipt.perplexity)),
        ("before", format!("{:.3}", receipt.parent_perplexity)),
        ("kl", format!("{:.4}", receipt.mean_kl)),
        ("same", format!("{:.1} %", 100.0 * receipt.same_greedy)),
        ("tokens", receipt.tokens.to_string()),
        ("rows", receipt.rows.to_string()),
        ("dataset", receipt.dataset.clone()),
    ];
    let args: Vec<(&str, &str)> = args.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let sentence = catalogue::fill(language, "cli.receipt", &args);
    match &receipt.imatrix {
        Some(rows) => catalogue::fill(language, "cli.receipt_imatrix", &[("receipt", &sentence), ("rows", rows)]),
        None => sentence,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_receipt_is_one_sentence_in_both_languages() {
        let receipt = super::Receipt {
            dataset: "desk@1".into(),
            rows: 64,
            tokens: 2048,
            perplexity: 8.1234,
            parent_perplexity: 8.0,
            mean_kl: 0.00456,
            same_greedy: 0.9876,
            imatrix: None,
        };
        let english = "perplexity 8.123 (before 8.000), mean KL 0.0046, same greedy token 98.8 %, over 2048 tokens of 64 rows of desk@1";
        assert_eq!(super::receipt(super::Language::En, &receipt), english);
        let chinese =
            "困惑度 8.123（此前 8.000），平均 KL 0.0046，贪心词元相同 98.8 %，共 desk@1 的 64 行、2048 个词元";
        assert_eq!(super::receipt(super::Language::Zh, &receipt), chinese);
        let receipt = super::Receipt { imatrix: Some("talk@2".into()), ..receipt };
        let rounded = format!("{english}; rounded by the importance matrix of talk@2");
        assert_eq!(super::receipt(super::Language::En, &receipt), rounded);
    }

    use super::*;

    #[test]
    fn moments_are_civil_dates() {
        assert_eq!(moment(0), "1970-01-01 00:00:00Z");
        assert_eq!(moment(951_782_400_000), "2000-02-29 00:00:00Z");
        assert_eq!(moment(1_795_449_912_345), "2026-11-23 16:05:12Z");
        assert_eq!(moment(-1), "1969-12-31 23:59:59Z");
    }

    #[test]
    fn numbers_are_short_and_exact_where_it_matters() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(98_887_360), "94.3 MiB");
        assert_eq!(count(134_515_008), "134.5M");
        assert_eq!(count(8192), "8192");
        assert_eq!(duration(61_000), "1 min 01 s");
        assert_eq!(duration(0), "0 s");
        assert_eq!(micros(Some(150_000)), "0.15");
        assert_eq!(micros(Some(0)), "0");
        assert_eq!(micros(None), "-");
    }

    #[test]
    fn columns_count_the_width_of_chinese_and_hold_no_control_characters() {
        let mut table = Table { heading: vec!["名称".into(), "n".into()], rows: Vec::new() };
        table.row(vec!["模型\x1b[31m".into(), Cell::number(7)]);
        table.row(vec!["a".into(), Cell::number(1234)]);
        assert_eq!(table.render(false), "名称          n\n模型 [31m     7\na          1234\n");
        assert!(table.render(true).starts_with("\x1b[1m"));
        assert_eq!(harmless("a\x1b]0;title\x07b\n"), "a\u{241b}]0;title\u{2407}b\n");
    }

    #[test]
    fn every_code_and_hint_has_its_words() {
        for language in [Language::En, Language::Zh] {
            for &hint in hone_protocol::failure::HintCode::ALL {
                assert!(hint_text(language, hint).is_some(), "{hint:?}");
            }
        }
    }

    #[test]
    fn a_failure_says_what_where_and_what_next() {
        let missing = Failure::not_found("model", "smol");
        assert_eq!(
            failure(Language::En, &missing),
            "hone: there is no model named \"smol\"\nplace: model\nhint: list what there is and choose from it\n"
        );
        assert!(failure(Language::Zh, &missing).contains("hint: 先列出已有的，再从中选择"));
    }
}
