//! Which devices work: what `--device` says, and what there is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use indicatif::ProgressBar;
use otedama_core::engine::{MakeWorker, WorkerConfig};
use otedama_core::epoch::Progress;
use otedama_core::gpu::{self, Api, Card, DeviceId, DeviceInfo, Inventory, KernelCache, watch};
use otedama_core::measure::Worker;
use otedama_core::scan::{GpuOptions, KernelError, Scanner, Setup, gpu_scanner};
use otedama_core::{Algorithm, Verifier};

use crate::args::DeviceArgs;
use crate::failure::{Failure, usage};
use crate::show;

/// The devices asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Whether the CPU is among them.
    pub(crate) cpu: bool,
    /// The others, each once.
    pub(crate) gpus: Vec<DeviceInfo>,
}

/// The devices asked for, beside the options that fit only some: a kernel is a CPU's, an intensity a GPU's.
pub(crate) fn choose_for(args: &DeviceArgs, kernel: Option<&str>) -> Result<Chosen, Failure> {
    let chosen = choose(&args.list())?;
    match (chosen.gpus.first(), kernel, args.intensity) {
        (Some(gpu), Some(kernel), _) => Err(usage(format!(
            "--kernel {kernel} is for the CPU, {} has one kernel for each algorithm: leave one of the two out",
            gpu.id
        ))),
        (None, _, Some(intensity)) => Err(usage(format!(
            "--intensity {intensity} is for GPUs: name one with --device, such as cuda:0 or opencl:all"
        ))),
        _ => Ok(chosen),
    }
}

/// Reads a list such as `cuda:0,opencl:all,cpu`; says which of two names for one card is left out.
pub(crate) fn choose(list: &[String]) -> Result<Chosen, Failure> {
    // Drivers are started only when asked for.
    let only_cpu = list.iter().all(|name| name == "cpu");
    let inventory = if only_cpu { Inventory::default() } else { gpu::devices() };
    let (chosen, notes) = pick(list, &inventory)?;
    for note in notes {
        eprintln!("{note}");
    }
    Ok(chosen)
}

fn pick(list: &[String], inventory: &Inventory) -> Result<(Chosen, Vec<String>), Failure> {
    let mut chosen = Chosen { cpu: false, gpus: Vec::new() };
    let mut notes = Vec::new();
    // Of a card seen twice the first; a CPU behind OpenCL only by its name.
    let usable = |api: Option<Api>| -> Vec<DeviceId> {
        let cards = inventory.cards.iter().filter(|card| card.twin.is_none() && !card.info.is_cpu);
        cards.map(|card| card.info.id).filter(|id| api.is_none_or(|api| id.api() == api)).collect()
    };
    for name in list {
        let all = |api| match usable(api) {
            none if none.is_empty() => Err(usage(format!("no GPU for {name} here: {}", there(inventory)))),
            ids => Ok(ids),
        };
        let wanted = match name.as_str() {
            "cpu" => {
                chosen.cpu = true;
                continue;
            }
            "all" => {
                chosen.cpu = true;
                let ids = usable(None);
                if ids.is_empty() {
                    notes.push(format!("no GPU here, the CPU is used alone: {}", there(inventory)));
                }
                ids
            }
            "gpu:all" => all(None)?,
            "cuda:all" => all(Some(Api::Cuda))?,
            "opencl:all" => all(Some(Api::OpenCl))?,
            number if number.parse::<usize>().is_ok() => vec![numbered(inventory, number)?],
            one => vec![one.parse().map_err(|error| {
                usage(format!("{error}; or a number, cpu, gpu:all, cuda:all, opencl:all, all"))
            })?],
        };
        for id in wanted {
            let Some(wanted) = inventory.cards.iter().find(|card| card.info.id == id) else {
                return Err(usage(format!("no device {id} here: {inventory}")));
            };
            match chosen.gpus.iter().find(|used| is_same(used, &wanted.info)) {
                Some(used) if used.id == id => notes.push(format!("{id} is named twice: used once")),
                Some(used) => notes.push(format!("{id} is the same card as {}: used once", used.id)),
                None => chosen.gpus.push(wanted.info.clone()),
            }
        }
    }
    Ok((chosen, notes))
}

/// The GPU with this number in the list of `devices`.
fn numbered(inventory: &Inventory, number: &str) -> Result<DeviceId, Failure> {
    let card = number.parse().ok().and_then(|number: usize| inventory.cards.get(number));
    let last = inventory.cards.len().checked_sub(1);
    card.map(|card| card.info.id).ok_or_else(|| match last {
        Some(last) => usage(format!("no GPU {number} here: expected 0 to {last}, as `devices` lists them")),
        None => usage(format!("no GPU {number} here: {inventory}")),
    })
}

/// What there is, where a list found no GPU.
fn there(inventory: &Inventory) -> String {
    let only_cpus = !inventory.cards.is_empty() && inventory.cards.iter().all(|card| card.info.is_cpu);
    let note = if only_cpus { "; a CPU behind OpenCL is used by its own name only" } else { "" };
    format!("{inventory}{note}")
}

fn is_same(a: &DeviceInfo, b: &DeviceInfo) -> bool {
    a.id == b.id || (a.pci.is_some() && a.pci == b.pci)
}

/// How the devices are to be used.
pub(crate) fn options(args: &DeviceArgs) -> GpuOptions {
    GpuOptions { intensity: args.intensity, ..GpuOptions::default() }
}

/// A worker on a device, which is opened again whenever the worker is made again.
pub(crate) fn worker(
    algorithm: Algorithm,
    id: DeviceId,
    options: GpuOptions,
    setup: &Setup,
    verifier: &Verifier,
) -> WorkerConfig {
    let (setup, verifier) = (setup.clone(), verifier.clone());
    let make: Box<MakeWorker> =
        Box::new(move || Ok((scanner(algorithm, id, options.clone(), &setup)?, verifier.worker()?)));
    WorkerConfig { cpu: None, make }
}

/// The same to be measured, its power too if there is a sensor.
pub(crate) fn measured(algorithm: Algorithm, gpu: &DeviceInfo, options: GpuOptions, setup: &Setup) -> Worker {
    let (id, own) = (gpu.id, setup.clone());
    let scanner = move || scanner(algorithm, id, options.clone(), &own);
    Worker { cpu: None, setup: setup.clone(), scanner: Arc::new(scanner), sensor: watch::sensor(gpu) }
}

/// A scanner on a device.
pub(crate) fn scanner(
    algorithm: Algorithm,
    id: DeviceId,
    options: GpuOptions,
    setup: &Setup,
) -> Result<Box<dyn Scanner>, KernelError> {
    let made = gpu_scanner(algorithm, &gpu::open(id)?, options, setup);
    if let Some(note) = damaged(&KernelCache::user()) {
        eprintln!("{note}");
    }
    made
}

/// What is to be said of kept kernels that were damaged; each once.
fn damaged(cache: &KernelCache) -> Option<String> {
    static SAID: AtomicU64 = AtomicU64::new(0);
    let all = cache.counts().broken;
    let new = all.saturating_sub(SAID.fetch_max(all, Ordering::Relaxed));
    let folder = cache.folder().filter(|_| new > 0)?.display();
    Some(format!("kept kernels that were damaged or unsuited, now made again: {new} in {folder}"))
}

/// What is to be said of a device that makes a dataset; `None` while it does not.
pub(crate) fn making(progress: &Progress) -> Option<String> {
    let (done, total) = (progress.done_bytes(), progress.total_bytes());
    (done < total)
        .then(|| format!("makes its dataset: {} of {}", show::bytes(done >> 20 << 20), show::bytes(total)))
}

/// Does something while a bar shows the dataset that a device makes meanwhile. Raising `interrupted` ends the making.
pub(crate) fn shown<T>(
    progress: &Progress,
    bar: &ProgressBar,
    interrupted: &AtomicBool,
    work: impl FnOnce() -> T,
) -> T {
    let (done, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            while ended.recv_timeout(GLANCE) == Err(RecvTimeoutError::Timeout) {
                if interrupted.load(Ordering::Relaxed) {
                    progress.cancel();
                }
                if let Some(making) = making(progress) {
                    bar.set_position(1000 * progress.done_bytes() / progress.total_bytes());
                    bar.set_message(making);
                }
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// How often somebody looks how far a dataset is.
const GLANCE: Duration = Duration::from_millis(50);

/// What a device is, for a person.
pub(crate) fn line(info: &DeviceInfo) -> String {
    let pci = info.pci.map_or_else(|| "no PCI address".to_owned(), |pci| pci.to_string());
    let cpu = if info.is_cpu { ", a CPU: for tests" } else { "" };
    let (id, name, memory, driver) = (info.id, &info.name, show::bytes(info.memory), &info.driver);
    format!("{id}: {name}, {pci}, {memory}, driver {driver}{cpu}")
}

/// Lines for a person: each device, and each API without one.
pub(crate) fn describe(inventory: &Inventory) -> String {
    let mut text = String::new();
    for Card { info, twin } in &inventory.cards {
        let twin = twin.map_or_else(String::new, |twin| format!(", the same card as {twin}"));
        text += &format!("Device {}{twin}\n", line(info));
    }
    for (api, reason) in &inventory.absent {
        text += &format!("No device for {api}: {reason}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use otedama_core::gpu::{DeviceInfo, PciAddress};

    fn inventory() -> Inventory {
        let card = |id, bus, twin, is_cpu: bool| Card {
            info: DeviceInfo {
                id,
                name: "a card".to_owned(),
                vendor: "somebody".to_owned(),
                driver: "1".to_owned(),
                pci: Some(PciAddress { domain: 0, bus, device: 0 }).filter(|_| !is_cpu),
                memory: 1 << 30,
                max_buffer: 1 << 28,
                units: 1,
                compute: None,
                is_cpu,
            },
            twin,
        };
        let first = DeviceId::Cuda(0);
        let cards = vec![
            card(first, 1, None, false),
            card(DeviceId::OpenCl(0, 0), 1, Some(first), false),
            card(DeviceId::OpenCl(0, 1), 2, None, false),
            card(DeviceId::OpenCl(1, 0), 0, None, true),
        ];
        Inventory { cards, absent: Vec::new() }
    }

    /// Whether the CPU is picked, which devices, and how many notes that makes.
    fn picked(list: &str) -> Result<(bool, Vec<DeviceId>, usize), Failure> {
        let (chosen, notes) = pick(&list.split(',').map(str::to_owned).collect::<Vec<_>>(), &inventory())?;
        Ok((chosen.cpu, chosen.gpus.iter().map(|gpu| gpu.id).collect(), notes.len()))
    }

    #[test]
    fn a_card_named_twice_is_used_once_and_that_is_said() {
        let (first, twin, second) = (DeviceId::Cuda(0), DeviceId::OpenCl(0, 0), DeviceId::OpenCl(0, 1));
        for (list, cpu, gpus, notes) in [
            ("cpu", true, vec![], 0),
            ("cuda:0,cpu", true, vec![first], 0),
            ("cuda:all,opencl:all", false, vec![first, second], 0),
            ("all", true, vec![first, second], 0),
            ("gpu:all", false, vec![first, second], 0),
            ("0,2", false, vec![first, second], 0),
            ("cpu,1,0", true, vec![twin], 1),
            ("cuda:0,opencl:0.0", false, vec![first], 1),
            ("opencl:0.0,cuda:0", false, vec![twin], 1),
            ("opencl:0.1,opencl:0.1", false, vec![second], 1),
            ("opencl:1.0", false, vec![DeviceId::OpenCl(1, 0)], 0),
        ] {
            let found = picked(list).unwrap_or_else(|_| panic!("{list}"));
            assert_eq!(found, (cpu, gpus, notes), "{list}");
        }
        let (alone, notes) = pick(&["all".to_owned()], &Inventory::default()).unwrap();
        assert_eq!((alone.cpu, alone.gpus.len(), notes.len()), (true, 0, 1));
    }

    #[test]
    fn devices_that_are_not_there_are_refused() {
        for list in ["cuda:1", "opencl:9.0", "cpu,gpu", "", "4", "-1"] {
            assert!(picked(list).is_err(), "{list}");
        }
        for list in ["cuda:all", "gpu:all", "0"] {
            assert!(pick(&[list.to_owned()], &Inventory::default()).is_err(), "{list}");
        }
    }
}
