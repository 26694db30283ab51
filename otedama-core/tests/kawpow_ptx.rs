//! KawPow's periods in PTX, put into the kernel that was compiled ahead: NVIDIA's assembler takes every one of them, for
//! every chip since Turing, without spilling a register. That they do what they should is tested beside what prints them.
//!
//! The assembler is `ptxas` of the CUDA toolkit (wheel `nvidia-cuda-nvcc`), found on the path or through OTEDAMA_PTXAS.

use std::path::PathBuf;
use std::process::Command;

use otedama_core::algo::kawpow::{Program, period_text, ptx_text};
use otedama_kernels::{KAWPOW, KAWPOW_PERIOD, KAWPOW_TEMPLATE};

const CHIPS: [&str; 7] = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"];

#[test]
fn every_period_assembles_for_every_chip() {
    let ptxas = std::env::var_os("OTEDAMA_PTXAS").map_or_else(|| PathBuf::from("ptxas"), PathBuf::from);
    if Command::new(&ptxas).arg("--version").output().is_err() {
        println!("SKIPPED: no ptxas here: set OTEDAMA_PTXAS to it");
        return;
    }
    let long = std::env::var_os("OTEDAMA_LONG_TESTS").is_some_and(|value| value == "1");
    if !long {
        println!("SKIPPED: 190 more periods in PTX: set OTEDAMA_LONG_TESTS=1");
    }
    let file = std::env::temp_dir().join(format!("otedama-period-{}.ptx", std::process::id()));
    for period in (0..if long { 200 } else { 10 }).map(|i| 406_800 + i) {
        std::fs::write(&file, text(period)).unwrap();
        for chip in CHIPS {
            let done = Command::new(&ptxas)
                .args(["--verbose", "--output-file", "/dev/null", "--gpu-name", chip])
                .arg(&file)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "period {period} for {chip}: {said}");
            assert!(
                said.contains("0 bytes spill stores, 0 bytes spill loads"),
                "period {period} for {chip}: {said}"
            );
        }
    }
    std::fs::remove_file(file).unwrap();
}

fn text(period: u64) -> String {
    let template = otedama_kernels::ptx(KAWPOW_TEMPLATE.name, &[("OTD_DAG_PARTS", 1)]).unwrap();
    ptx_text(template, &Program::of_period(period)).unwrap()
}

#[test]
fn the_template_becomes_a_whole_text() {
    let text = text(7);
    assert!(!text.contains("OTD_PERIOD"), "the mark is gone");
    assert!(text.contains(".entry kawpow_search"));
    let depth = text.matches('{').count() as i64 - text.matches('}').count() as i64;
    assert_eq!(depth, 0, "every block is closed");
}

#[test]
fn the_sample_is_the_program_of_its_period() {
    let (_, sample) = KAWPOW.parts.iter().find(|(name, _)| *name == KAWPOW_PERIOD).unwrap();
    assert_eq!(*sample, period_text(&Program::of_period(406_800)));
}
