//! `hone status` and `hone audit`: the daemon about itself, and who did what.

use clap::Args;
use hone_protocol::catalogue::{self, Language};
use hone_protocol::request::{AuditRow, ROWS_MAX, Request, Status as StatusAnswer};

use super::context::{Context, answer};
use crate::print::{self, Cell, Outcome, Table};

/// Show the daemon: version, sockets, HTTP addresses, machine, and what to know about it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone status --json")]
pub(super) struct Status {}

impl Status {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let status = answer!(context.link()?.ask(Request::Status)?, Status);
        if context.json {
            return print::json(&status);
        }
        print::out(&text(context.language, &status, print::now_ms()))
    }
}

/// Show who did what, newest first; with --json, one row a line.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone audit --count 20")]
pub(super) struct Audit {
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROWS_MAX)))]
    count: u32,
}

impl Audit {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let rows = answer!(context.link()?.ask(Request::Audit { count: self.count })?, Audit);
        if context.json {
            return rows.iter().try_for_each(print::json);
        }
        print::out(&audit_table(context.language, &rows).render(print::colour()))
    }
}

/// The daemon's status as text.
pub(super) fn text(language: Language, status: &StatusAnswer, now_ms: i64) -> String {
    let machine = &status.machine;
    let of = |free: u64, all: u64| {
        let args = [("free", print::bytes(free)), ("all", print::bytes(all))];
        catalogue::fill(language, "cli.free_of", &args.each_ref().map(|(k, v)| (*k, v.as_str())))
    };
    let cores = match machine.cpu_busy {
        Some(busy) => format!("{} ({:.0} %)", machine.cores, busy * 100.0),
        None => machine.cores.to_string(),
    };
    let mut pairs = vec![
        ("cli.col.daemon", format!("honed {} (pid {})", status.version, status.pid)),
        ("cli.col.started", print::ago(language, status.started_at_ms, now_ms)),
        ("cli.col.state_dir", status.state_dir.clone()),
        ("cli.col.socket", status.socket.clone()),
        ("cli.col.http", if status.http.is_empty() { "-".into() } else { status.http.join(" ") }),
        ("cli.col.machine", machine.host.clone()),
        ("cli.col.cores", cores),
        ("cli.col.memory", of(machine.memory_available_bytes, machine.memory_bytes)),
        ("cli.col.pool_memory", print::bytes(machine.pool_memory_bytes)),
        ("cli.col.disk_free", print::bytes(machine.disk_free_bytes)),
        ("cli.col.gpus", if machine.gpus.is_empty() { "-".into() } else { machine.gpus.join(", ") }),
        ("cli.col.billing", format!("{} {}", status.currency, status.zone)),
    ];
    pairs.extend(status.notes.iter().map(|note| ("cli.col.note", note.clone())));
    print::pairs(language, &pairs)
}

fn audit_table(language: Language, rows: &[AuditRow]) -> Table {
    let keys = ["cli.col.number", "cli.col.at", "cli.col.person", "cli.col.act", "cli.col.subject"];
    let mut table = Table::new(language, &keys);
    for row in rows {
        table.row(vec![
            Cell::number(row.seq),
            print::moment(row.at_ms).into(),
            row.person.as_str().into(),
            row.verb.as_str().into(),
            row.subject.as_str().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_protocol::event::Machine;

    #[test]
    fn status_and_audit() {
        let machine = Machine {
            host: "box".into(),
            cores: 2,
            cpu_busy: Some(0.25),
            memory_bytes: 24 << 30,
            memory_available_bytes: 20 << 30,
            pool_memory_bytes: 18 << 30,
            disk_free_bytes: 100 << 30,
            gpus: Vec::new(),
        };
        let status = StatusAnswer {
            version: "0.1.0".into(),
            pid: 4242,
            started_at_ms: 1_795_449_912_345,
            state_dir: "/s".into(),
            socket: "/s/run/hone.sock".into(),
            http: vec!["127.0.0.1:7878".into()],
            machine,
            notes: vec!["the state directory is on a network file system".into()],
            zone: "UTC".into(),
            currency: "USD".into(),
        };
        let now = 1_795_449_912_345 + 7_200_000;
        insta::assert_snapshot!("status", text(Language::En, &status, now));
        insta::assert_snapshot!("status-zh", text(Language::Zh, &status, now));
        let row = AuditRow {
            seq: 12,
            at_ms: 1_795_449_912_345,
            person: "ada".into(),
            verb: "publish".into(),
            subject: "desk".into(),
        };
        insta::assert_snapshot!("audit", audit_table(Language::En, &[row]).render(false));
    }
}
