//! EthereumStratum/2.0.0 (EIP-1571): numbers are hex without leading zeros, truth is "0" or "1", and a
//! share that counts is answered with its id alone.

use otedama_core::{Hash256, Target};
use serde::Serialize;
use serde_json::{Value, json};

use super::{NonceTail, STRATUM_2};
use crate::stratum::Message;
use crate::stratum::bitcoin::Login;
use crate::stratum::error::DecodeError;
use crate::stratum::json::{Call, Field, Form, Id, Params, call};

/// The longest extranonce, in bytes: two are left for the miner.
pub const MAX_EXTRANONCE_BYTES: usize = 6;

/// What a miner says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MinerMessage {
    /// `mining.hello`.
    Hello(Hello),
    /// `mining.subscribe`, with the session it would like to go on with.
    Subscribe(Option<String>),
    /// `mining.authorize`.
    Authorize(Login),
    /// `mining.submit`.
    Submit(Submit),
    /// `mining.hashrate`, in hashes per second.
    Hashrate(u64),
    /// `mining.noop`: still here.
    Noop,
    /// `mining.bye`: about to leave.
    Bye,
}

/// What a pool says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PoolMessage {
    /// `mining.set`: in force from the next job.
    Set(Set),
    /// `mining.notify`.
    Notify(Notify),
    /// `mining.reconnect`.
    Reconnect {
        /// The host; nothing means the same.
        host: Option<String>,
        /// The port.
        port: Option<u16>,
    },
    /// `mining.bye`: about to leave.
    Bye,
}

/// Who connects, and what it wants to speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The user agent.
    pub agent: String,
    /// The protocol's name.
    pub protocol: String,
}

/// A share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit {
    /// The job.
    pub job_id: String,
    /// The nonce after the extranonce.
    pub nonce: NonceTail,
    /// The token that authorizing gave.
    pub worker: String,
}

/// What changes from the next job on; `None` stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Set {
    /// The epoch's number.
    pub epoch: Option<u32>,
    /// The largest hash wanted.
    pub target: Option<Target>,
    /// `ethash` or `etchash`.
    pub algorithm: Option<String>,
    /// What every nonce begins with; empty takes it back.
    pub extranonce: Option<Vec<u8>>,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// What shares name it by.
    pub job_id: String,
    /// The block's height.
    pub height: u64,
    /// The hash of the sealed header.
    pub header_hash: Hash256,
    /// Whether all earlier jobs are dead.
    pub clean: bool,
}

/// The answer to `mining.hello`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// How long a silent connection is kept, in seconds.
    pub timeout_s: u64,
    /// How many errors it may make.
    pub max_errors: u64,
    /// The server's name.
    pub node: String,
}

impl Message for MinerMessage {
    fn read(call: &Call) -> Result<MinerMessage, DecodeError> {
        let method = call.method.as_str();
        let list = || Params::list(method, &call.params);
        Ok(match method {
            "mining.hello" => {
                let params = Params::object(method, &call.params)?;
                MinerMessage::Hello(Hello {
                    agent: params.named("agent").text_or_empty(),
                    protocol: params.named("proto").text()?,
                })
            }
            "mining.subscribe" => {
                let session = match &call.params {
                    Value::Array(list) => list.first().cloned().unwrap_or_default(),
                    other => other.clone(),
                };
                let session = Field::of(method, "session", &session).text_or_empty();
                MinerMessage::Subscribe(Some(session).filter(|session| !session.is_empty()))
            }
            "mining.authorize" => MinerMessage::Authorize(Login {
                username: list()?.at(0, "username").text()?,
                password: list()?.at(1, "password").text_or_empty(),
            }),
            "mining.submit" => MinerMessage::Submit(Submit {
                job_id: list()?.at(0, "job id").text()?,
                nonce: NonceTail::read(list()?.at(1, "nonce"))?,
                worker: list()?.at(2, "worker").text()?,
            }),
            "mining.hashrate" => MinerMessage::Hashrate(super::proxy::hashrate(list()?.at(0, "rate"))),
            "mining.noop" => MinerMessage::Noop,
            "mining.bye" => MinerMessage::Bye,
            other => return Err(DecodeError::unknown(other)),
        })
    }

    fn encode(&self, id: Option<&Id>) -> String {
        match self {
            MinerMessage::Hello(Hello { agent, protocol }) => {
                line(id, "mining.hello", &json!({ "agent": agent, "proto": protocol }))
            }
            MinerMessage::Subscribe(None) => line(id, "mining.subscribe", &[(); 0]),
            MinerMessage::Subscribe(Some(session)) => line(id, "mining.subscribe", session),
            MinerMessage::Authorize(login) => {
                line(id, "mining.authorize", &(&login.username, &login.password))
            }
            MinerMessage::Submit(share) => {
                line(id, "mining.submit", &(&share.job_id, share.nonce.digits(), &share.worker))
            }
            MinerMessage::Hashrate(rate) => line(id, "mining.hashrate", &(format!("{rate:x}"),)),
            MinerMessage::Noop => line(id, "mining.noop", &[(); 0]),
            MinerMessage::Bye => line(id, "mining.bye", &[(); 0]),
        }
    }
}

impl Message for PoolMessage {
    fn read(call: &Call) -> Result<PoolMessage, DecodeError> {
        let method = call.method.as_str();
        Ok(match method {
            "mining.set" => PoolMessage::Set(Set::read(&Params::object(method, &call.params)?)?),
            "mining.notify" => {
                let params = Params::list(method, &call.params)?;
                PoolMessage::Notify(Notify {
                    job_id: params.at(0, "job id").text()?,
                    height: params.at(1, "block number").long()?,
                    header_hash: params.at(2, "header hash").hash()?,
                    clean: params.at(3, "clean").truth()?,
                })
            }
            "mining.reconnect" => {
                let params = Params::object(method, &call.params)?;
                let port = params.named("port").optional().map(|field| {
                    u16::try_from(field.long()?).map_err(|_| field.wrong("a port from 0 to ffff"))
                });
                PoolMessage::Reconnect {
                    host: params.named("host").optional().map(Field::text).transpose()?,
                    port: port.transpose()?,
                }
            }
            "mining.bye" => PoolMessage::Bye,
            other => return Err(DecodeError::unknown(other)),
        })
    }

    fn encode(&self, id: Option<&Id>) -> String {
        match self {
            PoolMessage::Set(set) => line(id, "mining.set", &set.to_value()),
            PoolMessage::Notify(job) => {
                let (height, header) = (format!("{:x}", job.height), job.header_hash.to_raw_hex());
                line(id, "mining.notify", &(&job.job_id, height, header, if job.clean { "1" } else { "0" }))
            }
            PoolMessage::Reconnect { host, port } => {
                let port = port.map(|port| format!("{port:x}"));
                line(id, "mining.reconnect", &json!({ "host": host, "port": port, "resume": "0" }))
            }
            PoolMessage::Bye => line(id, "mining.bye", &[(); 0]),
        }
    }
}

fn line(id: Option<&Id>, method: &str, params: &impl Serialize) -> String {
    call(Form::Bare, id, method, params)
}

impl Set {
    fn read(params: &Params<'_>) -> Result<Set, DecodeError> {
        let epoch = params.named("epoch").optional();
        let epoch = epoch.map(|field| u32::try_from(field.long()?).map_err(|_| field.wrong("0 to ffffffff")));
        Ok(Set {
            epoch: epoch.transpose()?,
            target: params.named("target").optional().map(Field::target).transpose()?,
            algorithm: params.named("algo").optional().map(Field::text).transpose()?,
            extranonce: params
                .named("extranonce")
                .optional()
                .map(|field| field.bytes(MAX_EXTRANONCE_BYTES, "0 to 6 bytes in hex"))
                .transpose()?,
        })
    }

    fn to_value(&self) -> Value {
        let mut fields = serde_json::Map::new();
        let mut set = |name: &str, value: Option<String>| {
            value.map(|value| fields.insert(name.to_owned(), value.into()));
        };
        set("epoch", self.epoch.map(|epoch| format!("{epoch:x}")));
        set("target", self.target.map(|target| target.to_string().trim_start_matches('0').to_owned()));
        set("algo", self.algorithm.clone());
        set("extranonce", self.extranonce.as_ref().map(hex::encode));
        fields.into()
    }
}

impl Welcome {
    /// The result as it is sent; clients demand all six members.
    pub fn to_value(&self) -> Value {
        json!({
            "proto": STRATUM_2,
            "encoding": "plain",
            "resume": "0",
            "timeout": format!("{:x}", self.timeout_s),
            "maxerrors": format!("{:x}", self.max_errors),
            "node": self.node,
        })
    }

    /// Reads a result.
    ///
    /// # Errors
    /// If it is for another protocol or another encoding.
    pub fn read(result: &Value) -> Result<Welcome, DecodeError> {
        let params = Params::object("mining.hello result", result)?;
        let (protocol, encoding) = (params.named("proto"), params.named("encoding"));
        if protocol.text()? != STRATUM_2 {
            return Err(protocol.wrong(STRATUM_2));
        }
        if encoding.optional().is_some() && encoding.text()? != "plain" {
            return Err(encoding.wrong("plain"));
        }
        Ok(Welcome {
            timeout_s: params.named("timeout").long().unwrap_or(0),
            max_errors: params.named("maxerrors").long().unwrap_or(0),
            node: params.named("node").text_or_empty(),
        })
    }
}
