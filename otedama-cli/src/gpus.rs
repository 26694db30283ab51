//! Which devices work: what `--device` says, and what there is.

use otedama_core::engine::{MakeWorker, WorkerConfig};
use otedama_core::gpu::{self, Api, Card, DeviceId, Inventory};
use otedama_core::scan::{GpuOptions, Setup, gpu_scanner};
use otedama_core::{Algorithm, Verifier};

use crate::failure::{Failure, usage};
use crate::show;

/// The devices asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Whether the CPU is among them.
    pub(crate) cpu: bool,
    /// The others, each once.
    pub(crate) gpus: Vec<DeviceId>,
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
    let card = |id| inventory.cards.iter().find(|card| card.info.id == id);
    for name in list {
        let all = |api| {
            let usable = |card: &&Card| card.info.id.api() == api && card.twin.is_none() && !card.info.is_cpu;
            let all: Vec<_> = inventory.cards.iter().filter(usable).map(|card| card.info.id).collect();
            if all.is_empty() {
                Err(usage(format!("no device for {name} here: {inventory}")))
            } else {
                Ok(all)
            }
        };
        let wanted = match name.as_str() {
            "cpu" => {
                chosen.cpu = true;
                continue;
            }
            "cuda:all" => all(Api::Cuda)?,
            "opencl:all" => all(Api::OpenCl)?,
            one => vec![one.parse().map_err(usage)?],
        };
        for id in wanted {
            let Some(wanted) = card(id) else {
                return Err(usage(format!("no device {id} here: {inventory}")));
            };
            let same =
                |&&used: &&DeviceId| used == id || card(used).is_some_and(|used| is_same(used, wanted));
            match chosen.gpus.iter().find(same) {
                Some(used) => notes.push(format!("{id} is the same card as {used}: used once")),
                None => chosen.gpus.push(id),
            }
        }
    }
    Ok((chosen, notes))
}

fn is_same(a: &Card, b: &Card) -> bool {
    a.info.pci.is_some() && a.info.pci == b.info.pci
}

/// A worker on a device, which is opened again whenever the worker is made again.
pub(crate) fn worker(algorithm: Algorithm, id: DeviceId, setup: &Setup, verifier: &Verifier) -> WorkerConfig {
    let (setup, verifier) = (setup.clone(), verifier.clone());
    let make: Box<MakeWorker> = Box::new(move || {
        let gpu = gpu::open(id)?;
        Ok((gpu_scanner(algorithm, &gpu, GpuOptions::default(), &setup)?, verifier.worker()?))
    });
    WorkerConfig { cpu: None, make }
}

/// Lines for a person: each device, and each API without one.
pub(crate) fn describe(inventory: &Inventory) -> String {
    let mut text = String::new();
    for Card { info, twin } in &inventory.cards {
        let pci = info.pci.map_or_else(|| "no PCI address".to_owned(), |pci| pci.to_string());
        let twin = twin.map_or_else(String::new, |twin| format!(", the same card as {twin}"));
        let cpu = if info.is_cpu { ", a CPU: for tests" } else { "" };
        let (id, name, memory, driver) = (info.id, &info.name, show::bytes(info.memory), &info.driver);
        text += &format!("Device {id}: {name}, {pci}, {memory}, driver {driver}{cpu}{twin}\n");
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

    fn picked(list: &str) -> Result<(Chosen, Vec<String>), Failure> {
        pick(&list.split(',').map(str::to_owned).collect::<Vec<_>>(), &inventory())
    }

    #[test]
    fn a_card_named_twice_is_used_once_and_that_is_said() {
        let (first, twin, second) = (DeviceId::Cuda(0), DeviceId::OpenCl(0, 0), DeviceId::OpenCl(0, 1));
        for (list, cpu, gpus, notes) in [
            ("cpu", true, vec![], 0),
            ("cuda:0,cpu", true, vec![first], 0),
            ("cuda:all,opencl:all", false, vec![first, second], 0),
            ("cuda:0,opencl:0.0", false, vec![first], 1),
            ("opencl:0.0,cuda:0", false, vec![twin], 1),
            ("opencl:0.1,opencl:0.1", false, vec![second], 1),
            ("opencl:1.0", false, vec![DeviceId::OpenCl(1, 0)], 0),
        ] {
            let (chosen, said) = picked(list).unwrap_or_else(|_| panic!("{list}"));
            assert_eq!((chosen, said.len()), (Chosen { cpu, gpus }, notes), "{list}: {said:?}");
        }
    }

    #[test]
    fn devices_that_are_not_there_are_refused() {
        for list in ["cuda:1", "opencl:9.0", "cpu,gpu", ""] {
            assert!(picked(list).is_err(), "{list}");
        }
        assert!(pick(&["cuda:all".to_owned()], &Inventory::default()).is_err());
    }
}
