//! What several tests need: shares, a chain and a wallet that fail on demand, a real PostgreSQL.
#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod postgres;

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::sync::{Arc, Mutex};

use otedama_core::{Algorithm, Hash256};
use otedama_pool::effort::Effort;
use otedama_pool::ledger::{Account, Block, Chain, ChainError, CoinRules, Ledger, Lookup, Scheme};
use otedama_pool::money::{Amount, Ppm};
use otedama_pool::payout::{Broadcast, Output, PayoutRules, Place, Signed, Wallet, WalletError};
use otedama_pool::spool::{ShareRecord, Stored};

pub(crate) const BLOCK_VALUE: i64 = 5_000_000_007;

pub(crate) fn share(miner: &str, time_ms: u64, effort: u128, block: Option<u8>) -> ShareRecord {
    ShareRecord {
        time_ms,
        algorithm: Algorithm::Scrypt,
        height: 100 + u64::from(block.unwrap_or(0)),
        credited: Effort(effort),
        network: Effort(1_000_000),
        subsidy: Amount::new(5_000_000_000),
        block_value: Amount::new(BLOCK_VALUE),
        block: block.map(|number| Hash256::from_raw([number; 32])),
        coin: "ltc".into(),
        miner: miner.into(),
        worker: "rig".into(),
    }
}

pub(crate) fn stored(first: u64, shares: impl IntoIterator<Item = ShareRecord>) -> Vec<Stored> {
    (first..).zip(shares).map(|(sequence, share)| Stored { sequence, share }).collect()
}

pub(crate) fn coin(scheme: Scheme) -> CoinRules {
    CoinRules {
        coin: "ltc".into(),
        scheme,
        fee: Ppm::new(10_000).unwrap(),
        maturity: 100,
        watched: 200,
        slice_ms: 60_000,
    }
}

pub(crate) fn rules(scheme: Scheme) -> HashMap<String, CoinRules> {
    HashMap::from([("ltc".to_owned(), coin(scheme))])
}

pub(crate) const PPLNS: Scheme = Scheme::Pplns { block_thousandths: 2000, max_age_ms: None };

pub(crate) fn payout_rules() -> PayoutRules {
    PayoutRules { coin: "ltc".into(), minimum: Amount::new(10_000), max_outputs: 2, confirmations: 6 }
}

/// A chain that says of every block what it was told to; of others that its height is not reached.
#[derive(Default)]
pub(crate) struct ToldChain(pub(crate) Mutex<HashMap<Hash256, Lookup>>);

impl ToldChain {
    pub(crate) fn tell(&self, block: u8, lookup: Lookup) {
        self.0.lock().unwrap().insert(Hash256::from_raw([block; 32]), lookup);
    }

    pub(crate) fn bury(&self, block: u8, confirmations: u64) {
        self.tell(block, Lookup::OnChain { confirmations, reward: None });
    }
}

impl Chain for ToldChain {
    async fn look_up(&self, block: &Block) -> Result<Lookup, ChainError> {
        Ok(self.0.lock().unwrap().get(&block.hash).copied().unwrap_or(Lookup::NotYet))
    }
}

/// What happens at a call of the wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails and nothing happened.
    Before,
    /// It happened and the answer is an error.
    After,
    /// It happened and no answer ever comes.
    Silence,
}

/// A network and a wallet on it. The wallet protects from nothing: two transactions that pay the same debt
/// are both taken, so that a double payment shows.
#[derive(Clone, Default)]
pub(crate) struct Network(Arc<Mutex<World>>);

#[derive(Default)]
struct World {
    signed: u64,
    /// What a node knows, by id.
    taken: BTreeMap<String, Vec<Output>>,
    /// What a node was offered and refused.
    refused: BTreeMap<String, Vec<Output>>,
    confirmations: u64,
    refuses: Option<String>,
    calls: usize,
    fault: Option<(usize, Fault)>,
}

pub(crate) const NETWORK_FEE: i64 = 321;

impl Network {
    /// The wallet's call of this number, from 0, goes wrong; those after it work.
    pub(crate) fn fail(&self, call: usize, fault: Fault) {
        let mut world = self.0.lock().unwrap();
        (world.calls, world.fault) = (0, Some((call, fault)));
    }

    /// Whether the failure has come.
    pub(crate) fn has_failed(&self) -> bool {
        let world = self.0.lock().unwrap();
        world.fault.is_some_and(|(call, _)| world.calls > call)
    }

    pub(crate) fn refuse(&self, why: Option<&str>) {
        self.0.lock().unwrap().refuses = why.map(str::to_owned);
    }

    /// What was refused reaches the network by other ways.
    pub(crate) fn leak(&self) {
        let mut world = self.0.lock().unwrap();
        let refused = std::mem::take(&mut world.refused);
        world.taken.extend(refused);
    }

    pub(crate) fn confirm(&self, confirmations: u64) {
        self.0.lock().unwrap().confirmations = confirmations;
    }

    pub(crate) fn forget(&self) {
        self.0.lock().unwrap().taken.clear();
    }

    pub(crate) fn transactions(&self) -> usize {
        self.0.lock().unwrap().taken.len()
    }

    /// What everybody has really got.
    pub(crate) fn received(&self) -> BTreeMap<String, i64> {
        let mut received = BTreeMap::new();
        for output in self.0.lock().unwrap().taken.values().flatten() {
            *received.entry(output.address.clone()).or_default() += output.amount.units();
        }
        received
    }

    async fn call<T>(&self, act: impl FnOnce(&mut World) -> T) -> Result<T, WalletError> {
        // Lets a test stop here as well.
        tokio::task::yield_now().await;
        let fault = {
            let mut world = self.0.lock().unwrap();
            world.calls += 1;
            world.fault.filter(|(call, _)| *call == world.calls - 1).map(|(_, fault)| fault)
        };
        if fault == Some(Fault::Before) {
            return Err(WalletError("connection refused".into()));
        }
        let outcome = act(&mut self.0.lock().unwrap());
        match fault {
            Some(Fault::After) => Err(WalletError("connection reset".into())),
            Some(Fault::Silence) => pending().await,
            _ => Ok(outcome),
        }
    }
}

impl Wallet for Network {
    async fn is_address(&self, address: &str) -> Result<bool, WalletError> {
        self.call(|_| !address.contains(' ')).await
    }

    fn pays_alone(&self, address: &str) -> bool {
        address.starts_with('+')
    }

    async fn sign(&self, outputs: &[Output]) -> Result<Signed, WalletError> {
        assert!(outputs.len() == 1 || !outputs.iter().any(|output| self.pays_alone(&output.address)));
        self.call(|world| {
            world.signed += 1;
            let txid = format!("tx{}", world.signed);
            let payments: Vec<String> =
                outputs.iter().map(|output| format!("{}={}", output.address, output.amount)).collect();
            Signed {
                raw: format!("{txid}:{}", payments.join(",")),
                txid,
                network_fee: Amount::new(NETWORK_FEE),
            }
        })
        .await
    }

    async fn broadcast(&self, raw: &str) -> Result<Broadcast, WalletError> {
        self.call(|world| {
            let (txid, outputs) = parse(raw);
            if let Some(why) = &world.refuses {
                world.refused.insert(txid, outputs);
                return Broadcast::Refused(why.clone());
            }
            world.taken.insert(txid, outputs);
            Broadcast::Accepted
        })
        .await
    }

    async fn look_up(&self, txid: &str) -> Result<Place, WalletError> {
        self.call(|world| match (world.taken.contains_key(txid), world.confirmations) {
            (false, _) => Place::Nowhere,
            (true, 0) => Place::Waiting,
            (true, confirmations) => Place::InBlock(confirmations),
        })
        .await
    }
}

/// `txid:address=amount,...`
pub(crate) fn parse(raw: &str) -> (String, Vec<Output>) {
    let (txid, payments) = raw.split_once(':').unwrap();
    let output = |payment: &str| {
        let (address, amount) = payment.split_once('=').unwrap();
        Output { address: address.into(), amount: Amount::new(amount.parse().unwrap()) }
    };
    (txid.into(), payments.split(',').map(output).collect())
}

/// Everything that must always be true of the books: they balance, kept and derived agree, and what was credited
/// is what is owed, under way, paid, the pool's, or the reserve's.
pub(crate) async fn check_books(ledger: &Ledger) -> BTreeMap<Account, Amount> {
    assert_eq!(ledger.check_balances(false).await.unwrap(), []);
    let balances = ledger.balances("ltc").await.unwrap();
    assert_eq!(Amount::sum(balances.values().copied()), Ok(Amount::ZERO), "{balances:?}");
    balances
}

pub(crate) fn owed(balances: &BTreeMap<Account, Amount>) -> BTreeMap<String, i64> {
    let miner = |(account, amount): (&Account, &Amount)| match account {
        Account::Miner(miner) => Some((miner.clone(), amount.units())),
        _ => None,
    };
    balances.iter().filter_map(miner).collect()
}
