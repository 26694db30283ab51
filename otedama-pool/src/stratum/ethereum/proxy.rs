//! eth-proxy: Ethereum's getwork over TCP. Everything is hex with `0x` before it.
//!
//! Work is pushed as an answer nobody asked for: the result of `eth_getWork` with the id 0.

use otedama_core::{Hash256, Target};
use serde_json::{Value, json};

use crate::stratum::Message;
use crate::stratum::error::DecodeError;
use crate::stratum::json::{Call, Field, Form, Id, Params, call, call_by};

/// What a miner says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MinerMessage {
    /// `eth_submitLogin`.
    Login(Login),
    /// `eth_getWork`.
    GetWork,
    /// `eth_submitWork`.
    Submit(Submit),
    /// `eth_submitHashrate`: what the miner believes, in hashes per second.
    Hashrate(u64),
}

/// Who connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// An address, or `address.worker`.
    pub login: String,
    /// A password or mail address, often empty.
    pub password: String,
    /// The worker's name beside the parameters.
    pub worker: Option<String>,
}

/// A share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit {
    /// The nonce.
    pub nonce: u64,
    /// The hash of the sealed header: which work it is for.
    pub header_hash: Hash256,
    /// The mix hash.
    pub mix_hash: Hash256,
    /// The worker's name beside the parameters.
    pub worker: Option<String>,
}

/// Work: the result of `eth_getWork` and what is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// The hash of the sealed header.
    pub header_hash: Hash256,
    /// The epoch's seed.
    pub seed_hash: Hash256,
    /// The largest hash wanted.
    pub target: Target,
    /// The block's height, if the pool tells.
    pub height: Option<u64>,
}

impl Message for MinerMessage {
    fn read(call: &Call) -> Result<MinerMessage, DecodeError> {
        let params = Params::list(&call.method, &call.params)?;
        let worker = call.worker.clone().filter(|worker| worker.len() <= super::super::json::MAX_TEXT_BYTES);
        Ok(match call.method.as_str() {
            "eth_submitLogin" | "eth_login" => MinerMessage::Login(Login {
                login: params.at(0, "login").text()?,
                password: params.at(1, "password").text_or_empty(),
                worker,
            }),
            "eth_getWork" => MinerMessage::GetWork,
            "eth_submitWork" => MinerMessage::Submit(Submit {
                nonce: params.at(0, "nonce").array("16 hex digits").map(u64::from_be_bytes)?,
                header_hash: params.at(1, "header hash").hash()?,
                mix_hash: params.at(2, "mix hash").hash()?,
                worker,
            }),
            "eth_submitHashrate" => MinerMessage::Hashrate(hashrate(params.at(0, "rate"))),
            other => return Err(DecodeError::unknown(other)),
        })
    }

    fn encode(&self, id: Option<&Id>) -> String {
        let form = Form::Rpc2;
        match self {
            MinerMessage::Login(Login { login, password, worker }) => {
                call_by(form, id, "eth_submitLogin", &(login, password), worker.as_deref())
            }
            MinerMessage::GetWork => call(form, id, "eth_getWork", &[(); 0]),
            MinerMessage::Submit(Submit { nonce, header_hash, mix_hash, worker }) => {
                let params = (format!("0x{nonce:016x}"), prefixed(header_hash), prefixed(mix_hash));
                call_by(form, id, "eth_submitWork", &params, worker.as_deref())
            }
            MinerMessage::Hashrate(rate) => {
                let id_hex = format!("0x{:064x}", 0);
                call(form, id, "eth_submitHashrate", &(format!("0x{rate:064x}"), id_hex))
            }
        }
    }
}

/// A rate in hex of any length; what is none counts as zero, since nobody pays for it.
pub(crate) fn hashrate(field: Field<'_>) -> u64 {
    let digits = field.digits("hex digits").unwrap_or_default().trim_start_matches('0');
    u64::from_str_radix(digits, 16).unwrap_or(0)
}

fn prefixed(hash: &Hash256) -> String {
    format!("0x{}", hash.to_raw_hex())
}

impl Work {
    /// The result as it is sent.
    pub fn to_value(&self) -> Value {
        let mut list = vec![
            Value::from(prefixed(&self.header_hash)),
            prefixed(&self.seed_hash).into(),
            format!("0x{}", self.target).into(),
        ];
        list.extend(self.height.map(|height| Value::from(format!("0x{height:x}"))));
        json!(list)
    }

    /// Reads a result. Short targets are what they are as numbers.
    ///
    /// # Errors
    /// If a field is missing or not hex of its size.
    pub fn read(result: &Value) -> Result<Work, DecodeError> {
        let params = Params::list("eth_getWork result", result)?;
        Ok(Work {
            header_hash: params.at(0, "header hash").hash()?,
            seed_hash: params.at(1, "seed hash").hash()?,
            target: params.at(2, "target").target()?,
            height: params.at(3, "height").optional().and_then(|field| field.long().ok()),
        })
    }
}
