//! Every example is accepted, and not with a shrug.

#![allow(clippy::unwrap_used)]

use manifests::{Source, read};
use std::path::Path;

#[test]
fn every_example_is_read_without_a_word() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let manifest = read(&[Source { name: name.clone(), text: std::fs::read_to_string(&path).unwrap() }]);
        let said: String = manifest.diagnostics.iter().map(|diagnostic| diagnostic.render(false)).collect();
        assert!(said.is_empty(), "{said}");
        assert!(!manifest.objects.is_empty(), "{name} holds nothing");
        seen += 1;
    }
    assert!(seen >= 7, "only {seen} examples");
}
