//! The sub-tab of guards: what each looks for, where, and what it found; the forms that set one and try one. Never here: looking.

use hone_protocol::failure::Failure;
use hone_protocol::form::FieldKind;
use hone_protocol::guard::{GuardAct, GuardSpec, GuardTrial, GuardView, PiiKind};
use hone_protocol::request::{Answer, Request};

use super::super::window::Window;
use super::super::{Deed, Desk, Errand, View, Wish};
use crate::action::{Action, Offer, offer};
use crate::layers::Layer;
use crate::theme::Token;
use crate::widgets::canvas::piece;
use crate::widgets::form::{Form, FormField, Rule, Stride};
use crate::widgets::list::{Column, Row, cell, column};
use crate::widgets::number;
use crate::widgets::page::Page;
use crate::widgets::text;

/// What guards found is read again no more often than this.
const READ_MS: i64 = 5_000;

/// The sub-tab.
#[derive(Default)]
pub(super) struct GuardPane {
    guards: Window<(i64, u64), Vec<GuardView>>,
    /// Raised with each change, so that it is read again.
    changes: u64,
    /// The text that a guard was tried on, and what became of it.
    tried: Option<(String, Option<Result<GuardTrial, String>>)>,
}

/// What is typed with commas between.
fn list(text: &str) -> Vec<String> {
    text.split([',', '，', '、']).map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

impl GuardPane {
    pub(super) fn needs(&mut self, desk: &mut Desk<'_>) {
        if !self.guards.is_waiting() && self.guards.want((desk.view.now_ms / READ_MS, self.changes)) {
            desk.ask(Errand::Guards, Request::Guards);
        }
    }

    /// Takes an answer; gives back what is none of these.
    pub(super) fn answer(
        &mut self,
        errand: Errand,
        answer: Result<Answer, Failure>,
        desk: &Desk<'_>,
    ) -> Option<Result<Answer, Failure>> {
        match (errand, answer) {
            (Errand::Guards, Ok(Answer::Guards(guards))) => self.guards.take(guards),
            (Errand::Guards, Err(failure)) => self.guards.fail(desk.view.failure(&failure)),
            (Errand::Trial, answer) => {
                let trial = match answer {
                    Ok(Answer::Trial(trial)) => Ok(trial),
                    Ok(_) => return None,
                    Err(failure) => Err(desk.view.failure(&failure)),
                };
                if let Some((_, tried)) = &mut self.tried {
                    *tried = Some(trial);
                }
            }
            (Errand::Act(Deed::Guard | Deed::RemoveGuard), Ok(answer)) => {
                self.changes += 1;
                return Some(Ok(answer));
            }
            (_, answer) => return Some(answer),
        }
        None
    }

    pub(super) fn forget(&mut self) {
        self.guards.forget();
    }

    fn all(&self) -> &[GuardView] {
        self.guards.get().map_or(&[], Vec::as_slice)
    }

    fn guard(&self, selected: Option<&str>) -> Option<&GuardView> {
        self.all().iter().find(|guard| Some(guard.record.name.as_str()) == selected)
    }

    /// Whether nothing is known yet, and why.
    pub(super) fn problem(&self, view: &View<'_>) -> Option<String> {
        let waits = || self.guards.get().is_none().then(|| view.t("datasets.loading").to_owned());
        self.guards.problem.clone().map(|problem| format!("! {problem}")).or_else(waits)
    }

    /// Asks before the selected guard is removed; false where there is none.
    pub(super) fn remove(&self, selected: Option<&str>, desk: &mut Desk<'_>) -> bool {
        let Some(name) = self.guard(selected).map(|guard| guard.record.name.clone()) else { return false };
        let title = desk.view.fill("ask.remove_guard", &[("name", &name)]);
        let body = vec![desk.view.t("ask.remove_guard_body").to_owned()];
        let wish = Wish::Ask { errand: Errand::Act(Deed::RemoveGuard), request: Request::RemoveGuard { name } };
        desk.push(Layer::ask(title, body, "ask.remove_guard_yes", vec![wish]));
        true
    }

    pub(super) fn offers(&self, selected: Option<&str>) -> Vec<Offer> {
        let mut offers = Vec::new();
        if self.guard(selected).is_some() {
            offers.push(offer(Action::Try, "services.guard_test"));
            offers.push(offer(Action::Edit, "services.edit"));
            offers.push(offer(Action::Delete, "services.guard_remove"));
        }
        offers.push(offer(Action::New, "services.guard"));
        offers
    }

    pub(super) fn rows(&self, view: &View<'_>) -> Vec<Row> {
        let row = |guard: &GuardView| {
            let spec = &guard.record.spec;
            let found = guard.counts.input + guard.counts.output;
            Row {
                key: guard.record.name.clone(),
                cells: vec![
                    piece(cell(&guard.record.name), Token::Text),
                    piece(cell(&looks_for(view, spec)), Token::Muted),
                    piece(view.t(side(spec)), Token::Muted),
                    piece(view.t(act(spec.act)), if spec.act == GuardAct::Refuse { Token::Warn } else { Token::Text }),
                    piece(number::grouped(found), Token::Text),
                    piece(number::grouped(guard.counts.refused), Token::Muted),
                ],
            }
        };
        self.all().iter().map(row).collect()
    }

    pub(super) fn columns(&self, view: &View<'_>) -> Vec<Column> {
        let c = |key, cells| column(view.t(key), cells);
        vec![
            c("col.name", 14),
            c("col.looks_for", 0),
            c("col.on", 10),
            c("col.act", 8),
            c("col.found", 8).right(),
            c("col.refused", 8).right().from(76),
        ]
    }

    pub(super) fn page(&self, view: &View<'_>, selected: Option<&str>) -> Page {
        let mut page = Page::new();
        page.text(view.t("services.guards_about"), Token::Muted);
        let Some(guard) = self.guard(selected) else { return page };
        let (record, spec) = (&guard.record, &guard.record.spec);
        page.blank().heading(cell(&record.name));
        page.fact(view.t("col.act"), view.t(act(spec.act)).to_owned());
        page.fact(view.t("col.on"), view.t(side(spec)).to_owned());
        let names = |names: &[String]| match names {
            [] => view.t("services.all").to_owned(),
            names => names.join(", "),
        };
        page.fact(view.t("field.guard_services"), names(&spec.services));
        page.fact(view.t("field.guard_applications"), names(&spec.applications));
        let kinds: Vec<&str> = spec.kinds.iter().map(|kind| kind.word()).collect();
        let looks = [
            ("field.guard_kinds", kinds.join(", ")),
            ("field.guard_words", spec.words.join(", ")),
            ("field.guard_pattern", spec.patterns.join("  ")),
        ];
        for (key, looked) in looks.into_iter().filter(|(_, looked)| !looked.is_empty()) {
            page.fact(view.t(key), text::clean(&looked));
        }
        page.blank().heading(view.t("services.found"));
        page.fact(view.t("guard.input"), number::grouped(guard.counts.input));
        page.fact(view.t("guard.output"), number::grouped(guard.counts.output));
        page.fact(view.t("col.refused"), number::grouped(guard.counts.refused));
        if let Some((tried, trial)) = &self.tried {
            page.blank().heading(view.t("services.guard_try")).text(text::clean(tried), Token::Muted);
            match trial {
                None => page.text(view.t("datasets.loading"), Token::Muted),
                Some(Err(problem)) => page.text(format!("! {problem}"), Token::Warn),
                Some(Ok(trial)) => {
                    let token = if trial.refused { Token::Warn } else { Token::Ok };
                    page.heading(view.t("services.guard_passes")).text(text::clean(&trial.passes), token)
                }
            };
        }
        page
    }

    /// The form that makes a guard, or sets the selected one.
    pub(super) fn form(&self, edited: Option<&str>) -> Form {
        let section = "services.guard";
        let text = |key, label, about| FormField::text(key, section, label, about);
        let mut form = Form::new(vec![
            text("name", "field.name", "field.guard_name.about").rule(Rule::Name),
            text("kinds", "field.guard_kinds", "field.guard_kinds.about"),
            text("words", "field.guard_words", "field.guard_words.about"),
            text("patterns", "field.guard_pattern", "field.guard_pattern.about"),
            text("on", "field.guard_on", "field.guard_on.about").of(
                FieldKind::Choice(&["both", "input", "output"]),
                Stride::Add(1.0),
                "both",
            ),
            text("act", "field.guard_act", "field.guard_act.about").of(
                FieldKind::Choice(&["mask", "refuse", "flag"]),
                Stride::Add(1.0),
                "mask",
            ),
            text("services", "field.guard_services", "field.guard_services.about"),
            text("applications", "field.guard_applications", "field.guard_applications.about"),
        ]);
        let Some(guard) = self.guard(edited) else { return form };
        let spec = &guard.record.spec;
        form.set("name", guard.record.name.clone());
        form.set("kinds", spec.kinds.iter().map(|kind| kind.word()).collect::<Vec<_>>().join(", "));
        form.set("words", spec.words.join(", "));
        form.set("patterns", spec.patterns.first().cloned().unwrap_or_default());
        form.set(
            "on",
            if spec.input && spec.output {
                "both"
            } else if spec.input {
                "input"
            } else {
                "output"
            },
        );
        form.set("act", spec.act.word());
        form.set("services", spec.services.join(", "));
        form.set("applications", spec.applications.join(", "));
        form
    }

    /// The guard that the form says. Patterns beyond the first one stay as they were.
    pub(super) fn wanted(&self, form: &Form) -> Result<Request, String> {
        let name = form.value("name").to_owned();
        let words = list(form.value("kinds"));
        let kinds =
            words.iter().map(|word| PiiKind::of(word).ok_or_else(|| word.clone())).collect::<Result<Vec<_>, _>>()?;
        let more = self.guard(Some(&name)).map(|guard| guard.record.spec.patterns.iter().skip(1).cloned());
        let pattern = Some(form.value("patterns").to_owned()).filter(|pattern| !pattern.is_empty());
        let spec = GuardSpec {
            words: list(form.value("words")),
            patterns: pattern.into_iter().chain(more.into_iter().flatten()).collect(),
            kinds,
            input: form.value("on") != "output",
            output: form.value("on") != "input",
            act: match form.value("act") {
                "refuse" => GuardAct::Refuse,
                "flag" => GuardAct::Flag,
                _ => GuardAct::Mask,
            },
            services: list(form.value("services")),
            applications: list(form.value("applications")),
        };
        Ok(Request::SetGuard { name, spec: Box::new(spec) })
    }

    /// The form that tries the selected guard.
    pub(super) fn try_form(&self) -> Form {
        let field = FormField::text("text", "services.guard_try", "field.guard_text", "field.guard_text.about");
        Form::new(vec![field])
    }

    /// Tries the selected guard on the text of the form.
    pub(super) fn tried(&mut self, selected: Option<&str>, form: &Form, desk: &mut Desk<'_>) {
        let Some(spec) = self.guard(selected).map(|guard| guard.record.spec.clone()) else { return };
        let text = form.value("text").to_owned();
        self.tried = Some((text.clone(), None));
        desk.ask(Errand::Trial, Request::TestGuard { spec: Box::new(spec), text });
    }
}

fn act(act: GuardAct) -> &'static str {
    match act {
        GuardAct::Mask => "guard.mask",
        GuardAct::Refuse => "guard.refuse",
        GuardAct::Flag => "guard.flag",
    }
}

fn side(spec: &GuardSpec) -> &'static str {
    match (spec.input, spec.output) {
        (true, true) => "guard.both",
        (true, false) => "guard.input",
        _ => "guard.output",
    }
}

fn looks_for(view: &View<'_>, spec: &GuardSpec) -> String {
    let count = |key, count: usize| (count > 0).then(|| view.fill(key, &[("n", &count.to_string())]));
    let kinds = spec.kinds.iter().map(|kind| kind.word().to_owned());
    let counts = [count("guard.words", spec.words.len()), count("guard.patterns", spec.patterns.len())];
    kinds.chain(counts.into_iter().flatten()).collect::<Vec<_>>().join(" ")
}
