//! The client's state and how events change it. Pure but for the outbox: time comes in with each event, and what has
//! to be done to the terminal goes out as effects. Never here: drawing, threads, or a fact that the daemon did not say.

mod daemon;
mod mouse;
mod person;

use std::collections::HashMap;

use hone_protocol::catalogue::{Language, fill, text};
use hone_protocol::failure::Failure;
use hone_protocol::request::{Request, Up};

use crate::action::Area;
use crate::event::{Event, Outbox};
use crate::glyphs::{GlyphSet, Glyphs};
use crate::journal::Journal;
use crate::layers::{LAYERS_MAX, Layer, Sheet};
use crate::mirror::Mirror;
use crate::screens::{Class, Desk, Errand, Place, SCREENS, Screen, Setting, Tone, View, Wish};
use crate::theme::{Theme, Token};
use crate::widgets::canvas::piece;
use crate::widgets::hits::Hit;
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
    /// Ask the terminal for the mouse, or give it back.
    Mouse(bool),
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
    /// Whether clicks and the wheel come to us.
    pub(crate) mouse: bool,
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
    /// What the last frame lets be clicked.
    pub(crate) hits: Vec<Hit>,
    back: Vec<Area>,
    forward: Vec<Area>,
    messages: Vec<(i64, Tone, String)>,
    outbox: Option<Outbox>,
    connection: u64,
    next_id: u64,
    asks: HashMap<u64, (Area, Errand)>,
    latest: HashMap<(Area, Errand), u64>,
    interrupt_until_ms: Option<i64>,
    /// Wishes that must not be lost.
    pub(crate) journal: Journal,
    /// Who made a wish of the journal, by its id.
    makers: HashMap<String, (Area, Errand)>,
    /// Wishes of the journal that this connection has sent.
    sent: HashMap<u64, String>,
    /// When wishes that the daemon could not take are sent again.
    resend_at_ms: Option<i64>,
    /// The one project that this client is for.
    pub(crate) only: Option<String>,
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
            hits: Vec::new(),
            back: Vec::new(),
            forward: Vec::new(),
            messages: Vec::new(),
            outbox: None,
            connection: 1,
            next_id: 1,
            asks: HashMap::new(),
            latest: HashMap::new(),
            interrupt_until_ms: None,
            journal: Journal::default(),
            makers: HashMap::new(),
            sent: HashMap::new(),
            resend_at_ms: None,
            only: None,
            effects: vec![Effect::Connect(1)],
        }
    }

    /// What screens see.
    pub(crate) fn view(&self) -> View<'_> {
        let away = self.is_away();
        View { waiting: self.journal.len(), ..view(&self.mirror, &self.settings, self.now_ms, self.class, away) }
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
            Event::Mouse(mouse) => self.mouse(mouse),
            Event::Paste(text) => self.paste(&text),
            // Screens ask for what a bigger size shows before it is drawn.
            Event::Resize(columns, rows) => self.class = Class::of(columns, rows).unwrap_or(Class::Xs),
            Event::Tick => {}
            Event::NoTerminal => self.effects.push(Effect::Leave),
            Event::Linked(outbox) => {
                if outbox.number == self.connection {
                    self.outbox = Some(outbox);
                    self.send(Request::Watch);
                    self.send_waiting();
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
        [toast, retry, self.resend_at_ms, self.interrupt_until_ms, screen].into_iter().flatten().min()
    }

    fn expire(&mut self) {
        if self.toast.as_ref().is_some_and(|t| t.tone == Tone::Info && t.until_ms <= self.now_ms) {
            self.toast = None;
        }
        if self.interrupt_until_ms.is_some_and(|at| at <= self.now_ms) {
            self.interrupt_until_ms = None;
        }
        if let LinkState::Away { retry_at_ms: Some(at), .. } = self.link
            && at <= self.now_ms
        {
            self.retry();
        }
        if self.resend_at_ms.is_some_and(|at| at <= self.now_ms) {
            self.send_waiting();
        }
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
        let waiting = self.journal.len();
        let view = view(&self.mirror, &self.settings, self.now_ms, self.class, away);
        let mut desk = Desk::new(View { waiting, ..view });
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
                    if matches!(errand, Errand::Act(_) | Errand::Chat(_)) {
                        self.say(Tone::Error, text(language, "link.not_now").to_owned());
                    }
                    return;
                }
                if let Some(id) = self.send(request) {
                    self.asks.insert(id, (area, errand));
                    self.latest.insert((area, errand), id);
                }
            }
            Wish::Keep { errand, request } => {
                let once = self.journal.wish(request.clone());
                self.makers.insert(once.clone(), (area, errand));
                self.send_once(once, request);
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
        if area == self.area || self.only.is_some() {
            return;
        }
        self.back.push(self.area);
        if self.back.len() > HISTORY_MAX {
            self.back.remove(0);
        }
        self.forward.clear();
        self.area = area;
    }
}

/// What screens see, from the parts of the app that are not screens.
fn view<'a>(mirror: &'a Mirror, settings: &Settings, now_ms: i64, class: Class, away: bool) -> View<'a> {
    View { mirror, language: settings.language, now_ms, class, away, waiting: 0 }
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
        let mouse = variable("HONE_MOUSE").as_deref() != Some("off");
        Settings { language, theme: Theme::from_environment(variable), glyphs: Glyphs::of(set), hints: true, mouse }
    }
}
