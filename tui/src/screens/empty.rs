//! An area that is not built yet: it keeps its digit and says in one line what will be there.

use ratatui::layout::Rect;

use super::{Desk, Screen, View};
use crate::action::{Action, Offer};
use crate::theme::Token;
use crate::widgets::canvas::Canvas;
use crate::widgets::page::Page;

/// Holds the catalogue key of the line.
pub(crate) struct Empty(pub(crate) &'static str);

impl Screen for Empty {
    fn offers(&mut self, _: &View<'_>) -> Vec<Offer> {
        Vec::new()
    }

    fn act(&mut self, _: Action, _: &mut Desk<'_>) -> bool {
        false
    }

    fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let mut page = Page::new();
        page.blank().text(view.t(self.0), Token::Text).blank().text(view.t("empty.meanwhile"), Token::Muted);
        let inner = Rect { x: area.x + 2, width: area.width.saturating_sub(4).min(76), ..area };
        page.draw_top(canvas, inner);
    }
}
