//! Labelling: what is acknowledged is there after a kill, once; undo walks back through all of it; nobody decides a row twice.

use hone_protocol::labelling::{
    Decision, How, LabelAnswer, LabelName, LabelRequest, LabelValue, ProjectSpec, SuggestSpec, Suggestion, Task,
};
use hone_protocol::person::Role;

use super::*;
use crate::dispatcher::labelling::HandedOut;
use crate::labelling as stored;
use crate::labelling::sample_spec;

pub(super) fn suggest() -> SuggestSpec {
    SuggestSpec { project: "tone".into(), service: "desk".into(), payer: "owner".into(), at_once: 0, rows_max: 0 }
}

fn spec(persons: u32) -> ProjectSpec {
    let label = |name: &str| LabelName { name: name.into(), title: String::new(), keep: true };
    let task = Task::Choice { labels: vec![label("good"), label("bad")] };
    ProjectSpec { dataset: "desk".into(), seed: 7, persons, ..sample_spec(task) }
}

fn set(desk: &mut Desk, name: &str, spec: ProjectSpec) -> Result<Answer, Failure> {
    let request = LabelRequest::SetProject { name: name.into(), spec: Box::new(spec), rows: None };
    desk.ask("a project is made", Request::Labelling(request))
}

fn decision(row_id: u64, word: &str) -> Decision {
    let value = LabelValue::Labels(vec![word.into()]);
    Decision { row_id, value, flag: String::new(), note: String::new(), spent_ms: 700, how: How::Own }
}

fn decide(decisions: Vec<Decision>) -> Request {
    Request::Labelling(LabelRequest::Decide { project: "tone".into(), person: None, decisions })
}

fn take_back(row_id: Option<u64>) -> Request {
    Request::Labelling(LabelRequest::TakeBack { project: "tone".into(), row_id })
}

/// Asks as somebody.
fn ask_as(desk: &mut Desk, person: &str, once: Option<String>, request: Request) -> Result<Answer, Failure> {
    let (reply, _) = oneshot::channel();
    let now = desk.now;
    desk.decider().decide(Event::Request { person: person.into(), once, request: Box::new(request), reply }, now);
    let answer = desk.decider().effects.iter().rev().find_map(|effect| match effect {
        Effect::Reply(_, answer) => Some(answer.clone()),
        _ => None,
    });
    desk.settle("");
    answer.expect("every request is answered")
}

fn next(desk: &mut Desk, person: &str, count: u32) -> Result<HandedOut, Failure> {
    let (reply, mut handed) = oneshot::channel();
    let (project, now) = ("tone".to_owned(), desk.now);
    let event = Event::HandOut { person: person.into(), project, session: 1, held: Vec::new(), count, reply };
    desk.decider().decide(event, now);
    desk.settle("");
    handed.try_recv().unwrap()
}

#[test]
fn a_project_its_decisions_and_their_undo() {
    let mut desk = Desk::furnished();
    set(&mut desk, "tone", spec(1)).unwrap();
    desk.ask("a row is decided", decide(vec![decision(0, "good")])).unwrap();
    desk.ask("two rows are decided at once", decide(vec![decision(1, "bad"), decision(2, "bad")])).unwrap();
    desk.ask("both are taken back", take_back(None)).unwrap();
    desk.ask("a row that is not there", decide(vec![decision(99_999, "good")])).unwrap_err();
    desk.ask("a label that is not there", decide(vec![decision(1, "splendid")])).unwrap_err();
    let close = |closed| Request::Labelling(LabelRequest::CloseProject { name: "tone".into(), closed });
    desk.ask("it is closed", close(true)).unwrap();
    desk.ask("nobody labels it", decide(vec![decision(1, "good")])).unwrap_err();
    desk.ask("it is open again", close(false)).unwrap();
    desk.start("the daemon is killed and starts again");
    let counts = &desk.state().project_counts["tone"];
    assert_eq!((counts.done, counts.next_seq, counts.persons[0].done), (1, 3, 1));
    insta::assert_snapshot!(desk.transcript());
}

#[test]
fn a_decision_that_is_sent_again_is_one_decision() {
    let mut desk = Desk::furnished();
    set(&mut desk, "tone", spec(1)).unwrap();
    let send = |desk: &mut Desk| ask_as(desk, "ada", Some("a-1".into()), decide(vec![decision(3, "good")]));
    let first = send(&mut desk).unwrap();
    desk.start("killed before the answer left");
    assert_eq!(send(&mut desk).unwrap(), first);
    let labels = stored::labels(desk.store.as_ref().unwrap(), "tone").unwrap();
    assert_eq!(labels.len(), 1);
    assert_eq!(desk.state().project_counts["tone"].done, 1);
}

#[test]
fn whoever_comes_second_to_a_row_is_told_by_whom_it_was_decided() {
    let mut desk = Desk::furnished();
    set(&mut desk, "tone", spec(1)).unwrap();
    ask_as(&mut desk, "ada", None, decide(vec![decision(0, "good")])).unwrap();
    let refused = ask_as(&mut desk, "lin", None, decide(vec![decision(1, "good"), decision(0, "bad")])).unwrap_err();
    assert_eq!((refused.code, refused.place.as_str()), (FailureCode::WrongState, "decisions[1].row_id"));
    assert!(refused.message_en.contains("decided by ada"), "{}", refused.message_en);
    assert_eq!(desk.state().project_counts["tone"].done, 1, "all or none");
    // Of two persons each has a word, and what they disagree on is settled above them.
    let request = LabelRequest::SetProject { name: "tone".into(), spec: Box::new(spec(2)), rows: None };
    desk.ask("", Request::Labelling(request)).unwrap();
    ask_as(&mut desk, "lin", None, decide(vec![decision(0, "bad")])).unwrap();
    assert_eq!(desk.state().project_counts["tone"].disputed, 1);
    ask_as(&mut desk, "mo", None, decide(vec![Decision { how: How::Final, ..decision(0, "good") }])).unwrap();
    let counts = &desk.state().project_counts["tone"];
    assert_eq!((counts.disputed, counts.done), (0, 1));
    ask_as(&mut desk, "mo", None, take_back(Some(0))).unwrap();
    assert_eq!(desk.state().project_counts["tone"].disputed, 1);
}

#[test]
fn projects_and_suggestions_that_make_no_sense_are_refused() {
    let mut desk = Desk::furnished();
    let place = |result: Result<Answer, Failure>| result.unwrap_err().place;
    assert_eq!(place(set(&mut desk, "No Name", spec(1))), "name");
    assert_eq!(place(set(&mut desk, "tone", ProjectSpec { dataset: "nothing".into(), ..spec(1) })), "dataset");
    assert_eq!(
        place(set(&mut desk, "tone", ProjectSpec { task: Task::Pair { reasons: Vec::new() }, ..spec(1) })),
        "task"
    );
    set(&mut desk, "tone", spec(1)).unwrap();
    assert_eq!(place(set(&mut desk, "tone", ProjectSpec { task: Task::Edit, ..spec(1) })), "task");
    let suggest = |row_id, word: &str, probability| {
        let value = LabelValue::Labels(vec![word.into()]);
        let suggestions = vec![Suggestion { row_id, value, probability, by: "script".into() }];
        Request::Labelling(LabelRequest::Suggest { project: "tone".into(), suggestions })
    };
    assert_eq!(place(desk.ask("", suggest(99_999, "good", None))), "suggestions[0].row_id");
    assert_eq!(place(desk.ask("", suggest(1, "grand", None))), "suggestions[0].value");
    assert_eq!(place(desk.ask("", suggest(1, "good", Some(f32::NAN)))), "suggestions[0].probability");
    desk.ask("", suggest(1, "good", Some(0.5))).unwrap();
    ask_as(&mut desk, "ada", None, decide(vec![decision(1, "good")])).unwrap();
    desk.start("");
    let counts = &desk.state().project_counts["tone"];
    assert_eq!((counts.suggested, counts.persons[0].suggested, counts.persons[0].suggested_same), (1, 1, 1));
    // Rows that are labelled are not put away.
    let trash = desk.ask("", Request::TrashDataset { dataset: "desk".into() }).unwrap_err();
    assert!(trash.message_en.contains("project tone"), "{}", trash.message_en);
}

#[test]
fn persons_are_let_in_once_and_only_where_they_belong() {
    let mut desk = Desk::furnished();
    set(&mut desk, "tone", spec(1)).unwrap();
    let person = |name: &str, uid, projects: &[&str]| Request::SetPerson {
        name: name.into(),
        role: Role::Annotator,
        uid,
        projects: projects.iter().map(|project| (*project).to_owned()).collect(),
    };
    desk.ask("", person("lin", Some(4_001), &["tone"])).unwrap();
    assert_eq!(desk.ask("", person("mo", Some(4_001), &[])).unwrap_err().place, "uid");
    assert_eq!(desk.ask("", person("mo", None, &["nothing"])).unwrap_err().place, "project");
    let own = rustix::process::geteuid().as_raw();
    assert_eq!(desk.ask("", person("mo", Some(own), &[])).unwrap_err().place, "uid");
    desk.start("");
    assert_eq!(desk.state().people.len(), 1);
    desk.ask("", Request::RemovePerson { name: "lin".into() }).unwrap();
    assert!(desk.state().people.is_empty());
    assert!(desk.ask("", Request::RemovePerson { name: "lin".into() }).is_err());
}

/// Persons label, undo, skip and are killed in any order. What the daemon says afterwards is what they were told, whatever it remembers
/// in memory; at last everybody walks back through all of it.
#[test]
fn any_order_of_decisions_undos_and_kills_loses_and_doubles_nothing() {
    let mut desk = Desk::furnished();
    set(&mut desk, "tone", spec(2)).unwrap();
    let rows = desk.state().project("tone").unwrap().rows;
    // SplitMix64 (Steele, Lea, Flood 2014).
    let mut seed: u64 = 20_261_130;
    let mut draw = |most: u64| {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most
    };
    let persons = ["ada", "lin", "mo"];
    // What each person was told that stands, in order.
    let mut told: BTreeMap<&str, Vec<Vec<(u64, bool)>>> = BTreeMap::new();
    for step in 0..1_500 {
        let person = persons[draw(3) as usize];
        match draw(10) {
            0 => desk.start(""),
            1 | 2 => {
                let stack = told.entry(person).or_default();
                match ask_as(&mut desk, person, None, take_back(None)) {
                    Ok(Answer::Labelling(LabelAnswer::TakenBack { row_ids, .. })) => {
                        let mut expected: Vec<u64> = stack.pop().unwrap().into_iter().map(|(row, _)| row).collect();
                        expected.reverse();
                        assert_eq!(row_ids, expected, "step {step}");
                    }
                    Ok(other) => panic!("{other:?}"),
                    Err(failure) => {
                        assert_eq!(failure.code, FailureCode::NotFound);
                        assert!(stack.is_empty(), "step {step}: {}", failure.message_en);
                    }
                }
            }
            kind => {
                let wanted = if kind == 3 { 3 } else { 1 };
                let handed = next(&mut desk, person, wanted).unwrap().row_ids;
                if handed.is_empty() {
                    continue;
                }
                let skip = kind == 4;
                let make = |row_id: &u64| {
                    let word = if row_id.is_multiple_of(3) == (person == "ada") { "bad" } else { "good" };
                    let made = decision(*row_id, word);
                    if skip { Decision { value: LabelValue::Skip, ..made } } else { made }
                };
                let decisions: Vec<Decision> = handed.iter().map(make).collect();
                ask_as(&mut desk, person, Some(format!("{person}-{step}")), decide(decisions)).unwrap();
                told.entry(person).or_default().push(handed.into_iter().map(|row| (row, !skip)).collect());
            }
        }
        if step % 50 == 0 {
            check(&desk, &told, rows);
        }
    }
    check(&desk, &told, rows);
    for person in persons {
        while ask_as(&mut desk, person, None, take_back(None)).is_ok() {
            told.entry(person).or_default().pop().unwrap();
        }
        assert!(told.get(person).is_none_or(Vec::is_empty));
    }
    let counts = &desk.state().project_counts["tone"];
    assert_eq!((counts.done, counts.begun, counts.disputed), (0, 0, 0));
}

/// What was told, counted by hand, is what the daemon counts.
fn check(desk: &Desk, told: &BTreeMap<&str, Vec<Vec<(u64, bool)>>>, rows: u64) {
    let counts = &desk.state().project_counts["tone"];
    let mut by_row: BTreeMap<u64, usize> = BTreeMap::new();
    for (person, groups) in told {
        let mut newest: BTreeMap<u64, bool> = BTreeMap::new();
        newest.extend(groups.iter().flatten().copied());
        let done = newest.values().filter(|decided| **decided).count() as u64;
        let known = counts.persons.iter().find(|counts| counts.person == *person);
        assert_eq!(known.map_or(0, |counts| counts.done), done, "{person}");
        assert_eq!(known.map_or(0, |counts| counts.skipped), newest.len() as u64 - done, "{person}");
        newest.iter().filter(|(_, decided)| **decided).for_each(|(row, _)| *by_row.entry(*row).or_default() += 1);
    }
    assert!(by_row.values().all(|persons| *persons <= 2), "a row was judged by more persons than it should be");
    assert_eq!(counts.begun, by_row.len() as u64);
    assert_eq!(counts.done, by_row.values().filter(|persons| **persons == 2).count() as u64);
    assert!(counts.done <= rows);
    let stored = stored::labels(desk.store.as_ref().unwrap(), "tone").unwrap();
    let standing = stored.iter().filter(|label| label.taken_back_at_ms.is_none()).count();
    assert_eq!(standing, told.values().flatten().map(Vec::len).sum::<usize>());
}
