//! `coracle cp`: files between here and a container, as a tar archive that the container's own `tar` reads or writes.
//!
//! What comes out of a container is not trusted: no path of its archive leaves the destination, whatever links it holds.

mod pack;
mod unpack;

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use cri_proto::cri::ExecRequest;
use runtime::{Runtime, Session};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::exec::target::{self, Target};
use crate::channel::{Channel, Cri};
use crate::cli::Global;
use crate::privilege::require_root;
use crate::{local, record};

/// Flags of `cp`.
#[derive(Debug, clap::Args)]
#[command(after_help = "One of the two is [NAMESPACE/]POD:PATH. The container needs a program `tar`.")]
pub struct Args {
    /// Container; the pod's first by default
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Namespace of the pod, where its name alone does not tell
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// What to copy
    #[arg(value_name = "SOURCE")]
    from: String,
    /// Where to
    #[arg(value_name = "DESTINATION")]
    to: String,
}

/// One end of a copy.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Here(PathBuf),
    Pod { namespace: Option<String>, pod: String, path: String },
}

impl End {
    /// `[NAMESPACE/]POD:PATH`, or a path of this machine; one with a colon is written with `./` or `/` before it.
    fn of(text: &str) -> anyhow::Result<Self> {
        let Some((pod, path)) = text.split_once(':').filter(|(pod, _)| !pod.starts_with(['.', '/'])) else {
            return Ok(End::Here(text.into()));
        };
        let (namespace, pod) = pod.split_once('/').map_or((None, pod), |(namespace, pod)| (Some(namespace), pod));
        if pod.is_empty() || pod.contains('/') || path.is_empty() {
            bail!("{text} is neither [NAMESPACE/]POD:PATH nor a path of this machine");
        }
        Ok(End::Pod { namespace: namespace.map(str::to_owned), pod: pod.to_owned(), path: path.to_owned() })
    }
}

/// Copies.
pub fn main(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    require_root("copying files of a pod")?;
    let open = |namespace: Option<String>, pod: &str| -> anyhow::Result<Container> {
        let namespace = namespace.or_else(|| args.namespace.clone());
        let record = record::find(&global.state_dir, &global.this_boot()?, pod, namespace.as_deref())?;
        let target = target::choose(&record, args.container.as_deref())?;
        let (runtime, channel) = local::open(global, target.owner.clone(), None)?;
        Ok(Container { runtime, channel, target })
    };
    super::block_on(async {
        match (End::of(&args.from)?, End::of(&args.to)?) {
            (End::Pod { namespace, pod, path }, End::Here(to)) => {
                let what = || format!("copy {path} of pod {pod} to {}", to.display());
                open(namespace, &pod)?.fetch(&path, &to).await.with_context(what)?;
            }
            (End::Here(from), End::Pod { namespace, pod, path }) => {
                let what = || format!("copy {} to {path} of pod {pod}", from.display());
                open(namespace, &pod)?.send(&from, &path).await.with_context(what)?;
            }
            (End::Here(_), End::Here(_)) => bail!("one of the two has to be [NAMESPACE/]POD:PATH"),
            (End::Pod { .. }, End::Pod { .. }) => bail!("one of the two has to be a path of this machine"),
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The container that is copied from or to.
struct Container {
    runtime: Runtime,
    channel: Channel,
    target: Target,
}

impl Container {
    async fn fetch(&self, path: &str, to: &Path) -> anyhow::Result<()> {
        let (directory, base) = split(path)?;
        let name = format!("./{base}");
        let mut session = self.exec(&["tar", "-cf", "-", "-C", directory, &name], false).await?;
        let (output, errors) = (session.stdout.take().context("it has no output")?, Errors::read(&mut session)?);
        // Copied into a directory, under its own name; else the destination is the new name.
        let (root, renamed) = destination(to, base)?;
        let (base, at) = (base.to_owned(), root.clone());
        let unpacked = tokio::task::spawn_blocking(move || unpack::unpack(blocking(output)?, &at, &base, &renamed));
        let unpacked = unpacked.await?;
        let (code, said) = (session.wait().await?, errors.said());
        let count = unpacked?;
        if code != 0 || count == 0 {
            bail!("{}", ended("tar", code, &said));
        }
        Ok(())
    }

    async fn send(&self, from: &Path, path: &str) -> anyhow::Result<()> {
        let meta = std::fs::symlink_metadata(from).with_context(|| format!("look at {}", from.display()))?;
        let own = from.canonicalize()?;
        let own = own.file_name().and_then(|name| name.to_str()).context("it has no name of its own")?.to_owned();
        let own = if meta.is_symlink() { file_name(from)? } else { own };
        let (directory, name) = if path.ends_with('/') || self.is_directory(path).await? {
            (path.to_owned(), own)
        } else {
            let (directory, base) = split(path)?;
            (directory.to_owned(), base.to_owned())
        };
        let mut session = self.exec(&["tar", "-xmf", "-", "-C", &directory], true).await?;
        let (input, errors) = (session.stdin.take().context("it has no input")?, Errors::read(&mut session)?);
        let output = session.stdout.take();
        let from = from.to_owned();
        let packed = tokio::task::spawn_blocking(move || pack::pack(&from, &name, blocking(input)?)).await?;
        let code = session.wait().await?;
        drop(output);
        let said = errors.said();
        if code != 0 {
            bail!("{}", ended("tar", code, &said));
        }
        packed
    }

    async fn is_directory(&self, path: &str) -> anyhow::Result<bool> {
        Ok(self.exec(&["test", "-d", path], false).await?.wait().await? == 0)
    }

    async fn exec(&self, command: &[&str], stdin: bool) -> anyhow::Result<Session> {
        let request = ExecRequest {
            container_id: self.target.container_id.clone(),
            cmd: command.iter().map(|word| (*word).to_owned()).collect(),
            stdin,
            stdout: true,
            stderr: true,
            tty: false,
        };
        let url = Cri::new(self.channel.clone()).runtime.exec(request).await?.into_inner().url;
        let runtime = self.runtime.clone();
        let session = tokio::task::spawn_blocking(move || runtime.take_session(&url)).await?;
        session.with_context(|| format!("run {} in container {}", command[0], self.target.container))
    }
}

/// What a command says is wrong, read beside its work.
struct Errors(Option<std::thread::JoinHandle<String>>);

impl Errors {
    /// The most that is kept of it.
    const MOST: u64 = 64 * 1024;

    fn read(session: &mut Session) -> anyhow::Result<Self> {
        let Some(stderr) = session.stderr.take() else { return Ok(Errors(None)) };
        let mut from = blocking(stderr)?;
        Ok(Errors(Some(std::thread::spawn(move || {
            let mut text = Vec::new();
            // What is cut off says no more.
            let _ = from.by_ref().take(Self::MOST).read_to_end(&mut text);
            let _ = std::io::copy(&mut from, &mut std::io::sink());
            String::from_utf8_lossy(&text).trim().to_owned()
        }))))
    }

    fn said(self) -> String {
        self.0.and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

fn ended(program: &str, code: i32, said: &str) -> String {
    let said = if said.is_empty() { "it said nothing" } else { said };
    format!("{program} in the container ended with code {code}: {said}")
}

/// The directory of a path in a container, and its last name.
fn split(path: &str) -> anyhow::Result<(&str, &str)> {
    let trimmed = path.trim_end_matches('/');
    let (directory, base) = match trimmed.rsplit_once('/') {
        Some(("", base)) => ("/", base),
        Some((directory, base)) => (directory, base),
        None => (".", trimmed),
    };
    match base {
        "" | "." | ".." => bail!("{path} does not end in a name; name what is to be copied"),
        base => Ok((directory, base)),
    }
}

/// The directory that an archive is unpacked in, and what its first name becomes.
fn destination(to: &Path, base: &str) -> anyhow::Result<(PathBuf, String)> {
    if to.is_dir() {
        return Ok((to.to_owned(), base.to_owned()));
    }
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        bail!("{} is no directory", parent.display());
    }
    Ok((parent.to_owned(), file_name(to)?))
}

fn file_name(path: &Path) -> anyhow::Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    Ok(name.with_context(|| format!("{} does not end in a name", path.display()))?.to_owned())
}

/// Descriptors arrive in whatever mode the other side liked.
fn blocking(fd: OwnedFd) -> std::io::Result<File> {
    let flags = fcntl_getfl(&fd)?;
    fcntl_setfl(&fd, flags - OFlags::NONBLOCK)?;
    Ok(File::from(fd))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_end_is_of_a_pod_or_of_this_machine() {
        let pod = |namespace: Option<&str>, pod: &str, path: &str| End::Pod {
            namespace: namespace.map(str::to_owned),
            pod: pod.into(),
            path: path.into(),
        };
        for (text, end) in [
            ("web:/etc/hosts", pod(None, "web", "/etc/hosts")),
            ("prod/web:data", pod(Some("prod"), "web", "data")),
            ("/tmp/x", End::Here("/tmp/x".into())),
            ("x", End::Here("x".into())),
            ("./a:b", End::Here("./a:b".into())),
            ("/a:b", End::Here("/a:b".into())),
        ] {
            assert_eq!(End::of(text).unwrap(), end, "{text}");
        }
        for text in ["web:", ":/x", "a/b/c:/x"] {
            assert!(End::of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_has_a_directory_and_a_name() {
        for (path, parts) in
            [("/etc/hosts", ("/etc", "hosts")), ("/x", ("/", "x")), ("x", (".", "x")), ("/a/b/", ("/a", "b"))]
        {
            assert_eq!(split(path).unwrap(), parts, "{path}");
        }
        for path in ["/", ".", "/a/..", ""] {
            assert!(split(path).is_err(), "{path}");
        }
    }
}
