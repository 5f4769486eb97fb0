//! Fields that do not exist, are missing, or hold the wrong type or word.

use crate::Row;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a misspelt field",
        change: &[("    image: coracle", "    imagee: coracle")],
        says: &["error 19:5 spec.containers[0].imagee: unknown field `imagee` [did you mean `image`?]"],
    },
    Row {
        name: "a field that does not exist at all",
        change: &[("  restartPolicy: Never", "  restartPolicy: Never\n  colour: blue")],
        says: &["error 11:3 spec.colour: unknown field `colour`"],
    },
    Row {
        name: "a field on the wrong level",
        change: &[("  name: web\n  labels", "  name: web\n  restartPolicy: Always\n  labels")],
        says: &[
            "error 5:3 metadata.restartPolicy: unknown field `restartPolicy` [`restartPolicy` is a field of `spec`; check the indentation]",
        ],
    },
    Row {
        name: "a container field beside the containers",
        change: &[("  restartPolicy: Never", "  restartPolicy: Never\n  workingDir: /")],
        says: &[
            "error 11:3 spec.workingDir: unknown field `workingDir` [`workingDir` is a field of a container; check the indentation]",
        ],
    },
    Row {
        name: "a missing spec name",
        change: &[("- name: A\n      value", "- value")],
        says: &["error 22:7 spec.containers[0].env[0].name: `name` is missing"],
    },
    Row {
        name: "a missing image",
        change: &[("    image: coracle.local/tools\n", "")],
        says: &["error 18:5 spec.containers[0].image: `image` is missing"],
    },
    Row {
        name: "an image of nothing",
        change: &[("    image: coracle.local/tools", "    image:")],
        says: &["error 19:10 spec.containers[0].image: `image` is missing"],
    },
    Row {
        name: "no name",
        change: &[("  name: web\n  labels", "  labels")],
        says: &["error 3:1 metadata.name: `name` is missing"],
    },
    Row {
        name: "no containers",
        change: &[(
            "  containers:\n  - name: app\n    image: coracle.local/tools\n    args: [\"sleep\", \"1\"]\n    env:\n    - name: A\n      value: \"1\"\n    ports:\n    - name: http\n      containerPort: 8080\n    volumeMounts:\n    - name: data\n      mountPath: /data\n    resources:\n      limits:\n        memory: 64Mi\n",
            "  containers: []\n",
        )],
        says: &["error 17:15 spec.containers: a pod has at least one container"],
    },
    Row {
        name: "no spec",
        change: &[(
            "spec:\n  restartPolicy: Never\n  volumes:\n  - name: data\n    emptyDir: {}\n  - name: conf\n    configMap:\n      name: conf\n  containers:\n  - name: app\n    image: coracle.local/tools\n    args: [\"sleep\", \"1\"]\n    env:\n    - name: A\n      value: \"1\"\n    ports:\n    - name: http\n      containerPort: 8080\n    volumeMounts:\n    - name: data\n      mountPath: /data\n    resources:\n      limits:\n        memory: 64Mi\n",
            "",
        )],
        says: &["error 1:1 spec: `spec` is missing"],
    },
    Row {
        name: "a number for a string",
        change: &[("value: \"1\"", "value: 8080")],
        says: &[
            "error 23:14 spec.containers[0].env[0].value: expected a string, found the number `8080` [quote it: \"8080\"]",
        ],
    },
    Row {
        name: "a boolean for a string",
        change: &[("value: \"1\"", "value: yes")],
        says: &[
            "error 23:14 spec.containers[0].env[0].value: expected a string, found the boolean `yes` [quote it: \"yes\"]",
        ],
    },
    Row {
        name: "a version number for a string",
        change: &[("value: \"1\"", "value: 1.10")],
        says: &[
            "error 23:14 spec.containers[0].env[0].value: expected a string, found the number `1.10` [quote it: \"1.10\"]",
        ],
    },
    Row {
        name: "a label that is a number",
        change: &[("    app: web", "    app: 1")],
        says: &["error 6:10 metadata.labels[app]: expected a string, found the number `1` [quote it: \"1\"]"],
    },
    Row {
        name: "a string for a list",
        change: &[("args: [\"sleep\", \"1\"]", "args: sleep 1")],
        says: &["error 20:11 spec.containers[0].args: expected a list, found the string `sleep 1`"],
    },
    Row {
        name: "a number within a list of strings",
        change: &[("[\"sleep\", \"1\"]", "[\"sleep\", 1]")],
        says: &["error 20:21 spec.containers[0].args[1]: expected a string, found the number `1` [quote it: \"1\"]"],
    },
    Row {
        name: "a mapping for a list",
        change: &[("    ports:\n    - name: http\n      containerPort: 8080", "    ports:\n      containerPort: 8080")],
        says: &["error 24:5 spec.containers[0].ports: expected a list, found a mapping [begin each item with `- `]"],
    },
    Row {
        name: "a list for a mapping",
        change: &[("    app: web", "    - app")],
        says: &["error 5:3 metadata.labels: expected a mapping, found a list [remove the `- `]"],
    },
    Row {
        name: "a string for a mapping",
        change: &[("emptyDir: {}", "emptyDir: yes please")],
        says: &["error 13:15 spec.volumes[0].emptyDir: expected a mapping, found the string `yes please`"],
    },
    Row {
        name: "a quoted number",
        change: &[("containerPort: 8080", "containerPort: \"8080\"")],
        says: &[
            "error 26:22 spec.containers[0].ports[0].containerPort: expected a whole number, found the string `8080` [remove the quotes]",
        ],
    },
    Row {
        name: "a quoted boolean",
        change: &[("  restartPolicy: Never", "  hostNetwork: \"true\"")],
        says: &[
            "error 10:16 spec.hostNetwork: expected `true` or `false`, found the string `true` [remove the quotes]",
        ],
    },
    Row {
        name: "half a port",
        change: &[("containerPort: 8080", "containerPort: 80.5")],
        says: &[
            "error 26:22 spec.containers[0].ports[0].containerPort: expected a whole number, found the number `80.5`",
        ],
    },
    Row {
        name: "a port that does not fit its type",
        change: &[("containerPort: 8080", "containerPort: 99999999999")],
        says: &[
            "error 26:22 spec.containers[0].ports[0].containerPort: `99999999999` is not between -2147483648 and 2147483647",
        ],
    },
    Row {
        name: "a quantity with an unknown unit",
        change: &[("memory: 64Mi", "memory: 64MB")],
        says: &[
            "error 32:17 spec.containers[0].resources.limits[memory]: not a quantity: `MB` is no unit of a quantity [a number with one of m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei, or nothing]",
        ],
    },
    Row {
        name: "a quantity without a number",
        change: &[("memory: 64Mi", "memory: lots")],
        says: &[
            "error 32:17 spec.containers[0].resources.limits[memory]: not a quantity: `lots` has no number [a number with one of m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei, or nothing]",
        ],
    },
    Row {
        name: "a Secret that is not base64",
        change: &[("c2VjcmV0", "secret!")],
        says: &[
            "error 46:13 data[password]: not valid base64 [encode it with `base64 -w0`, or write it as it is under `stringData`]",
        ],
    },
    Row {
        name: "a restart policy in lower case",
        change: &[("restartPolicy: Never", "restartPolicy: never")],
        says: &[
            "error 10:18 spec.restartPolicy: `never` is not one of `Always`, `OnFailure` or `Never` [did you mean `Never`?]",
        ],
    },
    Row {
        name: "a restart policy of Docker",
        change: &[("restartPolicy: Never", "restartPolicy: unless-stopped")],
        says: &["error 10:18 spec.restartPolicy: `unless-stopped` is not one of `Always`, `OnFailure` or `Never`"],
    },
    Row {
        name: "an unknown pull policy",
        change: &[(
            "    image: coracle.local/tools",
            "    image: coracle.local/tools\n    imagePullPolicy: IfNotThere",
        )],
        says: &[
            "error 20:22 spec.containers[0].imagePullPolicy: `IfNotThere` is not one of `Always`, `IfNotPresent` or `Never`",
        ],
    },
    Row {
        name: "an unknown protocol",
        change: &[("containerPort: 8080", "containerPort: 8080\n      protocol: tcp")],
        says: &[
            "error 27:17 spec.containers[0].ports[0].protocol: `tcp` is not one of `TCP`, `UDP` or `SCTP` [did you mean `TCP`?]",
        ],
    },
    Row {
        name: "an unknown DNS policy",
        change: &[("restartPolicy: Never", "dnsPolicy: ClusterLast")],
        says: &[
            "error 10:14 spec.dnsPolicy: `ClusterLast` is not one of `ClusterFirst`, `ClusterFirstWithHostNet`, `Default` or `None` [did you mean `ClusterFirst`?]",
        ],
    },
    Row {
        name: "an unknown hostPath type",
        change: &[("emptyDir: {}", "hostPath: {path: /srv, type: Folder}")],
        says: &[
            "error 13:34 spec.volumes[0].hostPath.type: `Folder` is not one of `DirectoryOrCreate`, `Directory`, `FileOrCreate`, `File`, `Socket`, `CharDevice` or `BlockDevice`",
        ],
    },
    Row {
        name: "an unknown seccomp type",
        change: &[("restartPolicy: Never", "securityContext: {seccompProfile: {type: Default}}")],
        says: &[
            "error 10:44 spec.securityContext.seccompProfile.type: `Default` is not one of `RuntimeDefault`, `Localhost` or `Unconfined`",
        ],
    },
    Row {
        name: "an unknown propagation",
        change: &[("mountPath: /data", "mountPath: /data\n      mountPropagation: Shared")],
        says: &[
            "error 30:25 spec.containers[0].volumeMounts[0].mountPropagation: `Shared` is not one of `None`, `HostToContainer` or `Bidirectional`",
        ],
    },
    Row {
        name: "a pod of Windows",
        change: &[("restartPolicy: Never", "os: {name: windows}")],
        says: &["error 10:14 spec.os.name: `windows` is not `linux`"],
    },
];
