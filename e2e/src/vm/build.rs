//! The binaries that go into the machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::binary;

/// What cargo built.
pub struct Built {
    /// The binary under test.
    pub coracle: PathBuf,
    /// The test binaries, by crate and target: `e2e/kill`, `runtime/runtime`.
    pub tests: BTreeMap<String, PathBuf>,
}

impl Built {
    /// Asks cargo, which builds what is not built yet: the same profile and features as the running test's.
    pub fn find() -> Result<Self, String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        command.args(["test", "--workspace", "--no-run", "--quiet", "--message-format=json"]);
        if binary::profile_dir().ends_with("release") {
            command.arg("--release");
        }
        let output = command.output().map_err(|error| format!("cannot start cargo: {error}"))?;
        if !output.status.success() {
            return Err(format!("cargo test --no-run: {}", String::from_utf8_lossy(&output.stderr)));
        }
        let mut tests = BTreeMap::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
            let (Some(executable), Some(target)) = (message["executable"].as_str(), message["target"]["name"].as_str())
            else {
                continue;
            };
            if message["profile"]["test"] == true {
                let package = message["manifest_path"].as_str().and_then(|path| Path::new(path).parent()?.file_name());
                let package = package.unwrap_or_default().to_string_lossy();
                tests.insert(format!("{package}/{target}"), PathBuf::from(executable));
            }
        }
        Ok(Self { coracle: binary::coracle().to_owned(), tests })
    }
}
