//! A client without a terminal for tests: it is linked to nobody, is told facts, is pressed, and is looked at. Only
//! tests see this. Never here: a test.

use crossterm::event::{KeyCode, KeyEvent};
use hone_protocol::catalogue::Language;
use hone_protocol::event::Snapshot;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::request::{Answer, Down, Request, Up};
use hone_protocol::train::{Point, SampleAnswer, Sampled};
use hone_protocol::value::Metric;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::sample::NOW_MS;
use crate::action::{Action, Area};
use crate::app::{App, Effect, Settings};
use crate::event::{Event, Outbox};
use crate::glyphs::{GlyphSet, Glyphs};
use crate::keymap::press;
use crate::shell;
use crate::theme::{Depth, Palette, Theme};
use crate::widgets::text::width;

pub(super) const SIZES: [(u16, u16); 3] = [(80, 24), (100, 30), (200, 50)];

pub(super) fn settings(language: Language) -> Settings {
    Settings {
        language,
        theme: Theme { palette: Palette::Terminal, depth: Depth::Sixteen },
        glyphs: Glyphs::of(GlyphSet::Full),
        hints: true,
        mouse: true,
    }
}

/// A client that is linked and has these facts; what it asks can be read from the other end.
pub(super) struct Bench {
    pub(super) app: App,
    pub(super) asked: std::sync::mpsc::Receiver<Up>,
}

impl Bench {
    pub(super) fn typed_effects(&mut self, c: char) -> Vec<Effect> {
        self.key(KeyEvent::from(KeyCode::Char(c)))
    }

    pub(super) fn new(language: Language, snapshot: Snapshot) -> Bench {
        let mut app = App::new(settings(language), NOW_MS);
        let (outbox, asked) = Outbox::for_test();
        app.update(Event::Linked(outbox), NOW_MS);
        app.update(Event::Down(1, Box::new(Down::Snapshot(Box::new(snapshot)))), NOW_MS);
        let mut bench = Bench { app, asked };
        bench.asks();
        bench
    }

    pub(super) fn key(&mut self, key: KeyEvent) -> Vec<Effect> {
        self.app.update(Event::Key(key), NOW_MS)
    }

    /// Changes the area and lets it ask for what it shows.
    pub(super) fn go(&mut self, area: Area) {
        self.app.act(Action::Go(area));
        self.app.update(Event::Tick, NOW_MS);
    }

    pub(super) fn press(&mut self, action: Action) -> Vec<Effect> {
        self.key(press(action))
    }

    pub(super) fn typed(&mut self, text: &str) {
        for c in text.chars() {
            self.key(KeyEvent::from(KeyCode::Char(c)));
        }
    }

    /// What was asked since the last look.
    pub(super) fn asks(&mut self) -> Vec<(u64, Request)> {
        let ask = |up| match up {
            Up::Ask { id, request, .. } => Some((id, request)),
            _ => None,
        };
        self.asked.try_iter().filter_map(ask).collect()
    }

    pub(super) fn answer(&mut self, id: u64, answer: Answer) {
        let down = Down::Answer { id, answer: Ok(Box::new(answer)) };
        self.app.update(Event::Down(1, Box::new(down)), NOW_MS);
    }

    pub(super) fn lose(&mut self) {
        let failure = Failure::new(FailureCode::ServiceUnavailable, "the daemon closed the connection")
            .hint(HintCode::StartDaemon);
        self.app.update(Event::Unlinked(1, failure), NOW_MS);
    }

    pub(super) fn picture(&mut self, (columns, rows): (u16, u16)) -> String {
        self.app.update(Event::Resize(columns, rows), NOW_MS);
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| shell::draw(&mut self.app, frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let mut out = String::new();
        for y in 0..rows {
            let mut line = String::new();
            let mut skip = 0;
            for x in 0..columns {
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                let symbol = buffer[(x, y)].symbol();
                skip = width(symbol).saturating_sub(1);
                line.push_str(symbol);
            }
            assert_eq!(width(&line), usize::from(columns), "row {y} is not as wide as the screen: {line:?}");
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

pub(super) fn word(language: Language) -> &'static str {
    match language {
        Language::En => "en",
        Language::Zh => "zh",
    }
}

pub(super) fn keep(name: String, picture: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, picture));
}

/// A curve that falls like a real one, with a little noise that is the same each time.
pub(super) fn curve(series: &str) -> Vec<Point> {
    let noise = |step: u64| ((step * 7919 % 101) as f64 / 101.0 - 0.5) * 0.25;
    let point = |step: u64| {
        let t = step as f64;
        let value = match series {
            "loss" => 0.9 + 2.2 * (-t / 18.0).exp() + noise(step),
            "eval_loss" => 0.98 + 2.0 * (-t / 20.0).exp(),
            "learning_rate" => 1e-3 * (1.0 - t / 142.0).min(t / 7.0),
            "grad_norm" => 0.6 + noise(step),
            "tokens_per_s" => 240.0 + 40.0 * noise(step),
            // The sample's runs learn chats: there are no pairs.
            _ => return None,
        };
        Some(Point { step, value: Metric::from(value) })
    };
    let every = if series == "eval_loss" { 20 } else { 1 };
    (1..=65).filter(|s| s % every == 0).filter_map(point).collect()
}

pub(super) fn answer_metrics(bench: &mut Bench) {
    for (id, request) in bench.asks() {
        if let Request::Samples { .. } = &request {
            let answer = |text: &str, ended| SampleAnswer { text: text.into(), ended };
            let at = |step, texts: [(&str, bool); 2]| Sampled {
                step,
                answers: texts.map(|(text, ended)| answer(text, ended)).into(),
            };
            let sampled = vec![
                at(
                    0,
                    [("I'm sorry, but as a language model I cannot reset", false), ("Your order is an order.", true)],
                ),
                at(20, [("You can reset your password in the settings.", true), ("Please give me the number.", true)]),
                at(40, [("Open Settings, then Security, then Reset password.", true), ("It left on Monday.", true)]),
            ];
            bench.answer(id, Answer::Samples(sampled));
            continue;
        }
        if let Request::Metrics { series, job, .. } = request {
            // Each run of the sample lies a little above the one after it.
            let above = f64::from(17u8.saturating_sub(job.bytes()[0])) * 0.12;
            let points = curve(&series).into_iter().map(|point| match series.as_str() {
                "loss" | "eval_loss" => Point { value: Metric::from(point.value.value() + above), ..point },
                _ => point,
            });
            bench.answer(id, Answer::Metrics(points.collect()));
        }
    }
}
