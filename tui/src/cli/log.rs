//! `hone log`: what an application asked and was answered, where that is kept; and saying whether an answer was good. Never here: files,
//! rows of a log (`dataset from-log`).

use clap::{Args, Subcommand, ValueEnum};
use hone_protocol::catalogue::{self, Language};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::generate::{Prompt, PromptText};
use hone_protocol::log::{
    Feedback, FeedbackFilter, FeedbackRecord, LOG_DAYS_MAX, LogDetail, LogEntry, LogLine, LogPage, LogQuery,
    LogSettings, Rating,
};
use hone_protocol::request::{Answer, ROWS_MAX, Request};

use super::application::{all, find};
use super::context::{Context, answer};
use crate::print::{self, Cell, Outcome, Table};

const HOUR_MS: i64 = 3_600_000;

/// The request log of applications.
#[derive(Debug, Subcommand)]
pub(super) enum LogVerb {
    On(On),
    Off(Off),
    List(List),
    Show(Show),
    Rate(Rate),
    Clear(Clear),
}

impl LogVerb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            LogVerb::On(verb) => verb.run(context),
            LogVerb::Off(verb) => verb.run(context),
            LogVerb::List(verb) => verb.run(context),
            LogVerb::Show(verb) => verb.run(context),
            LogVerb::Rate(verb) => verb.run(context),
            LogVerb::Clear(verb) => verb.run(context),
        }
    }
}

/// Keep the requests of an application in full: prompts, answers and what the model saw.
///
/// Nothing is kept before this, and nothing that came before it. Which requests are of the share follows from their ids alone.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone log on shop --share 10 --days 14 --mask-pii --size 64M")]
pub(super) struct On {
    /// Name of the application.
    app: String,
    /// Percent of its requests.
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
    share: u32,
    /// Days after which an entry is gone.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=i64::from(LOG_DAYS_MAX)))]
    days: u32,
    /// Mask e-mail addresses, telephone, card and identity numbers before anything is written.
    #[arg(long)]
    mask_pii: bool,
    /// Size of the whole log; beyond it the oldest entries go.
    #[arg(long, value_name = "BYTES", default_value = "256M", value_parser = bytes_of)]
    size: u64,
    /// Size of one entry; longer texts are cut, and the entry says so [default: 256K, or an eighth of the size].
    #[arg(long, value_name = "BYTES", value_parser = bytes_of)]
    entry_size: Option<u64>,
}

/// A size as it is typed: bytes, or with K, M or G.
fn bytes_of(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size; write it like 64K, 256M or 2G");
    let (digits, unit) = match text.char_indices().next_back() {
        Some((at, 'K' | 'k')) => (&text[..at], 1 << 10),
        Some((at, 'M' | 'm')) => (&text[..at], 1 << 20),
        Some((at, 'G' | 'g')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(wrong)
}

impl On {
    fn run(self, context: &Context) -> Outcome {
        let default = u64::from(LogSettings::default().entry_bytes_max).min(self.size / 8);
        let entry = self.entry_size.unwrap_or(default);
        let log = LogSettings {
            share_percent: self.share,
            retention_days: self.days,
            mask_pii: self.mask_pii,
            bytes_max: self.size,
            entry_bytes_max: u32::try_from(entry).unwrap_or(u32::MAX),
        };
        set(context, self.app, Some(log))
    }
}

/// Keep no more requests of an application. What is kept already stays until its time is over.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone log off shop")]
pub(super) struct Off {
    /// Name of the application.
    app: String,
}

impl Off {
    fn run(self, context: &Context) -> Outcome {
        set(context, self.app, None)
    }
}

fn set(context: &Context, application: String, log: Option<LogSettings>) -> Outcome {
    let mut link = context.link()?;
    let _done: Answer = context.change(&mut link, "log", Request::SetLog { application: application.clone(), log })?;
    let log = find(&all(&mut link)?, &application)?.record.log;
    if context.json {
        return print::json(&log);
    }
    print::out(&format!("{application}: {}\n", settings_text(context.language, log.as_ref())))
}

/// The settings in one line.
pub(super) fn settings_text(language: Language, log: Option<&LogSettings>) -> String {
    let Some(log) = log.filter(|log| log.share_percent > 0) else {
        return catalogue::text(language, "cli.log_off").to_owned();
    };
    let masks = catalogue::text(language, if log.mask_pii { "cli.yes" } else { "cli.no" });
    let values = [
        ("share", log.share_percent.to_string()),
        ("days", log.retention_days.to_string()),
        ("size", print::bytes(log.bytes_max)),
        ("entry", print::bytes(u64::from(log.entry_bytes_max))),
        ("masks", masks.to_owned()),
    ];
    catalogue::fill(language, "cli.log_on", &values.each_ref().map(|(name, value)| (*name, value.as_str())))
}

/// What was said of an answer, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Said {
    /// Anything
    Any,
    /// More good than bad
    Up,
    /// More bad than good
    Down,
    /// A better answer
    Corrected,
    /// Nothing
    None,
}

/// Which entries.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Filters {
    /// Only those of this service.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    service: String,
    /// Only those of this user, as the application named them.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    user: String,
    /// Only those since a day (YYYY-MM-DD, UTC), or of the last hours or days: 12h, 7d.
    #[arg(long, value_name = "WHEN", value_parser = moment_of)]
    since: Option<i64>,
    /// Only those whose response id has this in it.
    #[arg(long, value_name = "PART", default_value = "", hide_default_value = true)]
    id: String,
    /// Only those with these words in a message or answer.
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true)]
    text: String,
    /// Only those of which this was said.
    #[arg(long, value_enum, value_name = "SAID")]
    feedback: Option<Said>,
}

impl Filters {
    /// The query for a page.
    pub(super) fn query(self, application: String, after: String, count: u32) -> LogQuery {
        let feedback = self.feedback.map(|said| match said {
            Said::Any => FeedbackFilter::Any,
            Said::Up => FeedbackFilter::Up,
            Said::Down => FeedbackFilter::Down,
            Said::Corrected => FeedbackFilter::Corrected,
            Said::None => FeedbackFilter::None,
        });
        LogQuery {
            application,
            service: self.service,
            user: self.user,
            since_ms: self.since,
            until_ms: None,
            id: self.id,
            text: self.text,
            feedback,
            after,
            count,
        }
    }
}

/// A moment as it is typed.
fn moment_of(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no moment; write YYYY-MM-DD, 12h or 7d");
    let ago = |digits: &str, unit: i64| digits.parse::<u32>().ok().map(|n| print::now_ms() - i64::from(n) * unit);
    let found = match (text.strip_suffix('h'), text.strip_suffix('d')) {
        (Some(hours), _) => ago(hours, HOUR_MS),
        (_, Some(days)) => ago(days, 24 * HOUR_MS),
        _ => day_of(text),
    };
    found.ok_or_else(wrong)
}

/// The first moment of `YYYY-MM-DD` in UTC: days from civil (Hinnant).
fn day_of(text: &str) -> Option<i64> {
    let mut parts = text.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some()
        || !(1970..10_000).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
    {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 24 * HOUR_MS)
}

/// List logged requests of an application, newest first; with --json, a page as one document.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone log list shop --since 7d --feedback down")]
pub(super) struct List {
    /// Name of the application.
    app: String,
    #[command(flatten)]
    filters: Filters,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROWS_MAX)))]
    count: u32,
    /// Go on where a page ended.
    #[arg(long, value_name = "PLACE", default_value = "", hide_default_value = true)]
    after: String,
}

impl List {
    fn run(self, context: &Context) -> Outcome {
        let query = self.filters.query(self.app, self.after, self.count);
        let page = answer!(context.link()?.ask(Request::LogPage(Box::new(query)))?, LogPage);
        if context.json {
            return print::json(&page);
        }
        if page.lines.is_empty() {
            context.say("cli.log_empty", &[]);
        } else {
            print::out(&table(context.language, &page).render(print::colour()))?;
        }
        if let Some(next) = &page.next {
            context.say("cli.log_more", &[("next", next)]);
        }
        if page.dropped > 0 {
            context.say("cli.log_dropped", &[("n", &page.dropped.to_string())]);
        }
        Ok(())
    }
}

/// What people said, in signs: `+2`, `-1`, and a star for a better answer.
fn said(line: &LogLine) -> String {
    let part = |sign: &str, count: u32| if count > 0 { format!("{sign}{count}") } else { String::new() };
    let star = if line.is_corrected { "*" } else { "" };
    let all = format!("{}{}{star}", part("+", line.ratings.0), part("-", line.ratings.1));
    if all.is_empty() { "-".to_owned() } else { all }
}

fn one_line(text: &str, cells: usize) -> String {
    let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = flat.chars().take(cells).collect();
    if cut.len() < flat.len() { format!("{cut}…") } else { cut }
}

fn table(language: Language, page: &LogPage) -> Table {
    let keys = [
        "cli.col.opened",
        "cli.col.service",
        "cli.col.user",
        "cli.col.outcome",
        "cli.col.prompt_tokens",
        "cli.col.completion_tokens",
        "cli.col.said",
        "cli.col.guarded",
        "cli.col.question",
        "cli.col.reply",
        "cli.col.request",
    ];
    let mut table = Table::new(language, &keys);
    for line in &page.lines {
        let outcome = if line.finish.is_empty() { print::word_of(&line.outcome) } else { line.finish.clone() };
        table.row(vec![
            print::moment(line.at_ms).into(),
            line.service.as_str().into(),
            line.user.as_str().into(),
            outcome.into(),
            Cell::number(line.prompt_tokens),
            Cell::number(line.completion_tokens),
            said(line).into(),
            Cell::number(line.guarded),
            one_line(&line.asked, 32).into(),
            one_line(&line.answered, 32).into(),
            line.id.to_string().into(),
        ]);
    }
    table
}

/// Show a logged request: what the model saw, what was answered, what it cost, what people said.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone log show req-01KD2Z8M0P4QZ9T5Y0C3V7XA1B")]
pub(super) struct Show {
    /// The response's id, in any of the forms in which clients are told it.
    response: String,
}

impl Show {
    fn run(self, context: &Context) -> Outcome {
        let request = Request::LogEntry { response: self.response.clone() };
        let detail = answer!(context.link()?.ask(request)?, LogEntry);
        if context.json {
            return print::json(&detail);
        }
        if detail.entry.is_none() && detail.feedback.is_empty() {
            let message = format!("the request {} was not logged, and nobody said anything of it", self.response);
            return Err(Failure::new(FailureCode::NotFound, message).at("response").into());
        }
        print::out(&details(context.language, &detail))
    }
}

/// A prompt with its control tokens in brackets, so that a text that only looks like one can be told.
fn rendered(prompt: &PromptText) -> String {
    let (mut text, mut from) = (String::new(), 0);
    for &(start, end) in &prompt.control {
        let (start, end) = (start as usize, end as usize);
        text.push_str(prompt.text.get(from..start).unwrap_or_default());
        text.push_str(&format!("⟦{}⟧", prompt.text.get(start..end).unwrap_or_default()));
        from = end;
    }
    text.push_str(prompt.text.get(from..).unwrap_or_default());
    text
}

fn sent(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Chat(chat) => {
            let turn = |turn: &hone_protocol::generate::Turn| format!("{}: {}\n", turn.role, turn.content);
            chat.turns.iter().map(turn).collect()
        }
        Prompt::Text { text, .. } => text.clone(),
        Prompt::Tokens(tokens) => format!("{tokens:?}"),
    }
}

fn details(language: Language, detail: &LogDetail) -> String {
    let say = |key: &'static str| catalogue::text(language, key);
    let mut text = String::new();
    if let Some(entry) = &detail.entry {
        text.push_str(&facts(language, &detail.application, entry));
        let mut part = |heading: &'static str, body: &str| {
            text.push_str(&format!("\n== {}\n{}\n", say(heading), body.trim_end()));
        };
        for (at, prompt) in entry.prompts.iter().enumerate() {
            match entry.rendered.get(at) {
                Some(prompt) => part("cli.log_rendered", &rendered(prompt)),
                None => part("cli.log_sent", &sent(prompt)),
            }
        }
        for answer in &entry.answers {
            if !answer.reasoning.is_empty() {
                part("cli.log_reasoning", &answer.reasoning);
            }
            part("cli.log_answer", &answer.text);
            for (name, arguments) in &answer.calls {
                part("cli.log_call", &format!("{name}({arguments})"));
            }
        }
    }
    for record in &detail.feedback {
        text.push_str(&format!("\n== {}\n{}\n", say("cli.log_feedback"), feedback_text(record)));
    }
    text
}

fn facts(language: Language, application: &str, entry: &LogEntry) -> String {
    let guards: Vec<String> = entry
        .guards
        .iter()
        .map(|hit| format!("{} {} {} ×{}", hit.guard, print::word_of(&hit.side), hit.act.word(), hit.matches))
        .collect();
    let finish: Vec<&str> = entry.answers.iter().map(|answer| answer.finish.as_str()).collect();
    let mut pairs = vec![
        ("cli.col.request", entry.id.to_string()),
        ("cli.col.application", application.to_owned()),
        ("cli.col.opened", print::moment(entry.opened_at_ms)),
        ("cli.col.service", entry.service.clone()),
        ("cli.col.version", entry.version.clone()),
        ("cli.col.route", entry.route.clone()),
        ("cli.col.outcome", format!("{} {}", print::word_of(&entry.outcome), finish.join(" "))),
        ("cli.col.prompt_cached", format!("{} ({})", entry.prompt_tokens, entry.cached_tokens)),
        ("cli.col.completion_tokens", entry.completion_tokens.to_string()),
        ("cli.col.total_ms", entry.total_ms.map_or_else(|| "-".into(), |ms| ms.to_string())),
        ("cli.col.first_ms", entry.first_token_ms.map_or_else(|| "-".into(), |ms| ms.to_string())),
        ("cli.col.user", entry.user.clone()),
    ];
    for (name, value) in &entry.metadata {
        pairs.push(("cli.col.metadata", format!("{name} = {value}")));
    }
    if !guards.is_empty() {
        pairs.push(("cli.col.guarded", guards.join(", ")));
    }
    if entry.masked > 0 {
        pairs.push(("cli.col.masked", entry.masked.to_string()));
    }
    if entry.cut_bytes > 0 {
        pairs.push(("cli.col.cut", print::bytes(entry.cut_bytes)));
    }
    print::pairs(language, &pairs)
}

fn feedback_text(record: &FeedbackRecord) -> String {
    let feedback = &record.feedback;
    let rating = feedback.rating.map_or("", Rating::word);
    let mut text = format!("{} {} {}\n", print::moment(record.at_ms), feedback.user, rating);
    for more in [&feedback.comment, &feedback.correction].into_iter().filter(|more| !more.is_empty()) {
        text.push_str(more);
        text.push('\n');
    }
    text.trim_end().to_owned()
}

/// Whether an answer is good, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Good {
    /// It is
    Up,
    /// It is not
    Down,
}

/// Say whether an answer was good, or give a better one. What the same user said before is replaced.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone log rate req-01KD2Z8M0P4QZ9T5Y0C3V7XA1B down --correction \"We are open until six.\""
)]
pub(super) struct Rate {
    /// The response's id, in any of the forms in which clients are told it.
    response: String,
    /// Whether it was good.
    #[arg(value_enum)]
    rating: Option<Good>,
    /// In words.
    #[arg(long, default_value = "", hide_default_value = true)]
    comment: String,
    /// A better answer.
    #[arg(long, default_value = "", hide_default_value = true)]
    correction: String,
}

impl Rate {
    fn run(self, context: &Context) -> Outcome {
        let rating = self.rating.map(|good| match good {
            Good::Up => Rating::Up,
            Good::Down => Rating::Down,
        });
        let feedback = Feedback { rating, comment: self.comment, correction: self.correction, user: String::new() };
        let mut link = context.link()?;
        let _done: Answer = link.ask(Request::Rate { response: self.response.clone(), feedback })?;
        let detail = answer!(link.ask(Request::LogEntry { response: self.response })?, LogEntry);
        if context.json {
            return print::json(&detail.feedback);
        }
        detail.feedback.iter().try_for_each(|record| print::out(&format!("{}\n", feedback_text(record))))
    }
}

/// Remove everything that an application has logged. It cannot be taken back.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone log clear shop")]
pub(super) struct Clear {
    /// Name of the application.
    app: String,
}

impl Clear {
    fn run(self, context: &Context) -> Outcome {
        let request = Request::ClearLog { application: self.app.clone() };
        let done: Answer = context.change(&mut context.link()?, "clear", request)?;
        if context.json {
            return print::json(&done);
        }
        context.say("cli.log_cleared", &[("app", &self.app)]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_protocol::id::LedgerId;

    #[test]
    fn sizes_and_moments_are_read() {
        assert_eq!((bytes_of("64K"), bytes_of("2G"), bytes_of("12")), (Ok(64 << 10), Ok(2 << 30), Ok(12)));
        assert!(bytes_of("big").is_err() && bytes_of("").is_err() && bytes_of("99999999999G").is_err());
        assert_eq!(day_of("1970-01-01"), Some(0));
        assert_eq!(day_of("2026-11-30"), Some(1_795_996_800_000));
        assert_eq!(day_of("2024-02-29"), Some(1_709_164_800_000));
        for wrong in ["2026-13-01", "2026-01", "yesterday", "2026-01-01-01"] {
            assert!(moment_of(wrong).is_err(), "{wrong}");
        }
        assert!(moment_of("7d").unwrap() < moment_of("12h").unwrap());
    }

    #[test]
    fn lists_and_details() {
        let mut page = crate::sample::log_page();
        page.next = Some("3.7".into());
        insta::assert_snapshot!("log-list", table(Language::En, &page).render(false));
        let detail = crate::sample::log_detail();
        insta::assert_snapshot!("log-show", details(Language::En, &detail));
        assert_eq!(detail.entry.map(|entry| entry.id), Some(LedgerId::from_bytes([40; 16])));
    }
}
