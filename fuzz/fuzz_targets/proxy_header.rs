//! A PROXY header from any bytes, after either version's beginning or none: nothing panics, no header is
//! longer than its bytes or the limit, and its beginning alone is neither a header nor refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use otedama_pool::proxy::{MAX_BYTES, V1_PREFIX, V2_SIGNATURE, begins, parse};

fuzz_target!(|bytes: &[u8]| {
    for begun in [&[][..], V1_PREFIX, V2_SIGNATURE] {
        let bytes = [begun, bytes].concat();
        let Ok(Some(header)) = parse(&bytes) else { continue };
        assert!(begins(&bytes));
        assert!(header.len <= bytes.len().min(MAX_BYTES));
        for end in 0..header.len {
            assert_eq!(parse(&bytes[..end]), Ok(None), "the first {end} of {}", header.len);
        }
        assert_eq!(parse(&bytes[..header.len]), Ok(Some(header)));
    }
});
