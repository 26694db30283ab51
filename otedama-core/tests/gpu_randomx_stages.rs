//! RandomX on an OpenCL device, kernel by kernel: what published traces of a hash say that each leaves in memory.

use otedama_core::Algorithm;
use otedama_core::algo::randomx::Params;
use otedama_core::algo::randomx::superscalar::Program;
use otedama_core::builders::{self, ItemsBy};
use otedama_core::epoch::{Depth, EpochKey, EpochStore, Progress, StoreConfig};
use otedama_core::gpu::randomx::{STATE_WORDS, defines, function_words, variant_words};
use otedama_core::gpu::{self, Api, Arg, Buffer, Gpu, Program as Compiled, Queue};
use otedama_core::primitive::blake2b;
use otedama_core::scan::Setup;
use otedama_core::topology::{NodeId, Topology};
use serde_json::Value;

const KEY: &[u8] = b"test key 000";

#[test]
fn every_kernel_leaves_what_published_traces_say() {
    let inventory = gpu::devices();
    let Some(card) = inventory.cards.iter().find(|card| card.info.id.api() == Api::OpenCl) else {
        println!("SKIPPED: no OpenCL device here ({inventory})");
        return;
    };
    let device = gpu::open(card.info.id).expect("a device that is listed can be opened");
    let store = EpochStore::new(StoreConfig::for_machine(&Topology::detect(), 1 << 30));
    let builder = builders::builder(Algorithm::RandomXV1, &Setup::detect().cpu, ItemsBy::default()).unwrap();
    let key = EpochKey::bytes(Algorithm::RandomXV1, KEY).unwrap();
    let epoch = store.get(&builder, &key, Depth::Light, &Progress::new()).unwrap();
    let mut queue = device.queue().unwrap();
    let mut traced = Vec::new();
    for trace in traces() {
        // Both versions have the same cache.
        let params = Params::named(text(&trace, "algo")).unwrap();
        let memory = Memory::new(device.as_ref(), queue.as_mut(), params, epoch.light().view(NodeId(0)));
        Stages::new(device.as_ref(), queue.as_mut(), params, &memory).follow(&trace);
        traced.push(params.name);
    }
    assert!(traced.contains(&"rx/0") && traced.contains(&"rx/2"), "{traced:?}");
}

/// Memory for one hash.
struct Memory {
    states: Buffer,
    scratchpad: Buffer,
    programs: Buffer,
    reciprocals: Buffer,
    variant: Buffer,
    cache: Buffer,
    functions: Buffer,
    blob: Buffer,
    hits: Buffer,
}

impl Memory {
    fn new(device: &dyn Gpu, queue: &mut dyn Queue, params: &Params, cache: &[u8]) -> Memory {
        let mut filled = |bytes: &[u8]| {
            let buffer = device.buffer(bytes.len() as u64).unwrap();
            queue.write(&buffer, 0, bytes).unwrap();
            buffer
        };
        let variant = variant_words(params).iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
        let functions = function_words(&Program::of_key(params, KEY));
        let functions = functions.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
        let room = |bytes: usize| device.buffer(bytes as u64).unwrap();
        Memory {
            variant: filled(&variant),
            cache: filled(cache),
            functions: filled(&functions),
            states: room(8 * STATE_WORDS as usize),
            scratchpad: room(params.scratchpad_bytes()),
            programs: room(8 * params.program_size),
            reciprocals: room(8 * params.program_size),
            blob: room(128),
            hits: room(12),
        }
    }
}

/// Kernels in groups of one lane.
struct Stages<'a> {
    params: &'static Params,
    queue: &'a mut dyn Queue,
    program: Compiled,
    memory: &'a Memory,
}

impl<'a> Stages<'a> {
    fn new(
        device: &dyn Gpu,
        queue: &'a mut dyn Queue,
        params: &'static Params,
        memory: &'a Memory,
    ) -> Stages<'a> {
        let mut macros = defines(params);
        macros.extend([("RX_GROUP", 1), ("RX_PART", params.dataset_items()), ("RX_LIGHT", 1)]);
        macros.push(("OTD_ROLLED", 1));
        let program = device.compile("randomx", &otedama_kernels::RANDOMX.text(), &macros).unwrap();
        Stages { params, queue, program, memory }
    }

    fn follow(&mut self, trace: &Value) {
        let name = self.params.name;
        let Memory { states, scratchpad, programs, reciprocals, variant, blob, hits, .. } = self.memory;
        let [states, pad, blob_there] = [states, scratchpad, blob].map(Arg::Buffer);
        let one = Arg::U32(1);
        let input = bytes(trace, "input");
        let (start, nonce) = input.split_last_chunk::<4>().unwrap();
        let nonce = Arg::U64(u32::from_le_bytes(*nonce).into());
        let mut padded = start.to_vec();
        padded.resize(128, 0);
        self.queue.write(blob, 0, &padded).unwrap();
        let (len, nonce_at) = (Arg::U32(input.len() as u32), Arg::U32(start.len() as u32));
        self.launch("rx_seed", 1, &[blob_there, len, nonce_at, nonce, states, one]);
        assert_eq!(self.state(36..44), bytes(trace, "seed_512"), "{name}: seed");

        self.launch("rx_fill", 4, &[states, one, pad]);
        assert_eq!(self.state(36..44), bytes(trace, "gen1_state_after_fill"), "{name}: generator");
        assert_eq!(self.scratchpad_digest(), bytes(trace, "scratchpad_initial_blake2b_256"), "{name}");

        let files = trace["register_file_after_each_program"].as_array().unwrap();
        assert_eq!(files.len(), self.params.program_count);
        let iterations = self.params.program_iterations as u32;
        for (number, file) in (0..).zip(files) {
            let [programs, reciprocals, variant] = [programs, reciprocals, variant].map(Arg::Buffer);
            self.launch("rx_program", 1, &[states, one, programs, reciprocals, variant, Arg::U32(number)]);
            if number == 1 {
                assert_eq!(self.state(36..44), bytes(trace, "gen4_seed_for_program1"), "{name}");
            }
            if number == 0 {
                self.execute(0, 1);
                self.compare_iteration(&trace["program0_after_first_iteration"]);
                self.execute(1, iterations);
            } else {
                self.execute(0, iterations);
            }
            let expected = hex::decode(file.as_str().unwrap()).unwrap();
            assert_eq!(self.state(0..32), expected, "{name}: registers after program {number}");
        }

        self.launch("rx_fingerprint", 4, &[states, one, pad]);
        assert_eq!(self.scratchpad_digest(), bytes(trace, "scratchpad_final_blake2b_256"), "{name}");
        assert_eq!(self.state(24..32), bytes(trace, "aes_hash_of_scratchpad"), "{name}: fingerprint");

        // A hash meets its own top word and not one less.
        let top = u64::from_le_bytes(*bytes(trace, "hash").last_chunk().unwrap());
        for (target, count) in [(top, 1u32), (top - 1, 0)] {
            self.queue.zero(hits, 0, 12).unwrap();
            let finish = [states, one, nonce, one, Arg::U64(target), Arg::Buffer(hits), one];
            self.launch("rx_finish", 1, &finish);
            let mut found = [0; 4];
            self.queue.read(hits, 0, &mut found).unwrap();
            assert_eq!(found, count.to_le_bytes(), "{name}: {target:016x}");
        }
    }

    /// What one iteration leaves.
    fn compare_iteration(&mut self, expected: &Value) {
        let registers = &expected["registers"];
        let mut words = Vec::new();
        for group in ["r", "f", "e", "a"] {
            flatten(&registers[group], &mut words);
        }
        assert_eq!(self.state(0..32), words, "{}: registers", self.params.name);
        let number = |name: &str| expected[name].as_u64().unwrap();
        // The reference keeps bits of these that it never looks at.
        let memory = number("ma") & !63 | (number("mx") & !63) << 32;
        assert_eq!(self.state(32..33), memory.to_le_bytes(), "{}: ma, mx", self.params.name);
        let setting = u64::from_le_bytes(self.state(33..34).try_into().unwrap());
        assert_eq!(setting >> 44, number("fprc"), "{}: fprc", self.params.name);
    }

    fn execute(&mut self, from: u32, to: u32) {
        let Memory { states, scratchpad, programs, reciprocals, cache, functions, .. } = self.memory;
        let [states, programs, reciprocals] = [states, programs, reciprocals].map(Arg::Buffer);
        let [pad, cache, functions] = [scratchpad, cache, functions].map(Arg::Buffer);
        let span = [Arg::U32(from), Arg::U32(to)];
        let memory = [states, Arg::U32(1), programs, reciprocals, pad, cache, functions];
        self.launch("rx_execute", 1, &[&memory[..], &span].concat());
    }

    fn launch(&mut self, name: &str, groups: u32, args: &[Arg<'_>]) {
        let kernel = self.program.kernel(name, 1).unwrap();
        self.queue.launch(&kernel, groups, args).unwrap();
    }

    /// Words of the state as bytes.
    fn state(&mut self, words: std::ops::Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; 8 * (words.end - words.start) as usize];
        self.queue.read(&self.memory.states, 8 * words.start, &mut bytes).unwrap();
        bytes
    }

    fn scratchpad_digest(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; self.params.scratchpad_bytes()];
        self.queue.read(&self.memory.scratchpad, 0, &mut bytes).unwrap();
        blake2b::digest::<32>(&bytes).to_vec()
    }
}

/// Registers printed as numbers, in lists or pairs, as the bytes they are in memory.
fn flatten(value: &Value, bytes: &mut Vec<u8>) {
    match value {
        Value::String(digits) => {
            bytes.extend(u64::from_str_radix(digits, 16).unwrap().to_le_bytes());
        }
        other => other.as_array().unwrap().iter().for_each(|value| flatten(value, bytes)),
    }
}

fn traces() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/randomx.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = all["cases"].as_array().unwrap().iter();
    cases.filter(|case| case["kind"] == "hash_trace" && bytes(case, "key") == KEY).cloned().collect()
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field].as_str().unwrap()
}

fn bytes(case: &Value, field: &str) -> Vec<u8> {
    hex::decode(text(case, field)).unwrap()
}
