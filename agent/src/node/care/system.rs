//! What kind of system the node is.

use std::path::Path;

use k8s_openapi::api::core::v1::NodeSystemInfo;

use crate::channel::Cri;
use cri_proto::cri;

/// Reads it. What cannot be read is left empty.
pub async fn info(cri: &Cri, boot_id: &str) -> NodeSystemInfo {
    let request = cri::VersionRequest { version: "0.1.0".into() };
    let runtime = cri.runtime.clone().version(request).await.map(tonic::Response::into_inner);
    let runtime = runtime.map(|it| format!("{}://{}", it.runtime_name, it.runtime_version)).unwrap_or_default();
    let uname = rustix::system::uname();
    let first = |paths: &[&str]| paths.iter().find_map(|path| line(Path::new(path))).unwrap_or_default();
    NodeSystemInfo {
        architecture: go_arch(std::env::consts::ARCH).to_owned(),
        boot_id: boot_id.to_owned(),
        container_runtime_version: runtime,
        kernel_version: uname.release().to_string_lossy().into_owned(),
        kubelet_version: format!("v{}-coracle", env!("CARGO_PKG_VERSION")),
        machine_id: first(&["/etc/machine-id", "/var/lib/dbus/machine-id"]),
        operating_system: "linux".into(),
        os_image: std::fs::read_to_string("/etc/os-release").ok().as_deref().and_then(os_name).unwrap_or_default(),
        system_uuid: first(&["/sys/class/dmi/id/product_uuid", "/proc/device-tree/system-id", "/etc/machine-id"]),
        ..NodeSystemInfo::default()
    }
}

fn line(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim_matches(['\0', '\n', ' ']).to_owned()).filter(|text| !text.is_empty())
}

/// As Go, and with it Kubernetes, names architectures.
fn go_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"` of os-release(5).
fn os_name(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_name_is_read() {
        let text = "NAME=Debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(os_name(text).as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(os_name("NAME=x"), None);
    }
}
