//! Steps for what must not be in a training set: personal data and secrets. Lives here: where in a row they are looked for, and the
//! forms of secrets. Never here: the forms of personal data (see `crate::pii`).

use std::sync::LazyLock;

use hone_protocol::guard::PiiKind;
use hone_protocol::recipe::Settings;
use regex_automata::meta::Regex;
use serde_json::Value;

use super::item::{Item, Verdict, Why, is_content};
use super::{Built, RowStep};
use crate::pii;

pub(super) fn mask(settings: &Settings) -> Built {
    let kinds = settings.words("kinds");
    Built::row(Mask { kinds: kinds.iter().filter_map(|word| PiiKind::of(word)).collect() })
}

struct Mask {
    kinds: Vec<PiiKind>,
}

/// Changes every text of a row, its own fields too; gives how many pieces were replaced.
fn everywhere(item: &mut Item, replace: impl Fn(&mut String) -> u64) -> u64 {
    let mut count: u64 = item.messages.iter_mut().map(|message| replace(&mut message.content)).sum();
    let in_messages = count > 0;
    let mut fields = item.fields();
    let mut own = 0;
    for (_, value) in fields.iter_mut().filter(|(key, _)| !is_content(key)) {
        own += leaves(value, &replace);
    }
    count += own;
    if own > 0 {
        item.original = Value::Object(fields).to_string();
    }
    if in_messages || own > 0 {
        item.rebuild();
    }
    count
}

fn leaves(value: &mut Value, replace: &impl Fn(&mut String) -> u64) -> u64 {
    match value {
        Value::String(text) => replace(text),
        Value::Array(list) => list.iter_mut().map(|one| leaves(one, replace)).sum(),
        Value::Object(fields) => fields.values_mut().map(|one| leaves(one, replace)).sum(),
        _ => 0,
    }
}

impl RowStep for Mask {
    fn apply(&self, item: &mut Item) -> Verdict {
        match everywhere(item, |text| pii::mask(text, &self.kinds)) {
            0 => Verdict::Keep,
            count => Verdict::Changed(Why::new("personal_data", count as f64, 0.0)),
        }
    }
}

/// What stands in the place of a secret.
const SECRET: &str = "[SECRET]";

/// Forms of secrets that are told from other texts by how they begin: AWS, Alibaba Cloud, Tencent Cloud, GitHub, GitLab, OpenAI-like keys,
/// Google, Slack, Stripe, Hugging Face, npm, SendGrid, JWT, keys in PEM, passwords in URLs.
const SECRETS: &str = concat!(
    r"(?-u:\b)(?:",
    r"(?:AKIA|ASIA)[0-9A-Z]{16}|LTAI[0-9A-Za-z]{16,24}|AKID[0-9A-Za-z]{32}",
    r"|gh[pousr]_[0-9A-Za-z]{36,255}|github_pat_[0-9A-Za-z_]{40,255}|glpat-[0-9A-Za-z_\-]{20,64}",
    r"|sk-(?:proj-|ant-|live-)?[0-9A-Za-z_\-]{20,200}|AIza[0-9A-Za-z_\-]{35}|xox[abprs]-[0-9A-Za-z\-]{10,200}",
    r"|[rs]k_(?:live|test)_[0-9A-Za-z]{16,128}|hf_[0-9A-Za-z]{30,64}|npm_[0-9A-Za-z]{36}|SG\.[0-9A-Za-z_\-]{16,32}\.[0-9A-Za-z_\-]{30,64}",
    r"|eyJ[0-9A-Za-z_\-]{8,2000}\.eyJ[0-9A-Za-z_\-]{8,4000}\.[0-9A-Za-z_\-]{16,1000}",
    r")|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[0-9A-Za-z+/=\s]{32,8000}-----END [A-Z ]{0,30}PRIVATE KEY-----",
);

static SECRET_FORMS: LazyLock<Regex> = LazyLock::new(|| Regex::new(SECRETS).expect("a test compiles it"));

/// Replaces secrets; gives how many there were.
pub(crate) fn mask_secrets(text: &mut String) -> u64 {
    let found: Vec<_> = SECRET_FORMS.find_iter(text.as_str()).map(|found| found.range()).collect();
    for range in found.iter().rev() {
        text.replace_range(range.clone(), SECRET);
    }
    found.len() as u64
}

pub(super) fn secrets(settings: &Settings) -> Built {
    Built::row(Secrets { drop: settings.text("action") == "drop" })
}

struct Secrets {
    drop: bool,
}

impl RowStep for Secrets {
    fn apply(&self, item: &mut Item) -> Verdict {
        if self.drop {
            let mut copy = item.clone();
            return match everywhere(&mut copy, mask_secrets) {
                0 => Verdict::Keep,
                count => Verdict::Drop(Why::new("secrets", count as f64, 0.0)),
            };
        }
        match everywhere(item, mask_secrets) {
            0 => Verdict::Keep,
            count => Verdict::Changed(Why::new("secrets", count as f64, 0.0)),
        }
    }
}

/// The kinds of private things in a row, for facts.
pub(crate) fn kinds(item: &Item) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    for kind in PiiKind::ALL {
        if item.messages.iter().any(|message| pii::mask(&mut message.content.clone(), &[kind]) > 0) {
            kinds.push(kind.word());
        }
    }
    if item.messages.iter().any(|message| SECRET_FORMS.is_match(message.content.as_str())) {
        kinds.push("secret");
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::super::item::tests::chat;
    use super::super::tests::{reason, row_step};
    use super::*;
    use hone_protocol::recipe::StepSpec;

    #[test]
    fn masks_reach_every_field() {
        let mut item = chat(&[("user", "I am ann@example.org"), ("assistant", "Hello")]);
        item.original = r#"{"messages":[],"meta":{"from":"ann@example.org","tags":["138-0013-8000",1]}}"#.into();
        let spec = StepSpec { step: "mask".into(), ..StepSpec::default() };
        let Verdict::Changed(why) = row_step(&spec).apply(&mut item) else { panic!("unchanged") };
        assert_eq!((why.value, item.messages[0].content.as_str()), (3.0, "I am [EMAIL]"));
        assert_eq!(
            item.original,
            r#"{"messages":[{"role":"user","content":"I am [EMAIL]"},{"role":"assistant","content":"Hello"}],"meta":{"from":"[EMAIL]","tags":["[PHONE]",1]}}"#
        );
        assert_eq!(reason("mask", &[("kinds", "card")], &mut chat(&[("text", "ann@example.org")])), "");
    }

    #[test]
    fn secrets_have_forms_and_words_have_not() {
        for (text, wanted) in [
            ("key AKIAIOSFODNN7EXAMPLE.", "key [SECRET]."),
            ("token ghp_0123456789abcdefghijABCDEFGHIJ012345", "token [SECRET]"),
            ("OPENAI_API_KEY=sk-proj-abcdefghijklmnopqrstuvwx", "OPENAI_API_KEY=[SECRET]"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA0123456789abcdefghij\n-----END RSA PRIVATE KEY-----",
                "[SECRET]",
            ),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P", "[SECRET]"),
            ("sk-learn is a library; task-oriented", "sk-learn is a library; task-oriented"),
            ("AKIA is a prefix", "AKIA is a prefix"),
        ] {
            let mut masked = text.to_owned();
            mask_secrets(&mut masked);
            assert_eq!(masked, wanted);
        }
        assert_eq!(
            reason("secrets", &[("action", "drop")], &mut chat(&[("text", "AKIAIOSFODNN7EXAMPLE")])),
            "secrets 1 0"
        );
    }
}
