//! One miner's connection: bytes to lines to the session, and what the session wants done.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::entrance::{self, EntranceError, Wire};
use super::guard::{Offence, Refusal};
use super::seat::Seat;
use super::trade::{self, Trade};
use super::{Happening, ShareLog, Shared, hand_in};
use crate::node::BlockRef;
use crate::node::driver::NodeGroup;
use crate::session::server::Server;
use crate::session::{Action, CloseReason, Credit, FoundBlock, Now, Ticket, Verdict};
use crate::stratum::{LineSplitter, MINER_LINE_BYTES};

/// How much is read at a time.
const READ_BYTES: usize = 4096;

/// The longest a login name may be.
const MAX_USERNAME: usize = 256;

/// How long the last words to a miner may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves one miner until either side has had enough.
pub(super) async fn run<T: Trade, L: ShareLog>(
    shared: Arc<Shared<T, L>>,
    group: Arc<NodeGroup<T::Node>>,
    stream: TcpStream,
    mut seat: Seat<T, L>,
) {
    // Answers are short and waited for.
    let _ = stream.set_nodelay(true);
    // Boxed: a handshake's state is larger than all that comes after it.
    let entrance = Box::pin(enter(&shared, stream, &mut seat));
    let entered = timeout(shared.config.entrance_timeout, entrance).await;
    let wire = match entered {
        Ok(Ok(Some(wire))) => wire,
        Ok(Ok(None)) | Ok(Err(EntranceError::Nothing)) => return,
        Ok(Err(error)) => return shared.happen(Happening::Left(seat.peer, Some(error.to_string()))),
        Err(_) => {
            let words = "it takes too long to begin".to_owned();
            return shared.happen(Happening::Left(seat.peer, Some(words)));
        }
    };
    let peer = seat.peer;
    shared.happen(Happening::Joined(peer));
    let why = serve(&shared, group, wire, seat).await;
    shared.happen(Happening::Left(peer, why));
}

/// Finds out who it is and what it speaks; `None` if it is turned away.
async fn enter<T: Trade, L: ShareLog>(
    shared: &Shared<T, L>,
    mut stream: TcpStream,
    seat: &mut Seat<T, L>,
) -> Result<Option<Wire>, EntranceError> {
    if seat.is_proxied()
        && let Some(source) = entrance::proxied(&mut stream).await?
        && !seat.passed_on(source)
    {
        return Ok(None);
    }
    let tls = shared.config.tls.as_ref().map(|certificates| certificates.config());
    entrance::opened(stream, tls).await.map(Some)
}

/// Lines and what comes of them. Why it ends, if there is something to say.
async fn serve<T: Trade, L: ShareLog>(
    shared: &Arc<Shared<T, L>>,
    group: Arc<NodeGroup<T::Node>>,
    wire: Wire,
    seat: Seat<T, L>,
) -> Over {
    let (answer, mut verdicts) = mpsc::unbounded_channel();
    let opened = shared.now();
    let session = shared.trade.open(seat.number, seat.start, opened);
    let mut miner = Miner {
        shared: Arc::clone(shared),
        group,
        seat,
        round: 0,
        session,
        wire,
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
    let mut silent = true;
    let why = loop {
        let now = shared.now();
        tokio::select! {
            read = miner.wire.read(&mut bytes) => match read {
                Ok(0) => break None,
                Ok(count) => {
                    splitter.push(&bytes[..count]);
                    match miner.lines(&mut splitter, now).await {
                        Ok(spoke) => silent &= !spoke,
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
            _ = tick.tick() => {
                if silent && now.elapsed.saturating_sub(opened.elapsed) > shared.config.first_line_timeout {
                    break Some("it has not sent a line".to_owned());
                }
                if miner.seat.is_banned() {
                    break Some(Refusal::Banned.text().to_owned());
                }
                miner.session.on_tick(now, &mut miner.actions);
            }
        }
        if let Err(why) = miner.act().await {
            break why;
        }
    };
    // TLS wants to be told of the end; who does not listen is left all the same.
    let _ = timeout(FAREWELL, miner.wire.shutdown()).await;
    why
}

struct Miner<T: Trade, L: ShareLog> {
    shared: Arc<Shared<T, L>>,
    group: Arc<NodeGroup<T::Node>>,
    seat: Seat<T, L>,
    /// Jobs of the newest cut it was given before.
    round: u32,
    session: T::Session,
    wire: Wire,
    answer: mpsc::UnboundedSender<(Ticket, Verdict)>,
    actions: Vec<Action>,
    /// The block that the share is that comes next, and what it is worth by itself.
    found: Option<(BlockRef, Credit)>,
    lines: String,
}

/// The connection is over; why, if there is something to say.
type Over = Option<String>;

impl<T: Trade, L: ShareLog> Miner<T, L> {
    /// Takes the whole lines; whether there were any.
    async fn lines(&mut self, splitter: &mut LineSplitter, now: Now) -> Result<bool, Over> {
        let mut any = false;
        loop {
            match splitter.next_line() {
                Ok(Some(line)) => self.session.on_line(line, now, &mut self.actions),
                Ok(None) => return Ok(any),
                Err(error) => {
                    self.seat.ban(Offence::BadBytes);
                    return Err(Some(error.to_string()));
                }
            }
            any = true;
            self.act().await?;
        }
    }

    fn hand_out(&mut self, cut: &T::Cut, now: Now) {
        let to = trade::Seat { connection: self.seat.number, round: self.round };
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
                        let verdict = sane(&username)
                            .and_then(|()| self.shared.log.may_mine(&username))
                            .and_then(|()| self.seat.admit(&username));
                        self.session.on_login(ticket, verdict, now, &mut self.actions);
                    }
                    Action::Verify(check) => self.shared.judge.prove(check, &self.answer),
                    Action::Accepted(credit) => {
                        // The answer that follows must not leave before the share is safe.
                        let block = self.found.take().map(|(block, _)| block);
                        record(&self.shared, &credit, block).await?;
                        self.seat.share(None);
                    }
                    Action::Rejected { worker, reason, facts } => {
                        self.shared.tally.refused.fetch_add(1, Ordering::Relaxed);
                        self.seat.share(Some(reason));
                        // A block that is easier than a share still belongs to whoever found it.
                        if let Some((block, credit)) = self.found.take() {
                            record(&self.shared, &credit, Some(block)).await?;
                        }
                        // Others may claim any name.
                        if self.seat.has_admitted(&worker) {
                            self.shared.remembered().refused(&worker, reason, facts, now);
                        }
                        self.shared.happen(Happening::Refused { worker, reason });
                    }
                    Action::Block(found) => {
                        let block = hand_in(&self.shared, &self.group, self.seat.number, &found);
                        self.found = block.map(|block| (block, credit_of(*found)));
                    }
                    Action::NeedJob => {
                        let job = self.shared.work.borrow().clone();
                        if let Some(job) = job {
                            self.round += 1;
                            self.hand_out(&job.cut, now);
                        }
                    }
                    Action::Hashrate(_) => {}
                    Action::Close(reason) => {
                        if reason == CloseReason::Errors {
                            self.seat.ban(Offence::BadLines);
                        }
                        closing = Some(format!("{reason:?}"));
                    }
                }
            }
        }
        if !self.lines.is_empty() {
            let writing = async {
                self.wire.write_all(self.lines.as_bytes()).await?;
                self.wire.flush().await
            };
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

/// Records a share, or ends the connection.
async fn record<T: Trade, L: ShareLog>(
    shared: &Shared<T, L>,
    credit: &Credit,
    block: Option<BlockRef>,
) -> Result<(), Over> {
    shared.record(credit, block).await.map_err(|words| {
        shared.happen(Happening::Trouble(format!("a share is not recorded: {words}")));
        Some("shares cannot be recorded".to_owned())
    })
}

/// What a block counts for if its share counts for nothing: the work it took. Its job has the easiest target of any use,
/// which then is the network's.
fn credit_of(found: FoundBlock) -> Credit {
    let FoundBlock { worker, job_id, job, share, .. } = found;
    Credit { worker, job_id, difficulty: job.target().to_difficulty(job.algorithm()), share }
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
