//! What was asked for: the command line, and where it says nothing, the configuration.

use std::net::SocketAddr;

use otedama_core::Algorithm;
#[cfg(feature = "gpu")]
use otedama_core::gpu::watch::TemperatureLimit;
use otedama_core::topology::CpuId;
use otedama_pool::client::{Pool, Trust};
use otedama_pool::config::Config;
#[cfg(feature = "gpu")]
use otedama_pool::config::DeviceName;
use otedama_pool::config::values::Secret;
use otedama_pool::session::client::Account;
use otedama_pool::stratum::Dialect;

#[cfg(feature = "gpu")]
use crate::args::DeviceArgs;
use crate::args::{EthashDialect, MineArgs, ScanMode};
use crate::cmd;
use crate::crew::Wanted;
use crate::failure::{Failure, usage};
use crate::machine::Machine;

/// What was asked for, checked before anything takes time.
pub(crate) struct Plan {
    pub(crate) algorithm: Algorithm,
    pub(crate) pools: Vec<Pool>,
    /// Who one is at each of the pools.
    pub(crate) accounts: Vec<Account>,
    pub(crate) dialect: Dialect,
    pub(crate) wanted: Wanted,
    pub(crate) mode: ScanMode,
    pub(crate) api: Option<ApiPlan>,
}

/// How others may ask and steer.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ApiPlan {
    pub(crate) address: SocketAddr,
    /// What those who steer must show.
    pub(crate) key: Option<String>,
    /// Whether those who only ask must show it, too.
    pub(crate) key_to_ask: bool,
    /// Requests a minute and address.
    pub(crate) rate_limit: u32,
    /// Whether there is no mining without it: it was asked for on the command line.
    pub(crate) required: bool,
}

impl Plan {
    pub(crate) fn of(args: &MineArgs, machine: &Machine) -> Result<Plan, Failure> {
        let config = args.config.as_deref().map(|file| cmd::config::load(file, &args.set)).transpose()?;
        if config.is_none() && !args.set.is_empty() {
            return Err(usage("--set changes a configuration: name one with --config"));
        }
        let config = config.as_ref();
        let configured = config.and_then(|config| config.mining.algorithm).map(|name| name.0);
        let algorithm = args.algorithm.or(configured);
        let algorithm = algorithm.ok_or_else(|| usage("no algorithm: expected --algorithm NAME"))?;
        let (pools, accounts) = pools(args, config)?;
        Ok(Plan {
            algorithm,
            pools,
            accounts,
            dialect: match args.dialect {
                EthashDialect::EthProxy => Dialect::EthProxy,
                EthashDialect::Nicehash => Dialect::NiceHash,
                EthashDialect::Eip1571 => Dialect::Eip1571,
            },
            wanted: wanted(args, config, machine)?,
            mode: args.mode,
            api: api(args, config)?,
        })
    }
}

/// The pools, and who one is there: those of the command line, else those of the configuration.
fn pools(args: &MineArgs, config: Option<&Config>) -> Result<(Vec<Pool>, Vec<Account>), Failure> {
    let trust = args.fingerprint.map_or(Trust::Authorities, Trust::Pinned);
    let account = |username: &str, password: String| Account {
        agent: concat!("otedama/", env!("CARGO_PKG_VERSION")).to_owned(),
        username: username.to_owned(),
        password,
    };
    let (mut pools, mut accounts) = (Vec::new(), Vec::new());
    if let (Some(url), Some(user)) = (&args.url, &args.user) {
        for url in std::iter::once(url).chain(&args.backup_url) {
            pools.push(Pool { url: url.clone(), trust });
            accounts.push(account(user, args.pass.clone()));
        }
    } else if let Some(config) = config {
        for upstream in config.upstreams() {
            pools.push(Pool { url: upstream.url.parse().map_err(usage)?, trust });
            let password = upstream.pass.as_ref().map(Secret::reveal).transpose().map_err(usage)?;
            accounts.push(account(&upstream.user, password.unwrap_or_else(|| "x".to_owned())));
        }
    }
    if pools.is_empty() {
        return Err(usage("no pool: expected --url URL --user USER, or mining.pools in the configuration"));
    }
    Ok((pools, accounts))
}

/// Who is to work, and how.
fn wanted(args: &MineArgs, config: Option<&Config>, machine: &Machine) -> Result<Wanted, Failure> {
    let cpus = cpus(args, config, machine)?;
    #[cfg(feature = "gpu")]
    let mut wanted = {
        let named = &args.devices;
        let device = match config {
            Some(config) if named.device.is_empty() => devices(config)?,
            _ => named.device.clone(),
        };
        Wanted::new(cpus, args.kernel.clone(), &DeviceArgs { device, intensity: named.intensity })?
    };
    #[cfg(feature = "gpu")]
    if let Some(config) = config {
        let options = &mut wanted.options;
        options.intensity = options.intensity.or(config.intensity().map(|intensity| intensity.0));
        options.limit = Some(TemperatureLimit::at(config.mining.gpu.temperature_limit.0.into()));
    }
    #[cfg(not(feature = "gpu"))]
    let mut wanted = {
        if let Some(config) = config
            && (!config.mining.enable_cpu || !config.gpu_devices().is_empty())
        {
            return Err(usage(
                "this program was built without GPUs: leave mining.enable_cpu on and gpu.devices out",
            ));
        }
        Wanted::new(cpus, args.kernel.clone())?
    };
    let configured = config.map(|config| config.mining.cpu.priority);
    wanted.priority = args.priority.map(Into::into).or(configured).unwrap_or(wanted.priority);
    Ok(wanted)
}

/// The CPU of each thread. A number of threads on the command line lets the configuration's list of CPUs go; where
/// the configuration has both, so many of the list are used.
fn cpus(args: &MineArgs, config: Option<&Config>, machine: &Machine) -> Result<Vec<Option<CpuId>>, Failure> {
    let configured = config.map(|config| config.mining.cpu.clone()).unwrap_or_default();
    let threads = (configured.threads > 0).then_some(u32::from(configured.threads));
    if args.threads.is_some() || !args.cpus.is_empty() {
        return machine.worker_cpus(args.threads, &args.cpus);
    }
    let mut cpus = machine.worker_cpus(threads, &configured.affinity)?;
    cpus.truncate(threads.map_or(usize::MAX, |threads| threads as usize));
    Ok(cpus)
}

/// The devices of a configuration in the words of `--device`.
#[cfg(feature = "gpu")]
fn devices(config: &Config) -> Result<Vec<String>, Failure> {
    let (cpu, gpu) = (config.mining.enable_cpu, config.gpu_enabled());
    let name = |name: &DeviceName| match name {
        DeviceName::Number(number) => number.to_string(),
        DeviceName::Id(id) => id.clone(),
    };
    let named: Vec<_> = config.gpu_devices().iter().map(name).filter(|_| gpu).collect();
    let cpu_word = cpu.then(|| "cpu".to_owned());
    match (cpu, gpu, named.is_empty()) {
        (false, false, _) => {
            Err(usage("nobody is to mine: set mining.enable_cpu or mining.enable_gpu, or name a --device"))
        }
        (true, true, true) => Ok(vec!["all".to_owned()]),
        (false, true, true) => Ok(vec!["gpu:all".to_owned()]),
        _ => Ok(cpu_word.into_iter().chain(named).collect()),
    }
}

/// Whether others may ask and steer: the command line says where, else the configuration.
fn api(args: &MineArgs, config: Option<&Config>) -> Result<Option<ApiPlan>, Failure> {
    let api = config.map(|config| &config.api);
    let Some(address) = args.api.or(api.filter(|api| api.enable).map(|api| api.address)) else {
        return Ok(None);
    };
    let secret = args.api_key.as_ref().or(api.and_then(|api| api.api_key.as_ref()));
    let key = secret.map(Secret::reveal).transpose().map_err(usage)?;
    if key.as_ref().is_some_and(String::is_empty) {
        return Err(usage("the API's key is empty: anybody could show it"));
    }
    let reachable = !address.ip().is_loopback();
    if reachable && key.is_none() {
        return Err(usage(format!(
            "{address} can be reached from elsewhere: expected a key (--api-key, or api.api_key in the configuration), or 127.0.0.1"
        )));
    }
    Ok(Some(ApiPlan {
        address,
        key_to_ask: key.is_some() && (reachable || api.is_some_and(|api| api.auth.enabled)),
        key,
        rate_limit: api.map_or(DEFAULT_RATE_LIMIT, |api| api.rate_limit),
        required: args.api.is_some(),
    }))
}

/// Requests a minute and address where no configuration says: two a second.
const DEFAULT_RATE_LIMIT: u32 = 120;

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    use clap::Parser;
    use otedama_pool::config::{self, Overrides, Priority};

    use crate::args::{Cli, Command};

    const AT: [&str; 7] = [
        "otedama-cli",
        "mine",
        "--algorithm=sha256d",
        "--url=stratum+tcp://h:1",
        "--user=me",
        "--isa",
        "none",
    ];

    fn args(options: &[&str]) -> (MineArgs, Machine) {
        let cli = Cli::try_parse_from([&AT[..], options].concat()).unwrap();
        let Command::Mine(args) = cli.command else { panic!("not mine") };
        (args, Machine::detect(&cli.machine))
    }

    fn config(text: &str) -> Config {
        config::parse(text, Path::new("test.yaml"), &Overrides::default()).unwrap()
    }

    fn wanted_by(options: &[&str], text: &str) -> Result<Wanted, Failure> {
        let (args, machine) = args(options);
        wanted(&args, Some(&config(text)), &machine)
    }

    #[test]
    fn threads_and_cpus_are_the_command_lines_else_the_configurations() {
        let (_, machine) = args(&[]);
        let first = machine.topology.cpus()[0];
        let cpus = |options: &[&str], cpu: &str| {
            wanted_by(options, &format!("mining: {{ enable_gpu: false, cpu: {{ {cpu} }} }}")).unwrap().cpus
        };
        let pinned = format!("affinity: [{}]", first.0);
        assert_eq!(cpus(&[], &pinned), [Some(first)]);
        assert_eq!(cpus(&[], "threads: 1").len(), 1);
        assert_eq!(cpus(&[], "threads: 5000"), vec![None; 5000]);
        // One thread of a list of two, and the whole list where more are asked for.
        let twice = format!("affinity: [{0}, {0}]", first.0);
        assert_eq!(cpus(&[], &format!("threads: 1, {twice}")), [Some(first)]);
        assert_eq!(cpus(&[], &format!("threads: 9, {twice}")), [Some(first); 2]);
        assert_eq!(cpus(&["--threads=4096"], &pinned), vec![None; 4096]);
        let first_one = format!("--cpus={}", first.0);
        assert_eq!(cpus(&[&first_one], "threads: 3, affinity: [99999]"), [Some(first)]);
        assert!(wanted_by(&[], "mining: { enable_gpu: false, cpu: { affinity: [99999] } }").is_err());
    }

    #[test]
    fn the_priority_is_the_command_lines_else_the_configurations() {
        let priority = |options: &[&str], text| wanted_by(options, text).unwrap().priority;
        let low = "mining: { enable_gpu: false, cpu: { priority: low } }";
        assert_eq!(priority(&[], "mining: { enable_gpu: false }"), Priority::Normal);
        assert_eq!(priority(&[], low), Priority::Low);
        assert_eq!(priority(&["--priority=idle"], low), Priority::Idle);
        let (args, machine) = args(&["--priority=high"]);
        assert_eq!(wanted(&args, None, &machine).unwrap().priority, Priority::High);
    }

    #[cfg(feature = "gpu")]
    #[test]
    fn devices_are_named_as_on_the_command_line() {
        let devices = |mining: &str| devices(&config(&format!("mining: {{ {mining} }}")));
        for (mining, expected) in [
            ("algorithm: sha256d", &["all"][..]),
            ("enable_gpu: false", &["cpu"]),
            ("gpu_enabled: false", &["cpu"]),
            ("enable_cpu: false", &["gpu:all"]),
            ("gpu: { devices: [0, 'opencl:0.1'] }", &["cpu", "0", "opencl:0.1"]),
            ("enable_cpu: false, gpu_devices: [1]", &["1"]),
            ("enable_gpu: false, gpu: { devices: [0] }", &["cpu"]),
        ] {
            assert_eq!(devices(mining).unwrap(), expected, "{mining}");
        }
        assert!(devices("enable_cpu: false, enable_gpu: false").is_err());
    }

    #[cfg(feature = "gpu")]
    #[test]
    fn how_gpus_work_is_the_command_lines_else_the_configurations() {
        let cpu_only = "mining: { enable_gpu: false, gpu: { intensity: 20, temperature_limit: 70 } }";
        let options = wanted_by(&[], cpu_only).unwrap().options;
        assert_eq!((options.intensity, options.limit), (Some(20), Some(TemperatureLimit::at(70))));
        let older = "mining: { enable_gpu: false, intensity: 7 }";
        let options = wanted_by(&[], older).unwrap().options;
        assert_eq!((options.intensity, options.limit), (Some(7), Some(TemperatureLimit::at(85))));
        // The devices of the command line are taken instead of the configuration's.
        let chosen =
            wanted_by(&["--device=cpu"], "mining: { gpu: { devices: ['cuda:77'] } }").unwrap().chosen;
        assert!(chosen.cpu && chosen.gpus.is_empty());
        assert!(wanted_by(&[], "mining: { gpu: { devices: ['cuda:77'] } }").is_err());
    }

    #[test]
    fn there_is_an_api_where_it_is_asked_for_and_a_key_where_it_can_be_reached() {
        let plan = |options: &[&str], text: Option<&str>| {
            api(&args(options).0, text.map(config).as_ref()).map_err(|failure| failure.to_string())
        };
        assert!(plan(&[], None).unwrap().is_none());
        assert!(plan(&[], Some("api: { enable: false }")).unwrap().is_none());
        let usual = plan(&["--api"], None).unwrap().unwrap();
        assert_eq!((usual.address.to_string().as_str(), usual.required), ("127.0.0.1:8080", true));
        assert_eq!((usual.key, usual.key_to_ask, usual.rate_limit), (None, false, DEFAULT_RATE_LIMIT));
        let configured = "api: { address: '127.0.0.1:1', api_key: k, rate_limit: 9 }";
        let given = plan(&[], Some(configured)).unwrap().unwrap();
        assert_eq!((given.address.port(), given.required, given.rate_limit), (1, false, 9));
        assert_eq!((given.key.as_deref(), given.key_to_ask), (Some("k"), false));
        let locked = "api: { api_key: k, auth: { enabled: true } }";
        assert!(plan(&[], Some(locked)).unwrap().unwrap().key_to_ask);
        // The command line's address and key go before, and what can be reached wants the key for everything.
        let open = plan(&["--api=0.0.0.0:2", "--api-key=other"], Some(configured)).unwrap().unwrap();
        assert_eq!((open.address.port(), open.key.as_deref(), open.key_to_ask), (2, Some("other"), true));
        assert!(plan(&["--api=0.0.0.0:2"], Some(configured)).unwrap().unwrap().key_to_ask);
        let words = plan(&["--api=[::]:2"], None).err().unwrap();
        assert!(words.contains("[::]:2") && words.contains("--api-key"), "{words}");
        assert!(plan(&["--api=[::1]:2"], None).unwrap().unwrap().key.is_none());
    }
}
