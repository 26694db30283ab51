//! From a template to a job, and from a share back to a block: coinbase, merkle root, header, block.
//!
//! ```text
//! coinb1:     version | 1 input: null, script len, height, flags, push |      everything as it is hashed for
//! extranonce: what the pool and the miner put there                    |      the coinbase's id; the block holds
//! coinb2:     rest of the script, sequence | outputs | lock time       |      the same with a witness
//! ```

use std::sync::Arc;

use otedama_core::{CompactBits, Hash256};

use super::template::{Template, fold};
use crate::coin::sha256d;

/// A coinbase's script may have 2 to 100 bytes.
const SCRIPT_LEN_MAX: usize = 100;

/// An output of the coinbase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payout {
    /// Where it goes: [`Address::Script`](crate::coin::Address::Script).
    pub script: Vec<u8>,
    /// How much, in atomic units.
    pub value: u64,
}

/// What a pool decides about the coinbase.
#[derive(Clone, Debug)]
pub struct CoinbasePlan<'a> {
    /// Who is paid. Together they take all of the template's value.
    pub payouts: &'a [Payout],
    /// The room for extranonce1 and extranonce2 together, in bytes.
    pub extranonce_len: usize,
    /// What the pool signs its blocks with.
    pub tag: &'a [u8],
}

/// A job for miners, with all that it takes to make a block of a share.
#[derive(Clone, Debug)]
pub struct BitcoinJob {
    template: Arc<Template>,
    coinb1: Vec<u8>,
    coinb2: Vec<u8>,
    extranonce_len: usize,
}

/// What a miner may choose.
#[derive(Clone, Copy, Debug)]
pub struct Roll<'a> {
    /// extranonce1 and extranonce2.
    pub extranonce: &'a [u8],
    /// The header's version, rolled bits included.
    pub version: u32,
    /// The header's time.
    pub time: u32,
    /// The header's nonce.
    pub nonce: u32,
}

impl BitcoinJob {
    /// A job that pays as planned.
    ///
    /// # Errors
    /// [`CoinbaseError`].
    pub fn new(template: Arc<Template>, plan: &CoinbasePlan<'_>) -> Result<BitcoinJob, CoinbaseError> {
        let paid = plan.payouts.iter().try_fold(0u64, |sum, payout| sum.checked_add(payout.value));
        if paid != Some(template.coinbase_value) {
            return Err(CoinbaseError::Value { paid, expected: template.coinbase_value });
        }
        let mut before = push_height(template.height);
        before.extend_from_slice(&template.coinbase_flags);
        // One byte pushes up to 75 bytes; more extranonce than that fits no script anyway.
        before.push(plan.extranonce_len.min(SCRIPT_LEN_MAX) as u8);
        let mut after = Vec::new();
        if !plan.tag.is_empty() {
            after.push(plan.tag.len().min(SCRIPT_LEN_MAX) as u8);
            after.extend_from_slice(plan.tag);
        }
        let script_len = before.len() + plan.extranonce_len + after.len();
        if script_len > SCRIPT_LEN_MAX || plan.tag.len() > 75 || plan.extranonce_len > 75 {
            return Err(CoinbaseError::ScriptLen { len: script_len });
        }

        let mut coinb1 = Vec::with_capacity(64 + before.len());
        coinb1.extend_from_slice(&2u32.to_le_bytes());
        coinb1.push(1);
        coinb1.extend_from_slice(&[0; 32]);
        coinb1.extend_from_slice(&[0xff; 4]);
        coinb1.push(script_len as u8);
        coinb1.extend_from_slice(&before);

        let mut coinb2 = after;
        // BIP 54: a coinbase that no other can equal: not final, and locked until the block before.
        coinb2.extend_from_slice(&0xffff_fffe_u32.to_le_bytes());
        let commitment = template.witness_commitment.as_ref();
        push_varint(&mut coinb2, (plan.payouts.len() + usize::from(commitment.is_some())) as u64);
        for payout in plan.payouts {
            push_output(&mut coinb2, payout.value, &payout.script);
        }
        if let Some(script) = commitment {
            push_output(&mut coinb2, 0, script);
        }
        coinb2.extend_from_slice(&template.height.saturating_sub(1).to_le_bytes());
        Ok(BitcoinJob { template, coinb1, coinb2, extranonce_len: plan.extranonce_len })
    }

    /// What it was cut from.
    pub fn template(&self) -> &Arc<Template> {
        &self.template
    }

    /// The coinbase up to the extranonce.
    pub fn coinb1(&self) -> &[u8] {
        &self.coinb1
    }

    /// The coinbase after the extranonce.
    pub fn coinb2(&self) -> &[u8] {
        &self.coinb2
    }

    /// The merkle branch, lowest first.
    pub fn branch(&self) -> &[Hash256] {
        &self.template.branch
    }

    /// The header's compact target.
    pub fn bits(&self) -> CompactBits {
        self.template.bits
    }

    /// The room for the extranonce, in bytes.
    pub fn extranonce_len(&self) -> usize {
        self.extranonce_len
    }

    /// The coinbase as its id is hashed; `None` if the extranonce has another length than planned.
    pub fn coinbase(&self, extranonce: &[u8]) -> Option<Vec<u8>> {
        (extranonce.len() == self.extranonce_len)
            .then(|| [self.coinb1.as_slice(), extranonce, self.coinb2.as_slice()].concat())
    }

    /// The merkle root over this coinbase.
    pub fn merkle_root(&self, coinbase: &[u8]) -> Hash256 {
        let id = Hash256::from_raw(sha256d(coinbase));
        self.template.branch.iter().fold(id, |hash, sibling| fold(&hash, sibling))
    }

    /// The 80 bytes that are hashed; `None` if the extranonce has another length than planned.
    pub fn header(&self, roll: &Roll<'_>) -> Option<[u8; 80]> {
        let root = self.merkle_root(&self.coinbase(roll.extranonce)?);
        Some(self.header_over(&root, roll.version, roll.time, roll.nonce))
    }

    /// The block to hand in; `None` if the extranonce has another length than planned.
    pub fn block(&self, roll: &Roll<'_>) -> Option<Vec<u8>> {
        let coinbase = self.coinbase(roll.extranonce)?;
        let root = self.merkle_root(&coinbase);
        let header = self.header_over(&root, roll.version, roll.time, roll.nonce);
        Some(self.block_under(&header, &coinbase))
    }

    /// A header over a merkle root, its last field (the nonce; Ravencoin's height) included.
    pub(crate) fn header_over(&self, root: &Hash256, version: u32, time: u32, last: u32) -> [u8; 80] {
        let mut header = [0; 80];
        header[..4].copy_from_slice(&version.to_le_bytes());
        header[4..36].copy_from_slice(self.template.previous.as_raw());
        header[36..68].copy_from_slice(root.as_raw());
        header[68..72].copy_from_slice(&time.to_le_bytes());
        header[72..76].copy_from_slice(&self.template.bits.0.to_le_bytes());
        header[76..].copy_from_slice(&last.to_le_bytes());
        header
    }

    /// The block of this header and coinbase: the coinbase with its witness where there is a commitment to
    /// it, the other transactions as they came, and Litecoin's extension block (without which its nodes
    /// answer `mweb-missing`).
    pub(crate) fn block_under(&self, header: &[u8], coinbase: &[u8]) -> Vec<u8> {
        let Template { transactions, mweb, witness_commitment, .. } = &*self.template;
        let body: usize = transactions.iter().map(Vec::len).sum();
        let extension = mweb.as_ref().map_or(0, Vec::len);
        let mut block = Vec::with_capacity(header.len() + coinbase.len() + body + extension + 64);
        block.extend_from_slice(header);
        push_varint(&mut block, 1 + transactions.len() as u64);
        if witness_commitment.is_some() {
            push_with_witness(&mut block, coinbase);
        } else {
            block.extend_from_slice(coinbase);
        }
        for transaction in transactions {
            block.extend_from_slice(transaction);
        }
        if let Some(extension) = mweb {
            block.push(1);
            block.extend_from_slice(extension);
        }
        block
    }
}

/// The id of a block of Bitcoin's and Litecoin's kind: its header hashed twice, whatever it is mined with.
pub fn block_id(header: &[u8; 80]) -> Hash256 {
    Hash256::from_raw(sha256d(header))
}

/// What is wrong with a plan for the coinbase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoinbaseError {
    /// It pays more or less than there is.
    #[error("coinbase pays {}: expected {expected} atomic units", paid.map_or("more than 2^64".to_owned(), |paid| paid.to_string()))]
    Value {
        /// What it pays; `None` if the sum does not fit 64 bits.
        paid: Option<u64>,
        /// What there is.
        expected: u64,
    },
    /// Its script is too long.
    #[error(
        "coinbase script has {len} bytes: expected at most 100, pieces at most 75; shorten tag or extranonce"
    )]
    ScriptLen {
        /// Its length.
        len: usize,
    },
}

/// The coinbase with the witness that the commitment is salted with: one item of 32 zero bytes (BIP 141).
fn push_with_witness(block: &mut Vec<u8>, coinbase: &[u8]) {
    let (version, rest) = coinbase.split_at(4);
    let (body, lock_time) = rest.split_at(rest.len() - 4);
    block.extend_from_slice(version);
    block.extend_from_slice(&[0, 1]);
    block.extend_from_slice(body);
    block.extend_from_slice(&[1, 32]);
    block.extend_from_slice(&[0; 32]);
    block.extend_from_slice(lock_time);
}

fn push_output(to: &mut Vec<u8>, value: u64, script: &[u8]) {
    to.extend_from_slice(&value.to_le_bytes());
    push_varint(to, script.len() as u64);
    to.extend_from_slice(script);
}

/// The height as a script pushes it (BIP 34): small numbers have opcodes of their own, others are pushed in
/// as few bytes as hold them and their sign.
fn push_height(height: u32) -> Vec<u8> {
    match height {
        0 => vec![0],
        1..=16 => vec![0x50 + height as u8],
        _ => {
            let mut number = height.to_le_bytes().to_vec();
            while number.last() == Some(&0) {
                number.pop();
            }
            if number.last().is_some_and(|top| top & 0x80 != 0) {
                number.push(0);
            }
            number.insert(0, number.len() as u8);
            number
        }
    }
}

/// A count in Bitcoin's variable length.
pub(super) fn push_varint(to: &mut Vec<u8>, count: u64) {
    match count {
        0..=0xfc => to.push(count as u8),
        0xfd..=0xffff => {
            to.push(0xfd);
            to.extend_from_slice(&(count as u16).to_le_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            to.push(0xfe);
            to.extend_from_slice(&(count as u32).to_le_bytes());
        }
        _ => {
            to.push(0xff);
            to.extend_from_slice(&count.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use otedama_core::Target;
    use proptest::prelude::*;

    fn template(height: u32) -> Template {
        Template {
            height,
            version: 0x2000_0000,
            previous: Hash256::from_raw([7; 32]),
            bits: CompactBits(0x207f_ffff),
            target: Target::MAX,
            time: 1_700_000_000,
            min_time: 1_700_000_000,
            coinbase_value: 5_000_000_000,
            fees: 0,
            coinbase_flags: Vec::new(),
            transactions: Vec::new(),
            witness_commitment: None,
            mweb: None,
            long_poll_id: None,
            branch: Arc::new([]),
        }
    }

    fn payouts(template: &Template) -> Vec<Payout> {
        vec![Payout { script: vec![0x51], value: template.coinbase_value }]
    }

    fn job(template: Template, tag: &[u8]) -> Result<BitcoinJob, CoinbaseError> {
        let payouts = payouts(&template);
        BitcoinJob::new(template.into(), &CoinbasePlan { payouts: &payouts, extranonce_len: 12, tag })
    }

    /// A solved block of Bitcoin's old testnet, published as an example of Stratum.
    #[test]
    fn a_published_share_gives_the_published_header() {
        let bytes = |text: &str| hex::decode(text).unwrap();
        let mut previous: [u8; 32] =
            bytes("f8b6164d19e2f65a2aae448f787fe66d61e57a48c0c6771b1e920b4400000000").try_into().unwrap();
        previous[28..].fill(0);
        let template =
            Template { previous: Hash256::from_raw(previous), bits: CompactBits(0x1c2a_c4af), ..template(1) };
        let job = BitcoinJob {
            template: template.into(),
            coinb1: bytes(
                "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff20020862062f503253482f04b8864e5008",
            ),
            coinb2: bytes(
                "072f736c7573682f000000000100f2052a010000001976a914d23fcdf86f7e756a64a7a9688ef9903327048ed988ac00000000",
            ),
            extranonce_len: 8,
        };
        let roll = Roll {
            extranonce: &bytes("0800000200000001"),
            version: 2,
            time: 0x504e_86ed,
            nonce: 0xb295_7c02,
        };
        let header = job.header(&roll).unwrap();
        assert_eq!(
            hex::encode(header),
            "02000000f8b6164d19e2f65a2aae448f787fe66d61e57a48c0c6771b1e920b440000000032414daa9ddac879fd2c62839b9ba710a3546363a5f5e22915d90dc3b1699dec\
             ed864e50afc42a1c027c95b2"
        );
        assert_eq!(
            block_id(&header).to_display_hex(),
            "000000002076870fe65a2b6eeed84fa892c0db924f1482243a6247d931dcab32"
        );
        assert_eq!(job.block(&roll).unwrap()[..81], [header.as_slice(), &[1]].concat());
        assert!(job.header(&Roll { extranonce: &[0; 7], ..roll }).is_none());
    }

    #[test]
    fn heights_are_pushed_as_bip_34_wants_them() {
        // 227,836 is the first height whose block had to (03 fc 79 03); the others follow from its rule.
        let known: [(u32, &[u8]); 9] = [
            (0, &[0]),
            (1, &[0x51]),
            (16, &[0x60]),
            (17, &[1, 17]),
            (127, &[1, 127]),
            (128, &[2, 128, 0]),
            (432, &[2, 0xb0, 1]),
            (227_836, &[3, 0xfc, 0x79, 3]),
            (0x80_0000, &[4, 0, 0, 0x80, 0]),
        ];
        for (height, expected) in known {
            assert_eq!(push_height(height), expected, "{height}");
        }
    }

    #[test]
    fn money_is_neither_lost_nor_made() {
        let template = Arc::new(template(500));
        let pay = |values: &[u64]| {
            let payouts: Vec<_> = values.iter().map(|&value| Payout { script: vec![0x51], value }).collect();
            let plan = CoinbasePlan { payouts: &payouts, extranonce_len: 8, tag: b"" };
            BitcoinJob::new(template.clone(), &plan).map(|_| ())
        };
        assert_eq!(pay(&[4_000_000_000, 1_000_000_000]), Ok(()));
        assert_eq!(
            pay(&[4_000_000_000, 1_000_000_001]).unwrap_err().to_string(),
            "coinbase pays 5000000001: expected 5000000000 atomic units"
        );
        assert!(pay(&[4_999_999_999]).is_err() && pay(&[]).is_err());
        assert_eq!(
            pay(&[u64::MAX, 5_000_000_001]).unwrap_err().to_string(),
            "coinbase pays more than 2^64: expected 5000000000 atomic units"
        );
    }

    #[test]
    fn scripts_stay_within_a_hundred_bytes() {
        assert!(job(template(500_000), &[b'x'; 75]).is_ok());
        assert!(matches!(job(template(500_000), &[b'x'; 76]), Err(CoinbaseError::ScriptLen { .. })));
        let flags = Template { coinbase_flags: vec![0; 40], ..template(500_000) };
        assert!(matches!(job(flags, &[b'x'; 60]), Err(CoinbaseError::ScriptLen { len: 118 })));
    }

    #[test]
    fn a_block_has_witness_and_extension_where_the_template_has() {
        let transactions = vec![vec![0xaa; 60]; 300];
        let plain = Template { transactions, ..template(500) };
        let full = Template {
            witness_commitment: Some(vec![0x6a, 0x24]),
            mweb: Some(vec![0xee; 5]),
            ..plain.clone()
        };
        let roll = Roll { extranonce: &[1; 12], version: 1, time: 2, nonce: 3 };
        let (plain, full) = (job(plain, b"").unwrap(), job(full, b"").unwrap());
        let coinbase = |job: &BitcoinJob| job.coinbase(roll.extranonce).unwrap();
        let block = plain.block(&roll).unwrap();
        assert_eq!(block[80..83], [0xfd, 0x2d, 0x01]);
        assert_eq!(block.len(), 83 + coinbase(&plain).len() + 300 * 60);
        let block = full.block(&roll).unwrap();
        assert_eq!(block.len(), 83 + coinbase(&full).len() + 2 + 34 + 300 * 60 + 6);
        assert_eq!(block[83 + 4..83 + 6], [0, 1]);
        assert!(block.ends_with(&[0xaa, 1, 0xee, 0xee, 0xee, 0xee, 0xee]));
        // The id is hashed without the witness.
        assert_eq!(full.merkle_root(&coinbase(&full)), Hash256::from_raw(sha256d(&coinbase(&full))));
    }

    proptest! {
        #[test]
        fn the_coinbase_s_script_length_is_right(height in 17u32..5_000_000, tag in proptest::collection::vec(any::<u8>(), 0..60)) {
            let job = job(template(height), &tag).unwrap();
            let coinbase = job.coinbase(&[9; 12]).unwrap();
            let len = usize::from(coinbase[41]);
            prop_assert_eq!(&coinbase[42 + len..42 + len + 4], 0xffff_fffe_u32.to_le_bytes());
            prop_assert_eq!(&coinbase[coinbase.len() - 4..], (height - 1).to_le_bytes());
            prop_assert!(len <= 100);
        }
    }
}
