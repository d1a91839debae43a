//! Up to eight runs in one picture: one series of all of them, and below it the settings in which they differ. Never here: the
//! curve of a single run (`run.rs`).

use hone_protocol::failure::Failure;
use hone_protocol::id::JobId;
use hone_protocol::job::{JobSpec, JobState, JobView};
use hone_protocol::request::Answer;
use ratatui::layout::Rect;

use super::run::{SMOOTHING, Series, at_step, best};
use super::tables::{job_state, job_subject};
use super::{Desk, Errand, View};
use crate::action::{Action, Offer, offer};
use crate::draft;
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, piece};
use crate::widgets::chart::{Chart, Overlay, axis_end, letter};
use crate::widgets::number;

/// Most runs that are compared: as many as there are lines that can be told apart.
pub(super) const RUNS_MAX: usize = 8;
/// Series that `]` goes through, with the catalogue key of the name.
const SERIES: [(&str, &str); 6] = [
    ("loss", "col.loss"),
    ("eval_loss", "run.eval"),
    ("replay_loss", "compare.replay"),
    ("margin", "compare.margin"),
    ("grad_norm", "run.grad"),
    ("tokens_per_s", "unit.tokens_per_s"),
];
/// Cells of the names of settings.
const LABEL_CELLS: u16 = 16;
/// Characters of a run's id, from its end.
const ID_CELLS: usize = 4;
/// Fewest cells of a run's column.
const COLUMN_CELLS_MIN: u16 = 7;

/// One of the runs.
struct Compared {
    job: JobId,
    shown: Series,
    /// For the figure below the curve, whatever is shown.
    eval: Series,
}

/// The view.
pub(super) struct CompareView {
    runs: Vec<Compared>,
    /// Index in [`SERIES`].
    series: usize,
    smoothing: usize,
    log_axis: bool,
    cursor: Option<f64>,
    /// First row of the table that is shown.
    top: usize,
    columns: u16,
    x_end: f64,
}

impl CompareView {
    /// The view of these runs; beyond [`RUNS_MAX`] they are left out.
    pub(super) fn new(jobs: impl IntoIterator<Item = JobId>) -> CompareView {
        let of = |job| Compared { job, shown: Series::default(), eval: Series::default() };
        CompareView {
            runs: jobs.into_iter().take(RUNS_MAX).map(of).collect(),
            series: 0,
            smoothing: 0,
            log_axis: false,
            cursor: None,
            top: 0,
            columns: 60,
            x_end: 20.0,
        }
    }

    pub(super) fn trail(&self, view: &View<'_>) -> Vec<String> {
        vec![view.fill("compare.title", &[("n", &self.runs.len().to_string())])]
    }

    pub(super) fn offers(&self) -> Vec<Offer> {
        vec![
            offer(Action::NextTab, "compare.series"),
            offer(Action::Left, "run.cursor"),
            offer(Action::Right, "run.cursor"),
            offer(Action::Smooth, "run.smooth"),
            offer(Action::LogAxis, "run.log_axis"),
            offer(Action::Follow, "run.follow"),
            offer(Action::Up, "act.up"),
            offer(Action::Down, "act.down"),
            offer(Action::Out, "act.out"),
        ]
    }

    pub(super) fn act(&mut self, action: Action) -> bool {
        let end = self.end();
        let at = self.cursor.unwrap_or(end);
        let step = self.x_end / f64::from(self.columns.max(2) - 1);
        match action {
            Action::NextTab | Action::PreviousTab => {
                let on = if action == Action::NextTab { 1 } else { SERIES.len() - 1 };
                self.series = (self.series + on) % SERIES.len();
                self.runs.iter_mut().for_each(|run| run.shown = Series::default());
            }
            Action::Left => self.cursor = Some((at - step).max(0.0)),
            Action::Right => self.cursor = Some((at + step).min(end)),
            Action::Follow => self.cursor = None,
            Action::Smooth => self.smoothing = (self.smoothing + 1) % SMOOTHING.len(),
            Action::LogAxis => self.log_axis = !self.log_axis,
            Action::Up => self.top = self.top.saturating_sub(1),
            Action::Down => self.top += 1,
            _ => return false,
        }
        true
    }

    fn end(&self) -> f64 {
        let ends = self.runs.iter().filter_map(|run| run.shown.points.last());
        ends.map(|(x, _)| *x).fold(0.0, f64::max)
    }

    pub(super) fn needs(&mut self, desk: &mut Desk<'_>) {
        let name = SERIES[self.series].0;
        for (index, run) in self.runs.iter_mut().enumerate() {
            let Some(job) = desk.view.mirror.job(run.job) else { continue };
            run.shown.ask(name, Errand::Compared(2 * index as u8), job, desk);
            run.eval.ask("eval_loss", Errand::Compared(2 * index as u8 + 1), job, desk);
        }
    }

    pub(super) fn answer(&mut self, errand: Errand, answer: Result<Answer, Failure>) {
        let Errand::Compared(place) = errand else { return };
        if let Some(run) = self.runs.get_mut(usize::from(place / 2)) {
            let series = if place % 2 == 0 { &mut run.shown } else { &mut run.eval };
            series.take(answer);
        }
    }

    pub(super) fn forget(&mut self) {
        for run in &mut self.runs {
            run.shown.forget();
            run.eval.forget();
        }
    }

    fn jobs<'a>(&self, view: &View<'a>) -> Vec<Option<&'a JobView>> {
        self.runs.iter().map(|run| view.mirror.job(run.job)).collect()
    }

    /// Rows of the table: name and one value for each run. What is equal in all is left out.
    fn table(&self, view: &View<'_>) -> Vec<(String, Vec<String>)> {
        let jobs = self.jobs(view);
        let at = self.cursor.unwrap_or(self.end());
        let dash = || "-".to_owned();
        let figure = |value: Option<f64>| value.map_or_else(dash, number::figure);
        let mut rows = vec![
            (
                view.t(SERIES[self.series].1).to_owned(),
                self.runs.iter().map(|run| figure(at_step(&run.shown.points, at))).collect(),
            ),
            (
                view.t("run.best_eval").to_owned(),
                self.runs.iter().map(|run| figure(best(&run.eval.points).map(|(_, v)| v))).collect(),
            ),
        ];
        let values: Vec<Vec<(&str, String)>> = jobs
            .iter()
            .map(|job| match job.map(|job| &job.record.spec) {
                Some(JobSpec::Train(spec)) => draft::values(spec),
                _ => Vec::new(),
            })
            .collect();
        for field in hone_protocol::form::TRAIN_FORM {
            let of = |values: &Vec<(&str, String)>| {
                values.iter().find(|(key, _)| *key == field.key).map_or_else(dash, |(_, value)| value.clone())
            };
            let cells: Vec<String> = values.iter().map(of).collect();
            if cells.iter().any(|cell| *cell != cells[0]) {
                rows.push((view.both(field.label).to_owned(), cells));
            }
        }
        rows
    }

    pub(super) fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let table = self.table(view);
        let below = (table.len() as u16 + 3).clamp(6, (area.height / 2).max(6)).min(area.height.saturating_sub(6));
        let curve = Rect { height: area.height - below, ..area };
        self.draw_curves(canvas, curve, view);
        let rows = Rect { y: curve.bottom(), height: below, ..area };
        canvas.rule(rows, rows.y, true);
        self.draw_table(canvas, Rect { y: rows.y + 1, height: below - 1, ..rows }, view, &table);
    }

    fn draw_curves(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let jobs: Vec<&JobView> = self.jobs(view).into_iter().flatten().collect();
        let going = jobs.iter().any(|job| matches!(job.record.state, JobState::Queued));
        let end = if going { axis_end(self.end()) } else { self.end().max(1.0) };
        self.x_end = jobs.iter().filter_map(|job| job.plan.map(|plan| plan.steps as f64)).fold(end, f64::max);
        self.columns = Chart::columns(area);
        let beta = SMOOTHING[self.smoothing];
        let smooth = if beta == 0.0 { view.t("run.raw_only").to_owned() } else { format!("EMA {beta}") };
        let name = view.t(SERIES[self.series].1);
        let legend = vec![piece(format!("{name}  "), Token::Heading), piece(smooth, Token::Muted)];
        canvas.pieces(area.x + 1, area.y, area.width - 1, &legend);
        let plane = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        if self.runs.iter().all(|run| run.shown.points.is_empty()) {
            canvas.put(area.x + 8, area.y + 2, area.width.saturating_sub(9), view.t("compare.nothing"), Token::Muted);
        }
        let overlay = Overlay {
            lines: self.runs.iter().map(|run| run.shown.points.as_slice()).collect(),
            smoothing: beta,
            log: self.log_axis,
            x_end: self.x_end,
            cursor: self.cursor,
        };
        overlay.draw(canvas, plane);
    }

    fn draw_table(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>, table: &[(String, Vec<String>)]) {
        let room = area.width.saturating_sub(LABEL_CELLS + 2);
        let column = (room / self.runs.len().max(1) as u16).clamp(COLUMN_CELLS_MIN, 24);
        for (index, job) in self.jobs(view).into_iter().enumerate() {
            let x = area.x + 1 + LABEL_CELLS + index as u16 * column;
            let token = Token::Compared(index as u8);
            let name = job.map_or_else(|| view.t("jobs.gone").to_owned(), job_subject);
            // Subjects are often alike: the end of the id, as the command line takes it, tells runs apart.
            let id = self.runs[index].job.to_string();
            let id = &id[id.len().saturating_sub(ID_CELLS)..];
            canvas.put(x, area.y, column - 1, &format!("{} {id} {name}", letter(index)), token);
            if let Some(job) = job {
                let state = job_state(view, job, canvas.glyphs);
                canvas.pieces(x, area.y + 1, column - 1, &[state]);
            }
        }
        let visible = usize::from(area.height.saturating_sub(2));
        self.top = self.top.min(table.len().saturating_sub(visible));
        for (row, (label, cells)) in table.iter().skip(self.top).take(visible).enumerate() {
            let y = area.y + 2 + row as u16;
            canvas.put(area.x + 1, y, LABEL_CELLS - 1, label, Token::Muted);
            for (index, value) in cells.iter().enumerate() {
                let x = area.x + 1 + LABEL_CELLS + index as u16 * column;
                canvas.put(x, y, column - 1, value, Token::Text);
            }
        }
        if table.len() == 2 {
            let y = area.y + 4;
            if y < area.bottom() {
                canvas.put(area.x + 1, y, area.width - 2, view.t("compare.same"), Token::Muted);
            }
        }
    }
}
