//! `hone-worker checkpoint`: a kept checkpoint of a run as a GGUF file. Here too: what a file that training made says of
//! itself. Never here: which checkpoints are kept.

use std::path::Path;

use hone_protocol::failure::Failure;
use hone_protocol::value::Hash;
use hone_protocol::worker::{CheckpointTask, FromWorker, ToWorker};

use super::child::Channel;
use super::rows::Renderer;
use super::{facts, wrong_task};
use crate::inspect::{self, BASE_KEY, PARENT_KEY, TEMPLATE_KEY};
use crate::train::{Tuning, save_checkpoint};
use crate::vocab::Vocab;

pub(super) fn run(channel: &Channel) -> Result<(), Failure> {
    let Some(ToWorker::SaveCheckpoint(task)) = channel.recv() else {
        return Err(wrong_task("checkpoint"));
    };
    let CheckpointTask { folder, model_path, model_sha256, name, target } = &task;
    let mut work = channel.work();
    work.progress("phase.save", 0, 0);
    let path = Path::new(model_path);
    let found = inspect::inspect(path).map_err(facts::of_inspect)?;
    let template = Renderer::new(&found, Vocab::load(path).map_err(facts::of_vocab)?).template_sha256().map(Hash);
    let said = |tuning| said(tuning, name, *model_sha256, template);
    let step = save_checkpoint(Path::new(folder), path, &model_sha256.to_string(), Path::new(target), name, said);
    let step = step.map_err(facts::of_train)?;
    channel.send(&FromWorker::CheckpointSaved { step });
    Ok(())
}

/// Entries of a trained file: which model it is over or came from, and the template that it was trained with.
pub(super) fn said(tuning: Tuning, name: &str, model: Hash, template: Option<Hash>) -> Vec<(String, String)> {
    match tuning {
        Tuning::Lora => {
            let base = (BASE_KEY.to_owned(), model.to_string());
            let template = template.map(|hash| (TEMPLATE_KEY.to_owned(), hash.to_string()));
            [base].into_iter().chain(template).collect()
        }
        Tuning::Full => {
            vec![("general.name".to_owned(), name.to_owned()), (PARENT_KEY.to_owned(), model.to_string())]
        }
    }
}
