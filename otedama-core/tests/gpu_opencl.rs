//! The OpenCL back end with a toy kernel, on the first device there is; PoCL will do.

use std::sync::Arc;
use std::thread;

use otedama_core::gpu::{self, Api, Arg, DeviceId, Gpu, GpuError};
use otedama_kernels::VOCAB;

const GROUP: u32 = 64;

/// Writes `start + step * lane`, whose low half is `words[2 * lane]` and high half the next, for `count` lanes.
const TOY: &str = r"
OTD_KERNEL(64) void toy(OTD_GLOBAL u32 *words, u64 start, u32 step, u32 count)
{
    u64 lane = OTD_GLOBAL_LANE;
    if (lane < count) {
        u64 value = start + step * lane + TOY_EXTRA;
        words[2 * lane] = (u32)value;
        words[2 * lane + 1] = (u32)(value >> 32);
    }
}
";

/// The first OpenCL device; without one the test says so and has nothing to do.
fn device() -> Option<Arc<dyn Gpu>> {
    let inventory = gpu::devices();
    let Some(card) = inventory.cards.iter().find(|card| card.info.id.api() == Api::OpenCl) else {
        println!("SKIPPED: no OpenCL device here ({inventory})");
        return None;
    };
    Some(gpu::open(card.info.id).expect("a device that is listed can be opened"))
}

fn toy_text() -> String {
    format!("{}{TOY}", VOCAB.1)
}

#[test]
fn two_queues_run_a_kernel_with_numbers_and_buffers() {
    let Some(device) = device() else { return };
    let program = device.compile("toy", &toy_text(), &[("TOY_EXTRA", 5)]).expect("the toy compiles");
    let kernel = program.kernel("toy", GROUP).expect("the toy is there");
    let count = 3 * GROUP - 7;
    let bytes = 8 * u64::from(3 * GROUP);
    let run = |start: u64| {
        let mut queue = device.queue().expect("a queue");
        let words = device.buffer(bytes).expect("a small buffer");
        queue.write(&words, 0, &vec![0xee; bytes as usize]).expect("bytes that fit");
        queue.zero(&words, bytes - 16, 8).expect("bytes that fit");
        let args = [Arg::Buffer(&words), Arg::U64(start), Arg::U32(3), Arg::U32(count)];
        queue.launch(&kernel, 3, &args).expect("arguments that match");
        let mut read = vec![0; bytes as usize];
        queue.read(&words, 0, &mut read).expect("the bytes are there");
        queue.finish().expect("nothing is left");
        read
    };
    let starts = [0xffff_fff0u64, 0x0123_4567_89ab_cdef];
    // Each thread has its own queue; the kernel is shared.
    let results = thread::scope(|scope| {
        starts.map(|start| scope.spawn(move || run(start))).map(|thread| thread.join().expect("no panic"))
    });
    for (start, read) in starts.into_iter().zip(results) {
        let (written, rest) = read.split_at(8 * count as usize);
        for (lane, value) in (0..).zip(written.chunks_exact(8)) {
            assert_eq!(value, (start + 3 * lane + 5).to_le_bytes());
        }
        let mut untouched = vec![0xee; rest.len()];
        let zeroed = untouched.len() - 16;
        untouched[zeroed..zeroed + 8].fill(0);
        assert_eq!(rest, untouched, "lanes past the count wrote something");
    }
}

#[test]
fn text_that_does_not_compile_shows_the_compilers_log() {
    let Some(device) = device() else { return };
    let text = format!("{}\nOTD_KERNEL(64) void broken(void) {{ no_such_thing = 1; }}\n", VOCAB.1);
    let error = device.compile("broken", &text, &[]).expect_err("an undeclared name");
    assert!(matches!(error, GpuError::Build { .. }), "{error:?}");
    let line = error.to_string();
    assert!(line.starts_with(&format!("kernel broken does not compile on {}: ", device.info().id)), "{line}");
    assert!(line.contains("no_such_thing") && !line.contains('\n'), "{line}");
    assert!(error.log().is_some_and(|log| log.contains("no_such_thing")), "{error:?}");
}

#[test]
fn what_does_not_fit_is_refused_before_it_runs() {
    let Some(device) = device() else { return };
    let info = device.info();
    let error = device.buffer(info.max_buffer + 1).expect_err("too large");
    assert!(matches!(error, GpuError::BufferTooLarge { .. }), "{error:?}");
    let error = device.buffer(1 << 62).expect_err("larger than any memory");
    let expected = format!(
        "{} takes buffers of at most {} bytes: {} were asked for",
        info.id,
        info.max_buffer,
        1u64 << 62
    );
    assert_eq!(error.to_string(), expected);

    let program = device.compile("toy", &toy_text(), &[("TOY_EXTRA", 0)]).expect("the toy compiles");
    let error = program.kernel("toys", GROUP).expect_err("no such entry");
    assert_eq!(error.to_string(), "program toy has no kernel 'toys'");
    let kernel = program.kernel("toy", GROUP).expect("the toy is there");
    let (mut queue, words) = (device.queue().expect("a queue"), device.buffer(64).expect("a small buffer"));
    let error = queue.launch(&kernel, 1, &[Arg::Buffer(&words)]).expect_err("three are missing");
    assert_eq!(error.to_string(), format!("kernel 'toy' on {}: 1 arguments: expected 4", info.id));
    for (offset, bytes) in [(60, 8), (64, 1), (u64::MAX, 1)] {
        let error = queue.write(&words, offset, &vec![0; bytes]).expect_err("past the end");
        assert!(matches!(error, GpuError::OutOfBuffer { size: 64, .. }), "{error:?}");
        queue.read(&words, offset, &mut vec![0; bytes]).expect_err("past the end");
    }
    queue.zero(&words, 64, 4).expect_err("past the end");
    queue.write(&words, 64, &[]).expect("nothing fits everywhere");
}

#[test]
fn a_listed_device_tells_what_it_is() {
    let Some(device) = device() else { return };
    let info = device.info();
    assert!(!info.name.is_empty() && !info.driver.is_empty(), "{info:?}");
    assert!(info.memory >= info.max_buffer && info.max_buffer >= 1 << 20 && info.units > 0, "{info:?}");
    let id @ DeviceId::OpenCl(platform, _) = info.id else { panic!("{info:?}") };
    let absent = DeviceId::OpenCl(platform, 99);
    let error = gpu::open(absent).err().expect("there are not that many").to_string();
    assert!(error.starts_with(&format!("no device {absent} here: there are ")), "{error}");
    assert!(error.contains(&id.to_string()), "{error}");
}
