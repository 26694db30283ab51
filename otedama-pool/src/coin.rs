//! The coins as data: what differs between chains that share a kind of node, and what an address pays to.
//!
//! Parameters as published in each reference implementation's `chainparams` (Bitcoin Core, Litecoin Core,
//! Dogecoin Core, Ravencoin Core), in Monero's `cryptonote_config.h`, and in ECIP-1017 and EIP-55.
//!
//! Adding a coin of a known kind is a row in [`COINS`].

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;

use bech32::segwit;
use otedama_core::Algorithm;
use otedama_core::primitive::keccak::keccak256;
use sha2::{Digest as _, Sha256};

use crate::emission::Emission;

/// One chain that can be mined.
#[derive(Debug, PartialEq, Eq)]
pub struct Coin {
    /// The name in configuration, such as `litecoin`.
    pub name: &'static str,
    /// Main chain or one for tests.
    pub network: Network,
    /// The ticker symbol of its unit.
    pub ticker: &'static str,
    /// The function its blocks are proven with.
    pub algorithm: Algorithm,
    /// How many decimal places separate the unit from the one that is booked ([`crate::money::Amount`]): the atomic
    /// unit, in Ether's family the gwei.
    pub decimals: u32,
    /// The time between blocks that the chain aims at, in seconds.
    pub block_time_s: u32,
    /// How many confirmations a block reward needs before it can be spent. Ethereum Classic has no such
    /// rule; the number there is how long pools wait, for fear of long reorganizations.
    pub maturity: u32,
    /// What its nodes and addresses are like.
    pub kind: Kind,
}

/// Which of a coin's chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// The one with value.
    Main,
    /// The public one for tests.
    Test,
    /// A private one, made for one test.
    Regtest,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Network::Main => "main",
            Network::Test => "test",
            Network::Regtest => "regtest",
        })
    }
}

/// What nodes and addresses are like.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bitcoin's RPC, scripts and addresses.
    Bitcoin(BitcoinKind),
    /// Monero's RPC and addresses: the address prefixes are for standard, integrated and sub-addresses.
    Monero {
        /// Prefix of a standard address.
        standard: u64,
        /// Prefix of an integrated address.
        integrated: u64,
        /// Prefix of a sub-address.
        sub: u64,
    },
    /// Ethereum's RPC and addresses.
    Ethereum(EthereumKind),
}

/// What differs within Ethereum's family.
#[derive(Debug, PartialEq, Eq)]
pub struct EthereumKind {
    /// What `eth_chainId` says (EIP-155).
    pub chain_id: u64,
    /// What blocks pay.
    pub emission: Emission,
}

/// What differs within Bitcoin's family.
#[derive(Debug, PartialEq, Eq)]
pub struct BitcoinKind {
    /// Version byte of addresses that pay to a public key's hash.
    pub p2pkh: u8,
    /// Version bytes of addresses that pay to a script's hash; the first is the usual one.
    pub p2sh: &'static [u8],
    /// Human-readable part of segwit addresses; `None` if the chain has no segwit.
    pub bech32: Option<&'static str>,
    /// Human-readable part of addresses inside the MimbleWimble extension block.
    pub mweb: Option<&'static str>,
    /// The rules to name when asking for a template.
    pub rules: &'static [&'static str],
}

/// Every chain known here.
pub static COINS: &[Coin] = &[
    bitcoin(Network::Main, 0, &[5], "bc"),
    bitcoin(Network::Test, 111, &[196], "tb"),
    bitcoin(Network::Regtest, 111, &[196], "bcrt"),
    litecoin(Network::Main, 48, &[50, 5], "ltc", "ltcmweb"),
    litecoin(Network::Test, 111, &[58, 196], "tltc", "tmweb"),
    litecoin(Network::Regtest, 111, &[58, 196], "rltc", "tmweb"),
    dogecoin(Network::Main, 30, &[22]),
    dogecoin(Network::Test, 113, &[196]),
    dogecoin(Network::Regtest, 111, &[196]),
    ravencoin(Network::Main, 60, &[122]),
    ravencoin(Network::Test, 111, &[196]),
    ravencoin(Network::Regtest, 111, &[196]),
    monero(Network::Main, 18, 19, 42),
    monero(Network::Test, 53, 54, 63),
    // A private chain of monerod has the main chain's addresses.
    monero(Network::Regtest, 18, 19, 42),
    ethereum_classic(Network::Main, 61, 5_000_000),
    // Mordor; core-geth's `config_mordor.go` has its eras.
    ethereum_classic(Network::Test, 63, 2_000_000),
];

const fn bitcoin(network: Network, p2pkh: u8, p2sh: &'static [u8], hrp: &'static str) -> Coin {
    Coin {
        name: "bitcoin",
        network,
        ticker: "BTC",
        algorithm: Algorithm::Sha256d,
        decimals: 8,
        block_time_s: 600,
        maturity: 100,
        kind: Kind::Bitcoin(BitcoinKind { p2pkh, p2sh, bech32: Some(hrp), mweb: None, rules: &["segwit"] }),
    }
}

const fn litecoin(
    network: Network,
    p2pkh: u8,
    p2sh: &'static [u8],
    hrp: &'static str,
    mweb: &'static str,
) -> Coin {
    let rules = &["segwit", "mweb"];
    Coin {
        name: "litecoin",
        network,
        ticker: "LTC",
        algorithm: Algorithm::Scrypt,
        decimals: 8,
        block_time_s: 150,
        maturity: 100,
        kind: Kind::Bitcoin(BitcoinKind { p2pkh, p2sh, bech32: Some(hrp), mweb: Some(mweb), rules }),
    }
}

const fn dogecoin(network: Network, p2pkh: u8, p2sh: &'static [u8]) -> Coin {
    Coin {
        name: "dogecoin",
        network,
        ticker: "DOGE",
        algorithm: Algorithm::Scrypt,
        decimals: 8,
        block_time_s: 60,
        // Since height 145,000 of the main chain; 30 before that.
        maturity: 240,
        kind: Kind::Bitcoin(BitcoinKind { p2pkh, p2sh, bech32: None, mweb: None, rules: &[] }),
    }
}

const fn ravencoin(network: Network, p2pkh: u8, p2sh: &'static [u8]) -> Coin {
    Coin {
        name: "ravencoin",
        network,
        ticker: "RVN",
        algorithm: Algorithm::KawPow,
        decimals: 8,
        block_time_s: 60,
        maturity: 100,
        // Blocks may have witnesses, addresses in bech32 were never given out.
        kind: Kind::Bitcoin(BitcoinKind { p2pkh, p2sh, bech32: None, mweb: None, rules: &["segwit"] }),
    }
}

const fn monero(network: Network, standard: u64, integrated: u64, sub: u64) -> Coin {
    Coin {
        name: "monero",
        network,
        ticker: "XMR",
        algorithm: Algorithm::RandomXV1,
        decimals: 12,
        block_time_s: 120,
        maturity: 60,
        kind: Kind::Monero { standard, integrated, sub },
    }
}

const fn ethereum_classic(network: Network, chain_id: u64, era_blocks: u64) -> Coin {
    let emission = Emission { era_blocks: NonZeroU64::new(era_blocks).expect("an era has blocks") };
    Coin {
        name: "ethereum-classic",
        network,
        ticker: "ETC",
        algorithm: Algorithm::Etchash,
        decimals: 9,
        block_time_s: 13,
        maturity: 500,
        kind: Kind::Ethereum(EthereumKind { chain_id, emission }),
    }
}

impl Coin {
    /// The coin of this name, on this network.
    ///
    /// # Errors
    /// [`UnknownCoin`].
    pub fn find(name: &str, network: Network) -> Result<&'static Coin, UnknownCoin> {
        COINS
            .iter()
            .find(|coin| coin.name == name && coin.network == network)
            .ok_or_else(|| UnknownCoin { name: name.to_owned(), network })
    }

    /// Reads an address of this coin. Pools ask this before they credit anything to it.
    ///
    /// # Errors
    /// [`AddressError`]: mistyped, or of another chain.
    pub fn address(&self, text: &str) -> Result<Address, AddressError> {
        // Longer than any address there is; keeps what is decoded and what is shown short.
        if text.len() > 200 {
            return Err(AddressError::TooLong { len: text.len() });
        }
        let wrong =
            |why: String| AddressError::NotOfCoin { text: text.to_owned(), coin: self.to_string(), why };
        match &self.kind {
            Kind::Bitcoin(kind) => kind.script(text).map(Address::Script),
            &Kind::Monero { standard, integrated, sub } => {
                monero_prefix(text).and_then(|(prefix, len)| match (prefix, len) {
                    (prefix, 64) if prefix == standard => Ok(Address::Monero(MoneroAddress::Standard)),
                    (prefix, 64) if prefix == sub => Ok(Address::Monero(MoneroAddress::Sub)),
                    (prefix, 72) if prefix == integrated => Ok(Address::Monero(MoneroAddress::Integrated)),
                    (prefix, _) => {
                        Err(format!("its prefix is {prefix}: expected {standard} (or {integrated}, {sub})"))
                    }
                })
            }
            Kind::Ethereum(_) => ethereum_address(text).map(Address::Ethereum),
        }
        .map_err(wrong)
    }
}

impl Coin {
    /// An address as accounts are named by it, one name for all ways to write it: Ethereum's without the checksum that
    /// upper case makes, bech32 in lower case, a script hash with the version that nodes write today. What is no address
    /// stays as it is.
    pub fn account<'a>(&self, address: &'a str) -> Cow<'a, str> {
        match &self.kind {
            Kind::Ethereum(_) => address.to_ascii_lowercase().into(),
            Kind::Bitcoin(kind) => kind.account(address),
            Kind::Monero { .. } => address.into(),
        }
    }
}

impl fmt::Display for Coin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.network {
            Network::Main => f.pad(self.name),
            network => write!(f, "{} {network}", self.name),
        }
    }
}

/// What an address pays to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// The output script (`scriptPubKey`).
    Script(Vec<u8>),
    /// A Monero address, whose keys the wallet takes from the text.
    Monero(MoneroAddress),
    /// An account.
    Ethereum([u8; 20]),
}

/// Which kind of Monero address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MoneroAddress {
    /// A wallet's own.
    Standard,
    /// One with a payment id inside.
    Integrated,
    /// One of a wallet's many. Nodes refuse it for block rewards.
    Sub,
}

impl BitcoinKind {
    /// The output script that an address stands for.
    fn script(&self, text: &str) -> Result<Vec<u8>, String> {
        let lower = text.to_ascii_lowercase();
        let starts = |hrp: &str| lower.strip_prefix(hrp).is_some_and(|rest| rest.starts_with('1'));
        if self.mweb.is_some_and(starts) {
            return Err("it lies inside the MWEB, where block rewards cannot go: use a segwit address".into());
        }
        match self.bech32 {
            Some(hrp) if starts(hrp) => {
                let (_, version, program) = segwit::decode(text).map_err(|error| error.to_string())?;
                let opcode = match version.to_u8() {
                    0 => 0,
                    version => 0x50 + version,
                };
                Ok([&[opcode, program.len() as u8], program.as_slice()].concat())
            }
            _ => self.legacy_script(text),
        }
    }

    /// See [`Coin::account`].
    fn account<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let is_bech32 = |hrp: &str| {
            let (start, rest) = text.split_at_checked(hrp.len()).unwrap_or_default();
            start.eq_ignore_ascii_case(hrp) && rest.starts_with('1')
        };
        if self.bech32.is_some_and(is_bech32) {
            return text.to_ascii_lowercase().into();
        }
        let (Some(&todays), Ok(mut bytes)) = (self.p2sh.first(), bs58::decode(text).into_vec()) else {
            return text.into();
        };
        let is_older = bytes.len() == 25 && bytes[0] != todays && self.p2sh.contains(&bytes[0]);
        if !is_older || self.legacy_script(text).is_err() {
            return text.into();
        }
        bytes[0] = todays;
        let sum = sha256d(&bytes[..21]);
        bytes[21..].copy_from_slice(&sum[..4]);
        bs58::encode(bytes).into_string().into()
    }

    fn legacy_script(&self, text: &str) -> Result<Vec<u8>, String> {
        let bytes = bs58::decode(text).into_vec().map_err(|error| error.to_string())?;
        let &[version, ref hash @ .., c0, c1, c2, c3] = bytes.as_slice() else {
            return Err("it is too short".into());
        };
        let sum = sha256d(&bytes[..bytes.len() - 4]);
        if sum[..4] != [c0, c1, c2, c3] {
            return Err("its checksum does not match: it is mistyped".into());
        }
        if hash.len() != 20 {
            return Err(format!("it holds {} bytes: expected 20", hash.len()));
        }
        if version == self.p2pkh {
            // DUP HASH160 <hash> EQUALVERIFY CHECKSIG
            Ok([&[0x76, 0xa9, 20], hash, &[0x88, 0xac]].concat())
        } else if self.p2sh.contains(&version) {
            // HASH160 <hash> EQUAL
            Ok([&[0xa9, 20], hash, &[0x87]].concat())
        } else {
            let known: Vec<_> =
                [self.p2pkh].iter().chain(self.p2sh).map(|version| version.to_string()).collect();
            Err(format!("its version is {version}: expected {}", known.join(" or ")))
        }
    }
}

/// SHA-256 of SHA-256, in output order.
pub(crate) fn sha256d(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(bytes)).into()
}

/// The prefix of a Monero address and how many bytes follow it. Monero cuts bytes into blocks of 8, each of
/// them 11 digits; the last four bytes are a checksum.
fn monero_prefix(text: &str) -> Result<(u64, usize), String> {
    let mut bytes = Vec::with_capacity(80);
    for block in text.as_bytes().chunks(11) {
        bytes.extend_from_slice(&monero_block(block)?);
    }
    let Some((body, sum)) = bytes.split_last_chunk::<4>() else { return Err("it is too short".into()) };
    if keccak256(body)[..4] != *sum {
        return Err("its checksum does not match: it is mistyped".into());
    }
    let mut rest = body;
    let prefix = read_varint(&mut rest).ok_or("its prefix is no number")?;
    Ok((prefix, rest.len()))
}

/// One block of digits: as many bytes as the number of digits can hold.
fn monero_block(digits: &[u8]) -> Result<Vec<u8>, String> {
    const LEN_OF_DIGITS: [Option<usize>; 12] =
        [None, None, Some(1), Some(2), None, Some(3), Some(4), Some(5), None, Some(6), Some(7), Some(8)];
    let len = LEN_OF_DIGITS.get(digits.len()).copied().flatten().ok_or("its length is not an address's")?;
    let mut number = 0u128;
    for digit in digits {
        let value = BASE58.iter().position(|known| known == digit);
        let value = value.ok_or_else(|| format!("'{}' is no base58 digit", char::from(*digit)))?;
        number = number * 58 + value as u128;
    }
    if number >> (8 * len) != 0 {
        return Err("a block of its digits is too large".into());
    }
    Ok(number.to_be_bytes()[16 - len..].to_vec())
}

const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// A number in Monero's variable length: seven bits a byte, lowest first, the top bit says that more follow.
pub(crate) fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for place in 0..10 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_mul(1u64.checked_shl(7 * place)?)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// 40 hex digits after `0x`. Mixed case must be EIP-55's checksum; a single case has none.
fn ethereum_address(text: &str) -> Result<[u8; 20], String> {
    let digits = text.strip_prefix("0x").ok_or("it does not begin with 0x")?;
    let mut bytes = [0; 20];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| "it is not 40 hex digits")?;
    let has = |test: fn(&u8) -> bool| digits.as_bytes().iter().any(test);
    if has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) {
        let hash = hex::encode(keccak256(digits.to_ascii_lowercase().as_bytes()));
        let right = digits
            .bytes()
            .zip(hash.bytes())
            .all(|(digit, place)| digit.is_ascii_digit() || digit.is_ascii_uppercase() == (place >= b'8'));
        if !right {
            return Err("its upper and lower case do not match (EIP-55): it is mistyped".into());
        }
    }
    Ok(bytes)
}

/// A name that is no coin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown coin '{name}' on {network}: expected one of {known}", known = known())]
pub struct UnknownCoin {
    /// The name.
    pub name: String,
    /// The network.
    pub network: Network,
}

fn known() -> String {
    COINS.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What is wrong with an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Longer than any address.
    #[error("address has {len} characters: expected at most 200")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// Not one of the coin's.
    #[error("'{text}' is no address of {coin}: {why}")]
    NotOfCoin {
        /// The address.
        text: String,
        /// The coin it should belong to.
        coin: String,
        /// What is wrong with it.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn coin(name: &str, network: Network) -> &'static Coin {
        Coin::find(name, network).unwrap()
    }

    fn script(name: &str, network: Network, text: &str) -> String {
        match coin(name, network).address(text).unwrap() {
            Address::Script(script) => hex::encode(script),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn addresses_become_the_scripts_that_their_specifications_give() {
        // BIP 173 and BIP 350 test vectors.
        let main = [
            ("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4", "0014751e76e8199196d454941c45d1b3a323f1433bd6"),
            ("BC1SW50QGDZ25J", "6002751e"),
            (
                "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
                "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
            ),
            // Genesis block's key; Bitcoin's wiki on P2SH.
            ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac"),
            ("3P14159f73E4gFr7JterCCQh9QjiTjiZrG", "a914e9c3dd0c07aac76179ebc76a6c78d4d67c6c160a87"),
        ];
        for (address, expected) in main {
            assert_eq!(script("bitcoin", Network::Main, address), expected, "{address}");
        }
        let test = "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7";
        let expected = "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262";
        assert_eq!(script("bitcoin", Network::Test, test), expected);
        // Made by a litecoind in regtest, which gave the scripts as well (validateaddress).
        for (address, expected) in [
            ("rltc1qlynsn2ym8n4v29v4quln0v746qlt6fguymp4q0", "0014f92709a89b3ceac51595073f37b3d5d03ebd251c"),
            ("muhbrm3sBnVbaLm81ykxG9HEE8tyuWQL9e", "76a9149b954700d39e3c9f5b7f78615ec1d3a10200c25288ac"),
            ("QRNLoX4yRzHPBmntagbDAw2MMJKGsMr3ZP", "a91434441458c68673460e1e174b8c3e0472812dd2a587"),
        ] {
            assert_eq!(script("litecoin", Network::Regtest, address), expected, "{address}");
        }
    }

    #[test]
    fn an_account_has_one_name_however_its_address_is_written() {
        let account = |name, network, text: &str| coin(name, network).account(text).into_owned();
        let lower = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
        assert_eq!(account("bitcoin", Network::Main, &lower.to_ascii_uppercase()), lower);
        assert_eq!(account("bitcoin", Network::Main, lower), lower);
        // Litecoin's script hashes had Bitcoin's version once; Bitcoin's have one alone. Case matters in base58.
        let bitcoins = "3P14159f73E4gFr7JterCCQh9QjiTjiZrG";
        assert_eq!(account("bitcoin", Network::Main, bitcoins), bitcoins);
        let litecoin = coin("litecoin", Network::Main);
        let todays = litecoin.account(bitcoins);
        assert!(todays.starts_with('M'), "{todays}");
        assert_eq!(litecoin.address(&todays), litecoin.address(bitcoins));
        assert_eq!(litecoin.account(&todays), todays);
        for text in
            ["1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "", "bc", "x", "3P14159f73E4gFr7JterCCQh9QjiTjiZrH"]
        {
            assert_eq!(account("bitcoin", Network::Main, text), text);
            assert_eq!(litecoin.account(text), text);
        }
    }

    #[test]
    fn addresses_of_other_chains_and_mistyped_ones_are_refused() {
        let error = |name, text| coin(name, Network::Main).address(text).unwrap_err().to_string();
        let genesis = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa";
        assert_eq!(
            error("litecoin", genesis),
            format!("'{genesis}' is no address of litecoin: its version is 0: expected 48 or 50 or 5")
        );
        assert!(error("bitcoin", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb").contains("mistyped"));
        assert!(coin("bitcoin", Network::Test).address(genesis).is_err());
        assert!(error("bitcoin", "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx").contains("is no address"));
        // Invalid in BIP 350: a version 1 address with the checksum of version 0.
        let old = "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd";
        assert!(coin("bitcoin", Network::Main).address(old).is_err());
        assert!(error("dogecoin", "doge1qw508d6qejxtdg4y5r3zarvary0c5xw7kxxxxxx").contains("is no address"));
        assert!(error("litecoin", "ltcmweb1qq").contains("MWEB"));
        assert!(error("bitcoin", "").contains("too short"));
        assert!(error("bitcoin", &"1".repeat(201)).contains("201 characters"));
        for coin in COINS {
            assert!(coin.address("x").is_err() && coin.address("").is_err() && coin.address("ßß").is_err());
        }
    }

    /// The donation addresses of Monero's README, the older and the present one.
    #[test]
    fn monero_addresses_are_told_apart() {
        let address = |text: &str| coin("monero", Network::Main).address(text);
        let standard =
            "44AFFq5kSiGBoZ4NMDwYtN18obc8AemS33DBLWs3H7otXft3XjrpDtQGv7SqSsaBYBb98uNbr2VBBEt7f2wfn3RVGQBEP3A";
        assert_eq!(address(standard), Ok(Address::Monero(MoneroAddress::Standard)));
        let sub =
            "888tNkZrPN6JsEgekjMnABU4TBzc2Dt29EPAvkRxbANsAnjyPbb3iQ1YBRk1UXcdRsiKc9dhwMVgN5S9cQUiyoogDavup3H";
        assert_eq!(address(sub), Ok(Address::Monero(MoneroAddress::Sub)));
        let mistyped = standard.replace("44AFF", "44AFG");
        assert!(address(&mistyped).unwrap_err().to_string().contains("mistyped"));
        assert!(address(&standard[..94]).is_err() && address(&format!("{standard}1")).is_err());
        assert!(coin("monero", Network::Test).address(standard).is_err());
    }

    #[test]
    fn ethereum_addresses_keep_their_checksum() {
        let address = |text: &str| coin("ethereum-classic", Network::Main).address(text);
        // EIP-55's own examples.
        for text in [
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
            "0x52908400098527886E0F7030069857D2E4169EE7",
            "0xde709f2102306220921060314715629080e2fb77",
        ] {
            assert!(address(text).is_ok(), "{text}");
        }
        assert!(address("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD").is_err());
        assert!(address("5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed").is_err());
        assert!(address("0x5aAeb6").is_err());
    }

    #[test]
    fn coins_are_found_by_name_and_strangers_are_named() {
        for known in COINS {
            assert_eq!(Coin::find(known.name, known.network), Ok(known));
        }
        let error = Coin::find("bitconnect", Network::Main).unwrap_err().to_string();
        assert!(
            error.starts_with("unknown coin 'bitconnect' on main: expected one of bitcoin, bitcoin test")
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,220}") {
            for coin in COINS {
                let _ = coin.address(&text);
            }
        }

        #[test]
        fn one_wrong_letter_is_noticed(place in 1usize..94, digit in 0usize..58) {
            let right = "44AFFq5kSiGBoZ4NMDwYtN18obc8AemS33DBLWs3H7otXft3XjrpDtQGv7SqSsaBYBb98uNbr2VBBEt7f2wfn3RVGQBEP3A";
            let mut wrong = right.as_bytes().to_vec();
            wrong[place] = BASE58[digit];
            let wrong = String::from_utf8(wrong).unwrap();
            prop_assert_eq!(coin("monero", Network::Main).address(&wrong).is_ok(), wrong == right);
        }
    }
}
