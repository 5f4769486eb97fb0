//! The kinds that say who reaches whom.

use super::Support::{Ignored, Never, Runs};
use super::{Fields, ONE_NODE, SERVER, Support};

const FROM_OUTSIDE: Support = Never("a pod is reached from outside by a `hostPort` of one of its containers");
const NO_BALANCER: Support = Never("there is no load balancer outside of this node: leave it out");
const NO_EXTERNAL_NAME: Support = Never("a pod of kind `Ambassador` leads to what is elsewhere");

pub(super) const ROWS: &[(&str, Fields)] = &[
    ("Network", &[(Runs, &["apiVersion", "kind", "metadata", "spec"]), (SERVER, &["status"])]),
    ("NetworkSpec", &[(Runs, &["isolated", "masquerade", "mtu", "subnets", "type"])]),
    ("Ambassador", &[(Runs, &["apiVersion", "kind", "metadata", "spec"]), (SERVER, &["status"])]),
    (
        "AmbassadorSpec",
        &[(
            Runs,
            &[
                "balance",
                "connectTimeoutSeconds",
                "drainSeconds",
                "healthCheck",
                "maxConnections",
                "ports",
                "proxyProtocol",
                "statusPort",
                "targets",
                "udpIdleSeconds",
            ],
        )],
    ),
    ("AmbassadorPort", &[(Runs, &["hostIP", "hostPort", "name", "port", "protocol", "targetPort", "targets"])]),
    (
        "AmbassadorHealthCheck",
        &[(Runs, &["failureThreshold", "path", "periodSeconds", "port", "successThreshold", "timeoutSeconds", "type"])],
    ),
    ("Service", &[(Runs, &["apiVersion", "kind", "metadata", "spec"]), (SERVER, &["status"])]),
    (
        "ServiceSpec",
        &[
            (
                Runs,
                &[
                    "clusterIP",
                    "clusterIPs",
                    "internalTrafficPolicy",
                    "ipFamilies",
                    "ipFamilyPolicy",
                    "ports",
                    "publishNotReadyAddresses",
                    "selector",
                    "sessionAffinity",
                    "sessionAffinityConfig",
                    "type",
                ],
            ),
            (FROM_OUTSIDE, &["externalIPs"]),
            (NO_EXTERNAL_NAME, &["externalName"]),
            (
                NO_BALANCER,
                &[
                    "allocateLoadBalancerNodePorts",
                    "externalTrafficPolicy",
                    "healthCheckNodePort",
                    "loadBalancerClass",
                    "loadBalancerIP",
                    "loadBalancerSourceRanges",
                ],
            ),
            (ONE_NODE, &["trafficDistribution"]),
        ],
    ),
    (
        "ServicePort",
        &[
            (Runs, &["name", "port", "protocol", "targetPort"]),
            (FROM_OUTSIDE, &["nodePort"]),
            (Ignored("nothing here looks into what is sent"), &["appProtocol"]),
        ],
    ),
    ("SessionAffinityConfig", &[(Runs, &["clientIP"])]),
    ("ClientIPConfig", &[(Runs, &["timeoutSeconds"])]),
    ("NetworkPolicy", &[(Runs, &["apiVersion", "kind", "metadata", "spec"])]),
    ("NetworkPolicySpec", &[(Runs, &["egress", "ingress", "podSelector", "policyTypes"])]),
    ("NetworkPolicyIngressRule", &[(Runs, &["from", "ports"])]),
    ("NetworkPolicyEgressRule", &[(Runs, &["ports", "to"])]),
    ("NetworkPolicyPeer", &[(Runs, &["ipBlock", "namespaceSelector", "podSelector"])]),
    ("NetworkPolicyPort", &[(Runs, &["endPort", "port", "protocol"])]),
    ("IPBlock", &[(Runs, &["cidr", "except"])]),
    ("LabelSelector", &[(Runs, &["matchExpressions", "matchLabels"])]),
    ("LabelSelectorRequirement", &[(Runs, &["key", "operator", "values"])]),
];
