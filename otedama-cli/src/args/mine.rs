//! What `mine` may be told.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use otedama_core::Algorithm;
use otedama_pool::client::{Fingerprint, PoolUrl};
use otedama_pool::config::Priority;
use otedama_pool::config::values::Secret;

#[cfg(feature = "gpu")]
use super::DeviceArgs;
use super::{ScanMode, parse_seconds};

/// Mine for a pool
#[derive(Args, Debug)]
#[command(
    after_help = "Tries --url first, then each --backup-url in order, and goes back as soon as a better one answers. What is
not said here is taken from --config. Ctrl-C ends it.

Examples:
  otedama-cli mine --algorithm sha256d --url stratum+tcp://127.0.0.1:3333 --user me.rig1
  otedama-cli mine --algorithm randomx --url stratum+ssl://pool.example:443 --user WALLET --threads 4
  otedama-cli mine --config config.yaml --json"
)]
pub(crate) struct MineArgs {
    /// What to mine
    #[arg(long, short, value_name = "ALGORITHM")]
    pub(crate) algorithm: Option<Algorithm>,
    /// The pool: stratum+tcp://host:port or stratum+ssl://host:port
    #[arg(long, short = 'o', value_name = "URL", requires = "user")]
    pub(crate) url: Option<PoolUrl>,
    /// The user at every pool named here: wallet and worker, as the pools want it
    #[arg(long, short, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// The password
    #[arg(long, short, value_name = "PASS", default_value = "x")]
    pub(crate) pass: String,
    /// Pools to go to when the one before fails
    #[arg(long, value_name = "URL", requires = "url")]
    pub(crate) backup_url: Vec<PoolUrl>,
    /// The SHA-256 of the certificate to trust instead of the authorities, in hex
    #[arg(long, value_name = "HEX")]
    pub(crate) fingerprint: Option<Fingerprint>,
    /// How the pool speaks Ethash: eth-proxy, EthereumStratum/1.0.0 (nicehash) or 2.0.0 (eip-1571)
    #[arg(long, value_enum, default_value_t = EthashDialect::Nicehash, value_name = "DIALECT")]
    pub(crate) dialect: EthashDialect,
    /// Threads, one per core first [default: one per core]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) threads: Option<u32>,
    /// Pin the threads to these CPUs, such as 0,2,4 [default: chosen from the topology]
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "threads")]
    pub(crate) cpus: Vec<u32>,
    /// How the threads stand beside other programs [default: normal]
    #[arg(long, value_enum, value_name = "PRIORITY")]
    pub(crate) priority: Option<ThreadPriority>,
    #[cfg(feature = "gpu")]
    #[command(flatten)]
    pub(crate) devices: DeviceArgs,
    /// One kernel by name [default: the fastest]
    #[arg(long, short, value_name = "NAME")]
    pub(crate) kernel: Option<String>,
    /// What of an epoch to hash with: the cache until the dataset is built (auto), or one of the two
    #[arg(long, value_enum, default_value_t = ScanMode::Auto, value_name = "MODE")]
    pub(crate) mode: ScanMode,
    /// Let programs ask and steer over HTTP, at this address [default address: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:8080")]
    pub(crate) api: Option<SocketAddr>,
    /// The key that whoever steers must show: itself, env:NAME or file:PATH
    #[arg(long, value_name = "KEY", requires = "api")]
    pub(crate) api_key: Option<Secret>,
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Set a key of the configuration, such as mining.cpu.threads=4
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Stop after this many seconds
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    pub(crate) seconds: Option<f64>,
    /// Stop after this many accepted shares
    #[arg(long, value_name = "N")]
    pub(crate) shares: Option<u64>,
    /// Print events as lines on a terminal, too, instead of the live view
    #[arg(long)]
    pub(crate) plain: bool,
    /// Print events as JSON, one object per line
    #[arg(long, conflicts_with = "plain")]
    pub(crate) json: bool,
}

/// How mining threads stand beside other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ThreadPriority {
    Idle,
    Low,
    Normal,
    High,
}

impl From<ThreadPriority> for Priority {
    fn from(priority: ThreadPriority) -> Priority {
        match priority {
            ThreadPriority::Idle => Priority::Idle,
            ThreadPriority::Low => Priority::Low,
            ThreadPriority::Normal => Priority::Normal,
            ThreadPriority::High => Priority::High,
        }
    }
}

/// How a pool speaks Ethash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EthashDialect {
    EthProxy,
    Nicehash,
    #[value(name = "eip-1571")]
    Eip1571,
}
