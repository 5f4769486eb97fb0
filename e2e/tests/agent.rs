//! The agent: a directory of manifests becomes running pods, and stays so, whatever happens to the agent itself.

mod agent_node {
    pub mod bad_input;
    pub mod changes;
    pub mod examples;
    pub mod files;
    pub mod foreign;
    pub mod full_disk;
    pub mod order;
    pub mod sources;
    pub mod survival;
    pub mod verbs;
}
