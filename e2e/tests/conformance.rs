//! The table in `docs/conformance.md` names no test that is not there.

#![allow(clippy::unwrap_used)]

use std::path::Path;

/// What a page has between backquotes, with its line's number.
fn quoted(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let of_line =
        |(number, line): (usize, _)| str::split(line, '`').skip(1).step_by(2).map(move |word| (number + 1, word));
    text.lines().enumerate().flat_map(of_line)
}

/// Whether a file has a function of that name that is a test.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let declares = |line: &str| {
        let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        rest.and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('))
    };
    let is_test = |line: &&str| line.starts_with("#[test]") || line.starts_with("#[tokio::test");
    let attributes = |at: usize| lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
    (0..lines.len()).any(|at| declares(lines[at]) && attributes(at).any(is_test))
}

#[test]
fn every_test_that_the_table_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/conformance.md")).unwrap();
    let named: Vec<(usize, &str, &str)> =
        quoted(&page).filter_map(|(line, word)| word.split_once("::").map(|(file, name)| (line, file, name))).collect();
    assert!(named.len() > 100, "the table names {} tests", named.len());
    let missing = named.iter().filter(|(_, file, name)| {
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        !has_test(&text, name)
    });
    let missing: Vec<String> =
        missing.map(|(line, file, name)| format!("docs/conformance.md:{line}: {file} has no test {name}")).collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn a_name_that_is_no_test_is_found_out() {
    let text = "#[test]\nfn one() {}\n\n#[tokio::test(start_paused = true)]\nasync fn two() {}\n\nfn three() {}\n";
    for (name, there) in [("one", true), ("two", true), ("three", false), ("on", false), ("four", false)] {
        assert_eq!(has_test(text, name), there, "{name}");
    }
    assert_eq!(quoted("a `b::c` d\n`e`").collect::<Vec<_>>(), [(1, "b::c"), (2, "e")]);
}
