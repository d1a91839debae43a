//! Everything that is counted, in the text format of Prometheus (version 0.0.4). It is made of the published state, so a scrape asks
//! no worker, loads nothing and keeps nothing loaded. Counters begin at 0 with the daemon, as that format expects. Never here:
//! counting.

use std::fmt::Write as _;

use hone_protocol::job::ShownState;
use hone_protocol::service::ServiceState;

use crate::counts::{BOUNDS_MS, Counts, Histogram};
use crate::request_log::RequestLog;
use crate::state::State;

/// The whole text.
pub(crate) fn text(state: &State, log: &RequestLog) -> String {
    let mut text = String::new();
    requests(state, &mut text);
    guards(state, &mut text);
    feedback(state, log, &mut text);
    services(state, &mut text);
    workers(state, &mut text);
    jobs(state, &mut text);
    text
}

/// Begins a family of samples.
fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

/// Labels with their values, escaped.
fn labels(pairs: &[(&str, &str)]) -> String {
    let value = |text: &str| text.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
    let labels: Vec<String> = pairs.iter().map(|(name, text)| format!("{name}=\"{}\"", value(text))).collect();
    labels.join(",")
}

fn sample(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "{name}{{{labels}}} {value}");
}

fn requests(state: &State, text: &mut String) {
    let who = |(service, application): &(_, _)| {
        let application = state.applications.get(application).map_or("?", |a| a.name.as_str());
        labels(&[("service", &state.service_name(*service)), ("application", application)])
    };
    let counts: Vec<(String, &Counts)> = state.counts.iter().map(|(key, counts)| (who(key), counts)).collect();
    let name = "hone_requests_total";
    family(text, name, "counter", "Requests by how they ended; the last two kinds were refused before they began.");
    for (who, counts) in &counts {
        for (end, count) in Counts::ENDS.iter().zip(counts.ends) {
            sample(text, name, &format!("{who},{}", labels(&[("status", end)])), count);
        }
    }
    type Of = fn(&Counts) -> u64;
    let tokens: [(&str, &str, Of); 3] = [
        ("hone_prompt_tokens_total", "Prompt tokens, cached ones included.", |c| c.prompt_tokens),
        ("hone_cached_tokens_total", "Prompt tokens found in the cache.", |c| c.cached_tokens),
        ("hone_completion_tokens_total", "Completion tokens.", |c| c.completion_tokens),
    ];
    for (name, help, of) in tokens {
        family(text, name, "counter", help);
        counts.iter().for_each(|(who, counts)| sample(text, name, who, of(counts)));
    }
    type Times = fn(&Counts) -> &Histogram;
    let times: [(&str, &str, Times); 2] = [
        ("hone_first_token_seconds", "Time to the first token.", |c| &c.first_token),
        ("hone_request_seconds", "Time to the end of a request.", |c| &c.total),
    ];
    for (name, help, of) in times {
        family(text, name, "histogram", help);
        counts.iter().for_each(|(who, counts)| histogram(text, name, who, of(counts)));
    }
}

fn histogram(text: &mut String, name: &str, who: &str, times: &Histogram) {
    let mut below = 0;
    for (bound, count) in BOUNDS_MS.iter().zip(times.buckets) {
        below += count;
        let _ = writeln!(text, "{name}_bucket{{{who},le=\"{}\"}} {below}", f64::from(*bound) / 1000.0);
    }
    below += times.buckets[BOUNDS_MS.len()];
    let _ = writeln!(text, "{name}_bucket{{{who},le=\"+Inf\"}} {below}");
    sample(text, &format!("{name}_sum"), who, times.sum_ms as f64 / 1000.0);
    sample(text, &format!("{name}_count"), who, below);
}

/// What guards found; of all time, so that a restart begins no counter anew.
fn guards(state: &State, text: &mut String) {
    let name = "hone_guard_matches_total";
    family(text, name, "counter", "Matches of guards in what went in and what came out.");
    for (guard, counts) in state.guard_counts.iter() {
        for (side, count) in [("input", counts.input), ("output", counts.output)] {
            sample(text, name, &labels(&[("guard", guard), ("side", side)]), count);
        }
    }
    let name = "hone_guard_refused_total";
    family(text, name, "counter", "Requests that guards refused and answers that they ended.");
    for (guard, counts) in state.guard_counts.iter() {
        sample(text, name, &labels(&[("guard", guard)]), counts.refused);
    }
}

fn feedback(state: &State, log: &RequestLog, text: &mut String) {
    let name = "hone_feedback_total";
    family(text, name, "counter", "What users said of answers.");
    for ((service, application), counts) in state.feedback_counts.iter() {
        let application = state.applications.get(application).map_or("?", |a| a.name.as_str());
        let of =
            |said| labels(&[("service", &state.service_name(*service)), ("application", application), ("said", said)]);
        for (said, count) in [("up", counts.up), ("down", counts.down), ("correction", counts.corrections)] {
            sample(text, name, &of(said), count);
        }
    }
    let name = "hone_log_dropped_total";
    family(text, name, "counter", "Requests that were to be logged and could not be written.");
    for application in state.applications.values().filter(|application| application.log.is_some()) {
        sample(text, name, &labels(&[("application", &application.name)]), log.dropped(application.id));
    }
}

fn services(state: &State, text: &mut String) {
    family(text, "hone_service_loaded", "gauge", "Whether a service answers: 1, or 0.");
    for service in state.services.values() {
        let is_on = state.service_view(service.id).is_some_and(|view| view.state == ServiceState::On);
        sample(text, "hone_service_loaded", &labels(&[("service", &service.name)]), u8::from(is_on));
    }
    family(text, "hone_requests_open", "gauge", "Metered requests that are being answered.");
    for service in state.services.values() {
        let open = state.open_rows.values().filter(|row| row.service == service.id).count();
        sample(text, "hone_requests_open", &labels(&[("service", &service.name)]), open);
    }
}

fn workers(state: &State, text: &mut String) {
    // Two services may name one model of servers elsewhere.
    let label = |base| match state.upstream_service(base) {
        Some(service) => format!("upstream:{}", service.name),
        None => state.version_reference(base),
    };
    let workers: Vec<_> = state.serving.iter().map(|(base, s)| (label(*base), s)).collect();
    type Of = fn(&crate::state::Serving) -> u64;
    let gauges: [(&str, &str, Of); 3] = [
        ("hone_worker_active", "Sequences that a serving process generates.", |s| u64::from(s.active)),
        ("hone_worker_waiting", "Sequences that wait for a slot.", |s| u64::from(s.waiting)),
        ("hone_worker_memory_bytes", "Resident memory of a serving process.", |s| s.memory_bytes),
    ];
    for (name, help, of) in gauges {
        family(text, name, "gauge", help);
        workers.iter().for_each(|(version, s)| sample(text, name, &labels(&[("version", version)]), of(s)));
    }
    let name = "hone_worker_part_bytes";
    family(
        text,
        name,
        "gauge",
        "What a serving process holds, as it counts: weights, and adapter and cache of each context.",
    );
    for (version, memory) in workers.iter().filter_map(|(version, s)| Some((version, s.memory.as_ref()?))) {
        let mut part = |part: &str, adapter: &str, bytes: u64| {
            sample(text, name, &labels(&[("version", version), ("part", part), ("adapter", adapter)]), bytes);
        };
        part("weights", "", memory.weights_bytes);
        for context in &memory.contexts {
            let adapter = context.adapter.map_or(String::new(), |version| state.version_reference(version));
            if context.adapter.is_some() {
                part("adapter", &adapter, context.adapter_bytes);
            }
            part("cache", &adapter, context.cache_bytes);
        }
    }
}

fn jobs(state: &State, text: &mut String) {
    let all = [
        (ShownState::Queued, "queued"),
        (ShownState::Running, "running"),
        (ShownState::Paused, "paused"),
        (ShownState::Succeeded, "succeeded"),
        (ShownState::Failed, "failed"),
        (ShownState::Cancelled, "cancelled"),
    ];
    let mut counts = [0_u64; 6];
    for job in state.jobs.values() {
        let shown = state.shown(job);
        if let Some(at) = all.iter().position(|(known, _)| *known == shown) {
            counts[at] += 1;
        }
    }
    family(text, "hone_jobs", "gauge", "Jobs by state.");
    for ((_, word), count) in all.iter().zip(counts) {
        sample(text, "hone_jobs", &labels(&[("state", word)]), count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_are_escaped() {
        assert_eq!(labels(&[("a", "x\"y\\z\n")]), r#"a="x\"y\\z\n""#);
    }
}
