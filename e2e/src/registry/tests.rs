//! The hostile registry is one that other tools pull from, and its faults are what they say.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::archive::{Image, Layer};
use crate::{Run, debian};

fn image() -> Image {
    let layer = Layer::new().file("file", 0o644, &[7; 100_000]).finish();
    Image { reference: "e2e/image:1".into(), layers: vec![layer], config: json!({"Cmd": ["/none"]}) }
}

/// Sends a request and reads until the connection ends; the answer's head and body.
fn get(node: &Node, registry: &Hostile, path: &str, headers: &str) -> (String, Vec<u8>, std::io::Result<usize>) {
    let connect = || TcpStream::connect(registry.host());
    let mut stream = node.host().within(connect).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").expect("it reads");
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    let at = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let body = answer.split_off(at);
    (String::from_utf8_lossy(&answer).into_owned(), body, ended)
}

#[test]
fn skopeo_pulls_from_the_hostile_registry_while_it_behaves() {
    crate::need!(crate::skip::root());
    let skopeo = crate::need!(debian::program("skopeo", "skopeo"));
    let node = Node::new();
    let platforms = [("linux", content::architecture()), ("plan9", "mips")];
    for (number, content) in [
        Content::oci(&image()).expect("blobs"),
        Content::docker(&image()).expect("blobs"),
        Content::oci(&image()).expect("blobs").indexed(&platforms),
        Content::docker(&image()).expect("blobs").indexed(&platforms),
    ]
    .into_iter()
    .enumerate()
    {
        let registry = Hostile::start(&node, content);
        for (access, credentials) in [
            (Access::Open, "--src-no-creds".to_owned()),
            (Access::Basic, format!("--src-creds={USER}:{PASSWORD}")),
            (Access::Bearer, format!("--src-creds={USER}:{PASSWORD}")),
            (Access::AnonymousBearer, "--src-no-creds".to_owned()),
        ] {
            registry.require(access);
            let to = node.make_dir(&format!("copy-{number}-{access:?}"));
            let mut command = inside(&node, &skopeo);
            command.args(["--insecure-policy", "copy", "--src-tls-verify=false", &credentials]);
            command.arg(format!("docker://{}", registry.reference())).arg(format!("dir:{}", to.display()));
            Run::start(&mut command, None).wait().exits(0);
            assert!(registry.served(Target::Layer(0)) >= registry.content().layer_size(0), "{access:?}");
        }
    }
}

#[test]
fn faults_are_what_they_say() {
    let node = Node::new();
    let registry = Hostile::start(&node, Content::oci(&image()).expect("blobs"));
    let target = Target::Layer(0);
    let blob = registry.content().layers[0].clone();
    let path = format!("/v2/{REPOSITORY}/blobs/{}", registry.content().layer_digest(0));
    type Row<'a> = (Option<Fault>, &'a str, &'a str, usize, Option<ErrorKind>);
    let rows: [Row<'_>; 10] = [
        (None, "", "200 OK", blob.len(), Some(ErrorKind::WouldBlock)),
        (None, "Range: bytes=100-\r\n", "206 Partial", blob.len() - 100, Some(ErrorKind::WouldBlock)),
        (Some(Fault::IgnoreRange), "Range: bytes=100-\r\n", "200 OK", blob.len(), Some(ErrorKind::WouldBlock)),
        (
            Some(Fault::WrongRange(10)),
            "Range: bytes=100-\r\n",
            "bytes 90-",
            blob.len() - 90,
            Some(ErrorKind::WouldBlock),
        ),
        (Some(Fault::Stall(10)), "", "200 OK", 10, Some(ErrorKind::WouldBlock)),
        (Some(Fault::Truncate(10)), "", "200 OK", 10, None),
        (Some(Fault::Reset(10)), "", "200 OK", 10, Some(ErrorKind::ConnectionReset)),
        (Some(Fault::Longer(5)), "", "200 OK", blob.len(), None),
        (
            Some(Fault::Status(503, vec![("Retry-After", "1".into())])),
            "",
            "Retry-After: 1",
            55,
            Some(ErrorKind::WouldBlock),
        ),
        (Some(Fault::Redirect("other:1".into())), "", "Location: http://other:1/v2/", 0, Some(ErrorKind::WouldBlock)),
    ];
    for (fault, headers, says, length, end) in rows {
        registry.forget();
        if let Some(fault) = fault.clone() {
            registry.once(target, fault);
        }
        let (head, body, ended) = get(&node, &registry, &path, headers);
        assert!(head.contains(says), "{fault:?}: {head}");
        assert_eq!(body.len(), length, "{fault:?}");
        assert_eq!(registry.served(target), length as u64, "{fault:?}");
        assert_eq!(ended.err().map(|error| error.kind()), end, "{fault:?}");
    }
    registry.once(target, Fault::Corrupt);
    let (_, body, _) = get(&node, &registry, &path, "");
    assert_eq!(body.iter().zip(blob.iter()).filter(|(a, b)| a != b).count(), 1);
}
