//! `hash`: digests of hex strings, one at a time or a line each through the batch path.

use std::io::{self, BufRead, BufWriter, Read, Write};
use std::sync::Arc;

use otedama_core::algo::scrypt::{ScryptParams, scrypt};
use otedama_core::epoch::Epoch;
use otedama_core::scan::{Attempt, Hasher};
use otedama_core::{Algorithm, Digest};
use serde_json::json;

use crate::args::{EraArgs, HashArgs, HashCommand, HashRandomxArgs, HashScryptArgs, MachineArgs, SealedArgs};
use crate::epochs::{self, Epochs};
use crate::failure::{Failure, Outcome, usage, work};
use crate::machine::Machine;
use crate::{cmd, show};

/// The longest input accepted, in bytes.
const MAX_INPUT_LEN: usize = 1 << 20;

/// How many lines of standard input are hashed at a time. A bad line keeps its whole batch from being
/// hashed, so that short inputs are done wholly or not at all.
const LINES_PER_BATCH: usize = 4096;

pub(crate) fn run(command: &HashCommand, machine: &MachineArgs) -> Outcome {
    let machine = Machine::detect(machine);
    match command {
        HashCommand::Ethash(args) => {
            let algorithm = if args.etchash { Algorithm::Etchash } else { Algorithm::Ethash };
            return hash_sealed(algorithm, &args.sealed, args.height, args.epoch, &machine);
        }
        HashCommand::Kawpow(args) => {
            return hash_sealed(Algorithm::KawPow, &args.sealed, Some(args.height), None, &machine);
        }
        _ => {}
    }
    let (algorithm, args) = match command {
        HashCommand::Sha256d(args) => (Algorithm::Sha256d, &args.common),
        HashCommand::Scrypt(args) => (Algorithm::Scrypt, &args.common),
        HashCommand::Randomx(args) => (args.variant.into(), &args.common),
        HashCommand::Ethash(_) | HashCommand::Kawpow(_) => unreachable!("done above"),
    };
    let mut function = match command {
        HashCommand::Scrypt(args) => Function::scrypt(args, &machine)?,
        HashCommand::Sha256d(_) => {
            let kernel = machine.kernel(algorithm, args.kernel.as_deref(), None, 1)?;
            Function::Kernel { hasher: kernel.hasher(&machine.setup)?, epoch: None }
        }
        HashCommand::Randomx(args) => {
            // Before the epoch is built, which takes a while.
            if args.common.input != "-" {
                decode(&args.common.input).map_err(usage)?;
            }
            Function::randomx(args, algorithm, &machine)?
        }
        HashCommand::Ethash(_) | HashCommand::Kawpow(_) => unreachable!("done above"),
    };
    if args.input == "-" {
        return hash_lines(io::stdin().lock(), algorithm, args, &mut function);
    }
    let input = decode(&args.input).map_err(usage)?;
    let digests = function.hash_many(&[input])?;
    print_digests(algorithm, args, &[args.input.trim()], &digests)
}

/// Hashes one sealed header with one nonce.
fn hash_sealed(
    algorithm: Algorithm,
    args: &SealedArgs,
    height: Option<u64>,
    epoch: Option<u32>,
    machine: &Machine,
) -> Outcome {
    let (key, height) = epochs::era(algorithm, &EraArgs { key: None, height, epoch })?;
    let header_hash = cmd::hash256("header hash", &args.header_hash)?;
    let kernel = machine.kernel(algorithm, args.kernel.as_deref(), None, 1)?;
    let mut hasher = kernel.hasher(&machine.setup)?;
    let epochs = key.and_then(|key| Some((key, Epochs::of(key.algorithm, machine)?)));
    let Some((key, epochs)) = epochs else { return Err(epochs::none(algorithm)) };
    let epoch = epochs.build_or_lighter(&key, args.mode.into(), &*cmd::interrupt_flag()?)?;
    let attempt = Attempt::Sealed { header_hash: &header_hash, nonce: args.nonce, height };
    let mut digest = [Digest::plain([0; 32])];
    hasher.hash_many(&[attempt], Some(&epoch), &mut digest).map_err(work)?;
    let [digest] = digest;
    let (mix, pow) = (digest.mix.map(|mix| mix.to_raw_hex()), digest.pow.to_raw_hex());
    if args.json {
        show::print_json(&json!({ "algorithm": algorithm.name(), "mix": mix, "digest": pow }))?;
    } else {
        show::print_line(&format!("mix {}  digest {pow}", mix.unwrap_or_default()))?;
    }
    Ok(())
}

/// What turns inputs into digests.
enum Function {
    /// A kernel of the mining form.
    Kernel { hasher: Box<dyn Hasher>, epoch: Option<Arc<Epoch>> },
    /// scrypt with any parameters, in the portable form; another salt than the input where given. The
    /// kernel serves those inputs that have the mining form.
    Scrypt { params: ScryptParams, salt: Option<Vec<u8>>, mining: Option<Box<dyn Hasher>> },
}

impl Function {
    fn scrypt(args: &HashScryptArgs, machine: &Machine) -> Result<Function, Failure> {
        let params = ScryptParams::new(args.n, args.r, args.p).map_err(usage)?;
        let salt = args.salt.as_deref().map(decode).transpose().map_err(usage)?;
        let mining = params == ScryptParams::MINING && salt.is_none();
        let kernel = args.common.kernel.as_deref();
        if let Some(name) = kernel.filter(|_| !mining) {
            return Err(usage(format!(
                "kernel '{name}' computes N 1024, r 1, p 1 with the input as salt: leave --kernel out for other parameters"
            )));
        }
        if !mining {
            return Ok(Function::Scrypt { params, salt, mining: None });
        }
        let hasher = machine.kernel(Algorithm::Scrypt, kernel, None, 1)?.hasher(&machine.setup)?;
        Ok(match kernel {
            // A kernel asked for by name does the work or refuses it; nothing else takes its place.
            Some(_) => Function::Kernel { hasher, epoch: None },
            None => Function::Scrypt { params, salt, mining: Some(hasher) },
        })
    }

    fn randomx(args: &HashRandomxArgs, algorithm: Algorithm, machine: &Machine) -> Result<Function, Failure> {
        let key = epochs::key(algorithm, Some(&args.key))?;
        let Some(epochs) = Epochs::of(algorithm, machine) else {
            return Err(epochs::none(algorithm));
        };
        // A bad kernel name is said before the epoch is built.
        let kernel = machine.kernel(algorithm, args.common.kernel.as_deref(), None, 1)?;
        let hasher = kernel.hasher(&machine.setup)?;
        let interrupted = cmd::interrupt_flag()?;
        let epoch = epochs.build_or_lighter(&key, args.mode.into(), &interrupted)?;
        Ok(Function::Kernel { hasher, epoch: Some(epoch) })
    }

    fn hash_many(&mut self, inputs: &[Vec<u8>]) -> Result<Vec<Digest>, Failure> {
        let mut digests = vec![Digest::plain([0; 32]); inputs.len()];
        let (hasher, params, salt) = match self {
            Function::Kernel { hasher, epoch } => {
                batch(hasher.as_mut(), epoch.as_ref(), inputs, &mut digests)?;
                return Ok(digests);
            }
            Function::Scrypt { params, salt, mining } => (mining, params, salt),
        };
        if let Some(hasher) = hasher.as_deref_mut().filter(|_| inputs.iter().all(|input| input.len() == 80)) {
            batch(hasher, None, inputs, &mut digests)?;
            return Ok(digests);
        }
        for (input, digest) in inputs.iter().zip(&mut digests) {
            let mut raw = [0; 32];
            scrypt(input, salt.as_deref().unwrap_or(input), params, &mut raw).map_err(work)?;
            *digest = Digest::plain(raw);
        }
        Ok(digests)
    }
}

fn batch(
    hasher: &mut dyn Hasher,
    epoch: Option<&Arc<Epoch>>,
    inputs: &[Vec<u8>],
    digests: &mut [Digest],
) -> Outcome {
    let attempts: Vec<_> = inputs.iter().map(|input| Attempt::Bytes(input)).collect();
    hasher.hash_many(&attempts, epoch, digests).map_err(usage)
}

fn hash_lines(
    mut input: impl BufRead,
    algorithm: Algorithm,
    args: &HashArgs,
    function: &mut Function,
) -> Outcome {
    let mut number = 0;
    loop {
        let (mut texts, mut inputs) = (Vec::new(), Vec::new());
        while texts.len() < LINES_PER_BATCH
            && let Some(line) = read_line(&mut input, number + 1)?
        {
            number += 1;
            inputs.push(decode(&line).map_err(|error| usage(format!("line {number}: {error}")))?);
            texts.push(line);
        }
        if texts.is_empty() {
            return Ok(());
        }
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        print_digests(algorithm, args, &texts, &function.hash_many(&inputs)?)?;
    }
}

/// The next line without its end and surrounding blanks; `None` at the end of the input. Never holds
/// more than the longest input.
fn read_line(input: &mut impl BufRead, number: usize) -> Result<Option<String>, Failure> {
    let limit = 2 * MAX_INPUT_LEN + 1024;
    let mut line = Vec::new();
    if input.by_ref().take(limit as u64).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.len() == limit && !line.ends_with(b"\n") {
        return Err(usage(format!(
            "line {number} is longer than {limit} bytes: expected at most {MAX_INPUT_LEN} bytes in hex"
        )));
    }
    match String::from_utf8(line) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(_) => Err(usage(format!("line {number} is not text: expected hex digits"))),
    }
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    let shown = || {
        if text.len() > 40 {
            format!("{}...", text.chars().take(40).collect::<String>())
        } else {
            text.to_owned()
        }
    };
    if text.len() > 2 * MAX_INPUT_LEN {
        return Err(format!("input has {} digits: expected at most {}", text.len(), 2 * MAX_INPUT_LEN));
    }
    hex::decode(text).map_err(|error| match error {
        hex::FromHexError::OddLength => {
            format!("input '{}' has {} digits: expected an even number", shown(), text.len())
        }
        hex::FromHexError::InvalidHexCharacter { c, index } => {
            format!(
                "input '{}' has '{}' at position {}: expected hex digits",
                shown(),
                c.escape_default(),
                index + 1
            )
        }
        hex::FromHexError::InvalidStringLength => format!("input '{}' has a wrong length", shown()),
    })
}

fn print_digests(algorithm: Algorithm, args: &HashArgs, inputs: &[&str], digests: &[Digest]) -> Outcome {
    let mut out = BufWriter::new(io::stdout().lock());
    for (input, digest) in inputs.iter().zip(digests) {
        let digest = digest.pow.to_raw_hex();
        if args.json {
            serde_json::to_writer(
                &mut out,
                &json!({ "algorithm": algorithm.name(), "input": input, "digest": digest }),
            )?;
            writeln!(out)?;
        } else {
            writeln!(out, "{digest}")?;
        }
    }
    Ok(out.flush()?)
}
