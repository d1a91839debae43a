//! What lies over a screen: help, palette, menu, questions, the jobs drawer, sheets to read. A stack of at most three;
//! Esc takes one away. None covers the tab bar, the breadcrumb, the toast or the hints. Never here: a decision; an
//! overlay only hands wishes to the shell.

mod help;

use crossterm::event::{KeyCode, KeyEvent};
use hone_protocol::id::JobId;
use ratatui::layout::Rect;

use help::{draw_help, help_lines};

use crate::action::{Action, Area, Offer};
use crate::keymap;
use crate::palette;
use crate::screens::{Class, Place, View, Wish};
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, Piece, piece};
use crate::widgets::line::TypedLine;
use crate::widgets::page::Page;
use crate::widgets::text;

/// Overlays at once; a fourth takes the place of the third.
pub(crate) const LAYERS_MAX: usize = 3;

/// A question with the safe answer as default.
#[derive(Debug)]
pub(crate) struct Question {
    /// What is asked.
    pub(crate) title: String,
    /// The consequences.
    pub(crate) body: Vec<String>,
    /// Catalogue key of the word beside `y`.
    pub(crate) yes: &'static str,
    /// For irreversible acts: the name that has to be typed.
    pub(crate) name: Option<String>,
    /// What has been typed of it.
    pub(crate) typed: TypedLine,
    /// What happens then.
    pub(crate) wishes: Vec<Wish>,
}

/// Something to read.
#[derive(Debug)]
pub(crate) struct Sheet {
    /// Its title.
    pub(crate) title: String,
    /// Its lines.
    pub(crate) lines: Vec<Piece>,
    /// What `y` copies; none when there is nothing to copy.
    pub(crate) copy: Option<String>,
    /// First line shown.
    pub(crate) scroll: usize,
}

/// One overlay.
#[derive(Debug)]
pub(crate) enum Layer {
    /// What this screen is and which keys work.
    Help {
        /// The area it is about.
        area: Area,
        /// Keys of the screen.
        offers: Vec<Offer>,
        /// What is searched for.
        filter: TypedLine,
        /// The chosen line.
        at: usize,
    },
    /// Find and run anything.
    Palette {
        /// Keys of the screen below.
        offers: Vec<Offer>,
        /// What is typed.
        line: TypedLine,
        /// The chosen row.
        at: usize,
    },
    /// All actions of the selected thing.
    Menu {
        /// The actions.
        offers: Vec<Offer>,
        /// The chosen row.
        at: usize,
    },
    /// A question.
    Question(Question),
    /// Running and waiting jobs.
    Jobs {
        /// The chosen row.
        at: usize,
    },
    /// Letters of the areas, after `g`.
    Areas,
    /// Something to read.
    Sheet(Sheet),
}

/// What a key did to an overlay.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// Take it away.
    pub(crate) close: bool,
    /// Then do this.
    pub(crate) wishes: Vec<Wish>,
}

impl Reply {
    fn stay() -> Reply {
        Reply::default()
    }
    fn close() -> Reply {
        Reply { close: true, wishes: Vec::new() }
    }
    fn then(wish: Wish) -> Reply {
        Reply { close: true, wishes: vec![wish] }
    }
}

/// A key of a list: moves `at` within `count` rows; false when the key is no movement.
fn moves(at: &mut usize, count: usize, key: KeyEvent, letters: bool) -> bool {
    let last = count.saturating_sub(1);
    match key.code {
        KeyCode::Up => *at = at.saturating_sub(1),
        KeyCode::Down => *at = (*at + 1).min(last),
        KeyCode::PageUp => *at = at.saturating_sub(10),
        KeyCode::PageDown => *at = (*at + 10).min(last),
        KeyCode::Char('k') if letters => *at = at.saturating_sub(1),
        KeyCode::Char('j') if letters => *at = (*at + 1).min(last),
        KeyCode::Char('p') if !letters && keymap::written(key) == "Ctrl-P" => *at = at.saturating_sub(1),
        KeyCode::Char('n') if !letters && keymap::written(key) == "Ctrl-N" => *at = (*at + 1).min(last),
        _ => return false,
    }
    true
}

impl Layer {
    /// A question whose answer can be taken back.
    pub(crate) fn ask(title: String, body: Vec<String>, yes: &'static str, wishes: Vec<Wish>) -> Layer {
        Layer::Question(Question { title, body, yes, name: None, typed: TypedLine::default(), wishes })
    }

    /// A question whose answer cannot be taken back: a name has to be typed.
    pub(crate) fn ask_name(title: String, body: Vec<String>, name: String, wishes: Vec<Wish>) -> Layer {
        Layer::Question(Question {
            title,
            body,
            yes: "ask.go_on",
            name: Some(name),
            typed: TypedLine::default(),
            wishes,
        })
    }

    /// Takes a key.
    pub(crate) fn key(&mut self, key: KeyEvent, view: &View<'_>) -> Reply {
        if key.code == KeyCode::Esc {
            return Reply::close();
        }
        match self {
            Layer::Help { area, offers, filter, at } => {
                let lines = help_lines(view, *area, offers, &filter.text());
                if moves(at, lines.len(), key, false) {
                    return Reply::stay();
                }
                match key.code {
                    KeyCode::Enter => match lines.get(*at) {
                        Some(line) => Reply::then(Wish::Act(line.action)),
                        None => Reply::stay(),
                    },
                    KeyCode::Char('?' | '？') if filter.is_empty() => Reply::close(),
                    _ => {
                        filter.key(key);
                        *at = 0;
                        Reply::stay()
                    }
                }
            }
            Layer::Palette { offers, line, at } => {
                let entries = palette::entries(view, offers, &line.text());
                if moves(at, entries.len(), key, false) {
                    return Reply::stay();
                }
                match key.code {
                    KeyCode::Enter => match entries.into_iter().nth(*at) {
                        Some(entry) => Reply::then(entry.wish),
                        None => Reply::stay(),
                    },
                    KeyCode::Tab => {
                        if let Some(entry) = entries.get(*at) {
                            *line = TypedLine::with(&entry.text);
                        }
                        Reply::stay()
                    }
                    _ => {
                        line.key(key);
                        *at = 0;
                        Reply::stay()
                    }
                }
            }
            Layer::Menu { offers, at } => {
                if moves(at, offers.len(), key, false) {
                    return Reply::stay();
                }
                if key.code == KeyCode::Enter {
                    return offers.get(*at).map_or_else(Reply::stay, |o| Reply::then(Wish::Act(o.action)));
                }
                let direct = keymap::action(keymap::Context::Browse, key);
                match offers.iter().find(|o| Some(o.action) == direct) {
                    Some(offer) => Reply::then(Wish::Act(offer.action)),
                    None => Reply::stay(),
                }
            }
            Layer::Question(question) => question.key(key),
            Layer::Jobs { at } => {
                let jobs = drawer_jobs(view);
                if moves(at, jobs.len(), key, true) {
                    return Reply::stay();
                }
                match (key.code, jobs.get(*at)) {
                    (KeyCode::Enter, Some(job)) => Reply::then(Wish::Open(Place::Job(*job))),
                    (KeyCode::Char('!' | '！'), _) => Reply::close(),
                    _ => Reply::stay(),
                }
            }
            Layer::Areas => match keymap::written(key).as_str() {
                "g" => Reply::then(Wish::Act(Action::First)),
                _ => match keymap::area_of_letter(key) {
                    Some(area) => Reply::then(Wish::Act(Action::Go(area))),
                    None => Reply::close(),
                },
            },
            Layer::Sheet(sheet) => {
                if moves(&mut sheet.scroll, usize::MAX, key, true) {
                    return Reply::stay();
                }
                match (keymap::written(key).as_str(), &sheet.copy) {
                    ("y", Some(copy)) => Reply { close: false, wishes: vec![Wish::Copy(copy.clone())] },
                    ("Enter" | "q", _) => Reply::close(),
                    _ => Reply::stay(),
                }
            }
        }
    }

    /// Takes a paste.
    pub(crate) fn paste(&mut self, text: &str) {
        match self {
            Layer::Help { filter, .. } => filter.insert(text),
            Layer::Palette { line, .. } => line.insert(text),
            Layer::Question(question) => question.typed.insert(text),
            _ => {}
        }
    }

    /// Keys of the hint row while it is on top.
    pub(crate) fn hints(&self, view: &View<'_>) -> Vec<(String, String)> {
        let both = |key: &str, label| (key.to_owned(), view.t(label).to_owned());
        let arrows = if view.class >= Class::S { "↑↓" } else { "Up/Down" };
        match self {
            Layer::Help { .. } => {
                vec![both("Enter", "hint_row.run"), both(arrows, "hint_row.choose"), both("Esc", "hint_row.close")]
            }
            Layer::Palette { .. } => vec![
                both("Enter", "hint_row.run"),
                both("Tab", "hint_row.complete"),
                both(arrows, "hint_row.choose"),
                both("> @ #", "hint_row.kinds"),
                both("Esc", "hint_row.close"),
            ],
            Layer::Menu { .. } => {
                vec![both("Enter", "hint_row.run"), both(arrows, "hint_row.choose"), both("Esc", "hint_row.close")]
            }
            Layer::Question(q) if q.name.is_some() => vec![both("Enter", "hint_row.if_typed"), both("Esc", "ask.keep")],
            Layer::Question(q) => vec![both("y", q.yes), both("n", "ask.keep"), both("Esc", "ask.keep")],
            Layer::Jobs { .. } => {
                vec![both("Enter", "hint_row.open"), both(arrows, "hint_row.choose"), both("Esc", "hint_row.close")]
            }
            Layer::Areas => vec![both("Esc", "hint_row.close")],
            Layer::Sheet(sheet) => {
                let mut hints = vec![both(arrows, "hint_row.scroll")];
                if sheet.copy.is_some() {
                    hints.insert(0, both("y", "hint_row.copy"));
                }
                hints.push(both("Esc", "hint_row.close"));
                hints
            }
        }
    }

    /// Draws it over the body.
    pub(crate) fn draw(&mut self, canvas: &mut Canvas<'_>, body: Rect, view: &View<'_>) {
        match self {
            Layer::Help { area, offers, filter, at } => draw_help(canvas, body, view, (*area, offers), filter, at),
            Layer::Palette { offers, line, at } => draw_palette(canvas, body, view, offers, line, at),
            Layer::Menu { offers, at } => {
                let rows: Vec<(String, String)> = offers
                    .iter()
                    .map(|o| {
                        (keymap::keys(o.action).into_iter().next().unwrap_or_default(), view.t(o.label).to_owned())
                    })
                    .collect();
                let inner = frame(canvas, body, 60, rows.len() as u16 + 2, view.t("layer.menu"));
                for (i, (key, label)) in rows.iter().enumerate().take(usize::from(inner.height)) {
                    let y = inner.y + i as u16;
                    canvas.put(inner.x + 2, y, 10, key, Token::Accent);
                    canvas.put(inner.x + 13, y, inner.width.saturating_sub(13), label, Token::Text);
                    select(canvas, inner, y, (i, *at));
                }
            }
            Layer::Question(question) => question.draw(canvas, body, view),
            Layer::Jobs { at } => draw_drawer(canvas, body, view, at),
            Layer::Areas => {
                let inner = frame(canvas, body, 60, 8, view.t("layer.areas"));
                for (i, area) in Area::ALL.into_iter().enumerate() {
                    let (column, row) = ((i / 6) as u16, (i % 6) as u16);
                    let x = inner.x + 2 + column * 28;
                    let at = canvas.put(x, inner.y + row, 4, &format!("{}   ", area.letter()), Token::Accent);
                    canvas.put(at, inner.y + row, 22, view.t(area.name()), Token::Text);
                }
            }
            Layer::Sheet(sheet) => {
                let inner = frame(canvas, body, 96, u16::MAX, &sheet.title);
                let mut page = Page::new();
                for line in &sheet.lines {
                    // A line that wraps keeps its indentation.
                    let content = line.text.trim_start_matches(' ');
                    page.indented(content, line.token, (line.text.len() - content.len()) as u16);
                }
                page.draw(canvas, inner, &mut sheet.scroll);
            }
        }
    }
}

impl Question {
    fn key(&mut self, key: KeyEvent) -> Reply {
        let go = |wishes: &mut Vec<Wish>| Reply { close: true, wishes: std::mem::take(wishes) };
        match &self.name {
            Some(name) => match key.code {
                KeyCode::Enter if self.typed.text().trim() == name => go(&mut self.wishes),
                KeyCode::Enter => Reply::stay(),
                _ => {
                    self.typed.key(key);
                    Reply::stay()
                }
            },
            // Enter is the safe answer: it never destroys.
            None => match keymap::written(key).as_str() {
                "y" => go(&mut self.wishes),
                "n" | "Enter" | "q" => Reply::close(),
                _ => Reply::stay(),
            },
        }
    }

    fn draw(&self, canvas: &mut Canvas<'_>, body: Rect, view: &View<'_>) {
        let wide = body.width.saturating_sub(8).min(76);
        let lines: usize = self.body.iter().map(|l| text::wrap(l, usize::from(wide.saturating_sub(6))).len()).sum();
        let token = if self.name.is_some() { Token::Danger } else { Token::Heading };
        let inner = frame_as(canvas, body, wide, lines as u16 + 6, &self.title, token);
        let mut page = Page::new();
        for line in &self.body {
            page.text(line.clone(), Token::Text);
        }
        page.blank();
        let inner = Rect { x: inner.x + 2, width: inner.width.saturating_sub(4), ..inner };
        let used = page.draw_top(canvas, inner) as u16;
        let y = (inner.y + used).min(inner.bottom().saturating_sub(1));
        match &self.name {
            Some(name) => {
                let ask = view.fill("ask.type_name", &[("name", name)]);
                let at = canvas.put(inner.x, y, inner.width.saturating_sub(20), &ask, Token::Text);
                self.typed.draw(canvas, at + 2, y, inner.right().saturating_sub(at + 2), Token::Danger);
                if y + 1 < inner.bottom() {
                    canvas.put(inner.x, y + 1, inner.width, &format!("Esc {}", view.t("ask.keep")), Token::Muted);
                }
            }
            None => {
                let at = canvas.pieces(
                    inner.x,
                    y,
                    inner.width,
                    &[
                        piece("y ", Token::Accent),
                        piece(view.t(self.yes), Token::Text),
                        piece("      n ", Token::Accent),
                        piece(view.t("ask.keep_default"), Token::Text),
                    ],
                );
                canvas.cursor_at(at.saturating_sub(1), y);
            }
        }
    }
}

/// Lets a row of an overlay be clicked; marks the chosen one and puts the real cursor there.
fn select(canvas: &mut Canvas<'_>, inner: Rect, y: u16, (row, at): (usize, usize)) {
    canvas.clickable_row(Rect { y, ..inner }, row, at);
    if row == at {
        canvas.put(inner.x, y, 1, canvas.glyphs.point, Token::Accent);
        canvas.highlight(inner.x + 2, y, inner.width.saturating_sub(2), Token::Selected);
        canvas.cursor_at(inner.x, y);
    }
}

fn frame(canvas: &mut Canvas<'_>, body: Rect, wide: u16, rows: u16, title: &str) -> Rect {
    frame_as(canvas, body, wide, rows, title, Token::Heading)
}

/// Clears room for an overlay in the middle of the body and returns what is inside its rules.
fn frame_as(canvas: &mut Canvas<'_>, body: Rect, wide: u16, rows: u16, title: &str, token: Token) -> Rect {
    let width = wide.min(body.width);
    // Title and two rules.
    let height = rows.saturating_add(3).min(body.height);
    let x = body.x + (body.width - width) / 2;
    let y = body.y + (body.height - height) / 3;
    let outer = Rect { x, y, width, height };
    // The whole band: pieces of what lies below at both sides only look broken.
    canvas.clear(Rect { x: body.x, width: body.width, ..outer });
    canvas.put(x + 1, y, width.saturating_sub(2), title, token);
    if height > 1 {
        canvas.rule(outer, y + 1, true);
    }
    let tail = u16::from(height > 3);
    if tail > 0 {
        canvas.rule(outer, outer.bottom() - 1, true);
    }
    Rect { x, y: y + 2, width, height: height.saturating_sub(2 + tail) }
}

fn draw_palette(
    canvas: &mut Canvas<'_>,
    body: Rect,
    view: &View<'_>,
    offers: &[Offer],
    line: &TypedLine,
    at: &mut usize,
) {
    let entries = palette::entries(view, offers, &line.text());
    *at = (*at).min(entries.len().saturating_sub(1));
    let inner = frame(canvas, body, 86, 16, "");
    let y = inner.y - 2;
    let mark = canvas.put(inner.x + 1, y, 2, ": ", Token::Accent);
    let count = entries.len().to_string();
    canvas.put_right(inner.right() - 1, y, 8, &count, Token::Muted);
    let rows = usize::from(inner.height);
    let top = (*at + 1).saturating_sub(rows);
    let kind_x = inner.x + inner.width * 6 / 10;
    for (i, entry) in entries.iter().enumerate().skip(top).take(rows) {
        let row = inner.y + (i - top) as u16;
        canvas.put(inner.x + 2, row, kind_x.saturating_sub(inner.x + 3), &entry.text, Token::Text);
        canvas.put(kind_x, row, 12, view.t(entry.kind), Token::Muted);
        canvas.put(kind_x + 13, row, inner.right().saturating_sub(kind_x + 13), &entry.key, Token::Accent);
        select(canvas, inner, row, (i, *at));
    }
    if entries.is_empty() {
        canvas.put(inner.x + 2, inner.y, inner.width - 2, view.t("palette.nothing"), Token::Muted);
    }
    // Typing goes to the line, so that is where the real cursor belongs.
    line.draw(canvas, mark, y, inner.width.saturating_sub(14), Token::Text);
}

/// Running and waiting jobs first, then those that ended last.
fn drawer_jobs(view: &View<'_>) -> Vec<JobId> {
    let running: Vec<JobId> = view.mirror.running().map(|j| j.record.id).collect();
    let rest = view.mirror.jobs().iter().map(|j| j.record.id).filter(|id| !running.contains(id)).take(5);
    running.iter().copied().chain(rest).collect()
}

fn draw_drawer(canvas: &mut Canvas<'_>, body: Rect, view: &View<'_>, at: &mut usize) {
    let jobs = drawer_jobs(view);
    *at = (*at).min(jobs.len().saturating_sub(1));
    let inner = frame(canvas, body, 92, (jobs.len() as u16).max(1), view.t("layer.jobs"));
    if jobs.is_empty() {
        canvas.put(inner.x + 2, inner.y, inner.width - 2, view.t("jobs.empty"), Token::Muted);
    }
    for (i, id) in jobs.iter().enumerate().take(usize::from(inner.height)) {
        let Some(job) = view.mirror.job(*id) else { continue };
        let y = inner.y + i as u16;
        let line = crate::screens::job_line(view, job, canvas.glyphs);
        canvas.pieces(inner.x + 2, y, inner.width.saturating_sub(2), &line);
        select(canvas, inner, y, (i, *at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::Mirror;

    #[test]
    fn enter_alone_never_destroys() {
        let mirror = Mirror::default();
        let view = View::plain(&mirror);
        let mut yes_no = Layer::ask("?".into(), vec![], "ask.go_on", vec![Wish::Messages]);
        let reply = yes_no.key(KeyEvent::from(KeyCode::Enter), &view);
        assert!(reply.close && reply.wishes.is_empty());
        let mut yes_no = Layer::ask("?".into(), vec![], "ask.go_on", vec![Wish::Messages]);
        assert_eq!(yes_no.key(KeyEvent::from(KeyCode::Char('y')), &view).wishes.len(), 1);
        let mut named = Layer::ask_name("?".into(), vec![], "prod".into(), vec![Wish::Messages]);
        assert!(!named.key(KeyEvent::from(KeyCode::Enter), &view).close);
        for c in "prod".chars() {
            named.key(KeyEvent::from(KeyCode::Char(c)), &view);
        }
        assert_eq!(named.key(KeyEvent::from(KeyCode::Enter), &view).wishes.len(), 1);
    }

    #[test]
    fn every_action_and_area_stands_in_the_help_of_some_screen() {
        use std::collections::BTreeSet;
        let mut mirror = Mirror::default();
        mirror.replace(crate::screens::sample::filled());
        let view = View::plain(&mirror);
        let mut seen = BTreeSet::new();
        for states in crate::screens::visits::visited(&mirror) {
            for line in help_lines(&view, states.0, &states.1, "") {
                seen.insert(format!("{:?}", line.action));
            }
        }
        for action in Action::ALL {
            assert!(seen.contains(&format!("{action:?}")), "{action:?} is in no help list");
        }
        for area in Area::ALL {
            assert!(seen.contains(&format!("{:?}", Action::Go(area))));
        }
    }

    #[test]
    fn help_is_found_by_key_and_by_word() {
        let mirror = Mirror::default();
        let view = View::plain(&mirror);
        assert!(help_lines(&view, Area::Home, &[], "!").iter().any(|l| l.action == Action::Jobs));
        assert!(
            help_lines(&view, Area::Home, &[], "palette").len() + help_lines(&view, Area::Home, &[], "find").len() > 0
        );
    }

    #[test]
    fn the_introduction_is_the_text_before_the_first_heading() {
        assert_eq!(help::introduction("# T\n\nOne `x`.\nTwo.\n\n## Keys\nno"), "One x.\nTwo.");
    }
}
