//! Hooks in the area of services: who is told of what, and how the last try went. Made on the command line; tried and removed here
//! too. And aliases that are rolled back. Never here: when something is worth an alert.

use hone_protocol::hook::HookRecord;
use hone_protocol::model::{Alias, ModelView};
use hone_protocol::request::Request;
use hone_protocol::service::ServiceView;

use super::super::{Deed, Desk, Errand, View, Wish};
use crate::cli::hook::{kinds, target, tried_words};
use crate::layers::Layer;
use crate::theme::Token;
use crate::widgets::canvas::piece;
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
