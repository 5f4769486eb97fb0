//! What is missing, unknown or wrong in a request.

use e2e::cri::Endpoint;
use e2e::cri::proto::*;
use tonic::{Code, Status};

use crate::harness::tests;
use crate::tools::{Pod, image, unique};

tests![
    unknown_ids_are_not_found,
    empty_ids_are_errors,
    missing_configurations_are_errors,
    missing_configurations_are_named,
    a_pod_without_a_name_is_refused,
    a_container_of_no_pod_is_refused,
    enumerations_out_of_range_are_refused,
    a_message_of_many_megabytes_is_taken,
];

fn by_id(endpoint: &dyn Endpoint, id: &str) -> Vec<(&'static str, Option<Status>)> {
    let client = endpoint.client();
    let id = || id.to_owned();
    let cmd = vec!["true".to_owned()];
    vec![
        (
            "PodSandboxStatus",
            client.pod_sandbox_status(PodSandboxStatusRequest { pod_sandbox_id: id(), verbose: false }).err(),
        ),
        (
            "ContainerStatus",
            client.container_status(ContainerStatusRequest { container_id: id(), verbose: true }).err(),
        ),
        ("StartContainer", client.start_container(StartContainerRequest { container_id: id() }).err()),
        ("ExecSync", client.exec_sync(ExecSyncRequest { container_id: id(), cmd: cmd.clone(), timeout: 1 }).err()),
        ("Exec", client.exec(ExecRequest { container_id: id(), cmd, stdout: true, ..Default::default() }).err()),
        ("Attach", client.attach(AttachRequest { container_id: id(), stdout: true, ..Default::default() }).err()),
        ("PortForward", client.port_forward(PortForwardRequest { pod_sandbox_id: id(), port: vec![80] }).err()),
        ("ReopenContainerLog", client.reopen_container_log(ReopenContainerLogRequest { container_id: id() }).err()),
        (
            "UpdateContainerResources",
            client
                .update_container_resources(UpdateContainerResourcesRequest {
                    container_id: id(),
                    linux: Some(LinuxContainerResources::default()),
                    ..Default::default()
                })
                .err(),
        ),
        ("ContainerStats", client.container_stats(ContainerStatsRequest { container_id: id() }).err()),
        ("PodSandboxStats", client.pod_sandbox_stats(PodSandboxStatsRequest { pod_sandbox_id: id() }).err()),
    ]
}

fn unknown_ids_are_not_found(endpoint: &dyn Endpoint) {
    let answers = by_id(endpoint, &"f".repeat(64));
    let wrong: Vec<_> =
        answers.iter().filter(|(_, status)| status.as_ref().map(Status::code) != Some(Code::NotFound)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let config = endpoint.container("c", e2e::BUSYBOX, &["true"]);
    let refused = endpoint.try_create_container(&"f".repeat(64), &endpoint.pod(&unique("none")), &config);
    assert_eq!(refused.expect_err("there is no such pod").code(), Code::NotFound);
}

fn empty_ids_are_errors(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.keeper(|_| {});
    for (call, status) in by_id(endpoint, "") {
        assert!(status.is_some(), "{call} takes an empty id for one that it knows");
    }
    assert_eq!(endpoint.status_of(&id).state(), ContainerState::ContainerRunning);
}

fn missing(endpoint: &dyn Endpoint) -> Vec<(&'static str, Option<Status>)> {
    let client = endpoint.client();
    let pod = Pod::new(endpoint);
    let create = |config: Option<ContainerConfig>| {
        let request =
            CreateContainerRequest { pod_sandbox_id: pod.id.clone(), config, sandbox_config: Some(pod.config.clone()) };
        client.create_container(request).err()
    };
    let config = endpoint.container("c", e2e::BUSYBOX, &["true"]);
    vec![
        ("config", client.run_pod_sandbox(RunPodSandboxRequest::default()).err()),
        ("metadata", endpoint.try_run_pod(&PodSandboxConfig { metadata: None, ..endpoint.pod(&unique("m")) }).err()),
        ("config", create(None)),
        ("metadata", create(Some(ContainerConfig { metadata: None, ..config.clone() }))),
        ("image", create(Some(ContainerConfig { image: None, ..config.clone() }))),
        ("image", create(Some(ContainerConfig { image: image(""), ..config }))),
        ("image", client.pull_image(PullImageRequest::default()).err()),
    ]
}

fn missing_configurations_are_errors(endpoint: &dyn Endpoint) {
    for (index, (field, status)) in missing(endpoint).into_iter().enumerate() {
        assert!(status.is_some(), "request {index} without its {field} was taken");
    }
    drop(Pod::new(endpoint));
}

fn missing_configurations_are_named(endpoint: &dyn Endpoint) {
    for (field, status) in missing(endpoint) {
        let status = status.expect("it is refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status}");
        assert!(status.message().contains(field), "{field}: {status}");
    }
}

fn a_pod_without_a_name_is_refused(endpoint: &dyn Endpoint) {
    let without = |change: fn(&mut PodSandboxMetadata)| {
        let mut config = endpoint.pod(&unique("nameless"));
        change(config.metadata.get_or_insert_default());
        endpoint.try_run_pod(&config)
    };
    for (field, answer) in [
        ("name", without(|it| it.name.clear())),
        ("uid", without(|it| it.uid.clear())),
        ("namespace", without(|it| it.namespace.clear())),
    ] {
        let status = answer.expect_err("kubelet names everything");
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status}");
        assert!(status.message().contains(field), "{field}: {status}");
    }
}

fn a_container_of_no_pod_is_refused(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let config = pod.script("c", "true");
    let id = pod.id.clone();
    endpoint.remove_pod(&id);
    endpoint.try_create_container(&id, &pod.config, &config).expect_err("the pod is gone");
    endpoint.try_create_container("", &pod.config, &config).expect_err("there is no such pod");
}

fn enumerations_out_of_range_are_refused(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let host = endpoint.make_dir("enumerations");
    let mut config = pod.script("c", "true");
    config.mounts.push(Mount {
        container_path: "/m".into(),
        host_path: host.display().to_string(),
        propagation: 77,
        ..Default::default()
    });
    let refused =
        endpoint.try_create_container(&pod.id, &pod.config, &config).expect_err("there is no such propagation");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("propagation"), "{refused}");
}

fn a_message_of_many_megabytes_is_taken(endpoint: &dyn Endpoint) {
    let pod = Pod::with(endpoint, |config| {
        config.annotations.insert("large".into(), "x".repeat(6 << 20));
    });
    let status = endpoint.pod_status(&pod.id);
    assert_eq!(status.annotations.get("large").map(String::len), Some(6 << 20));
}
