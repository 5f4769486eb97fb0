//! Containers: their life, their lists, what runs in them.

use std::time::{Duration, Instant};

use e2e::archive::Packing;
use e2e::cri::proto::*;
use e2e::cri::{Endpoint, map};
use e2e::{BUSYBOX, fixtures, need};
use serde_json::json;
use tonic::Code;

use crate::harness::tests;
use crate::tools::{END, Pod, image, unique};

tests![
    a_container_is_created_started_stopped_and_removed,
    a_container_is_started_once,
    stopping_waits_for_the_grace_period,
    no_grace_period_kills_at_once,
    a_stop_signal_of_the_image_is_sent,
    a_stop_signal_of_the_request_is_sent,
    a_running_container_may_be_removed,
    containers_are_listed_by_what_they_are,
    containers_are_streamed_as_they_are_listed,
    a_containers_name_is_taken_until_it_is_removed,
    a_command_that_is_not_there_is_a_start_error,
    an_image_that_is_not_there_is_an_error,
    the_command_is_put_together_with_the_images,
    the_working_directory_is_made,
    the_environment_is_the_images_and_the_requests,
    exec_sync_tells_both_outputs_and_the_code,
    exec_sync_of_nothing_is_an_error,
    exec_sync_of_what_does_not_run_is_an_error,
    a_terminal_is_one,
    standard_input_is_empty_or_open,
    a_device_is_there,
    cdi_devices_are_looked_up,
    more_is_told_of_a_container_when_asked_for,
    an_exit_code_is_kept,
    a_signal_is_a_code_above_128,
];

fn a_container_is_created_started_stopped_and_removed(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.create(&pod.script("c", "trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done"));
    assert_eq!(endpoint.status_of(&id).state(), ContainerState::ContainerCreated);
    endpoint.start_container(&id);
    assert_eq!(endpoint.status_of(&id).state(), ContainerState::ContainerRunning);
    endpoint.wait_for_log(&pod.config, &pod.script("c", ""), "up");
    endpoint.stop_container(&id, 30);
    let status = endpoint.status_of(&id);
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 9), "{status:#?}");
    endpoint.remove_container(&id);
    let request = ContainerStatusRequest { container_id: id, verbose: false };
    let gone = endpoint.client().container_status(request).expect_err("it is gone");
    assert_eq!(gone.code(), Code::NotFound);
}

fn a_container_is_started_once(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.keeper(|_| {});
    endpoint.try_start_container(&id).expect_err("it runs");
    endpoint.stop_container(&id, 0);
    endpoint.try_start_container(&id).expect_err("it has run");
}

fn stopping_waits_for_the_grace_period(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let config = pod.script("c", "trap 'echo asked' TERM; echo up; while :; do sleep 0.1; done");
    let id = pod.run(&config);
    endpoint.wait_for_log(&pod.config, &config, "up");
    let start = Instant::now();
    endpoint.stop_container(&id, 2);
    assert!(start.elapsed() >= Duration::from_secs(2), "it was not waited for");
    assert_eq!(endpoint.status_of(&id).exit_code, 137);
    endpoint.wait_for_log(&pod.config, &config, "asked");
}

fn no_grace_period_kills_at_once(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let config = pod.script("c", "trap 'echo asked' TERM; echo up; while :; do sleep 0.1; done");
    let id = pod.run(&config);
    endpoint.wait_for_log(&pod.config, &config, "up");
    endpoint.stop_container(&id, 0);
    let status = endpoint.status_of(&id);
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 137));
    assert!(!endpoint.logs(&pod.config, &config).iter().any(|it| it.text == "asked"));
}

fn a_stop_signal_of_the_image_is_sent(endpoint: &dyn Endpoint) {
    let name = "conformance.test/stop-signal:1";
    let built = need!(fixtures::busybox_image(name, json!({"StopSignal": "SIGUSR1"})));
    let path = endpoint.make_dir("archives").join("stop-signal.tar");
    built.write_oci(&path, Packing::Gzip).expect("the directory is writable");
    endpoint.import(&path, name);
    let pod = Pod::new(endpoint);
    let mut config = pod.script("c", "trap 'exit 42' USR1; echo up; while :; do sleep 0.1; done");
    config.image = image(name);
    let id = pod.run(&config);
    endpoint.wait_for_log(&pod.config, &config, "up");
    endpoint.stop_container(&id, 30);
    assert_eq!(endpoint.status_of(&id).exit_code, 42);
}

fn a_stop_signal_of_the_request_is_sent(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let mut config = pod.script("c", "trap 'exit 43' USR2; echo up; while :; do sleep 0.1; done");
    config.stop_signal = Signal::Sigusr2 as i32;
    let id = pod.run(&config);
    endpoint.wait_for_log(&pod.config, &config, "up");
    assert_eq!(endpoint.status_of(&id).stop_signal(), Signal::Sigusr2);
    endpoint.stop_container(&id, 30);
    assert_eq!(endpoint.status_of(&id).exit_code, 43);
}

fn a_running_container_may_be_removed(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.keeper(|_| {});
    endpoint.remove_container(&id);
    assert!(listed(endpoint, ContainerFilter { id, ..Default::default() }).is_empty());
}

fn listed(endpoint: &dyn Endpoint, filter: ContainerFilter) -> Vec<String> {
    let answer = endpoint.client().list_containers(ListContainersRequest { filter: Some(filter) });
    let mut ids: Vec<String> = answer.expect("a list").containers.into_iter().map(|it| it.id).collect();
    ids.sort();
    ids
}

fn containers_are_listed_by_what_they_are(endpoint: &dyn Endpoint) {
    let group = unique("group");
    let (pod, other) = (Pod::new(endpoint), Pod::new(endpoint));
    let labels = map(&[("group", &group)]);
    let with_labels = |config: &mut ContainerConfig| config.labels = labels.clone();
    let running = pod.keeper(with_labels);
    let elsewhere = other.keeper(with_labels);
    let mut config = pod.script("created", "true");
    config.labels = labels.clone();
    let created = pod.create(&config);
    let sorted = |ids: &[&String]| {
        let mut ids: Vec<String> = ids.iter().map(|&id| id.clone()).collect();
        ids.sort();
        ids
    };
    let of_group = ContainerFilter { label_selector: labels.clone(), ..Default::default() };
    assert_eq!(listed(endpoint, of_group.clone()), sorted(&[&running, &elsewhere, &created]));
    let of_pod = ContainerFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() };
    assert_eq!(listed(endpoint, of_pod.clone()), sorted(&[&running, &created]));
    let state = |state: ContainerState| ContainerFilter {
        state: Some(ContainerStateValue { state: state as i32 }),
        ..of_pod.clone()
    };
    assert_eq!(listed(endpoint, state(ContainerState::ContainerRunning)), std::slice::from_ref(&running));
    assert_eq!(listed(endpoint, state(ContainerState::ContainerCreated)), std::slice::from_ref(&created));
    assert!(listed(endpoint, state(ContainerState::ContainerExited)).is_empty());
    let by_id = ContainerFilter { id: created[..created.len() - 1].into(), ..Default::default() };
    assert_eq!(listed(endpoint, by_id), std::slice::from_ref(&created), "the beginning of an id is enough");
    let contradiction = ContainerFilter { id: elsewhere.clone(), ..of_pod };
    assert!(listed(endpoint, contradiction).is_empty());
}

fn containers_are_streamed_as_they_are_listed(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let mut expected: Vec<String> = (0..3).map(|index| pod.create(&pod.script(&format!("c{index}"), "true"))).collect();
    expected.sort();
    let filter = ContainerFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() };
    let streamed = endpoint.client().stream_containers(StreamContainersRequest { filter: Some(filter) });
    let streamed = streamed.expect("StreamContainers answers").into_iter().flat_map(|it| it.containers);
    let mut ids: Vec<String> = streamed.map(|it| it.id).collect();
    ids.sort();
    assert_eq!(ids, expected);
}

fn a_containers_name_is_taken_until_it_is_removed(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let mut config = pod.script("same", "true");
    let first = pod.create(&config);
    endpoint.try_create_container(&pod.id, &pod.config, &config).expect_err("the name is taken");
    config.metadata = Some(ContainerMetadata { name: "same".into(), attempt: 1 });
    assert_ne!(pod.create(&config), first, "another attempt is another container");
    endpoint.remove_container(&first);
    pod.create(&pod.script("same", "true"));
}

fn a_command_that_is_not_there_is_a_start_error(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let mut config = pod.script("c", "");
    config.command = vec!["/no/such/program".into()];
    let id = pod.create(&config);
    let refused = endpoint.try_start_container(&id).expect_err("it cannot be started");
    assert!(refused.message().contains("/no/such/program"), "{refused}");
    let status = endpoint.status_of(&id);
    assert_eq!(status.state(), ContainerState::ContainerExited, "{status:#?}");
    assert_ne!(status.exit_code, 0);
    assert_eq!(status.reason, "StartError");
    assert!(status.message.contains("/no/such/program"), "{status:#?}");
}

fn an_image_that_is_not_there_is_an_error(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let mut config = pod.script("c", "true");
    config.image = image("conformance.test/none:1");
    let refused = endpoint.try_create_container(&pod.id, &pod.config, &config).expect_err("there is no image");
    assert!(refused.message().contains("conformance.test/none") || refused.code() == Code::NotFound, "{refused}");
}

fn the_command_is_put_together_with_the_images(endpoint: &dyn Endpoint) {
    let name = "conformance.test/command:1";
    let says = |word: &str| ["sh", "-c", &format!("echo $0 $@; echo {END}"), word].map(str::to_owned).to_vec();
    let built = need!(fixtures::busybox_image(name, json!({"Entrypoint": says("entry"), "Cmd": ["cmd"]})));
    let path = endpoint.make_dir("archives").join("command.tar");
    built.write_oci(&path, Packing::Gzip).expect("the directory is writable");
    endpoint.import(&path, name);
    let pod = Pod::new(endpoint);
    for (command, args, expected) in [
        (vec![], vec![], "entry cmd"),
        (vec![], vec!["args".to_owned()], "entry args"),
        (says("own"), vec![], "own"),
        (says("own"), vec!["args".to_owned()], "own args"),
    ] {
        let said = pod.says("", |config| {
            config.image = image(name);
            (config.command, config.args) = (command, args);
        });
        assert_eq!(said, expected);
    }
}

fn the_working_directory_is_made(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    assert_eq!(pod.says("pwd", |config| config.working_dir = "/tmp".into()), "/tmp");
    assert_eq!(pod.says("pwd", |config| config.working_dir = "/not/there/yet".into()), "/not/there/yet");
    assert_eq!(pod.says("pwd", |_| {}), "/");
}

fn the_environment_is_the_images_and_the_requests(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let pair = |key: &str, value: &str| KeyValue { key: key.into(), value: value.as_bytes().into() };
    let said = pod.says("env; echo \"$LINES_OF_IT\"", |config| {
        config.envs = vec![pair("A", "b c"), pair("EMPTY", ""), pair("LINES_OF_IT", "x\ny")];
    });
    let lines: Vec<&str> = said.lines().collect();
    for expected in ["A=b c", "EMPTY=", "x", "y"] {
        assert!(lines.contains(&expected), "{expected}: {lines:#?}");
    }
    assert!(said.contains("PATH=/usr/local/sbin"), "{said}");
    let path = pod.says("/bin/echo $PATH", |config| config.envs = vec![pair("PATH", "/bin:/own")]);
    assert_eq!(path, "/bin:/own", "the request's wins");
}

fn exec_sync_tells_both_outputs_and_the_code(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.keeper(|_| {});
    let answer = endpoint.exec_sync(&id, &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((answer.stdout, answer.stderr, answer.exit_code), (b"out\n".to_vec(), b"err\n".to_vec(), 7));
    let answer = endpoint.exec_sync(&id, &["sh", "-c", "kill -9 $$"]);
    assert_eq!(answer.exit_code, 137);
    let bytes = endpoint.exec_sync(&id, &["head", "-c", "300000", "/dev/zero"]);
    assert_eq!((bytes.stdout.len(), bytes.stdout.iter().all(|&byte| byte == 0)), (300_000, true));
    let forever = endpoint.try_exec_sync(&id, &["echo", "no limit"], 0).expect("a timeout of 0 is none");
    assert_eq!(forever.stdout, b"no limit\n");
}

fn exec_sync_of_nothing_is_an_error(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.keeper(|_| {});
    endpoint.try_exec_sync(&id, &[], 10).expect_err("there is no command");
    endpoint.try_exec_sync(&id, &["/no/such/program"], 10).expect_err("there is no such program");
    assert_eq!(endpoint.output(&id, &["echo", "alive"]), "alive");
}

fn exec_sync_of_what_does_not_run_is_an_error(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.create(&pod.script("c", "true"));
    endpoint.try_exec_sync(&id, &["true"], 10).expect_err("it does not run yet");
    endpoint.start_container(&id);
    endpoint.wait_for_state(&id, ContainerState::ContainerExited);
    endpoint.try_exec_sync(&id, &["true"], 10).expect_err("it does not run any more");
}

fn a_terminal_is_one(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let said = pod.says("tty; test -t 0 && test -t 1 && test -t 2 && echo all", |config| config.tty = true);
    assert!(said.contains("/dev/pts/") && said.contains("all"), "{said}");
    pod.says("! test -t 0 && ! test -t 1", |_| {});
}

fn standard_input_is_empty_or_open(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    assert_eq!(pod.says("cat; echo ended", |_| {}), "ended");
    let mut config = pod.script("open", "cat; echo ended");
    (config.stdin, config.stdin_once) = (true, true);
    let id = pod.run(&config);
    // Nobody is attached: it waits.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(endpoint.status_of(&id).state(), ContainerState::ContainerRunning);
}

fn a_device_is_there(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let said = pod.says("ls -l /dev/own; head -c 3 /dev/own | wc -c; echo x > /dev/own && echo written", |config| {
        config.devices.push(Device {
            container_path: "/dev/own".into(),
            host_path: "/dev/zero".into(),
            permissions: "rwm".into(),
        });
    });
    assert!(said.contains("1,   5") && said.contains("\n3\n") && said.ends_with("written"), "{said}");
    let refused = pod.says("head -c 1 /dev/kmsg 2>&1 || echo refused", |_| {});
    assert!(refused.contains("refused"), "devices of the host are not there: {refused}");
}

fn cdi_devices_are_looked_up(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let refused = pod.refuses(|config| config.cdi_devices = vec![CdiDevice { name: "vendor.test/class=none".into() }]);
    assert!(refused.contains("vendor.test/class=none"), "{refused}");
}

fn more_is_told_of_a_container_when_asked_for(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.keeper(|_| {});
    let ask = |verbose: bool| {
        let request = ContainerStatusRequest { container_id: id.clone(), verbose };
        endpoint.client().container_status(request).expect("ContainerStatus answers").info
    };
    assert!(ask(false).is_empty());
    let info = ask(true);
    let text = info.get("info").unwrap_or_else(|| panic!("{info:#?}"));
    let info: serde_json::Value = serde_json::from_str(text).expect("it is JSON");
    assert!(info["pid"].as_u64().is_some_and(|pid| pid > 1), "tools ask for the process: {info:#}");
}

fn an_exit_code_is_kept(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    for code in [0, 1, 126, 127, 255] {
        let mut config = endpoint.container(&unique("c"), BUSYBOX, &["sh", "-c", &format!("exit {code}")]);
        config.log_path.clear();
        assert_eq!(pod.run_to_end(&config).exit_code, code);
    }
}

fn a_signal_is_a_code_above_128(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    for (signal, code) in [("SEGV", 139), ("KILL", 137), ("USR1", 138)] {
        let config = pod.script(&unique("signal"), &format!("kill -{signal} $$; sleep 1000"));
        assert_eq!(pod.run_to_end(&config).exit_code, code, "{signal}");
    }
}
