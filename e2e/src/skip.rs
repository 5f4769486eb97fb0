//! Skipping, with the reason where a reader and CI see it.

use std::io::Write;

/// Ends the test here and says why: the machine cannot do what the test needs.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        $crate::skip::announce(&format!($($reason)*));
        return;
    }};
}

/// The value of a `Result<T, String>`, or the end of the test with the error as the reason.
#[macro_export]
macro_rules! need {
    ($value:expr) => {
        match $value {
            Ok(value) => value,
            Err(reason) => $crate::skip!("{reason}"),
        }
    };
}

/// Prints `skipped: NAME: REASON` past the test harness' capture and appends it to the file that `CORACLE_SKIP_LOG` names.
pub fn announce(reason: &str) {
    let thread = std::thread::current();
    let line = format!("skipped: {}: {reason}\n", thread.name().unwrap_or("main"));
    // A write that fails here has nowhere to be reported.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("CORACLE_SKIP_LOG") {
        let file = std::fs::File::options().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .unwrap_or_else(|error| panic!("cannot append to CORACLE_SKIP_LOG {}: {error}", path.display()));
    }
}

/// An error unless the tests run as root, which nearly all of them need.
pub fn root() -> Result<(), String> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err("not root".into()) }
}
