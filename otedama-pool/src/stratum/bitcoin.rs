//! Bitcoin-style Stratum v1 (SHA-256d, scrypt): messages and their codec.
//!
//! Sources: the original Stratum mining protocol, BIP 310 (`mining.configure`), BIP 320 (version bits).
//! Traps the types take care of: the previous block hash travels with every 4-byte word reversed;
//! version, bits, time and nonce travel as big-endian hex and lie little-endian in the header.

use otedama_core::{CompactBits, Difficulty, Hash256, Target};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Message;
use super::error::DecodeError;
use super::json::{Call, Field, Form, Id, Params, call, decimal};

/// The longest extranonce of either kind, in bytes.
pub const MAX_EXTRANONCE_BYTES: usize = 16;

/// The most siblings on the way to a merkle root: a block has fewer than 2^32 transactions.
pub const MAX_BRANCH: usize = 32;

/// The longest half of a coinbase transaction, in bytes.
pub const MAX_COINBASE_BYTES: usize = 400_000;

/// What a miner says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MinerMessage {
    /// `mining.configure` (BIP 310).
    Configure(Configure),
    /// `mining.subscribe`.
    Subscribe(Subscribe),
    /// `mining.authorize`.
    Authorize(Login),
    /// `mining.extranonce.subscribe`: the miner understands `mining.set_extranonce`.
    ExtranonceSubscribe,
    /// `mining.suggest_difficulty`.
    SuggestDifficulty(Difficulty),
    /// `mining.suggest_target`.
    SuggestTarget(Target),
    /// `mining.submit`.
    Submit(Submit),
    /// `mining.get_transactions` of a job.
    GetTransactions(String),
    /// `mining.multi_version`: a probe of old firmware.
    MultiVersion,
    /// `mining.ping`.
    Ping,
}

/// What a pool says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PoolMessage {
    /// `mining.set_difficulty`: in force from the next job.
    SetDifficulty(Difficulty),
    /// `mining.notify`.
    Notify(Box<Notify>),
    /// `mining.set_extranonce`: in force from the next job.
    SetExtranonce(Extranonce),
    /// `mining.set_version_mask`: in force at once.
    SetVersionMask(u32),
    /// `client.reconnect`.
    Reconnect(Reconnect),
    /// `client.show_message`.
    ShowMessage(String),
    /// `client.get_version`: wants the user agent as its answer.
    GetVersion,
    /// `mining.ping`.
    Ping,
}

/// Extensions asked for before anything else.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Configure {
    /// The extensions named, in order; each is answered.
    pub extensions: Vec<String>,
    /// `version-rolling.mask`: bits the miner can roll.
    pub mask: Option<u32>,
    /// `version-rolling.min-bit-count`.
    pub min_bits: Option<u64>,
    /// `minimum-difficulty.value`.
    pub min_difficulty: Option<f64>,
}

/// The name of the extension that lets a miner roll version bits.
pub const VERSION_ROLLING: &str = "version-rolling";
/// The name of the extension that asks for no difficulty below one.
pub const MINIMUM_DIFFICULTY: &str = "minimum-difficulty";
/// The name of the extension that stands for `mining.extranonce.subscribe`.
pub const SUBSCRIBE_EXTRANONCE: &str = "subscribe-extranonce";
/// The name of the extension that tells about the hardware.
pub const INFO: &str = "info";

/// Who connects.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Subscribe {
    /// The user agent, empty if it said none.
    pub agent: String,
    /// The session it would like to go on with.
    pub session: Option<String>,
}

/// A name and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// `account.worker` or `address.worker`.
    pub username: String,
    /// Often `x`, or options such as `d=1024`.
    pub password: String,
}

/// A share, as the miner puts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit {
    /// The worker's name.
    pub username: String,
    /// The job.
    pub job_id: String,
    /// Extranonce2.
    pub extranonce2: Vec<u8>,
    /// The header's time, in seconds since 1970.
    pub ntime: u32,
    /// The header's nonce.
    pub nonce: u32,
    /// The values of the version bits under the mask.
    pub version_bits: Option<u32>,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// What shares name it by.
    pub job_id: String,
    /// The previous block's hash in the header's byte order.
    pub prev_hash: Hash256,
    /// The coinbase transaction up to the extranonces.
    pub coinb1: Vec<u8>,
    /// The coinbase transaction after them.
    pub coinb2: Vec<u8>,
    /// The coinbase's siblings on the way to the merkle root, lowest first, in the hash's output order.
    pub branch: Vec<Hash256>,
    /// The header's version.
    pub version: u32,
    /// The network's target.
    pub bits: CompactBits,
    /// The header's time, in seconds since 1970.
    pub ntime: u32,
    /// Whether all earlier jobs are dead.
    pub clean: bool,
}

/// The pool's part of the coinbase, and how much room the miner has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extranonce {
    /// Extranonce1.
    pub extranonce1: Vec<u8>,
    /// How many bytes extranonce2 has.
    pub extranonce2_size: usize,
}

/// Where to connect instead; nothing means the same place.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Reconnect {
    /// The host.
    pub host: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// How long to wait before, in seconds.
    pub wait_s: u64,
}

/// The answer to `mining.subscribe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// The session's name, for subscribing to it again.
    pub session: String,
    /// What makes this connection's coinbases its own.
    pub extranonce: Extranonce,
}

/// The answer to `mining.configure`, as far as it concerns what [`Configure`] can ask.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Configured {
    /// The mask agreed on; `None` if there is no version rolling.
    pub mask: Option<u32>,
    /// Whether the minimum difficulty is kept.
    pub min_difficulty: bool,
    /// Whether `mining.set_extranonce` may come.
    pub subscribe_extranonce: bool,
}

impl Message for MinerMessage {
    fn read(call: &Call) -> Result<MinerMessage, DecodeError> {
        // Some send a bare string or null where a list belongs: only these methods can do without one.
        let none = Value::Null;
        let params = match call.method.as_str() {
            "mining.extranonce.subscribe" | "mining.multi_version" | "mining.ping" => &none,
            _ => &call.params,
        };
        let params = Params::list(&call.method, params)?;
        Ok(match call.method.as_str() {
            "mining.configure" => MinerMessage::Configure(Configure::read(&params)?),
            "mining.subscribe" => MinerMessage::Subscribe(Subscribe {
                agent: params.at(0, "user agent").text_or_empty(),
                session: params.at(1, "session").optional().map(Field::text).transpose()?,
            }),
            "mining.authorize" => MinerMessage::Authorize(Login {
                username: params.at(0, "username").text()?,
                password: params.at(1, "password").text_or_empty(),
            }),
            "mining.extranonce.subscribe" => MinerMessage::ExtranonceSubscribe,
            "mining.suggest_difficulty" => {
                MinerMessage::SuggestDifficulty(difficulty(params.at(0, "difficulty"))?)
            }
            "mining.suggest_target" => MinerMessage::SuggestTarget(params.at(0, "target").target()?),
            "mining.submit" => MinerMessage::Submit(Submit {
                username: params.at(0, "username").text()?,
                job_id: params.at(1, "job id").text()?,
                extranonce2: params.at(2, "extranonce2").bytes(MAX_EXTRANONCE_BYTES, EXTRANONCE2)?,
                ntime: params.at(3, "ntime").word()?,
                nonce: params.at(4, "nonce").word()?,
                version_bits: params.at(5, "version bits").optional().map(Field::word).transpose()?,
            }),
            "mining.get_transactions" => MinerMessage::GetTransactions(params.at(0, "job id").text()?),
            "mining.multi_version" => MinerMessage::MultiVersion,
            "mining.ping" => MinerMessage::Ping,
            other => return Err(DecodeError::unknown(other)),
        })
    }

    fn encode(&self, id: Option<&Id>) -> String {
        match self {
            MinerMessage::Configure(configure) => line(id, "mining.configure", &configure.to_params()),
            MinerMessage::Subscribe(Subscribe { agent, session: None }) => {
                line(id, "mining.subscribe", &(agent,))
            }
            MinerMessage::Subscribe(Subscribe { agent, session: Some(session) }) => {
                line(id, "mining.subscribe", &(agent, session))
            }
            MinerMessage::Authorize(login) => {
                line(id, "mining.authorize", &(&login.username, &login.password))
            }
            MinerMessage::ExtranonceSubscribe => line(id, "mining.extranonce.subscribe", &NOTHING),
            MinerMessage::SuggestDifficulty(d) => line(id, "mining.suggest_difficulty", &(decimal(d.get()),)),
            MinerMessage::SuggestTarget(target) => line(id, "mining.suggest_target", &(target.to_string(),)),
            MinerMessage::Submit(share) => {
                let (extranonce2, ntime) = (hex::encode(&share.extranonce2), word(share.ntime));
                let (name, job, nonce) = (&share.username, &share.job_id, word(share.nonce));
                match share.version_bits {
                    None => line(id, "mining.submit", &(name, job, extranonce2, ntime, nonce)),
                    Some(bits) => {
                        line(id, "mining.submit", &(name, job, extranonce2, ntime, nonce, word(bits)))
                    }
                }
            }
            MinerMessage::GetTransactions(job) => line(id, "mining.get_transactions", &(job,)),
            MinerMessage::MultiVersion => line(id, "mining.multi_version", &(1,)),
            MinerMessage::Ping => line(id, "mining.ping", &NOTHING),
        }
    }
}

impl Message for PoolMessage {
    fn read(call: &Call) -> Result<PoolMessage, DecodeError> {
        let none = Value::Null;
        let params = match call.method.as_str() {
            "client.get_version" | "mining.ping" => &none,
            _ => &call.params,
        };
        let params = Params::list(&call.method, params)?;
        Ok(match call.method.as_str() {
            "mining.set_difficulty" => PoolMessage::SetDifficulty(difficulty(params.at(0, "difficulty"))?),
            "mining.notify" => PoolMessage::Notify(Box::new(Notify::read(&params)?)),
            "mining.set_extranonce" => PoolMessage::SetExtranonce(Extranonce::read(
                params.at(0, "extranonce1"),
                params.at(1, "extranonce2 size"),
            )?),
            "mining.set_version_mask" => PoolMessage::SetVersionMask(params.at(0, "version mask").word()?),
            "client.reconnect" => PoolMessage::Reconnect(Reconnect::read(&params)?),
            "client.show_message" => PoolMessage::ShowMessage(params.at(0, "message").text()?),
            "client.get_version" => PoolMessage::GetVersion,
            "mining.ping" => PoolMessage::Ping,
            other => return Err(DecodeError::unknown(other)),
        })
    }

    fn encode(&self, id: Option<&Id>) -> String {
        match self {
            PoolMessage::SetDifficulty(d) => line(id, "mining.set_difficulty", &(decimal(d.get()),)),
            PoolMessage::Notify(job) => line(id, "mining.notify", &job.to_params()),
            PoolMessage::SetExtranonce(extranonce) => {
                let Extranonce { extranonce1, extranonce2_size } = extranonce;
                line(id, "mining.set_extranonce", &(hex::encode(extranonce1), extranonce2_size))
            }
            PoolMessage::SetVersionMask(mask) => line(id, "mining.set_version_mask", &(word(*mask),)),
            PoolMessage::Reconnect(Reconnect { host: Some(host), port: Some(port), wait_s }) => {
                line(id, "client.reconnect", &(host, port, wait_s))
            }
            PoolMessage::Reconnect(_) => line(id, "client.reconnect", &NOTHING),
            PoolMessage::ShowMessage(text) => line(id, "client.show_message", &(text,)),
            PoolMessage::GetVersion => line(id, "client.get_version", &NOTHING),
            PoolMessage::Ping => line(id, "mining.ping", &NOTHING),
        }
    }
}

/// A call in this family's envelope.
pub(crate) fn line(id: Option<&Id>, method: &str, params: &impl Serialize) -> String {
    call(Form::Array, id, method, params)
}

/// The parameters of a call that has none.
pub(crate) const NOTHING: [(); 0] = [];

const EXTRANONCE2: &str = "an even number of hex digits, at most 32";

/// A positive, finite number.
pub(crate) fn difficulty(field: Field<'_>) -> Result<Difficulty, DecodeError> {
    Difficulty::new(field.number()?).map_err(|_| field.wrong("a number above 0"))
}

/// A 32-bit number as Bitcoin's stratum writes it: 8 digits, most significant first.
fn word(number: u32) -> String {
    format!("{number:08x}")
}

impl Configure {
    fn read(params: &Params<'_>) -> Result<Configure, DecodeError> {
        let extensions = match params.at(0, "extensions").optional() {
            None => Vec::new(),
            Some(list) => list
                .items(16, "a list of at most 16 extensions")?
                .into_iter()
                .map(Field::text)
                .collect::<Result<_, _>>()?,
        };
        let options = params.at(1, "options").optional();
        let options = match options {
            None => &Value::Null,
            Some(options) => options.value("an object")?,
        };
        let options = Params::object("mining.configure", options)?;
        Ok(Configure {
            extensions,
            mask: options.named("version-rolling.mask").optional().map(Field::word).transpose()?,
            min_bits: options
                .named("version-rolling.min-bit-count")
                .optional()
                .map(Field::whole)
                .transpose()?,
            min_difficulty: options
                .named("minimum-difficulty.value")
                .optional()
                .map(Field::number)
                .transpose()?,
        })
    }

    fn to_params(&self) -> (&[String], Map<String, Value>) {
        let mut options = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            value.map(|value| options.insert(name.to_owned(), value));
        };
        set("version-rolling.mask", self.mask.map(|mask| word(mask).into()));
        set("version-rolling.min-bit-count", self.min_bits.map(Value::from));
        set("minimum-difficulty.value", self.min_difficulty.map(Value::from));
        (&self.extensions, options)
    }

    /// Whether this extension was asked for.
    pub fn asks(&self, extension: &str) -> bool {
        self.extensions.iter().any(|name| name == extension)
    }
}

impl Notify {
    fn read(params: &Params<'_>) -> Result<Notify, DecodeError> {
        const COINBASE: &str = "an even number of hex digits, at most 800000";
        let branch = params.at(4, "merkle branch").items(MAX_BRANCH, "a list of at most 32 hashes")?;
        Ok(Notify {
            job_id: params.at(0, "job id").text()?,
            prev_hash: Hash256::from_raw(swap_words(*params.at(1, "previous hash").hash()?.as_raw())),
            coinb1: params.at(2, "coinb1").bytes(MAX_COINBASE_BYTES, COINBASE)?,
            coinb2: params.at(3, "coinb2").bytes(MAX_COINBASE_BYTES, COINBASE)?,
            branch: branch.into_iter().map(Field::hash).collect::<Result<_, _>>()?,
            version: params.at(5, "version").word()?,
            bits: CompactBits(params.at(6, "bits").word()?),
            ntime: params.at(7, "ntime").word()?,
            // Some leave it out when nothing is dead.
            clean: params.at(8, "clean").optional().map(Field::truth).transpose()?.unwrap_or(false),
        })
    }

    #[allow(clippy::type_complexity, reason = "the list as it stands on the wire")]
    fn to_params(&self) -> (&str, String, String, String, Vec<String>, String, String, String, bool) {
        (
            &self.job_id,
            hex::encode(swap_words(*self.prev_hash.as_raw())),
            hex::encode(&self.coinb1),
            hex::encode(&self.coinb2),
            self.branch.iter().map(Hash256::to_raw_hex).collect(),
            word(self.version),
            word(self.bits.0),
            word(self.ntime),
            self.clean,
        )
    }
}

/// Every 4-byte word reversed: between the header's order of the previous hash and the wire's.
fn swap_words(mut bytes: [u8; 32]) -> [u8; 32] {
    bytes.chunks_exact_mut(4).for_each(<[u8]>::reverse);
    bytes
}

impl Extranonce {
    fn read(extranonce1: Field<'_>, size: Field<'_>) -> Result<Extranonce, DecodeError> {
        let bytes = extranonce1.bytes(MAX_EXTRANONCE_BYTES, "an even number of hex digits, at most 32")?;
        match size.whole()? {
            size_bytes @ 0..=16 => {
                Ok(Extranonce { extranonce1: bytes, extranonce2_size: size_bytes as usize })
            }
            _ => Err(size.wrong("0 to 16 bytes")),
        }
    }
}

impl Reconnect {
    fn read(params: &Params<'_>) -> Result<Reconnect, DecodeError> {
        let port = params.at(1, "port").optional();
        let to_port = |field: Field<'_>| {
            u16::try_from(field.whole()?).map_err(|_| field.wrong("a port from 0 to 65535"))
        };
        Ok(Reconnect {
            host: params
                .at(0, "host")
                .optional()
                .map(Field::text)
                .transpose()?
                .filter(|host| !host.is_empty()),
            port: port.map(to_port).transpose()?.filter(|&port| port != 0),
            wait_s: params.at(2, "wait").optional().map(Field::whole).transpose()?.unwrap_or(0),
        })
    }
}

impl Subscribed {
    /// The result as it is sent.
    pub fn to_value(&self) -> Value {
        json!([
            [["mining.set_difficulty", self.session], ["mining.notify", self.session]],
            hex::encode(&self.extranonce.extranonce1),
            self.extranonce.extranonce2_size
        ])
    }

    /// Reads a result. Its first element has many shapes; of it only a session's name is wanted.
    ///
    /// # Errors
    /// If extranonce1 or the size of extranonce2 is missing or out of range.
    pub fn read(result: &Value) -> Result<Subscribed, DecodeError> {
        let params = Params::list("mining.subscribe result", result)?;
        let extranonce = Extranonce::read(params.at(1, "extranonce1"), params.at(2, "extranonce2 size"))?;
        let pairs = result.get(0);
        let name = |pair: &Value| pair.get(1).and_then(Value::as_str).map(str::to_owned);
        let first = pairs.and_then(|pairs| pairs.get(0)).filter(|pair| pair.is_array());
        let session = first.and_then(name).or_else(|| pairs.and_then(name)).unwrap_or_default();
        Ok(Subscribed { session, extranonce })
    }
}

impl Configured {
    /// The answer to a request: every extension it names is answered, false for those unknown.
    pub fn to_value(&self, asked: &Configure) -> Value {
        let mut result = Map::new();
        for extension in &asked.extensions {
            let granted = match extension.as_str() {
                VERSION_ROLLING => self.mask.is_some(),
                MINIMUM_DIFFICULTY => self.min_difficulty,
                SUBSCRIBE_EXTRANONCE => self.subscribe_extranonce,
                INFO => true,
                _ => false,
            };
            result.insert(extension.clone(), granted.into());
        }
        if let (true, Some(mask)) = (asked.asks(VERSION_ROLLING), self.mask) {
            result.insert("version-rolling.mask".to_owned(), word(mask).into());
        }
        result.into()
    }

    /// Reads a result; an extension counts only if it is answered with true.
    ///
    /// # Errors
    /// If the result is no object, or version rolling is granted without a mask.
    pub fn read(result: &Value) -> Result<Configured, DecodeError> {
        let fields = Params::object("mining.configure result", result)?;
        let granted = |name: &str| result.get(name) == Some(&Value::Bool(true));
        let mask =
            granted(VERSION_ROLLING).then(|| fields.named("version-rolling.mask").word()).transpose()?;
        Ok(Configured {
            mask: mask.filter(|&mask| mask != 0),
            min_difficulty: granted(MINIMUM_DIFFICULTY),
            subscribe_extranonce: granted(SUBSCRIBE_EXTRANONCE),
        })
    }
}
