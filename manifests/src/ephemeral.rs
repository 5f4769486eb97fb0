//! Ephemeral containers, which are containers in all that they may have.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer};

/// An ephemeral container as an ordinary one; what it must not have (probes, ports, resources) is left out.
pub fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let EphemeralContainer {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        name,
        security_context,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_mounts,
        working_dir,
        ..
    } = ephemeral.clone();
    Container {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        name,
        security_context,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_mounts,
        working_dir,
        ..Container::default()
    }
}
