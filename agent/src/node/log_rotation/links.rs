//! `POD_NAMESPACE_CONTAINER-ID.log` in one directory: what kubelet makes for collectors of logs.

use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::Log;

/// The longest name that a file may have.
const LONGEST: usize = 255;

/// Makes the links of `logs`.
pub fn make(dir: &Path, logs: &[Log]) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for log in logs.iter().filter(|log| exists(&log.path)) {
        match symlink(&log.path, dir.join(name(log))) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    Ok(())
}

/// Takes away the links that lead to a log below `log_dir` which is gone.
pub fn clean(dir: &Path, log_dir: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let link = entry?.path();
        let target = std::fs::read_link(&link).unwrap_or_default();
        if target.starts_with(log_dir) && !exists(&target) {
            remove(&link)?;
        }
    }
    Ok(())
}

fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

fn remove(link: &Path) -> io::Result<()> {
    match std::fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// As kubelet names it: what is too long is cut before the ending.
fn name(log: &Log) -> String {
    let Log { pod, container, id, .. } = log;
    let mut name = format!("{}_{}_{container}-{id}", pod.name, pod.namespace);
    name.truncate(name.floor_char_boundary(LONGEST - ".log".len()));
    name + ".log"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engine::config::names::PodKey;

    fn log(log_dir: &Path, container: &str) -> Log {
        let pod = PodKey { namespace: "ns".into(), name: "web".into(), uid: "u".into() };
        let path = pod.log_directory(log_dir).join(container).join("0.log");
        Log { pod, container: container.into(), id: "abc".into(), path, running: true }
    }

    #[test]
    fn links_lead_to_logs_and_go_with_them() {
        let root = tempfile::tempdir().unwrap();
        let (links, log_dir) = (root.path().join("containers"), root.path().join("pods"));
        let log = log(&log_dir, "app");
        std::fs::create_dir_all(log.path.parent().unwrap()).unwrap();
        std::fs::write(&log.path, "text").unwrap();
        std::fs::create_dir_all(&links).unwrap();
        symlink("/nowhere/else", links.join("others.log")).unwrap();
        for _ in 0..2 {
            make(&links, std::slice::from_ref(&log)).unwrap();
            clean(&links, &log_dir).unwrap();
        }
        assert_eq!(std::fs::read_to_string(links.join("web_ns_app-abc.log")).unwrap(), "text");
        std::fs::remove_dir_all(&log_dir).unwrap();
        make(&links, std::slice::from_ref(&log)).unwrap();
        clean(&links, &log_dir).unwrap();
        let left: Vec<_> = std::fs::read_dir(&links).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left, ["others.log"]);
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_before_its_ending() {
        let long = name(&log(Path::new("/l"), &"c".repeat(300)));
        assert!(long.len() == LONGEST && long.ends_with("c.log"), "{long}");
    }
}
