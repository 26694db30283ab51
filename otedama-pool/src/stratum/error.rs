//! What can be wrong with a line, and **the one table** of reasons to refuse a share or a call.

use serde_json::Value;

use super::json::WireError;

/// A line that is no message of the dialect. One clear line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not a JSON object.
    #[error("line is not a JSON object: {0}")]
    NotJson(String),
    /// A method that is no string.
    #[error("method is {0}: expected a string")]
    Method(String),
    /// A method this dialect does not have.
    #[error("method '{0}' is unknown here")]
    UnknownMethod(String),
    /// A field that is not there.
    #[error("{method}: {field} is missing: expected {expected}")]
    Missing {
        /// The method.
        method: String,
        /// The field.
        field: &'static str,
        /// What it should have been.
        expected: &'static str,
    },
    /// A field of the wrong kind, size or value.
    #[error("{method}: {field} is {found}: expected {expected}")]
    Field {
        /// The method.
        method: String,
        /// The field.
        field: &'static str,
        /// What it is, shortened.
        found: String,
        /// What it should have been.
        expected: &'static str,
    },
}

impl DecodeError {
    /// A method this dialect does not have, its name shortened.
    pub(crate) fn unknown(method: &str) -> DecodeError {
        DecodeError::UnknownMethod(method.chars().take(40).filter(|c| !c.is_control()).collect())
    }

    /// The reason to answer with.
    pub fn reason(&self) -> RejectReason {
        match self {
            DecodeError::UnknownMethod(_) => RejectReason::UnknownMethod,
            _ => RejectReason::Malformed,
        }
    }
}

/// A value as JSON, at most some 40 characters of it.
pub(crate) fn shorten(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 44 { text } else { text.chars().take(40).chain("...".chars()).collect() }
}

/// A way to speak. They differ in their messages, their envelopes and the numbers of their errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Bitcoin-style Stratum v1: SHA-256d and scrypt.
    Bitcoin,
    /// eth-proxy: getwork over TCP, for Ethash and Etchash.
    EthProxy,
    /// EthereumStratum/1.0.0 (NiceHash).
    NiceHash,
    /// EthereumStratum/2.0.0 (EIP-1571).
    Eip1571,
    /// Ravencoin's stratum.
    KawPow,
    /// Monero's JSON-RPC.
    Monero,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident $label:literal $text:literal [$bitcoin:literal $proxy:literal $nicehash:literal $eip1571:literal $kawpow:literal $monero:literal];)*) => {
        /// Why a share or a call was refused. Closed: the label names it in logs and metrics, the numbers
        /// are what each dialect says on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum RejectReason {
            $($(#[$doc])* $reason,)*
        }

        impl RejectReason {
            /// All of them, in the table's order.
            pub const ALL: &'static [RejectReason] = &[$(RejectReason::$reason,)*];

            fn row(self) -> (&'static str, &'static str, [i64; 6]) {
                match self {
                    $(RejectReason::$reason => (
                        $label, $text, [$bitcoin, $proxy, $nicehash, $eip1571, $kawpow, $monero],
                    ),)*
                }
            }
        }
    };
}

// Reason, label in logs and metrics, text on the wire, and the codes of Bitcoin, eth-proxy, NiceHash,
// EIP-1571, KawPow, Monero. Monero's miners know texts only: xmrig compares some of them.
reasons! {
    /// The line is no message, or a field of it is not what it must be.
    Malformed "malformed" "Malformed message" [20 -1 20 400 20 -1];
    /// The method does not exist here.
    UnknownMethod "unknown_method" "Method not found" [-3 -3 -3 405 -3 -1];
    /// The worker, or the login, is not authorized.
    Unauthorized "unauthorized" "Unauthorized worker" [24 -1 24 301 24 -1];
    /// There was no subscription or login before.
    NotSubscribed "not_subscribed" "Not subscribed" [25 25 25 303 25 -1];
    /// Nobody sent that job here.
    UnknownJob "unknown_job" "Job not found" [21 21 21 404 21 -1];
    /// The job was sent and is no longer worth anything.
    Stale "stale" "Stale share" [21 21 21 202 21 -1];
    /// The same share came before.
    Duplicate "duplicate" "Duplicate share" [22 22 22 202 22 -1];
    /// The hash is above the target.
    LowDifficulty "low_difficulty" "Low difficulty share" [23 23 23 406 23 -1];
    /// Extranonce2 is not as long as was agreed.
    ExtranonceSize "extranonce_size" "Incorrect size of extranonce2" [20 -1 20 406 20 -1];
    /// The nonce does not begin with this connection's extranonce.
    NoncePrefix "nonce_prefix" "Nonce does not begin with the extranonce" [20 -1 20 406 20 -1];
    /// The time is before the template's or too far ahead.
    TimeRange "time_range" "ntime out of range" [20 -1 20 400 20 -1];
    /// Version bits outside the mask.
    VersionBits "version_bits" "Version bits outside the mask" [20 -1 20 400 20 -1];
    /// The header hash is not the job's.
    WrongHeader "wrong_header" "Wrong header hash" [20 -1 20 400 20 -1];
    /// The mix hash, or the hash, is not what the nonce leads to.
    WrongHash "wrong_hash" "Invalid hash" [20 23 20 406 20 -1];
    /// The miner and the pool have no algorithm in common.
    Algorithm "algorithm" "No compatible algorithm found" [20 -1 20 400 20 -1];
    /// There is no job to hand out yet.
    NoWork "no_work" "Work not ready" [20 0 20 500 20 -1];
    /// More at once than this connection may have: shares in flight, workers, shares kept.
    TooMany "too_many" "Too many requests" [20 -1 20 500 20 -1];
    /// The extension is not offered.
    NotSupported "not_supported" "Not supported." [20 -3 20 405 20 -1];
    /// Something on the pool's side failed.
    Internal "internal" "Internal error" [20 -1 20 500 20 -1];
}

impl RejectReason {
    /// The name in logs and metrics.
    pub fn label(self) -> &'static str {
        self.row().0
    }

    /// The text on the wire.
    pub fn text(self) -> &'static str {
        self.row().1
    }

    /// The number on the wire.
    pub fn code(self, dialect: Dialect) -> i64 {
        self.row().2[dialect as usize]
    }

    /// What goes on the wire.
    pub fn wire(self, dialect: Dialect) -> WireError {
        WireError { code: Some(self.code(dialect)), message: self.text().to_owned() }
    }

    /// The reason another implementation's error stands for, as far as its text and number tell.
    pub fn from_wire(dialect: Dialect, error: &WireError) -> RejectReason {
        let text = error.message.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        // Words that pools use, the telling ones first.
        if says(&["duplicate"]) {
            return RejectReason::Duplicate;
        } else if says(&["low diff", "above target", "high-hash", "low-diff"]) {
            return RejectReason::LowDifficulty;
        } else if says(&["stale", "expired"]) {
            return RejectReason::Stale;
        } else if says(&["unauth", "not authorized"]) {
            return RejectReason::Unauthorized;
        }
        let by_text = RejectReason::ALL.iter().find(|reason| text == reason.text().to_ascii_lowercase());
        let by_code = || match (dialect, error.code) {
            (Dialect::Monero, _) | (_, None) => None,
            (_, Some(code)) => [
                RejectReason::UnknownJob,
                RejectReason::Duplicate,
                RejectReason::LowDifficulty,
                RejectReason::Unauthorized,
                RejectReason::NotSubscribed,
            ]
            .iter()
            .find(|reason| reason.code(dialect) == code && code > 20),
        };
        by_text.or_else(by_code).copied().unwrap_or(RejectReason::Malformed)
    }
}

impl std::fmt::Display for RejectReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const DIALECTS: [Dialect; 6] = [
        Dialect::Bitcoin,
        Dialect::EthProxy,
        Dialect::NiceHash,
        Dialect::Eip1571,
        Dialect::KawPow,
        Dialect::Monero,
    ];

    #[test]
    fn labels_and_texts_are_unique_and_come_back() {
        let labels: HashSet<_> = RejectReason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), RejectReason::ALL.len());
        for &reason in RejectReason::ALL {
            for dialect in DIALECTS {
                assert_eq!(RejectReason::from_wire(dialect, &reason.wire(dialect)), reason, "{dialect:?}");
            }
        }
    }

    #[test]
    fn the_published_codes_are_in_the_table() {
        let code = |reason: RejectReason, dialect| reason.code(dialect);
        for (reason, expected) in [
            (RejectReason::Malformed, 20),
            (RejectReason::UnknownJob, 21),
            (RejectReason::Stale, 21),
            (RejectReason::Duplicate, 22),
            (RejectReason::LowDifficulty, 23),
            (RejectReason::Unauthorized, 24),
            (RejectReason::NotSubscribed, 25),
        ] {
            assert_eq!(code(reason, Dialect::Bitcoin), expected);
            assert_eq!(code(reason, Dialect::KawPow), expected);
        }
        assert_eq!(code(RejectReason::UnknownJob, Dialect::Eip1571), 404);
        assert_eq!(code(RejectReason::LowDifficulty, Dialect::Monero), -1);
    }

    #[test]
    fn other_pools_words_are_understood() {
        let reason = |dialect, code, message: &str| {
            RejectReason::from_wire(dialect, &WireError { code, message: message.to_owned() })
        };
        assert_eq!(reason(Dialect::Bitcoin, Some(23), "?"), RejectReason::LowDifficulty);
        assert_eq!(reason(Dialect::Bitcoin, None, "Above target"), RejectReason::LowDifficulty);
        assert_eq!(reason(Dialect::Monero, Some(-1), "Block expired"), RejectReason::Stale);
        assert_eq!(reason(Dialect::Monero, None, "Unauthenticated"), RejectReason::Unauthorized);
        assert_eq!(reason(Dialect::EthProxy, Some(22), "Duplicate share"), RejectReason::Duplicate);
        assert_eq!(reason(Dialect::Bitcoin, Some(20), "whatever"), RejectReason::Malformed);
    }
}
