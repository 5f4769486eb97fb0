//! The printed form, as people see it.

use manifests::{Source, read};

const BASE: &str = include_str!("bad/base.yaml");

/// What is printed about the base with one change.
fn printed(old: &str, new: &str) -> String {
    assert!(BASE.contains(old), "the base does not hold {old:?}");
    let text = BASE.replacen(old, new, 1);
    let manifest = read(&[Source { name: "pods/web.yaml".to_owned(), text }]);
    manifest.diagnostics.iter().map(|diagnostic| diagnostic.render(false)).collect()
}

macro_rules! prints {
    ($($name:ident: $old:expr => $new:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(printed($old, $new));
        }
    )*};
}

prints! {
    a_misspelt_field: "    image: " => "    imgae: ";
    a_field_on_the_wrong_level: "  name: web\n" => "  name: web\n  restartPolicy: Always\n";
    a_number_for_a_string: "value: \"1\"" => "value: 8080";
    a_wrong_word: "restartPolicy: Never" => "restartPolicy: Nevr";
    something_not_run_yet: "  name: web\n  labels" => "  generateName: web-\n  labels";
    something_without_effect: "restartPolicy: Never" => "nodeSelector:\n    disk: ssd";
    a_missing_field: "    - name: data\n      mountPath: /data" => "    - mountPath: /data";
    a_key_twice: "  restartPolicy: Never" => "  restartPolicy: Never\n  restartPolicy: Always";
    a_tab: "  restartPolicy: Never" => "\trestartPolicy: Never";
    a_volume_that_is_not_there: "    - name: data\n      mountPath" => "    - name: dat\n      mountPath";
    a_request_above_its_limit: "limits:\n        memory: 64Mi" => "limits:\n        memory: 64Mi\n      requests: {memory: 1Gi}";
    a_mode_in_decimal: "      name: conf\n  containers" => "      name: conf\n      defaultMode: 644\n  containers";
    several_at_once: "  name: web\n  labels:\n    app: web" => "  name: Web\n  uid: é/x\n  lables:\n    app: web";
}

#[test]
fn colour_is_only_there_when_asked_for() {
    let text = BASE.replacen("restartPolicy: Never", "restartPolicy: Nevr", 1);
    let manifest = read(&[Source { name: "web.yaml".to_owned(), text }]);
    let colourless: String =
        manifest.diagnostics[0].render(true).split('\x1b').enumerate().fold(String::new(), |text, (index, part)| {
            text + if index == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) }
        });
    assert!(manifest.diagnostics[0].render(true).contains("\x1b[1;31merror"));
    assert_eq!(colourless, manifest.diagnostics[0].render(false));
}

#[test]
fn the_caret_of_a_very_long_line_is_below_its_place() {
    let labels: String = (0..100).map(|index| format!("label-{index}: x, ")).collect();
    let text = format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: a, labels: {{{labels} b: 1}}}}}}");
    let manifest = read(&[Source { name: "long.json".to_owned(), text }]);
    let printed = manifest.diagnostics[0].render(false);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[4].find('^'), lines[3].find("b: 1").map(|column| column + 3), "{printed}");
}
