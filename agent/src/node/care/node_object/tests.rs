#![allow(clippy::unwrap_used)]
use super::*;
use crate::engine::config;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

struct World {
    capacity: Capacity,
    config: Config,
    system: NodeSystemInfo,
    pressures: BTreeSet<Condition>,
    images: Vec<cri::Image>,
}

impl World {
    fn new() -> Self {
        let node = config::Node {
            name: "box".into(),
            ips: vec!["10.0.0.1".into(), "fd01::1".into()],
            cpu_milli: 2000,
            memory_bytes: 1 << 30,
            ..config::Node::default()
        };
        World {
            capacity: Capacity { node, storage: 1 << 40, pids: 1000 },
            config: Config::default(),
            system: NodeSystemInfo {
                operating_system: "linux".into(),
                architecture: "amd64".into(),
                ..Default::default()
            },
            pressures: BTreeSet::new(),
            images: vec![],
        }
    }

    fn node(&self, before: Option<&Node>, second: i64) -> Node {
        let World { capacity, config, system, pressures, images } = self;
        let abilities = &Abilities::default();
        node(
            &Facts { capacity, config, system, abilities, pressures, unready: None, images, devices: BTreeMap::new() },
            before,
            at(second),
        )
    }
}

fn condition<'a>(node: &'a Node, type_: &str) -> &'a NodeCondition {
    node.status.as_ref().unwrap().conditions.as_ref().unwrap().iter().find(|it| it.type_ == type_).unwrap()
}

fn seconds(time: &Option<Time>) -> i64 {
    time.as_ref().unwrap().0.as_second() - 1_700_000_000
}

#[test]
fn a_node_says_what_it_is() {
    let node = World::new().node(None, 0);
    assert_eq!(node.metadata.labels.as_ref().unwrap()["kubernetes.io/arch"], "amd64");
    let status = node.status.as_ref().unwrap();
    let addresses: Vec<_> =
        status.addresses.iter().flatten().map(|it| (it.type_.as_str(), it.address.as_str())).collect();
    assert_eq!(addresses, [("InternalIP", "10.0.0.1"), ("InternalIP", "fd01::1"), ("Hostname", "box")]);
    let types: Vec<_> = status.conditions.iter().flatten().map(|it| (it.type_.as_str(), it.status.as_str())).collect();
    assert_eq!(
        types,
        [("MemoryPressure", "False"), ("DiskPressure", "False"), ("PIDPressure", "False"), ("Ready", "True")]
    );
}

#[test]
fn times_change_with_what_they_are_about() {
    let mut world = World::new();
    let first = world.node(None, 0);
    assert_eq!(world.node(Some(&first), 299), first, "nothing has changed");
    let beat = world.node(Some(&first), 300);
    let memory = condition(&beat, "MemoryPressure");
    assert_eq!((seconds(&memory.last_transition_time), seconds(&memory.last_heartbeat_time)), (0, 300));
    world.pressures.insert(Condition::Memory);
    let pressed = world.node(Some(&beat), 310);
    let memory = condition(&pressed, "MemoryPressure");
    assert_eq!((memory.status.as_str(), memory.reason.as_deref()), ("True", Some("KubeletHasInsufficientMemory")));
    assert_eq!(seconds(&memory.last_transition_time), 310);
    let disk = condition(&pressed, "DiskPressure");
    assert_eq!((seconds(&disk.last_transition_time), seconds(&disk.last_heartbeat_time)), (0, 310));
    assert_eq!(pressed.metadata.creation_timestamp, first.metadata.creation_timestamp);
}

#[test]
fn a_node_without_a_runtime_is_not_ready() {
    let world = World::new();
    let World { capacity, config, system, pressures, images } = &world;
    let unready = Some("container runtime is down".to_owned());
    let abilities = &Abilities::default();
    let node = node(
        &Facts { capacity, config, system, abilities, pressures, unready, images, devices: BTreeMap::new() },
        None,
        at(0),
    );
    let ready = condition(&node, "Ready");
    let seen = (ready.status.as_str(), ready.reason.as_deref(), ready.message.as_deref());
    assert_eq!(seen, ("False", Some("KubeletNotReady"), Some("container runtime is down")));
}

#[test]
fn the_largest_images_are_named() {
    let mut world = World::new();
    let image = |id: &str, size| cri::Image {
        id: id.into(),
        repo_tags: vec![format!("{id}:1")],
        repo_digests: vec![format!("{id}@sha256:0")],
        size,
        ..cri::Image::default()
    };
    world.images = vec![image("small", 1), image("big", 100), image("b", 50), image("a", 50)];
    world.config.node_status_max_images = Some(3);
    let node = world.node(None, 0);
    let images = node.status.unwrap().images.unwrap();
    let names: Vec<_> = images.iter().map(|it| it.names.as_ref().unwrap()[0].as_str()).collect();
    assert_eq!(names, ["big@sha256:0", "a@sha256:0", "b@sha256:0"]);
    assert_eq!(images[0].size_bytes, Some(100));
}
