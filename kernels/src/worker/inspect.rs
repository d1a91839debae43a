//! `hone-worker inspect`: what a GGUF file is, and the hash of its bytes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::value::Hash;
use hone_protocol::worker::{FromWorker, ToWorker};
use sha2::{Digest, Sha256};

use super::child::{Busy, Channel};
use super::{facts, wrong_task};
use crate::inspect::{self, Facts};
use crate::template::{ChatTemplate, TemplateFacts};

/// Bytes that are hashed at a time.
const HASH_BUFFER_BYTES: usize = 1 << 20;

pub(super) fn run(channel: &Channel) -> Result<(), Failure> {
    let Some(ToWorker::Inspect { path }) = channel.recv() else {
        return Err(wrong_task("inspect"));
    };
    let mut work = channel.work();
    work.progress("phase.inspect", 0, 0);
    let path = Path::new(&path);
    let found = inspect::inspect(path).map_err(facts::of_inspect)?;
    check_template(&found)?;
    let sha256 = hash(path, &mut work)?;
    channel.send(&FromWorker::Inspected { facts: Box::new(facts::of_file(&found)), sha256 });
    Ok(())
}

/// A template that does not compile or cannot render a plain question is found here and not at the
/// first request.
fn check_template(found: &Facts) -> Result<(), Failure> {
    let Facts::Model(model) = found else { return Ok(()) };
    let Some(source) = &model.chat_template else { return Ok(()) };
    let template = ChatTemplate::new(source, TemplateFacts::default()).map_err(facts::of_template)?;
    let traits = template.probe().map_err(facts::of_template)?;
    if !traits.keeps_contents {
        eprintln!("hone-worker inspect: the chat template rewrites contents; it can serve but not train");
    }
    if !traits.prompt_matches_history {
        eprintln!("hone-worker inspect: the chat template renders old turns unlike new ones");
    }
    Ok(())
}

fn hash(path: &Path, work: &mut Busy<'_>) -> Result<Hash, Failure> {
    let unreadable =
        |e: std::io::Error| Failure::new(FailureCode::FileUnreadable, e.to_string()).at(path.display().to_string());
    let mut file = File::open(path).map_err(unreadable)?;
    let total = file.metadata().map_err(unreadable)?.len();
    let (mut sha256, mut buffer, mut done) = (Sha256::new(), vec![0; HASH_BUFFER_BYTES], 0);
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            count => {
                sha256.update(&buffer[..count]);
                done += count as u64;
                work.progress("phase.hash", done, total);
            }
        }
    }
    Ok(Hash(sha256.finalize().into()))
}
