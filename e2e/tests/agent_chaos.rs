//! Chaos by seed: the agent is killed again and again while manifests are added, changed and removed. At the end the node
//! equals the directory, and every start that the containers themselves noted is one that the manifests' history explains.
//!
//! `CORACLE_E2E_CHAOS_SECONDS` says how long, `CORACLE_E2E_SEED` which sequence of actions.

mod agent_chaos_parts {
    pub mod model;
    pub mod world;
}

use std::time::Instant;

use agent_chaos_parts::world::World;
use e2e::need;
use e2e::random::{Random, chaos_seconds};

/// What fits into CI; `just chaos` takes longer.
const SECONDS: u64 = 20;

#[test]
fn whenever_the_agent_is_killed_the_node_comes_to_equal_its_manifests() {
    let node = need!(e2e::Node::with_busybox());
    let mut random = Random::announced("agent chaos");
    let mut world = World::new(&node);
    let end = Instant::now() + chaos_seconds(SECONDS);
    while Instant::now() < end {
        world.act(&mut random);
    }
    world.finish();
}
