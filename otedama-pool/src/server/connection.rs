//! One miner's connection: bytes to lines to the session, and what the session wants done.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::entrance::{self, EntranceError, Wire};
use super::guard::{Offence, Refusal};
use super::seat::Seat;
use super::trade::{self, Trade};
use super::{BlockOf, Found, Happening, ShareLog, Shared, hand_in};
use crate::node::driver::NodeGroup;
use crate::session::server::Server;
use crate::session::{Action, CloseReason, Credit, FoundBlock, Now, Ticket, Verdict};
use crate::stratum::{LineSplitter, MINER_LINE_BYTES};

/// How much is read at a time.
const READ_BYTES: usize = 4096;

/// The longest a login name may be.
const MAX_USERNAME: usize = 256;

/// Shares of one connection on their way to the disk at most; more verdicts wait.
const MAX_RECORDINGS: usize = 256;

/// How long shares of a connection that has ended may still take to be proven.
const LAST_VERDICTS: Duration = Duration::from_secs(10);

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
) -> Option<String> {
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
        recordings: VecDeque::new(),
        proving: 0,
        is_at_work: false,
        lines: String::new(),
        closing: None,
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
                    silent &= !miner.lines(&mut splitter, now);
                }
                Err(error) => break Some(error.to_string()),
            },
            // A session has a limit of shares under way, so this queue has one.
            Some((ticket, verdict)) = verdicts.recv(), if miner.recordings.len() < MAX_RECORDINGS => {
                miner.on_verdict(ticket, verdict);
            }
            safe = next_safe(&mut miner.recordings) => miner.safe(safe),
            // The sender is in `shared`.
            _ = work.changed() => {
                let job = work.borrow_and_update().clone();
                match job {
                    Some(job) => {
                        miner.round = 0;
                        miner.is_at_work = true;
                        miner.hand_out(&job.cut, now);
                    }
                    // Elsewhere there may be some.
                    None if miner.is_at_work => break Some("there is no work".to_owned()),
                    None => {}
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
        miner.act();
        if let Err(why) = miner.write().await {
            break Some(why);
        }
        if let Some(why) = miner.closing.take() {
            break Some(why);
        }
    };
    // Shares that are being proven or are on their way to the disk count, whether or not somebody hears of it.
    let proven = async {
        while miner.proving > 0 {
            let Some((ticket, verdict)) = verdicts.recv().await else { break };
            miner.on_verdict(ticket, verdict);
            miner.act();
        }
    };
    let _ = timeout(LAST_VERDICTS, proven).await;
    let rest = async {
        while !miner.recordings.is_empty() {
            let safe = next_safe(&mut miner.recordings).await;
            miner.safe(safe);
        }
        miner.write().await
    };
    let _ = timeout(FAREWELL, rest).await;
    // TLS wants to be told of the end; who does not listen is left all the same.
    let _ = timeout(FAREWELL, miner.wire.shutdown()).await;
    why
}

/// A share on its way to the disk; what is said to its miner then, or why nothing is.
type Recording = Pin<Box<dyn Future<Output = Result<Option<String>, String>> + Send>>;

/// The oldest share on its way to the disk, once it is there; the disk takes them in this order.
async fn next_safe(recordings: &mut VecDeque<Recording>) -> Result<Option<String>, String> {
    let Some(oldest) = recordings.front_mut() else { return pending().await };
    let safe = oldest.await;
    recordings.pop_front();
    safe
}

/// The same if it is there already.
fn safe_already(recordings: &mut VecDeque<Recording>) -> Option<Result<Option<String>, String>> {
    // Who comes next waits for it with a waker that wakes.
    let Poll::Ready(safe) = recordings.front_mut()?.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    else {
        return None;
    };
    recordings.pop_front();
    Some(safe)
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
    found: Option<(Found<BlockOf<T>>, Credit)>,
    recordings: VecDeque<Recording>,
    /// Shares whose verdict is to come.
    proving: usize,
    /// Whether it was given a job.
    is_at_work: bool,
    /// What is to be written, in one go.
    lines: String,
    /// Why the connection is to end once the lines are written.
    closing: Option<String>,
}

impl<T: Trade, L: ShareLog> Miner<T, L> {
    /// Takes the whole lines; whether there were any.
    fn lines(&mut self, splitter: &mut LineSplitter, now: Now) -> bool {
        let mut any = false;
        while self.closing.is_none() {
            match splitter.next_line() {
                Ok(Some(line)) => self.session.on_line(line, now, &mut self.actions),
                Ok(None) => break,
                Err(error) => {
                    self.seat.ban(Offence::BadBytes);
                    self.closing = Some(error.to_string());
                }
            }
            any = true;
            self.act();
        }
        any
    }

    fn on_verdict(&mut self, ticket: Ticket, verdict: Verdict) {
        self.proving -= 1;
        self.session.on_verdict(ticket, verdict, self.shared.now(), &mut self.actions);
    }

    /// A share is safe, or cannot be made so; with it all others that are by now.
    fn safe(&mut self, mut safe: Result<Option<String>, String>) {
        loop {
            match safe {
                Ok(answer) => {
                    self.seat.share(None);
                    answer.iter().for_each(|line| self.say(line));
                }
                Err(words) => {
                    self.shared.happen(Happening::Trouble(format!("a share is not recorded: {words}")));
                    self.closing.get_or_insert_with(|| "shares cannot be recorded".to_owned());
                }
            }
            match safe_already(&mut self.recordings) {
                Some(next) => safe = next,
                None => return,
            }
        }
    }

    fn say(&mut self, line: &str) {
        self.lines.push_str(line);
        self.lines.push('\n');
    }

    fn hand_out(&mut self, cut: &T::Cut, now: Now) {
        let to = trade::Seat { connection: self.seat.number, round: self.round };
        self.shared.trade.hand_out(&mut self.session, to, cut, now, &mut self.actions);
    }

    /// Does what the session wants done, in order, but for the writing.
    fn act(&mut self) {
        // Actions may lead to further ones, which come after them.
        while !self.actions.is_empty() && self.closing.is_none() {
            for action in std::mem::take(&mut self.actions) {
                self.carry_out(action);
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        let now = self.shared.now();
        match action {
            Action::Send(line) => self.say(&line),
            Action::Authorize { ticket, username, .. } => {
                let verdict = sane(&username)
                    .and_then(|()| self.shared.log.may_mine(&username))
                    .and_then(|()| self.seat.admit(&username));
                self.session.on_login(ticket, verdict, now, &mut self.actions);
            }
            Action::Verify(check) => {
                self.proving += 1;
                self.shared.judge.prove(check, &self.answer);
            }
            Action::Accepted { credit, answer } => {
                let found = self.found.take().map(|(found, _)| found);
                self.record(credit, found, answer);
            }
            Action::Rejected { worker, reason, facts } => {
                self.shared.tally.refused.fetch_add(1, Ordering::Relaxed);
                self.seat.share(Some(reason));
                // A block that is easier than a share still belongs to whoever found it.
                if let Some((found, credit)) = self.found.take() {
                    self.record(credit, Some(found), None);
                }
                // Others may claim any name.
                if self.seat.has_admitted(&worker) {
                    self.shared.remembered().refused(&worker, reason, facts, now);
                }
                self.shared.happen(Happening::Refused { worker, reason });
            }
            Action::Block(found) => {
                let block = self.shared.block(self.seat.number, &found);
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
                self.closing = Some(format!("{reason:?}"));
            }
        }
    }

    /// Begins to record a share, which is this block, if any. The answer leaves when it is safe.
    fn record(&mut self, credit: Credit, found: Option<Found<BlockOf<T>>>, answer: Option<String>) {
        let recorded = self.shared.record(credit, found.as_ref().map(|found| found.reference));
        let submits = found.map(|found| {
            let (tells, hears) = oneshot::channel();
            hand_in(&self.shared, &self.group, found, hears);
            tells
        });
        self.recordings.push_back(Box::pin(async move {
            let recorded = recorded?.await;
            drop(submits);
            recorded.map(|()| answer)
        }));
    }

    /// Writes what there is to say.
    async fn write(&mut self) -> Result<(), String> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let writing = async {
            self.wire.write_all(self.lines.as_bytes()).await?;
            self.wire.flush().await
        };
        match timeout(self.shared.config.write_timeout, writing).await {
            Ok(Ok(())) => {
                self.lines.clear();
                Ok(())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it reads too slowly".to_owned()),
        }
    }
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
