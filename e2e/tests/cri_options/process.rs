//! What a program is given: words, variables, a directory, a signal.

use super::*;
use e2e::need;

#[test]
fn variables_may_hold_any_bytes_and_the_images_are_below_them() {
    let node = need!(Node::with_busybox());
    need!(node.import_variant("coracle.test/env:1", serde_json::json!({"Env": ["A=image", "B=image"]}), &[]));
    let pod = Pod::new(&node);
    let id = pod.run(|config, _| {
        config.image = Some(ImageSpec { image: "coracle.test/env:1".into(), ..Default::default() });
        let pair = |key: &str, value: &[u8]| KeyValue { key: key.into(), value: value.to_vec() };
        config.envs = vec![pair("A", b"mine"), pair("RAW", &[b'<', 0xff, 0xc3, b'>'])];
    });
    let answer = pod.cri.exec_sync(&id, &["sh", "-c", "tr '\\0' '\\n' < /proc/1/environ"]);
    let lines: Vec<&[u8]> = answer.stdout.split(|&byte| byte == b'\n').collect();
    let has = |line: &[u8]| lines.contains(&line);
    assert!(has(b"A=mine") && has(b"B=image") && has(b"HOSTNAME=p"), "{answer:?}");
    assert!(has(b"RAW=<\xff\xc3>"), "{answer:?}");
    // An exec has them as well.
    assert_eq!(pod.cri.exec_sync(&id, &["sh", "-c", "echo \"$RAW\""]).stdout, b"<\xff\xc3>\n");
    pod.refuses("envs[0].key", |config, _| config.envs = vec![KeyValue { key: "A=B".into(), value: vec![] }]);
    pod.refuses("envs[0].value", |config, _| config.envs = vec![KeyValue { key: "A".into(), value: vec![0] }]);
}

#[test]
fn command_and_args_replace_the_images() {
    let node = need!(Node::with_busybox());
    let image = serde_json::json!({"Entrypoint": ["echo", "image"], "Cmd": ["args"]});
    need!(node.import_variant("coracle.test/words:1", image, &[]));
    let pod = Pod::new(&node);
    let words = |command: &[&str], args: &[&str]| {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let config = pod.config(|config, _| {
            config.image = Some(ImageSpec { image: "coracle.test/words:1".into(), ..Default::default() });
            (config.command, config.args) = (list(command), list(args));
        });
        pod.cri.run_to_end(&pod.id, &pod.config, &config);
        pod.cri.logs(&pod.config, &config).into_iter().map(|entry| entry.text).collect::<String>()
    };
    for (command, args, expected) in [
        (&[][..], &[][..], "image args"),
        (&[], &["mine"], "image mine"),
        (&["echo", "mine"], &[], "mine"),
        (&["echo"], &["a", "b"], "a b"),
    ] {
        assert_eq!(words(command, args).trim(), expected, "{command:?} {args:?}");
    }
}

#[test]
fn a_missing_working_directory_is_made() {
    let node = need!(Node::with_busybox());
    let pod = Pod::new(&node);
    let id = pod.run(|config, _| config.working_dir = "/made/for/it".into());
    assert_eq!(pod.output(&id, &["readlink", "/proc/1/cwd"]), "/made/for/it");
}

#[test]
fn a_stop_signal_is_sent_and_shown() {
    let node = need!(Node::with_busybox());
    need!(node.import_variant("coracle.test/signal:1", serde_json::json!({"StopSignal": "SIGRTMIN+3"}), &[]));
    let pod = Pod::new(&node);
    let config = pod.config(|config, _| {
        config.command = ["sh", "-c", "trap 'exit 42' USR1; while :; do sleep 0.1; done"].map(str::to_owned).into();
        config.stop_signal = Signal::Sigusr1.into();
    });
    let id = pod.cri.run_container(&pod.id, &pod.config, &config);
    assert_eq!(pod.cri.status_of(&id).stop_signal(), Signal::Sigusr1);
    pod.cri.stop_container(&id, 60);
    let status = pod.cri.wait_for_state(&id, ContainerState::ContainerExited);
    assert!([42, 138].contains(&status.exit_code), "{status:?}");
    let of_image = pod.run(|config, _| {
        config.image = Some(ImageSpec { image: "coracle.test/signal:1".into(), ..Default::default() });
    });
    assert_eq!(pod.cri.status_of(&of_image).stop_signal(), Signal::Sigrtminplus3);
    assert_eq!(pod.cri.status_of(&pod.run(|_, _| {})).stop_signal(), Signal::Sigterm);
    pod.refuses("stop_signal", |config, _| config.stop_signal = 99);
}
