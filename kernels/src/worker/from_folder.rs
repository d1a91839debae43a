//! `hone-worker from-folder`: a Hugging Face folder into a GGUF file.

use std::path::Path;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::model::WeightsAs;
use hone_protocol::worker::{FolderTask, FromWorker, ToWorker};

use super::child::Channel;
use super::{facts, wrong_task};
use crate::from_folder::{Conversion, FolderError, Stored, convert};

pub(super) fn run(channel: &Channel) -> Result<(), Failure> {
    let Some(ToWorker::FromFolder(task)) = channel.recv() else {
        return Err(wrong_task("from-folder"));
    };
    let FolderTask { folder, target, weights, name, licence, source } = &task;
    let mut work = channel.work();
    work.progress("phase.convert", 0, 0);
    let conversion = Conversion {
        folder: Path::new(folder),
        target: Path::new(target),
        stored: stored(*weights),
        name,
        licence,
        source,
    };
    let tensors = convert(&conversion, &mut |done, total| work.progress("phase.convert", done, total));
    let tensors = tensors.map_err(|error| failure(error).at(folder.clone()))?;
    channel.send(&FromWorker::FolderConverted { tensors });
    Ok(())
}

fn stored(weights: WeightsAs) -> Stored {
    match weights {
        WeightsAs::AsStored => Stored::AsStored,
        WeightsAs::F32 => Stored::F32,
        WeightsAs::F16 => Stored::F16,
        WeightsAs::Bf16 => Stored::Bf16,
        WeightsAs::Q8_0 => Stored::Q8_0,
    }
}

fn failure(error: FolderError) -> Failure {
    let text = error.to_string();
    match error {
        FolderError::Architecture { .. } | FolderError::Arch(_) => {
            Failure::new(FailureCode::UnsupportedArchitecture, text)
        }
        FolderError::Gguf(error) => facts::of_gguf(error),
        FolderError::Inspect(error) => facts::of_inspect(error),
        FolderError::Io { .. } => Failure::new(FailureCode::FileUnreadable, text),
        FolderError::Refused { .. } => Failure::new(FailureCode::BadFile, text).hint(HintCode::CorrectFile),
    }
}
