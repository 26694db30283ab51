//! `config`: what a configuration file says, and what is wrong with it.

use std::path::Path;

use otedama_pool::config::{self, Config, Overrides};

use crate::args::{ConfigCheckArgs, ConfigCommand};
use crate::cmd::serve::chains::known_coins;
use crate::failure::{Failure, Outcome, usage};
use crate::show;

pub(crate) fn run(command: &ConfigCommand) -> Outcome {
    let ConfigCommand::Check(ConfigCheckArgs { file, set }) = command;
    let config = load(file, set)?;
    known_coins(&config, file)?;
    show::print_line(&format!(
        "{} is fine: miners at {}, {} coins, {} pools to mine for",
        file.display(),
        config.stratum_address(),
        config.coins.len(),
        config.upstreams().count()
    ))?;
    Ok(())
}

/// The configuration in a file, with the environment and these settings laid over it. All problems are printed
/// but the last, which is the failure.
pub(crate) fn load(file: &Path, settings: &[String]) -> Result<Config, Failure> {
    let mut overrides = Overrides::from_env(
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    );
    for setting in settings {
        overrides.set(setting).map_err(usage)?;
    }
    config::load(file, &overrides).map_err(|mut errors| {
        let last = errors.pop();
        for error in errors {
            eprintln!("otedama-cli: {error}");
        }
        usage(last.map_or_else(|| "the configuration cannot be used".to_owned(), |error| error.to_string()))
    })
}
