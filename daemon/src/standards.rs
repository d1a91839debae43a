//! Standards at work: whether a standard makes sense, and whether a row is as one says. Pure functions, used by generation and by
//! whoever looks rows through. `checks.rs` looks at one row, `similar.rs` measures likeness, `language.rs` tells languages apart.
//! Never here: storing standards (the dispatcher does), asking a model.

mod checks;
mod language;
pub(crate) mod similar;

use hone_protocol::failure::{Failure, HintCode};
use hone_protocol::paths::is_name;
use hone_protocol::standard::{
    Bounds, CRITERIA_MAX, EXAMPLES_MAX, EXPRESSION_BYTES_MAX, EXPRESSIONS_MAX, LANGUAGES, SCALE_MAX,
    STANDARD_BYTES_MAX, StandardSpec,
};
use hone_protocol::wire;

pub(crate) use checks::{Checker, prompt_of};

/// Says what is wrong with a standard, naming the field.
pub(crate) fn check(spec: &StandardSpec) -> Result<(), Failure> {
    let bytes = wire::encode(spec).len();
    if bytes > STANDARD_BYTES_MAX {
        return Err(Failure::field(
            "spec",
            format!("the standard has {bytes} bytes; at most {STANDARD_BYTES_MAX} are kept"),
        ));
    }
    rubric(spec)?;
    if spec.examples.len() > EXAMPLES_MAX {
        return Err(Failure::field("examples", format!("at most {EXAMPLES_MAX} examples are kept")));
    }
    if let Some(at) = spec.examples.iter().position(|example| example.messages.is_empty()) {
        return Err(Failure::field(&format!("examples[{at}].messages"), "an example has at least one message"));
    }
    let checks = &spec.checks;
    for (field, bounds) in
        [("prompt_chars", &checks.prompt_chars), ("answer_chars", &checks.answer_chars), ("turns", &checks.turns)]
    {
        inside(field, bounds)?;
    }
    if !checks.language.is_empty() && !LANGUAGES.contains(&checks.language.as_str()) {
        let message =
            format!("{:?} is no language that can be told; there are {}", checks.language, LANGUAGES.join(", "));
        return Err(Failure::field("checks.language", message));
    }
    if checks.similarity_max_percent.is_some_and(|percent| percent > 100) {
        return Err(Failure::field(
            "checks.similarity_max_percent",
            "similarity_max_percent must be between 0 and 100",
        ));
    }
    for (field, expressions) in [("must_match", &checks.must_match), ("must_not_match", &checks.must_not_match)] {
        if expressions.len() > EXPRESSIONS_MAX {
            return Err(Failure::field(
                &format!("checks.{field}"),
                format!("at most {EXPRESSIONS_MAX} expressions are kept"),
            ));
        }
        if let Some(at) = expressions.iter().position(|one| one.len() > EXPRESSION_BYTES_MAX || one.is_empty()) {
            let message = format!("an expression has 1 to {EXPRESSION_BYTES_MAX} bytes");
            return Err(Failure::field(&format!("checks.{field}[{at}]"), message));
        }
    }
    Checker::new(spec).map(drop)
}

fn rubric(spec: &StandardSpec) -> Result<(), Failure> {
    if spec.criteria.len() > CRITERIA_MAX {
        return Err(Failure::field("criteria", format!("at most {CRITERIA_MAX} criteria are kept")));
    }
    for (at, criterion) in spec.criteria.iter().enumerate() {
        let field = |name: &str| format!("criteria[{at}].{name}");
        if !is_name(&criterion.name) {
            let message = format!("{:?} cannot be a name: use 1 to 64 of a-z 0-9 . _ -", criterion.name);
            return Err(Failure::field(&field("name"), message).hint(HintCode::ChooseAnotherName));
        }
        if spec.criteria[..at].iter().any(|before| before.name == criterion.name) {
            return Err(Failure::field(&field("name"), format!("{} stands twice", criterion.name)));
        }
        if criterion.weight == 0 || criterion.weight > SCALE_MAX {
            return Err(Failure::field(&field("weight"), format!("weight must be between 1 and {SCALE_MAX}")));
        }
        if !(2..=SCALE_MAX).contains(&criterion.scale) {
            return Err(Failure::field(&field("scale"), format!("scale must be between 2 and {SCALE_MAX}")));
        }
    }
    Ok(())
}

fn inside(field: &str, bounds: &Bounds) -> Result<(), Failure> {
    match (bounds.min, bounds.max) {
        (Some(min), Some(max)) if min > max => {
            let message = format!("{field} asks for at least {min} and at most {max}");
            Err(Failure::field(&format!("checks.{field}"), message))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use hone_protocol::dataset::Shape;
    use hone_protocol::standard::Criterion;

    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_by_its_field() {
        let refused = |change: &dyn Fn(&mut StandardSpec)| {
            let mut spec = StandardSpec::new(Shape::Chat);
            change(&mut spec);
            check(&spec).unwrap_err().place
        };
        let criterion =
            |name: &str, weight, scale| Criterion { name: name.into(), about: String::new(), weight, scale };
        assert!(check(&StandardSpec::new(Shape::Chat)).is_ok());
        assert_eq!(refused(&|s| s.criteria = vec![criterion("A b", 1, 5)]), "criteria[0].name");
        assert_eq!(refused(&|s| s.criteria = vec![criterion("a", 1, 5), criterion("a", 1, 5)]), "criteria[1].name");
        assert_eq!(refused(&|s| s.criteria = vec![criterion("a", 0, 5)]), "criteria[0].weight");
        assert_eq!(refused(&|s| s.criteria = vec![criterion("a", 1, 1)]), "criteria[0].scale");
        assert_eq!(refused(&|s| s.checks.language = "tlh".into()), "checks.language");
        assert_eq!(refused(&|s| s.checks.must_match = vec!["(".into()]), "checks.must_match[0]");
        assert_eq!(refused(&|s| s.checks.must_not_match = vec![String::new()]), "checks.must_not_match[0]");
        assert_eq!(refused(&|s| s.checks.turns = Bounds { min: Some(3), max: Some(2) }), "checks.turns");
        assert_eq!(refused(&|s| s.checks.similarity_max_percent = Some(101)), "checks.similarity_max_percent");
        let schema = serde_json::json!({"type": "no such type"});
        assert_eq!(refused(&|s| s.checks.schema = hone_protocol::value::Json(schema.clone())), "checks.schema");
    }
}
