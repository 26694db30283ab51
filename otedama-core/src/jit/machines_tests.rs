use super::*;
use crate::algo::randomx::config::{ArgonParams, RX_0, RX_2, RX_WOW};
use crate::algo::randomx::float::Rounding;
use crate::algo::randomx::program::{Opcode, Program};
use crate::algo::randomx::{self, Dataset, Full, Light, dataset, interpret, superscalar};
use crate::cpu::Cpu;

/// Numbers from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Often one of the values at which something may go wrong.
    fn word(&mut self) -> u64 {
        let edges = [0, 1, u64::MAX, 1 << 63, 0x7fff_ffff_8000_0000, 0x8000_0000_8000_0000, 1 << 31];
        match self.below(4) {
            0 => edges[self.below(edges.len() as u64) as usize],
            _ => self.next(),
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for bytes in bytes.as_chunks_mut().0 {
            *bytes = self.word().to_le_bytes();
        }
    }

    /// Any bytes are a program; some immediates are more dangerous than others.
    fn program(&mut self, params: &Params, bytes: &mut [u8]) {
        for bytes in bytes.as_chunks_mut().0 {
            *bytes = self.next().to_le_bytes();
        }
        let edges = [0, 1, 2, 0x80, 0xffff_ff80, u32::MAX, 1 << 31, i32::MAX as u32, 1 << 30];
        let (_, code) = bytes.split_first_chunk_mut::<128>().unwrap();
        for word in code.as_chunks_mut::<8>().0 {
            if self.below(8) == 0 {
                let edge: u32 = edges[self.below(edges.len() as u64) as usize];
                word[4..].copy_from_slice(&edge.to_le_bytes());
            }
            // Rare ones more often.
            if self.below(16) == 0 {
                let rare = [Opcode::ImulhM, Opcode::IsmulhM, Opcode::Cfround, Opcode::InegR, Opcode::FdivM];
                let rare = rare[self.below(rare.len() as u64) as usize];
                word[0] = params.opcodes.iter().position(|opcode| *opcode == rare).unwrap() as u8;
            }
        }
    }
}

/// A variant in which much happens in little memory.
fn small(params: &'static Params) -> Params {
    Params {
        argon: ArgonParams { memory_kib: 8, ..params.argon },
        dataset_base_bytes: 1 << 12,
        dataset_extra_bytes: 64 * 5,
        program_iterations: 3,
        program_count: 2,
        scratchpad: [256, 1024, 4096],
        name: params.name,
        revision: params.revision,
        cache_accesses: params.cache_accesses,
        superscalar_latency: params.superscalar_latency,
        program_size: params.program_size,
        jump_bits: params.jump_bits,
        jump_offset: params.jump_offset,
        generator_4r_keys: params.generator_4r_keys,
        opcodes: params.opcodes,
    }
}

fn token() -> Option<AesNi> {
    let token = Cpu::detect().aes_ni();
    if token.is_none() {
        println!("SKIPPED: no AES-NI here");
    }
    token
}

/// Runs the same random programs on compiled machines and on the interpreter, from the same state, and
/// compares all that they leave.
fn compare(
    machines: &mut Machines,
    source: DatasetSource,
    oracle_dataset: &impl Dataset,
    random: &mut Random,
    rounds: u64,
) {
    let params = machines.params();
    let k = machines.count();
    let mut oracles = vec![interpret::Machine::new(params); k];
    for round in 0..rounds {
        let seed = random.0;
        // Not always all of them.
        let count = if round % 4 == 0 { 1 + random.below(k as u64) as usize } else { k };
        for (i, oracle) in oracles[..count].iter_mut().enumerate() {
            let machine = &mut machines.machines[i];
            random.fill(&mut machine.scratchpad);
            random.program(params, &mut machine.program);
            oracle.scratchpad_mut().copy_from_slice(&machine.scratchpad);
            let mode = random.below(4);
            oracle.fprc = Rounding::from_bits(mode);
            machines.contexts[i].mode = 4 * mode as u32;
        }
        machines.run(source, count);
        for (i, oracle) in oracles[..count].iter_mut().enumerate() {
            let (machine, context) = (&machines.machines[i], &machines.contexts[i]);
            oracle.run(&Program::decode(params, &machine.program), oracle_dataset);
            let context_says = format!("machine {i} of {count}, seed {seed:#x}, {}", params.name);
            assert_eq!(machine.registers, oracle.registers, "{context_says}");
            assert_eq!(context.mode, 4 * oracle.fprc as u32, "{context_says}");
            let addresses = [context.ma & !63, context.mx & !63];
            assert_eq!(addresses, [oracle.ma & !63, oracle.mx & !63], "{context_says}");
            assert!(machine.scratchpad[..] == *oracle.scratchpad(), "scratchpad of {context_says}");
        }
    }
}

/// How many programs to try: few by default, a million if asked for.
fn programs() -> u64 {
    if std::env::var_os("OTEDAMA_LONG_TESTS").is_some() { 1_000_000 } else { 4_000 }
}

#[test]
fn random_programs_leave_what_the_interpreter_leaves() {
    let Some(token) = token() else { return };
    let mut random = Random(20190101);
    for (base, program_iterations) in [(&RX_0, 3), (&RX_2, 3), (&RX_2, 4)] {
        let params = Params { program_iterations, ..small(base) };
        let mut memory = vec![0; params.dataset_bytes()];
        random.fill(&mut memory);
        for k in [1, 2, 3, 4] {
            let mut machines = Machines::new(&params, k, &Request::default(), token).unwrap();
            let full = Full::new(&params, &memory);
            let rounds = programs() / 8 / k as u64;
            compare(&mut machines, DatasetSource::Full(&memory), &full, &mut random, rounds);
        }
    }
}

#[test]
fn light_mode_leaves_what_the_interpreter_leaves() {
    let Some(token) = token() else { return };
    let mut random = Random(20260202);
    for base in Params::ALL {
        let params = small(base);
        let mut cache = vec![0; params.cache_bytes()];
        random.fill(&mut cache);
        let programs = superscalar::Program::of_key(&params, b"light");
        let items = ItemCode::compile(&params, &programs).unwrap();
        let light = Light::new(&params, &cache, &programs);
        for k in [1, 2] {
            let mut machines = Machines::new(&params, k, &Request::default(), token).unwrap();
            let source = DatasetSource::Light { cache: &cache, items: &items };
            compare(&mut machines, source, &light, &mut random, 40);
        }
    }
}

/// Programs of one instruction, over and over: what differs then is that instruction.
#[test]
fn each_instruction_alone() {
    let Some(token) = token() else { return };
    let mut random = Random(7);
    for base in [&RX_0, &RX_2] {
        let params = Params { program_size: 3, program_iterations: 1, ..small(base) };
        let mut memory = vec![0; params.dataset_bytes()];
        random.fill(&mut memory);
        let mut machines = Machines::new(&params, 1, &Request::default(), token).unwrap();
        let mut oracle = interpret::Machine::new(&params);
        for opcode in 0..=255u8 {
            for _ in 0..16 {
                let machine = &mut machines.machines[0];
                random.program(&params, &mut machine.program);
                for word in machine.program[128..].as_chunks_mut::<8>().0 {
                    word[0] = opcode;
                }
                random.fill(&mut machine.scratchpad);
                oracle.scratchpad_mut().copy_from_slice(&machine.scratchpad);
                let mode = random.below(4);
                oracle.fprc = Rounding::from_bits(mode);
                machines.contexts[0].mode = 4 * mode as u32;
                machines.run(DatasetSource::Full(&memory), 1);
                let machine = &machines.machines[0];
                let program = Program::decode(&params, &machine.program);
                oracle.run(&program, &Full::new(&params, &memory));
                let instructions = &program.instructions;
                assert_eq!(machine.registers, oracle.registers, "mode {mode}, {instructions:?}");
                assert!(machine.scratchpad[..] == *oracle.scratchpad(), "{instructions:?}");
                assert_eq!(machines.contexts[0].mode, 4 * oracle.fprc as u32, "{instructions:?}");
            }
        }
    }
}

#[test]
fn the_callers_rounding_mode_is_left_alone() {
    let Some(token) = token() else { return };
    let params = small(&RX_0);
    let memory = vec![0; params.dataset_bytes()];
    let mut machines = Machines::new(&params, 2, &Request::default(), token).unwrap();
    for mode in 0..4 {
        machines.contexts[0].mode = 4 * mode;
        machines.run(DatasetSource::Full(&memory), 2);
        let third = std::hint::black_box(1.0f64) / std::hint::black_box(3.0);
        assert_eq!(third.to_bits(), 0x3fd5_5555_5555_5555);
        let minus = std::hint::black_box(-1.0f64) / std::hint::black_box(3.0);
        assert_eq!(minus.to_bits(), 0xbfd5_5555_5555_5555);
        assert!(std::hint::black_box(f64::MIN_POSITIVE) / 2.0 > 0.0, "denormals are numbers again");
    }
}

#[test]
fn published_hashes_in_light_mode() {
    let Some(token) = token() else { return };
    let key = b"test key 000";
    let cache = dataset::cache(&RX_0, key);
    let programs = superscalar::Program::of_key(&RX_0, key);
    let items = ItemCode::compile(&RX_0, &programs).unwrap();
    let source = DatasetSource::Light { cache: &cache, items: &items };
    let inputs: [&[u8]; 3] = [
        b"This is a test",
        b"Lorem ipsum dolor sit amet",
        b"sed do eiusmod tempor incididunt ut labore et dolore magna aliqua",
    ];
    // tevador/RandomX, src/tests/tests.cpp.
    let v1 = [
        "639183aae1bf4c9a35884cb46b09cad9175f04efd7684e7262a0ac1c2f0b4e3f",
        "300a0adb47603dedb42228ccb2b211104f4da45af709cd7547cd049e9489c969",
        "c36d4ed4191e617309867ed66a443be4075014e2b061bcdaf9ce7b721d2b77a8",
    ];
    let v2 = ["22ec6b861b3eb23686b2efbad69513c967ecfce80983df66c9c5b4fbfb4cdb6f"];
    for (params, expected) in [(&RX_0, &v1[..]), (&RX_2, &v2)] {
        for k in [1, 2, 3, 4] {
            let mut machines = Machines::new(params, k, &Request::default(), token).unwrap();
            let mut hashes = vec![[0; 32]; expected.len()];
            machines.hash(source, &inputs[..expected.len()], &mut hashes);
            let hashes: Vec<_> = hashes.into_iter().map(hex::encode).collect();
            assert_eq!(hashes, expected, "{} on {k}", params.name);
        }
    }
}

/// Whole hashes, in groups of every size, each group's scratchpads filled while the last one's are read.
#[test]
fn any_number_of_inputs() {
    let Some(token) = token() else { return };
    let mut random = Random(30);
    for base in [&RX_0, &RX_2, &RX_WOW] {
        let params = small(base);
        let mut memory = vec![0; params.dataset_bytes()];
        random.fill(&mut memory);
        let inputs: Vec<[u8; 3]> = (0..9).map(|i| [i, 1, 2]).collect();
        let inputs: Vec<&[u8]> = inputs.iter().map(|input| &input[..]).collect();
        let full = Full::new(&params, &memory);
        let expected: Vec<_> = inputs.iter().map(|input| randomx::hash(&params, &full, input)).collect();
        for k in 1..=5 {
            let mut machines = Machines::new(&params, k, &Request::default(), token).unwrap();
            for count in 0..=inputs.len() {
                let mut hashes = vec![[0; 32]; count];
                machines.hash(DatasetSource::Full(&memory), &inputs[..count], &mut hashes);
                assert_eq!(hashes, expected[..count], "{count} on {k} machines of {}", params.name);
            }
        }
    }
}

/// Makes the kernel answer EPERM when this thread asks for executable memory.
fn forbid_executable_memory() {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, PROT_EXEC, sock_filter};
    let instruction = |code: u32, jt, jf, k: u32| sock_filter { code: code as u16, jt, jf, k };
    // Offsets in seccomp_data: 0 is the call's number, 16 its arguments, of which the third has the rights.
    let mut filter = [
        instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
        instruction(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, libc::SYS_mmap as u32),
        instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0, 16 + 2 * 8),
        instruction(BPF_JMP | BPF_JSET | BPF_K, 0, 1, PROT_EXEC as u32),
        instruction(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        instruction(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which is well-formed; both calls change this thread alone.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

#[test]
fn says_that_executable_memory_is_forbidden() {
    let Some(token) = token() else { return };
    let refused = std::thread::spawn(move || {
        forbid_executable_memory();
        let params = small(&RX_0);
        let machines = Machines::new(&params, 2, &Request::default(), token);
        let programs = superscalar::Program::of_key(&params, b"key");
        let items = ItemCode::compile(&params, &programs);
        [machines.unwrap_err().to_string(), items.unwrap_err().to_string()]
    });
    let expected = "executable memory is forbidden here (mmap for execution: Operation not permitted \
                    (os error 1)); programs are interpreted instead";
    assert_eq!(refused.join().unwrap(), [expected; 2]);
}

/// A leak would leave 8000 mappings; other tests have a few at the same time.
#[test]
fn nothing_stays_mapped() {
    let Some(token) = token() else { return };
    let params = small(&RX_0);
    for _ in 0..4000 {
        drop(Machines::new(&params, 1, &Request::default(), token).unwrap());
    }
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = maps.lines().filter(|line| line.contains("memfd:code")).count();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(mapped < 1000 && open < 1000, "{mapped} mappings of code, {open} open files");
}

/// `cargo test -p otedama-core --lib -- --ignored --nocapture disassembly`
#[test]
#[ignore = "a listing"]
fn disassembly() {
    use iced_x86::Formatter;
    let mut random = Random(5);
    for params in [&RX_0, &RX_2] {
        let mut memory = vec![0; most_bytes(params, 1)];
        let mut program = vec![0; params.program_bytes()];
        random.program(params, &mut program);
        let len = compile_one(&mut Compiler::default(), &mut memory, params, &program);
        println!("a program of {}, {len} bytes:", params.name);
        let mut formatter = iced_x86::IntelFormatter::new();
        for instruction in &mut iced_x86::Decoder::with_ip(64, &memory[..len], 0, 0) {
            let mut line = String::new();
            formatter.format(&instruction, &mut line);
            println!("{:5x}  {line}", instruction.ip());
        }
    }
}

/// Compiles a program for a machine that does not exist, and answers how long the code is.
fn compile_one(compiler: &mut Compiler, memory: &mut [u8], params: &Params, program: &[u8]) -> usize {
    let configuration = Configuration::decode(params, program.first_chunk().unwrap());
    let code = program[128..].as_chunks().0;
    let spec = MachineSpec { context: 1 << 40, scratchpad: 1 << 41, configuration: &configuration, code };
    compiler.compile(memory, params, &[spec], Items::Full(1 << 42))
}

/// `cargo test --release -- --ignored --nocapture compilation`
#[test]
#[ignore = "a measurement"]
fn time_of_a_compilation() {
    let mut random = Random(5);
    for params in [&RX_0, &RX_2] {
        let mut memory = CodeMemory::new(most_bytes(params, 1)).unwrap();
        let mut compiler = Compiler::default();
        let mut program = vec![0; params.program_bytes()];
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..2000 {
            random.program(params, &mut program);
            let start = std::time::Instant::now();
            bytes = compile_one(&mut compiler, memory.bytes_mut(), params, &program);
            times.push(start.elapsed());
        }
        times.sort();
        println!("{}: {:?}, {bytes} bytes", params.name, times[times.len() / 2]);
    }
}
