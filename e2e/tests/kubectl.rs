//! Real kubectls against the agent's API: Debian's of 1.20, which speaks SPDY, and one that speaks WebSocket.

#![allow(clippy::unwrap_used)]

mod kubectl {
    mod events;
    mod execs;
    mod foreign;
    mod forwarding;
    mod logs;
    mod objects;
    mod own;
    mod refusals;
    mod watching;
}

/// Makes a test of each function for each transport: it is called with the cluster of a node with the busybox image.
#[macro_export]
macro_rules! by_both {
    ($($name:ident)*) => {
        mod spdy {
            $(#[test]
            fn $name() {
                let kubectl = e2e::need!(e2e::kubectl::Kubectl::spdy());
                let node = e2e::need!(e2e::Node::with_busybox());
                super::$name(&e2e::kubectl::Cluster::start(&node, kubectl));
            })*
        }

        mod websocket {
            $(#[test]
            fn $name() {
                let kubectl = e2e::need!(e2e::kubectl::Kubectl::websocket());
                let node = e2e::need!(e2e::Node::with_busybox());
                super::$name(&e2e::kubectl::Cluster::start(&node, kubectl));
            })*
        }
    };
}
