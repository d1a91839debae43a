//! Every screen in the states that a person reaches with a few keys, for tests. Only tests see this. Never here: facts.

use hone_protocol::labelling::{LabelAnswer, NextRows};
use hone_protocol::request::Answer;

use super::{Desk, Errand, SCREENS, Screen, View};
use crate::action::{Action, Area, Offer};
use crate::mirror::Mirror;

/// Every screen in the states that a person can reach with a few keys: the area and what it offers there.
pub(crate) fn visited(mirror: &Mirror) -> Vec<(Area, Vec<Offer>)> {
    let view = View::plain(mirror);
    let mut seen = Vec::new();
    for entry in &SCREENS {
        let mut screen = (entry.make)();
        let ways: &[&[Action]] = match entry.area {
            Area::Models => &[&[], &[Action::New], &[Action::Last]],
            Area::Playground => &[&[], &[Action::NextPane], &[Action::Out]],
            Area::Datasets => &[&[], &[Action::Enter], &[Action::New], &[Action::NextTab], &[Action::PreviousTab]],
            Area::Training => &[
                &[],
                &[Action::New],
                &[Action::Enter],
                &[Action::Down, Action::Down],
                &[Action::Enter, Action::Log],
                &[Action::Mark, Action::Down, Action::Mark, Action::Compare],
            ],
            Area::Labelling => &[&[], &[Action::New], &[Action::Enter], &[Action::Compare]],
            Area::Evaluation => &[&[], &[Action::Enter], &[Action::New]],
            Area::Services => {
                &[&[], &[Action::New], &[Action::NextTab], &[Action::NextTab, Action::NextTab], &[Action::PreviousTab]]
            }
            Area::Jobs => &[&[], &[Action::Log], &[Action::Down, Action::Down, Action::Down]],
            _ => &[&[]],
        };
        for way in ways {
            screen = (entry.make)();
            walk(screen.as_mut(), way, view);
            seen.push((entry.area, screen.offers(&view)));
        }
        drop(screen);
    }
    seen
}

fn walk(screen: &mut dyn Screen, way: &[Action], view: View<'_>) {
    let mut desk = Desk::new(view);
    screen.needs(&mut desk);
    for action in way {
        screen.act(*action, &mut desk);
        screen.needs(&mut desk);
        // Rows to label, for the screen that asked for some.
        let rows = crate::sample::labels::next_rows(&crate::sample::labels::quality());
        let next = LabelAnswer::Next(NextRows { rows, is_suggesting: true });
        screen.answer(Errand::NextRows, Ok(Answer::Labelling(next)), &mut desk);
    }
}
