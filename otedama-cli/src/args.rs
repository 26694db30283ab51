//! What may be said on the command line.

mod mine;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use otedama_core::cpu::Isa;
use otedama_core::epoch::Depth;
use otedama_core::{Algorithm, Difficulty, Target, VersionMask};

pub(crate) use mine::{EthashDialect, MineArgs};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Proof-of-work hashing as fast as the hardware allows.
#[derive(Parser, Debug)]
#[command(name = "otedama-cli", version, styles = STYLES, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Examples:
  otedama-cli bench                   how fast is this machine?
  otedama-cli devices                 what does it have?
  otedama-cli hash sha256d 00ff       one digest
  otedama-cli scan sha256d --help     how to find a block's nonce
  otedama-cli mine --help             how to mine for a pool
  otedama-cli serve --dev sha256d     a pool to try that with

Exit codes: 0 ok, 1 the work failed, 2 bad usage.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which parts of the machine may be used.
#[derive(Args, Debug)]
pub(crate) struct MachineArgs {
    /// Use these instruction set extensions only: sha-ni, aes-ni, avx2, avx512, or none
    #[arg(long, global = true, value_name = "LIST", value_parser = parse_isas, help_heading = "Machine")]
    pub(crate) isa: Option<IsaList>,
    /// The largest memory pages to try; where they cannot be had, the next smaller ones are used
    #[arg(long, global = true, value_enum, default_value_t = Pages::Huge, value_name = "KIND", help_heading = "Machine")]
    pub(crate) pages: Pages,
    /// Interpret programs (RandomX) instead of compiling them to machine code
    #[arg(long, global = true, help_heading = "Machine")]
    pub(crate) no_jit: bool,
    /// Keep the datasets of ethash, etchash and kawpow in this folder, and read them from there
    #[arg(long, global = true, value_name = "DIR", help_heading = "Machine")]
    pub(crate) dag_dir: Option<PathBuf>,
}

/// A list of instruction set extensions. (A type of its own, or clap would take one per argument.)
#[derive(Clone, Debug)]
pub(crate) struct IsaList(pub(crate) Vec<Isa>);

/// The largest memory pages to try. (Undocumented variants keep the help on one line each.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pages {
    Huge,
    Transparent,
    Plain,
}

/// How much of an epoch to hash with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Light,
    Full,
}

impl From<Mode> for Depth {
    fn from(mode: Mode) -> Depth {
        match mode {
            Mode::Light => Depth::Light,
            Mode::Full => Depth::Full,
        }
    }
}

/// How much of an epoch to search with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScanMode {
    Light,
    Full,
    Auto,
}

/// The revisions of RandomX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    V1,
    V2,
}

impl From<Variant> for Algorithm {
    fn from(variant: Variant) -> Algorithm {
        match variant {
            Variant::V1 => Algorithm::RandomXV1,
            Variant::V2 => Algorithm::RandomXV2,
        }
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Bench(BenchArgs),
    #[command(subcommand)]
    Hash(HashCommand),
    Scan(ScanArgs),
    Mine(MineArgs),
    Serve(ServeArgs),
    Loadtest(LoadtestArgs),
    #[command(subcommand)]
    Ledger(LedgerCommand),
    #[command(subcommand)]
    Config(ConfigCommand),
    Verify(VerifyArgs),
    #[command(subcommand)]
    Dag(DagCommand),
    Devices(DevicesArgs),
    Selftest(SelftestArgs),
}

/// Which devices work, and how.
#[cfg(feature = "gpu")]
#[derive(Args, Debug)]
pub(crate) struct DeviceArgs {
    /// Where to run: cpu, cuda:0, opencl:0.1, gpu:all, cuda:all, opencl:all, all, or several [default: cpu]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) device: Vec<String>,
    /// Nonces for each launch on a GPU, as a power of two, 1 to 25 [default: launches of some 12 ms]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=25))]
    pub(crate) intensity: Option<u8>,
}

/// What `bench` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Algorithm(Algorithm),
    Pool,
}

impl std::str::FromStr for Subject {
    type Err = otedama_core::algorithm::UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Subject, Self::Err> {
        if name == "pool" { Ok(Subject::Pool) } else { name.parse().map(Subject::Algorithm) }
    }
}

impl BenchArgs {
    /// Whether a pool is measured; then nothing else is.
    pub(crate) fn is_of_pool(&self) -> bool {
        self.subjects.contains(&Subject::Pool)
    }

    /// The algorithms named.
    pub(crate) fn algorithms(&self) -> Vec<Algorithm> {
        let algorithm = |subject: &Subject| match subject {
            Subject::Algorithm(algorithm) => Some(*algorithm),
            Subject::Pool => None,
        };
        self.subjects.iter().filter_map(algorithm).collect()
    }
}

#[cfg(feature = "gpu")]
impl DeviceArgs {
    /// The devices named, else the CPU.
    pub(crate) fn list(&self) -> Vec<String> {
        if self.device.is_empty() { vec!["cpu".to_owned()] } else { self.device.clone() }
    }
}

/// Measure hash rates; results are verified while timing
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  otedama-cli bench                                    every algorithm, fastest kernel, all cores
  otedama-cli bench sha256d --threads 1 --kernel all   every kernel this CPU can run
  otedama-cli bench randomx --mode light               verifying without the dataset of 2 GiB
  otedama-cli bench scrypt --seconds 10 --json         for a program
  otedama-cli bench sha256d --device all               the CPU and every GPU
  otedama-cli bench pool --connections 20000           miners and shares that a pool takes")]
pub(crate) struct BenchArgs {
    /// What to measure [default: every algorithm this version has kernels for]; `pool` alone for a pool
    #[arg(value_name = "ALGORITHM")]
    pub(crate) subjects: Vec<Subject>,
    /// Miners at a time (pool)
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) connections: u32,
    /// Shares handed in a second, by all miners together (pool)
    #[arg(long, value_name = "R", default_value_t = 10_000.0, value_parser = parse_seconds)]
    pub(crate) rate: f64,
    /// Threads, one per core first [default: one per core]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) threads: Option<u32>,
    /// Pin the threads to these CPUs, such as 0,2,4 [default: chosen from the topology]
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "threads")]
    pub(crate) cpus: Vec<u32>,
    /// Seconds of hashing for each kernel
    #[arg(long, short, value_name = "S", default_value_t = 3.0, value_parser = parse_seconds)]
    pub(crate) seconds: f64,
    /// One kernel by name, or all that this CPU can run [default: the fastest]
    #[arg(long, short, value_name = "NAME|all")]
    pub(crate) kernel: Option<String>,
    #[cfg(feature = "gpu")]
    #[command(flatten)]
    pub(crate) devices: DeviceArgs,
    /// What of an epoch to hash with, where the algorithm has epochs: all of it, or the cache alone
    #[arg(long, value_enum, default_value_t = Mode::Full, value_name = "MODE")]
    pub(crate) mode: Mode,
    /// The epoch of ethash, etchash or kawpow [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) epoch: Option<u32>,
    /// The same by a block's height
    #[arg(long, value_name = "N", conflicts_with = "epoch")]
    pub(crate) height: Option<u64>,
    /// The revision of randomx: the same as naming randomx or randomx-v2
    #[arg(long, value_enum, value_name = "VARIANT")]
    pub(crate) variant: Option<Variant>,
    /// Measure randomx in turns with the reference implementation, on one thread: five pairs
    #[cfg(feature = "rivals")]
    #[arg(long)]
    pub(crate) rival: bool,
    /// Do not let sha256d roll the version (BIP 320): what a pool without version rolling allows
    #[arg(long)]
    pub(crate) fixed_version: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Run a pool
#[derive(Args, Debug)]
#[command(
    after_help = "With --config: the coins, nodes, rewards and payouts that the file names (deploy/config.example.yaml has
everything; `config check` looks at a file without serving). Accepted shares are on disk before their miners hear of
it. Ctrl-C ends it; the next start goes on.

With --dev: a pool for trying things out. Its blocks come from a chain inside the process, are worth nothing and
leave it nowhere.

Examples, the last two in two terminals:
  otedama-cli serve --config pool.yaml
  otedama-cli serve --dev sha256d
  otedama-cli mine --algorithm sha256d --url stratum+tcp://127.0.0.1:3333 --user me.rig1"
)]
pub(crate) struct ServeArgs {
    /// A pool on a built-in chain of this algorithm, on loopback
    #[arg(long, value_name = "ALGORITHM", conflicts_with = "config")]
    pub(crate) dev: Option<Algorithm>,
    /// A pool as this file says
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Set a key of the configuration, such as pool.fee_percentage=2
    #[arg(long, value_name = "KEY=VALUE", requires = "config")]
    pub(crate) set: Vec<String>,
    /// Where miners connect [default: the configuration's, with --dev 127.0.0.1:3333]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// How many hashes a block of the built-in chain takes on average [default: about a minute of one processor]
    #[arg(long, value_name = "N", requires = "dev", value_parser = clap::value_parser!(u64).range(1..=1 << 48))]
    pub(crate) block_hashes: Option<u64>,
    /// The difficulty miners begin with [default: about a share a second of one processor]
    #[arg(long, value_name = "D")]
    pub(crate) difficulty: Option<Difficulty>,
    /// Print events as JSON, one object per line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Be many miners at once, to see what a pool can take
#[derive(Args, Debug)]
#[command(
    after_help = "For your own pool: others take it for an attack. It must speak Stratum v1 for sha256d and let one address have
so many connections; an easy difficulty makes many shares.

Example:
  otedama-cli loadtest --url stratum+tcp://127.0.0.1:3333 --connections 1000 --rate 500 --seconds 10"
)]
pub(crate) struct LoadtestArgs {
    /// The pool, such as stratum+tcp://127.0.0.1:3333
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,
    /// Who mines; each miner has a number after it
    #[arg(long, value_name = "NAME", default_value = "load")]
    pub(crate) user: String,
    /// Miners at a time
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) connections: u32,
    /// Shares handed in a second, by all together
    #[arg(long, value_name = "R", default_value_t = 100.0, value_parser = parse_seconds)]
    pub(crate) rate: f64,
    /// Seconds of handing in shares
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = parse_seconds)]
    pub(crate) seconds: f64,
    /// Seconds of listening before
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = parse_seconds)]
    pub(crate) settle: f64,
    /// Print JSON, one object per line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Look at a pool's books, check them, rebuild them
#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  otedama-cli ledger show --config pool.yaml
  otedama-cli ledger rebuild --config pool.yaml --into sqlite:///tmp/rebuilt.db")]
pub(crate) enum LedgerCommand {
    /// Balances, blocks and payouts
    Show(BooksArgs),
    /// Compare every balance with the sum of its entries
    Check {
        #[command(flatten)]
        books: BooksArgs,
        /// Set balances to what their entries say
        #[arg(long)]
        repair: bool,
    },
    /// Make a new ledger of the spool's shares, the chain's blocks and the payouts made, and compare all balances
    Rebuild {
        #[command(flatten)]
        books: BooksArgs,
        /// The new ledger: sqlite://PATH or postgres://...
        #[arg(long, value_name = "URL")]
        into: String,
        /// Where the payouts are read: in the ledger in use or, if that is lost, in the wallets that made them
        #[arg(long, value_enum, default_value_t = PayoutsFrom::Ledger)]
        payouts: PayoutsFrom,
    },
    /// Say that a frozen payout was never made and never will be: its amounts are owed again
    GiveBack {
        #[command(flatten)]
        books: BooksArgs,
        /// The payout's number
        #[arg(long, value_name = "N")]
        batch: i64,
        /// Yes, the transaction can never be mined
        #[arg(long)]
        yes: bool,
    },
}

/// What knows the payouts that were made
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PayoutsFrom {
    Ledger,
    Wallet,
}

/// Which pool's books
#[derive(Args, Debug)]
pub(crate) struct BooksArgs {
    /// The pool's configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Set a key of the configuration, such as app.data_dir=/srv/pool
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print JSON; amounts are whole numbers of the coin's smallest unit
    #[arg(long)]
    pub(crate) json: bool,
}

/// Look at a configuration file
#[derive(Subcommand, Debug)]
#[command(after_help = "Example:
  otedama-cli config check deploy/config.example.yaml")]
pub(crate) enum ConfigCommand {
    Check(ConfigCheckArgs),
}

/// Say everything that is wrong with a configuration file, with its place
#[derive(Args, Debug)]
#[command(
    after_help = "Environment variables (OTEDAMA__POOL__FEE_PERCENTAGE=2) and --set are laid over the file first.

Example:
  otedama-cli config check deploy/config.example.yaml --set pool.fee_percentage=2"
)]
pub(crate) struct ConfigCheckArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Set a key, such as pool.fee_percentage=2
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// Hash hex strings, or lines of hex from standard input
#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  otedama-cli hash sha256d 00ff
  otedama-cli hash scrypt --n 16 --r 1 --p 1 00ff
  otedama-cli hash randomx --key 74657374206b657920303030 5468697320697320612074657374
  cut -d, -f2 headers.csv | otedama-cli hash sha256d -")]
pub(crate) enum HashCommand {
    Sha256d(HashSha256dArgs),
    Scrypt(HashScryptArgs),
    Randomx(HashRandomxArgs),
    Ethash(HashEthashArgs),
    Kawpow(HashKawpowArgs),
}

/// SHA-256 of SHA-256
#[derive(Args, Debug)]
#[command(
    after_help = "Prints the digest as 64 hex digits in the order the function outputs them (block explorers
show the reverse). With '-', reads lines of hex and prints one digest per line; an empty line is the
empty input, blanks around a line and a carriage return at its end do not count.

Example:
  otedama-cli hash sha256d 0100000000000000"
)]
pub(crate) struct HashSha256dArgs {
    #[command(flatten)]
    pub(crate) common: HashArgs,
}

/// scrypt, the input being password and salt (as in Litecoin)
#[derive(Args, Debug)]
#[command(
    after_help = "Prints the digest as 64 hex digits in the order the function outputs them (block explorers
show the reverse). With '-', reads lines of hex and prints one digest per line; an empty line is the
empty input, blanks around a line and a carriage return at its end do not count. 80-byte inputs with
the default parameters go through the fast kernels.

Example:
  otedama-cli hash scrypt --n 16 --r 1 --p 1 00ff"
)]
pub(crate) struct HashScryptArgs {
    #[command(flatten)]
    pub(crate) common: HashArgs,
    /// CPU and memory cost: a power of two above 1
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) n: u32,
    /// Block size
    #[arg(long, value_name = "R", default_value_t = 1)]
    pub(crate) r: u32,
    /// Parallelisation
    #[arg(long, value_name = "P", default_value_t = 1)]
    pub(crate) p: u32,
    /// Another salt than the input itself, in hex
    #[arg(long, value_name = "HEX")]
    pub(crate) salt: Option<String>,
}

/// RandomX (Monero)
#[derive(Args, Debug)]
#[command(
    after_help = "Prints the digest as 64 hex digits in the order the function outputs them. With '-', reads lines of
hex and prints one digest per line. The cache of a key takes 256 MiB and less than a second; --mode full
builds the dataset of 2080 MiB as well, which pays from some hundreds of inputs on.

Example:
  otedama-cli hash randomx --key 74657374206b657920303030 5468697320697320612074657374"
)]
pub(crate) struct HashRandomxArgs {
    #[command(flatten)]
    pub(crate) common: HashArgs,
    /// The key in hex, 1 to 60 bytes: in Monero the hash of the seed block
    #[arg(long, value_name = "HEX")]
    pub(crate) key: String,
    /// The revision
    #[arg(long, value_enum, default_value_t = Variant::V1, value_name = "VARIANT")]
    pub(crate) variant: Variant,
    /// Hash with the cache alone, or with the whole dataset
    #[arg(long, value_enum, default_value_t = Mode::Light, value_name = "MODE")]
    pub(crate) mode: Mode,
}

/// Ethash, and with --etchash Etchash (Ethereum Classic)
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("era").required(true).args(["height", "epoch"]))]
#[command(after_help = "Prints mix hash and final hash as 64 hex digits each, on one line.

Example:
  otedama-cli hash ethash --height 22 --nonce 495732e0ed7a801c \\
    372eca2454ead349c3df0ab5d00b0b706b23e49d469387db91811cee0358fc6d")]
pub(crate) struct HashEthashArgs {
    #[command(flatten)]
    pub(crate) sealed: SealedArgs,
    /// The block's height, which says the epoch
    #[arg(long, value_name = "N")]
    pub(crate) height: Option<u64>,
    /// The epoch itself
    #[arg(long, value_name = "N")]
    pub(crate) epoch: Option<u32>,
    /// Etchash: epochs of 60,000 blocks from block 11,700,000 on (ECIP-1099)
    #[arg(long)]
    pub(crate) etchash: bool,
}

/// KawPow (Ravencoin)
#[derive(Args, Debug)]
#[command(after_help = "Prints mix hash and final hash as 64 hex digits each, on one line.

Example:
  otedama-cli hash kawpow --height 0 --nonce 0000000000000000 \\
    0000000000000000000000000000000000000000000000000000000000000000")]
pub(crate) struct HashKawpowArgs {
    #[command(flatten)]
    pub(crate) sealed: SealedArgs,
    /// The block's height, which says the epoch and the program
    #[arg(long, value_name = "N")]
    pub(crate) height: u64,
}

/// What hashes of sealed headers take.
#[derive(Args, Debug)]
pub(crate) struct SealedArgs {
    /// The sealed header's hash in hex
    #[arg(value_name = "HEADER_HASH")]
    pub(crate) header_hash: String,
    /// The nonce in 16 hex digits, most significant first
    #[arg(long, value_name = "HEX", value_parser = parse_nonce)]
    pub(crate) nonce: u64,
    /// Hash with the light cache alone, or build the whole dataset first
    #[arg(long, value_enum, default_value_t = Mode::Light, value_name = "MODE")]
    pub(crate) mode: Mode,
    /// One kernel by name [default: the fastest]
    #[arg(long, short, value_name = "NAME")]
    pub(crate) kernel: Option<String>,
    /// Print {algorithm, mix, digest} as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which epoch of an algorithm that has epochs.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct EraArgs {
    /// The key of the epoch in hex (randomx)
    #[arg(long, value_name = "HEX")]
    pub(crate) key: Option<String>,
    /// The block's height, which says the epoch (ethash, etchash) and the program (kawpow)
    #[arg(long, value_name = "N")]
    pub(crate) height: Option<u64>,
    /// The epoch itself (ethash, etchash, kawpow)
    #[arg(long, value_name = "N", conflicts_with = "height")]
    pub(crate) epoch: Option<u32>,
}

/// What every hash takes.
#[derive(Args, Debug)]
pub(crate) struct HashArgs {
    /// The input in hex, or '-' for one input per line of standard input
    #[arg(value_name = "HEX")]
    pub(crate) input: String,
    /// One kernel by name [default: the fastest]
    #[arg(long, short, value_name = "NAME")]
    pub(crate) kernel: Option<String>,
    /// Print {algorithm, input, digest} as JSON, one object per line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Search a header's or blob's nonces (and versions) for hashes that meet a target
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("limit").required(true).args(["target", "difficulty"]))]
#[command(
    after_help = "Prints each {nonce, version, digest} found; the digest is in the order the function outputs it.

Example: a share of difficulty 100 for a Monero blob.
  otedama-cli scan randomx --key 74657374206b657920303031 --difficulty 100 --first \\
    0b0b98bea7e805e0010a2126d287a2a0cc833d312cb786385a7c2f9de69d25537f584a9bc9977b00000000666fd8753bf61a8631f12984e3fd44f4014eca629276817b56f32e9b68bd82f416
Example: find the nonce of Bitcoin's genesis block.
  otedama-cli scan sha256d --difficulty 1 --first --start 2080000000 \\
    0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d00000000
"
)]
pub(crate) struct ScanArgs {
    /// sha256d, scrypt, randomx, randomx-v2, ethash, etchash or kawpow
    #[arg(value_name = "ALGORITHM")]
    pub(crate) algorithm: Algorithm,
    /// The 80-byte header, the hashing blob or the sealed header's hash in hex; a nonce in it does not matter
    #[arg(value_name = "HEADER_HEX")]
    pub(crate) header: String,
    #[command(flatten)]
    pub(crate) era: EraArgs,
    /// What of the epoch to search with, where there are epochs: its cache alone, all of it, or the cache until the
    /// dataset is built
    #[arg(long, value_enum, default_value_t = ScanMode::Auto, value_name = "MODE")]
    pub(crate) mode: ScanMode,
    /// The largest hash wanted, as a number in up to 64 hex digits
    #[arg(long, value_name = "HEX")]
    pub(crate) target: Option<Target>,
    /// The same as a difficulty of the algorithm (scrypt: on the pools' scale)
    #[arg(long, value_name = "D")]
    pub(crate) difficulty: Option<Difficulty>,
    /// The first nonce
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) start: u64,
    /// How many nonces [default: all from the first one on]
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Also roll these version bits, such as 1fffe000 (BIP 320)
    #[arg(long, value_name = "HEX", value_parser = parse_version_mask)]
    pub(crate) version_mask: Option<VersionMask>,
    /// Stop at the first find
    #[arg(long)]
    pub(crate) first: bool,
    /// Threads, one per core first [default: one per core]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) threads: Option<u32>,
    /// Pin the threads to these CPUs, such as 0,2,4 [default: chosen from the topology]
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "threads")]
    pub(crate) cpus: Vec<u32>,
    #[cfg(feature = "gpu")]
    #[command(flatten)]
    pub(crate) devices: DeviceArgs,
    /// One kernel by name [default: the fastest]
    #[arg(long, short, value_name = "NAME")]
    pub(crate) kernel: Option<String>,
    /// Print one JSON object per find
    #[arg(long)]
    pub(crate) json: bool,
}

/// Verify one share: exit code 0 if it is one, 1 if not
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("limit").required(true).args(["target", "difficulty"]))]
#[command(
    after_help = "Prints the digest of a share that is one, and else the reason why not. A claimed mix hash that
leads past the target is refused without the epoch's memory.

Example: a block of Ethereum's test network.
  otedama-cli verify ethash --height 22 --nonce 495732e0ed7a801c --difficulty 132416 \\
    --mix 2f74cdeb198af0b9abe65d22d372e22fb2d474371774a9583c1cc427a07939f5 \\
    372eca2454ead349c3df0ab5d00b0b706b23e49d469387db91811cee0358fc6d"
)]
pub(crate) struct VerifyArgs {
    /// sha256d, scrypt, randomx, randomx-v2, ethash, etchash or kawpow
    #[arg(value_name = "ALGORITHM")]
    pub(crate) algorithm: Algorithm,
    /// The header or hashing blob in hex, its nonce included, or the sealed header's hash
    #[arg(value_name = "HEADER_HEX")]
    pub(crate) header: String,
    /// The nonce in 16 hex digits, most significant first (ethash, etchash, kawpow)
    #[arg(long, value_name = "HEX", value_parser = parse_nonce)]
    pub(crate) nonce: Option<u64>,
    /// The mix hash claimed, in hex (ethash, etchash, kawpow)
    #[arg(long, value_name = "HEX")]
    pub(crate) mix: Option<String>,
    /// The hash claimed, in hex, in the order the function outputs it
    #[arg(long, value_name = "HEX")]
    pub(crate) hash: Option<String>,
    /// The largest hash wanted, as a number in up to 64 hex digits
    #[arg(long, value_name = "HEX")]
    pub(crate) target: Option<Target>,
    /// The same as a difficulty of the algorithm
    #[arg(long, value_name = "D")]
    pub(crate) difficulty: Option<Difficulty>,
    #[command(flatten)]
    pub(crate) era: EraArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Datasets (DAGs) kept on disk
#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  otedama-cli dag build --algorithm etchash --epoch 390 --dir dags
  otedama-cli dag check --algorithm etchash --epoch 390 --dir dags
  otedama-cli bench etchash --epoch 390 --dag-dir dags")]
pub(crate) enum DagCommand {
    Build(DagArgs),
    Check(DagArgs),
}

/// Which dataset, and where it is kept.
#[derive(Args, Debug)]
#[command(
    after_help = "A file is written whole or not at all, and carries checksums: 'check' reads all of it.

Example:
  otedama-cli dag build --algorithm ethash --epoch 0 --dir dags"
)]
pub(crate) struct DagArgs {
    /// ethash, etchash or kawpow
    #[arg(long, value_name = "NAME")]
    pub(crate) algorithm: Algorithm,
    /// The epoch
    #[arg(long, value_name = "N")]
    pub(crate) epoch: u32,
    /// The folder; made if it is missing
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// List what this machine offers: CPUs, nodes, caches, instruction sets, memory pages, GPUs
#[derive(Args, Debug)]
#[command(after_help = "Example:
  otedama-cli devices --json")]
pub(crate) struct DevicesArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Let every kernel compute known answers; say which ran and which are absent
#[derive(Args, Debug)]
#[command(after_help = "Example:
  otedama-cli selftest sha256d randomx
  otedama-cli selftest --device all")]
pub(crate) struct SelftestArgs {
    /// What to test [default: everything]
    #[arg(value_name = "ALGORITHM")]
    pub(crate) algorithms: Vec<Algorithm>,
    /// Where: cpu, cuda:0, opencl:0.1, cuda:all, opencl:all, all, or several
    #[cfg(feature = "gpu")]
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "cpu")]
    pub(crate) device: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// clap's error in one line: what is wrong, without the usage page.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or(&text);
    let line = first.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{} (see --help)", line.trim_start_matches("error: "))
}

fn parse_isas(text: &str) -> Result<IsaList, otedama_core::cpu::UnknownIsa> {
    if text == "none" {
        return Ok(IsaList(Vec::new()));
    }
    text.split(',').map(str::parse).collect::<Result<_, _>>().map(IsaList)
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.05..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected a number of seconds from 0.05 to 86400".to_owned()),
    }
}

fn parse_nonce(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let hex = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|_| hex).ok_or_else(|| {
        format!("it has {} characters: expected 16 hex digits, such as 000000000000002a", digits.len())
    })
}

fn parse_version_mask(text: &str) -> Result<VersionMask, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let hex = !digits.is_empty() && digits.len() <= 8 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let bits = u32::from_str_radix(digits, 16).ok().filter(|_| hex);
    let bits = bits.ok_or("expected 1 to 8 hex digits, such as 1fffe000 (BIP 320)")?;
    VersionMask::new(bits).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_every_command_shows_an_example() {
        let cli = Cli::command();
        cli.clone().debug_assert();
        for command in cli.get_subcommands() {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Example"), "{} --help shows no example", command.get_name());
        }
    }

    #[test]
    fn errors_fit_one_line() {
        let error = Cli::try_parse_from(["otedama-cli", "bench", "--threads", "0"]).unwrap_err();
        let line = one_line(&error);
        assert!(!line.contains('\n') && line.contains("'0'") && line.contains("1..=4096"), "{line}");
    }
}
