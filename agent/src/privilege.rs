//! Verbs that need root say so, with the line to type.

use std::ffi::OsStr;

/// Fails unless the process is root, naming the line that would work.
pub fn require_root(why: &str) -> anyhow::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    anyhow::bail!("{why} needs root; type: sudo {}", command_line(std::env::args_os()));
}

/// The command line as it can be typed into a shell again.
fn command_line(args: impl Iterator<Item = impl AsRef<OsStr>>) -> String {
    args.map(|arg| quote(&arg.as_ref().to_string_lossy())).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_can_be_typed_again() {
        let line = ["coracle", "exec", "web", "--", "sh", "-c", "echo it's $HOME", ""];
        assert_eq!(command_line(line.iter()), r"coracle exec web -- sh -c 'echo it'\''s $HOME' ''");
    }
}
