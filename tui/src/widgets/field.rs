//! One field of a form: what it holds, what is wrong with it, how it steps. Never here: the form around it, drawing.

use hone_protocol::catalogue::{Language, text};
use hone_protocol::form::{Both, FieldKind, texts};
use hone_protocol::paths::is_name;

use super::number;
use crate::screens::View;

/// How Left and Right change a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Stride {
    /// By adding.
    Add(f64),
    /// By doubling and halving.
    Double,
    /// Along 1, 2, 5, 10.
    Decade,
}

/// What a text must be, beyond its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Anything.
    Free,
    /// A name, or empty.
    NameOrEmpty,
    /// A name.
    Name,
    /// One of the options.
    OneOf,
    /// One of the options, or empty.
    OneOfOrEmpty,
    /// A whole number, or empty.
    WholeOrEmpty,
    /// A JSON object.
    Schema,
    /// Anything, which is shown only while it is typed.
    Secret,
}

/// One field.
#[derive(Debug, Clone)]
pub(crate) struct FormField {
    /// What the screen knows it by.
    pub(crate) key: &'static str,
    /// Catalogue key of the section it stands in.
    pub(crate) section: &'static str,
    /// Its label.
    pub(crate) label: Both,
    /// What it is, in one sentence.
    pub(crate) about: Both,
    /// What too low does; may be empty.
    pub(crate) too_low: Both,
    /// What too high does; may be empty.
    pub(crate) too_high: Both,
    /// What it holds.
    pub(crate) kind: FieldKind,
    /// How it steps.
    pub(crate) stride: Stride,
    /// What a text must be.
    pub(crate) rule: Rule,
    /// The default, as typed.
    pub(crate) default: String,
    /// The value, as typed.
    pub(crate) value: String,
    /// Names to choose from.
    pub(crate) options: Vec<String>,
    /// What the last good use had; empty when there was none.
    pub(crate) last_good: String,
    /// Rarely matters: hidden until asked for.
    pub(crate) folded: bool,
    /// It means something only where each of these other fields has one of its values.
    pub(crate) only: &'static [(&'static str, &'static [&'static str])],
}

/// Both languages of a catalogue key.
pub(crate) fn both(key: &'static str) -> Both {
    Both { en: text(Language::En, key), zh: text(Language::Zh, key) }
}

/// No text in either language.
pub(crate) const NONE: Both = Both { en: "", zh: "" };

impl FormField {
    /// A text field; `label` and `about` are catalogue keys.
    pub(crate) fn text(
        key: &'static str,
        section: &'static str,
        label: &'static str,
        about: &'static str,
    ) -> FormField {
        FormField {
            key,
            section,
            label: both(label),
            about: both(about),
            too_low: NONE,
            too_high: NONE,
            kind: FieldKind::Text,
            stride: Stride::Add(1.0),
            rule: Rule::Free,
            default: String::new(),
            value: String::new(),
            options: Vec::new(),
            last_good: String::new(),
            folded: false,
            only: &[],
        }
    }

    /// With a kind and a default that is also the value.
    pub(crate) fn of(mut self, kind: FieldKind, stride: Stride, default: &str) -> FormField {
        self.kind = kind;
        self.stride = stride;
        self.default = default.to_owned();
        self.value = default.to_owned();
        self
    }

    /// With what too low and too high do; both are catalogue keys.
    pub(crate) fn ends(mut self, too_low: &'static str, too_high: &'static str) -> FormField {
        (self.too_low, self.too_high) = (both(too_low), both(too_high));
        self
    }

    /// With a rule.
    pub(crate) fn rule(mut self, rule: Rule) -> FormField {
        self.rule = rule;
        self
    }

    /// With a value and names to choose from.
    pub(crate) fn filled(mut self, value: impl Into<String>, options: Vec<String>) -> FormField {
        self.value = value.into();
        self.options = options;
        self
    }

    /// Its bounds, when it is a number.
    pub(super) fn range(&self) -> Option<(f64, f64)> {
        match self.kind {
            FieldKind::Whole { low, high } => Some((low as f64, high as f64)),
            FieldKind::Real { low, high } => Some((low, high)),
            _ => None,
        }
    }

    /// Words to choose from.
    pub(super) fn choices(&self) -> Vec<String> {
        match self.kind {
            FieldKind::Choice(words) => words.iter().map(|w| (*w).to_owned()).collect(),
            _ => self.options.clone(),
        }
    }

    /// Whether only the choices are allowed.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.kind, FieldKind::Choice(_)) || self.rule == Rule::OneOf
    }

    /// What is wrong with the value.
    pub(crate) fn problem(&self, view: &View<'_>) -> Option<String> {
        let value = self.value.trim();
        match self.kind {
            FieldKind::Whole { .. } | FieldKind::Real { .. } => {
                let (low, high) = self.range()?;
                let whole = matches!(self.kind, FieldKind::Whole { .. });
                let parsed =
                    value.parse::<f64>().ok().filter(|v| v.is_finite() && (!whole || value.parse::<u64>().is_ok()));
                match parsed {
                    None => Some(view.t(if whole { "form.whole" } else { "form.number" }).to_owned()),
                    Some(v) if v < low || v > high => {
                        Some(view.fill("form.range", &[("low", &number::typed(low)), ("high", &range_end(high))]))
                    }
                    Some(_) => None,
                }
            }
            FieldKind::Choice(words) => (!words.contains(&value)).then(|| view.t("form.choose").to_owned()),
            FieldKind::Several(words) => {
                let bad = value.split(',').map(str::trim).find(|w| !words.contains(w));
                bad.map(|w| view.fill("form.several", &[("bad", w), ("words", &words.join(", "))]))
            }
            FieldKind::Texts { most } => {
                (texts(value).len() > most).then(|| view.fill("form.texts", &[("most", &most.to_string())]))
            }
            FieldKind::Text => match self.rule {
                Rule::Free | Rule::Secret => None,
                Rule::NameOrEmpty | Rule::OneOfOrEmpty | Rule::WholeOrEmpty if value.is_empty() => None,
                Rule::WholeOrEmpty => value.parse::<u64>().is_err().then(|| view.t("form.whole").to_owned()),
                Rule::Schema => {
                    let object = serde_json::from_str::<serde_json::Map<_, serde_json::Value>>(value).is_ok();
                    (!object).then(|| view.t("form.schema").to_owned())
                }
                Rule::Name | Rule::NameOrEmpty => (!is_name(value)).then(|| view.t("form.name").to_owned()),
                Rule::OneOf if value.is_empty() => Some(view.t("form.required").to_owned()),
                Rule::OneOf | Rule::OneOfOrEmpty => {
                    (!self.options.iter().any(|o| o == value)).then(|| view.t("form.choose").to_owned())
                }
            },
        }
    }

    /// The value one step on or back.
    pub(super) fn stepped(&self, up: bool) -> String {
        let choices = self.choices();
        if !choices.is_empty() {
            let at = choices.iter().position(|c| *c == self.value);
            let count = choices.len();
            let next = match (at, up) {
                (None, _) => 0,
                (Some(i), true) => (i + 1) % count,
                (Some(i), false) => (i + count - 1) % count,
            };
            return choices[next].clone();
        }
        let Some((low, high)) = self.range() else { return self.value.clone() };
        let old: f64 = self.value.trim().parse().unwrap_or_else(|_| self.default.parse().unwrap_or(low));
        let new = match self.stride {
            Stride::Add(by) => ((old + if up { by } else { -by }) / by).round() * by,
            Stride::Double if up => (old * 2.0).max(1.0),
            Stride::Double => (old / 2.0).max(if low == 0.0 { 0.0 } else { low }),
            Stride::Decade => decade(old, up),
        };
        let new = new.clamp(low, high);
        match self.kind {
            FieldKind::Whole { .. } => format!("{}", new.round()),
            _ => number::typed(new),
        }
    }
}

/// The upper end of a range as people read it.
pub(super) fn range_end(high: f64) -> String {
    if high >= 1e7 { "1e7+".into() } else { number::typed(high) }
}

/// The neighbour of a value on 1, 2, 5, 10, 20…
fn decade(value: f64, up: bool) -> f64 {
    if value <= 0.0 {
        return if up { 1e-6 } else { 0.0 };
    }
    let mut ladder: Vec<f64> = (-9..4).flat_map(|e| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(e))).collect();
    if !up {
        ladder.reverse();
    }
    let slack = 1e-9;
    let next = ladder.into_iter().find(|v| if up { *v > value * (1.0 + slack) } else { *v < value * (1.0 - slack) });
    next.unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_step_the_way_people_change_them() {
        let rate = FormField::text("r", "s", "act.up", "act.up");
        let rate = rate.of(FieldKind::Real { low: 1e-6, high: 1e-2 }, Stride::Decade, "2e-4");
        assert_eq!(rate.stepped(true), "5e-4");
        assert_eq!(rate.stepped(false), "1e-4");
        let rank = FormField::text("r", "s", "act.up", "act.up");
        let rank = rank.of(FieldKind::Whole { low: 1, high: 256 }, Stride::Double, "8");
        assert_eq!(rank.stepped(true), "16");
        assert_eq!(FormField { value: "256".into(), ..rank.clone() }.stepped(true), "256");
        assert_eq!(FormField { value: "1".into(), ..rank }.stepped(false), "1");
        let words = FormField::text("c", "s", "act.up", "act.up");
        let words = words.of(FieldKind::Choice(&["a", "b"]), Stride::Add(1.0), "a");
        assert_eq!(words.stepped(true), "b");
        assert_eq!(words.stepped(false), "b");
    }
}
