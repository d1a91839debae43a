//! Rows as they are drawn: the first ones beside the list, a window of them, and one as a model sees it. Never here:
//! asking for them.

use hone_protocol::dataset::{DatasetView, RenderedRow, Split};
use ratatui::layout::Rect;

use super::super::{Class, View};
use super::Datasets;
use crate::draft::SPLIT_SEED;
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, Piece, piece};
use crate::widgets::list::cell;
use crate::widgets::number;
use crate::widgets::page::Page;
use crate::widgets::text;

/// Rows in the third pane.
const PREVIEW_ROWS: usize = 20;

impl Datasets {
    /// The first rows, for the third pane.
    pub(super) fn preview(&self, view: &View<'_>, dataset: &DatasetView) -> Page {
        let mut page = Page::new();
        page.heading(view.t("datasets.first_rows")).blank();
        let name = dataset.newest().map(|v| format!("{}@{}", dataset.record.name, v.number));
        let Some((rows, ..)) =
            self.rows.get_if(|(n, offset, text)| Some(n) == name.as_ref() && *offset == 0 && text.is_empty())
        else {
            let said = self.rows.problem.clone().unwrap_or_else(|| view.t("datasets.loading").to_owned());
            page.text(said, Token::Muted);
            return page;
        };
        for row in rows.iter().take(PREVIEW_ROWS) {
            for message in row.messages.iter().filter(|m| m.role != "system") {
                let token = if message.role == "user" { Token::User } else { Token::Text };
                page.line(vec![piece(text::one_line(&message.content), token)]);
            }
            page.blank();
        }
        page
    }

    pub(super) fn draw_rows(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let total = self.total();
        let (at, all) = (number::grouped((self.at + 1).min(total)), number::grouped(total));
        let text = cell(&self.search.text);
        let position = match (self.search.text.is_empty(), total) {
            (true, _) => view.fill("datasets.position", &[("at", &at), ("total", &all)]),
            (false, 0) if self.rows.is_waiting() => view.t("datasets.loading").to_owned(),
            (false, 0) => view.fill("datasets.found_none", &[("text", &text)]),
            (false, _) => view.fill("datasets.found", &[("at", &at), ("total", &all), ("text", &text)]),
        };
        match self.search.typing {
            true => {
                let x = canvas.put(area.x + 1, area.y, 2, "/", Token::Accent) + 1;
                self.search.line.draw(canvas, x, area.y, area.width.saturating_sub(4), Token::Text);
            }
            false => {
                canvas.put(area.x + 1, area.y, area.width - 1, &position, Token::Muted);
            }
        }
        let list = Rect { y: area.y + 1, height: area.height - 1, ..area };
        let Some((rows, _, start)) = self.rows.get() else {
            let said = self.rows.problem.clone().unwrap_or_else(|| view.t("datasets.loading").to_owned());
            canvas.put(area.x + 1, list.y, area.width - 1, &said, Token::Muted);
            return;
        };
        // Two lines a row: what was asked and what was answered.
        let shown = u64::from(list.height / 2).max(1);
        let top = self.at.saturating_sub(shown / 2).min(total.saturating_sub(shown));
        for i in 0..shown {
            let index = top + i;
            let Some(row) = index.checked_sub(*start).and_then(|n| rows.get(n as usize)) else { continue };
            let y = list.y + 2 * i as u16;
            canvas.put_right(area.x + 9, y, 7, &row.row_id.to_string(), Token::Muted);
            let last_of = |role: &str| row.messages.iter().rev().find(|m| m.role == role).map(|m| m.content.as_str());
            // What is no chat shows its last two messages.
            let plain = |back: usize| row.messages.iter().rev().nth(back).map(|m| m.content.as_str());
            let lines = [("user", 1, Token::Text), ("assistant", 0, Token::Muted)];
            for (n, (role, back, token)) in lines.into_iter().enumerate() {
                let chat = last_of("assistant").is_some();
                let said = text::one_line(if chat { last_of(role) } else { plain(back) }.unwrap_or_default());
                canvas.put(area.x + 11, y + n as u16, area.width.saturating_sub(12), &said, token);
            }
            for line in 0..2 {
                canvas.clickable_row(Rect { y: y + line, ..area }, index as usize, self.at as usize);
            }
            if index == self.at {
                canvas.put(area.x + 1, y, 1, canvas.glyphs.point, Token::Accent);
                canvas.highlight(area.x + 11, y, area.width.saturating_sub(12), Token::Selected);
                canvas.cursor_at(area.x + 1, y);
            }
        }
    }

    pub(super) fn draw_row(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let Some(row) = self.current_row() else {
            canvas.put(area.x + 1, area.y, area.width - 1, view.t("datasets.loading"), Token::Muted);
            return;
        };
        let mut page = Page::new();
        let split = Split { held_out_percent: 15, seed: SPLIT_SEED };
        let side = if split.holds_out(row.row_id) { "datasets.held_out" } else { "datasets.in_training" };
        let title = view.fill("datasets.row_title", &[("id", &row.row_id.to_string()), ("side", view.t(side))]);
        page.heading(title).blank();
        for message in &row.messages {
            let token = match message.role.as_str() {
                "user" => Token::User,
                "assistant" => Token::Heading,
                _ => Token::Muted,
            };
            page.line(vec![piece(cell(&message.role), token)]);
            page.indented(text::clean(&message.content), Token::Text, 2).blank();
        }
        let renderers = Self::renderers(view);
        let wide = view.class >= Class::M;
        if wide {
            let half = area.width / 2;
            page.draw(canvas, Rect { x: area.x + 1, width: half - 2, ..area }, &mut self.scroll);
            canvas.bar(area.x + half, area);
            let mut right = Page::new();
            for line in self.rendered_lines(view, &renderers, area.width - half - 2) {
                right.line(line);
            }
            right.draw_top(canvas, Rect { x: area.x + half + 2, width: area.width - half - 2, ..area });
        } else {
            for line in self.rendered_lines(view, &renderers, area.width - 2) {
                page.line(line);
            }
            page.draw(canvas, Rect { x: area.x + 1, width: area.width - 2, ..area }, &mut self.scroll);
        }
    }

    /// The row as the model sees it: trained tokens in their own style, token borders where colour is not enough.
    fn rendered_lines(&self, view: &View<'_>, renderers: &[String], cells: u16) -> Vec<Vec<Piece>> {
        let version = renderers.get(self.base % renderers.len().max(1));
        let Some(version) = version else {
            return vec![vec![piece(view.t("datasets.no_renderer"), Token::Muted)]];
        };
        let mut lines = vec![vec![piece(view.fill("datasets.as_seen_by", &[("version", version)]), Token::Heading)]];
        match (self.rendered.get(), &self.rendered.problem) {
            (_, Some(problem)) => lines.push(vec![piece(format!("! {problem}"), Token::Warn)]),
            (None, None) => lines.push(vec![piece(view.t("datasets.rendering"), Token::Muted)]),
            (Some(rendered), None) => {
                let counts = [("all", rendered.tokens.len() as u64), ("trained", u64::from(rendered.trained))];
                let counts: Vec<(&str, String)> = counts.iter().map(|(k, v)| (*k, number::grouped(*v))).collect();
                let args: Vec<(&str, &str)> = counts.iter().map(|(k, v)| (*k, v.as_str())).collect();
                lines.push(vec![piece(view.fill("datasets.trained_of", &args), Token::Muted)]);
                lines.push(Vec::new());
                lines.extend(token_lines(rendered, usize::from(cells)));
            }
        }
        lines
    }
}

/// Tokens laid out in lines; trained ones between brackets that open and close with each stretch.
fn token_lines(rendered: &RenderedRow, cells: usize) -> Vec<Vec<Piece>> {
    let mut lines = vec![Vec::new()];
    let mut used = 0;
    let mut trained = false;
    for token in &rendered.tokens {
        if token.trained != trained {
            let border = if token.trained { "[" } else { "]" };
            put_token(&mut lines, &mut used, cells, border, Token::Accent);
            trained = token.trained;
        }
        let style = match (token.trained, token.markup) {
            (true, _) => Token::Model,
            (false, true) => Token::Faint,
            (false, false) => Token::Text,
        };
        for (n, part) in text::clean(&token.text).split('\n').enumerate() {
            if n > 0 {
                lines.push(Vec::new());
                used = 0;
            }
            put_token(&mut lines, &mut used, cells, part, style);
        }
    }
    if trained {
        put_token(&mut lines, &mut used, cells, "]", Token::Accent);
    }
    lines
}

/// Puts a token's text behind the others, on a new line when it has no room.
fn put_token(lines: &mut Vec<Vec<Piece>>, used: &mut usize, cells: usize, said: &str, token: Token) {
    let wide = text::width(said);
    if *used + wide > cells && *used > 0 {
        lines.push(Vec::new());
        *used = 0;
    }
    *used += wide;
    if let Some(line) = lines.last_mut() {
        line.push(piece(said, token));
    }
}
