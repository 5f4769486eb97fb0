//! A user and a password from the command line, the terminal or standard input, as podman takes them.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, BufRead as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::str::FromStr;

use anyhow::Context as _;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};

use super::interrupt::{Interrupted, Interrupts};

/// What `--creds` says: a user, and perhaps a password.
#[derive(Clone, PartialEq, Eq)]
pub struct CredentialsFlag {
    username: String,
    password: Option<String>,
}

/// A user and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Who.
    pub username: String,
    /// The secret.
    pub password: String,
}

impl FromStr for CredentialsFlag {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.split_once(':') {
            Some((username, password)) => Self { username: username.into(), password: Some(password.into()) },
            None => Self { username: text.into(), password: None },
        })
    }
}

impl fmt::Debug for CredentialsFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsFlag").field("username", &self.username).finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

impl CredentialsFlag {
    /// Asks for what is missing. An interrupt meanwhile leaves the terminal as it was.
    pub async fn complete(&self, interrupts: &mut Interrupts) -> anyhow::Result<Result<Credentials, Interrupted>> {
        let username = match self.username.as_str() {
            "" => match ask("user: ", Echo::On, interrupts).await? {
                Ok(username) => username,
                Err(interrupted) => return Ok(Err(interrupted)),
            },
            username => username.to_owned(),
        };
        anyhow::ensure!(!username.is_empty(), "--creds names no user");
        let password = match &self.password {
            Some(password) => password.clone(),
            None => match ask(&format!("password of {username}: "), Echo::Off, interrupts).await? {
                Ok(password) => password,
                Err(interrupted) => return Ok(Err(interrupted)),
            },
        };
        Ok(Ok(Credentials { username, password }))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Echo {
    On,
    Off,
}

/// One line of standard input; on a terminal with a prompt before it.
async fn ask(prompt: &str, echo: Echo, interrupts: &mut Interrupts) -> anyhow::Result<Result<String, Interrupted>> {
    let input = io::stdin();
    let terminal = termios::isatty(&input);
    let hidden = if terminal && echo == Echo::Off { Some(Hidden::enter(input.as_fd())?) } else { None };
    if terminal {
        // A prompt that cannot be shown is no reason not to read the answer.
        let _ = write!(io::stderr(), "{prompt}").and_then(|()| io::stderr().flush());
    }
    let answer = tokio::select! {
        line = tokio::task::spawn_blocking(read_line) => line?.map(Ok),
        interrupted = interrupts.next() => Ok(Err(interrupted)),
    };
    if hidden.is_some() {
        // The user's own newline was not shown either.
        let _ = writeln!(io::stderr());
    }
    answer.context("read the credentials from standard input")
}

fn read_line() -> io::Result<String> {
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line)? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended without a line"));
    }
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// A terminal that does not show what is typed. Dropping it restores what was.
struct Hidden<'fd> {
    terminal: BorrowedFd<'fd>,
    before: Termios,
}

impl<'fd> Hidden<'fd> {
    fn enter(terminal: BorrowedFd<'fd>) -> anyhow::Result<Self> {
        let before = termios::tcgetattr(terminal).context("read the terminal's settings")?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        termios::tcsetattr(terminal, OptionalActions::Flush, &hidden).context("hide what is typed")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // It fails when the terminal is gone, and then there is nothing to restore.
        let _ = termios::tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_colon_ends_the_user() {
        for (text, username, password) in
            [("u:p", "u", Some("p")), ("u:p:q", "u", Some("p:q")), ("u", "u", None), ("u:", "u", Some(""))]
        {
            let flag: CredentialsFlag = text.parse().unwrap();
            assert_eq!((flag.username.as_str(), flag.password.as_deref()), (username, password), "{text}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let flag: CredentialsFlag = "u:hunter2".parse().unwrap();
        assert!(!format!("{flag:?}").contains("hunter2"));
    }
}
