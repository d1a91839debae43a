//! The socket against clients that err, and the daemon against second ones.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

use hone_protocol::hello::MAGIC;
use hone_protocol::{PROTOCOL, wire};
use hone_tests::frames::{Frames, hello};
use hone_tests::{Daemon, PATIENCE, programs};
use serde_json::json;

fn raw(daemon: &Daemon, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(daemon.state().join("run/hone.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn malformed_frames_end_only_their_own_connection() {
    let daemon = Daemon::start();
    let refused = raw(&daemon, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(refused[..8], MAGIC);
    assert!(String::from_utf8_lossy(&refused).contains("first byte"));
    let mismatch = raw(&daemon, &hello(PROTOCOL + 7));
    let text = String::from_utf8_lossy(&mismatch).into_owned();
    assert!(text.contains("upgrade honed") && text.contains(&format!("protocol {}", PROTOCOL + 7)), "{text}");
    for tail in [vec![0, 0, 0, 0], u32::MAX.to_le_bytes().to_vec(), vec![9, 0, 0, 0, 1]] {
        let answer = raw(&daemon, &[hello(PROTOCOL), tail].concat());
        assert_eq!(answer[..8], MAGIC, "welcomed first");
    }
    // A frame of nonsense is answered, and the connection goes on.
    let ask = wire::encode(&hone_protocol::request::Up::Ask {
        id: 5,
        once: None,
        request: hone_protocol::request::Request::Status,
    });
    let mut frames = Frames::connect(daemon.state());
    frames.send(&[250, 250, 250]);
    frames.send(&ask);
    let ids = [(); 2].map(|()| {
        let (id, answer) = frames.answer();
        (id, answer.is_ok())
    });
    assert_eq!(ids, [(0, false), (5, true)]);
}

#[test]
fn broken_lines_are_named_and_the_connection_goes_on() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.send("{\"ask\": nonsense}\n");
    let answer = client.read();
    assert_eq!(answer["answer"]["answer"]["Err"]["code"], "bad_frame");
    assert!(answer["answer"]["answer"]["Err"]["message_en"].as_str().unwrap().contains("column"));
    let failure = client.try_ask(json!({"job": {"job": "job-nonsense"}})).unwrap_err();
    assert_eq!(failure["code"], "bad_frame");
    assert_eq!(client.ask(json!("status"))["version"], hone_protocol::VERSION);
}

#[test]
fn a_client_that_does_not_read_harms_nobody() {
    let daemon = Daemon::start();
    let mut stream = UnixStream::connect(daemon.state().join("run/hone.sock")).unwrap();
    stream.set_write_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    let line = b"{\"ask\":{\"id\":1,\"once\":null,\"request\":\"status\"}}\n";
    let mut sent = 0;
    // The outbox fills, then the daemon stops reading, then the system stops taking: that is the bound.
    while sent < 100_000 && stream.write_all(line).is_ok() {
        sent += 1;
    }
    assert!(sent < 100_000, "the daemon read {sent} requests of a client that reads no answer");
    assert_eq!(daemon.connect().ask(json!("status"))["pid"], daemon.process.id());
}

#[test]
fn a_second_daemon_names_the_first() {
    let daemon = Daemon::start();
    let second = Command::new(programs().join("honed")).args(["run", "--state"]).arg(daemon.state()).output().unwrap();
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(75), "{words}");
    assert!(words.contains(&format!("pid {}", daemon.process.id())) && words.contains("in use"), "{words}");
    assert_eq!(daemon.connect().ask(json!("status"))["pid"], daemon.process.id());
}

#[test]
fn a_path_too_long_for_a_socket_is_refused_with_both_numbers() {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let long = folder.path().join("x".repeat(120));
    let daemon = Command::new(programs().join("honed"))
        .args(["run", "--http", "127.0.0.1:0", "--state"])
        .arg(&long)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&daemon.stderr).into_owned();
    assert!(!daemon.status.success());
    assert!(words.contains("107") && words.contains("socket"), "{words}");
}

#[test]
fn a_repeated_wish_is_carried_out_once_also_after_a_crash() {
    let mut daemon = Daemon::start();
    let wish = json!({"set_application": {"name": "shop", "title": "first", "services": []}});
    let other = json!({"set_application": {"name": "shop", "title": "second", "services": []}});
    assert_eq!(daemon.connect().ask_with(wish.clone(), Some("w1"), |_| ()), Ok(json!("done")));
    daemon.crash();
    let mut client = daemon.connect();
    assert_eq!(client.ask_with(wish, Some("w1"), |_| ()), Ok(json!("done")));
    let failure = client.ask_with(other, Some("w1"), |_| ()).unwrap_err();
    assert_eq!(failure["code"], "idempotency_conflict");
    let audit = client.ask(json!({"audit": {"count": 10}}));
    assert_eq!(audit.as_array().unwrap().iter().filter(|r| r["verb"] == "set_application").count(), 1);
}
