//! Tests: labelling of every kind at three sizes in both languages and all states, and what keys do. Never here: facts (`sample/labels.rs`).

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hone_protocol::catalogue::Language;
use hone_protocol::event::{Change, Event as PublicEvent};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::labelling::{
    How, LabelAnswer, LabelRequest, LabelValue, NextRows, PairAnswer, ProjectCounts, Span, Task,
};
use hone_protocol::request::{Answer, Down, Request, Up};

use crate::action::{Action, Area};
use crate::event::{Event, Outbox};
use crate::labels;
use crate::screens::Place;
use crate::screens::bench::{Bench, SIZES, keep, word};
use crate::screens::sample::labels as facts;
use crate::screens::sample::{self, NOW_MS};

fn kinds() -> [(&'static str, Task); 7] {
    [
        ("choice", facts::quality()),
        ("several", Task::Several { labels: labels::parse("delivery, refund, password, other") }),
        ("span", Task::Span { labels: labels::parse("name=姓名, phone=电话, address=地址") }),
        ("pair", Task::Pair { reasons: vec!["fact".into(), "tone".into(), "length".into()] }),
        ("rank", Task::Rank),
        ("rating", Task::Rating { scale: 5 }),
        ("edit", Task::Edit),
    ]
}

/// A client at the desk of a project of a kind; the guide that opens for newcomers does not, because this person knows it.
fn at_work(language: Language, task: &Task) -> Bench {
    let mut snapshot = sample::filled();
    snapshot.projects = vec![facts::project("support-quality", task.clone())];
    let mut bench = Bench::new(language, snapshot);
    bench.app.open(Place::Label("support-quality".into()));
    serve(&mut bench, task);
    bench
}

/// Answers what labelling asks, as a daemon with rows would; gives the decisions that it was told.
fn serve(bench: &mut Bench, task: &Task) -> Vec<LabelRequest> {
    bench.app.update(Event::Tick, NOW_MS);
    let mut told = Vec::new();
    loop {
        let asked = bench.asks();
        if asked.is_empty() {
            return told;
        }
        for (id, request) in asked {
            let Request::Labelling(request) = request else { continue };
            let answer = match &request {
                LabelRequest::Next { held, .. } => {
                    let known = |row: &hone_protocol::labelling::NextRow| held.contains(&row.row.row_id);
                    let rows = facts::next_rows(task).into_iter().filter(|row| !known(row)).collect();
                    LabelAnswer::Next(NextRows { rows, is_suggesting: true })
                }
                LabelRequest::Labels { .. } => LabelAnswer::Labels(facts::last_labels()),
                LabelRequest::Agreement { .. } => LabelAnswer::Agreement(Box::new(facts::agreement())),
                LabelRequest::Disputed { .. } => LabelAnswer::Disputed { rows: facts::disputed(), total: 31 },
                LabelRequest::Decide { .. } => {
                    told.push(request.clone());
                    LabelAnswer::Decided { seq: 0, counts: ProjectCounts::default() }
                }
                LabelRequest::TakeBack { .. } => {
                    told.push(request.clone());
                    LabelAnswer::TakenBack { row_ids: Vec::new(), seqs: Vec::new(), counts: ProjectCounts::default() }
                }
                _ => continue,
            };
            bench.answer(id, Answer::Labelling(answer));
        }
    }
}

fn decided(told: &[LabelRequest]) -> Vec<(u64, LabelValue, How)> {
    let decisions = told.iter().filter_map(|request| match request {
        LabelRequest::Decide { decisions, .. } => Some(decisions),
        _ => None,
    });
    decisions.flatten().map(|decision| (decision.row_id, decision.value.clone(), decision.how)).collect()
}

#[test]
fn every_kind_of_task_at_every_size_in_both_languages() {
    for language in [Language::En, Language::Zh] {
        for size in SIZES {
            for (kind, task) in kinds() {
                let name = |what: &str| format!("label_{kind}{what}_{}x{}_{}", size.0, size.1, word(language));
                let mut bench = at_work(language, &task);
                bench.picture(size);
                keep(name(""), &bench.picture(size));
                match kind {
                    "choice" => {
                        bench.typed("131");
                        bench.press(Action::Left);
                        keep(name("_back"), &bench.picture(size));
                        bench.press(Action::Out);
                        bench.typed("f");
                        keep(name("_flag"), &bench.picture(size));
                        bench.key(KeyEvent::from(KeyCode::Esc));
                        bench.typed("b a");
                        keep(name("_together"), &bench.picture(size));
                    }
                    "span" => {
                        bench.press(Action::NextPane);
                        bench.press(Action::Enter);
                        bench.press(Action::Out);
                        bench.app.open(Place::Label("support-quality".into()));
                        for _ in 0..3 {
                            bench.press(Action::Right);
                        }
                        bench.typed("v");
                        bench.press(Action::Right);
                        keep(name("_begun"), &bench.picture(size));
                    }
                    "pair" => {
                        bench.typed("1");
                        keep(name("_why"), &bench.picture(size));
                    }
                    "edit" => {
                        bench.press(Action::Edit);
                        keep(name("_typing"), &bench.picture(size));
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn the_project_its_form_agreement_and_the_end() {
    for language in [Language::En, Language::Zh] {
        for size in SIZES {
            let name = |what: &str| format!("label_{what}_{}x{}_{}", size.0, size.1, word(language));
            let mut bench = Bench::new(language, sample::filled());
            bench.picture(size);
            bench.go(Area::Labelling);
            bench.press(Action::New);
            bench.press(Action::Down);
            bench.press(Action::Down);
            bench.press(Action::Down);
            keep(name("form"), &bench.picture(size));
            bench.press(Action::Out);
            bench.press(Action::Compare);
            serve(&mut bench, &facts::quality());
            keep(name("agreement"), &bench.picture(size));
            bench.press(Action::Enter);
            keep(name("settle"), &bench.picture(size));
            bench.press(Action::Out);
            bench.press(Action::Out);
            // A newcomer sees the guide first.
            let mut fresh = sample::filled();
            fresh.projects = vec![facts::project("support-quality", facts::quality())];
            fresh.projects[0].counts.persons.clear();
            let mut bench = Bench::new(language, fresh);
            bench.picture(size);
            bench.app.open(Place::Label("support-quality".into()));
            serve(&mut bench, &facts::quality());
            keep(name("guide"), &bench.picture(size));
            bench.press(Action::Out);
            bench.lose();
            bench.typed("11");
            keep(name("away"), &bench.picture(size));
            let mut done = sample::filled();
            done.projects = vec![facts::project("support-quality", facts::quality())];
            done.projects[0].counts.done = 2_000;
            let mut bench = Bench::new(language, done);
            bench.picture(size);
            bench.app.open(Place::Label("support-quality".into()));
            for (id, request) in bench.asks() {
                if let Request::Labelling(LabelRequest::Next { .. }) = request {
                    let next = NextRows { rows: Vec::new(), is_suggesting: true };
                    bench.answer(id, Answer::Labelling(LabelAnswer::Next(next)));
                }
            }
            keep(name("end"), &bench.picture(size));
        }
    }
}

#[test]
fn one_key_decides_and_the_next_row_is_there() {
    let task = facts::quality();
    let mut bench = at_work(Language::En, &task);
    assert!(bench.picture((100, 30)).contains("row 1204"));
    bench.typed("1");
    assert!(bench.picture((100, 30)).contains("row 1205"), "before anybody answered");
    bench.typed("3");
    bench.press(Action::Enter);
    bench.press(Action::Stop);
    let said = |name: &str| LabelValue::Labels(vec![name.into()]);
    let told = decided(&serve(&mut bench, &task));
    let expected = [
        (1204, said("good"), How::Own),
        (1205, said("wrong-fact"), How::Own),
        (1206, said("good"), How::Accepted),
        (1207, LabelValue::Skip, How::Own),
    ];
    assert_eq!(told, expected);
    // Back through all of them, and one further into an earlier session.
    for row in [1207, 1206, 1205, 1204] {
        bench.press(Action::Undo);
        assert!(bench.picture((100, 30)).contains(&format!("row {row} ")), "{}", bench.picture((100, 30)));
    }
    bench.press(Action::Undo);
    let taken: Vec<Option<u64>> = serve(&mut bench, &task)
        .into_iter()
        .filter_map(|request| match request {
            LabelRequest::TakeBack { row_id, .. } => Some(row_id),
            _ => None,
        })
        .collect();
    assert_eq!(taken, [Some(1207), Some(1206), Some(1205), Some(1204), None]);
}

#[test]
fn a_chinese_span_is_labelled_by_keys_alone() {
    let task = Task::Span { labels: labels::parse("name=姓名, phone=电话, address=地址") };
    let mut bench = at_work(Language::Zh, &task);
    // The suggested name is taken, the suggested address is taken away, the phone number is marked by hand.
    bench.press(Action::NextPane);
    bench.press(Action::Enter);
    bench.key(KeyEvent::from(KeyCode::Backspace));
    // 王|小明|，|电话|是|138
    for _ in 0..2 {
        bench.press(Action::Left);
    }
    for _ in 0..40 {
        bench.press(Action::Left);
    }
    for _ in 0..9 {
        bench.press(Action::Right);
    }
    bench.typed("v");
    for _ in 0..4 {
        bench.press(Action::Right);
    }
    // A full-width digit counts as its twin: an input method was left on.
    bench.typed("２");
    bench.key(KeyEvent::new(KeyCode::Left, KeyModifiers::SHIFT));
    bench.key(KeyEvent::new(KeyCode::Right, KeyModifiers::SHIFT));
    bench.press(Action::Mark);
    let told = decided(&serve(&mut bench, &task));
    let span = |start, end, label: &str| Span { message: 0, start, end, label: label.into() };
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1, LabelValue::Spans(vec![span(5, 8, "name"), span(12, 25, "phone")]));
}

#[test]
fn a_pair_says_why_an_edit_is_kept_and_several_rows_are_judged_at_once() {
    let task = Task::Pair { reasons: vec!["fact".into(), "tone".into()] };
    let mut bench = at_work(Language::En, &task);
    bench.typed("22");
    let told = decided(&serve(&mut bench, &task));
    let LabelValue::Pair { answer, reason, is_swapped } = &told[0].1 else { panic!("{told:?}") };
    assert_eq!(reason, "tone");
    assert_eq!(*answer, if *is_swapped { PairAnswer::Second } else { PairAnswer::First });

    let mut bench = at_work(Language::En, &Task::Edit);
    bench.press(Action::Edit);
    bench.typed("Well");
    bench.key(KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE));
    bench.key(KeyEvent::new(KeyCode::Char('s'), KeyModifiers::CONTROL));
    let told = decided(&serve(&mut bench, &Task::Edit));
    let LabelValue::Text(text) = &told[0].1 else { panic!("{told:?}") };
    assert!(text.ends_with("today.Well\n"), "{text:?}");

    let task = facts::quality();
    let mut bench = at_work(Language::En, &task);
    bench.press(Action::Label);
    for _ in 0..3 {
        bench.press(Action::Mark);
    }
    bench.typed("2");
    let told = serve(&mut bench, &task);
    assert_eq!(told.len(), 1, "one step of undo");
    assert_eq!(decided(&told).len(), 3);
    bench.press(Action::Out);
    bench.press(Action::Undo);
    let told = serve(&mut bench, &task);
    assert!(matches!(told[..], [LabelRequest::TakeBack { .. }]));
    assert!(bench.picture((100, 30)).contains("row 1204"));
}

#[test]
fn a_decision_waits_on_this_machine_while_the_daemon_is_away_and_is_sent_once() {
    let task = facts::quality();
    let mut bench = at_work(Language::En, &task);
    bench.typed("1");
    let first: Vec<Up> = bench.asked.try_iter().collect();
    assert_eq!(first.len(), 1);
    // Not answered: the daemon is gone before it could.
    bench.lose();
    bench.typed("2");
    assert!(bench.picture((100, 30)).contains("kept on this machine, 2 waiting"), "{}", bench.picture((100, 30)));
    let (mut outbox, asked) = Outbox::for_test();
    outbox.number = 2;
    bench.asked = asked;
    bench.app.update(Event::Tick, NOW_MS + 1_000);
    bench.app.update(Event::Linked(outbox), NOW_MS + 1_100);
    let sent: Vec<(String, Request)> = bench
        .asked
        .try_iter()
        .filter_map(|up| match up {
            Up::Ask { once: Some(once), request, .. } => Some((once, request)),
            _ => None,
        })
        .collect();
    assert_eq!(sent.len(), 2);
    let Up::Ask { once: Some(once), .. } = &first[0] else { panic!("{first:?}") };
    assert_eq!(*once, sent[0].0, "the same id as the first time");
    assert_ne!(sent[0].0, sent[1].0);
}

#[test]
fn a_decision_that_the_daemon_cannot_take_now_is_sent_again_while_the_link_stays() {
    let task = facts::quality();
    let mut bench = at_work(Language::En, &task);
    bench.typed("1");
    let kept = |up: Up| match up {
        Up::Ask { id, once: Some(once), .. } => Some((id, once)),
        _ => None,
    };
    let (id, once) = bench.asked.try_iter().find_map(kept).unwrap();
    let failure = Failure::new(FailureCode::WorkerDied, "the process that reads rows ended");
    bench.app.update(Event::Down(1, Box::new(Down::Answer { id, answer: Err(failure) })), NOW_MS);
    let picture = bench.picture((100, 30));
    assert!(picture.contains("the process that reads rows ended"), "{picture}");
    let at_ms = bench.app.wakes_at_ms().unwrap();
    bench.app.update(Event::Tick, at_ms - 1);
    assert!(bench.asked.try_iter().find_map(kept).is_none(), "not at once");
    bench.app.update(Event::Tick, NOW_MS + 2_000);
    let (id, again) = bench.asked.try_iter().find_map(kept).unwrap();
    assert_eq!(once, again, "the same id as the first time");
    bench.app.update(Event::Tick, NOW_MS + 10_000);
    assert!(bench.asked.try_iter().find_map(kept).is_none(), "it is under way");
    bench.answer(id, Answer::Labelling(LabelAnswer::Decided { seq: 0, counts: ProjectCounts::default() }));
    assert_eq!(bench.app.journal.len(), 0, "nothing waits");
}

#[test]
fn a_row_that_somebody_else_decided_is_told_and_not_counted() {
    let task = facts::quality();
    let mut bench = at_work(Language::En, &task);
    bench.typed("1");
    let (id, _) = bench.asks().pop().unwrap();
    let failure = Failure::new(FailureCode::WrongState, "row 1204 was decided by ada meanwhile; nothing was changed");
    let down = Down::Answer { id, answer: Err(failure) };
    bench.app.update(Event::Down(1, Box::new(down)), NOW_MS);
    let picture = bench.picture((100, 30));
    assert!(picture.contains("decided by ada meanwhile"), "{picture}");
    assert!(!picture.contains("#1204 good"));
}

#[test]
fn poor_suggestions_are_listed_and_enter_does_not_take_them() {
    let task = facts::quality();
    let mut snapshot = sample::filled();
    snapshot.projects = vec![facts::project("support-quality", task.clone())];
    let mut bench = Bench::new(Language::En, snapshot);
    bench.app.open(Place::Label("support-quality".into()));
    bench.app.update(Event::Tick, NOW_MS);
    for (id, request) in bench.asks() {
        if let Request::Labelling(LabelRequest::Next { .. }) = request {
            let next = NextRows { rows: facts::next_rows(&task), is_suggesting: false };
            bench.answer(id, Answer::Labelling(LabelAnswer::Next(next)));
        }
    }
    let picture = bench.picture((100, 30));
    assert!(picture.contains("the model thinks: good 0.94") && !picture.contains("Enter takes"), "{picture}");
    bench.press(Action::Enter);
    assert!(decided(&serve(&mut bench, &task)).is_empty());
}

#[test]
fn progress_comes_from_the_daemon() {
    let task = facts::quality();
    let mut bench = at_work(Language::En, &task);
    let mut view = facts::project("support-quality", task);
    view.counts.done = 1_999;
    let event = PublicEvent { epoch: 7, seq: sample::filled().seq + 1, change: Change::Project(Box::new(view)) };
    bench.app.update(Event::Down(1, Box::new(Down::Event(Box::new(event)))), NOW_MS);
    assert!(bench.picture((100, 30)).contains("1,999/2,000"), "{}", bench.picture((100, 30)));
}
