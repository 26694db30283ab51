//! Monero's stratum: JSON-RPC 2.0 with named parameters.
//!
//! Targets travel in two forms, both little-endian. Eight bytes are the 64-bit target itself: a share's
//! last eight hash bytes as a number must be below it. Four bytes are 2^32 - 1 divided by the difficulty,
//! from which both ends make the same 64-bit target by two divisions ([`ShareTarget`]).

use std::num::NonZeroU64;

use otedama_core::target::U256;
use otedama_core::{Difficulty, Hash256, Target};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Message;
use super::error::DecodeError;
use super::json::{Call, Field, Form, Id, Params, call};

/// The longest hashing blob, in bytes.
pub const MAX_BLOB_BYTES: usize = 512;

/// What a miner says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MinerMessage {
    /// `login`.
    Login(Login),
    /// `getjob`, of old clients, with the session's name.
    GetJob(String),
    /// `submit`.
    Submit(Submit),
    /// `keepalived`, with the session's name.
    KeepAlive(String),
}

/// What a pool says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PoolMessage {
    /// `job`.
    Job(Job),
}

/// Who connects.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Login {
    /// An address, with a worker's name or a difficulty behind it.
    pub login: String,
    /// Often `x`, or the worker's name.
    pub password: String,
    /// The user agent.
    pub agent: String,
    /// The rig's name.
    pub rig: Option<String>,
    /// The algorithms it can do, the best first; empty if it does not say.
    pub algorithms: Vec<String>,
}

/// A share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit {
    /// The session's name.
    pub session: String,
    /// The job.
    pub job_id: String,
    /// The nonce as it lies in the blob, read little-endian.
    pub nonce: u32,
    /// What is compared with the target, in the function's output order: the hash, or for `rx/2` the commitment to it.
    pub result: Hash256,
    /// For `rx/2` the hash itself, under the name that XMRig sends it by (pull request 3775): `result` is
    /// `blake2b-256(blob, commitment)`.
    pub commitment: Option<Hash256>,
    /// The algorithm, if both ends name them.
    pub algorithm: Option<String>,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What shares name it by.
    pub job_id: String,
    /// The hashing blob.
    pub blob: Vec<u8>,
    /// How small the hash must be.
    pub target: ShareTarget,
    /// The algorithm, such as `rx/0`.
    pub algorithm: Option<String>,
    /// The block's height.
    pub height: Option<u64>,
    /// What the cache is grown from.
    pub seed_hash: Option<Hash256>,
}

/// How small a hash must be, in the form it is sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareTarget {
    /// Four bytes: 2^32 - 1 divided by the difficulty.
    Compact(u32),
    /// Eight bytes: 2^64 divided by the difficulty.
    Full(u64),
}

/// The result of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// The session's name.
    pub session: String,
    /// The first job.
    pub job: Job,
    /// What else the pool understands, such as `algo`, `nicehash`, `keepalive`.
    pub extensions: Vec<String>,
}

/// The result of what has no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    status: &'static str,
}

impl Status {
    /// A share that counts.
    pub const OK: Status = Status { status: "OK" };
    /// A connection that is kept.
    pub const KEPT_ALIVE: Status = Status { status: "KEEPALIVED" };
}

impl Message for MinerMessage {
    fn read(call: &Call) -> Result<MinerMessage, DecodeError> {
        let params = Params::object(&call.method, &call.params)?;
        let session = || params.named("id").text();
        Ok(match call.method.as_str() {
            "login" => {
                let algorithms = params.named("algo").optional().map(|list| {
                    list.items(64, "a list of at most 64 names")?.into_iter().map(Field::text).collect()
                });
                MinerMessage::Login(Login {
                    login: params.named("login").text()?,
                    password: params.named("pass").text_or_empty(),
                    agent: params.named("agent").text_or_empty(),
                    rig: params.named("rigid").optional().map(Field::text).transpose()?,
                    algorithms: algorithms.transpose()?.unwrap_or_default(),
                })
            }
            "getjob" => MinerMessage::GetJob(session()?),
            "submit" => MinerMessage::Submit(Submit {
                session: session()?,
                job_id: params.named("job_id").text()?,
                nonce: params.named("nonce").array("8 hex digits").map(u32::from_le_bytes)?,
                result: params.named("result").hash()?,
                commitment: params.named("commitment").optional().map(Field::hash).transpose()?,
                algorithm: params.named("algo").optional().map(Field::text).transpose()?,
            }),
            "keepalived" => MinerMessage::KeepAlive(params.named("id").text_or_empty()),
            other => return Err(DecodeError::unknown(other)),
        })
    }

    fn encode(&self, id: Option<&Id>) -> String {
        let (method, params) = match self {
            MinerMessage::Login(login) => ("login", login.to_value()),
            MinerMessage::GetJob(session) => ("getjob", json!({ "id": session })),
            MinerMessage::Submit(share) => {
                let mut params = json!({
                    "id": share.session,
                    "job_id": share.job_id,
                    "nonce": hex::encode(share.nonce.to_le_bytes()),
                    "result": share.result.to_raw_hex(),
                });
                if let Some(hash) = share.commitment {
                    params["commitment"] = hash.to_raw_hex().into();
                }
                if let Some(algorithm) = &share.algorithm {
                    params["algo"] = algorithm.as_str().into();
                }
                ("submit", params)
            }
            MinerMessage::KeepAlive(session) => ("keepalived", json!({ "id": session })),
        };
        call(Form::Rpc2, id, method, &params)
    }
}

impl Message for PoolMessage {
    fn read(call: &Call) -> Result<PoolMessage, DecodeError> {
        match call.method.as_str() {
            "job" => Ok(PoolMessage::Job(Job::read(&Params::object("job", &call.params)?)?)),
            other => Err(DecodeError::unknown(other)),
        }
    }

    fn encode(&self, id: Option<&Id>) -> String {
        let PoolMessage::Job(job) = self;
        call(Form::Rpc2, id, "job", &job.to_value())
    }
}

impl Login {
    fn to_value(&self) -> Value {
        let mut params = json!({ "login": self.login, "pass": self.password, "agent": self.agent });
        if let Some(rig) = &self.rig {
            params["rigid"] = rig.as_str().into();
        }
        if !self.algorithms.is_empty() {
            params["algo"] = self.algorithms.as_slice().into();
        }
        params
    }
}

impl Job {
    fn read(params: &Params<'_>) -> Result<Job, DecodeError> {
        let seed_hash = params.named("seed_hash").optional();
        Ok(Job {
            job_id: params.named("job_id").text()?,
            blob: params.named("blob").bytes(MAX_BLOB_BYTES, "43 to 512 bytes in hex")?,
            target: ShareTarget::read(params.named("target"))?,
            algorithm: params.named("algo").optional().map(Field::text).transpose()?,
            height: params.named("height").optional().map(Field::whole).transpose()?,
            seed_hash: seed_hash.map(Field::hash).transpose()?,
        })
    }

    /// The object as it is sent.
    pub fn to_value(&self) -> Value {
        let mut job = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            value.map(|value| job.insert(name.to_owned(), value));
        };
        set("job_id", Some(self.job_id.as_str().into()));
        set("blob", Some(hex::encode(&self.blob).into()));
        set("target", Some(self.target.to_hex().into()));
        set("algo", self.algorithm.as_deref().map(Value::from));
        set("height", self.height.map(Value::from));
        set("seed_hash", self.seed_hash.map(|hash| hash.to_raw_hex().into()));
        job.into()
    }
}

impl ShareTarget {
    /// The largest difficulty sent in four bytes: beyond it the rounding costs miners too much.
    const MAX_COMPACT_DIFFICULTY: u64 = 4_000_000;

    /// The target of a difficulty: four bytes up to 4,000,000, which hardware and old miners need, else eight.
    pub fn of(difficulty: NonZeroU64) -> ShareTarget {
        match difficulty.get() {
            1 => ShareTarget::Compact(u32::MAX),
            d if d <= ShareTarget::MAX_COMPACT_DIFFICULTY => ShareTarget::Compact(u32::MAX / d as u32),
            d => ShareTarget::Full(((1u128 << 64) / u128::from(d)) as u64),
        }
    }

    fn read(field: Field<'_>) -> Result<ShareTarget, DecodeError> {
        const EXPECTED: &str = "4 or 8 bytes in hex, not all zero";
        let digits = field.digits(EXPECTED)?;
        let target = match digits.len() {
            8 => ShareTarget::Compact(u32::from_le_bytes(field.array(EXPECTED)?)),
            16 => ShareTarget::Full(u64::from_le_bytes(field.array(EXPECTED)?)),
            _ => return Err(field.wrong(EXPECTED)),
        };
        match target {
            ShareTarget::Compact(0) | ShareTarget::Full(0) => Err(field.wrong(EXPECTED)),
            target => Ok(target),
        }
    }

    fn to_hex(self) -> String {
        match self {
            ShareTarget::Compact(number) => hex::encode(number.to_le_bytes()),
            ShareTarget::Full(number) => hex::encode(number.to_le_bytes()),
        }
    }

    /// The 64-bit target: a share's last eight bytes, little-endian, must be below it.
    pub fn target64(self) -> u64 {
        match self {
            ShareTarget::Compact(number) => u64::MAX / u64::from(u32::MAX / number.max(1)),
            ShareTarget::Full(number) => number.max(1),
        }
    }

    /// The same limit as a 256-bit target: the hashes whose last eight bytes are below the 64-bit one.
    pub fn to_target(self) -> Target {
        let number = (U256::from(self.target64()) << 192) - U256::from(1u64);
        Target::new(number).expect("a 64-bit target of at least 1 leaves 2^192 - 1")
    }

    /// The difficulty that miners show for it.
    pub fn difficulty(self) -> Difficulty {
        let number = (u64::MAX / self.target64()) as f64;
        Difficulty::new(number).expect("a quotient of two positive numbers, the larger above")
    }
}

impl LoggedIn {
    /// The result as it is sent.
    pub fn to_value(&self) -> Value {
        json!({
            "id": self.session,
            "job": self.job.to_value(),
            "extensions": self.extensions,
            "status": "OK",
        })
    }

    /// Reads a result.
    ///
    /// # Errors
    /// If the session or the job is missing or wrong.
    pub fn read(result: &Value) -> Result<LoggedIn, DecodeError> {
        let params = Params::object("login result", result)?;
        let job = params.named("job").value("a job")?;
        let extensions = params
            .named("extensions")
            .optional()
            .map(|list| list.items(64, "a list of at most 64 names")?.into_iter().map(Field::text).collect());
        Ok(LoggedIn {
            session: params.named("id").text()?,
            job: Job::read(&Params::object("login result job", job)?)?,
            extensions: extensions.transpose()?.unwrap_or_default(),
        })
    }
}
