//! `?`: one paragraph about the screen and the keys that work now, searched by key or by word. Never here: the words,
//! which are the docs' own.

use ratatui::layout::Rect;

use super::{frame, select};
use crate::action::{Action, Area, EVERYWHERE, Offer};
use crate::keymap;
use crate::screens::{View, page};
use crate::theme::Token;
use crate::widgets::canvas::Canvas;
use crate::widgets::line::TypedLine;
use crate::widgets::page::Page;

/// One key of the help list.
pub(super) struct HelpLine {
    pub(super) action: Action,
    keys: String,
    text: String,
}

/// The keys that work now, filtered by key or by words.
pub(super) fn help_lines(view: &View<'_>, area: Area, offers: &[Offer], filter: &str) -> Vec<HelpLine> {
    let here = offers.iter().map(|o| (o.action, view.t(o.label).to_owned()));
    let moving = [Action::Up, Action::Down, Action::PageUp, Action::PageDown, Action::First, Action::Last];
    let everywhere = moving.iter().chain(EVERYWHERE).map(|a| (*a, view.t(a.about()).to_owned()));
    let areas = Area::ALL
        .into_iter()
        .filter(|a| *a != area)
        .map(|a| (Action::Go(a), view.fill("help.go_to", &[("area", view.t(a.name()))])));
    let mut lines: Vec<HelpLine> = Vec::new();
    for (action, text) in here.chain(everywhere).chain(areas) {
        if lines.iter().any(|l| l.action == action) {
            continue;
        }
        let keys = keymap::keys(action).join("  ");
        let needle = filter.trim().to_lowercase();
        let found = needle.is_empty()
            || text.to_lowercase().contains(&needle)
            || keymap::keys(action).iter().any(|k| k.to_lowercase() == needle);
        if found {
            lines.push(HelpLine { action, keys, text });
        }
    }
    lines
}

/// The first paragraphs of a page of the docs: what `?` shows above the keys.
pub(super) fn introduction(page: &str) -> String {
    let body = page.lines().skip_while(|l| l.starts_with('#') || l.trim().is_empty());
    let paragraph: Vec<&str> = body.take_while(|l| !l.starts_with('#')).collect();
    paragraph.join("\n").trim().replace('`', "")
}

pub(super) fn draw_help(
    canvas: &mut Canvas<'_>,
    body: Rect,
    view: &View<'_>,
    (area, offers): (Area, &[Offer]),
    filter: &TypedLine,
    at: &mut usize,
) {
    let title = view.fill("help.title", &[("area", view.t(area.name()))]);
    let inner = frame(canvas, body, 92, u16::MAX, &title);
    let mut intro = Page::new();
    intro.text(introduction(page(area, view.language)), Token::Text);
    let margin = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    let limit = Rect { height: inner.height / 2, ..margin };
    let used = (intro.draw_top(canvas, limit) as u16).min(limit.height);
    let y = inner.y + used + 1;
    let mark = canvas.put(margin.x, y, 20, view.t("help.search"), Token::Muted);
    filter.draw(canvas, mark + 1, y, margin.right().saturating_sub(mark + 1), Token::Text);
    let cursor = canvas.cursor;
    let lines = help_lines(view, area, offers, &filter.text());
    *at = (*at).min(lines.len().saturating_sub(1));
    let rows = usize::from(inner.bottom().saturating_sub(y + 1));
    let top = (*at + 1).saturating_sub(rows);
    for (i, line) in lines.iter().enumerate().skip(top).take(rows) {
        let row = y + 1 + (i - top) as u16;
        canvas.put(inner.x + 2, row, 15, &line.keys, Token::Accent);
        canvas.put(inner.x + 18, row, inner.width.saturating_sub(19), &line.text, Token::Text);
        select(canvas, inner, row, (i, *at));
    }
    if lines.is_empty() {
        canvas.put(inner.x + 2, y + 1, inner.width - 2, view.t("help.nothing"), Token::Muted);
    }
    if !filter.is_empty() {
        canvas.cursor = cursor;
    }
}
