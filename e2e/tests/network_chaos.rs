//! Chaos in the pods' network, by seed: pods of all kinds of networks come, go, move from one network to another and are
//! linked to each other at random, while the agent is killed again and again. At the end every pair of pods behaves as the
//! manifests say, the kernel has what that takes and nothing besides, and when the manifests are gone nothing is left.
//!
//! `CORACLE_E2E_CHAOS_SECONDS` says how long, `CORACLE_E2E_CHAOS_PODS` with how many pods, `CORACLE_E2E_SEED` which
//! sequence of actions.

mod network_chaos_parts {
    pub mod kernel;
    pub mod model;
    pub mod packets;
    pub mod world;
}

use std::time::Instant;

use e2e::random::{Random, chaos_seconds, number_of};
use e2e::{Node, debian, need};
use network_chaos_parts::world::World;

/// What fits into CI; `just network-chaos` takes longer, and more.
const SECONDS: u64 = 20;
const PODS: u64 = 30;

#[test]
fn whatever_becomes_of_the_agent_pods_reach_whom_their_manifests_say() {
    need!(e2e::skip::root());
    let nft = need!(debian::program("nft", "nftables"));
    let pods = number_of("CORACLE_E2E_CHAOS_PODS", PODS) as usize;
    let node = Node::new();
    let mut random = Random::announced("network chaos");
    let mut world = World::new(&node, nft, pods, &mut random);
    let end = Instant::now() + chaos_seconds(SECONDS);
    while Instant::now() < end {
        world.act(&mut random);
    }
    world.finish(&mut random);
}
