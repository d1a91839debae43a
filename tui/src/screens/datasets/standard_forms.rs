//! The forms of a standard and of a generation, and what they say. Never here: asking.

use hone_protocol::dataset::Shape;
use hone_protocol::form::FieldKind;
use hone_protocol::generation::{GENERATED_MAX, GenerateMethod, GenerateSpec};
use hone_protocol::guard::PiiKind;
use hone_protocol::standard::{Bounds, Criterion, LANGUAGES, StandardRecord, StandardSpec};

use crate::screens::View;
use crate::screens::models::as_name;
use crate::widgets::form::{Form, FormField, Rule, Stride};

const SHAPES: &[&str] = &["chat", "text", "preference", "prompt"];
const METHODS: &[&str] = &["self_instruct", "paraphrase", "answers", "documents", "translate"];
/// Longest piece of a document, and what two pieces share, in characters: as the command line has it.
const CHUNK_CHARS: u32 = 1500;
const OVERLAP_CHARS: u32 = 200;

/// Bounds as they are typed: `10-300`, `10-`, `-300`.
pub(super) fn range(bounds: Bounds) -> String {
    let end = |end: Option<u32>| end.map_or(String::new(), |end| end.to_string());
    if bounds.is_open() { String::new() } else { format!("{}-{}", end(bounds.min), end(bounds.max)) }
}

fn bounds(typed: &str) -> Option<Bounds> {
    let end = |end: &str| match end.trim() {
        "" => Some(None),
        digits => digits.parse().ok().map(Some),
    };
    match typed.split_once('-') {
        _ if typed.is_empty() => Some(Bounds::default()),
        Some((min, max)) => Some(Bounds { min: end(min)?, max: end(max)? }),
        None => end(typed).map(|exact| Bounds { min: exact, max: exact }),
    }
}

/// Criteria as they are typed: `kind x1 1-5: It is kind.; true: …`.
fn criteria_text(criteria: &[Criterion]) -> String {
    let one = |c: &Criterion| format!("{} x{} 1-{}: {}", c.name, c.weight, c.scale, c.about);
    criteria.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn criteria(typed: &str) -> Result<Vec<Criterion>, String> {
    let parts = typed.split([';', '；']).map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| criterion(part).ok_or_else(|| part.to_owned())).collect()
}

fn criterion(part: &str) -> Option<Criterion> {
    let (head, about) = part.split_once([':', '：'])?;
    let mut words = head.split_whitespace();
    let mut made = Criterion { name: words.next()?.to_owned(), about: about.trim().to_owned(), weight: 1, scale: 5 };
    for word in words {
        match (word.strip_prefix('x'), word.strip_prefix("1-")) {
            (Some(weight), _) => made.weight = weight.parse().ok()?,
            (_, Some(scale)) => made.scale = scale.parse().ok()?,
            _ => return None,
        }
    }
    Some(made)
}

/// The form of a standard; of a new one where there is none yet.
pub(super) fn standard_form(standard: Option<&StandardRecord>) -> Form {
    let section = "datasets.standard";
    let checks = "datasets.checks";
    let text = |key, section, label, about| FormField::text(key, section, label, about);
    let mut languages: Vec<&'static str> = vec!["any"];
    languages.extend(LANGUAGES);
    let mut form = Form::new(vec![
        text("name", section, "field.name", "field.standard_name.about").rule(Rule::Name),
        text("title", section, "field.standard_title", "field.standard_title.about"),
        text("shape", section, "datasets.shape", "field.standard_shape.about").of(
            FieldKind::Choice(SHAPES),
            Stride::Add(1.0),
            SHAPES[0],
        ),
        text("about", section, "field.standard_about", "field.standard_about.about"),
        text("criteria", section, "datasets.rubric", "field.standard_criteria.about"),
        text("prompt_chars", checks, "datasets.prompt_chars", "field.prompt_chars.about"),
        text("answer_chars", checks, "datasets.answer_chars", "field.answer_chars.about"),
        text("turns", checks, "datasets.turns", "field.turns.about"),
        text("must_match", checks, "datasets.must_match", "field.must_match.about"),
        text("must_not_match", checks, "datasets.must_not_match", "field.must_not_match.about"),
        text("schema", checks, "datasets.schema", "field.standard_schema.about"),
        text("language", checks, "datasets.language", "field.standard_language.about"),
        text("similarity_max_percent", checks, "datasets.similarity", "field.similarity.about")
            .rule(Rule::WholeOrEmpty),
        text("pii", checks, "datasets.pii", "field.standard_pii.about"),
        text("system", checks, "field.standard_system", "field.standard_system.about").of(
            FieldKind::Choice(&["any", "yes", "no"]),
            Stride::Add(1.0),
            "any",
        ),
    ]);
    form.offer("language", languages.into_iter().map(str::to_owned).collect());
    let Some(standard) = standard else { return form };
    let (spec, own) = (&standard.spec, &standard.spec.checks);
    form.set("name", standard.name.clone());
    form.set("title", spec.title.clone());
    form.set("shape", spec.shape.word());
    form.set("about", spec.about.clone());
    form.set("criteria", criteria_text(&spec.criteria));
    form.set("prompt_chars", range(own.prompt_chars));
    form.set("answer_chars", range(own.answer_chars));
    form.set("turns", range(own.turns));
    form.set("must_match", own.must_match.first().cloned().unwrap_or_default());
    form.set("must_not_match", own.must_not_match.first().cloned().unwrap_or_default());
    form.set("schema", own.schema().map_or(String::new(), |schema| schema.0.to_string()));
    form.set("language", own.language.clone());
    form.set("similarity_max_percent", own.similarity_max_percent.map_or(String::new(), |most| most.to_string()));
    form.set("pii", own.pii.iter().map(|kind| kind.word()).collect::<Vec<_>>().join(", "));
    let system = own.system.map_or("any", |wanted| if wanted { "yes" } else { "no" });
    form.set("system", system);
    form
}

/// What the form says; else the field that cannot be understood, and the word. Examples, and expressions beyond the first of each kind, stay as they were.
pub(super) fn standard_spec(form: &Form, before: Option<StandardSpec>) -> Result<StandardSpec, (&'static str, String)> {
    let mut spec = before.unwrap_or_else(|| StandardSpec::new(Shape::Chat));
    let text = |key| form.value(key).to_owned();
    let range = |key| bounds(form.value(key)).ok_or_else(|| (key, text(key)));
    spec.title = text("title");
    spec.about = text("about");
    let shapes = [Shape::Chat, Shape::Text, Shape::Preference, Shape::Prompt];
    spec.shape = shapes.into_iter().find(|shape| shape.word() == form.value("shape")).unwrap_or(Shape::Chat);
    spec.criteria = criteria(form.value("criteria")).map_err(|word| ("criteria", word))?;
    spec.checks.prompt_chars = range("prompt_chars")?;
    spec.checks.answer_chars = range("answer_chars")?;
    spec.checks.turns = range("turns")?;
    for (key, list) in
        [("must_match", &mut spec.checks.must_match), ("must_not_match", &mut spec.checks.must_not_match)]
    {
        let typed = Some(text(key)).filter(|typed| !typed.is_empty());
        let rest: Vec<String> = list.drain(..).skip(1).collect();
        list.extend(typed.into_iter().chain(rest));
    }
    let typed = Some(form.value("schema")).filter(|typed| !typed.is_empty()).unwrap_or("null");
    let schema = serde_json::from_str(typed).map_err(|_| ("schema", typed.to_owned()))?;
    spec.checks.schema = hone_protocol::value::Json(schema);
    spec.checks.language = Some(text("language")).filter(|language| language != "any").unwrap_or_default();
    spec.checks.similarity_max_percent = form.number("similarity_max_percent");
    let kinds = form.value("pii").split([',', '，', '、', ' ']).map(str::trim).filter(|word| !word.is_empty());
    let kind = |word: &str| PiiKind::of(word).ok_or_else(|| ("pii", word.to_owned()));
    spec.checks.pii = kinds.map(kind).collect::<Result<_, _>>()?;
    spec.checks.system = match form.value("system") {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    };
    Ok(spec)
}

/// The form of a generation to a standard.
pub(super) fn generate_form(view: &View<'_>, standard: &StandardRecord) -> Form {
    let services: Vec<String> = view.mirror.services().iter().map(|service| service.record.name.clone()).collect();
    let datasets: Vec<String> = view.mirror.datasets().iter().map(|d| d.record.name.clone()).collect();
    let payers: Vec<String> = view.mirror.applications().iter().map(|a| a.record.name.clone()).collect();
    let service = services.first().cloned().unwrap_or_default();
    let source = datasets.first().cloned().unwrap_or_default();
    let section = "datasets.generate";
    let text = |key, label, about| FormField::text(key, section, label, about);
    let whole = |key, label, about, high, stride, default: &str| {
        FormField::text(key, section, label, about).of(FieldKind::Whole { low: 0, high }, stride, default)
    };
    let mut method = text("method", "datasets.method", "field.method_generate.about");
    method = method.of(FieldKind::Choice(METHODS), Stride::Add(1.0), METHODS[0]);
    let mut into = text("into", "field.translate_into", "field.translate_into.about");
    into.only = &[("method", &["translate"])];
    Form::new(vec![
        text("standard", "word.standard", "field.generate_standard.about").filled(standard.name.clone(), Vec::new()),
        text("service", "word.service", "field.generate_service.about")
            .rule(Rule::OneOf)
            .filled(service, services.clone()),
        method,
        text("source", "field.generate_source", "field.generate_source.about")
            .rule(Rule::OneOfOrEmpty)
            .filled(source, datasets),
        into,
        text("name", "field.name", "field.data_name.about")
            .rule(Rule::Name)
            .filled(as_name(&format!("{}-made", standard.name)), Vec::new()),
        whole(
            "count",
            "field.generate_count",
            "field.generate_count.about",
            u64::from(GENERATED_MAX),
            Stride::Add(10.0),
            "20",
        ),
        whole("tokens_max", "field.answer_tokens", "field.batch_tokens.about", 1_000_000, Stride::Add(64.0), "256"),
        text("temperature", "field.temperature", "field.temperature.about").of(
            FieldKind::Real { low: 0.0, high: 2.0 },
            Stride::Add(0.1),
            "0.8",
        ),
        whole("similarity_max_percent", "datasets.similarity", "field.similarity.about", 100, Stride::Add(5.0), "70"),
        text("judge", "field.judge", "field.judge.about").rule(Rule::OneOfOrEmpty).filled("", services),
        whole("judge_least_percent", "field.judge_least", "field.judge_least.about", 100, Stride::Add(5.0), "60"),
        whole("requests_max", "field.requests_max", "field.requests_max.about", 200_000, Stride::Add(50.0), "0"),
        whole(
            "total_tokens_max",
            "field.total_tokens_max",
            "field.total_tokens_max.about",
            1 << 40,
            Stride::Add(10_000.0),
            "0",
        ),
        text("payer", "batch.payer", "field.batch_payer.about").rule(Rule::OneOf).filled("owner", payers),
    ])
}

/// What the form asks for.
pub(super) fn generate_spec(form: &Form) -> GenerateSpec {
    let method = match form.value("method") {
        "paraphrase" => GenerateMethod::Paraphrase,
        "answers" => GenerateMethod::Answers,
        "documents" => GenerateMethod::Documents { chunk_chars: CHUNK_CHARS, overlap_chars: OVERLAP_CHARS },
        "translate" => GenerateMethod::Translate { language: form.value("into").to_owned() },
        _ => GenerateMethod::SelfInstruct,
    };
    GenerateSpec {
        standard: form.value("standard").to_owned(),
        service: form.value("service").to_owned(),
        name: form.value("name").to_owned(),
        method,
        source: form.value("source").to_owned(),
        count: form.number("count").unwrap_or(20),
        seed: 42,
        temperature: form.number("temperature").unwrap_or(0.8),
        top_p: 0.95,
        tokens_max: form.number("tokens_max").unwrap_or(256),
        similarity_max_percent: form.number("similarity_max_percent").unwrap_or(70),
        judge: form.value("judge").to_owned(),
        judge_least_percent: form.number("judge_least_percent").unwrap_or(60),
        requests_max: form.number("requests_max").unwrap_or(0),
        total_tokens_max: form.number("total_tokens_max").unwrap_or(0),
        payer: form.value("payer").to_owned(),
        at_once: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standard_comes_out_of_its_form_as_it_went_in() {
        let mut standard = crate::sample::standard();
        standard.spec.checks.must_match = vec!["a".into(), "b".into()];
        standard.spec.checks.system = Some(false);
        let form = standard_form(Some(&standard));
        assert_eq!(standard_spec(&form, Some(standard.spec.clone())).unwrap(), standard.spec);
        let empty = standard_spec(&standard_form(None), None).unwrap();
        assert_eq!(empty, StandardSpec::new(Shape::Chat));
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        let said = |key: &str, typed: &str| {
            let mut form = standard_form(None);
            form.set(key, typed);
            standard_spec(&form, None).unwrap_err()
        };
        assert_eq!(said("turns", "1-x"), ("turns", "1-x".into()));
        assert_eq!(said("criteria", "kind: It is.; true x"), ("criteria", "true x".into()));
        assert_eq!(said("pii", "email, face"), ("pii", "face".into()));
        assert_eq!(bounds("5-"), Some(Bounds { min: Some(5), max: None }));
        assert_eq!(bounds("5"), Some(Bounds { min: Some(5), max: Some(5) }));
    }
}
