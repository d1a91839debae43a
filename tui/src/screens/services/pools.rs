//! Pools in the area: their rows, a page about one, the form that makes or changes one, and what it asks for. Never here: keys, or
//! what a pool may be (the daemon says).

use hone_protocol::form::FieldKind;
use hone_protocol::pool::{LOCAL_POOL, PoolPlace, PoolView, Share, SlurmPlace};
use hone_protocol::request::Request;
use hone_protocol::usage::ComputePrice;

use super::super::service_pages::MICROS;
use super::super::{Deed, Desk, Errand, View, Wish};
use super::{FormKind, Services, Tab};
use crate::layers::Layer;
use crate::theme::Token;
use crate::widgets::canvas::piece;
use crate::widgets::form::{Form, FormField, Rule, Stride};
use crate::widgets::list::{Row, cell};
use crate::widgets::number;
use crate::widgets::page::Page;

/// A pool in the list.
pub(super) fn row(pool: &PoolView) -> Row {
    let memory = if pool.memory_bytes == 0 { "-".into() } else { number::bytes(pool.memory_bytes) };
    Row {
        key: pool.record.name.clone(),
        cells: vec![
            piece(cell(&pool.record.name), Token::Text),
            piece(pool.kind(), Token::Muted),
            piece(pool.cores.to_string(), Token::Text),
            piece(memory, Token::Text),
            piece(number::bytes(pool.used_bytes), Token::Muted),
            piece(price(pool.record.price.core_hour_micros), Token::Muted),
        ],
    }
}

fn price(micros: Option<u64>) -> String {
    micros.map_or_else(|| "-".to_owned(), |micros| number::typed(micros as f64 / MICROS))
}

/// All about a pool.
pub(super) fn page(view: &View<'_>, pool: &PoolView, page: &mut Page) {
    page.heading(cell(&pool.record.name));
    let kind = match pool.record.place {
        None => "services.pool_local",
        Some(PoolPlace::Share(_)) => "services.pool_share",
        Some(PoolPlace::Slurm(_)) => "services.pool_slurm",
    };
    page.text(view.t(kind), Token::Muted).blank();
    page.fact(view.t("field.pool_cores"), pool.cores.to_string());
    if pool.memory_bytes > 0 {
        page.fact(view.t("col.memory"), number::bytes(pool.memory_bytes));
    }
    page.fact(view.t("col.used"), number::bytes(pool.used_bytes));
    match &pool.record.place {
        None => {}
        Some(PoolPlace::Share(share)) if share.gpus.is_empty() => {}
        Some(PoolPlace::Share(share)) => {
            page.fact(view.t("field.pool_gpus"), cell(&share.gpus.join(", ")));
        }
        Some(PoolPlace::Slurm(slurm)) => {
            page.fact(view.t("field.slurm_folder"), cell(&slurm.folder));
            let minutes = slurm.minutes.map(|minutes| minutes.to_string());
            let options = (!slurm.options.is_empty()).then(|| slurm.options.join(" "));
            let facts = [
                ("field.slurm_programs", &slurm.programs),
                ("field.slurm_partition", &slurm.partition),
                ("field.slurm_account", &slurm.account),
                ("field.slurm_qos", &slurm.qos),
                ("field.slurm_minutes", &minutes),
                ("field.slurm_gres", &slurm.gres),
                ("field.slurm_options", &options),
            ];
            for (key, value) in facts {
                if let Some(value) = value {
                    page.fact(view.t(key), cell(value));
                }
            }
        }
    }
    page.blank().heading(view.t("services.pool_price"));
    page.fact(view.t("field.core_hour"), price(pool.record.price.core_hour_micros));
    page.fact(view.t("field.gpu_hour"), price(pool.record.price.gpu_hour_micros));
    page.blank().heading(view.t("services.pool_users"));
    for user in &pool.users {
        page.text(cell(user), Token::Text);
    }
    if pool.users.is_empty() {
        page.text(view.t("services.pool_free"), Token::Muted);
    }
}

/// Asks before a pool is removed.
pub(super) fn remove(desk: &mut Desk<'_>, pool: &PoolView) {
    let name = pool.record.name.clone();
    let title = desk.view.fill("ask.remove_pool", &[("name", &name)]);
    let body = vec![desk.view.t("ask.remove_pool_body").to_owned()];
    let wish = Wish::Ask { errand: Errand::Act(Deed::RemovePool), request: Request::RemovePool { name: name.clone() } };
    desk.push(Layer::ask_name(title, body, name, vec![wish]));
}

impl Services {
    /// The form of a new pool.
    pub(super) fn pool_form(&mut self) {
        let (place, slurm, money) = ("services.pool_place", "run.slurm", "services.pool_price");
        let whole = |high| FieldKind::Whole { low: 0, high };
        let is_slurm: &[(&str, &[&str])] = &[("kind", &["slurm"])];
        let of_slurm = |key, label, about| FormField { only: is_slurm, ..FormField::text(key, slurm, label, about) };
        self.tab = Tab::Pools;
        self.form = Some((
            FormKind::Pool,
            Form::new(vec![
                FormField::text("name", place, "field.name", "field.pool_name.about").rule(Rule::Name),
                FormField::text("kind", place, "field.pool_kind", "field.pool_kind.about").of(
                    FieldKind::Choice(&["share", "slurm", LOCAL_POOL]),
                    Stride::Add(1.0),
                    "share",
                ),
                FormField {
                    only: &[("kind", &["share", "slurm"])],
                    ..FormField::text("cores", place, "field.pool_cores", "field.pool_cores.about").of(
                        FieldKind::Whole { low: 1, high: 4096 },
                        Stride::Add(1.0),
                        "1",
                    )
                },
                FormField {
                    only: &[("kind", &["share", "slurm"])],
                    ..FormField::text("memory", place, "field.pool_memory", "field.pool_memory.about").of(
                        whole(1 << 26),
                        Stride::Add(1024.0),
                        "4096",
                    )
                },
                FormField {
                    only: &[("kind", &["share"])],
                    ..FormField::text("gpus", place, "field.pool_gpus", "field.pool_gpus.about")
                },
                of_slurm("folder", "field.slurm_folder", "field.slurm_folder.about"),
                of_slurm("partition", "field.slurm_partition", "field.slurm_partition.about"),
                FormField {
                    only: is_slurm,
                    ..FormField::text("minutes", slurm, "field.slurm_minutes", "field.slurm_minutes.about").of(
                        whole(1 << 20),
                        Stride::Add(60.0),
                        "0",
                    )
                },
                of_slurm("gres", "field.slurm_gres", "field.slurm_gres.about"),
                of_slurm("account", "field.slurm_account", "field.slurm_account.about"),
                of_slurm("qos", "field.slurm_qos", "field.slurm_qos.about"),
                of_slurm("programs", "field.slurm_programs", "field.slurm_programs.about"),
                of_slurm("options", "field.slurm_options", "field.slurm_options.about"),
                FormField::text("core_hour", money, "field.core_hour", "field.core_hour.about"),
                FormField::text("gpu_hour", money, "field.gpu_hour", "field.gpu_hour.about"),
            ]),
        ));
    }

    /// The form of a pool that is there.
    pub(super) fn edit_pool(&mut self, pool: &PoolView) {
        self.pool_form();
        let Some((_, form)) = &mut self.form else { return };
        form.set("name", pool.record.name.clone());
        form.set("kind", pool.kind());
        form.set("cores", pool.cores.to_string());
        form.set("memory", (pool.memory_bytes >> 20).to_string());
        let price = pool.record.price;
        for (key, micros) in [("core_hour", price.core_hour_micros), ("gpu_hour", price.gpu_hour_micros)] {
            if let Some(micros) = micros {
                form.set(key, number::typed(micros as f64 / MICROS));
            }
        }
        match &pool.record.place {
            None => {}
            Some(PoolPlace::Share(share)) => form.set("gpus", share.gpus.join(",")),
            Some(PoolPlace::Slurm(slurm)) => {
                form.set("folder", slurm.folder.clone());
                form.set("minutes", slurm.minutes.unwrap_or(0).to_string());
                form.set("options", slurm.options.join(" "));
                let words = [
                    ("programs", &slurm.programs),
                    ("partition", &slurm.partition),
                    ("account", &slurm.account),
                    ("qos", &slurm.qos),
                    ("gres", &slurm.gres),
                ];
                for (key, word) in words {
                    form.set(key, word.clone().unwrap_or_default());
                }
            }
        }
    }
}

/// Asks for the pool that a form says.
pub(super) fn submit(form: &Form, desk: &mut Desk<'_>) {
    let micros = |key: &str| form.number::<f64>(key).map(|units| (units * MICROS).round() as u64);
    let price = ComputePrice { core_hour_micros: micros("core_hour"), gpu_hour_micros: micros("gpu_hour") };
    let word = |key: &str| Some(form.value(key).trim().to_owned()).filter(|word| !word.is_empty());
    let list = |key: &str| -> Vec<String> {
        form.value(key).split([',', ' ']).map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let cores = form.number("cores").unwrap_or(0);
    let memory_mib: u64 = form.number("memory").unwrap_or(0);
    let place = match form.value("kind") {
        "share" => Some(PoolPlace::Share(Share { cores, memory_bytes: memory_mib << 20, gpus: list("gpus") })),
        "slurm" => Some(PoolPlace::Slurm(Box::new(SlurmPlace {
            folder: form.value("folder").trim().to_owned(),
            programs: word("programs"),
            partition: word("partition"),
            account: word("account"),
            qos: word("qos"),
            minutes: form.number("minutes").filter(|minutes| *minutes > 0),
            cores,
            memory_mib: Some(memory_mib).filter(|mib| *mib > 0),
            gres: word("gres"),
            options: form.value("options").split_whitespace().map(str::to_owned).collect(),
        }))),
        _ => None,
    };
    let request = Request::SetPool { name: form.value("name").to_owned(), price, place };
    desk.ask(Errand::Act(Deed::Pool), request);
}
