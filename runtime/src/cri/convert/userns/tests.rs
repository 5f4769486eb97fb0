#![allow(clippy::unwrap_used)]
use super::*;

fn mapping(container_id: u32, host_id: u32, length: u32) -> cri::IdMapping {
    cri::IdMapping { container_id, host_id, length }
}

fn pod_mode(uids: Vec<cri::IdMapping>, gids: Vec<cri::IdMapping>) -> cri::UserNamespace {
    cri::UserNamespace { mode: cri::NamespaceMode::Pod as i32, uids, gids }
}

fn base() -> cri::UserNamespace {
    pod_mode(vec![mapping(0, 1000, 100_000)], vec![mapping(0, 2000, 100_000)])
}

fn sandbox(options: &cri::UserNamespace) -> Result<Option<UserNamespace>> {
    of_sandbox(Some(options), &HashMap::new(), Namespaces::default())
}

#[test]
fn one_mapping_each_is_taken_and_shown_as_it_came() {
    let user = sandbox(&base()).unwrap().unwrap();
    assert_eq!(user.map.uids, [IdMapping { container: 0, host: 1000, length: 100_000 }]);
    assert_eq!(user.map.gids, [IdMapping { container: 0, host: 2000, length: 100_000 }]);
    assert!(!user.chosen);
    assert_eq!(show(&user), base());
    assert_eq!(of_container(Some(&base())).unwrap(), Some(user.map));
}

#[test]
fn nothing_and_node_are_the_hosts() {
    let node = cri::UserNamespace { mode: cri::NamespaceMode::Node as i32, ..Default::default() };
    assert_eq!(sandbox(&node).unwrap(), None);
    assert_eq!(of_sandbox(None, &HashMap::new(), Namespaces::default()).unwrap(), None);
    assert_eq!(of_container(None).unwrap(), None);
    assert_eq!(of_container(Some(&node)).unwrap(), None);
}

#[test]
fn what_cannot_be_names_the_field() {
    let one = |container, host, length| vec![mapping(container, host, length)];
    let good = || one(0, 1000, 10);
    let mode = |mode: i32| cri::UserNamespace { mode, ..Default::default() };
    let rows = [
        (pod_mode(vec![], vec![]), "uids has 0 mappings"),
        (pod_mode(good(), vec![]), "gids has 0 mappings"),
        (pod_mode([good(), one(0, 5000, 10)].concat(), good()), "uids has 2 mappings"),
        (pod_mode(one(1, 1000, 10), one(1, 1000, 10)), "uids does not map the container's id 0"),
        (pod_mode(good(), one(3, 1000, 10)), "gids does not map the container's id 0"),
        (pod_mode(good(), one(0, 1000, 11)), "a different number"),
        (pod_mode(one(0, 1000, 0), one(0, 1000, 0)), "its length is 0"),
        (pod_mode(one(0, u32::MAX, 1), good()), "beyond the last id"),
        (mode(cri::NamespaceMode::Container as i32), "cannot be CONTAINER"),
        (mode(cri::NamespaceMode::Target as i32), "cannot be TARGET"),
        (mode(17), "mode 17 is not known"),
        (cri::UserNamespace { mode: cri::NamespaceMode::Node as i32, ..base() }, "mode is NODE"),
    ];
    for (options, expected) in rows {
        let error = sandbox(&options).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(FIELD) && text.contains(expected), "{options:?}: {text}");
    }
}

#[test]
fn the_hosts_namespaces_do_not_go_with_a_user_namespace() {
    let node = NamespaceMode::Node;
    for (modes, field) in [
        (Namespaces { net: node, ..Namespaces::default() }, "network"),
        (Namespaces { pid: node, ..Namespaces::default() }, "pid"),
        (Namespaces { ipc: node, ..Namespaces::default() }, "ipc"),
    ] {
        let error = of_sandbox(Some(&base()), &HashMap::new(), modes).unwrap_err().to_string();
        assert!(error.contains(&format!("namespace_options.{field}")), "{error}");
    }
}

#[test]
fn the_runtime_chooses_where_it_is_asked_to() {
    let with = |value: &str| HashMap::from([(ANNOTATION.to_owned(), value.to_owned())]);
    let empty = pod_mode(vec![], vec![]);
    let user = of_sandbox(Some(&empty), &with(AUTO), Namespaces::default()).unwrap().unwrap();
    assert!(user.chosen && user.map == IdMap::default());
    assert_eq!(of_container(Some(&empty)).unwrap(), Some(IdMap::default()));
    // The annotation says nothing about a pod that is in the host's.
    assert_eq!(of_sandbox(None, &with(AUTO), Namespaces::default()).unwrap(), None);
    assert!(of_sandbox(Some(&base()), &with(AUTO), Namespaces::default()).is_err());
    assert!(of_sandbox(Some(&empty), &with("other"), Namespaces::default()).is_err());
}

#[test]
fn a_mount_is_mapped_as_it_says() {
    let mount = |uid_mappings, gid_mappings| cri::Mount {
        container_path: "/data".into(),
        uid_mappings,
        gid_mappings,
        ..Default::default()
    };
    assert_eq!(of_mount(&mount(vec![], vec![])).unwrap(), None);
    let both = of_mount(&mount(vec![mapping(0, 1000, 10)], vec![mapping(0, 2000, 10)])).unwrap().unwrap();
    assert_eq!((both.uid(3), both.gid(3), both.uid(10)), (Some(1003), Some(2003), None));
    let error = of_mount(&mount(vec![mapping(0, 1000, 10)], vec![])).unwrap_err().to_string();
    assert!(error.contains("/data") && error.contains("gid"), "{error}");
}
