//! The kinds of objects, by the names that clients use.

/// A kind of `v1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `ConfigMap`
    ConfigMap,
    /// `Event`
    Event,
    /// `Namespace`
    Namespace,
    /// `Node`
    Node,
    /// `PersistentVolumeClaim`
    PersistentVolumeClaim,
    /// `Pod`
    Pod,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::ConfigMap, Self::Event, Self::Namespace, Self::Node, Self::PersistentVolumeClaim, Self::Pod];

    /// As in `kind:`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Event => "Event",
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Pod => "Pod",
        }
    }

    /// As in addresses.
    pub fn plural(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmaps",
            Self::Event => "events",
            Self::Namespace => "namespaces",
            Self::Node => "nodes",
            Self::PersistentVolumeClaim => "persistentvolumeclaims",
            Self::Pod => "pods",
        }
    }

    /// The kind of an address.
    pub fn of_plural(plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.plural() == plural)
    }

    /// What else it may be called on a command line.
    pub fn short_names(self) -> &'static [&'static str] {
        match self {
            Self::ConfigMap => &["cm"],
            Self::Event => &["ev"],
            Self::Namespace => &["ns"],
            Self::Node => &["no"],
            Self::PersistentVolumeClaim => &["pvc"],
            Self::Pod => &["po"],
        }
    }

    /// Whether its objects are in namespaces.
    pub fn namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node)
    }
}
