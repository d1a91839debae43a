//! The log on disk with a simulated clock: caps, ages, restarts, what is cut and masked, pages, and rows with their lineage.

use hone_protocol::application::Outcome;
use hone_protocol::dataset::{ChatMessage, Shape};
use hone_protocol::generate::{Prompt, PromptText, Wish};
use hone_protocol::id::ServiceId;
use hone_protocol::log::{Feedback, FeedbackFilter, FeedbackRecord, LogQuery, LogSelection, LoggedAnswer, Rating};

use super::*;
use crate::store::{Store, Table, Writes, codec, key};

const DAY: i64 = 24 * 3600 * 1000;
const NOON: i64 = 1_790_000_000_000;
const APPLICATION: ApplicationId = ApplicationId::from_bytes([9; 16]);

fn settings() -> LogSettings {
    LogSettings { bytes_max: 1 << 20, entry_bytes_max: 64 << 10, ..LogSettings::default() }
}

fn id(number: u64) -> hone_protocol::id::LedgerId {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&NOON.to_be_bytes()[2..]);
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    hone_protocol::id::LedgerId::from_bytes(bytes)
}

fn entry(number: u64, at_ms: i64, asked: &str, answered: &str) -> LogEntry {
    LogEntry {
        id: id(number),
        opened_at_ms: at_ms,
        at_ms,
        key: None,
        service: "desk".into(),
        version: "desk@1".into(),
        route: "/v1/chat/completions".into(),
        outcome: Outcome::Complete,
        prompts: vec![Prompt::chat(vec![ChatMessage { role: "user".into(), content: asked.into() }])],
        answers_wanted: 1,
        tokens_max: None,
        wish: Wish::default(),
        rendered: vec![PromptText { text: format!("<|user|>{asked}"), control: vec![(0, 8)], tokens: 9 }],
        answers: vec![LoggedAnswer { finish: "stop".into(), text: answered.into(), ..LoggedAnswer::default() }],
        prompt_tokens: 9,
        cached_tokens: 0,
        completion_tokens: 3,
        first_token_ms: Some(1),
        total_ms: Some(2),
        user: "ann".into(),
        metadata: Vec::new(),
        guards: Vec::new(),
        masked: 0,
        cut_bytes: 0,
    }
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.redb")).unwrap();
    (folder, store)
}

fn ids(folder: &Path, store: &Store, query: &LogQuery, now_ms: i64) -> Vec<hone_protocol::id::LedgerId> {
    let page = read::page(store, folder, APPLICATION, Some(&settings()), query, now_ms).unwrap();
    page.lines.into_iter().map(|line| line.id).collect()
}

fn query(count: u32) -> LogQuery {
    LogQuery { application: "shop".into(), count, ..LogQuery::default() }
}

fn size(folder: &Path) -> u64 {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.metadata().unwrap().len()).sum()
}

#[test]
fn a_log_is_never_bigger_than_it_may_be_and_the_oldest_go_first() {
    let (_kept, store) = store();
    let folder = tempfile::tempdir().unwrap();
    let mut files = Files::open(folder.path()).unwrap();
    let text = "x".repeat(10_000);
    for number in 0..500 {
        let line = entry::line(entry(number, NOON + number as i64, &text, "y"), &settings());
        files.append(&line, NOON + number as i64, &settings()).unwrap();
        assert!(size(folder.path()) <= settings().bytes_max, "after {number}");
    }
    assert_eq!(size(folder.path()), files.bytes());
    let left = ids(folder.path(), &store, &query(1000), NOON + 1000);
    assert_eq!(left.first(), Some(&id(499)));
    assert!((30..200).contains(&left.len()), "{}", left.len());
    // A smaller cap is kept at once.
    let smaller = LogSettings { bytes_max: 300_000, ..settings() };
    files.sweep(&smaller, NOON).unwrap();
    assert!(size(folder.path()) <= 300_000);
}

#[test]
fn entries_are_hidden_when_their_time_is_over_and_their_files_go() {
    let (_kept, store) = store();
    let folder = tempfile::tempdir().unwrap();
    let keeps = LogSettings { retention_days: 7, ..settings() };
    let mut files = Files::open(folder.path()).unwrap();
    for day in 0..20 {
        let line = entry::line(entry(day, NOON + day as i64 * DAY, "a", "b"), &keeps);
        files.append(&line, NOON + day as i64 * DAY, &keeps).unwrap();
    }
    let now = NOON + 19 * DAY;
    let page = read::page(&store, folder.path(), APPLICATION, Some(&keeps), &query(100), now).unwrap();
    assert_eq!(page.lines.len(), 8, "of the last seven days");
    assert!(read::find(folder.path(), Some(&keeps), id(3), now).unwrap().is_none());
    files.sweep(&keeps, now).unwrap();
    let files_left = std::fs::read_dir(folder.path()).unwrap().count();
    assert!((8..=9).contains(&files_left), "{files_left}");
    files.sweep(&keeps, now + 30 * DAY).unwrap();
    assert_eq!(size(folder.path()), 0);
}

#[test]
fn a_restart_goes_on_and_a_torn_line_is_left_out() {
    let (_kept, store) = store();
    let folder = tempfile::tempdir().unwrap();
    for round in 0..2_u64 {
        let mut files = Files::open(folder.path()).unwrap();
        for number in 0..3 {
            let number = round * 3 + number;
            let line = entry::line(entry(number, NOON + number as i64, "a", "b"), &settings());
            files.append(&line, NOON + number as i64, &settings()).unwrap();
        }
        let last = files::parts(folder.path()).unwrap().pop_back().unwrap();
        let mut file = std::fs::OpenOptions::new().append(true).open(last.path(folder.path())).unwrap();
        std::io::Write::write_all(&mut file, b"{\"id\":\"req-").unwrap();
    }
    let all: Vec<_> = (0..6).rev().map(id).collect();
    assert_eq!(ids(folder.path(), &store, &query(100), NOON + 10), all);
    // Page by page it is the same.
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let asked = LogQuery { after, ..query(2) };
        let page = read::page(&store, folder.path(), APPLICATION, Some(&settings()), &asked, NOON + 10).unwrap();
        paged.extend(page.lines.iter().map(|line| line.id));
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(paged, all);
    assert!(read::find(folder.path(), Some(&settings()), id(4), NOON + 10).unwrap().is_some());
}

#[test]
fn an_entry_is_cut_to_its_size_and_says_so() {
    let long = "täglich ".repeat(50_000);
    for most in [1 << 10, 4 << 10, 64 << 10] {
        let settings = LogSettings { entry_bytes_max: most, ..settings() };
        let mut big = entry(1, NOON, &long, &long);
        big.metadata = (0..16).map(|n| (format!("name{n}"), "v".repeat(512))).collect();
        let line = entry::line(big, &settings);
        assert!(line.len() <= most as usize, "{} of {most}", line.len());
        let read: LogEntry = serde_json::from_slice(&line).unwrap();
        assert!(read.cut_bytes > 0);
        let whole = entry::line(entry(1, NOON, "short", "too"), &settings);
        assert_eq!(serde_json::from_slice::<LogEntry>(&whole).unwrap().cut_bytes, 0);
    }
}

#[test]
fn personal_data_is_masked_before_it_is_written() {
    let settings = LogSettings { mask_pii: true, ..settings() };
    let line = entry::line(entry(1, NOON, "I am ann@example.com", "Call 13800138000"), &settings);
    let text = String::from_utf8(line.clone()).unwrap();
    assert!(!text.contains("ann@example.com") && !text.contains("13800138000"), "{text}");
    let read: LogEntry = serde_json::from_slice(&line).unwrap();
    assert_eq!((read.answers[0].text.as_str(), read.masked), ("Call [PHONE]", 3));
    assert_eq!(read.rendered[0].text, "<|user|>I am [EMAIL]");
    assert_eq!(read.rendered[0].control, [(0, 8)]);
}

#[tokio::test]
async fn what_is_offered_is_written_in_order_and_a_clear_removes_it() {
    let (_kept, store) = store();
    let folder = tempfile::tempdir().unwrap();
    let log = RequestLog::start(folder.path()).unwrap();
    for number in 0..50 {
        log.offer(APPLICATION, settings(), entry(number, NOON + number as i64, "a", "b"));
    }
    log.settled().await;
    let own = log.folder(APPLICATION);
    assert_eq!(ids(&own, &store, &query(1000), NOON + 100).len(), 50);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&own).unwrap());
    assert_eq!(mode & 0o777, 0o700);
    log.clear(APPLICATION);
    log.offer(APPLICATION, settings(), entry(99, NOON + 99, "a", "b"));
    log.settled().await;
    assert_eq!(ids(&own, &store, &query(1000), NOON + 100), [id(99)]);
    assert_eq!(log.dropped(APPLICATION), 0);
    // What cannot be written is counted, and nobody is told.
    std::fs::remove_dir_all(folder.path()).unwrap();
    std::fs::write(folder.path(), b"in the way").unwrap();
    log.clear(APPLICATION);
    log.offer(APPLICATION, settings(), entry(1, NOON, "a", "b"));
    log.settled().await;
    assert_eq!(log.dropped(APPLICATION), 1);
    std::fs::remove_file(folder.path()).unwrap();
}

fn rate(store: &Store, number: u64, user: &str, rating: Option<Rating>, correction: &str) {
    let feedback = Feedback { rating, comment: String::new(), correction: correction.into(), user: user.into() };
    let record = FeedbackRecord {
        response: id(number),
        application: APPLICATION,
        service: ServiceId::from_bytes([1; 16]),
        version: "desk@1".into(),
        feedback,
        at_ms: NOON + number as i64,
    };
    let mut writes = Writes::default();
    let at = key(&[APPLICATION.bytes(), id(number).bytes(), user.as_bytes()]);
    writes.put(Table::Feedback, at, codec::record(&record));
    store.commit(&writes).unwrap();
}

#[test]
fn entries_become_chats_and_preferences_once_each() {
    let (_kept, store) = store();
    let folder = tempfile::tempdir().unwrap();
    let mut files = Files::open(folder.path()).unwrap();
    let answers = ["good", "bad", "wrong", "plain", "cut"];
    for (number, answer) in answers.iter().enumerate() {
        let mut one = entry(number as u64, NOON + number as i64, if number < 2 { "same" } else { "other" }, answer);
        one.cut_bytes = u64::from(*answer == "cut");
        files.append(&entry::line(one, &settings()), NOON + number as i64, &settings()).unwrap();
    }
    rate(&store, 0, "a", Some(Rating::Up), "");
    rate(&store, 1, "a", Some(Rating::Down), "");
    rate(&store, 2, "a", Some(Rating::Down), "right");
    let shelf = rows::Shelf { store: &store, folder: folder.path().into(), application: APPLICATION, settings: None };
    let make = |shape, dataset: &str| {
        let selection = LogSelection { query: query(1), ids: Vec::new(), shape };
        let path = folder.path().join("rows.txt");
        let made = rows::write(&shelf, &selection, dataset, &path, NOON + 100)?;
        Ok::<_, hone_protocol::failure::Failure>((made, std::fs::read_to_string(&path).unwrap()))
    };
    let (made, text) = make(Shape::Chat, "chats").unwrap();
    let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said: Vec<&str> = rows.iter().map(|row| row["messages"][1]["content"].as_str().unwrap()).collect();
    assert_eq!(said, ["good", "right", "plain"]);
    assert_eq!(
        (&rows[1]["log"]["response"], &rows[1]["log"]["is_corrected"]),
        (&serde_json::json!(id(2)), &true.into())
    );
    assert_eq!(made.said, "log of shop: 3 rows on desk@1; left out: 1 cut, 1 said to be bad without a correction");

    let (made, text) = make(Shape::Preference, "prefs").unwrap();
    let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let pair = |row: &serde_json::Value| (row["chosen"].clone(), row["rejected"].clone());
    assert_eq!(pair(&rows[0]), ("right".into(), "wrong".into()));
    assert_eq!(pair(&rows[1]), ("good".into(), "bad".into()));
    assert_eq!(rows[1]["log"]["chosen"]["version"], "desk@1");
    assert_eq!(made.responses, [id(2), id(0), id(1)]);
    // The same responses make no second row.
    let mut writes = Writes::default();
    for response in made.responses {
        writes.put(Table::LoggedRows, rows::logged_key("prefs", response), codec::record(&()));
    }
    store.commit(&writes).unwrap();
    let failure = make(Shape::Preference, "prefs").err().unwrap();
    assert!(failure.message_en.contains("3 in the dataset already"), "{failure}");

    let filtered = LogQuery { feedback: Some(FeedbackFilter::Down), ..query(10) };
    assert_eq!(ids(folder.path(), &store, &filtered, NOON + 100), [id(2), id(1)]);
    let filtered = LogQuery { feedback: Some(FeedbackFilter::None), text: "PLAIN".into(), ..query(10) };
    assert_eq!(ids(folder.path(), &store, &filtered, NOON + 100), [id(3)]);
}
