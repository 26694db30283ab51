//! `serve --config`: a pool on real nodes, with accounts.
//!
//! One process has one spool and one ledger; each coin has nodes, verify threads, a front and a keeper of its own.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use otedama_core::{Algorithm, Difficulty, Target};
use otedama_pool::accounts::{self, Accounts, Keeper, PayoutPlan};
use otedama_pool::coin::{Address, Coin, Kind, MoneroAddress, Network};
use otedama_pool::config::values::without_password;
use otedama_pool::config::{self, Config};
use otedama_pool::ledger::{self, CoinRules, Consumer, Ledger, Scheme};
use otedama_pool::money::Amount;
use otedama_pool::node::ChainNode;
use otedama_pool::node::bitcoin::BitcoinNode;
use otedama_pool::node::driver::{DriverConfig, NodeGroup, Source};
use otedama_pool::node::ethereum::EthereumNode;
use otedama_pool::node::group::GroupConfig;
use otedama_pool::node::monero::MoneroNode;
use otedama_pool::node::rpc::{Auth, Rpc, RpcConfig};
use otedama_pool::payout::Wallet;
use otedama_pool::rewards::pps;
use otedama_pool::server::trade::{self, MONERO_RESERVE, Terms, Trade, usual_difficulty};
use otedama_pool::server::{Front, FrontConfig, FrontStats};
use otedama_pool::session::{Limits, VardiffConfig};
use otedama_pool::spool::{Spool, SpoolConfig};
use otedama_pool::wallet::{BitcoinWallet, MoneroWallet};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{TAG, bind, end, judge, tell, until_interrupted};
use crate::args::ServeArgs;
use crate::cmd::config::load;
use crate::failure::{Failure, Outcome, usage, work};
use crate::machine::Machine;
use crate::show;

/// The node's name in its spool: one process is one node.
pub(in crate::cmd) const NODE: &str = "pool";

/// How long it may take at the end until the ledger has what the spool has. What is left is read at the next start.
const LAST_LOOK: Duration = Duration::from_secs(10);

/// The chance of ruin that the reserve is reckoned for.
const RUIN_CHANCE: f64 = 0.001;

/// A coin that is served: what it does, and how it is doing.
struct Served {
    name: String,
    front: Pin<Box<dyn Future<Output = io::Result<()>> + Send>>,
    errands: Pin<Box<dyn Future<Output = ()> + Send>>,
    stats: Box<dyn Fn() -> FrontStats>,
}

/// What all coins share.
struct Pool<'a> {
    args: &'a ServeArgs,
    machine: &'a Machine,
    config: &'a Config,
    runtime: &'a Runtime,
    spool: Arc<Spool>,
    ledger: Arc<Ledger>,
}

pub(super) fn run(args: &ServeArgs, machine: &Machine, file: &Path) -> Outcome {
    let config = load(file, &args.set)?;
    let json = args.json;
    if !config.pool.enable || !config.stratum.enable {
        return Err(usage(format!("{}: pool.enable or stratum.enable is false", file.display())));
    }
    if config.coins.is_empty() {
        return Err(usage(format!("{}: no coins: name at least one, with its nodes", file.display())));
    }
    if config.coins.len() > 1 && args.listen.is_some() {
        return Err(usage(
            "--listen is for one coin: give each its own address as `listen` in the configuration",
        ));
    }
    let coins = known_coins(&config, file)?;
    let runtime = Runtime::new()?;
    let _inside = runtime.enter();

    let folder = &config.app.data_dir;
    let spool = Spool::open(&folder.join("spool"), SpoolConfig::new(NODE)).map_err(work)?;
    let opened = spool.opened();
    if let Some(torn) = &opened.torn_file {
        let text = format!(
            "the last run was cut short: {} bytes of a share that nobody was told of were cut off {}",
            opened.torn_bytes,
            torn.display()
        );
        show::say(json, &text, json!({ "event": "recovered", "torn_bytes": opened.torn_bytes }))?;
    }
    let ledger = runtime.block_on(Ledger::open_even_if_away(&ledger_url(&config)?)).map_err(work)?;
    let ledger = Arc::new(ledger);
    let spool = Arc::new(spool);
    let pool = Pool { args, machine, config: &config, runtime: &runtime, spool, ledger };

    let rules: Vec<_> =
        coins.iter().zip(&config.coins).map(|(coin, wanted)| rules(&config, coin, wanted)).collect();
    let consumer = Consumer::new(Arc::clone(&pool.spool), Arc::clone(&pool.ledger), rules)
        .telling(move |contact| tell::contact(json, &contact));
    let consumer = if config.pool.keep_spool { consumer.keeping_segments() } else { consumer };
    let stop = Arc::new(AtomicBool::new(false));
    let (ended, consumer_ended) = oneshot::channel();
    let consuming = runtime.spawn({
        let stop = Arc::clone(&stop);
        async move {
            let outcome = consumer.run(&stop).await;
            // Nobody listens once the pool is being ended.
            let _ = ended.send(outcome.as_ref().err().map(ToString::to_string));
            outcome.is_ok()
        }
    });

    let mut fronts = JoinSet::new();
    let mut errands = JoinSet::new();
    let mut stats = Vec::new();
    for (coin, wanted) in coins.iter().zip(&config.coins) {
        let served = pool.serve(coin, wanted, stats.is_empty())?;
        fronts.spawn(served.front);
        errands.spawn(served.errands);
        stats.push((served.name, served.stats));
    }
    let outcome = until_interrupted(&runtime, async move {
        // Neither ends by itself as long as all is well.
        tokio::select! {
            Some(ended) = fronts.join_next() => ended.map_err(io::Error::other)?,
            why = consumer_ended => {
                let why = why.ok().flatten().unwrap_or_else(|| "the consumer ended".to_owned());
                Err(io::Error::other(format!("shares no longer reach the ledger: {why}")))
            }
        }
    });
    // Payouts end between two steps; what is in the spool still goes into the ledger.
    drop(errands);
    stop.store(true, Ordering::SeqCst);
    let last = runtime.block_on(async { tokio::time::timeout(LAST_LOOK, consuming).await });
    if !matches!(last, Ok(Ok(true))) {
        show::say(
            json,
            "the ledger has not taken all shares; they are in the spool and are taken at the next start",
            json!({ "event": "behind" }),
        )?;
    }
    for (name, stats) in &stats {
        end(json, Some(name), &stats())?;
    }
    runtime.block_on(pool.ledger.close());
    outcome
}

impl Pool<'_> {
    fn serve(&self, coin: &'static Coin, wanted: &config::Coin, first: bool) -> Result<Served, Failure> {
        let address = coin.address(&wanted.address).map_err(usage)?;
        let terms = |payout| self.terms(coin.algorithm, payout);
        match (&coin.kind, address) {
            (Kind::Bitcoin(_), Address::Script(script)) => {
                let sources = sources(wanted, |rpc| BitcoinNode::new(rpc, coin))?;
                let wallet = wallet(wanted)?.map(|rpc| BitcoinWallet::new(rpc, coin));
                let terms = terms(script)?;
                match coin.algorithm {
                    Algorithm::KawPow => {
                        self.start(coin, wanted, first, trade::KawPow::new(terms), sources, wallet)
                    }
                    _ => self.start(coin, wanted, first, trade::Bitcoin::new(terms), sources, wallet),
                }
            }
            (Kind::Monero { .. }, Address::Monero(MoneroAddress::Standard)) => {
                let node = |rpc| MoneroNode::new(rpc, wanted.address.clone(), MONERO_RESERVE);
                let sources = sources(wanted, node)?;
                let wallet = wallet(wanted)?.map(|rpc| MoneroWallet::new(rpc, coin));
                self.start(coin, wanted, first, trade::Monero::new(terms(Vec::new())?), sources, wallet)
            }
            (Kind::Monero { .. }, _) => Err(usage(format!(
                "{coin}: blocks can only pay a standard address, not '{}'",
                wanted.address
            ))),
            (Kind::Ethereum(chain), _) => {
                let sources = sources(wanted, |rpc| EthereumNode::new(rpc, chain))?;
                let trade = trade::Ethereum::new(terms(Vec::new())?);
                self.start(coin, wanted, first, trade, sources, None::<BitcoinWallet>)
            }
            (Kind::Bitcoin(_), _) => Err(usage(format!("{coin}: '{}' has no script", wanted.address))),
        }
    }

    fn start<T, W>(
        &self,
        coin: &'static Coin,
        wanted: &config::Coin,
        first: bool,
        trade: T,
        sources: Vec<Source<T::Node>>,
        wallet: Option<W>,
    ) -> Result<Served, Failure>
    where
        T: Trade,
        W: Wallet + 'static,
    {
        let (json, name) = (self.args.json, accounts::ledger_name(coin));
        let usual = || first.then(|| self.config.stratum_address());
        // The configuration was checked: every coin has one.
        let listen = self.args.listen.or(wanted.listen).or_else(usual);
        let listen = listen.ok_or_else(|| usage(format!("{coin} has no listen")))?;
        let listener = bind(self.runtime, listen, "--listen, stratum.address or the coin's `listen`")?;
        let listening = listener.local_addr()?;
        let mut listeners = vec![(listener, None)];
        // Ports with a difficulty of their own are the first coin's: difficulties of algorithms cannot be compared.
        for port in self.config.stratum.ports.iter().filter(|_| first) {
            let difficulty = Difficulty::new(port.difficulty as f64).map_err(usage)?;
            listeners.push((bind(self.runtime, port.address, "stratum.ports")?, Some(difficulty)));
        }

        let group = group_config(coin);
        let group = Arc::new(NodeGroup::start(sources, DriverConfig { group, ..DriverConfig::default() }));
        let payouts = match wallet {
            None => None,
            Some(wallet) => Some(PayoutPlan {
                rules: accounts::payout_rules(coin, &wanted.payout).map_err(usage)?,
                wallet,
                every: wanted.payout.every.0,
            }),
        };
        let heard = news(json, name.clone(), &group);
        let keeper = Keeper {
            ledger: Arc::clone(&self.ledger),
            rules: rules(self.config, coin, wanted),
            group: Arc::clone(&group),
            payouts,
        };
        let judge = judge(coin.algorithm, self.machine, self.config.coins.len())?;
        let log = Accounts::new(coin, Arc::clone(&self.spool), Arc::clone(&self.ledger));
        let front_config = FrontConfig::from_config(self.config).map_err(usage)?;
        let label = name.clone();
        let front = Arc::new(Front::new(trade, group, judge, log, front_config, move |happening| {
            tell::happening(json, Some(&label), &happening);
        }));
        show::say(
            json,
            &format!("{name}: a pool for {coin} at stratum+tcp://{listening}"),
            json!({
                "event": "listening", "coin": name, "algorithm": coin.algorithm.name(),
                "address": listening.to_string(),
            }),
        )?;
        self.say_reserve(coin, wanted)?;
        let (serving, watched, label) = (Arc::clone(&front), front, name.clone());
        let keeping = keeper.run(move |kept| tell::kept(json, &label, &kept));
        Ok(Served {
            name,
            front: Box::pin(async move { serving.serve_all(listeners).await }),
            // Neither ends by itself.
            errands: Box::pin(async move { tokio::join!(keeping, heard).0 }),
            stats: Box::new(move || watched.stats()),
        })
    }

    /// Who pays per share carries the luck: what should be set aside for it.
    fn say_reserve(&self, coin: &Coin, wanted: &config::Coin) -> Outcome {
        let rules = rules(self.config, coin, wanted);
        if !matches!(rules.scheme, Scheme::Pps | Scheme::Fpps) {
            return Ok(());
        }
        const BLOCK: i64 = 1_000_000;
        let reserve = pps::reserve(Amount::new(BLOCK), rules.fee, RUIN_CHANCE);
        let blocks = reserve.map(|reserve| reserve.units() / BLOCK + 1);
        let text = match blocks {
            Some(blocks) => format!(
                "{coin}: paying per share, set aside the rewards of {blocks} blocks, or luck ruins the pool with a chance of \
                 more than 1 in 1000"
            ),
            None => format!("{coin}: paying per share without a fee, luck ruins the pool sooner or later"),
        };
        show::say(self.args.json, &text, json!({ "event": "reserve", "coin": rules.coin, "blocks": blocks }))
    }

    fn terms(&self, algorithm: Algorithm, payout: Vec<u8>) -> Result<Terms, Failure> {
        let wanted = &self.config.stratum.difficulty;
        let given = |difficulty: Option<u64>| {
            difficulty.map(|difficulty| Difficulty::new(difficulty as f64).map_err(usage)).transpose()
        };
        let start = match self.args.difficulty {
            Some(difficulty) => difficulty,
            None => given(wanted.start)?.unwrap_or_else(|| usual_difficulty(algorithm)),
        };
        let least = given(wanted.minimum)?.unwrap_or_else(|| Target::MAX.to_difficulty(algorithm));
        let most = given(wanted.maximum)?.unwrap_or(Difficulty::new(1e15).map_err(usage)?);
        let vardiff = VardiffConfig {
            share_interval: wanted.interval.0,
            powers_of_two: wanted.power_of_two,
            ..VardiffConfig::new(start, least, most)
        };
        Ok(Terms { algorithm, limits: Limits::default(), vardiff, tag: TAG.to_vec(), payout })
    }
}

/// How a coin's rewards are divided.
pub(in crate::cmd) fn rules(config: &Config, coin: &Coin, wanted: &config::Coin) -> CoinRules {
    let rewards = wanted.rewards.as_ref().unwrap_or(&config.pool.rewards);
    accounts::rules(coin, rewards, wanted.fee_percentage.unwrap_or(config.pool.fee_percentage))
}

/// Tells what becomes of a coin's nodes, as long as there are any.
fn news<N: ChainNode>(json: bool, coin: String, group: &NodeGroup<N>) -> impl Future<Output = ()> + use<N> {
    let mut changes = group.changes();
    let nodes: Vec<_> = group.status().into_iter().map(|status| status.label).collect();
    async move {
        loop {
            match changes.recv().await {
                Ok(change) => tell::change(json, &coin, &nodes, &change),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }
}

/// The coins of a configuration, in its order; refused are those that cannot be served as they are asked for.
pub(in crate::cmd) fn known_coins(config: &Config, file: &Path) -> Result<Vec<&'static Coin>, Failure> {
    let servable = |wanted: &config::Coin| {
        let coin = known(wanted)?;
        match (&coin.kind, &wanted.wallet) {
            (Kind::Ethereum(_), Some(at)) => Err(usage(format!(
                "{}: {coin}: no wallet of Ethereum's family is spoken to yet: remove `wallet` ({}); balances grow, and \
                 `ledger show` has them",
                file.display(),
                without_password(&at.url)
            ))),
            _ => Ok(coin),
        }
    };
    config.coins.iter().map(servable).collect()
}

/// The coin a configuration means.
pub(in crate::cmd) fn known(wanted: &config::Coin) -> Result<&'static Coin, Failure> {
    let network = match wanted.network {
        config::Network::Main => Network::Main,
        config::Network::Test => Network::Test,
        config::Network::Regtest => Network::Regtest,
    };
    Coin::find(&wanted.coin, network).map_err(usage)
}

/// How patient a coin's nodes are watched.
pub(in crate::cmd) fn group_config(coin: &Coin) -> GroupConfig {
    // A private chain has no strangers.
    GroupConfig { min_peers: u32::from(coin.network != Network::Regtest), ..GroupConfig::default() }
}

/// The ledger's URL; without one, SQLite in the folder for data.
pub(in crate::cmd) fn ledger_url(config: &Config) -> Result<String, Failure> {
    match &config.pool.ledger {
        Some(url) => url.reveal().map_err(usage),
        None => Ok(ledger::sqlite_url(&config.app.data_dir.join("ledger.db"))),
    }
}

pub(in crate::cmd) fn sources<N: ChainNode>(
    wanted: &config::Coin,
    node: impl Fn(Rpc) -> N,
) -> Result<Vec<Source<N>>, Failure> {
    let source = |at: &config::Node| {
        let rpc = rpc(&at.url, at.user.as_deref(), at.password.as_ref(), at.cookie.as_deref())?;
        Ok(Source { node: node(rpc), zmq: at.zmq.clone() })
    };
    wanted.nodes.iter().map(source).collect()
}

/// A coin's wallet, if it has one.
pub(in crate::cmd) fn wallet(wanted: &config::Coin) -> Result<Option<Rpc>, Failure> {
    let Some(at) = &wanted.wallet else { return Ok(None) };
    rpc(&at.url, at.user.as_deref(), at.password.as_ref(), at.cookie.as_deref()).map(Some)
}

fn rpc(
    url: &str,
    user: Option<&str>,
    password: Option<&config::values::Secret>,
    cookie: Option<&Path>,
) -> Result<Rpc, Failure> {
    let auth = match (user, password, cookie) {
        (None, None, None) => Auth::None,
        (None, None, Some(path)) => Auth::Cookie(path.to_owned()),
        (Some(user), Some(password), None) => {
            Auth::Basic { user: user.to_owned(), password: password.reveal().map_err(usage)? }
        }
        _ => {
            let url = without_password(url);
            return Err(usage(format!("{url}: expected user and password, or cookie, or none of them")));
        }
    };
    Rpc::new(RpcConfig::new(url, auth)).map_err(usage)
}
