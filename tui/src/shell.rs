//! The frame around every screen: tab bar, breadcrumb, rule, body, toast row, hint row, and the overlays on top.
//! It reads the state and draws; it changes nothing but where things were scrolled to.

use ratatui::Frame;
use ratatui::layout::Rect;

use crate::action::{Action, Area, Offer, offer};
use crate::app::{App, LinkState};
use crate::keymap::{self, Context};
use crate::screens::{Class, Tone, View};
use crate::theme::Token;
use crate::widgets::canvas::Canvas;
use crate::widgets::number;
use crate::widgets::text;

/// Width from which the tab bar shows full names.
const FULL_NAMES_FROM: u16 = 140;
/// Width from which tabs stand two cells apart.
const WIDE_TABS_FROM: u16 = 100;

/// Draws everything.
pub(crate) fn draw(app: &mut App, frame: &mut Frame<'_>) {
    let area = frame.area();
    let class = Class::of(area.width, area.height);
    app.class = class.unwrap_or(Class::Xs);
    let offers = app.offers();
    let away = app.is_away();
    let mut canvas = Canvas {
        buffer: frame.buffer_mut(),
        theme: app.settings.theme,
        glyphs: app.settings.glyphs,
        stale: false,
        cursor: None,
        language: app.settings.language,
        hits: Vec::new(),
    };
    let Some(class) = class else {
        let size = [("w", area.width.to_string()), ("h", area.height.to_string())];
        let args: Vec<(&str, &str)> = size.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let said = app.view().fill("shell.too_small", &args);
        for (y, line) in text::wrap(&said, usize::from(area.width)).iter().enumerate() {
            canvas.put(0, y as u16, area.width, line, Token::Text);
        }
        return;
    };
    let body = frame_rows(app, &mut canvas, area, class);
    let toast_y = area.height - if class == Class::Xs { 1 } else { 2 };
    let body = if app.zoomed { Rect { height: area.height - 1, ..area } } else { body };
    canvas.stale = away;
    draw_body(app, &mut canvas, body);
    canvas.stale = false;
    if !app.layers.is_empty() {
        canvas.cursor = None;
        // Only what lies on top can be clicked.
        canvas.hits.clear();
        let mut layers = std::mem::take(&mut app.layers);
        let view = app.view();
        for layer in &mut layers {
            layer.draw(&mut canvas, body, &view);
        }
        app.layers = layers;
    }
    draw_bottom(app, &mut canvas, area, toast_y, class, &offers);
    let cursor = canvas.cursor;
    app.hits = std::mem::take(&mut canvas.hits);
    if let Some(position) = cursor {
        frame.set_cursor_position(position);
    }
}

fn draw_body(app: &mut App, canvas: &mut Canvas<'_>, body: Rect) {
    if !app.mirror.is_filled() {
        let view = app.view();
        let (key, token) = match app.link {
            LinkState::Away { .. } => ("shell.no_facts", Token::Muted),
            _ => ("shell.connecting", Token::Muted),
        };
        canvas.put(body.x + 2, body.y + 1, body.width.saturating_sub(4), view.t(key), token);
        return;
    }
    let away = app.is_away();
    let waiting = app.journal.len();
    let App { mirror, screens, settings, now_ms, class, area, .. } = app;
    let view = View { mirror, language: settings.language, now_ms: *now_ms, class: *class, away, waiting };
    screens[*area as usize].draw(canvas, body, &view);
}

/// Draws the rows above the body and returns the body.
fn frame_rows(app: &App, canvas: &mut Canvas<'_>, area: Rect, class: Class) -> Rect {
    let view = app.view();
    if class == Class::Xs {
        let name = format!("[{}{}]", app.area.digit(), view.t(app.area.tab()));
        let at = canvas.put(area.x, area.y, area.width, &name, Token::Heading);
        let trail = trail(app, &view);
        let at = canvas.put(at + 1, area.y, area.width.saturating_sub(at + 12), &trail, Token::Muted);
        draw_status(app, canvas, area, area.y, at, class);
        return Rect { y: area.y + 1, height: area.height.saturating_sub(2), ..area };
    }
    draw_tabs(app, canvas, area, &view);
    let name = view.t(app.area.name());
    let at = canvas.put(area.x + 1, area.y + 1, area.width - 1, name, Token::Heading);
    let at = canvas.put(at, area.y + 1, area.width * 6 / 10, &trail(app, &view), Token::Text);
    draw_status(app, canvas, area, area.y + 1, at, class);
    canvas.rule(area, area.y + 2, false);
    Rect { y: area.y + 3, height: area.height.saturating_sub(5), ..area }
}

fn trail(app: &App, view: &View<'_>) -> String {
    app.screens[app.area as usize].trail(view).iter().map(|part| format!(" > {part}")).collect()
}

fn draw_tabs(app: &App, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
    let full = area.width >= FULL_NAMES_FROM;
    let gap = if area.width >= WIDE_TABS_FROM { 2 } else { 1 };
    let mut x = area.x;
    for tab in Area::ALL {
        let name = view.t(if full { tab.name() } else { tab.tab() });
        let active = tab == app.area;
        let label = format!("{}{name}", tab.digit());
        if active {
            canvas.put(x, area.y, 1, "[", Token::Accent);
        }
        let digit = canvas.put(x + 1, area.y, 1, &tab.digit().to_string(), Token::Accent);
        let token = if active { Token::Heading } else { Token::Muted };
        canvas.put(digit, area.y, area.right().saturating_sub(digit), name, token);
        let end = x + 1 + text::width(&label) as u16;
        if active {
            canvas.put(end, area.y, 1, "]", Token::Accent);
        }
        canvas.clickable(Rect { x, width: end - x, height: 1, ..area }, Action::Go(tab));
        // With one cell between tabs the closing bracket stands in it, as does the next opening one.
        x = end + gap - 1;
    }
}

/// Machine, jobs and link at the right of the breadcrumb, as much as fits.
fn draw_status(app: &App, canvas: &mut Canvas<'_>, area: Rect, y: u16, from: u16, class: Class) {
    let view = app.view();
    let (link, token) = match &app.link {
        LinkState::Connecting => (view.t("link.connecting").to_owned(), Token::Waiting),
        LinkState::Online => (view.t("link.online").to_owned(), Token::Ok),
        LinkState::Away { since_ms, .. } => {
            let ago = number::duration(view.language, (app.now_ms - since_ms).max(0) as u64);
            let said = match app.mirror.is_filled() {
                true => view.fill("link.away_as_of", &[("t", &ago)]),
                false => view.t("link.away").to_owned(),
            };
            (said, Token::Error)
        }
    };
    let right = area.right().saturating_sub(1);
    let room = right.saturating_sub(from + 1);
    canvas.put_right(right, y, room, &link, token);
    if class == Class::Xs || !matches!(app.link, LinkState::Online) {
        return;
    }
    let Some(facts) = app.mirror.facts() else { return };
    let used = facts.machine.memory_bytes.saturating_sub(facts.machine.memory_available_bytes);
    let running = app.mirror.running().count();
    let mut parts = Vec::new();
    if let Some(busy) = facts.machine.cpu_busy.filter(|_| running > 0) {
        parts.push(format!("CPU {}", number::percent(f64::from(busy))));
    }
    parts.push(format!("{}/{}", number::bytes(used), number::bytes(facts.machine.memory_bytes)).replace(' ', ""));
    parts.push(match running {
        1 => view.t("shell.job").to_owned(),
        n => view.fill("shell.jobs", &[("n", &n.to_string())]),
    });
    let right = right.saturating_sub(text::width(&link) as u16 + 2);
    let whole = parts.join("  ");
    let room = right.saturating_sub(from + 2);
    if text::width(&whole) <= usize::from(room) {
        canvas.put_right(right, y, room, &whole, Token::Muted);
    } else if let Some(jobs) = parts.last().filter(|j| text::width(j) <= usize::from(room)) {
        canvas.put_right(right, y, room, jobs, Token::Muted);
    }
}

/// The toast row (or a rule) and the hint row.
fn draw_bottom(app: &mut App, canvas: &mut Canvas<'_>, area: Rect, toast_y: u16, class: Class, offers: &[Offer]) {
    let view = app.view();
    let said = match &app.link {
        LinkState::Away { since_ms, failure, tries, retry_at_ms } => {
            let since = number::duration(view.language, (app.now_ms - since_ms).max(0) as u64);
            let n = (tries + 1).to_string();
            let line = match retry_at_ms {
                Some(at) => {
                    let left = ((at - app.now_ms).max(0) + 999) / 1000;
                    view.fill("link.retry_in", &[("since", &since), ("s", &left.to_string()), ("n", &n)])
                }
                None => view.fill("link.retrying", &[("since", &since), ("n", &n)]),
            };
            let why = if class >= Class::L { format!(" ({})", view.failure(failure)) } else { String::new() };
            Some((Tone::Error, line + &why))
        }
        _ => None,
    };
    let toast = app.toast.as_ref().map(|t| (t.tone, t.text.clone())).or(said);
    let has_toast = toast.is_some();
    match toast {
        Some((tone, text)) => {
            canvas.clear(Rect { y: toast_y, height: 1, ..area });
            let (sign, token) = match tone {
                Tone::Info => (canvas.glyphs.point, Token::Text),
                Tone::Error => ("!", Token::Warn),
            };
            let at = canvas.put(area.x + 1, toast_y, 2, sign, token);
            canvas.put(at + 1, toast_y, area.width.saturating_sub(at + 2), &text, token);
        }
        None if class != Class::Xs && !app.zoomed => canvas.rule(area, toast_y, false),
        None => {}
    }
    if class == Class::Xs && has_toast || !app.settings.hints {
        return;
    }
    let hints = hints(app, &view, offers);
    // While something is typed `:` and `?` are text.
    let browsing = app.context() == Context::Browse;
    let clickable = app.layers.is_empty() && browsing;
    let y = area.bottom() - 1;
    let (command, help) = if browsing { (":", "?") } else { ("Ctrl-P", "F1") };
    let tail = [(command, view.t("hint_row.command")), (help, view.t("hint_row.help"))];
    let tail_width: usize = tail.iter().map(|(k, l)| text::width(k) + text::width(l) + 3).sum();
    let limit = usize::from(area.width).saturating_sub(tail_width + 1);
    let mut x = area.x + 1;
    if let Some(name) = context_name(app) {
        x = canvas.put(x, y, 12, view.t(name), Token::Heading) + 2;
    }
    let mut seen: Vec<String> = Vec::new();
    for (key, label, action) in hints {
        // Two directions of one movement are one hint, as are two keys for one thing.
        if seen.contains(&key) || seen.contains(&label) {
            continue;
        }
        let wide = text::width(&key) + text::width(&label) + 3;
        if usize::from(x) + wide > limit + 1 {
            continue;
        }
        let at = canvas.put(x, y, 12, &key, Token::Accent);
        let end = canvas.put(at + 1, y, 30, &label, Token::Text);
        if let Some(action) = action.filter(|_| clickable) {
            canvas.clickable(Rect { x, y, width: end - x, height: 1 }, action);
        }
        x = end + 2;
        seen.extend([key, label]);
    }
    if app.layers.is_empty() {
        for ((key, label), action) in tail.into_iter().zip([Action::Palette, Action::Help]) {
            let at = canvas.put(x, y, 6, key, Token::Accent);
            let end = canvas.put(at + 1, y, area.right().saturating_sub(at + 1), label, Token::Text);
            canvas.clickable(Rect { x, y, width: end - x, height: 1 }, action);
            x = end + 2;
        }
    }
}

fn context_name(app: &App) -> Option<&'static str> {
    match app.context() {
        Context::Browse => None,
        Context::Field => Some("context.field"),
        Context::Text => Some("context.text"),
        Context::Decide => Some("context.decide"),
    }
}

/// Keys and labels of the hint row, and what a click on one does.
fn hints(app: &App, view: &View<'_>, offers: &[Offer]) -> Vec<(String, String, Option<Action>)> {
    if let Some(layer) = app.layers.last() {
        return layer.hints(view).into_iter().map(|(key, label)| (key, label, None)).collect();
    }
    if app.is_away() && app.context() == Context::Browse {
        let away = [offer(Action::Run, "link.retry_now"), offer(Action::Quit, "act.quit_short")];
        return away.iter().map(|o| labelled(view, o, app.settings.glyphs)).collect();
    }
    if app.context() == Context::Field {
        // The verbs of the screen are letters now; what is typed is kept or dropped.
        return [("Enter", "hint_row.keep"), ("Esc", "hint_row.drop")]
            .map(|(key, label)| (key.to_owned(), view.t(label).to_owned(), None))
            .to_vec();
    }
    offers.iter().map(|o| labelled(view, o, app.settings.glyphs)).collect()
}

fn labelled(view: &View<'_>, offer: &Offer, glyphs: &crate::glyphs::Glyphs) -> (String, String, Option<Action>) {
    let label = view.t(offer.label).to_owned();
    // A pair of keys has no one action that a click could mean; the next tab is the next one in a ring.
    match offer.action {
        Action::Up | Action::Down => (glyphs.up_down.to_owned(), label, None),
        Action::Left | Action::Right => (glyphs.left_right.to_owned(), label, None),
        Action::NextTab | Action::PreviousTab => {
            ("[ ]".to_owned(), view.t("hint_row.both_tabs").to_owned(), Some(Action::NextTab))
        }
        action => (keymap::keys(action).into_iter().next().unwrap_or_default(), label, Some(action)),
    }
}
