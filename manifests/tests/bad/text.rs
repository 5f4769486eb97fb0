//! Faults of the text, and of what kind of object it is.

use crate::Row;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a tab in the indentation",
        change: &[("  restartPolicy: Never", "\trestartPolicy: Never")],
        says: &[
            "error 10:1 : tabs disallowed within this context (block indentation) [indent with spaces: YAML does not allow tabs there]",
        ],
    },
    Row {
        name: "a bracket that is never closed",
        change: &[("[\"sleep\", \"1\"]", "[\"sleep\", \"1\"")],
        says: &["error 21:8 : illegal placement of ':' indicator"],
    },
    Row {
        name: "a key twice in one mapping",
        change: &[("    image: coracle.local/tools", "    image: coracle.local/tools\n    image: other")],
        says: &["error 20:5 : `image` is set twice [the first is in line 19; keep one]"],
    },
    Row {
        name: "an alias to nothing",
        change: &[("    image: coracle.local/tools", "    image: *base")],
        says: &["error 19:12 : while parsing node, found unknown anchor"],
    },
    Row {
        name: "an alias that contains itself",
        change: &[("    args: [\"sleep\", \"1\"]", "    args: &a [*a]")],
        says: &["error 20:15 : this alias contains itself"],
    },
    Row {
        name: "a tag that nobody knows",
        change: &[("    image: coracle.local/tools", "    image: !mine coracle.local/tools")],
        says: &["error 19:18 : the tag `!mine` does not fit this value [remove the tag]"],
    },
    Row {
        name: "a key that YAML reads as a boolean",
        change: &[("  a: b", "  yes: b")],
        says: &[
            "warning 39:3 : the key `yes` is read as `true`, as kubectl does [quote it to keep it as it stands: \"yes\"]",
        ],
    },
    Row {
        name: "a document that is a list",
        change: &[("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: conf\ndata:\n  a: b", "- a")],
        says: &["error 34:1 : expected an object [a manifest begins with `apiVersion:` and `kind:`]"],
    },
    Row {
        name: "no kind",
        change: &[("kind: Pod\n", "")],
        says: &["error 1:1 kind: `kind` is missing [add `kind: Pod`]"],
    },
    Row {
        name: "a misspelt apiVersion key",
        change: &[("apiVersion: v1\nkind: Pod", "apiversion: v1\nkind: Pod")],
        says: &["error 1:1 apiVersion: unknown field `apiversion` [did you mean `apiVersion`?]"],
    },
    Row {
        name: "a misspelt kind",
        change: &[("kind: Pod", "kind: Pood")],
        says: &["error 2:7 kind: unknown kind `Pood` [did you mean `Pod`?]"],
    },
    Row {
        name: "a kind in the wrong version",
        change: &[("apiVersion: v1\nkind: Pod", "apiVersion: apps/v1\nkind: Pod")],
        says: &["error 1:13 apiVersion: there is no Pod in `apps/v1` [write `v1`]"],
    },
    Row {
        name: "a kind that is not run yet",
        change: &[("kind: ConfigMap", "kind: LimitRange")],
        says: &[
            "warning 35:7 kind: LimitRange is not run yet: left out [what runs: Pod, ConfigMap, Secret, PersistentVolumeClaim, Service, NetworkPolicy, Network, Ambassador]",
        ],
    },
    Row {
        name: "a kind of another group that is not run yet",
        change: &[("apiVersion: v1\nkind: ConfigMap", "apiVersion: apps/v1\nkind: Deployment")],
        says: &[
            "warning 35:7 kind: Deployment is not run yet: left out [what runs: Pod, ConfigMap, Secret, PersistentVolumeClaim, Service, NetworkPolicy, Network, Ambassador]",
        ],
    },
    Row {
        name: "the same object twice",
        change: &[(
            "kind: Secret\nmetadata:\n  name: keys\ndata:\n  password: c2VjcmV0",
            "kind: ConfigMap\nmetadata:\n  name: conf",
        )],
        says: &["error 44:9 metadata.name: ConfigMap default/conf is defined twice [the first is at pod.yaml:37]"],
    },
];
