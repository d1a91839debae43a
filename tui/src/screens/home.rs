//! Home: the guided path from nothing to a called model, computed from the facts each time, and what runs now. Enter
//! does a step with everything known filled in. Never here: a step's own form.

use hone_protocol::failure::Failure;
use hone_protocol::hook::AlertKind;
use hone_protocol::job::{JobSpec, JobView, ShownState};
use hone_protocol::model::Weights;
use hone_protocol::request::Answer;
use hone_protocol::service::ServiceState;
use ratatui::layout::Rect;

#[cfg(test)]
use super::models::STARTER;
use super::panes::panes;
use super::run::RunView;
use super::tables::{job_loss, job_progress, job_share, job_state, job_subject, service_state};
use super::{Class, Desk, Errand, Place, Screen, View};
use crate::action::{Action, Area, Offer, offer};
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, piece};
use crate::widgets::list::cell;
use crate::widgets::number;
use crate::widgets::page::Page;

/// The area.
#[derive(Default)]
pub(crate) struct Home {
    /// The chosen step; none stands on the first that is not done.
    at: Option<usize>,
    /// The curve of the newest run, in the third pane.
    side: Option<RunView>,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Done,
    Running,
    Failed,
    Open,
}

/// One step of the path.
struct Step {
    name: &'static str,
    about: &'static str,
    standing: Standing,
    detail: String,
    place: Place,
}

/// The newest job of a kind that is not done, and whether the newest of all failed.
fn latest<'a>(view: &View<'a>, of: impl Fn(&JobSpec) -> bool) -> Option<&'a JobView> {
    view.mirror.jobs().iter().find(|j| of(&j.record.spec))
}

/// Where a step stands: done by a fact, else by its newest job.
fn standing(done: bool, job: Option<&JobView>) -> Standing {
    match job.map(|j| j.shown) {
        Some(ShownState::Running | ShownState::Queued | ShownState::Paused) => Standing::Running,
        _ if done => Standing::Done,
        Some(ShownState::Failed) => Standing::Failed,
        _ => Standing::Open,
    }
}

fn steps(view: &View<'_>) -> Vec<Step> {
    let mirror = view.mirror;
    let running = |job: Option<&JobView>| {
        job.filter(|j| matches!(j.shown, ShownState::Running | ShownState::Queued | ShownState::Paused))
            .map(|j| (job_progress(view, j), Place::Job(j.record.id)))
    };
    let mut steps = Vec::new();
    let mut push = |name, about, done: Option<String>, job: Option<&JobView>, place: Place| {
        let standing = standing(done.is_some(), job);
        let (detail, place) = match (standing, running(job), job) {
            (Standing::Running, Some((progress, at)), Some(j)) => {
                (progress, if matches!(j.record.spec, JobSpec::Train(_)) { Place::Run(j.record.id) } else { at })
            }
            (Standing::Failed, _, Some(j)) => (job_progress(view, j), place),
            _ => (done.unwrap_or_default(), place),
        };
        steps.push(Step { name, about, standing, detail, place });
    };
    let base = mirror.bases().last();
    push(
        "home.import_model",
        "home.import_model.about",
        base.map(|v| format!("{}  {}", v.reference, number::parameters(v.record.facts.parameters))),
        latest(view, |s| matches!(s, JobSpec::ImportModel { .. })),
        base.map_or(Place::ImportModel(String::new()), |v| Place::Model(v.reference.clone())),
    );
    let data = mirror.datasets().last();
    push(
        "home.import_data",
        "home.import_data.about",
        data.and_then(|d| {
            d.versions.last().map(|v| {
                let rows = view.fill("datasets.rows", &[("n", &number::grouped(v.rows))]);
                format!("{}@{}  {rows}", d.record.name, v.number)
            })
        }),
        latest(view, |s| matches!(s, JobSpec::ImportDataset { .. })),
        data.map_or(Place::ImportDataset(String::new()), |d| Place::Dataset(d.record.name.clone())),
    );
    let trained = mirror.runs().find(|j| j.shown == ShownState::Succeeded);
    let new_run = Place::NewRun {
        base: base.map(|v| v.reference.clone()).unwrap_or_default(),
        dataset: data.map(|d| d.record.name.clone()).unwrap_or_default(),
    };
    push(
        "home.train",
        "home.train.about",
        trained.map(|j| {
            let loss = job_loss(j).map(|l| format!("  {} {l:.2}", view.t("col.loss"))).unwrap_or_default();
            format!("{}{loss}", job_subject(j))
        }),
        mirror.runs().next(),
        trained.map_or(new_run.clone(), |j| Place::Run(j.record.id)),
    );
    let adapter = mirror.adapters().last();
    push(
        "home.register",
        "home.register.about",
        adapter.map(|v| match &v.record.weights {
            Weights::Adapter { rank, .. } => format!("{}  LoRA r{rank}", v.reference),
            Weights::Base => v.reference.clone(),
        }),
        None,
        adapter.map_or(new_run, |v| Place::Model(v.reference.clone())),
    );
    let judged = adapter.or(base);
    let evaluation = mirror.evaluations().iter().find(|e| judged.is_some_and(|v| v.record.id == e.version));
    push(
        "home.evaluate",
        "home.evaluate.about",
        evaluation.map(|e| {
            let score = e.score.map(|s| format!("{} {s:.2}  ", view.t("col.score"))).unwrap_or_default();
            format!("{score}{} {}", view.t("col.loss"), e.loss.map_or("-".into(), |l| format!("{l:.2}")))
        }),
        latest(view, |s| matches!(s, JobSpec::Evaluate(_))),
        match evaluation {
            Some(_) => Place::Area(Area::Evaluation),
            None => Place::Evaluate(judged.map(|v| v.reference.clone()).unwrap_or_default()),
        },
    );
    let service = mirror.services().last();
    push(
        "home.publish",
        "home.publish.about",
        service.map(|s| format!("{}  {}", s.record.name, s.version_reference)),
        None,
        match service {
            Some(s) if s.state == ServiceState::On => Place::HowTo(s.record.name.clone()),
            Some(_) => Place::Area(Area::Services),
            None => Place::Publish(judged.map(|v| v.reference.clone()).unwrap_or_default()),
        },
    );
    // The owner's talks in the Playground need no key and are no call from outside.
    let callers = mirror.applications().iter().filter(|a| a.usage.requests > 0 && !a.keys.is_empty());
    let called = callers.max_by_key(|a| a.usage.requests);
    let has_key = mirror.applications().iter().any(|a| a.keys.iter().any(|k| k.is_live(view.now_ms)));
    push(
        "home.call",
        "home.call.about",
        called
            .map(|a| view.fill("home.called", &[("name", &a.record.name), ("n", &number::grouped(a.usage.requests))])),
        None,
        match service {
            Some(s) if has_key => Place::HowTo(s.record.name.clone()),
            _ => Place::NewKey(String::new()),
        },
    );
    steps
}

/// Alerts that are older are not shown here.
const ALERTS_SHOWN_MS: i64 = 24 * 3600 * 1000;

/// What an alert tells, in the catalogue.
fn alert_words(kind: AlertKind) -> &'static str {
    match kind {
        AlertKind::JobSucceeded => "alert.job_succeeded",
        AlertKind::JobFailed => "alert.job_failed",
        AlertKind::JobCancelled => "alert.job_cancelled",
        AlertKind::ServiceDown => "alert.service_down",
        AlertKind::ServiceUp => "alert.service_up",
        AlertKind::ServiceErrors => "alert.service_errors",
        AlertKind::BudgetCrossed => "alert.budget_crossed",
        AlertKind::DiskLow => "alert.disk_low",
        AlertKind::GuardHit => "alert.guard_hit",
        AlertKind::Test => "alert.test",
    }
}

impl Home {
    fn chosen(&self, steps: &[Step]) -> usize {
        let first_open = steps.iter().position(|s| s.standing != Standing::Done).unwrap_or(steps.len() - 1);
        self.at.unwrap_or(first_open).min(steps.len() - 1)
    }

    fn draw_path(&self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) -> u16 {
        let steps = steps(view);
        let chosen = self.chosen(&steps);
        let done = steps.iter().filter(|s| s.standing == Standing::Done).count().to_string();
        let title = view.fill("home.path", &[("done", &done), ("all", &steps.len().to_string())]);
        canvas.put(area.x + 1, area.y, area.width - 1, &title, Token::Heading);
        let mut y = area.y + if area.height > 16 { 2 } else { 1 };
        let name_cells = 22.min(area.width / 3);
        for (i, step) in steps.iter().enumerate() {
            if y >= area.bottom() {
                break;
            }
            let (sign, token) = match step.standing {
                Standing::Done => (canvas.glyphs.ok, Token::Ok),
                Standing::Running => (canvas.glyphs.point, Token::Running),
                Standing::Failed => (canvas.glyphs.bad, Token::Error),
                Standing::Open => (" ", Token::Text),
            };
            canvas.put(area.x + 4, y, 1, sign, token);
            canvas.put(area.x + 6, y, 2, &(i + 1).to_string(), Token::Muted);
            canvas.put(area.x + 8, y, name_cells, view.t(step.name), Token::Text);
            let x = area.x + 9 + name_cells;
            canvas.clickable_row(Rect { y, ..area }, i, chosen);
            let token = if step.standing == Standing::Failed { Token::Error } else { Token::Muted };
            canvas.put(x, y, area.right().saturating_sub(x + 1), &step.detail, token);
            if i == chosen {
                // A running step has the same sign of its own.
                if step.standing != Standing::Running {
                    canvas.put(area.x + 2, y, 1, canvas.glyphs.point, Token::Accent);
                }
                canvas.highlight(area.x + 6, y, name_cells + 2, Token::Selected);
                canvas.cursor_at(area.x + 2, y);
            }
            y += 1;
        }
        y += 1;
        if y < area.bottom() {
            let mut page = Page::new();
            let mut about = view.t(steps[chosen].about).to_owned();
            if steps[chosen].standing == Standing::Done {
                about = format!("{} {about}", view.t("home.step_done"));
            }
            page.text(about, Token::Text).text(view.t("home.enter"), Token::Accent);
            let room = Rect { x: area.x + 4, y, width: area.width.saturating_sub(6), height: area.bottom() - y };
            y += page.draw_top(canvas, room) as u16;
        }
        y.min(area.bottom())
    }

    fn now(view: &View<'_>, canvas: &Canvas<'_>) -> Page {
        let mut page = Page::new();
        page.heading(view.t("home.running"));
        let mut any = false;
        for job in view.mirror.running().take(4) {
            any = true;
            page.line(vec![job_state(view, job, canvas.glyphs), piece(format!("  {}", job_subject(job)), Token::Text)]);
            match job_share(job) {
                Some(share) => page.meter(share, job_progress(view, job)),
                None => page.text(job_progress(view, job), Token::Muted),
            };
        }
        if !any {
            page.text(view.t("home.nothing_runs"), Token::Muted);
        }
        let ended = view.mirror.jobs().iter().filter(|j| j.record.ended_at_ms.is_some()).take(4);
        let ended: Vec<&JobView> = ended.collect();
        if !ended.is_empty() {
            page.blank().heading(view.t("home.lately"));
        }
        for job in ended {
            page.line(vec![
                job_state(view, job, canvas.glyphs),
                piece(format!("  {}  ", job_subject(job)), Token::Text),
                piece(job_progress(view, job), Token::Muted),
            ]);
        }
        let day = view.now_ms - ALERTS_SHOWN_MS;
        let alerts: Vec<_> = view.mirror.alerts().iter().filter(|alert| alert.at_ms >= day).take(3).collect();
        if !alerts.is_empty() {
            page.blank().heading(view.t("home.alerts"));
        }
        for alert in alerts {
            page.line(vec![
                piece(format!("! {}", view.t(alert_words(alert.kind))), Token::Warn),
                piece(format!("  {}  ", cell(&alert.subject)), Token::Text),
                piece(number::ago(view.language, view.now_ms, alert.at_ms), Token::Muted),
            ]);
        }
        if !view.mirror.services().is_empty() {
            page.blank().heading(view.t("area.services"));
        }
        for service in view.mirror.services().iter().take(4) {
            page.line(vec![
                service_state(view, service, canvas.glyphs),
                piece(format!("  {}  {}", service.record.name, service.version_reference), Token::Text),
            ]);
        }
        page
    }

    fn machine(view: &View<'_>) -> Page {
        let mut page = Page::new();
        let Some(facts) = view.mirror.facts() else { return page };
        let machine = &facts.machine;
        page.heading(view.fill("home.machine", &[("host", &machine.host)]));
        let used = machine.memory_bytes.saturating_sub(machine.memory_available_bytes);
        let share = used as f64 / machine.memory_bytes.max(1) as f64;
        page.meter(
            share,
            view.fill("home.memory", &[("used", &number::bytes(used)), ("all", &number::bytes(machine.memory_bytes))]),
        );
        page.fact(view.t("home.cores"), machine.cores.to_string());
        page.fact(view.t("home.pool"), number::bytes(machine.pool_memory_bytes));
        page.fact(view.t("home.disk"), number::bytes(machine.disk_free_bytes));
        let gpus = if machine.gpus.is_empty() { view.t("home.no_gpu").to_owned() } else { machine.gpus.join(", ") };
        page.fact("GPU", gpus);
        for address in view.mirror.http() {
            page.fact("HTTP", address);
        }
        page
    }

    /// The newest run with its curve: the third pane.
    fn draw_newest(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        canvas.put(area.x, area.y, area.width, view.t("home.newest_run"), Token::Heading);
        let rest = Rect { y: area.y + 1, height: area.height - 1, ..area };
        match &mut self.side {
            Some(side) => side.draw_side(canvas, rest, view),
            None => {
                let mut page = Page::new();
                page.text(view.t("home.no_run"), Token::Muted);
                page.draw_top(canvas, rest);
            }
        }
    }

    fn areas(view: &View<'_>) -> Page {
        let mut page = Page::new();
        page.heading(view.t("home.can_do"));
        for (area, key) in [
            (Area::Models, "home.models"),
            (Area::Playground, "home.playground"),
            (Area::Datasets, "home.datasets"),
            (Area::Training, "home.training"),
            (Area::Evaluation, "home.evaluation"),
            (Area::Services, "home.services"),
            (Area::Jobs, "home.jobs"),
        ] {
            page.line(vec![
                piece(format!(" {} ", area.digit()), Token::Accent),
                piece(crate::widgets::text::pad(view.t(area.name()), 12, ""), Token::Text),
                piece(view.t(key), Token::Muted),
            ]);
        }
        page
    }
}

impl Screen for Home {
    fn offers(&mut self, _: &View<'_>) -> Vec<Offer> {
        vec![
            offer(Action::Enter, "home.do_step"),
            offer(Action::Down, "home.choose_step"),
            offer(Action::Jobs, "hint_row.jobs"),
        ]
    }

    fn act(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        let mut steps = steps(&desk.view);
        let chosen = self.chosen(&steps);
        match action {
            Action::Up => self.at = Some(chosen.saturating_sub(1)),
            Action::Down => self.at = Some((chosen + 1).min(steps.len() - 1)),
            Action::First => self.at = Some(0),
            Action::Last => self.at = Some(steps.len() - 1),
            Action::Out if self.at.is_some() => self.at = None,
            Action::Enter => {
                self.at = None;
                desk.open(steps.swap_remove(chosen).place);
            }
            _ => return false,
        }
        true
    }

    fn needs(&mut self, desk: &mut Desk<'_>) {
        let running = desk.view.mirror.runs().find(|j| j.shown == ShownState::Running);
        let run = running.or(desk.view.mirror.runs().next()).map(|j| j.record.id);
        RunView::beside(&mut self.side, run.filter(|_| desk.view.class == Class::Xl), desk);
    }

    fn answer(&mut self, errand: Errand, answer: Result<Answer, Failure>, desk: &mut Desk<'_>) {
        if let Some(side) = &mut self.side {
            side.answer(errand, answer, desk);
        }
    }

    fn forget(&mut self) {
        self.side = None;
    }

    fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        if view.class < Class::M {
            let mut y = area.y;
            if let Some(job) = view.mirror.running().next() {
                let line = [
                    job_state(view, job, canvas.glyphs),
                    piece(format!("  {}  ", job_subject(job)), Token::Text),
                    piece(job_progress(view, job), Token::Muted),
                ];
                canvas.pieces(area.x + 1, y, area.width - 1, &line);
                y += 1;
            }
            let rest = Rect { y, height: area.bottom() - y, ..area };
            let end = self.draw_path(canvas, rest, view);
            let below = Rect {
                x: area.x + 1,
                y: end + 1,
                width: area.width - 2,
                height: area.bottom().saturating_sub(end + 1),
            };
            if below.height > 2 {
                let page = if view.mirror.models().is_empty() { Self::areas(view) } else { Self::now(view, canvas) };
                page.draw_top(canvas, below);
            }
            return;
        }
        let panes = panes(canvas, area, view, 12, true);
        let left = panes.list;
        let end = self.draw_path(canvas, left, view);
        let y = end + 1;
        let below = Rect { x: area.x + 1, y, width: left.width - 2, height: area.bottom().saturating_sub(y) };
        if below.height > 2 {
            Self::areas(view).draw_top(canvas, below);
        }
        let Some(right) = panes.reader else { return };
        let page = Self::machine(view);
        let machine = (page.rows(canvas, right.width) as u16 + 1).min(right.height / 2);
        let now = Rect { height: right.height - machine, ..right };
        Self::now(view, canvas).draw_top(canvas, now);
        page.draw_top(canvas, Rect { y: now.bottom() + 1, height: machine - 1, ..right });
        if let Some(context) = panes.context {
            self.draw_newest(canvas, context, view);
        }
    }
}

/// Name that the first step gives the starter; one place knows it.
#[cfg(test)]
pub(super) fn starter_name() -> &'static str {
    STARTER
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::Mirror;

    #[test]
    fn an_empty_daemon_begins_at_the_model_and_a_filled_one_goes_on() {
        let mut mirror = Mirror::default();
        mirror.replace(crate::screens::sample::empty());
        let view = View::plain(&mirror);
        let path = steps(&view);
        assert_eq!(Home::default().chosen(&path), 0);
        assert!(matches!(path[0].place, Place::ImportModel(_)));
        assert!(matches!(path[1].place, Place::ImportDataset(_)));
        let mut mirror = Mirror::default();
        mirror.replace(crate::screens::sample::filled());
        let view = View::plain(&mirror);
        let path = steps(&view);
        assert_eq!(path[0].standing, Standing::Done);
        assert_eq!(path[2].standing, Standing::Running);
        assert!(matches!(path[2].place, Place::Run(_)));
        assert_eq!(path[4].standing, Standing::Running);
        assert_eq!(path[5].standing, Standing::Done);
        assert_eq!(starter_name(), "starter");
    }

    #[test]
    fn a_failed_step_keeps_its_place_and_says_why() {
        let mut snapshot = crate::screens::sample::filled();
        snapshot.jobs.retain(|j| j.shown == ShownState::Failed);
        snapshot.models.retain(|m| m.record.name == "smollm2");
        let mut mirror = Mirror::default();
        mirror.replace(snapshot);
        let path = steps(&View::plain(&mirror));
        assert_eq!(path[2].standing, Standing::Failed);
        assert!(!path[2].detail.is_empty());
    }
}
