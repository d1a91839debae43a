//! Models: every model with its versions, what is known about each, and the ways in: import, alias. Never here:
//! training or publishing; their forms live in their own areas.

mod pages;

use crossterm::event::KeyEvent;
use hone_protocol::failure::Failure;
use hone_protocol::form::FieldKind;
use hone_protocol::job::JobSpec;
use hone_protocol::model::{Hub, HubSource, ModelSource, ModelView, VersionView, Weights, WeightsAs};
use hone_protocol::request::{Answer, Request};
use ratatui::layout::Rect;

use pages::{model_page, scores_page, version_page};

use super::panes::{draw_empty, panes};
use super::tables::{fit, quantisation};
use super::{Class, Deed, Desk, Errand, Place, Screen, View};
use crate::action::{Action, Offer, offer};
use crate::keymap::Context;
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, piece};
use crate::widgets::form::{Form, FormField, FormReply, Rule, Stride};
use crate::widgets::list::{Listing, Row, cell, column};
use crate::widgets::number;
use crate::widgets::page::Page;

/// Name that the starter is imported under.
pub(super) const STARTER: &str = "starter";
const SOURCES: &[&str] = &["starter", "file", "file_in_place", "hub", "folder"];

/// The area.
#[derive(Default)]
pub(crate) struct Models {
    list: Listing,
    form: Option<(FormKind, Form)>,
    reading: bool,
    scroll: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FormKind {
    Import,
    Alias,
}

/// What a row stands for.
enum Item<'a> {
    Model(&'a ModelView),
    Version(&'a ModelView, &'a VersionView),
}

fn items<'a>(view: &View<'a>) -> Vec<(String, Item<'a>)> {
    let mut items = Vec::new();
    for model in view.mirror.models() {
        items.push((model.record.name.clone(), Item::Model(model)));
        for version in model.live().rev() {
            items.push((version.reference.clone(), Item::Version(model, version)));
        }
    }
    items
}

fn row(view: &View<'_>, key: &str, item: &Item<'_>) -> Row {
    let cells = match item {
        Item::Model(model) => {
            vec![
                piece(cell(&model.record.name), Token::Heading),
                piece(String::new(), Token::Muted),
                piece(String::new(), Token::Muted),
                piece(String::new(), Token::Muted),
                piece(String::new(), Token::Muted),
                piece(cell(&model.record.licence), Token::Muted),
            ]
        }
        Item::Version(model, version) => {
            let facts = &version.record.facts;
            let aliases: Vec<&str> = model
                .record
                .aliases
                .iter()
                .filter(|a| a.version == version.record.id)
                .map(|a| a.name.as_str())
                .collect();
            let name = match aliases.is_empty() {
                true => format!("  @{}", version.record.number),
                false => format!("  @{} :{}", version.record.number, aliases.join(" :")),
            };
            let what = match version.record.weights {
                Weights::Base => quantisation(version),
                Weights::Adapter { rank, .. } => format!("LoRA r{rank}"),
            };
            let served = if version.services.is_empty() {
                fit(view, version)
            } else {
                piece(view.fill("models.served_as", &[("names", &version.services.join(", "))]), Token::Ok)
            };
            vec![
                piece(name, Token::Text),
                piece(number::bytes(version.record.file.size_bytes), Token::Text),
                piece(what, Token::Text),
                piece(number::parameters(facts.parameters), Token::Muted),
                served,
                piece(number::ago(view.language, view.now_ms, version.record.created_at_ms), Token::Muted),
            ]
        }
    };
    Row { key: key.to_owned(), cells }
}

impl Models {
    fn rows(&self, view: &View<'_>) -> Vec<Row> {
        self.list.passing(items(view).iter().map(|(key, item)| row(view, key, item)).collect())
    }

    /// The selected version; the newest one of a selected model.
    fn version<'a>(&mut self, view: &View<'a>) -> Option<&'a VersionView> {
        let rows = self.rows(view);
        let key = self.list.selected(&rows)?;
        items(view).into_iter().find(|(k, _)| *k == key).and_then(|(_, item)| match item {
            Item::Model(model) => model.live().next_back(),
            Item::Version(_, version) => Some(version),
        })
    }

    fn import_form(&mut self, path: &str) {
        let file = std::path::Path::new(path).file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        let name: String = if path.is_empty() { STARTER.to_owned() } else { as_name(file) };
        let source = if path.is_empty() { SOURCES[0] } else { SOURCES[1] };
        let section = "models.import";
        let mut form = Form::new(vec![
            FormField::text("source", section, "field.source", "field.source.about").of(
                FieldKind::Choice(SOURCES),
                Stride::Add(1.0),
                source,
            ),
            FormField::text("path", section, "field.path", "field.model_path.about").filled(path, Vec::new()),
            FormField::text("name", section, "field.name", "field.model_name.about")
                .rule(Rule::Name)
                .filled(name, Vec::new()),
        ]);
        if !path.is_empty() {
            form.focus_on("name");
        }
        self.form = Some((FormKind::Import, form));
    }

    fn alias_form(&mut self, version: &VersionView, view: &View<'_>) {
        let model = version.reference.split('@').next().unwrap_or_default();
        let record = view.mirror.models().iter().find(|m| m.record.name == model);
        let known = record.map(|m| m.record.aliases.iter().map(|a| a.name.clone()).collect()).unwrap_or_default();
        let versions = record.map(|m| m.live().rev().map(|v| v.reference.clone()).collect()).unwrap_or_default();
        self.form = Some((
            FormKind::Alias,
            Form::new(vec![
                FormField::text("alias", "models.alias", "field.alias", "field.alias.about")
                    .rule(Rule::Name)
                    .filled("stable", known),
                FormField::text("version", "models.alias", "word.version", "field.alias_version.about")
                    .rule(Rule::OneOf)
                    .filled(version.reference.clone(), versions),
            ]),
        ));
    }

    fn submit(&mut self, desk: &mut Desk<'_>) {
        let Some((kind, form)) = &mut self.form else { return };
        match kind {
            FormKind::Import => {
                let path = form.value("path").to_owned();
                let source = match form.value("source") {
                    "starter" => ModelSource::Starter,
                    word => match source(word, path) {
                        Ok(source) => source,
                        Err(problem) => {
                            form.remote.insert("path".into(), desk.view.t(problem).to_owned());
                            form.focus_on("path");
                            return;
                        }
                    },
                };
                let spec = JobSpec::ImportModel { source, name: form.value("name").to_owned() };
                desk.ask(Errand::Act(Deed::Submit), Request::Submit { spec });
            }
            FormKind::Alias => {
                let version = form.value("version").to_owned();
                let model = version.split('@').next().unwrap_or_default().to_owned();
                let alias = form.value("alias").to_owned();
                desk.ask(Errand::Act(Deed::Alias), Request::SetAlias { model, alias, version });
            }
        }
    }

    /// The selected version's model with all its versions, and what measured it: the third pane.
    fn family(&mut self, view: &View<'_>) -> Page {
        let mut page = Page::new();
        let Some(version) = self.version(view) else { return page };
        let model = view.mirror.models().iter().find(|m| m.versions.iter().any(|v| v.record.id == version.record.id));
        if let Some(model) = model {
            model_page(view, model, &mut page);
        }
        page.blank();
        scores_page(view, version, &mut page);
        page
    }

    fn reader(&mut self, view: &View<'_>) -> Page {
        let mut page = Page::new();
        let rows = self.rows(view);
        let Some(key) = self.list.selected(&rows) else { return page };
        match items(view).into_iter().find(|(k, _)| *k == key) {
            Some((_, Item::Model(model))) => {
                // At three panes the model has one of its own.
                if view.class < Class::Xl {
                    model_page(view, model, &mut page);
                    page.blank();
                }
                if let Some(newest) = model.live().next_back() {
                    version_page(view, model, newest, &mut page);
                }
            }
            Some((_, Item::Version(model, version))) => version_page(view, model, version, &mut page),
            None => {}
        }
        page
    }
}

/// What a choice and a typed path mean, or the key of the sentence on what is wrong.
fn source(word: &str, path: String) -> Result<ModelSource, &'static str> {
    match word {
        "hub" => HubSource::parse(path.trim(), Hub::Huggingface).map(ModelSource::Hub).ok_or("form.repository"),
        _ if !path.starts_with('/') => Err("form.absolute"),
        "folder" => Ok(ModelSource::Folder { path, weights: WeightsAs::AsStored }),
        _ => Ok(ModelSource::Path { path, in_place: word == "file_in_place" }),
    }
}

/// A text as a name: lower case, other characters as dashes.
pub(super) fn as_name(text: &str) -> String {
    let lower = text.to_lowercase();
    let kept: String = lower
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .collect();
    kept.trim_matches(|c: char| !c.is_ascii_alphanumeric()).chars().take(64).collect()
}

impl Screen for Models {
    fn trail(&self, view: &View<'_>) -> Vec<String> {
        match &self.form {
            Some((FormKind::Import, _)) => vec![view.t("models.import").to_owned()],
            Some((FormKind::Alias, _)) => vec![view.t("models.alias").to_owned()],
            None if self.reading => self.list.key().map(str::to_owned).into_iter().collect(),
            None => Vec::new(),
        }
    }

    fn context(&self) -> Context {
        let typing = self.form.as_ref().is_some_and(|(_, f)| f.is_editing()) || self.list.filtering;
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
        if let Some(version) = self.version(view) {
            if self.reading {
                offers.push(offer(Action::Down, "hint_row.scroll"));
                offers.push(offer(Action::Out, "act.out"));
            } else {
                offers.push(offer(Action::Enter, "models.read"));
            }
            offers.push(offer(Action::Try, "models.try"));
            if matches!(version.record.weights, Weights::Base) && version.record.facts.trainable.is_ok() {
                offers.push(offer(Action::Run, "models.train_from"));
            }
            offers.push(offer(Action::Add, "models.publish"));
            offers.push(offer(Action::Edit, "models.alias"));
            offers.push(offer(Action::Copy, "models.copy_name"));
        }
        offers.push(offer(Action::New, "models.import"));
        if !view.mirror.models().is_empty() {
            offers.push(offer(Action::Filter, "hint_row.filter"));
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
        if self.reading {
            match action {
                Action::Up => self.scroll = self.scroll.saturating_sub(1),
                Action::Down => self.scroll += 1,
                Action::Out | Action::Enter => self.reading = false,
                Action::Filter => {
                    self.reading = false;
                    let rows = self.rows(&desk.view);
                    return self.list.act(action, &rows);
                }
                _ => return self.verb(action, desk),
            }
            return true;
        }
        let rows = self.rows(&desk.view);
        if self.list.act(action, &rows) {
            self.scroll = 0;
            return true;
        }
        self.verb(action, desk)
    }

    fn key(&mut self, key: KeyEvent, _: &mut Desk<'_>) {
        match &mut self.form {
            Some((_, form)) => {
                form.key(key);
            }
            None => self.list.type_key(key),
        }
    }

    fn paste(&mut self, text: &str, _: &mut Desk<'_>) -> bool {
        match &mut self.form {
            Some((_, form)) if form.is_editing() => form.paste(text),
            _ => return false,
        }
        true
    }

    fn open(&mut self, place: Place, _: &mut Desk<'_>) {
        match place {
            Place::ImportModel(path) => self.import_form(&path),
            Place::Model(name) => {
                self.form = None;
                self.list.clear_filter();
                self.list.select(name);
            }
            _ => {}
        }
    }

    fn answer(&mut self, errand: Errand, answer: Result<Answer, Failure>, desk: &mut Desk<'_>) {
        match (errand, answer) {
            (Errand::Act(Deed::Submit), Ok(Answer::Job(job))) => {
                self.form = None;
                desk.open(Place::Job(job.record.id));
            }
            (Errand::Act(Deed::Alias), Ok(_)) => self.form = None,
            (Errand::Act(_), Err(failure)) => {
                if let Some((_, form)) = &mut self.form {
                    form.remote.insert(failure.place.clone(), desk.view.failure(&failure));
                    form.focus_on(&failure.place);
                }
            }
            _ => {}
        }
    }

    fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        if let Some((_, form)) = &mut self.form {
            let mut more = Page::new();
            more.blank().text(view.t("form.r_goes"), Token::Accent);
            return form.draw(canvas, area, view, more);
        }
        let rows = self.rows(view);
        if rows.is_empty() && !self.list.is_filtered() {
            return draw_empty(canvas, area, view.t("models.empty"));
        }
        let page = self.reader(view);
        let wide = view.class >= Class::M;
        if self.reading && !wide {
            page.draw(canvas, Rect { x: area.x + 1, width: area.width - 2, ..area }, &mut self.scroll);
            return;
        }
        let panes = panes(canvas, area, view, 12, true);
        let columns = [
            column(view.t("col.name"), 0),
            column(view.t("col.size"), 7).right(),
            column(view.t("col.kind"), 9),
            column(view.t("col.parameters"), 6).right().from(66),
            column(view.t("col.here"), 18),
            column(view.t("col.made"), 10).from(84),
        ];
        self.list.draw(canvas, panes.list, &columns, &rows, !self.reading);
        if let Some(reader) = panes.reader {
            page.draw(canvas, reader, &mut self.scroll);
            if self.reading {
                canvas.cursor_at(reader.x, reader.y);
            }
        }
        if let Some(context) = panes.context {
            self.family(view).draw_top(canvas, context);
        }
    }
}

impl Models {
    fn verb(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        let version = self.version(&desk.view);
        match (action, version) {
            (Action::New, _) => self.import_form(""),
            (Action::Enter, None) => self.import_form(""),
            (Action::Enter, Some(_)) => self.reading = true,
            (Action::Out, _) if self.list.is_filtered() => self.list.clear_filter(),
            (Action::Run, Some(v)) if matches!(v.record.weights, Weights::Base) => {
                desk.open(Place::NewRun { base: v.reference.clone(), dataset: String::new() });
            }
            (Action::Try, Some(v)) => match v.services.first() {
                Some(service) => desk.open(Place::Chat(service.clone())),
                None => {
                    desk.say(desk.view.t("models.publish_first"));
                    desk.open(Place::Publish(v.reference.clone()));
                }
            },
            (Action::Add, Some(v)) => desk.open(Place::Publish(v.reference.clone())),
            (Action::Edit, Some(v)) => self.alias_form(v, &desk.view),
            (Action::Copy, Some(v)) => desk.copy(v.reference.clone()),
            _ => return false,
        }
        true
    }
}

/// The keys of every form but the training form's.
pub(super) fn form_offers(go: &'static str) -> Vec<Offer> {
    vec![
        offer(Action::Run, go),
        offer(Action::Down, "form.field"),
        offer(Action::Left, "form.step"),
        offer(Action::Right, "form.step"),
        offer(Action::Enter, "form.edit"),
        offer(Action::Delete, "form.default"),
        offer(Action::Undo, "form.undo"),
        offer(Action::Out, "act.out"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_of_the_import_form_is_a_source() {
        let of = |word: &str, path: &str| source(word, path.to_owned());
        assert!(matches!(of("file", "/m.gguf"), Ok(ModelSource::Path { in_place: false, .. })));
        assert!(matches!(of("file_in_place", "/m.gguf"), Ok(ModelSource::Path { in_place: true, .. })));
        assert!(matches!(of("folder", "/m"), Ok(ModelSource::Folder { .. })));
        assert!(matches!(of("hub", " modelscope:a/b:Q8_0 "), Ok(ModelSource::Hub(hub)) if hub.hub == Hub::Modelscope));
        assert_eq!(of("hub", "/m.gguf"), Err("form.repository"));
        assert_eq!(of("folder", "m"), Err("form.absolute"));
        assert_eq!(SOURCES.len(), 5);
    }
}
