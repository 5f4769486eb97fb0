//! Commands in containers.

use std::time::Duration;

use e2e::cri::proto::ExecSyncRequest;
use e2e::cri::{Cri, Endpoint};
use e2e::{Node, need};
use runtime::streaming::remotecommand::{Size, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

use super::wire::{ALL, OUTPUT, TERMINAL, WIRES, Wire, exec, session, to_the_end, within};
use crate::{pod_with, wait_for_process};

const SLEEP: &str = "exec sleep 100000";

#[test]
fn output_errors_and_the_exit_code_arrive() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let (_, _, id) = pod_with(&cri, SLEEP, |_| {});
    for wire in WIRES {
        cri.client().block_on(async {
            for (command, code) in
                [("echo out; echo err >&2; exit 3", Status::ExitCode(3)), ("exit 0", Status::Success)]
            {
                let url = exec_of(&cri, &id, command);
                let outcome = to_the_end(session(&cri, &url, wire, OUTPUT).await, b"").await;
                assert_eq!(outcome.status, code, "{wire:?}");
                if code != Status::Success {
                    assert_eq!((outcome.stdout, outcome.stderr), (b"out\n".to_vec(), b"err\n".to_vec()), "{wire:?}");
                }
            }
            let url = within_client(&cri, || exec(&cri, &id, OUTPUT, &["no-such-program"]));
            let outcome = to_the_end(session(&cri, &url, wire, OUTPUT).await, b"").await;
            assert!(matches!(&outcome.status, Status::Failure(why) if why.contains("no-such-program")), "{outcome:?}");
        });
    }
}

/// The harness's calls block on the client's runtime, which cannot be done on it.
fn within_client<T: Send>(_cri: &Cri<'_>, call: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(call).join().expect("the call does not fail"))
}

fn exec_of(cri: &Cri<'_>, id: &str, script: &str) -> String {
    within_client(cri, || exec(cri, id, OUTPUT, &["sh", "-c", script]))
}

#[test]
fn megabytes_go_in_and_come_back_and_the_end_of_input_is_seen() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let (_, _, id) = pod_with(&cri, SLEEP, |_| {});
    let input: Vec<u8> = (0..8 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for wire in WIRES {
        let url = exec(&cri, &id, ALL, &["sh", "-c", "cat; echo over >&2"]);
        let outcome = cri.client().block_on(async { to_the_end(session(&cri, &url, wire, ALL).await, &input).await });
        assert_eq!(outcome.status, Status::Success, "{wire:?}");
        assert!(outcome.stdout == input, "{wire:?}: {} bytes came back", outcome.stdout.len());
        assert_eq!(outcome.stderr, b"over\n");
    }
}

#[test]
fn a_terminal_has_the_size_of_the_clients() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let (_, _, id) = pod_with(&cri, SLEEP, |_| {});
    for wire in WIRES {
        let script = "test -t 0 && test -t 1; echo tty $?; while ! stty size | grep -q '33 77'; do sleep 0.05; done; \
                      read word; echo got $word; exit 4";
        let url = exec(&cri, &id, TERMINAL, &["sh", "-c", script]);
        let outcome = cri.client().block_on(async {
            let mut client = session(&cri, &url, wire, TERMINAL).await;
            let resize = client.resize.as_mut().expect("a terminal can be resized");
            resize.resize(Size { width: 80, height: 24 }).await.unwrap();
            resize.resize(Size { width: 77, height: 33 }).await.unwrap();
            let mut resizing = client.resize.take();
            let outcome = to_the_end(client, b"word\n").await;
            drop(resizing.take());
            outcome
        });
        assert_eq!(outcome.status, Status::ExitCode(4), "{wire:?} {outcome:?}");
        assert!(outcome.text().contains("tty 0") && outcome.text().contains("got word"), "{outcome:?}");
    }
}

#[test]
fn fifty_commands_run_at_once() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let (_, _, id) = pod_with(&cri, SLEEP, |_| {});
    let urls: Vec<String> =
        (0..50).map(|n| exec(&cri, &id, ALL, &["sh", "-c", &format!("cat; echo {n} >&2; exit {n}")])).collect();
    cri.client().block_on(async {
        let mut clients = Vec::new();
        for (n, url) in urls.iter().enumerate() {
            clients.push(session(&cri, url, WIRES[n % 2], ALL).await);
        }
        let input = vec![b'x'; 100_000];
        let all = clients.into_iter().map(|client| {
            let input = input.clone();
            tokio::spawn(async move { to_the_end(client, &input).await })
        });
        for (n, outcome) in all.collect::<Vec<_>>().into_iter().enumerate() {
            let outcome = outcome.await.unwrap();
            let code = if n == 0 { Status::Success } else { Status::ExitCode(n as i32) };
            assert_eq!(outcome.status, code);
            assert_eq!((outcome.stdout.len(), outcome.stderr), (100_000, format!("{n}\n").into_bytes()));
        }
    });
}

#[test]
fn a_command_whose_client_is_gone_is_killed_with_all_that_it_started() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let (_, _, id) = pod_with(&cri, SLEEP, |_| {});
    for wire in WIRES {
        // Behind input that nobody reads, an end is known when the client's kernel gives up: half a minute.
        for (stuffed, options) in [(false, ALL), (wire == Wire::Spdy, ALL), (false, TERMINAL)] {
            let url = exec(&cri, &id, options, &["sh", "-c", "sleep 4321 & echo up; sleep 4321"]);
            cri.client().block_on(async {
                let mut client = session(&cri, &url, wire, options).await;
                let mut up = [0; 2];
                within(client.stdout.as_mut().unwrap().read_exact(&mut up)).await.unwrap();
                if stuffed {
                    // More than every buffer on the way holds, and nobody reads it.
                    let mut stdin = client.stdin.take().unwrap();
                    let stuffing = async { while stdin.write_all(&[0; 65536]).await.is_ok() {} };
                    let _ = tokio::time::timeout(Duration::from_millis(300), stuffing).await;
                }
            });
            wait_for_process(&cri, &id, "sleep 4321", false);
        }
    }
}

#[test]
fn a_call_of_exec_sync_that_is_cancelled_kills_the_command() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let (_, _, id) = pod_with(&cri, SLEEP, |_| {});
    let cmd = ["sh", "-c", "sleep 4322 & sleep 4322"].map(str::to_owned).to_vec();
    let (mut client, container_id) = (cri.client().runtime(), id.clone());
    let call = async move { client.exec_sync(ExecSyncRequest { container_id, cmd, timeout: 0 }).await };
    let call = cri.client().spawn(call);
    wait_for_process(&cri, &id, "sleep 4322", true);
    call.abort();
    wait_for_process(&cri, &id, "sleep 4322", false);
}

#[test]
fn a_timeout_of_exec_sync_kills_that_command_alone() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let (_, _, id) = pod_with(&cri, "sleep 4324 & exec sleep 100000", |_| {});
    let late = cri.try_exec_sync(&id, &["sh", "-c", "sleep 4323 & sleep 4323"], 1).unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    assert!(late.message().contains("timeout 1s exceeded: context deadline exceeded"), "{late}");
    wait_for_process(&cri, &id, "sleep 4323", false);
    wait_for_process(&cri, &id, "sleep 4324", true);
}

#[test]
fn the_output_of_exec_sync_is_capped_and_the_exit_code_kept() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let (_, _, id) = pod_with(&cri, SLEEP, |_| {});
    let script = "head -c 20000000 /dev/zero; head -c 20000000 /dev/zero >&2; exit 9";
    let answer = cri.exec_sync(&id, &["sh", "-c", script]);
    assert_eq!(answer.exit_code, 9);
    assert!(answer.stdout.len() > (16 << 20) - 4096 && answer.stdout.len() + answer.stderr.len() <= 16 << 20);
}

#[test]
fn what_a_command_leaves_running_holds_nobody_up_and_lives_on() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let (_, _, id) = pod_with(&cri, SLEEP, |_| {});
    let answer = cri.exec_sync(&id, &["sh", "-c", "sleep 4325 & echo begun"]);
    assert_eq!((answer.stdout, answer.exit_code), (b"begun\n".to_vec(), 0));
    for wire in WIRES {
        let url = exec(&cri, &id, OUTPUT, &["sh", "-c", "sleep 4326 & echo begun"]);
        let outcome = cri.client().block_on(async { to_the_end(session(&cri, &url, wire, OUTPUT).await, b"").await });
        assert_eq!((outcome.text().as_str(), outcome.status), ("begun\n", Status::Success));
    }
    for left in ["sleep 4325", "sleep 4326"] {
        wait_for_process(&cri, &id, left, true);
    }
}

#[test]
fn a_container_that_does_not_run_takes_no_command() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let (_, _, id) = pod_with(&cri, SLEEP, |_| {});
    cri.stop_container(&id, 0);
    let refused = cri.try_exec_sync(&id, &["true"], 0).unwrap_err();
    assert!(refused.message().contains("container is in CONTAINER_EXITED state"), "{refused}");
}
