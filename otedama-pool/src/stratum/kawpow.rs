//! Ravencoin's stratum for KawPow: Stratum v1's calls around a sealed header, a height and an explicit
//! target. Hashes travel most significant byte first; the nonce's high end is the pool's extranonce.

use otedama_core::{CompactBits, Hash256, Target};
use serde_json::{Value, json};

use super::Message;
use super::bitcoin::{Login, NOTHING, line};
use super::error::DecodeError;
use super::json::{Call, Field, Id, Params};

/// The longest extranonce, in bytes: four are left for the miner.
pub const MAX_EXTRANONCE_BYTES: usize = 4;

/// What a miner says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MinerMessage {
    /// `mining.subscribe`, with the user agent.
    Subscribe(String),
    /// `mining.authorize`.
    Authorize(Login),
    /// `mining.extranonce.subscribe`: the miner understands `mining.set_extranonce`.
    ExtranonceSubscribe,
    /// `mining.submit`.
    Submit(Submit),
    /// `eth_submitHashrate`, in hashes per second.
    Hashrate(u64),
}

/// A share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit {
    /// The worker's name.
    pub username: String,
    /// The job.
    pub job_id: String,
    /// The nonce.
    pub nonce: u64,
    /// The hash of the sealed header.
    pub header_hash: Hash256,
    /// The mix hash.
    pub mix_hash: Hash256,
}

/// What a pool says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PoolMessage {
    /// `mining.set_target`.
    SetTarget(Target),
    /// `mining.notify`.
    Notify(Notify),
    /// `mining.set_extranonce`: in force from the next job.
    SetExtranonce(Vec<u8>),
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// What shares name it by.
    pub job_id: String,
    /// The hash of the sealed header.
    pub header_hash: Hash256,
    /// The epoch's seed.
    pub seed_hash: Hash256,
    /// The largest hash wanted.
    pub target: Target,
    /// Whether all earlier jobs are dead.
    pub clean: bool,
    /// The block's height.
    pub height: u64,
    /// The network's target, if the pool tells.
    pub bits: Option<CompactBits>,
}

/// The answer to `mining.subscribe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// The session's name, if it has one.
    pub session: Option<String>,
    /// What every nonce begins with.
    pub extranonce: Vec<u8>,
}

impl Message for MinerMessage {
    fn read(call: &Call) -> Result<MinerMessage, DecodeError> {
        let none = Value::Null;
        let bare = call.method == "mining.extranonce.subscribe";
        let params = Params::list(&call.method, if bare { &none } else { &call.params })?;
        Ok(match call.method.as_str() {
            "mining.subscribe" => MinerMessage::Subscribe(params.at(0, "user agent").text_or_empty()),
            "mining.authorize" => MinerMessage::Authorize(Login {
                username: params.at(0, "username").text()?,
                password: params.at(1, "password").text_or_empty(),
            }),
            "mining.extranonce.subscribe" => MinerMessage::ExtranonceSubscribe,
            "mining.submit" => MinerMessage::Submit(Submit {
                username: params.at(0, "username").text()?,
                job_id: params.at(1, "job id").text()?,
                nonce: params.at(2, "nonce").array("16 hex digits").map(u64::from_be_bytes)?,
                header_hash: params.at(3, "header hash").hash()?,
                mix_hash: params.at(4, "mix hash").hash()?,
            }),
            "eth_submitHashrate" => {
                MinerMessage::Hashrate(super::ethereum::proxy::hashrate(params.at(0, "rate")))
            }
            other => return Err(DecodeError::unknown(other)),
        })
    }

    fn encode(&self, id: Option<&Id>) -> String {
        match self {
            MinerMessage::Subscribe(agent) => line(id, "mining.subscribe", &(agent,)),
            MinerMessage::Authorize(login) => {
                line(id, "mining.authorize", &(&login.username, &login.password))
            }
            MinerMessage::ExtranonceSubscribe => line(id, "mining.extranonce.subscribe", &NOTHING),
            MinerMessage::Submit(Submit { username, job_id, nonce, header_hash, mix_hash }) => {
                let (header, mix) = (header_hash.to_raw_hex(), mix_hash.to_raw_hex());
                let hashes = (format!("0x{nonce:016x}"), format!("0x{header}"), format!("0x{mix}"));
                line(id, "mining.submit", &(username, job_id, hashes.0, hashes.1, hashes.2))
            }
            MinerMessage::Hashrate(rate) => {
                line(id, "eth_submitHashrate", &(format!("0x{rate:064x}"), format!("0x{:064x}", 0)))
            }
        }
    }
}

impl Message for PoolMessage {
    fn read(call: &Call) -> Result<PoolMessage, DecodeError> {
        let params = Params::list(&call.method, &call.params)?;
        Ok(match call.method.as_str() {
            "mining.set_target" => PoolMessage::SetTarget(params.at(0, "target").target()?),
            "mining.notify" => PoolMessage::Notify(Notify {
                job_id: params.at(0, "job id").text()?,
                header_hash: params.at(1, "header hash").hash()?,
                seed_hash: params.at(2, "seed hash").hash()?,
                target: params.at(3, "target").target()?,
                clean: params.at(4, "clean").truth()?,
                height: params.at(5, "height").whole()?,
                bits: params.at(6, "bits").optional().map(Field::word).transpose()?.map(CompactBits),
            }),
            "mining.set_extranonce" => PoolMessage::SetExtranonce(extranonce(params.at(0, "extranonce"))?),
            other => return Err(DecodeError::unknown(other)),
        })
    }

    fn encode(&self, id: Option<&Id>) -> String {
        match self {
            PoolMessage::SetTarget(target) => line(id, "mining.set_target", &(target.to_string(),)),
            PoolMessage::Notify(job) => {
                let (header, seed) = (job.header_hash.to_raw_hex(), job.seed_hash.to_raw_hex());
                let (target, bits) = (job.target.to_string(), job.bits.map(|bits| format!("{:08x}", bits.0)));
                // Miners take the height only as a number.
                line(id, "mining.notify", &(&job.job_id, header, seed, target, job.clean, job.height, bits))
            }
            PoolMessage::SetExtranonce(bytes) => line(id, "mining.set_extranonce", &(hex::encode(bytes),)),
        }
    }
}

fn extranonce(field: Field<'_>) -> Result<Vec<u8>, DecodeError> {
    match field.optional() {
        None => Ok(Vec::new()),
        Some(field) => field.bytes(MAX_EXTRANONCE_BYTES, "0 to 4 bytes in hex"),
    }
}

impl Subscribed {
    /// The result as it is sent.
    pub fn to_value(&self) -> Value {
        json!([self.session, hex::encode(&self.extranonce)])
    }

    /// Reads a result: its first element has several shapes and is not needed.
    ///
    /// # Errors
    /// If the extranonce is no hex or too long.
    pub fn read(result: &Value) -> Result<Subscribed, DecodeError> {
        let params = Params::list("mining.subscribe result", result)?;
        Ok(Subscribed {
            session: result.get(0).and_then(Value::as_str).map(str::to_owned),
            extranonce: extranonce(params.at(1, "extranonce"))?,
        })
    }
}
