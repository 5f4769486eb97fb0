//! Who a container is.

use e2e::cri::Endpoint;
use e2e::cri::proto::*;

use crate::harness::tests;
use crate::tools::{Pod, number, security};

tests![
    the_user_is_the_requests,
    the_group_is_the_requests,
    a_user_has_a_name,
    a_name_that_nobody_has_is_refused,
    a_group_without_a_user_is_refused,
    groups_are_those_of_the_image_and_the_request,
    strict_groups_are_those_of_the_request_alone,
    the_status_shows_the_user,
    exec_is_the_containers_user,
    negative_ids_are_refused,
];

fn the_user_is_the_requests(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    assert_eq!(pod.says("id -u; id -g", |_| {}), "0\n0");
    assert_eq!(pod.says("id -u; id -g", |config| security(config).run_as_user = number(1000)), "1000\n1000");
    let nobody = pod.says("id -u; id -g", |config| security(config).run_as_user = number(4242));
    assert_eq!(nobody, "4242\n0", "a user without an entry is in root's group");
}

fn the_group_is_the_requests(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let said = pod.says("id -u; id -g", |config| {
        (security(config).run_as_user, security(config).run_as_group) = (number(1000), number(2000));
    });
    assert_eq!(said, "1000\n2000");
}

fn a_user_has_a_name(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let said = pod.says("id -u; id -g", |config| security(config).run_as_username = "www-data".into());
    assert_eq!(said, "33\n33");
}

fn a_name_that_nobody_has_is_refused(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let refused = pod.refuses(|config| security(config).run_as_username = "no-such-user".into());
    assert!(refused.contains("no-such-user") || refused.contains("no users found"), "{refused}");
}

fn a_group_without_a_user_is_refused(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    pod.refuses(|config| security(config).run_as_group = number(2000));
}

fn groups_are_those_of_the_image_and_the_request(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let said = pod.says("id -G", |config| {
        security(config).run_as_user = number(1000);
        security(config).supplemental_groups = vec![1234, 5678];
    });
    let mut groups: Vec<&str> = said.split(' ').collect();
    groups.sort_unstable();
    assert_eq!(groups, ["1000", "1234", "50000", "5678"], "the image puts user 1000 into group 50000");
}

fn strict_groups_are_those_of_the_request_alone(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let said = pod.says("id -G", |config| {
        security(config).run_as_user = number(1000);
        security(config).supplemental_groups = vec![1234];
        security(config).supplemental_groups_policy = SupplementalGroupsPolicy::Strict as i32;
    });
    let mut groups: Vec<&str> = said.split(' ').collect();
    groups.sort_unstable();
    assert_eq!(groups, ["1000", "1234"]);
}

fn the_status_shows_the_user(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.keeper(|config| {
        (security(config).run_as_user, security(config).run_as_group) = (number(1000), number(2000));
        security(config).supplemental_groups = vec![1234];
    });
    let user = endpoint.status_of(&id).user.and_then(|it| it.linux).expect("it is shown");
    assert_eq!((user.uid, user.gid), (1000, 2000));
    assert!(user.supplemental_groups.contains(&1234) && user.supplemental_groups.contains(&50_000), "{user:?}");
}

fn exec_is_the_containers_user(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.keeper(|config| {
        security(config).run_as_user = number(1000);
        security(config).supplemental_groups = vec![1234];
    });
    assert_eq!(endpoint.output(&id, &["id", "-u"]), "1000");
    assert!(endpoint.output(&id, &["id", "-G"]).split(' ').any(|group| group == "1234"));
}

fn negative_ids_are_refused(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    pod.refuses(|config| security(config).run_as_user = number(-1));
    pod.refuses(|config| security(config).run_as_user = number(1 << 32));
}
