//! The test API server itself: what tests of the cluster rest on.

#![allow(clippy::unwrap_used)]

mod apiserver {
    mod faults;
    mod kubectl;
    mod record;
    mod recording;
    mod replay;
}
