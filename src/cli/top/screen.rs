//! The terminal: keys come from a thread, looks from the runtime, and whatever happens the terminal
//! is given back as it was.

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::super::output::Failure;
use super::figures;
use super::keys::{Asked, Controls};
use super::look::{History, Looker};
use super::model::{Look, Picture};
use super::view::{self, Status};
use super::words;
use crate::clock::{Clock, Instant};
use crate::task;

/// How soon the thread that reads keys sees that it is to end.
const KEY_POLL: Duration = Duration::from_millis(50);
/// Keys that nobody has taken yet; a terminal that is pasted into waits.
const KEYS_MAX: usize = 64;
/// The screen is drawn this often at least, for the time that it has waited.
const REDRAW: Duration = Duration::from_secs(1);
/// A look that takes longer is spoken of.
const LONG: Duration = Duration::from_secs(2);

/// A look on its way; it gives its looker back.
type Looking = Pin<Box<dyn Future<Output = (Looker, Result<Look, Failure>)>>>;

/// Watches until somebody has seen enough.
pub(super) async fn watch(looker: Looker, interval: Duration) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(|error| failed("install signal handlers", &error))?;
    let mut live = Live::new(looker, interval);
    let mut screen = Screen::open().map_err(|error| failed("open the terminal", &error))?;
    let mut keys = Keys::start().map_err(|error| failed("read keys", &error))?;
    loop {
        screen.draw(&mut live).map_err(|error| failed("draw on the terminal", &error))?;
        let wake = live.wake();
        let clock = live.clock.clone();
        // Whichever is first, the others are asked again: no key, look or signal is lost.
        let happened = tokio::select! {
            () = signals.any() => return Ok(()),
            event = keys.next() => Happened::Event(event),
            looked = looked(&mut live.looking) => Happened::Looked(Box::new(looked)),
            () = clock.sleep_until(wake) => Happened::Woke,
        };
        match happened {
            Happened::Woke => live.look_if_due(),
            Happened::Looked(looked) => live.take(*looked),
            Happened::Event(Some(Ok(event))) => match live.press(&event) {
                Asked::Quit => return Ok(()),
                Asked::Look => live.start(),
                Asked::Nothing => {}
            },
            Happened::Event(Some(Err(error))) => return Err(failed("read keys", &error)),
            // The thread ends only after an error.
            Happened::Event(None) => return Ok(()),
        }
    }
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::Failed(format!("{what}: {error}"))
}

async fn looked(looking: &mut Option<Looking>) -> (Looker, Result<Look, Failure>) {
    match looking {
        Some(looking) => looking.await,
        None => pending().await,
    }
}

enum Happened {
    Event(Option<io::Result<Event>>),
    Looked(Box<(Looker, Result<Look, Failure>)>),
    Woke,
}

/// What is watched, and what is known of it.
struct Live {
    clock: Clock,
    interval: Duration,
    /// Nothing while it looks.
    looker: Option<Looker>,
    looking: Option<Looking>,
    /// When the last look began.
    began: Instant,
    history: History,
    picture: Option<Picture>,
    status: Status,
    controls: Controls,
}

impl Live {
    fn new(looker: Looker, interval: Duration) -> Self {
        let clock = looker.clock();
        let status = Status {
            server: looker.servers(),
            every: figures::seconds(interval.as_secs_f64()),
            ..Status::default()
        };
        let mut live = Self {
            began: clock.now(),
            clock,
            interval,
            looker: Some(looker),
            looking: None,
            history: History::default(),
            picture: None,
            status,
            controls: Controls::default(),
        };
        live.start();
        live
    }

    /// Begins to look, unless it does.
    fn start(&mut self) {
        let Some(mut looker) = self.looker.take() else { return };
        self.began = self.clock.now();
        self.looking = Some(Box::pin(async move {
            let looked = looker.look().await;
            (looker, looked)
        }));
    }

    /// Until when there is nothing to do, if nothing happens.
    fn wake(&self) -> Instant {
        if self.looking.is_some() || self.controls.is_paused() {
            return self.clock.now() + REDRAW;
        }
        self.began + self.interval
    }

    fn look_if_due(&mut self) {
        let is_due = self.clock.now() >= self.began + self.interval;
        if is_due && !self.controls.is_paused() {
            self.start();
        }
    }

    fn take(&mut self, (looker, looked): (Looker, Result<Look, Failure>)) {
        self.looker = Some(looker);
        self.looking = None;
        match looked {
            Ok(look) => {
                self.picture = Some(self.history.add(look));
                self.status.error = None;
            }
            Err(failure) => self.status.error = Some(words(failure)),
        }
    }

    fn press(&mut self, event: &Event) -> Asked {
        match event {
            Event::Key(key) if key.is_press() => self.controls.press(*key),
            _ => Asked::Nothing,
        }
    }

    /// For how long a look has been waited for, if that is long.
    fn waiting(&self) -> Option<u64> {
        let waited = self.clock.now().saturating_duration_since(self.began);
        (self.looking.is_some() && waited >= LONG).then_some(waited.as_secs())
    }
}

/// A terminal that is all ours, until it is dropped or the process panics.
struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    fn open() -> io::Result<Self> {
        // It also has a panic give the terminal back before it says its words.
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                ratatui::restore();
                Err(error)
            }
        }
    }

    fn draw(&mut self, live: &mut Live) -> io::Result<()> {
        live.status.waiting = live.waiting();
        let Live { picture, status, controls, .. } = live;
        self.terminal.draw(|frame| view::draw(frame, picture.as_ref(), status, controls))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// The thread that waits for keys.
struct Keys {
    events: mpsc::Receiver<io::Result<Event>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keys {
    fn start() -> io::Result<Self> {
        let (sender, events) = mpsc::channel(KEYS_MAX);
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let thread = task::thread("top-keys", move || read(&sender, &seen))?;
        Ok(Self { events, ended, thread: Some(thread) })
    }

    async fn next(&mut self) -> Option<io::Result<Event>> {
        self.events.recv().await
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // One that waits for room in the channel waits no more.
        self.events.close();
        if let Some(thread) = self.thread.take() {
            // Its panic has been told.
            let _ = thread.join();
        }
    }
}

fn read(sender: &mpsc::Sender<io::Result<Event>>, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        let event = match event::poll(KEY_POLL) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        let is_last = event.is_err();
        if sender.blocking_send(event).is_err() || is_last {
            return;
        }
    }
}

/// What ends a program from outside.
struct Signals {
    all: [Signal; 3],
}

impl Signals {
    fn new() -> io::Result<Self> {
        let [hangup, interrupt, terminate] =
            [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()].map(signal);
        Ok(Self { all: [hangup?, interrupt?, terminate?] })
    }

    async fn any(&mut self) {
        let [hangup, interrupt, terminate] = &mut self.all;
        tokio::select! {
            _ = hangup.recv() => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}
