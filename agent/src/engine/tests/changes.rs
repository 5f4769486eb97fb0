//! Definitions that change while their pods run.

use super::*;
use crate::engine::config::objects::Origin;

/// Two containers, of which `a` is as given.
fn two(a: Value) -> Arc<Pod> {
    let mut first = json!({"name": "a"});
    first.as_object_mut().unwrap().extend(a.as_object().unwrap().clone());
    pod("p", json!({"terminationGracePeriodSeconds": 30, "containers": [first, {"name": "b"}]}))
}

async fn changed(from: Arc<Pod>, to: Arc<Pod>) -> (Bench, PodHandle, Vec<String>) {
    let bench = agent().await;
    bench.fake.world().images.insert("j".into());
    let handle = bench.engine.start(from).unwrap();
    at(5).await;
    bench.new_calls();
    assert!(handle.update(to));
    at(10).await;
    let calls = bench.new_calls();
    (bench, handle, calls)
}

async fn end(handle: PodHandle) {
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

const RESTART_A: [&str; 2] = ["stop p-s0-a0 30", "create a 1"];

#[tokio::test(start_paused = true)]
async fn another_image_restarts_that_container_alone() {
    let (bench, handle, calls) = changed(two(json!({})), two(json!({"image": "j"}))).await;
    assert_eq!(calls, RESTART_A);
    assert_eq!(bench.container(0)["image"], "j");
    assert_eq!((&bench.container(0)["restartCount"], &bench.container(1)["restartCount"]), (&json!(1), &json!(0)));
    end(handle).await;
}

#[tokio::test(start_paused = true)]
async fn labels_and_annotations_restart_nothing_and_are_in_the_record() {
    let mut labelled = Pod::clone(&two(json!({})));
    labelled.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
    let (bench, handle, calls) = changed(two(json!({})), Arc::new(labelled)).await;
    assert_eq!(calls, Vec::<String>::new());
    assert_eq!(bench.record()["metadata"]["labels"]["app"], "web");
    end(handle).await;
}

#[tokio::test(start_paused = true)]
async fn resources_change_while_the_container_runs_and_a_failure_is_tried_again() {
    let limits = |memory: &str| json!({"resources": {"limits": {"memory": memory, "cpu": "500m"}}});
    let (mut bench, handle, calls) = changed(two(limits("64Mi")), two(limits("128Mi"))).await;
    assert_eq!(calls, ["resize p-s0-a0 50000 134217728"]);
    let resizes = |bench: &mut Bench| -> Vec<String> {
        let reason = |event: Event| match event {
            Event::Resize { reason, .. } => Some(reason),
            _ => None,
        };
        bench.events().into_iter().filter_map(reason).collect()
    };
    assert_eq!(resizes(&mut bench), ["ResizeStarted", "ResizeCompleted"]);
    assert_eq!(bench.container(0)["resources"]["limits"]["memory"], "128Mi");
    bench.fake.world().resize_failures.push_back(Status::internal("busy"));
    handle.update(two(limits("96Mi")));
    at(10).await;
    let conditions = bench.record()["status"]["conditions"].clone();
    let resize = conditions.as_array().unwrap().iter().find(|it| it["type"] == "PodResizeInProgress").unwrap().clone();
    assert_eq!((&resize["reason"], &resize["message"]), (&json!("Error"), &json!("busy")));
    at(30).await;
    assert_eq!(bench.new_calls(), ["resize p-s0-a0 50000 100663296", "resize p-s0-a0 50000 100663296"]);
    assert_eq!(bench.container(0)["resources"]["limits"]["memory"], "96Mi");
    handle.kill().await;
    let bench = bench.next_agent("").await;
    let handle = bench.engine.start(two(limits("96Mi"))).unwrap();
    at(10).await;
    assert_eq!(bench.new_calls(), Vec::<String>::new(), "the next agent knows what it has");
    end(handle).await;
}

#[tokio::test(start_paused = true)]
async fn a_resize_policy_and_a_lifted_limit_restart() {
    let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let limits = |memory: &str| json!({"resizePolicy": policy, "resources": {"limits": {"memory": memory}}});
    let (_, handle, calls) = changed(two(limits("64Mi")), two(limits("128Mi"))).await;
    assert_eq!(calls, RESTART_A);
    end(handle).await;
    let limited = json!({"resources": {"limits": {"memory": "64Mi"}, "requests": {"memory": "32Mi"}}});
    let (_, handle, calls) = changed(two(limited), two(json!({"resources": {"requests": {"memory": "32Mi"}}}))).await;
    assert_eq!(calls, RESTART_A);
    end(handle).await;
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_field_replaces_the_sandbox_under_the_same_uid() {
    let mut host = Pod::clone(&two(json!({})));
    host.spec.as_mut().unwrap().hostname = Some("other".into());
    let (bench, handle, calls) = changed(two(json!({})), Arc::new(host)).await;
    assert_eq!(calls[..2], ["stop p-s0-a0 30", "stop p-s0-b0 30"]);
    assert_eq!(calls[2..], ["stop-sandbox p-s0", "sandbox p 1", "create a 1", "create b 1"]);
    assert_eq!(bench.record()["metadata"]["uid"], "uid-p");
    end(handle).await;
}

#[tokio::test(start_paused = true)]
async fn containers_come_and_go_by_themselves() {
    let named = |names: &[&str]| {
        let containers: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        pod("p", json!({"containers": containers}))
    };
    let (bench, handle, mut calls) = changed(named(&["a", "b"]), named(&["b", "c"])).await;
    calls.sort();
    assert_eq!(calls, ["create c 0", "remove p-s0-a0", "stop p-s0-a0 30"]);
    assert_eq!(bench.fake.world().containers.len(), 2);
    end(handle).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_taken_back_before_it_began_restarts_nothing() {
    let bench = agent().await;
    bench.fake.world().images.insert("j".into());
    let handle = bench.engine.start(two(json!({}))).unwrap();
    at(5).await;
    bench.new_calls();
    handle.update(two(json!({"image": "j"})));
    handle.update(two(json!({})));
    at(10).await;
    assert_eq!(bench.new_calls(), Vec::<String>::new());
    handle.update(two(json!({"image": "j"})));
    // Its stop takes a second: it is under way when the change is taken back.
    tokio::time::sleep(Duration::from_millis(500)).await;
    handle.update(two(json!({})));
    at(10).await;
    assert_eq!(bench.new_calls(), RESTART_A, "what is stopped starts again, though its definition is the old one");
    end(handle).await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_image_that_is_mended_does_not_wait() {
    let bench = agent().await;
    let handle = bench.engine.start(two(json!({"image": "gone"}))).unwrap();
    at(100).await;
    assert_eq!(bench.container(0)["state"]["waiting"]["reason"], "ImagePullBackOff");
    bench.new_calls();
    handle.update(two(json!({"image": "i"})));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.new_calls(), ["create a 0"]);
    end(handle).await;
}

#[tokio::test(start_paused = true)]
async fn another_image_does_not_wait_for_the_back_off() {
    for origin in [Origin::Manifests, Origin::Cluster] {
        let bench = agent().await;
        bench.fake.world().images.insert("j".into());
        bench.fake.script("a", std::iter::repeat_n(exits(1, 3), 9));
        bench.engine.set_objects_of("uid-p", Arc::new(Objects { origin, ..Objects::default() }));
        let handle = bench.engine.start(two(json!({}))).unwrap();
        at(100).await;
        assert_eq!(bench.container(0)["state"]["waiting"]["reason"], "CrashLoopBackOff");
        bench.new_calls();
        handle.update(two(json!({"image": "j"})));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let calls = bench.new_calls();
        assert!(calls.iter().any(|call| call == "create a 5"), "{origin:?}: {calls:?}");
        assert_eq!(bench.container(0)["image"], "j");
        end(handle).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_servers_pod_that_the_node_has_ended_stays_so_whatever_changes() {
    let bench = agent().await;
    bench.fake.world().images.insert("j".into());
    bench.engine.set_objects_of("uid-p", Arc::new(Objects { origin: Origin::Cluster, ..Objects::default() }));
    let handle = bench.engine.start(two(json!({}))).unwrap();
    at(5).await;
    handle.stopper().evict("Terminated", "the node goes down", Some(Duration::from_secs(3)));
    at(5).await;
    let status = bench.record()["status"].clone();
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("Terminated")));
    let conditions = status["conditions"].as_array().unwrap().iter();
    assert!(conditions.clone().any(|it| it["type"] == "DisruptionTarget" && it["status"] == "True"), "{status:#}");
    bench.new_calls();
    handle.update(two(json!({"image": "j"})));
    at(5).await;
    assert_eq!(bench.new_calls(), Vec::<String>::new());
    assert_eq!(bench.record()["status"]["reason"], "Terminated");
    end(handle).await;
}

#[tokio::test(start_paused = true)]
async fn an_update_interrupts_a_pull() {
    let bench = agent().await;
    bench.fake.world().pulls.takes = Duration::from_secs(1000);
    let handle = bench.engine.start(two(json!({"image": "slow"}))).unwrap();
    at(5).await;
    bench.new_calls();
    handle.update(two(json!({})));
    at(1).await;
    assert_eq!(bench.new_calls(), ["create a 0", "create b 0"]);
    end(handle).await;
}

#[tokio::test(start_paused = true)]
async fn the_next_agent_finds_what_changed_while_there_was_none() {
    let bench = agent().await;
    bench.fake.world().images.insert("j".into());
    let handle = bench.engine.start(two(json!({}))).unwrap();
    at(5).await;
    handle.kill().await;
    bench.new_calls();
    let bench = bench.next_agent("").await;
    let handle = bench.engine.start(two(json!({"image": "j"}))).unwrap();
    at(10).await;
    assert_eq!(bench.new_calls(), RESTART_A);
    end(handle).await;
}

#[tokio::test(start_paused = true)]
async fn an_init_container_that_changes_runs_again_and_what_comes_after_it() {
    let spec = |image: &str| {
        json!({"initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"},
            {"name": "j", "image": image}], "containers": [{"name": "a"}]})
    };
    let bench = agent().await;
    bench.fake.world().images.insert("x".into());
    bench.fake.script("i", [exits(0, 0)]);
    bench.fake.script("j", [exits(0, 0)]);
    let handle = bench.engine.start(pod("p", spec("i"))).unwrap();
    at(5).await;
    bench.new_calls();
    handle.update(pod("p", spec("x")));
    at(10).await;
    assert_eq!(bench.new_calls(), ["stop p-s0-a0 30", "create j 1", "create a 1"]);
    assert_eq!(bench.record()["status"]["phase"], "Running");
    end(handle).await;
}

#[tokio::test(start_paused = true)]
async fn followed_objects_restart_what_refers_to_them() {
    let spec = json!({"containers": [
        {"name": "a", "envFrom": [{"configMapRef": {"name": "settings"}}]},
        {"name": "b"}]});
    let following = |follow: bool| {
        let mut pod = Pod::clone(&pod("p", spec.clone()));
        let annotation = ("coracle.dev/restart-on-change".to_owned(), follow.to_string());
        pod.metadata.annotations = Some([annotation].into());
        Arc::new(pod)
    };
    let objects = |value: &str| {
        let map = json!({"metadata": {"name": "settings"}, "data": {"KEY": value}});
        let key = ("default".to_owned(), "settings".to_owned());
        let config_maps = [(key, Arc::new(serde_json::from_value(map).unwrap()))].into();
        Objects { config_maps, ..Objects::default() }
    };
    for follow in [true, false] {
        let bench = bench_with(|options| {
            options.keep = true;
            options.objects = objects("1");
        });
        let bench = bench.await;
        let handle = bench.engine.start(following(follow)).unwrap();
        at(5).await;
        bench.new_calls();
        bench.engine.set_objects(objects("1"));
        at(5).await;
        assert_eq!(bench.new_calls(), Vec::<String>::new());
        bench.engine.set_objects(objects("2"));
        at(5).await;
        let calls = bench.new_calls();
        if follow {
            assert_eq!(calls, RESTART_A);
        } else {
            assert!(calls.is_empty(), "{calls:?}");
        }
        end(handle).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_another_uid_is_refused() {
    let bench = agent().await;
    let handle = bench.engine.start(one("Always")).unwrap();
    assert!(!handle.update(pod("q", json!({"containers": [{"name": "a"}]}))));
    end(handle).await;
}

#[tokio::test(start_paused = true)]
async fn what_waited_for_an_object_begins_when_it_appears() {
    let env = json!({"env": [{"name": "V", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]});
    let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    for first in [env, mount] {
        let bench = agent().await;
        let mut pod = Pod::clone(&two(first.clone()));
        let volumes = json!([{"name": "v", "configMap": {"name": "m"}}]);
        if first.get("volumeMounts").is_some() {
            pod.spec.as_mut().unwrap().volumes = serde_json::from_value(volumes).unwrap();
        }
        let handle = bench.engine.start(Arc::new(pod)).unwrap();
        // Long enough for the next try to be far away.
        at(100).await;
        assert!(!bench.new_calls().contains(&"create a 0".to_owned()), "{first}");
        let map = json!({"metadata": {"namespace": "default", "name": "m"}, "data": {"k": "v"}});
        let map = Arc::new(serde_json::from_value(map).unwrap());
        let config_maps = BTreeMap::from([(("default".to_owned(), "m".to_owned()), map)]);
        bench.engine.set_objects(Objects { config_maps, ..Objects::default() });
        at(1).await;
        assert!(bench.new_calls().contains(&"create a 0".to_owned()), "{first}");
        end(handle).await;
    }
}
