//! `docker-credential-NAME`: programs that keep credentials elsewhere.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::credentials::{Secret, wrong};
use crate::images::Error;

/// Helpers may ask a service of their cloud.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than any answer has.
const MAX_ANSWER: u64 = 1 << 20;

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username", default)]
    username: String,
    #[serde(rename = "Secret", default)]
    secret: String,
}

/// Asks a helper for the credentials of a server; `None` when it has none.
pub(super) fn get(config: &Path, name: &str, server: &str) -> Result<Option<Secret>, Error> {
    let program = format!("docker-credential-{name}");
    let failed = |why: String| wrong(config, format!("{program} get: {why}"));
    if name.is_empty() || name.contains('/') {
        return Err(failed("that is no helper's name".to_owned()));
    }
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading says why by its status.
        let _ = stdin.write_all(server.as_bytes());
    }
    let output = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        output.map_or(Ok(0), |output| output.take(MAX_ANSWER).read_to_string(&mut text)).map(|_| text)
    });
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().map_err(|error| failed(error.to_string()))? {
            Some(status) => break status,
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("it has not ended in {} s", PATIENCE.as_secs())));
            }
        }
    };
    let text = match reader.join() {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed("its answer could not be read".to_owned())),
    };
    if !status.success() {
        // The helpers' common words for having nothing.
        if text.contains("credentials not found") || text.contains("no credentials server URL") {
            return Ok(None);
        }
        return Err(failed(format!("it ended with {status}")));
    }
    let answer: Answer = serde_json::from_str(&text).map_err(|error| failed(format!("its answer: {error}")))?;
    Ok(match answer.username.as_str() {
        "<token>" => Some(Secret::IdentityToken(answer.secret)),
        _ if answer.secret.is_empty() => None,
        _ => Some(Secret::Password { username: answer.username, password: answer.secret }),
    })
}
