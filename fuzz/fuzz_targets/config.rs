//! A configuration of any bytes, or a good one with a piece of it replaced, and settings laid over it: nothing
//! panics, and every error is one line that names a place in the file or the setting.
#![no_main]

use std::path::Path;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use otedama_pool::config::{ConfigError, Overrides, parse};

const GOOD: [&str; 3] = [
    "",
    include_str!("../../otedama-pool/vectors/seed_config.yaml"),
    include_str!("../../deploy/config.example.yaml"),
];

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    good: u8,
    /// Where the piece that goes begins, and its length.
    cut: (u16, u16),
    settings: Vec<&'a str>,
    variables: Vec<(&'a str, &'a str)>,
    bytes: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let good = GOOD[usize::from(input.good) % GOOD.len()].as_bytes();
    let from = usize::from(input.cut.0).min(good.len());
    let to = (from + usize::from(input.cut.1)).min(good.len());
    let text = [&good[..from], input.bytes, &good[to..]].concat();
    let text = String::from_utf8_lossy(&text);

    let variable = |&(name, value): &(&str, &str)| (format!("OTEDAMA__{name}"), value.to_owned());
    let mut overrides = Overrides::from_env(input.variables.iter().map(variable));
    for setting in &input.settings {
        if let Err(error) = overrides.set(setting) {
            assert!(error.place.starts_with("--set "), "{error}");
            is_one_line(&error);
        }
    }
    let Err(errors) = parse(&text, Path::new("config.yaml"), &overrides) else { return };
    assert!(!errors.is_empty());
    let lines = text.lines().count();
    for error in &errors {
        is_one_line(error);
        let Some(place) = error.place.strip_prefix("config.yaml:") else {
            let source = &error.place;
            assert!(source.starts_with("--set ") || source.starts_with("environment variable "), "{error}");
            continue;
        };
        let (line, column) = place.split_once(':').expect("LINE:COLUMN");
        let (line, column): (usize, usize) =
            (line.parse().expect("a line"), column.parse().expect("a column"));
        // What is missing at the end is missing after the last line.
        assert!((1..=lines + 1).contains(&line) && column >= 1, "{error}");
    }
});

fn is_one_line(error: &ConfigError) {
    assert!(!error.to_string().contains(['\n', '\r']), "{error:?}");
    assert!(!error.reason.is_empty());
}
