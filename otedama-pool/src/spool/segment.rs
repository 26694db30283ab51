//! The bytes of a segment, and how much of a damaged one can be believed. No I/O.
//!
//! ```text
//! segment:  header | frame | frame | ...
//! header:   magic 8 | version 2 | node length 2 | node 32 | origin 8 | first 8 | crc32c 4     (64 bytes)
//! frame:    length 4 | crc32c 4 (over length and payload) | payload
//! payload:  first 8 | durable 8 | count 4 | count x (length 2 | record)
//! ```
//!
//! All numbers are little-endian. A frame is what one group commit wrote: its records have the sequence
//! numbers `first .. first + count`. A frame of no records marks a clean close.
//!
//! `durable` is how many bytes of the segment were known to be on disk when the frame was written. It
//! decides what a damaged frame means. A machine that loses power may have written the later pages of what
//! it was writing and not the earlier ones; but whatever comes before a good frame's `durable` had been on
//! disk. So a damaged frame that a later good frame vouches for is corruption, and any other is the torn end
//! of what nobody was told to be safe. (Not to be told apart: damage, by the disk and later, to the very last
//! frame of a spool that was not closed.)

use super::record::{MAX_RECORD_LEN, ShareRecord, take};

pub(super) const HEADER_LEN: usize = 64;
/// Most bytes of one frame's payload.
pub(super) const MAX_PAYLOAD_LEN: usize = 1 << 20;
/// Bytes of a frame before its records.
pub(super) const FRAME_HEAD_LEN: usize = 8 + PAYLOAD_HEAD_LEN;
/// Longest node name, in bytes.
pub const MAX_NODE_LEN: usize = 32;

const PAYLOAD_HEAD_LEN: usize = 8 + 8 + 4;
const MAGIC: [u8; 8] = *b"otdspool";
const VERSION: u16 = 1;

/// What a segment begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Whose spool it is.
    pub(super) node: String,
    /// Sequence of the first record this spool ever held.
    pub(super) origin: u64,
    /// Sequence of the segment's first record.
    pub(super) first: u64,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&(self.node.len() as u16).to_le_bytes());
        bytes[12..12 + self.node.len()].copy_from_slice(self.node.as_bytes());
        bytes[44..52].copy_from_slice(&self.origin.to_le_bytes());
        bytes[52..60].copy_from_slice(&self.first.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header at the start of these bytes, or what is wrong with it.
    pub(super) fn decode(bytes: &[u8]) -> Result<Header, &'static str> {
        let bytes = bytes.first_chunk::<HEADER_LEN>().ok_or("the header is incomplete")?;
        let mut rest = &bytes[..];
        let short = "the header is incomplete";
        if take(&mut rest).ok_or(short)? != MAGIC {
            return Err("this is no segment of a share spool");
        }
        if u32::from_le_bytes(*bytes.last_chunk().ok_or(short)?) != crc32c::crc32c(&bytes[..60]) {
            return Err("the header's checksum is wrong");
        }
        if u16::from_le_bytes(take(&mut rest).ok_or(short)?) != VERSION {
            return Err("the segment has a format this version does not know");
        }
        let node_len = usize::from(u16::from_le_bytes(take(&mut rest).ok_or(short)?));
        let node: [u8; MAX_NODE_LEN] = take(&mut rest).ok_or(short)?;
        let node = node.get(..node_len).and_then(|name| std::str::from_utf8(name).ok());
        Ok(Header {
            node: node.ok_or("the header's node name is malformed")?.to_owned(),
            origin: u64::from_le_bytes(take(&mut rest).ok_or(short)?),
            first: u64::from_le_bytes(take(&mut rest).ok_or(short)?),
        })
    }
}

/// The first bytes of a frame around these encoded records.
pub(super) fn frame_head(first: u64, durable: u64, count: u32, records: &[u8]) -> [u8; FRAME_HEAD_LEN] {
    let mut head = [0; FRAME_HEAD_LEN];
    let payload_len = (PAYLOAD_HEAD_LEN + records.len()) as u32; // bounded by MAX_PAYLOAD_LEN
    head[0..4].copy_from_slice(&payload_len.to_le_bytes());
    head[8..16].copy_from_slice(&first.to_le_bytes());
    head[16..24].copy_from_slice(&durable.to_le_bytes());
    head[24..28].copy_from_slice(&count.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head[0..4]), &head[8..]);
    head[4..8].copy_from_slice(&crc32c::crc32c_append(crc, records).to_le_bytes());
    head
}

/// A frame whose checksum is right.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) first: u64,
    durable: u64,
    pub(super) count: u32,
    records: &'a [u8],
    /// Bytes of the whole frame.
    pub(super) len: usize,
}

impl Frame<'_> {
    /// The records; `None` if they are not `count` well-formed ones.
    fn records(&self) -> Option<Vec<ShareRecord>> {
        let mut rest = self.records;
        // A record has more than two bytes, so a false count reserves no more than the frame's own length.
        let mut records = Vec::with_capacity((self.count as usize).min(rest.len() / 2));
        for _ in 0..self.count {
            let len = usize::from(u16::from_le_bytes(take(&mut rest)?));
            if len > MAX_RECORD_LEN {
                return None;
            }
            let (record, tail) = rest.split_at_checked(len)?;
            records.push(ShareRecord::decode(record)?);
            rest = tail;
        }
        rest.is_empty().then_some(records)
    }
}

/// Why there is no frame at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoFrame {
    /// The bytes end before the frame does.
    Incomplete,
    /// Length or checksum cannot be right.
    Damaged,
}

/// The frame at the start of these bytes.
pub(super) fn frame(bytes: &[u8]) -> Result<Frame<'_>, NoFrame> {
    let mut rest = bytes;
    let len_bytes: [u8; 4] = take(&mut rest).ok_or(NoFrame::Incomplete)?;
    let payload_len = u32::from_le_bytes(len_bytes) as usize;
    if !(PAYLOAD_HEAD_LEN..=MAX_PAYLOAD_LEN).contains(&payload_len) {
        return Err(NoFrame::Damaged);
    }
    let crc = u32::from_le_bytes(take(&mut rest).ok_or(NoFrame::Incomplete)?);
    let payload = rest.get(..payload_len).ok_or(NoFrame::Incomplete)?;
    if crc32c::crc32c_append(crc32c::crc32c(&len_bytes), payload) != crc {
        return Err(NoFrame::Damaged);
    }
    let mut rest = payload;
    Ok(Frame {
        first: u64::from_le_bytes(take(&mut rest).ok_or(NoFrame::Damaged)?),
        durable: u64::from_le_bytes(take(&mut rest).ok_or(NoFrame::Damaged)?),
        count: u32::from_le_bytes(take(&mut rest).ok_or(NoFrame::Damaged)?),
        records: rest,
        len: 8 + payload_len,
    })
}

/// How far a spool's last segment can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recovered {
    /// Bytes up to the end of the last good frame.
    pub(super) end: u64,
    /// Sequence of the next record.
    pub(super) next: u64,
}

/// A frame that was on disk is no longer good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Corrupt {
    /// Where, in bytes from the segment's start.
    pub(super) offset: u64,
    pub(super) what: &'static str,
}

/// Goes through all frames of a spool's last segment (header included) and finds where it really ends.
pub(super) fn recover(bytes: &[u8], header: &Header) -> Result<Recovered, Corrupt> {
    let mut good = Recovered { end: HEADER_LEN as u64, next: header.first };
    while (good.end as usize) < bytes.len() {
        let at = good.end as usize;
        match frame(&bytes[at..]) {
            Ok(frame) => {
                records_at(&frame, good)?;
                good =
                    Recovered { end: good.end + frame.len as u64, next: good.next + u64::from(frame.count) };
            }
            Err(_) if vouched_for(&bytes[at..], good) => {
                return Err(Corrupt { offset: good.end, what: "a frame that later ones follow is damaged" });
            }
            Err(_) => break,
        }
    }
    Ok(good)
}

/// The records of a frame with a right checksum, if it says what it must say at this place.
pub(super) fn records_at(frame: &Frame<'_>, expected: Recovered) -> Result<Vec<ShareRecord>, Corrupt> {
    let corrupt = |what| Corrupt { offset: expected.end, what };
    if frame.first != expected.next {
        return Err(corrupt("a frame does not continue the sequence"));
    }
    if frame.durable > expected.end {
        return Err(corrupt("a frame vouches for bytes that come after it"));
    }
    frame.records().ok_or(corrupt("a frame's checksum is right but its records are not: of another version?"))
}

/// Whether a good frame further on says that the bytes at `good.end` had been on disk.
fn vouched_for(rest: &[u8], good: Recovered) -> bool {
    (1..rest.len()).any(|skip| {
        let Ok(frame) = frame_if_plausible(&rest[skip..], good) else { return false };
        let at = good.end + skip as u64;
        frame.first >= good.next && frame.durable > good.end && frame.durable <= at
    })
}

/// As [`frame`], but most bytes are refused before their checksum is computed.
fn frame_if_plausible(bytes: &[u8], good: Recovered) -> Result<Frame<'_>, NoFrame> {
    let head = bytes.get(8..24).ok_or(NoFrame::Incomplete)?;
    let (first, durable) = head.split_at(8);
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    if number(first) < good.next || number(first) - good.next > 1 << 32 || number(durable) <= good.end {
        return Err(NoFrame::Damaged);
    }
    frame(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::any_record;
    use super::*;
    use proptest::prelude::*;

    /// A segment of these groups, each on disk before the next is written, and where each frame starts.
    fn segment(groups: &[Vec<ShareRecord>], first: u64) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = header(first).encode().to_vec();
        let (mut starts, mut next) = (Vec::new(), first);
        for group in groups {
            let mut records = Vec::new();
            for record in group {
                let mut encoded = Vec::new();
                record.encode(&mut encoded).unwrap();
                records.extend((encoded.len() as u16).to_le_bytes());
                records.extend(encoded);
            }
            starts.push(bytes.len());
            let durable = bytes.len() as u64;
            bytes.extend(frame_head(next, durable, group.len() as u32, &records));
            bytes.extend(records);
            next += group.len() as u64;
        }
        (bytes, starts)
    }

    fn header(first: u64) -> Header {
        Header { node: "node-1".into(), origin: first, first }
    }

    fn groups() -> impl Strategy<Value = Vec<Vec<ShareRecord>>> {
        proptest::collection::vec(proptest::collection::vec(any_record(), 1..4), 1..5)
    }

    /// Every record that the good frames hold.
    fn records(bytes: &[u8], end: u64) -> Vec<ShareRecord> {
        let (mut at, mut all) = (HEADER_LEN, Vec::new());
        while at < end as usize {
            let frame = frame(&bytes[at..]).unwrap();
            all.extend(frame.records().unwrap());
            at += frame.len;
        }
        all
    }

    #[test]
    fn crc_is_castagnoli() {
        // RFC 3720, B.4: 32 bytes of zeros.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn headers_come_back_and_no_changed_byte_goes_unseen(first: u64, at in 0..HEADER_LEN, by in 1u8..) {
            let mut bytes = header(first).encode();
            prop_assert_eq!(Header::decode(&bytes), Ok(header(first)));
            bytes[at] ^= by;
            prop_assert!(Header::decode(&bytes).is_err());
        }

        #[test]
        fn a_segment_cut_anywhere_keeps_every_whole_frame(groups in groups(), cut in any::<proptest::sample::Index>()) {
            let (bytes, starts) = segment(&groups, 100);
            let len = HEADER_LEN + cut.index(bytes.len() - HEADER_LEN + 1);
            let whole = starts.iter().skip(1).chain([&bytes.len()]).filter(|end| **end <= len).count();
            let recovered = recover(&bytes[..len], &header(100)).unwrap();
            let expected: Vec<ShareRecord> = groups[..whole].concat();
            prop_assert_eq!(recovered.next, 100 + expected.len() as u64);
            prop_assert_eq!(records(&bytes, recovered.end), expected);
        }

        #[test]
        fn the_last_frame_torn_in_any_way_is_cut_off(
            groups in groups(), junk in proptest::collection::vec(any::<u8>(), 1..600), keep in any::<proptest::sample::Index>(),
        ) {
            // Any part of the last frame is replaced, as when its pages reached the disk in another order.
            let (mut bytes, starts) = segment(&groups, 7);
            let last = *starts.last().unwrap();
            let from = last + keep.index(bytes.len() - last);
            let original = bytes.clone();
            let end = bytes.len().min(from + junk.len());
            bytes[from..end].copy_from_slice(&junk[..end - from]);
            prop_assume!(bytes != original);
            let expected: Vec<ShareRecord> = groups[..groups.len() - 1].concat();
            let recovered = recover(&bytes, &header(7)).unwrap();
            prop_assert_eq!(recovered, Recovered { end: last as u64, next: 7 + expected.len() as u64 });
        }

        #[test]
        fn damage_before_the_last_frame_is_named_by_its_place(
            groups in proptest::collection::vec(proptest::collection::vec(any_record(), 1..4), 2..5),
            at in any::<proptest::sample::Index>(), by in 1u8..,
        ) {
            let (mut bytes, starts) = segment(&groups, 7);
            let last = *starts.last().unwrap();
            let at = HEADER_LEN + at.index(last - HEADER_LEN);
            bytes[at] ^= by;
            let frame = *starts.iter().rev().find(|start| **start <= at).unwrap();
            prop_assert_eq!(recover(&bytes, &header(7)).unwrap_err().offset, frame as u64);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = Header::decode(&bytes);
            let _ = recover(&bytes, &header(0));
            if let Ok(frame) = frame(&bytes) {
                let _ = frame.records();
            }
        }
    }
}
