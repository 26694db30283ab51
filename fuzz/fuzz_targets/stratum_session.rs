//! Lines, times, jobs and verdicts in any order into the pool's end of every dialect: nothing panics,
//! nothing is asked of the hashers beyond the limits, every call is answered at most once, and what is
//! remembered stays bounded.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use otedama_core::verify::Reject;
use otedama_core::{Algorithm, CompactBits, Difficulty, Hash256, Target};
use otedama_pool::session::server::bitcoin::{BitcoinConfig, BitcoinJob};
use otedama_pool::session::server::ethereum::{EthereumConfig, EthereumJob};
use otedama_pool::session::server::kawpow::{KawPowConfig, KawPowJob};
use otedama_pool::session::server::monero::{MoneroConfig, MoneroJob};
use otedama_pool::session::server::{BitcoinServer, EthereumServer, KawPowServer, MoneroServer};
use otedama_pool::session::{Action, Duplicates, Limits, Now, Server, Ticket, VardiffConfig};
use otedama_pool::stratum::bitcoin::{Extranonce, Notify};

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    /// Any text.
    Line(&'a str),
    /// A call whose shape is right, which a fuzzer seldom guesses.
    Known {
        which: u8,
        job: u8,
        nonce: u32,
        time: u32,
        bits: Option<u32>,
    },
    Job {
        name: u8,
        clean: bool,
    },
    Tick,
    Time {
        elapsed: u32,
        unix: u32,
    },
    Login {
        ticket: u8,
        grant: bool,
    },
    Verdict {
        ticket: u16,
    },
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    dialect: u8,
    mask: u32,
    extranonce2_size: u8,
    steps: Vec<Step<'a>>,
}

enum Session {
    Bitcoin(BitcoinServer),
    Ethereum(EthereumServer),
    KawPow(KawPowServer),
    Monero(MoneroServer),
}

impl Session {
    fn server(&mut self) -> &mut dyn Server {
        match self {
            Session::Bitcoin(server) => server,
            Session::Ethereum(server) => server,
            Session::KawPow(server) => server,
            Session::Monero(server) => server,
        }
    }
}

fuzz_target!(|input: Input| {
    let limits = Limits { max_pending: 8, max_jobs: 4, max_workers: 4, max_shares: 16, ..Limits::default() };
    let max_pending = limits.max_pending;
    let duplicates = Duplicates::new();
    let mut session = open(&input, limits, &duplicates);
    let mut now = Now::default();
    let (mut out, mut pending) = (Vec::new(), 0usize);
    for step in &input.steps {
        out.clear();
        match step {
            Step::Line(line) => session.server().on_line(line, now, &mut out),
            Step::Known { which, job, nonce, time, bits } => {
                let line = known(*which, *job, *nonce, *time, *bits);
                session.server().on_line(&line, now, &mut out);
                let answers = out
                    .iter()
                    .filter(|action| matches!(action, Action::Send(line) if line.contains("\"id\":\"q\"")));
                assert!(answers.count() <= 1, "{line}: {out:?}");
            }
            Step::Job { name, clean } => set_job(&mut session, *name, *clean, now, &mut out),
            Step::Tick => session.server().on_tick(now, &mut out),
            Step::Time { elapsed, unix } => {
                now = Now { elapsed: Duration::from_millis(u64::from(*elapsed)), unix_s: u64::from(*unix) };
            }
            Step::Login { ticket, grant } => {
                let verdict = if *grant { Ok(()) } else { Err("no".to_owned()) };
                session.server().on_login(Ticket(u64::from(*ticket)), verdict, now, &mut out);
            }
            Step::Verdict { ticket } => {
                let verdict = Err(Reject::NotAllowed);
                let before = out.len();
                session.server().on_verdict(Ticket(u64::from(*ticket)), verdict, now, &mut out);
                pending -= usize::from(out.len() > before && pending > 0);
            }
        }
        pending += out.iter().filter(|action| matches!(action, Action::Verify(_))).count();
        assert!(pending <= max_pending, "{pending} shares are being hashed");
        for action in &out {
            if let Action::Send(line) = action {
                assert!(!line.contains('\n') && line.len() < 1 << 16, "{line}");
            }
        }
        assert!(duplicates.len() <= 4 * 16 + max_pending);
    }
});

fn open(input: &Input<'_>, limits: Limits, duplicates: &Duplicates) -> Session {
    let difficulty = |number: f64| Difficulty::new(number).unwrap();
    let vardiff = VardiffConfig::new(difficulty(1.0), difficulty(1e-3), difficulty(1e9));
    let (session, now, duplicates) = ("s".to_owned(), Now::default(), duplicates.clone());
    match input.dialect % 5 {
        0 => {
            let extranonce2_size = usize::from(input.extranonce2_size % 17);
            let extranonce = Extranonce { extranonce1: vec![1, 2, 3, 4], extranonce2_size };
            let (algorithm, version_mask) = (Algorithm::Sha256d, input.mask);
            let config = BitcoinConfig { algorithm, session, extranonce, version_mask, limits, vardiff };
            Session::Bitcoin(BitcoinServer::new(config, now))
        }
        1 => {
            let config = KawPowConfig { session, extranonce: vec![0xab], limits, vardiff, duplicates };
            Session::KawPow(KawPowServer::new(config, now))
        }
        2 => {
            let nonce_prefix = Some(input.extranonce2_size).filter(|byte| byte % 2 == 0);
            Session::Monero(MoneroServer::new(
                MoneroConfig { algorithm: Algorithm::RandomXV2, session, nonce_prefix, limits, vardiff },
                now,
            ))
        }
        _ => {
            let (algorithm, extranonce) = (Algorithm::Ethash, vec![0xab]);
            let config = EthereumConfig { algorithm, session, extranonce, limits, vardiff, duplicates };
            Session::Ethereum(EthereumServer::new(config, now))
        }
    }
}

fn set_job(session: &mut Session, name: u8, clean: bool, now: Now, out: &mut Vec<Action>) {
    let (job_id, hash) = (format!("{name:x}"), Hash256::from_raw([name; 32]));
    let network = Target::new(1u64.try_into().unwrap()).unwrap();
    match session {
        Session::Bitcoin(server) => {
            let notify = Notify {
                job_id,
                prev_hash: hash,
                coinb1: vec![name; 8],
                coinb2: vec![name; 8],
                branch: vec![hash],
                version: 0x2000_0000,
                bits: CompactBits(0x1703_255b),
                ntime: 1_000_000,
                clean,
            };
            server.set_job(Arc::new(BitcoinJob { notify, min_time: 1_000_000 }), now, out);
        }
        Session::Ethereum(server) => {
            let job =
                EthereumJob { job_id, header_hash: hash, height: u64::from(name) << 24, network, clean };
            server.set_job(Arc::new(job), now, out);
        }
        Session::KawPow(server) => {
            let (height, bits) = (u64::from(name), CompactBits(u32::from(name) << 20));
            let job = KawPowJob { job_id, header_hash: hash, height, bits, clean };
            server.set_job(Arc::new(job), now, out);
        }
        Session::Monero(server) => {
            let blob = vec![name; usize::from(name)];
            let job = MoneroJob { job_id, blob, seed_hash: hash, height: 1, network, clean };
            server.set_job(Arc::new(job), now, out);
        }
    }
}

fn known(which: u8, job: u8, nonce: u32, time: u32, bits: Option<u32>) -> String {
    let (header, zeros) = (Hash256::from_raw([job; 32]).to_raw_hex(), "0".repeat(64));
    let bits = bits.map(|bits| format!(",\"{bits:08x}\"")).unwrap_or_default();
    let (method, params) = match which % 16 {
        0 => ("mining.subscribe", "[]".to_owned()),
        1 => ("mining.subscribe", "[\"m\",\"EthereumStratum/1.0.0\"]".to_owned()),
        2 => ("mining.authorize", "[\"w\",\"x\"]".to_owned()),
        3 => (
            "mining.configure",
            format!("[[\"version-rolling\"],{{\"version-rolling.mask\":\"{time:08x}\"}}]"),
        ),
        4 => (
            "mining.submit",
            format!("[\"w\",\"{job:x}\",\"{nonce:08x}{nonce:08x}\",\"{time:08x}\",\"{nonce:08x}\"{bits}]"),
        ),
        5 => ("mining.submit", format!("[\"w\",\"{job:x}\",\"{nonce:014x}\"]")),
        6 => ("mining.submit", format!("[\"{job:x}\",\"{nonce:014x}\",\"w\"]")),
        7 => (
            "mining.submit",
            format!("[\"w\",\"{job:x}\",\"0xab{nonce:014x}\",\"0x{header}\",\"0x{zeros}\"]"),
        ),
        8 => ("eth_submitLogin", "[\"w\"]".to_owned()),
        9 => ("eth_getWork", "[]".to_owned()),
        10 => ("eth_submitWork", format!("[\"0x{nonce:016x}\",\"0x{header}\",\"0x{zeros}\"]")),
        11 => ("mining.hello", "{\"proto\":\"EthereumStratum/2.0.0\"}".to_owned()),
        12 => ("login", "{\"login\":\"w\",\"pass\":\"x\"}".to_owned()),
        13 => (
            "submit",
            format!(
                "{{\"id\":\"s\",\"job_id\":\"{job:x}\",\"nonce\":\"{nonce:08x}\",\"result\":\"{zeros}\"}}"
            ),
        ),
        14 => ("getjob", "{\"id\":\"s\"}".to_owned()),
        _ => ("mining.suggest_difficulty", format!("[{nonce}]")),
    };
    format!("{{\"id\":\"q\",\"method\":\"{method}\",\"params\":{params}}}")
}
