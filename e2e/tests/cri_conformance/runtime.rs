//! The runtime as a whole.

use e2e::cri::Endpoint;
use e2e::cri::proto::*;
use tonic::Code;

use crate::harness::tests;
use crate::tools::Pod;

tests![
    it_says_what_it_is,
    it_is_ready,
    it_tells_more_when_asked_to,
    handlers_and_features_are_told,
    the_cgroup_driver_is_told,
    the_range_of_pods_may_be_told,
    checkpoints_are_not_implemented,
    an_unknown_handler_is_refused,
];

fn it_says_what_it_is(endpoint: &dyn Endpoint) {
    let version = endpoint.client().version(VersionRequest { version: "v1".into() }).expect("Version answers");
    assert_eq!(version.runtime_name, endpoint.name());
    assert_eq!((version.version.as_str(), version.runtime_api_version.as_str()), ("0.1.0", "v1"));
    assert!(!version.runtime_version.is_empty());
}

fn it_is_ready(endpoint: &dyn Endpoint) {
    let answer = endpoint.client().status(StatusRequest { verbose: false }).expect("Status answers");
    assert!(answer.info.is_empty(), "{answer:#?}");
    let conditions = answer.status.expect("a status").conditions;
    for name in ["RuntimeReady", "NetworkReady"] {
        let condition = conditions.iter().find(|it| it.r#type == name);
        assert!(condition.is_some_and(|it| it.status), "{name}: {conditions:#?}");
    }
}

fn it_tells_more_when_asked_to(endpoint: &dyn Endpoint) {
    let answer = endpoint.client().status(StatusRequest { verbose: true }).expect("Status answers");
    assert!(answer.info.contains_key("config"), "{:?}", answer.info.keys());
}

fn handlers_and_features_are_told(endpoint: &dyn Endpoint) {
    let answer = endpoint.client().status(StatusRequest { verbose: false }).expect("Status answers");
    let default = answer.runtime_handlers.iter().find(|it| it.name.is_empty()).expect("a default handler");
    let features = default.features.as_ref().expect("with features");
    assert!(features.recursive_read_only_mounts && features.user_namespaces, "{features:?}");
    assert!(answer.features.is_some_and(|it| it.supplemental_groups_policy), "{:?}", answer.features);
}

fn the_cgroup_driver_is_told(endpoint: &dyn Endpoint) {
    let answer = endpoint.client().runtime_config(RuntimeConfigRequest {}).expect("RuntimeConfig answers");
    assert_eq!(answer.linux.expect("of Linux").cgroup_driver(), CgroupDriver::Cgroupfs);
}

fn the_range_of_pods_may_be_told(endpoint: &dyn Endpoint) {
    let config = |cidr: &str| UpdateRuntimeConfigRequest {
        runtime_config: Some(RuntimeConfig { network_config: Some(NetworkConfig { pod_cidr: cidr.into() }) }),
    };
    // A kubelet without a range says so at every start.
    endpoint.client().update_runtime_config(config("")).expect("UpdateRuntimeConfig answers");
    endpoint
        .client()
        .update_runtime_config(UpdateRuntimeConfigRequest::default())
        .expect("UpdateRuntimeConfig answers");
}

fn checkpoints_are_not_implemented(endpoint: &dyn Endpoint) {
    let client = endpoint.client();
    let codes = [
        client.checkpoint_container(CheckpointContainerRequest::default()).map(drop),
        client.checkpoint_pod(CheckpointPodRequest::default()).map(drop),
        client.restore_pod(RestorePodRequest::default()).map(drop),
    ]
    .map(|answer| answer.expect_err("it is refused").code());
    assert_eq!(codes, [Code::Unimplemented; 3]);
}

fn an_unknown_handler_is_refused(endpoint: &dyn Endpoint) {
    let config = Some(endpoint.pod(&crate::tools::unique("handler")));
    let request = RunPodSandboxRequest { config, runtime_handler: "no-such-handler".into() };
    let refused = endpoint.client().run_pod_sandbox(request).expect_err("there is no such handler");
    assert!(refused.message().contains("no-such-handler"), "{refused}");
    // Nothing of it is left: the next pod is one.
    drop(Pod::new(endpoint));
}
