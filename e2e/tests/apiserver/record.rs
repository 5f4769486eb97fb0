//! Makes the recordings anew, from a real server that is started for it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use e2e::Node;
use e2e::apiserver::Client;
use e2e::controlplane::{ControlPlane, Parts};

use super::recording::{Recording, users};

/// `CORACLE_KUBERNETES=DIR cargo test --test apiserver -- --ignored record`
#[test]
#[ignore = "makes files of the tree anew; needs the programs of a control plane"]
fn record() {
    let programs = PathBuf::from(std::env::var_os("CORACLE_KUBERNETES").expect("CORACLE_KUBERNETES names a directory"));
    let node = Node::new();
    let real = ControlPlane::start(&node, &programs, Parts::Signing).unwrap();
    real.bind("nodes-bootstrap", "system:bootstrappers", "system:node-bootstrapper").unwrap();
    let approving = "system:certificates.k8s.io:certificatesigningrequests:nodeclient";
    real.bind("nodes-approve", "system:bootstrappers", approving).unwrap();
    let approving = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient";
    real.bind("nodes-renew", "system:nodes", approving).unwrap();
    let clients: BTreeMap<&str, Client> =
        users().iter().map(|(name, user)| (*name, real.client(user.as_ref()))).collect();
    real.wait_for(&clients["bootstrap"], "/apis/certificates.k8s.io/v1/certificatesigningrequests").unwrap();
    let version = clients["admin"].ask("GET", "/version", "", &serde_json::Value::Null).unwrap().body;
    for (file, recording) in Recording::all() {
        println!("{}", file.display());
        let mut again = recording.again(&clients);
        version["gitVersion"].as_str().unwrap().clone_into(&mut again.kubernetes);
        again.write(&file);
    }
}
