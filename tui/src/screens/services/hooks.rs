//! Hooks in the area of services: who is told of what, and how the last try went; the form that makes one. And aliases that are rolled
//! back. Never here: when something is worth an alert.

use hone_protocol::form::FieldKind;
use hone_protocol::hook::{AlertKind, HookRecord, HookTarget, TIMEOUT_MS_MAX};
use hone_protocol::model::{Alias, ModelView};
use hone_protocol::request::Request;
use hone_protocol::service::ServiceView;

use super::super::{Deed, Desk, Errand, View, Wish};
use crate::cli::hook::{kinds, target, tried_words};
use crate::layers::{Layer, Sheet};
use crate::theme::Token;
use crate::widgets::canvas::{Piece, piece};
use crate::widgets::form::{Form, FormField, Rule, Stride};
use crate::widgets::list::{Row, cell};
use crate::widgets::number;
use crate::widgets::page::Page;

/// A hook in the list.
pub(super) fn hook_row(view: &View<'_>, hook: &HookRecord) -> Row {
    let last = match &hook.last {
        None => piece("-", Token::Muted),
        Some(tried) if tried.ok => piece(number::ago(view.language, view.now_ms, tried.at_ms), Token::Ok),
        Some(_) => piece(view.t("hooks.failed"), Token::Error),
    };
    Row {
        key: hook.name.clone(),
        cells: vec![
            piece(cell(&hook.name), Token::Text),
            piece(kinds(hook), Token::Muted),
            last,
            piece(number::grouped(u64::from(hook.waiting)), Token::Text),
        ],
    }
}

/// All about a hook.
pub(super) fn hook_page(view: &View<'_>, hook: &HookRecord, page: &mut Page) {
    page.heading(cell(&hook.name));
    page.text(kinds(hook).replace(',', ", "), Token::Text).blank();
    page.fact(view.t("hooks.by"), cell(&target(hook)));
    page.fact(view.t("hooks.delivered"), number::grouped(hook.delivered));
    page.fact(view.t("hooks.given_up"), number::grouped(hook.given_up + hook.dropped));
    page.fact(view.t("hooks.waiting"), number::grouped(u64::from(hook.waiting)));
    if let Some(tried) = &hook.last {
        page.blank().heading(view.t("hooks.last"));
        let token = if tried.ok { Token::Ok } else { Token::Error };
        page.text(cell(&tried_words(view.language, tried)), token);
        page.text(number::ago(view.language, view.now_ms, tried.at_ms), Token::Muted);
    }
}

/// What a new hook is told of, unless it is said otherwise.
const ON: &str = "job_failed, service_down, budget_crossed, disk_low";

/// The form that makes a hook, or changes one.
pub(super) fn form(edited: Option<&HookRecord>) -> Form {
    let section = "services.hook";
    let text = |key, label, about| FormField::text(key, section, label, about);
    let only = |by, field| FormField { only: by, ..field };
    let mut form = Form::new(vec![
        text("name", "field.name", "field.hook_name.about").rule(Rule::Name),
        text("on", "hooks.told_of", "field.hook_on.about").filled(ON.to_owned(), Vec::new()),
        text("by", "hooks.by", "field.hook_by.about").of(
            FieldKind::Choice(&["address", "command"]),
            Stride::Add(1.0),
            "address",
        ),
        only(&[("by", &["address"])], text("url", "field.hook_url", "field.hook_url.about")),
        only(&[("by", &["command"])], text("command", "field.hook_command", "field.hook_command.about")),
        text("timeout", "field.hook_timeout", "field.hook_timeout.about").of(
            FieldKind::Whole { low: 1, high: u64::from(TIMEOUT_MS_MAX / 1000) },
            Stride::Add(5.0),
            "30",
        ),
    ]);
    let Some(hook) = edited else { return form };
    form.set("name", hook.name.clone());
    form.set("on", kinds(hook).replace(',', ", "));
    match &hook.target {
        HookTarget::Webhook(url) => form.set("url", url.clone()),
        HookTarget::Command(words) => {
            form.set("by", "command");
            form.set("command", quoted(words));
        }
    }
    form.set("timeout", (hook.timeout_ms / 1000).max(1).to_string());
    form
}

/// Asks for the hook that the form says.
pub(super) fn submit(form: &mut Form, desk: &mut Desk<'_>) {
    let words = form.value("on").split([',', ' ', '，', '、']).filter(|word| !word.is_empty());
    let on = words.map(|word| AlertKind::named(word).filter(|kind| *kind != AlertKind::Test).ok_or(word));
    let on = match on.collect::<Result<Vec<_>, _>>() {
        Ok(on) => on,
        Err(word) => {
            let said = format!("{word}: {}", desk.view.t("field.hook_on.about"));
            form.remote.insert("on".into(), said);
            return form.focus_on("on");
        }
    };
    let target = match form.value("by") {
        "command" => HookTarget::Command(unquoted(form.value("command"))),
        _ => HookTarget::Webhook(form.value("url").to_owned()),
    };
    let timeout_ms = form.number::<u32>("timeout").unwrap_or(30).saturating_mul(1000);
    let request = Request::SetHook { name: form.value("name").to_owned(), on, target, timeout_ms };
    desk.ask(Errand::Act(Deed::Hook), request);
}

/// A command as one line: words with spaces stand in quotation marks.
fn quoted(words: &[String]) -> String {
    let plain = |word: &String| !word.is_empty() && !word.contains([' ', '"', '\\']);
    let one = |word: &String| match plain(word) {
        true => word.clone(),
        false => format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")),
    };
    words.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// The words of such a line. No shell reads it: only quotation marks and the backslash inside them mean something.
fn unquoted(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), None::<String>, false);
    let mut letters = line.chars();
    while let Some(c) = letters.next() {
        match c {
            '"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            '\\' if is_quoted => word.get_or_insert_default().extend(letters.next()),
            ' ' if !is_quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The secret of a new address, once.
pub(super) fn secret_sheet(view: &View<'_>, hook: &HookRecord, secret: String) -> Layer {
    let lines: Vec<Piece> = vec![
        piece(view.t("hooks.secret_once"), Token::Warn),
        piece("", Token::Text),
        piece(format!("  {secret}"), Token::Accent),
    ];
    Layer::Sheet(Sheet { title: cell(&hook.name).to_string(), lines, copy: Some(secret), scroll: 0 })
}

/// Sends a hook an alert that means nothing.
pub(super) fn test(hook: &HookRecord, desk: &mut Desk<'_>) {
    desk.ask(Errand::Act(Deed::TestHook), Request::TestHook { name: hook.name.clone() });
}

/// Asks before a hook is removed: its name has to be typed.
pub(super) fn remove(hook: &HookRecord, desk: &mut Desk<'_>) {
    let name = hook.name.clone();
    let title = desk.view.fill("ask.remove_hook", &[("name", &name)]);
    let body = vec![desk.view.t("ask.remove_hook_body").to_owned()];
    let wish = Wish::Ask { errand: Errand::Act(Deed::RemoveHook), request: Request::RemoveHook { name: name.clone() } };
    desk.push(Layer::ask_name(title, body, name, vec![wish]));
}

/// The alias that a service follows, where it can be rolled back.
pub(super) fn followed<'a>(view: &View<'a>, service: &ServiceView) -> Option<(&'a ModelView, &'a Alias)> {
    let name = service.record.follows.as_deref()?;
    let (model, _) = service.version_reference.split_once('@')?;
    let model = view.mirror.models().iter().find(|m| m.record.name == model)?;
    let alias = model.record.aliases.iter().find(|alias| alias.name == name && alias.previous.is_some())?;
    Some((model, alias))
}

/// Asks before an alias is rolled back.
pub(crate) fn roll_back(model: &ModelView, alias: &Alias, desk: &mut Desk<'_>) {
    let view = &desk.view;
    let before = alias.previous.and_then(|id| model.versions.iter().find(|v| v.record.id == id));
    let before = before.map_or_else(String::new, |version| version.reference.clone());
    let name = format!("{}:{}", model.record.name, alias.name);
    let title = view.fill("ask.roll_back", &[("alias", &name), ("version", &before)]);
    let body = vec![view.t("ask.roll_back_body").to_owned()];
    let request = Request::RollBack { model: model.record.name.clone(), alias: alias.name.clone() };
    let wish = Wish::Ask { errand: Errand::Act(Deed::RollBack), request };
    desk.push(Layer::ask(title, body, "ask.roll_back_it", vec![wish]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_typed_as_it_is_shown() {
        for words in [vec!["/usr/bin/logger", "-t", "hone"], vec!["/bin/sh", "-c", "a \"b\" \\ c", ""], vec!["x"]] {
            let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
            assert_eq!(unquoted(&quoted(&words)), words);
        }
        assert_eq!(unquoted("  a   b  "), ["a", "b"]);
        assert_eq!(unquoted("\"open"), ["open"], "what is left open ends with the line");
        assert!(unquoted(" ").is_empty());
    }
}
