//! What the agent is told: its flags, over a KubeletConfiguration, over kubelet's defaults.

pub use manifests::kubelet::Config;
