//! The ledger on both databases: the same schema, the same scenarios.

#[path = "books/mod.rs"]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::*;
use otedama_core::Hash256;
use otedama_pool::effort::Effort;
use otedama_pool::ledger::{Account, BlockState, Consumer, Ledger, LedgerError, Lookup, Scheme, Verdict};
#[cfg(feature = "postgres")]
use otedama_pool::ledger::{ConsumerError, Contact};
use otedama_pool::money::Amount;
use otedama_pool::payout::{Output, Sent};
use otedama_pool::spool::{self, Spool, SpoolConfig};
use tempfile::TempDir;

async fn sqlite() -> (Ledger, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&sqlite_url(&dir)).await.unwrap();
    (ledger, dir)
}

fn sqlite_url(dir: &TempDir) -> String {
    format!("sqlite://{}/ledger.db", dir.path().display())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    for (index, scenario) in SCENARIOS.iter().enumerate() {
        let url = format!("sqlite://{}/{index}.db", dir.path().display());
        run(scenario, Ledger::open(&url).await.unwrap()).await;
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn everything_on_postgresql_with_the_same_schema() {
    let server = match postgres::Server::start() {
        Ok(server) => server,
        Err(why) => return println!("SKIPPED everything_on_postgresql: {why}"),
    };
    for (index, scenario) in SCENARIOS.iter().enumerate() {
        run(scenario, Ledger::open(&server.database(&format!("scenario{index}"))).await.unwrap()).await;
    }
    let url = server.database("schema");
    Ledger::open(&url).await.unwrap().close().await;
    let postgres = schema::of_postgres(&url).await;
    let dir = tempfile::tempdir().unwrap();
    Ledger::open(&sqlite_url(&dir)).await.unwrap().close().await;
    let sqlite = schema::of_sqlite(&sqlite_url(&dir)).await;
    assert!(sqlite.len() >= 12, "{sqlite:?}");
    assert_eq!(sqlite, postgres);
}

const SCENARIOS: [&str; 7] =
    ["exactly once", "gaps", "pplns", "prop and solo", "per share", "verdicts", "payouts"];

async fn run(scenario: &str, ledger: Ledger) {
    match scenario {
        "exactly once" => consumes_exactly_once(&ledger).await,
        "gaps" => names_gaps(&ledger).await,
        "pplns" => pays_the_last_shares_and_takes_back_orphans(&ledger).await,
        "prop and solo" => pays_the_round_or_the_finder(&ledger).await,
        "per share" => pays_per_share(&ledger).await,
        "verdicts" => believes_the_chain_not_the_answers(&ledger).await,
        "payouts" => pays_out(&ledger).await,
        other => panic!("no scenario '{other}'"),
    }
    check_books(&ledger).await;
    ledger.close().await;
}

async fn consumes_exactly_once(ledger: &Ledger) {
    let rules = rules(PPLNS);
    let shares: Vec<_> = (0..500u64)
        .map(|n| share(["a", "b", "c"][n as usize % 3], n * 1000, 1 + u128::from(n % 2), None))
        .collect();
    let stored = stored(1000, shares);
    assert_eq!(ledger.position("n1").await.unwrap(), None);
    let first = ledger.apply("n1", 1000, &stored[..300], &rules).await.unwrap();
    assert_eq!((first.applied, first.repeated, first.next_sequence), (300, 0, 1300));
    // The answer was lost: the same comes again, with more.
    let again = ledger.apply("n1", 1000, &stored[100..400], &rules).await.unwrap();
    assert_eq!((again.applied, again.repeated), (100, 200));
    assert_eq!(ledger.apply("n1", 1000, &stored[..400], &rules).await.unwrap().applied, 0);
    // Another node's numbers are its own.
    assert_eq!(ledger.apply("n2", 1000, &stored[..10], &rules).await.unwrap().applied, 10);
    ledger.apply("n1", 1000, &stored[400..], &rules).await.unwrap();
    assert_eq!(ledger.position("n1").await.unwrap(), Some(1500));
    let efforts = ledger.efforts("ltc").await.unwrap();
    let expected = |miner: u64| {
        let numbers = (0..500u64).chain(0..10).filter(|n| n % 3 == miner);
        let effort: u64 = numbers.clone().map(|n| 1 + n % 2).sum();
        (numbers.count() as u64, Effort(effort.into()))
    };
    assert_eq!(
        efforts,
        BTreeMap::from([("a".into(), expected(0)), ("b".into(), expected(1)), ("c".into(), expected(2))])
    );
}

async fn names_gaps(ledger: &Ledger) {
    let rules = rules(PPLNS);
    let shares = || (0..10).map(|n| share("a", n, 1, None));
    ledger.apply("n", 100, &stored(100, shares()), &rules).await.unwrap();
    let error = ledger.apply("n", 100, &stored(111, shares()), &rules).await.unwrap_err();
    assert!(
        matches!(error, LedgerError::Gap { expected: 110, offered: 111, .. }) && !error.is_retryable(),
        "{error}"
    );
    assert_eq!(ledger.position("n").await.unwrap(), Some(110));
    // A new spool after a lost one says where it begins: the gap is noted and counted.
    let applied = ledger.apply("n", 5000, &stored(5000, shares()), &rules).await.unwrap();
    assert_eq!((applied.lost, applied.applied), (4890, 10));
    let late = ledger.apply("other", 1, &stored(40, shares()), &rules).await.unwrap();
    assert_eq!(
        (late.lost, late.applied),
        (39, 10),
        "an empty ledger beside a spool that was consumed before"
    );
    let mut strange = share("a", 0, 1, None);
    strange.coin = "xyz".into();
    let error = ledger.apply("n", 5000, &stored(5010, [strange]), &rules).await.unwrap_err();
    assert!(matches!(error, LedgerError::UnknownCoin(_)), "{error}");
}

async fn pays_the_last_shares_and_takes_back_orphans(ledger: &Ledger) {
    // A window of twice a block's effort, 2,000,000: the first minute is beyond it, half of the second is within.
    let coin = coin(PPLNS);
    let shares = vec![
        share("early", 0, 700_000, None),
        share("a", 60_000, 1_000_000, None),
        share("b", 60_000, 1_000_000, None),
        share("b", 120_000, 999_999, None),
        share("c", 120_000, 1, Some(1)),
        share("late", 120_000, 1_000_000, None),
    ];
    ledger.apply("n", 1, &stored(1, shares), &rules(PPLNS)).await.unwrap();
    let chain = ToldChain::default();
    chain.bury(1, 99);
    ledger.follow(&coin, &chain, 1).await.unwrap();
    assert_eq!(ledger.blocks("ltc").await.unwrap()[0].state, BlockState::Accepted);
    assert!(check_books(ledger).await.is_empty());
    chain.bury(1, 100);
    assert_eq!(ledger.follow(&coin, &chain, 2).await.unwrap(), 1);
    // 5,000,000,007 less 1 % (50,000,000): 4,950,000,007 by 500000 : 1499999 : 1.
    let balances = check_books(ledger).await;
    let expected = [("a", 1_237_500_002), ("b", 3_712_497_530), ("c", 2_475)];
    assert_eq!(owed(&balances), expected.map(|(miner, units)| (miner.to_owned(), units)).into());
    assert_eq!(balances[&Account::Fees], Amount::new(50_000_000));
    assert_eq!(balances[&Account::Coinbase], Amount::new(-BLOCK_VALUE));
    // Followed again, nothing is booked again.
    assert_eq!(ledger.follow(&coin, &chain, 3).await.unwrap(), 0);
    assert_eq!(check_books(ledger).await, balances);
    // A deep reorganisation: as long as the other chain is short nothing is taken back.
    chain.tell(1, Lookup::Replaced { confirmations: 99 });
    ledger.follow(&coin, &chain, 4).await.unwrap();
    assert_eq!(check_books(ledger).await, balances);
    chain.tell(1, Lookup::Replaced { confirmations: 100 });
    assert_eq!(ledger.follow(&coin, &chain, 5).await.unwrap(), 1);
    assert_eq!(ledger.blocks("ltc").await.unwrap()[0].state, BlockState::Orphaned);
    assert!(check_books(ledger).await.values().all(|amount| *amount == Amount::ZERO));
    // And back again, twice: each booking has its own reference.
    for _ in 0..2 {
        chain.bury(1, 150);
        assert_eq!(ledger.follow(&coin, &chain, 6).await.unwrap(), 1);
        assert_eq!(check_books(ledger).await, balances);
        chain.tell(1, Lookup::Replaced { confirmations: 120 });
        assert_eq!(ledger.follow(&coin, &chain, 7).await.unwrap(), 1);
    }
    chain.tell(1, Lookup::Replaced { confirmations: 200 });
    ledger.follow(&coin, &chain, 8).await.unwrap();
    chain.bury(1, 300);
    assert_eq!(ledger.follow(&coin, &chain, 9).await.unwrap(), 0, "settled blocks are not asked about");
}

async fn pays_the_round_or_the_finder(ledger: &Ledger) {
    let prop = vec![
        share("a", 0, 3, None),
        share("b", 0, 1, Some(1)),
        share("a", 0, 1, None),
        share("c", 0, 1, Some(2)),
    ];
    ledger.apply("n", 1, &stored(1, prop), &rules(Scheme::Prop)).await.unwrap();
    let solo = vec![share("a", 0, 1000, None), share("d", 0, 1, Some(3))];
    // The rules change; blocks found before keep theirs.
    ledger.apply("n", 1, &stored(5, solo), &rules(Scheme::Solo)).await.unwrap();
    let chain = ToldChain::default();
    (1..=3).for_each(|block| chain.bury(block, 100));
    assert_eq!(ledger.follow(&coin(Scheme::Solo), &chain, 1).await.unwrap(), 3);
    let net = 4_950_000_007i64;
    let (a1, b) = (3_712_500_005, 1_237_500_002); // 3712500005.25, 1237500001.75
    let (a2, c) = (2_475_000_004, 2_475_000_003);
    assert_eq!((a1 + b, a2 + c), (net, net));
    let owed = owed(&check_books(ledger).await);
    assert_eq!(owed, [("a", a1 + a2), ("b", b), ("c", c), ("d", net)].map(|(k, v)| (k.to_owned(), v)).into());
}

async fn pays_per_share(ledger: &Ledger) {
    // Each share is a thousandth of a block: PPS 5,000,000 each, FPPS 5,000,000.007.
    let shares = || (0..1000).map(|n| share(if n % 4 == 0 { "a" } else { "b" }, n, 1000, None));
    ledger.apply("n", 1, &stored(1, shares()), &rules(Scheme::Pps)).await.unwrap();
    let pps = check_books(ledger).await;
    assert_eq!(pps[&Account::Reserve], Amount::new(-5_000_000_000));
    assert_eq!(owed(&pps)["a"], 1_250_000_000 / 100 * 99);
    for batch in stored(1001, shares()).chunks(7) {
        ledger.apply("n", 1, batch, &rules(Scheme::Fpps)).await.unwrap();
    }
    // Fractions are carried over all the batches: 5000000007 in all, a and b and the fee each at most a unit short.
    let fpps = check_books(ledger).await;
    let taken = |account: &Account| (fpps[account].units() - pps[account].units()).abs();
    assert!((5_000_000_004..=5_000_000_007).contains(&taken(&Account::Reserve)), "{fpps:?}");
    assert!((49_999_999..=50_000_000).contains(&taken(&Account::Fees)), "{fpps:?}");
    assert!((3_712_500_004..=3_712_500_005).contains(&taken(&Account::Miner("b".into()))), "{fpps:?}");
    // A block fills the reserve; its shares were paid already and count for no window.
    ledger.apply("n", 1, &stored(2001, [share("a", 0, 1000, Some(1))]), &rules(Scheme::Fpps)).await.unwrap();
    ledger.apply("n", 1, &stored(2002, [share("z", 0, 1, Some(2))]), &rules(PPLNS)).await.unwrap();
    let before = check_books(ledger).await;
    let chain = ToldChain::default();
    chain.bury(1, 100);
    ledger.follow(&coin(Scheme::Fpps), &chain, 1).await.unwrap();
    let after = check_books(ledger).await;
    assert_eq!(after[&Account::Reserve].units() - before[&Account::Reserve].units(), BLOCK_VALUE);
    assert_eq!(owed(&after), owed(&before));
    chain.bury(2, 100);
    ledger.follow(&coin(Scheme::Fpps), &chain, 1).await.unwrap();
    assert_eq!(owed(&check_books(ledger).await)["z"], 4_950_000_007);
}

async fn believes_the_chain_not_the_answers(ledger: &Ledger) {
    let hash = |block: u8| Hash256::from_raw([block; 32]);
    let states = || async {
        let blocks = ledger.blocks("ltc").await.unwrap();
        let mut states: Vec<_> = blocks.iter().map(|block| (block.hash.as_raw()[0], block.state)).collect();
        states.sort_by_key(|(block, _)| *block);
        states.into_iter().map(|(_, state)| state).collect::<Vec<_>>()
    };
    // Answers may come before the share is consumed, and from several nodes.
    ledger.record_verdict("ltc", &hash(1), "node-a", Verdict::Accepted, "", 1).await.unwrap();
    ledger.record_verdict("ltc", &hash(2), "node-a", Verdict::Rejected, "inconclusive", 1).await.unwrap();
    let shares = (1..=4).map(|block| share("a", 0, 10, Some(block)));
    ledger.apply("n", 1, &stored(1, shares), &rules(PPLNS)).await.unwrap();
    ledger.record_verdict("ltc", &hash(3), "node-a", Verdict::Unknown, "timed out", 2).await.unwrap();
    ledger.record_verdict("ltc", &hash(3), "node-b", Verdict::Accepted, "", 2).await.unwrap();
    ledger.record_verdict("ltc", &hash(3), "node-c", Verdict::Rejected, "duplicate", 2).await.unwrap();
    use BlockState::*;
    assert_eq!(states().await, [Accepted, Unknown, Accepted, Submitted]);
    // The one that was "rejected" is on the chain, the one that was accepted is not.
    let chain = ToldChain::default();
    chain.tell(1, Lookup::Replaced { confirmations: 5 });
    chain.bury(2, 100);
    chain.tell(4, Lookup::Replaced { confirmations: 100 });
    ledger.follow(&coin(PPLNS), &chain, 3).await.unwrap();
    assert_eq!(states().await, [Unknown, Confirmed, Accepted, Orphaned]);
    // A verdict that comes late does not unsettle what the chain has decided.
    ledger.record_verdict("ltc", &hash(4), "node-b", Verdict::Accepted, "", 4).await.unwrap();
    assert_eq!(states().await, [Unknown, Confirmed, Accepted, Orphaned]);
}

async fn pays_out(ledger: &Ledger) {
    credit(ledger, &["a", "b", "c", "no address", "d"]).await;
    let (rules, network) = (payout_rules(), Network::default());
    let report = ledger.pay(&rules, &network, 1).await.unwrap();
    assert_eq!((report.sent, network.transactions()), (2, 2), "at most two recipients each");
    assert_eq!(report.not_addresses, ["no address"]);
    let balances = check_books(ledger).await;
    let fees = 2 * NETWORK_FEE;
    let sent: i64 = network.received().values().sum();
    assert_eq!(balances[&Account::Sending], Amount::new(sent + fees));
    assert_eq!(owed(&balances).values().filter(|owed| **owed > 0).count(), 1);
    network.confirm(6);
    assert_eq!(ledger.reconcile(&rules, &network, 2).await.unwrap().confirmed, 2);
    let balances = check_books(ledger).await;
    assert_eq!(balances[&Account::Sending], Amount::ZERO);
    assert_eq!(balances[&Account::Paid], Amount::new(sent + fees));
    assert_eq!(ledger.pay(&rules, &network, 3).await.unwrap().sent, 0);
}

/// A block's reward for these miners.
async fn credit(ledger: &Ledger, miners: &[&str]) {
    let last = miners.len() - 1;
    let shares =
        miners.iter().enumerate().map(|(index, miner)| share(miner, 0, 10, (index == last).then_some(1)));
    ledger.apply("n", 1, &stored(1, shares), &rules(PPLNS)).await.unwrap();
    let chain = ToldChain::default();
    chain.bury(1, 100);
    ledger.follow(&coin(PPLNS), &chain, 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_balances_are_named_and_repaired_from_the_entries() {
    let (ledger, dir) = sqlite().await;
    credit(&ledger, &["a", "b"]).await;
    let right = check_books(&ledger).await;
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&sqlite_url(&dir)).await.unwrap();
    sqlx::query("UPDATE balances SET amount = amount + 5 WHERE account = 'miner:a'")
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query("DELETE FROM balances WHERE account = 'fees'").execute(&pool).await.unwrap();
    let wrong = ledger.check_balances(true).await.unwrap();
    let accounts: BTreeSet<Account> = wrong.iter().map(|difference| difference.account.clone()).collect();
    assert_eq!(accounts, BTreeSet::from([Account::Fees, Account::Miner("a".into())]));
    assert_eq!(check_books(&ledger).await, right);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_earned_is_rebuilt_from_the_spool() {
    for scheme in [PPLNS, Scheme::Fpps] {
        let (ledger, dir) = sqlite().await;
        let (ledger, spool_dir) = (Arc::new(ledger), dir.path().join("spool"));
        let spool = Arc::new(Spool::open(&spool_dir, SpoolConfig::new("n")).unwrap());
        for number in 0..3000u64 {
            let block = (number % 1000 == 999).then_some((number / 1000) as u8);
            let share =
                share(["a", "b", "c"][number as usize % 3], number * 100, 777 + u128::from(number), block);
            spool.submit(&share, |_| {}).unwrap();
        }
        let consumer =
            Consumer::new(Arc::clone(&spool), Arc::clone(&ledger), [coin(scheme)]).keeping_segments();
        // Everything that waits is durable once a further share is.
        spool.append_async(&share("a", 400_000, 1, None)).await.unwrap();
        consumer.run(&AtomicBool::new(true)).await.unwrap();
        drop((consumer, spool));
        let chain = ToldChain::default();
        (0..3).for_each(|block| chain.bury(block, 100));
        ledger.follow(&coin(scheme), &chain, 1).await.unwrap();
        ledger.pay(&payout_rules(), &Network::default(), 1).await.unwrap();

        let again = Ledger::open(&format!("sqlite://{}/again.db", dir.path().display())).await.unwrap();
        let reader = spool::read_closed(&spool_dir, "n").unwrap();
        assert_eq!(again.replay(reader, &rules(scheme)).await.unwrap(), 3001);
        again.follow(&coin(scheme), &chain, 2).await.unwrap();
        let earned = again.earned("ltc").await.unwrap();
        assert_eq!(earned, ledger.earned("ltc").await.unwrap());
        assert_eq!(earned, again.balances("ltc").await.unwrap());
        assert!(earned[&Account::Miner("b".into())].is_positive());
        assert_eq!(again.share_counts("ltc").await.unwrap(), ledger.share_counts("ltc").await.unwrap());
    }
}

/// A ledger with one block's reward, a payout in every state, and one that was given back; and its chain.
async fn much_paid(ledger: &Ledger, network: &Network) -> ToldChain {
    let shares = ["a", "b", "c", "d", "e"].map(|miner| share(miner, 1000, 10, None));
    let shares = shares.into_iter().chain([share("f", 2000, 10, Some(1))]);
    ledger.apply("n", 0, &stored(0, shares), &rules(PPLNS)).await.unwrap();
    let chain = ToldChain::default();
    chain.bury(1, 100);
    ledger.follow(&coin(PPLNS), &chain, 1).await.unwrap();
    // Two recipients a batch: the first confirmed, the second given back and paid again, the third sent.
    ledger.pay(&payout_rules(), network, 1).await.unwrap();
    network.confirm(6);
    ledger.reconcile(&payout_rules(), network, 2).await.unwrap();
    network.confirm(0);
    let shares = [share("g", 3000, 10, None), share("h", 3000, 10, Some(2))];
    ledger.apply("n", 0, &stored(6, shares), &rules(PPLNS)).await.unwrap();
    chain.bury(2, 100);
    ledger.follow(&coin(PPLNS), &chain, 3).await.unwrap();
    network.refuse(Some("min relay fee not met"));
    let report = ledger.pay(&payout_rules(), network, 4).await.unwrap();
    network.refuse(None);
    ledger.give_back(report.frozen[0], 5).await.unwrap();
    ledger.pay(&payout_rules(), network, 6).await.unwrap();
    chain
}

async fn replayed(ledger: &Ledger, chain: &ToldChain) {
    let shares = ["a", "b", "c", "d", "e"].map(|miner| share(miner, 1000, 10, None));
    let shares = shares.into_iter().chain([
        share("f", 2000, 10, Some(1)),
        share("g", 3000, 10, None),
        share("h", 3000, 10, Some(2)),
    ]);
    ledger.apply("n", 0, &stored(0, shares), &rules(PPLNS)).await.unwrap();
    ledger.follow(&coin(PPLNS), chain, 7).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_ledger_takes_payouts_over_and_goes_on_with_them() {
    let (ledger, _dir) = sqlite().await;
    let network = Network::default();
    let chain = much_paid(&ledger, &network).await;
    let states = ledger.payout_states("ltc").await.unwrap();
    assert!(
        ["confirmed", "broadcast", "cancelled", "frozen"].iter().all(|state| states.contains_key(*state)),
        "{states:?}"
    );

    let (again, _dir) = sqlite().await;
    assert!(again.is_empty().await.unwrap());
    let batches = ledger.payout_batches("ltc").await.unwrap();
    assert_eq!(again.take_payouts(&ledger).await.unwrap(), batches.len() as u64);
    assert!(!again.is_empty().await.unwrap());
    replayed(&again, &chain).await;
    assert_eq!(again.payout_batches("ltc").await.unwrap(), batches);
    assert_eq!(check_books(&again).await, check_books(&ledger).await);

    // It pays on: nobody twice, and what was frozen can be given back under its number.
    let received = network.received();
    network.confirm(6);
    for ledger in [&ledger, &again] {
        ledger.pay(&payout_rules(), &network, 8).await.unwrap();
        let frozen = batches.iter().find(|batch| batch.state == "frozen").unwrap().id;
        ledger.give_back(frozen, 9).await.unwrap();
    }
    assert_eq!(network.received(), received);
    assert_eq!(check_books(&again).await, check_books(&ledger).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_wallet_has_sent_to_miners_is_booked_once() {
    let output = |address: &str, amount| Output { address: address.into(), amount: Amount::new(amount) };
    let sent = |txid: &str, outputs: &[Output], confirmations| Sent {
        txid: txid.into(),
        outputs: outputs.to_vec(),
        network_fee: Amount::new(NETWORK_FEE),
        time_ms: 5,
        confirmations,
    };
    let (ledger, _dir) = sqlite().await;
    let chain = ToldChain::default();
    (1..3).for_each(|block| chain.bury(block, 100));
    replayed(&ledger, &chain).await;
    let before = check_books(&ledger).await;
    let wallet = vec![
        sent("t1", &[output("a", 100), output("b", 200), output("a", 1)], 6),
        sent("t2", &[output("nobody", 1000)], 6),
        sent("t3", &[output("a", 10), output("nobody", 1000)], 7),
    ];
    assert_eq!(ledger.book_sent(&payout_rules(), wallet.clone()).await.unwrap(), 2);
    assert_eq!(ledger.book_sent(&payout_rules(), wallet).await.unwrap(), 0);
    let after = check_books(&ledger).await;
    let of = |name: &str| {
        let account = Account::Miner(name.into());
        before[&account].units() - after[&account].units()
    };
    assert_eq!((of("a"), of("b"), of("c")), (111, 200, 0));
    assert_eq!(before[&Account::Fees].units() - after[&Account::Fees].units(), 2 * NETWORK_FEE);
    assert_eq!(after[&Account::Paid].units(), 311 + 2 * NETWORK_FEE);
    assert_eq!(ledger.payout_states("ltc").await.unwrap(), BTreeMap::from([("confirmed".into(), 2)]));

    // What may still come to nothing is refused, and nothing is booked with it.
    let waiting = vec![sent("t4", &[output("c", 5)], 6), sent("t5", &[output("d", 5)], 5)];
    let error = ledger.book_sent(&payout_rules(), waiting).await.unwrap_err();
    assert!(
        error.to_string().starts_with("transaction t5 pays miners and has 5 confirmations: expected 6"),
        "{error}"
    );
    assert_eq!(check_books(&ledger).await, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_consumer_follows_the_spool_and_cleans_up_behind_itself() {
    let (ledger, dir) = sqlite().await;
    let ledger = Arc::new(ledger);
    let config = SpoolConfig { segment_bytes: 4096, commit_delay: Duration::ZERO, ..SpoolConfig::new("n") };
    let stop = Arc::new(AtomicBool::new(false));
    let mut done = 0;
    for _ in 0..2 {
        let spool = Arc::new(Spool::open(&dir.path().join("spool"), config.clone()).unwrap());
        stop.store(false, Ordering::SeqCst);
        let consumer = Consumer::new(Arc::clone(&spool), Arc::clone(&ledger), [coin(PPLNS)]);
        let progress = consumer.progress();
        let running = {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move { consumer.run(&stop).await })
        };
        for number in 0..500 {
            spool.append_async(&share(["a", "b"][number % 2], number as u64, 3, None)).await.unwrap();
        }
        done += 500;
        stop.store(true, Ordering::SeqCst);
        running.await.unwrap().unwrap();
        assert_eq!(progress.records.load(Ordering::SeqCst), 500);
        assert_eq!(ledger.position("n").await.unwrap(), Some(spool.next_sequence()));
        assert!(spool.next_sequence() - spool.oldest_sequence() < 100, "segments behind are removed");
    }
    let shares: u64 = ledger.efforts("ltc").await.unwrap().values().map(|(shares, _)| shares).sum();
    assert_eq!(shares, done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_locked_for_long_only_makes_the_spool_grow() {
    let (ledger, dir) = sqlite().await;
    let ledger = Arc::new(ledger);
    let spool = Arc::new(Spool::open(&dir.path().join("spool"), SpoolConfig::new("n")).unwrap());
    let pool = sqlx::AnyPool::connect(&sqlite_url(&dir)).await.unwrap();
    // Longer than the 10 s a connection waits for the lock.
    let outage = pool.begin_with("BEGIN EXCLUSIVE").await.unwrap();
    let consumer = Consumer::new(Arc::clone(&spool), Arc::clone(&ledger), [coin(PPLNS)]);
    let (progress, stop) = (consumer.progress(), Arc::new(AtomicBool::new(false)));
    let running = {
        let stop = Arc::clone(&stop);
        tokio::spawn(async move { consumer.run(&stop).await })
    };
    for number in 0..100 {
        spool.append_async(&share("a", number, 3, None)).await.unwrap();
    }
    while progress.retries.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(progress.records.load(Ordering::SeqCst), 0);
    outage.rollback().await.unwrap();
    while progress.records.load(Ordering::SeqCst) < 100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::SeqCst);
    running.await.unwrap().unwrap();
    assert_eq!(ledger.efforts("ltc").await.unwrap()["a"], (100, Effort(300)));
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_comes_late_and_goes_in_between_gets_every_share_once() {
    let mut server = match postgres::Server::make() {
        Ok(server) => server,
        Err(why) => return println!("SKIPPED a_database_that_comes_late: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let spool = Arc::new(Spool::open(&dir.path().join("spool"), SpoolConfig::new("n")).unwrap());
    let ledger = Arc::new(Ledger::open_even_if_away(&server.usual()).await.unwrap());
    let error = ledger.balances("ltc").await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("No such file"), "{error}");

    let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let consumer =
        Consumer::new(Arc::clone(&spool), Arc::clone(&ledger), [coin(PPLNS)]).telling(move |contact| {
            let _ = said.send(matches!(contact, Contact::Found));
        });
    let (progress, stop) = (consumer.progress(), Arc::new(AtomicBool::new(false)));
    let running = {
        let stop = Arc::clone(&stop);
        tokio::spawn(async move { consumer.run(&stop).await })
    };
    let mut appended = 0;
    for _ in 0..2 {
        assert_eq!(heard.recv().await, Some(false), "an outage is told once");
        for number in 0..100 {
            spool.append_async(&share("a", number, 3, None)).await.unwrap();
        }
        appended += 100;
        server.run().unwrap();
        assert_eq!(heard.recv().await, Some(true));
        while progress.records.load(Ordering::SeqCst) < appended {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server.halt();
        // What makes the consumer look again.
        spool.append_async(&share("b", 0, 3, None)).await.unwrap();
        appended += 1;
    }
    // Told to end while the database is away, it ends at once and says why it is behind.
    assert_eq!(heard.recv().await, Some(false));
    stop.store(true, Ordering::SeqCst);
    let ended = tokio::time::timeout(Duration::from_secs(5), running).await.unwrap().unwrap();
    assert!(matches!(ended, Err(ConsumerError::Ledger(error)) if error.is_retryable()));

    server.run().unwrap();
    let again = Consumer::new(Arc::clone(&spool), Arc::clone(&ledger), [coin(PPLNS)]);
    again.run(&stop).await.unwrap();
    let shares: u64 = ledger.efforts("ltc").await.unwrap().values().map(|(shares, _)| shares).sum();
    assert_eq!((shares, ledger.position("n").await.unwrap()), (202, Some(spool.next_sequence())));
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_without_its_first_shares_rebuilds_nothing() {
    let (ledger, dir) = sqlite().await;
    let spool_dir = dir.path().join("spool");
    let config = SpoolConfig { segment_bytes: 4096, ..SpoolConfig::new("n") };
    let spool = Spool::open(&spool_dir, config).unwrap();
    let first = spool.next_sequence();
    for number in 0..200 {
        spool.append(&share("a", number, 1, None)).unwrap();
    }
    assert!(spool.release(first + 100).unwrap() > 0);
    let lost = spool.oldest_sequence() - first;
    drop(spool);
    let reader = otedama_pool::spool::read_closed(&spool_dir, "n").unwrap();
    let error = ledger.replay(reader, &rules(PPLNS)).await.unwrap_err();
    assert!(lost > 0 && error.to_string().contains(&format!("lacks its first {lost} shares")), "{error}");
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_can_never_work_is_an_error_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let newer = sqlite_url(&dir);
    Ledger::open(&newer).await.unwrap().close().await;
    let pool = sqlx::AnyPool::connect(&newer).await.unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations VALUES (3, 'more', 'now', TRUE, x'00', 1)")
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    let no_folder = format!("sqlite://{}/no/ledger.db", dir.path().display());
    let no_database = dir.path().join("text.db");
    std::fs::write(&no_database, "this is no database, but long enough to be taken for one".repeat(100))
        .unwrap();
    for (url, said) in [
        ("mysql://me:secret@localhost/pool", "begins with 'mysql:': expected sqlite://PATH"),
        ("/srv/ledger.db", "its URL has no scheme"),
        (newer.as_str(), "its tables are at version 3, this program knows versions up to 2"),
        (no_folder.as_str(), "/no/ledger.db: "),
        (&format!("sqlite://{}", no_database.display()), "file is not a database"),
        #[cfg(feature = "postgres")]
        ("postgres://[::1/pool", "invalid"),
    ] {
        let Err(error) = Ledger::open_even_if_away(url).await else { panic!("{url} was opened") };
        let error = error.to_string();
        assert!(error.contains(said) && !error.contains("secret") && !error.contains('\n'), "{url}: {error}");
    }
}

/// What both databases must agree on: tables with their columns, keys and unique indices.
#[cfg(feature = "postgres")]
mod schema {
    use std::collections::{BTreeMap, BTreeSet};

    use sqlx::{AnyPool, AssertSqlSafe, Row};

    #[derive(Debug, Default, PartialEq, Eq)]
    pub(crate) struct Table {
        /// Name, type, whether it must be there; in order.
        columns: Vec<(String, String, bool)>,
        /// Columns of the primary key, every unique and every other index.
        indices: BTreeSet<(String, Vec<String>)>,
        foreign: BTreeSet<String>,
    }

    pub(crate) async fn of_sqlite(url: &str) -> BTreeMap<String, Table> {
        let pool = AnyPool::connect(url).await.unwrap();
        let query = |sql: String| {
            let pool = pool.clone();
            async move { sqlx::query(AssertSqlSafe(sql)).fetch_all(&pool).await.unwrap() }
        };
        let mut tables = BTreeMap::new();
        let names =
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_sqlx%' ESCAPE '\\'";
        for row in query(names.into()).await {
            let name: String = row.get(0);
            let mut table = Table::default();
            let columns = format!(
                "SELECT name, type, CAST(\"notnull\" AS INTEGER), CAST(pk AS INTEGER) FROM pragma_table_info('{name}') ORDER BY cid"
            );
            let mut key: Vec<(i64, String)> = Vec::new();
            for column in query(columns).await {
                let kind: String = column.get(1);
                table.columns.push((column.get(0), kind.to_lowercase(), column.get::<i64, _>(2) == 1));
                key.push((column.get(3), column.get(0)));
            }
            key.retain(|(place, _)| *place > 0);
            key.sort();
            table.indices.insert(("primary".into(), key.into_iter().map(|(_, column)| column).collect()));
            let indices = format!(
                "SELECT name, CAST(\"unique\" AS INTEGER) FROM pragma_index_list('{name}') WHERE origin <> 'pk'"
            );
            for index in query(indices).await {
                let name: String = index.get(0);
                let columns =
                    query(format!("SELECT name FROM pragma_index_info('{name}') ORDER BY seqno")).await;
                let kind = if index.get::<i64, _>(1) == 1 { "unique" } else { "index" };
                table.indices.insert((kind.into(), columns.iter().map(|column| column.get(0)).collect()));
            }
            for key in query(format!("SELECT \"table\" FROM pragma_foreign_key_list('{name}')")).await {
                table.foreign.insert(key.get(0));
            }
            tables.insert(name, table);
        }
        tables
    }

    pub(crate) async fn of_postgres(url: &str) -> BTreeMap<String, Table> {
        let pool = AnyPool::connect(url).await.unwrap();
        let mut tables: BTreeMap<String, Table> = BTreeMap::new();
        let columns = sqlx::query(
            "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT), CAST(data_type AS TEXT), is_nullable = 'NO'
             FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> '_sqlx_migrations'
             ORDER BY table_name, ordinal_position",
        );
        for row in columns.fetch_all(&pool).await.unwrap() {
            let kind = match row.get::<String, _>(2).as_str() {
                "bigint" => "integer".to_owned(),
                other => other.to_owned(),
            };
            tables.entry(row.get(0)).or_default().columns.push((row.get(1), kind, row.get(3)));
        }
        let indices = sqlx::query(
            "SELECT CAST(t.relname AS TEXT), i.indisprimary, i.indisunique,
                 (SELECT string_agg(CAST(a.attname AS TEXT), ',' ORDER BY k.place)
                  FROM unnest(i.indkey) WITH ORDINALITY AS k(number, place)
                  JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number)
             FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
             WHERE n.nspname = 'public' AND t.relname <> '_sqlx_migrations'",
        );
        for row in indices.fetch_all(&pool).await.unwrap() {
            let kind = match (row.get(1), row.get(2)) {
                (true, _) => "primary",
                (false, true) => "unique",
                (false, false) => "index",
            };
            let columns = row.get::<String, _>(3).split(',').map(str::to_owned).collect();
            tables.get_mut(&row.get::<String, _>(0)).unwrap().indices.insert((kind.into(), columns));
        }
        let foreign = sqlx::query(
            "SELECT CAST(t.relname AS TEXT), CAST(f.relname AS TEXT) FROM pg_constraint c
             JOIN pg_class t ON t.oid = c.conrelid JOIN pg_class f ON f.oid = c.confrelid WHERE c.contype = 'f'",
        );
        for row in foreign.fetch_all(&pool).await.unwrap() {
            tables.get_mut(&row.get::<String, _>(0)).unwrap().foreign.insert(row.get(1));
        }
        tables
    }
}
