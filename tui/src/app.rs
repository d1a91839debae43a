//! The client's state and how events change it. Pure but for the outbox: time comes in with each event, and what has
//! to be done to the terminal goes out as effects. Never here: drawing, threads, or a fact that the daemon did not say.

use std::collections::HashMap;

use crossterm::event::KeyEvent;
use hone_protocol::catalogue::{Language, fill, text};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::request::{Answer, Down, Request, Up};

use crate::action::{Action, Area, Offer};
use crate::event::{Event, Outbox};
use crate::glyphs::{GlyphSet, Glyphs};
use crate::keymap::{self, Context};
use crate::layers::{LAYERS_MAX, Layer, Sheet};
use crate::mirror::{Applied, Mirror};
use crate::screens::{Class, Desk, Errand, Place, SCREENS, Screen, Setting, Tone, View, Wish};
use crate::theme::{Theme, Token};
use crate::widgets::canvas::piece;
use crate::widgets::line::TypedLine;
use crate::widgets::text::one_line;

pub use crate::terminal_loop::run;

/// How long a message that goes away by itself is shown, in milliseconds.
const TOAST_MS: i64 = 5_000;
/// How long a second Ctrl-C leaves, in milliseconds.
const INTERRUPT_MS: i64 = 2_000;
/// Messages that are kept for reading again.
const MESSAGES_MAX: usize = 200;
/// Areas that `{` goes back through.
const HISTORY_MAX: usize = 50;
/// Bytes of a text that is copied through the terminal; terminals refuse more, so a longer one is not sent.
const COPY_BYTES_MAX: usize = 70_000;
/// Waits before the next try to reach the daemon, in milliseconds; the last one repeats.
const RETRY_MS: [i64; 5] = [1_000, 2_000, 4_000, 8_000, 15_000];

/// What has to be done outside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Connect, as the connection of this number.
    Connect(u64),
    /// End.
    Leave,
    /// Sleep.
    Suspend,
    /// Draw everything again.
    Repaint,
    /// Put this into the clipboard.
    Copy(String),
}

/// The daemon, as far as the client can tell.
#[derive(Debug)]
pub(crate) enum LinkState {
    /// Being reached.
    Connecting,
    /// Facts are fresh.
    Online,
    /// It does not answer.
    Away {
        /// Since when, Unix milliseconds.
        since_ms: i64,
        /// Why.
        failure: Failure,
        /// Tries so far.
        tries: usize,
        /// When the next one comes; none while one is under way.
        retry_at_ms: Option<i64>,
    },
}

/// What the person chose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// The language.
    pub(crate) language: Language,
    /// The colours.
    pub(crate) theme: Theme,
    /// The signs.
    pub(crate) glyphs: &'static Glyphs,
    /// Whether the last row shows hints.
    pub(crate) hints: bool,
}

/// A message in the toast row.
#[derive(Debug)]
pub(crate) struct Toast {
    /// How serious it is.
    pub(crate) tone: Tone,
    /// What it says.
    pub(crate) text: String,
    until_ms: i64,
}

/// Everything the client knows about itself.
pub(crate) struct App {
    /// The facts.
    pub(crate) mirror: Mirror,
    /// The twelve screens.
    pub(crate) screens: Vec<Box<dyn Screen>>,
    /// The area shown.
    pub(crate) area: Area,
    /// The overlays, the top one last.
    pub(crate) layers: Vec<Layer>,
    /// The toast row.
    pub(crate) toast: Option<Toast>,
    /// What the person chose.
    pub(crate) settings: Settings,
    /// The clock, Unix milliseconds.
    pub(crate) now_ms: i64,
    /// How much room there was at the last draw.
    pub(crate) class: Class,
    /// The daemon.
    pub(crate) link: LinkState,
    /// Body without its neighbours (`z`).
    pub(crate) zoomed: bool,
    back: Vec<Area>,
    forward: Vec<Area>,
    messages: Vec<(i64, Tone, String)>,
    outbox: Option<Outbox>,
    connection: u64,
    next_id: u64,
    asks: HashMap<u64, (Area, Errand)>,
    latest: HashMap<(Area, Errand), u64>,
    interrupt_until_ms: Option<i64>,
    effects: Vec<Effect>,
}

impl App {
    /// A client that has not reached the daemon yet.
    pub(crate) fn new(settings: Settings, now_ms: i64) -> App {
        App {
            mirror: Mirror::default(),
            screens: SCREENS.iter().map(|entry| (entry.make)()).collect(),
            area: Area::Home,
            layers: Vec::new(),
            toast: None,
            settings,
            now_ms,
            class: Class::S,
            link: LinkState::Connecting,
            zoomed: false,
            back: Vec::new(),
            forward: Vec::new(),
            messages: Vec::new(),
            outbox: None,
            connection: 1,
            next_id: 1,
            asks: HashMap::new(),
            latest: HashMap::new(),
            interrupt_until_ms: None,
            effects: vec![Effect::Connect(1)],
        }
    }

    /// What screens see.
    pub(crate) fn view(&self) -> View<'_> {
        view(&self.mirror, &self.settings, self.now_ms, self.class, self.is_away())
    }

    /// Whether the facts are as of an earlier time.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self.link, LinkState::Away { .. })
    }

    /// Takes an event and says what has to be done outside.
    pub(crate) fn update(&mut self, event: Event, now_ms: i64) -> Vec<Effect> {
        self.now_ms = now_ms;
        match event {
            Event::Key(key) => self.key(key),
            Event::Paste(text) => self.paste(&text),
            Event::Resize | Event::Tick => {}
            Event::NoTerminal => self.effects.push(Effect::Leave),
            Event::Linked(outbox) => {
                if outbox.number == self.connection {
                    self.outbox = Some(outbox);
                    self.send(Request::Watch);
                }
            }
            Event::Down(number, down) => {
                if number == self.connection {
                    self.down(*down);
                }
            }
            Event::Unlinked(number, failure) => {
                if number == self.connection {
                    self.lost(failure);
                }
            }
        }
        self.expire();
        self.with_screen(self.area, |screen, desk| screen.needs(desk));
        std::mem::take(&mut self.effects)
    }

    /// When the client has to wake up by itself; none for never.
    pub(crate) fn wakes_at_ms(&self) -> Option<i64> {
        let toast = self.toast.as_ref().filter(|t| t.tone == Tone::Info).map(|t| t.until_ms);
        // The countdown shows seconds.
        let retry = match &self.link {
            LinkState::Away { retry_at_ms: Some(at), .. } => Some((*at).min(self.now_ms / 1000 * 1000 + 1000)),
            _ => None,
        };
        let screen = self.screens[self.area as usize].wakes_at_ms(&self.view());
        [toast, retry, self.interrupt_until_ms, screen].into_iter().flatten().min()
    }

    fn expire(&mut self) {
        if self.toast.as_ref().is_some_and(|t| t.tone == Tone::Info && t.until_ms <= self.now_ms) {
            self.toast = None;
        }
        if self.interrupt_until_ms.is_some_and(|at| at <= self.now_ms) {
            self.interrupt_until_ms = None;
        }
        if let LinkState::Away { retry_at_ms: Some(at), .. } = self.link {
            if at <= self.now_ms {
                self.retry();
            }
        }
    }

    fn retry(&mut self) {
        if let LinkState::Away { retry_at_ms, .. } = &mut self.link {
            if retry_at_ms.take().is_some() {
                self.connection += 1;
                self.effects.push(Effect::Connect(self.connection));
            }
        }
    }

    fn lost(&mut self, failure: Failure) {
        self.outbox = None;
        self.asks.clear();
        self.latest.clear();
        for screen in &mut self.screens {
            screen.forget();
        }
        let (since_ms, tries) = match &self.link {
            LinkState::Away { since_ms, tries, .. } => (*since_ms, tries + 1),
            _ => (self.now_ms, 0),
        };
        let wait = RETRY_MS[tries.min(RETRY_MS.len() - 1)];
        self.link = LinkState::Away { since_ms, failure, tries, retry_at_ms: Some(self.now_ms + wait) };
    }

    fn send(&mut self, request: Request) -> Option<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let sent = self.outbox.as_ref()?.put(Up::Ask { id, once: None, request });
        if !sent {
            self.lost(Failure::new(FailureCode::ServiceUnavailable, "the daemon does not read what it is sent"));
            return None;
        }
        Some(id)
    }

    fn down(&mut self, down: Down) {
        match down {
            Down::Snapshot(snapshot) => {
                let was_away = self.is_away();
                self.mirror.replace(*snapshot);
                self.link = LinkState::Online;
                if was_away {
                    self.say(Tone::Info, text(self.settings.language, "link.back").to_owned());
                }
            }
            Down::Event(event) => {
                if self.mirror.apply(*event) == Applied::Gap {
                    self.send(Request::Watch);
                }
            }
            Down::Part { id, part } => {
                let Some((area, errand)) = self.asks.get(&id).copied() else { return };
                if self.latest.get(&(area, errand)) == Some(&id) {
                    self.screens[area as usize].part(errand, part);
                }
            }
            Down::Answer { id, answer } => {
                let Some((area, errand)) = self.asks.remove(&id) else { return };
                let is_latest = self.latest.get(&(area, errand)) == Some(&id);
                match errand {
                    Errand::Act(_) => {}
                    _ if !is_latest => return,
                    _ => {
                        self.latest.remove(&(area, errand));
                    }
                }
                self.answered(area, errand, answer.map(|a| *a));
            }
        }
    }

    fn answered(&mut self, area: Area, errand: Errand, answer: Result<Answer, Failure>) {
        if let Errand::Act(deed) = errand {
            match &answer {
                Ok(_) => self.say(Tone::Info, text(self.settings.language, deed.done()).to_owned()),
                Err(failure) => {
                    let view = self.view();
                    let mut line = view.failure(failure);
                    if let Some(hint) = view.hint(failure) {
                        line = format!("{line} - {hint}");
                    }
                    self.say(Tone::Error, line);
                }
            }
        }
        self.with_screen(area, |screen, desk| screen.answer(errand, answer, desk));
    }

    /// Says something in the toast row and keeps it for `messages`.
    fn say(&mut self, tone: Tone, text: String) {
        let text = one_line(&text);
        self.messages.push((self.now_ms, tone, text.clone()));
        if self.messages.len() > MESSAGES_MAX {
            self.messages.remove(0);
        }
        self.toast = Some(Toast { tone, text, until_ms: self.now_ms + TOAST_MS });
    }

    /// Lets a screen work and fulfils what it wishes.
    fn with_screen<T>(&mut self, area: Area, work: impl FnOnce(&mut dyn Screen, &mut Desk<'_>) -> T) -> T {
        let away = self.is_away();
        let mut desk = Desk::new(view(&self.mirror, &self.settings, self.now_ms, self.class, away));
        let result = work(self.screens[area as usize].as_mut(), &mut desk);
        let wishes = desk.wishes;
        for wish in wishes {
            self.fulfil(area, wish);
        }
        result
    }

    fn fulfil(&mut self, area: Area, wish: Wish) {
        let language = self.settings.language;
        match wish {
            Wish::Ask { errand, request } => {
                if self.outbox.is_none() {
                    // A window is asked for again when the link is back; an act is not queued behind one's back.
                    if matches!(errand, Errand::Act(_) | Errand::Chat) {
                        self.say(Tone::Error, text(language, "link.not_now").to_owned());
                    }
                    return;
                }
                if let Some(id) = self.send(request) {
                    self.asks.insert(id, (area, errand));
                    self.latest.insert((area, errand), id);
                }
            }
            Wish::Stop(errand) => {
                if let (Some(id), Some(outbox)) = (self.latest.get(&(area, errand)), &self.outbox) {
                    outbox.put(Up::Stop { id: *id });
                }
            }
            Wish::Open(place) => self.open(place),
            Wish::Push(layer) => {
                if self.layers.len() == LAYERS_MAX {
                    self.layers.pop();
                }
                self.layers.push(layer);
            }
            Wish::Say(tone, text) => self.say(tone, text),
            Wish::Copy(content) if content.len() > COPY_BYTES_MAX => {
                self.say(Tone::Error, text(language, "done.copy_too_long").to_owned());
            }
            Wish::Copy(content) => {
                let cells = content.chars().count().to_string();
                self.say(Tone::Info, fill(language, "done.copied", &[("n", &cells)]));
                self.effects.push(Effect::Copy(content));
            }
            Wish::Act(action) => {
                self.act(action);
            }
            Wish::Set(setting) => match setting {
                Setting::Language(language) => self.settings.language = language,
                Setting::Theme(palette) => self.settings.theme.palette = palette,
                Setting::Glyphs(set) => self.settings.glyphs = Glyphs::of(set),
                Setting::Hints(on) => self.settings.hints = on,
            },
            Wish::Messages => self.show_messages(),
        }
    }

    fn show_messages(&mut self) {
        let view = self.view();
        let title = view.t("palette.messages").to_owned();
        let mut lines: Vec<_> = self
            .messages
            .iter()
            .rev()
            .map(|(at, tone, text)| {
                let ago = crate::widgets::number::ago(view.language, self.now_ms, *at);
                piece(format!("{ago}  {text}"), if *tone == Tone::Error { Token::Error } else { Token::Text })
            })
            .collect();
        if lines.is_empty() {
            lines.push(piece(view.t("messages.empty"), Token::Muted));
        }
        self.layers.push(Layer::Sheet(Sheet { title, lines, copy: None, scroll: 0 }));
    }

    /// Goes to a place.
    pub(crate) fn open(&mut self, place: Place) {
        let area = place.area();
        self.go(area);
        self.with_screen(area, |screen, desk| screen.open(place, desk));
    }

    fn go(&mut self, area: Area) {
        self.zoomed = false;
        if area == self.area {
            return;
        }
        self.back.push(self.area);
        if self.back.len() > HISTORY_MAX {
            self.back.remove(0);
        }
        self.forward.clear();
        self.area = area;
    }

    /// What keys mean now.
    pub(crate) fn context(&self) -> Context {
        match self.layers.last() {
            Some(Layer::Question(_)) => Context::Decide,
            Some(Layer::Help { .. } | Layer::Palette { .. }) => Context::Field,
            Some(_) => Context::Browse,
            None => self.screens[self.area as usize].context(),
        }
    }

    /// The actions of the shown screen.
    pub(crate) fn offers(&mut self) -> Vec<Offer> {
        let away = self.is_away();
        let view = view(&self.mirror, &self.settings, self.now_ms, self.class, away);
        self.screens[self.area as usize].offers(&view)
    }

    /// Lets a screen do an action without the shell's own meaning of its key.
    #[cfg(test)]
    pub(crate) fn with_screen_for_test(&mut self, area: Area, action: Action) {
        self.with_screen(area, |screen, desk| screen.act(action, desk));
    }

    fn key(&mut self, key: KeyEvent) {
        // A serious message stays until a key.
        if self.toast.as_ref().is_some_and(|t| t.tone == Tone::Error) {
            self.toast = None;
        }
        let interrupt = keymap::action(Context::Field, key) == Some(Action::Interrupt);
        if !self.layers.is_empty() {
            if interrupt {
                self.layers.pop();
                return;
            }
            return self.layer_key(key);
        }
        let context = self.context();
        if context == Context::Browse {
            let digit = keymap::written(key).chars().next().filter(char::is_ascii_digit);
            if digit.is_some() && self.screens[self.area as usize].takes_digits() {
                return self.with_screen(self.area, |screen, desk| screen.key(key, desk));
            }
            if keymap::written(key) == "g" {
                self.layers.push(Layer::Areas);
                return;
            }
        }
        match keymap::action(context, key) {
            Some(action) => {
                self.act(action);
            }
            None => self.with_screen(self.area, |screen, desk| screen.key(key, desk)),
        }
    }

    fn layer_key(&mut self, key: KeyEvent) {
        let away = self.is_away();
        let view = view(&self.mirror, &self.settings, self.now_ms, self.class, away);
        let Some(layer) = self.layers.last_mut() else { return };
        let reply = layer.key(key, &view);
        if reply.close {
            self.layers.pop();
        }
        for wish in reply.wishes {
            self.fulfil(self.area, wish);
        }
    }

    fn paste(&mut self, pasted: &str) {
        if let Some(layer) = self.layers.last_mut() {
            return layer.paste(pasted);
        }
        if self.with_screen(self.area, |screen, desk| screen.paste(pasted, desk)) {
            return;
        }
        // Never taken as keys: a path is offered for import, anything else is named and dropped.
        let path = pasted.trim().trim_matches(['\'', '"']).to_owned();
        let place = match path.rsplit('.').next() {
            Some("gguf") => Some(Place::ImportModel(path.clone())),
            Some("jsonl" | "json") => Some(Place::ImportDataset(path.clone())),
            _ => None,
        };
        let view = self.view();
        match place.filter(|_| !path.contains('\n')) {
            Some(place) => {
                let title = view.t("paste.import").to_owned();
                self.layers.push(Layer::ask(title, vec![one_line(&path)], "ask.import", vec![Wish::Open(place)]));
            }
            None => {
                let said = view.fill("paste.ignored", &[("n", &pasted.chars().count().to_string())]);
                self.say(Tone::Info, said);
            }
        }
    }

    /// Does an action; false when it means nothing here.
    pub(crate) fn act(&mut self, action: Action) -> bool {
        if self.is_away() && action == Action::Run {
            self.retry();
            return true;
        }
        match action {
            Action::Go(area) => self.go(area),
            Action::Help => {
                let offers = self.offers();
                let help = Layer::Help { area: self.area, offers, filter: TypedLine::default(), at: 0 };
                self.layers.push(help);
            }
            Action::Palette => {
                let offers = self.offers();
                self.layers.push(Layer::Palette { offers, line: TypedLine::default(), at: 0 });
            }
            Action::Menu => {
                let offers = self.offers();
                if !offers.is_empty() {
                    self.layers.push(Layer::Menu { offers, at: 0 });
                }
            }
            Action::Jobs => self.layers.push(Layer::Jobs { at: 0 }),
            Action::Repaint => self.effects.push(Effect::Repaint),
            Action::Suspend => self.effects.push(Effect::Suspend),
            Action::Refresh => {
                for screen in &mut self.screens {
                    screen.forget();
                }
                self.send(Request::Watch);
            }
            Action::Zoom => self.zoomed = !self.zoomed,
            Action::Back => self.travel(true),
            Action::Forward => self.travel(false),
            Action::Interrupt => self.interrupt(),
            Action::Quit => {
                if !self.with_screen(self.area, |screen, desk| screen.act(Action::Out, desk)) {
                    self.effects.push(Effect::Leave);
                }
            }
            _ => {
                if self.zoomed && action == Action::Out {
                    self.zoomed = false;
                    return true;
                }
                let done = self.with_screen(self.area, |screen, desk| screen.act(action, desk));
                if !done && !is_movement(action) {
                    let key = keymap::keys(action).into_iter().next().unwrap_or_default();
                    let said = fill(self.settings.language, "key.not_here", &[("key", &key)]);
                    self.say(Tone::Info, said);
                }
                return done;
            }
        }
        true
    }

    fn travel(&mut self, back: bool) {
        let (from, to) = if back { (&mut self.back, &mut self.forward) } else { (&mut self.forward, &mut self.back) };
        if let Some(area) = from.pop() {
            to.push(self.area);
            self.area = area;
        }
    }

    fn interrupt(&mut self) {
        if self.with_screen(self.area, |screen, desk| screen.interrupt(desk)) {
            return;
        }
        if self.interrupt_until_ms.take().is_some() {
            self.effects.push(Effect::Leave);
            return;
        }
        self.interrupt_until_ms = Some(self.now_ms + INTERRUPT_MS);
        let said = text(self.settings.language, "key.interrupt_again").to_owned();
        self.toast = Some(Toast { tone: Tone::Info, text: said, until_ms: self.now_ms + INTERRUPT_MS });
    }
}

fn is_movement(action: Action) -> bool {
    matches!(
        action,
        Action::Up
            | Action::Down
            | Action::Left
            | Action::Right
            | Action::PageUp
            | Action::PageDown
            | Action::First
            | Action::Last
            | Action::Out
            | Action::Enter
            | Action::NextPane
            | Action::PreviousPane
    )
}

/// What screens see, from the parts of the app that are not screens.
fn view<'a>(mirror: &'a Mirror, settings: &Settings, now_ms: i64, class: Class, away: bool) -> View<'a> {
    View { mirror, language: settings.language, now_ms, class, away }
}

impl Settings {
    /// From the environment, with the language that was chosen.
    pub(crate) fn from_environment(language: Language) -> Settings {
        let variable = |name: &str| std::env::var(name).ok();
        let locale = [variable("LC_ALL"), variable("LC_CTYPE"), variable("LANG")];
        let set = match variable("HONE_GLYPHS").as_deref() {
            Some("narrow") => GlyphSet::Narrow,
            Some("ascii") => GlyphSet::Ascii,
            Some("full") => GlyphSet::Full,
            _ => Glyphs::from_locale([locale[0].as_deref(), locale[1].as_deref(), locale[2].as_deref()]),
        };
        Settings { language, theme: Theme::from_environment(variable), glyphs: Glyphs::of(set), hints: true }
    }
}
