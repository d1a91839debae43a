//! Tests over the whole table of screens: pictures at three sizes in both languages and three states, keys, bytes,
//! and that no text is wider than its place. Never here: a test of one screen's own logic.

use crossterm::event::{KeyCode, KeyEvent};
use hone_protocol::catalogue::{Language, TABLES};
use hone_protocol::event::Snapshot;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::request::{Answer, Down, Request, StreamPart, Up};
use hone_protocol::train::Point;
use hone_protocol::value::Metric;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::layout::Size;

use super::sample::{self, NOW_MS};
use super::{Place, SCREENS, page};
use crate::action::{Action, Area};
use crate::app::{App, Effect, LinkState, Settings};
use crate::event::{Event, Outbox};
use crate::glyphs::{GlyphSet, Glyphs};
use crate::keymap::{Context, press};
use crate::shell;
use crate::terminal::Screenful;
use crate::theme::{Depth, Palette, Theme};
use crate::widgets::text::width;

const SIZES: [(u16, u16); 3] = [(80, 24), (100, 30), (200, 50)];

fn settings(language: Language) -> Settings {
    Settings {
        language,
        theme: Theme { palette: Palette::Terminal, depth: Depth::Sixteen },
        glyphs: Glyphs::of(GlyphSet::Full),
        hints: true,
    }
}

/// A client that is linked and has these facts; what it asks can be read from the other end.
struct Bench {
    app: App,
    asked: std::sync::mpsc::Receiver<Up>,
}

impl Bench {
    fn new(language: Language, snapshot: Snapshot) -> Bench {
        let mut app = App::new(settings(language), NOW_MS);
        let (outbox, asked) = Outbox::for_test();
        app.update(Event::Linked(outbox), NOW_MS);
        app.update(Event::Down(1, Box::new(Down::Snapshot(Box::new(snapshot)))), NOW_MS);
        let mut bench = Bench { app, asked };
        bench.asks();
        bench
    }

    fn key(&mut self, key: KeyEvent) -> Vec<Effect> {
        self.app.update(Event::Key(key), NOW_MS)
    }

    /// Changes the area and lets it ask for what it shows.
    fn go(&mut self, area: Area) {
        self.app.act(Action::Go(area));
        self.app.update(Event::Tick, NOW_MS);
    }

    fn press(&mut self, action: Action) -> Vec<Effect> {
        self.key(press(action))
    }

    fn typed(&mut self, text: &str) {
        for c in text.chars() {
            self.key(KeyEvent::from(KeyCode::Char(c)));
        }
    }

    /// What was asked since the last look.
    fn asks(&mut self) -> Vec<(u64, Request)> {
        let ask = |up| match up {
            Up::Ask { id, request, .. } => Some((id, request)),
            _ => None,
        };
        self.asked.try_iter().filter_map(ask).collect()
    }

    fn answer(&mut self, id: u64, answer: Answer) {
        let down = Down::Answer { id, answer: Ok(Box::new(answer)) };
        self.app.update(Event::Down(1, Box::new(down)), NOW_MS);
    }

    fn lose(&mut self) {
        let failure = Failure::new(FailureCode::ServiceUnavailable, "the daemon closed the connection")
            .hint(HintCode::StartDaemon);
        self.app.update(Event::Unlinked(1, failure), NOW_MS);
    }

    fn picture(&mut self, (columns, rows): (u16, u16)) -> String {
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

fn word(language: Language) -> &'static str {
    match language {
        Language::En => "en",
        Language::Zh => "zh",
    }
}

fn keep(name: String, picture: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, picture));
}

/// A curve that falls like a real one, with a little noise that is the same each time.
fn curve(series: &str) -> Vec<Point> {
    let noise = |step: u64| ((step * 7919 % 101) as f64 / 101.0 - 0.5) * 0.25;
    let point = |step: u64| {
        let t = step as f64;
        let value = match series {
            "loss" => 0.9 + 2.2 * (-t / 18.0).exp() + noise(step),
            "eval_loss" => 0.98 + 2.0 * (-t / 20.0).exp(),
            "learning_rate" => 1e-3 * (1.0 - t / 142.0).min(t / 7.0),
            "grad_norm" => 0.6 + noise(step),
            _ => 240.0 + 40.0 * noise(step),
        };
        Point { step, value: Metric::from(value) }
    };
    let every = if series == "eval_loss" { 20 } else { 1 };
    (1..=65).filter(|s| s % every == 0).map(point).collect()
}

fn answer_metrics(bench: &mut Bench) {
    for (id, request) in bench.asks() {
        if let Request::Metrics { series, .. } = request {
            bench.answer(id, Answer::Metrics(curve(&series)));
        }
    }
}

#[test]
fn every_screen_at_every_size_in_both_languages_and_three_states() {
    for language in [Language::En, Language::Zh] {
        for size in SIZES {
            for entry in &SCREENS {
                for state in ["filled", "empty", "away"] {
                    let snapshot = if state == "empty" { sample::empty() } else { sample::filled() };
                    let mut bench = Bench::new(language, snapshot);
                    bench.go(entry.area);
                    if state == "away" {
                        bench.lose();
                    }
                    let picture = bench.picture(size);
                    let area = format!("{:?}", entry.area).to_lowercase();
                    keep(format!("{area}_{state}_{}x{}_{}", size.0, size.1, word(language)), &picture);
                }
            }
        }
    }
}

#[test]
fn forms_the_curve_and_overlays() {
    let run = sample::filled().jobs[0].record.id;
    for language in [Language::En, Language::Zh] {
        for size in SIZES {
            let name = |what: &str| format!("{what}_{}x{}_{}", size.0, size.1, word(language));
            let mut bench = Bench::new(language, sample::filled());
            bench.app.open(Place::NewRun { base: String::new(), dataset: String::new() });
            bench.press(Action::Down);
            bench.press(Action::Down);
            keep(name("form_training"), &bench.picture(size));
            bench.app.open(Place::Run(run));
            bench.app.update(Event::Tick, NOW_MS);
            answer_metrics(&mut bench);
            bench.press(Action::Left);
            bench.press(Action::Left);
            keep(name("run_live"), &bench.picture(size));
            bench.press(Action::Stop);
            keep(name("question"), &bench.picture(size));
            bench.press(Action::Out);
            bench.press(Action::Help);
            keep(name("help"), &bench.picture(size));
            bench.press(Action::Out);
            bench.press(Action::Palette);
            bench.typed("tra");
            keep(name("palette"), &bench.picture(size));
            bench.press(Action::Out);
            bench.press(Action::Jobs);
            keep(name("drawer"), &bench.picture(size));
            bench.press(Action::Out);
            bench.app.open(Place::HowTo("desk".into()));
            keep(name("how_to_call"), &bench.picture(size));
            bench.press(Action::Out);
            bench.app.open(Place::Publish(String::new()));
            keep(name("form_publish"), &bench.picture(size));
        }
    }
}

#[test]
fn the_smallest_screen_still_says_where_one_is() {
    let mut bench = Bench::new(Language::En, sample::filled());
    for entry in &SCREENS {
        bench.go(entry.area);
        let picture = bench.picture((40, 10));
        assert!(picture.starts_with(&format!("[{}", entry.area.digit())), "{picture}");
    }
    assert!(bench.picture((32, 9)).contains("40x10"));
}

#[test]
fn every_offer_of_every_screen_works_when_its_key_is_pressed() {
    let ways: &[&[Action]] =
        &[&[], &[Action::Enter], &[Action::New], &[Action::NextTab], &[Action::Down, Action::Down]];
    for entry in &SCREENS {
        for way in ways {
            let reach = || {
                let mut bench = Bench::new(Language::En, sample::filled());
                bench.go(entry.area);
                for action in *way {
                    bench.press(*action);
                }
                answer_metrics(&mut bench);
                bench.app.toast = None;
                bench
            };
            let mut bench = reach();
            if !bench.app.layers.is_empty() || bench.app.area != entry.area || bench.app.context() == Context::Text {
                continue;
            }
            for offer in bench.app.offers() {
                let mut bench = reach();
                assert!(bench.app.act(offer.action), "{:?} after {way:?}: {:?} does nothing", entry.area, offer);
                let mut other = reach();
                other.press(offer.action);
                let said = other.app.toast.as_ref().map(|t| t.text.clone()).unwrap_or_default();
                assert!(!said.contains("does nothing here"), "{:?} {:?}", entry.area, offer.action);
            }
        }
    }
}

#[test]
fn escape_leads_back_to_the_list_and_never_out() {
    for entry in &SCREENS {
        let mut bench = Bench::new(Language::En, sample::filled());
        bench.go(entry.area);
        for action in [Action::Enter, Action::New, Action::Palette, Action::Help, Action::Menu] {
            bench.go(entry.area);
            bench.press(action);
            for _ in 0..10 {
                let effects = bench.press(Action::Out);
                assert!(!effects.contains(&Effect::Leave), "{:?} {action:?}", entry.area);
            }
            assert!(bench.app.layers.is_empty());
        }
    }
}

#[test]
fn any_keys_in_any_order_never_panic_and_never_destroy_without_a_question() {
    // A small linear congruential generator (Knuth, MMIX constants): the same keys each time.
    let mut seed: u64 = 20_260_101;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    let specials = [
        KeyCode::Enter,
        KeyCode::Esc,
        KeyCode::Tab,
        KeyCode::BackTab,
        KeyCode::Up,
        KeyCode::Down,
        KeyCode::Left,
        KeyCode::Right,
        KeyCode::PageUp,
        KeyCode::PageDown,
        KeyCode::Home,
        KeyCode::End,
        KeyCode::Backspace,
    ];
    for round in 0..60 {
        let language = if round % 2 == 0 { Language::En } else { Language::Zh };
        let mut bench = Bench::new(language, if round % 5 == 0 { sample::empty() } else { sample::filled() });
        for step in 0..200 {
            let key = match next() % 3 {
                0 => specials[next() % specials.len()],
                _ => KeyCode::Char((b'!' + (next() % 94) as u8) as char),
            };
            let asking = bench.app.layers.last().is_some_and(|l| matches!(l, crate::layers::Layer::Question(_)));
            bench.key(KeyEvent::from(key));
            for (_, request) in bench.asks() {
                let destroys = match &request {
                    Request::Cancel { .. } | Request::RevokeKey { .. } | Request::Shutdown => true,
                    Request::SetService { wanted, .. } => !wanted,
                    _ => false,
                };
                assert!(!destroys || asking, "{request:?} without a question");
            }
            if step % 23 == 0 {
                bench.picture(SIZES[next() % 3]);
            }
        }
        for _ in 0..10 {
            bench.press(Action::Out);
        }
        assert!(bench.app.layers.is_empty());
    }
}

#[test]
fn an_idle_screen_writes_no_byte() {
    for entry in &SCREENS {
        for size in [|| Ok(Size::new(80, 24)), || Ok(Size::new(100, 30)), || Ok(Size::new(200, 50))] {
            let mut bench = Bench::new(Language::Zh, sample::filled());
            bench.go(entry.area);
            let mut terminal = Terminal::new(Screenful::new(Vec::new(), size)).unwrap();
            terminal.draw(|frame| shell::draw(&mut bench.app, frame)).unwrap();
            let first = terminal.backend().bytes();
            assert!(first > 0);
            terminal.draw(|frame| shell::draw(&mut bench.app, frame)).unwrap();
            assert_eq!(terminal.backend().bytes(), first, "{:?}", entry.area);
        }
    }
}

#[test]
fn nothing_wakes_an_idle_client() {
    let mut quiet = sample::filled();
    quiet.jobs.retain(|j| j.record.ended_at_ms.is_some());
    let mut bench = Bench::new(Language::En, quiet);
    for entry in &SCREENS {
        bench.go(entry.area);
        assert_eq!(bench.app.wakes_at_ms(), None, "{:?}", entry.area);
    }
}

#[test]
fn a_full_frame_and_a_selection_move_stay_inside_their_budgets() {
    let mut bench = Bench::new(Language::Zh, sample::filled());
    bench.app.settings.theme = Theme { palette: Palette::Dark, depth: Depth::True };
    bench.go(Area::Jobs);
    let mut terminal = Terminal::new(Screenful::new(Vec::new(), || Ok(Size::new(100, 30)))).unwrap();
    terminal.draw(|frame| shell::draw(&mut bench.app, frame)).unwrap();
    let full = terminal.backend().bytes();
    assert!(full <= 7_500, "a full frame is {full} bytes");
    bench.go(Area::Home);
    terminal.draw(|frame| shell::draw(&mut bench.app, frame)).unwrap();
    let before = terminal.backend().bytes();
    bench.press(Action::Down);
    terminal.draw(|frame| shell::draw(&mut bench.app, frame)).unwrap();
    let moved = terminal.backend().bytes() - before;
    // The explanation of the step below the list changes too, so the budget of a plain list does not apply.
    assert!(moved <= 1_200, "a move of the selection is {moved} bytes");
}

#[test]
fn no_message_is_wider_than_its_slot_at_eighty_columns() {
    // Slot of a key by its table prefix, in cells; messages that wrap have none.
    let slots: [(&str, usize); 9] = [
        ("tab.", 7),
        ("hint_row.", 30),
        ("col.", 12),
        ("outcome.", 14),
        ("services.tab_", 14),
        ("palette.action", 12),
        ("link.online", 12),
        ("preset.", 16),
        ("context.", 10),
    ];
    for (key, en, zh) in TABLES.iter().flat_map(|t| t.iter()) {
        for text in [en, zh] {
            for (prefix, cells) in slots {
                assert!(!key.starts_with(prefix) || width(text) <= cells, "{key}: {text:?} is wider than {cells}");
            }
        }
    }
    for language in [Language::En, Language::Zh] {
        for entry in &SCREENS {
            let mut bench = Bench::new(language, sample::filled());
            bench.go(entry.area);
            let picture = bench.picture((80, 24));
            let tabs = picture.lines().next().unwrap_or_default();
            let last = crate::screens::View { language, ..bench.app.view() }.t(Area::System.tab());
            assert!(tabs.contains(last), "the tab bar is cut: {tabs}");
            let hints = picture.lines().last().unwrap_or_default();
            assert!(width(hints) <= 80, "{hints}");
            let help = bench.app.view().t("hint_row.help");
            let browsing = bench.app.context() == Context::Browse;
            assert!(!browsing || hints.contains(help), "the way to help is cut: {hints}");
        }
    }
}

#[test]
fn every_message_of_the_shell_exists_in_both_languages() {
    let mut mirror = crate::mirror::Mirror::default();
    mirror.replace(sample::filled());
    for (_, offers) in sample::visited(&mirror) {
        for offer in offers {
            assert_ne!(hone_protocol::catalogue::find(Language::Zh, offer.label), None, "{}", offer.label);
        }
    }
    for entry in &SCREENS {
        for language in [Language::En, Language::Zh] {
            assert!(page(entry.area, language).starts_with("# "), "{:?}", entry.area);
        }
    }
}

#[test]
fn every_key_in_the_sources_stands_in_the_catalogue() {
    let src = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let mut seen = 0;
    for folder in ["", "/screens", "/widgets"] {
        for file in std::fs::read_dir(format!("{src}{folder}")).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|e| e != "rs") || path.ends_with("snapshots.rs") {
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            for call in ["view.t(", "view.fill(", "text(language, ", "fill(language, "] {
                for rest in source.split(call).skip(1) {
                    let Some(key) = rest.trim_start().strip_prefix('"').and_then(|r| r.split('"').next()) else {
                        continue;
                    };
                    assert!(
                        hone_protocol::catalogue::find(Language::En, key).is_some(),
                        "{}: {key} is not in the catalogue",
                        path.display()
                    );
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 200, "the scan found only {seen} keys");
}

#[test]
fn a_screen_falls_into_other_languages_only_by_its_data() {
    // Chinese screens may hold names, units and keys in Latin letters, but no English sentence of ours.
    let mut bench = Bench::new(Language::Zh, sample::filled());
    for entry in &SCREENS {
        bench.go(entry.area);
        let picture = bench.picture((200, 50));
        for (key, en, zh) in TABLES.iter().flat_map(|t| t.iter()) {
            let sentence = en.split_whitespace().count() >= 5 && !en.contains('{') && en != zh;
            assert!(!sentence || !picture.contains(en), "{key} is shown in English: {en}");
        }
    }
}

#[test]
fn the_retry_ladder_is_one_two_four_eight_fifteen() {
    let mut bench = Bench::new(Language::En, sample::filled());
    let mut now = NOW_MS;
    let mut waits = Vec::new();
    for number in 1..=6 {
        let failure = Failure::new(FailureCode::ServiceUnavailable, "no daemon answers");
        bench.app.update(Event::Unlinked(number, failure), now);
        let LinkState::Away { retry_at_ms: Some(at), .. } = bench.app.link else { panic!("not away") };
        waits.push((at - now) / 1000);
        let effects = bench.app.update(Event::Tick, at);
        assert!(effects.contains(&Effect::Connect(number + 1)), "{effects:?}");
        now = at;
    }
    assert_eq!(waits, [1, 2, 4, 8, 15, 15]);
}

#[test]
fn acts_are_not_queued_behind_an_absent_daemon() {
    let mut bench = Bench::new(Language::En, sample::filled());
    bench.app.open(Place::ImportModel(String::new()));
    bench.lose();
    bench.app.with_screen_for_test(Area::Models, Action::Run);
    assert!(bench.asks().is_empty());
    assert!(bench.app.toast.as_ref().is_some_and(|t| t.text.contains("Nothing was sent")));
}

#[test]
fn control_c_stops_an_answer_first_and_leaves_at_the_second_press() {
    let mut bench = Bench::new(Language::En, sample::filled());
    bench.app.open(Place::Chat("desk".into()));
    bench.typed("hello");
    bench.key(KeyEvent::from(KeyCode::Enter));
    let (id, request) = bench.asks().pop().unwrap();
    assert!(matches!(request, Request::Chat { .. }));
    let part = Down::Part { id, part: StreamPart::Text { text: "Zella here!".into(), tokens: 4 } };
    bench.app.update(Event::Down(1, Box::new(part)), NOW_MS);
    assert!(bench.picture((100, 30)).contains("Zella here!"));
    assert!(bench.press(Action::Interrupt).is_empty());
    assert!(bench.asked.try_iter().any(|up| up == Up::Stop { id }));
    assert!(bench.press(Action::Interrupt).is_empty());
    assert_eq!(bench.press(Action::Interrupt), [Effect::Leave]);
}

#[test]
fn the_real_cursor_stands_where_text_is_typed() {
    let mut bench = Bench::new(Language::Zh, sample::filled());
    bench.app.open(Place::Chat("desk".into()));
    bench.typed("模型");
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal.draw(|frame| shell::draw(&mut bench.app, frame)).unwrap();
    let position = terminal.get_cursor_position().unwrap();
    let row: String = (0..80).map(|x| terminal.backend().buffer()[(x, position.y)].symbol()).collect();
    assert!(row.contains("> 模"), "{row:?}");
    assert_eq!(position.x, 1 + 2 + 4);
}

#[test]
fn a_plan_is_asked_for_once_the_form_rests_and_the_latest_one_wins() {
    let mut bench = Bench::new(Language::En, sample::filled());
    bench.app.open(Place::NewRun { base: String::new(), dataset: String::new() });
    bench.app.update(Event::Tick, NOW_MS);
    let plans = |asks: Vec<(u64, Request)>| -> Vec<u64> {
        asks.into_iter().filter(|(_, r)| matches!(r, Request::PlanTrain { .. })).map(|(id, _)| id).collect()
    };
    assert_eq!(plans(bench.asks()).len(), 1);
    bench.press(Action::Down);
    bench.press(Action::Right);
    assert_eq!(plans(bench.asks()).len(), 0);
    let at = bench.app.wakes_at_ms().unwrap();
    bench.app.update(Event::Tick, at);
    assert_eq!(plans(bench.asks()).len(), 1);
}

#[test]
fn a_secret_is_shown_once_and_then_gone() {
    let mut bench = Bench::new(Language::En, sample::filled());
    bench.app.open(Place::NewKey("web-shop".into()));
    bench.press(Action::Run);
    let (id, request) = bench.asks().pop().unwrap();
    assert!(matches!(request, Request::CreateKey { ref application, .. } if application == "web-shop"));
    let key = sample::filled().applications[1].keys[0].id;
    bench.answer(id, Answer::Key { key, secret: "hk-secret-once".into() });
    assert!(bench.picture((80, 24)).contains("hk-secret-once"));
    let effects = bench.typed_effects('y');
    assert_eq!(effects, [Effect::Copy("hk-secret-once".into())]);
    bench.press(Action::Out);
    assert!(!bench.picture((80, 24)).contains("hk-secret-once"));
}

impl Bench {
    fn typed_effects(&mut self, c: char) -> Vec<Effect> {
        self.key(KeyEvent::from(KeyCode::Char(c)))
    }
}

#[test]
fn the_language_changes_by_a_command() {
    let mut bench = Bench::new(Language::En, sample::filled());
    bench.key(KeyEvent::from(KeyCode::Char('：')));
    bench.typed("set language zh");
    bench.key(KeyEvent::from(KeyCode::Enter));
    assert!(bench.picture((80, 24)).contains("首页"));
}

#[test]
fn a_pasted_path_is_offered_for_import_and_never_taken_as_keys() {
    let mut bench = Bench::new(Language::En, sample::filled());
    bench.app.update(Event::Paste("/data/model.gguf\n".into()), NOW_MS);
    assert_eq!(bench.app.area, Area::Home);
    bench.typed("y");
    assert_eq!(bench.app.area, Area::Models);
    assert!(bench.picture((80, 24)).contains("/data/model.gguf"));
    let mut bench = Bench::new(Language::En, sample::filled());
    bench.app.update(Event::Paste("qqq".into()), NOW_MS);
    assert!(bench.app.layers.is_empty() && bench.asks().is_empty());
}

#[test]
fn escape_sequences_in_an_answer_never_reach_the_terminal() {
    let mut bench = Bench::new(Language::En, sample::filled());
    bench.app.open(Place::Chat("desk".into()));
    bench.typed("x");
    bench.key(KeyEvent::from(KeyCode::Enter));
    let (id, _) = bench.asks().pop().unwrap();
    let text = "\x1b]52;c;aGk=\x07\x1b[2Jdone".to_owned();
    let part = Down::Part { id, part: StreamPart::Text { text, tokens: 3 } };
    bench.app.update(Event::Down(1, Box::new(part)), NOW_MS);
    let mut terminal = Terminal::new(Screenful::new(Vec::new(), || Ok(Size::new(100, 30)))).unwrap();
    terminal.draw(|frame| shell::draw(&mut bench.app, frame)).unwrap();
    let sent = String::from_utf8_lossy(terminal.backend().out()).into_owned();
    assert!(!sent.contains("\x1b]52") && !sent.contains('\x07') && sent.contains("\\x1b]52"), "{sent:?}");
}

#[test]
fn windows_are_asked_again_after_the_link_was_lost() {
    let mut bench = Bench::new(Language::En, sample::filled());
    bench.go(Area::Jobs);
    bench.app.update(Event::Tick, NOW_MS);
    assert!(bench.asks().iter().any(|(_, r)| matches!(r, Request::Log { .. })));
    bench.lose();
    let (mut outbox, asked) = Outbox::for_test();
    outbox.number = 2;
    bench.asked = asked;
    bench.app.update(Event::Tick, NOW_MS + 1_000);
    bench.app.update(Event::Linked(outbox), NOW_MS + 1_100);
    bench.app.update(Event::Down(2, Box::new(Down::Snapshot(Box::new(sample::filled())))), NOW_MS + 1_200);
    let asks = bench.asks();
    assert!(asks.iter().any(|(_, r)| matches!(r, Request::Watch)));
    assert!(asks.iter().any(|(_, r)| matches!(r, Request::Log { .. })), "{asks:?}");
}

/// The page of all keys, as `docs/` holds it.
fn keys_page(language: Language) -> String {
    let t = |key| hone_protocol::catalogue::text(language, key);
    let (title, intro, areas, columns) = match language {
        Language::En => (
            "# Keys",
            "The same letter means the same everywhere; a verb that makes no sense for a thing is not offered. Arrows, \
             Enter, Esc, digits and `x` reach everything. `?` lists the keys that work now. While something is typed, \
             letters are text; F1, Ctrl-P and Ctrl-C still work. Full-width characters count as their ASCII twins.",
            "## Areas",
            "| key | does |\n| --- | --- |",
        ),
        Language::Zh => (
            "# 按键",
            "同一字母在各处含义相同；对当前对象没有意义的操作不会出现。方向键、Enter、Esc、数字和 `x` 可以到达一切。\
             `?` 列出当前可用的按键。输入文字时字母即文字；F1、Ctrl-P 与 Ctrl-C 仍然有效。全角字符等同于对应的 ASCII 字符。",
            "## 区域",
            "| 按键 | 作用 |\n| --- | --- |",
        ),
    };
    let row = |action: Action| {
        let keys = crate::keymap::keys(action).join(", ").replace('|', "\\|");
        format!("| {keys} | {} |\n", t(action.about()))
    };
    let actions: String = Action::ALL.iter().map(|a| row(*a)).collect();
    let places: String = Area::ALL.iter().map(|a| row(Action::Go(*a))).collect();
    format!("{title}\n\n{intro}\n\n{columns}\n{actions}\n{areas}\n\n{columns}\n{places}")
}

#[test]
fn the_page_of_keys_is_what_the_keymap_says() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    for (language, path) in [(Language::En, "keys.md"), (Language::Zh, "zh/keys.md")] {
        let path = format!("{root}/{path}");
        let page = keys_page(language);
        if std::env::var_os("HONE_WRITE_DOCS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let held = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(held == page, "{path} is old; HONE_WRITE_DOCS=1 cargo test -p hone-tui writes it anew");
    }
}
