//! Blocks for a real Litecoin node: template, coinbase, scrypt, submitblock, maturity, MWEB.

#[allow(dead_code)]
mod common;

use std::sync::Arc;
use std::time::Duration;

use common::litecoin::Litecoin;
use otedama_core::scan::{Candidates, Setup, StopFlag, kernels};
use otedama_core::{Algorithm, Hash256, Job, JobId};
use otedama_pool::coin::{Address, Coin, Network};
use otedama_pool::node::bitcoin::{BitcoinJob, BitcoinNode, CoinbasePlan, Payout, Roll, Template, block_id};
use otedama_pool::node::driver::{Current, DriverConfig, NodeGroup, Source};
use otedama_pool::node::group::GroupConfig;
use otedama_pool::node::{BlockRef, ChainNode, Fate, Submitted};
use serde_json::json;

const EXTRANONCE: [u8; 8] = *b"en1_en2_";

/// A job that pays everything to an address.
fn job(template: &Arc<Template>, address: &str) -> BitcoinJob {
    let coin = Coin::find("litecoin", Network::Regtest).unwrap();
    let Address::Script(script) = coin.address(address).unwrap() else { panic!("{address} is no script") };
    let payouts = [Payout { script, value: template.coinbase_value }];
    let plan = CoinbasePlan { payouts: &payouts, extranonce_len: EXTRANONCE.len(), tag: b"/otedama/" };
    BitcoinJob::new(template.clone(), &plan).unwrap()
}

/// Finds a nonce with the core's scanner, as a miner does; the block, and how to find it again.
fn mine(job: &BitcoinJob) -> (Vec<u8>, BlockRef) {
    let template = job.template();
    let mut roll = Roll { extranonce: &EXTRANONCE, version: template.version, time: template.time, nonce: 0 };
    let header = job.header(&roll).unwrap();
    let work = Job::blob(JobId(1), Algorithm::Scrypt, &header, None, template.target).unwrap();
    let work = Arc::new(work);
    let setup = Setup::detect();
    let kernel = kernels(Algorithm::Scrypt).find(|kernel| kernel.runs_on(&setup.cpu)).unwrap();
    let mut scanner = kernel.scanner(&setup).unwrap();
    let mut found = Candidates::with_capacity(1);
    scanner.load(&work, None).unwrap();
    scanner.scan(&work.space(), &StopFlag::new(), &mut found).unwrap();
    roll.nonce = u32::try_from(found.as_slice()[0].nonce).unwrap();
    let id = block_id(&job.header(&roll).unwrap());
    let block = BlockRef { height: u64::from(template.height), id };
    (job.block(&roll).unwrap(), block)
}

async fn template(node: &BitcoinNode) -> Arc<Template> {
    Arc::new(node.template().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_is_mined_matures_and_pays() {
    let Some((first, second)) = Litecoin::pair().await else { return };
    let node = first.node();
    // Past the heights that scripts push with opcodes of their own, and some on either side.
    for _ in 0..17 {
        let template = template(&node).await;
        let job = job(&template, &first.address("bech32").await);
        let (block, _) = mine(&job);
        assert_eq!(node.submit(&block).await, Submitted::Accepted, "height {}", template.height);
    }

    let before = node.tip().await.unwrap();
    let template = template(&node).await;
    assert_eq!(BitcoinNode::parent(&template), (before.height, before.hash));
    let addresses =
        [first.address("bech32").await, first.address("legacy").await, first.address("p2sh-segwit").await];
    for address in &addresses {
        let job = job(&template, address);
        assert_eq!(node.propose(&mine(&job).0).await.unwrap(), None, "{address}");
    }
    let job = job(&template, &addresses[1]);
    let (block, reference) = mine(&job);
    assert_eq!(node.fate(&reference).await.unwrap(), Fate::NotFound);

    // One that does not meet the target, one that is damaged, one that is no block.
    let mut damaged = block.clone();
    damaged[40] ^= 1;
    let verdict = node.submit(&damaged).await;
    assert!(
        matches!(&verdict, Submitted::Rejected(why) if why == "high-hash" || why == "bad-txnmrklroot"),
        "{verdict}"
    );
    assert!(matches!(node.submit(&block[..100].to_vec()).await, Submitted::Rejected(_)));

    assert_eq!(node.submit(&block).await, Submitted::Accepted);
    let after = node.tip().await.unwrap();
    assert_eq!((after.height, after.hash), (before.height + 1, reference.id));
    assert_eq!(node.fate(&reference).await.unwrap(), Fate::InChain { confirmations: 1 });
    // Handing it in again, here or at its peer, is no failure.
    assert_eq!(node.submit(&block).await, Submitted::Accepted);
    assert!(matches!(second.node().submit(&block).await, Submitted::Accepted));

    // The wallet knows the output, and may spend it when 100 blocks are on it.
    let spendable = || async {
        let found = first.call("listunspent", json!([1, 9999, [addresses[1]]])).await;
        found.as_array().unwrap().len()
    };
    first.generate(99).await;
    assert_eq!(spendable().await, 0);
    first.generate(1).await;
    assert_eq!(spendable().await, 1);
    assert_eq!(node.fate(&reference).await.unwrap(), Fate::InChain { confirmations: 101 });

    // The chain takes another way: the block is an orphan, and may come back.
    let id = json!([reference.id.to_display_hex()]);
    first.call("invalidateblock", id.clone()).await;
    assert_eq!(node.fate(&reference).await.unwrap(), Fate::Orphaned);
    first.call("reconsiderblock", id).await;
    assert_eq!(node.fate(&reference).await.unwrap(), Fate::InChain { confirmations: 101 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_with_transactions_and_an_extension_block_is_accepted() {
    let Some((first, _second)) = Litecoin::pair().await else { return };
    let node = first.node();
    // MWEB begins at height 432, with the first payment into it.
    first.generate(430).await;
    let inside = first.address("mweb").await;
    for _ in 0..3 {
        first.call("sendtoaddress", json!([inside, 1])).await;
    }
    for round in 0..2 {
        let template = template(&node).await;
        assert!(template.mweb.is_some() && !template.transactions.is_empty(), "round {round}");
        assert!(template.witness_commitment.is_some());
        let job = job(&template, &first.address("bech32").await);
        let (block, reference) = mine(&job);
        // Without its extension block the node refuses it.
        let extension = template.mweb.as_ref().unwrap().len() + 1;
        let verdict = node.submit(&block[..block.len() - extension].to_vec()).await;
        assert!(matches!(verdict, Submitted::Rejected(_)), "{verdict}");
        assert_eq!(node.submit(&block).await, Submitted::Accepted);
        assert_eq!(node.tip().await.unwrap().hash, reference.id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_ends_with_the_next_block() {
    let Some((first, _second)) = Litecoin::pair().await else { return };
    let node = first.node();
    let old = node.template().await.unwrap();
    let (next, ()) = tokio::join!(node.next_template(&old), first.generate(1));
    let next = next.unwrap();
    assert_eq!(next.height, old.height + 1);
    assert_ne!(next.previous, old.previous);
    assert_ne!(next.previous, Hash256::from_raw([0; 32]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_nodes_outlives_its_first() {
    let Some((first, second)) = Litecoin::pair().await else { return };
    // The first takes over soon if the second was heard of first.
    let group = GroupConfig { return_after: Duration::from_millis(300), ..GroupConfig::default() };
    let quick = DriverConfig { group, poll: Duration::from_millis(100), ..DriverConfig::default() };
    let sources = [&first, &second].map(|one| Source { node: one.node(), zmq: None });
    let group = NodeGroup::start(sources.into(), quick);
    let mut templates = group.templates();
    templates.wait_for(|current| current.as_ref().is_some_and(|current| current.node == 0)).await.unwrap();

    // A block that goes to both.
    let template = templates.borrow().as_ref().unwrap().template.clone();
    let (block, reference) = mine(&job(&Arc::new(template), &first.address("bech32").await));
    let submission = group.submit(block).await;
    assert_eq!(submission.outcome, Submitted::Accepted);
    for (label, verdict, took) in &submission.each {
        assert_eq!(*verdict, Submitted::Accepted, "{label} after {took:?}");
    }
    assert_eq!(group.fate(&reference).await, Ok(Fate::InChain { confirmations: 1 }));
    let stands = |current: &Option<Arc<Current<Template>>>| {
        current.as_ref().is_some_and(|current| current.template.previous == reference.id)
    };
    templates.wait_for(stands).await.unwrap();

    drop(first);
    // The second has lost its only peer: nobody is left that knows what goes on in the network.
    templates.wait_for(Option::is_none).await.unwrap();
    // It may have been out for want of templates before it was down.
    let mut health = Vec::new();
    for _ in 0..100 {
        health = group.status().into_iter().map(|status| status.health.to_string()).collect();
        if health[0].starts_with("down") && health[1] == "without enough peers" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{health:?}");
}
