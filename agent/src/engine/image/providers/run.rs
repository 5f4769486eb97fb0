//! One question to one provider.

use std::collections::BTreeMap;
use std::io::{Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::config::Provider;

/// How long a provider may take, as kubelet has it.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether it has ended.
const TICK: Duration = Duration::from_millis(10);

/// The longest answer.
const LONGEST: u64 = 1 << 20;

/// How much of what it complains of is passed on.
const COMPLAINT: usize = 300;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    kind: String,
    api_version: String,
    #[serde(default)]
    cache_key_type: String,
    cache_duration: Option<String>,
    auth: Option<BTreeMap<String, Login>>,
}

/// Who to be.
#[derive(Deserialize)]
pub struct Login {
    /// The name.
    pub username: String,
    /// The secret.
    pub password: String,
}

/// What a provider answers.
pub struct Answer {
    /// What it is good for: `Image`, `Registry` or `Global`.
    pub cache_key_type: String,
    /// How long it is good.
    pub cache_duration: Option<Duration>,
    /// Who to be, by registry.
    pub auth: BTreeMap<String, Login>,
}

/// Whether something is a program.
pub fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

/// Asks a provider for an image.
pub async fn ask(provider: &Provider, bin_dir: &Path, image: &str) -> Result<Answer, String> {
    let version = &provider.api_version;
    let request = serde_json::json!({"kind": "CredentialProviderRequest", "apiVersion": version, "image": image});
    let mut command = Command::new(bin_dir.join(&provider.name));
    command.args(&provider.args).envs(provider.env.iter().map(|it| (&it.name, &it.value)));
    let work = move || converse(command, request.to_string().as_bytes());
    let output = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())??;
    // The parser's message could quote a secret.
    let response: Response = serde_json::from_slice(&output)
        .map_err(|error| format!("its answer cannot be read: line {}, column {}", error.line(), error.column()))?;
    if response.kind != "CredentialProviderResponse" || response.api_version != *version {
        return Err(format!("its answer is no CredentialProviderResponse of {version}"));
    }
    let duration = response.cache_duration.as_deref().map(manifests::duration::parse);
    let cache_duration = match duration {
        Some(None) => return Err("its cacheDuration is no duration".to_owned()),
        Some(Some(duration)) => Some(duration),
        None => None,
    };
    Ok(Answer { cache_key_type: response.cache_key_type, cache_duration, auth: response.auth.unwrap_or_default() })
}

fn converse(mut command: Command, request: &[u8]) -> Result<Vec<u8>, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|error| format!("it cannot be run: {error}"))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (status, output, complaint) = std::thread::scope(|scope| {
        // One that wants to know nothing may have ended already.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(request)));
        let (output, complaint) = (scope.spawn(move || read(stdout)), scope.spawn(move || read(stderr)));
        let status = end(&mut child);
        (status, output.join(), complaint.join())
    });
    let status = status.map_err(|error| format!("its end is unknown: {error}"))?;
    let status = status.ok_or_else(|| format!("it took longer than {PATIENCE:?}"))?;
    if status.success() {
        let output = output.unwrap_or_else(|_| Err(std::io::Error::other("its reader ended")));
        return output.map_err(|error| format!("its answer cannot be read: {error}"));
    }
    let complaint = complaint.ok().and_then(Result::ok).unwrap_or_default();
    let complaint: String = String::from_utf8_lossy(&complaint).trim().chars().take(COMPLAINT).collect();
    Err(format!("it failed with {status}: {complaint}"))
}

/// Waits for its end; none when patience ends before it. Nothing of it is left then, or its readers would wait for ever.
fn end(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    let patience = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if Instant::now() > patience => break None,
            None => std::thread::sleep(TICK),
        }
    };
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        // What it has started may hold its output open.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    if status.is_none() {
        child.wait()?;
    }
    Ok(status)
}

fn read(stream: Option<impl Read>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(LONGEST).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
