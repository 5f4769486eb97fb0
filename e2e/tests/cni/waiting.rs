//! No configuration yet, none that is valid, plug-ins that are not ready; and what there is not beside them.

use std::fs;

use e2e::agent::Agent;
use e2e::cri::proto::{RuntimeCondition, StatusRequest};
use e2e::cri::{Cri, Endpoint};
use e2e::manifest::several;
use e2e::pods::{Pod, keeper, stop};
use e2e::{Node, need};
use serde_json::{Value, json};

use super::plugins::{Plugins, wait_until};

fn kept(mut pod: Value) -> Value {
    pod["spec"]["restartPolicy"] = json!("Always");
    pod
}

#[test]
fn pods_wait_for_a_configuration_and_those_on_the_hosts_network_do_not() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    let mut flags = plugins.os_flags();
    flags.extend(["--restart-backoff".into(), "initial=200ms,max=1s,reset=1s".into()]);
    let mut agent = Agent::start_with(&node, flags);
    agent.write("web.yaml", kept(keeper("web", json!({}))));
    let mut host = kept(keeper("host", json!({})));
    host["spec"]["hostNetwork"] = json!(true);
    agent.write("host.yaml", host);
    agent.wait_for_running("host");
    agent.wait_for_words("NetworkPluginNotReady: there is no CNI configuration in ");
    let why = node.coracle(["why", "web"]).exits(0);
    why.says("NetworkPluginNotReady: there is no CNI configuration in ");
    wait_until("the node says that it is not ready", || {
        let said = node.coracle(["get", "nodes", "-o", "json"]).stdout();
        said.contains("NetworkReady is false: NetworkPluginNotReady: ")
    });
    fs::write(plugins.conf.join("10-bad.conflist"), "{").expect("it is writable");
    agent.wait_for_words("there is no valid CNI configuration in ");
    plugins.write("20-good.conflist", "1.0.0", json!([plugins.bridge()]));
    agent.wait_for_running("web");
    agent.wait_for_words("a CNI configuration is unusable: the next one is used");
    for file in ["web", "host"] {
        agent.remove(&format!("{file}.yaml"));
        agent.wait_until_gone(file);
    }
    plugins.assert_nothing_left(&node);
    agent.stop_with_nothing_left();
}

#[test]
fn a_run_waits_for_a_configuration() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    let flags = plugins.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut run = node.run_with(keeper("web", json!({})), &flags);
    run.wait_for("NetworkPluginNotReady: there is no CNI configuration in ");
    plugins.write("10-good.conflist", "1.0.0", json!([plugins.bridge()]));
    drop(Pod::find(&node, "web"));
    stop(run);
    plugins.assert_nothing_left(&node);
}

#[test]
fn the_runtime_says_whether_its_network_is_ready() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    let flags = plugins.flags();
    let cri = Cri::start_with(&node, &flags.iter().map(String::as_str).collect::<Vec<_>>());
    let network = || -> RuntimeCondition {
        let status = cri.client().status(StatusRequest { verbose: false }).expect("it serves").status;
        let conditions = status.expect("it has conditions").conditions;
        conditions.into_iter().find(|it| it.r#type == "NetworkReady").expect("it says so")
    };
    let unready = |part: &str| {
        let said = network();
        assert_eq!((said.status, said.reason.as_str()), (false, "NetworkPluginNotReady"), "{said:?}");
        assert!(said.message.contains(part), "{said:?}");
    };
    unready("there is no CNI configuration in ");
    plugins.write("10.conflist", "1.0.0", json!([{"type": "absent"}]));
    unready("there is no program absent in ");
    let ready = r#"case $CNI_COMMAND in
        VERSION) echo '{"cniVersion": "1.1.0", "supportedVersions": ["1.1.0"]}' ;;
        STATUS) [ -e $notes/well ] || { echo '{"code": 50, "msg": "not just now"}'; exit 1; } ;;
    esac"#;
    plugins.script("new", ready);
    plugins.write("10.conflist", "1.1.0", json!([{"type": "new"}]));
    unready("STATUS of CNI plug-in new");
    unready("not just now (code 50)");
    fs::write(plugins.notes.join("well"), "").expect("it is writable");
    let said = network();
    assert!(said.status && said.reason.is_empty() && said.message.is_empty(), "{said:?}");
    fs::remove_file(plugins.conf.join("10.conflist")).expect("it is there");
    unready("there is no CNI configuration in ");
}

#[test]
fn links_networks_policies_and_services_say_that_they_are_not_to_be_had() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    plugins.write("10-bridge.conflist", "1.0.0", json!([plugins.bridge()]));
    let mut agent = Agent::start_with(&node, plugins.os_flags());
    let annotated = |name: &str, annotation: &str, value: &str| {
        let mut pod = kept(keeper(name, json!({})));
        pod["metadata"]["annotations"] = json!({ annotation: value });
        pod
    };
    agent.write("linked.yaml", annotated("linked", "coracle.dev/links", "db(ungated)"));
    agent.write("apart.yaml", annotated("apart", "coracle.dev/network", "private"));
    let mut chosen = kept(keeper("chosen", json!({})));
    chosen["metadata"]["labels"] = json!({"app": "chosen"});
    agent.write("chosen.yaml", chosen);
    let spec = json!({"podSelector": {"matchLabels": {"app": "chosen"}}, "policyTypes": ["Ingress"]});
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny"},
        "spec": spec});
    agent.write("policy.yaml", policy);
    agent.write("db.yaml", kept(keeper("db", json!({}))));
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front"},
        "spec": {"selector": {"app": "db"}, "ports": [{"port": 80}]}});
    agent.write("service.yaml", service);
    let waits =
        |pod: &Value, reason: &str| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == reason;
    for (name, reason) in
        [("linked", "LinksUnsupported"), ("apart", "NetworkUnsupported"), ("chosen", "NetworkPolicyUnsupported")]
    {
        agent.wait_for(name, reason, |pod| waits(pod, reason));
        node.coracle(["why", name]).exits(0).says("CNI plug-ins connect the pods here (--cni-conf-dir)");
    }
    // Whom somebody would be linked to has nothing to do with that.
    agent.wait_for_running("db");
    wait_until("the Service says why it has no address", || {
        let said = node.coracle(["get", "services", "front", "-o", "json"]).stdout();
        said.contains("CNI plug-ins connect the pods here")
    });
    for name in ["policy", "service", "linked", "apart", "chosen", "db"] {
        agent.remove(&format!("{name}.yaml"));
    }
    for name in ["linked", "apart", "chosen", "db"] {
        agent.wait_until_gone(name);
    }
    plugins.assert_nothing_left(&node);
    agent.stop_with_nothing_left();
    let both = node.coracle(["--cni-conf-dir", "/etc/cni/net.d", "--default-network", "private", "get", "pods"]);
    both.exits(125).says("--default-network private").says("--cni-conf-dir");
}

#[test]
fn a_run_whose_links_are_not_to_be_had_ends_and_says_so() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    plugins.write("10-bridge.conflist", "1.0.0", json!([plugins.bridge()]));
    let flags = plugins.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let linked = |links: &str| {
        let mut pod = keeper("web", json!({}));
        pod["metadata"]["annotations"] = json!({"coracle.dev/links": links});
        pod
    };
    let said = "web: LinksUnsupported: CNI plug-ins connect the pods here (--cni-conf-dir)";
    // On Coracle's own network it would wait for the pod of somebody else.
    let finished = node.run_with(linked("db.elsewhere"), &flags).wait().exits(1);
    finished.says(said).says("take coracle.dev/links away");
    // Whoever goes on: it is told at once.
    let mut run = node.run_with(several(&[keeper("db", json!({})), linked("db")]), &flags);
    run.wait_for(said);
    drop(Pod::find(&node, "db"));
    run.signal(rustix::process::Signal::TERM);
    run.wait().exits(1);
    plugins.assert_nothing_left(&node);
    node.assert_nothing_left();
}

#[test]
fn what_was_wanted_of_the_pods_own_network_goes_with_the_last_pod_in_it() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    plugins.write("10-bridge.conflist", "1.0.0", json!([plugins.bridge()]));
    let mut chosen = kept(keeper("chosen", json!({})));
    chosen["metadata"]["labels"] = json!({"app": "chosen"});
    let spec = json!({"podSelector": {"matchLabels": {"app": "chosen"}}, "policyTypes": ["Ingress"]});
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny"},
        "spec": spec});
    let wanted = node.state_dir.join("network/wanted/agent.json");

    let mut own = Agent::start(&node);
    own.write("policy.yaml", policy);
    own.write("chosen.yaml", chosen);
    own.wait_for_running("chosen");
    assert!(wanted.exists());
    own.stop();
    let mut agent = Agent::start_with(&node, plugins.os_flags());
    let pod = agent.wait_for_running("chosen");
    assert!(wanted.exists(), "without it the pod would be open to all: {pod:#}");
    agent.remove("chosen.yaml");
    agent.wait_until_gone("chosen");
    wait_until("nothing is wanted any more", || !wanted.exists());
    agent.write("other.yaml", kept(keeper("other", json!({}))));
    agent.wait_for_running("other");
    assert!(!wanted.exists());
    for name in ["policy", "other"] {
        agent.remove(&format!("{name}.yaml"));
    }
    agent.wait_until_gone("other");
    plugins.assert_nothing_left(&node);
    agent.stop_with_nothing_left();
}

#[test]
fn doctor_says_which_configuration_counts_and_what_its_plug_ins_lack() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    let doctor = || {
        let args = plugins.flags().into_iter().chain(["doctor", "-o", "json"].map(str::to_owned));
        let found = node.coracle(args.collect::<Vec<_>>()).exits(0).stdout();
        let found: Vec<Value> = serde_json::from_str(&found).expect("JSON");
        let text = |it: &Value| format!("{}: {}", it["state"], it["what"]).replace('"', "");
        found.iter().filter(|it| it["topic"] == "CNI").map(text).collect::<Vec<_>>()
    };
    let conf = plugins.conf.display();
    assert_eq!(doctor(), [format!("degraded: there is no CNI configuration in {conf}")]);
    fs::write(plugins.conf.join("05.conflist"), "{").expect("it is writable");
    plugins.write("10.conflist", "1.0.0", json!([plugins.bridge(), {"type": "absent"}, {"type": "gone"}]));
    let [broken, used, absent, gone] = <[String; 4]>::try_from(doctor()).expect("four findings");
    assert!(broken.starts_with(&format!("degraded: {conf}/05.conflist is unusable: it is no JSON")), "{broken}");
    assert_eq!(used, format!("ok: network e2e-net of {conf}/10.conflist (cniVersion 1.0.0): bridge, absent, gone"));
    for (found, name) in [(absent, "absent"), (gone, "gone")] {
        assert!(found.starts_with(&format!("degraded: there is no program {name} in ")), "{found}");
    }
    let body = r#"case $CNI_COMMAND in
        VERSION) echo '{"cniVersion": "1.1.0", "supportedVersions": ["1.1.0"]}' ;;
        STATUS) [ -e $notes/well ] || { echo '{"code": 50, "msg": "not just now"}'; exit 1; } ;;
    esac"#;
    plugins.script("new", body);
    fs::remove_file(plugins.conf.join("05.conflist")).expect("it is there");
    plugins.write("10.conflist", "1.1.0", json!([{"type": "new"}]));
    let [_, status] = <[String; 2]>::try_from(doctor()).expect("two findings");
    assert!(status.contains("STATUS of CNI plug-in new") && status.contains("not just now (code 50)"), "{status}");
    fs::write(plugins.notes.join("well"), "").expect("it is writable");
    assert_eq!(doctor(), [format!("ok: network e2e-net of {conf}/10.conflist (cniVersion 1.1.0): new")]);
}
