//! Answers that keep to grammars, on the starter model; schemas that are refused; log-probabilities.

use serde_json::{Value, json};

use super::*;
use crate::serve::constraint::{Constraint, Limit};
use crate::serve::grammar::{self, CALL_TAGS, Callable, Check};
use crate::serve::sampling::{Chance, Sampler, chance};

fn structured(engine: &mut Engine, id: u64, limit: Limit, temperature: f32, max_tokens: u32) -> Answer {
    let mut wanted = request(id, "Describe a person called Ada as JSON.", max_tokens);
    wanted.limit = Some(limit);
    wanted.sampling = Sampling { temperature, seed: Some(id as u32), ..Sampling::default() };
    ask(engine, wanted)
}

/// Schemas as clients send them (pydantic's and zod's, among others), each with room for a whole answer.
fn schemas() -> Vec<Value> {
    let person = json!({"type": "object", "title": "Person", "description": "Somebody.", "properties": {
        "name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 7, "maximum": 118},
        "kind": {"enum": ["human", "robot", null, 3]}, "nick": {"type": ["string", "null"], "maxLength": 5}},
        "required": ["name", "age", "kind"], "additionalProperties": false});
    vec![
        person.clone(),
        json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": {"P": person}, "type": "object",
            "properties": {"people": {"type": "array", "items": {"$ref": "#/$defs/P"}, "minItems": 1, "maxItems": 2}},
            "required": ["people"]}),
        json!({"anyOf": [{"type": "object", "properties": {"a": {"const": "x"}}, "required": ["a"]},
            {"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "null"}]}]}),
        json!({"type": "object", "properties": {"id": {"type": "string", "pattern": "^[A-Z]{2}-\\d{1,3}(a|b)?$"},
            "day": {"type": "string", "format": "date"}, "at": {"type": "string", "format": "date-time"},
            "key": {"type": "string", "format": "uuid"}, "part": {"type": "number", "minimum": 0}},
            "required": ["id", "day", "at", "key", "part"]}),
        json!({"allOf": [{"$ref": "#/$defs/named"}, {"type": "object", "properties": {"b": {"type": "boolean"}},
            "required": ["b"]}], "$defs": {"named": {"type": "object", "properties": {"ä\"/~": {"enum": ["ö\n"]}},
            "required": ["ä\"/~"]}}}),
        json!({"type": "object", "required": ["next"], "properties": {"next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}},
            "additionalProperties": false}),
        json!({"type": "object", "additionalProperties": {"type": "integer", "exclusiveMinimum": -3, "exclusiveMaximum": 3},
            "required": ["one"]}),
        json!({"type": "integer", "minimum": -105, "maximum": 1099}),
        json!({"type": "string", "minLength": 3, "maxLength": 6}),
    ]
}

#[test]
fn every_schema_is_kept_to_greedily_and_by_chance() {
    let mut engine = engine(2);
    let mut id = 0;
    for schema in schemas() {
        let check = Check::schema(&schema).unwrap();
        for temperature in [0.0, 1.5] {
            id += 1;
            let answer = structured(&mut engine, id, grammar::of_schema(&schema).unwrap(), temperature, 300);
            if answer.finish == Some(Finish::End) {
                assert_eq!(check.look(&answer.text), Ok(()), "{schema}\n{}", answer.text);
            } else {
                // A recursive schema may take all the room: cut, and said so.
                assert!(schema.to_string().contains("\"$ref\":\"#\""), "{schema}\n{}", answer.text);
                assert_eq!(answer.finish, Some(Finish::MaxTokens));
            }
        }
    }
    let any = structured(&mut engine, 99, grammar::of_object(), 0.0, 200);
    assert!(any.text.starts_with('{'), "{}", any.text);
    assert!(any.finish != Some(Finish::End) || Check::object().look(&any.text).is_ok(), "{}", any.text);
}

#[test]
fn draws_within_a_grammar_are_in_proportion_to_what_the_model_gives() {
    let vocab = Vocab::load(&starter_for_tests()).unwrap();
    let single = |text: &str| match vocab.tokenize(text, false).unwrap()[..] {
        [token] => token,
        _ => panic!("{text} is one token"),
    };
    let (yes, no, maybe, other) = (single("yes"), single("no"), single("maybe"), single("the"));
    // Most of the probability is on what the grammar refuses, and one of the allowed is far behind.
    let mut logits = vec![-9.0_f32; vocab.size()];
    for (token, logit) in [(other, 4.0), (yes, 1.0), (no, 0.0), (maybe, -2.0)] {
        logits[token as usize] = logit;
    }
    let limit = Limit { grammar: "root ::= \"yes\" | \"no\" | \"maybe\"".into(), after: None };
    let draws = 4000;
    let mut seen = std::collections::BTreeMap::new();
    for seed in 0..draws {
        let constraint = Constraint::new(&limit, &vocab).unwrap();
        let sampling = Sampling { seed: Some(seed), ..Sampling::default() };
        let token = Sampler::new(&sampling, vocab.size(), Some(constraint)).pick(&logits).unwrap();
        *seen.entry(token).or_insert(0.0) += 1.0 / f64::from(draws);
    }
    // Tokens that only begin one of the words share what is left, each with a logit of -9.
    let sum = 1.0_f64.exp() + 1.0 + (-2.0_f64).exp();
    for (token, logit) in [(yes, 1.0_f64), (no, 0.0), (maybe, -2.0)] {
        let (got, wanted) = (seen[&token], logit.exp() / sum);
        assert!((got - wanted).abs() < 0.02, "{token}: {got} instead of {wanted}");
    }
    assert!(!seen.contains_key(&other));
    // Greedily it is the likeliest of the allowed, also where the samplers left only what is refused.
    for sampling in [Sampling::greedy(), Sampling { top_k: 1, seed: Some(1), ..Sampling::default() }] {
        let constraint = Constraint::new(&limit, &vocab).unwrap();
        assert_eq!(Sampler::new(&sampling, vocab.size(), Some(constraint)).pick(&logits), Some(yes));
    }
}

#[test]
fn the_check_is_not_the_grammar() {
    let even = json!({"type": "integer", "multipleOf": 2});
    let check = Check::schema(&even).unwrap();
    assert!(grammar::of_schema(&even).is_ok(), "what the grammar cannot say is left to the check");
    assert_eq!(check.look("4"), Ok(()));
    assert!(check.look("5").unwrap_err().contains("5"));
    assert!(check.look("4 5").unwrap_err().contains("not JSON"));
    assert!(Check::object().look("[]").is_err() && Check::object().look("{}").is_ok());
}

#[test]
fn schemas_that_cannot_be_kept_to_are_refused_by_name() {
    let deep = (0..60).fold(json!({"type": "null"}), |inner, _| json!({"type": "array", "items": inner}));
    let wide: Vec<Value> = (0..2000).map(|i| json!({"properties": {format!("p{i}"): {}}})).collect();
    let long = json!({"enum": ["x".repeat(70_000)]});
    let cases = [
        (json!({"not": {"type": "string"}}), "\"not\" is not supported"),
        (json!({"type": "object", "properties": {"a": {"if": {}}}}), "#/properties/a"),
        (json!({"type": "object", "patternProperties": {}}), "patternProperties"),
        (json!({"$ref": "https://example.test/schema"}), "must point into this schema"),
        (json!({"$ref": "#/$defs/none"}), "points to nothing"),
        (json!({"type": "strin"}), "type must be"),
        (json!({"type": "string", "pattern": "(a*)*"}), "what may be empty is repeated"),
        (json!({"type": "string", "pattern": "a(?=b)"}), "not known here"),
        (json!({"type": "string", "pattern": "a{1,99999}"}), "larger than"),
        (json!({"type": "string", "minLength": 100_000}), "minLength"),
        (json!({"type": "array", "minItems": 1_000_000_000}), "minItems"),
        (json!({"type": "integer", "minimum": 5, "maximum": 4}), "no whole number"),
        (json!({"required": ["a"], "additionalProperties": false}), "\"a\" is required"),
        (json!(false), "allows nothing"),
        (json!(7), "a schema is an object"),
        (deep, "nested deeper"),
        (json!({"anyOf": wide}), "more than"),
        (long, "bytes"),
    ];
    for (schema, part) in cases {
        let shown: String = schema.to_string().chars().take(80).collect();
        let error = grammar::of_schema(&schema).expect_err(&shown).to_string();
        assert!(error.contains(part), "{shown}: {error}");
    }
    // Right in form, but nothing that the engine can go on with.
    let mut engine = engine(1);
    for source in ["root ::= root", "root ::= ", "nothing", "root ::= \"a\"{1,100000}", "root ::= (\"\"*)*x"] {
        let mut wanted = request(1, "Hi", 4);
        wanted.limit = Some(Limit { grammar: source.into(), after: None });
        let refused = engine.submit(wanted).is_err();
        if !refused {
            let ended = drain(&mut engine)
                .into_iter()
                .any(|e| matches!(e, EngineEvent::Finished { .. } | EngineEvent::Failed { .. }));
            assert!(ended, "{source}");
        }
    }
    assert!(ask(&mut engine, request(2, "Name a colour.", 8)).finish.is_some(), "others are served");
}

fn tools() -> (Value, Value) {
    let weather = json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 20},
        "unit": {"enum": ["c", "f"]}}, "required": ["city", "unit"], "additionalProperties": false});
    (weather, json!({"type": "object", "properties": {"x": {"not": {}}}}))
}

#[test]
fn calls_are_made_when_they_must_be_and_only_of_known_tools() {
    let (weather, odd) = tools();
    let known = [
        Callable { name: "get_weather", parameters: &weather, strict: true },
        Callable { name: "odd-tool", parameters: &odd, strict: false },
        Callable { name: "now", parameters: &Value::Null, strict: false },
    ];
    let strict = Callable { strict: true, ..known[1].clone() };
    assert!(grammar::of_calls(&[strict], true, None, 4).unwrap_err().to_string().contains("tool odd-tool"));
    let mut engine = engine(2);
    for (id, only) in [(1, &known[..1]), (2, &known[1..2]), (3, &known[2..]), (4, &known[..])] {
        let limit = grammar::of_calls(only, true, None, 1).unwrap();
        let answer = structured(&mut engine, id, limit, 0.0, 300);
        if answer.finish != Some(Finish::End) {
            assert_eq!(id, 2, "only any object may have no end: {}", answer.text);
            continue;
        }
        let inside = answer.text.strip_prefix(CALL_TAGS.open).and_then(|t| t.strip_suffix(CALL_TAGS.close));
        let call: Value = serde_json::from_str(inside.unwrap_or_else(|| panic!("{}", answer.text))).unwrap();
        let tool = only.iter().find(|t| call["name"] == t.name).unwrap();
        let arguments = call["arguments"].to_string();
        match tool.parameters.is_null() {
            true => assert_eq!(arguments, "{}"),
            false => assert_eq!(Check::schema(tool.parameters).unwrap().look(&arguments), Ok(())),
        }
    }
}

#[test]
fn a_grammar_waits_for_its_trigger_wherever_tokens_end() {
    let engine = engine(1);
    let (weather, _) = tools();
    let known = [Callable { name: "get_weather", parameters: &weather, strict: true }];
    let limit = grammar::of_calls(&known, false, None, 2).unwrap();
    let vocab = engine.vocab();
    for said in ["Well <tool_call>", "<tool_call>\n", "<tool_call>\n{\"na", "a<b <tool_call>{"] {
        let mut constraint = constraint::Constraint::new(&limit, vocab).unwrap();
        for token in vocab.tokenize(said, false).unwrap() {
            assert!(constraint.accept(token), "{said}");
        }
        assert!(constraint.is_active(), "{said}");
        let rest = "\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Ulm\", \"unit\": \"c\"}}\n</tool_call>";
        let whole = format!("<tool_call>{rest}");
        let at = said.find('<').map(|at| said[at..].trim_start_matches("<b ").len()).unwrap();
        let left = if said.contains("\n") || said.ends_with('>') { &whole[at..] } else { "" };
        for token in vocab.tokenize(left, false).unwrap() {
            assert!(constraint.allows(token) && constraint.accept(token), "{said}{left}");
        }
        let end = vocab.named().eos.unwrap();
        assert_eq!(constraint.allows(end), !left.is_empty());
    }
    let mut broken = constraint::Constraint::new(&limit, vocab).unwrap();
    let tokens = vocab.tokenize("<tool_call>nonsense", false).unwrap();
    assert!(!tokens.iter().all(|&t| (!broken.is_active() || broken.allows(t)) && broken.accept(t)));
}

/// Log-probabilities of prompt and answer equal those of a plain decode.
#[test]
fn chances_of_prompt_and_answer_are_those_of_plain_decoding() {
    let mut engine = engine(2);
    let mut wanted = request(5, "Name a colour.", 6);
    (wanted.chances, wanted.echo) = (Some(3), true);
    let prompt = wanted.tokens.clone();
    engine.submit(wanted).unwrap();
    let events = drain(&mut engine);
    let mut echoed: Vec<Chance> = Vec::new();
    let mut told: Vec<Chance> = Vec::new();
    for event in &events {
        match event {
            EngineEvent::Echoed { chances, .. } => {
                assert!(told.is_empty(), "the prompt comes first");
                echoed.extend(chances.clone());
            }
            EngineEvent::Piece { chances, .. } => told.extend(chances.clone()),
            EngineEvent::Finished { end, completion_tokens, .. } => {
                assert_eq!(told.len() as u32, *completion_tokens);
                told.extend(end.clone());
            }
            _ => {}
        }
    }
    assert_eq!(echoed.len() + 1, prompt.len());
    let all: Vec<i32> = prompt.iter().copied().chain(told.iter().map(|c| c.token)).collect();
    let logits = Plain::new().logits_after(&all[..all.len() - 1]);
    for (at, mine) in echoed.iter().chain(&told).enumerate() {
        assert_eq!(mine.token, all[at + 1]);
        let plain = chance(&logits[at], mine.token, 3).unwrap();
        assert!((plain.ln_p - mine.ln_p).abs() < 0.35, "{at}: {} and {}", plain.ln_p, mine.ln_p);
        assert_eq!(mine.top.len(), 3);
        assert!(mine.top[0].1 >= mine.ln_p);
    }
    // Nothing but the prompt.
    let mut wanted = request(6, "Name a colour.", 0);
    (wanted.chances, wanted.echo) = (Some(0), true);
    engine.submit(wanted).unwrap();
    let events = drain(&mut engine);
    assert!(
        events.iter().any(|e| matches!(e, EngineEvent::Echoed { chances, .. } if chances.len() + 1 == prompt.len()))
    );
    let last = events.last().unwrap();
    assert!(matches!(
        last,
        EngineEvent::Finished { finish: Finish::MaxTokens, completion_tokens: 0, sampled_tokens: 0, .. }
    ));
}
