//! The terminal while the live view has it: taken, read and given back, however the program ends.

use std::io::{self, IsTerminal, Stdout, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, KeyCode, KeyEvent, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use crate::miner::status::Status;
use crate::miner::view::{self, Look};

/// How often it is looked whether to end.
const LOOK: Duration = Duration::from_millis(100);

/// What comes from the terminal, or instead of going there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The user wants to leave.
    Quit,
    /// The user wants a pause, or no pause any more.
    Pause,
    /// The terminal has another size.
    Resize,
    /// What stands there may be damaged: draw all of it again.
    Redraw,
    /// A thread panicked, in these words.
    Panic(String),
}

/// Whether the terminal is ours.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Gives the terminal back, if it is ours. For those who end the program without unwinding.
pub(crate) fn restore() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // There is nobody to tell if this fails.
        let _ = disable_raw_mode();
        let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    }
}

/// Whether there is a terminal to show things on, and it is this program's turn to.
pub(crate) fn is_there() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    stdout().is_terminal() && !dumb && in_front()
}

/// Whether this program is not in the background, where taking the terminal would stop it.
#[cfg(target_os = "linux")]
fn in_front() -> bool {
    rustix::termios::tcgetpgrp(stdout()).is_ok_and(|front| front == rustix::process::getpgrp())
}

#[cfg(not(target_os = "linux"))]
fn in_front() -> bool {
    true
}

/// The terminal with the live view on it; given back when it is dropped.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    look: Look,
    ended: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Screen {
    /// Takes the terminal. `tell` hears of what comes from it, on another thread, and must not wait.
    pub(crate) fn open(tell: impl Fn(Input) + Send + Sync + 'static) -> io::Result<Screen> {
        let tell = Arc::new(tell);
        hook(Arc::clone(&tell));
        TAKEN.store(true, Ordering::SeqCst);
        let taken = enable_raw_mode().and_then(|()| execute!(stdout(), EnterAlternateScreen));
        let terminal = taken.and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        let terminal = terminal.inspect_err(|_| restore())?;
        let look = Look { colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) };
        let ended = Arc::new(AtomicBool::new(false));
        let mut screen = Screen { terminal, look, ended: Arc::clone(&ended), reader: None };
        let read = move || read(&ended, &*tell);
        screen.reader = Some(thread::Builder::new().name("keys".to_owned()).spawn(read)?);
        Ok(screen)
    }

    /// Shows this.
    pub(crate) fn draw(&mut self, status: &Status) -> io::Result<()> {
        let look = self.look;
        self.terminal.draw(|frame| view::draw(frame, status, look)).map(|_| ())
    }

    /// Forgets what stands there, so that all of it is drawn again.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.terminal.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            // A panic there has been told of.
            let _ = reader.join();
        }
        restore();
    }
}

fn read(ended: &AtomicBool, tell: &dyn Fn(Input)) {
    while !ended.load(Ordering::Relaxed) {
        let input = match event::poll(LOOK) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        match input {
            Ok(event::Event::Key(key)) if key.is_press() => {
                if let Some(input) = meaning(key) {
                    tell(input);
                }
            }
            Ok(event::Event::Resize(..)) => tell(Input::Resize),
            Ok(_) => {}
            // The terminal is gone.
            Err(_) => return tell(Input::Quit),
        }
    }
}

fn meaning(key: KeyEvent) -> Option<Input> {
    match (key.code, key.modifiers.contains(KeyModifiers::CONTROL)) {
        (KeyCode::Char('c' | 'd'), true) | (KeyCode::Char('q' | 'Q'), false) => Some(Input::Quit),
        (KeyCode::Char('p' | 'P' | ' '), false) => Some(Input::Pause),
        (KeyCode::Char('l'), true) => Some(Input::Redraw),
        _ => None,
    }
}

/// While the terminal is taken, a panic of the thread that draws gives it back first; that of another is an event,
/// for words of its own would be drawn over.
fn hook(tell: Arc<impl Fn(Input) + Send + Sync + 'static>) {
    let drawing = thread::current().id();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if TAKEN.load(Ordering::SeqCst) && thread::current().id() != drawing {
            return tell(Input::Panic(panic.to_string().replace('\n', " ")));
        }
        restore();
        before(panic);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_last_line_says() {
        let key = |code, modifiers| meaning(KeyEvent::new(code, modifiers));
        assert_eq!(key(KeyCode::Char('q'), KeyModifiers::NONE), Some(Input::Quit));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Input::Quit));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(key(KeyCode::Char('q'), KeyModifiers::CONTROL), None);
        assert_eq!(key(KeyCode::Char('p'), KeyModifiers::NONE), Some(Input::Pause));
        assert_eq!(key(KeyCode::Char('l'), KeyModifiers::CONTROL), Some(Input::Redraw));
        assert_eq!(key(KeyCode::Enter, KeyModifiers::NONE), None);
    }
}
