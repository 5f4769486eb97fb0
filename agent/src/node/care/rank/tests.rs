use super::*;

const MI: u64 = 1 << 20;

fn pod(uid: &str, change: impl FnOnce(&mut Candidate, &mut Usage)) -> Candidate {
    let mut usage = Usage::default();
    let mut pod = Candidate { uid: uid.to_owned(), priority: 0, request: Request::default(), usage: None };
    change(&mut pod, &mut usage);
    pod.usage = Some(usage);
    pod
}

fn order(pods: Vec<Candidate>, signal: Signal, images_apart: bool) -> String {
    let mut turned = pods.clone();
    turned.reverse();
    let uids = |pods| rank(pods, signal, images_apart).into_iter().map(|pod| pod.uid).collect::<Vec<_>>().join(" ");
    let order = uids(pods);
    assert_eq!(order, uids(turned), "the order does not depend on the one in which they come");
    order
}

fn memory(uid: &str, priority: i32, request: u64, usage: u64) -> Candidate {
    pod(uid, |pod, used| {
        pod.priority = priority;
        pod.request.memory = request * MI;
        used.memory = usage * MI;
    })
}

#[test]
fn memory_is_taken_from_who_is_above_its_request() {
    for (why, pods, expected) in [
        ("above the request first", vec![memory("within", 0, 500, 499), memory("above", 0, 10, 11)], "above within"),
        ("further above first", vec![memory("by-1", 0, 10, 11), memory("by-90", 0, 10, 100)], "by-90 by-1"),
        (
            "the priority counts before the amount",
            vec![memory("high", 10, 0, 900), memory("low", -1, 0, 1)],
            "low high",
        ),
        (
            "and after the request",
            vec![memory("high-above", 1000, 10, 11), memory("low-within", 0, 20, 20)],
            "high-above low-within",
        ),
        ("exactly the request is within", vec![memory("equal", 0, 20, 20), memory("none", 0, 0, 1)], "none equal"),
        (
            "of those within, who is nearest to its request",
            vec![memory("far", 0, 900, 100), memory("near", 0, 110, 100)],
            "near far",
        ),
        (
            "all together",
            vec![
                memory("guaranteed", 0, 300, 200),
                memory("best-effort", 0, 0, 200),
                memory("burstable-above", 0, 100, 200),
                memory("burstable-within", 0, 250, 200),
            ],
            "best-effort burstable-above burstable-within guaranteed",
        ),
    ] {
        for signal in [Signal::MemoryAvailable, Signal::AllocatableMemoryAvailable] {
            assert_eq!(order(pods.clone(), signal, false), expected, "{why}");
        }
    }
}

#[test]
fn a_pod_of_which_nothing_is_known_goes_first_and_a_critical_one_never() {
    let unknown = Candidate { usage: None, ..memory("unknown", 100, 0, 0) };
    let pods = vec![
        memory("a", 0, 0, 900),
        unknown,
        memory("critical", CRITICAL, 0, 900),
        memory("node", CRITICAL + 1000, 0, 1),
        memory("almost", CRITICAL - 1, 0, 900),
    ];
    for signal in [Signal::MemoryAvailable, Signal::NodefsAvailable, Signal::PidAvailable] {
        assert_eq!(order(pods.clone(), signal, false), "unknown a almost", "{signal:?}");
    }
}

fn disk(uid: &str, request: u64, layers: (u64, u64), files: (u64, u64)) -> Candidate {
    pod(uid, |pod, used| {
        pod.request.ephemeral_storage = request * MI;
        used.layers = Disk { bytes: layers.0 * MI, inodes: layers.1 };
        used.files = Disk { bytes: files.0 * MI, inodes: files.1 };
    })
}

#[test]
fn a_disk_is_taken_from_who_fills_that_disk() {
    let pods = vec![
        disk("layers", 0, (300, 5), (1, 1)),
        disk("logs", 0, (1, 1), (200, 100)),
        disk("both", 0, (150, 60), (160, 60)),
    ];
    for (signal, apart, expected) in [
        (Signal::NodefsAvailable, false, "both layers logs"),
        (Signal::ImagefsAvailable, false, "both layers logs"),
        (Signal::NodefsAvailable, true, "logs both layers"),
        (Signal::ImagefsAvailable, true, "layers both logs"),
        (Signal::NodefsInodesFree, false, "both logs layers"),
        (Signal::NodefsInodesFree, true, "logs both layers"),
        (Signal::ImagefsInodesFree, true, "both layers logs"),
    ] {
        assert_eq!(order(pods.clone(), signal, apart), expected, "{signal:?}, images apart: {apart}");
    }
}

#[test]
fn a_disk_can_be_asked_for_and_files_cannot() {
    let pods = vec![disk("asked", 500, (400, 9), (0, 0)), disk("did-not", 0, (1, 1), (0, 0))];
    assert_eq!(order(pods.clone(), Signal::NodefsAvailable, false), "did-not asked");
    assert_eq!(order(pods, Signal::NodefsInodesFree, false), "asked did-not");
}

#[test]
fn process_ids_are_taken_by_priority_and_number() {
    let many = |uid: &str, priority, processes| {
        pod(uid, |pod, used| {
            pod.priority = priority;
            used.processes = processes;
        })
    };
    let pods = vec![many("few", 0, 2), many("many", 0, 5000), many("low", -5, 1), many("high", 5, 90_000)];
    assert_eq!(order(pods, Signal::PidAvailable, false), "low many few high");
}

#[test]
fn no_pod_goes_for_nothing() {
    let usage = |memory, layers, files| Usage {
        memory,
        processes: 1,
        layers: Disk { bytes: layers, inodes: 1 },
        files: Disk { bytes: files, inodes: 0 },
    };
    for (signal, apart, usage, lacking, helps) in [
        (Signal::MemoryAvailable, false, usage(1000, 0, 0), 1_000_000, true),
        (Signal::MemoryAvailable, false, usage(999, 0, 0), 1_000_000, false),
        (Signal::MemoryAvailable, false, usage(0, 0, 0), 0, false),
        (Signal::NodefsAvailable, false, usage(0, 600, 400), 1_000_000, true),
        (Signal::NodefsAvailable, true, usage(0, 600, 400), 1_000_000, false),
        (Signal::ImagefsAvailable, true, usage(0, 1000, 0), 1_000_000, true),
        (Signal::NodefsInodesFree, true, usage(0, 0, 9999), 1, false),
        (Signal::PidAvailable, false, usage(0, 0, 0), 100, true),
    ] {
        assert_eq!(super::helps(Some(&usage), signal, apart, lacking), helps, "{signal:?} {usage:?}");
    }
    assert!(super::helps(None, Signal::MemoryAvailable, false, u64::MAX), "what is unknown may help");
}
