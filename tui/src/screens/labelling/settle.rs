//! Where persons disagree: the figures, the rows, and settling one. Never here: formulas of agreement (the daemon has them).

use hone_protocol::labelling::{
    Decision, Disputed, How, LabelRecord, LabelRequest, LabelValue, NextRow, ProjectSpec, ProjectView, Task, answers,
};
use hone_protocol::request::Request;
use ratatui::layout::Rect;

use super::answers::{Draft, Said, index_of, key_of};
use super::{DISPUTED, Labelling, Level, pages, paint};
use crate::action::Action;
use crate::screens::panes::panes;
use crate::screens::{Class, Desk, Errand, View};
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, Piece, piece};
use crate::widgets::list::{Row, column};
use crate::widgets::number;
use crate::widgets::text::{clean, one_line};

/// Words that somebody can be asked to take: those that decide something, the newest of each person.
fn words(one: &Disputed) -> Vec<&LabelRecord> {
    let newer =
        |label: &LabelRecord| one.labels.iter().any(|other| other.person == label.person && other.seq > label.seq);
    one.labels.iter().filter(|label| !label.decision.value.is_skip() && !newer(label)).collect()
}

/// What a person said, with what they wrote beside it. Sides of a pair are those of the row, not those that the person saw.
fn said(view: &View<'_>, spec: &ProjectSpec, one: &Disputed, label: &LabelRecord) -> String {
    let decision = &label.decision;
    let mut text = match &decision.value {
        LabelValue::Pair { answer, reason, .. } => {
            let value = LabelValue::Pair { answer: *answer, reason: reason.clone(), is_swapped: false };
            paint::said(view, spec, &value)
        }
        LabelValue::Spans(spans) => {
            let part = |span: &hone_protocol::labelling::Span| {
                let message = one.row.messages.get(span.message as usize).map_or("", |m| m.content.as_str());
                let text: String =
                    message.chars().skip(span.start as usize).take((span.end - span.start) as usize).collect();
                format!(
                    "{}={}",
                    spec.task.label(&span.label).map_or(span.label.as_str(), |label| label.shown()),
                    one_line(&text)
                )
            };
            spans.iter().map(part).collect::<Vec<_>>().join("; ")
        }
        value => paint::said(view, spec, value),
    };
    if !decision.flag.is_empty() {
        text = format!("{} {}", view.t("labelling.flagged"), one_line(&decision.flag));
    }
    if !decision.note.is_empty() {
        text.push_str(&format!("  ({})", one_line(&decision.note)));
    }
    text
}

fn as_next(one: &Disputed) -> NextRow {
    NextRow { row: one.row.clone(), suggestion: None, words: Vec::new() }
}

impl Labelling {
    pub(super) fn agreement_needs(&mut self, desk: &mut Desk<'_>) {
        let Some(project) = self.shown_project(&desk.view) else { return };
        let key = (project.record.name.clone(), project.counts.next_seq);
        let name = project.record.name.clone();
        if self.agreement.want(key.clone()) {
            desk.ask(Errand::Agreement, Request::Labelling(LabelRequest::Agreement { project: name.clone() }));
        }
        if self.level != Level::List && self.disputed.want(key) {
            let request = LabelRequest::Disputed { project: name, offset: 0, count: DISPUTED };
            desk.ask(Errand::Disputed, Request::Labelling(request));
        }
    }

    fn disputed_rows(&self, view: &View<'_>) -> Vec<Row> {
        let Some((rows, _)) = self.disputed.get() else { return Vec::new() };
        let Some(project) = self.shown_project(view) else { return Vec::new() };
        let row = |one: &Disputed| {
            let say =
                |label: &LabelRecord| format!("{}: {}", label.person, said(view, &project.record.spec, one, label));
            let labels: Vec<String> = one.labels.iter().map(say).collect();
            let text = one.row.messages.last().map_or(String::new(), |message| one_line(&message.content));
            Row {
                key: one.row.row_id.to_string(),
                cells: vec![
                    piece(format!("#{}", one.row.row_id), Token::Muted),
                    piece(one_line(&labels.join("  ")), Token::Warn),
                    piece(text, Token::Text),
                ],
            }
        };
        rows.iter().map(row).collect()
    }

    /// The project that the list has selected.
    pub(super) fn shown_project<'a>(&self, view: &View<'a>) -> Option<&'a ProjectView> {
        let key = self.list.key()?;
        view.mirror.projects().iter().find(|project| project.record.name == key)
    }

    fn disputed_one(&mut self, view: &View<'_>) -> Option<Disputed> {
        let rows = self.disputed_list.passing(self.disputed_rows(view));
        let key = self.disputed_list.selected(&rows)?;
        self.disputed.get()?.0.iter().find(|one| one.row.row_id.to_string() == key).cloned()
    }

    pub(super) fn agreement_act(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        let rows = self.disputed_list.passing(self.disputed_rows(&desk.view));
        if self.disputed_list.act(action, &rows) {
            return true;
        }
        match action {
            Action::Enter => {
                let Some(one) = self.disputed_one(&desk.view) else { return true };
                let Some(project) = self.shown_project(&desk.view) else { return true };
                // Whoever settles begins with what the first person said, where several keys make an answer.
                let first = words(&one).first().map(|label| label.decision.value.clone());
                self.settling = Some(Draft::new(&project.record.spec.task, &as_next(&one), first.as_ref(), false));
                self.scroll = 0;
                self.level = Level::Settle;
            }
            Action::Undo => {
                let Some(row_id) = self.settled.pop() else { return true };
                let Some(project) = self.shown_project(&desk.view) else { return true };
                let request = LabelRequest::TakeBack { project: project.record.name.clone(), row_id: Some(row_id) };
                desk.keep(Errand::Decision(0), Request::Labelling(request));
            }
            Action::Out if self.disputed_list.is_filtered() => self.disputed_list.clear_filter(),
            Action::Out => self.level = Level::List,
            _ => return false,
        }
        true
    }

    pub(super) fn settle_act(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        match action {
            Action::Up => self.scroll = self.scroll.saturating_sub(1),
            Action::Down => self.scroll += 1,
            Action::Out => self.level = Level::Agreement,
            Action::Mark | Action::Enter => {
                let Some(project) = self.shown_project(&desk.view) else { return true };
                let task = project.record.spec.task.clone();
                self.settle_by(move |draft, _| draft.finish(&task, false), desk);
            }
            _ => return false,
        }
        true
    }

    /// A person's letter takes what that person said; a digit says something else.
    pub(super) fn settle_key(&mut self, key: char, desk: &mut Desk<'_>) {
        if key.is_ascii_lowercase() {
            let Some(one) = self.disputed_one(&desk.view) else { return };
            let value = words(&one).get(key as usize - 'a' as usize).map(|label| label.decision.value.clone());
            if let Some(value) = value {
                self.settle(value, &one, desk);
            }
            return;
        }
        let Some(project) = self.shown_project(&desk.view) else { return };
        let task = project.record.spec.task.clone();
        match (key, index_of(key)) {
            ('=', _) => self.settle_by(|draft, _| draft.tie(), desk),
            // Words are not known here, so spans are taken from persons.
            (_, Some(index)) if !matches!(task, Task::Span { .. }) => {
                self.settle_by(move |draft, row| draft.choose(&task, row, false, index), desk);
            }
            _ => {}
        }
    }

    /// Takes the last part of a half-made answer away.
    pub(super) fn settle_remove(&mut self, desk: &mut Desk<'_>) {
        self.settle_by(|draft, _| draft.remove(), desk);
    }

    fn settle_by(&mut self, say: impl FnOnce(&mut Draft, &NextRow) -> Said, desk: &mut Desk<'_>) {
        let Some(one) = self.disputed_one(&desk.view) else { return };
        let said = self.settling.as_mut().map(|draft| say(draft, &as_next(&one)));
        if let Some(Said::Value(value)) = said {
            self.settle(value, &one, desk);
        }
    }

    fn settle(&mut self, value: LabelValue, one: &Disputed, desk: &mut Desk<'_>) {
        let Some(project) = self.shown_project(&desk.view) else { return };
        let (row_id, flag, note) = (one.row.row_id, String::new(), String::new());
        let decision = Decision { row_id, value, flag, note, spent_ms: 0, how: How::Final };
        let (project, decisions) = (project.record.name.clone(), vec![decision]);
        desk.keep(Errand::Decision(0), Request::Labelling(LabelRequest::Decide { project, person: None, decisions }));
        self.settled.push(row_id);
        self.level = Level::Agreement;
    }

    pub(super) fn draw_agreement(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let Some(project) = self.shown_project(view) else { return };
        let page = pages::agreement(view, project, self.agreement.get_if(|(name, _)| *name == project.record.name));
        let rows = self.disputed_list.passing(self.disputed_rows(view));
        let total = self.disputed.get().map_or(0, |(_, total)| *total);
        let (above, list) = match view.class >= Class::M {
            true => {
                let panes = panes(canvas, area, view, 9, false);
                (panes.list, panes.reader.unwrap_or(panes.list))
            }
            false => {
                let height = (area.height / 2).max(4);
                (Rect { height, ..area }, Rect { y: area.y + height, height: area.height - height, ..area })
            }
        };
        page.draw_top(canvas, Rect { x: above.x + 1, width: above.width.saturating_sub(1), ..above });
        let said = view.fill("labelling.disputed_rows", &[("n", &number::grouped(total))]);
        canvas.put(list.x + 1, list.y, list.width.saturating_sub(1), &said, Token::Heading);
        let below = Rect { y: list.y + 1, height: list.height.saturating_sub(1), ..list };
        let columns =
            [column(view.t("word.row"), 8), column(view.t("labelling.said"), 28), column(view.t("labelling.text"), 0)];
        self.disputed_list.draw(canvas, below, &columns, &rows, true);
    }

    pub(super) fn draw_settle(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let Some(one) = self.disputed_one(view) else { return };
        let Some(project) = self.shown_project(view) else { return };
        let spec = &project.record.spec;
        let next = as_next(&one);
        let mut page = match spec.task {
            Task::Pair { .. } | Task::Rank => paint::row_page(view, &paint::prompt_of(&next)),
            _ => paint::row_page(view, &one.row.messages),
        };
        if matches!(spec.task, Task::Pair { .. } | Task::Rank) {
            for (at, answer) in answers(one.row.original.as_str(), &one.row.messages).iter().enumerate() {
                page.line(vec![piece(paint::letter(at), Token::Heading)]);
                page.indented(clean(answer), Token::Model, 2).blank();
            }
        }
        page.heading(view.t("labelling.settle_how"));
        for (at, label) in words(&one).iter().enumerate().take(26) {
            let letter = char::from(b'a' + at as u8);
            page.line(vec![
                piece(format!("  {letter} "), Token::Accent),
                piece(format!("{}: ", label.person), Token::Muted),
                piece(said(view, spec, &one, label), Token::Text),
            ]);
        }
        for label in one.labels.iter().filter(|label| label.decision.value.is_skip()) {
            page.line(vec![
                piece("    ", Token::Accent),
                piece(format!("{}: ", label.person), Token::Muted),
                piece(said(view, spec, &one, label), Token::Warn),
            ]);
        }
        let keys = self.settle_keys(view, spec, &next);
        if !keys.is_empty() {
            page.blank();
            for line in keys {
                page.line(line);
            }
        }
        page.draw(canvas, Rect { x: area.x + 1, width: area.width - 2, ..area }, &mut self.scroll);
    }

    /// The answers that digits give.
    fn settle_keys(&self, view: &View<'_>, spec: &ProjectSpec, row: &NextRow) -> Vec<Vec<Piece>> {
        let pieces = |key: Option<char>, text: String, chosen: bool| {
            let token = if chosen { Token::Accent } else { Token::Text };
            vec![piece(format!("  {} ", key.unwrap_or(' ')), Token::Accent), piece(text, token)]
        };
        match (&spec.task, &self.settling) {
            (Task::Choice { labels }, _) => labels
                .iter()
                .enumerate()
                .map(|(at, label)| pieces(key_of(at), label.shown().to_owned(), false))
                .collect(),
            (Task::Several { labels }, Some(Draft::Several(chosen))) => {
                let one = |(at, label): (usize, &hone_protocol::labelling::LabelName)| {
                    let mark = if chosen.contains(&at) { "[x]" } else { "[ ]" };
                    pieces(key_of(at), format!("{mark} {}", label.shown()), chosen.contains(&at))
                };
                labels.iter().enumerate().map(one).collect()
            }
            (Task::Pair { reasons }, Some(Draft::Pair { answer: Some(_), .. })) => {
                reasons.iter().enumerate().map(|(at, reason)| pieces(key_of(at), reason.clone(), false)).collect()
            }
            (Task::Pair { .. }, _) => {
                paint::sides(view).enumerate().map(|(at, side)| pieces(key_of(at), side, false)).collect()
            }
            (Task::Rank, Some(Draft::Rank(order))) => {
                let there = answers(row.row.original.as_str(), &row.row.messages).len();
                let placed = |at: usize| order.iter().any(|(placed, _)| *placed == at);
                (0..there).map(|at| pieces(key_of(at), paint::letter(at), placed(at))).collect()
            }
            (Task::Rating { scale }, _) => {
                (0..*scale as usize).map(|at| pieces(key_of(at), (at + 1).to_string(), false)).collect()
            }
            _ => Vec::new(),
        }
    }
}
