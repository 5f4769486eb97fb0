//! Chaos by seed: runs start, stop and are killed, shims and containers die, the rules are flushed, the disk fills and
//! is freed, and `gc` comes whenever it likes. What must hold is looked at all the time and at the end.
//!
//! `CORACLE_E2E_CHAOS_SECONDS` says how long, `CORACLE_E2E_SEED` which sequence of actions.

mod chaos {
    pub mod actions;
    pub mod invariants;
    pub mod world;
}

use std::time::Instant;

use chaos::world::World;
use e2e::need;
use e2e::random::{Random, chaos_seconds};

/// What fits into CI; `just chaos` takes longer.
const SECONDS: u64 = 20;

#[test]
fn whatever_dies_or_fills_up_every_invariant_holds() {
    let mut world = need!(World::new());
    let mut random = Random::announced("chaos");
    let end = Instant::now() + chaos_seconds(SECONDS);
    while Instant::now() < end {
        world.act(&mut random);
    }
    world.finish();
}
