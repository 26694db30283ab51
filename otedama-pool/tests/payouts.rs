//! Payouts through everything that can go wrong: each failure of the wallet at each of its calls, a crash between
//! any two steps, and what the network may say.

#[path = "books/mod.rs"]
mod common;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use common::*;
use otedama_pool::ledger::{Account, Ledger, Lookup};
use otedama_pool::money::Amount;
use otedama_pool::payout::PayoutError;
use tempfile::TempDir;

/// A ledger whose miners `a` to `e` are owed something, and `f` too little.
async fn owing(dir: &TempDir) -> Ledger {
    let ledger = open(dir).await;
    let miners = ["a", "b", "c", "d", "e", "f"];
    let shares = (0..6).map(|n| share(miners[n], 0, if n == 5 { 1 } else { 200_000 }, (n == 5).then_some(1)));
    ledger.apply("n", 1, &stored(1, shares), &rules(PPLNS)).await.unwrap();
    let chain = ToldChain::default();
    chain.bury(1, 100);
    ledger.follow(&coin(PPLNS), &chain, 1).await.unwrap();
    ledger
}

async fn open(dir: &TempDir) -> Ledger {
    Ledger::open(&format!("sqlite://{}/ledger.db", dir.path().display())).await.unwrap()
}

/// Runs payouts until there is nothing left to do, then checks that everybody got exactly what was owed.
async fn finish_and_check(dir: &TempDir, network: &Network, context: &str) {
    let ledger = open(dir).await;
    let rules = payout_rules();
    ledger.pay(&rules, network, 2).await.unwrap();
    network.confirm(6);
    ledger.pay(&rules, network, 3).await.unwrap();
    let balances = check_books(&ledger).await;
    let received = network.received();
    let owed = owed(&balances);
    // 5 x 200,000 of 1,000,001; a part each of 4,950,000,007 less f's 4,950 (or one more): nobody twice, nobody less.
    assert_eq!(received.len(), 5, "{context}: {received:?}");
    for (miner, amount) in &received {
        assert!((989_999_011..=989_999_012).contains(amount), "{context}: {miner} got {amount}");
        assert_eq!(owed[miner], 0, "{context}: {miner}");
    }
    let (paid, fees) = (balances[&Account::Paid].units(), balances[&Account::Fees].units());
    let sending = balances[&Account::Sending].units();
    assert_eq!(sending, 0, "{context}");
    // sum(credited) = sum(paid) + sum(owed) + fees
    assert_eq!(-balances[&Account::Coinbase].units(), paid + owed.values().sum::<i64>() + fees, "{context}");
    let network_fees = NETWORK_FEE * network.transactions() as i64;
    assert_eq!(paid, received.values().sum::<i64>() + network_fees, "{context}");
    assert_eq!(network.transactions(), 3, "{context}: two recipients each");
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_at_every_call_of_the_wallet_pays_everybody_once() {
    let mut failures = 0;
    for fault in [Fault::Before, Fault::After, Fault::Silence] {
        for call in 0.. {
            let (dir, network) = (tempfile::tempdir().unwrap(), Network::default());
            let ledger = owing(&dir).await;
            network.fail(call, fault);
            let (rules, pay) = (payout_rules(), std::time::Duration::from_millis(300));
            // A wallet that never answers is where the process is ended.
            let _ = tokio::time::timeout(pay, ledger.pay(&rules, &network, 1)).await;
            ledger.close().await;
            if !network.has_failed() {
                break;
            }
            failures += 1;
            finish_and_check(&dir, &network, &format!("{fault:?} at call {call}")).await;
        }
    }
    println!("{failures} failures survived");
    assert!(failures >= 3 * 11, "5 addresses, 3 x (sign, broadcast)");
}

/// Polls a future so many times, then gives up on it, as a crash would.
struct Polls<F>(Pin<Box<F>>, usize);

impl<F: Future> Future for Polls<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.1 == 0 {
            return Poll::Ready(None);
        }
        self.1 -= 1;
        self.0.as_mut().poll(context).map(Some)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_any_two_steps_pays_everybody_once() {
    let mut crashes = 0;
    for polls in 1.. {
        let (dir, network) = (tempfile::tempdir().unwrap(), Network::default());
        let ledger = owing(&dir).await;
        let rules = payout_rules();
        let ended = Polls(Box::pin(ledger.pay(&rules, &network, 1)), polls).await;
        ledger.close().await;
        if ended.is_none() {
            // In the second run, too.
            let ledger = open(&dir).await;
            let _ = Polls(Box::pin(ledger.pay(&rules, &network, 1)), polls / 2 + 1).await;
            ledger.close().await;
        }
        finish_and_check(&dir, &network, &format!("crash after {polls} polls")).await;
        match ended {
            Some(outcome) => {
                outcome.unwrap();
                break;
            }
            None => crashes += 1,
        }
    }
    println!("{crashes} crashes survived");
    assert!(crashes > 50, "{crashes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_network_refuses_is_frozen_and_given_back_only_by_hand() {
    let (dir, network, rules) = (tempfile::tempdir().unwrap(), Network::default(), payout_rules());
    let ledger = owing(&dir).await;
    let before = check_books(&ledger).await;
    network.refuse(Some("min relay fee not met"));
    let report = ledger.pay(&rules, &network, 1).await.unwrap();
    assert_eq!(report.frozen.len(), 3);
    // Frozen: not signed anew, not sent again, and the miners are not owed it twice.
    network.refuse(None);
    assert_eq!(ledger.pay(&rules, &network, 2).await.unwrap().sent, 0);
    assert_eq!(network.transactions(), 0);
    for batch in &report.frozen {
        ledger.give_back(*batch, 3).await.unwrap();
        assert!(
            matches!(ledger.give_back(*batch, 3).await, Err(PayoutError::NotInState { .. })),
            "only once"
        );
    }
    assert_eq!(owed(&check_books(&ledger).await), owed(&before));
    ledger.close().await;
    finish_and_check(&dir, &network, "after giving back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_payout_that_is_mined_after_all_is_done() {
    let (dir, network, rules) = (tempfile::tempdir().unwrap(), Network::default(), payout_rules());
    let ledger = owing(&dir).await;
    network.refuse(Some("mempool min fee not met"));
    let frozen = ledger.pay(&rules, &network, 1).await.unwrap().frozen;
    assert_eq!(frozen.len(), 3);
    // Whoever heard of it before keeps it, and sends it on when fees have fallen.
    network.leak();
    network.confirm(5);
    assert_eq!(ledger.reconcile(&rules, &network, 2).await.unwrap().confirmed, 0);
    network.confirm(6);
    assert_eq!(ledger.reconcile(&rules, &network, 3).await.unwrap().confirmed, 3);
    let error = ledger.give_back(frozen[0], 4).await;
    assert!(matches!(error, Err(PayoutError::NotInState { .. })), "{error:?}");
    network.refuse(None);
    ledger.close().await;
    finish_and_check(&dir, &network, "mined after all").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_the_wallet_will_not_sign_keeps_no_other_from_being_paid() {
    let (dir, network, rules) = (tempfile::tempdir().unwrap(), Network::default(), payout_rules());
    let ledger = owing(&dir).await;
    // Five addresses are looked at, then the first batch is to be signed.
    network.fail(5, Fault::Before);
    let report = ledger.pay(&rules, &network, 1).await.unwrap();
    assert_eq!((report.sent, report.unsigned.len()), (2, 1));
    assert!(report.unsigned[0].1.contains("connection refused"), "{report:?}");
    assert_eq!(network.received().len(), 3);
    ledger.close().await;
    finish_and_check(&dir, &network, "signed later").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_must_be_alone_in_a_transaction_are() {
    let (dir, network, rules) = (tempfile::tempdir().unwrap(), Network::default(), payout_rules());
    let ledger = open(&dir).await;
    let miners = ["a", "+b", "c", "+d", "e"];
    let shares = (0..5).map(|n| share(miners[n], 0, 1, (n == 4).then_some(1)));
    ledger.apply("n", 1, &stored(1, shares), &common::rules(PPLNS)).await.unwrap();
    let chain = ToldChain::default();
    chain.bury(1, 100);
    ledger.follow(&coin(PPLNS), &chain, 1).await.unwrap();
    // At most two together: a and c, e, and each of the others.
    assert_eq!(ledger.pay(&rules, &network, 1).await.unwrap().sent, 4);
    assert_eq!(network.received().len(), 5);
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payout_the_network_forgot_is_sent_again_and_is_the_same() {
    let (dir, network, rules) = (tempfile::tempdir().unwrap(), Network::default(), payout_rules());
    let ledger = owing(&dir).await;
    ledger.pay(&rules, &network, 1).await.unwrap();
    let received = network.received();
    network.forget();
    assert_eq!(ledger.reconcile(&rules, &network, 2).await.unwrap().resent, 3);
    assert_eq!(network.received(), received);
    ledger.close().await;
    finish_and_check(&dir, &network, "sent again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_pay_at_once_pay_once() {
    for _ in 0..5 {
        let (dir, network, rules) = (tempfile::tempdir().unwrap(), Network::default(), payout_rules());
        let (one, two) = (owing(&dir).await, open(&dir).await);
        // Whoever comes second finds balances or states changed, and stops.
        let _ = tokio::join!(one.pay(&rules, &network, 1), two.pay(&rules, &network, 1));
        one.close().await;
        two.close().await;
        let sent: i64 = network.received().values().sum();
        assert!(sent <= 5 * 989_999_012, "{sent}");
        finish_twice(&dir, &network).await;
    }
}

/// As `finish_and_check`, but for how many transactions it took.
async fn finish_twice(dir: &TempDir, network: &Network) {
    let (ledger, rules) = (open(dir).await, payout_rules());
    ledger.pay(&rules, network, 2).await.unwrap();
    network.confirm(6);
    ledger.pay(&rules, network, 3).await.unwrap();
    let balances = check_books(&ledger).await;
    for (miner, amount) in network.received() {
        assert!((989_999_011..=989_999_012).contains(&amount), "{miner} got {amount}");
    }
    assert_eq!(network.received().len(), 5);
    assert_eq!(balances[&Account::Sending], Amount::ZERO);
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_taken_back_after_it_was_paid_leaves_a_debt_not_a_second_payment() {
    let (dir, network, rules) = (tempfile::tempdir().unwrap(), Network::default(), payout_rules());
    let ledger = owing(&dir).await;
    ledger.pay(&rules, &network, 1).await.unwrap();
    let received = network.received();
    let chain = ToldChain::default();
    chain.tell(1, Lookup::Replaced { confirmations: 100 });
    ledger.follow(&coin(PPLNS), &chain, 2).await.unwrap();
    let balances = check_books(&ledger).await;
    assert_eq!(balances[&Account::Miner("a".into())], Amount::new(-received["a"]));
    assert_eq!(ledger.pay(&rules, &network, 3).await.unwrap().sent, 0);
    assert_eq!(network.received(), received);
}
