//! JSON schemas as grammars: what the grammar of an answer can say of a schema, it says; the rest is checked when the
//! answer is whole; keywords that are neither are refused by name. Bounded in size, depth and repetitions, because
//! schemas come from strangers.
//!
//! What never lives here: the check itself (see `grammar`), tokens.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::pattern::{self, quoted};

/// Longest schema in bytes of JSON; a longer one is refused.
pub const SCHEMA_BYTES_MAX: usize = 64 * 1024;
/// Most rules that a schema may become.
const RULES_MAX: usize = 4096;
/// Deepest nesting of schemas, references followed.
const DEPTH_MAX: usize = 48;
/// Most entries of one `enum`.
const ENUM_MAX: usize = 1024;
/// Longest string length and most items that the grammar counts; beyond, the check at the end does.
const COUNTED_MAX: u64 = pattern::COUNT_MAX;

/// Says nothing about what is allowed.
const ANNOTATIONS: &[&str] = &[
    "title",
    "description",
    "default",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "discriminator",
];
/// Is not said by the grammar, or not wholly, but checked when the answer is whole.
const CHECKED: &[&str] = &[
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "additionalProperties",
];
/// Is said by the grammar.
const SAID: &[&str] = &[
    "type",
    "properties",
    "required",
    "items",
    "prefixItems",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "$ref",
    "pattern",
    "format",
];

/// Why a schema was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the schema at {place} cannot be kept to: {why}")]
pub struct BadSchema {
    /// Where, as a JSON pointer from `#`.
    pub place: String,
    /// What is wrong there.
    pub why: String,
}

/// Rules that all JSON needs. A string holds no lone half of a surrogate pair and a number is finite, so that what
/// keeps to the rules can always be read.
pub(super) const BASE_RULES: &str = r#"ws ::= | " " | "\n" [ \t]{0,20}
sp ::= " "?
char ::= [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt/] | "u" ([0-9A-CE-Fa-ce-f] hex{3} | [Dd] [0-7] hex{2}))
hex ::= [0-9A-Fa-f]
string ::= "\"" char* "\""
integer ::= "-"? ("0" | [1-9] [0-9]{0,15})
number ::= "-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?
boolean ::= "true" | "false"
null ::= "null"
pair ::= string ":" sp value
object ::= "{" ws (pair ("," ws pair)*)? ws "}"
array ::= "[" ws (value ("," ws value)*)? ws "]"
value ::= object | array | string | number | boolean | null
date ::= [0-9]{4} "-" (("0" [13578] | "1" [02]) "-" (day | "29" | "30" | "31") | ("0" [469] | "11") "-" (day | "29" | "30") | "02-" day)
day ::= "0" [1-9] | "1" [0-9] | "2" [0-8]
time ::= ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? ("Z" | [+-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])
uuid ::= hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12}
"#;

/// The rules of a schema, [`BASE_RULES`] not among them, and the name of the rule that a document is.
pub(super) fn rules(schema: &Value, prefix: &str) -> Result<(String, String), BadSchema> {
    let bytes = schema.to_string().len();
    if bytes > SCHEMA_BYTES_MAX {
        return Err(BadSchema {
            place: "#".into(),
            why: format!("it has {bytes} bytes; at most {SCHEMA_BYTES_MAX} are taken"),
        });
    }
    let mut writer = Writer { root: schema, prefix, rules: Vec::new(), known: HashMap::new() };
    let name = writer.rule_of("#", schema, 0)?;
    let text = writer.rules.iter().map(|(name, body)| format!("{name} ::= {body}\n")).collect();
    Ok((text, name))
}

struct Writer<'a> {
    root: &'a Value,
    prefix: &'a str,
    rules: Vec<(String, String)>,
    /// Rules of schemas that were referred to, by their pointers.
    known: HashMap<String, String>,
}

type Made = Result<String, BadSchema>;

fn bad<T>(place: &str, why: impl Into<String>) -> Result<T, BadSchema> {
    Err(BadSchema { place: place.chars().take(200).collect(), why: why.into() })
}

impl<'a> Writer<'a> {
    fn add(&mut self, place: &str, body: String) -> Made {
        let name = self.reserve(place)?;
        self.set(&name, body);
        Ok(name)
    }

    fn reserve(&mut self, place: &str) -> Made {
        if self.rules.len() >= RULES_MAX {
            return bad(place, format!("the schema becomes more than {RULES_MAX} rules"));
        }
        let name = format!("{}{}", self.prefix, self.rules.len());
        self.rules.push((name.clone(), "\"\"".into()));
        Ok(name)
    }

    fn set(&mut self, name: &str, body: String) {
        if let Some(rule) = self.rules.iter_mut().find(|rule| rule.0 == name) {
            rule.1 = body;
        }
    }

    /// The name of a rule for a schema; the same for the same place, which is what makes recursion end.
    fn rule_of(&mut self, place: &str, schema: &'a Value, depth: usize) -> Made {
        if let Some(name) = self.known.get(place) {
            return Ok(name.clone());
        }
        let name = self.reserve(place)?;
        self.known.insert(place.to_owned(), name.clone());
        let body = self.body(place, schema, depth)?;
        self.set(&name, body);
        Ok(name)
    }

    fn body(&mut self, place: &str, schema: &'a Value, depth: usize) -> Made {
        if depth > DEPTH_MAX {
            return bad(place, format!("it is nested deeper than {DEPTH_MAX}"));
        }
        let fields = match schema {
            Value::Bool(true) => return Ok("value".into()),
            Value::Bool(false) => return bad(place, "it allows nothing"),
            Value::Object(fields) => fields,
            _ => return bad(place, "a schema is an object, true or false"),
        };
        let known = |word: &str| ANNOTATIONS.contains(&word) || CHECKED.contains(&word) || SAID.contains(&word);
        if let Some(word) = fields.keys().find(|word| !known(word)) {
            return bad(place, format!("the keyword {:?} is not supported", word.chars().take(64).collect::<String>()));
        }
        if let Some(target) = fields.get("$ref") {
            return self.reference(place, target, depth);
        }
        if let Some(value) = fields.get("const") {
            return Ok(quoted(&value.to_string()));
        }
        if let Some(values) = fields.get("enum") {
            return self.listed(place, values);
        }
        for word in ["anyOf", "oneOf"] {
            if let Some(options) = fields.get(word) {
                return self.options(&format!("{place}/{word}"), options, depth);
            }
        }
        if let Some(parts) = fields.get("allOf") {
            return self.all_of(place, fields, parts, depth);
        }
        self.typed(place, fields, depth)
    }

    fn reference(&mut self, place: &str, target: &'a Value, depth: usize) -> Made {
        let Some(pointer) = target.as_str().and_then(|t| t.strip_prefix('#')) else {
            return bad(place, "$ref must point into this schema (#/…)");
        };
        let Some(schema) = self.root.pointer(pointer) else {
            return bad(place, format!("$ref points to nothing: #{}", pointer.chars().take(100).collect::<String>()));
        };
        self.rule_of(&format!("#{pointer}"), schema, depth + 1)
    }

    fn listed(&mut self, place: &str, values: &Value) -> Made {
        match values.as_array() {
            Some(values) if (1..=ENUM_MAX).contains(&values.len()) => {
                Ok(values.iter().map(|v| quoted(&v.to_string())).collect::<Vec<_>>().join(" | "))
            }
            _ => bad(place, format!("enum must be a list of 1 to {ENUM_MAX} values")),
        }
    }

    fn options(&mut self, place: &str, options: &'a Value, depth: usize) -> Made {
        let Some(options) = options.as_array().filter(|o| !o.is_empty()) else {
            return bad(place, "it must be a list of schemas");
        };
        let mut names = Vec::new();
        for (index, option) in options.iter().enumerate() {
            names.push(self.rule_of(&format!("{place}/{index}"), option, depth + 1)?);
        }
        Ok(names.join(" | "))
    }

    /// One schema, or objects whose fields are put together.
    fn all_of(&mut self, place: &str, fields: &'a Map<String, Value>, parts: &'a Value, depth: usize) -> Made {
        let Some(parts) = parts.as_array().filter(|p| !p.is_empty()) else {
            return bad(place, "allOf must be a list of schemas");
        };
        let alone = !fields.contains_key("type") && !fields.contains_key("properties");
        if let ([only], true) = (parts.as_slice(), alone) {
            return self.rule_of(&format!("{place}/allOf/0"), only, depth + 1);
        }
        let mut members: Vec<(String, &'a Value, String)> = Vec::new();
        let mut required = Vec::new();
        self.gather(place, fields, depth, &mut members, &mut required)?;
        self.members(place, members, &required, depth)
    }

    fn gather(
        &mut self,
        place: &str,
        fields: &'a Map<String, Value>,
        depth: usize,
        members: &mut Vec<(String, &'a Value, String)>,
        required: &mut Vec<String>,
    ) -> Result<(), BadSchema> {
        if depth > DEPTH_MAX {
            return bad(place, format!("it is nested deeper than {DEPTH_MAX}"));
        }
        for (index, part) in fields.get("allOf").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let place = format!("{place}/allOf/{index}");
            let target = part.get("$ref").and_then(Value::as_str).and_then(|t| t.strip_prefix('#'));
            let part = match target {
                Some(pointer) => self.root.pointer(pointer).unwrap_or(&Value::Null),
                None => part,
            };
            let Some(part) = part.as_object() else {
                return bad(&place, "parts of allOf must be objects' schemas");
            };
            self.gather(&place, part, depth + 1, members, required)?;
        }
        let odd = ["anyOf", "oneOf", "enum", "const", "items", "pattern"];
        if fields.get("type").is_some_and(|t| t != "object") || odd.iter().any(|word| fields.contains_key(*word)) {
            return bad(place, "parts of allOf must be plain schemas of objects");
        }
        required.extend(names(place, fields.get("required"))?);
        for (name, schema) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if members.iter().any(|(other, ..)| other == name) {
                return bad(place, format!("allOf describes the property {name:?} twice"));
            }
            members.push((name.clone(), schema, format!("{place}/properties/{}", escaped(name))));
        }
        Ok(())
    }

    fn typed(&mut self, place: &str, fields: &'a Map<String, Value>, depth: usize) -> Made {
        let inferred = match fields {
            f if f.contains_key("properties") || f.contains_key("required") => Some("object"),
            f if f.contains_key("items") || f.contains_key("prefixItems") => Some("array"),
            f if f.contains_key("pattern") || f.contains_key("minLength") => Some("string"),
            _ => None,
        };
        let words: Vec<&str> = match fields.get("type") {
            None => match inferred {
                Some(word) => vec![word],
                None => return Ok("value".into()),
            },
            Some(Value::String(word)) => vec![word],
            Some(Value::Array(words)) if !words.is_empty() => words.iter().filter_map(Value::as_str).collect(),
            Some(_) => return bad(place, "type must be a word or a list of words"),
        };
        let mut bodies = Vec::new();
        for word in words {
            let body = match word {
                "object" => self.object(place, fields, depth)?,
                "array" => self.array(place, fields, depth)?,
                "string" => string(place, fields)?,
                "integer" => integer(place, fields)?,
                "number" => number(fields),
                "boolean" | "null" => word.to_owned(),
                _ => return bad(place, "type must be object, array, string, number, integer, boolean or null"),
            };
            bodies.push(body);
        }
        if bodies.len() == 1 {
            return Ok(bodies.remove(0));
        }
        let mut names = Vec::new();
        for body in bodies {
            names.push(self.add(place, body)?);
        }
        Ok(names.join(" | "))
    }

    fn object(&mut self, place: &str, fields: &'a Map<String, Value>, depth: usize) -> Made {
        let required = names(place, fields.get("required"))?;
        let mut members = Vec::new();
        match fields.get("properties") {
            None => {}
            Some(Value::Object(properties)) => {
                for (name, schema) in properties {
                    members.push((name.clone(), schema, format!("{place}/properties/{}", escaped(name))));
                }
            }
            Some(_) => return bad(place, "properties must be an object of schemas"),
        }
        let more = fields.get("additionalProperties");
        let open = more != Some(&Value::Bool(false));
        for name in &required {
            if !members.iter().any(|(known, ..)| known == name) {
                if !open {
                    return bad(place, format!("{name:?} is required but no property may have that name"));
                }
                members.push((
                    name.clone(),
                    more.unwrap_or(&Value::Bool(true)),
                    format!("{place}/additionalProperties"),
                ));
            }
        }
        if !members.is_empty() {
            return self.members(place, members, &required, depth);
        }
        match more {
            Some(Value::Bool(false)) => Ok("\"{\" ws \"}\"".into()),
            None | Some(Value::Bool(true)) => Ok("object".into()),
            Some(schema) => {
                let value = self.rule_of(&format!("{place}/additionalProperties"), schema, depth + 1)?;
                let pair = self.add(place, format!("string \":\" sp {value}"))?;
                Ok(format!("\"{{\" ws ({pair} (\",\" ws {pair})*)? ws \"}}\""))
            }
        }
    }

    /// Members in the order of the schema: those that are required, and any of the others.
    fn members(
        &mut self,
        place: &str,
        members: Vec<(String, &'a Value, String)>,
        required: &[String],
        depth: usize,
    ) -> Made {
        // From the last member on: what may follow when nothing was written yet, and when something was.
        let (mut first, mut later) = ("\"\"".to_owned(), "\"\"".to_owned());
        for (name, schema, place) in members.into_iter().rev() {
            let value = self.rule_of(&place, schema, depth + 1)?;
            let key = quoted(&format!("{}:", Value::from(name.as_str())));
            let pair = self.add(&place, format!("{key} sp {value}"))?;
            let must = required.contains(&name);
            let begin = match must {
                true => format!("{pair} {later}"),
                false => format!("{pair} {later} | {first}"),
            };
            let goes_on = match must {
                true => format!("\",\" ws {pair} {later}"),
                false => format!("(\",\" ws {pair})? {later}"),
            };
            first = self.add(&place, begin)?;
            later = self.add(&place, goes_on)?;
        }
        if first == "\"\"" {
            return bad(place, "it describes no property");
        }
        Ok(format!("\"{{\" ws {first} ws \"}}\""))
    }

    fn array(&mut self, place: &str, fields: &'a Map<String, Value>, depth: usize) -> Made {
        let least = whole(place, fields, "minItems")?.unwrap_or(0);
        let most = whole(place, fields, "maxItems")?;
        if least > COUNTED_MAX || most.is_some_and(|most| most < least) {
            return bad(place, format!("minItems must be at most maxItems and at most {COUNTED_MAX}"));
        }
        let mut fixed = Vec::new();
        if let Some(items) = fields.get("prefixItems") {
            let Some(items) = items.as_array() else { return bad(place, "prefixItems must be a list of schemas") };
            for (index, item) in items.iter().enumerate() {
                fixed.push(self.rule_of(&format!("{place}/prefixItems/{index}"), item, depth + 1)?);
            }
        }
        if !fixed.is_empty() {
            // The fixed ones and no more: narrower than the schema, and whole.
            if least > fixed.len() as u64 || most.is_some_and(|most| most < fixed.len() as u64) {
                return bad(place, "minItems and maxItems do not fit prefixItems");
            }
            return Ok(format!("\"[\" ws {} ws \"]\"", fixed.join(" \",\" ws ")));
        }
        let item = match fields.get("items") {
            None | Some(Value::Bool(true)) => "value".to_owned(),
            Some(schema) => self.rule_of(&format!("{place}/items"), schema, depth + 1)?,
        };
        Ok(match (least, most.filter(|most| *most <= COUNTED_MAX)) {
            (_, Some(0)) => "\"[\" ws \"]\"".into(),
            (0, None) => format!("\"[\" ws ({item} (\",\" ws {item})*)? ws \"]\""),
            (0, Some(most)) => format!("\"[\" ws ({item} (\",\" ws {item}){{0,{}}})? ws \"]\"", most - 1),
            (least, most) => {
                let most = most.map_or(String::new(), |most| (most - 1).to_string());
                format!("\"[\" ws {item} (\",\" ws {item}){{{},{most}}} ws \"]\"", least - 1)
            }
        })
    }
}

fn string(place: &str, fields: &Map<String, Value>) -> Made {
    if let Some(pattern) = fields.get("pattern") {
        let Some(pattern) = pattern.as_str() else { return bad(place, "pattern must be a text") };
        return match pattern::rule(pattern) {
            Ok(rule) => Ok(format!("\"\\\"\" {rule} \"\\\"\"")),
            Err(why) => bad(place, format!("its pattern is not supported: {why}")),
        };
    }
    // Other formats are notes, as the specification allows.
    match fields.get("format").and_then(Value::as_str) {
        Some(word @ ("date" | "time" | "uuid")) => return Ok(format!("\"\\\"\" {word} \"\\\"\"")),
        Some("date-time") => return Ok("\"\\\"\" date \"T\" time \"\\\"\"".into()),
        _ => {}
    }
    let least = whole(place, fields, "minLength")?.unwrap_or(0);
    let most = whole(place, fields, "maxLength")?;
    if least > COUNTED_MAX || most.is_some_and(|most| most < least) {
        return bad(place, format!("minLength must be at most maxLength and at most {COUNTED_MAX}"));
    }
    let most = most.filter(|most| *most <= COUNTED_MAX).map_or(String::new(), |most| most.to_string());
    Ok(match (least, most.as_str()) {
        (0, "") => "string".into(),
        _ => format!("\"\\\"\" char{{{least},{most}}} \"\\\"\""),
    })
}

fn integer(place: &str, fields: &Map<String, Value>) -> Made {
    let bound = |word: &str| fields.get(word).and_then(Value::as_f64).filter(|n| n.abs() < 9e15);
    let above = bound("exclusiveMinimum").map(|n| n.floor() as i64 + 1);
    let below = bound("exclusiveMaximum").map(|n| n.ceil() as i64 - 1);
    let least = bound("minimum").map(|n| n.ceil() as i64).max(above);
    let most = match (bound("maximum").map(|n| n.floor() as i64), below) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    if least.is_none() && most.is_none() {
        return Ok("integer".into());
    }
    match pattern::whole_numbers(least, most) {
        Some(rule) => Ok(rule),
        None => bad(place, "no whole number is inside its bounds"),
    }
}

/// Bounds of numbers with a fraction are checked at the end; their sign is in the grammar.
fn number(fields: &Map<String, Value>) -> String {
    let positive = ["minimum", "exclusiveMinimum"].iter().any(|w| fields.get(*w).and_then(Value::as_f64) >= Some(0.0));
    match positive {
        true => "(\"0\" | [1-9] [0-9]{0,15}) (\".\" [0-9]{1,16})?".into(),
        false => "number".into(),
    }
}

fn whole(place: &str, fields: &Map<String, Value>, word: &str) -> Result<Option<u64>, BadSchema> {
    match fields.get(word) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) => Ok(Some(number)),
            None => bad(place, format!("{word} must be a whole number from 0")),
        },
    }
}

fn names(place: &str, list: Option<&Value>) -> Result<Vec<String>, BadSchema> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match list {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => match list.iter().map(text).collect() {
            Some(names) => Ok(names),
            None => bad(place, "required must be a list of names"),
        },
        Some(_) => bad(place, "required must be a list of names"),
    }
}

/// A name as a JSON pointer writes it.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
