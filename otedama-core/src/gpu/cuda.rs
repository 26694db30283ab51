//! CUDA's driver API. The driver (libcuda.so.1) is looked for at run time; without it there are no devices.
//!
//! A program comes from the PTX that is part of the kernels crate, from text that is PTX itself, or from NVRTC
//! where that is installed: as a cubin if it knows the device's architecture, else as PTX for an older one, which
//! the driver compiles.
//!
//! A context is current on a thread; every call makes its own current first.

use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{CUdevice, CUdevice_attribute as Attribute, CUdeviceptr, CUresult};
use cudarc::driver::{CudaContext, CudaStream, sys};
use cudarc::nvrtc;

use super::cache::Key;
use super::{
    Arg, Buffer, DeviceId, DeviceInfo, Entries, Gpu, GpuError, Kernel, KernelCache, PciAddress, Program,
    Queue,
};

// The driver's functions that are called here are all in CUDA 12.0 and earlier: cudarc panics where one is missing.
const BLOCKING_SYNC: u32 = sys::CUctx_flags::CU_CTX_SCHED_BLOCKING_SYNC as u32;

/// All devices, or why there are none.
pub(super) fn list() -> Result<Vec<DeviceInfo>, String> {
    // SAFETY: looks for the library and nothing else; its code may run at loading, as that of any driver.
    if !unsafe { sys::is_culib_present() } {
        return Err("no driver (libcuda.so.1) is installed".to_owned());
    }
    result::init().map_err(name_of)?;
    let count = result::device::get_count().map_err(name_of)?;
    let infos = (0..count).map(|ordinal| describe(result::device::get(ordinal)?, ordinal as u32));
    let infos: Result<Vec<_>, DriverError> = infos.collect();
    let infos = infos.map_err(name_of)?;
    if infos.is_empty() { Err("no device".to_owned()) } else { Ok(infos) }
}

/// Makes one device ready; `None` if there is no such device.
pub(super) fn open(
    ordinal: u32,
    cache: impl Fn(&DeviceInfo) -> KernelCache,
) -> Result<Option<Arc<dyn Gpu>>, GpuError> {
    let id = DeviceId::Cuda(ordinal);
    let Some(info) = list().unwrap_or_default().into_iter().find(|info| info.id == id) else {
        return Ok(None);
    };
    // A thread that waits sleeps instead of spinning. Refused where the context is in use already: no harm.
    if let Ok(device) = result::device::get(ordinal as c_int) {
        // SAFETY: a device's handle and a flag, no pointer.
        let _ = unsafe { sys::cuDevicePrimaryCtxSetFlags_v2(device, BLOCKING_SYNC) };
    }
    let context =
        CudaContext::new(ordinal as usize).map_err(|e| failure(id, "cuDevicePrimaryCtxRetain", e))?;
    // SAFETY: what cudarc tracks events for, its own slices, is not used here.
    unsafe { context.disable_event_tracking() };
    let cache = cache(&info);
    Ok(Some(Arc::new(Device { context, info, cache })))
}

fn describe(device: CUdevice, ordinal: u32) -> Result<DeviceInfo, DriverError> {
    // SAFETY: the handle comes from `cuDeviceGet`, in this as in the next call.
    let ask = |attribute| unsafe { result::device::get_attribute(device, attribute) }.map(|n| n as u32);
    // SAFETY: as above.
    let memory = unsafe { result::device::total_mem(device) }? as u64;
    let pci = PciAddress {
        domain: ask(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID)?,
        bus: ask(Attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID)? as u8,
        device: ask(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID)? as u8,
    };
    let compute = (
        ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    let mut version: c_int = 0;
    // SAFETY: writes one int.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
    Ok(DeviceInfo {
        id: DeviceId::Cuda(ordinal),
        name: result::device::get_name(device)?,
        vendor: "NVIDIA".to_owned(),
        driver: format!("CUDA {}.{}", version / 1000, version % 1000 / 10),
        pci: Some(pci),
        memory,
        max_buffer: memory,
        units: ask(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        compute: Some(compute),
        is_cpu: false,
    })
}

fn name_of(error: DriverError) -> String {
    format!("{:?} ({})", error.0, error.0 as u32)
}

/// What a driver's error means: after some of these the context answers nothing else any more.
fn failure(device: DeviceId, call: &'static str, error: DriverError) -> GpuError {
    let code = name_of(error);
    match error.0 {
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
        | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
        | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
        | CUresult::CUDA_ERROR_INVALID_PC
        | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
        | CUresult::CUDA_ERROR_LAUNCH_FAILED
        | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
        | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
        | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
        | CUresult::CUDA_ERROR_CONTAINED
        | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
        | CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE
        | CUresult::CUDA_ERROR_UNKNOWN => GpuError::Lost { device, call, code },
        _ => GpuError::Call { device, call, code },
    }
}

struct Device {
    context: Arc<CudaContext>,
    info: DeviceInfo,
    /// Of what NVRTC makes; what is PTX already the driver keeps itself.
    cache: KernelCache,
}

impl Device {
    fn current(&self) -> Result<(), GpuError> {
        current(&self.context, self.info.id)
    }

    /// Loads PTX or a cubin. `entries` is PTX that tells the kernels' parameters.
    fn load(
        &self,
        name: &str,
        image: &[u8],
        entries: String,
        needs: &'static str,
    ) -> Result<Program, GpuError> {
        self.current()?;
        let id = self.info.id;
        // SAFETY: `image` ends with a zero byte if it is text (all callers add one), and a cubin says its own size.
        let loaded = unsafe { result::module::load_data(image.as_ptr().cast()) };
        let handle = loaded.map_err(|error| match error.0 {
            CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => GpuError::DriverTooOld {
                device: id,
                name: name.to_owned(),
                driver: self.info.driver.clone(),
                needs,
            },
            CUresult::CUDA_ERROR_INVALID_PTX | CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU => {
                GpuError::Build { device: id, name: name.to_owned(), log: name_of(error), saved: None }
            }
            _ => failure(id, "cuModuleLoadData", error),
        })?;
        let module =
            Module { handle, id, name: name.to_owned(), entries, context: Arc::clone(&self.context) };
        Ok(Program(Arc::new(Arc::new(module))))
    }

    /// Compiles with NVRTC.
    fn nvrtc(&self, name: &str, text: &str, defines: &[(&str, u64)]) -> Result<Program, GpuError> {
        let id = self.info.id;
        // SAFETY: looks for the library and nothing else.
        if !unsafe { nvrtc::sys::is_culib_present() } {
            return Err(GpuError::NoCompiler { device: id, name: name.to_owned() });
        }
        let (major, minor) = self.info.compute.unwrap_or_default();
        let wanted = (10 * major + minor) as c_int;
        let arch = architectures().into_iter().filter(|&arch| arch <= wanted).max().unwrap_or(wanted);
        let exact = arch == wanted;
        let mut options = vec![
            format!("--gpu-architecture={}_{arch}", if exact { "sm" } else { "compute" }),
            // Kernels name their fused operations.
            "--fmad=false".to_owned(),
            "--std=c++17".to_owned(),
        ];
        options
            .extend(defines.iter().map(|&(name, value)| format!("-D{name}={value}{}", super::suffix(value))));
        let key = Key::new(&self.info, &version(), name, text, &options.join(" "));
        let load = |kept: &[u8]| {
            let (ptx, image) = unpack(kept)?;
            self.load(name, &image, ptx, NVRTC_NEEDS).ok().map(|program| (program, Vec::new()))
        };
        let compile = || {
            let (ptx, image) = self.run_nvrtc(name, text, &options, exact)?;
            let kept = pack(&ptx, &image);
            Ok((self.load(name, &image, ptx, NVRTC_NEEDS)?, kept))
        };
        let made = self.cache.program(&key, load, compile, |(_, kept)| Some(kept.clone()));
        made.map(|(program, _)| program)
    }

    /// What NVRTC makes of a text: PTX, and the image to load (ending with a zero byte if it is text).
    fn run_nvrtc(
        &self,
        name: &str,
        text: &str,
        options: &[String],
        exact: bool,
    ) -> Result<(String, Vec<u8>), GpuError> {
        let id = self.info.id;
        let call = |call, error: nvrtc::result::NvrtcError| GpuError::Call {
            device: id,
            call,
            code: format!("{:?}", error.0),
        };
        let invalid = |_| GpuError::Build {
            device: id,
            name: name.to_owned(),
            log: "the text holds a zero byte".to_owned(),
            saved: None,
        };
        let (source, title) = (CString::new(text).map_err(invalid)?, CString::new(name).map_err(invalid)?);
        let program = nvrtc::result::create_program(&source, Some(&title))
            .map_err(|e| call("nvrtcCreateProgram", e))?;
        // SAFETY: the program was just made and is released below, once, after the last use.
        let compiled = unsafe { nvrtc::result::compile_program(program, options) };
        // SAFETY: as above; each call writes as many bytes as its size says.
        let parts = unsafe {
            match compiled {
                Err(_) => Err(nvrtc::result::get_program_log(program).unwrap_or_default()),
                Ok(()) => Ok((nvrtc::result::get_ptx(program), if exact { cubin(program) } else { None })),
            }
        };
        // SAFETY: as above.
        let _ = unsafe { nvrtc::result::destroy_program(program) };
        let string = |bytes: Vec<c_char>| {
            let bytes: Vec<u8> = bytes.into_iter().map(|byte| byte as u8).collect();
            String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
        };
        match parts {
            Err(log) => {
                Err(GpuError::Build { device: id, name: name.to_owned(), log: string(log), saved: None })
            }
            Ok((ptx, cubin)) => {
                let ptx = string(ptx.map_err(|e| call("nvrtcGetPTX", e))?);
                let image = cubin.unwrap_or_else(|| format!("{ptx}\0").into_bytes());
                Ok((ptx, image))
            }
        }
    }
}

/// What a driver needs for NVRTC's output.
const NVRTC_NEEDS: &str = "of the same CUDA version as libnvrtc";

/// PTX and image as one: the length of the first, then both.
fn pack(ptx: &str, image: &[u8]) -> Vec<u8> {
    [&(ptx.len() as u64).to_le_bytes(), ptx.as_bytes(), image].concat()
}

/// PTX and image again; `None` if they are not there.
fn unpack(kept: &[u8]) -> Option<(String, Vec<u8>)> {
    let (length, rest) = kept.split_first_chunk()?;
    let (ptx, image) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    // A cubin says its own size, in its first bytes; text ends with a zero.
    let ends = image.starts_with(b"\x7fELF") || image.ends_with(&[0]);
    ends.then_some((String::from_utf8(ptx.to_vec()).ok()?, image.to_vec()))
}

/// NVRTC's version, as far as it tells.
fn version() -> String {
    let (mut major, mut minor): (c_int, c_int) = (0, 0);
    // SAFETY: writes two ints.
    let _ = unsafe { nvrtc::sys::nvrtcVersion(&raw mut major, &raw mut minor) };
    format!("NVRTC {major}.{minor}")
}

/// The compute capabilities NVRTC compiles for, as 10 * major + minor.
fn architectures() -> Vec<c_int> {
    let mut count: c_int = 0;
    // SAFETY: writes one int, then as many as it said.
    unsafe {
        if nvrtc::sys::nvrtcGetNumSupportedArchs(&raw mut count).result().is_err() {
            return Vec::new();
        }
        let mut all = vec![0; count.max(0) as usize];
        match nvrtc::sys::nvrtcGetSupportedArchs(all.as_mut_ptr()).result() {
            Ok(()) => all,
            Err(_) => Vec::new(),
        }
    }
}

/// The machine code of a program that was compiled for a real architecture.
///
/// # Safety
/// The program is alive and compiled.
unsafe fn cubin(program: nvrtc::sys::nvrtcProgram) -> Option<Vec<u8>> {
    let mut size = 0;
    // SAFETY: the caller's promise; the second call writes as many bytes as the first said.
    unsafe {
        nvrtc::sys::nvrtcGetCUBINSize(program, &raw mut size).result().ok().filter(|()| size > 0)?;
        let mut bytes = vec![0u8; size];
        nvrtc::sys::nvrtcGetCUBIN(program, bytes.as_mut_ptr().cast()).result().ok()?;
        Some(bytes)
    }
}

fn current(context: &Arc<CudaContext>, id: DeviceId) -> Result<(), GpuError> {
    context.bind_to_thread().map_err(|error| failure(id, "cuCtxSetCurrent", error))
}

impl Gpu for Device {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn compile(&self, name: &str, text: &str, defines: &[(&str, u64)]) -> Result<Program, GpuError> {
        let is_own =
            otedama_kernels::FAMILIES.iter().any(|family| family.name == name && family.text() == text);
        let embedded = otedama_kernels::ptx(name, defines).filter(|_| is_own);
        match embedded.or_else(|| text.starts_with(".version").then_some(text)) {
            Some(ptx) => self.assemble(name, ptx),
            None => self.nvrtc(name, text, defines),
        }
    }

    fn assemble(&self, name: &str, ptx: &str) -> Result<Program, GpuError> {
        self.load(name, format!("{ptx}\0").as_bytes(), ptx.to_owned(), "525 (CUDA 12.0)")
    }

    fn buffer(&self, bytes: u64) -> Result<Buffer, GpuError> {
        let DeviceInfo { id, max_buffer: max, memory: total, .. } = self.info;
        let wanted = bytes;
        if bytes > max {
            return Err(GpuError::BufferTooLarge { device: id, wanted, max });
        }
        self.current()?;
        // SAFETY: a number of bytes above zero, as the driver wants it; a context is current.
        match unsafe { result::malloc_sync(bytes.max(1) as usize) } {
            Ok(at) => {
                let context = Arc::clone(&self.context);
                Ok(Buffer { bytes, handle: Box::new(Memory { at, context }) })
            }
            Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                let free = result::mem_get_info().ok().map(|(free, _)| free as u64);
                Err(GpuError::Memory { device: id, wanted, free, total })
            }
            Err(error) => Err(failure(id, "cuMemAlloc", error)),
        }
    }

    fn queue(&self) -> Result<Box<dyn Queue>, GpuError> {
        let stream = self.context.new_stream().map_err(|e| failure(self.info.id, "cuStreamCreate", e))?;
        Ok(Box::new(Stream { stream, id: self.info.id }))
    }
}

struct Memory {
    at: CUdeviceptr,
    context: Arc<CudaContext>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = self.context.bind_to_thread();
        // SAFETY: `Device::buffer` made it, and this is its only release; the driver waits for what uses it.
        let _ = unsafe { result::free_sync(self.at) };
    }
}

struct Module {
    handle: sys::CUmodule,
    id: DeviceId,
    name: String,
    /// PTX that declares the entry points.
    entries: String,
    context: Arc<CudaContext>,
}

// SAFETY: a module may be used on any thread on which its context is current.
unsafe impl Send for Module {}
// SAFETY: as above; nothing here changes after it was made.
unsafe impl Sync for Module {}

impl Drop for Module {
    fn drop(&mut self) {
        let _ = self.context.bind_to_thread();
        // SAFETY: `Device::load` made it, and this is its only release.
        let _ = unsafe { result::module::unload(self.handle) };
    }
}

impl Entries for Arc<Module> {
    fn kernel(&self, name: &str, group: u32) -> Result<Kernel, GpuError> {
        let unknown = || GpuError::NoKernel { program: self.name.clone(), kernel: name.to_owned() };
        let sizes = parameters(&self.entries, name).ok_or_else(unknown)?;
        current(&self.context, self.id)?;
        let entry = CString::new(name).map_err(|_| unknown())?;
        // SAFETY: the module is alive.
        let handle =
            unsafe { result::module::get_function(self.handle, entry) }.map_err(|error| match error.0 {
                CUresult::CUDA_ERROR_NOT_FOUND => unknown(),
                _ => failure(self.id, "cuModuleGetFunction", error),
            })?;
        let entry = Entry { handle, sizes, _module: Arc::clone(self) };
        Ok(Kernel { name: name.to_owned(), group, handle: Box::new(entry) })
    }
}

/// An entry point, and the sizes of its parameters in bytes.
struct Entry {
    handle: sys::CUfunction,
    sizes: Vec<usize>,
    _module: Arc<Module>,
}

// SAFETY: as for `Module`.
unsafe impl Send for Entry {}
// SAFETY: as for `Module`.
unsafe impl Sync for Entry {}

/// The sizes of an entry point's parameters, from its declaration in PTX: `.entry name( .param .u64 p, ... )`.
fn parameters(ptx: &str, name: &str) -> Option<Vec<usize>> {
    let declared = |rest: &str| {
        let rest = rest.trim_start().strip_prefix(name)?.trim_start();
        Some(rest.strip_prefix('(')?.split(')').next()?.to_owned())
    };
    let list = ptx.split(".entry").skip(1).find_map(declared)?;
    let size = |parameter: &str| {
        let kind = parameter.split_whitespace().find(|word| !word.starts_with(".param"))?;
        kind.trim_start_matches(|c: char| !c.is_ascii_digit()).parse::<usize>().ok().map(|bits| bits / 8)
    };
    list.split(',').filter(|parameter| !parameter.trim().is_empty()).map(size).collect()
}

struct Stream {
    stream: Arc<CudaStream>,
    id: DeviceId,
}

impl Stream {
    fn current(&self) -> Result<(), GpuError> {
        current(self.stream.context(), self.id)
    }

    fn done(&self, call: &'static str, done: Result<(), DriverError>) -> Result<(), GpuError> {
        done.map_err(|error| failure(self.id, call, error))
    }
}

impl Queue for Stream {
    fn write(&mut self, to: &Buffer, offset: u64, bytes: &[u8]) -> Result<(), GpuError> {
        let memory: &Memory = to.handle(self.id, offset, bytes.len() as u64)?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.current()?;
        // SAFETY: the bytes lie inside the buffer (`handle` checked it), and the stream is waited for below.
        let copied = unsafe { result::memcpy_htod_async(memory.at + offset, bytes, self.stream.cu_stream()) };
        // Waited for even after an error: nothing may read the bytes once this returns.
        let waited = self.finish();
        self.done("cuMemcpyHtoDAsync", copied).and(waited)
    }

    fn zero(&mut self, buffer: &Buffer, offset: u64, bytes: u64) -> Result<(), GpuError> {
        let memory: &Memory = buffer.handle(self.id, offset, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        self.current()?;
        // SAFETY: the bytes lie inside the buffer.
        let done = unsafe {
            result::memset_d8_async(memory.at + offset, 0, bytes as usize, self.stream.cu_stream())
        };
        self.done("cuMemsetD8Async", done)
    }

    fn launch(&mut self, kernel: &Kernel, groups: u32, args: &[Arg<'_>]) -> Result<(), GpuError> {
        let id = self.id;
        let entry: &Entry = kernel.handle(id)?;
        if args.len() != entry.sizes.len() {
            let reason = format!("{} arguments: expected {}", args.len(), entry.sizes.len());
            return Err(kernel.refuse(id, reason));
        }
        let mut values = Vec::with_capacity(args.len());
        for (index, (arg, &size)) in args.iter().zip(&entry.sizes).enumerate() {
            let (value, bytes) = match *arg {
                Arg::Buffer(buffer) => (buffer.handle::<Memory>(id, 0, 0)?.at, 8),
                Arg::U32(value) => (value.into(), 4),
                Arg::U64(value) => (value, 8),
            };
            if bytes != size {
                return Err(kernel.refuse(id, format!("argument {index} is {arg:?}: expected {size} bytes")));
            }
            // The driver reads the first `size` bytes.
            values.push(value.to_le());
        }
        let mut pointers: Vec<*mut c_void> =
            values.iter_mut().map(|value| (&raw mut *value).cast()).collect();
        self.current()?;
        // SAFETY: as many pointers as the kernel has parameters, each to at least as many bytes as that parameter
        // has; the driver copies them before it returns. What the kernel does lies on the device.
        let done = unsafe {
            result::launch_kernel(
                entry.handle,
                (groups, 1, 1),
                (kernel.group(), 1, 1),
                0,
                self.stream.cu_stream(),
                &mut pointers,
            )
        };
        self.done("cuLaunchKernel", done)
    }

    fn read(&mut self, from: &Buffer, offset: u64, into: &mut [u8]) -> Result<(), GpuError> {
        let memory: &Memory = from.handle(self.id, offset, into.len() as u64)?;
        if into.is_empty() {
            return self.finish();
        }
        self.current()?;
        // SAFETY: the bytes lie inside the buffer and `into` holds as many; the stream is waited for below.
        let copied = unsafe { result::memcpy_dtoh_async(into, memory.at + offset, self.stream.cu_stream()) };
        // Waited for even after an error: nothing may write to `into` once this returns.
        let waited = self.finish();
        self.done("cuMemcpyDtoHAsync", copied).and(waited)
    }

    fn finish(&mut self) -> Result<(), GpuError> {
        let done = self.stream.synchronize();
        self.done("cuStreamSynchronize", done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_from_ptx() {
        let ptx = ".version 8.0\n.visible .entry other(\n\t.param .u32 other_param_0\n)\n{ }\n\
            .visible .entry search(\n\t.param .u32 search_param_0,\n\t.param .u64 .ptr .align 1 search_param_1,\n\
            \t.param .f64 search_param_2\n)\n.maxntid 256\n{ }\n.visible .entry none()\n{ }";
        assert_eq!(parameters(ptx, "search"), Some(vec![4, 8, 8]));
        assert_eq!(parameters(ptx, "none"), Some(vec![]));
        assert_eq!(parameters(ptx, "sear"), None);
        let sha256d = otedama_kernels::ptx("sha256d", &[]).and_then(|ptx| parameters(ptx, "sha256d_search"));
        let mut expected = vec![4; 28];
        (expected[25], expected[26]) = (8, 8);
        assert_eq!(sha256d, Some(expected));
    }

    #[test]
    fn what_nvrtc_made_is_unpacked_as_it_was_packed() {
        for image in [b"\x7fELF and more".as_slice(), b".version 8.0\n\0"] {
            let packed = pack(".version", image);
            assert_eq!(unpack(&packed), Some((".version".to_owned(), image.to_vec())));
            assert_eq!(unpack(&packed[..15]), None);
        }
        assert_eq!(unpack(&pack("p", b"text without an end")), None);
        assert_eq!(unpack(&[0xff; 20]), None);
    }

    #[test]
    fn errors_that_end_a_context_are_told_from_others() {
        let told = |code| failure(DeviceId::Cuda(1), "cuLaunchKernel", DriverError(code));
        assert!(matches!(told(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS), GpuError::Lost { .. }));
        let other = told(CUresult::CUDA_ERROR_INVALID_VALUE);
        assert_eq!(other.to_string(), "cuLaunchKernel failed on cuda:1: CUDA_ERROR_INVALID_VALUE (1)");
    }
}
