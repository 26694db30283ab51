//! Compact bits against a decoder that writes out the bytes of the number one by one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use otedama_core::target::{CompactBits, Target, TargetError};

fuzz_target!(|input: (u32, [u8; 32])| {
    let (bits, number) = input;
    let decoded = CompactBits(bits).to_target();
    assert_eq!(decoded, naive(bits), "{bits:08x}");
    if let Ok(target) = decoded {
        // The bits may differ (leading zeros in the mantissa), the number may not.
        assert_eq!(target.to_compact().to_target(), Ok(target), "{bits:08x}");
    }

    // Any number is rounded down to its first two or three bytes, and stays there.
    let Ok(target) = Target::from_be_bytes(number) else { return };
    let compact = target.to_compact();
    let rounded = compact.to_target().expect("the compact form of a target is a target");
    assert_eq!(rounded.to_compact(), compact);
    let first = number.iter().position(|&byte| byte != 0).expect("a target is not zero");
    let kept = if number[first] < 0x80 { 3 } else { 2 };
    let mut expected = number;
    expected[(first + kept).min(32)..].fill(0);
    assert_eq!(rounded.to_be_bytes(), expected, "{target}");
});

/// Bitcoin's rule: byte `size - 1` of the number is the mantissa's highest, bytes below 0 fall away.
fn naive(bits: u32) -> Result<Target, TargetError> {
    let [size, high, middle, low] = bits.to_be_bytes();
    let mut number = [0u8; 300]; // least significant first; size is at most 255
    for (back, byte) in [(1, high & 0x7f), (2, middle), (3, low)] {
        if let Some(place) = usize::from(size).checked_sub(back) {
            number[place] = byte;
        }
    }
    if number.iter().all(|&byte| byte == 0) {
        return Err(TargetError::Zero);
    }
    if high & 0x80 != 0 {
        return Err(TargetError::Negative(bits));
    }
    if number[32..].iter().any(|&byte| byte != 0) {
        return Err(TargetError::Overflow(bits));
    }
    Target::from_le_bytes(std::array::from_fn(|i| number[i]))
}
