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
