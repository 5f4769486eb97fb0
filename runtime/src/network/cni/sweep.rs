//! What is left of pods that are gone, and whether those that are there are still connected.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::attach::{alone, check, release};
use super::{cache, chain, ready};
use crate::collect::CollectReport;
use crate::core::Core;
use crate::error::Result;
use crate::ids::Owner;
use crate::sandbox;

/// How often what is left is looked for while pods come.
const PERIOD: Duration = Duration::from_secs(30);

/// Has plug-ins take back what they did for sandboxes that are gone: killed on the way, ended with another boot, or not
/// let go of when they should have been.
pub fn sweep(core: &Core) -> Result<Vec<(String, Result<()>)>> {
    let mut done = Vec::new();
    // A sandbox has its directory from before until after it has an attachment.
    for id in cache::all(core)?.into_iter().filter(|id| !core.sandbox_dir(id).exists()) {
        done.extend(release(core, &id)?);
    }
    Ok(done)
}

/// The same on a thread of its own, now and then: nobody waits for it.
pub fn sweep_beside(core: &Arc<Core>) {
    {
        let mut swept = core.network.cni.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.is_some_and(|it| it.elapsed() < PERIOD) {
            return;
        }
        *swept = Some(Instant::now());
    }
    beside(core, |core| match sweep(core) {
        Ok(done) => done.into_iter().for_each(|(pod, outcome)| match outcome {
            Ok(()) => tracing::info!(pod, "what was left of a pod that is gone was disconnected"),
            Err(error) => tracing::warn!(pod, %error, "what is left of a pod that is gone is still connected"),
        }),
        Err(error) => tracing::warn!(%error, "what is left of pods that are gone cannot be looked for"),
    });
}

/// Asks plug-ins whether the pods of an owner are connected as they were, and tells where not. Nobody waits for it.
pub fn check_all(core: &Arc<Core>, owner: &Owner) {
    let owner = owner.clone();
    beside(core, move |core| {
        let records = sandbox::all(core).unwrap_or_default();
        for record in records.iter().filter(|it| it.owner == owner && it.cni.is_some() && it.is_ready(core)) {
            if let Err(error) = check(core, &record.id) {
                let pod = format!("{}/{}", record.request.namespace, record.request.name);
                tracing::warn!(pod, %error, "a pod is not connected as it was; restart it");
            }
        }
    });
}

fn beside(core: &Arc<Core>, work: impl FnOnce(&Core) + Send + 'static) {
    let core = Arc::clone(core);
    if let Err(error) = std::thread::Builder::new().name("cni".into()).spawn(move || work(&core)) {
        tracing::warn!(%error, "no thread for CNI plug-ins can be started");
    }
}

/// For `gc`: the same, and whatever plug-ins hold for none of the pods that are there.
pub fn collect(core: &Core, report: &mut CollectReport) -> Result<()> {
    for (pod, outcome) in sweep(core)? {
        let what = format!("what CNI plug-ins had done for pod {pod}");
        match outcome {
            Ok(()) => report.removed.push(what),
            Err(error) => report.failed.push((what, error.to_string())),
        }
    }
    let options = &core.options.network.cni;
    let list = match ready::current(core) {
        Ok(Some(list)) => list,
        Ok(None) => return Ok(()),
        Err(error) => {
            tracing::debug!(%error, "no CNI plug-in is asked to collect");
            return Ok(());
        }
    };
    if !chain::collects(&list) {
        return Ok(());
    }
    let _alone = alone(core)?;
    let valid: BTreeSet<String> = cache::all(core)?.into_iter().collect();
    let valid: Vec<String> = valid.into_iter().collect();
    match chain::gc(&list, &options.bin_dirs, options.time_limit, &valid) {
        Ok(()) => {}
        Err(error) => {
            report.failed.push((format!("what CNI network {} holds for nobody", list.name), error.to_string()))
        }
    }
    Ok(())
}
