//! The forms of the area: publish a version, make an application, make a key, enter a payment; and what each one asks for when it
//! is right. Never here: drawing, or the answers.

use hone_protocol::application::{ApplicationView, Budget, BudgetKind, Limits, Services as May};
use hone_protocol::form::FieldKind;
use hone_protocol::log::{LOG_DAYS_MAX, LogSettings};
use hone_protocol::pool::{LOCAL_POOL, Priority};
use hone_protocol::request::Request;
use hone_protocol::service::{Keep, Price};
use hone_protocol::value::Pico;

use super::super::models::as_name;
use super::super::service_pages::MICROS;
use super::super::tables::{application_names, pool_names, service_names, version_names};
use super::super::{Deed, Desk, Errand, View};
use super::{FormKind, Services, Tab, upstream};
use crate::widgets::form::{Form, FormField, Rule, Stride};
use crate::widgets::number;

/// The log that the form of an application says; none for off. What the form does not have stays as it was.
fn log_of(form: &Form, known: Option<LogSettings>) -> Option<LogSettings> {
    let share_percent = form.number("log_share").filter(|share| *share > 0)?;
    let known = known.unwrap_or_default();
    let bytes_max = form.number::<u64>("log_size").map_or(known.bytes_max, |mib| mib << 20);
    // A size below a whole MiB is not in the form.
    let bytes_max = if bytes_max == (known.bytes_max >> 20).max(1) << 20 { known.bytes_max } else { bytes_max };
    Some(LogSettings {
        share_percent,
        retention_days: form.number("log_days").unwrap_or(known.retention_days),
        mask_pii: form.value("log_mask") == "yes",
        bytes_max,
        entry_bytes_max: known.entry_bytes_max.min(u32::try_from(bytes_max / 8).unwrap_or(u32::MAX)),
    })
}

impl Services {
    pub(super) fn publish_form(&mut self, view: &View<'_>, version: &str) {
        let newest = view.mirror.adapters().last().or(view.mirror.bases().last()).map(|v| v.reference.clone());
        let version = if version.is_empty() { newest.unwrap_or_default() } else { version.to_owned() };
        let name = as_name(version.split('@').next().unwrap_or_default());
        let section = "services.publish";
        let money = FieldKind::Real { low: 0.0, high: 1e6 };
        let known = view.mirror.services().iter().find(|s| s.record.name == name).map(|s| s.record.price);
        let known_pool = view.mirror.services().iter().find(|s| s.record.name == name).map(|s| s.record.pool.clone());
        let price = |micros: Option<u64>, default: &str| {
            micros.map_or_else(|| default.to_owned(), |m| number::typed(m as f64 / MICROS))
        };
        let mut fields = vec![
            upstream::engine(section),
            FormField {
                only: upstream::VERSION,
                ..FormField::text("version", section, "word.version", "field.publish_version.about")
                    .rule(Rule::OneOf)
                    .filled(version, version_names(view))
            },
            FormField::text("name", section, "field.name", "field.service_name.about")
                .rule(Rule::Name)
                .filled(name, service_names(view)),
            FormField::text("slots", section, "field.slots", "field.slots.about").of(
                FieldKind::Whole { low: 0, high: 256 },
                Stride::Add(1.0),
                "0",
            ),
            FormField::text("context", section, "field.context", "field.context.about").of(
                FieldKind::Whole { low: 0, high: 1_048_576 },
                Stride::Add(512.0),
                "0",
            ),
            FormField::text("input", section, "field.input_price", "field.input_price.about").of(
                money,
                Stride::Add(0.1),
                "0",
            ),
            FormField::text("output", section, "field.output_price", "field.output_price.about").of(
                money,
                Stride::Add(0.1),
                "0",
            ),
            FormField {
                only: upstream::VERSION,
                ..FormField::text("keep", section, "field.keep", "field.keep.about").of(
                    FieldKind::Choice(&["ready", "pinned", "minutes"]),
                    Stride::Add(1.0),
                    "ready",
                )
            },
            FormField {
                only: &[("engine", &["version"]), ("keep", &["minutes"])],
                ..FormField::text("minutes", section, "field.keep_minutes", "field.keep_minutes.about").of(
                    FieldKind::Whole { low: 1, high: 100_000 },
                    Stride::Add(5.0),
                    "5",
                )
            },
        ];
        let pools = pool_names(view);
        if pools.len() > 1 {
            fields.push(
                FormField::text("pool", section, "field.pool", "field.pool.about")
                    .rule(Rule::OneOf)
                    .filled(known_pool.unwrap_or_else(|| LOCAL_POOL.to_owned()), pools),
            );
        }
        drop(fields.splice(3..3, upstream::fields(section)));
        let mut form = Form::new(fields);
        if let Some(known) = known {
            form.set("input", price(known.input_micros, "0"));
            form.set("output", price(known.output_micros, "0"));
        }
        self.tab = Tab::Services;
        self.form = Some((FormKind::Publish, form));
    }

    pub(super) fn application_form(&mut self) {
        let (section, limits) = ("services.application", "services.limits");
        let count = FieldKind::Whole { low: 0, high: 1_000_000_000 };
        let limit = |key, label, about, step| FormField::text(key, limits, label, about).of(count, step, "0");
        self.form =
            Some((
                FormKind::Application,
                Form::new(vec![
                    FormField::text("name", section, "field.name", "field.application_name.about").rule(Rule::Name),
                    FormField::text("title", section, "field.title", "field.title.about"),
                    FormField::text("services", section, "field.services", "field.services.about"),
                    limit("requests", "field.requests_limit", "field.requests_limit.about", Stride::Add(10.0)),
                    limit("tokens", "field.tokens_limit", "field.tokens_limit.about", Stride::Add(1000.0)),
                    limit("parallel", "field.parallel_limit", "field.parallel_limit.about", Stride::Add(1.0)),
                    FormField::text("priority", limits, "field.priority", "field.priority.about").of(
                        FieldKind::Choice(&["low", "normal", "high"]),
                        Stride::Add(1.0),
                        "normal",
                    ),
                    FormField::text("budget", limits, "field.budget", "field.budget.about").of(
                        FieldKind::Choice(&["none", "monthly", "prepaid"]),
                        Stride::Add(1.0),
                        "none",
                    ),
                    FormField {
                        only: &[("budget", &["monthly"])],
                        ..FormField::text("amount", limits, "field.budget_amount", "field.budget_amount.about").of(
                            FieldKind::Real { low: 0.0, high: 1e9 },
                            Stride::Add(5.0),
                            "10",
                        )
                    },
                    FormField::text("log_share", "services.log_setting", "field.log_share", "field.log_share.about")
                        .of(FieldKind::Whole { low: 0, high: 100 }, Stride::Add(10.0), "0"),
                    FormField::text("log_days", "services.log_setting", "field.log_days", "field.log_days.about").of(
                        FieldKind::Whole { low: 1, high: u64::from(LOG_DAYS_MAX) },
                        Stride::Add(1.0),
                        "30",
                    ),
                    FormField::text("log_mask", "services.log_setting", "field.log_mask", "field.log_mask.about").of(
                        FieldKind::Choice(&["no", "yes"]),
                        Stride::Add(1.0),
                        "no",
                    ),
                    FormField::text("log_size", "services.log_setting", "field.log_size", "field.log_size.about").of(
                        FieldKind::Whole { low: 1, high: 1 << 20 },
                        Stride::Add(64.0),
                        "256",
                    ),
                ]),
            ));
    }

    /// The form of an application that is there.
    pub(super) fn edit_application(&mut self, application: &ApplicationView) {
        self.application_form();
        let Some((_, form)) = &mut self.form else { return };
        let record = &application.record;
        form.set("name", record.name.clone());
        form.set("title", record.title.clone());
        if record.services != May::All {
            form.set("services", application.services.join(", "));
        }
        if let Some(log) = record.log {
            form.set("log_share", log.share_percent.to_string());
            form.set("log_days", log.retention_days.to_string());
            form.set("log_mask", if log.mask_pii { "yes" } else { "no" });
            form.set("log_size", (log.bytes_max >> 20).max(1).to_string());
        }
        form.set("priority", record.priority.unwrap_or_default().word());
        let limits = record.limits.unwrap_or_default();
        let each = [
            ("requests", limits.requests_per_minute),
            ("tokens", limits.tokens_per_minute),
            ("parallel", limits.parallel),
        ];
        for (key, limit) in each {
            form.set(key, limit.unwrap_or(0).to_string());
        }
        match record.budget {
            None => {}
            Some(Budget::Prepaid { .. }) => form.set("budget", "prepaid"),
            Some(Budget::Monthly { amount }) => {
                form.set("budget", "monthly");
                form.set("amount", number::typed(amount.0 as f64 / Pico::PER_UNIT as f64));
            }
        }
    }

    pub(super) fn key_form(&mut self, view: &View<'_>, application: &str) {
        let names = application_names(view);
        let application = if application.is_empty() {
            names.iter().find(|n| *n != "owner").or(names.first()).cloned().unwrap_or_default()
        } else {
            application.to_owned()
        };
        let section = "services.key";
        self.tab = Tab::Keys;
        self.form = Some((
            FormKind::Key,
            Form::new(vec![
                FormField::text("application", section, "word.application", "field.key_application.about")
                    .rule(Rule::OneOf)
                    .filled(application, names),
                FormField::text("label", section, "field.label", "field.label.about"),
            ]),
        ));
    }

    /// The form that enters a payment of the selected application.
    pub(super) fn pay_form(&mut self, view: &View<'_>) {
        let Some(name) = self.application(view).map(|a| a.record.name.clone()) else { return };
        let section = "services.pay";
        let amount = FieldKind::Real { low: -1e9, high: 1e9 };
        self.form = Some((
            FormKind::Pay,
            Form::new(vec![
                FormField::text("application", section, "word.application", "field.pay_application.about")
                    .rule(Rule::OneOf)
                    .filled(name, application_names(view)),
                FormField::text("amount", section, "field.pay_amount", "field.pay_amount.about").of(
                    amount,
                    Stride::Add(5.0),
                    "10",
                ),
                FormField::text("note", section, "field.pay_note", "field.pay_note.about"),
            ]),
        ));
    }

    pub(super) fn submit(&mut self, desk: &mut Desk<'_>) {
        if self.form.as_ref().is_some_and(|(kind, _)| {
            matches!(kind, FormKind::LogSearch | FormKind::LogRows | FormKind::Guard | FormKind::GuardTry)
        }) {
            return self.submit_oversight(desk);
        }
        if let Some((FormKind::Hook, form)) = &mut self.form {
            return super::hooks::submit(form, desk);
        }
        let Some((kind, form)) = &self.form else { return };
        let text = |key: &str| form.value(key).to_owned();
        match kind {
            FormKind::Publish if form.value("engine") == "upstream" => {
                let known = desk.view.mirror.services().iter().find(|s| s.record.name == form.value("name"));
                desk.ask(Errand::Act(Deed::Publish), upstream::request(form, known));
            }
            FormKind::Publish => {
                let micros = |key: &str| form.number::<f64>(key).map(|units| (units * MICROS).round() as u64);
                let known = desk.view.mirror.services().iter().find(|s| s.record.name == form.value("name"));
                // The form does not have it: it stays as it was.
                let cached_micros = known.and_then(|known| known.record.price.cached_micros);
                let price = Price { input_micros: micros("input"), cached_micros, output_micros: micros("output") };
                desk.ask(
                    Errand::Act(Deed::Publish),
                    Request::Publish {
                        name: text("name"),
                        version: text("version"),
                        slots: form.number("slots").unwrap_or(0),
                        context_tokens: form.number("context").unwrap_or(0),
                        price,
                        keep: Some(match form.value("keep") {
                            "pinned" => Keep::Pinned,
                            "minutes" => Keep::Minutes(form.number("minutes").unwrap_or(5)),
                            _ => Keep::Ready,
                        }),
                        pool: Some(text("pool")).filter(|pool| !pool.is_empty()),
                    },
                );
            }
            FormKind::Application => {
                let services = form.value("services").split([',', ' ']).map(str::trim).filter(|s| !s.is_empty());
                desk.ask(
                    Errand::Act(Deed::Application),
                    Request::SetApplication {
                        name: text("name"),
                        title: text("title"),
                        services: services.map(str::to_owned).collect(),
                        priority: Priority::named(form.value("priority")),
                    },
                );
                // 0 is typed for no limit.
                let limit = |key: &str| form.number::<u64>(key).filter(|limit| *limit > 0);
                let limits = Limits {
                    requests_per_minute: limit("requests"),
                    tokens_per_minute: limit("tokens"),
                    parallel: limit("parallel"),
                };
                let micros = form.number::<f64>("amount").map_or(0, |units| (units * MICROS).round() as i128);
                let budget = match form.value("budget") {
                    "monthly" => BudgetKind::Monthly(Pico(micros * (Pico::PER_UNIT / MICROS as i128))),
                    "prepaid" => BudgetKind::Prepaid,
                    _ => BudgetKind::None,
                };
                let before = desk.view.mirror.applications().iter().find(|a| a.record.name == form.value("name"));
                let limited = before.is_some_and(|a| a.record.limits.is_some() || a.record.budget.is_some());
                if limited || limits != Limits::default() || budget != BudgetKind::None {
                    let request = Request::SetLimits { application: text("name"), limits, budget };
                    desk.ask(Errand::Act(Deed::Limits), request);
                }
                let known = before.and_then(|a| a.record.log);
                let log = log_of(form, known);
                if log.map(|log| log.share_percent) != known.map(|log| log.share_percent).filter(|share| *share > 0)
                    || log.is_some_and(|log| known != Some(log))
                {
                    desk.ask(Errand::Act(Deed::Log), Request::SetLog { application: text("name"), log });
                }
            }
            FormKind::Pay => {
                let micros = form.number::<f64>("amount").map_or(0, |units| (units * MICROS).round() as i128);
                let amount = Pico(micros * (Pico::PER_UNIT / MICROS as i128));
                let request = Request::Pay { application: text("application"), amount, note: text("note") };
                desk.ask(Errand::Act(Deed::Pay), request);
            }
            FormKind::LogSearch | FormKind::LogRows | FormKind::Guard | FormKind::GuardTry | FormKind::Hook => {}
            FormKind::Pool => super::pools::submit(form, desk),
            FormKind::Key => {
                let request =
                    Request::CreateKey { application: text("application"), label: text("label"), expires_at_ms: None };
                desk.ask(Errand::Act(Deed::Key), request);
            }
        }
    }
}
