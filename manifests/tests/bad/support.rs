//! Fields that exist and are not run, or have no effect.

use crate::Row;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a volume of a server",
        change: &[("emptyDir: {}", "nfs: {server: files, path: /}")],
        says: &[
            "error 13:5 spec.volumes[0].nfs: `nfs` does not run here [mount it on the host, and mount that as a `hostPath`]",
        ],
    },
    Row {
        name: "a volume from a repository",
        change: &[("emptyDir: {}", "gitRepo: {repository: x}")],
        says: &[
            "error 13:5 spec.volumes[0].gitRepo: `gitRepo` does not run here [fetch it in an init container, into an `emptyDir`]",
        ],
    },
    Row {
        name: "a volume with a claim of its own",
        change: &[("emptyDir: {}", "ephemeral: {}")],
        says: &[
            "error 13:5 spec.volumes[0].ephemeral: `ephemeral` does not run here [use a `persistentVolumeClaim`, or an `emptyDir`]",
        ],
    },
    Row {
        name: "a token of the API server",
        change: &[("emptyDir: {}", "projected: {sources: [{serviceAccountToken: {path: token}}]}")],
        says: &[
            "error 13:28 spec.volumes[0].projected.sources[0].serviceAccountToken: `serviceAccountToken` does not run here [it comes from an API server; put what you have into a `secret`]",
        ],
    },
    Row {
        name: "a probe over TLS that nobody verifies",
        change: &[("    args:", "    livenessProbe: {grpc: {port: 80, mode: TLS}}\n    args:")],
        says: &[
            "error 20:38 spec.containers[0].livenessProbe.grpc.mode: `mode` is not run yet [remove it only if the pod is right without it]",
        ],
    },
    Row {
        name: "ports of an ephemeral container",
        change: &[(
            "  containers:",
            "  ephemeralContainers: [{name: d, image: x, ports: [{containerPort: 1}]}]\n  containers:",
        )],
        says: &[
            "error 17:45 spec.ephemeralContainers[0].ports: `ports` does not run here [a container for debugging is no part of what the pod is for: leave it out]",
        ],
    },
    Row {
        name: "an address of the host without a port of it",
        change: &[("containerPort: 8080", "containerPort: 8080\n      hostIP: 127.0.0.1")],
        says: &[
            "warning 27:7 spec.containers[0].ports[0].hostIP: `hostIP` has no effect without `hostPort` [add the `hostPort` that is to be open on this address]",
        ],
    },
    Row {
        name: "a device",
        change: &[("    args:", "    volumeDevices: [{name: data, devicePath: /dev/x}]\n    args:")],
        says: &[
            "error 20:5 spec.containers[0].volumeDevices: `volumeDevices` does not run here [mount a `hostPath` of type `BlockDevice` into a privileged container]",
        ],
    },
    Row {
        name: "a name to be generated",
        change: &[("  name: web\n  labels", "  generateName: web-\n  labels")],
        says: &[
            "error 4:3 metadata.generateName: `generateName` is not run yet [remove it only if the pod is right without it]",
        ],
    },
    Row {
        name: "an extended resource",
        change: &[("memory: 64Mi", "nvidia.com/gpu: 1")],
        says: &[
            "error 32:9 spec.containers[0].resources.limits[nvidia.com/gpu]: the resource `nvidia.com/gpu` is not run yet",
        ],
    },
    Row {
        name: "a misspelt network",
        change: &[("example.com/note: hi", "coracle.dev/network: Flat")],
        says: &["error 8:26 metadata.annotations[coracle.dev/network]: `Flat` is not a network [did you mean `flat`?]"],
    },
    Row {
        name: "a network beside the host's",
        change: &[
            ("example.com/note: hi", "coracle.dev/network: flat"),
            ("  restartPolicy: Never", "  hostNetwork: true"),
        ],
        says: &[
            "error 8:5 metadata.annotations[coracle.dev/network]: a pod in the host's network has no other one [remove it, or remove `hostNetwork`]",
        ],
    },
    Row {
        name: "a network of what is no pod",
        change: &[("  name: conf\ndata:", "  name: conf\n  annotations: {coracle.dev/network: flat}\ndata:")],
        says: &[
            "error 38:17 metadata.annotations[coracle.dev/network]: `coracle.dev/network` is an annotation of pods",
        ],
    },
    Row {
        name: "tolerations",
        change: &[("restartPolicy: Never", "tolerations: [{operator: Exists}]")],
        says: &["warning 10:3 spec.tolerations: `tolerations` has no effect [there is only this node]"],
    },
    Row {
        name: "a node selector",
        change: &[("restartPolicy: Never", "nodeSelector: {disk: ssd}")],
        says: &["warning 10:3 spec.nodeSelector: `nodeSelector` has no effect [there is only this node]"],
    },
    Row {
        name: "a mistake within what has no effect",
        change: &[("restartPolicy: Never", "tolerations: [{operater: Exists}]")],
        says: &[
            "warning 10:3 spec.tolerations: `tolerations` has no effect [there is only this node]",
            "error 10:18 spec.tolerations[0].operater: unknown field `operater` [did you mean `operator`?]",
        ],
    },
    Row {
        name: "a status",
        change: &[("apiVersion: v1\nkind: Pod", "apiVersion: v1\nstatus: {phase: Running}\nkind: Pod")],
        says: &["warning 2:1 status: `status` has no effect [the API server writes it]"],
    },
    Row {
        name: "a resource version",
        change: &[("  name: web\n  labels", "  name: web\n  resourceVersion: \"7\"\n  labels")],
        says: &["warning 5:3 metadata.resourceVersion: `resourceVersion` has no effect [the API server writes it]"],
    },
    Row {
        name: "a service account",
        change: &[("restartPolicy: Never", "serviceAccountName: robot")],
        says: &[
            "warning 10:3 spec.serviceAccountName: `serviceAccountName` has no effect [there is no API server for a service account to talk to]",
        ],
    },
    Row {
        name: "a fraction of a byte",
        change: &[("memory: 64Mi", "memory: 64m")],
        says: &[
            "warning 32:9 spec.containers[0].resources.limits[memory]: `64m` is not a whole number of bytes and is rounded up [`m` is a thousandth; `M` and `Mi` are millions]",
        ],
    },
];
