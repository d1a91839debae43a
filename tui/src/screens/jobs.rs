//! Jobs: everything that runs, waits or ran, with its log; and the verbs for a job that every screen shares.
//! Never here: what a job makes.

use crossterm::event::{KeyCode, KeyEvent};
use hone_protocol::batch::BatchSpec;
use hone_protocol::failure::Failure;
use hone_protocol::id::JobId;
use hone_protocol::job::{JobResult, JobSpec, JobState, JobView, ShownState};
use hone_protocol::request::{Answer, Request};
use ratatui::layout::Rect;

use super::panes::draw_empty;
use super::run::LOG_BYTES;
use super::tables::{job_kind, job_progress, job_share, job_state, job_subject};
use super::window::Window;
use super::{Class, Deed, Desk, Errand, Place, Screen, View};
use crate::action::{Action, Offer, offer};
use crate::keymap::Context;
use crate::layers::Layer;
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, piece};
use crate::widgets::line::TypedLine;
use crate::widgets::list::{Listing, Row, cell, column};
use crate::widgets::number;
use crate::widgets::page::Page;
use crate::widgets::text;

/// The actions that make sense for a job now.
pub(super) fn offers(job: &JobView) -> Vec<Offer> {
    let mut offers = vec![offer(Action::Log, "act.log_short")];
    let is_training = matches!(job.record.spec, JobSpec::Train(_));
    match job.shown {
        ShownState::Running | ShownState::Queued => {
            if is_training || matches!(job.record.spec, JobSpec::Batch(_) | JobSpec::Generate(_)) {
                offers.push(offer(Action::Pause, "jobs.pause"));
            }
            offers.push(offer(Action::Stop, "jobs.stop"));
        }
        ShownState::Paused => {
            offers.push(offer(Action::Run, "jobs.resume"));
            offers.push(offer(Action::Stop, "jobs.stop"));
        }
        ShownState::Failed => offers.push(offer(Action::Run, "jobs.again")),
        ShownState::Succeeded | ShownState::Cancelled => {}
    }
    if is_training {
        if job.record.checkpoint.is_some() || job.shown == ShownState::Succeeded {
            offers.push(offer(Action::Add, "models.register"));
        }
        offers.push(offer(Action::Clone, "training.clone"));
    }
    offers
}

/// Does a verb of a job; false when it makes no sense for it now.
pub(super) fn verb(action: Action, job: &JobView, desk: &mut Desk<'_>) -> bool {
    let id = job.record.id;
    if !offers(job).iter().any(|o| o.action == action) {
        return false;
    }
    match action {
        Action::Log => desk.open(Place::Log(id)),
        Action::Pause => desk.ask(Errand::Act(Deed::Pause), Request::Pause { job: id }),
        Action::Run => desk.ask(Errand::Act(Deed::Resume), Request::Resume { job: id }),
        Action::Stop => {
            let view = &desk.view;
            let title = view.fill("ask.stop_job", &[("what", &job_subject(job))]);
            let mut body = vec![view.t("ask.stop_job_body").to_owned()];
            if let Some(checkpoint) = &job.record.checkpoint {
                body.push(view.fill("ask.stop_job_checkpoint", &[("step", &checkpoint.step.to_string())]));
            }
            let wish = super::Wish::Ask { errand: Errand::Act(Deed::Cancel), request: Request::Cancel { job: id } };
            desk.push(Layer::ask(title, body, "ask.stop", vec![wish]));
        }
        Action::Add => desk.open(Place::Register(id)),
        Action::Clone => {
            if let JobSpec::Train(spec) = &job.record.spec {
                desk.open(Place::CloneRun(spec.clone()));
            }
        }
        _ => return false,
    }
    true
}

/// The end of a job's log, to read, follow and search.
pub(super) struct LogView {
    job: JobId,
    text: Window<(u32, u64, ShownState), (String, u64)>,
    /// Lines above the bottom; 0 follows.
    up: usize,
    search: TypedLine,
    searching: bool,
    height: usize,
}

impl LogView {
    /// The log of a job.
    pub(super) fn new(job: JobId) -> LogView {
        LogView { job, text: Window::default(), up: 0, search: TypedLine::default(), searching: false, height: 10 }
    }

    /// Whether the log is there and holds nothing.
    pub(super) fn is_known_empty(&self) -> bool {
        self.text.get().is_some_and(|(text, _)| text.trim().is_empty()) && !self.text.is_waiting()
    }

    pub(super) fn is_searching(&self) -> bool {
        self.searching
    }

    pub(super) fn offers(&self) -> Vec<Offer> {
        vec![
            offer(Action::Up, "hint_row.scroll"),
            offer(Action::Follow, "run.follow"),
            offer(Action::Filter, "hint_row.filter"),
            offer(Action::Copy, "hint_row.copy"),
            offer(Action::Out, "act.out"),
        ]
    }

    /// One step out inside the log; false when there is none.
    pub(super) fn out(&mut self) -> bool {
        let had = !self.search.is_empty();
        self.search = TypedLine::default();
        had
    }

    fn lines(&self) -> Vec<String> {
        let Some((content, _)) = self.text.get() else { return Vec::new() };
        let needle = self.search.text().to_lowercase();
        content.lines().map(text::clean).filter(|l| needle.is_empty() || l.to_lowercase().contains(&needle)).collect()
    }

    pub(super) fn act(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        let page = self.height.max(2) - 1;
        match action {
            Action::Up => self.up += 1,
            Action::Down => self.up = self.up.saturating_sub(1),
            Action::PageUp => self.up += page,
            Action::PageDown => self.up = self.up.saturating_sub(page),
            Action::First => self.up = usize::MAX,
            Action::Last | Action::Follow => self.up = 0,
            Action::Filter => self.searching = true,
            Action::Copy => desk.copy(self.lines().join("\n")),
            Action::Out => return true,
            _ => return false,
        }
        self.up = self.up.min(self.lines().len().saturating_sub(1));
        true
    }

    pub(super) fn key(&mut self, key: KeyEvent) {
        match key.code {
            KeyCode::Enter => self.searching = false,
            KeyCode::Esc => {
                self.searching = false;
                self.search = TypedLine::default();
            }
            _ => {
                self.search.key(key);
                self.up = 0;
            }
        }
    }

    pub(super) fn needs(&mut self, desk: &mut Desk<'_>) {
        let Some(job) = desk.view.mirror.job(self.job) else { return };
        let done = job.progress.as_ref().map_or(0, |p| p.done);
        // One request in flight; the next state of the job asks again.
        if !self.text.is_waiting() && !desk.view.away && self.text.want((job.record.attempt, done, job.shown)) {
            desk.ask(Errand::Log, Request::Log { job: self.job, bytes: LOG_BYTES });
        }
    }

    pub(super) fn answer(&mut self, answer: Result<Answer, Failure>, desk: &Desk<'_>) {
        match answer {
            Ok(Answer::Log { text, size_bytes }) => self.text.take((text, size_bytes)),
            Ok(_) => {}
            Err(failure) => self.text.fail(desk.view.failure(&failure)),
        }
    }

    pub(super) fn forget(&mut self) {
        self.text.forget();
    }

    pub(super) fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let lines = self.lines();
        let size = self.text.get().map_or(0, |(_, size)| *size);
        let follow = view.t(if self.up == 0 { "log.following" } else { "log.stopped" });
        let title = view.fill("log.title", &[("size", &number::bytes(size)), ("follow", follow)]);
        let at = canvas.put(area.x + 1, area.y, area.width - 1, &title, Token::Muted);
        if self.searching {
            let at = canvas.put(at + 2, area.y, 2, "/", Token::Accent);
            self.search.draw(canvas, at, area.y, area.right().saturating_sub(at + 1), Token::Text);
        } else if !self.search.is_empty() {
            canvas.put(
                at + 2,
                area.y,
                area.right().saturating_sub(at + 2),
                &format!("/{}", self.search.text()),
                Token::Match,
            );
        }
        let height = usize::from(area.height.saturating_sub(1));
        self.height = height;
        if lines.is_empty() {
            let said = match &self.text.problem {
                Some(problem) => problem.clone(),
                None if self.text.is_waiting() => view.t("log.loading").to_owned(),
                None => view.t("log.empty").to_owned(),
            };
            canvas.put(area.x + 1, area.y + 1, area.width - 1, &said, Token::Muted);
            return;
        }
        self.up = self.up.min(lines.len().saturating_sub(height.min(lines.len())));
        let end = lines.len() - self.up;
        let from = end.saturating_sub(height);
        for (i, line) in lines[from..end].iter().enumerate() {
            let token = if line.contains("error") || line.contains("ERROR") { Token::Error } else { Token::Text };
            canvas.put(area.x + 1, area.y + 1 + i as u16, area.width - 1, line, token);
        }
        if self.up > 0 {
            let below = view.fill("log.below", &[("n", &self.up.to_string())]);
            canvas.put_right(area.right(), area.bottom() - 1, area.width, &format!(" {below}"), Token::Accent);
        }
    }
}

/// The area.
#[derive(Default)]
pub(crate) struct Jobs {
    list: Listing,
    /// The log full screen.
    full: bool,
    log: Option<LogView>,
}

fn rows(view: &View<'_>, canvas: Option<&Canvas<'_>>) -> Vec<Row> {
    let glyphs = canvas.map_or_else(|| crate::glyphs::Glyphs::of(crate::glyphs::GlyphSet::Full), |c| c.glyphs);
    let row = |job: &JobView| Row {
        key: job.record.id.to_string(),
        cells: vec![
            piece(view.t(job_kind(job)), Token::Muted),
            piece(cell(&job_subject(job)), Token::Text),
            job_state(view, job, glyphs),
            piece(cell(&job_progress(view, job)), Token::Muted),
            piece(cell(&job.record.person), Token::Muted),
            piece(number::ago(view.language, view.now_ms, job.record.created_at_ms), Token::Muted),
        ],
    };
    view.mirror.jobs().iter().map(row).collect()
}

impl Jobs {
    fn selected<'a>(&mut self, view: &View<'a>) -> Option<&'a JobView> {
        let rows = self.list.passing(rows(view, None));
        let key = self.list.selected(&rows)?;
        view.mirror.jobs().iter().find(|j| j.record.id.to_string() == key)
    }
}

/// Where the thing is that a job made or makes.
fn made(view: &View<'_>, job: &JobView) -> Option<Place> {
    match (&job.record.spec, &job.record.state) {
        (JobSpec::Train(_), _) => Some(Place::Run(job.record.id)),
        (
            JobSpec::ImportModel { .. } | JobSpec::Convert(_) | JobSpec::Register(_),
            JobState::Succeeded(JobResult::Model(id)),
        ) => view.mirror.version(*id).map(|v| Place::Model(v.reference.clone())),
        (JobSpec::Process(spec), JobState::Succeeded(_)) => Some(Place::Dataset(spec.name.clone())),
        (JobSpec::Facts(spec), JobState::Succeeded(_)) => {
            Some(Place::Dataset(spec.dataset.split('@').next().unwrap_or_default().to_owned()))
        }
        (JobSpec::ImportDataset { name, .. }, JobState::Succeeded(_)) => Some(Place::Dataset(name.clone())),
        (JobSpec::Batch(BatchSpec::Dataset(batch)), JobState::Succeeded(_)) => Some(Place::Dataset(batch.name.clone())),
        (JobSpec::Evaluate(_), JobState::Succeeded(_)) => Some(Place::Area(crate::action::Area::Evaluation)),
        _ => None,
    }
}

impl Screen for Jobs {
    fn trail(&self, view: &View<'_>) -> Vec<String> {
        if self.full { vec![view.t("act.log").to_owned()] } else { Vec::new() }
    }

    fn context(&self) -> Context {
        let searching = self.full && self.log.as_ref().is_some_and(LogView::is_searching);
        if self.list.filtering || searching { Context::Field } else { Context::Browse }
    }

    fn offers(&mut self, view: &View<'_>) -> Vec<Offer> {
        if let (true, Some(log)) = (self.full, &self.log) {
            return log.offers();
        }
        let Some(job) = self.selected(view) else { return Vec::new() };
        let mut offers = vec![offer(Action::Enter, "jobs.open")];
        offers.extend(self::offers(job));
        offers.push(offer(Action::Filter, "hint_row.filter"));
        offers
    }

    fn act(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        if let (true, Some(log)) = (self.full, &mut self.log) {
            if action == Action::Out && !log.out() {
                self.full = false;
                return true;
            }
            return log.act(action, desk);
        }
        let rows = self.list.passing(rows(&desk.view, None));
        if self.list.act(action, &rows) {
            return true;
        }
        let job = self.selected(&desk.view);
        match (action, job) {
            (Action::Out, _) if self.list.is_filtered() => self.list.clear_filter(),
            (Action::Log, Some(_)) => self.full = true,
            (Action::Enter, Some(job)) => match made(&desk.view, job) {
                Some(place) => desk.open(place),
                None => self.full = true,
            },
            (action, Some(job)) => return verb(action, job, desk),
            _ => return false,
        }
        true
    }

    fn key(&mut self, key: KeyEvent, _: &mut Desk<'_>) {
        match &mut self.log {
            Some(log) if self.full => log.key(key),
            _ => self.list.type_key(key),
        }
    }

    fn open(&mut self, place: Place, _: &mut Desk<'_>) {
        if let Place::Job(id) | Place::Log(id) = place {
            self.list.clear_filter();
            self.list.select(id.to_string());
            self.log = Some(LogView::new(id));
            self.full = matches!(place, Place::Log(_));
        }
    }

    fn needs(&mut self, desk: &mut Desk<'_>) {
        let id = self.selected(&desk.view).map(|j| j.record.id);
        if self.log.as_ref().map(|l| l.job) != id {
            self.log = id.map(LogView::new);
            self.full &= id.is_some();
        }
        if let Some(log) = &mut self.log {
            log.needs(desk);
        }
    }

    fn answer(&mut self, errand: Errand, answer: Result<Answer, Failure>, desk: &mut Desk<'_>) {
        if let (Errand::Log, Some(log)) = (errand, &mut self.log) {
            log.answer(answer, desk);
        }
    }

    fn forget(&mut self) {
        if let Some(log) = &mut self.log {
            log.forget();
        }
    }

    fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let all = rows(view, Some(canvas));
        if all.is_empty() {
            return draw_empty(canvas, area, view.t("jobs.empty"));
        }
        if let (true, Some(log)) = (self.full, &mut self.log) {
            return log.draw(canvas, area, view);
        }
        let rows = self.list.passing(all);
        // At the largest size the log has a pane of its own, and the list keeps the left with the detail below it.
        let whole = area;
        let area = if view.class == Class::Xl { Rect { width: area.width / 2, ..area } } else { area };
        let below = match view.class {
            Class::Xs => 0,
            _ => area.height - (rows.len() as u16 + 3).clamp(4, area.height / 2),
        };
        let top = Rect { height: area.height - below, ..area };
        let columns = [
            column(view.t("col.kind"), 14),
            column(view.t("col.what"), 0),
            column(view.t("col.state"), 12),
            column(view.t("col.progress"), 26).from(70),
            column(view.t("col.who"), 10).from(110),
            column(view.t("col.asked"), 10).from(96),
        ];
        self.list.draw(canvas, top, &columns, &rows, true);
        if below == 0 {
            return;
        }
        canvas.rule(area, top.bottom(), true);
        let lower = Rect { y: top.bottom() + 1, height: below - 1, ..area };
        let Some(job) = self.selected(view) else { return };
        let mut page = Page::new();
        detail(view, job, &mut page, canvas.glyphs);
        let log_area = match view.class {
            Class::Xl => Rect { x: area.right() + 1, width: whole.width - area.width - 1, ..whole },
            Class::Xs | Class::S => lower,
            _ => Rect { width: area.width * 3 / 5, ..lower },
        };
        let detail_area = match view.class {
            Class::Xl => Rect { x: area.x + 1, width: area.width - 2, ..lower },
            // One pane: an empty log gives its place to what is known.
            Class::Xs | Class::S => Rect { x: area.x + 1, width: area.width - 2, ..lower },
            _ => Rect { x: log_area.right() + 2, width: area.right() - log_area.right() - 2, ..lower },
        };
        let one_pane = view.class < Class::M;
        let has_log = self.log.as_ref().is_some_and(|l| !l.is_known_empty());
        if let Some(log) = self.log.as_mut().filter(|_| has_log || !one_pane) {
            let cursor = canvas.cursor;
            log.draw(canvas, log_area, view);
            canvas.cursor = cursor;
        }
        if !one_pane || !has_log {
            page.draw_top(canvas, detail_area);
        }
        match view.class {
            Class::Xl => canvas.bar(area.right(), whole),
            class if class >= Class::M => canvas.bar(log_area.right(), lower),
            _ => {}
        }
    }
}

/// A job beside its log.
fn detail(view: &View<'_>, job: &JobView, page: &mut Page, glyphs: &crate::glyphs::Glyphs) {
    if matches!(job.record.spec, JobSpec::Train(_)) {
        return super::training::summary(view, job, page, glyphs);
    }
    page.line(vec![piece(cell(&job_subject(job)), Token::Heading)]);
    page.line(vec![job_state(view, job, glyphs), piece(format!("  {}", job_progress(view, job)), Token::Muted)]);
    if let Some(share) = job_share(job) {
        page.meter(share, number::percent(share));
    }
    if let (JobSpec::Batch(spec), Some(counts)) = (&job.record.spec, &job.record.batch) {
        let (from, to) = spec.ends();
        page.fact(view.t("batch.from"), from);
        page.fact(view.t("batch.to"), to);
        page.fact(view.t("batch.payer"), spec.payer().to_owned());
        page.fact(view.t("batch.answered"), format!("{} / {}", counts.answered, counts.rows));
        page.fact(view.t("batch.failed"), counts.failed.to_string());
        page.fact(view.t("batch.tokens"), format!("{} + {}", counts.prompt_tokens, counts.completion_tokens));
    }
    match &job.record.state {
        JobState::Failed(failure) => {
            page.blank().text(format!("{} {}", glyphs.bad, view.failure(failure)), Token::Error);
            if let Some(hint) = view.hint(failure) {
                page.text(hint, Token::Text);
            }
        }
        JobState::Succeeded(JobResult::Dataset(_, report)) => {
            page.blank();
            super::datasets::report_facts(view, report, page);
        }
        _ => {}
    }
    page.blank();
    page.fact(view.t("jobs.who"), job.record.person.clone());
    page.fact(view.t("jobs.asked"), number::ago(view.language, view.now_ms, job.record.created_at_ms));
    page.fact(view.t("word.attempt"), job.record.attempt.to_string());
    page.fact("id", job.record.id.to_string());
}
