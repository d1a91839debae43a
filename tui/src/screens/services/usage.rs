//! The sub-tab of usage: applications by tokens and cost in this month or today, a bar for each day, budgets, and the newest
//! requests; and the figures of services beside their list. Never here: a sum over rows, a percentile.

use std::collections::BTreeMap;

use hone_protocol::application::{ApplicationView, Budget, LedgerRow, Usage};
use hone_protocol::failure::Failure;
use hone_protocol::log::FeedbackCounts;
use hone_protocol::request::{Answer, ROWS_MAX, Request};
use hone_protocol::usage::{ServiceStats, Span, Stats, UsageBy, UsagePage, UsageQuery};
use hone_protocol::value::Pico;

use super::super::service_pages::{ledger_row, usage_facts};
use super::super::window::Window;
use super::super::{Desk, Errand, View};
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, piece};
use crate::widgets::list::{Column, Row, cell, column};
use crate::widgets::number;
use crate::widgets::page::Page;

/// Ledger rows that are shown.
const LEDGER_ROWS: u32 = 200;
/// Statistics are read again no more often than this.
const STATS_MS: i64 = 10_000;
/// Bars of a day, the lowest first, for screens with and without such signs.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const PLAIN_BARS: [char; 8] = ['.', ':', '-', '=', '+', '*', '#', '@'];

/// What is shown.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Period {
    #[default]
    Month,
    Day,
    Requests,
}

const PERIODS: [(Period, &str); 3] = [
    (Period::Month, "services.period_month"),
    (Period::Day, "services.period_day"),
    (Period::Requests, "services.period_requests"),
];

/// The sub-tab.
#[derive(Default)]
pub(super) struct UsagePane {
    period: Period,
    page: Window<u64, UsagePage>,
    ledger: Window<u64, Vec<LedgerRow>>,
    stats: Window<i64, Stats>,
}

impl UsagePane {
    /// The next or the former period.
    pub(super) fn turn(&mut self, forward: bool) {
        let at = self.period as usize + if forward { 1 } else { PERIODS.len() - 1 };
        self.period = PERIODS[at % PERIODS.len()].0;
    }

    /// Asks for what the sub-tab shows.
    pub(super) fn needs(&mut self, desk: &mut Desk<'_>) {
        // Another request was metered: the sums of the applications say so.
        let metered: u64 =
            desk.view.mirror.applications().iter().map(|a| a.usage.requests + a.usage.completion_tokens).sum();
        if self.period == Period::Requests {
            if !self.ledger.is_waiting() && self.ledger.want(metered) {
                desk.ask(Errand::Ledger, Request::Ledger { application: String::new(), count: LEDGER_ROWS });
            }
        } else if !self.page.is_waiting() && self.page.want(metered) {
            let by = vec![UsageBy::Day, UsageBy::Application];
            desk.ask(Errand::Usage, Request::Usage(UsageQuery { by, count: ROWS_MAX, ..UsageQuery::default() }));
        }
    }

    /// Asks for the figures of services.
    pub(super) fn needs_stats(&mut self, desk: &mut Desk<'_>) {
        if !desk.view.mirror.services().is_empty()
            && !self.stats.is_waiting()
            && self.stats.want(desk.view.now_ms / STATS_MS)
        {
            desk.ask(Errand::Stats, Request::Stats { span: Span::Hour });
        }
    }

    /// Takes an answer; false when it is none of these.
    pub(super) fn answer(
        &mut self,
        errand: Errand,
        answer: Result<Answer, Failure>,
        desk: &Desk<'_>,
    ) -> Option<Result<Answer, Failure>> {
        match (errand, answer) {
            (Errand::Ledger, Ok(Answer::Ledger(rows))) => self.ledger.take(rows),
            (Errand::Ledger, Err(failure)) => self.ledger.fail(desk.view.failure(&failure)),
            (Errand::Usage, Ok(Answer::Usage(page))) => self.page.take(page),
            (Errand::Usage, Err(failure)) => self.page.fail(desk.view.failure(&failure)),
            (Errand::Stats, Ok(Answer::Stats(stats))) => self.stats.take(stats),
            (Errand::Stats, Err(failure)) => self.stats.fail(desk.view.failure(&failure)),
            (_, answer) => return Some(answer),
        }
        None
    }

    pub(super) fn forget(&mut self) {
        self.page.forget();
        self.ledger.forget();
        self.stats.forget();
    }

    /// Why nothing is there, where a reason is known.
    pub(super) fn problem(&self) -> Option<String> {
        match self.period {
            Period::Requests => self.ledger.problem.clone(),
            _ => self.page.problem.clone(),
        }
    }

    /// The sums of an application in the period.
    fn usage_of(&self, name: &str) -> Usage {
        let mut sums = Usage::default();
        let Some(page) = self.page.get() else { return sums };
        let lines = page.lines.iter().filter(|line| line.application.as_deref() == Some(name));
        let lines = lines.filter(|line| self.period != Period::Day || line.day.as_ref() == Some(&page.to));
        lines.for_each(|line| sums.merge(&line.usage));
        sums
    }

    pub(super) fn rows(&self, view: &View<'_>) -> Vec<Row> {
        if self.period == Period::Requests {
            return self
                .ledger
                .get()
                .map(|rows| rows.iter().map(|r| ledger_row(view, r)).collect())
                .unwrap_or_default();
        }
        let with = |a: &ApplicationView| (a.record.name.clone(), self.usage_of(&a.record.name));
        let mut all: Vec<(String, Usage)> = view.mirror.applications().iter().map(with).collect();
        all.retain(|(_, usage)| usage.requests > 0);
        all.sort_by(|a, b| (b.1.amount, b.1.requests, &a.0).cmp(&(a.1.amount, a.1.requests, &b.0)));
        let row = |(name, usage): (String, Usage)| Row {
            cells: vec![
                piece(cell(&name), Token::Text),
                piece(number::grouped(usage.requests), Token::Text),
                piece(number::grouped(usage.prompt_tokens + usage.completion_tokens), Token::Text),
                piece(number::grouped(usage.errors), if usage.errors > 0 { Token::Warn } else { Token::Muted }),
                piece(usage.amount.rounded(), Token::Text),
            ],
            key: name,
        };
        all.into_iter().map(row).collect()
    }

    pub(super) fn columns(&self, view: &View<'_>) -> Vec<Column> {
        let c = |key, cells| column(view.t(key), cells);
        match self.period {
            Period::Requests => vec![
                c("col.when", 10),
                c("word.service", 0),
                c("word.application", 12),
                c("col.prompt", 8).right(),
                c("col.answer", 8).right(),
                c("col.cost", 12).right().from(76),
                c("col.outcome", 14).from(90),
            ],
            _ => vec![
                c("word.application", 0),
                c("col.requests", 9).right(),
                c("col.tokens", 12).right(),
                c("col.errors", 7).right(),
                c("col.cost", 13).right(),
            ],
        }
    }

    /// What is known of the period, of the selected application where one is selected.
    pub(super) fn page(&self, view: &View<'_>, selected: Option<&str>, canvas: &Canvas<'_>) -> Page {
        let mut page = Page::new();
        let tab = |(period, key): (Period, &'static str)| {
            let token = if period == self.period { Token::Accent } else { Token::Muted };
            piece(format!("{}  ", view.t(key)), token)
        };
        page.line(PERIODS.map(tab).to_vec()).blank();
        if let Some(problem) = self.problem() {
            page.text(format!("! {problem}"), Token::Warn);
            return page;
        }
        if self.period == Period::Requests {
            page.text(view.t("services.requests_about"), Token::Muted);
            return page;
        }
        let Some(held) = self.page.get() else {
            page.text(view.t("datasets.loading"), Token::Muted);
            return page;
        };
        let application = view.mirror.applications().iter().find(|a| Some(a.record.name.as_str()) == selected);
        page.heading(application.map_or(view.t("services.all_applications"), |a| &a.record.name));
        let usage = match (application, self.period) {
            (Some(application), _) => self.usage_of(&application.record.name),
            (None, Period::Month) => held.total,
            (None, _) => {
                let mut sums = Usage::default();
                let today = held.lines.iter().filter(|line| line.day.as_ref() == Some(&held.to));
                today.for_each(|line| sums.merge(&line.usage));
                sums
            }
        };
        usage_facts(view, &usage, &mut page);
        page.fact(view.t("services.errors"), number::grouped(usage.errors));
        page.fact(view.t("col.cost"), format!("{} {}", usage.amount.rounded(), held.currency));
        if let (None, Some(compute)) = (application, held.compute) {
            page.fact(view.t("services.computing"), format!("{} {}", compute.amount.rounded(), held.currency));
        }
        if application.is_none() && held.reserved.rows > 0 {
            let amount = format!("{} {}", held.reserved.amount.rounded(), held.currency);
            page.fact(view.t("services.reserved_time"), amount);
        }
        days(view, held, application, canvas, &mut page);
        if let Some(application) = application {
            budget(view, application, &mut page);
        }
        if held.next.is_some() {
            page.blank().text(view.t("services.days_cut"), Token::Muted);
        }
        page
    }

    /// How a service did in the last hour.
    pub(super) fn stats_page(&self, view: &View<'_>, service: &str, page: &mut Page) {
        page.heading(view.t("services.last_hour"));
        let Some(stats) = self.stats.get() else {
            let said = self.stats.problem.clone().unwrap_or_else(|| view.t("datasets.loading").to_owned());
            page.text(said, Token::Muted);
            return;
        };
        let line = stats.lines.iter().find(|line| line.service == service && line.application.is_none());
        let Some(line) = line else {
            page.text(view.t("services.no_stats"), Token::Muted);
            return;
        };
        figures(view, line, page);
        for guard in stats.guards.iter().filter(|guard| guard.service == service) {
            let found = format!("{} / {}", guard.counts.input + guard.counts.output, guard.counts.refused);
            page.fact(&guard.guard, found);
        }
    }
}

/// A time of an answer: milliseconds, seconds where there are many.
fn short(ms: u32) -> String {
    if ms < 10_000 { format!("{ms} ms") } else { format!("{:.1} s", f64::from(ms) / 1000.0) }
}

fn figures(view: &View<'_>, line: &ServiceStats, page: &mut Page) {
    let pair = |times: Option<(u32, u32)>| {
        times.map_or_else(|| "-".to_owned(), |(middle, high)| format!("{} / {}", short(middle), short(high)))
    };
    page.fact(view.t("col.requests"), number::grouped(line.usage.requests));
    page.fact(view.t("services.errors"), number::grouped(line.usage.errors));
    page.fact(view.t("services.total_times"), pair(line.total_ms));
    page.fact(view.t("services.first_times"), pair(line.first_token_ms));
    let rate = line.tokens_per_s.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
    page.fact(view.t("services.rate"), rate);
    let hits = line.usage.cached_tokens as f64 / line.usage.prompt_tokens.max(1) as f64;
    page.fact(view.t("services.cache_hits"), number::percent(hits));
    if line.feedback != FeedbackCounts::default() {
        let said = format!("+{} -{} ~{}", line.feedback.up, line.feedback.down, line.feedback.corrections);
        page.fact(view.t("col.said"), said);
    }
}

/// A bar for each day of the month, as high as its share of the dearest day; of requests where nothing costs anything.
fn days(
    view: &View<'_>,
    held: &UsagePage,
    application: Option<&ApplicationView>,
    canvas: &Canvas<'_>,
    page: &mut Page,
) {
    let mut by_day: BTreeMap<u32, Usage> = BTreeMap::new();
    for line in &held.lines {
        let is_meant = application.is_none_or(|a| line.application.as_ref() == Some(&a.record.name));
        if let Some(day) = line.day.as_deref().filter(|_| is_meant).and_then(day_of_month) {
            by_day.entry(day).or_default().merge(&line.usage);
        }
    }
    let Some(last) = day_of_month(&held.to) else { return };
    let is_priced = by_day.values().any(|usage| usage.amount > Pico(0));
    let height = |usage: &Usage| if is_priced { usage.amount.0 as f64 } else { usage.requests as f64 };
    let most = by_day.values().map(height).fold(0.0, f64::max);
    if most <= 0.0 {
        return;
    }
    let bars = if canvas.glyphs.braille { BARS } else { PLAIN_BARS };
    let bar = |day: u32| match by_day.get(&day).map(height).filter(|height| *height > 0.0) {
        None => ' ',
        Some(height) => bars[((height / most * 8.0).ceil() as usize).clamp(1, 8) - 1],
    };
    let line: String = (1..=last).map(bar).collect();
    page.blank().heading(view.t(if is_priced { "services.by_day" } else { "services.requests_by_day" }));
    page.line(vec![piece(line, Token::Accent)]);
    let ends = format!("1{:>width$}", last, width = (last as usize).saturating_sub(1));
    page.line(vec![piece(if last > 1 { ends } else { "1".to_owned() }, Token::Muted)]);
}

/// The number of the day in `YYYY-MM-DD`.
fn day_of_month(day: &str) -> Option<u32> {
    day.get(8..)?.parse().ok().filter(|day| (1..=31).contains(day))
}

/// How much of a budget is used.
fn budget(view: &View<'_>, application: &ApplicationView, page: &mut Page) {
    let (Some(budget), Some(left)) = (application.record.budget, application.left) else { return };
    let all = match budget {
        Budget::Monthly { amount } => amount,
        Budget::Prepaid { paid, .. } => paid,
    };
    let used = all - left;
    let share = if all.0 > 0 { used.0 as f64 / all.0 as f64 } else { 1.0 };
    page.blank().heading(view.t("field.budget"));
    page.meter(share.clamp(0.0, 1.0), number::percent(share));
    let said = [("used", used.rounded()), ("all", all.rounded())];
    let said = said.each_ref().map(|(name, value)| (*name, value.as_str()));
    page.text(view.fill("services.budget_used", &said), Token::Muted);
}
