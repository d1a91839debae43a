//! Tests of the playground: pictures of its states at three sizes in both languages, and what its keys do. Never here: what
//! holds for every screen.

use crossterm::event::{KeyCode, KeyEvent};
use hone_protocol::catalogue::Language;
use hone_protocol::event::Snapshot;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::generate::TokenChance;
use hone_protocol::judgement::{JudgedSet, Verdict};
use hone_protocol::note::{NoteHead, NoteKind, NoteRecord};
use hone_protocol::request::{Answer, ChatEnd, Down, Request, StreamPart};
use hone_protocol::value::{Bytes, Json, Pico};

use crate::action::{Action, Area};
use crate::app::Effect;
use crate::event::Event;
use crate::screens::Place;
use crate::screens::bench::{Bench, SIZES, keep, word};
use crate::screens::sample::{self, NOW_MS};

/// Facts with four services.
fn facts() -> Snapshot {
    let mut facts = sample::filled();
    for (id, name, version) in
        [(81, "base", "smollm2@1"), (82, "draft", "support-desk-tuned@2"), (83, "快速", "smollm2@1")]
    {
        let mut service = sample::service();
        service.record.id = hone_protocol::id::ServiceId::from_bytes([id; 16]);
        (service.record.name, service.version_reference) = (name.into(), version.into());
        facts.services.push(service);
    }
    facts
}

fn end(tokens: u64, ms: u32) -> ChatEnd {
    ChatEnd {
        finish: "stop".into(),
        prompt_tokens: 1_204,
        cached_tokens: 1_100,
        completion_tokens: tokens,
        first_token_ms: 60,
        total_ms: ms,
        version: "support-desk-tuned@1".into(),
        amount: Pico(180_000_000),
    }
}

const ANSWERS: [&str; 4] = [
    "I am sorry about that. Please check with neighbours and the safe place on your card. If it is not there, reply with your \
     order number and I will open a trace today.",
    "I understand your concern. There are several reasons a package might be marked as delivered:\n1. The carrier may have \
     scanned it early.\n2. It may be with a neighbour.",
    "请先询问邻居，并查看卡片上写明的安全存放处。若仍未找到，请回复订单号，我今天就为您查询。",
    "No idea.",
];

struct Play(Bench);

impl Play {
    fn new(language: Language) -> Play {
        let mut bench = Bench::new(language, facts());
        bench.picture((100, 30));
        bench.app.open(Place::Chat("desk".into()));
        bench.app.update(Event::Tick, NOW_MS);
        Play(bench)
    }

    fn part(&mut self, id: u64, part: StreamPart) {
        self.0.app.update(Event::Down(1, Box::new(Down::Part { id, part })), NOW_MS);
    }

    fn say(&mut self, id: u64, text: &str, tokens: u64) {
        self.part(id, StreamPart::Text { text: text.into(), tokens });
    }

    /// Types a message and sends it; the chats that were asked.
    fn send(&mut self, text: &str) -> Vec<(u64, Request)> {
        self.0.asks();
        self.0.typed(text);
        self.0.key(KeyEvent::from(KeyCode::Enter));
        self.chats()
    }

    fn chats(&mut self) -> Vec<(u64, Request)> {
        let mut chats = Vec::new();
        for (id, request) in self.0.asks() {
            match request {
                Request::Chat { .. } => chats.push((id, request)),
                Request::CountTokens { .. } => self.0.answer(id, Answer::Counted { tokens: 93, context_tokens: 2048 }),
                _ => {}
            }
        }
        chats
    }

    /// Lets every column answer.
    fn answer(&mut self, chats: &[(u64, Request)]) {
        for (n, (id, _)) in chats.iter().enumerate() {
            self.say(*id, ANSWERS[n], 40 + n as u64);
            self.0.answer(*id, Answer::Chat(end(40 + n as u64, 900 + 700 * n as u32)));
        }
        self.count(1_204);
    }

    fn count(&mut self, tokens: u64) {
        self.0.app.update(Event::Tick, NOW_MS);
        for (id, request) in self.0.asks() {
            if matches!(request, Request::CountTokens { .. }) {
                self.0.answer(id, Answer::Counted { tokens, context_tokens: 2048 });
            }
        }
    }

    /// Out of the box, into the talk.
    fn out(&mut self) {
        self.0.press(Action::Out);
    }

    fn columns(&mut self, more: usize) {
        self.out();
        for _ in 0..more {
            self.0.press(Action::Compare);
        }
        self.0.app.open(Place::Chat(String::new()));
    }

    fn request(&mut self, wanted: impl Fn(&Request) -> bool) -> (u64, Request) {
        self.0.app.update(Event::Tick, NOW_MS);
        self.0.asks().into_iter().find(|(_, request)| wanted(request)).expect("it was asked")
    }
}

const QUESTION: &str = "My parcel says delivered but it is not here. What now?";

fn chances() -> Vec<TokenChance> {
    let token = |n: i32, text: &str, p: f32, top: &[(&str, f32)]| TokenChance {
        token: n,
        bytes: Bytes(text.as_bytes().to_vec()),
        ln_p: Some(p.ln()),
        top: std::iter::once((n, Bytes(text.as_bytes().to_vec()), p.ln()))
            .chain(top.iter().enumerate().map(|(i, (t, p))| (900 + i as i32, Bytes(t.as_bytes().to_vec()), p.ln())))
            .collect(),
    };
    vec![
        token(1, "Please", 0.93, &[(" Sorry", 0.04), (" We", 0.01)]),
        token(2, " check", 0.55, &[(" ask", 0.30), (" wait", 0.10)]),
        token(3, " with", 0.97, &[(" the", 0.02)]),
        token(4, " neighbours", 0.21, &[(" your", 0.60), (" the", 0.15)]),
        token(5, ".\n", 0.08, &[(",", 0.70), (" first", 0.12)]),
        token(6, "再见", 0.44, &[("谢谢", 0.40)]),
    ]
}

#[test]
fn pictures_of_every_state() {
    for language in [Language::En, Language::Zh] {
        for size in SIZES {
            let name = |what: &str| format!("play_{what}_{}x{}_{}", size.0, size.1, word(language));
            let mut play = Play::new(language);
            play.0.picture(size);
            let chats = play.send(QUESTION);
            play.say(chats[0].0, "I am sorry about th", 6);
            keep(name("streaming"), &play.0.picture(size));
            let failure = Failure::new(FailureCode::ServiceUnavailable, "service desk is still loading");
            let failure = failure.hint(HintCode::TryAgain);
            play.0.app.update(Event::Down(1, Box::new(Down::Answer { id: chats[0].0, answer: Err(failure) })), NOW_MS);
            play.count(1_900);
            keep(name("error"), &play.0.picture(size));
            play.columns(1);
            let chats = play.send(QUESTION);
            play.answer(&chats);
            play.out();
            keep(name("two"), &play.0.picture(size));
            play.0.typed("2");
            keep(name("name_the_dataset"), &play.0.picture(size));
            play.0.typed("prefs");
            play.0.key(KeyEvent::from(KeyCode::Enter));
            let (id, _) = play.request(|r| matches!(r, Request::Judge { .. }));
            let set = JudgedSet { dataset: "prefs".into(), next_seq: 3, waiting_rows: 3, ..JudgedSet::default() };
            play.0.answer(id, Answer::Judged { seq: 2, set });
            play.count(1_310);
            keep(name("judged"), &play.0.picture(size));
            play.columns(2);
            let chats = play.send("And if not?");
            play.answer(&chats);
            play.out();
            play.0.press(Action::Right);
            keep(name("four"), &play.0.picture(size));
            play.0.press(Action::NextPane);
            play.0.press(Action::NextPane);
            play.0.press(Action::Down);
            play.0.press(Action::Down);
            play.0.press(Action::Down);
            keep(name("settings"), &play.0.picture(size));
        }
    }
}

#[test]
fn pictures_of_what_stands_in_place_of_the_talk() {
    for language in [Language::En, Language::Zh] {
        for size in SIZES {
            let name = |what: &str| format!("play_{what}_{}x{}_{}", size.0, size.1, word(language));
            let mut play = Play::new(language);
            play.0.picture(size);
            let chats = play.send(QUESTION);
            play.part(chats[0].0, StreamPart::Chances(chances()));
            play.answer(&chats);
            play.out();
            play.0.press(Action::Inspect);
            (0..3).for_each(|_| drop(play.0.press(Action::Right)));
            keep(name("chances"), &play.0.picture(size));
            play.out();
            play.0.press(Action::Export);
            play.0.press(Action::NextTab);
            keep(name("code"), &play.0.picture(size));
            play.out();
            play.0.press(Action::Log);
            let (id, _) = play.request(|r| *r == Request::Notes { kind: NoteKind::Talk });
            let head =
                |name: &str, title: &str, ago| NoteHead { name: name.into(), title: title.into(), at_ms: NOW_MS - ago };
            let open = format!("t{NOW_MS}");
            let heads = vec![head(&open, QUESTION, 1_000), head("t1", "怎么修改收货地址？", 90 * 60_000)];
            play.0.answer(id, Answer::Notes(heads));
            keep(name("talks"), &play.0.picture(size));
        }
    }
}

#[test]
fn a_message_goes_to_every_column_with_its_own_settings_and_comes_back_to_it() {
    let mut play = Play::new(Language::En);
    play.columns(1);
    play.0.press(Action::NextPane);
    play.0.press(Action::Down);
    let chats = {
        play.0.app.open(Place::Chat(String::new()));
        play.send("hello")
    };
    let services: Vec<String> = chats
        .iter()
        .map(|(_, request)| match request {
            Request::Chat { service, .. } => service.clone(),
            _ => String::new(),
        })
        .collect();
    assert_eq!(services, ["desk", "base"]);
    // The second one is quicker: texts do not mix.
    play.say(chats[1].0, "right", 1);
    play.say(chats[0].0, "left", 1);
    play.0.answer(chats[1].0, Answer::Chat(end(1, 100)));
    let picture = play.0.picture((100, 30));
    let line = picture.lines().find(|l| l.contains("left")).unwrap();
    assert!(line.find("left") < line.find("right"), "{picture}");
    assert!(!picture.contains("1 A better"), "no verdict while an answer streams");
    play.0.answer(chats[0].0, Answer::Chat(end(1, 100)));
    assert!(play.0.picture((100, 30)).contains("1 A better"));
}

#[test]
fn an_edited_question_and_another_try_are_branches_and_nothing_is_lost() {
    let mut play = Play::new(Language::En);
    let chats = play.send("first");
    play.answer(&chats);
    let chats = play.send("second");
    assert!(matches!(&chats[0].1, Request::Chat { messages, .. } if messages.len() == 3));
    play.answer(&chats);
    play.out();
    play.0.press(Action::Run);
    let again = play.chats();
    assert!(matches!(&again[0].1, Request::Chat { messages, .. } if messages.len() == 3), "the same question again");
    play.answer(&again);
    assert!(play.0.picture((100, 30)).contains("version 2 of 2"));
    play.0.press(Action::PreviousTab);
    assert!(play.0.picture((100, 30)).contains("version 1 of 2"));
    play.0.press(Action::First);
    play.0.press(Action::Edit);
    let chats = play.send(" edited");
    let Request::Chat { messages, .. } = &chats[0].1 else { panic!() };
    assert_eq!(messages.iter().map(|m| m.content.as_str()).collect::<Vec<_>>(), ["first edited"]);
    play.answer(&chats);
    play.out();
    play.0.press(Action::NextTab);
    let picture = play.0.picture((100, 40));
    assert!(picture.contains("second"), "the branch that was left is there to its end: {picture}");
}

#[test]
fn a_verdict_names_its_dataset_once_and_says_who_was_compared() {
    let mut play = Play::new(Language::En);
    play.columns(1);
    let chats = play.send(QUESTION);
    play.answer(&chats);
    play.out();
    play.0.asks();
    play.0.typed("1");
    assert!(!play.0.asks().iter().any(|(_, r)| matches!(r, Request::Judge { .. })), "no name, no verdict");
    play.0.typed("prefs");
    play.0.key(KeyEvent::from(KeyCode::Enter));
    let (id, request) = play.request(|r| matches!(r, Request::Judge { .. }));
    let Request::Judge { dataset, judgement } = request else { panic!() };
    assert_eq!((dataset.as_str(), judgement.verdict), ("prefs", Verdict::Best(0)));
    let services: Vec<&str> = judgement.contenders.iter().map(|c| c.service.as_str()).collect();
    assert_eq!((services, judgement.messages.len()), (vec!["desk", "base"], 1));
    assert_eq!(judgement.contenders[0].settings.0["sampling"]["top_k"], 0);
    assert!(!play.0.picture((100, 30)).contains("saved for prefs"), "not before the daemon says so");
    let set = JudgedSet { dataset: "prefs".into(), next_seq: 1, waiting_rows: 1, ..JudgedSet::default() };
    play.0.answer(id, Answer::Judged { seq: 0, set });
    assert!(play.0.picture((100, 30)).contains("A better, saved for prefs"));
    play.0.asks();
    play.0.press(Action::Undo);
    let (id, _) = play.request(|r| *r == Request::Unjudge { dataset: "prefs".into(), seq: 0 });
    let set = JudgedSet { dataset: "prefs".into(), next_seq: 1, ..JudgedSet::default() };
    play.0.answer(id, Answer::Judged { seq: 0, set });
    play.0.typed("3");
    let (_, request) = play.request(|r| matches!(r, Request::Judge { .. }));
    assert!(matches!(request, Request::Judge { judgement, .. } if judgement.verdict == Verdict::Tie));
}

#[test]
fn blind_columns_have_no_names_and_no_speeds_until_the_verdict() {
    let mut play = Play::new(Language::En);
    play.columns(1);
    play.0.press(Action::Out);
    play.0.press(Action::NextPane);
    play.0.press(Action::NextPane);
    play.0.press(Action::Last);
    play.0.press(Action::Up);
    play.0.press(Action::Right);
    play.0.app.open(Place::Chat(String::new()));
    let chats = play.send(QUESTION);
    play.answer(&chats);
    play.out();
    let picture = play.0.picture((80, 24));
    let body: String = picture.lines().skip(2).collect::<Vec<_>>().join("\n");
    assert!(!body.contains("desk") && !body.contains("base") && !body.contains("tok/s"), "{picture}");
    assert!(body.contains("1 A better"), "{picture}");
    keep("play_blind_80x24_en".into(), &picture);
    play.0.press(Action::Export);
    assert!(!play.0.picture((80, 24)).contains("\"model\""), "code would tell who answered");
}

#[test]
fn digits_are_areas_where_nothing_can_be_judged() {
    let mut play = Play::new(Language::En);
    let chats = play.send("one column");
    play.answer(&chats);
    play.out();
    play.0.typed("2");
    assert_eq!(play.0.app.area, Area::Models);
}

#[test]
fn presets_set_values_and_a_new_name_keeps_them() {
    let mut play = Play::new(Language::En);
    play.0.press(Action::Out);
    play.0.press(Action::NextPane);
    play.0.press(Action::NextPane);
    play.0.press(Action::Pause);
    play.0.press(Action::Right);
    assert!(play.0.picture((80, 24)).contains("exact"));
    play.0.asks();
    play.0.press(Action::Enter);
    (0..5).for_each(|_| drop(play.0.key(KeyEvent::from(KeyCode::Backspace))));
    play.0.typed("mine");
    play.0.key(KeyEvent::from(KeyCode::Enter));
    let (_, request) = play.request(|r| matches!(r, Request::KeepNote { .. }));
    let Request::KeepNote { kind, name, value, .. } = request else { panic!() };
    assert_eq!((kind, name.as_str(), &value.0["temperature"]), (NoteKind::Preset, "mine", &"0".into()));
}

#[test]
fn a_talk_is_kept_after_each_answer_and_comes_back_as_it_was() {
    let mut play = Play::new(Language::En);
    let chats = play.send(QUESTION);
    play.say(chats[0].0, ANSWERS[0], 40);
    play.0.answer(chats[0].0, Answer::Chat(end(40, 900)));
    let (_, request) = play.request(|r| matches!(r, Request::KeepNote { .. }));
    let Request::KeepNote { name, title, value, .. } = request else { panic!() };
    assert_eq!(title, QUESTION);
    let mut later = Play::new(Language::En);
    later.out();
    later.0.press(Action::Log);
    let (id, _) = later.request(|r| matches!(r, Request::Notes { kind: NoteKind::Talk }));
    let head = NoteHead { name, title, at_ms: NOW_MS };
    later.0.answer(id, Answer::Notes(vec![head.clone()]));
    later.0.press(Action::Enter);
    let (id, _) = later.request(|r| matches!(r, Request::Note { .. }));
    later.0.answer(id, Answer::Note(Box::new(NoteRecord { head, value: Json(value.0) })));
    let picture = later.0.picture((100, 30));
    assert!(picture.contains("My parcel says delivered") && picture.contains("I am sorry"), "{picture}");
}

#[test]
fn the_code_is_copied_whole_and_asks_as_the_talk_did() {
    let mut play = Play::new(Language::En);
    let chats = play.send(QUESTION);
    play.answer(&chats);
    play.out();
    play.0.press(Action::Export);
    let copied = play.0.typed_effects('y');
    let [Effect::Copy(code)] = copied.as_slice() else { panic!("{copied:?}") };
    assert!(code.starts_with("curl -sN http://127.0.0.1:8080/v1/chat/completions"), "{code}");
    assert!(code.contains(QUESTION) && !code.contains(ANSWERS[0]), "the request of this answer: {code}");
}

#[test]
fn the_meter_counts_once_for_each_text_and_warns_before_the_context_is_full() {
    let mut play = Play::new(Language::En);
    play.0.asks();
    play.0.typed("x");
    let (id, _) = play.request(|r| matches!(r, Request::CountTokens { .. }));
    play.0.typed("yz");
    assert!(!play.0.asks().iter().any(|(_, r)| matches!(r, Request::CountTokens { .. })), "one count at a time");
    play.0.answer(id, Answer::Counted { tokens: 9, context_tokens: 2048 });
    let (id, request) = play.request(|r| matches!(r, Request::CountTokens { .. }));
    assert!(matches!(request, Request::CountTokens { messages, .. } if messages[0].content == "xyz"));
    play.0.answer(id, Answer::Counted { tokens: 1_900, context_tokens: 2048 });
    assert!(play.0.picture((80, 24)).contains("room for 148 tokens"));
    assert!(play.0.asks().is_empty(), "nothing changed, nothing is asked");
    play.0.typed("!");
    play.count(2_048);
    assert!(play.0.picture((80, 24)).contains("no room, refused"));
}
