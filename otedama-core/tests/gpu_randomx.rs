//! RandomX on an OpenCL device, PoCL for want of another: the sample variants against the oracle, with all they leave
//! in memory, and published hashes with the real cache. OTEDAMA_LONG_TESTS=1 takes all published hashes.

mod randomx_operands;

use std::sync::Arc;

use otedama_core::Algorithm;
use otedama_core::algo::randomx::config::Revision;
use otedama_core::algo::randomx::interpret::Machine;
use otedama_core::algo::randomx::superscalar::Program;
use otedama_core::algo::randomx::{self, Light, Params, commitment, dataset};
use otedama_core::builders::{self, ItemsBy};
use otedama_core::epoch::{Depth as EpochDepth, EpochKey, EpochStore, Progress, StoreConfig};
use otedama_core::gpu::randomx::{Depth, Hits, Kernels, STATE_WORDS};
use otedama_core::gpu::{self, Api, Arg, Buffer, DeviceInfo, Gpu, GpuError, Queue};
use otedama_core::primitive::blake2b;
use otedama_core::scan::Setup;
use otedama_core::topology::{NodeId, Topology};
use randomx_operands::check_roundings;
use serde_json::Value;

/// The first OpenCL device; without one the test says so and has nothing to do.
fn device() -> Option<Arc<dyn Gpu>> {
    let inventory = gpu::devices();
    let Some(card) = inventory.cards.iter().find(|card| card.info.id.api() == Api::OpenCl) else {
        println!("SKIPPED: no OpenCL device here ({inventory})");
        return None;
    };
    Some(gpu::open(card.info.id).expect("a device that is listed can be opened"))
}

/// A lane is a record.
const ROUNDINGS: &str = r"
OTD_KERNEL(64) void roundings(OTD_GLOBAL const u64 *records, OTD_GLOBAL u64 *results, u32 count)
{
    OTD_GLOBAL const u64 *record = records + 4 * OTD_GLOBAL_LANE;
    if (OTD_GLOBAL_LANE < count) {
        u32 mode = (u32)record[1];
        f64 a = OTD_F64_OF_BITS(record[2]), b = OTD_F64_OF_BITS(record[3]);
        f64 z = record[0] == 0   ? otd_add(a, b, mode)
                : record[0] == 1 ? otd_multiply(a, b, mode)
                : record[0] == 2 ? otd_divide(a, b, mode)
                                 : otd_square_root(a, mode);
        results[OTD_GLOBAL_LANE] = OTD_BITS_OF_F64(z);
    }
}
";

#[test]
fn sums_products_quotients_and_roots_round_as_the_oracle_does() {
    let Some(device) = device() else { return };
    let parts = otedama_kernels::RANDOMX.parts.iter();
    let parts = parts.filter(|(file, _)| ["vocab.h", "rounding.h"].contains(file)).map(|(_, text)| *text);
    let text = parts.chain([ROUNDINGS]).collect::<String>();
    let kernel = device.compile("roundings", &text, &[]).unwrap().kernel("roundings", 64).unwrap();
    check_roundings(&device.info().name, |records| {
        let mut queue = device.queue().unwrap();
        let there = device.buffer(32 * records.len() as u64).unwrap();
        let results = device.buffer(8 * records.len() as u64).unwrap();
        let bytes: Vec<u8> = records.as_flattened().iter().flat_map(|word| word.to_le_bytes()).collect();
        queue.write(&there, 0, &bytes).unwrap();
        let count = records.len() as u32;
        let args = [Arg::Buffer(&there), Arg::Buffer(&results), Arg::U32(count)];
        queue.launch(&kernel, count.div_ceil(64), &args).unwrap();
        words(&read(queue.as_mut(), &results))
    });
}

#[test]
fn version_1_agrees_with_the_oracle_in_every_stage() {
    let Some(device) = device() else { return };
    let params = Params::named("rx/0").unwrap().sample();
    stages_agree(&device, params, Depth::Full, 32, 40);
    stages_agree(&device, params, Depth::Light, 4, 5);
}

#[test]
fn version_2_agrees_with_the_oracle_in_every_stage() {
    let Some(device) = device() else { return };
    let params = Params::named("rx/2").unwrap().sample();
    stages_agree(&device, params, Depth::Full, 32, 40);
    stages_agree(&device, params, Depth::Light, 4, 5);
}

#[test]
fn a_dataset_in_two_parts_is_one() {
    let Some(device) = device() else { return };
    let params = Params::named("rx/0").unwrap().sample();
    let max_buffer = 40 << 10;
    assert!(params.dataset_bytes() > max_buffer, "the dataset would fit into one buffer");
    let info = DeviceInfo { max_buffer: max_buffer as u64, ..device.info().clone() };
    let small: Arc<dyn Gpu> = Arc::new(Small { device, info });
    stages_agree(&small, params, Depth::Full, 8, 16);
}

/// A device that says its buffers are small.
struct Small {
    device: Arc<dyn Gpu>,
    info: DeviceInfo,
}

impl Gpu for Small {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn compile(&self, name: &str, text: &str, defines: &[(&str, u64)]) -> Result<gpu::Program, GpuError> {
        self.device.compile(name, text, defines)
    }

    fn buffer(&self, bytes: u64) -> Result<Buffer, GpuError> {
        self.device.buffer(bytes)
    }

    fn queue(&self) -> Result<Box<dyn Queue>, GpuError> {
        self.device.queue()
    }
}

/// Hashes of a small variant: registers, rounding modes, memory addresses, scratchpads and hits.
fn stages_agree(device: &Arc<dyn Gpu>, params: &'static Params, depth: Depth, group: u32, count: u32) {
    let mut queue = device.queue().unwrap();
    let queue = queue.as_mut();
    let key = b"a key";
    let first = 0x0123_4567_89ab_cdef;
    let cache = dataset::cache(params, key);
    let functions = Program::of_key(params, key);
    let light = Light::new(params, &cache, &functions);
    let mut blob: Vec<u8> = (0..97).map(|i: u8| i.wrapping_mul(29)).collect();
    let nonce = 59..67;

    let kernels = Kernels::new(device, params, depth, group, queue).unwrap();
    // Makes and samples the dataset.
    let items = kernels.items(queue, key, &cache).unwrap();
    let memory = kernels.memory(count).unwrap();
    let mut machines = Vec::new();
    let mut tops = Vec::new();
    for i in 0..u64::from(memory.hashes()) {
        blob[nonce.clone()].copy_from_slice(&(first + i).to_le_bytes());
        let mut machine = Machine::new(params);
        let hash = randomx::hash_on(&mut machine, &light, &blob);
        let judged = match params.revision {
            Revision::V1 => hash,
            Revision::V2 => commitment(&blob, &hash),
        };
        tops.push(u64::from_le_bytes(*judged.last_chunk().unwrap()));
        machines.push(machine);
    }
    let mut sorted = tops[..count as usize].to_vec();
    sorted.sort_unstable();
    let target = sorted[2];

    let input = kernels.input(queue, &blob, nonce, target).unwrap();
    let hits = device.buffer(4 + 8 * 2).unwrap();
    queue.zero(&hits, 0, hits.bytes()).unwrap();
    kernels.enqueue(queue, (&items, &memory, &input), first, count, Hits { buffer: &hits, room: 2 }).unwrap();

    let states = words(&read(queue, &memory.states));
    let pads = read(queue, &memory.scratchpads);
    let stride = memory.hashes() as usize;
    assert_eq!(states.len(), STATE_WORDS as usize * stride);
    for (i, machine) in machines.iter().enumerate() {
        let name = format!("{} {depth:?} hash {i}", params.name);
        let word = |word: usize| states[word * stride + i];
        assert_eq!(
            (0..24).map(word).collect::<Vec<_>>(),
            words(&machine.registers.to_bytes())[..24],
            "{name}"
        );
        assert_eq!(word(32), u64::from(machine.ma) | u64::from(machine.mx) << 32, "{name}: ma and mx");
        assert_eq!(word(33) >> 44, machine.fprc as u64, "{name}: fprc");
        let pad = &pads[i * params.scratchpad_bytes()..][..params.scratchpad_bytes()];
        assert!(pad == machine.scratchpad(), "{name}: its scratchpad");
        let fingerprint = words(&randomx::aes::hash_1r(machine.scratchpad()));
        assert_eq!((24..32).map(word).collect::<Vec<_>>(), fingerprint, "{name}: fingerprint");
    }
    let modes = machines.iter().map(|machine| machine.fprc as u64).max();
    assert!(count < 40 || modes == Some(3), "no hash ended with another rounding mode");

    // Three met the target and there was room for two.
    let found = read(queue, &hits);
    let found: Vec<u32> = found.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    assert_eq!(found[0], 3);
    for nonce in found[1..].as_chunks::<2>().0 {
        let nonce = u64::from(nonce[0]) | u64::from(nonce[1]) << 32;
        assert!(tops[(nonce - first) as usize] <= target, "{nonce} does not meet the target");
    }
    assert_ne!(found[1], found[3]);
}

#[test]
fn published_hashes_come_out() {
    let Some(device) = device() else { return };
    let long = std::env::var_os("OTEDAMA_LONG_TESTS").is_some();
    if !long {
        println!("SKIPPED: all but two published hashes of each version without OTEDAMA_LONG_TESTS=1");
    }
    let store = EpochStore::new(StoreConfig::for_machine(&Topology::detect(), 1 << 30));
    for algorithm in [Algorithm::RandomXV1, Algorithm::RandomXV2] {
        let params = Params::of(algorithm).unwrap();
        let builder = builders::builder(algorithm, &Setup::detect().cpu, ItemsBy::default()).unwrap();
        let mut queue = device.queue().unwrap();
        // One lane, so that one hash is all that is computed.
        let kernels = Kernels::new(&device, params, Depth::Light, 1, queue.as_mut()).unwrap();
        let memory = kernels.memory(1).unwrap();
        let mut cases = published(params.name);
        // With the same key one after the other: the cache is made once.
        cases.sort_by_key(|case| (case.key != b"test key 000", case.key.clone()));
        cases.truncate(if long { usize::MAX } else { 2 });
        assert!(cases.len() >= 2, "only {} hashes of {}", cases.len(), params.name);
        for Case { key, input, hash } in &cases {
            let epoch_key = EpochKey::bytes(algorithm, key).unwrap();
            let epoch = store.get(&builder, &epoch_key, EpochDepth::Light, &Progress::new()).unwrap();
            let queue = queue.as_mut();
            let items = kernels.items(queue, key, epoch.light().view(NodeId(0))).unwrap();
            // The input's last four bytes are its nonce.
            let (_, nonce) = input.split_last_chunk::<4>().expect("inputs have four bytes");
            let nonce = u32::from_le_bytes(*nonce).into();
            // What is compared with the target.
            let judged = match algorithm {
                Algorithm::RandomXV2 => commitment(input, hash),
                _ => *hash,
            };
            let top = u64::from_le_bytes(*judged.last_chunk().unwrap());
            let there = kernels.input(queue, input, input.len() - 4..input.len(), top).unwrap();
            let hits = device.buffer(12).unwrap();
            queue.zero(&hits, 0, 12).unwrap();
            let to = Hits { buffer: &hits, room: 1 };
            kernels.enqueue(queue, (&items, &memory, &there), nonce, 1, to).unwrap();
            let found = read(queue, &hits);
            assert_eq!(found[..4], [1, 0, 0, 0], "{}: {}", params.name, hex::encode(input));
            assert_eq!(found[4..], nonce.to_le_bytes(), "{}: {}", params.name, hex::encode(input));
            // The hash itself, from what was left in memory.
            let states = words(&read(queue, &memory.states));
            let file: Vec<u8> = states[..32].iter().flat_map(|word| word.to_le_bytes()).collect();
            assert_eq!(blake2b::digest::<32>(&file), *hash, "{}: {}", params.name, hex::encode(input));
        }
        println!("{}: {} published hashes", params.name, cases.len());
    }
}

/// A published hash.
struct Case {
    key: Vec<u8>,
    input: Vec<u8>,
    hash: [u8; 32],
}

/// The published hashes of a variant.
fn published(name: &str) -> Vec<Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/randomx.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = all["cases"].as_array().unwrap().iter();
    let bytes = |case: &Value, field: &str| hex::decode(case[field].as_str().unwrap()).unwrap();
    cases
        .filter(|case| {
            case["kind"] == "hash" && case["algo"] == name && case["input_len"].as_u64() >= Some(4)
        })
        .map(|case| Case {
            key: bytes(case, "key"),
            input: bytes(case, "input"),
            hash: bytes(case, "hash").try_into().unwrap(),
        })
        .collect()
}

fn read(queue: &mut dyn Queue, buffer: &Buffer) -> Vec<u8> {
    let mut bytes = vec![0; buffer.bytes() as usize];
    queue.read(buffer, 0, &mut bytes).unwrap();
    bytes
}

fn words(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
}
