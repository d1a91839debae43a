//! `hone model promote`, `rollback`, `gate`, `moves`: aliases that services follow, and what must be measured before they move.
//! Never here: judging a gate, which the daemon does; loading anything.

use std::time::{Duration, Instant};

use clap::Args;
use hone_protocol::catalogue::{self, Language};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::gate::{Gate, GateReport, number};
use hone_protocol::model::{AliasMove, ModelView, MovedBy};
use hone_protocol::request::Request;
use hone_protocol::service::{ServiceState, ServiceView};

use super::context::{Context, answer};
use crate::link::Link;
use crate::print::{self, Cell, Outcome, Table};

/// How often services are looked at while they come after an alias.
const LOOK: Duration = Duration::from_millis(250);

/// Move an alias when its gate holds, and wait until services that follow it serve the version.
///
/// Requests that run finish on the version before; new ones go to the new version once it is loaded. A version that cannot be
/// loaded changes nothing: the one before goes on.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone model promote support live\n  hone model promote support live support@4 --check\n  hone model promote support live support@4 --override \"the exam has a wrong row\""
)]
pub(super) struct Promote {
    /// The model.
    model: String,
    /// The alias.
    alias: String,
    /// The version: NAME@NUMBER [default: the newest].
    version: Option<String>,
    /// Only say whether the gate holds; exit status 4 when it does not.
    #[arg(long)]
    check: bool,
    /// Move although the gate does not hold, and say why; it is kept with the move.
    #[arg(long = "override", value_name = "REASON", conflicts_with = "check")]
    past_gate: Option<String>,
    /// Do not wait for services.
    #[arg(long)]
    detach: bool,
}

impl Promote {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let version = match self.version {
            Some(version) => version,
            None => newest(&model(&mut link, &self.model)?)?,
        };
        let (model, alias) = (self.model.clone(), self.alias.clone());
        let check = Request::CheckGate { model: model.clone(), alias: alias.clone(), version: version.clone() };
        let report = answer!(link.ask(check)?, Gate);
        if self.check {
            show_report(context, &report)?;
            return match report.holds {
                true => Ok(()),
                false => Err(print::End::Said(FailureCode::GateClosed.exit_status())),
            };
        }
        if !context.json {
            report_lines(context.language, &report).iter().for_each(|line| print::note(line));
        }
        let request = Request::SetAlias { model, alias, version, past_gate: self.past_gate };
        context.change(&mut link, "promote", request)?;
        arrived(context, &mut link, &self.model, &self.alias, &report.version, self.detach)
    }
}

/// Move an alias back to the version before, and wait for services that follow it. Twice is forth again.
///
/// No gate is asked.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone model rollback support live")]
pub(super) struct RollBack {
    /// The model.
    model: String,
    /// The alias.
    alias: String,
    /// Do not wait for services.
    #[arg(long)]
    detach: bool,
}

impl RollBack {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let (model_name, alias) = (self.model.clone(), self.alias.clone());
        context.change(&mut link, "rollback", Request::RollBack { model: model_name, alias })?;
        let view = model(&mut link, &self.model)?;
        let version = reference(&view, &self.alias)?;
        arrived(context, &mut link, &self.model, &self.alias, &version, self.detach)
    }
}

/// Set what must be measured before an alias moves, or show it.
///
/// `score(exam) >= 0.8 and loss(exam) <= loss(exam, current) + 0.05`: figures are score, loss, perplexity and rows of the newest
/// evaluation on a suite; `current` is the version that the alias points at. What is not measured never passes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone model gate support live \"score(exam) >= score(exam, current) - 0.01\"\n  hone model gate support live\n  hone model gate support live --remove"
)]
pub(super) struct GateVerb {
    /// The model.
    model: String,
    /// The alias; it need not be there yet.
    alias: String,
    /// The gate.
    gate: Option<String>,
    /// Let everything through.
    #[arg(long, conflicts_with = "gate")]
    remove: bool,
}

impl GateVerb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        if let Some(gate) = &self.gate {
            Gate::read(gate)?;
        }
        let mut link = context.link()?;
        if self.gate.is_some() || self.remove {
            let (model, alias) = (self.model.clone(), self.alias.clone());
            context.change(&mut link, "gate", Request::SetGate { model, alias, gate: self.gate })?;
        }
        let view = model(&mut link, &self.model)?;
        let gate = view.record.gate(&self.alias).map(str::to_owned);
        if context.json {
            return print::json(&gate);
        }
        match gate {
            Some(gate) => print::out(&format!("{gate}\n")),
            None => {
                context.say("cli.no_gate", &[("alias", &format!("{}:{}", self.model, self.alias))]);
                Ok(())
            }
        }
    }
}

/// List the moves of an alias, newest first: when, who, from where to where, and why it could.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone model moves support live")]
pub(super) struct Moves {
    /// The model.
    model: String,
    /// The alias.
    alias: String,
}

impl Moves {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let moves = answer!(context.link()?.ask(Request::Moves { model: self.model, alias: self.alias })?, Moves);
        if context.json {
            return print::json(&moves);
        }
        print::out(&moves_table(context.language, &moves).render(print::colour()))
    }
}

fn moves_table(language: Language, moves: &[AliasMove]) -> Table {
    let keys = ["cli.col.at", "cli.col.person", "cli.col.from", "cli.col.to", "cli.col.why"];
    let mut table = Table::new(language, &keys);
    for moved in moves {
        let dash = |reference: &Option<String>| Cell::from(reference.as_deref().unwrap_or("-"));
        table.row(vec![
            print::moment(moved.at_ms).into(),
            moved.person.as_str().into(),
            dash(&moved.from),
            dash(&moved.to),
            why(language, &moved.by).into(),
        ]);
    }
    table
}

/// Why an alias could move, in words.
pub(crate) fn why(language: Language, by: &MovedBy) -> String {
    match by {
        MovedBy::Person => catalogue::text(language, "moved.person").to_owned(),
        MovedBy::Gate(figures) => catalogue::fill(language, "moved.gate", &[("figures", figures)]),
        MovedBy::PastGate(reason, figures) => {
            catalogue::fill(language, "moved.past_gate", &[("reason", reason), ("figures", figures)])
        }
        MovedBy::RollBack => catalogue::text(language, "moved.roll_back").to_owned(),
    }
}

fn model(link: &mut Link, name: &str) -> Result<ModelView, Failure> {
    let models = answer!(link.ask(Request::Models)?, Models);
    models.into_iter().find(|m| m.record.name == name).ok_or_else(|| Failure::not_found("model", name))
}

fn newest(model: &ModelView) -> Result<String, Failure> {
    let newest = model.versions.iter().rfind(|v| v.record.is_live());
    newest.map(|v| v.reference.clone()).ok_or_else(|| Failure::not_found("version", &model.record.name))
}

fn reference(model: &ModelView, alias: &str) -> Result<String, Failure> {
    let target = model.record.aliases.iter().find(|known| known.name == alias).map(|known| known.version);
    let version = model.versions.iter().find(|v| Some(v.record.id) == target);
    version.map(|v| v.reference.clone()).ok_or_else(|| Failure::not_found("alias", alias))
}

fn report_lines(language: Language, report: &GateReport) -> Vec<String> {
    let mut lines = Vec::new();
    for line in &report.lines {
        let figure = |(name, value): &(String, Option<f64>)| match value {
            Some(value) => format!("{name} = {}", number(*value)),
            None => format!("{name}: {}", catalogue::text(language, "cli.not_measured")),
        };
        let figures: Vec<String> = line.figures.iter().map(figure).collect();
        let mark = if line.holds { "ok" } else { "no" };
        lines.push(format!("{mark}  {}  ({})", line.text, figures.join(", ")));
    }
    let run = |command: &String| catalogue::fill(language, "cli.measure_with", &[("command", command)]);
    lines.extend(report.run.iter().map(run));
    lines
}

fn show_report(context: &Context, report: &GateReport) -> Outcome {
    if context.json {
        return print::json(report);
    }
    if report.lines.is_empty() {
        return print::out(&format!("{}\n", catalogue::text(context.language, "cli.gate_none")));
    }
    print::out(&format!("{}\n", report_lines(context.language, report).join("\n")))
}

/// Waits until every service that follows an alias serves its version, or cannot.
fn arrived(context: &Context, link: &mut Link, model: &str, alias: &str, version: &str, detach: bool) -> Outcome {
    let name = format!("{model}:{alias}");
    let follows = |service: &ServiceView| {
        service.record.follows.as_deref() == Some(alias)
            && service.version_reference.split_once('@').is_some_and(|(of, _)| of == model)
    };
    let mut said = Instant::now();
    let services = loop {
        let mut services = answer!(link.ask(Request::Services)?, Services);
        services.retain(follows);
        let loads = |s: &&ServiceView| {
            s.record.wanted
                && s.state != ServiceState::Asleep
                && s.moving.as_ref().is_some_and(|moving| moving.failure.is_none())
        };
        match services.iter().find(loads) {
            Some(service) if !detach => {
                if said.elapsed() > Duration::from_secs(5) {
                    let place = [("service", service.record.name.as_str()), ("version", version)];
                    context.say("cli.service_loads", &place);
                    said = Instant::now();
                }
                std::thread::sleep(LOOK);
            }
            _ => break services,
        }
    };
    if context.json {
        return print::json(&services);
    }
    print::out(&format!("{name} -> {version}\n"))?;
    for service in &services {
        match service.moving.as_ref().map(|moving| &moving.failure) {
            None => print::out(&format!("{} = {}\n", service.record.name, service.version_reference))?,
            Some(None) => context.say(
                "cli.service_follows_later",
                &[("service", &service.record.name), ("version", version), ("now", &service.version_reference)],
            ),
            Some(Some(failure)) => {
                let message = format!(
                    "service {} goes on with {}: {version} cannot be loaded: {}",
                    service.record.name, service.version_reference, failure.message_en
                );
                return Err(Failure::new(failure.code, message).at(service.record.name.clone()).into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hone_protocol::gate::GateLine;

    use super::*;

    #[test]
    fn moves_say_who_and_why() {
        let moved = |seq: u64, from: Option<&str>, by| AliasMove {
            seq,
            at_ms: 1_795_449_912_345,
            person: "lin".into(),
            alias: "support:live".into(),
            from: from.map(str::to_owned),
            to: Some(format!("support@{}", seq + 1)),
            by,
        };
        let figures = || "score(exam) >= 0.8 (score(exam) is 0.91)".to_owned();
        let moves = [
            moved(3, Some("support@3"), MovedBy::RollBack),
            moved(2, Some("support@2"), MovedBy::PastGate("a wrong row".into(), figures())),
            moved(1, Some("support@1"), MovedBy::Gate(figures())),
            moved(0, None, MovedBy::Person),
        ];
        insta::assert_snapshot!("moves", moves_table(Language::En, &moves).render(false));
        insta::assert_snapshot!("moves-zh", moves_table(Language::Zh, &moves).render(false));
    }

    #[test]
    fn a_gate_says_what_is_measured_and_how_the_rest_is() {
        let line = |text: &str, holds, figures: &[(&str, Option<f64>)]| GateLine {
            text: text.into(),
            holds,
            figures: figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        };
        let report = GateReport {
            gate: "score(exam) >= 0.8 and rows(other) >= 64".into(),
            version: "support@2".into(),
            current: None,
            holds: false,
            lines: vec![
                line("score(exam) >= 0.8", true, &[("score(exam)", Some(0.912_345_67))]),
                line("rows(other) >= 64", false, &[("rows(other)", None)]),
            ],
            run: vec!["hone eval start support@2 --suite other".into()],
        };
        let lines = report_lines(Language::En, &report);
        assert_eq!(lines[0], "ok  score(exam) >= 0.8  (score(exam) = 0.912346)");
        assert_eq!(lines[1], "no  rows(other) >= 64  (rows(other): not measured yet)");
        assert!(lines[2].contains("hone eval start support@2 --suite other"), "{}", lines[2]);
    }
}
