//! Fifty files that nobody should have to read, over the real socket: each is read with its faults named, or refused with the reason, in
//! bounded memory and time, and the daemon goes on. Never here: what a good file becomes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hone_tests::Daemon;
use serde_json::{Value, json};

/// What a hostile file must come to.
enum Comes {
    /// Refused, with these words in the reason.
    Refused(&'static str),
    /// Read: rows kept, rows rejected, words in the first rejection.
    Read(u64, u64, &'static str),
}
use Comes::{Read, Refused};

/// How long one file may take, and what its child may hold.
const SECONDS_MAX: u64 = 60;

fn chat(answer: &str) -> String {
    json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]}).to_string()
}

/// Deflate blocks that are stored, as gzip: no packer is needed to make a member.
fn gzip_stored(bytes: &[u8]) -> Vec<u8> {
    let mut made = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let mut chunks = bytes.chunks(0xffff).peekable();
    while let Some(chunk) = chunks.next() {
        made.push(u8::from(chunks.peek().is_none()));
        let length = chunk.len() as u16;
        made.extend_from_slice(&length.to_le_bytes());
        made.extend_from_slice(&(!length).to_le_bytes());
        made.extend_from_slice(chunk);
    }
    made.extend_from_slice(&crc32(bytes).to_le_bytes());
    made.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    made
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// A ZIP archive of one stored member. `mode` is its Unix mode.
fn zip_stored(name: &str, bytes: &[u8], mode: u32) -> Vec<u8> {
    let mut made = Vec::new();
    let (crc, size, length) = (crc32(bytes), bytes.len() as u32, name.len() as u16);
    let head = |made: &mut Vec<u8>| {
        made.extend_from_slice(&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        made.extend([crc, size, size].iter().flat_map(|n| n.to_le_bytes()));
        made.extend_from_slice(&length.to_le_bytes());
        made.extend_from_slice(&[0, 0]);
    };
    made.extend_from_slice(b"PK\x03\x04");
    head(&mut made);
    made.extend_from_slice(name.as_bytes());
    made.extend_from_slice(bytes);
    let start = made.len() as u32;
    made.extend_from_slice(b"PK\x01\x02\x14\x03");
    head(&mut made);
    made.extend_from_slice(&[0; 6]);
    made.extend_from_slice(&(mode << 16).to_le_bytes());
    made.extend_from_slice(&0u32.to_le_bytes());
    made.extend_from_slice(name.as_bytes());
    let directory = made.len() as u32 - start;
    made.extend_from_slice(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    made.extend([directory, start].iter().flat_map(|n| n.to_le_bytes()));
    made.extend_from_slice(&[0, 0]);
    made
}

/// 256 MiB of spaces, packed by gzip a thousandfold. The packer is Python's, which the tests need anyway.
fn packed_spaces(path: &Path, forever: bool) {
    let code = "import sys, zlib\n\
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)\n\
        out = open(sys.argv[1], 'wb')\n\
        for _ in range(256): out.write(packer.compress(b' ' * (1 << 20)))\n\
        out.write(packer.flush(zlib.Z_SYNC_FLUSH if sys.argv[2] == '1' else zlib.Z_FINISH))\n";
    let words = [path.as_os_str(), if forever { "1" } else { "0" }.as_ref()];
    let done = std::process::Command::new("python3").args(["-c", code]).args(words).status().expect("python3 runs");
    assert!(done.success());
}

/// Files made of bytes.
fn made() -> Vec<(&'static str, Vec<u8>, Comes)> {
    let good = chat("a");
    let lines = |bad: &[u8]| [good.as_bytes(), b"\n", bad, b"\n", good.as_bytes(), b"\n"].concat();
    let deep = |mark: &str, count: usize| mark.repeat(count).into_bytes();
    vec![
        ("utf16.jsonl", [&b"\xff\xfe"[..], b"{\0"].concat(), Refused("UTF-16")),
        ("utf16be.jsonl", b"\xfe\xff\0{".to_vec(), Refused("UTF-16")),
        ("utf16.csv", b"\xff\xfeq\0,\0a\0".to_vec(), Refused("UTF-16")),
        ("latin1.jsonl", lines(b"{\"messages\":\"caf\xe9\"}"), Read(2, 1, "invalid UTF-8: byte 0xe9")),
        ("gbk.jsonl", lines(b"{\"messages\":\"\xc4\xe3\xba\xc3\"}"), Read(2, 1, "invalid UTF-8")),
        ("overlong.jsonl", lines(b"{\"a\":\"\xc0\xaf\"}"), Read(2, 1, "invalid UTF-8")),
        ("surrogate.jsonl", lines(b"{\"a\":\"\xed\xa0\x80\"}"), Read(2, 1, "invalid UTF-8")),
        ("lone.jsonl", lines(br#"{"a":"\ud800"}"#), Read(2, 1, "bad JSON")),
        ("bom.jsonl", [b"\xef\xbb\xbf", good.as_bytes()].concat(), Read(1, 0, "")),
        ("nul.jsonl", lines(chat("a\0b").as_bytes()), Read(2, 1, "NUL")),
        ("nulbyte.jsonl", lines(b"{\"a\":\"\0\"}"), Read(2, 1, "bad JSON")),
        ("nulfile.jsonl", vec![0; 4096], Refused("bad JSON")),
        ("deep.jsonl", lines(&deep("[", 200_000)), Read(2, 1, "nested too deep")),
        ("deepobject.jsonl", lines(&deep("{\"a\":", 100_000)), Read(2, 1, "nested too deep")),
        ("deep.json", [b"[", deep("[", 200_000).as_slice()].concat(), Refused("nested too deep")),
        ("many.jsonl", lines(format!("[{}0]", "0,".repeat(200_000)).as_bytes()), Read(2, 1, "more than 100000 values")),
        ("huge.jsonl", lines(chat(&"x".repeat(17 << 20)).as_bytes()), Read(2, 1, "at most 16777216 are read")),
        ("huge.json", format!("[{good},{}]", chat(&"x".repeat(17 << 20))).into_bytes(), Read(1, 1, "at most 16777216")),
        ("endless.jsonl", vec![b'x'; 40 << 20], Refused("at most 16777216 are read")),
        ("twice.jsonl", lines(br#"{"messages":[],"messages":[]}"#), Read(2, 1, "occurs twice")),
        ("number.jsonl", lines(b"{\"a\":1e999}"), Read(2, 1, "out of range")),
        ("nan.jsonl", lines(b"{\"a\":NaN}"), Read(2, 1, "bad JSON")),
        ("cut.jsonl", lines(&good.as_bytes()[..30]), Read(2, 1, "the line ends inside")),
        ("cut.json", format!("[{good},{good}").into_bytes(), Read(2, 1, "the file ends inside the list")),
        ("two.jsonl", lines(format!("{good}{good}").as_bytes()), Read(2, 1, "more text after the value")),
        ("empty.jsonl", Vec::new(), Refused("the file has no rows")),
        ("blank.jsonl", b"\n\n  \n".to_vec(), Refused("the file has no rows")),
        ("binary.jsonl", (0..=255).cycle().take(100_000).collect(), Refused("none of the")),
        ("wrong.jsonl", lines(br#"{"messages":7}"#), Read(2, 1, "a number, not a list")),
        ("quote.csv", b"question,answer\na,b\n\"never closed,c\nd,e\n".to_vec(), Read(1, 1, "fields")),
        (
            "hugecell.csv",
            [b"question,answer\na,b\nc,\"", vec![b'x'; 20 << 20].as_slice(), b"\"\nd,e\n"].concat(),
            Read(2, 1, "16777216"),
        ),
        ("wide.csv", [b"question,answer\na,b\n", ",".repeat(9000).as_bytes(), b"\n"].concat(), Read(1, 1, "fields")),
        ("formula.csv", b"question,answer\n=cmd|'/c calc'!A0,@SUM(1+1)\n".to_vec(), Read(1, 0, "")),
        ("names.csv", b"question,question\na,b\n".to_vec(), Refused("two columns")),
        ("bytes.csv", b"question,answer\na,\xff\nb,c\n".to_vec(), Read(1, 1, "invalid UTF-8")),
        ("header.csv", b"\xffquestion,answer\na,b\n".to_vec(), Refused("not UTF-8")),
        ("nul.csv", b"question,answer\na,b\0c\nd,e\n".to_vec(), Read(1, 1, "NUL")),
        ("empty.parquet", b"PAR1".to_vec(), Refused("damaged")),
        ("footer.parquet", b"PAR1\xff\xff\xff\x7fPAR1".to_vec(), Refused("damaged")),
        ("noise.parquet", [&b"PAR1"[..], &[0xa5; 4000], b"\x00\x0f\0\0PAR1"].concat(), Refused("damaged")),
        ("empty.arrow", b"ARROW1\0\0".to_vec(), Refused("damaged")),
        ("footer.arrow", [&b"ARROW1\0\0"[..], &[0xff; 100], b"\xff\xff\xff\x7fARROW1"].concat(), Refused("damaged")),
        ("cut.jsonl.gz", gzip_stored(good.as_bytes())[..40].to_vec(), Refused("cannot be unpacked")),
        (
            "noise.jsonl.gz",
            [&b"\x1f\x8b\x08\0\0\0\0\0\0\x03"[..], &[0xa5; 900]].concat(),
            Refused("cannot be unpacked"),
        ),
        ("twice.jsonl.gz", gzip_stored(&gzip_stored(good.as_bytes())), Refused("packed twice")),
        ("noise.jsonl.zst", [&b"\x28\xb5\x2f\xfd"[..], &[0xa5; 900]].concat(), Refused("cannot be unpacked")),
        ("slip.zip", zip_stored("../../etc/cron.d/rows.jsonl", good.as_bytes(), 0o100_644), Read(1, 0, "")),
        ("link.zip", zip_stored("rows.jsonl", b"/etc/passwd", 0o120_777), Refused("a symbolic link")),
        ("noise.zip", [&b"PK\x03\x04"[..], &[0xa5; 900]].concat(), Refused("damaged ZIP")),
    ]
}

/// Files that are more than bytes.
fn special(folder: &Path) -> Vec<(PathBuf, Comes)> {
    let at = |name: &str| folder.join(name);
    let fifo = at("fifo.jsonl");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs");
    assert!(made.success());
    packed_spaces(&at("bomb.jsonl.gz"), false);
    packed_spaces(&at("endless.jsonl.gz"), true);
    std::fs::create_dir(at("links")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", at("links/rows.jsonl")).unwrap();
    std::fs::create_dir(at("nothing")).unwrap();
    std::os::unix::fs::symlink(at("round.jsonl"), at("round.jsonl")).unwrap();
    vec![
        (fifo, Refused("not a regular file")),
        (at("bomb.jsonl.gz"), Refused("unpacks to more than 250 times")),
        (at("endless.jsonl.gz"), Refused("unpacks to more than 250 times")),
        (at("links"), Refused("a symbolic link")),
        (at("nothing"), Refused("no file of rows")),
        (at("round.jsonl"), Refused("cannot be read")),
        (PathBuf::from("/dev/zero"), Refused("not a regular file")),
        (at("absent.jsonl"), Refused("cannot be read")),
    ]
}

#[test]
fn every_hostile_file_is_read_with_its_faults_or_refused_and_the_daemon_goes_on() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let folder = tempfile::tempdir().unwrap();
    let mut files: Vec<(PathBuf, Comes)> = Vec::new();
    for (name, bytes, comes) in made() {
        let path = folder.path().join(name);
        std::fs::File::create(&path).and_then(|mut file| file.write_all(&bytes)).unwrap();
        files.push((path, comes));
    }
    files.extend(special(folder.path()));
    assert!(files.len() >= 50, "{}", files.len());
    for (number, (path, comes)) in files.iter().enumerate() {
        let begun = Instant::now();
        let name = format!("set{number}");
        let source = json!({"path": {"path": path}});
        let job = client.submit(json!({"import_dataset": {"source": source, "name": name, "format": "detect"}}));
        let view = client.finish(&job);
        let said = view["record"]["state"].to_string();
        assert!(begun.elapsed() < Duration::from_secs(SECONDS_MAX), "{path:?} took {:?}", begun.elapsed());
        match comes {
            Refused(words) => {
                let failure = &view["record"]["state"]["failed"];
                assert!(failure["message_en"].as_str().is_some_and(|text| text.contains(words)), "{path:?}: {said}");
                assert_ne!(failure["code"], "worker_died", "{path:?}: {said}");
            }
            Read(kept, rejected, words) => {
                let report = &view["record"]["state"]["succeeded"]["dataset"][1];
                assert_eq!(
                    (&report["kept"], &report["rejected"]),
                    (&json!(kept), &json!(rejected)),
                    "{path:?}: {said}"
                );
                assert_eq!(report["read"], json!(kept + rejected), "{path:?}");
                let reason = report["rejections"][0]["reason"].as_str().unwrap_or_default();
                assert!(reason.contains(words), "{path:?}: {reason}");
                if *rejected > 0 {
                    assert!(report["rejections"][0]["line"].as_u64().is_some_and(|line| line > 0), "{path:?}: {said}");
                }
            }
        }
        // A look without an import comes to the same, and takes no child down either.
        let look = client.try_ask(json!({"preview_import": {"path": path, "format": "detect", "name": ""}}));
        if let (Read(kept, ..), Ok(look)) = (comes, &look) {
            assert_eq!(look["kept"], json!(kept), "{path:?}");
        }
        assert_ne!(look.err().map_or(Value::Null, |failure| failure["code"].clone()), "worker_died", "{path:?}");
    }
    assert!(client.ask(json!("status")).is_object(), "the daemon is up");
}
