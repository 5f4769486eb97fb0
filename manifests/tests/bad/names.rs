//! Names.

use crate::Row;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "an object name with capitals",
        change: &[("  name: web\n", "  name: Web\n")],
        says: &[
            "error 4:9 metadata.name: `Web` is not valid: only lower-case letters, digits, `-` and `.` are allowed, and a letter or digit at each end of a part [`web` would do]",
        ],
    },
    Row {
        name: "an object name that is too long",
        change: &[(
            "  name: web\n",
            "  name: wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww\n",
        )],
        says: &[
            "error 4:9 metadata.name: `wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww…` is not valid: 254 characters, and at most 253 are allowed",
        ],
    },
    Row {
        name: "a namespace with a dot",
        change: &[("  name: web\n", "  name: web\n  namespace: a.b\n")],
        says: &[
            "error 5:14 metadata.namespace: `a.b` is not valid: only lower-case letters, digits and `-` are allowed, and no `-` at either end [`a-b` would do]",
        ],
    },
    Row {
        name: "a container name with an underscore",
        change: &[("- name: app", "- name: my_app")],
        says: &[
            "error 18:11 spec.containers[0].name: `my_app` is not valid: only lower-case letters, digits and `-` are allowed, and no `-` at either end [`my-app` would do]",
        ],
    },
    Row {
        name: "two containers of one name",
        change: &[("    resources:", "  - name: app\n    image: x\n    resources:")],
        says: &[
            "error 30:11 spec.containers[1].name: the container name `app` is used twice [the first is spec.containers[0]]",
        ],
    },
    Row {
        name: "an init container with a container's name",
        change: &[("  containers:", "  initContainers: [{name: app, image: x}]\n  containers:")],
        says: &[
            "error 19:11 spec.containers[0].name: the container name `app` is used twice [the first is spec.initContainers[0]]",
        ],
    },
    Row {
        name: "a misspelt name of a volume that is mounted",
        change: &[("  - name: data\n    emptyDir", "  - nmae: data\n    emptyDir")],
        says: &["error 12:5 spec.volumes[0].nmae: unknown field `nmae` [did you mean `name`?]"],
    },
    Row {
        name: "volumes that are no list",
        change: &[(
            "  volumes:\n  - name: data\n    emptyDir: {}\n  - name: conf\n    configMap:\n      name: conf\n",
            "  volumes: data\n",
        )],
        says: &["error 11:12 spec.volumes: expected a list, found the string `data`"],
    },
    Row {
        name: "a container that is a word",
        change: &[("  containers:\n", "  containers:\n  - word\n")],
        says: &["error 18:5 spec.containers[0]: expected a mapping, found the string `word`"],
    },
    Row {
        name: "no metadata",
        change: &[("metadata:\n  name: web\n  labels:\n    app: web\n  annotations:\n    example.com/note: hi\n", "")],
        says: &["error 1:1 metadata.name: `name` is missing"],
    },
    Row {
        name: "two volumes of one name",
        change: &[("- name: conf", "- name: data")],
        says: &[
            "error 14:11 spec.volumes[1].name: the volume name `data` is used twice [the first is spec.volumes[0]]",
        ],
    },
    Row {
        name: "a volume name with a dot",
        change: &[("- name: conf\n    configMap", "- name: con.f\n    configMap")],
        says: &[
            "error 14:11 spec.volumes[1].name: `con.f` is not valid: only lower-case letters, digits and `-` are allowed, and no `-` at either end [`con-f` would do]",
        ],
    },
    Row {
        name: "two ports of one name",
        change: &[(
            "      containerPort: 8080",
            "      containerPort: 8080\n    - name: http\n      containerPort: 81",
        )],
        says: &["error 27:13 spec.containers[0].ports[1].name: the port name `http` is used twice"],
    },
    Row {
        name: "a port name without a letter",
        change: &[("- name: http", "- name: \"80\"")],
        says: &[
            "error 25:13 spec.containers[0].ports[0].name: `80` is not valid: a port's name has at most 15 lower-case letters, digits and single `-`, and at least one letter",
        ],
    },
    Row {
        name: "a port name that is too long",
        change: &[("- name: http", "- name: a-name-too-long-for-it")],
        says: &[
            "error 25:13 spec.containers[0].ports[0].name: `a-name-too-long-for-it` is not valid: a port's name has at most 15 lower-case letters, digits and single `-`, and at least one letter",
        ],
    },
    Row {
        name: "a label key with a blank",
        change: &[("    app: web", "    my app: web")],
        says: &[
            "error 6:5 metadata.labels[my app]: `my app` is not valid: only letters, digits, `-`, `_` and `.` are allowed, and a letter or digit at either end",
        ],
    },
    Row {
        name: "a label value with a slash",
        change: &[("    app: web", "    app: web/1")],
        says: &[
            "error 6:10 metadata.labels[app]: `web/1` is not valid: a label has only letters, digits, `-`, `_` and `.`, and a letter or digit at either end [annotations take any text]",
        ],
    },
    Row {
        name: "an annotation key with two slashes",
        change: &[("example.com/note", "example.com/a/b")],
        says: &[
            "error 8:5 metadata.annotations[example.com/a/b]: `example.com/a/b` is not valid: only letters, digits, `-`, `_` and `.` are allowed, and a letter or digit at either end",
        ],
    },
    Row {
        name: "an unknown annotation of Coracle",
        change: &[("example.com/note", "coracle.dev/netwrok")],
        says: &[
            "error 8:5 metadata.annotations[coracle.dev/netwrok]: unknown annotation `coracle.dev/netwrok` [did you mean `coracle.dev/network`?]",
        ],
    },
    Row {
        name: "a host name with a dot",
        change: &[("restartPolicy: Never", "hostname: a.b")],
        says: &[
            "error 10:13 spec.hostname: `a.b` is not valid: only lower-case letters, digits and `-` are allowed, and no `-` at either end [`a-b` would do]",
        ],
    },
    Row {
        name: "a key of a ConfigMap with a slash",
        change: &[("  a: b", "  a/b: c")],
        says: &["error 39:3 data[a/b]: `a/b` is not valid: only letters, digits, `-`, `_` and `.` are allowed"],
    },
    Row {
        name: "a key of a ConfigMap that climbs",
        change: &[("  a: b", "  \"..\": c")],
        says: &["error 39:3 data[..]: `..` is not valid: it would be a path of its own"],
    },
    Row {
        name: "a key in data and binaryData",
        change: &[("  a: b", "  a: b\nbinaryData:\n  a: Yg==")],
        says: &["error 41:3 binaryData[a]: `a` is in `data` too"],
    },
    Row {
        name: "a TLS Secret without its key",
        change: &[("kind: Secret\n", "kind: Secret\ntype: kubernetes.io/tls\n")],
        says: &[
            "error 46:1 data[tls.crt]: a Secret of type `kubernetes.io/tls` needs the key `tls.crt`",
            "error 46:1 data[tls.key]: a Secret of type `kubernetes.io/tls` needs the key `tls.key`",
        ],
    },
    Row {
        name: "a uid that is a path",
        change: &[("  name: web\n  labels", "  name: web\n  uid: ../../etc\n  labels")],
        says: &[
            "error 5:8 metadata.uid: `../../etc` is not valid: a uid has at most 64 letters, digits and `-` [remove it to get one made]",
        ],
    },
];
