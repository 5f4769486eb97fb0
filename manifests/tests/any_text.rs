//! Whatever the text, `read` returns.

#![allow(clippy::unwrap_used)]

use manifests::{Source, read};
use proptest::prelude::*;

fn read_and_render(text: String) -> usize {
    let manifest = read(&[Source { name: "any".to_owned(), text }]);
    for diagnostic in &manifest.diagnostics {
        assert!(diagnostic.line >= 1 && diagnostic.column >= 1 && diagnostic.width >= 1, "{diagnostic:?}");
        assert!(diagnostic.render(true).ends_with('\n'));
    }
    manifest.diagnostics.len()
}

/// Good manifests with one piece replaced by another of their pieces: close enough to good to get deep.
fn mutated() -> impl Strategy<Value = String> {
    let base = [
        include_str!("bad/base.yaml"),
        include_str!("../examples/init-and-volumes.yaml"),
        include_str!("../examples/security.yaml"),
    ];
    (0..base.len(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), "\\PC{0,12}").prop_map(
        move |(which, at, from, noise)| {
            let words: Vec<&str> = base[which].split_inclusive([' ', '\n', ':']).collect();
            let (at, from) = (at.index(words.len()), from.index(words.len()));
            let mut text: String = words[..at].concat();
            text.push_str(words[from]);
            text.push_str(&noise);
            text.push_str(&words[at + 1..].concat());
            text
        },
    )
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "(?s).{0,400}") {
        read_and_render(text);
    }

    #[test]
    fn any_text_of_yaml_signs_is_read_without_a_panic(text in "[-a:{}\\[\\]&*#!|>'\"%@` \n\t,?0<~\u{feff}é]{0,200}") {
        read_and_render(text);
    }

    #[test]
    fn a_manifest_with_a_wound_is_read_without_a_panic(text in mutated()) {
        read_and_render(text);
    }
}

#[test]
fn a_billion_laughs_are_an_error_and_take_no_time() {
    let mut text = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let manifest = read(&[Source { name: "laughs".to_owned(), text }]);
    assert!(manifest.diagnostics[0].message.contains("aliases make this file larger"), "{:?}", manifest.diagnostics);
    assert!(manifest.objects.is_empty());
}

#[test]
fn deep_nesting_is_an_error_and_not_the_end_of_the_stack() {
    for text in ["[".repeat(100_000), "a: ".repeat(10_000), "- ".repeat(100_000), "{a: ".repeat(100_000)] {
        assert!(read_and_render(text) > 0);
    }
    let mut chain = String::from("a0: &a0 [x]\n");
    for level in 1..200 {
        chain.push_str(&format!("a{level}: &a{level} [[[[[*a{}]]]]]\n", level - 1));
    }
    assert!(read_and_render(chain) > 0);
}

#[test]
fn a_thousand_faults_in_one_long_line_stay_within_bounds() {
    let text =
        format!("{{apiVersion: v1, kind: Pod, {}}}", (0..20_000).map(|i| format!("k{i}: 1, ")).collect::<String>());
    let manifest = read(&[Source { name: "long".to_owned(), text }]);
    assert!(manifest.diagnostics.len() <= 500);
    assert!(manifest.diagnostics.iter().all(|diagnostic| diagnostic.source_line.chars().count() <= 160));
    assert!(manifest.diagnostics.iter().any(|diagnostic| diagnostic.message.contains("more findings")));
}
