//! The files of `/var/log`, for those who look after the node.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use futures_util::stream;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use tokio::io::AsyncReadExt as _;

use super::refusal::{Refusal, text};
use crate::access::body::{self, Body};

/// Where they are.
const LOGS: &str = "/var/log";

/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;

/// The most names of a directory that are told.
const NAMES: usize = 10_000;

enum Found {
    File(std::fs::File, u64),
    Names(Vec<String>),
}

/// A file, or the names in a directory.
pub async fn answer(path: &str) -> Result<Response<Body>, Refusal> {
    let path = path.to_owned();
    let looked = tokio::task::spawn_blocking(move || look(Path::new(LOGS), &path)).await;
    let found = looked.map_err(io::Error::from).and_then(|it| it).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Refusal::not_found("404 page not found\n"),
        // A link that leads out of the directory among them.
        _ => {
            tracing::debug!(%error, "a file of the node's logs is not shown");
            Refusal::new(StatusCode::FORBIDDEN, "403 Forbidden\n")
        }
    })?;
    match found {
        Found::Names(names) => {
            let mut page = "<!doctype html>\n<pre>\n".to_owned();
            names.iter().for_each(|name| page.push_str(&line(name)));
            page.push_str("</pre>\n");
            let mut response = text(StatusCode::OK, page);
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, html);
            Ok(response)
        }
        Found::File(file, size) => {
            let file = tokio::fs::File::from_std(file).take(size);
            let reading = stream::try_unfold(file, |mut file| async move {
                let mut chunk = vec![0; CHUNK];
                let count = file.read(&mut chunk).await?;
                chunk.truncate(count);
                io::Result::Ok((count > 0).then(|| (Bytes::from(chunk), file)))
            });
            Ok(body::text_coming(reading))
        }
    }
}

/// Looks at a path below `root`, which nothing on the way leads out of.
fn look(root: &Path, path: &str) -> io::Result<Found> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(root, directory, Mode::empty())?;
    // Neither a pipe that nobody writes into nor a terminal is waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { "." } else { path.trim_end_matches('/') };
    let file = openat2(root.as_fd(), path, flags, Mode::empty(), resolve)?;
    let stat = fstat(&file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(Found::File(file.into(), u64::try_from(stat.st_size).unwrap_or(0))),
        FileType::Directory => {
            let mut names = Vec::new();
            for entry in Dir::read_from(&file)?.take(NAMES) {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                match entry.file_type() {
                    _ if name == "." || name == ".." => {}
                    FileType::Directory => names.push(format!("{name}/")),
                    _ => names.push(name),
                }
            }
            names.sort();
            Ok(Found::Names(names))
        }
        _ => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

fn line(name: &str) -> String {
    let mut shown = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '"' => shown.push_str("&#34;"),
            '\'' => shown.push_str("&#39;"),
            other => shown.push(other),
        }
    }
    let mut target = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => target.push(char::from(byte)),
            other => target.push_str(&format!("%{other:02X}")),
        }
    }
    format!("<a href=\"{target}\">{shown}</a>\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_leads_out_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("log");
        fs::create_dir_all(root.join("pods/p")).unwrap();
        fs::write(root.join("a"), "text").unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        symlink("../secret", root.join("climbs")).unwrap();
        symlink(dir.path().join("secret"), root.join("absolute")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        symlink("a", root.join("within")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        for path in ["climbs", "absolute", "magic", "magic/etc/passwd", "../secret", "pipe", "missing", "a/b"] {
            assert!(look(&root, path).is_err(), "{path}");
        }
        for path in ["a", "within"] {
            assert!(matches!(look(&root, path), Ok(Found::File(_, 4))), "{path}");
        }
        let Found::Names(names) = look(&root, "").unwrap() else { panic!("it is a directory") };
        assert_eq!(names, ["a", "absolute", "climbs", "magic", "pipe", "pods/", "within"]);
        let Found::Names(names) = look(&root, "pods/").unwrap() else { panic!("it is a directory") };
        assert_eq!(names, ["p/"]);
    }

    #[test]
    fn names_are_shown_as_they_are_and_followed_as_they_are() {
        assert_eq!(line("a b<\"x\">"), "<a href=\"a%20b%3C%22x%22%3E\">a b&lt;&#34;x&#34;&gt;</a>\n");
        assert_eq!(line("pods/"), "<a href=\"pods/\">pods/</a>\n");
    }
}
