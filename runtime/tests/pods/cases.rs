//! The cases, each named as a sentence.

use std::future::Future;
use std::pin::Pin;

use cri_proto::cri::runtime_service_client::RuntimeServiceClient;
use cri_proto::cri::{self, ContainerState, NamespaceMode};
use runtime::Owner;

use crate::node::{self, Node};

pub type Case = for<'a> fn(&'a Node) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub const ALL: &[(&str, Case)] = &[$((stringify!($name), |node| Box::pin($name(node)))),*];
    };
}

pub(crate) use cases;

cases![
    a_container_runs_and_its_output_is_logged_by_stream,
    an_exec_joins_and_answers,
    an_exec_that_takes_too_long_is_killed_alone,
    a_missing_program_is_127_and_leaves_nothing_running,
    a_first_process_has_three_descriptors,
    stopping_and_removing_twice_is_success,
    a_shim_that_is_killed_takes_its_pod_alone,
    a_container_over_its_memory_limit_is_oom_killed,
    a_creation_that_fails_leaves_nothing,
    another_owner_sees_nothing,
    records_of_another_boot_are_not_ready_and_have_ended,
    pid_namespaces_are_what_was_asked_for,
    a_working_directory_behind_a_link_of_proc_is_refused,
    a_readonly_root_keeps_its_mounts_writable,
    masked_paths_are_hidden_and_readonly_ones_refuse_writes,
    mounts_are_made_in_the_order_of_their_depth,
    root_of_a_user_namespace_is_somebody_else_on_the_host,
];

async fn a_container_runs_and_its_output_is_logged_by_stream(node: &Node) {
    let sandbox = node.sandbox("output", NamespaceMode::Container).await;
    let id = node.run(&sandbox, node.config("a", &["both"])).await;
    let status = node.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"), "{status:?}");
    let mut log = node.log(&status);
    log.sort();
    assert_eq!(log, [("stderr".into(), "err".into()), ("stdout".into(), "out".into())]);
    assert!(status.started_at >= status.created_at && status.finished_at >= status.started_at, "{status:?}");
    node.remove_sandbox(&sandbox).await;
}

async fn an_exec_joins_and_answers(node: &Node) {
    for mode in [NamespaceMode::Container, NamespaceMode::Pod, NamespaceMode::Node] {
        let sandbox = node.sandbox("exec", mode).await;
        let id = node.run(&sandbox, node.config("a", &["sleep"])).await;
        let answer = node.exec(&id, &["both"], 60).await.unwrap();
        assert_eq!((answer.exit_code, answer.stdout, answer.stderr), (0, b"out\n".to_vec(), b"err\n".to_vec()));
        assert_eq!(node.exec(&id, &["exit", "7"], 60).await.unwrap().exit_code, 7);
        node.remove_sandbox(&sandbox).await;
    }
}

async fn an_exec_that_takes_too_long_is_killed_alone(node: &Node) {
    let sandbox = node.sandbox("late", NamespaceMode::Container).await;
    let id = node.run(&sandbox, node.config("a", &["sleep"])).await;
    let error = node.exec(&id, &["sleep"], 1).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::DeadlineExceeded, "{error}");
    assert_eq!(node.status(&id).await.state(), ContainerState::ContainerRunning);
    assert_eq!(node.exec(&id, &["true"], 60).await.unwrap().exit_code, 0);
    node.remove_sandbox(&sandbox).await;
}

async fn a_missing_program_is_127_and_leaves_nothing_running(node: &Node) {
    let sandbox = node.sandbox("missing", NamespaceMode::Container).await;
    for (command, code) in [("/no/such/program", 127), ("nothing-in-path", 127), ("/etc", 126)] {
        let mut config = node.config(&command.replace('/', "-"), &[]);
        config.command = vec![command.into()];
        let id = node.create(&sandbox, config).await.unwrap();
        let error = node.start(&id).await.unwrap_err();
        assert!(error.message().contains(command), "{error}");
        let status = node.ended(&id).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (code, "StartError"), "{status:?}");
    }
    node.remove_sandbox(&sandbox).await;
}

async fn a_first_process_has_three_descriptors(node: &Node) {
    let sandbox = node.sandbox("fds", NamespaceMode::Container).await;
    let id = node.run(&sandbox, node.config("a", &["links", "/proc/self/fd"])).await;
    let status = node.ended(&id).await;
    let log = node.log(&status);
    // The fourth is the directory that is being read.
    assert_eq!(log.len(), 4, "{log:?}");
    node.remove_sandbox(&sandbox).await;
}

async fn stopping_and_removing_twice_is_success(node: &Node) {
    let sandbox = node.sandbox("twice", NamespaceMode::Pod).await;
    let id = node.run(&sandbox, node.config("a", &["sleep"])).await;
    node.stop(&id, 0).await;
    node.stop(&id, 0).await;
    assert_eq!(node.status(&id).await.exit_code, 137);
    node.remove_sandbox(&sandbox).await;
    node.remove_sandbox(&sandbox).await;
}

async fn a_shim_that_is_killed_takes_its_pod_alone(node: &Node) {
    let (dies, lives) =
        (node.sandbox("dies", NamespaceMode::Container).await, node.sandbox("lives", NamespaceMode::Container).await);
    let (victim, other) =
        (node.run(&dies, node.config("a", &["sleep"])).await, node.run(&lives, node.config("a", &["sleep"])).await);
    let shim = node.process("coracle-shim default/dies");
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    let status = node.ended(&victim).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (255, "ContainerStatusUnknown"), "{status:?}");
    assert_eq!(node.sandbox_state(&dies).await, cri::PodSandboxState::SandboxNotready);
    let left = node::settled(&Vec::new(), || node.processes_in(&victim));
    assert_eq!(left, Vec::<String>::new(), "its processes outlived it");
    assert_eq!(node.status(&other).await.state(), ContainerState::ContainerRunning);
    assert_eq!(node.exec(&other, &["true"], 60).await.unwrap().exit_code, 0);
    node.remove_sandbox(&dies).await;
    node.remove_sandbox(&lives).await;
}

async fn a_container_over_its_memory_limit_is_oom_killed(node: &Node) {
    let sandbox = node.sandbox("oom", NamespaceMode::Container).await;
    let mut config = node.config("a", &["eat"]);
    let resources = cri::LinuxContainerResources { memory_limit_in_bytes: 32 << 20, ..Default::default() };
    config.linux = Some(cri::LinuxContainerConfig { resources: Some(resources), ..Default::default() });
    let id = node.run(&sandbox, config).await;
    let status = node.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"), "{status:?}");
    assert!(status.message.contains("33554432"), "{}", status.message);
    node.remove_sandbox(&sandbox).await;
}

async fn a_creation_that_fails_leaves_nothing(node: &Node) {
    let sandbox = node.sandbox("fails", NamespaceMode::Container).await;
    let mut bad = Vec::new();
    let mut config = node.config("image", &[]);
    config.image = Some(cri::ImageSpec { image: "absent:1".into(), ..Default::default() });
    bad.push((config, "docker.io/library/absent:1"));
    let mut config = node.config("mount", &["true"]);
    config.mounts =
        vec![cri::Mount { container_path: "/data".into(), host_path: "/dev/null/below".into(), ..Default::default() }];
    bad.push((config, "/dev/null/below"));
    let mut config = node.config("user", &["true"]);
    let context = cri::LinuxContainerSecurityContext { run_as_username: "nobody-here".into(), ..Default::default() };
    config.linux = Some(cri::LinuxContainerConfig { security_context: Some(context), ..Default::default() });
    bad.push((config, "nobody-here"));
    let mut config = node.config("log", &["true"]);
    config.log_path = "../../escape".into();
    bad.push((config, "../../escape"));
    for (config, named) in bad {
        let error = node.create(&sandbox, config).await.unwrap_err();
        assert!(error.message().contains(named), "{error}");
    }
    for dir in ["root/containers", "state/containers"] {
        let left: Vec<_> = std::fs::read_dir(node.path().join(dir)).unwrap().collect();
        assert!(left.is_empty(), "{dir}: {left:?}");
    }
    node.remove_sandbox(&sandbox).await;
}

async fn another_owner_sees_nothing(node: &Node) {
    let sandbox = node.sandbox("mine", NamespaceMode::Container).await;
    let id = node.run(&sandbox, node.config("a", &["sleep"])).await;
    let mut other = RuntimeServiceClient::new(node.runtime.services(Owner::Cri));
    let list = other.list_containers(cri::ListContainersRequest::default()).await.unwrap().into_inner();
    assert!(list.containers.is_empty());
    let request = cri::ContainerStatusRequest { container_id: id.clone(), verbose: false };
    assert_eq!(other.container_status(request).await.unwrap_err().code(), tonic::Code::NotFound);
    // Removing what is not there is success, and must not be what is somebody else's.
    other.remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id: sandbox.clone() }).await.unwrap();
    other.stop_container(cri::StopContainerRequest { container_id: id.clone(), timeout: 0 }).await.unwrap();
    assert_eq!(node.status(&id).await.state(), ContainerState::ContainerRunning);
    node.remove_sandbox(&sandbox).await;
}

async fn records_of_another_boot_are_not_ready_and_have_ended(node: &Node) {
    let sandbox = node.sandbox("boot", NamespaceMode::Container).await;
    let runs = node.run(&sandbox, node.config("a", &["sleep"])).await;
    let over = node.run(&sandbox, node.config("b", &["exit", "3"])).await;
    node.ended(&over).await;
    let mut after = node.in_another_boot();
    let request = cri::PodSandboxStatusRequest { pod_sandbox_id: sandbox.clone(), verbose: false };
    let status = after.pod_sandbox_status(request).await.unwrap().into_inner().status.unwrap();
    assert_eq!(status.state(), cri::PodSandboxState::SandboxNotready);
    for (id, code, reason) in [(runs, 255, "ContainerStatusUnknown"), (over, 3, "Error")] {
        let request = cri::ContainerStatusRequest { container_id: id, verbose: false };
        let status = after.container_status(request).await.unwrap().into_inner().status.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerExited);
        assert_eq!((status.exit_code, status.reason.as_str()), (code, reason), "{status:?}");
    }
    node.remove_sandbox(&sandbox).await;
}

async fn pid_namespaces_are_what_was_asked_for(node: &Node) {
    for (mode, first) in [(NamespaceMode::Container, "tool"), (NamespaceMode::Pod, "coracle-init")] {
        let sandbox = node.sandbox("pids", mode).await;
        let mut config = node.config("a", &["cat", "/proc/1/cmdline"]);
        let options = cri::NamespaceOption { pid: mode as i32, ..Default::default() };
        let context = cri::LinuxContainerSecurityContext { namespace_options: Some(options), ..Default::default() };
        config.linux = Some(cri::LinuxContainerConfig { security_context: Some(context), ..Default::default() });
        let id = node.run(&sandbox, config).await;
        let log = node.log(&node.ended(&id).await);
        assert!(log.last().unwrap().1.contains(first), "{mode:?}: {log:?}");
        node.remove_sandbox(&sandbox).await;
    }
}

async fn a_working_directory_behind_a_link_of_proc_is_refused(node: &Node) {
    let sandbox = node.sandbox("cwd", NamespaceMode::Container).await;
    for (name, dir) in [("named", "/proc/self/fd/7"), ("other", "/proc/1/root"), ("dots", "/x/../proc/self/fd/8")] {
        let mut config = node.config(name, &["true"]);
        config.working_dir = dir.into();
        let refused = match node.create(&sandbox, config).await {
            Err(error) => error,
            Ok(id) => node.start(&id).await.unwrap_err(),
        };
        assert!(refused.message().contains("working directory"), "{dir}: {refused}");
    }
    node.remove_sandbox(&sandbox).await;
}

async fn a_readonly_root_keeps_its_mounts_writable(node: &Node) {
    let sandbox = node.sandbox("readonly", NamespaceMode::Container).await;
    let data = node.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let mut config = node.config("a", &["write", "/refused", "/data/taken"]);
    config.mounts = vec![cri::Mount {
        container_path: "/data".into(),
        host_path: data.to_string_lossy().into_owned(),
        ..Default::default()
    }];
    let context = cri::LinuxContainerSecurityContext { readonly_rootfs: true, ..Default::default() };
    config.linux = Some(cri::LinuxContainerConfig { security_context: Some(context), ..Default::default() });
    let id = node.run(&sandbox, config).await;
    let log = node.log(&node.ended(&id).await);
    assert_eq!(log[0].1, "/refused: Read-only file system (os error 30)", "{log:?}");
    assert_eq!(log[1].1, "/data/taken: written", "{log:?}");
    assert!(data.join("taken").exists());
    node.remove_sandbox(&sandbox).await;
}

async fn masked_paths_are_hidden_and_readonly_ones_refuse_writes(node: &Node) {
    let sandbox = node.sandbox("masks", NamespaceMode::Container).await;
    let args = ["cat", "/proc/version", "/sys/firmware", "/proc/sys/kernel/hostname"];
    let mut config = node.config("a", &args);
    let context = cri::LinuxContainerSecurityContext {
        masked_paths: ["/proc/version", "/sys/firmware", "/proc/not-there"].map(Into::into).into(),
        readonly_paths: ["/proc/sys"].map(Into::into).into(),
        ..Default::default()
    };
    config.linux = Some(cri::LinuxContainerConfig { security_context: Some(context), ..Default::default() });
    let mut writes = config.clone();
    writes.metadata = Some(cri::ContainerMetadata { name: "b".into(), attempt: 0 });
    writes.log_path = "b.log".into();
    writes.args = ["write", "/proc/sys/kernel/hostname", "/sys/firmware/x"].map(Into::into).into();
    let id = node.run(&sandbox, config).await;
    let log = node.log(&node.ended(&id).await);
    let text: Vec<&str> = log.iter().map(|it| it.1.as_str()).collect();
    assert_eq!(text, ["/sys/firmware: Is a directory (os error 21)", "masks"], "what is masked is empty");
    let id = node.run(&sandbox, writes).await;
    let log = node.log(&node.ended(&id).await);
    assert!(log.iter().all(|it| it.1.ends_with("Read-only file system (os error 30)")), "{log:?}");
    node.remove_sandbox(&sandbox).await;
}

async fn mounts_are_made_in_the_order_of_their_depth(node: &Node) {
    let sandbox = node.sandbox("depth", NamespaceMode::Container).await;
    let mut config = node.config("a", &["ls", "/data/sub"]);
    for (name, target) in [("inner", "/data/sub"), ("outer", "/data")] {
        let dir = node.path().join(name);
        std::fs::create_dir_all(dir.join(format!("in-{name}"))).unwrap();
        config.mounts.push(cri::Mount {
            container_path: target.into(),
            host_path: dir.to_string_lossy().into_owned(),
            ..Default::default()
        });
    }
    let id = node.run(&sandbox, config).await;
    let log = node.log(&node.ended(&id).await);
    assert_eq!(log, [("stdout".to_owned(), "in-inner".to_owned())]);
    node.remove_sandbox(&sandbox).await;
}

async fn root_of_a_user_namespace_is_somebody_else_on_the_host(node: &Node) {
    let status = node.cri.clone().status(cri::StatusRequest::default()).await.unwrap().into_inner();
    if !status.runtime_handlers[0].features.is_some_and(|it| it.user_namespaces) {
        println!("skipped: this kernel, or the filesystem of {}, cannot map ids", node.path().display());
        return;
    }
    let mapping = vec![cri::IdMapping { container_id: 0, host_id: 200_000, length: 65_536 }];
    let mode = NamespaceMode::Pod as i32;
    let user = cri::UserNamespace { mode, uids: mapping.clone(), gids: mapping.clone() };
    for pid in [NamespaceMode::Container, NamespaceMode::Pod] {
        let options =
            cri::NamespaceOption { pid: pid as i32, userns_options: Some(user.clone()), ..Default::default() };
        let mut pod = node.sandbox_config("userns", pid);
        let security = pod.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        security.namespace_options = Some(options.clone());
        let sandbox = node.run_sandbox(pod).await.unwrap();
        let volume = node.path().join(format!("volume-{}", pid.as_str_name()));
        std::fs::create_dir(&volume).unwrap();
        let mut config = node.config("a", &["sleep"]);
        config.mounts = vec![cri::Mount {
            container_path: "/volume".into(),
            host_path: volume.to_string_lossy().into_owned(),
            uid_mappings: mapping.clone(),
            gid_mappings: mapping.clone(),
            ..Default::default()
        }];
        let context = cri::LinuxContainerSecurityContext { namespace_options: Some(options), ..Default::default() };
        config.linux = Some(cri::LinuxContainerConfig { security_context: Some(context), ..Default::default() });
        let id = node.run(&sandbox, config).await;
        let said = |answer: cri::ExecSyncResponse| String::from_utf8(answer.stdout).unwrap();
        let map = said(node.exec(&id, &["cat", "/proc/self/uid_map"], 60).await.unwrap());
        assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "200000", "65536"], "{pid:?}");
        let paths = ["write", "/root-file", "/volume/file", "/dev/null", "/dev/shm/file"];
        let written = said(node.exec(&id, &paths, 60).await.unwrap());
        assert_eq!(written.matches(": written").count(), paths.len() - 1, "{pid:?}: {written}");
        let owner = |path: std::path::PathBuf| std::os::unix::fs::MetadataExt::uid(&path.metadata().unwrap());
        assert_eq!(owner(volume.join("file")), 0, "{pid:?}");
        assert_eq!(owner(node.path().join("root/containers").join(&id).join("upper/root-file")), 200_000, "{pid:?}");
        for process in node.processes_in(&id) {
            let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
            assert!(status.contains("\nUid:\t200000\t200000"), "{pid:?}: {status}");
        }
        node.remove_sandbox(&sandbox).await;
    }
}
