//! OpenCL 1.2. The loader (libOpenCL.so.1) is looked for at run time; without it there are no devices.
//!
//! Every handle is released by the value that owns it, and every value keeps the context it lives in. OpenCL's
//! functions may be called from any thread, but for the arguments of a kernel, which are set under a lock.

use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use cl3::types::{cl_context, cl_device_id, cl_int, cl_kernel, cl_mem, cl_program, cl_uint};
use cl3::{command_queue, context, device, error_codes, kernel, memory, platform, program};

use super::{Arg, Buffer, DeviceId, DeviceInfo, Entries, Gpu, GpuError, Kernel, PciAddress, Program, Queue};

/// Queries that tell a PCI address, one per vendor's extension: `cl_khr_pci_bus_info` (four u32: domain, bus,
/// device, function), `cl_nv_device_attribute_query` (one u32 each), `cl_amd_device_attribute_query` (24 bytes,
/// the last three of which are bus, device and function).
const PCI_BUS_INFO_KHR: u32 = 0x410f;
const PCI_BUS_ID_NV: u32 = 0x4008;
const PCI_SLOT_ID_NV: u32 = 0x4009;
const PCI_DOMAIN_ID_NV: u32 = 0x400a;
const TOPOLOGY_AMD: u32 = 0x4037;

/// All devices of all platforms, or why there are none.
pub(super) fn list() -> Result<Vec<DeviceInfo>, String> {
    let found = find(|_, _| true)?;
    if found.is_empty() { Err("no device".to_owned()) } else { Ok(found.into_iter().map(|f| f.1).collect()) }
}

/// Makes one device ready; `None` if there is no such device.
pub(super) fn open(platform: u32, device: u32) -> Result<Option<Arc<dyn Gpu>>, GpuError> {
    let Some((handle, info)) = find(|p, d| (p, d) == (platform, device)).unwrap_or_default().pop() else {
        return Ok(None);
    };
    let failed = |code| failure(info.id, "clCreateContext", code);
    let context = context::create_context(&[handle], ptr::null(), None, ptr::null_mut()).map_err(failed)?;
    Ok(Some(Arc::new(Device(Arc::new(Context { context, device: handle, info })))))
}

/// Those devices that are wanted, by platform and number in it.
fn find(wanted: impl Fn(u32, u32) -> bool) -> Result<Vec<(cl_device_id, DeviceInfo)>, String> {
    // The first call starts the drivers, and PoCL 3.1 crashes when a second comes meanwhile.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let platforms = platform::get_platform_ids().map_err(|code| match code {
        error_codes::DLOPEN_RUNTIME_LOAD_FAILED => "no loader (libOpenCL.so.1) is installed".to_owned(),
        error_codes::CL_PLATFORM_NOT_FOUND_KHR => "no driver is installed".to_owned(),
        code => name_of(code),
    })?;
    let mut found = Vec::new();
    for (p, &platform) in (0..).zip(&platforms) {
        // A platform without devices answers with an error.
        let devices = device::get_device_ids(platform, device::CL_DEVICE_TYPE_ALL).unwrap_or_default();
        for (d, handle) in (0..).zip(devices) {
            if wanted(p, d) {
                found.push((handle, describe(handle, DeviceId::OpenCl(p, d))));
            }
        }
    }
    Ok(found)
}

fn describe(device: cl_device_id, id: DeviceId) -> DeviceInfo {
    let text = |query| {
        let bytes = device::get_device_data(device, query).unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').trim().to_owned()
    };
    let number = |query| number(&device::get_device_data(device, query).unwrap_or_default());
    DeviceInfo {
        id,
        name: text(device::CL_DEVICE_NAME),
        vendor: text(device::CL_DEVICE_VENDOR),
        driver: text(device::CL_DRIVER_VERSION),
        pci: pci(&|query| device::get_device_data(device, query).ok()),
        memory: number(device::CL_DEVICE_GLOBAL_MEM_SIZE),
        max_buffer: number(device::CL_DEVICE_MAX_MEM_ALLOC_SIZE),
        units: number(device::CL_DEVICE_MAX_COMPUTE_UNITS) as u32,
        compute: None,
        is_cpu: number(device::CL_DEVICE_TYPE) & device::CL_DEVICE_TYPE_CPU != 0,
    }
}

/// A number of up to eight bytes in this machine's order.
fn number(bytes: &[u8]) -> u64 {
    match *bytes {
        [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]).into(),
        [a, b, c, d, e, f, g, h] => u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        _ => 0,
    }
}

fn pci(ask: &dyn Fn(u32) -> Option<Vec<u8>>) -> Option<PciAddress> {
    if let Some(answer) = ask(PCI_BUS_INFO_KHR).filter(|answer| answer.len() == 16) {
        let part = |index: usize| number(&answer[4 * index..][..4]) as u32;
        return Some(PciAddress { domain: part(0), bus: part(1) as u8, device: part(2) as u8 });
    }
    if let (Some(bus), Some(slot)) = (ask(PCI_BUS_ID_NV), ask(PCI_SLOT_ID_NV)) {
        let domain = ask(PCI_DOMAIN_ID_NV).map_or(0, |domain| number(&domain) as u32);
        // The slot holds the device above three bits of function.
        return Some(PciAddress { domain, bus: number(&bus) as u8, device: (number(&slot) >> 3) as u8 });
    }
    let answer = ask(TOPOLOGY_AMD).filter(|answer| answer.len() == 24 && number(&answer[..4]) == 1)?;
    Some(PciAddress { domain: 0, bus: answer[21], device: answer[22] })
}

fn name_of(code: cl_int) -> String {
    let name = error_codes::error_text(code);
    if name.contains("UNKNOWN") { format!("error {code}") } else { format!("{name} ({code})") }
}

/// What a code from a running device means: after these, drivers answer nothing else any more.
fn failure(device: DeviceId, call: &'static str, code: cl_int) -> GpuError {
    /// What NVIDIA's driver answers after a kernel touched memory that is not its own.
    const ILLEGAL_ACCESS_NV: cl_int = -9999;
    match code {
        error_codes::CL_DEVICE_NOT_AVAILABLE
        | error_codes::CL_OUT_OF_RESOURCES
        | error_codes::CL_INVALID_COMMAND_QUEUE
        | ILLEGAL_ACCESS_NV => GpuError::Lost { device, call, code: name_of(code) },
        _ => GpuError::Call { device, call, code: name_of(code) },
    }
}

struct Context {
    context: cl_context,
    device: cl_device_id,
    info: DeviceInfo,
}

// SAFETY: the handles are OpenCL's, whose functions may be called from any thread (OpenCL 1.2, appendix A.2).
unsafe impl Send for Context {}
// SAFETY: as above; nothing here changes after it was made.
unsafe impl Sync for Context {}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: `open` made the context, and this is its only release.
        let _ = unsafe { context::release_context(self.context) };
    }
}

struct Device(Arc<Context>);

impl Gpu for Device {
    fn info(&self) -> &DeviceInfo {
        &self.0.info
    }

    fn compile(&self, name: &str, text: &str, defines: &[(&str, u64)]) -> Result<Program, GpuError> {
        let (context, id) = (&self.0, self.0.info.id);
        let handle = program::create_program_with_source(context.context, &[text])
            .map_err(|code| failure(id, "clCreateProgramWithSource", code))?;
        let built = Built { handle, name: name.to_owned(), context: Arc::clone(context) };
        let options = options(defines, context.info.is_cpu);
        let build = program::build_program(handle, &[context.device], &options, None, ptr::null_mut());
        match build {
            Ok(()) => Ok(Program(Arc::new(Arc::new(built)))),
            Err(error_codes::CL_BUILD_PROGRAM_FAILURE) => {
                let query = program::CL_PROGRAM_BUILD_LOG;
                let log = program::get_program_build_data(handle, context.device, query).unwrap_or_default();
                let log = String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned();
                Err(GpuError::Build { device: id, name: name.to_owned(), log })
            }
            Err(code) => Err(failure(id, "clBuildProgram", code)),
        }
    }

    fn buffer(&self, bytes: u64) -> Result<Buffer, GpuError> {
        let DeviceInfo { id, max_buffer, memory: total, .. } = self.0.info;
        let wanted = bytes;
        if bytes > max_buffer {
            return Err(GpuError::BufferTooLarge { device: id, wanted, max: max_buffer });
        }
        // SAFETY: no host pointer is given, so OpenCL allocates by itself.
        let made = unsafe {
            memory::create_buffer(self.0.context, memory::CL_MEM_READ_WRITE, bytes as usize, ptr::null_mut())
        };
        match made {
            Ok(handle) => {
                Ok(Buffer { bytes, handle: Box::new(Memory { handle, context: Arc::clone(&self.0) }) })
            }
            Err(error_codes::CL_MEM_OBJECT_ALLOCATION_FAILURE | error_codes::CL_OUT_OF_RESOURCES) => {
                Err(GpuError::Memory { device: id, wanted, free: None, total })
            }
            Err(code) => Err(failure(id, "clCreateBuffer", code)),
        }
    }

    fn queue(&self) -> Result<Box<dyn Queue>, GpuError> {
        // SAFETY: context and device are alive and belong together; no property means: in order.
        let made = unsafe { command_queue::create_command_queue(self.0.context, self.0.device, 0) };
        let handle = made.map_err(|code| failure(self.0.info.id, "clCreateCommandQueue", code))?;
        Ok(Box::new(Commands { handle, context: Arc::clone(&self.0) }))
    }
}

/// The compiler's options. Numbers that do not fit an int are marked unsigned, as C would have them written.
fn options(defines: &[(&str, u64)], is_cpu: bool) -> CString {
    let rolled = [("OTD_ROLLED", 1)];
    let rolled = rolled.iter().filter(|(name, _)| is_cpu && !defines.iter().any(|(other, _)| other == name));
    let mut options = String::from("-cl-std=CL1.2");
    for &(name, value) in defines.iter().chain(rolled) {
        options.push_str(&format!(" -D {name}={value}{}", super::suffix(value)));
    }
    // A macro's name holds no zero byte; one that did would name no macro.
    CString::new(options).unwrap_or_default()
}

/// A built program.
struct Built {
    handle: cl_program,
    name: String,
    context: Arc<Context>,
}

// SAFETY: as for `Context`.
unsafe impl Send for Built {}
// SAFETY: as for `Context`.
unsafe impl Sync for Built {}

impl Drop for Built {
    fn drop(&mut self) {
        // SAFETY: whoever made this value made the program, and this is its only release.
        let _ = unsafe { program::release_program(self.handle) };
    }
}

impl Entries for Arc<Built> {
    fn kernel(&self, name: &str, group: u32) -> Result<Kernel, GpuError> {
        let unknown = || GpuError::NoKernel { program: self.name.clone(), kernel: name.to_owned() };
        let entry = CString::new(name).map_err(|_| unknown())?;
        let handle = kernel::create_kernel(self.handle, &entry).map_err(|code| match code {
            error_codes::CL_INVALID_KERNEL_NAME => unknown(),
            code => failure(self.context.info.id, "clCreateKernel", code),
        })?;
        let arguments = kernel::get_kernel_data(handle, kernel::CL_KERNEL_NUM_ARGS).unwrap_or_default();
        let arguments = number(&arguments) as usize;
        let entry = Entry { handle: Mutex::new(handle), arguments, _program: Arc::clone(self) };
        Ok(Kernel { name: name.to_owned(), group, handle: Box::new(entry) })
    }
}

/// An entry point.
struct Entry {
    /// Locked from setting its arguments until it is enqueued, which copies them.
    handle: Mutex<cl_kernel>,
    arguments: usize,
    _program: Arc<Built>,
}

// SAFETY: the handle may be used on any thread, by one at a time, which the lock sees to.
unsafe impl Send for Entry {}
// SAFETY: as above.
unsafe impl Sync for Entry {}

impl Drop for Entry {
    fn drop(&mut self) {
        let handle = *self.handle.get_mut().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: whoever made this value made the kernel, and this is its only release. OpenCL keeps it until
        // launches of it are done.
        let _ = unsafe { kernel::release_kernel(handle) };
    }
}

struct Memory {
    handle: cl_mem,
    #[expect(dead_code, reason = "keeps the context alive")]
    context: Arc<Context>,
}

// SAFETY: as for `Context`.
unsafe impl Send for Memory {}
// SAFETY: as for `Context`.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `Device::buffer` made it, and this is its only release. OpenCL keeps it until the commands that
        // use it are done.
        let _ = unsafe { memory::release_mem_object(self.handle) };
    }
}

/// A command queue.
struct Commands {
    handle: command_queue::cl_command_queue,
    context: Arc<Context>,
}

// SAFETY: as for `Context`.
unsafe impl Send for Commands {}

impl Drop for Commands {
    fn drop(&mut self) {
        // SAFETY: `Device::queue` made it, and this is its only release.
        let _ = unsafe { command_queue::release_command_queue(self.handle) };
    }
}

impl Commands {
    fn id(&self) -> DeviceId {
        self.context.info.id
    }

    /// Releases the event that a command came with: nobody waits for it by itself.
    fn done(&self, call: &'static str, made: Result<cl3::types::cl_event, cl_int>) -> Result<(), GpuError> {
        let event = made.map_err(|code| failure(self.id(), call, code))?;
        // SAFETY: the command just made it, and this is its only release.
        let _ = unsafe { cl3::event::release_event(event) };
        Ok(())
    }
}

impl Queue for Commands {
    fn write(&mut self, to: &Buffer, offset: u64, bytes: &[u8]) -> Result<(), GpuError> {
        let memory: &Memory = to.handle(self.id(), offset, bytes.len() as u64)?;
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: the bytes lie inside the buffer (`handle` checked it) and are read before the call returns,
        // since it blocks.
        let made = unsafe {
            command_queue::enqueue_write_buffer(
                self.handle,
                memory.handle,
                1,
                offset as usize,
                bytes.len(),
                bytes.as_ptr().cast(),
                0,
                ptr::null(),
            )
        };
        self.done("clEnqueueWriteBuffer", made)
    }

    fn zero(&mut self, buffer: &Buffer, offset: u64, bytes: u64) -> Result<(), GpuError> {
        let memory: &Memory = buffer.handle(self.id(), offset, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        let zero = 0u32;
        // SAFETY: the bytes lie inside the buffer; OpenCL copies the pattern before it returns, and refuses a
        // range that is no multiple of it.
        let made = unsafe {
            command_queue::enqueue_fill_buffer(
                self.handle,
                memory.handle,
                (&raw const zero).cast(),
                size_of::<u32>(),
                offset as usize,
                bytes as usize,
                0,
                ptr::null(),
            )
        };
        self.done("clEnqueueFillBuffer", made)
    }

    fn launch(&mut self, kernel: &Kernel, groups: u32, args: &[Arg<'_>]) -> Result<(), GpuError> {
        let id = self.id();
        let entry: &Entry = kernel.handle(id)?;
        if args.len() != entry.arguments {
            let reason = format!("{} arguments: expected {}", args.len(), entry.arguments);
            return Err(kernel.refuse(id, reason));
        }
        let handle = entry.handle.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, arg) in args.iter().enumerate() {
            set_argument(*handle, index as cl_uint, arg, id)?.map_err(|code| {
                kernel.refuse(id, format!("argument {index} is {arg:?}: {}", name_of(code)))
            })?;
        }
        let lanes = kernel.group() as usize;
        let all = groups as usize * lanes;
        // SAFETY: one dimension, as the two numbers say; every argument is set (their number was compared), and
        // what they point to is OpenCL's, which keeps it until the kernel is done.
        let made = unsafe {
            command_queue::enqueue_nd_range_kernel(
                self.handle,
                *handle,
                1,
                ptr::null(),
                &raw const all,
                &raw const lanes,
                0,
                ptr::null(),
            )
        };
        drop(handle);
        self.done("clEnqueueNDRangeKernel", made)?;
        // Without this a queue nobody waits for may not begin.
        command_queue::flush(self.handle).map_err(|code| failure(id, "clFlush", code))
    }

    fn read(&mut self, from: &Buffer, offset: u64, into: &mut [u8]) -> Result<(), GpuError> {
        let memory: &Memory = from.handle(self.id(), offset, into.len() as u64)?;
        if into.is_empty() {
            return self.finish();
        }
        // SAFETY: the bytes lie inside the buffer and `into` holds as many; the call blocks until they are there.
        let made = unsafe {
            command_queue::enqueue_read_buffer(
                self.handle,
                memory.handle,
                1,
                offset as usize,
                into.len(),
                into.as_mut_ptr().cast(),
                0,
                ptr::null(),
            )
        };
        self.done("clEnqueueReadBuffer", made)
    }

    fn finish(&mut self) -> Result<(), GpuError> {
        command_queue::finish(self.handle).map_err(|code| failure(self.id(), "clFinish", code))
    }
}

/// Sets one argument; the inner error is OpenCL's: the kernel has something else in this place.
fn set_argument(
    kernel: cl_kernel,
    index: cl_uint,
    arg: &Arg<'_>,
    id: DeviceId,
) -> Result<Result<(), cl_int>, GpuError> {
    let (size, value): (usize, *const c_void) = match arg {
        Arg::Buffer(buffer) => {
            let memory: &Memory = buffer.handle(id, 0, 0)?;
            (size_of::<cl_mem>(), (&raw const memory.handle).cast())
        }
        Arg::U32(value) => (size_of::<u32>(), ptr::from_ref(value).cast()),
        Arg::U64(value) => (size_of::<u64>(), ptr::from_ref(value).cast()),
    };
    // SAFETY: `value` points to `size` bytes, which are copied before the call returns.
    Ok(unsafe { kernel::set_kernel_arg(kernel, index, size, value) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vendors_answer_gives_the_address() {
        let address = |domain, bus, device| Some(PciAddress { domain, bus, device });
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
        let khr = pci(&|query| (query == PCI_BUS_INFO_KHR).then(|| words(&[1, 0x3b, 2, 0])));
        assert_eq!(khr, address(1, 0x3b, 2));
        let nv = pci(&|query| match query {
            PCI_BUS_ID_NV => Some(words(&[0x5e])),
            PCI_SLOT_ID_NV => Some(words(&[3 << 3])),
            _ => None,
        });
        assert_eq!(nv, address(0, 0x5e, 3));
        let mut topology = words(&[1, 0, 0, 0, 0, 0]);
        topology[21..].copy_from_slice(&[0x0a, 0x04, 0x00]);
        assert_eq!(pci(&|query| (query == TOPOLOGY_AMD).then(|| topology.clone())), address(0, 10, 4));
        assert_eq!(pci(&|_| None), None);
        assert_eq!(pci(&|_| Some(vec![0; 3])), address(0, 0, 0).filter(|_| false));
    }

    #[test]
    fn macros_are_passed_as_c_would_have_them() {
        let defines = [("A", 7), ("B", 1 << 31), ("C", 1 << 40)];
        let expected = "-cl-std=CL1.2 -D A=7 -D B=2147483648u -D C=1099511627776ul";
        assert_eq!(options(&defines, false).to_str(), Ok(expected));
        assert_eq!(options(&[], true).to_str(), Ok("-cl-std=CL1.2 -D OTD_ROLLED=1"));
        assert_eq!(options(&[("OTD_ROLLED", 0)], true).to_str(), Ok("-cl-std=CL1.2 -D OTD_ROLLED=0"));
    }
}
