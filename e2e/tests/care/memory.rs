//! Memory runs short: that of all pods together, which is a part of the machine's.

use e2e::agent::container_id;
use e2e::manifest::{keeper, pod, shell};
use e2e::{Node, inspect, need};
use serde_json::json;

use crate::{agent, evicted};

fn total() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("there is memory");
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).expect("it says how much");
    line.split_whitespace().next().and_then(|it| it.parse::<u64>().ok()).expect("a number") << 10
}

#[test]
fn the_pod_above_its_request_goes_and_the_others_stay() {
    let node = need!(Node::with_busybox());
    // Everything but this is kept for the node's own services.
    let pods = 256u64 << 20;
    let settings = json!({
        "systemReserved": {"memory": (total() - pods).to_string()},
        "evictionHard": {"memory.available": "100Mi"},
    });
    let agent = agent(&node, settings);
    let mut modest = keeper("modest");
    modest["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "100m", "memory": "32Mi"}});
    modest["spec"]["containers"][0]["env"] = json!([{"name": "MARK", "value": "modest"}]);
    agent.write("modest.yaml", &modest);
    let before = container_id(&agent.wait_for_running("modest"), "c");
    let mut greedy = shell("c", "dd if=/dev/zero of=/memory/file bs=1M count=180; exec sleep 1000");
    greedy["volumeMounts"] = json!([{"name": "memory", "mountPath": "/memory"}]);
    let volumes = json!([{"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "200Mi"}}]);
    agent.write("greedy.yaml", pod("greedy", json!({"containers": [greedy], "volumes": volumes})));
    let why = evicted(&agent, "greedy");
    assert!(why.starts_with("The node was low on resource: memory. Threshold quantity: 100Mi, available: "), "{why}");
    agent.wait_for_words("Attempting to reclaim memory");
    assert_eq!(container_id(&agent.wait_for_running("modest"), "c"), before, "{}", agent.said());
    // What bounds the pods is there for the kernel to see, too.
    let process = inspect::process_with_environment(&node, "MARK=modest").expect("it runs");
    let cgroup = inspect::cgroup_of(process, "memory").expect("memory is controlled");
    let all = cgroup.ancestors().find(|dir| dir.ends_with("kubepods")).expect("it is in kubepods");
    let read = |file| std::fs::read_to_string(all.join(file));
    let limit = read("memory.limit_in_bytes").or_else(|_| read("memory.max")).expect("it has a limit");
    assert_eq!(limit.trim(), pods.next_multiple_of(4096).to_string());
}
