//! One training run: its live curve with a cursor, what is true at the cursor and now, and its log. Points are asked
//! for once and then from the last step on. Never here: the list of runs.

use crossterm::event::KeyEvent;
use hone_protocol::failure::Failure;
use hone_protocol::id::JobId;
use hone_protocol::job::{JobSpec, JobState, JobView, ShownState};
use hone_protocol::pool::{LOCAL_POOL, SlurmView};
use hone_protocol::request::{Answer, LOG_BYTES_MAX, Request};
use hone_protocol::train::Point;
use ratatui::layout::Rect;

use super::samples::{Samples, prompts};
use super::tables::{job_progress, job_share, job_state, job_subject};
use super::{Class, Desk, Errand, View, training};
use crate::action::{Action, Offer, offer};
use crate::keymap::Context;
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, Piece, piece};
use crate::widgets::chart::{Chart, average, axis_end};
use crate::widgets::list::cell;
use crate::widgets::number;
use crate::widgets::page::Page;

/// Points of a series that are asked for at first; spread evenly, more than any screen has columns.
const POINTS: u32 = 1000;
/// Series that are shown.
const SERIES: [&str; 9] = [
    "loss",
    "eval_loss",
    "learning_rate",
    "grad_norm",
    "tokens_per_s",
    "margin",
    "accuracy",
    "eval_margin",
    "eval_accuracy",
];
/// Smoothing that `~` goes through.
pub(super) const SMOOTHING: [f64; 4] = [0.9, 0.99, 0.0, 0.6];

/// Rows of the log below the charts, with its rule.
const TAIL_ROWS: u16 = 11;

/// Points of one series as they came.
#[derive(Default)]
pub(super) struct Series {
    pub(super) points: Vec<(f64, f64)>,
    /// The progress at which it was asked last; none when it must be asked.
    asked_at: Option<(u32, u64, ShownState)>,
    waiting: bool,
}

impl Series {
    /// Asks for what came since, if anything can have.
    pub(super) fn ask(&mut self, name: &'static str, errand: Errand, job: &JobView, desk: &mut Desk<'_>) {
        let done = job.progress.as_ref().map_or(0, |p| p.done);
        let now = (job.record.attempt, done, job.shown);
        let new_attempt = self.asked_at.is_some_and(|(attempt, ..)| attempt != job.record.attempt);
        if self.waiting || self.asked_at == Some(now) || desk.view.away {
            return;
        }
        // Another attempt goes on from its checkpoint: later steps were taken back.
        if new_attempt {
            self.points.clear();
        }
        let from_step = self.points.last().map_or(0, |(x, _)| *x as u64 + 1);
        self.asked_at = Some(now);
        self.waiting = true;
        let request = Request::Metrics { job: job.record.id, series: name.to_owned(), from_step, points: POINTS };
        desk.ask(errand, request);
    }

    /// Takes an answer.
    pub(super) fn take(&mut self, answer: Result<Answer, Failure>) {
        self.waiting = false;
        if let Ok(Answer::Metrics(points)) = answer {
            let last = self.points.last().map_or(-1.0, |(x, _)| *x);
            let new = points.iter().map(|Point { step, value }| (*step as f64, value.value()));
            self.points.extend(new.filter(|(x, _)| *x > last));
        }
    }

    /// Everything may have changed: ask again.
    pub(super) fn forget(&mut self) {
        self.asked_at = None;
        self.waiting = false;
    }
}

/// The view of a run.
pub(super) struct RunView {
    job: JobId,
    series: [Series; SERIES.len()],
    cursor: Option<f64>,
    smoothing: usize,
    log_axis: bool,
    /// The log instead of the curve.
    log: Option<super::jobs::LogView>,
    /// The end of the log below the charts, at the largest size.
    tail: super::jobs::LogView,
    /// Answers to the run's fixed prompts.
    samples: Samples,
    /// Cells of the plane at the last draw, for steps of the cursor.
    columns: u16,
    x_end: f64,
}

/// Where a run stands in Slurm.
fn slurm_text(view: &View<'_>, slurm: &SlurmView) -> String {
    let state =
        if slurm.reason.is_empty() { slurm.state.clone() } else { format!("{} ({})", slurm.state, slurm.reason) };
    let args = [("number", slurm.number.as_str()), ("state", &state), ("node", &slurm.node)];
    cell(&match slurm.node.is_empty() {
        true => view.fill("run.slurm_job", &args[..2]),
        false => view.fill("run.slurm_node", &args),
    })
}

impl RunView {
    /// The view of a job that is a training run.
    pub(super) fn new(job: JobId) -> RunView {
        RunView {
            job,
            series: Default::default(),
            cursor: None,
            smoothing: 0,
            log_axis: false,
            log: None,
            tail: super::jobs::LogView::new(job),
            samples: Samples::default(),
            columns: 60,
            x_end: 20.0,
        }
    }

    fn view<'a>(&self, view: &View<'a>) -> Option<&'a JobView> {
        view.mirror.job(self.job)
    }

    pub(super) fn trail(&self, view: &View<'_>) -> Vec<String> {
        let mut trail = vec![self.view(view).map(job_subject).unwrap_or_default()];
        if self.log.is_some() {
            trail.push(view.t("act.log").to_owned());
        } else if self.samples.reading.is_some() {
            trail.push(view.t("run.samples").to_owned());
        }
        trail
    }

    pub(super) fn context(&self) -> Context {
        if self.log.as_ref().is_some_and(|l| l.is_searching()) { Context::Field } else { Context::Browse }
    }

    pub(super) fn offers(&self, view: &View<'_>) -> Vec<Offer> {
        if let Some(log) = &self.log {
            return log.offers();
        }
        if self.samples.reading.is_some() {
            return self.samples.offers();
        }
        let mut offers = vec![
            offer(Action::Left, "run.cursor"),
            offer(Action::Right, "run.cursor"),
            offer(Action::Smooth, "run.smooth"),
        ];
        if let Some(job) = self.view(view) {
            if !prompts(job).is_empty() {
                offers.push(offer(Action::Inspect, "run.samples"));
            }
            offers.extend(super::jobs::offers(job));
        }
        offers.extend([
            offer(Action::LogAxis, "run.log_axis"),
            offer(Action::Follow, "run.follow"),
            offer(Action::First, "run.first"),
            offer(Action::Last, "run.last"),
            offer(Action::Copy, "run.copy"),
            offer(Action::Out, "act.out"),
        ]);
        offers
    }

    pub(super) fn act(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        if let Some(log) = &mut self.log {
            if action == Action::Out && !log.out() {
                self.log = None;
                return true;
            }
            return log.act(action, desk);
        }
        if let (Some(_), Some(job)) = (&self.samples.reading, desk.view.mirror.job(self.job)) {
            return self.samples.act(action, job, desk);
        }
        let step = self.x_end / f64::from(self.columns.max(2) - 1);
        let end = self.series[0].points.last().map_or(0.0, |(x, _)| *x);
        let at = self.cursor.unwrap_or(end);
        match action {
            Action::Left => self.cursor = Some((at - step).max(0.0)),
            Action::Right => self.cursor = Some((at + step).min(end)),
            Action::PageUp => self.cursor = Some((at - 10.0 * step).max(0.0)),
            Action::PageDown => self.cursor = Some((at + 10.0 * step).min(end)),
            Action::First => self.cursor = Some(0.0),
            Action::Last => self.cursor = Some(end),
            Action::Follow => self.cursor = None,
            Action::Smooth => self.smoothing = (self.smoothing + 1) % SMOOTHING.len(),
            Action::LogAxis => {
                self.log_axis = !self.log_axis;
                if self.log_axis && self.series[0].points.iter().any(|(_, v)| *v <= 0.0) {
                    self.log_axis = false;
                    desk.say(desk.view.t("run.no_log"));
                }
            }
            Action::Inspect => match self.view(&desk.view) {
                Some(job) if !prompts(job).is_empty() => self.samples.reading = Some(Default::default()),
                _ => return false,
            },
            Action::Log => self.log = Some(super::jobs::LogView::new(self.job)),
            Action::Copy => {
                let line: Vec<String> = SERIES
                    .iter()
                    .zip(&self.series)
                    .filter_map(|(n, s)| at_step(&s.points, at).map(|v| format!("{n}={v}")))
                    .collect();
                desk.copy(format!("step={at:.0} {}", line.join(" ")));
            }
            action => match self.view(&desk.view) {
                Some(job) => return super::jobs::verb(action, job, desk),
                None => return false,
            },
        }
        true
    }

    pub(super) fn key(&mut self, key: KeyEvent) {
        if let Some(log) = &mut self.log {
            log.key(key);
        }
    }

    pub(super) fn needs(&mut self, desk: &mut Desk<'_>) {
        if let Some(log) = &mut self.log {
            return log.needs(desk);
        }
        if desk.view.class == Class::Xl {
            self.tail.needs(desk);
        }
        self.ask_series(desk);
    }

    fn ask_series(&mut self, desk: &mut Desk<'_>) {
        let Some(job) = self.view(&desk.view) else { return };
        self.samples.ask(job, desk);
        for (name, series) in SERIES.iter().zip(&mut self.series) {
            series.ask(name, Errand::Series(name), job, desk);
        }
    }

    pub(super) fn answer(&mut self, errand: Errand, answer: Result<Answer, Failure>, desk: &mut Desk<'_>) {
        match (errand, answer) {
            (Errand::Series(name), answer) => {
                let Some(at) = SERIES.iter().position(|s| *s == name) else { return };
                self.series[at].take(answer);
            }
            (Errand::Samples, answer) => self.samples.take(answer),
            (Errand::Log, answer) => {
                self.log.as_mut().unwrap_or(&mut self.tail).answer(answer, desk);
            }
            _ => {}
        }
    }

    pub(super) fn forget(&mut self) {
        self.series.iter_mut().for_each(Series::forget);
        self.samples.forget();
        self.tail.forget();
        if let Some(log) = &mut self.log {
            log.forget();
        }
    }

    pub(super) fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let Some(job) = self.view(view) else {
            canvas.put(area.x + 2, area.y + 1, area.width - 2, view.t("jobs.gone"), Token::Muted);
            return;
        };
        if let Some(log) = &mut self.log {
            return log.draw(canvas, area, view);
        }
        if self.samples.reading.is_some() {
            return self.samples.draw(canvas, area, view, job);
        }
        if view.class < Class::M {
            return self.draw_narrow(canvas, area, view, job);
        }
        let left = area.width - if view.class >= Class::L { 50 } else { 36 };
        let below = if view.class == Class::Xl { TAIL_ROWS } else { 0 };
        self.draw_left(canvas, Rect { width: left, height: area.height - below, ..area }, view, job);
        if below > 0 {
            let tail = Rect { y: area.bottom() - below, width: left, height: below, ..area };
            canvas.rule(tail, tail.y, true);
            let tail = Rect { y: tail.y + 1, height: below - 1, ..tail };
            match prompts(job).is_empty() {
                true => self.tail.draw(canvas, tail, view),
                false => {
                    let tail = Rect { x: tail.x + 1, width: tail.width - 2, ..tail };
                    self.samples.page(view, job, self.at(job)).draw_top(canvas, tail);
                }
            }
        }
        canvas.bar(area.x + left, area);
        let mut page = Page::new();
        self.facts(view, job, &mut page, canvas);
        page.draw_top(canvas, Rect { x: area.x + left + 2, width: area.right() - (area.x + left + 2), ..area });
    }

    /// Keeps the view beside a list on the selected run, and asks for what it shows; none drops it.
    pub(super) fn beside(side: &mut Option<RunView>, selected: Option<JobId>, desk: &mut Desk<'_>) {
        if side.as_ref().map(|s| s.job) != selected {
            *side = selected.map(RunView::new);
        }
        if let Some(side) = side {
            side.ask_series(desk);
        }
    }

    /// The curve above its figures, for a pane beside a list. The real cursor stays with the list.
    pub(super) fn draw_side(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let Some(job) = self.view(view) else { return };
        let cursor = canvas.cursor;
        let curve = Rect { x: area.x - 1, width: area.width + 1, height: area.height * 2 / 5, ..area };
        self.draw_curve(canvas, curve, view, job);
        let mut page = Page::new();
        self.figures(view, job, &mut page, canvas);
        let y = curve.bottom() + 1;
        page.draw_top(canvas, Rect { y, height: area.bottom().saturating_sub(y), ..area });
        canvas.cursor = cursor;
    }

    /// One pane: a line of state, the curve, the figures.
    fn draw_narrow(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>, job: &JobView) {
        let state = job_state(view, job, canvas.glyphs);
        canvas.pieces(
            area.x + 1,
            area.y,
            area.width - 1,
            &[
                piece(format!("{}  ", job_subject(job)), Token::Heading),
                state,
                piece(format!("  {}", job_progress(view, job)), Token::Text),
            ],
        );
        let figures = 3.min(area.height / 4);
        let chart = Rect { y: area.y + 1, height: area.height.saturating_sub(1 + figures), ..area };
        self.draw_curve(canvas, chart, view, job);
        let y = chart.bottom();
        if figures > 0 {
            let at = self.at(job);
            canvas.pieces(area.x + 1, y, area.width - 1, &self.line_at(view, at, "run.at_cursor"));
        }
        if figures > 1 {
            let end = self.end();
            canvas.pieces(area.x + 1, y + 1, area.width - 1, &self.line_at(view, end, "run.now"));
        }
        if figures > 2 {
            let watch = self.watch(view, job, canvas);
            canvas.pieces(area.x + 1, y + 2, area.width - 1, &watch.into_iter().flatten().collect::<Vec<_>>());
        }
    }

    fn draw_left(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>, job: &JobView) {
        let small = area.height / 3;
        let main = Rect { height: area.height - small, ..area };
        self.draw_curve(canvas, main, view, job);
        // What preferences are about is their margin; the rate they share with all others.
        let first = if self.compares() { (5, "run.margin") } else { (2, "run.rate") };
        let charts = [first, (4, "run.speed"), (3, "run.grad_norm")];
        let shown = if view.class == Class::Xl { 3 } else { 2 };
        let part = area.width / shown as u16;
        for (i, (series, key)) in charts.into_iter().take(shown).enumerate() {
            let x = area.x + i as u16 * part;
            let width = part - u16::from(i + 1 < shown);
            canvas.put(x + 1, main.bottom(), width - 1, view.t(key), Token::Heading);
            let plane = Rect { x, y: main.bottom() + 1, width, height: small.saturating_sub(1) };
            let chart = Chart {
                raw: &self.series[series].points,
                marks: if series == 5 { &self.series[7].points } else { &[] },
                smoothing: 0.0,
                log: false,
                x_end: self.x_end,
                cursor: self.cursor,
            };
            chart.draw(canvas, plane);
        }
    }

    fn draw_curve(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>, job: &JobView) {
        let planned = job.plan.map_or(0.0, |p| p.steps as f64);
        self.x_end = if planned > 0.0 { planned } else { axis_end(self.end()) };
        self.columns = Chart::columns(Rect { ..area });
        let beta = SMOOTHING[self.smoothing];
        let smooth = if beta == 0.0 { view.t("run.raw_only").to_owned() } else { format!("EMA {beta}") };
        let legend = view.fill("run.legend", &[("smooth", &smooth)]);
        canvas.put(area.x + 1, area.y, area.width - 1, &legend, Token::Muted);
        let plane = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        if self.series[0].points.is_empty() {
            let key = match job.shown {
                ShownState::Running => "run.before_first",
                ShownState::Queued => "run.queued",
                _ => "run.no_points",
            };
            canvas.put(area.x + 8, area.y + 2, area.width.saturating_sub(9), view.t(key), Token::Muted);
        }
        let chart = Chart {
            raw: &self.series[0].points,
            marks: &self.series[1].points,
            smoothing: beta,
            log: self.log_axis,
            x_end: self.x_end,
            cursor: self.cursor,
        };
        chart.draw(canvas, plane);
        if let Some(cursor) = self.cursor {
            let column = (cursor / self.x_end * f64::from(self.columns.max(2) - 1)).round() as u16;
            canvas.cursor_at(area.x + 6 + column, plane.bottom().saturating_sub(3));
        }
    }

    /// Whether it learns from pairs.
    fn compares(&self) -> bool {
        !self.series[5].points.is_empty()
    }

    fn end(&self) -> f64 {
        self.series[0].points.last().map_or(0.0, |(x, _)| *x)
    }

    fn at(&self, _: &JobView) -> f64 {
        self.cursor.unwrap_or_else(|| self.end())
    }

    /// The figures of a step in one line.
    fn line_at(&self, view: &View<'_>, step: f64, key: &'static str) -> Vec<Piece> {
        let value = |i: usize| at_step(&self.series[i].points, step).map_or_else(|| "-".to_owned(), number::figure);
        vec![
            piece(view.fill(key, &[("step", &format!("{step:.0}"))]) + "  ", Token::Muted),
            piece(
                format!("{} {}  ", view.t("col.loss"), self.smooth_at(step).map_or("-".into(), |v| format!("{v:.3}"))),
                Token::Text,
            ),
            piece(format!("{} {}  ", view.t("run.eval"), value(1)), Token::SeriesSecond),
            piece(format!("{} {}  ", view.t("run.lr"), value(2)), Token::Text),
            piece(format!("{} {}  ", view.t("run.grad"), value(3)), Token::Text),
            piece(
                format!(
                    "{} {}",
                    at_step(&self.series[4].points, step).map_or("-".into(), |v| format!("{v:.0}")),
                    view.t("unit.tokens_per_s")
                ),
                Token::Text,
            ),
        ]
    }

    fn smooth_at(&self, step: f64) -> Option<f64> {
        at_step(&average(&self.series[0].points, SMOOTHING[self.smoothing]), step)
    }

    fn facts(&self, view: &View<'_>, job: &JobView, page: &mut Page, canvas: &Canvas<'_>) {
        page.line(vec![piece(job_subject(job), Token::Heading)]);
        page.line(vec![
            job_state(view, job, canvas.glyphs),
            piece(format!("  {}", job_progress(view, job)), Token::Text),
        ]);
        if let Some(share) = job_share(job) {
            page.meter(share, number::percent(share));
        }
        if let JobState::Failed(failure) = &job.record.state {
            page.blank().text(format!("{} {}", canvas.glyphs.bad, view.failure(failure)), Token::Error);
            if let Some(hint) = view.hint(failure) {
                page.text(hint, Token::Text);
            }
        }
        page.blank();
        self.figures(view, job, page, canvas);
        page.blank();
        if !prompts(job).is_empty() && view.class < Class::Xl {
            page.append(self.samples.page(view, job, self.at(job)));
            page.blank();
        }
        if let Some(plan) = &job.plan {
            page.heading(view.t("training.plan"));
            training::plan_facts(view, plan, page);
        }
        if let JobSpec::Train(spec) = &job.record.spec {
            let pool = job.record.pool.as_deref().unwrap_or(LOCAL_POOL);
            training::cost_facts(view, pool, job.plan.as_ref(), spec.params.threads, job.record.compute, page);
            page.blank();
            if let Some(pool) = &job.record.pool {
                page.fact(view.t("field.pool"), cell(pool));
            }
            if let Some(slurm) = &job.slurm {
                page.fact(view.t("run.slurm"), slurm_text(view, slurm));
            }
            page.fact(view.t("col.base"), spec.base.clone());
            page.fact(view.t("word.dataset"), spec.dataset.clone());
        }
    }

    /// What is true at the cursor, and what to worry about.
    fn figures(&self, view: &View<'_>, job: &JobView, page: &mut Page, canvas: &Canvas<'_>) {
        let at = self.at(job);
        page.heading(view.fill("run.at_step", &[("step", &format!("{at:.0}"))]));
        let value = |i: usize| at_step(&self.series[i].points, at);
        let dash = || "-".to_owned();
        page.fact(view.t("col.loss"), self.smooth_at(at).map_or_else(dash, |v| format!("{v:.4}")));
        page.fact(view.t("run.raw"), value(0).map_or_else(dash, |v| format!("{v:.4}")));
        page.fact_as(view.t("run.eval"), value(1).map_or_else(dash, |v| format!("{v:.4}")), Token::SeriesSecond);
        page.fact(view.t("run.lr"), value(2).map_or_else(dash, number::figure));
        page.fact(view.t("run.grad"), value(3).map_or_else(dash, |v| format!("{v:.3}")));
        page.fact(view.t("unit.tokens_per_s"), value(4).map_or_else(dash, |v| format!("{v:.0}")));
        if self.compares() {
            let pair = |margin: usize, ahead: usize| match (value(margin), value(ahead)) {
                (Some(margin), Some(ahead)) => format!("{margin:.3}  {}", number::percent(ahead)),
                _ => dash(),
            };
            page.fact(view.t("run.margin"), pair(5, 6));
            page.fact_as(view.t("run.eval_margin"), pair(7, 8), Token::SeriesSecond);
        }
        if let Some((step, best)) = best(&self.series[1].points) {
            page.fact(view.t("run.best_eval"), format!("{best:.4} @ {step:.0}"));
        }
        page.blank().heading(view.t("run.watch"));
        for line in self.watch(view, job, canvas) {
            page.line(line);
        }
    }

    /// What to worry about: values that are no numbers, a loss far above its median, an evaluation that rises.
    fn watch(&self, view: &View<'_>, job: &JobView, canvas: &Canvas<'_>) -> Vec<Vec<Piece>> {
        let loss = &self.series[0].points;
        let line = |good: bool, key: &'static str| {
            let (sign, token) = if good { (canvas.glyphs.ok, Token::Ok) } else { ("!", Token::Warn) };
            vec![piece(format!("{sign} "), token), piece(format!("{}  ", view.t(key)), Token::Text)]
        };
        if loss.is_empty() {
            return vec![vec![piece(view.t("run.nothing_yet"), Token::Muted)]];
        }
        let mut lines = Vec::new();
        let bad = loss.iter().any(|(_, v)| !v.is_finite());
        let mut sorted: Vec<f64> = loss.iter().map(|(_, v)| *v).filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
        let recent = loss.iter().rev().take(20).any(|(_, v)| *v > 3.0 * median.max(1e-6));
        lines.push(line(
            !bad && !recent,
            if bad {
                "run.nan"
            } else if recent {
                "run.spike"
            } else {
                "run.steady"
            },
        ));
        let eval: Vec<f64> = self.series[1].points.iter().map(|(_, v)| *v).collect();
        if eval.len() >= 2 {
            let rising = eval.len() >= 4 && eval.windows(2).rev().take(3).all(|w| w[1] > w[0]);
            lines.push(line(!rising, if rising { "run.overfit" } else { "run.eval_fine" }));
        }
        if job.record.attempt > 1 {
            lines.push(vec![piece(view.fill("run.resumed", &[("n", &job.record.attempt.to_string())]), Token::Muted)]);
        }
        lines
    }
}

/// The value at a step, or the last one before it.
pub(super) fn at_step(points: &[(f64, f64)], step: f64) -> Option<f64> {
    let after = points.partition_point(|(x, _)| *x <= step);
    after.checked_sub(1).map(|i| points[i].1)
}

/// The lowest finite value with its step.
pub(super) fn best(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    points.iter().copied().filter(|(_, v)| v.is_finite()).min_by(|a, b| a.1.total_cmp(&b.1))
}

/// Bytes of a log that are asked for.
pub(super) const LOG_BYTES: u32 = if LOG_BYTES_MAX < 65_536 { LOG_BYTES_MAX } else { 65_536 };
