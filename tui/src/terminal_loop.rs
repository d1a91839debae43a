//! The one loop: wait for an event, let the state change, draw once. It sleeps for as long as nothing happens.
//! Never here: what events mean or what is drawn.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use crossterm::clipboard::CopyToClipboard;
use hone_protocol::catalogue::{Language, fill};
use ratatui::Terminal;

use crate::app::{App, Effect, Settings};
use crate::event::{self, EVENTS_MAX, Event};
use crate::journal::Journal;
use crate::link::Options;
use crate::screens::Place;
use crate::shell;
use crate::terminal::{self, FRAME_BYTES, Screenful};

/// Shortest time between two frames that no key caused: 33 frames a second.
const FRAME_GAP: Duration = Duration::from_millis(30);
/// Events taken before a frame is drawn; the rest wait for the next one.
const BATCH_MAX: usize = 512;

/// Runs the full-screen client until the person leaves, at a project of labelling where one is named. The terminal is restored in every case.
pub fn run(options: Options, language: Language, label: Option<String>) -> anyhow::Result<()> {
    terminal::restore_on_panic();
    let (sender, receiver) = sync_channel(EVENTS_MAX);
    let mut app = App::new(Settings::from_environment(language), now_ms());
    // A number of the process and the moment: no other client has both.
    let prefix = format!("{}-{}", std::process::id(), now_ms());
    let person = options.person.clone().unwrap_or_default();
    app.journal =
        Journal::open(&options.state_dir, options.shared.as_deref(), (&person, options.project.as_deref()), prefix)
            .with_context(|| format!("decisions cannot be kept in {}", options.state_dir))?;
    if let Some(project) = options.project.clone().or(label) {
        app.open(Place::Label(project));
        app.only.clone_from(&options.project);
    }
    terminal::enter(app.settings.mouse).context(
        "the terminal cannot be put into full-screen mode; hone needs one (see hone --help for the commands)",
    )?;
    let result = Loop::new(options, sender, receiver).and_then(|mut l| l.run(&mut app));
    let restored = terminal::leave();
    let left = app.mirror.running().count();
    if left > 0 {
        let language = app.settings.language;
        println!("{}", fill(language, "bye.jobs", &[("n", &left.to_string())]));
    }
    result?;
    Ok(restored?)
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

struct Loop {
    options: Options,
    sender: SyncSender<Event>,
    receiver: Receiver<Event>,
    terminal: Terminal<Screenful<io::Stdout>>,
}

impl Loop {
    fn new(options: Options, sender: SyncSender<Event>, receiver: Receiver<Event>) -> anyhow::Result<Loop> {
        let terminal = Terminal::new(Screenful::new(io::stdout(), terminal::real_size))?;
        Ok(Loop { options, sender, receiver, terminal })
    }

    fn run(&mut self, app: &mut App) -> anyhow::Result<()> {
        // First paint before anything is asked or read.
        self.draw(app)?;
        event::read_terminal(self.sender.clone());
        if self.update(app, Event::Tick)? {
            return Ok(());
        }
        let mut drawn = Instant::now();
        loop {
            let Some(first) = self.wait(app)? else { return Ok(()) };
            let mut urgent = matches!(first, Event::Key(_) | Event::Mouse(_) | Event::Paste(_) | Event::Resize(..));
            if self.update(app, first)? {
                return Ok(());
            }
            let mut taken = 1;
            loop {
                let next = if taken >= BATCH_MAX {
                    None
                } else if urgent {
                    self.receiver.try_recv().ok()
                } else {
                    // What no key caused is gathered until a frame is due.
                    self.receiver.recv_timeout(FRAME_GAP.saturating_sub(drawn.elapsed())).ok()
                };
                let Some(event) = next else { break };
                urgent |= matches!(event, Event::Key(_) | Event::Mouse(_) | Event::Paste(_) | Event::Resize(..));
                taken += 1;
                if self.update(app, event)? {
                    return Ok(());
                }
            }
            self.draw(app)?;
            drawn = Instant::now();
        }
    }

    /// The next event; a tick when the app asked to be woken before one came. None when nobody can send one.
    fn wait(&mut self, app: &App) -> anyhow::Result<Option<Event>> {
        let Some(at) = app.wakes_at_ms() else { return Ok(self.receiver.recv().ok()) };
        let wait = Duration::from_millis(u64::try_from(at - now_ms()).unwrap_or(0));
        match self.receiver.recv_timeout(wait) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(Some(Event::Tick)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
        }
    }

    /// Lets the state change and does what it asked for; true when the client ends.
    fn update(&mut self, app: &mut App, event: Event) -> anyhow::Result<bool> {
        for effect in app.update(event, now_ms()) {
            match effect {
                Effect::Connect(number) => {
                    // Only the first try starts a daemon: one that was stopped on purpose stays stopped.
                    let start_daemon = self.options.start_daemon && number == 1;
                    let options = Options { start_daemon, ..self.options.clone() };
                    event::connect(options, number, self.sender.clone());
                }
                Effect::Leave => return Ok(true),
                Effect::Repaint => self.terminal.clear()?,
                Effect::Suspend => {
                    terminal::leave()?;
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TSTP)?;
                    terminal::enter(app.settings.mouse)?;
                    self.terminal.clear()?;
                }
                Effect::Mouse(on) => self.terminal.backend_mut().send(terminal::mouse(on))?,
                Effect::Copy(text) => {
                    let mut bytes = Vec::with_capacity(FRAME_BYTES);
                    crossterm::queue!(bytes, CopyToClipboard::to_clipboard_from(text))?;
                    self.terminal.backend_mut().send(&bytes)?;
                }
            }
        }
        Ok(false)
    }

    fn draw(&mut self, app: &mut App) -> anyhow::Result<()> {
        self.terminal.draw(|frame| shell::draw(app, frame))?;
        io::stdout().flush()?;
        Ok(())
    }
}
