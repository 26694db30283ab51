//! Graphics processors: what is there, and a small common denominator of CUDA and OpenCL to run kernels with.
//!
//! ```text
//!   Gpu (one per device and API)             Queue (in order; two of them overlap)
//!     compile(text, defines) -> Program        write, zero, launch     enqueue
//!     buffer(bytes)          -> Buffer         read, finish            wait
//! ```
//!
//! Nothing here knows an algorithm's job or chooses a device; what a family of kernels needs on the host side
//! stands in a file of its own below this module. The drivers are looked for at run time: where there is none,
//! [`devices`] says so and nothing else happens.
//!
//! A kernel's text is trusted like code of this crate: it can write anywhere in its device's memory, not in the
//! host's.

use std::any::Any;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::algo::randomx::config::{RX_0, RX_2};
use crate::algorithm::Algorithm;
use crate::epoch::Epoch;
use crate::job::{Job, Work};

pub use cache::{CacheCounts, KernelCache};
pub use error::GpuError;
pub(crate) use pace::GoOn;

mod cache;
mod cuda;
mod error;
mod opencl;
mod pace;
pub mod randomx;
mod scrypt;
mod sealed;
mod sha256d;
pub mod watch;

/// Every device of every API that answers, and why the others do not.
///
/// Cost: some milliseconds, the first time up to a second (drivers start).
pub fn devices() -> Inventory {
    let mut inventory = Inventory::default();
    for (api, listed) in [(Api::Cuda, cuda::list()), (Api::OpenCl, opencl::list())] {
        match listed {
            Ok(infos) => inventory.cards.extend(infos.into_iter().map(Card::alone)),
            Err(reason) => inventory.absent.push((api, reason)),
        }
    }
    mark_twins(&mut inventory.cards);
    inventory
}

/// Makes a device ready for work. What it compiles is kept in [`KernelCache::user`], unless the device is a CPU, whose
/// driver (PoCL) keeps kernels itself.
///
/// # Errors
/// [`GpuError::NoDevice`] naming those there are, or the driver's failure.
pub fn open(id: DeviceId) -> Result<Arc<dyn Gpu>, GpuError> {
    open_cached(id, |info| if info.is_cpu { KernelCache::none() } else { KernelCache::user() })
}

/// Makes a device ready for work, with a cache for what it compiles.
///
/// # Errors
/// As [`open`].
pub fn open_with(id: DeviceId, cache: &KernelCache) -> Result<Arc<dyn Gpu>, GpuError> {
    open_cached(id, |_| cache.clone())
}

fn open_cached(id: DeviceId, cache: impl Fn(&DeviceInfo) -> KernelCache) -> Result<Arc<dyn Gpu>, GpuError> {
    let opened = match id {
        DeviceId::Cuda(ordinal) => cuda::open(ordinal, cache)?,
        DeviceId::OpenCl(platform, device) => opencl::open(platform, device, cache)?,
    };
    opened.ok_or_else(|| GpuError::NoDevice { id, there: devices().to_string() })
}

/// What [`devices`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The devices, CUDA's first.
    pub cards: Vec<Card>,
    /// APIs that have none, each with the reason.
    pub absent: Vec<(Api, String)>,
}

impl fmt::Display for Inventory {
    /// One line: `there are cuda:0, opencl:0.0; none for CUDA: the reason`, or why there is nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cards.is_empty() {
            let reasons: Vec<_> = self.absent.iter().map(|(api, why)| format!("{api}: {why}")).collect();
            return write!(f, "there is none ({})", reasons.join("; "));
        }
        let ids: Vec<_> = self.cards.iter().map(|card| card.info.id.to_string()).collect();
        write!(f, "there are {}", ids.join(", "))?;
        self.absent.iter().try_for_each(|(api, why)| write!(f, "; none for {api}: {why}"))
    }
}

/// A device in the inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// What it is.
    pub info: DeviceInfo,
    /// The device that is the same card seen through another API, and should be used instead of this.
    pub twin: Option<DeviceId>,
}

impl Card {
    fn alone(info: DeviceInfo) -> Card {
        Card { info, twin: None }
    }
}

/// Of devices at one PCI address only the first is to be used; the others get to know it.
fn mark_twins(cards: &mut [Card]) {
    for index in 1..cards.len() {
        let (before, rest) = cards.split_at_mut(index);
        let same = |card: &&Card| card.info.pci.is_some() && card.info.pci == rest[0].info.pci;
        rest[0].twin = before.iter().find(same).map(|card| card.info.id);
    }
}

/// A device as one API shows it. Shared between threads; whoever works with it makes a [`Queue`].
pub trait Gpu: Send + Sync {
    /// What it is.
    fn info(&self) -> &DeviceInfo;

    /// Compiles kernel text with macros (`-D name=value`); `name` is for messages. A CPU behind OpenCL gets
    /// `OTD_ROLLED=1` as well.
    ///
    /// # Errors
    /// [`GpuError::Build`] with the compiler's log, or the device's failure.
    fn compile(&self, name: &str, text: &str, defines: &[(&str, u64)]) -> Result<Program, GpuError>;

    /// Takes a program in PTX, where the API does (CUDA).
    ///
    /// # Errors
    /// [`GpuError::NoCompiler`] where it does not, or the driver's complaint.
    fn assemble(&self, name: &str, _ptx: &str) -> Result<Program, GpuError> {
        Err(GpuError::NoCompiler { device: self.info().id, name: name.to_owned() })
    }

    /// Device memory, not initialised.
    ///
    /// # Errors
    /// [`GpuError::Memory`] with the bytes asked for and those that are free, as far as the API tells;
    /// [`GpuError::BufferTooLarge`].
    fn buffer(&self, bytes: u64) -> Result<Buffer, GpuError>;

    /// A queue of work; what is enqueued in one runs in order, two queues run side by side.
    ///
    /// # Errors
    /// The device's failure.
    fn queue(&self) -> Result<Box<dyn Queue>, GpuError>;
}

/// Work for a device, in order.
pub trait Queue: Send {
    /// Copies `bytes` to a buffer, from byte `offset` on, after what was enqueued before. The bytes may be
    /// reused at once.
    ///
    /// # Errors
    /// If they do not fit, or the device fails.
    fn write(&mut self, to: &Buffer, offset: u64, bytes: &[u8]) -> Result<(), GpuError>;

    /// Enqueues zeros for `bytes` bytes from `offset` on (both multiples of four).
    ///
    /// # Errors
    /// As [`Queue::write`].
    fn zero(&mut self, buffer: &Buffer, offset: u64, bytes: u64) -> Result<(), GpuError>;

    /// Enqueues a kernel over so many groups.
    ///
    /// # Errors
    /// If the arguments do not match, or the device fails.
    fn launch(&mut self, kernel: &Kernel, groups: u32, args: &[Arg<'_>]) -> Result<(), GpuError>;

    /// Waits for what was enqueued before, then copies from a buffer.
    ///
    /// # Errors
    /// If the bytes are not there, or the device failed on the way.
    fn read(&mut self, from: &Buffer, offset: u64, into: &mut [u8]) -> Result<(), GpuError>;

    /// Waits until everything enqueued is done.
    ///
    /// # Errors
    /// The device's failure.
    fn finish(&mut self) -> Result<(), GpuError>;
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a> {
    /// Device memory.
    Buffer(&'a Buffer),
    /// A value of 32 bits.
    U32(u32),
    /// A value of 64 bits.
    U64(u64),
}

/// Device memory, released when dropped.
pub struct Buffer {
    bytes: u64,
    /// What its back end keeps; nobody else looks inside.
    handle: Box<dyn Any + Send + Sync>,
}

impl Buffer {
    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The back end's handle, if it is the back end of `T` and the bytes lie inside.
    fn handle<T: Any>(&self, device: DeviceId, offset: u64, bytes: u64) -> Result<&T, GpuError> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(GpuError::OutOfBuffer { device, offset, bytes, size: self.bytes });
        }
        self.handle.downcast_ref().ok_or_else(|| GpuError::Unsuited {
            device,
            reason: "a buffer belongs to another API".to_owned(),
        })
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.bytes)
    }
}

/// Compiled kernels. Cheap to clone.
#[derive(Clone)]
pub struct Program(Arc<dyn Entries>);

/// A back end's compiled program.
trait Entries: Send + Sync {
    fn kernel(&self, name: &str, group: u32) -> Result<Kernel, GpuError>;
}

impl Program {
    /// An entry point; `group` is the number of lanes its `OTD_KERNEL` names.
    ///
    /// # Errors
    /// If there is no such entry point.
    pub fn kernel(&self, name: &str, group: u32) -> Result<Kernel, GpuError> {
        self.0.kernel(name, group)
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Program")
    }
}

/// An entry point of a program. May be launched from several threads.
pub struct Kernel {
    name: String,
    group: u32,
    handle: Box<dyn Any + Send + Sync>,
}

impl Kernel {
    /// The entry point's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many lanes a group has.
    pub fn group(&self) -> u32 {
        self.group
    }

    fn handle<T: Any>(&self, device: DeviceId) -> Result<&T, GpuError> {
        self.handle.downcast_ref().ok_or_else(|| self.refuse(device, "it belongs to another API".to_owned()))
    }

    fn refuse(&self, device: DeviceId, reason: String) -> GpuError {
        GpuError::Arguments { device, kernel: self.name.clone(), reason }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({}, groups of {})", self.name, self.group)
    }
}

/// Which API a device is driven through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Api {
    /// NVIDIA's driver API.
    Cuda,
    /// OpenCL 1.2.
    OpenCl,
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Api::Cuda => "CUDA",
            Api::OpenCl => "OpenCL",
        })
    }
}

/// A device's name for people and command lines: `cuda:0`, `opencl:0.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceId {
    /// CUDA's ordinal.
    Cuda(u32),
    /// OpenCL's platform and the device in it.
    OpenCl(u32, u32),
}

impl DeviceId {
    /// The API it is driven through.
    pub fn api(self) -> Api {
        match self {
            DeviceId::Cuda(_) => Api::Cuda,
            DeviceId::OpenCl(..) => Api::OpenCl,
        }
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceId::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            DeviceId::OpenCl(platform, device) => write!(f, "opencl:{platform}.{device}"),
        }
    }
}

impl FromStr for DeviceId {
    type Err = GpuError;

    fn from_str(text: &str) -> Result<DeviceId, GpuError> {
        // `parse` alone would take a sign.
        let number =
            |digits: &str| digits.parse().ok().filter(|_| digits.starts_with(|c: char| c.is_ascii_digit()));
        let id = match text.split_once(':') {
            Some(("cuda", ordinal)) => number(ordinal).map(DeviceId::Cuda),
            Some(("opencl", rest)) => rest
                .split_once('.')
                .and_then(|(platform, device)| Some(DeviceId::OpenCl(number(platform)?, number(device)?))),
            _ => None,
        };
        id.ok_or_else(|| GpuError::BadId(text.to_owned()))
    }
}

/// Where a card sits on the PCI bus: the same for every API, so a card seen twice is known to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciAddress {
    /// Domain.
    pub domain: u32,
    /// Bus.
    pub bus: u8,
    /// Device.
    pub device: u8,
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}", self.domain, self.bus, self.device)
    }
}

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its name for command lines.
    pub id: DeviceId,
    /// Its name on the box.
    pub name: String,
    /// Who made it, as the API says.
    pub vendor: String,
    /// The driver's version, as the API says.
    pub driver: String,
    /// Where it sits, if the API tells.
    pub pci: Option<PciAddress>,
    /// Device memory in bytes.
    pub memory: u64,
    /// The most bytes one buffer may have.
    pub max_buffer: u64,
    /// Multiprocessors, or OpenCL's compute units.
    pub units: u32,
    /// CUDA's compute capability, major and minor.
    pub compute: Option<(u32, u32)>,
    /// Whether it is a CPU behind OpenCL (PoCL): for tests, not for mining.
    pub is_cpu: bool,
}

/// What C wants after a number that does not fit an int.
fn suffix(value: u64) -> &'static str {
    match value {
        0..=0x7fff_ffff => "",
        0x8000_0000..=0xffff_ffff => "u",
        _ => "ul",
    }
}

/// The search for an algorithm on a device: **the one table** from algorithm to a family of kernels.
pub(crate) fn search(algorithm: Algorithm, gpu: &Arc<dyn Gpu>) -> Result<Box<dyn Search>, GpuError> {
    match algorithm {
        Algorithm::Sha256d => sha256d::search(gpu),
        Algorithm::Scrypt => scrypt::search(gpu),
        Algorithm::Ethash | Algorithm::Etchash | Algorithm::KawPow => sealed::search(algorithm, gpu),
        Algorithm::RandomXV1 => randomx::search(gpu, &RX_0),
        Algorithm::RandomXV2 => randomx::search(gpu, &RX_2),
    }
}

/// The highest 64 bits of a job's target: all that kernels look at.
pub(crate) fn target_top(job: &Job) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = job.target().to_le_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// What kernels of a function on headers take of a job by value: words that follow from its header, and its target.
struct OfHeader<const WORDS: usize> {
    words: [u32; WORDS],
    target_top: u64,
}

impl<const WORDS: usize> OfHeader<WORDS> {
    /// No job.
    fn none() -> OfHeader<WORDS> {
        OfHeader { words: [0; WORDS], target_top: 0 }
    }

    /// A job's.
    fn of(job: &Job, words_of: fn(&[u8; 80]) -> [u32; WORDS], device: DeviceId) -> Result<Self, GpuError> {
        let header = match job.work() {
            Work::Blob { bytes, .. } => bytes.as_ref().try_into().ok(),
            Work::Sealed { .. } => None,
        };
        let header = header.ok_or_else(|| GpuError::Unsuited {
            device,
            reason: format!("a job of {} has no header of 80 bytes", job.algorithm()),
        })?;
        Ok(OfHeader { words: words_of(header), target_top: target_top(job) })
    }
}

/// One algorithm's search on one device: what a family of kernels has in a file of its own. The scanner over
/// it is the same for all.
pub(crate) trait Search: Send {
    /// Takes up a job: its header, and what its epoch needs on the device. Waits until that is there; the wait can be
    /// given up. What is made by then is kept for another job of the epoch.
    fn load(
        &mut self,
        job: &Arc<Job>,
        epoch: Option<&Arc<Epoch>>,
        queue: &mut dyn Queue,
        go_on: &mut GoOn<'_>,
    ) -> Result<(), GpuError>;

    /// Launches of a multiple of this many nonces waste nothing.
    fn granule(&self) -> u32;

    /// A launch covers a multiple of this many nonces, which divides the granule.
    fn least(&self) -> u32 {
        self.granule()
    }

    /// The most nonces one launch may cover, a multiple of the granule (memory for scratchpads).
    fn max_batch(&self) -> u32;

    /// Whether a job may be loaded while launches of another run: they got all they need by value. The scanner
    /// then goes through versions without waiting between them.
    fn loads_between_launches(&self) -> bool {
        false
    }

    /// In how many steps a batch is enqueued: one, unless it takes long; then steps of some 12 ms at full load, so
    /// that a batch can be given up between two.
    fn steps(&self) -> u32 {
        1
    }

    /// Enqueues a step of the search of a batch, all steps in order. Between them other batches go on in the other
    /// slot, and another version of the job may be loaded (if [`Search::loads_between_launches`]). `slot` is 0 or
    /// 1: which of the two queues, for families that keep scratch memory for each.
    fn enqueue(
        &mut self,
        slot: usize,
        queue: &mut dyn Queue,
        step: u32,
        batch: &Batch<'_>,
    ) -> Result<(), GpuError>;
}

/// Nonces to search.
pub(crate) struct Batch<'a> {
    /// The first.
    pub(crate) first: u64,
    /// How many, a multiple of [`Search::least`].
    pub(crate) count: u32,
    /// Where hits go (layout: `otd_hit`); the caller has zeroed it.
    pub(crate) hits: &'a Buffer,
    /// How many it has room for.
    pub(crate) room: u32,
}

#[cfg(test)]
pub(crate) use sealed::tests as sealed_samples;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        for id in [DeviceId::Cuda(0), DeviceId::Cuda(12), DeviceId::OpenCl(0, 1), DeviceId::OpenCl(3, 10)] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in ["", "cuda", "cuda:", "cuda:-1", "cuda:+1", "cuda:0.1", "opencl:0", "opencl:.1", "hip:0"]
        {
            assert_eq!(text.parse::<DeviceId>(), Err(GpuError::BadId(text.to_owned())), "{text}");
        }
    }

    fn card(id: DeviceId, bus: Option<u8>) -> Card {
        Card::alone(DeviceInfo {
            id,
            name: "a card".to_owned(),
            vendor: "somebody".to_owned(),
            driver: "1".to_owned(),
            pci: bus.map(|bus| PciAddress { domain: 0, bus, device: 0 }),
            memory: 1 << 30,
            max_buffer: 1 << 28,
            units: 1,
            compute: None,
            is_cpu: false,
        })
    }

    #[test]
    fn a_card_seen_twice_is_used_once() {
        let (cuda, other) = (DeviceId::Cuda(0), DeviceId::Cuda(1));
        let (first, second, third) = (DeviceId::OpenCl(0, 0), DeviceId::OpenCl(0, 1), DeviceId::OpenCl(1, 0));
        let mut cards = [
            card(cuda, Some(0x3b)),
            card(other, None),
            card(first, Some(0x3b)),
            card(second, Some(0x5e)),
            card(third, Some(0x5e)),
            card(DeviceId::OpenCl(2, 0), None),
        ];
        mark_twins(&mut cards);
        let twins: Vec<_> = cards.iter().map(|card| card.twin).collect();
        assert_eq!(twins, [None, None, Some(cuda), None, Some(second), None]);
        mark_twins(&mut []);
    }

    #[test]
    fn an_absent_device_is_told_from_those_there() {
        let error = open(DeviceId::OpenCl(999, 0)).err().map(|error| error.to_string());
        assert!(
            error.as_ref().is_some_and(|e| e.starts_with("no device opencl:999.0 here: there ")),
            "{error:?}"
        );
        let none = Inventory { cards: vec![], absent: vec![(Api::Cuda, "no driver".to_owned())] };
        assert_eq!(none.to_string(), "there is none (CUDA: no driver)");
        let some = Inventory { cards: vec![card(DeviceId::OpenCl(0, 1), None)], ..none };
        assert_eq!(some.to_string(), "there are opencl:0.1; none for CUDA: no driver");
    }
}
