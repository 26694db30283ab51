//! Epochs and the store that builds them.

use std::ops::ControlFlow;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use otedama_core::Algorithm;
use otedama_core::algo::ethash::Params;
use otedama_core::algorithm::EpochKind;
use otedama_core::builders::{self, EthashBuilder, ItemsBy};
use otedama_core::cpu::Cpu;
use otedama_core::epoch::{self, Depth, EpochKey, EpochSeed, Progress, SeedBytes, StoreConfig};
use otedama_core::topology::Topology;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyMemoryView};

use crate::error;
use crate::target::algorithm as parse;
use crate::wait::TICK;
use crate::{buffer, wait};

/// Builds epochs, each once, and shares them among threads.
///
/// max_bytes: what all epochs together may take, alive or being built; no limit but the machine's memory if None.
/// threads: how many build a dataset; one for each CPU if None.
/// Epochs stay valid when the store is gone. A context manager: leaving it lets go of what it keeps.
#[pyclass(frozen, module = "otedama")]
pub(crate) struct EpochStore {
    store: Mutex<Option<Arc<epoch::EpochStore>>>,
    max_bytes: Option<u64>,
}

#[pymethods]
impl EpochStore {
    #[new]
    #[pyo3(signature = (max_bytes=None, *, threads=None))]
    fn new(max_bytes: Option<u64>, threads: Option<usize>) -> PyResult<EpochStore> {
        if threads == Some(0) {
            return Err(error::input("threads is 0: expected at least 1"));
        }
        let mut config = StoreConfig::for_machine(&Topology::detect(), max_bytes.unwrap_or(u64::MAX));
        config.threads = threads.unwrap_or(config.threads);
        let store = Mutex::new(Some(Arc::new(epoch::EpochStore::new(config))));
        Ok(EpochStore { store, max_bytes })
    }

    /// The epoch of a number or key, at once if it is there, else after it has been built.
    ///
    /// key: the epoch's number (ethash, etchash, kawpow) or 1 to 60 key bytes, such as a block's hash (randomx);
    /// or, for numbered epochs, height=: the height of a block in it.
    /// depth: "light", the cache that verifying takes (RandomX 256 MiB in some 0.3 s, the Ethash family from
    /// 16 MiB), or "full", the dataset that searching wants as well (GiB, up to minutes).
    /// progress: called on this thread about fifty times a second with the bytes done and the bytes in all; what
    /// it raises ends the build. So does Ctrl-C, within milliseconds.
    /// Raises InputError, EpochError (no memory, max_bytes spent). The GIL is released.
    #[pyo3(signature = (algorithm, key=None, /, *, height=None, depth="light", progress=None))]
    fn get(
        &self,
        py: Python<'_>,
        algorithm: &str,
        key: Option<&Bound<'_, PyAny>>,
        height: Option<u64>,
        depth: &str,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Epoch> {
        let algorithm = parse(algorithm)?;
        let depth = match depth {
            "light" => Depth::Light,
            "full" => Depth::Full,
            other => return Err(error::input(format!("depth is '{other}': expected 'light' or 'full'"))),
        };
        let key = name(algorithm, key, height)?;
        let store = self.inner()?;
        build(py, store, key, depth, progress)
    }

    /// Bytes of all epochs alive or being built, whoever holds them.
    #[getter]
    fn held_bytes(&self) -> PyResult<u64> {
        Ok(self.inner()?.held_bytes())
    }

    /// What it was made with.
    #[getter]
    fn max_bytes(&self) -> Option<u64> {
        self.max_bytes
    }

    /// Lets go of what the store keeps; epochs in use stay valid.
    fn close(&self, py: Python<'_>) {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Unmapping gigabytes takes a while.
        py.detach(|| drop(store));
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) {
        self.close(py);
    }
}

impl EpochStore {
    fn inner(&self) -> PyResult<Arc<epoch::EpochStore>> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner).clone();
        store.ok_or_else(|| error::input("the store is closed: expected an open one"))
    }
}

/// The memory of one epoch: read-only, shared. Obtained from EpochStore.get().
///
/// A context manager: leaving it (or close()) lets go of the memory, which is freed once no job, scanner, engine or
/// memoryview needs it.
#[pyclass(frozen, module = "otedama")]
pub(crate) struct Epoch {
    epoch: Mutex<Option<Arc<epoch::Epoch>>>,
    key: EpochKey,
}

#[pymethods]
impl Epoch {
    /// The algorithm's name. (Early epochs of etchash are ethash's.)
    #[getter]
    fn algorithm(&self) -> &'static str {
        self.key.algorithm.name()
    }

    /// Its number, or its key bytes.
    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.key.seed {
            EpochSeed::Number(number) => Ok(number.into_pyobject(py)?.into_any()),
            EpochSeed::Bytes(bytes) => Ok(PyBytes::new(py, &bytes).into_any()),
        }
    }

    /// "light" or "full".
    #[getter]
    fn depth(&self) -> PyResult<&'static str> {
        Ok(depth_name(self.inner()?.depth()))
    }

    /// The light cache: a read-only memoryview of its bytes, without a copy. It keeps the memory alive.
    #[getter]
    fn cache<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyMemoryView>>> {
        buffer::view(py, self.inner()?, Depth::Light)
    }

    /// The dataset likewise; None if the epoch was obtained without.
    #[getter]
    fn dataset<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyMemoryView>>> {
        buffer::view(py, self.inner()?, Depth::Full)
    }

    /// Lets go of the memory.
    fn close(&self, py: Python<'_>) {
        let epoch = self.epoch.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Unmapping gigabytes takes a while.
        py.detach(|| drop(epoch));
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        let depth = self.depth().unwrap_or("closed");
        format!("<otedama.Epoch {}: {depth}>", self.key)
    }
}

impl Epoch {
    /// The epoch itself.
    ///
    /// # Errors
    /// If it was closed.
    pub(crate) fn inner(&self) -> PyResult<Arc<epoch::Epoch>> {
        let epoch = self.epoch.lock().unwrap_or_else(PoisonError::into_inner).clone();
        epoch.ok_or_else(|| error::epoch(format!("{} is closed: expected an open epoch", self.key)))
    }
}

/// How Python calls a depth.
pub(crate) fn depth_name(depth: Depth) -> &'static str {
    match depth {
        Depth::Light => "light",
        Depth::Full => "full",
    }
}

/// Builds on a thread of its own, so that this one can call back and see signals.
fn build(
    py: Python<'_>,
    store: Arc<epoch::EpochStore>,
    key: EpochKey,
    depth: Depth,
    callback: Option<&Bound<'_, PyAny>>,
) -> PyResult<Epoch> {
    let builder = builders::builder(key.algorithm, &Cpu::detect(), ItemsBy::Compiler)
        .ok_or_else(|| error::input(format!("{} has no epochs", key.algorithm)))?;
    let progress = Progress::new();
    let (done, outcome) = mpsc::channel();
    let watched = progress.clone();
    let work = move || {
        // Nobody waits any more if the build was given up.
        let _ = done.send(store.get(&builder, &key, depth, &watched));
    };
    let thread =
        thread::Builder::new().name("otedama-build".to_owned()).spawn(work).map_err(error::device)?;
    let outcome = Mutex::new(outcome);
    let watch = || loop {
        let answer = wait::interruptible(py, || {
            let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            ControlFlow::Break(outcome.recv_timeout(TICK))
        })?;
        match answer {
            Ok(outcome) => return outcome.map_err(error::building),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(error::epoch(format!(
                    "building {key} panicked; this is a bug, please report it"
                )));
            }
            Err(RecvTimeoutError::Timeout) => {
                py.check_signals()?;
                if let Some(callback) = callback {
                    callback.call1((progress.done_bytes(), progress.total_bytes()))?;
                }
            }
        }
    };
    let built = watch();
    if built.is_err() {
        progress.cancel();
    }
    // It has sent its answer, or sees within milliseconds that it was cancelled.
    let _ = py.detach(|| thread.join());
    let epoch = built?;
    if let Some(callback) = callback {
        callback.call1((progress.done_bytes(), progress.total_bytes()))?;
    }
    let key = *epoch.key();
    Ok(Epoch { epoch: Mutex::new(Some(epoch)), key })
}

/// The key of the epoch that was asked for.
fn name(algorithm: Algorithm, key: Option<&Bound<'_, PyAny>>, height: Option<u64>) -> PyResult<EpochKey> {
    match algorithm.spec().epoch {
        EpochKind::None => Err(error::input(format!("{algorithm} has no epochs"))),
        EpochKind::Blocks(_) => {
            let params =
                Params::of(algorithm).ok_or_else(|| error::input(format!("{algorithm} has no epochs")))?;
            let epoch = match (key, height) {
                (None, Some(height)) => params.epoch_at(height),
                (Some(key), None) => params.epoch(
                    key.cast::<PyInt>().ok().and_then(|number| number.extract::<u32>().ok()).ok_or_else(
                        || {
                            error::input(format!(
                                "{algorithm} key is {key}: expected an epoch's number, 0 or more"
                            ))
                        },
                    )?,
                ),
                _ => {
                    return Err(error::input(format!(
                        "{algorithm} needs an epoch's number or height=: expected one of the two"
                    )));
                }
            };
            Ok(EthashBuilder::key(&epoch.map_err(error::input)?))
        }
        EpochKind::Key => {
            let expected = || format!("expected 1 to {} bytes, such as a block's hash", SeedBytes::MAX);
            if height.is_some() {
                return Err(error::input(format!("{algorithm} has no epochs of blocks: leave height out")));
            }
            let key = key.ok_or_else(|| error::input(format!("{algorithm} needs a key: {}", expected())))?;
            let lent = buffer::Lent::new("key", key)?;
            if lent.bytes().is_empty() {
                return Err(error::input(format!("key is empty: {}", expected())));
            }
            EpochKey::bytes(algorithm, lent.bytes())
                .map_err(|error| error::input(format!("{error}; {}", expected())))
        }
    }
}
