//! How a list stands beside what is known of its selected row: one pane, two, or three at the largest size. Never
//! here: what stands in them.

use ratatui::layout::Rect;

use super::{Class, View};
use crate::action::Action;
use crate::theme::Token;
use crate::widgets::canvas::Canvas;
use crate::widgets::hits::Hit;
use crate::widgets::page::Page;

/// Widest text that reads well, in cells.
const READ_CELLS: u16 = 90;

/// The panes of a screen; the rules between them are drawn already.
pub(super) struct Panes {
    /// The list.
    pub(super) list: Rect,
    /// What is known of the selected row; none where one pane is shown at a time.
    pub(super) reader: Option<Rect>,
    /// What belongs to it: the third pane of the largest size.
    pub(super) context: Option<Rect>,
}

/// Divides an area; at two panes the list takes `share` twentieths. `third` says whether there is something to put
/// into a third pane.
pub(super) fn panes(canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>, share: u16, third: bool) -> Panes {
    if view.class < Class::M {
        return Panes { list: area, reader: None, context: None };
    }
    let right_of = |x: u16, end: u16| Rect { x: x + 2, width: end.saturating_sub(x + 2), ..area };
    if view.class < Class::Xl || !third {
        let bar = area.x + area.width * share / 20;
        canvas.bar(bar, area);
        let list = Rect { width: bar - area.x, ..area };
        return Panes { list, reader: Some(right_of(bar, area.right())), context: None };
    }
    let first = area.x + area.width * 2 / 5;
    let second = area.x + area.width * 7 / 10;
    canvas.bar(first, area);
    canvas.bar(second, area);
    Panes {
        list: Rect { width: first - area.x, ..area },
        reader: Some(right_of(first, second)),
        context: Some(right_of(second, area.right())),
    }
}

/// The names of sub-tabs on the first row of an area, the shown one in brackets. A click goes there.
pub(super) fn draw_tabs(canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>, names: &[&'static str], shown: usize) {
    let mut x = area.x + 1;
    for (at, name) in names.iter().enumerate() {
        let label = if at == shown { format!("[{}]", view.t(name)) } else { format!(" {} ", view.t(name)) };
        let token = if at == shown { Token::Heading } else { Token::Muted };
        let start = x;
        x = canvas.put(x, area.y, area.right().saturating_sub(x), &label, token) + 1;
        let times = ((at + names.len() - shown) % names.len()) as u16;
        let place = Rect { x: start, y: area.y, width: x - start, height: 1 };
        canvas.hits.push(Hit { area: place, action: Action::NextTab, times, pane: None });
    }
}

/// What stands where a list has nothing yet: why, and the next act.
pub(super) fn draw_empty(canvas: &mut Canvas<'_>, area: Rect, said: &str) {
    let mut page = Page::new();
    page.blank().text(said, Token::Text);
    let x = area.x + 2;
    page.draw_top(canvas, Rect { x, width: area.right().saturating_sub(x + 2).min(READ_CELLS), ..area });
}
