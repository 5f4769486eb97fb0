//! Requests that are not as they should be, and where streams are served.

use e2e::cri::proto::{AttachRequest, ExecRequest, PortForwardRequest};
use e2e::cri::{Cri, Endpoint};
use e2e::{Node, debian, need};
use tonic::Code;

use super::wire::{OUTPUT, WIRES, Wire, ask, exec, headers, session, to_the_end};
use crate::pod_with;

#[test]
fn an_address_is_good_for_one_use_and_a_bad_request_is_told_why() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let (_, _, id) = pod_with(&cri, "exec sleep 100000", |_| {});
    let fresh = || exec(&cri, &id, OUTPUT, &["true"]);
    for wire in WIRES {
        let (url, good) = (fresh(), headers(wire, "v4.channel.k8s.io"));
        cri.client().block_on(async { to_the_end(session(&cri, &url, wire, OUTPUT).await, b"").await });
        assert_eq!(ask(&cri, "POST", &url, &good).status, 404, "used");
        let url = fresh();
        assert_eq!(ask(&cri, "POST", &format!("{url}0"), &good).status, 404, "another token");
        assert_eq!(ask(&cri, "POST", &url.replace("/exec/", "/attach/"), &good).status, 404, "another verb");
        assert_eq!(ask(&cri, "PUT", &url, &good).status, 405);
        assert_eq!(ask(&cri, "GET", &url, &headers(wire, "v99.channel.k8s.io")).status, 403);
        assert_eq!(ask(&cri, "POST", &fresh(), "").status, 400, "no upgrade");
        assert_eq!(ask(&cri, "GET", &fresh(), &good).status, 101);
    }
    let v5 = headers(Wire::WebSocket, "v5.channel.k8s.io, v4.channel.k8s.io");
    let answer = ask(&cri, "GET", &fresh(), &v5);
    assert!(answer.head.to_lowercase().contains("sec-websocket-protocol: v5.channel.k8s.io"), "{}", answer.head);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let (_, sandbox, id) = pod_with(&cri, "exec sleep 100000", |_| {});
    let cmd = vec!["true".to_owned()];
    let exec = ExecRequest { container_id: id.clone(), cmd, stdout: true, ..Default::default() };
    let attach = AttachRequest { container_id: id.clone(), stdout: true, ..Default::default() };
    let client = cri.client();
    for (request, code) in [
        (ExecRequest { tty: true, stderr: true, ..exec.clone() }, Code::InvalidArgument),
        (ExecRequest { stdout: false, ..exec.clone() }, Code::InvalidArgument),
        (ExecRequest { cmd: Vec::new(), ..exec.clone() }, Code::InvalidArgument),
        (ExecRequest { container_id: String::new(), ..exec.clone() }, Code::InvalidArgument),
        (ExecRequest { container_id: "0".repeat(64), ..exec.clone() }, Code::NotFound),
    ] {
        assert_eq!(client.exec(request.clone()).unwrap_err().code(), code, "{request:?}");
    }
    for (request, code) in [
        (AttachRequest { tty: true, stderr: true, ..attach.clone() }, Code::InvalidArgument),
        (AttachRequest { stdout: false, ..attach.clone() }, Code::InvalidArgument),
        (AttachRequest { container_id: "0".repeat(64), ..attach.clone() }, Code::NotFound),
    ] {
        assert_eq!(client.attach(request.clone()).unwrap_err().code(), code, "{request:?}");
    }
    for port in [0, -1, 65536] {
        let request = PortForwardRequest { pod_sandbox_id: sandbox.clone(), port: vec![port] };
        assert_eq!(client.port_forward(request).unwrap_err().code(), Code::InvalidArgument, "{port}");
    }
    cri.stop_container(&id, 0);
    for stopped in [client.exec(exec).unwrap_err(), client.attach(attach).unwrap_err()] {
        assert_eq!(stopped.code(), Code::FailedPrecondition, "{stopped}");
    }
    cri.stop_pod(&sandbox);
    let request = PortForwardRequest { pod_sandbox_id: sandbox.clone(), port: vec![80] };
    assert_eq!(client.port_forward(request).unwrap_err().code(), Code::FailedPrecondition);
}

#[test]
fn other_addresses_than_loopback_need_tls() {
    let node = need!(Node::with_busybox());
    let refused = node.coracle(["cri", "--streaming-address", "0.0.0.0"]).exits(125);
    refused.says("without TLS");
}

#[test]
fn with_a_certificate_streams_are_encrypted() {
    let curl = need!(debian::program("curl", "curl"));
    let node = need!(Node::with_busybox());
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key is made");
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| node.dir().join(name));
    std::fs::write(&certificate, identity.cert.pem()).expect("the disk has room");
    std::fs::write(&key, identity.signing_key.serialize_pem()).expect("the disk has room");
    let (certificate_file, key) = (certificate.display().to_string(), key.display().to_string());
    let flags = ["--streaming-tls-cert-file", &certificate_file, "--streaming-tls-key-file", &key];
    let cri = Cri::start_with(&node, &flags);
    let (_, _, id) = pod_with(&cri, "exec sleep 100000", |_| {});
    let url = exec(&cri, &id, OUTPUT, &["true"]);
    let port = url.strip_prefix("https://127.0.0.1:").and_then(|rest| rest.split('/').next()).expect("https");
    let mut command = std::process::Command::new(curl);
    command.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", &certificate_file]);
    command.arg(format!("https://localhost:{port}/exec/none"));
    let finished = node.host().run(command).exits(0);
    assert_eq!(finished.stdout().trim_end(), "404", "{finished}");
}
