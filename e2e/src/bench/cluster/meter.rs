//! What every benchmark says of the control plane, from one moment to another: CPU time, memory, what a probe received, and the
//! statuses that it wrote.

use super::{
    BenchError,
    probe::{Probe, Traffic},
    report::{Report, count},
    site::Site,
};
use crate::bench::figures::mib;

/// See the module. The probe, if there is one, and the process must be the same at both moments.
pub(super) struct Meter<'p> {
    cpu: f64,
    /// Not known of another implementation, whose metrics have other names.
    status_writes: Option<f64>,
    probe: Option<(&'p Probe, Traffic)>,
}

impl<'p> Meter<'p> {
    /// From now on.
    pub(super) async fn start(site: &Site, probe: Option<&'p Probe>) -> Result<Self, BenchError> {
        let status_writes = status_writes(site).await?;
        let probe = probe.map(|probe| (probe, probe.traffic()));
        // Last: reading metrics is no part of what is measured.
        Ok(Self { cpu: site.cpu()?, status_writes, probe })
    }

    /// What was spent until now, into the report: `cpu_seconds`, `bytes`, `status_writes`; with them `resident_mib` as it is now and
    /// `peak_mib`, the most that the process ever had.
    pub(super) async fn stop(self, site: &Site, report: &mut Report) -> Result<(), BenchError> {
        report.figure("cpu_seconds", site.cpu()? - self.cpu);
        if let Some((probe, before)) = self.probe {
            report.figure("bytes", count(probe.traffic().since(&before).bytes));
        }
        if let (Some(before), Some(after)) = (self.status_writes, status_writes(site).await?) {
            report.figure("status_writes", after - before);
        }
        if let Some(memory) = site.memory()? {
            report.figure("resident_mib", mib(memory.resident));
            report.figure("peak_mib", mib(memory.peak));
        }
        Ok(())
    }
}

/// Of all objects, those that were refused included.
async fn status_writes(site: &Site) -> Result<Option<f64>, BenchError> {
    Ok(site.metrics().await?.map(|metrics| metrics.sum("portolan_status_writes_total", "")))
}
