//! Single values: each knows its limits and says what it expected.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use otedama_core::Algorithm;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A length of time, written `500ms`, `5s`, `2h`, `1h30m` or `24h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        const UNITS: [(&str, u64); 5] =
            [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
        let wrong =
            || format!("duration '{text}': expected a number and ms, s, m, h or d, such as 30s or 1h30m");
        let mut millis = 0u64;
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            let (_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[..letters]).ok_or_else(wrong)?;
            millis = number.checked_mul(*unit).and_then(|ms| millis.checked_add(ms)).ok_or_else(wrong)?;
            rest = &rest[letters..];
        }
        Ok(Span(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            0 => f.write_str("0s"),
            ms if ms % 86_400_000 == 0 => write!(f, "{}d", ms / 86_400_000),
            ms if ms % 3_600_000 == 0 => write!(f, "{}h", ms / 3_600_000),
            ms if ms % 60_000 == 0 => write!(f, "{}m", ms / 60_000),
            ms if ms % 1000 == 0 => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

/// A share of the whole in millionths, written in percent: `1.0` or `0.25`, from 0 to 100. Exact to four
/// decimal places; more are refused rather than rounded, for this is about money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent {
    millionths: u32,
}

impl Percent {
    /// So many millionths of the whole; at most one million.
    pub const fn from_millionths(millionths: u32) -> Option<Percent> {
        if millionths <= 1_000_000 { Some(Percent { millionths }) } else { None }
    }

    /// Millionths of the whole.
    pub const fn millionths(self) -> u32 {
        self.millionths
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Percent, String> {
        let wrong = || format!("percentage '{text}': expected 0 to 100 with at most four decimal places");
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let plain = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
        let fraction = fraction.trim_end_matches('0');
        if whole.is_empty() || whole.len() > 3 || fraction.len() > 4 || !plain(whole) || !plain(fraction) {
            return Err(wrong());
        }
        let digits = format!("{whole}{fraction:0<4}");
        digits.parse().ok().and_then(Percent::from_millionths).ok_or_else(wrong)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:04}", self.millionths / 10_000, self.millionths % 10_000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// How hard a GPU is worked: 1 (the desktop stays smooth) to 25.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Intensity(pub u8);

impl FromStr for Intensity {
    type Err = String;

    fn from_str(text: &str) -> Result<Intensity, String> {
        match text.parse() {
            Ok(level @ 1..=25) => Ok(Intensity(level)),
            _ => Err(format!("intensity {text}: expected 1 to 25")),
        }
    }
}

/// A temperature in degrees Celsius at which a device pauses: 40 to 110.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Celsius(pub u8);

impl FromStr for Celsius {
    type Err = String;

    fn from_str(text: &str) -> Result<Celsius, String> {
        match text.parse() {
            Ok(degrees @ 40..=110) => Ok(Celsius(degrees)),
            _ => Err(format!("temperature {text}: expected 40 to 110 degrees Celsius")),
        }
    }
}

/// An amount in a coin's own unit, as it was written: `0.01`. How many places it may have depends on the coin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coins(pub String);

impl FromStr for Coins {
    type Err = String;

    fn from_str(text: &str) -> Result<Coins, String> {
        // No coin has more places than Ether's 18; a number of coins that fits is checked when the coin is known.
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 12 || part.len() > 18 || !digits(whole) || !digits(part) {
            return Err(format!("amount '{text}': expected a number of coins, such as 0.01"));
        }
        Ok(Coins(text.to_owned()))
    }
}

/// An algorithm by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlgorithmName(pub Algorithm);

impl FromStr for AlgorithmName {
    type Err = String;

    fn from_str(text: &str) -> Result<AlgorithmName, String> {
        text.parse()
            .map(AlgorithmName)
            .map_err(|error: otedama_core::algorithm::UnknownAlgorithm| error.to_string())
    }
}

/// Something that must not be shown: a password, a key. It stands in the configuration itself, in an
/// environment variable (`env:NAME`) or in a file (`file:/path`, whose trailing line break is dropped).
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The secret itself.
    Plain(String),
    /// The environment variable that holds it.
    Env(String),
    /// The file that holds it.
    File(PathBuf),
}

impl Secret {
    /// The secret.
    ///
    /// # Errors
    /// One line that names the variable or file, if it cannot be read or is empty.
    pub fn reveal(&self) -> Result<String, String> {
        let (secret, place) = match self {
            Secret::Plain(secret) => return Ok(secret.clone()),
            Secret::Env(name) => {
                let place = format!("environment variable {name}");
                (
                    std::env::var(name)
                        .map_err(|_| format!("{place} is not set: it should hold a secret"))?,
                    place,
                )
            }
            Secret::File(path) => (read_secret(path)?, format!("file {}", path.display())),
        };
        if secret.is_empty() { Err(format!("{place} is empty: it should hold a secret")) } else { Ok(secret) }
    }
}

/// The most bytes a file with a secret may have.
const MAX_SECRET: u64 = 4096;

fn read_secret(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot read the secret in {}: {error}", path.display());
    let mut text = String::new();
    // What is no regular file does not say how long it is.
    let file = File::open(path).map_err(cannot)?;
    let bytes = file.take(MAX_SECRET + 1).read_to_string(&mut text).map_err(cannot)?;
    if bytes as u64 > MAX_SECRET {
        return Err(format!("{} is too long: a secret has at most {MAX_SECRET} bytes", path.display()));
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Secret, String> {
        Ok(match (text.strip_prefix("env:"), text.strip_prefix("file:")) {
            (Some(name), _) => Secret::Env(name.to_owned()),
            (_, Some(path)) => Secret::File(path.into()),
            _ => Secret::Plain(text.to_owned()),
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Plain(_) => f.write_str("Plain(..)"),
            Secret::Env(name) => write!(f, "Env({name})"),
            Secret::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

/// Reads a scalar as text, whatever YAML takes it for (`1.0`, `20`, `5s`), and leaves the rest to [`FromStr`].
struct Text<T> {
    expected: &'static str,
    parsed: std::marker::PhantomData<T>,
}

impl<T: FromStr<Err = String>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! read_as_text {
    ($($type:ty: $expected:literal),+ $(,)?) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Text { expected: $expected, parsed: std::marker::PhantomData })
            }
        }
    )+};
}

read_as_text! {
    Span: "a duration such as 30s or 2h",
    Percent: "a percentage from 0 to 100",
    Coins: "a number of coins such as 0.01",
    Intensity: "an intensity from 1 to 25",
    Celsius: "degrees Celsius from 40 to 110",
    AlgorithmName: "the name of an algorithm",
}

/// A number is refused: YAML would have dropped its leading zeros.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;

        impl Visitor<'_> for Words {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a secret (in quotes if it looks like a number), or env:NAME or file:PATH where it is",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Words)
    }
}

/// A URL as it may be shown: without the name and password that may stand before its host.
pub fn without_password(url: &str) -> Cow<'_, str> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    match rest.rfind('@') {
        None => url.into(),
        Some(at) if scheme.is_empty() => format!("...{}", &rest[at..]).into(),
        Some(at) => format!("{scheme}://...{}", &rest[at..]).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown_alike() {
        for (text, millis, shown) in [
            ("500ms", 500, "500ms"),
            ("5s", 5_000, "5s"),
            ("90s", 90_000, "90s"),
            ("2h", 7_200_000, "2h"),
            ("24h", 86_400_000, "1d"),
            ("1h30m", 5_400_000, "90m"),
            ("0s", 0, "0s"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.0.as_millis(), span.to_string().as_str()), (millis, shown), "{text}");
            assert_eq!(span.to_string().parse(), Ok(span));
        }
        for wrong in ["", "5", "h", "5 s", "-5s", "1.5h", "5y", "99999999999999999d"] {
            assert!(wrong.parse::<Span>().unwrap_err().contains("expected a number"), "{wrong}");
        }
    }

    #[test]
    fn percentages_are_exact() {
        for (text, millionths, shown) in [
            ("0", 0, "0"),
            ("1.0", 10_000, "1"),
            ("0.25", 2500, "0.25"),
            ("100", 1_000_000, "100"),
            ("0.0001", 1, "0.0001"),
        ] {
            let percent: Percent = text.parse().unwrap();
            assert_eq!((percent.millionths(), percent.to_string().as_str()), (millionths, shown));
        }
        for wrong in ["", ".5", "-1", "100.1", "101", "1e2", "0.00001", "1,5", "NaN"] {
            assert!(wrong.parse::<Percent>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn urls_are_shown_without_passwords() {
        assert_eq!(without_password("postgres://pool:hunter2@db/new"), "postgres://...@db/new");
        assert_eq!(without_password("u:hun/t@er2@h:1"), "...@h:1");
        assert_eq!(without_password("sqlite://a/b.db"), "sqlite://a/b.db");
    }

    #[test]
    fn secrets_are_found_and_never_shown() {
        let path = std::env::temp_dir().join(format!("otedama-secret-{}", std::process::id()));
        std::fs::write(&path, "hunter2\n").unwrap();
        let secret: Secret = format!("file:{}", path.display()).parse().unwrap();
        assert_eq!(secret.reveal().as_deref(), Ok("hunter2"));
        std::fs::write(&path, "").unwrap();
        assert!(secret.reveal().unwrap_err().ends_with("is empty: it should hold a secret"));
        std::fs::remove_file(&path).unwrap();
        assert!(secret.reveal().unwrap_err().starts_with("cannot read the secret in"));

        let plain: Secret = "hunter2".parse().unwrap();
        assert_eq!(format!("{plain:?}"), "Plain(..)");
        let absent: Secret = "env:OTEDAMA_TEST_NO_SUCH_VARIABLE".parse().unwrap();
        assert_eq!(
            absent.reveal().unwrap_err(),
            "environment variable OTEDAMA_TEST_NO_SUCH_VARIABLE is not set: it should hold a secret"
        );
    }
}
