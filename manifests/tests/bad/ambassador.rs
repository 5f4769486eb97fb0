//! Ambassadors.

use crate::Row;

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: keys\ndata:\n  password: c2VjcmV0";

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "an ambassador that says nothing",
        change: &[(SECRET, "apiVersion: coracle.dev/v1alpha1\nkind: Ambassador\nmetadata:\n  name: redis\nspec: {}")],
        says: &["error 45:7 spec.ports: `ports` is missing [add `ports: [{port: 6379}]`]"],
    },
    Row {
        name: "ports of an ambassador that cannot be",
        change: &[(
            SECRET,
            "apiVersion: coracle.dev/v1alpha1\nkind: Ambassador\nmetadata:\n  name: redis\nspec: \n  targets: [db]\n  ports:\n  - {port: 0}\n  - {port: 70000}\n  - {port: 80, name: WEB, hostPort: 8080, hostIP: here}\n  - {port: 80, hostPort: 8081, targetPort: -1}\n  - {port: 81, protocol: SCTP}",
        )],
        says: &[
            "error 48:12 spec.ports[0].port: `port` is missing",
            "error 49:12 spec.ports[1].port: `70000` is not between 1 and 65535",
            "error 50:22 spec.ports[2].name: `WEB` is not valid: a port's name has at most 15 lower-case letters, digits and single `-`, and at least one letter",
            "error 50:51 spec.ports[2].hostIP: `here` is not an address",
            "error 51:12 spec.ports[3].port: TCP 80 is `ports[2]` already",
            "error 51:44 spec.ports[3].targetPort: `-1` is not between 1 and 65535",
            "error 52:26 spec.ports[4].protocol: `SCTP` is not one of `TCP` or `UDP`",
        ],
    },
    Row {
        name: "an ambassador that leads nowhere",
        change: &[(
            SECRET,
            "apiVersion: coracle.dev/v1alpha1\nkind: Ambassador\nmetadata:\n  name: redis\nspec: {ports: [{port: 80}]}",
        )],
        says: &[
            "error 45:17 spec.ports[0].targets: the port leads nowhere [add `targets: [\"HOST:PORT\"]`, here or beside `ports`]",
        ],
    },
    Row {
        name: "an ambassador that leads to itself",
        change: &[(
            SECRET,
            "apiVersion: coracle.dev/v1alpha1\nkind: Ambassador\nmetadata:\n  name: redis\nspec: {ports: [{port: 80}], targets: [redis]}",
        )],
        says: &["error 45:17 spec.ports[0]: an ambassador that leads to itself: `redis`"],
    },
    Row {
        name: "targets of an ambassador that are none",
        change: &[(
            SECRET,
            "apiVersion: coracle.dev/v1alpha1\nkind: Ambassador\nmetadata:\n  name: redis\nspec: {ports: [{port: 80}], targets: ['db:x', 'fd00::zz', '10.0.0']}",
        )],
        says: &[
            "error 45:39 spec.targets[0]: `x` is not a port from 1 to 65535 [a target is `HOST:PORT`, such as `db.example:6379` or `[fd00::1]:6379`]",
            "error 45:47 spec.targets[1]: an IPv6 address stands in `[` and `]` [a target is `HOST:PORT`, such as `db.example:6379` or `[fd00::1]:6379`]",
            "error 45:59 spec.targets[2]: `10.0.0` is not an IPv4 address [a target is `HOST:PORT`, such as `db.example:6379` or `[fd00::1]:6379`]",
        ],
    },
    Row {
        name: "an ambassador that is told what it cannot know",
        change: &[(
            SECRET,
            "apiVersion: coracle.dev/v1alpha1\nkind: Ambassador\nmetadata:\n  name: redis\nspec: {ports: [{port: 80}], targets: [db], balance: Random, proxyProtocol: v3, healthCheck: {type: TCP, path: /x, periodSeconds: 0}, maxConections: 5}",
        )],
        says: &[
            "error 45:53 spec.balance: `Random` is not one of `FirstHealthy` or `RoundRobin`",
            "error 45:76 spec.proxyProtocol: `v3` is not one of `v1` or `v2` [did you mean `v1`?]",
            "error 45:111 spec.healthCheck.path: only HTTP asks for a path [add `type: HTTP`]",
            "error 45:130 spec.healthCheck.periodSeconds: `0` is not between 1 and 86400",
            "error 45:134 spec.maxConections: unknown field `maxConections` [did you mean `maxConnections`?]",
        ],
    },
    Row {
        name: "a port of an ambassador where it says how it is",
        change: &[(
            SECRET,
            "apiVersion: coracle.dev/v1alpha1\nkind: Ambassador\nmetadata:\n  name: redis\nspec: {ports: [{port: 15021}], targets: [db]}",
        )],
        says: &[
            "error 45:23 spec.ports[0].port: port 15021 is where the ambassador says how it is [set another `statusPort`]",
        ],
    },
    Row {
        name: "an ambassador with the name of a pod",
        change: &[(
            SECRET,
            "apiVersion: coracle.dev/v1alpha1\nkind: Ambassador\nmetadata:\n  name: web\nspec: {ports: [{port: 80}], targets: [db]}",
        )],
        says: &["error 44:9 metadata.name: Pod default/web is defined twice [the first is at pod.yaml:4]"],
    },
    Row {
        name: "an ambassador with a name that no host has",
        change: &[(
            SECRET,
            "apiVersion: coracle.dev/v1alpha1\nkind: Ambassador\nmetadata:\n  name: a.b\nspec: {ports: [{port: 80}], targets: [db]}",
        )],
        says: &[
            "error 44:9 metadata.name: `a.b` is not valid: only lower-case letters, digits and `-` are allowed, and no `-` at either end [`a-b` would do]",
        ],
    },
];
