//! How long pods get when the node's agent takes them down with it, as kubelet reads it.

use std::time::Duration;

use super::ShutdownStep;
use super::settings::Checker;
use super::types::KubeletConfiguration;
use crate::path::Path;

/// The priority of a pod that says nothing.
const DEFAULT: i32 = 0;

/// The priority from which on a pod is critical.
const CRITICAL: i32 = 2_000_000_000;

/// The steps, by priority from low to high; none when nothing is said.
pub(super) fn of(raw: &KubeletConfiguration, checker: &mut Checker<'_, '_>) -> Vec<ShutdownStep> {
    let whole = period("shutdownGracePeriod", &raw.shutdown_grace_period, checker);
    let critical = period("shutdownGracePeriodCriticalPods", &raw.shutdown_grace_period_critical_pods, checker);
    if critical > whole {
        let help = "it is the part of shutdownGracePeriod that critical pods get".to_owned();
        let path = Path::default().field("shutdownGracePeriodCriticalPods");
        checker.error(&path, "it is more than `shutdownGracePeriod`", Some(help));
    }
    let mut steps = by_priority(raw, checker);
    if steps.is_empty() && !whole.is_zero() {
        let step = |priority, grace| ShutdownStep { priority, grace };
        return vec![step(DEFAULT, whole.saturating_sub(critical)), step(CRITICAL, critical)];
    }
    if !steps.is_empty() && !whole.is_zero() {
        let path = Path::default().field("shutdownGracePeriodByPodPriority");
        checker.error(&path, "it cannot stand beside `shutdownGracePeriod`", Some("leave one of them out".into()));
    }
    steps.sort_by_key(|step| step.priority);
    steps
}

fn by_priority(raw: &KubeletConfiguration, checker: &mut Checker<'_, '_>) -> Vec<ShutdownStep> {
    let mut steps: Vec<ShutdownStep> = Vec::new();
    for (index, step) in raw.shutdown_grace_period_by_pod_priority.iter().flatten().enumerate() {
        let path = Path::default().field("shutdownGracePeriodByPodPriority").index(index);
        let Ok(seconds) = u64::try_from(step.shutdown_grace_period_seconds) else {
            checker.error(&path.field("shutdownGracePeriodSeconds"), "it is negative", None);
            continue;
        };
        if steps.iter().any(|known| known.priority == step.priority) {
            checker.error(&path.field("priority"), format!("`{}` is there twice", step.priority), None);
        }
        steps.push(ShutdownStep { priority: step.priority, grace: Duration::from_secs(seconds) });
    }
    steps
}

/// A time that is none, or at least a second.
fn period(name: &str, text: &Option<String>, checker: &mut Checker<'_, '_>) -> Duration {
    let least = Duration::from_secs(1);
    let period = checker.duration(name, text).unwrap_or_default();
    if !period.is_zero() && period < least {
        checker.error(&Path::default().field(name), "it is less than 1s", None);
    }
    // Kubelet counts whole seconds.
    Duration::from_secs(period.as_secs())
}
