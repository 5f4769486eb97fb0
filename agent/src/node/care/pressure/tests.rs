use super::*;
use manifests::kubelet::Amount;

const TRANSITION: u64 = 300;

fn at(seconds: u64) -> Monotonic {
    Monotonic(Duration::from_secs(1000 + seconds))
}

fn threshold(signal: Signal, value: u64, grace: u64, reclaim: u64) -> Threshold {
    let reclaim = (reclaim > 0).then_some(Amount::Quantity(reclaim));
    Threshold { signal, value: Amount::Quantity(value), grace: Duration::from_secs(grace), reclaim }
}

fn left(amounts: &[(Signal, u64)]) -> Observations {
    let observed = |&(signal, available)| (signal, Observation { available, capacity: 1000 });
    amounts.iter().map(observed).collect()
}

/// The conditions and the signals that act, at each moment.
fn course(thresholds: Vec<Threshold>, moments: &[(u64, u64)]) -> Vec<(bool, bool)> {
    let mut pressure = Pressure::new(thresholds, Duration::from_secs(TRANSITION));
    let mut observe = |&(second, available): &(u64, u64)| {
        let verdict = pressure.observe(&left(&[(Signal::MemoryAvailable, available)]), at(second));
        (verdict.conditions.contains(&Condition::Memory), !verdict.acts.is_empty())
    };
    moments.iter().map(&mut observe).collect()
}

#[test]
fn a_hard_threshold_acts_at_once_and_its_condition_stays() {
    let hard = vec![threshold(Signal::MemoryAvailable, 100, 0, 0)];
    let moments = [(0, 100), (10, 99), (20, 100), (10 + TRANSITION - 1, 500), (10 + TRANSITION, 500), (900, 5)];
    let expected = [(false, false), (true, true), (true, false), (true, false), (false, false), (true, true)];
    assert_eq!(course(hard, &moments), expected);
}

#[test]
fn a_soft_threshold_acts_after_its_grace_without_a_break() {
    let soft = vec![threshold(Signal::MemoryAvailable, 100, 60, 0)];
    let moments = [(0, 50), (59, 50), (60, 50), (61, 150), (62, 50), (121, 50), (122, 50)];
    let expected =
        [(true, false), (true, false), (true, true), (true, false), (true, false), (true, false), (true, true)];
    assert_eq!(course(soft, &moments), expected);
}

#[test]
fn what_has_acted_goes_on_until_it_has_reclaimed() {
    let hard = vec![threshold(Signal::MemoryAvailable, 100, 0, 50)];
    let moments = [(0, 149), (1, 99), (2, 149), (3, 150), (4, 149)];
    let expected = [(false, false), (true, true), (true, true), (true, false), (true, false)];
    assert_eq!(course(hard, &moments), expected);
}

#[test]
fn a_soft_threshold_in_its_grace_reclaims_nothing() {
    let soft = vec![threshold(Signal::MemoryAvailable, 100, 60, 50)];
    let moments = [(0, 99), (30, 120), (31, 99), (91, 99), (92, 149), (93, 150)];
    let expected = [(true, false), (true, false), (true, false), (true, true), (true, true), (true, false)];
    assert_eq!(course(soft, &moments), expected);
}

#[test]
fn without_a_transition_a_condition_goes_with_its_threshold() {
    let mut pressure = Pressure::new(vec![threshold(Signal::PidAvailable, 100, 0, 0)], Duration::ZERO);
    let low = pressure.observe(&left(&[(Signal::PidAvailable, 1)]), at(0));
    assert_eq!(low.conditions, [Condition::Pid].into());
    assert!(pressure.observe(&left(&[(Signal::PidAvailable, 100)]), at(0)).acts.is_empty());
    assert!(pressure.observe(&left(&[(Signal::PidAvailable, 100)]), at(1)).conditions.is_empty());
}

#[test]
fn memory_comes_first() {
    let signals = [Signal::NodefsAvailable, Signal::PidAvailable, Signal::AllocatableMemoryAvailable];
    let thresholds = signals.map(|signal| threshold(signal, 100, 0, 0)).to_vec();
    let mut pressure = Pressure::new(thresholds, Duration::ZERO);
    let verdict = pressure.observe(&left(&signals.map(|signal| (signal, 7))), at(0));
    let order: Vec<_> = verdict.acts.iter().map(|met| met.threshold.signal).collect();
    let expected = [Signal::AllocatableMemoryAvailable, Signal::NodefsAvailable, Signal::PidAvailable];
    assert_eq!(order, expected);
    assert_eq!(verdict.conditions.len(), 3);
    assert!(verdict.acts.iter().all(|met| (met.quantity, met.available) == (100, 7)));
}

#[test]
fn what_cannot_be_observed_is_not_met() {
    let mut pressure = Pressure::new(vec![threshold(Signal::NodefsAvailable, 100, 0, 0)], Duration::ZERO);
    assert_eq!(pressure.observe(&Observations::new(), at(0)), Verdict::default());
}

#[test]
fn percentages_are_of_what_there_is() {
    let part = Threshold {
        value: Amount::Percent(10.0),
        reclaim: Some(Amount::Percent(5.0)),
        ..threshold(Signal::ImagefsAvailable, 0, 0, 0)
    };
    let mut pressure = Pressure::new(vec![part], Duration::ZERO);
    let mut acts = |available, second| {
        let acts = pressure.observe(&left(&[(Signal::ImagefsAvailable, available)]), at(second)).acts;
        acts.first().map(|met| met.quantity)
    };
    assert_eq!([acts(100, 0), acts(99, 1), acts(149, 2), acts(150, 3)], [None, Some(100), Some(100), None]);
}

#[test]
fn relief_is_what_makes_eviction_needless() {
    let mut pressure = Pressure::new(vec![threshold(Signal::NodefsAvailable, 100, 0, 50)], Duration::ZERO);
    let acts = pressure.observe(&left(&[(Signal::NodefsAvailable, 10)]), at(0)).acts;
    for (available, relieved) in [(99, false), (149, false), (150, true)] {
        assert_eq!(Pressure::relieved(&acts, &left(&[(Signal::NodefsAvailable, available)])), relieved, "{available}");
    }
}

#[test]
fn other_thresholds_begin_anew_and_the_same_go_on() {
    let soft = threshold(Signal::MemoryAvailable, 100, 60, 0);
    let mut pressure = Pressure::new(vec![soft], Duration::ZERO);
    let low = left(&[(Signal::MemoryAvailable, 1), (Signal::PidAvailable, 1)]);
    pressure.observe(&low, at(0));
    pressure.reconfigure(vec![threshold(Signal::PidAvailable, 50, 60, 0), soft], Duration::ZERO);
    let acts = pressure.observe(&low, at(60)).acts;
    assert_eq!(acts.iter().map(|met| met.threshold).collect::<Vec<_>>(), [soft]);
}
