//! The test server answers as the real one did.

use std::collections::BTreeMap;

use e2e::apiserver::{ApiServer, Client, Grant};
use e2e::{Node, need};

use super::recording::{Recording, users};

#[test]
fn every_recorded_request_is_answered_as_by_the_real_server() {
    need!(e2e::skip::root());
    let recordings = Recording::all();
    assert!(recordings.len() > 5, "recordings are missing");
    let mut differences = Vec::new();
    for (file, recording) in recordings {
        let node = Node::new();
        let server = ApiServer::start(&node);
        server.grant(Grant::new(
            "system:bootstrappers",
            &["create", "get", "list", "watch"],
            &["certificatesigningrequests"],
        ));
        let clients: BTreeMap<&str, Client> =
            users().iter().map(|(name, user)| (*name, server.client(user.as_ref()))).collect();
        let found = recording.differences(&recording.again(&clients));
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        differences.extend(found.iter().map(|it| format!("{name}: {it}")));
        if !differences.is_empty() {
            // What is not implemented is told below.
            std::mem::forget(server);
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}
