//! Devices of the host, by their path and by CDI.

use super::*;
use e2e::need;
use std::fs;

fn device(container_path: &str, host_path: &str, permissions: &str) -> Device {
    Device { container_path: container_path.into(), host_path: host_path.into(), permissions: permissions.into() }
}

#[test]
fn devices_have_their_path_and_permissions() {
    let node = need!(Node::with_busybox());
    let pod = Pod::new(&node);
    let dir = pod.cri.make_dir("devices");
    std::os::unix::fs::symlink("/dev/loop-control", dir.join("link")).unwrap();
    let all = dir.join("all");
    fs::create_dir_all(all.join("below")).unwrap();
    let kind = rustix::fs::FileType::CharacterDevice;
    let number = rustix::fs::makedev(1, 11);
    rustix::fs::mknodat(rustix::fs::CWD, all.join("below/log"), kind, 0o600.into(), number).unwrap();
    let link = dir.join("link").display().to_string();
    let id = pod.run(|config, _| {
        config.devices = vec![device("/dev/linked", &link, "r"), device("/dev/all", &all.display().to_string(), "rw")];
    });
    let looks = |path: &str| pod.output(&id, &["stat", "-c", "%t:%T", path]);
    assert_eq!((looks("/dev/linked"), looks("/dev/all/below/log")), ("a:ed".to_owned(), "1:b".to_owned()));
    assert_eq!(pod.cri.exec_sync(&id, &["sh", "-c", "true < /dev/linked"]).exit_code, 0);
    assert_ne!(pod.cri.exec_sync(&id, &["sh", "-c", "true > /dev/linked"]).exit_code, 0);
    assert_eq!(pod.cri.exec_sync(&id, &["sh", "-c", "true > /dev/all/below/log"]).exit_code, 0);
    pod.refuses("devices[0].permissions", |config, _| config.devices = vec![device("/dev/x", "/dev/null", "rwx")]);
    pod.refuses("devices[0].host_path", |config, _| config.devices = vec![device("/dev/x", "null", "")]);
    pod.refuses("devices", |config, _| config.devices = vec![device("/dev/x", "/dev/not-there", "")]);
    pod.refuses("devices", |config, _| config.devices = vec![device("/dev/x", "/etc/passwd", "")]);
}

#[test]
fn a_privileged_container_has_every_device_of_the_host() {
    let node = need!(Node::with_busybox());
    let pod = Pod::with(&node, |_, linux| linux.security_context.get_or_insert_default().privileged = true);
    let id = pod.secured(|it| it.privileged = true);
    let plain = pod.run(|_, _| {});
    let mut compared = 0;
    for name in ["kmsg", "loop-control", "fuse"].iter().filter(|name| fs::metadata(format!("/dev/{name}")).is_ok()) {
        let path = format!("/dev/{name}");
        assert_eq!(pod.cri.exec_sync(&id, &["sh", "-c", &format!("true < {path}")]).exit_code, 0, "{path}");
        assert_ne!(pod.cri.exec_sync(&plain, &["ls", &path]).exit_code, 0, "{path}");
        compared += 1;
    }
    assert!(compared > 0, "the host has none of them");
}

/// A file in the host's directory of CDI, removed at the end of the test.
struct Cdi(std::path::PathBuf);

impl Cdi {
    fn write(name: &str, text: &str) -> Self {
        fs::create_dir_all("/var/run/cdi").unwrap();
        let path = std::path::Path::new("/var/run/cdi").join(name);
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for Cdi {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
        // Only if it was made for it.
        let _ = fs::remove_dir("/var/run/cdi");
    }
}

#[test]
fn a_device_of_cdi_brings_all_that_its_file_says() {
    let node = need!(Node::with_busybox());
    let pod = Pod::new(&node);
    let vendor = format!("e2e-{}.example", std::process::id());
    let library = pod.cri.make_dir("library");
    fs::write(library.join("driver"), "driver").unwrap();
    let text = format!(
        r#"{{"cdiVersion": "0.7.0", "kind": "{vendor}/unit", "containerEdits": {{"env": ["COMMON=yes"]}}, "devices": [
            {{"name": "0", "containerEdits": {{
                "env": ["UNIT=0"],
                "deviceNodes": [{{"path": "/dev/unit0", "hostPath": "/dev/loop-control", "permissions": "r", "fileMode": 384}}],
                "mounts": [{{"hostPath": "{}", "containerPath": "/usr/lib/unit", "options": ["ro", "nosuid", "bind"]}}],
                "additionalGids": [4242]}}}},
            {{"name": "1", "containerEdits": {{"env": ["UNIT=1"]}}}},
            {{"name": "hooked", "containerEdits": {{"hooks": [{{"hookName": "createContainer", "path": "/bin/unit-hook"}}]}}}}]}}"#,
        library.display()
    );
    let _file = Cdi::write(&format!("{vendor}.json"), &text);
    let named = |name: &str| vec![CdiDevice { name: format!("{vendor}/unit={name}") }];
    let id = pod.run(|config, linux| {
        config.cdi_devices = named("0");
        config.envs = vec![KeyValue { key: "UNIT".into(), value: b"mine".to_vec() }];
        linux.security_context.get_or_insert_default().run_as_user = Some(Int64Value { value: 1000 });
    });
    assert_eq!(pod.sh(&id, "echo $COMMON $UNIT"), "yes 0");
    assert_eq!(pod.output(&id, &["stat", "-c", "%t:%T %a %u", "/dev/unit0"]), "a:ed 600 1000");
    assert_eq!(pod.cri.exec_sync(&id, &["sh", "-c", "true < /dev/unit0"]).exit_code, 0);
    assert_ne!(pod.cri.exec_sync(&id, &["sh", "-c", "true > /dev/unit0"]).exit_code, 0);
    assert_eq!(pod.output(&id, &["cat", "/usr/lib/unit/driver"]), "driver");
    assert!(pod.output(&id, &["id", "-G"]).split(' ').any(|group| group == "4242"));
    // Clients older than the field write annotations.
    let annotated = pod.run(|config, _| {
        config.annotations = e2e::cri::map(&[("cdi.k8s.io/unit", &format!("{vendor}/unit=1"))]);
    });
    assert_eq!(pod.sh(&annotated, "echo $COMMON $UNIT"), "yes 1");
    pod.refuses("createContainer hook /bin/unit-hook", |config, _| config.cdi_devices = named("hooked"));
    pod.refuses("unresolvable CDI device", |config, _| config.cdi_devices = named("9"));
    pod.refuses("CDI_devices", |config, _| config.cdi_devices = vec![CdiDevice { name: "unit".into() }]);
}
