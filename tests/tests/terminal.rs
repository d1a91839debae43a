//! The client in a real terminal: a walk in both languages, and silence when nothing happens.

use std::time::{Duration, Instant};

use hone_protocol::catalogue::{Language, text};
use hone_tests::terminal::Terminal;
use hone_tests::{Daemon, wait_until};

fn walk(language: Language, word: &str) {
    let daemon = Daemon::start();
    daemon.connect().import_rows();
    let mut terminal = Terminal::open(daemon.state(), word, 100, 30);
    terminal.wait_for(text(language, "area.home"));
    // The digits of the areas never change. Playground comes last: its composer takes digits as text.
    for (digit, key) in [("1", "area.home"), ("6", "area.training"), ("3", "area.playground")] {
        let heading = format!(" {}", text(language, key));
        wait_until(&format!("{heading:?} in the second row"), || {
            terminal.press(digit);
            std::thread::park_timeout(Duration::from_millis(50));
            let screen = terminal.text();
            let row = screen.lines().nth(1).unwrap_or_default().replace(' ', "");
            row.starts_with(heading.trim()).then_some(())
        });
    }
}

#[test]
fn home_training_playground_in_english() {
    walk(Language::En, "en");
}

#[test]
fn home_training_playground_in_chinese() {
    walk(Language::Zh, "zh");
}

#[test]
fn a_click_goes_to_an_area_and_control_g_gives_the_mouse_back() {
    let daemon = Daemon::start();
    let mut terminal = Terminal::open(daemon.state(), "en", 100, 30);
    terminal.wait_for("From nothing to your own model");
    assert!(terminal.has_mouse(), "clicks are asked for");
    let tabs = terminal.text();
    let column = tabs.lines().next().and_then(|l| l.find("2Models")).expect("the tab bar") + 2;
    // A button press and its release, as a terminal reports them.
    terminal.press(&format!("\x1b[<0;{column};1M\x1b[<0;{column};1m"));
    terminal.wait_for("No models yet");
    terminal.press("\x07");
    wait_until("the mouse given back", || (!terminal.has_mouse()).then_some(()));
}

#[test]
fn an_idle_screen_writes_no_byte() {
    let daemon = Daemon::start();
    let terminal = Terminal::open(daemon.state(), "en", 100, 30);
    terminal.wait_for(text(Language::En, "area.home"));
    // The first seconds bring the machine's figures; then only their change may draw. An area without them is still.
    let mut quiet_since = Instant::now();
    let mut seen = terminal.bytes();
    let begun = Instant::now();
    while quiet_since.elapsed() < Duration::from_secs(3) {
        std::thread::park_timeout(Duration::from_millis(20));
        if terminal.bytes() != seen {
            seen = terminal.bytes();
            quiet_since = Instant::now();
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the screen never was still for three seconds");
    }
}
