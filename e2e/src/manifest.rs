//! Manifests for tests, as JSON, which every reader of YAML takes. Tests about YAML write YAML.

use serde_json::{Value, json};

use crate::BUSYBOX;

/// `base` with the keys of `more` laid over it.
pub fn with(mut base: Value, more: Value) -> Value {
    if let (Some(base), Value::Object(more)) = (base.as_object_mut(), more) {
        base.extend(more);
    }
    base
}

/// A pod that never restarts and is killed without grace, with `spec` laid over that.
pub fn pod(name: &str, spec: Value) -> Value {
    let base = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 0});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": with(base, spec)})
}

/// A busybox container that runs a shell script.
pub fn shell(name: &str, script: &str) -> Value {
    command(name, &["sh", "-c", script])
}

/// A busybox container that runs a command, as it stands: `$$` would be one `$` to Kubernetes.
pub fn command(name: &str, command: &[&str]) -> Value {
    let command: Vec<String> = command.iter().map(|arg| arg.replace("$$", "$$$$")).collect();
    json!({"name": name, "image": BUSYBOX, "command": command})
}

/// A container of the built-in image.
pub fn tool(name: &str, args: &[&str]) -> Value {
    json!({"name": name, "image": "coracle.local/tools", "args": args})
}

/// A pod named `test` of one container named `c` that runs a shell script.
pub fn script(script: &str) -> Value {
    pod("test", json!({"containers": [shell("c", script)]}))
}

/// [`script`] with more keys for its container.
pub fn script_with(script: &str, container: Value) -> Value {
    pod("test", json!({"containers": [with(shell("c", script), container)]}))
}

/// A pod that prints `up` and stays until it is stopped.
pub fn keeper(name: &str) -> Value {
    pod(name, json!({"containers": [shell("c", "echo up; exec sleep 1000")]}))
}

/// Several objects in one file.
pub fn several(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("---\n{object}\n")).collect()
}
