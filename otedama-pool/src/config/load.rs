//! Reading: file, environment, command line, and the place of everything that is wrong.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Error as YamlError;

use super::sections::Config;

/// The most bytes a configuration may have.
const MAX_FILE: u64 = 1 << 20;

/// The most names in the path of an override; no key lies that deep.
const MAX_DEPTH: usize = 16;

/// What begins the name of an environment variable that sets something.
const PREFIX: &str = "OTEDAMA__";

/// What is laid over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    list: Vec<Override>,
}

#[derive(Clone, Debug)]
struct Override {
    /// Who says so, for messages.
    source: String,
    path: Vec<String>,
    value: String,
}

impl Overrides {
    /// Those of these environment variables: `OTEDAMA__POOL__FEE_PERCENTAGE` sets `pool.fee_percentage`.
    pub fn from_env(variables: impl IntoIterator<Item = (String, String)>) -> Overrides {
        let set = |(name, value): (String, String)| {
            let path = name.strip_prefix(PREFIX)?.split("__").map(str::to_lowercase).collect();
            Some(Override { source: format!("environment variable {name}"), path, value })
        };
        let mut list: Vec<Override> = variables.into_iter().filter_map(set).collect();
        list.sort_by(|a, b| a.source.cmp(&b.source));
        Overrides { list }
    }

    /// Adds a setting of the command line: `pool.fee_percentage=2`.
    ///
    /// # Errors
    /// If it has another form.
    pub fn set(&mut self, setting: &str) -> Result<(), ConfigError> {
        let parts = setting.split_once('=').filter(|(path, _)| path.split('.').all(|part| !part.is_empty()));
        let Some((path, value)) = parts else {
            let place = format!("--set {setting}");
            return Err(ConfigError::new(place, "expected KEY=VALUE, such as pool.fee_percentage=2"));
        };
        self.list.push(Override {
            // The value may be a secret.
            source: format!("--set {path}"),
            path: path.split('.').map(str::to_owned).collect(),
            value: value.to_owned(),
        });
        Ok(())
    }
}

/// What is wrong with a configuration: one line, place first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct ConfigError {
    /// `FILE:LINE:COLUMN`, or the variable or setting.
    pub place: String,
    /// What is wrong and what was expected.
    pub reason: String,
}

impl ConfigError {
    /// In one line, whatever stands in the names and values that are quoted.
    fn new(place: impl Into<String>, reason: impl Into<String>) -> ConfigError {
        let in_one_line = |text: String| {
            if !text.contains(char::is_control) {
                return text;
            }
            let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
            text.chars().map(shown).collect()
        };
        ConfigError { place: in_one_line(place.into()), reason: in_one_line(reason.into()) }
    }
}

/// Reads a file and what is laid over it.
///
/// # Errors
/// Everything that is wrong: the first problem in the file's form, or all contradictions.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Config, Vec<ConfigError>> {
    let cannot =
        |reason: fmt::Arguments<'_>| vec![ConfigError::new(path.display().to_string(), reason.to_string())];
    let mut bytes = Vec::new();
    // What is no regular file does not say how long it is.
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| cannot(format_args!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(cannot(format_args!("is too long: expected at most {MAX_FILE} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good =
            String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
        let line = good.matches('\n').count() + 1;
        let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let place = format!("{}:{line}:{column}", path.display());
        vec![ConfigError::new(place, "a byte that is no text: expected UTF-8")]
    })?;
    parse(&text, path, overrides)
}

/// Reads a configuration's text; `name` is the file that places in it are told with.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, name: &Path, overrides: &Overrides) -> Result<Config, Vec<ConfigError>> {
    // A file of comments alone says nothing, which is fine.
    let says_nothing = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    let text = if says_nothing { "{}" } else { text };
    let at = |place: (u64, u64), reason| {
        vec![ConfigError::new(format!("{}:{}:{}", name.display(), place.0, place.1), reason)]
    };
    let told = |error: YamlError| {
        let location = error.location().map_or((1, 1), |location| (location.line(), location.column()));
        at(location, explain(&error))
    };
    let plain: Config = serde_saphyr::from_str_with_options(text, options()).map_err(told)?;
    let config = if overrides.list.is_empty() {
        plain
    } else {
        let value: Value = serde_saphyr::from_str_with_options(text, options()).map_err(told)?;
        overlay(value, overrides).map_err(|error| vec![error])?
    };
    let contradictions = config.check();
    if contradictions.is_empty() {
        return Ok(config);
    }
    let place = |key: &str| match overrides.list.iter().rev().find(|set| set.path.join(".") == key) {
        Some(set) => set.source.clone(),
        None => {
            let (line, column) = line_of(text, key);
            format!("{}:{line}:{column}", name.display())
        }
    };
    Err(contradictions
        .into_iter()
        .map(|found| ConfigError::new(place(found.key), format!("{}: {}", found.key, found.reason)))
        .collect())
}

/// Not YAML 1.1's `yes` and `on`: a coin or a user may be called that.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! { strict_booleans: true }
}

/// What a YAML error says, without its place, and what was probably meant.
fn explain(error: &YamlError) -> String {
    match error.without_snippet() {
        YamlError::SerdeUnknownField { field, expected, .. } => unknown("key", field, expected),
        YamlError::SerdeUnknownVariant { variant, expected, .. } => unknown("value", variant, expected),
        YamlError::SerdeInvalidType { unexpected, expected, .. }
        | YamlError::SerdeInvalidValue { unexpected, expected, .. } => {
            format!("{unexpected}: expected {expected}")
        }
        YamlError::SerdeMissingField { field, .. } => format!("key '{field}' is missing"),
        YamlError::Message { msg, .. } => msg.clone(),
        other => {
            let text = other.to_string();
            let text = text.lines().next().unwrap_or_default();
            let text = text.strip_prefix("error: ").unwrap_or(text);
            // `line 3 column 18: ...`: the place is told already.
            match text.split_once(": ") {
                Some((place, rest)) if place.starts_with("line ") => rest.to_owned(),
                _ => text.to_owned(),
            }
        }
    }
}

fn unknown(what: &str, found: &str, expected: &[&'static str]) -> String {
    let near = expected
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&found.to_lowercase(), &name.to_lowercase()), name))
        .min()
        .filter(|(distance, _)| *distance <= 1 + found.len() / 4);
    match near {
        Some((_, name)) => format!("unknown {what} '{found}': did you mean '{name}'?"),
        None => format!("unknown {what} '{found}': expected one of {}", expected.join(", ")),
    }
}

/// Lays the overrides over the file's values, then reads the whole again; what is wrong now, an override said.
fn overlay(mut value: Value, overrides: &Overrides) -> Result<Config, ConfigError> {
    for set in &overrides.list {
        let wrong = |reason: String| ConfigError::new(set.source.clone(), reason);
        if set.path.len() > MAX_DEPTH {
            return Err(wrong(format!(
                "{} names below each other: expected at most {MAX_DEPTH}",
                set.path.len()
            )));
        }
        let parsed = scalar(&set.value);
        put(&mut value, &set.path, parsed).map_err(wrong)?;
        serde_path_to_error::deserialize::<_, Config>(&value)
            .map_err(|error| wrong(format!("{}: {}", error.path(), one_of(&error.inner().to_string()))))?;
    }
    Config::deserialize(&value).map_err(|error| ConfigError::new("overrides", error.to_string()))
}

/// serde_json's words for an unknown name, made ours.
fn one_of(message: &str) -> String {
    message.replace("unknown field `", "unknown key `").replace('`', "'")
}

/// A value as YAML would read it: numbers, booleans and lists in brackets are those, the rest is text.
fn scalar(text: &str) -> Value {
    match serde_saphyr::from_str_with_options::<Value>(text, options()) {
        Ok(value @ (Value::Bool(_) | Value::Array(_))) => value,
        Ok(Value::Number(number)) if number.to_string() == text => Value::Number(number),
        _ => Value::String(text.to_owned()),
    }
}

fn put(value: &mut Value, path: &[String], new: Value) -> Result<(), String> {
    let Some((first, rest)) = path.split_first() else {
        *value = new;
        return Ok(());
    };
    let inner = match value {
        Value::Array(list) => {
            let count = list.len();
            let place = first.parse::<usize>().ok().and_then(|index| list.get_mut(index));
            place.ok_or_else(|| format!("'{first}' is no place in a list of {count}"))?
        }
        Value::Object(map) => map.entry(first.as_str()).or_insert(Value::Null),
        Value::Null => {
            *value = Value::Object(serde_json::Map::new());
            return put(value, path, new);
        }
        _ => return Err(format!("'{first}' is below a value, not a section")),
    };
    put(inner, rest, new)
}

/// The line and column of a dotted key in block-style YAML, for messages about several keys; if it is not there, those of
/// the innermost section around it that is.
fn line_of(text: &str, key: &str) -> (usize, usize) {
    let mut parts = key.split('.');
    let mut wanted = parts.next().unwrap_or_default();
    let mut deeper_than = None;
    let mut innermost = (1, 1);
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if deeper_than.is_some_and(|outer| indent <= outer) {
            break;
        }
        let found = trimmed.strip_prefix(wanted).is_some_and(|rest| rest.starts_with(':'));
        if found && (deeper_than.is_some() || indent == 0) {
            innermost = (index + 1, indent + 1);
            match parts.next() {
                Some(next) => (wanted, deeper_than) = (next, Some(indent)),
                None => break,
            }
        }
    }
    innermost
}

#[cfg(test)]
mod tests {
    use super::super::sections::{DeviceName, RewardSystem};
    use super::super::values::{Celsius, Intensity};
    use super::*;

    /// The keys every version must accept unchanged.
    const SEED: &str = include_str!("../../vectors/seed_config.yaml");

    fn parse_plain(text: &str) -> Result<Config, String> {
        parse_with(text, &Overrides::default())
    }

    fn parse_with(text: &str, overrides: &Overrides) -> Result<Config, String> {
        parse(text, Path::new("config.yaml"), overrides)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn the_first_configuration_is_accepted_unchanged() {
        let config = parse_plain(SEED).unwrap();
        assert_eq!(config.stratum_address(), "0.0.0.0:3333".parse().unwrap());
        assert_eq!(config.pool.fee_percentage.to_string(), "1");
        assert_eq!(config.pool.rewards.system, RewardSystem::Pplns);
        assert_eq!(config.pool.rewards.window.to_string(), "2h");
        assert_eq!(config.intensity(), Some(Intensity(20)));
        assert_eq!(config.mining.gpu.temperature_limit, Celsius(85));
        assert_eq!(config.upstreams().count(), 2);
        assert_eq!(config.api.auth.token_expiry.to_string(), "1d");
        assert!(config.security.enable_tls);
    }

    #[test]
    fn the_example_is_accepted() {
        let config = parse_plain(include_str!("../../../deploy/config.example.yaml")).unwrap();
        assert_eq!((config.coins.len(), config.upstreams().count()), (1, 2));
    }

    #[test]
    fn the_older_spelling_is_accepted_too() {
        let older =
            parse_plain("mining:\n  gpu_enabled: false\n  gpu_devices: [0, 1]\n  intensity: 20\n").unwrap();
        assert!(!older.gpu_enabled());
        assert_eq!(older.gpu_devices(), [DeviceName::Number(0), DeviceName::Number(1)]);
        assert_eq!(older.intensity(), Some(Intensity(20)));
    }

    #[test]
    fn nothing_said_means_the_defaults() {
        for text in ["", "# nothing\n", "{}", "mining: {}\n"] {
            assert_eq!(parse_plain(text).as_ref(), Ok(&Config::default()), "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_what_was_meant() {
        for (text, expected) in [
            (
                "pool:\n  fee_percent: 1\n",
                "config.yaml:2:3: unknown key 'fee_percent': did you mean 'fee_percentage'?",
            ),
            (
                "pool:\n  fee_percentage: 101\n",
                "config.yaml:2:19: percentage '101': expected 0 to 100 with at most four decimal places",
            ),
            ("mining:\n  gpu:\n    intensity: 26\n", "config.yaml:3:16: intensity 26: expected 1 to 25"),
            (
                "mining:\n  algorithm: sha256\n",
                "config.yaml:2:14: unknown algorithm 'sha256': expected one of sha256d",
            ),
            (
                "pool:\n  rewards:\n    system: PPLN\n",
                "config.yaml:3:13: unknown value 'PPLN': did you mean 'PPLNS'?",
            ),
            (
                "pool:\n  rewards:\n    window: 2 hours\n",
                "config.yaml:3:13: duration '2 hours': expected a number and ms, s, m, h or d",
            ),
            ("mining:\n  enable_cpu: yes\n", "config.yaml:2:15: "),
            ("pool:\n  address: here\n", "config.yaml:2:12: "),
            ("coins:\n  - coin: litecoin\n    nodes: []\n", "config.yaml:3:5: key 'address' is missing"),
            ("mining:\n  pools: [{url: u, user: x, pass: 0123}]\n", "config.yaml:2:"),
            ("pool: [\n", "config.yaml:"),
            (
                "security:\n  enable_tls: true\n  cert_file: a.pem\n",
                "config.yaml:2:3: security.enable_tls: true without key_file",
            ),
            ("pool: {max_connections: 0}\n", "config.yaml:1:1: pool.max_connections: 0 lets nobody in"),
            (
                "api:\n  address: 0.0.0.0:8080\n",
                "config.yaml:2:3: api.address: 0.0.0.0:8080 can be reached from elsewhere",
            ),
        ] {
            let error = parse_plain(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}\n  said {error}\n  expected {expected}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_file_is_read_no_further_than_it_may_be_long_and_must_be_text() {
        let path = std::env::temp_dir().join(format!("otedama-config-{}", std::process::id()));
        for (bytes, said) in [
            (b"pool:\n  user: \xc3\xa9\xff\n".to_vec(), ":2:10: a byte that is no text: expected UTF-8"),
            (vec![b' '; MAX_FILE as usize + 1], ": is too long: expected at most 1048576 bytes"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let errors = load(&path, &Overrides::default()).unwrap_err();
            assert_eq!(errors[0].to_string(), format!("{}{said}", path.display()));
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn every_contradiction_is_told() {
        let text = "pool:\n  max_connections: 0\nsecurity:\n  enable_tls: true\n";
        let errors = parse(text, Path::new("c.yaml"), &Overrides::default()).unwrap_err();
        assert_eq!(errors.len(), 3, "{errors:?}");
    }

    #[test]
    fn environment_and_command_line_are_laid_over_the_file_and_blamed_for_what_they_say() {
        let variables = |name: &str, value: &str| {
            Overrides::from_env([(name.to_owned(), value.to_owned()), ("PATH".to_owned(), "/bin".to_owned())])
        };
        let config = parse_with(SEED, &variables("OTEDAMA__POOL__FEE_PERCENTAGE", "2.5")).unwrap();
        assert_eq!(config.pool.fee_percentage.to_string(), "2.5");

        let mut both = variables("OTEDAMA__POOL__FEE_PERCENTAGE", "2.5");
        both.set("pool.fee_percentage=3").unwrap();
        both.set("mining.gpu.devices=[cuda:0]").unwrap();
        both.set("pool.backup_pools.0.user=other.worker").unwrap();
        let config = parse_with(SEED, &both).unwrap();
        assert_eq!(config.pool.fee_percentage.to_string(), "3");
        assert_eq!(config.gpu_devices(), [DeviceName::Id("cuda:0".to_owned())]);
        assert_eq!(config.upstreams().next().unwrap().user, "other.worker");

        let error = parse_with(SEED, &variables("OTEDAMA__POOL__FEE_PERCENTAGE", "250")).unwrap_err();
        assert!(
            error.starts_with(
                "environment variable OTEDAMA__POOL__FEE_PERCENTAGE: pool.fee_percentage: percentage '250'"
            ),
            "{error}"
        );
        let mut wrong = Overrides::default();
        assert!(wrong.set("pool").unwrap_err().to_string().contains("expected KEY=VALUE"));
        wrong.set("pool.fee=2").unwrap();
        let error = parse_with(SEED, &wrong).unwrap_err();
        assert!(error.starts_with("--set pool.fee: pool.fee: unknown key 'fee'"), "{error}");
        let mut deep = Overrides::default();
        deep.set(&format!("{}=1", vec!["a"; 60_000].join("."))).unwrap();
        assert!(
            parse_with(SEED, &deep)
                .unwrap_err()
                .ends_with("60000 names below each other: expected at most 16")
        );
        let mut broken = Overrides::default();
        broken.set("pool.a\nb=1").unwrap();
        assert!(
            parse_with(SEED, &broken)
                .unwrap_err()
                .starts_with(r"--set pool.a\nb: pool.a\nb: unknown key 'a\nb'")
        );
    }
}
