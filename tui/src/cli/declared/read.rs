//! Reads a declared file. What is not known is refused with line, column and the nearest name that is. Never here: what is there
//! already.

use std::collections::BTreeMap;

use hone_protocol::application::{BudgetKind, Limits};
use hone_protocol::declared::{
    Declared, DeclaredAlias, DeclaredApplication, DeclaredGuard, DeclaredHook, DeclaredPool, DeclaredService,
    DeclaredStandard, DeclaredUpstream,
};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::gate::Gate;
use hone_protocol::guard::{GuardAct, GuardSpec, PiiKind};
use hone_protocol::hook::HookTarget;
use hone_protocol::pool::{LOCAL_POOL, PoolPlace, Priority, Share, SlurmPlace};
use hone_protocol::service::{Keep, Price};
use hone_protocol::upstream::{Address, Secret, UpstreamWish};
use hone_protocol::usage::ComputePrice;
use hone_protocol::value::Pico;
use toml::de::{DeTable, DeValue};

use super::super::standard_file::StandardFile;
use super::super::{budget, hook, service};

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: usize = 4 << 20;
/// Sections of a file.
const SECTIONS: [&str; 7] = ["pools", "aliases", "services", "applications", "guards", "hooks", "standards"];
/// Letters that a name may differ by from the one that is meant.
const NEAR: usize = 3;

/// The file as it is read.
struct File<'t> {
    path: &'t str,
    text: &'t str,
}

/// A thing's fields with where each stands.
struct Fields<'f, 't> {
    file: &'f File<'t>,
    at: usize,
    values: BTreeMap<&'f str, (usize, &'f DeValue<'t>)>,
}

/// Reads everything that a file declares.
pub(super) fn read(path: &str, text: &str) -> Result<Declared, Failure> {
    let file = File { path, text };
    if text.len() > FILE_BYTES_MAX {
        return Err(file.wrong(0, format!("the file is longer than {FILE_BYTES_MAX} bytes")));
    }
    let table =
        DeTable::parse(text).map_err(|e| file.wrong(e.span().map_or(0, |span| span.start), e.message().to_owned()))?;
    let mut declared = Declared::default();
    for (section, things) in table.get_ref() {
        let (name, at) = (section.get_ref().as_ref(), section.span().start);
        file.check_known(at, name, &SECTIONS, "section")?;
        let DeValue::Table(things) = things.get_ref() else {
            return Err(file.wrong(at, format!("{name} must be a table: [{name}.NAME]")));
        };
        for (key, thing) in things {
            let (thing_name, at) = (key.get_ref().as_ref().to_owned(), key.span().start);
            let DeValue::Table(fields) = thing.get_ref() else {
                return Err(file.wrong(at, format!("{thing_name} must be a table: [{name}.{thing_name}]")));
            };
            match name {
                "pools" => declared.pools.push(pool(&file, at, thing_name, fields)?),
                "aliases" => declared.aliases.push(alias(&file, at, thing_name, fields)?),
                "services" => declared.services.push(service(&file, at, thing_name, fields)?),
                "applications" => declared.applications.push(application(&file, at, thing_name, fields)?),
                "guards" => declared.guards.push(guard(&file, at, thing_name, fields)?),
                "standards" => declared.standards.push(standard(&file, at, thing_name)?),
                _ => declared.hooks.push(hook(&file, at, thing_name, fields)?),
            }
        }
    }
    Ok(declared)
}

impl File<'_> {
    /// A mistake with its line and column.
    fn wrong(&self, at: usize, message: String) -> Failure {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Failure::new(FailureCode::BadFile, message)
            .at(format!("{}:{line}:{column}", self.path))
            .hint(HintCode::CorrectFile)
    }

    fn check_known(&self, at: usize, name: &str, known: &[&str], what: &str) -> Result<(), Failure> {
        if known.contains(&name) {
            return Ok(());
        }
        let near = known.iter().map(|known| (distance(name, known), known)).min();
        let advice = match near {
            Some((apart, near)) if apart <= NEAR => format!("; did you mean {near}?"),
            _ => format!("; there are {}", known.join(", ")),
        };
        Err(self.wrong(at, format!("{name:?} is no {what}{advice}")))
    }
}

/// How many letters must be put in, left out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let changed = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = changed.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

impl<'f, 't> Fields<'f, 't> {
    fn new(
        file: &'f File<'t>,
        at: usize,
        table: &'f DeTable<'t>,
        known: &[&str],
        what: &str,
    ) -> Result<Fields<'f, 't>, Failure> {
        let mut values = BTreeMap::new();
        for (key, value) in table {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            file.check_known(at, name, known, what)?;
            values.insert(name, (value.span().start, value.get_ref()));
        }
        Ok(Fields { file, at, values })
    }

    fn wrong(&self, key: &str, message: impl Into<String>) -> Failure {
        let at = self.values.get(key).map_or(self.at, |(at, _)| *at);
        self.file.wrong(at, format!("{key}: {}", message.into()))
    }

    fn text(&self, key: &str) -> Result<Option<String>, Failure> {
        match self.values.get(key) {
            None => Ok(None),
            Some((_, DeValue::String(text))) => Ok(Some(text.to_string())),
            Some(_) => Err(self.wrong(key, "a text in quotation marks is expected")),
        }
    }

    fn texts(&self, key: &str) -> Result<Vec<String>, Failure> {
        let wrong = || self.wrong(key, "a list of texts is expected: [\"one\", \"two\"]");
        match self.values.get(key) {
            None => Ok(Vec::new()),
            Some((_, DeValue::Array(items))) => items
                .iter()
                .map(|item| match item.get_ref() {
                    DeValue::String(text) => Ok(text.to_string()),
                    _ => Err(wrong()),
                })
                .collect(),
            Some(_) => Err(wrong()),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, Failure> {
        match self.values.get(key) {
            None => Ok(None),
            Some((_, DeValue::Boolean(flag))) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(key, "true or false is expected")),
        }
    }

    /// A number as it is written, so that no digit is lost.
    fn digits(&self, key: &str) -> Result<Option<String>, Failure> {
        match self.values.get(key) {
            None => Ok(None),
            Some((_, DeValue::Integer(number))) if number.radix() == 10 => Ok(Some(number.as_str().replace('_', ""))),
            Some((_, DeValue::Float(number))) => Ok(Some(number.as_str().replace('_', ""))),
            Some(_) => Err(self.wrong(key, "a number is expected")),
        }
    }

    fn whole<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, Failure> {
        let digits = self.digits(key)?;
        digits.map(|digits| digits.parse().map_err(|_| self.wrong(key, "a whole number is expected"))).transpose()
    }

    fn micros(&self, key: &str) -> Result<Option<u64>, Failure> {
        let digits = self.digits(key)?;
        digits.map(|digits| service::micros(&digits).map_err(|message| self.wrong(key, message))).transpose()
    }
}

fn pool(file: &File<'_>, at: usize, name: String, table: &DeTable<'_>) -> Result<DeclaredPool, Failure> {
    let mut known = vec!["core_hour", "gpu_hour"];
    if name != LOCAL_POOL {
        known.extend(["cores", "memory_mib", "gpus", "folder", "programs", "partition", "account", "qos", "minutes"]);
        known.extend(["gres", "options"]);
    }
    let fields = Fields::new(file, at, table, &known, "field of this pool")?;
    let price =
        ComputePrice { core_hour_micros: fields.micros("core_hour")?, gpu_hour_micros: fields.micros("gpu_hour")? };
    let place = if name == LOCAL_POOL { None } else { Some(place(&fields)?) };
    Ok(DeclaredPool { name, price, place })
}

/// A share of this machine, or Slurm where a shared folder is named.
fn place(fields: &Fields<'_, '_>) -> Result<PoolPlace, Failure> {
    let cores = fields.whole("cores")?.ok_or_else(|| fields.wrong("cores", "say how many cores it has"))?;
    let Some(folder) = fields.text("folder")? else {
        let slurm = ["programs", "partition", "account", "qos", "minutes", "gres", "options"];
        if let Some(key) = slurm.into_iter().find(|key| fields.values.contains_key(key)) {
            return Err(fields.wrong(key, "this is for Slurm, which needs folder: one that all nodes have"));
        }
        let memory_mib: u64 = fields
            .whole("memory_mib")?
            .ok_or_else(|| fields.wrong("memory_mib", "say how much of this machine's memory it has"))?;
        let memory_bytes = memory_mib.saturating_mul(1 << 20);
        return Ok(PoolPlace::Share(Share { cores, memory_bytes, gpus: fields.texts("gpus")? }));
    };
    if fields.values.contains_key("gpus") {
        return Err(fields.wrong("gpus", "GPUs of Slurm are asked for with gres, for example \"gpu:1\""));
    }
    let place = SlurmPlace {
        folder,
        programs: fields.text("programs")?,
        partition: fields.text("partition")?,
        account: fields.text("account")?,
        qos: fields.text("qos")?,
        minutes: fields.whole("minutes")?,
        cores,
        memory_mib: fields.whole("memory_mib")?,
        gres: fields.text("gres")?,
        options: fields.texts("options")?,
    };
    place.check().map_err(|(field, message)| fields.wrong(field, message))?;
    Ok(PoolPlace::Slurm(Box::new(place)))
}

fn alias(file: &File<'_>, at: usize, name: String, table: &DeTable<'_>) -> Result<DeclaredAlias, Failure> {
    let fields = Fields::new(file, at, table, &["version", "gate"], "field of an alias")?;
    if !name.contains(':') {
        return Err(file.wrong(at, format!("an alias is written [aliases.\"MODEL:ALIAS\"], not {name:?}")));
    }
    let gate = fields.text("gate")?;
    if let Some(gate) = &gate {
        Gate::read(gate).map_err(|failure| fields.wrong("gate", failure.message_en))?;
    }
    Ok(DeclaredAlias { name, version: fields.text("version")?, gate })
}

fn service(file: &File<'_>, at: usize, name: String, table: &DeTable<'_>) -> Result<DeclaredService, Failure> {
    let is_elsewhere = table.keys().any(|key| key.get_ref().as_ref() == "url");
    let mut known = vec!["slots", "context_tokens", "price_in", "price_cached", "price_out", "on"];
    known.extend(if is_elsewhere {
        ["url", "model", "key_env", "plain_http"]
    } else {
        ["version", "pool", "keep", "url"]
    });
    let fields = Fields::new(file, at, table, &known, "field of this service")?;
    let upstream = if is_elsewhere { Some(upstream(&fields)?) } else { None };
    let version = fields.text("version")?.unwrap_or_default();
    if upstream.is_none() && !version.contains([':', '@']) {
        let message =
            "say what it serves: MODEL:ALIAS that it follows, or NAME@NUMBER; or url and model of a server elsewhere";
        return Err(fields.wrong("version", message));
    }
    let keep = match fields.values.get("keep") {
        None => Keep::Ready,
        Some((_, DeValue::String(text))) => service::keep(text).map_err(|message| fields.wrong("keep", message))?,
        Some(_) => match fields.whole("keep")? {
            Some(minutes) if minutes > 0 => Keep::Minutes(minutes),
            _ => return Err(fields.wrong("keep", "\"ready\", \"pinned\" or a number of minutes is expected")),
        },
    };
    Ok(DeclaredService {
        name,
        version,
        upstream,
        slots: fields.whole("slots")?.unwrap_or(0),
        context_tokens: fields.whole("context_tokens")?.unwrap_or(0),
        price: Price {
            input_micros: fields.micros("price_in")?,
            cached_micros: fields.micros("price_cached")?,
            output_micros: fields.micros("price_out")?,
        },
        keep,
        on: fields.flag("on")?.unwrap_or(true),
        pool: fields.text("pool")?.unwrap_or_else(|| LOCAL_POOL.to_owned()),
    })
}

/// A server elsewhere. The key is in the environment: it is never in a file.
fn upstream(fields: &Fields<'_, '_>) -> Result<DeclaredUpstream, Failure> {
    let key = match fields.text("key_env")? {
        None => None,
        Some(name) => match std::env::var(&name) {
            Ok(key) if !key.is_empty() => Some(Secret(key)),
            _ => {
                let message = format!(
                    "there is no {name} in the environment; set it to the key, or leave key_env out to keep the one that is kept"
                );
                return Err(fields.wrong("key_env", message));
            }
        },
    };
    let model = fields.text("model")?.ok_or_else(|| fields.wrong("model", "say what `model` says to the server"))?;
    let (url, plain_http) = (fields.text("url")?.unwrap_or_default(), fields.text("plain_http")?.unwrap_or_default());
    let wish = UpstreamWish { url, model, key, plain_http };
    let address = wish.check().map_err(|failure| {
        let field = if failure.place == "key" { "key_env" } else { &failure.place };
        fields.wrong(field, failure.message_en)
    })?;
    let is_open = !address.secure && !address.is_loopback();
    // As the daemon keeps it, so that a second time changes nothing.
    let plain_http = if is_open { address.host.clone() } else { String::new() };
    Ok(DeclaredUpstream { url: Address::to_string(&address), model: wish.model, plain_http, key: wish.key })
}

fn application(file: &File<'_>, at: usize, name: String, table: &DeTable<'_>) -> Result<DeclaredApplication, Failure> {
    let known =
        ["title", "services", "priority", "requests_per_minute", "tokens_per_minute", "parallel", "monthly", "prepaid"];
    let fields = Fields::new(file, at, table, &known, "field of an application")?;
    let priority = fields.text("priority")?.unwrap_or_else(|| Priority::default().word().to_owned());
    let priority = [Priority::Low, Priority::Normal, Priority::High].into_iter().find(|known| known.word() == priority);
    let prepaid = fields.flag("prepaid")?.unwrap_or(false);
    let budget = match fields.digits("monthly")? {
        Some(_) if prepaid => return Err(fields.wrong("monthly", "a budget is monthly or prepaid, not both")),
        Some(digits) => {
            BudgetKind::Monthly(budget::amount_of(&digits).map_err(|message| fields.wrong("monthly", message))?)
        }
        None if prepaid => BudgetKind::Prepaid,
        None => BudgetKind::None,
    };
    let mut services = fields.texts("services")?;
    services.sort();
    Ok(DeclaredApplication {
        name,
        title: fields.text("title")?.unwrap_or_default(),
        services,
        limits: Limits {
            requests_per_minute: fields.whole("requests_per_minute")?,
            tokens_per_minute: fields.whole("tokens_per_minute")?,
            parallel: fields.whole("parallel")?,
        },
        budget,
        priority: priority.ok_or_else(|| fields.wrong("priority", "low, normal or high is expected"))?,
    })
}

fn guard(file: &File<'_>, at: usize, name: String, table: &DeTable<'_>) -> Result<DeclaredGuard, Failure> {
    let known = ["words", "patterns", "personal", "on", "act", "services", "applications"];
    let fields = Fields::new(file, at, table, &known, "field of a guard")?;
    let mut kinds = Vec::new();
    for word in fields.texts("personal")? {
        let all = PiiKind::ALL.map(PiiKind::word).join(", ");
        kinds.push(PiiKind::of(&word).ok_or_else(|| fields.wrong("personal", format!("{word:?} is none of {all}")))?);
    }
    let on = fields.texts("on")?;
    if let Some(word) = on.iter().find(|word| !["input", "output"].contains(&word.as_str())) {
        return Err(fields.wrong("on", format!("{word:?} is neither input nor output")));
    }
    let act = fields.text("act")?.unwrap_or_else(|| GuardAct::Mask.word().to_owned());
    let act = [GuardAct::Mask, GuardAct::Refuse, GuardAct::Flag].into_iter().find(|known| known.word() == act);
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let spec = GuardSpec {
        words: fields.texts("words")?,
        patterns: fields.texts("patterns")?,
        kinds,
        input: on.is_empty() || on.iter().any(|word| word == "input"),
        output: on.is_empty() || on.iter().any(|word| word == "output"),
        act: act.ok_or_else(|| fields.wrong("act", "mask, refuse or flag is expected"))?,
        services: sorted(fields.texts("services")?),
        applications: sorted(fields.texts("applications")?),
    };
    if spec.words.is_empty() && spec.patterns.is_empty() && spec.kinds.is_empty() {
        return Err(fields.wrong("words", "say what it looks for: words, patterns or personal"));
    }
    Ok(DeclaredGuard { name, spec })
}

fn hook(file: &File<'_>, at: usize, name: String, table: &DeTable<'_>) -> Result<DeclaredHook, Failure> {
    let fields = Fields::new(file, at, table, &["on", "url", "command", "timeout_s"], "field of a hook")?;
    let mut on = Vec::new();
    for word in fields.texts("on")? {
        on.push(hook::kind(&word).map_err(|failure| fields.wrong("on", failure.message_en))?);
    }
    if on.is_empty() {
        return Err(fields.wrong("on", "say of what it is told: [\"job_failed\", \"service_down\"]"));
    }
    on.sort_unstable();
    on.dedup();
    let command = fields.texts("command")?;
    let target = match fields.text("url")? {
        Some(_) if !command.is_empty() => return Err(fields.wrong("url", "a hook has a url or a command, not both")),
        Some(url) => HookTarget::Webhook(url),
        None if command.is_empty() => return Err(fields.wrong("url", "say how it is told: url or command")),
        None => HookTarget::Command(command),
    };
    let timeout_ms = fields.whole::<u32>("timeout_s")?.unwrap_or(0).saturating_mul(1000);
    Ok(DeclaredHook { name, on, target, timeout_ms })
}

/// A standard. Its fields are nested, so they are read by their form; a mistake is told with the place of its name.
fn standard(file: &File<'_>, at: usize, name: String) -> Result<DeclaredStandard, Failure> {
    let wrong = |message: String| file.wrong(at, format!("standard {name}: {message}"));
    let table: toml::Table = toml::from_str(file.text).map_err(|error| wrong(error.message().to_owned()))?;
    let section = table.get("standards").and_then(|section| section.get(&name)).cloned();
    let section = section.ok_or_else(|| wrong("a table is expected".into()))?;
    let fields: StandardFile =
        section.try_into().map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
    let spec = fields.spec().map_err(wrong)?;
    Ok(DeclaredStandard { name, spec })
}

/// An amount of money with all its digits.
pub(super) fn amount_text(amount: Pico) -> String {
    let (units, fraction) = (amount.0 / Pico::PER_UNIT, (amount.0 % Pico::PER_UNIT).abs());
    let fraction = format!("{fraction:012}");
    match fraction.trim_end_matches('0') {
        "" => units.to_string(),
        fraction => format!("{units}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_named_with_its_place_and_the_nearest_that_is() {
        let said = |text: &str| {
            let failure = read("hone.toml", text).unwrap_err();
            format!("{} {}", failure.place, failure.message_en)
        };
        assert_eq!(
            said("[services.desk]\nversion = \"support:live\"\nslot = 4\n"),
            "hone.toml:3:1 \"slot\" is no field of this service; did you mean slots?"
        );
        assert_eq!(said("[service.desk]\n"), "hone.toml:1:2 \"service\" is no section; did you mean services?");
        assert_eq!(
            said("[pools.local]\nprice = 3\n"),
            "hone.toml:2:1 \"price\" is no field of this pool; there are core_hour, gpu_hour"
        );
        assert_eq!(
            said("[aliases.\"support:live\"]\ngate = \"score(exam) = 1\"\n"),
            "hone.toml:2:8 gate: column 13: a comparison needs >=, <=, > or < here; found \"= 1\""
        );
        assert!(said("[hooks.ops]\nurl = \"https://a\"\n").contains("hone.toml:1:8 on: say of what"));
        assert!(said("[applications.shop]\nmonthly = \"5\"\n").contains("hone.toml:2:11 monthly: a number"));
        assert!(said("[services.a]\nversion = \"b:c\"\nkeep = 0\n").contains("hone.toml:3:8 keep"));
        assert!(said("[services.a]\nslots = 1\n").contains("hone.toml:1:11 version: say what it serves"));
        assert!(said("[services\n").starts_with("hone.toml:1:"));
        let elsewhere = "[services.a]\nurl = \"https://up.example\"\n";
        assert!(said(elsewhere).contains("hone.toml:1:11 model: say what"));
        assert!(
            said(&format!("{elsewhere}version = \"a@1\"\n")).contains("3:1 \"version\" is no field of this service")
        );
        let unset = said(&format!("{elsewhere}model = \"m\"\nkey_env = \"HONE_TEST_NO_SUCH_KEY\"\n"));
        assert!(unset.contains("hone.toml:4:11 key_env: there is no HONE_TEST_NO_SUCH_KEY"), "{unset}");
        assert!(said("[services.a]\nurl = \"http://gpu.example:8000\"\nmodel = \"m\"\n").contains("plain_http: "));
        assert!(said("[guards.a]\npersonal = [\"mail\"]\n").contains("2:12 personal: \"mail\" is none of email, "));
        assert!(said("[guards.a]\nact = \"mask\"\n").contains("1:9 words: say what it looks for"));
        assert!(said("[guards.a]\nwords = [\"b\"]\non = [\"inputs\"]\n").contains("3:6 on: \"inputs\" is neither"));
    }

    #[test]
    fn letters_apart() {
        assert_eq!((distance("slot", "slots"), distance("", "ab"), distance("kitten", "sitting")), (1, 2, 3));
    }

    #[test]
    fn money_keeps_every_digit() {
        assert_eq!(amount_text(Pico(25 * Pico::PER_UNIT)), "25");
        assert_eq!(amount_text(Pico(1)), "0.000000000001");
        let file = "[applications.a]\nmonthly = 0.100000000001\n[pools.local]\ncore_hour = 0.05\n";
        let declared = read("f", file).unwrap();
        assert_eq!(declared.applications[0].budget, BudgetKind::Monthly(Pico(100_000_000_001)));
        assert_eq!(declared.pools[0].price.core_hour_micros, Some(50_000));
    }
}
