//! EthereumStratum/1.0.0, NiceHash's: Stratum v1's calls around Ethash's work. Hex without `0x`.
//!
//! Difficulty here is Bitcoin's: the target is 0xffff * 2^208 divided by it.

use otedama_core::{Difficulty, Hash256};
use serde_json::{Value, json};

use super::{NonceTail, STRATUM_1};
use crate::stratum::Message;
use crate::stratum::bitcoin::{Login, NOTHING, difficulty, line};
use crate::stratum::error::DecodeError;
use crate::stratum::json::{Call, Field, Id, Params, decimal};

/// The longest extranonce, in bytes: five are left for the miner.
pub const MAX_EXTRANONCE_BYTES: usize = 3;

/// What a miner says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MinerMessage {
    /// `mining.subscribe`, which names the dialect.
    Subscribe {
        /// The user agent.
        agent: String,
    },
    /// `mining.extranonce.subscribe`: the miner understands `mining.set_extranonce`.
    ExtranonceSubscribe,
    /// `mining.authorize`.
    Authorize(Login),
    /// `mining.submit`.
    Submit(Submit),
    /// `eth_submitHashrate`, which some send here too.
    Hashrate(u64),
}

/// A share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit {
    /// The worker's name.
    pub username: String,
    /// The job.
    pub job_id: String,
    /// The nonce after the extranonce.
    pub nonce: NonceTail,
}

/// What a pool says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PoolMessage {
    /// `mining.set_difficulty`: in force from the next job; 1 before the first.
    SetDifficulty(Difficulty),
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
    /// The epoch's seed.
    pub seed_hash: Hash256,
    /// The hash of the sealed header.
    pub header_hash: Hash256,
    /// Whether all earlier jobs are dead.
    pub clean: bool,
}

/// The answer to `mining.subscribe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// The session's name.
    pub session: String,
    /// What every nonce begins with.
    pub extranonce: Vec<u8>,
}

impl Message for MinerMessage {
    fn read(call: &Call) -> Result<MinerMessage, DecodeError> {
        let none = Value::Null;
        let bare = call.method == "mining.extranonce.subscribe";
        let params = Params::list(&call.method, if bare { &none } else { &call.params })?;
        Ok(match call.method.as_str() {
            "mining.subscribe" => {
                MinerMessage::Subscribe { agent: params.at(0, "user agent").text_or_empty() }
            }
            "mining.extranonce.subscribe" => MinerMessage::ExtranonceSubscribe,
            "mining.authorize" => MinerMessage::Authorize(Login {
                username: params.at(0, "username").text()?,
                password: params.at(1, "password").text_or_empty(),
            }),
            "mining.submit" => MinerMessage::Submit(Submit {
                username: params.at(0, "username").text()?,
                job_id: params.at(1, "job id").text()?,
                nonce: NonceTail::read(params.at(2, "nonce"))?,
            }),
            "eth_submitHashrate" => MinerMessage::Hashrate(super::proxy::hashrate(params.at(0, "rate"))),
            other => return Err(DecodeError::unknown(other)),
        })
    }

    fn encode(&self, id: Option<&Id>) -> String {
        match self {
            MinerMessage::Subscribe { agent } => line(id, "mining.subscribe", &(agent, STRATUM_1)),
            MinerMessage::ExtranonceSubscribe => line(id, "mining.extranonce.subscribe", &NOTHING),
            MinerMessage::Authorize(login) => {
                line(id, "mining.authorize", &(&login.username, &login.password))
            }
            MinerMessage::Submit(share) => {
                line(id, "mining.submit", &(&share.username, &share.job_id, share.nonce.digits()))
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
            "mining.set_difficulty" => PoolMessage::SetDifficulty(difficulty(params.at(0, "difficulty"))?),
            "mining.notify" => PoolMessage::Notify(Notify {
                job_id: params.at(0, "job id").text()?,
                seed_hash: params.at(1, "seed hash").hash()?,
                header_hash: params.at(2, "header hash").hash()?,
                clean: params.at(3, "clean").optional().map(Field::truth).transpose()?.unwrap_or(false),
            }),
            "mining.set_extranonce" => PoolMessage::SetExtranonce(extranonce(params.at(0, "extranonce"))?),
            other => return Err(DecodeError::unknown(other)),
        })
    }

    fn encode(&self, id: Option<&Id>) -> String {
        match self {
            PoolMessage::SetDifficulty(d) => line(id, "mining.set_difficulty", &(decimal(d.get()),)),
            PoolMessage::Notify(job) => {
                let (seed, header) = (job.seed_hash.to_raw_hex(), job.header_hash.to_raw_hex());
                line(id, "mining.notify", &(&job.job_id, seed, header, job.clean))
            }
            PoolMessage::SetExtranonce(bytes) => line(id, "mining.set_extranonce", &(hex::encode(bytes),)),
        }
    }
}

fn extranonce(field: Field<'_>) -> Result<Vec<u8>, DecodeError> {
    field.bytes(MAX_EXTRANONCE_BYTES, "0 to 3 bytes in hex")
}

impl Subscribed {
    /// The result as it is sent. Clients leave unless the third string is the dialect's name.
    pub fn to_value(&self) -> Value {
        json!([["mining.notify", self.session, STRATUM_1], hex::encode(&self.extranonce)])
    }

    /// Reads a result.
    ///
    /// # Errors
    /// If it does not name the dialect, or the extranonce is missing or too long.
    pub fn read(result: &Value) -> Result<Subscribed, DecodeError> {
        let params = Params::list("mining.subscribe result", result)?;
        let first = params.at(0, "notification").value("a list of three strings")?;
        let list = Params::list("mining.subscribe result", first)?;
        let protocol = list.at(2, "protocol");
        if !protocol.text()?.starts_with(STRATUM_1) {
            return Err(protocol.wrong(STRATUM_1));
        }
        Ok(Subscribed {
            session: list.at(1, "session").text_or_empty(),
            extranonce: extranonce(params.at(1, "extranonce"))?,
        })
    }
}
