//! Who a container's process is.

use std::collections::BTreeSet;

use e2e::manifest::{pod, shell, with};
use e2e::{Finished, Node, need};
use serde_json::{Value, json};

const WHO: &str = "echo uid $(id -u); echo gid $(id -g); echo groups $(id -G); echo home $HOME";

/// Runs [`WHO`] in an image whose configuration says `config`, in a pod whose `spec` and container say more.
fn who(config: Value, spec: Value, container: Value) -> Result<Finished, String> {
    let node = Node::with_busybox()?;
    node.import_variant("coracle.test/user:1", config, &[])?;
    let container = with(with(shell("c", WHO), json!({"image": "coracle.test/user:1"})), container);
    Ok(node.run_to_end(pod("who", with(spec, json!({"containers": [container]})))))
}

/// Asserts the ids; `groups` in any order, the primary one among them.
#[track_caller]
fn assert_who(finished: Finished, uid: &str, gid: &str, groups: &[&str]) {
    let finished = finished.exits(0);
    assert_eq!(finished.value("who/c", "uid"), uid, "{finished}");
    assert_eq!(finished.value("who/c", "gid"), gid, "{finished}");
    let found = finished.value("who/c", "groups");
    let found: BTreeSet<&str> = found.split(' ').collect();
    assert_eq!(found, groups.iter().copied().collect(), "{finished}");
}

#[test]
fn an_image_without_a_user_runs_as_root() {
    let finished = need!(who(json!({}), json!({}), json!({})));
    assert_eq!(finished.value("who/c", "uid"), "0", "{finished}");
    assert_eq!(finished.value("who/c", "home"), "/root", "{finished}");
}

#[test]
fn an_images_user_by_name_has_its_groups_and_its_home() {
    let finished = need!(who(json!({"User": "default-user"}), json!({}), json!({})));
    assert_eq!(finished.value("who/c", "home"), "/home", "{finished}");
    assert_who(finished, "1000", "1000", &["1000", "50000"]);
}

#[test]
fn an_images_user_by_number_has_the_groups_of_that_users_name() {
    assert_who(need!(who(json!({"User": "1000"}), json!({}), json!({}))), "1000", "1000", &["1000", "50000"]);
}

#[test]
fn an_images_group_by_name_is_looked_up() {
    assert_who(need!(who(json!({"User": "1000:www-data"}), json!({}), json!({}))), "1000", "33", &["33", "50000"]);
}

#[test]
fn a_number_that_the_image_does_not_know_is_taken_with_group_0() {
    assert_who(need!(who(json!({"User": "4711"}), json!({}), json!({}))), "4711", "0", &["0"]);
}

#[test]
fn the_pods_user_and_groups_stand_above_the_images() {
    let spec =
        json!({"securityContext": {"runAsUser": 33, "runAsGroup": 7, "supplementalGroups": [99, 98], "fsGroup": 77}});
    assert_who(need!(who(json!({"User": "default-user"}), spec, json!({}))), "33", "7", &["7", "77", "98", "99"]);
}

#[test]
fn the_containers_user_stands_above_the_pods() {
    let container = json!({"securityContext": {"runAsUser": 34, "runAsGroup": 8}});
    let finished = need!(who(json!({}), json!({"securityContext": {"runAsUser": 33, "runAsGroup": 7}}), container));
    assert_who(finished, "34", "8", &["8"]);
}

#[test]
fn a_user_name_that_the_image_does_not_know_is_an_error() {
    need!(who(json!({"User": "nosuchuser"}), json!({}), json!({}))).exits(125).says("nosuchuser").never_says("| uid");
}

#[test]
fn a_number_that_does_not_fit_is_an_error_and_never_root() {
    for number in ["4294967295", "4294967296", "-1", "18446744073709551616", "0x10"] {
        need!(who(json!({"User": number}), json!({}), json!({}))).exits(125).says(number).never_says("| uid");
    }
}

#[test]
fn run_as_non_root_refuses_an_image_that_runs_as_root() {
    let container = json!({"securityContext": {"runAsNonRoot": true}});
    need!(who(json!({}), json!({}), container)).exits(125).says("runAsNonRoot").never_says("| uid");
}

#[test]
fn an_empty_dir_belongs_to_the_pods_group() {
    let node = need!(Node::with_busybox());
    let mut container = shell("c", "echo dir $(stat -c '%g %a' /v); touch /v/f && echo file $(stat -c %g /v/f)");
    container["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    let spec = json!({
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 4321},
        "containers": [container], "volumes": [{"name": "v", "emptyDir": {}}],
    });
    let finished = node.run_to_end(pod("group", spec)).exits(0);
    assert!(finished.value("group/c", "dir").starts_with("4321 2"), "{finished}");
    assert_eq!(finished.value("group/c", "file"), "4321", "{finished}");
}

#[test]
fn the_images_groups_count_unless_the_pod_says_that_they_do_not() {
    let groups = |policy: &str| json!({"securityContext": {"runAsUser": 1000, "supplementalGroups": [60000], "supplementalGroupsPolicy": policy}});
    let of = |policy| who(json!({}), groups(policy), json!({}));
    assert_who(need!(of("Merge")), "1000", "1000", &["1000", "50000", "60000"]);
    assert_who(need!(of("Strict")), "1000", "1000", &["1000", "60000"]);
}

#[test]
fn run_as_non_root_is_held_against_whoever_the_process_will_be() {
    let container = |user: Option<u32>| {
        let mut context = json!({"runAsNonRoot": true});
        if let Some(user) = user {
            context["runAsUser"] = json!(user);
        }
        json!({"securityContext": context})
    };
    for (image, user, uid) in [("0", Some(1234), "1234"), ("1234", None, "1234")] {
        let finished = need!(who(json!({"User": image}), json!({}), container(user))).exits(0);
        assert_eq!(finished.value("who/c", "uid"), uid, "{finished}");
    }
    for (image, user, why) in [
        ("1234", Some(0), "container's runAsUser breaks non-root policy"),
        ("0", None, "image will run as root"),
        ("default-user", None, "image has non-numeric user (default-user), cannot verify user is non-root"),
    ] {
        need!(who(json!({"User": image}), json!({}), container(user))).exits(125).says(why).never_says("| uid");
    }
}
