//! What is declared, as TOML. The same fields are shown where a plan says what changes. Never here: reading.

use hone_protocol::application::BudgetKind;
use hone_protocol::declared::{
    Declared, DeclaredAlias, DeclaredApplication, DeclaredGuard, DeclaredHook, DeclaredPool, DeclaredService,
    DeclaredStandard,
};
use hone_protocol::guard::GuardAct;
use hone_protocol::hook::HookTarget;
use hone_protocol::pool::{LOCAL_POOL, PoolPlace, Priority, SlurmPlace};
use hone_protocol::service::Keep;

use super::super::standard_file;
use crate::print;

/// Fields of a thing with their values as TOML; what is as it is without being said is left out.
pub(super) type Fields = Vec<(&'static str, String)>;

/// Something that stands under a name in a section of the file.
pub(super) trait Thing {
    /// The section.
    const SECTION: &'static str;
    /// The word for one of them.
    const WORD: &'static str;
    /// Its name.
    fn name(&self) -> &str;
    /// Its fields.
    fn fields(&self) -> Fields;
}

/// A text as TOML.
pub(super) fn text(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn texts<'t>(values: impl IntoIterator<Item = &'t str>) -> String {
    format!("[{}]", values.into_iter().map(text).collect::<Vec<_>>().join(", "))
}

fn price(fields: &mut Fields, key: &'static str, micros: Option<u64>) {
    if micros.is_some() {
        fields.push((key, print::micros(micros)));
    }
}

impl Thing for DeclaredPool {
    const SECTION: &'static str = "pools";
    const WORD: &'static str = "pool";
    fn name(&self) -> &str {
        &self.name
    }
    fn fields(&self) -> Fields {
        let mut fields = Fields::new();
        price(&mut fields, "core_hour", self.price.core_hour_micros);
        price(&mut fields, "gpu_hour", self.price.gpu_hour_micros);
        match &self.place {
            None => {}
            Some(PoolPlace::Share(share)) => {
                fields.push(("cores", share.cores.to_string()));
                fields.push(("memory_mib", (share.memory_bytes >> 20).to_string()));
                if !share.gpus.is_empty() {
                    fields.push(("gpus", texts(share.gpus.iter().map(String::as_str))));
                }
            }
            Some(PoolPlace::Slurm(place)) => slurm(&mut fields, place),
        }
        fields
    }
}

fn slurm(fields: &mut Fields, place: &SlurmPlace) {
    fields.push(("folder", text(&place.folder)));
    fields.push(("cores", place.cores.to_string()));
    let texts_of = [
        ("programs", &place.programs),
        ("partition", &place.partition),
        ("account", &place.account),
        ("qos", &place.qos),
        ("gres", &place.gres),
    ];
    fields.extend(texts_of.into_iter().filter_map(|(key, value)| Some((key, text(value.as_ref()?)))));
    fields.extend(place.minutes.map(|minutes| ("minutes", minutes.to_string())));
    fields.extend(place.memory_mib.map(|memory| ("memory_mib", memory.to_string())));
    if !place.options.is_empty() {
        fields.push(("options", texts(place.options.iter().map(String::as_str))));
    }
}

impl Thing for DeclaredAlias {
    const SECTION: &'static str = "aliases";
    const WORD: &'static str = "alias";
    fn name(&self) -> &str {
        &self.name
    }
    fn fields(&self) -> Fields {
        let version = self.version.iter().map(|version| ("version", text(version)));
        version.chain(self.gate.iter().map(|gate| ("gate", text(gate)))).collect()
    }
}

impl Thing for DeclaredService {
    const SECTION: &'static str = "services";
    const WORD: &'static str = "service";
    fn name(&self) -> &str {
        &self.name
    }
    fn fields(&self) -> Fields {
        let mut fields = match &self.upstream {
            None => vec![("version", text(&self.version))],
            Some(upstream) => vec![("url", text(&upstream.url)), ("model", text(&upstream.model))],
        };
        if let Some(upstream) = self.upstream.as_ref().filter(|upstream| !upstream.plain_http.is_empty()) {
            fields.push(("plain_http", text(&upstream.plain_http)));
        }
        for (key, number) in [("slots", self.slots), ("context_tokens", self.context_tokens)] {
            if number > 0 {
                fields.push((key, number.to_string()));
            }
        }
        price(&mut fields, "price_in", self.price.input_micros);
        price(&mut fields, "price_cached", self.price.cached_micros);
        price(&mut fields, "price_out", self.price.output_micros);
        match self.keep {
            Keep::Ready => {}
            Keep::Pinned => fields.push(("keep", text("pinned"))),
            Keep::Minutes(minutes) => fields.push(("keep", minutes.to_string())),
        }
        if self.pool != LOCAL_POOL {
            fields.push(("pool", text(&self.pool)));
        }
        if !self.on {
            fields.push(("on", "false".to_owned()));
        }
        fields
    }
}

impl Thing for DeclaredApplication {
    const SECTION: &'static str = "applications";
    const WORD: &'static str = "application";
    fn name(&self) -> &str {
        &self.name
    }
    fn fields(&self) -> Fields {
        let mut fields = Fields::new();
        if !self.title.is_empty() {
            fields.push(("title", text(&self.title)));
        }
        if !self.services.is_empty() {
            fields.push(("services", texts(self.services.iter().map(String::as_str))));
        }
        if self.priority != Priority::default() {
            fields.push(("priority", text(self.priority.word())));
        }
        let limits = [
            ("requests_per_minute", self.limits.requests_per_minute),
            ("tokens_per_minute", self.limits.tokens_per_minute),
            ("parallel", self.limits.parallel),
        ];
        fields.extend(limits.into_iter().filter_map(|(key, limit)| Some((key, limit?.to_string()))));
        match self.budget {
            BudgetKind::None => {}
            BudgetKind::Monthly(amount) => fields.push(("monthly", super::read::amount_text(amount))),
            BudgetKind::Prepaid => fields.push(("prepaid", "true".to_owned())),
        }
        fields
    }
}

impl Thing for DeclaredGuard {
    const SECTION: &'static str = "guards";
    const WORD: &'static str = "guard";
    fn name(&self) -> &str {
        &self.name
    }
    fn fields(&self) -> Fields {
        let spec = &self.spec;
        let kinds: Vec<String> = spec.kinds.iter().map(|kind| kind.word().to_owned()).collect();
        let lists = [("words", &spec.words), ("patterns", &spec.patterns), ("personal", &kinds)];
        let places = [("services", &spec.services), ("applications", &spec.applications)];
        let listed = |list: &[(&'static str, &Vec<String>)]| -> Fields {
            let said = list.iter().filter(|(_, values)| !values.is_empty());
            said.map(|(key, values)| (*key, texts(values.iter().map(String::as_str)))).collect()
        };
        let mut fields = listed(&lists);
        match (spec.input, spec.output) {
            (true, false) => fields.push(("on", texts(["input"]))),
            (false, true) => fields.push(("on", texts(["output"]))),
            _ => {}
        }
        if spec.act != GuardAct::Mask {
            fields.push(("act", text(spec.act.word())));
        }
        fields.extend(listed(&places));
        fields
    }
}

impl Thing for DeclaredHook {
    const SECTION: &'static str = "hooks";
    const WORD: &'static str = "hook";
    fn name(&self) -> &str {
        &self.name
    }
    fn fields(&self) -> Fields {
        let mut fields = vec![("on", texts(self.on.iter().map(|kind| kind.word())))];
        match &self.target {
            HookTarget::Command(words) => fields.push(("command", texts(words.iter().map(String::as_str)))),
            HookTarget::Webhook(url) => fields.push(("url", text(url))),
        }
        if self.timeout_ms > 0 {
            fields.push(("timeout_s", (self.timeout_ms / 1000).to_string()));
        }
        fields
    }
}

impl Thing for DeclaredStandard {
    const SECTION: &'static str = "standards";
    const WORD: &'static str = "standard";
    fn name(&self) -> &str {
        &self.name
    }
    fn fields(&self) -> Fields {
        standard_file::fields(&self.spec)
    }
}

/// The whole file.
pub(super) fn write(declared: &Declared) -> String {
    let mut out = String::from(
        "# What hone export wrote; hone apply -f FILE makes it so. Keys and payments are never in a file.\n",
    );
    section(&mut out, &declared.pools);
    section(&mut out, &declared.aliases);
    section(&mut out, &declared.services);
    section(&mut out, &declared.applications);
    section(&mut out, &declared.guards);
    section(&mut out, &declared.hooks);
    section(&mut out, &declared.standards);
    out
}

fn section<T: Thing>(out: &mut String, things: &[T]) {
    for thing in things {
        let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let bare = thing.name().chars().all(is_bare);
        let name = if bare { thing.name().to_owned() } else { text(thing.name()) };
        out.push_str(&format!("\n[{}.{name}]\n", T::SECTION));
        for (key, value) in thing.fields() {
            out.push_str(&format!("{key} = {value}\n"));
        }
    }
}
