//! What keys mean in the sub-tabs of Services: which form opens, what is asked of the daemon, what is asked of the person first.
//! Never here: drawing, the fields of forms, the answers.

use hone_protocol::application::{ApplicationView, Budget, KeyRecord};
use hone_protocol::request::Request;
use hone_protocol::service::{Keep, ServiceView};

use super::super::howto;
use super::super::service_pages::short_key;
use super::super::{Deed, Desk, Errand, Place, View, Wish};
use super::{FormKind, Services, Tab, hooks, pools, upstream};
use crate::action::Action;
use crate::layers::{Layer, Sheet};

impl Services {
    fn switch(service: &ServiceView, desk: &mut Desk<'_>) {
        let name = service.record.name.clone();
        let wanted = !service.record.wanted;
        let request = Request::SetService { name: name.clone(), wanted };
        let errand = Errand::Act(Deed::Switch);
        if wanted {
            return desk.ask(errand, request);
        }
        let view = &desk.view;
        let title = view.fill("ask.stop_service", &[("name", &name)]);
        let body = match service.active + service.waiting {
            0 => view.t("ask.stop_service_idle").to_owned(),
            n => view.fill("ask.stop_service_busy", &[("n", &n.to_string())]),
        };
        desk.push(Layer::ask(title, vec![body], "ask.stop", vec![Wish::Ask { errand, request }]));
    }

    /// The form of a service that is there.
    fn edit_service(&mut self, view: &View<'_>, service: &ServiceView) {
        let record = &service.record;
        // What follows an alias goes on following it.
        let version = match (&record.follows, service.version_reference.split_once('@')) {
            (Some(alias), Some((model, _))) => format!("{model}:{alias}"),
            _ => service.version_reference.clone(),
        };
        self.publish_form(view, &version);
        let Some((_, form)) = &mut self.form else { return };
        form.set("name", record.name.clone());
        upstream::fill(form, service);
        form.set("slots", record.slots.to_string());
        form.set("context", record.context_tokens.to_string());
        match record.keep.unwrap_or_default() {
            Keep::Ready => {}
            Keep::Pinned => form.set("keep", "pinned"),
            Keep::Minutes(minutes) => {
                form.set("keep", "minutes");
                form.set("minutes", minutes.to_string());
            }
        }
    }

    pub(super) fn verb(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        let view = desk.view;
        if matches!(self.tab, Tab::Log | Tab::Guards) {
            return self.oversee(action, desk);
        }
        match (self.tab, action) {
            (Tab::Services, Action::New) => self.publish_form(&view, ""),
            (Tab::Applications, Action::New) => self.application_form(),
            (Tab::Hooks, Action::New) => self.form = Some((FormKind::Hook, hooks::form(None))),
            (Tab::Hooks, Action::Edit | Action::Enter) => match self.hook(&view) {
                Some(hook) => self.form = Some((FormKind::Hook, hooks::form(Some(hook)))),
                None => return false,
            },
            (Tab::Keys | Tab::Usage, Action::New) => match view.mirror.applications().is_empty() {
                true => {
                    self.tab = Tab::Applications;
                    self.application_form();
                }
                false => self.key_form(&view, ""),
            },
            (Tab::Services, Action::Stop | Action::Run) => match self.service(&view) {
                Some(s) if s.record.wanted == (action == Action::Stop) => Self::switch(s, desk),
                _ => return false,
            },
            (Tab::Services, Action::Undo) => match self.service(&view).and_then(|s| hooks::followed(&view, s)) {
                Some((model, alias)) => hooks::roll_back(model, alias, desk),
                None => return false,
            },
            (Tab::Hooks, Action::Try | Action::Delete) => match self.hook(&view) {
                Some(hook) if action == Action::Try => hooks::test(hook, desk),
                Some(hook) => hooks::remove(hook, desk),
                None => return false,
            },
            (Tab::Usage, Action::Left | Action::Right) => self.usage.turn(action == Action::Right),
            (Tab::Services, Action::Delete) => match self.service(&view) {
                Some(s) if !s.record.wanted => delete(desk, s),
                _ => return false,
            },
            (Tab::Applications, Action::Add) if self.application(&view).is_some_and(is_prepaid) => {
                self.pay_form(&view);
            }
            (Tab::Services, Action::Try) => match self.service(&view) {
                Some(s) => desk.open(Place::Chat(s.record.name.clone())),
                None => return false,
            },
            (Tab::Services, Action::Enter | Action::Inspect) => match self.service(&view) {
                Some(s) => {
                    let name = s.record.name.clone();
                    how_to(desk, &name);
                }
                None if action == Action::Enter => self.publish_form(&view, ""),
                None => return false,
            },
            (Tab::Services, Action::Copy) => match self.service(&view) {
                Some(s) => desk.copy(howto::curl(&view, &s.record.name)),
                None => return false,
            },
            (Tab::Services, Action::Edit) => match self.service(&view) {
                Some(s) => self.edit_service(&view, s),
                None => return false,
            },
            (Tab::Applications, Action::Enter | Action::Add) => match self.application(&view) {
                Some(a) => {
                    let name = a.record.name.clone();
                    self.key_form(&view, &name);
                }
                None => self.application_form(),
            },
            (Tab::Applications, Action::Log) => match self.application(&view) {
                Some(a) => {
                    self.log.open(&a.record.name);
                    self.tab = Tab::Log;
                }
                None => return false,
            },
            (Tab::Applications, Action::Edit) => match self.application(&view) {
                Some(a) => self.edit_application(a),
                None => return false,
            },
            (Tab::Pools, Action::New) => self.pool_form(),
            (Tab::Pools, Action::Enter | Action::Edit) => match self.pool(&view) {
                Some(pool) => self.edit_pool(pool),
                None => return false,
            },
            (Tab::Pools, Action::Delete) => match self.pool(&view) {
                Some(pool) if pool.record.place.is_some() => pools::remove(desk, pool),
                _ => return false,
            },
            (Tab::Keys, Action::Delete) => match self.key_record(&view) {
                Some((a, k)) if k.is_live(view.now_ms) => revoke(desk, a, k),
                _ => return false,
            },
            _ => return false,
        }
        true
    }

    /// What a key means in the sub-tabs of the log and of guards.
    fn oversee(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        let view = desk.view;
        let selected = self.selected_key(&view);
        let form = match (self.tab, action) {
            (Tab::Log, Action::Edit | Action::Enter) => (FormKind::LogSearch, self.log.search_form(&view)),
            (Tab::Log, Action::New) if selected.is_some() => (FormKind::LogRows, self.log.rows_form(&view)),
            (Tab::Log, action) => return self.log.act(action, selected.as_deref(), desk),
            (_, Action::New) => (FormKind::Guard, self.guards.form(None)),
            (_, Action::Edit | Action::Enter) if selected.is_some() => {
                (FormKind::Guard, self.guards.form(selected.as_deref()))
            }
            (_, Action::Try) if selected.is_some() => (FormKind::GuardTry, self.guards.try_form()),
            (_, Action::Delete) => return self.guards.remove(selected.as_deref(), desk),
            _ => return false,
        };
        self.form = Some(form);
        true
    }

    /// Does what a form of these sub-tabs asks for.
    pub(super) fn submit_oversight(&mut self, desk: &mut Desk<'_>) {
        let selected = self.selected_key(&desk.view);
        let Some((kind, form)) = self.form.take() else { return };
        match kind {
            FormKind::LogSearch => self.log.searched(&form),
            FormKind::LogRows => {
                let request = self.log.rows_wanted(&form, selected.as_deref());
                desk.ask(Errand::Act(Deed::Submit), request);
            }
            FormKind::GuardTry => self.guards.tried(selected.as_deref(), &form, desk),
            _ => match self.guards.wanted(&form) {
                Ok(request) => {
                    desk.ask(Errand::Act(Deed::Guard), request);
                    self.form = Some((kind, form));
                }
                Err(word) => {
                    desk.warn(format!("{}: {word}", desk.view.t("field.guard_kinds.about")));
                    self.form = Some((kind, form));
                }
            },
        }
    }
}

/// Opens the page that shows how a service is called.
pub(super) fn how_to(desk: &mut Desk<'_>, service: &str) {
    let view = &desk.view;
    let title = view.fill("howto.title", &[("service", service)]);
    let copy = Some(howto::curl(view, service));
    let sheet = Sheet { title, lines: howto::lines(view, service), copy, scroll: 0 };
    desk.push(Layer::Sheet(sheet));
}

/// Whether payments of it can be entered.
pub(super) fn is_prepaid(application: &ApplicationView) -> bool {
    matches!(application.record.budget, Some(Budget::Prepaid { .. }))
}

/// Asks before a service is removed: its name has to be typed.
fn delete(desk: &mut Desk<'_>, service: &ServiceView) {
    let name = service.record.name.clone();
    let title = desk.view.fill("ask.delete_service", &[("name", &name)]);
    let body = vec![desk.view.t("ask.delete_service_body").to_owned()];
    let request = Request::DeleteService { name: name.clone() };
    let wish = Wish::Ask { errand: Errand::Act(Deed::DeleteService), request };
    desk.push(Layer::ask_name(title, body, name, vec![wish]));
}

fn revoke(desk: &mut Desk<'_>, application: &ApplicationView, key: &KeyRecord) {
    let view = &desk.view;
    let name = if key.label.is_empty() { key.id.short() } else { key.label.clone() };
    let title = view.fill("ask.revoke", &[("key", &short_key(key)), ("application", &application.record.name)]);
    let body = vec![view.t("ask.revoke_body").to_owned()];
    let wish = Wish::Ask { errand: Errand::Act(Deed::Revoke), request: Request::RevokeKey { key: key.id } };
    desk.push(Layer::ask_name(title, body, name, vec![wish]));
}
