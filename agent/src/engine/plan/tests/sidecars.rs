//! Sidecars: started in their turn, kept beside the containers whatever the policy, stopped after them in reverse.

use super::*;

#[test]
fn they_start_in_turn_and_are_kept() {
    let rows = [
        ("S0", "start s 0", "Pending"),
        ("S0 s0=run", "start t 0", "Pending"),
        ("S0 s0=3", "start s 1", "Pending"),
        ("S0 s0=0", "start s 1", "Pending"),
        ("S0 s0=run t0=run", "start i 0", "Pending"),
        ("S0 s0=3 t0=run", "start s 1; start i 0", "Pending"),
        ("S0 s0=run t0=3", "start t 1", "Pending"),
        ("S0 s0=3 t0=3", "start s 1; start t 1", "Pending"),
        ("S0 s0=run t0=run i0=run", "", "Pending"),
        ("S0 s0=run t0=3 i0=run", "start t 1", "Pending"),
        ("S0 s0=3 t0=run i0=0", "start s 1; start a 0; start b 0", "Pending"),
        ("S0 s0=run t0=run i0=0", "start a 0; start b 0", "Pending"),
        ("S0 s0=run t0=run i0=0 a0=run b0=run", "", "Running"),
        ("S0 s0=0 t0=run i0=0 a0=run b0=run", "start s 1", "Running"),
        ("S0 s0=3 t0=? i0=0 a0=run b0=run", "start s 1; start t 1", "Running"),
        ("S0 s0=new t0=run i0=0 a0=run b0=run", "rm s0; start s 0", "Running"),
        ("S0 a0=run b0=run", "start s 0; start t 0", "Running"),
    ];
    for policy in ["Always", "OnFailure", "Never"] {
        table(&format!("{policy} s+ t+ i | a b"), &rows);
    }
}

#[test]
fn they_do_not_keep_a_pod_whose_containers_are_through() {
    let through = [
        ("S0 s0=run t0=run i0=0 a0=0 b0=0", "stop t0 in 30; hold s0 in 30", "Running"),
        ("S0 s0=run t0=0 i0=0 a0=0 b0=0", "stop s0 in 30", "Running"),
        ("S0 s0=0 t0=0 i0=0 a0=0 b0=0", "stop-sandbox s0", "Succeeded"),
        // How they end is not how the pod ends.
        ("S0 s0=137 t0=3 i0=0 a0=0 b0=0", "stop-sandbox s0", "Succeeded"),
        ("S0!- s0=137 t0=3 i0=0 a0=0 b0=0", "", "Succeeded"),
    ];
    table("Never s+ t+ i | a b", &through);
    table("OnFailure s+ t+ i | a b", &through);
    table(
        "Never s+ t+ i | a b",
        &[
            ("S0 s0=run t0=run i0=0 a0=0 b0=3", "stop t0 in 30; hold s0 in 30", "Running"),
            ("S0 s0=run t0=run i0=0 a0=0 b0=run", "", "Running"),
            ("S0 s0=run t0=3 i0=0 a0=0 b0=run", "start t 1", "Running"),
            ("S0 s0=0 t0=0 i0=0 a0=0 b0=3", "stop-sandbox s0", "Failed"),
            ("S0 s0=run t0=run i0=3", "stop t0 in 30; hold s0 in 30", "Failed"),
            ("S0 s0=run t0=0 i0=3", "stop s0 in 30", "Failed"),
        ],
    );
}

#[test]
fn when_the_pod_stops_they_go_last_and_get_two_seconds_at_least() {
    let pod = pod_of("Always s+ t+ i | a b");
    for (seen, left, done) in [
        ("S0 s0=run t0=run i0=0 a0=run b0=run", 30, "stop a0 in 30; stop b0 in 30; hold t0 in 30; hold s0 in 30"),
        ("S0 s0=run t0=run i0=0 a0=run b0=0", 30, "stop a0 in 30; hold t0 in 30; hold s0 in 30"),
        ("S0 s0=run t0=0 i0=0 a0=run b0=0", 30, "stop a0 in 30; hold s0 in 30"),
        ("S0 s0=run t0=run i0=0 a0=0 b0=0", 10, "stop t0 in 10; hold s0 in 10"),
        ("S0 s0=run t0=run i0=0 a0=0 b0=0", 1, "stop t0 in 2; hold s0 in 1"),
        ("S0 s0=run t0=0 i0=0 a0=0 b0=0", 0, "stop s0 in 2"),
        ("S0 s0=run t0=run i0=run", 30, "stop i0 in 30; stop t0 in 30; hold s0 in 30"),
        ("S0 s0=run t0=run", 30, "stop t0 in 30; hold s0 in 30"),
        ("S0 s0=0 t0=0 i0=0 a0=0 b0=0", 10, "stop-sandbox s0"),
    ] {
        let plan = Asked::to_stop(100 + left).decide(&pod, &view_of(seen), at(100));
        assert_eq!(steps(&plan), done, "{seen}");
    }
    let kill = Asked { stop: Some(Stop { deadline: at(100), grace: Duration::ZERO }), ..Asked::default() };
    let plan = kill.decide(&pod, &view_of("S0 s0=run t0=run i0=0 a0=0 b0=0"), at(100));
    assert_eq!(steps(&plan), "stop t0 in 0; stop s0 in 0", "a kill is a kill");
}

#[test]
fn a_pod_of_one_sidecar_and_nothing_before_it() {
    table(
        "OnFailure s+ | a",
        &[
            ("S0", "start s 0", "Pending"),
            ("S0 s0=run", "start a 0", "Pending"),
            ("S0 s0=run a0=3", "start a 1", "Running"),
            ("S0 s0=3 a0=3", "start s 1; start a 1", "Running"),
            ("S0 s0=3 a0=0", "stop-sandbox s0", "Succeeded"),
            ("S0! s0=255 a0=255", "stop-sandbox s0; sandbox 1", "Running"),
            ("S0! s0=255 a0=0", "stop-sandbox s0", "Succeeded"),
        ],
    );
}
