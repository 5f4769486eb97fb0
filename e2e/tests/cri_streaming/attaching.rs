//! Joining containers that run.

use std::time::{Duration, Instant};

use e2e::cri::proto::ContainerState;
use e2e::cri::{Cri, Endpoint};
use e2e::{BUSYBOX, Node, need};
use runtime::streaming::channels::Receiver;
use runtime::streaming::remotecommand::{Size, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::wire::{ALL, OUTPUT, TERMINAL, WIRES, attach, session, to_the_end, within};
use crate::pod_with;

/// Reads until a text has come.
async fn read_until(from: &mut Option<Receiver>, text: &str) -> String {
    let from = from.as_mut().expect("it was asked for");
    let mut all = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&all).contains(text) {
            let byte = from.read_u8().await;
            all.push(byte.unwrap_or_else(|error| panic!("{error} before {text:?}")));
        }
    };
    within(reading).await;
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn two_see_what_is_written_and_feed_what_is_read() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let script = "echo before; while read line; do echo out $line; echo err $line >&2; done; exit 7";
    let (pod, _, id) = pod_with(&cri, script, |it| it.stdin = true);
    cri.wait_for_log(&pod, &cri.container("c", BUSYBOX, &[]), "before");
    for wire in WIRES {
        let urls = [attach(&cri, &id, ALL), attach(&cri, &id, ALL), attach(&cri, &id, OUTPUT)];
        cri.client().block_on(async {
            let mut one = session(&cri, &urls[0], wire, ALL).await;
            let mut two = session(&cri, &urls[1], wire, ALL).await;
            let mut three = session(&cri, &urls[2], wire, OUTPUT).await;
            two.stdin.as_mut().unwrap().write_all(b"first\n").await.unwrap();
            let seen = read_until(&mut two.stdout, "out first\n").await;
            assert!(!seen.contains("before"), "only what comes after: {seen}");
            // Who has not written cannot know when it is attached: it is told until it hears.
            let mut stdin = one.stdin.take().unwrap();
            let telling = tokio::spawn(async move {
                while stdin.write_all(b"second\n").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
            for client in [&mut one, &mut two, &mut three] {
                read_until(&mut client.stdout, "out second\n").await;
                read_until(&mut client.stderr, "err second\n").await;
            }
            telling.abort();
        });
        // They are gone, and the container goes on.
        assert_eq!(cri.status_of(&id).state(), ContainerState::ContainerRunning);
    }
    let url = attach(&cri, &id, OUTPUT);
    let ended = cri.client().block_on(async {
        let client = session(&cri, &url, WIRES[0], OUTPUT).await;
        let stop = std::thread::scope(|it| it.spawn(|| cri.stop_container(&id, 0)).join());
        stop.expect("it stops");
        to_the_end(client, b"").await
    });
    assert_eq!(ended.status, Status::Success, "an attach ends with its container");
}

#[test]
fn one_can_attach_before_the_start_and_ends_the_input_once_and_for_all() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    for (wire, name) in WIRES.into_iter().zip(["a", "b"]) {
        let pod = cri.pod(name);
        let sandbox = cri.run_pod(&pod);
        let mut container =
            cri.container("c", BUSYBOX, &["sh", "-c", "read go; echo hello; cat; echo over; sleep 0.2"]);
        (container.stdin, container.stdin_once) = (true, true);
        let id = cri.create_container(&sandbox, &pod, &container);
        let url = attach(&cri, &id, ALL);
        let client = cri.client().block_on(session(&cri, &url, wire, ALL));
        cri.start_container(&id);
        // The session begins behind the answer, and nothing says when: what comes after input has come through it.
        let outcome = cri.client().block_on(to_the_end(client, b"go\nwords\n"));
        assert_eq!((outcome.text().as_str(), outcome.status), ("hello\nwords\nover\n", Status::Success), "{wire:?}");
        let ended = cri.wait_for_state(&id, ContainerState::ContainerExited);
        assert_eq!(ended.exit_code, 0);
    }
}

#[test]
fn a_terminal_is_shared_and_resized() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    for (wire, name) in WIRES.into_iter().zip(["a", "b"]) {
        let pod = cri.pod(name);
        let sandbox = cri.run_pod(&pod);
        let mut container = cri.container("c", BUSYBOX, &["sh"]);
        (container.stdin, container.tty) = (true, true);
        let id = cri.run_container(&sandbox, &pod, &container);
        let url = attach(&cri, &id, TERMINAL);
        cri.client().block_on(async {
            let mut client = session(&cri, &url, wire, TERMINAL).await;
            let resize = client.resize.as_mut().expect("a terminal can be resized");
            resize.resize(Size { width: 77, height: 33 }).await.unwrap();
            let script = b"while ! stty size | grep '33 77'; do sleep 0.05; done; echo a''b\n";
            client.stdin.as_mut().unwrap().write_all(script).await.unwrap();
            read_until(&mut client.stdout, "ab").await;
        });
        assert_eq!(cri.status_of(&id).state(), ContainerState::ContainerRunning);
    }
}

#[test]
fn who_does_not_keep_up_is_cut_off_and_holds_up_nobody() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let script = "read go; head -c 20000000 /dev/zero | tr '\\0' x | fold -w 1000; echo; echo written; sleep 100000";
    let (pod, _, id) = pod_with(&cri, script, |it| it.stdin = true);
    let container = cri.container("c", BUSYBOX, &[]);
    let url = attach(&cri, &id, ALL);
    let client = cri.client().block_on(async {
        let mut client = session(&cri, &url, WIRES[0], ALL).await;
        client.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
        client
    });
    // Nobody reads from the client, and the log has all of it.
    let begin = Instant::now();
    let log = cri.wait_for_log(&pod, &container, "written");
    assert_eq!(
        log.iter().map(|entry| entry.text.matches('x').count()).sum::<usize>(),
        20_000_000,
        "{:?}",
        begin.elapsed()
    );
    let outcome = cri.client().block_on(to_the_end(client, b""));
    assert!(matches!(&outcome.status, Status::Failure(why) if why.contains("detached")), "{:?}", outcome.status);
    assert_eq!(cri.status_of(&id).state(), ContainerState::ContainerRunning);
}
