//! Training: the list of runs, the four-part form for a new one with its pre-flight, and the door to a run's curve.
//! Never here: the curve itself (`run.rs`), or what a field means (the schema).

use crossterm::event::KeyEvent;
use hone_protocol::failure::Failure;
use hone_protocol::id::JobId;
use hone_protocol::job::{JobResult, JobSpec, JobState, JobView, ShownState};
use hone_protocol::pool::LOCAL_POOL;
use hone_protocol::request::{Answer, Request};
use hone_protocol::train::{TrainPlan, TrainResult, TrainSpec};
use hone_protocol::usage::ComputeUsage;
use ratatui::layout::Rect;

use super::compare::{CompareView, RUNS_MAX};
use super::panes::{draw_empty, panes};
use super::run::RunView;
use super::tables::{self, job_progress, job_state, job_subject};
use super::window::Window;
use super::{Class, Deed, Desk, Errand, Place, Screen, View};
use crate::action::{Action, Offer, offer};
use crate::draft::{self, Draft, PRESETS};
use crate::keymap::Context;
use crate::layers::{Layer, Sheet};
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, piece};
use crate::widgets::chart::letter;
use crate::widgets::form::FormReply;
use crate::widgets::list::{Listing, Row, cell, column};
use crate::widgets::number;
use crate::widgets::page::Page;

/// How long the form rests before a plan is asked for, in milliseconds: planning reads the rows.
const PLAN_REST_MS: i64 = 300;

/// Where the person is.
#[derive(Default)]
enum Level {
    /// The list of runs.
    #[default]
    Runs,
    /// The form.
    Form,
    /// One run.
    Run(Box<RunView>),
    /// Several runs.
    Compare(Box<CompareView>),
}

/// The area.
#[derive(Default)]
pub(crate) struct Training {
    level: Level,
    runs: Listing,
    /// Runs to compare, in the order in which they were marked.
    marked: Vec<JobId>,
    draft: Draft,
    plan: Window<TrainSpec, TrainPlan>,
    changed_at_ms: i64,
    /// The curve of the selected run, in the third pane.
    side: Option<RunView>,
}

fn rows(view: &View<'_>, marked: &[JobId]) -> Vec<Row> {
    let row = |job: &JobView| {
        let JobSpec::Train(spec) = &job.record.spec else { return None };
        let loss = tables::job_loss(job).map(|l| format!("{l:.3}")).unwrap_or_default();
        let state = job_state(view, job, crate::glyphs::Glyphs::of(crate::glyphs::GlyphSet::Full));
        Some(Row {
            key: job.record.id.to_string(),
            cells: vec![
                match marked.iter().position(|id| *id == job.record.id) {
                    Some(at) => piece(format!("{} {}", letter(at), cell(&job_subject(job))), Token::Compared(at as u8)),
                    None => piece(cell(&job_subject(job)), Token::Text),
                },
                state,
                piece(loss, Token::Text),
                piece(cell(&job_progress(view, job)), Token::Muted),
                piece(cell(&spec.base), Token::Muted),
            ],
        })
    };
    view.mirror.runs().filter_map(row).collect()
}

impl Training {
    fn selected<'a>(&mut self, view: &View<'a>) -> Option<&'a JobView> {
        let rows = self.runs.passing(rows(view, &self.marked));
        let key = self.runs.selected(&rows)?;
        view.mirror.runs().find(|j| j.record.id.to_string() == key)
    }

    fn open_form(&mut self, desk: &mut Desk<'_>) {
        self.draft.fill_in(&desk.view);
        self.draft.name_result();
        self.changed_at_ms = desk.view.now_ms - PLAN_REST_MS;
        self.level = Level::Form;
    }

    fn act_on_form(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        match action {
            Action::Out => self.level = Level::Runs,
            Action::Pause => {
                self.draft.apply_preset(self.draft.preset + 1);
                self.changed_at_ms = desk.view.now_ms;
            }
            Action::Inspect => {
                let Some(spec) = self.draft.spec() else { return true };
                let command = draft::command(&spec) + &self.draft.flags();
                let lines = command.lines().map(|l| piece(l, Token::Text)).collect();
                let title = desk.view.t("training.as_command").to_owned();
                desk.push(Layer::Sheet(Sheet { title, lines, copy: Some(command), scroll: 0 }));
            }
            Action::New if desk.view.mirror.datasets().is_empty() => desk.open(Place::ImportDataset(String::new())),
            _ => match self.draft.form.act(action, &desk.view) {
                FormReply::No => return false,
                FormReply::Moved => {}
                FormReply::Changed => self.changed_at_ms = desk.view.now_ms,
                FormReply::Wrong => desk.warn(desk.view.t("form.wrong")),
                FormReply::Start => {
                    if let Some(spec) = self.draft.spec() {
                        let spec = JobSpec::Train(Box::new(spec));
                        let (payer, pool) = (self.draft.payer(), self.draft.pool());
                        desk.ask(Errand::Act(Deed::Submit), Request::Submit { spec, payer, pool });
                    }
                }
            },
        }
        true
    }

    fn act_on_list(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        let rows = self.runs.passing(rows(&desk.view, &self.marked));
        if self.runs.act(action, &rows) {
            return true;
        }
        match (action, self.selected(&desk.view)) {
            (Action::Mark, Some(job)) => self.mark(job.record.id, desk),
            (Action::Compare, _) if self.marked.len() < 2 => desk.warn(desk.view.t("compare.mark_two")),
            (Action::Compare, _) => {
                self.level = Level::Compare(Box::new(CompareView::new(self.marked.iter().copied())));
            }
            (Action::New, _) => self.open_form(desk),
            (Action::Enter, None) => self.open_form(desk),
            (Action::Enter, Some(job)) => self.level = Level::Run(Box::new(RunView::new(job.record.id))),
            (Action::Out, _) if self.runs.is_filtered() => self.runs.clear_filter(),
            (action, Some(job)) => return super::jobs::verb(action, job, desk),
            _ => return false,
        }
        true
    }

    fn offers_of_list(&mut self, view: &View<'_>) -> Vec<Offer> {
        let Some(job) = self.selected(view) else {
            return vec![offer(Action::New, "training.new"), offer(Action::Enter, "training.new")];
        };
        let mut offers = vec![offer(Action::Enter, "training.open"), offer(Action::New, "training.new")];
        offers.extend(super::jobs::offers(job));
        offers.push(offer(Action::Mark, "compare.mark"));
        offers.push(offer(Action::Compare, "compare.compare"));
        offers.push(offer(Action::Filter, "hint_row.filter"));
        offers
    }

    /// Marks a run for comparing, or takes its mark away.
    fn mark(&mut self, job: JobId, desk: &mut Desk<'_>) {
        if let Some(at) = self.marked.iter().position(|id| *id == job) {
            self.marked.remove(at);
        } else if self.marked.len() == RUNS_MAX {
            desk.warn(desk.view.t("compare.full"));
        } else {
            self.marked.push(job);
        }
    }

    /// Problem of the pre-flight, or what it found.
    fn preflight(&self, view: &View<'_>, page: &mut Page) {
        let spec = self.draft.spec();
        page.blank().heading(view.t("training.preflight"));
        if let Some(problem) = &self.plan.problem {
            page.text(format!("! {problem}"), Token::Warn);
            return;
        }
        let plan = self.plan.get_if(|asked| Some(asked) == spec.as_ref());
        let Some(plan) = plan else {
            let key =
                if spec.is_none() || self.draft.form.problems(view) > 0 { "form.wrong" } else { "training.planning" };
            page.text(view.t(key), Token::Muted);
            return;
        };
        plan_facts(view, plan, page);
        let pool = self.draft.pool().unwrap_or_else(|| LOCAL_POOL.to_owned());
        cost_facts(view, &pool, Some(plan), spec.map_or(0, |spec| spec.params.threads), None, page);
    }

    fn draw_form(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        if view.class < Class::M {
            let ready = self.ready_line(view);
            let rows = Rect { height: area.height.saturating_sub(1), ..area };
            let mut form = std::mem::take(&mut self.draft.form);
            form.draw(canvas, rows, view, Page::new());
            self.draft.form = form;
            canvas.put(area.x + 1, area.bottom() - 1, area.width - 2, &ready, Token::Accent);
            return;
        }
        let mut page = Page::new();
        self.preflight(view, &mut page);
        page.blank();
        let name = view.t(PRESETS[self.draft.preset].name);
        let changes = self.draft.changes();
        page.heading(view.fill("training.preset", &[("name", name), ("n", &changes.len().to_string())]));
        for (field, preset) in changes.iter().take(6) {
            page.line(vec![
                piece(format!("{}  ", view.both(field.label)), Token::Muted),
                piece(format!("{preset} > {}", field.value), Token::Text),
            ]);
        }
        page.blank().text(self.ready_line(view), Token::Accent);
        let mut form = std::mem::take(&mut self.draft.form);
        form.draw(canvas, area, view, page);
        self.draft.form = form;
    }

    fn ready_line(&self, view: &View<'_>) -> String {
        match self.draft.form.problems(view) {
            0 => match self.plan.get_if(|asked| Some(asked) == self.draft.spec().as_ref()) {
                Some(plan) => view.fill(
                    "training.ready_plan",
                    &[("steps", &number::grouped(plan.steps)), ("memory", &number::bytes(plan.memory_bytes))],
                ),
                None => view.t("training.ready").to_owned(),
            },
            n => view.fill("form.to_fix", &[("n", &n.to_string())]),
        }
    }
}

/// What a run may cost where computing has a price, and what it did cost once an attempt has ended.
pub(super) fn cost_facts(
    view: &View<'_>,
    pool: &str,
    plan: Option<&TrainPlan>,
    threads: u32,
    compute: Option<ComputeUsage>,
    page: &mut Page,
) {
    let pool = view.mirror.pools().iter().find(|known| known.record.name == pool);
    let (Some(facts), Some(pool)) = (view.mirror.facts(), pool) else { return };
    let price = pool.record.price;
    if let Some(cost) = plan.and_then(|plan| price.of_plan(plan, threads, pool.cores)) {
        page.fact(view.t("plan.cost"), format!("{} {}", cost.rounded(), facts.currency));
    }
    if let Some(compute) = compute.filter(|_| price.is_set()) {
        page.fact(view.t("run.cost"), format!("{} {}", compute.amount.rounded(), facts.currency));
    }
}

/// A plan as facts; shown by the form before and by the run after the start.
pub(super) fn plan_facts(view: &View<'_>, plan: &TrainPlan, page: &mut Page) {
    let n = number::grouped;
    page.fact(view.t("plan.steps"), n(plan.steps));
    let rows = view.fill("plan.rows_of", &[("train", &n(plan.rows)), ("held", &n(plan.rows_held_out))]);
    page.fact(view.t("plan.rows"), rows);
    let tokens = view.fill("plan.tokens_of", &[("all", &n(plan.tokens)), ("target", &n(plan.target_tokens))]);
    page.fact(view.t("plan.tokens"), tokens);
    if let Some(duration_ms) = plan.duration_ms {
        page.fact(
            view.t("training.time"),
            view.fill("training.about_time", &[("t", &number::duration(view.language, duration_ms))]),
        );
    }
    page.fact(view.t("plan.memory"), number::bytes(plan.memory_bytes));
    page.fact(view.t("plan.disk"), number::bytes(plan.disk_bytes()));
    if plan.streamed {
        page.text(view.t("plan.streamed"), Token::Muted);
    }
    if plan.recompute_every > 0 {
        let layers = n(u64::from(plan.recompute_every));
        page.text(view.fill("plan.recomputed", &[("n", &layers)]), Token::Muted);
    }
    for (key, count) in [
        ("plan.left_out", plan.rows_left_out),
        ("plan.cut", plan.rows_cut),
        ("plan.without_targets", plan.rows_without_targets),
    ] {
        if count > 0 {
            page.text(format!("! {}", view.fill(key, &[("n", &n(count))])), Token::Warn);
        }
    }
}

/// What a run took, beside what its plan said.
fn actuals(view: &View<'_>, plan: Option<&TrainPlan>, result: &TrainResult, page: &mut Page) {
    let beside = |actual: String, planned: Option<String>| match planned {
        Some(planned) => view.fill("training.planned", &[("actual", &actual), ("planned", &planned)]),
        None => actual,
    };
    if let Some(duration_ms) = result.duration_ms {
        let time = |ms| number::duration(view.language, ms);
        let planned = plan.and_then(|plan| plan.duration_ms).map(time);
        page.fact(view.t("training.time"), beside(time(duration_ms), planned));
    }
    if let Some(peak) = result.peak_memory_bytes {
        page.fact(
            view.t("plan.memory"),
            beside(number::bytes(peak), plan.map(|plan| number::bytes(plan.memory_bytes))),
        );
    }
}

impl Screen for Training {
    fn trail(&self, view: &View<'_>) -> Vec<String> {
        match &self.level {
            Level::Runs => Vec::new(),
            Level::Form => vec![view.t("training.new").to_owned()],
            Level::Run(run) => run.trail(view),
            Level::Compare(compare) => compare.trail(view),
        }
    }

    fn context(&self) -> Context {
        match &self.level {
            Level::Runs if self.runs.filtering => Context::Field,
            Level::Form if self.draft.form.is_editing() => Context::Field,
            Level::Run(run) => run.context(),
            _ => Context::Browse,
        }
    }

    fn takes_digits(&self) -> bool {
        matches!(self.level, Level::Form) && self.draft.form.takes_digits()
    }

    fn offers(&mut self, view: &View<'_>) -> Vec<Offer> {
        match &mut self.level {
            Level::Runs => self.offers_of_list(view),
            Level::Form => vec![
                offer(Action::Run, "training.start"),
                offer(Action::Down, "form.field"),
                offer(Action::Left, "form.step"),
                offer(Action::Right, "form.step"),
                offer(Action::Enter, "form.edit"),
                offer(Action::Pause, "training.presets"),
                offer(Action::Delete, "form.default"),
                offer(Action::Undo, "form.undo"),
                offer(Action::Add, "form.all_fields"),
                offer(Action::Inspect, "training.as_command"),
                offer(Action::Out, "act.out"),
            ],
            Level::Run(run) => run.offers(view),
            Level::Compare(compare) => compare.offers(),
        }
    }

    fn act(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        match &mut self.level {
            Level::Runs => self.act_on_list(action, desk),
            Level::Form => self.act_on_form(action, desk),
            Level::Run(run) => {
                if run.act(action, desk) {
                    return true;
                }
                if action == Action::Out {
                    self.level = Level::Runs;
                    return true;
                }
                false
            }
            Level::Compare(_) if action == Action::Out => {
                self.level = Level::Runs;
                true
            }
            Level::Compare(compare) => compare.act(action),
        }
    }

    fn key(&mut self, key: KeyEvent, desk: &mut Desk<'_>) {
        match &mut self.level {
            Level::Runs => self.runs.type_key(key),
            Level::Form => {
                if self.draft.form.key(key) == FormReply::Changed {
                    self.changed_at_ms = desk.view.now_ms;
                }
            }
            Level::Run(run) => run.key(key),
            Level::Compare(_) => {}
        }
    }

    fn paste(&mut self, text: &str, _: &mut Desk<'_>) -> bool {
        let typing = matches!(self.level, Level::Form) && self.draft.form.is_editing();
        if typing {
            self.draft.form.paste(text);
        }
        typing
    }

    fn open(&mut self, place: Place, desk: &mut Desk<'_>) {
        match place {
            Place::NewRun { base, dataset } => {
                for (key, value) in [("base", base), ("dataset", dataset)] {
                    if !value.is_empty() {
                        self.draft.form.set(key, value);
                    }
                }
                self.open_form(desk);
            }
            Place::CloneRun(spec) => {
                self.draft.copy_from(&spec);
                self.open_form(desk);
            }
            Place::Run(id) => {
                self.runs.select(id.to_string());
                self.level = Level::Run(Box::new(RunView::new(id)));
            }
            _ => {}
        }
    }

    fn needs(&mut self, desk: &mut Desk<'_>) {
        let beside = matches!(self.level, Level::Runs) && desk.view.class == Class::Xl;
        let selected = self.selected(&desk.view).map(|j| j.record.id).filter(|_| beside);
        RunView::beside(&mut self.side, selected, desk);
        match &mut self.level {
            Level::Runs => {}
            Level::Form => {
                self.draft.fill_in(&desk.view);
                let rested = desk.view.now_ms >= self.changed_at_ms + PLAN_REST_MS;
                let ready = self.draft.form.problems(&desk.view) == 0 && !desk.view.away;
                if let Some(spec) = self.draft.spec().filter(|_| rested && ready)
                    && self.plan.want(spec.clone())
                {
                    desk.ask(Errand::Plan, Request::PlanTrain { spec: Box::new(spec) });
                }
            }
            Level::Run(run) => run.needs(desk),
            Level::Compare(compare) => compare.needs(desk),
        }
    }

    fn answer(&mut self, errand: Errand, answer: Result<Answer, Failure>, desk: &mut Desk<'_>) {
        match (errand, answer) {
            (Errand::Plan, Ok(Answer::Plan(plan))) => self.plan.take(plan),
            (Errand::Plan, Err(failure)) => self.plan.fail(desk.view.failure(&failure)),
            (Errand::Act(Deed::Submit), Ok(Answer::Job(job))) => {
                self.runs.select(job.record.id.to_string());
                self.level = Level::Run(Box::new(RunView::new(job.record.id)));
            }
            (Errand::Act(Deed::Submit), Err(failure)) => {
                let field = failure.place.rsplit(['.', ' ']).next().unwrap_or_default().to_owned();
                let said = desk.view.failure(&failure);
                self.draft.form.focus_on(&field);
                self.draft.form.remote.insert(field, said);
            }
            (errand, answer) => match (&mut self.level, &mut self.side) {
                (Level::Run(run), _) => run.answer(errand, answer, desk),
                (Level::Compare(compare), _) => compare.answer(errand, answer),
                (_, Some(side)) => side.answer(errand, answer, desk),
                _ => {}
            },
        }
    }

    fn forget(&mut self) {
        self.plan.forget();
        match &mut self.level {
            Level::Run(run) => run.forget(),
            Level::Compare(compare) => compare.forget(),
            Level::Runs | Level::Form => {}
        }
        self.side = None;
    }

    fn wakes_at_ms(&self, view: &View<'_>) -> Option<i64> {
        let due = self.changed_at_ms + PLAN_REST_MS;
        (matches!(self.level, Level::Form) && due > view.now_ms).then_some(due)
    }

    fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        match &mut self.level {
            Level::Form => self.draw_form(canvas, area, view),
            Level::Run(run) => run.draw(canvas, area, view),
            Level::Compare(compare) => compare.draw(canvas, area, view),
            Level::Runs => {
                let all = rows(view, &self.marked);
                if all.is_empty() {
                    return draw_empty(canvas, area, view.t("training.empty"));
                }
                let rows = self.runs.passing(all);
                let panes = panes(canvas, area, view, 12, true);
                let columns = [
                    column(view.t("col.run"), 0),
                    column(view.t("col.state"), 12),
                    column(view.t("col.loss"), 6).right(),
                    column(view.t("col.progress"), 24).from(64),
                    column(view.t("col.base"), 24).from(110),
                ];
                self.runs.draw(canvas, panes.list, &columns, &rows, true);
                if let (Some(reader), Some(job)) = (panes.reader, self.selected(view)) {
                    let mut page = Page::new();
                    summary(view, job, &mut page, canvas.glyphs);
                    page.draw_top(canvas, reader);
                }
                if let (Some(context), Some(side)) = (panes.context, &mut self.side) {
                    side.draw_side(canvas, context, view);
                }
            }
        }
    }
}

/// A run beside the list.
pub(super) fn summary(view: &View<'_>, job: &JobView, page: &mut Page, glyphs: &crate::glyphs::Glyphs) {
    let JobSpec::Train(spec) = &job.record.spec else { return };
    let state = job_state(view, job, glyphs);
    page.line(vec![piece(cell(&job_subject(job)), Token::Heading)]);
    page.line(vec![state, piece(format!("  {}", job_progress(view, job)), Token::Muted)]);
    if let (ShownState::Running, Some(share)) = (job.shown, tables::job_share(job)) {
        page.meter(share, number::percent(share));
    }
    if let JobState::Failed(failure) = &job.record.state {
        page.blank().text(format!("{} {}", glyphs.bad, view.failure(failure)), Token::Error);
        if let Some(hint) = view.hint(failure) {
            page.text(hint, Token::Text);
        }
    }
    page.blank();
    page.fact(view.t("col.base"), spec.base.clone());
    page.fact(view.t("word.dataset"), spec.dataset.clone());
    let p = &spec.params;
    page.fact("LoRA", format!("r {}  alpha {}", p.rank, number::typed(f64::from(p.alpha))));
    page.fact(view.t("training.rate"), number::typed(f64::from(p.learning_rate)));
    page.fact(view.t("training.windows"), format!("{} x {}", p.batch_windows * p.accumulation, p.sequence_tokens));
    if let JobState::Succeeded(JobResult::Train(result)) = &job.record.state {
        page.blank().heading(view.t("training.result"));
        page.fact(view.t("plan.steps"), number::grouped(result.steps));
        page.fact(view.t("col.loss"), format!("{:.3}", result.loss.value()));
        page.fact(view.t("training.speed"), format!("{:.0} {}", result.tokens_per_s, view.t("unit.tokens_per_s")));
        actuals(view, job.plan.as_ref(), result, page);
        let pool = job.record.pool.as_deref().unwrap_or(LOCAL_POOL);
        cost_facts(view, pool, job.plan.as_ref(), p.threads, job.record.compute, page);
        if let Some(version) = result.version.and_then(|id| view.mirror.version(id)) {
            page.fact_as(view.t("word.version"), version.reference.clone(), Token::Accent);
        }
    } else if let Some(plan) = &job.plan {
        page.blank().heading(view.t("training.plan"));
        plan_facts(view, plan, page);
    }
    page.blank();
    page.fact(view.t("jobs.who"), job.record.person.clone());
    page.fact(view.t("jobs.asked"), number::ago(view.language, view.now_ms, job.record.created_at_ms));
    page.fact(view.t("word.attempt"), job.record.attempt.to_string());
}
