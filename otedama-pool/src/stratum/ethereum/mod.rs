//! Ethash and Etchash: three dialects, told apart by the first message.
//!
//! | dialect | first message | work | nonce on the wire |
//! | --- | --- | --- | --- |
//! | [`proxy`], eth-proxy | `eth_submitLogin` | header, seed, target, height | all 8 bytes |
//! | [`nicehash`], EthereumStratum/1.0.0 | `mining.subscribe` that names it | job, seed, header | what follows the extranonce |
//! | [`eip1571`], EthereumStratum/2.0.0 | `mining.hello` | job, height, header | what follows the extranonce |

pub mod eip1571;
pub mod nicehash;
pub mod proxy;

use super::error::{DecodeError, Dialect};
use super::json::{Call, Field, Params};

/// The name that NiceHash's dialect is recognised by.
pub const STRATUM_1: &str = "EthereumStratum/1.0.0";

/// The name of EIP-1571's.
pub const STRATUM_2: &str = "EthereumStratum/2.0.0";

/// The dialect of a connection that begins with this call.
///
/// # Errors
/// If no dialect begins so; whoever probes wants to hear that at once.
pub fn detect(first: &Call) -> Result<Dialect, DecodeError> {
    match first.method.as_str() {
        // Some ask for work before they say who they are.
        "eth_submitLogin" | "eth_login" | "eth_getWork" => Ok(Dialect::EthProxy),
        "mining.hello" => Ok(Dialect::Eip1571),
        "mining.subscribe" => {
            let protocol = Params::list(&first.method, &first.params)?.at(1, "protocol");
            if protocol.text_or_empty().starts_with(STRATUM_1) {
                Ok(Dialect::NiceHash)
            } else {
                Err(protocol.wrong("EthereumStratum/1.0.0"))
            }
        }
        other => Err(DecodeError::unknown(other)),
    }
}

/// The end of a nonce in hex digits: what a miner sends where the pool has set its beginning. Kept as
/// digits because the number of them matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NonceTail(String);

impl NonceTail {
    /// The tail of `nonce` after `prefix_digits` hex digits.
    pub fn of(nonce: u64, prefix_digits: usize) -> NonceTail {
        NonceTail(format!("{nonce:016x}")[prefix_digits.min(16)..].to_owned())
    }

    fn read(field: Field<'_>) -> Result<NonceTail, DecodeError> {
        const EXPECTED: &str = "1 to 16 hex digits";
        let digits = field.digits(EXPECTED)?;
        if (1..=16).contains(&digits.len()) {
            Ok(NonceTail(digits.to_ascii_lowercase()))
        } else {
            Err(field.wrong(EXPECTED))
        }
    }

    /// The digits.
    pub fn digits(&self) -> &str {
        &self.0
    }

    /// The whole nonce behind this extranonce (hex digits): the two put together, or a tail that already
    /// is the whole and begins with it. `None` if neither fits.
    pub fn after(&self, extranonce: &str) -> Option<u64> {
        let whole = match self.0.len() {
            16 if self.0.starts_with(extranonce) => self.0.clone(),
            len if len + extranonce.len() == 16 => format!("{extranonce}{}", self.0),
            _ => return None,
        };
        u64::from_str_radix(&whole, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stratum::Frame;

    fn first(line: &str) -> Result<Dialect, String> {
        match Frame::parse(line).unwrap() {
            Frame::Call(call) => detect(&call).map_err(|error| error.to_string()),
            Frame::Answer(_) => panic!("no call"),
        }
    }

    #[test]
    fn the_first_message_tells_the_dialect() {
        assert_eq!(first(r#"{"id":1,"method":"eth_submitLogin","params":["0xab"]}"#), Ok(Dialect::EthProxy));
        let line = r#"{"id":1,"method":"mining.subscribe","params":["m/1","EthereumStratum/1.0.0"]}"#;
        assert_eq!(first(line), Ok(Dialect::NiceHash));
        assert_eq!(first(r#"{"id":0,"method":"mining.hello","params":{}}"#), Ok(Dialect::Eip1571));
        assert!(first(r#"{"id":0,"method":"mining.subscribe","params":[]}"#).is_err());
        assert_eq!(first(r#"{"id":0,"method":"login"}"#), Err("method 'login' is unknown here".to_owned()));
    }

    #[test]
    fn a_nonce_is_the_extranonce_and_its_tail_or_the_whole() {
        let tail = |digits: &str| NonceTail(digits.to_owned());
        assert_eq!(tail("9f5fe9570d").after("51722f"), Some(0x5172_2f9f_5fe9_570d));
        assert_eq!(tail("51722f9f5fe9570d").after("51722f"), Some(0x5172_2f9f_5fe9_570d));
        assert_eq!(tail("51722f9f5fe9570d").after("aa"), None);
        assert_eq!(tail("9f5fe9570d").after("5172"), None);
        assert_eq!(NonceTail::of(0x5172_2f9f_5fe9_570d, 6), tail("9f5fe9570d"));
        assert_eq!(NonceTail::of(7, 0).after(""), Some(7));
    }
}
