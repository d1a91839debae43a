//! `hone recipe`: steps that rows go through, what each step did, and rows that are rescued from one. Never here: doing a step.

use clap::{Args, Subcommand};
use hone_protocol::catalogue::{self, Language};
use hone_protocol::dataset::ChatMessage;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::form::{Both, FieldKind};
use hone_protocol::job::{JobResult, JobSpec};
use hone_protocol::note::NoteKind;
use hone_protocol::recipe::{
    LedgerAct, LedgerEntry, PRESETS, Preview, ProcessSpec, Processed, Recipe, STEPS, StepForm, StepSpec, preset,
    step_form,
};
use hone_protocol::request::{Answer, Request};
use hone_protocol::value::Json;
use serde_json::Value;

use super::context::{Context, answer, surprise};
use super::{dataset, model, wait};
use crate::link::Link;
use crate::print::{self, Cell, Outcome, Table};

/// Longest recipe file.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Reasons of a step that are listed.
const REASONS_SHOWN: usize = 5;

/// Recipes: steps that clean, filter, deduplicate and mask rows.
#[derive(Debug, Subcommand)]
pub(super) enum RecipeVerb {
    List(List),
    Steps(Steps),
    Show(Show),
    Save(Save),
    Remove(Remove),
    Preview(PreviewVerb),
    Run(Run),
    Ledger(Ledger),
    Rescue(Rescue),
}

impl RecipeVerb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            RecipeVerb::List(verb) => verb.run(context),
            RecipeVerb::Steps(verb) => verb.run(context),
            RecipeVerb::Show(verb) => verb.run(context),
            RecipeVerb::Save(verb) => verb.run(context),
            RecipeVerb::Remove(verb) => verb.run(context),
            RecipeVerb::Preview(verb) => verb.run(context),
            RecipeVerb::Run(verb) => verb.run(context),
            RecipeVerb::Ledger(verb) => verb.run(context),
            RecipeVerb::Rescue(verb) => verb.run(context),
        }
    }
}

fn said(language: Language, both: Both) -> &'static str {
    match language {
        Language::En => both.en,
        Language::Zh => both.zh,
    }
}

/// List the recipes that come with hone and those that you saved.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone recipe list")]
pub(super) struct List {}

impl List {
    fn run(self, context: &Context) -> Outcome {
        let saved = answer!(context.link()?.ask(Request::Notes { kind: NoteKind::Recipe })?, Notes);
        if context.json {
            let presets: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
            return print::json(&serde_json::json!({ "presets": presets, "saved": saved }));
        }
        let mut table =
            Table::new(context.language, &["cli.col.recipe", "cli.col.recipe_steps", "cli.col.what_it_does"]);
        for preset in PRESETS {
            let about = said(context.language, preset.about);
            table.row(vec![preset.name.into(), Cell::number(preset.steps.len()), about.into()]);
        }
        for head in saved {
            table.row(vec![head.name.into(), "".into(), print::moment(head.at_ms).into()]);
        }
        print::out(&table.render(print::colour()))
    }
}

/// List all steps, or the settings of one with their ranges and defaults.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone recipe steps\n  hone recipe steps near")]
pub(super) struct Steps {
    /// The step.
    step: Option<String>,
}

impl Steps {
    fn run(self, context: &Context) -> Outcome {
        let forms: Vec<&StepForm> = match &self.step {
            Some(word) => vec![step_form(word).ok_or_else(|| Failure::not_found("step", word))?],
            None => STEPS.iter().collect(),
        };
        if context.json {
            return print::json(&forms.iter().map(|form| form_json(form)).collect::<Vec<_>>());
        }
        if self.step.is_none() {
            let mut table = Table::new(context.language, &["cli.col.recipe_step", "cli.col.what_it_does"]);
            for form in forms {
                table.row(vec![form.word.into(), said(context.language, form.about).into()]);
            }
            return print::out(&table.render(print::colour()));
        }
        print::out(&forms.iter().map(|form| form_text(context.language, form)).collect::<String>())
    }
}

fn range(kind: FieldKind) -> String {
    match kind {
        FieldKind::Text => String::new(),
        FieldKind::Texts { most } => format!("a | b, <= {most}"),
        FieldKind::Whole { low, high } => format!("{low}..{high}"),
        FieldKind::Real { low, high } => format!("{low}..{high}"),
        FieldKind::Choice(words) => words.join("|"),
        FieldKind::Several(words) => words.join(","),
    }
}

fn form_json(form: &StepForm) -> Value {
    let field = |field: &hone_protocol::recipe::StepField| serde_json::json!({ "key": field.key, "range": range(field.kind), "default": field.default, "about": field.about.en });
    let settings: Vec<Value> = form.fields.iter().map(field).collect();
    serde_json::json!({ "step": form.word, "about": form.about.en, "settings": settings })
}

fn form_text(language: Language, form: &StepForm) -> String {
    let head = format!("{}: {}\n", form.word, said(language, form.about));
    let mut table =
        Table::new(language, &["cli.col.setting", "cli.col.default", "cli.col.range", "cli.col.what_it_does"]);
    for field in form.fields {
        let about = said(language, field.about);
        table.row(vec![field.key.into(), field.default.into(), range(field.kind).into(), about.into()]);
    }
    if form.fields.is_empty() { head } else { head + &table.render(print::colour()) }
}

/// A recipe by name (saved, or one that comes with hone) or by the path of a file.
fn recipe_of(link: &mut Link, typed: &str) -> Result<(String, Recipe), Failure> {
    if typed.ends_with(".toml") || typed.ends_with(".json") || typed.contains('/') {
        return Ok((model::name_from(typed), recipe_file(typed)?));
    }
    match link.ask(Request::Note { kind: NoteKind::Recipe, name: typed.to_owned() }) {
        Ok(Answer::Note(note)) => Ok((typed.to_owned(), Recipe::from_json(&note.value.0)?)),
        Ok(other) => Err(surprise(&other)),
        Err(failure) if failure.code == FailureCode::NotFound => match preset(typed) {
            Some(recipe) => Ok((typed.to_owned(), recipe)),
            None => Err(Failure::not_found("recipe", typed).hint(HintCode::ListNames)),
        },
        Err(failure) => Err(failure),
    }
}

fn recipe_file(typed: &str) -> Result<Recipe, Failure> {
    let path = model::readable_file(typed)?;
    let bad = |message: String| Failure::new(FailureCode::BadFile, message).at(typed).hint(HintCode::CorrectFile);
    let size = std::fs::metadata(&path).map_or(0, |facts| facts.len());
    if size > FILE_BYTES_MAX {
        return Err(bad(format!("the file has {size} bytes; a recipe has at most {FILE_BYTES_MAX}")));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| bad(format!("the file cannot be read: {error}")))?;
    let value: Value = if typed.ends_with(".json") {
        serde_json::from_str(&text).map_err(|error| bad(format!("the file is not JSON: {error}")))?
    } else {
        toml::from_str(&text).map_err(|error| bad(format!("the file is not TOML: {error}")))?
    };
    Recipe::from_json(&value).map_err(|failure| Failure { place: format!("{typed}: {}", failure.place), ..failure })
}

/// Print a recipe as a file.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone recipe show chat > my.toml")]
pub(super) struct Show {
    /// Name of a recipe, or path of a .toml or .json file.
    recipe: String,
    /// Write every setting, not only those that differ from the defaults.
    #[arg(long)]
    all: bool,
}

impl Show {
    fn run(self, context: &Context) -> Outcome {
        let (_, mut recipe) = recipe_of(&mut context.link()?, &self.recipe)?;
        if self.all {
            recipe.steps = recipe.steps.iter().map(StepSpec::effective).collect();
        }
        if context.json {
            return print::json(&recipe.to_json());
        }
        print::out(&toml_of(&recipe)?)
    }
}

fn toml_of(recipe: &Recipe) -> Result<String, Failure> {
    toml::to_string_pretty(&recipe.to_json())
        .map_err(|error| Failure::new(FailureCode::Internal, format!("the recipe cannot be written: {error}")))
}

/// Save a recipe file under a name; what had the name before is replaced.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone recipe save mine ./my.toml")]
pub(super) struct Save {
    /// The name.
    name: String,
    /// Name of a recipe, or path of a .toml or .json file.
    recipe: String,
}

impl Save {
    fn run(self, context: &Context) -> Outcome {
        let name = model::name_or(Some(self.name), String::new())?;
        let mut link = context.link()?;
        let (_, recipe) = recipe_of(&mut link, &self.recipe)?;
        let value = Json(recipe.to_json());
        let request = Request::KeepNote { kind: NoteKind::Recipe, name: name.clone(), title: String::new(), value };
        context.change(&mut link, "save", request)?;
        context.say("cli.recipe_saved", &[("recipe", &name)]);
        Ok(())
    }
}

/// Remove a saved recipe. Versions that it made keep their steps.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone recipe remove mine")]
pub(super) struct Remove {
    /// Its name.
    name: String,
}

impl Remove {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let request = Request::DropNote { kind: NoteKind::Recipe, name: self.name.clone() };
        context.change(&mut link, "remove", request)?;
        context.say("cli.recipe_removed", &[("recipe", &self.name)]);
        Ok(())
    }
}

/// Show what a recipe would do to the first rows of a dataset. Nothing is written.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone recipe preview support-desk chat\n  hone recipe preview support-desk ./my.toml --count 10"
)]
pub(super) struct PreviewVerb {
    /// NAME (its newest version) or NAME@NUMBER.
    dataset: String,
    /// Name of a recipe, or path of a .toml or .json file.
    recipe: String,
    /// The first row that is looked at.
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// At most so many rows.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    count: u32,
}

impl PreviewVerb {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let (_, recipe) = recipe_of(&mut link, &self.recipe)?;
        let steps: Vec<String> = recipe.steps.iter().map(|step| step.step.clone()).collect();
        let request = Request::PreviewRecipe { dataset: self.dataset, recipe, from: self.from, count: self.count };
        let preview = answer!(link.ask(request)?, RecipePreview);
        if context.json {
            return print::json(&preview);
        }
        print::out(&preview_text(context.language, &steps, &preview))
    }
}

fn messages(messages: &[ChatMessage], indent: &str) -> String {
    let line = |m: &ChatMessage| {
        let content = print::harmless(&m.content).replace('\n', &format!("\n{indent}           "));
        format!("{indent}{:<9}  {content}\n", print::harmless(&m.role))
    };
    messages.iter().map(line).collect()
}

fn preview_text(language: Language, steps: &[String], preview: &Preview) -> String {
    let mut text = String::new();
    for row in &preview.rows {
        text.push_str(&format!("#{}\n{}", row.row_id, messages(&row.before, "  ")));
        for (step, act, reason) in &row.acts {
            let word = steps.get(*step as usize).map_or("?", String::as_str);
            let act = catalogue::text(language, act_key(*act));
            text.push_str(&format!("  {} {word}: {act} ({})\n", step + 1, reason_text(language, reason)));
        }
        if row.after.is_empty() || row.acts.is_empty() {
            text.push('\n');
        } else {
            text.push_str(&format!("{}\n", messages(&row.after, "  > ")));
        }
    }
    let mut table =
        Table::new(language, &["cli.col.number", "cli.col.recipe_step", "cli.col.dropped", "cli.col.changed"]);
    for (index, (step, (dropped, changed))) in steps.iter().zip(&preview.counts).enumerate() {
        table.row(vec![Cell::number(index + 1), step.as_str().into(), Cell::number(*dropped), Cell::number(*changed)]);
    }
    text.push_str(&table.render(print::colour()));
    let looked_at = preview.looked_at.to_string();
    text + &catalogue::fill(language, "cli.recipe_looked_at", &[("rows", &looked_at)]) + "\n"
}

/// A reason in words.
fn reason_text(language: Language, reason: &str) -> String {
    let word = catalogue::find(language, &format!("reason.{reason}"));
    word.map_or_else(|| print::harmless(reason), str::to_owned)
}

fn act_key(act: LedgerAct) -> &'static str {
    match act {
        LedgerAct::Dropped => "recipe.dropped",
        LedgerAct::Changed => "recipe.changed",
    }
}

/// Send a dataset through a recipe into a new version, and wait for it.
///
/// Steps that were done before on the same rows with the same settings are not done again. The version before stays.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone recipe run support-desk chat\n  hone recipe run web@2 ./my.toml --name web-clean --detach"
)]
pub(super) struct Run {
    /// NAME (its newest version) or NAME@NUMBER.
    dataset: String,
    /// Name of a recipe, or path of a .toml or .json file.
    recipe: String,
    /// Name of the dataset that gets the version [default: DATASET-RECIPE].
    #[arg(long)]
    name: Option<String>,
    /// Do not wait; print the job's id.
    #[arg(long)]
    detach: bool,
}

impl Run {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let (recipe_name, recipe) = recipe_of(&mut link, &self.recipe)?;
        let plain = self.dataset.split('@').next().unwrap_or_default();
        let name = model::name_or(self.name, model::name_from(&format!("{plain}-{recipe_name}")))?;
        process(context, &mut link, ProcessSpec { source: self.dataset, name, recipe_name, recipe }, self.detach)
    }
}

/// Runs a recipe and tells what its steps did.
fn process(context: &Context, link: &mut Link, spec: ProcessSpec, detach: bool) -> Outcome {
    let name = spec.name.clone();
    let spec = JobSpec::Process(Box::new(spec));
    let Some((view, result)) = wait::submit(context, link, "process", spec, detach)? else { return Ok(()) };
    if context.json {
        return print::json(&view);
    }
    let JobResult::Dataset(id, _) = result else { return Ok(()) };
    let datasets = answer!(link.ask(Request::Datasets)?, Datasets);
    let version = datasets.iter().flat_map(|dataset| &dataset.versions).find(|version| version.id == id);
    let Some((version, processed)) = version.and_then(|v| Some((v, v.processed.as_deref()?))) else { return Ok(()) };
    print::out(&format!("{name}@{}\n{}", version.number, steps_text(context.language, processed)))
}

/// What each step did, with the settings that it worked with.
pub(super) fn steps_text(language: Language, processed: &Processed) -> String {
    let numbers = [processed.rows_in, processed.rows_out].map(|number| number.to_string());
    let args = [("source", processed.source_name.as_str()), ("in", &numbers[0]), ("out", &numbers[1])];
    let mut text = catalogue::fill(language, "cli.recipe_sum", &args) + "\n";
    let keys = [
        "cli.col.number",
        "cli.col.recipe_step",
        "cli.col.dropped",
        "cli.col.changed",
        "cli.col.reasons",
        "cli.col.settings",
    ];
    let mut table = Table::new(language, &keys);
    for (index, step) in processed.steps.iter().enumerate() {
        let reasons = step
            .reasons
            .iter()
            .take(REASONS_SHOWN)
            .map(|(word, count)| format!("{} {count}", reason_text(language, word)));
        let settings = step.spec.settings.iter().filter(|(_, value)| !value.is_empty());
        let mut settings: Vec<String> = settings.map(|(key, value)| format!("{key}={value}")).collect();
        if !step.spec.keep.is_empty() {
            settings.push(format!("keep={}", step.spec.keep.len()));
        }
        table.row(vec![
            Cell::number(index + 1),
            step.spec.step.as_str().into(),
            Cell::number(step.dropped),
            Cell::number(step.changed),
            reasons.collect::<Vec<_>>().join(", ").into(),
            settings.join(" ").into(),
        ]);
    }
    text.push_str(&table.render(print::colour()));
    text
}

/// Show what each step did to the rows of a version that a recipe made; with --step, row by row.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone recipe ledger support-desk-chat\n  hone recipe ledger support-desk-chat@1 --step 6 --count 20"
)]
pub(super) struct Ledger {
    /// The version that came out: NAME (its newest version) or NAME@NUMBER.
    dataset: String,
    /// Number of the step, from 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    step: Option<u32>,
    /// The first entry.
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u64,
    /// At most so many entries.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=200))]
    count: u32,
}

impl Ledger {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let Some(step) = self.step else {
            let datasets = answer!(link.ask(Request::Datasets)?, Datasets);
            let processed = processed_of(&datasets, &self.dataset)?;
            if context.json {
                return print::json(processed);
            }
            return print::out(&steps_text(context.language, processed));
        };
        let request =
            Request::RecipeLedger { dataset: self.dataset, step: step - 1, offset: self.offset, count: self.count };
        let (entries, total) = match link.ask(request)? {
            Answer::RecipeLedger { entries, total } => (entries, total),
            other => return Err(surprise(&other).into()),
        };
        let shown = entries.len() as u64;
        for entry in &entries {
            if context.json {
                print::json(entry)?;
            } else {
                print::out(&entry_text(context.language, entry))?;
            }
        }
        let numbers = [self.offset.to_string(), (self.offset + shown).to_string(), total.to_string()];
        context.say("cli.rows_window", &[("from", &numbers[0]), ("to", &numbers[1]), ("total", &numbers[2])]);
        Ok(())
    }
}

fn processed_of<'d>(
    datasets: &'d [hone_protocol::dataset::DatasetView],
    typed: &str,
) -> Result<&'d Processed, Failure> {
    let (_, version) = dataset::find(datasets, typed)?;
    version.processed.as_deref().ok_or_else(|| {
        Failure::field("dataset", format!("{typed} was not made by a recipe, so no step dropped or changed its rows"))
    })
}

fn entry_text(language: Language, entry: &LedgerEntry) -> String {
    let act = catalogue::text(language, act_key(entry.act));
    let short = |value: f64| (value * 1000.0).round() / 1000.0;
    let (value, threshold) = (short(entry.value), short(entry.threshold));
    let detail = if entry.detail.is_empty() { String::new() } else { format!("  {}", print::harmless(&entry.detail)) };
    let reason = reason_text(language, &entry.reason);
    let head = format!("#{} {act}: {reason} {value} ({threshold}){detail}\n", entry.row_id);
    let after = if entry.after.is_empty() { String::new() } else { messages(&entry.after, "  > ") };
    format!("{head}{}{after}\n", messages(&entry.before, "  "))
}

/// Run the recipe of a version again, with rows that a step must not drop. They are in the next version.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone recipe rescue support-desk-chat@1 --step 6 17 204")]
pub(super) struct Rescue {
    /// The version that came out: NAME (its newest version) or NAME@NUMBER.
    dataset: String,
    /// Ids of the rows, as the ledger names them.
    #[arg(required = true, value_name = "ROW")]
    rows: Vec<u64>,
    /// Number of the step, from 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    step: u32,
    /// Do not wait; print the job's id.
    #[arg(long)]
    detach: bool,
}

impl Rescue {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let datasets = answer!(link.ask(Request::Datasets)?, Datasets);
        let spec = rescued(&datasets, &self.dataset, self.step as usize - 1, &self.rows)?;
        process(context, &mut link, spec, self.detach)
    }
}

/// The run that made a version, with rows that a step of it must not drop.
pub(crate) fn rescued(
    datasets: &[hone_protocol::dataset::DatasetView],
    typed: &str,
    step: usize,
    rows: &[u64],
) -> Result<ProcessSpec, Failure> {
    let processed = processed_of(datasets, typed)?;
    let mut steps: Vec<_> = processed.steps.iter().map(|step| step.spec.clone()).collect();
    let count = steps.len();
    let Some(spec) = steps.get_mut(step) else {
        return Err(Failure::field("step", format!("step {} of {count}", step + 1)));
    };
    spec.keep.extend(rows);
    let name = typed.split('@').next().unwrap_or_default().to_owned();
    Ok(ProcessSpec {
        source: processed.source_name.clone(),
        name,
        recipe_name: processed.recipe_name.clone(),
        recipe: Recipe { steps },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_a_file_that_reads_back() {
        for preset in PRESETS {
            let text = toml_of(&preset.recipe()).unwrap();
            let value: Value = toml::from_str(&text).unwrap();
            let effective = |recipe: Recipe| recipe.steps.iter().map(StepSpec::effective).collect::<Vec<_>>();
            let read = effective(Recipe::from_json(&value).unwrap());
            assert_eq!(read, effective(preset.recipe()), "{text}");
        }
    }

    #[test]
    fn steps_explain_themselves() {
        insta::assert_snapshot!("recipe-step-en", form_text(Language::En, step_form("near").unwrap()));
        insta::assert_snapshot!("recipe-step-zh", form_text(Language::Zh, step_form("near").unwrap()));
    }
}
