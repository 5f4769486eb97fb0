//! Thresholds of eviction, as kubelet reads them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::settings::Checker;
use super::types::KubeletConfiguration;
use super::{Amount, Eviction, Signal, Threshold};
use crate::path::Path;
use crate::quantity::Quantity;
use crate::suggest::{clip, nearest};

type Texts = BTreeMap<String, String>;

/// The settings of eviction.
pub(super) fn of(raw: &KubeletConfiguration, checker: &mut Checker<'_, '_>) -> Eviction {
    let default = Eviction::default();
    let graces = graces(raw.eviction_soft_grace_period.as_ref(), checker);
    let reclaims = amounts("evictionMinimumReclaim", raw.eviction_minimum_reclaim.as_ref(), checker);
    let mut thresholds = hard(raw, &default, checker);
    for (signal, value) in amounts("evictionSoft", raw.eviction_soft.as_ref(), checker) {
        let grace = graces.get(&signal).copied();
        if grace.is_none() {
            let path = Path::default().field("evictionSoft").key(signal.name());
            let help = format!("add `{}` to `evictionSoftGracePeriod`", signal.name());
            checker.error(&path, "a soft threshold needs a grace period", Some(help));
        }
        thresholds.extend(value.map(|value| Threshold {
            signal,
            value,
            grace: Some(grace.unwrap_or_default()),
            minimum_reclaim: None,
        }));
    }
    for threshold in &mut thresholds {
        threshold.minimum_reclaim = reclaims.get(&threshold.signal).copied().flatten();
    }
    Eviction {
        thresholds,
        transition_period: checker.period(
            "evictionPressureTransitionPeriod",
            &raw.eviction_pressure_transition_period,
            default.transition_period,
        ),
        max_pod_grace: checker.number(
            "evictionMaxPodGracePeriod",
            raw.eviction_max_pod_grace_period,
            (0, i32::MAX),
            default.max_pod_grace,
        ),
    }
}

/// Those that are written replace the default ones, all of them unless `mergeDefaultEvictionSettings` says otherwise.
fn hard(raw: &KubeletConfiguration, default: &Eviction, checker: &mut Checker<'_, '_>) -> Vec<Threshold> {
    let Some(written) = raw.eviction_hard.as_ref().filter(|it| !it.is_empty()) else {
        return default.thresholds.clone();
    };
    let written = amounts("evictionHard", Some(written), checker);
    let merge = raw.merge_default_eviction_settings == Some(true);
    let kept = default.thresholds.iter().filter(|it| merge && !written.contains_key(&it.signal)).copied();
    let own = written.iter().filter_map(|(signal, value)| {
        value.map(|value| Threshold { signal: *signal, value, grace: None, minimum_reclaim: None })
    });
    let mut thresholds: Vec<Threshold> = kept.chain(own).collect();
    thresholds.sort_by_key(|it| it.signal);
    thresholds
}

fn signal(path: &Path, name: &str, checker: &mut Checker<'_, '_>) -> Option<Signal> {
    let known = Signal::ALL.into_iter().find(|signal| signal.name() == name);
    if known.is_none() {
        let names = Signal::ALL.map(Signal::name);
        let help = if name.starts_with("containerfs.") {
            "containers' own files lie with the pods': `nodefs` is both".to_owned()
        } else {
            match nearest(name, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("what there is: {}", names.join(", ")),
            }
        };
        checker.error(path, format!("there is no signal `{}`", clip(name)), Some(help));
    }
    known
}

fn graces(texts: Option<&Texts>, checker: &mut Checker<'_, '_>) -> BTreeMap<Signal, Duration> {
    let mut graces = BTreeMap::new();
    for (name, text) in texts.into_iter().flatten() {
        let path = Path::default().field("evictionSoftGracePeriod").key(name);
        let grace = checker.duration_at(&path, Some(text));
        if let (Some(signal), Some(grace)) = (signal(&path, name, checker), grace) {
            graces.insert(signal, grace);
        }
    }
    graces
}

/// `0%` and `100%` switch a signal off.
fn amounts(field: &str, texts: Option<&Texts>, checker: &mut Checker<'_, '_>) -> BTreeMap<Signal, Option<Amount>> {
    let mut amounts = BTreeMap::new();
    for (name, text) in texts.into_iter().flatten() {
        let path = Path::default().field(field).key(name);
        let amount = amount(text);
        if let Err(message) = &amount {
            checker.error(&path, message.clone(), Some("write it as 100Mi or 10%".into()));
        }
        if let (Some(signal), Ok(amount)) = (signal(&path, name, checker), amount) {
            amounts.insert(signal, amount);
        }
    }
    amounts
}

fn amount(text: &str) -> Result<Option<Amount>, String> {
    if matches!(text, "0%" | "100%") {
        return Ok(None);
    }
    match text.strip_suffix('%') {
        Some(number) => match number.parse::<f64>() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Some(Amount::Percent(percent))),
            _ => Err(format!("`{}` is no percentage from 0% to 100%", clip(text))),
        },
        None => match text.parse::<Quantity>() {
            Ok(amount) if amount.nano() > 0 => Ok(Some(Amount::Quantity(amount.units().unsigned_abs()))),
            Ok(_) => Err(format!("`{}` is not more than 0", clip(text))),
            Err(error) => Err(error.to_string()),
        },
    }
}
