//! The errands of one coin: what became of its blocks, and who is to be paid.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::now_ms;
use crate::ledger::{Block, Chain, ChainError, CoinRules, FollowError, Ledger, LedgerError, Lookup};
use crate::node::driver::NodeGroup;
use crate::node::{BlockRef, ChainNode, Fate};
use crate::payout::{PayoutError, PayoutReport, PayoutRules, Wallet};

/// How often the chain is asked without a new block.
const LOOK: Duration = Duration::from_secs(60);

/// How soon a ledger that was away is tried again.
const AWAY: Duration = Duration::from_secs(5);

/// The least time between two rounds, however fast blocks come.
const PAUSE: Duration = Duration::from_millis(500);

/// What a round found out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Kept {
    /// So many blocks were booked, or turned out to be orphans.
    Blocks(usize),
    /// Payouts moved.
    Payouts(PayoutReport),
    /// Something that concerns the operator. What was begun is taken up again in the next round.
    Trouble(String),
}

/// How a coin is paid out.
#[derive(Debug)]
pub struct PayoutPlan<W> {
    /// To whom, and how many at a time.
    pub rules: PayoutRules,
    /// By which wallet.
    pub wallet: W,
    /// How often new payouts are begun.
    pub every: Duration,
}

/// Follows a coin's blocks and pays its miners.
pub struct Keeper<N: ChainNode, W> {
    /// The books.
    pub ledger: Arc<Ledger>,
    /// How rewards are divided.
    pub rules: CoinRules,
    /// The chain.
    pub group: Arc<NodeGroup<N>>,
    /// The payouts; none leaves balances as they are.
    pub payouts: Option<PayoutPlan<W>>,
}

impl<N: ChainNode, W: Wallet> Keeper<N, W> {
    /// Runs for ever: a round for each new block of the chain, at least one a minute, and one soon after a ledger that
    /// was away. Dropping the future between any two steps is as good as a crash: the next run goes on.
    pub async fn run(self, tell: impl Fn(Kept)) {
        let mut templates = self.group.templates();
        let mut paid: Option<Instant> = None;
        let mut was_away = false;
        loop {
            let away = self.round(&mut paid, &tell).await;
            if let (Some(error), false) = (&away, was_away) {
                tell(Kept::Trouble(format!("blocks and payouts wait: {error}")));
            }
            was_away = away.is_some();
            tokio::time::sleep(PAUSE).await;
            let news = async {
                // The group lives as long as this.
                while templates.changed().await.is_ok() {
                    if templates.borrow_and_update().as_ref().is_some_and(|current| current.new_block) {
                        return;
                    }
                }
            };
            // However it ends, it is time.
            let _ = tokio::time::timeout(if was_away { AWAY } else { LOOK }, news).await;
        }
    }

    /// One round; why the ledger is away, if it is.
    async fn round(&self, paid: &mut Option<Instant>, tell: &impl Fn(Kept)) -> Option<LedgerError> {
        match book_blocks(&self.ledger, &self.rules, &self.group, now_ms()).await {
            Ok(0) => {}
            Ok(changed) => tell(Kept::Blocks(changed)),
            // The nodes say that of themselves.
            Err(FollowError::Chain(_)) => {}
            Err(FollowError::Ledger(error)) if error.is_retryable() => return Some(error),
            Err(error) => tell(Kept::Trouble(error.to_string())),
        }
        let Some(PayoutPlan { rules, wallet, every }) = &self.payouts else { return None };
        let due = paid.is_none_or(|paid| paid.elapsed() >= *every);
        let report = if due {
            self.ledger.pay(rules, wallet, now_ms()).await
        } else {
            self.ledger.reconcile(rules, wallet, now_ms()).await
        };
        let report = match report {
            Err(PayoutError::Ledger(error)) if error.is_retryable() => return Some(error),
            report => report,
        };
        if due {
            *paid = Some(Instant::now());
        }
        match report {
            Ok(report) if report == PayoutReport::default() => {}
            Ok(report) => tell(Kept::Payouts(report)),
            Err(error) => tell(Kept::Trouble(format!("payouts of {} wait: {error}", rules.coin))),
        }
        None
    }
}

/// Asks the nodes once about every block that is not settled, and books what follows; how many changed.
///
/// # Errors
/// If the nodes do not answer about a block, or the ledger fails.
pub async fn book_blocks<N: ChainNode>(
    ledger: &Ledger,
    rules: &CoinRules,
    group: &NodeGroup<N>,
    now_ms: u64,
) -> Result<usize, FollowError> {
    ledger.follow(rules, &OnChain(group), now_ms).await
}

/// The chain as a group of nodes sees it.
struct OnChain<'a, N: ChainNode>(&'a NodeGroup<N>);

impl<N: ChainNode> Chain for OnChain<'_, N> {
    async fn look_up(&self, block: &Block) -> Result<Lookup, ChainError> {
        let reference = BlockRef { height: block.height, id: block.hash };
        let fate = self.0.fate(&reference).await.map_err(|error| ChainError(error.to_string()))?;
        Ok(match fate {
            Fate::InChain { confirmations } => Lookup::OnChain { confirmations, reward: None },
            Fate::Paid { confirmations, reward } => Lookup::OnChain { confirmations, reward: Some(reward) },
            Fate::Orphaned | Fate::NotFound => {
                let tip = self.0.status().iter().filter_map(|node| node.tip).map(|tip| tip.height).max();
                match tip.and_then(|tip| (tip + 1).checked_sub(block.height)) {
                    Some(confirmations @ 1..) => Lookup::Replaced { confirmations },
                    _ => Lookup::NotYet,
                }
            }
        })
    }
}
