//! Tests over the whole table of screens of what keys, clicks and the link do: nothing is destroyed unasked, nothing
//! wakes or writes when nothing happens. Never here: how a screen looks (`snapshots.rs`).

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use hone_protocol::catalogue::Language;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::request::{Answer, Down, Request, StreamPart, Up};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::layout::Size;

use super::bench::{Bench, SIZES, answer_metrics};
use super::sample::{self, NOW_MS};
use super::{Place, SCREENS};
use crate::action::{Action, Area};
use crate::app::{Effect, LinkState};
use crate::event::{Event, Outbox};
use crate::keymap::Context;
use crate::shell;
use crate::terminal::Screenful;
use crate::theme::{Depth, Palette, Theme};

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
fn nobody_talks_to_a_service_of_embeddings() {
    let mut facts = sample::filled();
    let mut service = sample::service();
    service.record.name = "vectors".into();
    service.is_encoder = true;
    facts.services.push(service);
    let mut bench = Bench::new(Language::En, facts);
    bench.app.open(Place::Chat("vectors".into()));
    bench.typed("hello");
    bench.key(KeyEvent::from(KeyCode::Enter));
    assert!(bench.asks().iter().all(|(_, request)| !matches!(request, Request::Chat { .. })));
    assert!(bench.picture((100, 30)).contains("vectors makes embeddings and does not talk"));
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

impl Bench {
    fn mouse(&mut self, kind: MouseEventKind, (column, row): (u16, u16)) -> Vec<Effect> {
        let mouse = MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
        self.app.update(Event::Mouse(mouse), NOW_MS)
    }

    /// Clicks on the first cell of a text in the picture.
    fn click(&mut self, size: (u16, u16), text: &str) {
        let picture = self.picture(size);
        let found = picture.lines().enumerate().find_map(|(y, line)| {
            let before = &line[..line.find(text)?];
            Some((crate::widgets::text::width(before) as u16, y as u16))
        });
        let at = found.unwrap_or_else(|| panic!("{text:?} is not in\n{picture}"));
        self.mouse(MouseEventKind::Down(MouseButton::Left), at);
    }
}

#[test]
fn a_click_selects_a_second_one_opens_and_the_tab_bar_leads_everywhere() {
    let size = (100, 30);
    let mut bench = Bench::new(Language::En, sample::filled());
    bench.click(size, "6Train");
    assert_eq!(bench.app.area, Area::Training);
    bench.click(size, "failed");
    assert!(bench.picture(size).lines().any(|l| l.contains('▸') && l.contains("failed")), "{}", bench.picture(size));
    // The selected row; the word stands beside the list too.
    bench.click(size, " ▸ sup");
    assert!(bench.picture(size).lines().nth(1).unwrap().contains("Training >"));
    bench.click(size, "0Serve");
    bench.click(size, "Usage");
    assert!(bench.picture(size).contains("[Usage]"));
    bench.click(size, "? help");
    assert_eq!(bench.app.layers.len(), 1);
}

#[test]
fn a_click_answers_no_question_and_leaves_no_half_typed_value() {
    let size = (80, 24);
    let mut bench = Bench::new(Language::En, sample::filled());
    bench.go(Area::Services);
    bench.press(Action::Stop);
    bench.asks();
    for y in 0..24 {
        for x in (0..80).step_by(3) {
            bench.picture(size);
            bench.mouse(MouseEventKind::Down(MouseButton::Left), (x, y));
        }
    }
    assert!(!bench.asks().iter().any(|(_, r)| matches!(r, Request::SetService { .. })));
    assert_eq!(bench.app.layers.len(), 1);
    let mut bench = Bench::new(Language::En, sample::filled());
    bench.app.open(Place::ImportModel(String::new()));
    bench.press(Action::Down);
    bench.press(Action::Enter);
    bench.typed("/tmp/half");
    bench.click(size, "name ");
    assert!(bench.picture(size).contains("[/tmp/half"));
}

#[test]
fn the_wheel_moves_and_control_g_gives_the_mouse_back() {
    let mut bench = Bench::new(Language::En, sample::filled());
    bench.go(Area::Jobs);
    bench.mouse(MouseEventKind::ScrollDown, (10, 10));
    let picture = bench.picture((80, 24));
    let pointer = picture.lines().position(|l| l.starts_with(" ▸")).unwrap();
    assert_eq!(pointer, 3 + 1 + 3, "{picture}");
    bench.go(Area::Playground);
    assert_eq!(bench.press(Action::Mouse), [Effect::Mouse(false)]);
    assert_eq!(bench.press(Action::Mouse), [Effect::Mouse(true)]);
}

#[test]
fn clicks_anywhere_never_panic() {
    for entry in &SCREENS {
        for size in SIZES {
            let mut bench = Bench::new(Language::Zh, sample::filled());
            for at in (0..u32::from(size.0) * u32::from(size.1)).step_by(397) {
                bench.go(entry.area);
                bench.picture(size);
                let (x, y) = (at % u32::from(size.0), at / u32::from(size.0));
                bench.mouse(MouseEventKind::Down(MouseButton::Left), (x as u16, y as u16));
                bench.mouse(MouseEventKind::ScrollUp, (x as u16, y as u16));
            }
            bench.picture(size);
        }
    }
}
