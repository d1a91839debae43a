//! Services: what can be called, who may call, with which keys, what it cost, what was asked, what must not pass, and who
//! is told of alerts; the pools that it is computed in. Eight sub-tabs. Never here: answering a request, or a secret after
//! it was shown.

mod forms;
mod guards;
pub(crate) mod hooks;
mod log;
#[cfg(test)]
mod pictures;
pub(crate) mod pools;
mod upstream;
mod usage;
mod verbs;

use crossterm::event::KeyEvent;
use hone_protocol::application::{ApplicationView, KeyRecord};
use hone_protocol::failure::Failure;
use hone_protocol::hook::HookRecord;
use hone_protocol::pool::PoolView;
use hone_protocol::request::Answer;
use hone_protocol::service::{ServiceState, ServiceView};
use hone_protocol::snippet::KEY_VARIABLE;
use ratatui::layout::Rect;

use super::howto;
use super::models::form_offers;
use super::panes::{draw_empty, draw_tabs, panes};
use super::service_pages::{application_page, application_row, key_row, service_page, service_row, short_key};
use super::{Class, Deed, Desk, Errand, Place, Screen, View};
use crate::action::{Action, Offer, offer};
use crate::keymap::Context;
use crate::layers::{Layer, Sheet};
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, Piece, piece};
use crate::widgets::form::{Form, FormReply};
use crate::widgets::list::{Column, Listing, Row, cell, column};
use crate::widgets::number;
use crate::widgets::page::Page;
use guards::GuardPane;
use log::LogPane;
use usage::UsagePane;
use verbs::{how_to, is_prepaid};

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Tab {
    #[default]
    Services,
    Applications,
    Keys,
    Pools,
    Hooks,
    Usage,
    Log,
    Guards,
}

const TABS: [(Tab, &str); 8] = [
    (Tab::Services, "services.tab_services"),
    (Tab::Applications, "services.tab_applications"),
    (Tab::Keys, "services.tab_keys"),
    (Tab::Pools, "services.tab_pools"),
    (Tab::Hooks, "services.tab_hooks"),
    (Tab::Usage, "services.tab_usage"),
    (Tab::Log, "services.tab_log"),
    (Tab::Guards, "services.tab_guards"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum FormKind {
    Publish,
    Application,
    Key,
    Pay,
    LogSearch,
    LogRows,
    Guard,
    GuardTry,
    Pool,
    Hook,
}

/// The area.
#[derive(Default)]
pub(crate) struct Services {
    tab: Tab,
    lists: [Listing; 8],
    form: Option<(FormKind, Form)>,
    usage: UsagePane,
    log: LogPane,
    guards: GuardPane,
}

fn keys<'a>(view: &View<'a>) -> Vec<(&'a ApplicationView, &'a KeyRecord)> {
    view.mirror.applications().iter().flat_map(|a| a.keys.iter().map(move |k| (a, k))).collect()
}

impl Services {
    fn list(&mut self) -> &mut Listing {
        &mut self.lists[self.tab as usize]
    }

    fn rows(&self, view: &View<'_>) -> Vec<Row> {
        let glyphs = crate::glyphs::Glyphs::of(crate::glyphs::GlyphSet::Full);
        let rows = match self.tab {
            Tab::Services => view.mirror.services().iter().map(|s| service_row(view, s, glyphs)).collect(),
            Tab::Applications => view.mirror.applications().iter().map(|a| application_row(a, view.now_ms)).collect(),
            Tab::Keys => keys(view).into_iter().map(|(a, k)| key_row(view, a, k)).collect(),
            Tab::Usage => self.usage.rows(view),
            Tab::Log => self.log.rows(view),
            Tab::Guards => self.guards.rows(view),
            Tab::Pools => view.mirror.pools().iter().map(pools::row).collect(),
            Tab::Hooks => view.mirror.hooks().iter().map(|hook| hooks::hook_row(view, hook)).collect(),
        };
        self.lists[self.tab as usize].passing(rows)
    }

    fn selected_key(&mut self, view: &View<'_>) -> Option<String> {
        let rows = self.rows(view);
        self.list().selected(&rows)
    }

    fn service<'a>(&mut self, view: &View<'a>) -> Option<&'a ServiceView> {
        let key = self.selected_key(view).filter(|_| self.tab == Tab::Services)?;
        view.mirror.services().iter().find(|s| s.record.name == key)
    }

    fn application<'a>(&mut self, view: &View<'a>) -> Option<&'a ApplicationView> {
        let key = self.selected_key(view).filter(|_| self.tab == Tab::Applications)?;
        view.mirror.applications().iter().find(|a| a.record.name == key)
    }

    fn key_record<'a>(&mut self, view: &View<'a>) -> Option<(&'a ApplicationView, &'a KeyRecord)> {
        let key = self.selected_key(view).filter(|_| self.tab == Tab::Keys)?;
        keys(view).into_iter().find(|(_, k)| k.id.to_string() == key)
    }

    fn pool<'a>(&mut self, view: &View<'a>) -> Option<&'a PoolView> {
        let key = self.selected_key(view).filter(|_| self.tab == Tab::Pools)?;
        view.mirror.pools().iter().find(|pool| pool.record.name == key)
    }

    fn hook<'a>(&mut self, view: &View<'a>) -> Option<&'a HookRecord> {
        let key = self.selected_key(view).filter(|_| self.tab == Tab::Hooks)?;
        view.mirror.hooks().iter().find(|hook| hook.name == key)
    }

    fn columns(&self, view: &View<'_>) -> Vec<Column> {
        let c = |key, cells| column(view.t(key), cells);
        match self.tab {
            Tab::Services => vec![
                c("col.name", 0),
                c("col.state", 12),
                c("word.version", 22).from(64),
                c("col.requests", 8).right(),
                c("col.memory", 8).right().from(80),
            ],
            Tab::Applications => vec![
                c("col.name", 0),
                c("col.keys", 6).right(),
                c("col.requests", 8).right(),
                c("col.tokens", 12).right(),
                c("col.cost", 12).right().from(70),
            ],
            Tab::Keys => vec![
                c("word.key", 12),
                c("word.application", 16),
                c("col.label", 0),
                c("col.state", 10),
                c("col.made", 10),
            ],
            Tab::Usage => self.usage.columns(view),
            Tab::Log => self.log.columns(view),
            Tab::Guards => self.guards.columns(view),
            Tab::Pools => vec![
                c("col.name", 0),
                c("col.kind", 8),
                c("col.cores", 6).right(),
                c("col.memory", 8).right(),
                c("col.used", 8).right(),
                c("field.core_hour", 10).right().from(64),
            ],
            Tab::Hooks => {
                vec![c("col.name", 14), c("hooks.told_of", 0), c("hooks.last", 14), c("hooks.waiting", 8).right()]
            }
        }
    }

    /// How the selected service is called, for the third pane.
    fn calls(&mut self, view: &View<'_>) -> Page {
        let selected = self.service(view).or(view.mirror.services().first());
        let Some(service) = selected.map(|s| s.record.name.clone()) else { return Page::new() };
        let mut page = Page::new();
        page.heading(view.fill("howto.title", &[("service", &service)])).blank();
        for line in howto::lines(view, &service) {
            let content = line.text.trim_start_matches(' ');
            page.indented(content, line.token, (line.text.len() - content.len()) as u16);
        }
        page
    }

    fn reader(&mut self, view: &View<'_>, canvas: &Canvas<'_>) -> Page {
        let mut page = Page::new();
        match self.tab {
            Tab::Services => {
                if let Some(service) = self.service(view) {
                    // Where there is little room, a service that is well is told of by its figures.
                    if view.class < Class::M && service.state == ServiceState::On {
                        self.usage.stats_page(view, &service.record.name, &mut page);
                        page.blank();
                        service_page(view, service, &mut page, canvas);
                    } else {
                        service_page(view, service, &mut page, canvas);
                        page.blank();
                        self.usage.stats_page(view, &service.record.name, &mut page);
                    }
                    page.blank().text(view.t("services.i_shows"), Token::Muted);
                }
            }
            Tab::Applications => {
                if let Some(application) = self.application(view) {
                    application_page(view, application, &mut page);
                }
            }
            Tab::Keys => {
                page.text(view.t("services.keys_about"), Token::Muted);
                if let Some((application, key)) = self.key_record(view) {
                    page.blank().heading(short_key(key));
                    page.fact(view.t("word.application"), cell(&application.record.name));
                    page.fact(view.t("col.made"), number::ago(view.language, view.now_ms, key.created_at_ms));
                    if let Some(at) = key.revoked_at_ms {
                        page.fact_as(
                            view.t("services.revoked"),
                            number::ago(view.language, view.now_ms, at),
                            Token::Warn,
                        );
                    }
                    page.fact("id", key.id.to_string());
                }
            }
            Tab::Pools => {
                page.text(view.t("services.pools_about"), Token::Muted).blank();
                if let Some(pool) = self.pool(view) {
                    pools::page(view, pool, &mut page);
                }
            }
            Tab::Hooks => {
                if let Some(hook) = self.hook(view) {
                    hooks::hook_page(view, hook, &mut page);
                }
                page.blank().text(view.t("hooks.about"), Token::Muted);
            }
            Tab::Usage => {
                let selected = self.selected_key(view);
                page = self.usage.page(view, selected.as_deref(), canvas);
            }
            Tab::Log => {
                let selected = self.selected_key(view);
                page = self.log.page(view, selected.as_deref(), canvas);
            }
            Tab::Guards => {
                let selected = self.selected_key(view);
                page = self.guards.page(view, selected.as_deref());
            }
        }
        page
    }
}

impl Screen for Services {
    fn trail(&self, view: &View<'_>) -> Vec<String> {
        let form = self.form.as_ref().map(|(kind, _)| match kind {
            FormKind::Publish => "services.publish",
            FormKind::Application => "services.application",
            FormKind::Key => "services.key",
            FormKind::Pay => "services.pay",
            FormKind::LogSearch => "services.log_search",
            FormKind::LogRows => "services.log_make",
            FormKind::Guard => "services.guard",
            FormKind::GuardTry => "services.guard_try",
            FormKind::Pool => "services.pool",
            FormKind::Hook => "services.hook",
        });
        let tab = Some(TABS[self.tab as usize].1).filter(|_| self.tab != Tab::Services);
        tab.into_iter().chain(form).map(|k| view.t(k).to_owned()).collect()
    }

    fn context(&self) -> Context {
        let typing = match &self.form {
            Some((_, form)) => form.is_editing(),
            None => self.lists[self.tab as usize].filtering,
        };
        if typing { Context::Field } else { Context::Browse }
    }

    fn takes_digits(&self) -> bool {
        self.form.as_ref().is_some_and(|(_, f)| f.takes_digits())
    }

    fn offers(&mut self, view: &View<'_>) -> Vec<Offer> {
        if self.form.is_some() {
            return form_offers("form.go");
        }
        let mut offers = Vec::new();
        match self.tab {
            Tab::Services => {
                if let Some(service) = self.service(view) {
                    offers.push(offer(Action::Enter, "services.how_to"));
                    offers.push(offer(Action::Try, "models.try"));
                    offers.push(match service.record.wanted {
                        true => offer(Action::Stop, "services.stop"),
                        false => offer(Action::Run, "services.start"),
                    });
                    offers.push(offer(Action::Edit, "services.edit"));
                    if hooks::followed(view, service).is_some() {
                        offers.push(offer(Action::Undo, "services.roll_back"));
                    }
                    if !service.record.wanted {
                        offers.push(offer(Action::Delete, "services.delete"));
                    }
                }
                offers.push(offer(Action::New, "services.publish"));
                if self.service(view).is_some() {
                    offers.push(offer(Action::Copy, "services.copy_call"));
                }
            }
            Tab::Applications => {
                if self.application(view).is_some() {
                    offers.push(offer(Action::Enter, "services.key"));
                    offers.push(offer(Action::Edit, "services.edit"));
                    let adds =
                        if self.application(view).is_some_and(is_prepaid) { "services.pay" } else { "services.key" };
                    offers.push(offer(Action::Add, adds));
                    offers.push(offer(Action::Log, "services.log_setting"));
                }
                offers.push(offer(Action::New, "services.application"));
            }
            Tab::Keys => {
                offers.push(offer(Action::New, "services.key"));
                if self.key_record(view).is_some_and(|(_, k)| k.is_live(view.now_ms)) {
                    offers.push(offer(Action::Delete, "services.revoke"));
                }
            }
            Tab::Pools => {
                if let Some(pool) = self.pool(view) {
                    offers.push(offer(Action::Enter, "services.edit"));
                    if pool.record.place.is_some() {
                        offers.push(offer(Action::Delete, "services.delete"));
                    }
                }
                offers.push(offer(Action::New, "services.pool"));
            }
            Tab::Hooks => {
                if self.hook(view).is_some() {
                    offers.push(offer(Action::Try, "hooks.test"));
                    offers.push(offer(Action::Edit, "services.edit"));
                    offers.push(offer(Action::Delete, "hooks.remove"));
                }
                offers.push(offer(Action::New, "services.hook"));
            }
            Tab::Usage => {
                offers.push(offer(Action::Right, "services.period_next"));
                offers.push(offer(Action::Left, "services.period_next"));
            }
            Tab::Log => {
                let selected = self.selected_key(view);
                offers.extend(self.log.offers(selected.as_deref()));
            }
            Tab::Guards => {
                let selected = self.selected_key(view);
                offers.extend(self.guards.offers(selected.as_deref()));
            }
        }
        offers.push(offer(Action::NextTab, "hint_row.tabs"));
        offers.push(offer(Action::PreviousTab, "hint_row.tabs_back"));
        if self.selected_key(view).is_some() {
            offers.push(offer(Action::Filter, "hint_row.filter"));
        }
        if self.service(view).is_some() {
            offers.push(offer(Action::Inspect, "services.how_to"));
        }
        offers
    }

    fn act(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        if let Some((_, form)) = &mut self.form {
            match action {
                Action::Out => self.form = None,
                action => match form.act(action, &desk.view) {
                    FormReply::No => return false,
                    FormReply::Start => self.submit(desk),
                    FormReply::Wrong => desk.warn(desk.view.t("form.wrong")),
                    _ => {}
                },
            }
            return true;
        }
        let rows = self.rows(&desk.view);
        if self.list().act(action, &rows) {
            return true;
        }
        let tab = self.tab as usize;
        match action {
            Action::NextTab => self.tab = TABS[(tab + 1) % TABS.len()].0,
            Action::PreviousTab => self.tab = TABS[(tab + TABS.len() - 1) % TABS.len()].0,
            Action::Out if self.list().is_filtered() => self.list().clear_filter(),
            Action::Out if self.tab != Tab::Services => self.tab = Tab::Services,
            action => return self.verb(action, desk),
        }
        true
    }

    fn key(&mut self, key: KeyEvent, _: &mut Desk<'_>) {
        match &mut self.form {
            Some((_, form)) => {
                form.key(key);
            }
            None => self.list().type_key(key),
        }
    }

    fn paste(&mut self, text: &str, _: &mut Desk<'_>) -> bool {
        match &mut self.form {
            Some((_, form)) if form.is_editing() => form.paste(text),
            _ => return false,
        }
        true
    }

    fn open(&mut self, place: Place, desk: &mut Desk<'_>) {
        match place {
            Place::Publish(version) => self.publish_form(&desk.view, &version),
            Place::NewKey(application) => {
                if desk.view.mirror.applications().is_empty() {
                    self.tab = Tab::Applications;
                    self.application_form();
                } else {
                    self.key_form(&desk.view, &application);
                }
            }
            Place::HowTo(service) => {
                self.form = None;
                self.tab = Tab::Services;
                self.list().clear_filter();
                self.list().select(service.clone());
                how_to(desk, &service);
            }
            _ => {}
        }
    }

    fn needs(&mut self, desk: &mut Desk<'_>) {
        match self.tab {
            _ if desk.view.away => {}
            Tab::Usage => self.usage.needs(desk),
            Tab::Services => self.usage.needs_stats(desk),
            Tab::Log => {
                let selected = self.selected_key(&desk.view);
                self.log.needs(desk, selected.as_deref());
            }
            Tab::Guards => self.guards.needs(desk),
            _ => {}
        }
    }

    fn answer(&mut self, errand: Errand, answer: Result<Answer, Failure>, desk: &mut Desk<'_>) {
        let Some(answer) = self.usage.answer(errand, answer, desk) else { return };
        let Some(answer) = self.log.answer(errand, answer, desk) else { return };
        let Some(answer) = self.guards.answer(errand, answer, desk) else { return };
        match (errand, answer) {
            (Errand::Act(Deed::Key), Ok(Answer::Key { secret, .. })) => {
                self.form = None;
                let view = &desk.view;
                let lines: Vec<Piece> = vec![
                    piece(view.t("key.shown_once"), Token::Warn),
                    piece("", Token::Text),
                    piece(format!("  {secret}"), Token::Accent),
                    piece("", Token::Text),
                    piece(format!("  export {KEY_VARIABLE}={secret}"), Token::Text),
                    piece("", Token::Text),
                    piece(view.t("key.then"), Token::Muted),
                ];
                let title = view.t("key.title").to_owned();
                desk.push(Layer::Sheet(Sheet { title, lines, copy: Some(secret), scroll: 0 }));
            }
            (Errand::Act(Deed::Pay), Ok(_)) => self.form = None,
            (Errand::Act(Deed::Hook), Ok(Answer::Hook { hook, secret })) => {
                self.form = None;
                self.lists[Tab::Hooks as usize].select(hook.name.clone());
                if let Some(secret) = secret {
                    desk.push(hooks::secret_sheet(&desk.view, &hook, secret));
                }
            }
            (Errand::Act(Deed::Guard), Ok(_)) => {
                let name = self.form.take().map(|(_, form)| form.value("name").to_owned()).unwrap_or_default();
                self.lists[Tab::Guards as usize].select(name);
            }
            (Errand::Act(Deed::Pool), Ok(_)) => {
                let name = self.form.take().map(|(_, f)| f.value("name").to_owned()).unwrap_or_default();
                self.lists[Tab::Pools as usize].select(name);
            }
            (Errand::Act(Deed::Application), Ok(_)) => {
                let name = self.form.take().map(|(_, f)| f.value("name").to_owned()).unwrap_or_default();
                self.lists[Tab::Applications as usize].select(name);
            }
            (Errand::Act(Deed::Publish), Ok(Answer::Service(service))) => {
                self.form = None;
                self.lists[Tab::Services as usize].select(service.record.name.clone());
            }
            (Errand::Act(_), Err(failure)) => {
                if let Some((_, form)) = &mut self.form {
                    form.remote.insert(failure.place.clone(), desk.view.failure(&failure));
                    form.focus_on(&failure.place);
                }
            }
            _ => {}
        }
    }

    fn forget(&mut self) {
        self.usage.forget();
        self.log.forget();
        self.guards.forget();
    }

    fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        if let Some((_, form)) = &mut self.form {
            let mut more = Page::new();
            more.blank().text(view.t("form.r_goes"), Token::Accent);
            return form.draw(canvas, area, view, more);
        }
        draw_tabs(canvas, area, view, &TABS.map(|(_, key)| key), self.tab as usize);
        let body = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        let rows = self.rows(view);
        if rows.is_empty() && !self.list().is_filtered() && !matches!(self.tab, Tab::Usage | Tab::Log) {
            let said = match self.tab {
                Tab::Services => view.t("services.empty").to_owned(),
                Tab::Applications => view.t("services.no_applications").to_owned(),
                Tab::Guards => self.guards.problem(view).unwrap_or_else(|| view.t("services.no_guards").to_owned()),
                Tab::Hooks => view.t("hooks.none").to_owned(),
                _ => view.t("services.no_keys_yet").to_owned(),
            };
            return draw_empty(canvas, body, &said);
        }
        let third = matches!(self.tab, Tab::Services | Tab::Keys) && !view.mirror.services().is_empty();
        let below = if view.class == Class::S { body.height / 2 } else { 0 };
        let share = if matches!(self.tab, Tab::Usage | Tab::Guards) { 13 } else { 11 };
        let panes = panes(canvas, body, view, share, third);
        let list = Rect { height: body.height - below, ..panes.list };
        let columns = self.columns(view);
        self.list().draw(canvas, list, &columns, &rows, true);
        if rows.is_empty() && !self.list().is_filtered() {
            let said = match self.tab {
                Tab::Log => self.log.nothing(view),
                _ => self.usage.problem().unwrap_or_else(|| view.t("services.no_usage").to_owned()),
            };
            let room =
                Rect { x: list.x + 3, y: list.y + 2, width: list.width - 4, height: list.height.saturating_sub(2) };
            Page::new().text(said, Token::Muted).draw_top(canvas, room);
        }
        let page = self.reader(view, canvas);
        if let Some(reader) = panes.reader {
            page.draw_top(canvas, reader);
            if let Some(context) = panes.context {
                self.calls(view).draw_top(canvas, context);
            }
        } else if below > 0 {
            canvas.rule(area, list.bottom(), true);
            page.draw_top(
                canvas,
                Rect { x: area.x + 1, y: list.bottom() + 1, width: area.width - 2, height: below - 1 },
            );
        }
    }
}
