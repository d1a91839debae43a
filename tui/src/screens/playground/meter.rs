//! The context meter: how many tokens the talk has for the service, counted by the service itself, beside what it takes. Never
//! here: an estimate.

use hone_protocol::failure::Failure;
use hone_protocol::request::{Answer, Request};
use ratatui::layout::Rect;

use super::Playground;
use crate::screens::{Desk, Errand, View};
use crate::theme::Token;
use crate::widgets::canvas::Canvas;
use crate::widgets::number::grouped;
use crate::widgets::text::width;

/// Cells of the bar.
const BAR: u16 = 10;
/// From this share on the meter warns.
const WARN_FROM: f64 = 0.85;

/// What was counted.
#[derive(Default)]
pub(super) struct Meter {
    /// What is being counted.
    asked: Option<String>,
    /// What was counted last.
    of: String,
    /// Tokens and context; none while the service cannot say.
    counted: Option<(u64, u32)>,
}

impl Playground {
    /// Counts what would be sent, when it is another than what was counted last; one count at a time.
    pub(super) fn need_count(&mut self, desk: &mut Desk<'_>) {
        let service = self.settings.value("service");
        if self.meter.asked.is_some() || self.streaming.is_some() || service.is_empty() || desk.view.away {
            return;
        }
        let draft = self.composer.text();
        let last = self.talk.path().last().copied();
        let messages = self.talk.messages(self.settings.value("system"), last, draft.trim());
        let serving = desk.view.mirror.services().iter().find(|s| s.record.name == service);
        let state = serving.map(|s| format!("{:?} {}", s.state, s.version_reference)).unwrap_or_default();
        let of = format!("{service} {state} {messages:?}");
        if of == self.meter.of {
            return;
        }
        if messages.is_empty() {
            let context = serving.map(|s| s.record.context_tokens);
            self.meter = Meter { asked: None, of, counted: context.map(|context| (0, context)) };
            return;
        }
        let request = Request::CountTokens { service: service.to_owned(), messages };
        self.meter.asked = Some(of);
        desk.ask(Errand::Count, request);
    }

    pub(super) fn counted(&mut self, answer: Result<Answer, Failure>) {
        self.meter.of = self.meter.asked.take().unwrap_or_default();
        self.meter.counted = match answer {
            Ok(Answer::Counted { tokens, context_tokens }) => Some((tokens, context_tokens)),
            _ => None,
        };
    }

    /// What was being counted will not be told.
    pub(super) fn forget_count(&mut self) {
        self.meter = Meter::default();
    }

    /// Draws the meter at the right of a rule, and what it warns of at the left.
    pub(super) fn draw_meter(&self, canvas: &mut Canvas<'_>, area: Rect, y: u16, view: &View<'_>) {
        let Some((tokens, context)) = self.meter.counted else { return };
        let share = tokens as f64 / f64::from(context.max(1));
        let longest = u64::from(self.settings.form.number::<u32>("tokens").unwrap_or(0));
        let room = u64::from(context).saturating_sub(tokens);
        let warning = match (room, longest) {
            (0, _) => {
                Some(view.fill("meter.refused", &[("n", &grouped(tokens)), ("context", &grouped(context.into()))]))
            }
            _ if room < longest => Some(view.fill("meter.room", &[("n", &grouped(room))])),
            _ => None,
        };
        let token = if warning.is_some() || share >= WARN_FROM { Token::Warn } else { Token::Muted };
        let figure = format!(" {} / {} ", grouped(tokens), grouped(context.into()));
        let label = format!(" {} ", view.t("meter.context"));
        let wide = width(&label) as u16 + BAR + width(&figure) as u16;
        if wide + 2 > area.width {
            return;
        }
        let x = area.right() - wide - 1;
        let at = canvas.put(x, y, wide, &label, Token::Muted);
        // What is there is seen, however little.
        let least = if tokens > 0 { 1.0 / f64::from(BAR) } else { 0.0 };
        let at = canvas.meter(at, y, BAR, share.max(least));
        canvas.put(at, y, area.right().saturating_sub(at), &figure, token);
        if let Some(warning) = warning {
            let said = format!("! {warning} ");
            canvas.put(area.x, y, (x - area.x).saturating_sub(1), &said, Token::Warn);
        }
    }
}
