//! kube-proxy's rules beside Coracle's own: who reaches whom by the addresses of a cluster's Services, and is seen as whom.
//!
//! The rules are what kube-proxy of Kubernetes 1.36 wrote for [`world::services`], in `e2e/recordings/kube-proxy`; the
//! programs of Debian's packages put them into the host of the test. `record` has a real one write them anew, and asks it the same.

#![allow(clippy::unwrap_used)]

mod kube_proxy {
    pub mod real;
    pub mod replay;
    pub mod world;
}

use e2e::{Node, need};
use kube_proxy::replay::Mode;
use kube_proxy::world::World;

fn side_by_side(mode: Mode) {
    let node = need!(Node::with_busybox());
    need!(mode.programs());
    let world = World::new(&node);
    need!(mode.load(&world));
    assert_eq!(world.wrong(mode), Vec::<String>::new());
    world.end();
}

#[test]
fn services_lead_to_pods_by_kube_proxys_rules_for_iptables() {
    side_by_side(Mode::Iptables);
}

#[test]
fn services_lead_to_pods_by_kube_proxys_rules_for_nftables() {
    side_by_side(Mode::Nftables);
}

/// `CORACLE_KUBERNETES=DIR cargo test --test kube_proxy -- --ignored record`
#[test]
#[ignore = "makes files of the tree anew; needs kube-proxy"]
fn record() {
    for mode in [Mode::Iptables, Mode::Nftables] {
        let node = Node::with_busybox().unwrap();
        let world = World::new(&node);
        let proxy = kube_proxy::real::KubeProxy::start(&world, mode);
        mode.record(&world);
        let wrong = world.wrong(mode);
        assert_eq!(wrong, Vec::<String>::new(), "{mode:?}: kube-proxy said:\n{}", proxy.end());
        world.end();
    }
}
