//! Pods that plug-ins of the Container Network Interface connect: Debian's own, and some that fail in every way.

mod cni {
    pub mod failing;
    pub mod plugins;
    pub mod reaching;
    pub mod waiting;
}
