//! What the API server checks of probes, hooks, restarts, host names and claims.

use crate::Row;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a probe that does nothing",
        change: &[("    args:", "    livenessProbe: {periodSeconds: 1}\n    args:")],
        says: &[
            "error 20:5 spec.containers[0].livenessProbe: it does nothing: add `exec`, `httpGet`, `tcpSocket` or `grpc`",
        ],
    },
    Row {
        name: "a probe that does two things",
        change: &[("    args:", "    readinessProbe: {tcpSocket: {port: 80}, exec: {command: [x]}}\n    args:")],
        says: &[
            "error 20:22 spec.containers[0].readinessProbe.tcpSocket: only one of `exec`, `httpGet`, `tcpSocket` or `grpc` is possible, and this has `exec` and `tcpSocket`",
        ],
    },
    Row {
        name: "a probe of a port that has another name",
        change: &[("    args:", "    livenessProbe: {httpGet: {port: htpt}}\n    args:")],
        says: &[
            "warning 20:31 spec.containers[0].livenessProbe.httpGet.port: the container has no port `htpt`, so this never succeeds [did you mean `http`?]",
        ],
    },
    Row {
        name: "a probe of a port in quotes",
        change: &[("    args:", "    livenessProbe: {tcpSocket: {port: \"80\"}}\n    args:")],
        says: &[
            "error 20:39 spec.containers[0].livenessProbe.tcpSocket.port: `\"80\"` is not the name of a port [a number: `80`]",
        ],
    },
    Row {
        name: "a probe of port 0",
        change: &[("    args:", "    livenessProbe: {grpc: {port: 0}}\n    args:")],
        says: &["error 20:34 spec.containers[0].livenessProbe.grpc.port: `0` is not between 1 and 65535"],
    },
    Row {
        name: "numbers of a probe that cannot be",
        change: &[(
            "    args:",
            "    livenessProbe:\n      exec: {command: []}\n      periodSeconds: -1\n      successThreshold: 2\n      terminationGracePeriodSeconds: 0\n    args:",
        )],
        says: &[
            "error 21:23 spec.containers[0].livenessProbe.exec.command: `command` is missing",
            "error 22:22 spec.containers[0].livenessProbe.periodSeconds: `-1` is less than 0",
            "error 23:25 spec.containers[0].livenessProbe.successThreshold: `2`: one success is enough for a `livenessProbe`, so only 1 is allowed",
            "error 24:38 spec.containers[0].livenessProbe.terminationGracePeriodSeconds: `0` is less than 1",
        ],
    },
    Row {
        name: "a readiness probe with a grace",
        change: &[(
            "    args:",
            "    readinessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 5}\n    args:",
        )],
        says: &[
            "error 20:44 spec.containers[0].readinessProbe.terminationGracePeriodSeconds: a readiness probe ends no container: it has no grace of its own",
        ],
    },
    Row {
        name: "a header that is none",
        change: &[(
            "    args:",
            "    livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: \"a b\", value: x}]}}\n    args:",
        )],
        says: &[
            "error 20:61 spec.containers[0].livenessProbe.httpGet.httpHeaders[0].name: `a b` is not the name of a header",
        ],
    },
    Row {
        name: "a misspelt scheme",
        change: &[("    args:", "    livenessProbe: {httpGet: {port: 1, scheme: https}}\n    args:")],
        says: &[
            "error 20:48 spec.containers[0].livenessProbe.httpGet.scheme: `https` is not one of `HTTP` or `HTTPS` [did you mean `HTTPS`?]",
        ],
    },
    Row {
        name: "a hook that sleeps beyond the grace",
        change: &[("    args:", "    lifecycle: {preStop: {sleep: {seconds: 31}}}\n    args:")],
        says: &[
            "error 20:44 spec.containers[0].lifecycle.preStop.sleep.seconds: `31` is more than the pod's grace of 30s [raise `terminationGracePeriodSeconds`]",
        ],
    },
    Row {
        name: "a stop signal of an unknown system",
        change: &[("    args:", "    lifecycle: {stopSignal: SIGQUIT}\n    args:")],
        says: &[
            "error 20:29 spec.containers[0].lifecycle.stopSignal: a `stopSignal` needs `spec.os.name` [add `os: {name: linux}` to the pod's `spec`]",
        ],
    },
    Row {
        name: "a stop signal without its prefix",
        change: &[("    args:", "    lifecycle: {stopSignal: QUIT}\n    args:")],
        says: &[
            "error 20:29 spec.containers[0].lifecycle.stopSignal: `QUIT` is not a signal [did you mean `SIGQUIT`?]",
        ],
    },
    Row {
        name: "a probe of an init container",
        change: &[(
            "  containers:",
            "  initContainers: [{name: i, image: x, startupProbe: {tcpSocket: {port: 1}}}]\n  containers:",
        )],
        says: &[
            "error 17:40 spec.initContainers[0].startupProbe: an init container runs to its end, without `startupProbe` [remove it, or make the container a sidecar: `restartPolicy: Always`]",
        ],
    },
    Row {
        name: "rules without a policy",
        change: &[(
            "    args:",
            "    restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]\n    args:",
        )],
        says: &[
            "error 20:5 spec.containers[0].restartPolicyRules: rules need a `restartPolicy` beside them [for what no rule is about; such as `restartPolicy: Never`]",
        ],
    },
    Row {
        name: "a rule without exit codes",
        change: &[("    args:", "    restartPolicy: Never\n    restartPolicyRules: [{action: Restart}]\n    args:")],
        says: &["error 21:27 spec.containers[0].restartPolicyRules[0].exitCodes: `exitCodes` is missing"],
    },
    Row {
        name: "rules of a sidecar",
        change: &[(
            "  containers:",
            "  initContainers:\n  - name: i\n    image: x\n    restartPolicy: Always\n    restartPolicyRules: [{action: Restart, exitCodes: {operator: In}}]\n  containers:",
        )],
        says: &[
            "error 21:5 spec.initContainers[0].restartPolicyRules: a sidecar is always started again: it has no rules",
        ],
    },
    Row {
        name: "a restart for a resource in a pod that never restarts",
        change: &[(
            "    args:",
            "    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]\n    args:",
        )],
        says: &[
            "error 20:58 spec.containers[0].resizePolicy[0].restartPolicy: a pod with `restartPolicy: Never` restarts nothing",
        ],
    },
    Row {
        name: "a target that is not there",
        change: &[(
            "  containers:",
            "  ephemeralContainers: [{name: d, image: x, targetContainerName: appp}]\n  containers:",
        )],
        says: &["error 17:66 spec.ephemeralContainers[0].targetContainerName: the pod has no container `appp`"],
    },
    Row {
        name: "an ephemeral container with the name of another, and a part of a volume",
        change: &[(
            "  containers:",
            "  ephemeralContainers: [{name: app, image: x, volumeMounts: [{name: data, mountPath: /d, subPath: a}]}]\n  containers:",
        )],
        says: &[
            "error 17:32 spec.ephemeralContainers[0].name: the container name `app` is used twice [the first is spec.containers[0]]",
            "error 17:90 spec.ephemeralContainers[0].volumeMounts[0].subPath: an ephemeral container mounts whole volumes",
        ],
    },
    Row {
        name: "a host name beside the host's network",
        change: &[("restartPolicy: Never", "hostnameOverride: a.b\n  hostNetwork: true")],
        says: &["error 10:3 spec.hostnameOverride: it does not go with `hostNetwork`"],
    },
    Row {
        name: "a host name that is too long",
        change: &[(
            "restartPolicy: Never",
            "hostnameOverride: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        )],
        says: &["error 10:21 spec.hostnameOverride: 65 characters, and a host name has at most 64"],
    },
    Row {
        name: "a deadline of nothing",
        change: &[("restartPolicy: Never", "activeDeadlineSeconds: 0")],
        says: &["error 10:26 spec.activeDeadlineSeconds: `0` is not between 1 and 2147483647"],
    },
    Row {
        name: "a runtime class that is no name",
        change: &[("restartPolicy: Never", "runtimeClassName: gVisor")],
        says: &[
            "error 10:21 spec.runtimeClassName: `gVisor` is not valid: only lower-case letters, digits, `-` and `.` are allowed, and a letter or digit at each end of a part [`gvisor` would do]",
        ],
    },
    Row {
        name: "a pod that asks for less than its containers",
        change: &[("restartPolicy: Never", "resources: {requests: {memory: 32Mi}, limits: {memory: 48Mi}}")],
        says: &[
            "error 10:34 spec.resources.requests[memory]: `32Mi` is less than the requests of its containers together, 64Mi",
            "error 32:17 spec.containers[0].resources.limits[memory]: `64Mi` is more than the limit of the pod, 48Mi",
        ],
    },
    Row {
        name: "a resource that pods do not have",
        change: &[("restartPolicy: Never", "resources: {limits: {ephemeral-storage: 1Gi}}")],
        says: &[
            "error 10:24 spec.resources.limits[ephemeral-storage]: `ephemeral-storage` is not a resource of a pod [a pod as a whole has cpu, memory and hugepages-SIZE]",
        ],
    },
    Row {
        name: "a file twice in a projected volume",
        change: &[(
            "emptyDir: {}",
            "projected:\n      sources:\n      - configMap: {name: m, items: [{key: a, path: x}]}\n      - downwardAPI: {items: [{path: x, fieldRef: {fieldPath: metadata.labels}}]}",
        )],
        says: &[
            "error 16:38 spec.volumes[0].projected.sources[1].downwardAPI.items[0].path: the file `x` is there twice [the first is spec.volumes[0].projected.sources[0].configMap.items[0].path]",
        ],
    },
    Row {
        name: "a file of nothing",
        change: &[("emptyDir: {}", "downwardAPI: {items: [{path: x}]}")],
        says: &[
            "error 13:28 spec.volumes[0].downwardAPI.items[0]: exactly one of `fieldRef` and `resourceFieldRef` is needed",
        ],
    },
    Row {
        name: "a field that changes without the pod being told",
        change: &[("emptyDir: {}", "downwardAPI: {items: [{path: x, fieldRef: {fieldPath: status.podIP}}]}")],
        says: &[
            "error 13:59 spec.volumes[0].downwardAPI.items[0].fieldRef.fieldPath: a pod has no field `status.podIP` for volumes [there are metadata.name, metadata.namespace, metadata.uid, metadata.labels, metadata.annotations, `metadata.labels['key']` and `metadata.annotations['key']`]",
        ],
    },
    Row {
        name: "a resource of no container",
        change: &[(
            "emptyDir: {}",
            "downwardAPI: {items: [{path: x, resourceFieldRef: {resource: limits.cpu, containerName: ap}}, {path: \"y\", resourceFieldRef: {resource: limits.cpu}}]}",
        )],
        says: &[
            "error 13:93 spec.volumes[0].downwardAPI.items[0].resourceFieldRef.containerName: there is no container `ap`",
            "error 13:130 spec.volumes[0].downwardAPI.items[1].resourceFieldRef.containerName: `containerName` is missing",
        ],
    },
    Row {
        name: "an image volume without an image",
        change: &[("emptyDir: {}", "image: {pullPolicy: Never}")],
        says: &["error 13:13 spec.volumes[0].image.reference: `reference` is missing"],
    },
    Row {
        name: "a part of a volume named in two ways",
        change: &[("mountPath: /data", "mountPath: /data\n      subPath: a\n      subPathExpr: $(A)")],
        says: &[
            "error 31:7 spec.containers[0].volumeMounts[0].subPathExpr: a mount has a `subPath` or a `subPathExpr`, not both",
        ],
    },
    Row {
        name: "a variable from a file of a ConfigMap",
        change: &[("      value: \"1\"", "      valueFrom: {fileKeyRef: {volumeName: conf, path: a, key: A}}")],
        says: &[
            "error 23:44 spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName: the volume `conf` is no `emptyDir`",
        ],
    },
    Row {
        name: "a wait for itself",
        change: &[("example.com/note: hi", "coracle.dev/after: \"db(ready), web\"")],
        says: &["error 8:24 metadata.annotations[coracle.dev/after]: a pod that waits for itself never starts"],
    },
    Row {
        name: "a wait for an unknown condition",
        change: &[("example.com/note: hi", "coracle.dev/after: db(done)")],
        says: &[
            "error 8:24 metadata.annotations[coracle.dev/after]: `done` is not one of `started`, `ready` or `completed`",
        ],
    },
    Row {
        name: "a link without a name",
        change: &[("example.com/note: hi", "coracle.dev/links: \"db, \"")],
        says: &[
            "error 8:24 metadata.annotations[coracle.dev/links]: the name of what a link leads to is missing [such as `db, cache.other:redis, service/web:front, peer(ungated)`]",
        ],
    },
    Row {
        name: "a link with a misspelt option",
        change: &[("example.com/note: hi", "coracle.dev/links: \"db(ungatd)\"")],
        says: &[
            "error 8:24 metadata.annotations[coracle.dev/links]: `ungatd` is not one of `ungated` or `env` [did you mean `ungated`?]",
        ],
    },
    Row {
        name: "two links with one alias",
        change: &[("example.com/note: hi", "coracle.dev/links: \"db, cache:db\"")],
        says: &[
            "error 8:24 metadata.annotations[coracle.dev/links]: two links are called `db` [give one of them another alias: `cache:ALIAS`]",
        ],
    },
    Row {
        name: "a link to the pod itself",
        change: &[("example.com/note: hi", "coracle.dev/links: \"web.default:me\"")],
        says: &["error 8:24 metadata.annotations[coracle.dev/links]: a link from a pod to itself"],
    },
    Row {
        name: "a link with the pod's own name",
        change: &[("example.com/note: hi", "coracle.dev/links: web.other")],
        says: &[
            "error 8:24 metadata.annotations[coracle.dev/links]: the alias `web` is the pod's own name [give the link another alias: `web:ALIAS`]",
        ],
    },
    Row {
        name: "a link that asks for variables of another namespace",
        change: &[("example.com/note: hi", "coracle.dev/links: \"db.other(env)\"")],
        says: &[
            "error 8:24 metadata.annotations[coracle.dev/links]: `db` is in the namespace `other`: `env` does not reach there [a pod gives its variables to pods of its own namespace alone; put what is shared into a ConfigMap]",
        ],
    },
    Row {
        name: "a link with a name that the hosts file has",
        change: &[
            ("example.com/note: hi", "coracle.dev/links: db"),
            ("  restartPolicy: Never", "  hostAliases: [{ip: 10.0.0.1, hostnames: [db]}]\n  restartPolicy: Never"),
        ],
        says: &[
            "error 8:24 metadata.annotations[coracle.dev/links]: the alias `db` is a name of `hostAliases`, too [give the link another alias: `db:ALIAS`]",
        ],
    },
    Row {
        name: "a link from the host's network",
        change: &[
            ("example.com/note: hi", "coracle.dev/links: db"),
            ("  restartPolicy: Never", "  hostNetwork: true\n  restartPolicy: Never"),
        ],
        says: &[
            "error 8:5 metadata.annotations[coracle.dev/links]: a pod in the host's network has no links [remove them, or remove `hostNetwork`]",
        ],
    },
    Row {
        name: "a link of what is no pod",
        change: &[("  name: conf\ndata:", "  name: conf\n  annotations: {coracle.dev/links: db}\ndata:")],
        says: &["error 38:17 metadata.annotations[coracle.dev/links]: `coracle.dev/links` is an annotation of pods"],
    },
    Row {
        name: "a back-off without a unit",
        change: &[("example.com/note: hi", "coracle.dev/restart-backoff: max=5")],
        says: &[
            "error 8:34 metadata.annotations[coracle.dev/restart-backoff]: `5` is no duration for `max` [it is written as 500ms, 10s, 5m or 1h30m]",
        ],
    },
    Row {
        name: "a restart on some change",
        change: &[("example.com/note: hi", "coracle.dev/restart-on-change: conf")],
        says: &[
            "error 8:36 metadata.annotations[coracle.dev/restart-on-change]: `conf` is not one of `true` or `false` [write `\"true\"`]",
        ],
    },
    Row {
        name: "a misspelt annotation of Coracle",
        change: &[("example.com/note", "coracle.dev/restart-backof")],
        says: &[
            "error 8:5 metadata.annotations[coracle.dev/restart-backof]: unknown annotation `coracle.dev/restart-backof` [did you mean `coracle.dev/restart-backoff`?]",
        ],
    },
    Row {
        name: "an order of what is no pod",
        change: &[("  name: conf\ndata:", "  name: conf\n  annotations: {coracle.dev/after: db}\ndata:")],
        says: &["error 38:17 metadata.annotations[coracle.dev/after]: `coracle.dev/after` is an annotation of pods"],
    },
    Row {
        name: "a claim of nothing",
        change: &[(
            "kind: Secret\nmetadata:\n  name: keys\ndata:\n  password: c2VjcmV0",
            "kind: PersistentVolumeClaim\nmetadata:\n  name: keys\nspec: {}",
        )],
        says: &[
            "error 45:7 spec.accessModes: `accessModes` is missing [add `accessModes: [ReadWriteOnce]`]",
            "error 45:7 spec.resources.requests: a claim says how much it asks for [add `resources: {requests: {storage: 1Gi}}`]",
        ],
    },
    Row {
        name: "a claim that cannot be",
        change: &[(
            "kind: Secret\nmetadata:\n  name: keys\ndata:\n  password: c2VjcmV0",
            "kind: PersistentVolumeClaim\nmetadata:\n  name: keys\nspec:\n  accessModes: [ReadWriteOnc, ReadWriteOncePod]\n  storageClassName: fast\n  volumeMode: Block\n  volumeName: mine\n  resources: {requests: {storage: 0, memory: 1Gi}}",
        )],
        says: &[
            "error 46:17 spec.accessModes[0]: `ReadWriteOnc` is not an access mode [did you mean `ReadWriteOnce`?]",
            "error 46:31 spec.accessModes[1]: `ReadWriteOncePod` is not run yet [`ReadWriteOnce`, if you see to it that one pod alone mounts the claim]",
            "warning 47:3 spec.storageClassName: `storageClassName` has no effect [a claim is a directory of this node]",
            "error 48:3 spec.volumeMode: `volumeMode` is not run yet [remove it only if the pod is right without it]",
            "error 49:3 spec.volumeName: `volumeName` is not run yet [remove it only if the pod is right without it]",
            "error 50:35 spec.resources.requests[storage]: `0` is not more than 0",
            "error 50:38 spec.resources.requests[memory]: unknown resource `memory` [a claim asks for `storage`]",
        ],
    },
];
