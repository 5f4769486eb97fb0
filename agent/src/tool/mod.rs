//! Applets: the small programs of the built-in image, run as `coracle tool APPLET`.
//!
//! They start inside containers, often as process 1 and under a tight memory limit, so nothing else of the binary is
//! set up for them: no command line parser, and no async runtime but for the one that speaks HTTP/2.

mod ambassador;
mod dns;
mod fetch;
mod health;
mod hold;
pub mod http;
mod plain;
mod resolve;
mod serve;
mod signals;
mod tls;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::process::ExitCode;

/// No such applet, as a shell says of a command.
const NOT_FOUND: u8 = 127;

struct Applet {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    run: fn(&[OsString]) -> Result<u8, Failure>,
}

/// Why an applet did not do what it was asked.
#[derive(Debug, PartialEq)]
enum Failure {
    /// It was asked wrongly: exit 2, with the usage.
    Usage(String),
    /// It tried and could not: exit 1.
    Failed(String),
}

impl Failure {
    fn failed(what: impl fmt::Display) -> Self {
        Self::Failed(what.to_string())
    }
}

const APPLETS: &[Applet] = &[
    Applet {
        name: "ambassador",
        arguments: "[--config FILE | HOST PORT]",
        about: "relay ports to targets elsewhere: as FILE says, PORT to HOST, or as NAME_PORT_80_TCP=tcp://HOST:PORT says",
        run: ambassador::main,
    },
    Applet { name: "cat", arguments: "FILE…", about: "print files", run: plain::cat },
    Applet {
        name: "eat",
        arguments: "MEMORY",
        about: "allocate and touch memory (64Mi, 1G, bytes), then hold it",
        run: hold::eat,
    },
    Applet { name: "echo", arguments: "[WORD…]", about: "print words", run: plain::echo },
    Applet { name: "env", arguments: "", about: "print the environment", run: plain::env },
    Applet { name: "exit", arguments: "CODE", about: "end with an exit code, 0 to 255", run: plain::exit },
    Applet {
        name: "fetch",
        arguments: "[--timeout DURATION] URL",
        about: "print what an http:// URL serves; exit 1 and say why when it does not",
        run: fetch::main,
    },
    Applet {
        name: "health",
        arguments: "--port PORT [--service NAME]… [--status-file FILE]",
        about: "answer gRPC health checks: SERVING, or the status that FILE holds",
        run: health::main,
    },
    Applet {
        name: "serve",
        arguments: "--port PORT [--text TEXT] [--address ADDRESS] [--status-file FILE] [--tls] [--log]",
        about: "answer every HTTP request with TEXT, or with \"hello from POD\"; with the status that FILE holds, if any",
        run: serve::main,
    },
    Applet { name: "sleep", arguments: "SECONDS|inf", about: "wait", run: hold::sleep },
    Applet { name: "spin", arguments: "[SECONDS]", about: "keep one processor busy", run: hold::spin },
    Applet { name: "write", arguments: "FILE [WORD…]", about: "write words to a file", run: plain::write },
];

/// Runs an applet if this process was started as one: `coracle tool …`.
pub fn dispatch(mut args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let _program = args.next();
    if args.next()? != "tool" {
        return None;
    }
    Some(run(&args.collect::<Vec<_>>()))
}

/// Runs the applet that the first argument names.
pub fn run(args: &[OsString]) -> ExitCode {
    let Some((name, rest)) = args.split_first() else {
        return unknown("which applet?");
    };
    if name == "help" || is_help(name) {
        return say_on_stdout(&list());
    }
    let Some(applet) = APPLETS.iter().find(|applet| name == applet.name) else {
        return unknown(&format!("unknown applet {}", name.display()));
    };
    // `echo` prints what it is given, whatever that is.
    if applet.name != "echo" && rest.first().is_some_and(|first| is_help(first)) {
        return say_on_stdout(&applet.usage());
    }
    match (applet.run)(rest) {
        Ok(code) => ExitCode::from(code),
        Err(Failure::Usage(why)) => {
            eprint!("{}: {why}\n{}", applet.name, applet.usage());
            ExitCode::from(2)
        }
        Err(Failure::Failed(why)) => {
            eprintln!("{}: {why}", applet.name);
            ExitCode::from(1)
        }
    }
}

impl Applet {
    fn usage(&self) -> String {
        format!("usage: coracle tool {} {}\n{}\n", self.name, self.arguments, self.about)
    }
}

fn is_help(word: &OsStr) -> bool {
    word == "--help" || word == "-h"
}

fn list() -> String {
    let mut text = String::from("usage: coracle tool APPLET [ARGUMENT…]\n\nApplets:\n");
    for applet in APPLETS {
        text.push_str(&format!("  {:<10} {}\n", applet.name, applet.about));
    }
    text
}

fn unknown(why: &str) -> ExitCode {
    eprint!("coracle tool: {why}\n{}", list());
    ExitCode::from(NOT_FOUND)
}

fn say_on_stdout(text: &str) -> ExitCode {
    match plain::print(text.as_bytes()) {
        Ok(code) => ExitCode::from(code),
        Err(_) => ExitCode::from(1),
    }
}

/// The value of a flag, given as `--flag VALUE` or `--flag=VALUE`; `None` if `word` is not that flag.
fn flag_value(
    flag: &str,
    word: &OsStr,
    rest: &mut impl Iterator<Item = OsString>,
) -> Option<Result<OsString, Failure>> {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let tail = word.as_bytes().strip_prefix(flag.as_bytes())?;
    match tail.split_first() {
        None => Some(rest.next().ok_or_else(|| Failure::Usage(format!("{flag} needs a value")))),
        Some((b'=', value)) => Some(Ok(OsString::from_vec(value.to_vec()))),
        Some(_) => None,
    }
}
