//! Signals as CRI names them.

use cri_proto::cri;

use crate::error::{Error, Result};

/// CRI names signals as `SIGNAL_SIGTERM`, and real-time ones as `SIGNAL_SIGRTMINPLUS3`.
fn name(signal: cri::Signal) -> String {
    let name = signal.as_str_name().trim_start_matches("SIGNAL_").replace("PLUS", "+").replace("MINUS", "-");
    match name.as_str() {
        "SIGCLD" => "SIGCHLD".into(),
        "SIGPOLL" => "SIGIO".into(),
        "SIGIOT" => "SIGABRT".into(),
        _ => name,
    }
}

/// The number of a signal that a client names.
pub fn number(signal: cri::Signal) -> Result<i32> {
    let name = name(signal);
    crate::sys::process::signal_number(&name).ok_or_else(|| Error::Invalid(format!("stop_signal {name} is not known")))
}

/// What a client calls the signal of a number; RUNTIME_DEFAULT for what it has no name for.
pub fn show(number: i32) -> cri::Signal {
    // One number has several names, such as SIGCLD and SIGCHLD: the usual one comes first.
    let all = (1..=128).filter_map(|it| cri::Signal::try_from(it).ok());
    let named = all.filter(|it| crate::sys::process::signal_number(&name(*it)) == Some(number));
    named
        .min_by_key(|it| matches!(it.as_str_name(), "SIGNAL_SIGCLD" | "SIGNAL_SIGPOLL" | "SIGNAL_SIGIOT"))
        .unwrap_or(cri::Signal::RuntimeDefault)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_shown_as_it_was_asked_for() {
        for signal in [cri::Signal::Sigterm, cri::Signal::Sigkill, cri::Signal::Sigchld, cri::Signal::Sigrtminplus3] {
            assert_eq!(show(number(signal).unwrap()), signal);
        }
        assert_eq!(show(number(cri::Signal::Sigcld).unwrap()), cri::Signal::Sigchld);
        assert_eq!(show(0), cri::Signal::RuntimeDefault);
        assert_eq!(show(-1), cri::Signal::RuntimeDefault);
    }
}
