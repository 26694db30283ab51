//! Blocks for a real Monero node: template, reserved bytes, RandomX in light mode, submit_block.

#[allow(dead_code)]
mod common;

use std::sync::Arc;
use std::time::Duration;

use common::monero::Monero;
use otedama_core::builders::{self, ItemsBy};
use otedama_core::epoch::{Depth, EpochStore, Progress, StoreConfig};
use otedama_core::scan::{Setup, kernels};
use otedama_core::topology::Topology;
use otedama_core::verify::Claim;
use otedama_core::{Algorithm, Candidate, Job, JobId, Verifier};
use otedama_pool::node::driver::{DriverConfig, NodeGroup, Source};
use otedama_pool::node::monero::{MoneroJob, MoneroNode};
use otedama_pool::node::{BlockRef, ChainNode, Fate, Submitted};

/// The donation address of Monero's README.
const WALLET: &str =
    "44AFFq5kSiGBoZ4NMDwYtN18obc8AemS33DBLWs3H7otXft3XjrpDtQGv7SqSsaBYBb98uNbr2VBBEt7f2wfn3RVGQBEP3A";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_are_mined_through_randomx() {
    let Some(monero) = Monero::start(3) else { return };
    let node = monero.node(WALLET);
    let setup = Setup::detect();
    let algorithm = Algorithm::RandomXV1;
    let store = EpochStore::new(StoreConfig::for_machine(&Topology::detect(), 1 << 30));
    let builder = builders::builder(algorithm, &setup.cpu, ItemsBy::default()).unwrap();
    let kernel = kernels(algorithm).find(|kernel| kernel.obstacle(&setup).is_none()).unwrap();
    let mut worker = Verifier::new(kernel, setup).worker().unwrap();

    for round in 0..4u32 {
        let before = node.tip().await.unwrap();
        assert!(!before.syncing);
        let template = Arc::new(node.template().await.unwrap());
        assert_eq!(MoneroNode::parent(&template), (before.height, before.hash));
        let (epoch, next) = template.epochs(algorithm);
        assert_eq!(next, None);
        let epoch = store.get(&builder, &epoch, Depth::Light, &Progress::new()).unwrap();
        let job = MoneroJob::new(template.clone(), &round.to_be_bytes()).unwrap();
        let work = Job::blob(JobId(1), algorithm, job.hashing_blob(), None, template.target()).unwrap();

        let (mut found, mut too_easy) = (None, None);
        for nonce in 0..1000 {
            let candidate = Candidate { nonce, version: None };
            let claim = Claim { job: &work, candidate, mix: None, pow: None };
            match worker.check(&claim, Some(&epoch)) {
                Ok(_) if found.is_none() => found = Some(nonce as u32),
                Err(_) if too_easy.is_none() => too_easy = Some(nonce as u32),
                _ => {}
            }
            if found.is_some() && too_easy.is_some() {
                break;
            }
        }
        // The node agrees with us on what meets the target and what does not.
        let verdict = node.submit(&job.block(too_easy.unwrap())).await;
        assert!(matches!(verdict, Submitted::Rejected(_)), "{verdict}");
        let block = job.block(found.unwrap());
        let reference = BlockRef { height: template.facts().height, id: block.1 };
        assert_eq!(node.fate(&reference).await.unwrap(), Fate::NotFound);
        assert_eq!(node.submit(&block).await, Submitted::Accepted);
        let after = node.tip().await.unwrap();
        assert_eq!((after.height, after.hash), (before.height + 1, reference.id));
        assert_eq!(node.fate(&reference).await.unwrap(), Fate::InChain { confirmations: 1 });
        // Handing it in again is no failure.
        assert_eq!(node.submit(&block).await, Submitted::Accepted);
        assert!(matches!(node.submit(&(vec![0; 50], block.1)).await, Submitted::Rejected(_)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_comes_by_zmq() {
    let Some(monero) = Monero::start(1) else { return };
    let (node, zmq) = (monero.node(WALLET), monero.zmq.clone());
    // Nothing is asked by the clock: whatever is learnt after the start comes by ZMQ.
    let never = Duration::from_secs(3600);
    let slow = DriverConfig { poll: never, refresh: never, ..DriverConfig::default() };
    let group = NodeGroup::start(vec![Source { node: node.clone(), zmq: Some(zmq) }], slow);
    let mut templates = group.templates();
    let height = templates.wait_for(Option::is_some).await.unwrap().as_ref().unwrap().template.facts().height;
    for _ in 0..100 {
        // A subscriber misses what is published before it is connected.
        monero.generate(1, WALLET).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let next = templates.borrow().as_ref().map_or(0, |current| current.template.facts().height);
        if next > height {
            return;
        }
    }
    panic!("no news by ZMQ");
}
