//! Targets and difficulties from text and from numbers: nothing panics, more difficulty is never an
//! easier target, and what is written can be read back.
#![no_main]

use std::num::NonZeroU64;

use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use otedama_core::{Algorithm, Difficulty, HashRate, Target};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    text: &'a str,
    number: [u8; 32],
    difficulties: [f64; 2],
    whole: [NonZeroU64; 2],
}

fuzz_target!(|input: Input| {
    target_text(input.text);
    if let Ok(difficulty) = input.text.parse::<Difficulty>() {
        assert!(difficulty.get().is_finite() && difficulty.get() > 0.0);
        assert_eq!(difficulty.to_string().parse(), Ok(difficulty));
    }
    if let Ok(target) = Target::from_be_bytes(input.number) {
        round_trips(target);
    }
    for algorithm in Algorithm::ALL {
        let [a, b] = input.difficulties.map(Difficulty::new);
        if let (Ok(a), Ok(b)) = (a, b) {
            let (target_a, target_b) =
                (Target::from_difficulty(algorithm, a), Target::from_difficulty(algorithm, b));
            assert!(if a <= b { target_a >= target_b } else { target_a <= target_b }, "{a} {b}");
        }
        let [a, b] = input.whole;
        let (target_a, target_b) =
            (Target::from_whole_difficulty(algorithm, a), Target::from_whole_difficulty(algorithm, b));
        assert!(if a <= b { target_a >= target_b } else { target_a <= target_b }, "{a} {b}");
        if a.get() < 1 << 53 {
            let same = Difficulty::new(a.get() as f64).expect("at least 1");
            assert_eq!(Target::from_difficulty(algorithm, same), target_a);
        }
    }
    let _ = HashRate::new(input.whole[0].get(), input.difficulties[0]).to_string();
});

/// Text is a target exactly if it is 1 to 64 hex digits of a number that is not zero.
fn target_text(text: &str) {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let is_target = (1..=64).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && digits.bytes().any(|byte| byte != b'0');
    match text.parse::<Target>() {
        Ok(target) => {
            assert!(is_target, "{text:?}");
            assert_eq!(target.to_string(), format!("{:0>64}", digits.to_ascii_lowercase()));
        }
        Err(error) => assert!(!is_target, "{text:?}: {error}"),
    }
}

fn round_trips(target: Target) {
    assert_eq!(target.to_string().parse(), Ok(target));
    assert_eq!(Target::from_be_bytes(target.to_be_bytes()), Ok(target));
    assert_eq!(Target::from_le_bytes(target.to_le_bytes()), Ok(target));
    assert!(target.expected_hashes() >= 1.0);
    for algorithm in Algorithm::ALL {
        let difficulty = target.to_difficulty(algorithm);
        assert!(Difficulty::new(difficulty.get()).is_ok(), "{target} {algorithm}");
        // Small targets round by more than a double's precision on the way back.
        if target.to_number().bit_len() > 80 {
            let again = Target::from_difficulty(algorithm, difficulty).to_difficulty(algorithm);
            let error = (again.get() / difficulty.get() - 1.0).abs();
            assert!(error < 1e-14, "{target} {algorithm}: {difficulty} became {again}");
        }
    }
}
