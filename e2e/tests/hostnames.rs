//! What a pod is called, by itself and by its hosts file.

use e2e::manifest::script;
use e2e::{Node, need};
use serde_json::{Value, json};

#[test]
fn a_pod_is_called_as_it_asks_for() {
    let node = need!(Node::with_busybox());
    let long = "a".repeat(60);
    for (spec, kernel, hosts) in [
        (json!({}), "test", "test"),
        (json!({"hostname": "box"}), "box", "box"),
        (json!({"hostname": "box", "subdomain": "sub"}), "box", "box.sub.default.svc.cluster.local box"),
        (
            json!({"hostname": "box", "subdomain": "sub", "setHostnameAsFQDN": true}),
            "box.sub.default.svc.cluster.local",
            "box.sub.default.svc.cluster.local box",
        ),
        (
            json!({"hostname": "box", "subdomain": "sub", "hostnameOverride": "a.example.com"}),
            "a.example.com",
            "a.example.com",
        ),
    ] {
        let mut pod =
            script("echo kernel $(cat /proc/sys/kernel/hostname); echo hosts $(tail -1 /etc/hosts | cut -f2-)");
        for (key, value) in spec.as_object().expect("an object") {
            pod["spec"][key] = value.clone();
        }
        let finished = node.run_to_end(pod).exits(0);
        assert_eq!(finished.value("test/c", "kernel"), kernel, "{spec}: {finished}");
        assert_eq!(finished.value("test/c", "hosts"), hosts, "{spec}: {finished}");
    }
    let mut pod: Value = script("echo ran");
    pod["spec"]["subdomain"] = json!(long);
    pod["spec"]["setHostnameAsFQDN"] = json!(true);
    node.run_to_end(pod).exits(2).says("the kernel takes at most 64 characters").never_says("| ran");
}
