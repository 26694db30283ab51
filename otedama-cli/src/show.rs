//! How numbers and outcomes look to a person.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::Value;

use crate::failure::Outcome;

/// A table without frames.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Prints a table without the spaces that would pad its last column.
pub(crate) fn print_table(table: &Table) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Prints one JSON object on a line of its own.
pub(crate) fn print_json(object: &impl Serialize) -> serde_json::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, object)?;
    writeln!(out).map_err(serde_json::Error::io)
}

/// Prints one line; a reader who left is an error, not a panic.
pub(crate) fn print_line(line: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// What happens, as a line for people or an object for programs.
pub(crate) fn say(json: bool, text: &str, object: Value) -> Outcome {
    if json {
        print_json(&object)?;
    } else {
        print_line(text)?;
    }
    Ok(())
}

/// A bar on standard error for work of a known length; nothing where standard error is no terminal.
pub(crate) fn progress_bar(length: u64, label: String) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr_with_hz(10)
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    // The template is a constant that parses.
    if let Ok(style) = ProgressStyle::with_template("{prefix:24} {bar:30.cyan} {percent:>3}%  {msg}") {
        bar.set_style(style);
    }
    bar.set_prefix(label);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A size in binary units: exact where at most four digits say it (`1280 KiB`), else rounded (`23.5 GiB`).
pub(crate) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let exact = |unit: usize| count.is_multiple_of(1 << (10 * unit)) && count >> (10 * unit) < 10_000;
    match (0..units.len()).rev().find(|&unit| exact(unit) && count >> (10 * unit) > 0) {
        Some(unit) => format!("{} {}", count >> (10 * unit), units[unit]),
        None if count == 0 => "0 B".to_owned(),
        None => {
            let unit = (count.ilog2() / 10) as usize;
            format!("{:.1} {}", count as f64 / (1u64 << (10 * unit)) as f64, units[unit])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(4096), "4 KiB");
        assert_eq!(bytes(1_310_720), "1280 KiB");
        assert_eq!(bytes(1 << 30), "1 GiB");
        assert_eq!(bytes(25_227_399_168), "23.5 GiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
    }
}
