//! The wire as a whole: every message through both codecs, the bytes that must not change unnoticed, and the list in
//! docs/protocol.md. Never here: what a request does; that is tested over the real socket.

mod walk;

use std::fmt::Write as _;
use std::path::Path;

use hone_protocol::request::{Answer, Down, Request, Up};
use hone_protocol::wire;
use hone_protocol::worker::{FromWorker, ToWorker};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn survives<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: &T) {
    let bytes = wire::encode(message);
    let back: T = wire::decode(&bytes).unwrap_or_else(|e| panic!("{e}: {message:?}"));
    assert_eq!(&back, message, "frames");
    let line = wire::encode_line(message);
    assert_eq!(line.matches('\n').count(), 1, "one line: {line}");
    let back: T = wire::decode_line(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
    assert_eq!(&back, message, "lines");
    // Half a message is an error, never another message.
    assert!(bytes.is_empty() || wire::decode::<T>(&bytes[..bytes.len() - 1]).is_err(), "{message:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn messages_of_clients_survive_both_codecs(source in prop::collection::vec(any::<u8>(), 0..400)) {
        survives::<Up>(&walk::value(&source));
        survives::<Down>(&walk::value(&source));
    }

    #[test]
    fn messages_of_children_survive_both_codecs(source in prop::collection::vec(any::<u8>(), 0..400)) {
        survives::<ToWorker>(&walk::value(&source));
        survives::<FromWorker>(&walk::value(&source));
    }

    #[test]
    fn foreign_bytes_become_an_error_or_a_message(source in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(message) = wire::decode::<Up>(&source) {
            wire::encode_line(&message);
        }
        let _ = wire::decode::<Down>(&source);
        let _ = wire::decode::<ToWorker>(&source);
        let _ = wire::decode::<FromWorker>(&source);
    }
}

#[test]
fn every_variant_survives_both_codecs() {
    walk::every::<Up>().0.iter().for_each(survives);
    walk::every::<Down>().0.iter().for_each(survives);
    walk::every::<ToWorker>().0.iter().for_each(survives);
    walk::every::<FromWorker>().0.iter().for_each(survives);
}

/// One message of each kind as bytes. A difference here is a change of the wire: raise `PROTOCOL` with it. The order
/// of inner variants and fields, which the first message of a kind cannot show, is in the list of docs/protocol.md.
#[test]
fn golden_bytes() {
    let mut golden = format!("protocol {}\n", hone_protocol::PROTOCOL);
    fn add<T: Serialize + DeserializeOwned>(golden: &mut String, title: &str) {
        let _ = writeln!(golden, "\n{title}");
        let mut met = Vec::new();
        for message in walk::every::<T>().0 {
            let kind = std::mem::discriminant(&message);
            if met.contains(&kind) {
                continue;
            }
            met.push(kind);
            let hex: String = wire::encode(&message).iter().map(|byte| format!("{byte:02x}")).collect();
            let _ = writeln!(golden, "{hex}");
        }
    }
    add::<Request>(&mut golden, "requests");
    add::<Answer>(&mut golden, "answers");
    add::<Up>(&mut golden, "client to daemon");
    add::<Down>(&mut golden, "daemon to client");
    add::<ToWorker>(&mut golden, "daemon to child");
    add::<FromWorker>(&mut golden, "child to daemon");
    insta::assert_snapshot!(golden);
}

const BEGIN: &str = "<!-- messages: written by `make docs`, checked by a test -->\n";
const END: &str = "<!-- end of messages -->\n";

fn list() -> String {
    let mut shapes = walk::every::<Up>().1;
    shapes.extend(walk::every::<Down>().1);
    let mut text = String::from("```text\n");
    let first = ["Up", "Request", "Down", "StreamPart", "Answer"];
    let rest = shapes.keys().map(String::as_str).filter(|name| !first.contains(name) && *name != "Result");
    for name in first.into_iter().chain(rest) {
        let _ = writeln!(text, "{name}");
        for (part, kind) in &shapes[name] {
            let _ = writeln!(text, "  {part}{}{kind}", if kind.is_empty() { "" } else { ": " });
        }
    }
    text + "```\n"
}

#[test]
fn the_documents_list_every_message() {
    let list = list();
    for page in ["docs/protocol.md", "docs/zh/protocol.md"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once(BEGIN).unwrap_or_else(|| panic!("{page} has no line {BEGIN}"));
        let (listed, after) = rest.split_once(END).unwrap_or_else(|| panic!("{page} has no line {END}"));
        if std::env::var_os("HONE_WRITE_DOCS").is_some() {
            std::fs::write(&path, format!("{before}{BEGIN}{list}{END}{after}")).unwrap();
        } else {
            assert!(listed == list, "{page} does not list the messages as they are: run `make docs`");
        }
    }
}
