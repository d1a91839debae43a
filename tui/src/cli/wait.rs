//! Submitting a job and waiting for its end, with one progress line on stderr. Ctrl-C ends the waiting, never the
//! job, and how to follow it is said before the waiting begins. Never here: what a result looks like.

use std::io::{self, IsTerminal, Write};

use hone_protocol::catalogue::Language;
use hone_protocol::event::Change;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::JobId;
use hone_protocol::job::{JobResult, JobSpec, JobState, JobView, ShownState};
use hone_protocol::request::Request;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::context::{Context, answer};
use super::watch::{self, Fact};
use crate::link::Link;
use crate::print::{self, End};

/// Exit status when the job that was waited for was cancelled.
const CANCELLED_STATUS: u8 = 1;

/// Submits a job. Detached: prints it and gives `None`. Else waits for its end and gives what it made.
pub(super) fn submit(
    context: &Context,
    link: &mut Link,
    part: &str,
    spec: JobSpec,
    detach: bool,
) -> Result<Option<(JobView, JobResult)>, End> {
    let request = Request::Submit { spec, payer: context.payer.clone(), pool: context.pool.clone() };
    let view = answer!(context.change(link, part, request)?, Job);
    let id = view.record.id;
    if detach {
        context.say("cli.detached", &[("job", &id.to_string())]);
        if context.json {
            print::json(&view)?;
        } else {
            print::out(&format!("{id}\n"))?;
        }
        return Ok(None);
    }
    finish(context, link, id).map(Some)
}

/// Waits for the end of a job and gives what it made; a job that failed, was cancelled or is paused is an end too.
pub(super) fn finish(context: &Context, link: &mut Link, id: JobId) -> Result<(JobView, JobResult), End> {
    let view = job_end(context, link, id)?;
    match &view.record.state {
        JobState::Succeeded(result) => {
            let result = result.clone();
            Ok((view, result))
        }
        JobState::Failed(failure) => {
            if context.json {
                print::json(&view)?;
            }
            let mut failure = failure.clone().arg("job", id);
            if failure.place.is_empty() {
                failure.place = id.to_string();
            }
            Err(failure.into())
        }
        JobState::Cancelled => {
            if context.json {
                print::json(&view)?;
            }
            context.say("cli.job_cancelled", &[("job", &id.to_string())]);
            Err(End::Said(CANCELLED_STATUS))
        }
        JobState::Queued => {
            if context.json {
                print::json(&view)?;
            }
            context.say("cli.job_paused", &[("job", &id.to_string())]);
            Err(End::Said(FailureCode::WrongState.exit_status()))
        }
    }
}

/// Waits until a job has ended or rests paused. There is no bound: training may take days, and a person's Ctrl-C
/// or the daemon's end stops the waiting.
fn job_end(context: &Context, link: &mut Link, id: JobId) -> Result<JobView, Failure> {
    let at_rest = |view: &JobView| view.record.ended_at_ms.is_some() || view.shown == ShownState::Paused;
    let first = answer!(link.ask(Request::Job { job: id })?, Job);
    if at_rest(&first) {
        return Ok(*first);
    }
    context.say("cli.waiting", &[("job", &id.to_string())]);
    let mut line = ProgressLine::new(context.language);
    line.show(&first);
    let end = watch::until(&context.options, None, |fact| {
        let view = match fact {
            Fact::All(snapshot) => match snapshot.jobs.iter().find(|j| j.record.id == id) {
                Some(view) => view.clone(),
                // Older than what a snapshot holds.
                None => *answer!(link.ask(Request::Job { job: id })?, Job),
            },
            Fact::One(Change::Job(view)) if view.record.id == id => (**view).clone(),
            Fact::One(_) => return Ok(None),
        };
        if at_rest(&view) {
            return Ok(Some(view));
        }
        line.show(&view);
        Ok(None)
    });
    line.end();
    end.inspect_err(|failure| {
        if failure.code == FailureCode::ServiceUnavailable {
            context.say("cli.wait_lost", &[("job", &id.to_string())]);
        }
    })
}

/// One line that is written over on a terminal; elsewhere a line per tenth and per phase.
#[derive(Debug)]
struct ProgressLine {
    language: Language,
    terminal: bool,
    /// Phase and tenths of the last line that was written.
    last: Option<(String, u64)>,
    written: bool,
}

impl ProgressLine {
    fn new(language: Language) -> ProgressLine {
        ProgressLine { language, terminal: io::stderr().is_terminal(), last: None, written: false }
    }

    fn show(&mut self, view: &JobView) {
        let text = print::progress(self.language, view);
        if self.terminal {
            let columns = crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns));
            // `\r` and "erase to the end of the line"; one column stays free so that no terminal wraps.
            let _ = write!(io::stderr(), "\r{}\x1b[K", cut(&text, columns.saturating_sub(1)));
            self.written = true;
        } else if self.is_news(view) {
            print::note(&text);
        }
    }

    /// Whether a line without a terminal is due: another phase, or another tenth of it.
    fn is_news(&mut self, view: &JobView) -> bool {
        let now = match &view.progress {
            Some(p) => (p.phase.clone(), p.done.min(p.total).saturating_mul(10).checked_div(p.total).unwrap_or(0)),
            None => (format!("{}{}", print::word_of(&view.shown), view.waits_for), 0),
        };
        let news = self.last.as_ref() != Some(&now);
        self.last = Some(now);
        news
    }

    fn end(&mut self) {
        if self.written {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// As much of a text as fits into so many columns.
fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut used = 0;
    text.chars()
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= columns
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::job::tests::job;
    use hone_protocol::job::Progress;

    #[test]
    fn without_a_terminal_there_is_a_line_per_tenth_and_phase() {
        let mut line = ProgressLine { language: Language::En, terminal: false, last: None, written: false };
        let at = |phase: &str, done| {
            let progress = Some(Progress { phase: phase.into(), done, total: 100, remaining_ms: Some(61_000) });
            JobView { progress, shown: ShownState::Running, ..job() }
        };
        let news: Vec<bool> = [("phase.load", 1), ("phase.train", 1), ("phase.train", 9), ("phase.train", 10)]
            .iter()
            .map(|(phase, done)| line.is_news(&at(phase, *done)))
            .collect();
        assert_eq!(news, [true, true, false, true]);
        assert_eq!(
            print::progress(Language::En, &JobView { last_loss: Some(1.5), ..at("phase.train", 10) }),
            "training 10/100, 1 min 01 s left, loss 1.5000"
        );
    }

    #[test]
    fn a_line_is_cut_by_columns_not_by_characters() {
        assert_eq!(cut("训练中 10/100", 7), "训练中 ");
        assert_eq!(cut("short", 80), "short");
    }
}
