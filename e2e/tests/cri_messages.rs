//! Messages that no client means: fields missing, extreme, contradictory, huge, random, made from the descriptors.
//!
//! The server answers each in time with a code that says something, lives on, and leaves nothing behind. Where a field
//! could reach the machine (host paths, cgroups, sysctls, privileges), its values are drawn from what is the node's.
//! `CORACLE_FUZZ_SECONDS` says how long, `CORACLE_E2E_SEED` which messages.

mod cri_messages {
    pub mod generator;
    pub mod raw;
}

use std::time::{Duration, Instant};

use cri_messages::generator::{Generator, Method};
use cri_messages::raw;
use e2e::cri::proto::*;
use e2e::cri::{Cri, Endpoint};
use e2e::random::Random;
use e2e::{BUSYBOX, Node, need, patience};
use tonic::{Code, Status};

/// What fits into CI.
const SECONDS: u64 = 15;

/// More pods than this are removed: the machine is not what is tested.
const PODS: usize = 8;

#[test]
fn no_message_ends_the_server_or_leaves_anything() {
    let seconds = std::env::var("CORACLE_FUZZ_SECONDS")
        .map_or(SECONDS, |text| text.parse().expect("CORACLE_FUZZ_SECONDS is a number"));
    let node = need!(Node::with_busybox());
    let machine = rustix::system::uname().nodename().to_owned();
    let mut cri = Cri::start(&node);
    let mut generator = Generator::new(Random::announced("messages"), &node);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut sent, mut nameless) = (0, Vec::new());
    while Instant::now() < end {
        if sent % 16 == 0 {
            refresh(&cri, &mut generator);
        }
        let method = generator.method();
        let bytes = generator.request(&method);
        let limit = patience(Duration::from_secs(40));
        let answer = cri.client().block_on(raw::call(cri.client().channel(), &method.path, bytes.clone(), limit));
        let context = || format!("message {sent}, {}, {} bytes: {:02x?}", method.path, bytes.len(), short(&bytes));
        assert!(cri.run().is_running(), "the server has ended after {}", context());
        if let Err(status) = answer {
            check(&status, &method, &generator, &mut nameless)
                .unwrap_or_else(|why| panic!("{why}: {status}\n{}", context()));
        }
        sent += 1;
    }
    println!("{sent} messages");
    let panicked: Vec<String> =
        cri.run().lines().into_iter().map(|line| line.text).filter(|line| line.contains("panicked")).collect();
    assert!(panicked.is_empty(), "{panicked:#?}");
    nameless.sort();
    nameless.dedup();
    assert!(nameless.is_empty(), "InvalidArgument that names no field of its request: {nameless:#?}");
    assert_eq!(rustix::system::uname().nodename(), &*machine, "the machine has another name now");
    refresh(&cri, &mut generator);
    // After all of it an ordinary pod runs.
    let pod = cri.pod("after");
    let sandbox = cri.run_pod(&pod);
    let id = cri.run_container(&sandbox, &pod, &cri.container("c", BUSYBOX, &["sleep", "1000"]));
    assert_eq!(cri.output(&id, &["echo", "alive"]), "alive");
}

fn short(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(600)]
}

/// What a status may not say.
fn check(status: &Status, method: &Method, generator: &Generator, nameless: &mut Vec<String>) -> Result<(), String> {
    let text = status.message();
    if text.contains("thread failed") || text.contains("panicked") {
        return Err("the request's thread has panicked".into());
    }
    match status.code() {
        Code::Unknown | Code::Cancelled | Code::DataLoss | Code::Unauthenticated => {
            Err("a code that says nothing".into())
        }
        // ExecSync's own; the test's says so by its text.
        Code::DeadlineExceeded if text.contains("the test waited") || text.contains("Timeout expired") => {
            Err("no answer in time".into())
        }
        Code::InvalidArgument if !generator.names_a_field(method, text) => {
            nameless.push(format!("{}: {text}", method.path));
            Ok(())
        }
        _ if text.is_empty() => Err("an error without a message".into()),
        _ => Ok(()),
    }
}

/// Tells the generator what there is, and removes what is too much.
fn refresh(cri: &Cri, generator: &mut Generator) {
    let client = cri.client();
    let pods = client.list_pod_sandbox(ListPodSandboxRequest::default()).expect("ListPodSandbox answers").items;
    for pod in pods.iter().skip(PODS) {
        cri.remove_pod(&pod.id);
    }
    let containers = client.list_containers(ListContainersRequest::default()).expect("ListContainers answers");
    // A message may have removed it, and without it no container would come.
    let image = Some(ImageSpec { image: BUSYBOX.into(), ..Default::default() });
    let known = client.image_status(ImageStatusRequest { image, verbose: false }).expect("ImageStatus answers");
    if known.image.is_none() {
        cri.import(&e2e::fixtures::busybox().expect("it was made before"), BUSYBOX);
    }
    generator.pods = pods.into_iter().take(PODS).map(|it| it.id).collect();
    generator.containers = containers.containers.into_iter().map(|it| it.id).collect();
}
