//! The kinds of objects, by the names that clients use.

/// A group of kinds, in the one version that is served of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name; empty for the core group.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

impl Group {
    /// The core group.
    pub const CORE: Self = Self { name: "", version: "v1" };
    /// The others.
    pub const OTHERS: [Self; 3] = [
        Self { name: "discovery.k8s.io", version: "v1" },
        Self { name: "networking.k8s.io", version: "v1" },
        Self { name: "coracle.dev", version: "v1alpha1" },
    ];

    /// As in `apiVersion:`.
    pub fn api_version(self) -> String {
        if self.name.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.name, self.version) }
    }

    /// As in addresses.
    pub fn path(self) -> String {
        format!("{}/{}", if self.name.is_empty() { "api" } else { "apis" }, self.api_version())
    }
}

/// A kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `Ambassador`
    Ambassador,
    /// `ConfigMap`
    ConfigMap,
    /// `EndpointSlice`
    EndpointSlice,
    /// `Event`
    Event,
    /// `Link`
    Link,
    /// `Namespace`
    Namespace,
    /// `NetworkPolicy`
    NetworkPolicy,
    /// `Network`
    Network,
    /// `Node`
    Node,
    /// `PersistentVolumeClaim`
    PersistentVolumeClaim,
    /// `Pod`
    Pod,
    /// `Service`
    Service,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Ambassador,
        Self::ConfigMap,
        Self::EndpointSlice,
        Self::Event,
        Self::Link,
        Self::Namespace,
        Self::NetworkPolicy,
        Self::Network,
        Self::Node,
        Self::PersistentVolumeClaim,
        Self::Pod,
        Self::Service,
    ];

    /// Its group.
    pub fn group(self) -> Group {
        match self {
            Self::EndpointSlice => Group::OTHERS[0],
            Self::NetworkPolicy => Group::OTHERS[1],
            Self::Ambassador | Self::Link | Self::Network => Group::OTHERS[2],
            _ => Group::CORE,
        }
    }

    /// As in `kind:`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ambassador => "Ambassador",
            Self::ConfigMap => "ConfigMap",
            Self::EndpointSlice => "EndpointSlice",
            Self::Event => "Event",
            Self::Link => "Link",
            Self::Namespace => "Namespace",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::Network => "Network",
            Self::Node => "Node",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Pod => "Pod",
            Self::Service => "Service",
        }
    }

    /// As in addresses.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Ambassador => "ambassadors",
            Self::ConfigMap => "configmaps",
            Self::EndpointSlice => "endpointslices",
            Self::Event => "events",
            Self::Link => "links",
            Self::Namespace => "namespaces",
            Self::NetworkPolicy => "networkpolicies",
            Self::Network => "networks",
            Self::Node => "nodes",
            Self::PersistentVolumeClaim => "persistentvolumeclaims",
            Self::Pod => "pods",
            Self::Service => "services",
        }
    }

    /// The kind of an address.
    pub fn of_plural(group: Group, plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.group() == group && kind.plural() == plural)
    }

    /// What else it may be called on a command line.
    pub fn short_names(self) -> &'static [&'static str] {
        match self {
            Self::ConfigMap => &["cm"],
            Self::Ambassador | Self::EndpointSlice | Self::Link | Self::Network => &[],
            Self::Event => &["ev"],
            Self::Namespace => &["ns"],
            Self::NetworkPolicy => &["netpol"],
            Self::Node => &["no"],
            Self::PersistentVolumeClaim => &["pvc"],
            Self::Pod => &["po"],
            Self::Service => &["svc"],
        }
    }

    /// Whether its objects are in namespaces.
    pub fn namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Network | Self::Node)
    }
}
