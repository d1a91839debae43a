//! The mouse: a click gives the focus to what is under it and selects it, a click on what is selected opens it, the
//! wheel moves by three. Everything goes through the same actions and keys as the keyboard. Never here: where things
//! were drawn; the canvas remembers that.

use crossterm::event::{KeyCode, KeyEvent, MouseButton, MouseEvent, MouseEventKind};
use hone_protocol::catalogue::text;
use ratatui::layout::Position;

use super::{App, Effect};
use crate::action::Action;
use crate::keymap::Context;
use crate::screens::Tone;
use crate::widgets::hits::{self, Hit};

/// Rows that one notch of the wheel moves by.
const WHEEL_ROWS: u16 = 3;

impl App {
    /// Takes what the mouse did.
    pub(super) fn mouse(&mut self, mouse: MouseEvent) {
        match mouse.kind {
            MouseEventKind::Down(MouseButton::Left) => {
                if let Some(hit) = hits::under(&self.hits, Position::new(mouse.column, mouse.row)) {
                    self.click(hit);
                }
            }
            MouseEventKind::ScrollUp => self.wheel(Action::Up),
            MouseEventKind::ScrollDown => self.wheel(Action::Down),
            _ => {}
        }
    }

    fn click(&mut self, hit: Hit) {
        if !self.layers.is_empty() {
            return self.layer_moves(hit.action, hit.times);
        }
        if let Some(pane) = hit.pane {
            self.with_screen(self.area, |screen, _| screen.focus(pane));
        }
        // A half-typed value is not left by a slip of the hand; the tab bar keeps it.
        if self.context() != Context::Browse && !matches!(hit.action, Action::Go(_)) {
            return;
        }
        for _ in 0..hit.times {
            self.act(hit.action);
        }
    }

    fn wheel(&mut self, action: Action) {
        if !self.layers.is_empty() {
            return self.layer_moves(action, WHEEL_ROWS);
        }
        if self.context() == Context::Field {
            return;
        }
        self.with_screen(self.area, |screen, desk| {
            for _ in 0..WHEEL_ROWS {
                screen.wheel(action, desk);
            }
        });
    }

    /// Overlays understand keys; only the movements and Enter are ever clicked.
    fn layer_moves(&mut self, action: Action, times: u16) {
        let code = match action {
            Action::Up => KeyCode::Up,
            Action::Down => KeyCode::Down,
            Action::Enter => KeyCode::Enter,
            _ => return,
        };
        for _ in 0..times {
            self.layer_key(KeyEvent::from(code));
        }
    }

    /// Gives the mouse to the terminal, for selecting text, or takes it back.
    pub(super) fn hand_over_mouse(&mut self) {
        self.settings.mouse = !self.settings.mouse;
        self.effects.push(Effect::Mouse(self.settings.mouse));
        let key = if self.settings.mouse { "mouse.taken" } else { "mouse.released" };
        let said = text(self.settings.language, key).to_owned();
        self.say(Tone::Info, said);
    }
}
