#![allow(clippy::unwrap_used)]

use super::*;
use serde_json::{Value, json};

fn pod(outer: Value, inner: Value) -> Pod {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"securityContext": outer, "containers": [{"name": "c", "securityContext": inner}]}
    }))
    .unwrap()
}

fn context(outer: Value, inner: Value) -> cri::LinuxContainerSecurityContext {
    let pod = pod(outer, inner);
    let settings = Settings { seccomp_default: true, root_dir: "/r".into(), ..Settings::default() };
    of_container(&pod, &pod.spec.as_ref().unwrap().containers[0], &settings, &ImageUser::default()).unwrap()
}

#[test]
fn the_containers_fields_win_over_the_pods() {
    let context = context(
        json!({"runAsUser": 1, "runAsGroup": 2, "supplementalGroups": [7], "fsGroup": 8}),
        json!({"runAsUser": 3, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}}),
    );
    assert_eq!(context.run_as_user.unwrap().value, 3);
    assert_eq!(context.run_as_group.unwrap().value, 2);
    assert_eq!(context.supplemental_groups, [7, 8]);
    assert!(context.no_new_privs && context.readonly_rootfs && !context.privileged);
    let capabilities = context.capabilities.unwrap();
    assert_eq!(
        (capabilities.add_capabilities, capabilities.drop_capabilities),
        (vec!["NET_ADMIN".into()], vec!["ALL".into()])
    );
    assert!(context.masked_paths.contains(&"/proc/kcore".to_owned()));
    assert!(context.readonly_paths.contains(&"/proc/sys".to_owned()));
}

#[test]
fn nothing_said_is_runtime_default_without_a_user() {
    let context = context(json!({}), json!({}));
    assert_eq!(context.seccomp.unwrap().profile_type(), ProfileType::RuntimeDefault);
    assert_eq!((context.run_as_user, context.run_as_group, context.no_new_privs), (None, None, false));
}

#[test]
fn privileged_and_unmasked_containers_see_everything() {
    for inner in [json!({"privileged": true}), json!({"procMount": "Unmasked"})] {
        let context = context(json!({}), inner);
        assert!(context.masked_paths.is_empty() && context.readonly_paths.is_empty());
    }
    let privileged = context(json!({"seccompProfile": {"type": "RuntimeDefault"}}), json!({"privileged": true}));
    assert_eq!(privileged.seccomp.unwrap().profile_type(), ProfileType::Unconfined);
}

#[test]
fn seccomp_profiles_of_this_host_lie_below_the_root_directory() {
    let local = |path: &str| json!({"seccompProfile": {"type": "Localhost", "localhostProfile": path}});
    assert_eq!(context(local("a/b.json"), json!({})).seccomp.unwrap().localhost_ref, "/r/seccomp/a/b.json");
    let pod = pod(local("../x"), json!({}));
    let error = of_sandbox(&pod, &Settings::default()).unwrap_err();
    assert!(matches!(error, ConfigError::Path { .. }));
}

#[test]
fn namespaces_follow_the_pod() {
    use cri::NamespaceMode::{Container, Node, Pod as PodMode};
    let rows = [
        (json!({}), (PodMode, PodMode, Container)),
        (json!({"hostNetwork": true}), (Node, PodMode, Container)),
        (json!({"hostIPC": true}), (PodMode, Node, Container)),
        (json!({"hostPID": true}), (PodMode, PodMode, Node)),
        (json!({"shareProcessNamespace": true}), (PodMode, PodMode, PodMode)),
    ];
    for (spec, expected) in rows {
        let mut pod = Pod::default();
        let mut spec = spec;
        spec["containers"] = json!([]);
        pod.spec = serde_json::from_value(spec.clone()).unwrap();
        let options = namespaces(&pod);
        assert_eq!((options.network(), options.ipc(), options.pid()), expected, "{spec}");
    }
}

#[test]
fn run_as_non_root_is_checked_on_the_final_user() {
    let image = |uid: Option<i64>, name: &str| ImageUser { uid, name: name.into() };
    let yes = json!({"runAsNonRoot": true});
    let rows = [
        (json!({}), json!({}), image(Some(0), ""), None),
        (yes.clone(), json!({}), image(Some(1000), ""), None),
        (yes.clone(), json!({}), image(Some(0), ""), Some("will run as root")),
        (yes.clone(), json!({}), image(None, ""), Some("will run as root")),
        (yes.clone(), json!({}), image(None, "nginx"), Some("non-numeric user (nginx)")),
        (yes.clone(), json!({"runAsUser": 5}), image(None, "nginx"), None),
        (yes.clone(), json!({"runAsUser": 0}), image(Some(1000), ""), Some("breaks non-root policy")),
        (yes.clone(), json!({"runAsNonRoot": false}), image(Some(0), ""), None),
        (json!({"runAsUser": 0}), yes.clone(), image(None, ""), Some("breaks non-root policy")),
    ];
    for (outer, inner, user, problem) in rows {
        let pod = pod(outer.clone(), inner.clone());
        let result = check_non_root(&pod, &pod.spec.as_ref().unwrap().containers[0], &user);
        match problem {
            None => assert_eq!(result, Ok(()), "{outer} {inner} {user:?}"),
            Some(text) => assert!(result.unwrap_err().to_string().contains(text), "{outer} {inner} {user:?}"),
        }
    }
}

#[test]
fn a_group_without_a_user_goes_with_the_images() {
    let pod = pod(json!({"runAsGroup": 7}), json!({}));
    let of = |image: &ImageUser| {
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let context = of_container(&pod, container, &Settings::default(), image).unwrap();
        (context.run_as_user.map(|it| it.value), context.run_as_username, context.run_as_group.map(|it| it.value))
    };
    let image = |uid: Option<i64>, name: &str| ImageUser { uid, name: name.into() };
    assert_eq!(of(&image(None, "")), (Some(0), String::new(), Some(7)));
    assert_eq!(of(&image(Some(33), "")), (Some(33), String::new(), Some(7)));
    assert_eq!(of(&image(None, "web")), (None, "web".to_owned(), Some(7)));
    let sandbox = of_sandbox(&pod, &Settings::default()).unwrap();
    assert_eq!((sandbox.run_as_user, sandbox.run_as_group), (None, None));
}
