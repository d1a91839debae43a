//! LLaMA-Factory's YAML and dataset_info.json: what a run was to do, in the words of the training form. Its defaults are written
//! down where they differ from hone's, so that the run is the same one. Never here: rows or weights.

use std::path::{Path, PathBuf};

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::form::TRAIN_FORM;
use hone_protocol::model::{Hub, HubSource};

use super::yaml::{self, Node};
use super::{NotTaken, Taken, checked, place, quoted};
use crate::cli::model::name_from;
use crate::cli::pull;
use crate::cli::run_file::{Values, Written};

/// Keys that need no counterpart: hone does what they ask for, or decides it itself, and the result is the same.
const SILENT: [&str; 14] = [
    "do_train",
    "overwrite_output_dir",
    "overwrite_cache",
    "preprocessing_num_workers",
    "dataloader_num_workers",
    "logging_steps",
    "plot_loss",
    "trust_remote_code",
    "dataset_dir",
    "eval_strategy",
    "evaluation_strategy",
    "save_strategy",
    "ddp_timeout",
    "report_to",
];

/// Keys that are numbers of the form under another name.
const SAME: [(&str, &str); 14] = [
    ("lora_rank", "rank"),
    ("lora_alpha", "alpha"),
    ("lora_dropout", "dropout"),
    ("learning_rate", "learning_rate"),
    ("warmup_ratio", "warmup_ratio"),
    ("weight_decay", "weight_decay"),
    ("max_grad_norm", "clip_norm"),
    ("cutoff_len", "sequence_tokens"),
    ("per_device_train_batch_size", "batch_windows"),
    ("gradient_accumulation_steps", "accumulation"),
    ("eval_steps", "evaluate_steps"),
    ("save_steps", "checkpoint_steps"),
    ("seed", "seed"),
    ("pref_beta", "beta"),
];

/// Keys without which it is another method.
const DECISIVE: [&str; 3] = ["stage", "finetuning_type", "pref_loss"];

/// What LLaMA-Factory does where nothing is written; hone's own defaults follow the method and the model.
const DEFAULTS: [(&str, &str); 10] = [
    ("learning_rate", "5e-5"),
    ("epochs", "3"),
    ("batch_windows", "8"),
    ("accumulation", "1"),
    ("schedule", "linear"),
    ("warmup_ratio", "0"),
    ("weight_decay", "0"),
    ("clip_norm", "1"),
    ("sequence_tokens", "2048"),
    ("held_out_percent", "0"),
];

/// The same of adapters.
const LORA_DEFAULTS: [(&str, &str); 3] = [("rank", "8"), ("dropout", "0"), ("targets", "q,k,v,o,gate,up,down")];

/// Names of matrices in transformers, and here.
const MATRICES: [(&str, &str); 7] = [
    ("q_proj", "q"),
    ("k_proj", "k"),
    ("v_proj", "v"),
    ("o_proj", "o"),
    ("gate_proj", "gate"),
    ("up_proj", "up"),
    ("down_proj", "down"),
];

/// What a key comes to.
enum Means {
    /// A value of the form.
    Value(&'static str, String),
    /// Nothing that needs to be said.
    Nothing,
    /// It cannot be taken, because.
    Not(String),
}

struct Reader<'a> {
    path: &'a str,
    taken: Taken,
    values: Values,
    entries: &'a [(String, usize, Node)],
}

/// What a file comes to.
pub(super) fn read(path: &str, text: &str) -> Result<Taken, Failure> {
    let root = yaml::read(path, text)?;
    let entries = root.entries();
    let mut reader = Reader { path, taken: Taken::default(), values: Values::new(), entries };
    if !entries.iter().any(|(key, ..)| key == "model_name_or_path") {
        let message = "there is no model_name_or_path, so this is no training of LLaMA-Factory";
        return Err(Failure::new(FailureCode::BadFile, message).at(path).hint(HintCode::CorrectFile));
    }
    for (key, line, value) in entries {
        match value.text() {
            Some(text) => reader.key(key, *line, text.trim()),
            None => reader.not(*line, key, "it holds keys of its own, which nothing here has".to_owned()),
        }
    }
    reader.defaults();
    let Reader { mut taken, values, .. } = reader;
    let values = checked(values, &mut taken.not_taken)?;
    // Of another method only the commands are of use: a run by the method that is there would be a different one.
    let decides = |missing: &NotTaken| missing.file == path && DECISIVE.contains(&missing.field.as_str());
    let another = taken.not_taken.iter().any(decides);
    let order = TRAIN_FORM.iter().map(|field| field.key).filter(|_| !another);
    taken.run = order.filter_map(|key| Some((key.to_owned(), values.get(key)?.text.clone()))).collect();
    taken.not_taken.sort_by_key(|missing| (missing.file != path, missing.line));
    Ok(taken)
}

impl Reader<'_> {
    fn not(&mut self, line: usize, field: &str, reason: String) {
        self.taken.not_taken.push(NotTaken { file: self.path.to_owned(), line, field: field.to_owned(), reason });
    }

    fn set(&mut self, key: &str, text: String, line: usize, field: &str) {
        self.values.insert(key.to_owned(), Written { text, place: place(self.path, line, field) });
    }

    /// The text of another key.
    fn other(&self, key: &str) -> Option<String> {
        self.entries.iter().find(|(known, ..)| known == key).and_then(|(.., value)| value.text())
    }

    fn key(&mut self, key: &str, line: usize, text: &str) {
        match key {
            "model_name_or_path" => self.model(line, text),
            "dataset" => self.datasets(line, text),
            _ if SILENT.contains(&key) => {}
            // Empty and null are as if the key were not there.
            _ if text.is_empty() || text == "null" || text == "~" => {}
            _ => match self.means(key, text) {
                Means::Value(own, text) => self.set(own, text, line, key),
                Means::Nothing => {}
                Means::Not(reason) => self.not(line, key, reason),
            },
        }
    }

    fn means(&self, key: &str, text: &str) -> Means {
        let not = |reason: &str| Means::Not(reason.to_owned());
        if let Some((_, own)) = SAME.iter().find(|(theirs, _)| *theirs == key) {
            return match (key, text.parse::<f64>()) {
                ("eval_steps" | "save_steps", Ok(share)) if share < 1.0 => not("a share of the steps; write a number"),
                (_, Ok(_)) => Means::Value(own, text.to_owned()),
                _ => Means::Not(format!("{text:?} is no number")),
            };
        }
        let yes = matches!(text, "true" | "True" | "yes" | "on");
        match (key, text) {
            ("stage", "sft" | "pt" | "dpo") => self.method(text),
            ("stage", other) => Means::Not(format!("{other} is not trained here; sft, pretrain, dpo and orpo are")),
            ("finetuning_type", "lora") => Means::Value("tuning", "lora".into()),
            ("finetuning_type", "full") => Means::Value("tuning", "full".into()),
            ("finetuning_type", _) => not("values are trained by lora or full; there is nothing between"),
            ("lora_target", _) => targets(text),
            ("use_rslora", _) if yes => Means::Value("scaling", "root_rank".into()),
            ("num_train_epochs", _) => whole("epochs", text, "epochs are whole; a run of part of one is steps_max"),
            ("max_steps", "-1") => Means::Nothing,
            ("max_steps", _) => whole("steps_max", text, "it is no whole number"),
            ("lr_scheduler_type", _) => schedule(text),
            ("val_size", _) => held_out(text),
            ("pref_loss", "sigmoid" | "orpo") => Means::Nothing,
            ("pref_loss", _) => not("of the losses over pairs sigmoid (dpo) and orpo are there"),
            ("packing" | "neat_packing", _) if yes => Means::Nothing,
            ("packing" | "neat_packing", _) => not("rows always share windows, and never see each other"),
            ("template", _) => not("the template inside the model file is used; hone dataset render shows its rows"),
            ("bf16" | "fp16" | "pure_bf16", _) => not("the precision is the trainer's own: it is no setting"),
            ("quantization_bit", _) => not("the base is trained on as it is stored: pull it with --weights q8_0"),
            ("output_dir", _) => not("a run lives in the state directory; --model NAME registers its result"),
            ("max_samples", _) => not("a run takes all rows; cut the file to train on fewer"),
            ("warmup_steps", "0") => Means::Nothing,
            ("warmup_steps", _) => not("the warm-up is a share of the steps: warmup_ratio"),
            ("eval_dataset", _) => not("held-out rows are a share of the dataset: held_out_percent"),
            ("resume_from_checkpoint", _) => not("a checkpoint of another program cannot be gone on from"),
            ("adapter_name_or_path", _) => {
                not("a run begins from a complete model: hone model import FOLDER --base MODEL, then hone model merge")
            }
            // What is off and is not there either is the same.
            (_, "false" | "False" | "no" | "off" | "none") => Means::Nothing,
            _ => not("hone has nothing of that kind"),
        }
    }

    /// Pairs are learnt from by another name where the loss is another.
    fn method(&self, stage: &str) -> Means {
        let orpo = self.other("pref_loss").is_some_and(|loss| loss == "orpo");
        let word = match stage {
            "pt" => "pretrain",
            "dpo" if orpo => "orpo",
            "dpo" => "dpo",
            _ => "sft",
        };
        Means::Value("method", word.into())
    }

    fn model(&mut self, line: usize, text: &str) {
        let folder = Path::new(self.path).parent().unwrap_or(Path::new("."));
        let here = [folder.join(text), PathBuf::from(text)].into_iter().find(|path| path.exists());
        let (command, name) = match (here, HubSource::parse(text, Hub::Huggingface)) {
            (Some(path), _) => {
                let path = path.display().to_string();
                let name = name_from(&format!("{}.folder", path.trim_end_matches(".gguf")));
                (format!("hone model import {} --name {name}", quoted(&path)), name)
            }
            (None, Some(source)) => {
                let name = pull::name_of(&source);
                (format!("hone model pull {} --name {name}", quoted(text)), name)
            }
            (None, None) => {
                let reason = format!("{text:?} is neither there nor of the form OWNER/NAME");
                self.not(line, "model_name_or_path", reason);
                return self.set("base", name_from(&format!("{text}.folder")), line, "model_name_or_path");
            }
        };
        self.taken.commands.push(command);
        self.set("base", name, line, "model_name_or_path");
    }

    /// Where dataset_info.json is: in the folder that is named, beside the file, or in LLaMA-Factory's own `data`.
    fn info(&self) -> Option<PathBuf> {
        let beside = Path::new(self.path).parent().unwrap_or(Path::new(".")).to_owned();
        let named = self.other("dataset_dir").map(|dir| [beside.join(&dir), PathBuf::from(dir)]);
        let folders = named.into_iter().flatten().chain([beside.clone(), beside.join("data"), PathBuf::from("data")]);
        folders.map(|folder| folder.join("dataset_info.json")).find(|path| path.is_file())
    }

    fn datasets(&mut self, line: usize, text: &str) {
        let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let Some((first, more)) = names.split_first() else {
            return self.not(line, "dataset", "no dataset is named".into());
        };
        for other in more {
            let reason = format!("a run has one dataset; {other} is left out: put its rows into the file of {first}");
            self.not(line, "dataset", reason);
        }
        let name = name_from(&format!("{first}.jsonl"));
        self.set("dataset", name.clone(), line, "dataset");
        let Some(info) = self.info() else {
            return self.not(line, "dataset", format!("there is no dataset_info.json that says where {first} is"));
        };
        let shown = info.display().to_string();
        let read = super::read(&info).and_then(|text| yaml::read(&shown, &text));
        let root = match read {
            Ok(root) => root,
            Err(failure) => return self.not(line, "dataset", format!("{}: {}", failure.place, failure.message_en)),
        };
        let Some((_, at, entry)) = root.entries().iter().find(|(key, ..)| key == first) else {
            return self.not(line, "dataset", format!("{first} does not stand in {shown}"));
        };
        self.dataset(&info, *at, first, entry, &name);
    }

    fn dataset(&mut self, info: &Path, at: usize, listed: &str, entry: &Node, name: &str) {
        let file = info.display().to_string();
        let mut missing = |line: usize, field: String, reason: &str| {
            self.taken.not_taken.push(NotTaken { file: file.clone(), line, field, reason: reason.to_owned() });
        };
        let mut rows = None;
        for (key, line, value) in entry.entries() {
            let field = format!("{listed}.{key}");
            match (key.as_str(), value.text().as_deref()) {
                ("file_name", Some(path)) => rows = Some(info.with_file_name(path)),
                ("formatting", Some("alpaca" | "sharegpt")) | ("ranking", _) => {}
                ("columns" | "tags", None) => {
                    for (column, line, theirs) in value.entries() {
                        let theirs = theirs.text().unwrap_or_default();
                        if !KNOWN.contains(&(column, &*theirs)) {
                            missing(
                                *line,
                                format!("{field}.{column}"),
                                "rename it in the rows; hone import reads its own names",
                            );
                        }
                    }
                }
                ("hf_hub_url" | "ms_hub_url" | "om_hub_url" | "script_url" | "cloud_file_name", _) => {
                    missing(*line, field, "rows are read from a file on this machine; fetch it first");
                }
                _ => missing(*line, field, "a dataset is all rows of one file"),
            }
        }
        match rows {
            Some(path) if path.is_file() => self.taken.commands.extend(import_rows(&path, name)),
            Some(path) => missing(at, listed.to_owned(), &format!("{} is not there", path.display())),
            None => {}
        }
    }

    /// What LLaMA-Factory would have done where nothing is written.
    fn defaults(&mut self) {
        let lora = self.values.get("tuning").is_none_or(|tuning| tuning.text == "lora");
        let adapters = LORA_DEFAULTS.iter().filter(|_| lora);
        for (key, text) in DEFAULTS.iter().chain(adapters) {
            self.values.entry((*key).to_owned()).or_insert_with(|| default(key, text));
        }
        // Longer rows lose their end there.
        self.values.insert("too_long".into(), default("too_long", "cut"));
        let rank = self.values.get("rank").and_then(|rank| rank.text.parse::<u32>().ok());
        if let Some(rank) = rank {
            let twice = default("alpha", &(2 * rank).to_string());
            self.values.entry("alpha".into()).or_insert(twice);
        }
        // Without the word for it nothing is evaluated there.
        let evaluates =
            ["eval_strategy", "evaluation_strategy"].iter().any(|key| self.other(key).as_deref() == Some("steps"));
        if !evaluates && self.values.remove("evaluate_steps").is_some() {
            self.values.insert("evaluate_steps".into(), default("evaluate_steps", "0"));
        }
    }
}

fn default(key: &str, text: &str) -> Written {
    Written { text: text.to_owned(), place: format!("LLaMA-Factory's default:0: {key}") }
}

/// Columns and tags under the names that `hone dataset import` reads.
const KNOWN: [(&str, &str); 20] = [
    ("prompt", "instruction"),
    ("prompt", "prompt"),
    ("prompt", "text"),
    ("query", "input"),
    ("response", "output"),
    ("system", "system"),
    ("history", "history"),
    ("chosen", "chosen"),
    ("rejected", "rejected"),
    ("messages", "conversations"),
    ("messages", "messages"),
    ("role_tag", "from"),
    ("role_tag", "role"),
    ("content_tag", "value"),
    ("content_tag", "content"),
    ("user_tag", "human"),
    ("user_tag", "user"),
    ("assistant_tag", "gpt"),
    ("assistant_tag", "assistant"),
    ("system_tag", "system"),
];

/// Lines that bring rows in; a JSON list, or a text of lines, becomes an object a line first.
fn import_rows(path: &Path, name: &str) -> Vec<String> {
    let shown = path.display().to_string();
    let mut first = [0; 64];
    let read = std::fs::File::open(path).and_then(|mut file| std::io::Read::read(&mut file, &mut first)).unwrap_or(0);
    let is_list = first[..read].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let program = match path.extension().and_then(|end| end.to_str()) {
        Some("txt") => "jq -Rc 'select(length > 0) | {text: .}'",
        _ if is_list => "jq -c '.[]'",
        _ => return vec![format!("hone dataset import {} --name {name}", quoted(&shown))],
    };
    let (from, to) = (quoted(&shown), quoted(&path.with_extension("jsonl").display().to_string()));
    vec![format!("{program} {from} > {to}"), format!("hone dataset import {to} --name {name}")]
}

fn whole(key: &'static str, text: &str, otherwise: &str) -> Means {
    match text.parse::<f64>() {
        Ok(number) if number.fract() == 0.0 && number >= 0.0 => Means::Value(key, format!("{number}")),
        _ => Means::Not(otherwise.to_owned()),
    }
}

fn targets(text: &str) -> Means {
    if text == "all" {
        return Means::Value("targets", MATRICES.map(|(_, own)| own).join(","));
    }
    let names = text.split(',').map(str::trim);
    let own: Option<Vec<&str>> =
        names.map(|name| MATRICES.iter().find(|(theirs, _)| *theirs == name).map(|(_, own)| *own)).collect();
    match own {
        Some(own) => Means::Value("targets", own.join(",")),
        None => {
            Means::Not(format!("of the matrices {} can carry an adapter", MATRICES.map(|(name, _)| name).join(", ")))
        }
    }
}

fn schedule(text: &str) -> Means {
    let own = match text {
        "linear" | "cosine" | "constant" => text,
        "constant_with_warmup" => "constant",
        "warmup_stable_decay" => "wsd",
        _ => return Means::Not("the schedules are linear, cosine, constant and wsd".into()),
    };
    Means::Value("schedule", own.into())
}

fn held_out(text: &str) -> Means {
    match text.parse::<f64>() {
        Ok(share) if (0.0..1.0).contains(&share) => {
            Means::Value("held_out_percent", format!("{}", (share * 100.0).round()))
        }
        Ok(_) => Means::Not("a number of rows; held_out_percent is a share of them".into()),
        Err(_) => Means::Not(format!("{text:?} is no number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the examples of LLaMA-Factory are written.
    const LORA: &str = "### model
model_name_or_path: Qwen/Qwen3-0.6B
trust_remote_code: true

### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 16
lora_target: all

### dataset
dataset: desk,identity
template: qwen3_nothink
cutoff_len: 1024
max_samples: 1000
preprocessing_num_workers: 16

### output
output_dir: saves/qwen3/lora/sft
logging_steps: 10
save_steps: 500
report_to: none  # choices: [none, wandb]

### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
resume_from_checkpoint: null

### eval
val_size: 0.1
per_device_eval_batch_size: 1
eval_strategy: steps
eval_steps: 500
";

    fn files(folder: &Path, info: &str, rows: &str) -> String {
        std::fs::write(folder.join("dataset_info.json"), info).unwrap();
        std::fs::write(folder.join("desk.json"), rows).unwrap();
        folder.join("train.yaml").display().to_string()
    }

    fn run(taken: &Taken) -> std::collections::BTreeMap<&str, &str> {
        taken.run.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect()
    }

    #[test]
    fn a_lora_run_becomes_a_run_file_and_the_rest_is_listed_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let info = "{\n  \"desk\": {\n    \"file_name\": \"desk.json\",\n    \"num_samples\": 5,\n    \"columns\": {\n      \"prompt\": \"instruction\",\n      \"response\": \"answer\"\n    }\n  }\n}\n";
        let path = files(folder.path(), info, "[{\"instruction\": \"a\", \"answer\": \"b\"}]");
        let taken = read(&path, LORA).unwrap();
        let run = run(&taken);
        let expected = [
            ("base", "qwen3-0.6b"),
            ("method", "sft"),
            ("tuning", "lora"),
            ("rank", "16"),
            ("alpha", "32"),
            ("targets", "q,k,v,o,gate,up,down"),
            ("sequence_tokens", "1024"),
            ("too_long", "cut"),
            ("batch_windows", "1"),
            ("accumulation", "8"),
            ("learning_rate", "1.0e-4"),
            ("epochs", "3"),
            ("schedule", "cosine"),
            ("warmup_ratio", "0.1"),
            ("held_out_percent", "10"),
            ("evaluate_steps", "500"),
            ("checkpoint_steps", "500"),
            ("dataset", "desk"),
            ("weight_decay", "0"),
            ("clip_norm", "1"),
            ("dropout", "0"),
        ];
        for (key, text) in expected {
            assert_eq!(run.get(key), Some(&text), "{key} in {run:?}");
        }
        assert_eq!(run.len(), expected.len(), "{run:?}");
        let here = folder.path().display().to_string();
        assert_eq!(
            taken.commands.iter().map(|c| c.replace(&here, "HERE")).collect::<Vec<_>>(),
            [
                "hone model pull Qwen/Qwen3-0.6B --name qwen3-0.6b",
                "jq -c '.[]' HERE/desk.json > HERE/desk.jsonl",
                "hone dataset import HERE/desk.jsonl --name desk",
            ]
        );
        let missing: Vec<(&str, usize)> = taken.not_taken.iter().map(|n| (n.field.as_str(), n.line)).collect();
        assert_eq!(
            missing,
            [
                ("dataset", 13),
                ("template", 14),
                ("max_samples", 16),
                ("output_dir", 20),
                ("bf16", 32),
                ("per_device_eval_batch_size", 38),
                ("desk.num_samples", 4),
                ("desk.columns.response", 7),
            ]
        );
        // What is printed is a run file that hone reads.
        let file = folder.path().join("run.toml");
        std::fs::write(&file, crate::cli::import::written(&taken)).unwrap();
        let spec =
            crate::cli::run_file::read(&file.display().to_string()).and_then(|v| crate::cli::run_file::spec(&v, None));
        assert_eq!(spec.unwrap().params.rank, 16);
    }

    #[test]
    fn preferences_and_whole_models_are_taken_and_numbers_out_of_range_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let info = r#"{"desk": {"file_name": "desk.json", "ranking": true, "columns": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}}}"#;
        let path = files(folder.path(), info, "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}\n");
        let text = "model_name_or_path: a/b\nstage: dpo\nfinetuning_type: lora\nlora_rank: 512\nlora_target: [q_proj, v_proj]\n\
                    use_rslora: true\nuse_dora: true\npref_beta: 0.1\npref_loss: orpo\ndataset: desk\nlr_scheduler_type: polynomial\n";
        let taken = read(&path, text).unwrap();
        let run = run(&taken);
        assert_eq!((run["method"], run["scaling"], run["targets"], run["beta"]), ("orpo", "root_rank", "q,v", "0.1"));
        assert_eq!((run["learning_rate"], run["epochs"], run["held_out_percent"]), ("5e-5", "3", "0"));
        let missing: Vec<(&str, usize)> = taken.not_taken.iter().map(|n| (n.field.as_str(), n.line)).collect();
        assert_eq!(missing, [("lora_rank", 4), ("use_dora", 7), ("lr_scheduler_type", 11)]);
        assert!(taken.not_taken[0].reason.contains("between 1 and 256"), "{:?}", taken.not_taken[0]);
        assert!(taken.commands[1].ends_with("desk.json --name desk"), "{:?}", taken.commands);
        let full = "model_name_or_path: a/b\nstage: pt\nfinetuning_type: full\ndataset: desk\nlearning_rate: 1e-5\n";
        let taken = read(&path, full).unwrap();
        assert_eq!((super::tests::run(&taken)["method"], super::tests::run(&taken)["tuning"]), ("pretrain", "full"));
    }

    #[test]
    fn what_is_no_training_is_refused_and_what_is_not_there_is_listed() {
        assert_eq!(read("x.yaml", "a: 1\n").unwrap_err().code, FailureCode::BadFile);
        assert_eq!(read("x.yaml", "a: [1\n").unwrap_err().code, FailureCode::BadFile);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.yaml").display().to_string();
        let text = "model_name_or_path: /nonexistent/model\ndataset: desk\nstage: ppo\n";
        let taken = read(&path, text).unwrap();
        let fields: Vec<&str> = taken.not_taken.iter().map(|n| n.field.as_str()).collect();
        assert_eq!(fields, ["model_name_or_path", "dataset", "stage"]);
        assert!(taken.commands.is_empty() && taken.run.is_empty(), "ppo is no sft: {:?}", taken.run);
        let info = "{\"desk\": {\"file_name\": \"wiki.txt\", \"columns\": {\"prompt\": \"text\"}}}";
        files(folder.path(), info, "");
        std::fs::write(folder.path().join("wiki.txt"), "one\n\ntwo\n").unwrap();
        let taken = read(&path, "model_name_or_path: a/b\ndataset: desk\nstage: pt\n").unwrap();
        assert!(taken.commands[1].starts_with("jq -Rc 'select(length > 0) | {text: .}' /"), "{:?}", taken.commands);
        assert!(taken.not_taken.is_empty(), "{:?}", taken.not_taken);
    }
}
