//! Rules between fields.

use crate::Row;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a mount of a volume that is not there",
        change: &[("    - name: data\n      mountPath", "    - name: date\n      mountPath")],
        says: &[
            "error 28:13 spec.containers[0].volumeMounts[0].name: there is no volume `date` [did you mean `data`?]",
        ],
    },
    Row {
        name: "a mount on a relative path",
        change: &[("mountPath: /data", "mountPath: data")],
        says: &["error 29:18 spec.containers[0].volumeMounts[0].mountPath: `data` is not an absolute path [`/data`?]"],
    },
    Row {
        name: "two mounts on one path",
        change: &[("      mountPath: /data", "      mountPath: /data\n    - name: conf\n      mountPath: /data/")],
        says: &[
            "error 31:18 spec.containers[0].volumeMounts[1].mountPath: `/data/` is mounted on twice [the first is volumeMounts[0]]",
        ],
    },
    Row {
        name: "a subPath that climbs out",
        change: &[("mountPath: /data", "mountPath: /data\n      subPath: a/../../b")],
        says: &["error 30:16 spec.containers[0].volumeMounts[0].subPath: `a/../../b` must not contain `..`"],
    },
    Row {
        name: "a subPath from the root",
        change: &[("mountPath: /data", "mountPath: /data\n      subPath: /etc")],
        says: &["error 30:16 spec.containers[0].volumeMounts[0].subPath: `/etc` must be a relative path"],
    },
    Row {
        name: "recursive read-only without read-only",
        change: &[("mountPath: /data", "mountPath: /data\n      recursiveReadOnly: Enabled")],
        says: &["error 30:26 spec.containers[0].volumeMounts[0].recursiveReadOnly: `Enabled` needs `readOnly: true`"],
    },
    Row {
        name: "all of procfs without a user namespace",
        change: &[("args: [\"sleep\", \"1\"]", "args: [\"sleep\", \"1\"]\n    securityContext: {procMount: Unmasked}")],
        says: &[
            "error 21:34 spec.containers[0].securityContext.procMount: `Unmasked` needs a user namespace of the pod's own [add `hostUsers: false` to the pod's spec]",
        ],
    },
    Row {
        name: "bidirectional propagation without privilege",
        change: &[("mountPath: /data", "mountPath: /data\n      mountPropagation: Bidirectional")],
        says: &[
            "error 30:25 spec.containers[0].volumeMounts[0].mountPropagation: `Bidirectional` needs a privileged container [set `securityContext.privileged`, or use `HostToContainer`]",
        ],
    },
    Row {
        name: "a volume of two kinds",
        change: &[("emptyDir: {}", "emptyDir: {}\n    hostPath: {path: /srv}")],
        says: &[
            "error 14:5 spec.volumes[0].hostPath: a volume is of one kind, and this one has `emptyDir` and `hostPath`",
        ],
    },
    Row {
        name: "a hostPath that is relative",
        change: &[("emptyDir: {}", "hostPath: {path: srv}")],
        says: &["error 13:22 spec.volumes[0].hostPath.path: `srv` is not an absolute path"],
    },
    Row {
        name: "a hostPath with dots",
        change: &[("emptyDir: {}", "hostPath: {path: /srv/../etc}")],
        says: &["error 13:22 spec.volumes[0].hostPath.path: `/srv/../etc` must not contain `..`"],
    },
    Row {
        name: "an unknown medium",
        change: &[("emptyDir: {}", "emptyDir: {medium: memory}")],
        says: &[
            "error 13:24 spec.volumes[0].emptyDir.medium: `memory` is not one of `Memory`, `HugePages` or `HugePages-SIZE` [did you mean `Memory`?]",
        ],
    },
    Row {
        name: "a file mode in decimal",
        change: &[("      name: conf\n  containers", "      name: conf\n      defaultMode: 644\n  containers")],
        says: &[
            "error 17:20 spec.volumes[1].configMap.defaultMode: `644` is not between 0 and 0777 (511) [octal begins with a zero: `0644`]",
        ],
    },
    Row {
        name: "an item that climbs out",
        change: &[(
            "      name: conf\n  containers",
            "      name: conf\n      items: [{key: a, path: a/../../b}]\n  containers",
        )],
        says: &["error 17:30 spec.volumes[1].configMap.items[0].path: `a/../../b` must not contain `..`"],
    },
    Row {
        name: "a Secret volume without a Secret",
        change: &[("emptyDir: {}", "secret: {}")],
        says: &["error 13:13 spec.volumes[0].secret.secretName: `secretName` is missing"],
    },
    Row {
        name: "a variable with a value and a source",
        change: &[("value: \"1\"", "value: \"1\"\n      valueFrom: {fieldRef: {fieldPath: metadata.name}}")],
        says: &["error 24:7 spec.containers[0].env[0].valueFrom: a variable has a `value` or a `valueFrom`, not both"],
    },
    Row {
        name: "a variable with an empty source",
        change: &[("value: \"1\"", "valueFrom: {}")],
        says: &[
            "error 23:7 spec.containers[0].env[0].valueFrom: exactly one of `configMapKeyRef`, `secretKeyRef`, `fieldRef`, `resourceFieldRef` and `fileKeyRef` is needed",
        ],
    },
    Row {
        name: "a variable with an equals sign",
        change: &[("- name: A", "- name: A=B")],
        says: &[
            "error 22:13 spec.containers[0].env[0].name: `A=B` is not valid: a variable's name has only printable ASCII characters, and no `=`",
        ],
    },
    Row {
        name: "a field that a pod does not have",
        change: &[("value: \"1\"", "valueFrom: {fieldRef: {fieldPath: metadata.nmae}}")],
        says: &[
            "error 23:41 spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: a pod has no field `metadata.nmae` for variables [did you mean `metadata.name`?]",
        ],
    },
    Row {
        name: "a resource of an unknown container",
        change: &[("value: \"1\"", "valueFrom: {resourceFieldRef: {resource: limits.cpu, containerName: nobody}}")],
        says: &[
            "error 23:75 spec.containers[0].env[0].valueFrom.resourceFieldRef.containerName: there is no container `nobody`",
        ],
    },
    Row {
        name: "a divisor that does not divide",
        change: &[("value: \"1\"", "valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1Mi}}")],
        says: &[
            "error 23:69 spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: `1Mi` is not a divisor of cpu: 1m, 1",
        ],
    },
    Row {
        name: "a request above its limit",
        change: &[("        memory: 64Mi", "        memory: 64Mi\n      requests:\n        memory: 65Mi")],
        says: &[
            "error 34:17 spec.containers[0].resources.requests[memory]: a request of 65Mi is more than the limit of 64Mi",
        ],
    },
    Row {
        name: "a negative limit",
        change: &[("memory: 64Mi", "memory: -1")],
        says: &["error 32:17 spec.containers[0].resources.limits[memory]: `-1` is less than 0"],
    },
    Row {
        name: "an unknown resource",
        change: &[("memory: 64Mi", "memroy: 64Mi")],
        says: &[
            "error 32:9 spec.containers[0].resources.limits[memroy]: unknown resource `memroy` [did you mean `memory`?]",
        ],
    },
    Row {
        name: "huge pages without anything else",
        change: &[("memory: 64Mi", "hugepages-2Mi: 2Mi")],
        says: &[
            "error 32:9 spec.containers[0].resources.limits[hugepages-2Mi]: huge pages need a `cpu` or `memory` amount beside",
        ],
    },
    Row {
        name: "a port beyond the last",
        change: &[("containerPort: 8080", "containerPort: 65536")],
        says: &["error 26:22 spec.containers[0].ports[0].containerPort: `65536` is not between 1 and 65535"],
    },
    Row {
        name: "two containers on one port of the host",
        change: &[
            ("  restartPolicy: Never", "  hostNetwork: true"),
            ("    resources:\n", "  - name: b\n    image: x\n    ports: [{containerPort: 8080}]\n    resources:\n"),
        ],
        says: &[
            "error 32:29 spec.containers[1].ports[0].containerPort: port 8080/TCP of the host is taken by container `app`",
        ],
    },
    Row {
        name: "one port of the host for two containers",
        change: &[
            ("containerPort: 8080", "containerPort: 8080\n      hostPort: 80"),
            (
                "    resources:\n",
                "  - name: b\n    image: x\n    ports: [{containerPort: 1, hostPort: 80}]\n    resources:\n",
            ),
        ],
        says: &[
            "error 33:42 spec.containers[1].ports[0].hostPort: port 80/TCP of the host is taken by container `app`",
        ],
    },
    Row {
        name: "an address of the host that is none",
        change: &[("containerPort: 8080", "containerPort: 8080\n      hostPort: 80\n      hostIP: 10.0.0.256")],
        says: &["error 28:15 spec.containers[0].ports[0].hostIP: `10.0.0.256` is not an IP address"],
    },
    Row {
        name: "an unknown protocol",
        change: &[("containerPort: 8080", "containerPort: 8080\n      protocol: tcp")],
        says: &[
            "error 27:17 spec.containers[0].ports[0].protocol: `tcp` is not one of `TCP`, `UDP` or `SCTP` [did you mean `TCP`?]",
        ],
    },
    Row {
        name: "a subdomain that is no label",
        change: &[("restartPolicy: Never", "subdomain: a.b")],
        says: &[
            "error 10:14 spec.subdomain: `a.b` is not valid: only lower-case letters, digits and `-` are allowed, and no `-` at either end [`a-b` would do]",
        ],
    },
    Row {
        name: "a hostPort that is not the containerPort",
        change: &[
            ("  restartPolicy: Never", "  hostNetwork: true"),
            ("containerPort: 8080", "containerPort: 8080\n      hostPort: 80"),
        ],
        says: &[
            "error 27:17 spec.containers[0].ports[0].hostPort: in the host's network `hostPort` is the `containerPort`, 8080",
        ],
    },
    Row {
        name: "a negative grace period",
        change: &[("restartPolicy: Never", "terminationGracePeriodSeconds: -1")],
        says: &["error 10:34 spec.terminationGracePeriodSeconds: `-1` is less than 0"],
    },
    Row {
        name: "a negative user",
        change: &[("restartPolicy: Never", "securityContext: {runAsUser: -1}")],
        says: &["error 10:32 spec.securityContext.runAsUser: `-1` is not between 0 and 2147483647"],
    },
    Row {
        name: "a user that does not fit",
        change: &[("    args:", "    securityContext: {runAsUser: 4294967296}\n    args:")],
        says: &[
            "error 20:34 spec.containers[0].securityContext.runAsUser: `4294967296` is not between 0 and 2147483647",
        ],
    },
    Row {
        name: "a capability with its prefix",
        change: &[("    args:", "    securityContext: {capabilities: {add: [CAP_NET_ADMIN]}}\n    args:")],
        says: &[
            "error 20:44 spec.containers[0].securityContext.capabilities.add[0]: unknown capability `CAP_NET_ADMIN` [without the prefix: `NET_ADMIN`]",
        ],
    },
    Row {
        name: "a capability that does not exist",
        change: &[("    args:", "    securityContext: {capabilities: {drop: [NET_ADMN]}}\n    args:")],
        says: &[
            "error 20:45 spec.containers[0].securityContext.capabilities.drop[0]: unknown capability `NET_ADMN` [did you mean `NET_ADMIN`?]",
        ],
    },
    Row {
        name: "a sysctl of the whole host",
        change: &[("restartPolicy: Never", "securityContext: {sysctls: [{name: vm.swappiness, value: \"1\"}]}")],
        says: &[
            "error 10:38 spec.securityContext.sysctls[0].name: `vm.swappiness` is not valid: it belongs to the whole host, not to a pod [set it on the host]",
        ],
    },
    Row {
        name: "a sysctl that is no name",
        change: &[("restartPolicy: Never", "securityContext: {sysctls: [{name: net..x, value: \"1\"}]}")],
        says: &[
            "error 10:38 spec.securityContext.sysctls[0].name: `net..x` is not valid: a kernel parameter is written like `net.core.somaxconn`",
        ],
    },
    Row {
        name: "a sysctl of the network in the host's network",
        change: &[(
            "restartPolicy: Never",
            "hostNetwork: true\n  securityContext: {sysctls: [{name: net.core.somaxconn, value: \"1\"}]}",
        )],
        says: &[
            "error 11:38 spec.securityContext.sysctls[0].name: `net.core.somaxconn` would change the host, for `hostNetwork` is true",
        ],
    },
    Row {
        name: "a local seccomp profile without a file",
        change: &[("restartPolicy: Never", "securityContext: {seccompProfile: {type: Localhost}}")],
        says: &[
            "error 10:38 spec.securityContext.seccompProfile.localhostProfile: `type: Localhost` needs a `localhostProfile`",
        ],
    },
    Row {
        name: "a seccomp profile that climbs out",
        change: &[(
            "restartPolicy: Never",
            "securityContext: {seccompProfile: {type: Localhost, localhostProfile: ../x}}",
        )],
        says: &["error 10:73 spec.securityContext.seccompProfile.localhostProfile: `../x` must not contain `..`"],
    },
    Row {
        name: "privileged but not escalating",
        change: &[("    args:", "    securityContext: {privileged: true, allowPrivilegeEscalation: false}\n    args:")],
        says: &[
            "error 20:67 spec.containers[0].securityContext.allowPrivilegeEscalation: a privileged container has every privilege already [remove `privileged` or `allowPrivilegeEscalation: false`]",
        ],
    },
    Row {
        name: "host processes and shared processes",
        change: &[("restartPolicy: Never", "hostPID: true\n  shareProcessNamespace: true")],
        says: &[
            "error 11:26 spec.shareProcessNamespace: a pod cannot share its own processes and be among the host's [`hostPID` is true: remove one of the two]",
        ],
    },
    Row {
        name: "a user namespace and the host's namespaces",
        change: &[("restartPolicy: Never", "hostUsers: false\n  hostNetwork: true\n  hostPID: true\n  hostIPC: true")],
        says: &[
            "error 11:16 spec.hostNetwork: `hostNetwork` cannot be combined with a user namespace [remove it, or `hostUsers: false`]",
            "error 12:12 spec.hostPID: `hostPID` cannot be combined with a user namespace [remove it, or `hostUsers: false`]",
            "error 13:12 spec.hostIPC: `hostIPC` cannot be combined with a user namespace [remove it, or `hostUsers: false`]",
        ],
    },
    Row {
        name: "no DNS and no name server",
        change: &[("restartPolicy: Never", "dnsPolicy: None")],
        says: &[
            "error 10:14 spec.dnsPolicy: `dnsPolicy: None` needs at least one name server [add `dnsConfig: {nameservers: [192.0.2.53]}`, or use another `dnsPolicy`]",
        ],
    },
    Row {
        name: "a name server that is a name",
        change: &[("restartPolicy: Never", "dnsConfig: {nameservers: [dns.example.com]}")],
        says: &["error 10:29 spec.dnsConfig.nameservers[0]: `dns.example.com` is not an IP address"],
    },
    Row {
        name: "a host alias without an address",
        change: &[("restartPolicy: Never", "hostAliases: [{ip: nowhere, hostnames: [a]}]")],
        says: &["error 10:22 spec.hostAliases[0].ip: `nowhere` is not an IP address"],
    },
    Row {
        name: "a working directory that is relative",
        change: &[("    args:", "    workingDir: app\n    args:")],
        says: &["error 20:17 spec.containers[0].workingDir: `app` is not an absolute path [`/app`?]"],
    },
    Row {
        name: "an image with a blank",
        change: &[("    image: coracle.local/tools", "    image: coracle.local/tools latest")],
        says: &["error 19:12 spec.containers[0].image: `coracle.local/tools latest` has a blank in it"],
    },
    Row {
        name: "a NUL in an argument",
        change: &[("\"sleep\", \"1\"", "\"sle\\0ep\", \"1\"")],
        says: &["error 20:12 spec.containers[0].args[0]: a NUL character cannot be passed to a process"],
    },
];
