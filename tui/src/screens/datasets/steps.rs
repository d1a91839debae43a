//! The editor of a recipe: its steps, the settings of one, and what they would do to some rows, always as they stand. Never here: doing
//! a step (the daemon's reader does), rows that a run dropped (see `ledger`).

use crossterm::event::KeyEvent;
use hone_protocol::catalogue;
use hone_protocol::dataset::{ChatMessage, DatasetView, Shape};
use hone_protocol::form::FieldKind;
use hone_protocol::job::JobSpec;
use hone_protocol::note::{NoteHead, NoteKind, NoteRecord};
use hone_protocol::recipe::{
    Family, LedgerAct, PRESETS, Preview, ProcessSpec, Recipe, STEPS, STEPS_MAX, StepForm, StepSpec, preset, step_form,
};
use hone_protocol::request::Request;
use hone_protocol::value::Json;
use ratatui::layout::Rect;

use crate::action::{Action, Offer, offer};
use crate::screens::models::{as_name, form_offers};
use crate::screens::window::Window;
use crate::screens::{Class, Deed, Desk, Errand, View};
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, piece};
use crate::widgets::form::{Form, FormField, FormReply, Rule, Stride};
use crate::widgets::list::{Listing, Row, cell, column};
use crate::widgets::number;
use crate::widgets::page::Page;
use crate::widgets::text;

/// Rows of a preview.
const PREVIEW_ROWS: u32 = 5;
/// Characters of a message in the preview.
const SHOWN_CHARACTERS: usize = 300;

/// What is in front.
#[derive(Default, PartialEq, Eq)]
enum Face {
    /// The steps.
    #[default]
    Steps,
    /// Settings of the chosen step.
    Settings,
    /// All kinds of steps, to add one.
    Kinds,
    /// Name of what comes out, and of the recipe.
    Run,
}

type PreviewKey = (String, Recipe);

/// The editor.
#[derive(Default)]
pub(super) struct Editor {
    /// `name@number` of the version that goes in.
    source: String,
    recipe_name: String,
    recipe: Recipe,
    face: Face,
    list: Listing,
    kinds: Listing,
    form: Form,
    preview: Window<PreviewKey, Preview>,
    undo: Vec<Recipe>,
    scroll: usize,
    /// Names of recipes that the person saved, once they are known.
    saved: Option<Vec<String>>,
    asked_saved: bool,
}

/// The preset for rows of a shape.
fn preset_for(shape: Shape) -> &'static str {
    PRESETS.iter().find(|preset| preset.shape == shape).map_or(PRESETS[0].name, |preset| preset.name)
}

impl Editor {
    /// Begins with the preset for the dataset's rows, or with what a version was made by.
    pub(super) fn open(&mut self, dataset: &DatasetView) {
        let Some(version) = dataset.versions.last() else { return };
        let source = format!("{}@{}", dataset.record.name, version.number);
        if self.source == source {
            return;
        }
        let name = preset_for(dataset.record.shape);
        *self = Editor {
            source,
            recipe_name: name.to_owned(),
            recipe: preset(name).unwrap_or_default(),
            ..Editor::default()
        };
        self.list.select("0");
    }

    pub(super) fn trail(&self, view: &View<'_>) -> Vec<String> {
        let mut trail = vec![self.source.clone(), view.t("datasets.steps").to_owned()];
        match self.face {
            Face::Steps => {}
            Face::Settings => trail.extend(self.spec().map(|spec| spec.step.clone())),
            Face::Kinds => trail.push(view.t("datasets.add_step").to_owned()),
            Face::Run => trail.push(view.t("datasets.run_recipe").to_owned()),
        }
        trail
    }

    pub(super) fn is_typing(&self) -> bool {
        match self.face {
            Face::Settings | Face::Run => self.form.is_editing(),
            Face::Kinds => self.kinds.filtering,
            Face::Steps => false,
        }
    }

    pub(super) fn takes_digits(&self) -> bool {
        matches!(self.face, Face::Settings | Face::Run) && self.form.takes_digits()
    }

    fn rows(&self, view: &View<'_>) -> Vec<Row> {
        let counts = self.preview.get_if(|(source, recipe)| *source == self.source && *recipe == self.recipe);
        let row = |(at, spec): (usize, &StepSpec)| {
            let label = step_form(&spec.step).map_or("?", |form| view.both(form.label));
            let (dropped, changed) = counts.and_then(|seen| seen.counts.get(at)).copied().unwrap_or_default();
            let number = |count: u64| if count == 0 { String::new() } else { number::grouped(count) };
            Row {
                key: at.to_string(),
                cells: vec![
                    piece((at + 1).to_string(), Token::Muted),
                    piece(cell(label), Token::Text),
                    piece(number(dropped), Token::Warn),
                    piece(number(changed), Token::Accent),
                ],
            }
        };
        self.recipe.steps.iter().enumerate().map(row).collect()
    }

    fn at(&mut self, view: &View<'_>) -> Option<usize> {
        let rows = self.rows(view);
        self.list.selected(&rows)?.parse().ok()
    }

    fn spec(&self) -> Option<&StepSpec> {
        self.recipe.steps.get(self.list.key()?.parse::<usize>().ok()?)
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<StepSpec>)) {
        self.undo.push(self.recipe.clone());
        change(&mut self.recipe.steps);
    }

    pub(super) fn offers(&mut self, view: &View<'_>) -> Vec<Offer> {
        match self.face {
            Face::Settings => form_offers("datasets.take_settings"),
            Face::Run => form_offers("form.go"),
            Face::Kinds => vec![
                offer(Action::Enter, "datasets.add_step"),
                offer(Action::Filter, "hint_row.filter"),
                offer(Action::Out, "act.out"),
            ],
            Face::Steps => {
                let mut offers = Vec::new();
                if self.at(view).is_some() {
                    offers.push(offer(Action::Enter, "datasets.settings"));
                    offers.push(offer(Action::Run, "datasets.run_recipe"));
                }
                offers.push(offer(Action::Add, "datasets.add_step"));
                if self.at(view).is_some() {
                    offers.push(offer(Action::Delete, "datasets.remove_step"));
                    offers.push(offer(Action::Left, "datasets.move_step"));
                    offers.push(offer(Action::Right, "datasets.move_step"));
                }
                offers.push(offer(Action::Pause, "datasets.other_preset"));
                if !self.undo.is_empty() {
                    offers.push(offer(Action::Undo, "act.undo"));
                }
                offers.push(offer(Action::Out, "act.out"));
                offers
            }
        }
    }

    /// Whether the key meant something; `None` to leave the editor.
    pub(super) fn act(&mut self, action: Action, desk: &mut Desk<'_>) -> Option<bool> {
        match self.face {
            Face::Steps => return self.act_on_steps(action, desk),
            Face::Kinds => {
                let rows = kind_rows(&desk.view);
                let rows = self.kinds.passing(rows);
                if self.kinds.act(action, &rows) {
                    return Some(true);
                }
                match action {
                    Action::Enter => {
                        let Some(word) = self.kinds.selected(&rows) else { return Some(false) };
                        self.add(&word, &desk.view);
                    }
                    Action::Out if self.kinds.is_filtered() => self.kinds.clear_filter(),
                    Action::Out => self.face = Face::Steps,
                    _ => return Some(false),
                }
            }
            Face::Settings | Face::Run => match action {
                Action::Out if self.face == Face::Settings => {
                    if !self.take_settings(&desk.view) {
                        desk.warn(desk.view.t("form.wrong"));
                    }
                    self.face = Face::Steps;
                }
                Action::Out => self.face = Face::Steps,
                action => match self.form.act(action, &desk.view) {
                    FormReply::No => return Some(false),
                    FormReply::Wrong => desk.warn(desk.view.t("form.wrong")),
                    FormReply::Start if self.face == Face::Settings => {
                        self.take_settings(&desk.view);
                        self.face = Face::Steps;
                    }
                    FormReply::Start => self.submit(desk),
                    // What a setting does is seen at once.
                    FormReply::Changed if self.face == Face::Settings => {
                        self.take_settings(&desk.view);
                    }
                    _ => {}
                },
            },
        }
        Some(true)
    }

    fn act_on_steps(&mut self, action: Action, desk: &mut Desk<'_>) -> Option<bool> {
        let at = self.at(&desk.view);
        match (action, at) {
            (Action::Out, _) => return None,
            (Action::Enter | Action::Edit, Some(at)) => {
                self.form = settings_form(&self.recipe.steps[at])?;
                self.face = Face::Settings;
            }
            (Action::Add | Action::New, _) if self.recipe.steps.len() < STEPS_MAX => self.face = Face::Kinds,
            (Action::Delete, Some(at)) => {
                self.change(|steps| drop(steps.remove(at)));
                self.list.select(at.min(self.recipe.steps.len().saturating_sub(1)).to_string());
            }
            (Action::Left, Some(at)) if at > 0 => {
                self.change(|steps| steps.swap(at, at - 1));
                self.list.select((at - 1).to_string());
            }
            (Action::Right, Some(at)) if at + 1 < self.recipe.steps.len() => {
                self.change(|steps| steps.swap(at, at + 1));
                self.list.select((at + 1).to_string());
            }
            (Action::Pause, _) => {
                let saved = self.saved.iter().flatten().map(String::as_str);
                let names: Vec<String> =
                    PRESETS.iter().map(|preset| preset.name).chain(saved).map(str::to_owned).collect();
                let now = names.iter().position(|name| *name == self.recipe_name);
                let next = names[now.map_or(0, |now| (now + 1) % names.len())].clone();
                match preset(&next) {
                    Some(recipe) => self.take_recipe(next, recipe),
                    None => {
                        desk.ask(Errand::Note(NoteKind::Recipe), Request::Note { kind: NoteKind::Recipe, name: next })
                    }
                }
            }
            (Action::Undo, _) => self.recipe = self.undo.pop().unwrap_or_else(|| self.recipe.clone()),
            (Action::Run, Some(_)) => {
                self.form = self.run_form();
                self.face = Face::Run;
            }
            (action, _) => {
                let rows = self.rows(&desk.view);
                return Some(self.list.act(action, &rows));
            }
        }
        Some(true)
    }

    fn take_recipe(&mut self, name: String, recipe: Recipe) {
        self.change(|steps| *steps = recipe.steps);
        self.recipe_name = name;
        self.list.select("0");
    }

    /// Names of what the person saved.
    pub(super) fn know_saved(&mut self, heads: Vec<NoteHead>) {
        self.saved = Some(heads.into_iter().map(|head| head.name).collect());
    }

    /// A saved recipe; one that this version cannot read is told of.
    pub(super) fn take_saved(&mut self, note: NoteRecord, desk: &mut Desk<'_>) {
        match Recipe::from_json(&note.value.0) {
            Ok(recipe) => self.take_recipe(note.head.name, recipe),
            Err(failure) => desk.warn(desk.view.failure(&failure)),
        }
    }

    fn add(&mut self, word: &str, view: &View<'_>) {
        let at = self.at(view).map_or(0, |at| at + 1).min(self.recipe.steps.len());
        let spec = StepSpec { step: word.to_owned(), ..StepSpec::default() };
        let form = settings_form(&spec);
        self.change(|steps| steps.insert(at, spec));
        self.list.select(at.to_string());
        self.face = Face::Steps;
        if let Some(form) = form.filter(|form| !form.fields.is_empty()) {
            self.form = form;
            self.face = Face::Settings;
        }
    }

    /// Takes the settings of the form that differ from the defaults; not those that are wrong.
    fn take_settings(&mut self, view: &View<'_>) -> bool {
        let Some(at) = self.at(view) else { return false };
        let Some(form) = step_form(&self.recipe.steps[at].step) else { return false };
        let mut spec = StepSpec { settings: Vec::new(), ..self.recipe.steps[at].clone() };
        let mut right = true;
        for field in form.fields {
            let value = self.form.value(field.key).trim();
            match field.check(value) {
                Ok(()) if value != field.default => spec.set(field.key, value),
                Ok(()) => {}
                Err(_) => right = false,
            }
        }
        if spec != self.recipe.steps[at] {
            self.change(|steps| steps[at] = spec);
        }
        right
    }

    fn run_form(&self) -> Form {
        let plain = self.source.split('@').next().unwrap_or_default();
        let name = as_name(&format!("{plain}-{}", self.recipe_name));
        let section = "datasets.run_recipe";
        Form::new(vec![
            FormField::text("name", section, "field.name", "field.data_name.about")
                .rule(Rule::Name)
                .filled(name, Vec::new()),
            FormField::text("save", section, "field.recipe_save", "field.recipe_save.about").rule(Rule::NameOrEmpty),
        ])
    }

    fn submit(&mut self, desk: &mut Desk<'_>) {
        let save = self.form.value("save").trim().to_owned();
        if !save.is_empty() {
            let value = Json(self.recipe.to_json());
            let request = Request::KeepNote { kind: NoteKind::Recipe, name: save.clone(), title: String::new(), value };
            desk.ask(Errand::Saved(NoteKind::Recipe), request);
            self.recipe_name = save;
        }
        let spec = JobSpec::Process(Box::new(ProcessSpec {
            source: self.source.clone(),
            name: self.form.value("name").to_owned(),
            recipe_name: self.recipe_name.clone(),
            recipe: self.recipe.clone(),
        }));
        desk.ask(Errand::Act(Deed::Submit), Request::Submit { spec, payer: None, pool: None });
    }

    /// The run begins: the editor is where it was when somebody comes back.
    pub(super) fn submitted(&mut self) {
        self.face = Face::Steps;
    }

    /// The run was refused.
    pub(super) fn refused(&mut self, place: &str, said: String, desk: &mut Desk<'_>) {
        match self.face {
            Face::Run if self.form.fields.iter().any(|field| field.key == place) => {
                self.form.remote.insert(place.to_owned(), said);
                self.form.focus_on(place);
            }
            _ => desk.warn(said),
        }
    }

    pub(super) fn key(&mut self, key: KeyEvent, desk: &mut Desk<'_>) {
        match self.face {
            Face::Kinds => self.kinds.type_key(key),
            _ => {
                self.form.key(key);
                if self.face == Face::Settings && !self.form.is_editing() {
                    self.take_settings(&desk.view);
                }
            }
        }
    }

    pub(super) fn paste(&mut self, text: &str) -> bool {
        let typing = self.face != Face::Kinds && self.is_typing();
        if typing {
            self.form.paste(text);
        }
        typing
    }

    pub(super) fn needs(&mut self, desk: &mut Desk<'_>) {
        if !desk.view.away && !self.asked_saved {
            self.asked_saved = true;
            desk.ask(Errand::Notes(NoteKind::Recipe), Request::Notes { kind: NoteKind::Recipe });
        }
        if desk.view.away || self.recipe.steps.is_empty() || self.recipe.check().is_err() {
            return;
        }
        if self.preview.want((self.source.clone(), self.recipe.clone())) {
            let (dataset, recipe) = (self.source.clone(), self.recipe.clone());
            desk.ask(Errand::Preview, Request::PreviewRecipe { dataset, recipe, from: 0, count: PREVIEW_ROWS });
        }
    }

    pub(super) fn previewed(&mut self, preview: Result<Preview, String>) {
        match preview {
            Ok(preview) => self.preview.take(preview),
            Err(said) => self.preview.fail(said),
        }
    }

    pub(super) fn forget(&mut self) {
        self.preview.forget();
        self.asked_saved = false;
    }

    pub(super) fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        match self.face {
            Face::Settings | Face::Run => {
                let mut more = Page::new();
                more.blank();
                if self.face == Face::Settings {
                    if let Some(form) = self.spec().and_then(|spec| step_form(&spec.step)) {
                        more.text(view.both(form.about), Token::Muted).blank();
                    }
                    more.append(self.preview_page(view));
                } else {
                    more.text(view.t("form.r_goes"), Token::Accent);
                }
                self.form.draw(canvas, area, view, more);
            }
            Face::Kinds => self.draw_kinds(canvas, area, view),
            Face::Steps => self.draw_steps(canvas, area, view),
        }
    }

    fn draw_steps(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let title = view.fill("datasets.recipe_of", &[("recipe", &self.recipe_name), ("dataset", &self.source)]);
        canvas.put(area.x + 1, area.y, area.width - 1, &title, Token::Muted);
        let area = Rect { y: area.y + 1, height: area.height - 1, ..area };
        let rows = self.rows(view);
        if rows.is_empty() {
            let page = Rect { x: area.x + 1, width: area.width - 2, ..area };
            let mut said = Page::new();
            said.blank().text(view.t("datasets.no_steps"), Token::Text);
            said.draw_top(canvas, page);
            return;
        }
        let columns = [
            column("", 3).right(),
            column(view.t("col.step"), 0),
            column(view.t("col.dropped"), 7).right(),
            column(view.t("col.changed"), 7).right(),
        ];
        if view.class >= Class::M {
            let left = (area.width * 9 / 20).min(60);
            self.list.draw(canvas, Rect { width: left - 1, ..area }, &columns, &rows, true);
            canvas.bar(area.x + left, area);
            let right = Rect { x: area.x + left + 2, width: area.width - left - 2, ..area };
            let mut page = self.step_page(view);
            page.append(self.preview_page(view));
            page.draw(canvas, right, &mut self.scroll);
        } else {
            let below = area.height * 2 / 5;
            let list = Rect { height: area.height - below, ..area };
            self.list.draw(canvas, list, &columns, &rows, true);
            canvas.rule(area, list.bottom(), true);
            let page = self.preview_page(view);
            let place = Rect { x: area.x + 1, y: list.bottom() + 1, width: area.width - 2, height: below - 1 };
            page.draw_top(canvas, place);
        }
    }

    fn step_page(&self, view: &View<'_>) -> Page {
        let mut page = Page::new();
        let Some(spec) = self.spec() else { return page };
        let Some(form) = step_form(&spec.step) else { return page };
        page.heading(view.both(form.label)).text(view.both(form.about), Token::Text).blank();
        let effective = spec.effective();
        for field in form.fields {
            let value = effective.settings.iter().find(|(key, _)| key == field.key).map_or("", |(_, value)| value);
            let token = if value == field.default { Token::Muted } else { Token::Accent };
            page.fact_as(view.both(field.label), if value.is_empty() { "-".to_owned() } else { cell(value) }, token);
        }
        if !spec.keep.is_empty() {
            page.fact(view.t("datasets.rescued"), number::grouped(spec.keep.len() as u64));
        }
        page.blank();
        page
    }

    /// Rows before and after, as the recipe stands.
    fn preview_page(&self, view: &View<'_>) -> Page {
        let mut page = Page::new();
        if let Err(failure) = self.recipe.check() {
            page.text(format!("! {}", view.failure(&failure)), Token::Warn);
            return page;
        }
        if let Some(problem) = &self.preview.problem {
            page.text(format!("! {problem}"), Token::Warn);
            return page;
        }
        let Some(preview) = self.preview.get_if(|(source, _)| *source == self.source) else {
            page.text(view.t("datasets.loading"), Token::Muted);
            return page;
        };
        let looked_at = number::grouped(preview.looked_at);
        page.text(view.fill("datasets.preview_of", &[("rows", &looked_at)]), Token::Muted);
        for row in &preview.rows {
            page.blank();
            let mut head = vec![piece(format!("#{}", row.row_id), Token::Heading)];
            for (step, act, reason) in &row.acts {
                let word = self.recipe.steps.get(*step as usize).map_or("?", |spec| spec.step.as_str());
                let token = if *act == LedgerAct::Dropped { Token::Warn } else { Token::Accent };
                head.push(piece(format!("  {} {word}: {}", step + 1, said(view, reason)), token));
            }
            page.line(head);
            let dropped = row.acts.iter().any(|(_, act, _)| *act == LedgerAct::Dropped);
            if dropped || row.acts.is_empty() {
                lines(&mut page, &row.before, Token::Muted);
            } else {
                changes(&mut page, &row.before, &row.after);
            }
        }
        page
    }

    fn draw_kinds(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let rows = self.kinds.passing(kind_rows(view));
        let columns =
            [column(view.t("col.step"), 22), column(view.t("col.family"), 12), column(view.t("col.about"), 0)];
        self.kinds.draw(canvas, area, &columns, &rows, true);
    }
}

/// A reason in words.
pub(super) fn said(view: &View<'_>, reason: &str) -> String {
    let word = catalogue::find(view.language, &format!("reason.{reason}"));
    word.map_or_else(|| cell(reason), str::to_owned)
}

/// A text in one line that still shows its spaces and line ends, because these may be what changed.
fn short(content: &str) -> String {
    let line = text::clean(content).replace('\n', "⏎");
    match line.char_indices().nth(SHOWN_CHARACTERS) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

fn lines(page: &mut Page, messages: &[ChatMessage], token: Token) {
    for message in messages {
        page.indented(format!("{}: {}", cell(&message.role), short(&message.content)), token, 2);
    }
}

/// Messages that are another now, before and after; the others as they are.
pub(super) fn changes(page: &mut Page, before: &[ChatMessage], after: &[ChatMessage]) {
    if before.len() != after.len() {
        lines(page, before, Token::Muted);
        lines(page, after, Token::Text);
        return;
    }
    for (old, new) in before.iter().zip(after) {
        if old == new {
            page.indented(format!("{}: {}", cell(&old.role), short(&old.content)), Token::Muted, 2);
        } else {
            page.indented(format!("- {}: {}", cell(&old.role), short(&old.content)), Token::Warn, 2);
            page.indented(format!("+ {}: {}", cell(&new.role), short(&new.content)), Token::Ok, 2);
        }
    }
}

fn family(family: Family) -> &'static str {
    match family {
        Family::Clean => "family.clean",
        Family::Filter => "family.filter",
        Family::Duplicates => "family.duplicates",
        Family::Privacy => "family.privacy",
        Family::Sample => "family.sample",
        Family::Convert => "family.convert",
    }
}

fn kind_rows(view: &View<'_>) -> Vec<Row> {
    let row = |form: &StepForm| Row {
        key: form.word.to_owned(),
        cells: vec![
            piece(view.both(form.label), Token::Text),
            piece(view.t(family(form.family)), Token::Muted),
            piece(view.both(form.about), Token::Muted),
        ],
    };
    STEPS.iter().map(row).collect()
}

/// The form of a step's settings.
fn settings_form(spec: &StepSpec) -> Option<Form> {
    let form = step_form(&spec.step)?;
    let fields = form.fields.iter().map(|field| {
        let stride = match field.kind {
            FieldKind::Whole { high, .. } if high > 1000 => Stride::Double,
            FieldKind::Real { high, .. } if high > 1.0 => Stride::Add(0.5),
            FieldKind::Real { .. } => Stride::Add(0.01),
            _ => Stride::Add(1.0),
        };
        let value = spec.settings.iter().rev().find(|(key, _)| key == field.key);
        let value = value.map_or(field.default, |(_, value)| value.as_str()).to_owned();
        let mut row = FormField::text(field.key, "datasets.settings", "field.name", "field.name");
        (row.label, row.about) = (field.label, field.about);
        row.of(field.kind, stride, field.default).filled(value, Vec::new())
    });
    Some(Form::new(fields.collect()))
}
