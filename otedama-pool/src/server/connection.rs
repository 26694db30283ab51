//! One miner's connection: bytes to lines to the session, and what the session wants done.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::trade::{self, Trade};
use super::{Happening, Seat, ShareLog, Shared, hand_in};
use crate::node::BlockRef;
use crate::node::driver::NodeGroup;
use crate::session::server::Server;
use crate::session::{Action, Now, Ticket, Verdict};
use crate::stratum::{LineSplitter, MINER_LINE_BYTES};

/// How much is read at a time.
const READ_BYTES: usize = 4096;

/// The longest a login name may be.
const MAX_USERNAME: usize = 256;

/// Serves one miner until either side has had enough.
pub(super) async fn run<T: Trade, L: ShareLog>(
    shared: Arc<Shared<T, L>>,
    group: Arc<NodeGroup<T::Node>>,
    stream: TcpStream,
    seat: Seat<T, L>,
) {
    let peer = seat.peer;
    shared.happen(Happening::Joined(peer));
    // Answers are short and waited for.
    let _ = stream.set_nodelay(true);
    let (mut reader, writer) = stream.into_split();
    let (answer, mut verdicts) = mpsc::unbounded_channel();
    let session = shared.trade.open(seat.number, shared.now());
    let mut miner = Miner {
        shared: Arc::clone(&shared),
        group,
        number: seat.number,
        round: 0,
        session,
        writer,
        answer,
        actions: Vec::new(),
        found: None,
        lines: String::new(),
    };
    let mut work = shared.work.subscribe();
    work.mark_changed();
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut splitter = LineSplitter::new(MINER_LINE_BYTES);
    let mut bytes = [0; READ_BYTES];
    let why = loop {
        let now = shared.now();
        tokio::select! {
            read = reader.read(&mut bytes) => match read {
                Ok(0) => break None,
                Ok(count) => {
                    splitter.push(&bytes[..count]);
                    match miner.lines(&mut splitter, now).await {
                        Ok(()) => {}
                        Err(why) => break why,
                    }
                    continue;
                }
                Err(error) => break Some(error.to_string()),
            },
            // A session has a limit of shares under way, so this queue has one.
            Some((ticket, verdict)) = verdicts.recv() => {
                miner.session.on_verdict(ticket, verdict, now, &mut miner.actions);
            }
            // The sender is in `shared`.
            _ = work.changed() => {
                let job = work.borrow_and_update().clone();
                if let Some(job) = job {
                    miner.round = 0;
                    miner.hand_out(&job.cut, now);
                }
            }
            _ = tick.tick() => miner.session.on_tick(now, &mut miner.actions),
        }
        if let Err(why) = miner.act().await {
            break why;
        }
    };
    shared.happen(Happening::Left(peer, why));
}

struct Miner<T: Trade, L> {
    shared: Arc<Shared<T, L>>,
    group: Arc<NodeGroup<T::Node>>,
    number: u32,
    /// Jobs of the newest cut it was given before.
    round: u32,
    session: T::Session,
    writer: OwnedWriteHalf,
    answer: mpsc::UnboundedSender<(Ticket, Verdict)>,
    actions: Vec<Action>,
    /// The block that the next accepted share is.
    found: Option<BlockRef>,
    lines: String,
}

/// The connection is over; why, if there is something to say.
type Over = Option<String>;

impl<T: Trade, L: ShareLog> Miner<T, L> {
    async fn lines(&mut self, splitter: &mut LineSplitter, now: Now) -> Result<(), Over> {
        loop {
            match splitter.next_line() {
                Ok(Some(line)) => self.session.on_line(line, now, &mut self.actions),
                Ok(None) => return Ok(()),
                Err(error) => return Err(Some(error.to_string())),
            }
            self.act().await?;
        }
    }

    fn hand_out(&mut self, cut: &T::Cut, now: Now) {
        let to = trade::Seat { connection: self.number, round: self.round };
        self.shared.trade.hand_out(&mut self.session, to, cut, now, &mut self.actions);
    }

    /// Does what the session wants done, in order, and writes what it wants sent in one go.
    async fn act(&mut self) -> Result<(), Over> {
        let mut closing = None;
        // Actions may lead to further ones, which come after them.
        while !self.actions.is_empty() && closing.is_none() {
            let actions = std::mem::take(&mut self.actions);
            for action in actions {
                let now = self.shared.now();
                match action {
                    Action::Send(line) => {
                        self.lines.push_str(&line);
                        self.lines.push('\n');
                    }
                    Action::Authorize { ticket, username, .. } => {
                        let verdict = sane(&username).and_then(|()| self.shared.log.may_mine(&username));
                        self.session.on_login(ticket, verdict, now, &mut self.actions);
                    }
                    Action::Verify(check) => self.shared.judge.prove(check, &self.answer),
                    Action::Accepted(credit) => {
                        // The answer that follows must not leave before the share is safe.
                        let block = self.found.take();
                        if let Err(words) = self.shared.record(&credit, block).await {
                            self.shared
                                .happen(Happening::Trouble(format!("a share is not recorded: {words}")));
                            return Err(Some("shares cannot be recorded".to_owned()));
                        }
                    }
                    Action::Rejected { worker, reason } => {
                        self.shared.tally.refused.fetch_add(1, Ordering::Relaxed);
                        self.shared.happen(Happening::Refused { worker, reason });
                    }
                    Action::Block(found) => {
                        self.found = hand_in(&self.shared, &self.group, self.number, &found);
                    }
                    Action::NeedJob => {
                        let job = self.shared.work.borrow().clone();
                        if let Some(job) = job {
                            self.round += 1;
                            self.hand_out(&job.cut, now);
                        }
                    }
                    Action::Hashrate(_) => {}
                    Action::Close(reason) => closing = Some(format!("{reason:?}")),
                }
            }
        }
        if !self.lines.is_empty() {
            let writing = self.writer.write_all(self.lines.as_bytes());
            match timeout(self.shared.config.write_timeout, writing).await {
                Ok(Ok(())) => self.lines.clear(),
                Ok(Err(error)) => return Err(Some(error.to_string())),
                Err(_) => return Err(Some("it reads too slowly".to_owned())),
            }
        }
        match closing {
            Some(reason) => Err(Some(reason)),
            None => Ok(()),
        }
    }
}

/// Names of a sane length; who may mine under one is the accounts' business.
fn sane(username: &str) -> Result<(), String> {
    let sane =
        !username.is_empty() && username.len() <= MAX_USERNAME && !username.chars().any(char::is_control);
    if sane {
        Ok(())
    } else {
        Err(format!(
            "the user name has {} bytes: expected 1 to {MAX_USERNAME}, none of them control characters",
            username.len()
        ))
    }
}
