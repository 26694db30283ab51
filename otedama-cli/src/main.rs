//! `otedama-cli`: the library on the command line.
//!
//! `main` parses and reports, `cmd` has one module per command, `machine` describes what it all ran on.
//! Every command says what went wrong in one line and leaves with 0 (ok), 1 (the work failed) or 2
//! (bad usage). Results go to standard output, everything else to standard error.

#![forbid(unsafe_code)]

mod args;
mod cmd;
mod crew;
mod epochs;
mod failure;
#[cfg(feature = "gpu")]
mod gpus;
mod machine;
mod miner;
mod priority;
#[cfg(feature = "rivals")]
mod rival;
mod show;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::args::{Cli, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version are answers, not errors.
        Err(answer) if !answer.use_stderr() => {
            let _ = answer.print();
            return ExitCode::SUCCESS;
        }
        // Nothing was asked for: the page that says what may be is more use than a line.
        Err(page) if page.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = page.print();
            return ExitCode::from(2);
        }
        Err(error) => return report(&failure::usage(args::one_line(&error))),
    };
    let outcome = match cli.command {
        Command::Bench(bench) if bench.is_of_pool() => cmd::bench_pool::run(&bench, &cli.machine),
        Command::Bench(bench) => cmd::bench::run(&bench, &cli.machine),
        Command::Loadtest(loadtest) => cmd::loadtest::run(&loadtest, &cli.machine),
        Command::Hash(hash) => cmd::hash::run(&hash, &cli.machine),
        Command::Scan(scan) => cmd::scan::run(&scan, &cli.machine),
        Command::Mine(mine) => cmd::mine::run(&mine, &cli.machine),
        Command::Serve(serve) => cmd::serve::run(&serve, &cli.machine),
        Command::Ledger(ledger) => cmd::ledger::run(&ledger),
        Command::Config(config) => cmd::config::run(&config),
        Command::Verify(verify) => cmd::verify::run(&verify, &cli.machine),
        Command::Dag(dag) => cmd::dag::run(&dag, &cli.machine),
        Command::Devices(devices) => cmd::devices::run(&devices, &cli.machine),
        Command::Selftest(selftest) => cmd::selftest::run(&selftest, &cli.machine),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    if !failure.is_broken_pipe() {
        eprintln!("otedama-cli: {failure}");
    }
    failure.exit_code()
}
