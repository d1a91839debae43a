//! Which key means which action. Letters are verbs only while nothing is being typed; full-width characters that an
//! input method leaves behind count as their ASCII twins. Never here: what an action does.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::action::{Action, Area};

/// What keys mean at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    /// Letters are verbs.
    Browse,
    /// Typing changes one line.
    Field,
    /// Typing changes a text of several lines.
    Text,
    /// Digits are answers.
    Decide,
}

/// Keys of every action: the first is the one that hints show.
const KEYS: &[(Action, &[&str])] = &[
    (Action::Up, &["Up", "k"]),
    (Action::Down, &["Down", "j"]),
    (Action::Left, &["Left"]),
    (Action::Right, &["Right"]),
    (Action::PageUp, &["PgUp", "Ctrl-B"]),
    (Action::PageDown, &["PgDn", "Ctrl-F"]),
    (Action::First, &["Home"]),
    (Action::Last, &["End", "G"]),
    (Action::Enter, &["Enter"]),
    (Action::Out, &["Esc"]),
    (Action::NextPane, &["Tab"]),
    (Action::PreviousPane, &["Shift-Tab"]),
    (Action::NextTab, &["]"]),
    (Action::PreviousTab, &["["]),
    (Action::New, &["n"]),
    (Action::Edit, &["e"]),
    (Action::Clone, &["c"]),
    (Action::Delete, &["d"]),
    (Action::Undo, &["u"]),
    (Action::Copy, &["y"]),
    (Action::Run, &["r"]),
    (Action::Stop, &["s"]),
    (Action::Pause, &["p"]),
    (Action::Try, &["t"]),
    (Action::Log, &["l"]),
    (Action::Inspect, &["i"]),
    (Action::Add, &["+"]),
    (Action::Evaluate, &["E"]),
    (Action::Merge, &["M"]),
    (Action::Quantize, &["Q"]),
    (Action::Export, &["X"]),
    (Action::Menu, &["x"]),
    (Action::Filter, &["/"]),
    (Action::Zoom, &["z"]),
    (Action::Follow, &["F"]),
    (Action::Smooth, &["~"]),
    (Action::LogAxis, &["Y"]),
    (Action::Mark, &["Space"]),
    (Action::Compare, &["v"]),
    (Action::Flag, &["f"]),
    (Action::Label, &["b"]),
    (Action::Jobs, &["!"]),
    (Action::Help, &["?", "F1"]),
    (Action::Palette, &[":", "Ctrl-P"]),
    (Action::Refresh, &["R"]),
    (Action::Repaint, &["Ctrl-L"]),
    (Action::Back, &["{"]),
    (Action::Forward, &["}"]),
    (Action::Quit, &["q"]),
    (Action::Interrupt, &["Ctrl-C"]),
    (Action::Mouse, &["Ctrl-G"]),
    (Action::Suspend, &["Ctrl-Z"]),
];

/// The keys of an action, the one that hints show first.
pub(crate) fn keys(action: Action) -> Vec<String> {
    match action {
        Action::Go(area) => vec![area.digit().to_string(), format!("g {}", area.letter())],
        _ => KEYS
            .iter()
            .find(|(a, _)| *a == action)
            .map(|(_, keys)| keys.iter().map(|k| (*k).to_owned()).collect())
            .unwrap_or_default(),
    }
}

/// The ASCII twin of a full-width character; other characters as they are.
pub(crate) fn plain(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xff01 + 0x21).unwrap_or(c),
        '　' => ' ',
        '、' => '/',
        '。' => '.',
        '【' => '[',
        '】' => ']',
        '—' => '-',
        c => c,
    }
}

/// How a key is written in the table above.
pub(crate) fn written(key: KeyEvent) -> String {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char(c) if control => format!("Ctrl-{}", c.to_ascii_uppercase()),
        KeyCode::Char(' ' | '　') => "Space".into(),
        KeyCode::Char(c) => plain(c).to_string(),
        KeyCode::Enter => "Enter".into(),
        KeyCode::Esc => "Esc".into(),
        KeyCode::Tab => "Tab".into(),
        KeyCode::BackTab => "Shift-Tab".into(),
        KeyCode::Up => "Up".into(),
        KeyCode::Down => "Down".into(),
        KeyCode::Left => "Left".into(),
        KeyCode::Right => "Right".into(),
        KeyCode::PageUp => "PgUp".into(),
        KeyCode::PageDown => "PgDn".into(),
        KeyCode::Home => "Home".into(),
        KeyCode::End => "End".into(),
        KeyCode::F(n) => format!("F{n}"),
        _ => String::new(),
    }
}

/// What a key means while nothing is typed. In `Decide` digits are left to the screen.
pub(crate) fn action(context: Context, key: KeyEvent) -> Option<Action> {
    let name = written(key);
    if key.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    let found = KEYS.iter().find(|(_, keys)| keys.contains(&name.as_str())).map(|(action, _)| *action);
    match context {
        // While a line or a text is typed only keys that type nothing are actions.
        Context::Field | Context::Text => found.filter(|a| {
            matches!(a, Action::Interrupt | Action::Repaint | Action::Mouse | Action::Suspend)
                || (*a == Action::Palette && name == "Ctrl-P")
                || (*a == Action::Help && name == "F1")
        }),
        Context::Browse => found.or_else(|| {
            let digit = name.chars().next().filter(|_| name.chars().count() == 1)?;
            Area::ALL.into_iter().find(|a| a.digit() == digit).map(Action::Go)
        }),
        Context::Decide => found,
    }
}

/// The area of a letter after `g`.
pub(crate) fn area_of_letter(key: KeyEvent) -> Option<Area> {
    let name = written(key);
    Area::ALL.into_iter().find(|a| name == a.letter().to_string())
}

/// The key that means an action, for tests and for running an offer.
#[cfg(test)]
pub(crate) fn press(action: Action) -> KeyEvent {
    let name = keys(action).into_iter().next().unwrap_or_default();
    let code = match name.as_str() {
        "Enter" => KeyCode::Enter,
        "Esc" => KeyCode::Esc,
        "Tab" => KeyCode::Tab,
        "Shift-Tab" => KeyCode::BackTab,
        "Up" => KeyCode::Up,
        "Down" => KeyCode::Down,
        "Left" => KeyCode::Left,
        "Right" => KeyCode::Right,
        "PgUp" => KeyCode::PageUp,
        "PgDn" => KeyCode::PageDown,
        "Home" => KeyCode::Home,
        "End" => KeyCode::End,
        "Space" => KeyCode::Char(' '),
        other => match other.strip_prefix("Ctrl-") {
            Some(letter) => {
                let c = letter.chars().next().unwrap_or(' ').to_ascii_lowercase();
                return KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL);
            }
            None => KeyCode::Char(other.chars().next().unwrap_or(' ')),
        },
    };
    KeyEvent::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_means_two_things_and_every_action_has_one() {
        let mut seen = std::collections::BTreeMap::new();
        for (action, keys) in KEYS {
            for key in *keys {
                assert_eq!(seen.insert(*key, *action), None, "{key} stands twice");
            }
        }
        for action in Action::ALL {
            assert!(!keys(*action).is_empty(), "{action:?} has no key");
            assert_eq!(super::action(Context::Browse, press(*action)), Some(*action));
        }
        for area in Area::ALL {
            assert!(!seen.contains_key(area.digit().to_string().as_str()));
            assert_eq!(super::action(Context::Browse, press(Action::Go(area))), Some(Action::Go(area)));
        }
    }

    #[test]
    fn full_width_characters_count_as_their_twins() {
        for (typed, meant) in
            [('：', Action::Palette), ('／', Action::Filter), ('？', Action::Help), ('！', Action::Jobs)]
        {
            assert_eq!(action(Context::Browse, KeyEvent::from(KeyCode::Char(typed))), Some(meant));
        }
        let six = action(Context::Browse, KeyEvent::from(KeyCode::Char('６')));
        assert_eq!(six, Some(Action::Go(Area::Training)));
    }

    #[test]
    fn letters_are_text_while_something_is_typed() {
        for context in [Context::Field, Context::Text] {
            for c in "qnrsd?:/16+".chars() {
                assert_eq!(action(context, KeyEvent::from(KeyCode::Char(c))), None, "{c}");
            }
            assert_eq!(action(context, press(Action::Interrupt)), Some(Action::Interrupt));
            let f1 = KeyEvent::from(KeyCode::F(1));
            assert_eq!(action(context, f1), Some(Action::Help));
        }
    }
}
