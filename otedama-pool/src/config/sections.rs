//! The sections of a configuration and their defaults.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::values::{AlgorithmName, Celsius, Coins, Intensity, Percent, Secret, Span};

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)+
        }

        impl Default for $name {
            fn default() -> $name {
                $name { $($field: $default),+ }
            }
        }
    };
}

section! {
    /// All of it.
    Config {
        /// What this installation is called, and where it keeps its files.
        app: App = App::default(),
        /// What `mine` does.
        mining: Mining = Mining::default(),
        /// What `serve` does with shares.
        pool: Pool = Pool::default(),
        /// The currencies `serve` mines, each with its nodes.
        coins: Vec<Coin> = Vec::new(),
        /// How miners are served.
        stratum: Stratum = Stratum::default(),
        /// Certificates.
        security: Security = Security::default(),
        /// The HTTP interface.
        api: Api = Api::default(),
        /// Metrics and health for other programs.
        monitoring: Monitoring = Monitoring::default(),
    }
}

section! {
    /// What this installation is called, and where it keeps its files.
    App {
        /// Shown to miners and in reports.
        name: String = "Otedama".to_owned(),
        /// Whether mistakes cost money.
        mode: Mode = Mode::Production,
        /// Where ledger and spool lie.
        data_dir: PathBuf = PathBuf::from("otedama-data"),
    }
}

/// Whether mistakes cost money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Checks are strict.
    Production,
    /// On loopback, by oneself.
    Development,
}

section! {
    /// What `mine` does.
    Mining {
        /// What is mined.
        algorithm: Option<AlgorithmName> = None,
        /// Whether the CPU works.
        enable_cpu: bool = true,
        /// Whether GPUs work.
        enable_gpu: bool = true,
        /// Whether ASICs are looked after.
        enable_asic: bool = true,
        /// The CPU.
        cpu: MiningCpu = MiningCpu::default(),
        /// The GPUs.
        gpu: MiningGpu = MiningGpu::default(),
        /// The ASICs.
        asic: MiningAsic = MiningAsic::default(),
        /// The pools worked for, in order of preference.
        pools: Vec<Upstream> = Vec::new(),
        /// Older spelling of `enable_gpu`.
        gpu_enabled: Option<bool> = None,
        /// Older spelling of `gpu.devices`.
        gpu_devices: Option<Vec<u32>> = None,
        /// Older spelling of `gpu.intensity`.
        intensity: Option<Intensity> = None,
    }
}

section! {
    /// The CPU as a miner.
    MiningCpu {
        /// Threads; 0 for one per core.
        threads: u16 = 0,
        /// How they stand beside other programs.
        priority: Priority = Priority::Normal,
        /// The CPUs they are pinned to; none for a choice from the topology.
        affinity: Vec<u32> = Vec::new(),
    }
}

/// How mining threads stand beside other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Only when nothing else wants the CPU.
    Idle,
    /// Behind other programs.
    Low,
    /// As any program.
    Normal,
    /// Before other programs (needs the right to).
    High,
}

section! {
    /// GPUs as miners.
    MiningGpu {
        /// Numbers or ids (`cuda:0`, `opencl:0.1`); none for all there are.
        devices: Vec<DeviceName> = Vec::new(),
        /// How hard they work; none for a choice by measurement.
        intensity: Option<Intensity> = None,
        /// Where one pauses; it resumes 5 degrees below.
        temperature_limit: Celsius = Celsius(85),
    }
}

/// A GPU by its number in the list of `devices`, or by its id.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum DeviceName {
    /// Its number.
    Number(u32),
    /// Its id.
    Id(String),
}

section! {
    /// ASICs looked after.
    MiningAsic {
        /// Their addresses; none for what is found.
        devices: Vec<String> = Vec::new(),
        /// How often they are asked how they are.
        poll_interval: Span = Span(Duration::from_secs(5)),
    }
}

/// A pool to work for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// `stratum+tcp://host:port` or `stratum+ssl://host:port`.
    pub url: String,
    /// The user: wallet and worker, as the pool wants it.
    pub user: String,
    /// The password, if the pool wants one.
    #[serde(default)]
    pub pass: Option<Secret>,
}

section! {
    /// What `serve` does with shares.
    Pool {
        /// Whether there is a pool.
        enable: bool = true,
        /// Where miners connect; `stratum.address` says the same.
        address: Option<SocketAddr> = None,
        /// The most connections at a time.
        max_connections: u32 = 10_000,
        /// What the pool keeps of each reward.
        fee_percentage: Percent = ONE_PERCENT,
        /// How rewards are divided.
        rewards: Rewards = Rewards::default(),
        /// Pools to work for when there is no other work.
        backup_pools: Vec<Upstream> = Vec::new(),
        /// Where balances are kept: `sqlite:PATH` or `postgres://...`; none for SQLite in `app.data_dir`.
        ledger: Option<Secret> = None,
        /// Whether shares stay in the spool after the ledger has them, so that it can be rebuilt: 150 bytes a share.
        keep_spool: bool = true,
    }
}

const ONE_PERCENT: Percent = match Percent::from_millionths(10_000) {
    Some(percent) => percent,
    None => unreachable!(),
};

/// 50 %.
pub(crate) const HALF: Percent = match Percent::from_millionths(500_000) {
    Some(percent) => percent,
    None => unreachable!(),
};

section! {
    /// How rewards are divided.
    Rewards {
        /// The scheme.
        system: RewardSystem = RewardSystem::Pplns,
        /// How far PPLNS looks back.
        window: Span = Span(Duration::from_secs(2 * 3600)),
    }
}

/// How rewards are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RewardSystem {
    /// By the last shares before a block.
    Pplns,
    /// A fixed price a share, from the block's subsidy.
    Pps,
    /// A fixed price a share, fees included.
    Fpps,
    /// By the shares since the last block.
    Prop,
    /// All to whoever found the block.
    Solo,
}

/// A currency and its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coin {
    /// The coin: `bitcoin`, `litecoin`, `monero`...
    pub coin: String,
    /// Its network.
    #[serde(default)]
    pub network: Network,
    /// The pool's own address, which blocks pay.
    pub address: String,
    /// Its nodes, in order of preference.
    pub nodes: Vec<Node>,
    /// What the pool keeps, where this coin differs.
    #[serde(default)]
    pub fee_percentage: Option<Percent>,
    /// How rewards are divided, where this coin differs.
    #[serde(default)]
    pub rewards: Option<Rewards>,
    /// Where this coin's miners connect; the first coin's may use `stratum.address`.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// The wallet that pays miners; without one, balances only grow.
    #[serde(default)]
    pub wallet: Option<WalletAt>,
    /// How miners are paid.
    #[serde(default)]
    pub payout: Payout,
}

/// A wallet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalletAt {
    /// Its RPC interface: `http://127.0.0.1:9332/wallet/pool`, `http://127.0.0.1:18083/json_rpc`.
    pub url: String,
    /// User of the RPC interface.
    #[serde(default)]
    pub user: Option<String>,
    /// Password of the RPC interface.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The cookie file, instead of the two.
    #[serde(default)]
    pub cookie: Option<PathBuf>,
}

section! {
    /// How miners are paid.
    Payout {
        /// Who is owed less is not paid yet, in coins; none for a hundredth of one.
        minimum: Option<Coins> = None,
        /// How often payouts are begun.
        every: Span = Span(Duration::from_secs(3600)),
        /// After how many confirmations one is done.
        confirmations: u32 = 6,
    }
}

/// Which of a coin's networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Where coins are worth something.
    #[default]
    Main,
    /// Where they are not.
    Test,
    /// One's own.
    Regtest,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its RPC interface: `http://127.0.0.1:9332`.
    pub url: String,
    /// User of the RPC interface.
    #[serde(default)]
    pub user: Option<String>,
    /// Password of the RPC interface.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The cookie file, instead of the two.
    #[serde(default)]
    pub cookie: Option<PathBuf>,
    /// Where it announces blocks by ZMQ: `tcp://127.0.0.1:28332`.
    #[serde(default)]
    pub zmq: Option<String>,
}

section! {
    /// How miners are served.
    Stratum {
        /// Whether they are.
        enable: bool = true,
        /// Where they connect.
        address: Option<SocketAddr> = None,
        /// The most workers at a time.
        max_workers: u32 = 10_000,
        /// Difficulties.
        difficulty: Vardiff = Vardiff::default(),
        /// More ports, each with a difficulty to begin with.
        ports: Vec<Port> = Vec::new(),
        /// Load balancers: they must say whose connection they pass on (PROXY protocol), nobody else may.
        proxies: Vec<std::net::IpAddr> = Vec::new(),
        /// The most connections at a time from one address (IPv6: one /64).
        max_per_address: u32 = 1024,
        /// New connections a minute from one address, after a burst of `max_per_address`; 0 for any number.
        connect_rate: u32 = 120,
        /// Who is shut out.
        bans: Bans = Bans::default(),
    }
}

section! {
    /// When an address is shut out: for floods of invalid shares, and for lines that are no messages.
    Bans {
        /// How long; 0s for never.
        lasts: Span = Span(Duration::from_secs(600)),
        /// Invalid shares that are too many: more than this part of them. Late ones do not count.
        invalid_percentage: Percent = HALF,
        /// Shares among which they are counted; 0 for not at all.
        shares: u32 = 50,
        /// The time within which so many must come.
        window: Span = Span(Duration::from_secs(600)),
    }
}

section! {
    /// How the difficulty of a worker's shares is set.
    Vardiff {
        /// The first; none for the algorithm's own.
        start: Option<u64> = None,
        /// The least.
        minimum: Option<u64> = None,
        /// The greatest.
        maximum: Option<u64> = None,
        /// The time between a worker's shares to aim at.
        interval: Span = Span(Duration::from_secs(10)),
        /// Whether only powers of two are used, for firmware that rounds.
        power_of_two: bool = false,
    }
}

/// A port with a difficulty of its own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Where miners connect.
    pub address: SocketAddr,
    /// The difficulty they begin with.
    pub difficulty: u64,
}

section! {
    /// Certificates.
    Security {
        /// Whether miners and the API may use TLS.
        enable_tls: bool = false,
        /// The certificate chain, PEM.
        cert_file: Option<PathBuf> = None,
        /// Its key, PEM.
        key_file: Option<PathBuf> = None,
    }
}

section! {
    /// The HTTP interface.
    Api {
        /// Whether there is one.
        enable: bool = true,
        /// Where; loopback unless said otherwise.
        address: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
        /// What callers that change something must show.
        api_key: Option<Secret> = None,
        /// Requests a minute and address.
        rate_limit: u32 = 100,
        /// Logging in.
        auth: Auth = Auth::default(),
    }
}

section! {
    /// Logging in.
    Auth {
        /// Whether one must.
        enabled: bool = false,
        /// How long that lasts.
        token_expiry: Span = Span(Duration::from_secs(24 * 3600)),
    }
}

section! {
    /// Metrics and health for other programs.
    Monitoring {
        /// For Prometheus.
        metrics: Endpoint = Endpoint::at(9090),
        /// For load balancers and Kubernetes.
        health: Endpoint = Endpoint::at(8081),
    }
}

/// Something served at an address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Whether it is.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Where.
    pub address: SocketAddr,
}

fn yes() -> bool {
    true
}

impl Endpoint {
    fn at(port: u16) -> Endpoint {
        Endpoint { enabled: false, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) }
    }
}

/// Where miners connect unless something else is said.
const STRATUM_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 3333);

/// Something in several keys at once that cannot be meant: the key to change, and a line that says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The key, in dots: `security.cert_file`.
    pub key: &'static str,
    /// What is wrong and what was expected.
    pub reason: String,
}

impl Config {
    /// What no value can see of itself. Every contradiction there is, not the first alone.
    pub fn check(&self) -> Vec<Contradiction> {
        let mut found = Vec::new();
        let mut wrong = |key, reason: String| found.push(Contradiction { key, reason });
        if let (Some(pool), Some(stratum)) = (self.pool.address, self.stratum.address)
            && pool != stratum
        {
            wrong(
                "stratum.address",
                format!("{stratum}, but pool.address says {pool}: leave one of the two out"),
            );
        }
        if self.security.enable_tls {
            if self.security.cert_file.is_none() {
                wrong(
                    "security.enable_tls",
                    "true without cert_file: name the certificate chain (PEM)".to_owned(),
                );
            }
            if self.security.key_file.is_none() {
                wrong(
                    "security.enable_tls",
                    "true without key_file: name the certificate's key (PEM)".to_owned(),
                );
            }
        }
        let Vardiff { start, minimum, maximum, .. } = self.stratum.difficulty;
        if let (Some(minimum), Some(maximum)) = (minimum, maximum)
            && minimum > maximum
        {
            wrong("stratum.difficulty.minimum", format!("{minimum} is above the maximum of {maximum}"));
        }
        if let Some(start) = start
            && (minimum.is_some_and(|minimum| start < minimum)
                || maximum.is_some_and(|maximum| start > maximum))
        {
            wrong("stratum.difficulty.start", format!("{start} lies outside minimum and maximum"));
        }
        if self.pool.max_connections == 0 {
            wrong("pool.max_connections", "0 lets nobody in: expected at least 1".to_owned());
        }
        let Stratum { max_workers, max_per_address, .. } = self.stratum;
        for (key, most) in
            [("stratum.max_workers", max_workers), ("stratum.max_per_address", max_per_address)]
        {
            if most == 0 {
                wrong(key, "0 lets nobody in: expected at least 1".to_owned());
            }
        }
        if self.pool.rewards.window.0.is_zero() {
            wrong("pool.rewards.window", "0s holds no share: expected a duration such as 2h".to_owned());
        }
        if self.api.enable && self.api.auth.enabled && self.api.api_key.is_none() {
            wrong("api.auth.enabled", "true without api_key: nobody could log in".to_owned());
        }
        if self.api.enable && !self.api.address.ip().is_loopback() && self.api.api_key.is_none() {
            wrong(
                "api.address",
                format!("{} can be reached from elsewhere: set api_key, or use 127.0.0.1", self.api.address),
            );
        }
        let mut places = vec![];
        for (index, coin) in self.coins.iter().enumerate() {
            if coin.nodes.is_empty() {
                wrong("coins", format!("{} has no nodes: name at least one", coin.coin));
            }
            match coin.listen.or((index == 0).then(|| self.stratum_address())) {
                None => wrong(
                    "coins",
                    format!("{} has no listen: its miners need a port of their own", coin.coin),
                ),
                Some(place) if place.port() != 0 && places.contains(&place) => {
                    wrong("coins", format!("{} listens at {place}, as another coin does", coin.coin));
                }
                Some(place) => places.push(place),
            }
        }
        found
    }

    /// Where miners connect.
    pub fn stratum_address(&self) -> SocketAddr {
        self.stratum.address.or(self.pool.address).unwrap_or(STRATUM_ADDRESS)
    }

    /// The pools to work for, in order: those of `mining`, then the backup pools.
    pub fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.mining.pools.iter().chain(&self.pool.backup_pools)
    }

    /// Whether GPUs work, in whichever spelling.
    pub fn gpu_enabled(&self) -> bool {
        self.mining.gpu_enabled.unwrap_or(self.mining.enable_gpu)
    }

    /// The GPUs to use, in whichever spelling; none for all.
    pub fn gpu_devices(&self) -> Vec<DeviceName> {
        match &self.mining.gpu_devices {
            Some(numbers) => numbers.iter().map(|&number| DeviceName::Number(number)).collect(),
            None => self.mining.gpu.devices.clone(),
        }
    }

    /// How hard GPUs work, in whichever spelling; none for a choice by measurement.
    pub fn intensity(&self) -> Option<Intensity> {
        self.mining.intensity.or(self.mining.gpu.intensity)
    }
}
