//! What a run answered to its fixed prompts: beside the curve at the cursor, and prompt by prompt through all evaluations.
//! Answers are asked for once and then from the last step on. Never here: the curve.

use hone_protocol::failure::Failure;
use hone_protocol::job::{JobSpec, JobView, ShownState};
use hone_protocol::request::{Answer, Request, SAMPLED_MAX};
use hone_protocol::train::Sampled;
use ratatui::layout::Rect;

use super::{Desk, Errand, View};
use crate::action::{Action, Offer, offer};
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, piece};
use crate::widgets::page::Page;
use crate::widgets::text;

/// The prompts of a run.
pub(super) fn prompts(job: &JobView) -> &[String] {
    match &job.record.spec {
        JobSpec::Train(spec) => spec.samples.as_deref().unwrap_or_default(),
        _ => &[],
    }
}

/// Answers as they came.
#[derive(Default)]
pub(super) struct Samples {
    sampled: Vec<Sampled>,
    /// The progress at which they were asked for last; none when they must be asked for.
    asked_at: Option<(u32, u64, ShownState)>,
    waiting: bool,
    /// The view through all evaluations, while it is open.
    pub(super) reading: Option<Reading>,
}

/// One prompt through all evaluations.
#[derive(Default)]
pub(super) struct Reading {
    prompt: usize,
    scroll: usize,
}

impl Samples {
    /// Asks for what came since, if the run has prompts and anything can have.
    pub(super) fn ask(&mut self, job: &JobView, desk: &mut Desk<'_>) {
        let done = job.progress.as_ref().map_or(0, |p| p.done);
        let now = (job.record.attempt, done, job.shown);
        if prompts(job).is_empty() || self.waiting || self.asked_at == Some(now) || desk.view.away {
            return;
        }
        // Another attempt goes on from its checkpoint: later answers were taken back.
        if self.asked_at.is_some_and(|(attempt, ..)| attempt != job.record.attempt) {
            self.sampled.clear();
        }
        self.asked_at = Some(now);
        self.waiting = true;
        let from_step = self.sampled.last().map_or(0, |last| last.step + 1);
        desk.ask(Errand::Samples, Request::Samples { job: job.record.id, from_step, count: SAMPLED_MAX });
    }

    /// Takes an answer.
    pub(super) fn take(&mut self, answer: Result<Answer, Failure>) {
        self.waiting = false;
        let Ok(Answer::Samples(new)) = answer else { return };
        if new.len() == SAMPLED_MAX as usize {
            // There may be more behind these.
            self.asked_at = self.asked_at.map(|(attempt, _, shown)| (attempt, u64::MAX, shown));
        }
        let last = self.sampled.last().map(|last| last.step);
        self.sampled.extend(new.into_iter().filter(|one| last.is_none_or(|last| one.step > last)));
    }

    /// Everything may have changed: ask again.
    pub(super) fn forget(&mut self) {
        self.asked_at = None;
        self.waiting = false;
    }

    /// What was answered at a step, or last before it, to be read beside the curve.
    pub(super) fn page(&self, view: &View<'_>, job: &JobView, step: f64) -> Page {
        let mut page = Page::new();
        let after = self.sampled.partition_point(|one| one.step as f64 <= step);
        let Some(one) = after.checked_sub(1).map(|at| &self.sampled[at]) else {
            page.heading(view.t("run.samples"));
            page.text(view.t("run.no_samples"), Token::Muted);
            return page;
        };
        page.heading(view.fill("run.samples_at", &[("step", &one.step.to_string())]));
        for (prompt, answer) in prompts(job).iter().zip(&one.answers) {
            page.line(vec![piece(text::clean(prompt), Token::Muted)]);
            page.indented(said(answer.text.trim(), answer.ended), Token::Text, 2);
        }
        page
    }

    pub(super) fn offers(&self) -> Vec<Offer> {
        vec![
            offer(Action::Left, "run.other_prompt"),
            offer(Action::Right, "run.other_prompt"),
            offer(Action::Up, "hint_row.scroll"),
            offer(Action::Down, "hint_row.scroll"),
            offer(Action::Copy, "hint_row.copy"),
            offer(Action::Out, "act.out"),
        ]
    }

    /// Does what a key means while all evaluations are read.
    pub(super) fn act(&mut self, action: Action, job: &JobView, desk: &mut Desk<'_>) -> bool {
        let Some(reading) = &mut self.reading else { return false };
        let count = prompts(job).len().max(1);
        match action {
            Action::Left => *reading = Reading { prompt: (reading.prompt + count - 1) % count, scroll: 0 },
            Action::Right => *reading = Reading { prompt: (reading.prompt + 1) % count, scroll: 0 },
            Action::Up => reading.scroll = reading.scroll.saturating_sub(1),
            Action::Down => reading.scroll += 1,
            Action::PageUp => reading.scroll = reading.scroll.saturating_sub(10),
            Action::PageDown => reading.scroll += 10,
            Action::First => reading.scroll = 0,
            Action::Last => reading.scroll = usize::MAX,
            Action::Out => self.reading = None,
            Action::Copy => {
                let at = reading.prompt;
                let answers = self.sampled.iter().filter_map(|one| Some((one.step, one.answers.get(at)?)));
                let lines = answers.map(|(step, answer)| format!("step={step} {}", answer.text.trim()));
                desk.copy(lines.collect::<Vec<_>>().join("\n"));
            }
            _ => return false,
        }
        true
    }

    /// All answers to one prompt, the newest first.
    pub(super) fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>, job: &JobView) {
        let Some(reading) = &mut self.reading else { return };
        let prompts = prompts(job);
        let Some(prompt) = prompts.get(reading.prompt) else { return };
        let of = [("n", (reading.prompt + 1).to_string()), ("all", prompts.len().to_string())];
        let of = [("n", of[0].1.as_str()), ("all", of[1].1.as_str())];
        let mut head = Page::new();
        head.line(vec![piece(view.fill("run.prompt_of", &of), Token::Muted)]);
        head.text(prompt.clone(), Token::Heading);
        let wide = Rect { x: area.x + 1, width: area.width - 2, ..area };
        let used = (head.draw_top(canvas, wide) as u16).min(area.height);
        canvas.rule(area, area.y + used, true);
        let mut page = Page::new();
        if self.sampled.is_empty() {
            page.text(view.t("run.no_samples"), Token::Muted);
        }
        for one in self.sampled.iter().rev() {
            let Some(answer) = one.answers.get(reading.prompt) else { continue };
            page.heading(view.fill("run.at_step", &[("step", &one.step.to_string())]));
            page.text(said(answer.text.trim(), answer.ended), Token::Text).blank();
        }
        let below = Rect { y: area.y + used + 1, height: area.height.saturating_sub(used + 1), ..wide };
        page.draw(canvas, below, &mut reading.scroll);
    }
}

/// An answer on the screen: one that was cut says so.
fn said(answer: &str, ended: bool) -> String {
    if ended { answer.to_owned() } else { format!("{answer} …") }
}
