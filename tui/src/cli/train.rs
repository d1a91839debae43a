//! `hone train`: start a run, plan it, look at it and at its metrics. Never here: reading run files and flags
//! (`run_file`), or training.

use clap::{Args, Subcommand};
use hone_protocol::catalogue::{self, Language};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::form::BETWEEN_TEXTS;
use hone_protocol::job::{JobResult, JobSpec, JobView};
use hone_protocol::pool::LOCAL_POOL;
use hone_protocol::request::{POINTS_MAX, Request, SAMPLED_MAX};
use hone_protocol::train::{Point, SERIES, Sampled, TrainPlan, TrainSpec};

use super::context::{Context, answer};
use super::run_file::{self, FormFlags, Written};
use super::{job, model, pool, register, train_export, wait};
use crate::link::Link;
use crate::print::{self, Cell, End, Outcome, Table};

/// Training runs.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Start(Start),
    Plan(Plan),
    Show(Show),
    Metrics(Metrics),
    Samples(Samples),
    Checkpoints(register::Checkpoints),
    Export(train_export::Export),
}

impl Verb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            Verb::Start(verb) => verb.run(context),
            Verb::Plan(verb) => verb.run(context),
            Verb::Show(verb) => verb.run(context),
            Verb::Metrics(verb) => verb.run(context),
            Verb::Samples(verb) => verb.run(context),
            Verb::Checkpoints(verb) => verb.run(context),
            Verb::Export(verb) => verb.run(context),
        }
    }
}

/// What a run is made of: a file, flags, or a file with flags over it.
#[derive(Debug, Args)]
struct RunArgs {
    /// A TOML file with keys of the form below (underscores, as in `learning_rate = 1e-3`); flags override it.
    #[arg(value_name = "RUN.TOML")]
    file: Option<String>,
    /// Alias to move to the registered version.
    #[arg(long, value_name = "NAME", help_heading = "Register")]
    alias: Option<String>,
    /// Seed of the split into training and held-out rows [default: 42].
    #[arg(long, value_name = "N", help_heading = "Data")]
    split_seed: Option<u64>,
    /// Train although nobody has released the rows.
    #[arg(long, help_heading = "Data")]
    draft: bool,
    /// Compute threads; 0 for the pool's cores [default: 0].
    #[arg(long, value_name = "N", help_heading = "Training")]
    threads: Option<u32>,
    #[command(flatten)]
    form: FormFlags,
}

impl RunArgs {
    /// The specification. It is checked before the daemon is asked for the size of the base.
    fn spec(self, context: &Context) -> Result<(Link, TrainSpec), End> {
        let mut values = self.file.as_deref().map(run_file::read).transpose()?.unwrap_or_default();
        values.extend(self.form.values);
        let beside = [
            ("alias", self.alias),
            ("split_seed", self.split_seed.map(|n| n.to_string())),
            ("threads", self.threads.map(|n| n.to_string())),
        ];
        for (key, text) in beside {
            if let Some(text) = text {
                values.insert(key.into(), Written { text, place: format!("--{}", key.replace('_', "-")) });
            }
        }
        run_file::spec(&values, None)?;
        let mut link = context.link()?;
        let parameters = run_file::base_parameters(&values, &model::all(&mut link)?);
        let mut spec = run_file::spec(&values, parameters)?;
        spec.draft_consent = self.draft.then_some(true);
        Ok((link, spec))
    }
}

/// Train an adapter or a whole model, wait for its end, and register it when --model is given.
///
/// The rows are split by id: held-out rows are in no training batch. Ctrl-C ends the waiting, not the run.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone train start --base smollm2-135m --dataset support-desk --model support --epochs 3\n  hone train start run.toml --rank 16 --detach"
)]
pub(super) struct Start {
    #[command(flatten)]
    run: RunArgs,
    /// Do not wait; print the job's id.
    #[arg(long)]
    detach: bool,
}

impl Start {
    fn run(self, context: &Context) -> Outcome {
        let (mut link, spec) = self.run.spec(context)?;
        let spec = JobSpec::Train(Box::new(spec));
        let Some((view, result)) = wait::submit(context, &mut link, "train", spec, self.detach)? else { return Ok(()) };
        if context.json {
            return print::json(&view);
        }
        print::out(&job::details(context.language, &view))?;
        if let JobResult::Train(train) = result
            && let Some(id) = train.version
        {
            let reference = model::reference(&model::all(&mut link)?, id);
            print::out(&print::pairs(context.language, &[("cli.col.version", reference)]))?;
        }
        Ok(())
    }
}

/// Say what a run would do, without starting it: rows, tokens, steps, memory.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone train plan --base smollm2-135m --dataset support-desk --epochs 3")]
pub(super) struct Plan {
    #[command(flatten)]
    run: RunArgs,
}

impl Plan {
    fn run(self, context: &Context) -> Outcome {
        let (mut link, spec) = self.run.spec(context)?;
        let threads = spec.params.threads;
        let plan = answer!(link.ask(Request::PlanTrain { spec: Box::new(spec) })?, Plan);
        if context.json {
            return print::json(&plan);
        }
        let pool = pool::find(&mut link, context.pool.as_deref().unwrap_or(LOCAL_POOL))?;
        let status = answer!(link.ask(Request::Status)?, Status);
        let mut text = plan_text(context.language, &plan);
        if let Some(cost) = pool.record.price.of_plan(&plan, threads, pool.cores) {
            let cost = format!("{} {}", cost.rounded(), status.currency);
            text.push_str(&print::pairs(context.language, &[("cli.col.about_cost", cost)]));
        }
        print::out(&text)
    }
}

/// Show a run: its settings, plan, progress and result.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone train show last")]
pub(super) struct Show {
    /// A training job's id, the end of it, or `last`.
    job: String,
}

impl Show {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let id = context.job(&mut link, &self.job)?;
        let view = answer!(link.ask(Request::Job { job: id })?, Job);
        let JobSpec::Train(spec) = &view.record.spec else {
            let message = format!("{id} is no training job; hone job show {id} shows it");
            return Err(Failure::new(FailureCode::InvalidRequest, message).at("job").into());
        };
        if context.json {
            return print::json(&view);
        }
        print::out(&show_text(context.language, &view, spec))
    }
}

/// Print a series of a run; with --json, one point a line.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone train metrics last --series loss --points 20")]
pub(super) struct Metrics {
    /// A training job's id, the end of it, or `last`.
    job: String,
    /// Which series.
    #[arg(long, default_value = "loss", value_parser = clap::builder::PossibleValuesParser::new(SERIES))]
    series: String,
    /// From this step on.
    #[arg(long, value_name = "STEP", default_value_t = 0)]
    from: u64,
    /// At most so many points, spread evenly; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=i64::from(POINTS_MAX)))]
    points: u32,
}

impl Metrics {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let job = context.job(&mut link, &self.job)?;
        let request = Request::Metrics { job, series: self.series.clone(), from_step: self.from, points: self.points };
        let points = answer!(link.ask(request)?, Metrics);
        if context.json {
            return points.iter().try_for_each(print::json);
        }
        print::out(&points_table(context.language, &points).render(print::colour()))
    }
}

/// Print what a run answered to its sample prompts, evaluation by evaluation; with --json, one evaluation a line.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone train samples last --from 40")]
pub(super) struct Samples {
    /// A training job's id, the end of it, or `last`.
    job: String,
    /// From this step on.
    #[arg(long, value_name = "STEP", default_value_t = 0)]
    from: u64,
}

impl Samples {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let id = context.job(&mut link, &self.job)?;
        let view = answer!(link.ask(Request::Job { job: id })?, Job);
        let prompts = match &view.record.spec {
            JobSpec::Train(spec) => spec.samples.clone().unwrap_or_default(),
            _ => Vec::new(),
        };
        if prompts.is_empty() {
            let message = format!("{id} answers no sample prompts; a run started with --samples does");
            return Err(Failure::new(FailureCode::InvalidRequest, message).at("job").into());
        }
        let mut from_step = self.from;
        loop {
            let request = Request::Samples { job: id, from_step, count: SAMPLED_MAX };
            let sampled = answer!(link.ask(request)?, Samples);
            for one in &sampled {
                match context.json {
                    true => print::json(one)?,
                    false => print::out(&samples_text(context.language, &prompts, one))?,
                }
            }
            match sampled.last() {
                Some(last) if sampled.len() == SAMPLED_MAX as usize => from_step = last.step + 1,
                _ => return Ok(()),
            }
        }
    }
}

fn samples_text(language: Language, prompts: &[String], sampled: &Sampled) -> String {
    let mut text = catalogue::fill(language, "run.at_step", &[("step", &sampled.step.to_string())]) + "\n";
    for (prompt, answer) in prompts.iter().zip(&sampled.answers) {
        let cut = if answer.ended { "" } else { " …" };
        let answer = answer.text.trim().replace('\n', "\n    ");
        text.push_str(&format!("  {}\n    {answer}{cut}\n", prompt.replace('\n', "\n  ")));
    }
    text
}

fn points_table(language: Language, points: &[Point]) -> Table {
    let mut table = Table::new(language, &["cli.col.step", "cli.col.value"]);
    for point in points {
        table.row(vec![Cell::number(point.step), Cell::number(number(point.value.value()))]);
    }
    table
}

/// A metric value: six significant digits, small ones with an exponent.
fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || !value.is_finite() {
        value.to_string()
    } else if !(1e-3..1e6).contains(&size) {
        format!("{value:.5e}")
    } else {
        let whole_digits = size.log10().floor().max(0.0) as usize + 1;
        format!("{value:.*}", 6usize.saturating_sub(whole_digits))
    }
}

fn plan_text(language: Language, plan: &TrainPlan) -> String {
    let rows = [
        ("cli.col.rows_train", plan.rows),
        ("cli.col.rows_held_out", plan.rows_held_out),
        ("cli.col.tokens_epoch", plan.tokens),
        ("cli.col.target_tokens", plan.target_tokens),
        ("cli.col.rows_left_out", plan.rows_left_out),
        ("cli.col.rows_cut", plan.rows_cut),
        ("cli.col.rows_without_targets", plan.rows_without_targets),
        ("cli.col.windows", plan.windows),
        ("cli.col.steps", plan.steps),
    ];
    let mut pairs: Vec<_> = rows.map(|(key, number)| (key, number.to_string())).to_vec();
    if let Some(duration_ms) = plan.duration_ms {
        pairs.push(("cli.col.about_time", print::duration(duration_ms)));
    }
    pairs.push(("cli.col.memory", print::bytes(plan.memory_bytes)));
    pairs.push(("cli.col.disk", print::bytes(plan.disk_bytes())));
    if plan.streamed {
        pairs.push(("cli.col.to_fit", catalogue::text(language, "plan.streamed").to_owned()));
    }
    if plan.recompute_every > 0 {
        let layers = plan.recompute_every.to_string();
        pairs.push(("cli.col.to_fit", catalogue::fill(language, "plan.recomputed", &[("n", &layers)])));
    }
    print::pairs(language, &pairs)
}

fn show_text(language: Language, view: &JobView, spec: &TrainSpec) -> String {
    let mut text = job::details(language, view);
    let params = &spec.params;
    let targets: Vec<&str> = params.targets.iter().map(|t| t.word()).collect();
    // The form's own keys: what stands here can be typed again as flags or in a run file.
    let mut settings = vec![
        ("base", spec.base.clone()),
        ("dataset", spec.dataset.clone()),
        ("held_out_percent", spec.split.held_out_percent.to_string()),
        ("split_seed", spec.split.seed.to_string()),
        ("targets", targets.join(",")),
    ];
    if let Some(replay) = &spec.replay {
        settings.push(("replay", replay.dataset.clone()));
        settings.push(("replay_percent", replay.percent.to_string()));
    }
    if let Some(samples) = &spec.samples {
        settings.push(("samples", samples.join(BETWEEN_TEXTS)));
    }
    if let Some(register) = &spec.register {
        settings.push(("model", register.model.clone()));
        settings.push(("alias", register.alias.clone()));
        settings.push(("publish", register.publish.clone()));
    }
    text.push('\n');
    for (key, value) in settings.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{key} = {value}\n"));
    }
    let rest = serde_json::to_value(params).unwrap_or_default();
    for (key, value) in rest.as_object().into_iter().flatten().filter(|(key, _)| *key != "targets") {
        // serde_json widens f32 to f64; the shortest text of the f32 is what was typed.
        let value = match value.as_f64() {
            Some(real) if value.is_f64() => (real as f32).to_string(),
            _ => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
        };
        text.push_str(&format!("{key} = {value}\n"));
    }
    if let Some(plan) = &view.plan {
        text.push('\n');
        text.push_str(&plan_text(language, plan));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_protocol::dataset::Split;
    use hone_protocol::train::{Register, TrainParams};
    use hone_protocol::value::Metric;

    #[test]
    fn show_plan_and_metrics() {
        let spec = TrainSpec {
            base: "smollm2-135m@1".into(),
            params: TrainParams::default(),
            dataset: "support-desk@1".into(),
            split: Split { held_out_percent: 15, seed: 42 },
            replay: None,
            samples: None,
            register: Some(Register { model: "support".into(), alias: String::new(), publish: "desk".into() }),
            draft_consent: None,
        };
        let mut view = job::tests::job();
        view.plan = Some(TrainPlan {
            rows: 569,
            rows_held_out: 100,
            tokens: 60_000,
            target_tokens: 30_000,
            rows_left_out: 1,
            rows_cut: 0,
            rows_without_targets: 0,
            windows: 120,
            steps: 240,
            memory_bytes: 1_300_000_000,
            streamed: true,
            recompute_every: 6,
            checkpoint_bytes: 29_300_000,
            adapter_bytes: 9_770_000,
            duration_ms: Some(754_000),
        });
        view.record.spec = JobSpec::Train(Box::new(spec.clone()));
        insta::assert_snapshot!("train-show", show_text(Language::En, &view, &spec));
        let points = [1.0, 0.000_2, f64::NAN, 244.6].map(|v| Point { step: 10, value: Metric::from(v) });
        insta::assert_snapshot!("train-metrics", points_table(Language::En, &points).render(false));
    }

    #[test]
    fn six_digits() {
        let texts = [0.0, 1.234_567_89, 244.612_3, 2e-4, -3.5, 12_345_678.0].map(number);
        assert_eq!(texts, ["0", "1.23457", "244.612", "2.00000e-4", "-3.50000", "1.23457e7"]);
    }
}
