//! The socket of `coracle cri`: who may serve, how it ends, what comes after, and clients of every kind.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use e2e::cri::proto::runtime_service_client::RuntimeServiceClient;
use e2e::cri::proto::*;
use e2e::cri::{Cri, Endpoint, map};
use e2e::{BUSYBOX, Node, need};
use tonic::Code;

#[test]
fn a_socket_and_a_state_directory_are_served_by_one() {
    let node = need!(Node::with_busybox());
    let mut cri = Cri::start(&node);
    assert_eq!(std::fs::metadata(cri.socket()).expect("it is there").permissions().mode() & 0o777, 0o600);
    let second = |socket: &Path| {
        let mut command = node.command(["cri", "--cri-socket"]);
        command.arg(socket);
        e2e::Run::start(&mut command, None).wait().exits(125)
    };
    second(cri.socket()).says("already").says("another socket");
    second(&node.dir().join("other.sock")).says("already").says("--state-dir");
    assert!(!node.dir().join("other.sock").exists(), "what cannot serve must not look as if it did");
    cri.client().version(VersionRequest::default()).expect("it serves on");
    // A killed server leaves its socket, which the next one replaces; one that was told to end takes it along.
    cri.kill();
    assert!(cri.socket().exists());
    cri.restart();
    let socket = cri.socket().to_owned();
    cri.stop();
    assert!(!socket.exists());
    std::fs::write(&socket, "mine").expect("the directory is ours");
    second(&socket).says("no socket");
    assert_eq!(std::fs::read_to_string(&socket).expect("it is there"), "mine");
    std::fs::remove_file(&socket).expect("it is ours");
}

/// Everything that a client can ask about pods and containers.
#[derive(Debug, PartialEq)]
struct Answers {
    pods: Vec<PodSandbox>,
    pod_statuses: Vec<PodSandboxStatus>,
    containers: Vec<Container>,
    container_statuses: Vec<ContainerStatus>,
    infos: Vec<std::collections::HashMap<String, String>>,
}

fn answers(cri: &Cri) -> Answers {
    let client = cri.client();
    let pods = client.list_pod_sandbox(Default::default()).expect("it serves").items;
    let containers = client.list_containers(Default::default()).expect("it serves").containers;
    let status = |it: &Container| {
        let request = ContainerStatusRequest { container_id: it.id.clone(), verbose: true };
        client.container_status(request).expect("it is there")
    };
    let pod_status = |it: &PodSandbox| {
        let request = PodSandboxStatusRequest { pod_sandbox_id: it.id.clone(), verbose: true };
        client.pod_sandbox_status(request).expect("it is there")
    };
    let (statuses, pod_statuses) =
        (containers.iter().map(status).collect::<Vec<_>>(), pods.iter().map(pod_status).collect::<Vec<_>>());
    Answers {
        infos: statuses.iter().map(|it| it.info.clone()).chain(pod_statuses.iter().map(|it| it.info.clone())).collect(),
        pod_statuses: pod_statuses.into_iter().filter_map(|it| it.status).collect(),
        container_statuses: statuses.into_iter().filter_map(|it| it.status).collect(),
        pods,
        containers,
    }
}

#[test]
fn another_server_gives_the_same_answers_and_goes_on() {
    let node = need!(Node::with_busybox());
    let mut cri = Cri::start(&node);
    let mut ids = Vec::new();
    for name in ["a", "b"] {
        let mut pod = cri.pod(name);
        (pod.labels, pod.annotations) = (map(&[("pod", name)]), map(&[("note", "one")]));
        let sandbox = cri.run_pod(&pod);
        let running = cri.container("running", BUSYBOX, &["sleep", "1000"]);
        ids.push(cri.run_container(&sandbox, &pod, &running));
        cri.create_container(&sandbox, &pod, &cri.container("created", BUSYBOX, &["true"]));
        cri.run_to_end(&sandbox, &pod, &cri.container("failed", BUSYBOX, &["sh", "-c", "exit 7"]));
        if name == "b" {
            cri.stop_pod(&sandbox);
        }
    }
    let before = answers(&cri);
    assert_eq!((before.pods.len(), before.containers.len()), (2, 6));
    cri.stop();
    cri.restart();
    assert_eq!(answers(&cri), before);
    cri.kill();
    cri.restart();
    assert_eq!(answers(&cri), before);
    let mut events = cri.client().events().expect("events");
    cri.stop_container(&ids[0], 0);
    let event = events.next_within(Duration::from_secs(10)).expect("an event");
    assert_eq!(event.container_id, ids[0]);
    assert_eq!(event.container_event_type, ContainerEventType::ContainerStoppedEvent as i32);
}

#[test]
fn it_ends_although_somebody_follows_the_events() {
    let node = need!(Node::with_busybox());
    let mut cri = Cri::start(&node);
    let pod = cri.pod("p");
    let sandbox = cri.run_pod(&pod);
    let id = cri.run_container(&sandbox, &pod, &cri.container("c", BUSYBOX, &["sleep", "1000"]));
    let mut events = cri.client().events().expect("events");
    cri.stop();
    // The stream has ended too, not only gone silent.
    let end = events.next_within(Duration::from_secs(10)).expect_err("nothing has happened");
    assert!(!end.contains("no event within"), "{end}");
    cri.restart();
    assert_eq!(cri.status_of(&id).state, ContainerState::ContainerRunning as i32);
}

#[test]
fn what_a_killed_server_was_making_is_gone_and_what_it_made_is_not() {
    let node = need!(Node::with_busybox());
    let mut cri = Cri::start(&node);
    let whole = cri.run_pod(&cri.pod("whole"));
    for round in 0..3 {
        let calls: Vec<_> = (0..6)
            .map(|number| {
                let config = cri.pod(&format!("half-{round}-{number}"));
                let mut client = cri.client().runtime();
                let request = RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
                cri.client().spawn(async move { client.run_pod_sandbox(request).await })
            })
            .collect();
        // Some are done by then, some not begun.
        std::thread::sleep(Duration::from_millis(10 + 15 * round));
        cri.kill();
        let made = calls.into_iter().filter_map(|call| cri.client().block_on(call).ok()?.ok());
        let made: Vec<String> = made.map(|answer| answer.into_inner().pod_sandbox_id).collect();
        if round == 1 {
            // The same by hand, while nobody serves.
            node.coracle(["gc"]).exits(0).says(&format!("spared pod e2e/whole (sandbox {}", &whole[..12]));
        }
        cri.restart();
        let pods = cri.client().list_pod_sandbox(Default::default()).expect("it serves").items;
        assert!(pods.iter().all(|pod| pod.state == PodSandboxState::SandboxReady as i32), "{pods:#?}");
        for id in made.iter().chain([&whole]) {
            assert!(pods.iter().any(|pod| pod.id == *id), "{id} was answered, and is gone");
        }
        // No name is left reserved.
        for number in 0..6 {
            let config = cri.pod(&format!("half-{round}-{number}"));
            if !pods.iter().any(|pod| pod.metadata == config.metadata) {
                cri.remove_pod(&cri.run_pod(&config));
            }
        }
    }
}

#[test]
fn collecting_leaves_a_server_and_its_pods_alone() {
    let node = need!(Node::with_busybox());
    let mut cri = Cri::start(&node);
    let pod = cri.pod("p");
    let sandbox = cri.run_pod(&pod);
    let ended = cri.pod("ended");
    let stopped = cri.run_pod(&ended);
    let id = cri.run_to_end(&stopped, &ended, &cri.container("c", BUSYBOX, &["true"])).id;
    cri.stop_pod(&stopped);
    let spared = |said: &str| {
        let finished = node.coracle(["gc"]).exits(0).never_says("removed");
        finished.says(&format!("spared pod e2e/p (sandbox {}", &sandbox[..12])).says(said);
    };
    spared("the server of cri is still there");
    // Nor does it take what a kubelet still wants to know while the server is being replaced.
    cri.stop();
    spared("--all");
    cri.restart();
    assert_eq!(cri.pod_status(&sandbox).state, PodSandboxState::SandboxReady as i32);
    assert_eq!(cri.status_of(&id).exit_code, 0);
    // Everything is everything.
    node.coracle(["gc", "--all"]).exits(0).says("removed the server of cri");
    assert!(UnixStream::connect(cri.socket()).is_err(), "nobody serves any more");
    cri.kill();
}

#[test]
fn messages_of_many_megabytes_go_both_ways() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let mut pod = cri.pod("p");
    let long = "x".repeat(15 << 20);
    pod.annotations = map(&[("long", &long)]);
    let sandbox = cri.run_pod(&pod);
    assert_eq!(cri.pod_status(&sandbox).annotations["long"].len(), long.len());
    pod.annotations = map(&[("long", &"x".repeat(17 << 20))]);
    pod.metadata.as_mut().expect("set").uid = "other".into();
    // A client that does not look itself.
    let mut client = RuntimeServiceClient::new(cri.client().channel());
    let request = RunPodSandboxRequest { config: Some(pod.clone()), ..Default::default() };
    let refused = cri.client().block_on(client.run_pod_sandbox(request)).expect_err("more than 16 MiB");
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    // Two of them are too long for one answer, and come in two.
    pod.annotations = map(&[("long", &long)]);
    let second = cri.run_pod(&pod);
    let too_long = cri.client().list_pod_sandbox(Default::default()).expect_err("it is more than one message holds");
    assert_eq!(too_long.code(), Code::OutOfRange, "{too_long}");
    let answers = cri.client().stream_pod_sandboxes(Default::default()).expect("a stream");
    assert_eq!(answers.iter().map(|it| it.pod_sandboxes.len()).collect::<Vec<_>>(), [1, 1]);
    cri.remove_pod(&second);
}

/// A call of Version by hand, for no client library of ours says what others say. Gives whether it was answered.
fn version_as(socket: &Path, authority: &[u8]) -> bool {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let string = |text: &[u8]| [&[text.len() as u8], text].concat();
    let headers = [
        // :method POST, :scheme http, :path, :authority with indexing, content-type, te.
        vec![0x83, 0x86, 0x44],
        string(b"/runtime.v1.RuntimeService/Version"),
        vec![0x41],
        string(authority),
        vec![0x5f],
        string(b"application/grpc"),
        vec![0x40],
        string(b"te"),
        string(b"trailers"),
    ]
    .concat();
    let mut stream = UnixStream::connect(socket).expect("somebody serves");
    stream.set_read_timeout(Some(e2e::patience(Duration::from_secs(10)))).expect("a timeout");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(1, 4, 1, &headers));
    bytes.extend(frame(0, 1, 1, &[0; 5]));
    stream.write_all(&bytes).expect("it reads");
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).expect("an answer");
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).expect("a whole frame");
        match (head[3], head[8]) {
            (0, 1) => return payload.windows(7).any(|it| it == b"coracle"),
            (3, 1) => return false,
            _ => {}
        }
    }
}

#[test]
fn a_client_may_name_the_sockets_path_as_authority() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    for authority in ["localhost", "%2Frun%2Fcoracle%2Fcoracle.sock", "/run/coracle/coracle.sock"] {
        assert!(version_as(cri.socket(), authority.as_bytes()), "{authority}");
    }
    assert!(!version_as(cri.socket(), b"no{authority"));
}

#[test]
fn checkpoints_are_said_not_to_exist() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let codes = [
        cri.client().checkpoint_container(Default::default()).map(drop),
        cri.client().checkpoint_pod(Default::default()).map(drop),
        cri.client().restore_pod(Default::default()).map(drop),
    ];
    for answer in codes {
        assert_eq!(answer.expect_err("there is none").code(), Code::Unimplemented);
    }
}

#[test]
fn the_clients_range_of_addresses_is_taken_over() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let configure = |range: &str| {
        let network_config = Some(NetworkConfig { pod_cidr: range.into() });
        let request = UpdateRuntimeConfigRequest { runtime_config: Some(RuntimeConfig { network_config }) };
        cri.client().update_runtime_config(request)
    };
    let address = |sandbox: &str| cri.pod_status(sandbox).network.expect("it has one").ip;
    for wrong in ["nonsense", "10.1.0.0/33", "10.77.1.1/24"] {
        assert_eq!(configure(wrong).expect_err("it is none").code(), Code::InvalidArgument, "{wrong}");
    }
    configure("").expect("nothing is asked for");
    configure("10.77.1.0/24").expect("it is free");
    let first = cri.run_pod(&cri.pod("first"));
    assert!(address(&first).starts_with("10.77.1."), "{}", address(&first));
    configure("10.77.1.0/24").expect("it is the same");
    // Another one waits until nobody is in the way.
    configure("10.78.1.0/24").expect("it is taken note of");
    let second = cri.run_pod(&cri.pod("second"));
    assert!(address(&second).starts_with("10.77.1."), "{}", address(&second));
    cri.remove_pod(&first);
    cri.remove_pod(&second);
    let third = cri.run_pod(&cri.pod("third"));
    assert!(address(&third).starts_with("10.78.1."), "{}", address(&third));
}
