//! Runs every test on both runtimes, some at a time, and tells what went wrong at the end.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use e2e::Node;
use e2e::cri::{Containerd, Cri, Endpoint};

use crate::differences::{ABSENT, DIFFERENCES};

/// A test by the name of its module and function.
pub struct Test {
    pub name: &'static str,
    pub body: fn(&dyn Endpoint),
}

/// The tests of a module, by the names of their functions.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub const TESTS: &[$crate::harness::Test] = &[
            $($crate::harness::Test { name: concat!(module_path!(), "::", stringify!($name)), body: $name },)*
        ];
    };
}
pub(crate) use tests;

impl Test {
    /// Without the crate's name.
    fn name(&self) -> &'static str {
        self.name.split_once("::").map_or(self.name, |(_, name)| name)
    }
}

/// A test on a runtime.
#[derive(Clone, Copy)]
struct Case<'t> {
    test: &'t Test,
    runtime: &'static str,
}

impl Case<'_> {
    fn name(&self) -> String {
        format!("{}::{}", self.runtime, self.test.name())
    }

    fn reason(&self, table: &[(&str, &'static str)]) -> Option<&'static str> {
        let named = |(name, _): &&(&str, &str)| self.runtime == "containerd" && *name == self.test.name();
        table.iter().find(named).map(|(_, reason)| *reason)
    }
}

/// What became of a case.
enum Outcome {
    Passed,
    Failed(String),
    Ignored(&'static str),
    /// It fails on the oracle, as [`DIFFERENCES`] says.
    Differs(&'static str),
}

/// The arguments of the usual harness that people and scripts give.
#[derive(Default)]
struct Args {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    threads: Option<usize>,
}

impl Args {
    fn parse() -> Self {
        let mut args = Self::default();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(n, v)| (n, Some(v.to_owned())));
            let mut value = || value.clone().or_else(|| words.next());
            match name {
                "--list" => args.list = true,
                "--exact" => args.exact = true,
                "--skip" => args.skips.extend(value()),
                "--test-threads" => args.threads = value().and_then(|text| text.parse().ok()),
                // They speak of what this harness does anyway or has not.
                "--format" | "--color" | "--logfile" | "-Z" => drop(value()),
                other if other.starts_with('-') => {}
                filter => args.filters.push(filter.to_owned()),
            }
        }
        args
    }

    fn wants(&self, name: &str) -> bool {
        let matches = |filter: &String| if self.exact { name == filter } else { name.contains(filter.as_str()) };
        (self.filters.is_empty() || self.filters.iter().any(matches)) && !self.skips.iter().any(matches)
    }
}

/// What each thread's test panicked with.
static PANICS: Mutex<Option<HashMap<String, String>>> = Mutex::new(None);

fn remember_panics() {
    std::panic::set_hook(Box::new(|info| {
        let thread = std::thread::current().name().unwrap_or("main").to_owned();
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
        let all = panics.get_or_insert_default().entry(thread).or_default();
        all.push_str(&format!("at {place}:\n{text}\n"));
    }));
}

fn panic_of(thread: &str) -> String {
    let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
    panics.get_or_insert_default().remove(thread).unwrap_or_default()
}

/// Runs what the arguments ask for.
pub fn run(tests: &[&Test]) -> ExitCode {
    let args = Args::parse();
    check_tables(tests);
    let cases = tests.iter().flat_map(|test| ["coracle", "containerd"].map(|runtime| Case { test, runtime }));
    let cases: Vec<Case> = cases.filter(|case| args.wants(&case.name())).collect();
    if args.list {
        cases.iter().for_each(|case| println!("{}: test", case.name()));
        return ExitCode::SUCCESS;
    }
    if let Err(reason) = e2e::skip::root() {
        e2e::skip::announce(&reason);
        return ExitCode::SUCCESS;
    }
    remember_panics();
    let start = Instant::now();
    let outcomes = on_endpoints(&cases, args.threads.unwrap_or(4).max(1));
    report(&cases, &outcomes, start)
}

/// A name in a table that no test has would hide that a test was renamed.
fn check_tables(tests: &[&Test]) {
    for (name, _) in DIFFERENCES.iter().chain(ABSENT) {
        assert!(tests.iter().any(|test| test.name() == *name), "the tables name {name}, and there is no such test");
    }
}

/// Starts what the cases need, runs them, and ends it, which checks that nothing is left.
fn on_endpoints(cases: &[Case], threads: usize) -> Vec<Outcome> {
    let ours = cases.iter().any(|case| case.runtime == "coracle");
    let theirs = cases.iter().any(|case| case.runtime == "containerd" && case.reason(ABSENT).is_none());
    let node = match ours.then(Node::with_busybox).transpose() {
        Ok(node) => node,
        Err(reason) => {
            e2e::skip::announce(&reason);
            return cases.iter().map(|_| Outcome::Ignored("the machine has no busybox")).collect();
        }
    };
    let oracle = theirs.then(Node::new);
    let cri = node.as_ref().map(Cri::start);
    let containerd = oracle.as_ref().and_then(|node| {
        Containerd::start(node).map_err(|reason| e2e::skip::announce(&format!("no oracle: {reason}"))).ok()
    });
    let endpoint = |runtime: &str| -> Option<&dyn Endpoint> {
        match runtime {
            "coracle" => cri.as_ref().map(|it| it as &dyn Endpoint),
            _ => containerd.as_ref().map(|it| it as &dyn Endpoint),
        }
    };
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<HashMap<usize, Outcome>> = Mutex::default();
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(index) else { return };
            let outcome = run_case(case, endpoint(case.runtime));
            tell(case, &outcome);
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(index, outcome);
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    (0..cases.len()).filter_map(|index| outcomes.remove(&index)).collect()
}

fn run_case(case: &Case, endpoint: Option<&dyn Endpoint>) -> Outcome {
    if let Some(reason) = case.reason(ABSENT) {
        return Outcome::Ignored(reason);
    }
    let Some(endpoint) = endpoint else { return Outcome::Ignored("there is no oracle") };
    // A thread with the case's name: skips and panics say it.
    let body = || catch_unwind(AssertUnwindSafe(|| (case.test.body)(endpoint)));
    let ended = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(case.name()).spawn_scoped(scope, body).expect("a thread");
        thread.join()
    });
    let passed = matches!(ended, Ok(Ok(())));
    match (passed, case.reason(DIFFERENCES)) {
        (true, None) => Outcome::Passed,
        (false, None) => Outcome::Failed(panic_of(&case.name())),
        (false, Some(reason)) => Outcome::Differs(reason),
        (true, Some(reason)) => {
            Outcome::Failed(format!("it passes: take it out of the table of differences, where it says {reason:?}"))
        }
    }
}

fn tell(case: &Case, outcome: &Outcome) {
    let text = match outcome {
        Outcome::Passed => "ok".to_owned(),
        Outcome::Failed(_) => "FAILED".to_owned(),
        Outcome::Ignored(reason) => format!("ignored, {reason}"),
        Outcome::Differs(reason) => format!("differs, {reason}"),
    };
    println!("test {} ... {text}", case.name());
}

fn report(cases: &[Case], outcomes: &[Outcome], start: Instant) -> ExitCode {
    let mut failed = Vec::new();
    for (case, outcome) in cases.iter().zip(outcomes) {
        if let Outcome::Failed(why) = outcome {
            println!("\n---- {} ----\n{}", case.name(), why.trim_end());
            failed.push(case.name());
        }
    }
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| wanted(outcome)).count();
    println!("\nfailures:\n{}", failed.iter().map(|name| format!("    {name}\n")).collect::<String>());
    println!(
        "test result: {}. {} passed; {} failed; {} differ; {} ignored; finished in {:.1} s",
        if failed.is_empty() { "ok" } else { "FAILED" },
        count(|it| matches!(it, Outcome::Passed)),
        failed.len(),
        count(|it| matches!(it, Outcome::Differs(_))),
        count(|it| matches!(it, Outcome::Ignored(_))),
        start.elapsed().as_secs_f64(),
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
