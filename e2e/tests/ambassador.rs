//! Ambassadors: ports that are relayed to targets elsewhere, as a process and as pods.

mod ambassador {
    pub mod classic;
    pub mod faults;
    pub mod names;
    pub mod pods;
    pub mod relay;
    pub mod world;
}
