#![allow(clippy::unwrap_used)]
use super::*;

const SPEC: &str = r#"
cdiVersion: "0.6.0"
kind: example.com/gpu
containerEdits:
  env: ["COMMON=1"]
devices:
  - name: "0"
    containerEdits:
      env: ["GPU=0"]
      deviceNodes:
        - {path: /dev/gpu0, hostPath: /dev/full, permissions: rw, fileMode: 384, uid: 7}
        - {path: /dev/gpuctl, type: c, major: 195, minor: 255, permissions: none}
      mounts:
        - {hostPath: /usr/lib/gpu, containerPath: /usr/lib/gpu, options: [ro, nosuid, nodev, rbind]}
      additionalGids: [44, 0]
  - name: "1"
    containerEdits: {env: ["GPU=1"]}
  - name: hooked
    containerEdits:
      hooks: [{hookName: createContainer, path: /usr/bin/gpu-hook}]
"#;

fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn of(dirs: &[&tempfile::TempDir], names: &[&str]) -> Result<Edits> {
    let dirs: Vec<&Path> = dirs.iter().map(|dir| dir.path()).collect();
    edits(&dirs, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
}

#[test]
fn names_are_a_vendor_a_class_and_a_device() {
    for name in ["nvidia.com/gpu=0", "v/c=all", "vendor.com/class=a:b.c-d_e"] {
        assert!(is_qualified(name), "{name}");
    }
    for name in ["", "gpu", "v/c", "v/c=", "/c=0", "v/=0", "0v/c=0", "v/c=a,b", "v/c=a ", "v/c-=0"] {
        assert!(!is_qualified(name), "{name}");
    }
}

#[test]
fn a_device_brings_its_own_and_what_its_file_has_for_all() {
    let dir = dir(&[("gpu.yaml", SPEC)]);
    let edits = of(&[&dir], &["example.com/gpu=0", "example.com/gpu=1"]).unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(edits.env, [pair("COMMON", "1"), pair("GPU", "0"), pair("GPU", "1")]);
    assert_eq!(edits.groups, [44]);
    let [gpu, control] = edits.devices.as_slice() else { panic!("{:?}", edits.devices) };
    assert_eq!((gpu.device.major, gpu.device.minor, gpu.device.mode), (1, 7, 0o600));
    assert_eq!((gpu.device.path.as_path(), gpu.uid, gpu.gid), (Path::new("/dev/gpu0"), Some(7), None));
    assert_eq!(gpu.access.unwrap().to_string(), "rw");
    assert_eq!((control.device.major, control.device.minor, control.access), (195, 255, None));
    let expected = Mount {
        target: "/usr/lib/gpu".into(),
        source: "/usr/lib/gpu".into(),
        readonly: true,
        options: vec![MountOption::Nosuid, MountOption::Nodev],
        ..Mount::default()
    };
    assert_eq!(edits.mounts, [expected]);
}

#[test]
fn the_later_directory_wins_and_a_name_twice_in_one_is_an_error() {
    let json = r#"{"cdiVersion":"0.6.0","kind":"example.com/gpu","devices":[
            {"name":"1","containerEdits":{"env":["GPU=other"]}}]}"#;
    let (first, second) = (dir(&[("gpu.yaml", SPEC)]), dir(&[("gpu.json", json), ("broken.json", "{")]));
    let edits = of(&[&first, &second], &["example.com/gpu=1"]).unwrap();
    assert_eq!(edits.env, [("GPU".to_owned(), "other".to_owned())]);
    let twice = dir(&[("gpu.yaml", SPEC), ("gpu.json", json)]);
    assert!(of(&[&twice], &["example.com/gpu=1"]).unwrap_err().to_string().contains("in several files"));
    assert!(of(&[&twice], &["example.com/gpu=0"]).is_ok());
}

#[test]
fn what_cannot_be_given_is_an_error_that_names_it() {
    let dir = dir(&[("gpu.yaml", SPEC)]);
    let rows = [
        ("example.com/gpu=hooked", "createContainer hook /usr/bin/gpu-hook"),
        ("example.com/gpu=2", "unresolvable CDI device \"example.com/gpu=2\""),
    ];
    for (name, word) in rows {
        let error = of(&[&dir], &[name]).unwrap_err();
        assert_eq!(error.kind(), crate::Kind::Invalid);
        assert!(error.to_string().contains(word), "{error}");
    }
    let edit = |edit: &str| format!("kind: v.com/c\ndevices: [{{name: d, containerEdits: {{{edit}}}}}]\n");
    let rows = [
        ("env: [NOPE]", "NAME=VALUE"),
        ("deviceNodes: [{path: dev/x}]", "not absolute"),
        ("deviceNodes: [{path: /dev/x, type: p}]", "\"p\""),
        ("deviceNodes: [{path: /dev/not-there}]", "/dev/not-there"),
        ("deviceNodes: [{path: /dev/full, type: b}]", "another type"),
        ("deviceNodes: [{path: /dev/full, permissions: x}]", "rwm"),
        ("mounts: [{hostPath: /a, containerPath: b}]", "not absolute"),
        ("mounts: [{hostPath: /a, containerPath: /b, type: tmpfs}]", "tmpfs"),
        ("mounts: [{hostPath: /a, containerPath: /b, options: [size=1]}]", "size=1"),
        ("netDevices: [{hostInterfaceName: eth1, name: eth0}]", "netDevices"),
        ("intelRdt: {closID: a}", "intelRdt"),
    ];
    for (text, word) in rows {
        let dir = self::dir(&[("a.yaml", &edit(text))]);
        let error = of(&[&dir], &["v.com/c=d"]).unwrap_err().to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
}
