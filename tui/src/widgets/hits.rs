//! What a click on a cell means: places that were drawn, each with an action that a key could do too, so the mouse can
//! do nothing that the keyboard cannot. Never here: reading the mouse, or doing the action.

use ratatui::layout::{Position, Rect};

use crate::action::Action;

/// A place that can be clicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hit {
    /// Where it is.
    pub(crate) area: Rect,
    /// What it does.
    pub(crate) action: Action,
    /// How often; a row five below the selected one is `Down` five times.
    pub(crate) times: u16,
    /// The pane that gets the focus first; none leaves the focus where it is.
    pub(crate) pane: Option<u8>,
}

/// Rows at most that one click moves by; more than any screen has.
const STEPS_MAX: usize = 500;

/// The movement from the selected row to the clicked one; the selected row itself is opened.
pub(crate) fn step(area: Rect, clicked: usize, selected: usize) -> Hit {
    let (action, times) = match clicked.cmp(&selected) {
        std::cmp::Ordering::Less => (Action::Up, selected - clicked),
        std::cmp::Ordering::Equal => (Action::Enter, 1),
        std::cmp::Ordering::Greater => (Action::Down, clicked - selected),
    };
    Hit { area, action, times: times.min(STEPS_MAX) as u16, pane: None }
}

/// The last drawn place under a cell: what lies on top was drawn last.
pub(crate) fn under(hits: &[Hit], at: Position) -> Option<Hit> {
    hits.iter().rev().find(|h| h.area.contains(at)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_click_is_the_way_from_the_selected_row_and_the_top_place_wins() {
        let area = Rect::new(0, 0, 10, 1);
        assert_eq!((step(area, 5, 2).action, step(area, 5, 2).times), (Action::Down, 3));
        assert_eq!((step(area, 0, 2).action, step(area, 0, 2).times), (Action::Up, 2));
        assert_eq!(step(area, 2, 2).action, Action::Enter);
        let over = Hit { action: Action::Help, ..step(Rect::new(5, 0, 5, 1), 0, 0) };
        let hits = [step(area, 1, 0), over];
        assert_eq!(under(&hits, Position::new(7, 0)).unwrap().action, Action::Help);
        assert_eq!(under(&hits, Position::new(1, 0)).unwrap().action, Action::Down);
        assert_eq!(under(&hits, Position::new(1, 1)), None);
    }
}
