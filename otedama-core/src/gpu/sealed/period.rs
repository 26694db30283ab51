//! KawPow's programs: one kernel for each period, the next one compiled while the present one runs.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use otedama_kernels::{KAWPOW, KAWPOW_PERIOD, KAWPOW_TEMPLATE};

use crate::algo::kawpow::{Program, period_text, ptx_text};
use crate::gpu::{Gpu, GpuError, Kernel};

/// Kernels that are kept: the present period's, the next one's, and the one before for work that comes late.
const KEPT: usize = 3;

/// A period's kernel is one of a number of parts that the DAG lies in.
type Which = (u64, u32);

/// The kernels of some periods.
pub(super) struct Periods {
    gpu: Arc<dyn Gpu>,
    /// The most recently used last.
    ready: Vec<(Which, Kernel)>,
    coming: Option<(Which, JoinHandle<Result<Kernel, GpuError>>)>,
}

impl Periods {
    pub(super) fn new(gpu: &Arc<dyn Gpu>) -> Periods {
        Periods { gpu: Arc::clone(gpu), ready: Vec::new(), coming: None }
    }

    /// Makes a period's kernel ready, which is there already if [`Periods::prepare`] was asked for it in time.
    ///
    /// # Errors
    /// The compiler's.
    pub(super) fn load(&mut self, period: u64, parts: u32) -> Result<(), GpuError> {
        let which = (period, parts);
        if let Some(index) = self.ready.iter().position(|(ready, _)| *ready == which) {
            let used = self.ready.remove(index);
            self.ready.push(used);
            return Ok(());
        }
        let kernel = match self.coming.take_if(|(coming, _)| *coming == which) {
            // A compiler that panicked is asked again, here.
            Some((_, thread)) => {
                thread.join().unwrap_or_else(|_| compile(self.gpu.as_ref(), period, parts))?
            }
            None => compile(self.gpu.as_ref(), period, parts)?,
        };
        self.ready.push((which, kernel));
        if self.ready.len() > KEPT {
            self.ready.remove(0);
        }
        Ok(())
    }

    /// The kernel that was loaded last.
    pub(super) fn kernel(&self) -> Option<&Kernel> {
        self.ready.last().map(|(_, kernel)| kernel)
    }

    /// Compiles a period's kernel on a thread of its own. Without a thread it is compiled when it is needed.
    pub(super) fn prepare(&mut self, period: u64, parts: u32) {
        let which = (period, parts);
        if self.ready.iter().any(|(ready, _)| *ready == which)
            || self.coming.as_ref().is_some_and(|(coming, _)| *coming == which)
        {
            return;
        }
        let gpu = Arc::clone(&self.gpu);
        let thread = thread::Builder::new()
            .name("otedama-period".to_owned())
            .spawn(move || compile(gpu.as_ref(), period, parts));
        // What was coming and was not wanted ends by itself.
        self.coming = thread.ok().map(|thread| (which, thread));
    }
}

/// The period's kernel: compiled from the printed program, or without a compiler assembled from its PTX.
fn compile(gpu: &dyn Gpu, period: u64, parts: u32) -> Result<Kernel, GpuError> {
    let program = Program::of_period(period);
    let name = format!("kawpow period {period}");
    let text = KAWPOW.text_with(Some((KAWPOW_PERIOD, &period_text(&program))));
    let parts = ("OTD_DAG_PARTS", parts.into());
    let (group, defines) =
        if gpu.info().is_cpu { (32, vec![parts, ("OTD_BLOCK", 32)]) } else { (256, vec![parts]) };
    let compiled = match gpu.compile(&name, &text, &defines) {
        Err(error @ GpuError::NoCompiler { .. }) => {
            let template = otedama_kernels::ptx(KAWPOW_TEMPLATE.name, &defines);
            let assembled = template.and_then(|template| ptx_text(template, &program).ok());
            gpu.assemble(&name, &assembled.ok_or(error)?)
        }
        compiled => compiled,
    };
    compiled?.kernel("kawpow_search", group)
}
