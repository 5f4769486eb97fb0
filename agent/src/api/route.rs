//! Addresses: from a path to what it names.

use crate::store::{Group, Kind};

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/api`: the versions of the core group.
    Versions,
    /// `/apis`: the other groups.
    Groups,
    /// `/apis/GROUP`: one of them.
    Group(Group),
    /// `/api/v1`, `/apis/GROUP/v1`: the resources of a group.
    Resources(Group),
    /// `/version`
    Version,
    /// `/openapi/v2`: the one document of clients before 1.27.
    OpenApi2,
    /// `/openapi/v3`: the documents.
    OpenApi,
    /// `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/v1`: one of them.
    OpenApiDocument(Group),
    /// `/healthz`, `/livez`, `/readyz`
    Health,
    /// All objects of a kind.
    Collection {
        /// The kind.
        kind: Kind,
        /// Those of one namespace.
        namespace: Option<String>,
    },
    /// One object.
    Object {
        /// The kind.
        kind: Kind,
        /// Its namespace; empty for what has none.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Something of a pod.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What of it.
        part: Part,
    },
}

/// The sub-resources of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its containers' logs.
    Log,
    /// A command in a container.
    Exec,
    /// A container's streams.
    Attach,
    /// Its ports.
    PortForward,
    /// Coracle's own: start it, or one container, anew.
    Restart,
    /// Coracle's own: why it is as it is.
    Why,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Log, Self::Exec, Self::Attach, Self::PortForward, Self::Restart, Self::Why];

    /// As in addresses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
            Self::Restart => "restart",
            Self::Why => "why",
        }
    }
}

impl Route {
    /// What a path names; `None` if nothing that is served.
    pub fn of(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        if segments.iter().any(|it| it.is_empty() || it.contains('%')) {
            return None;
        }
        match segments.as_slice() {
            ["api"] => Some(Self::Versions),
            ["apis"] => Some(Self::Groups),
            ["version"] => Some(Self::Version),
            ["openapi", "v2"] => Some(Self::OpenApi2),
            ["openapi", "v3"] => Some(Self::OpenApi),
            ["openapi", "v3", rest @ ..] => match in_group(rest)? {
                (group, []) => Some(Self::OpenApiDocument(group)),
                _ => None,
            },
            ["healthz" | "livez" | "readyz"] => Some(Self::Health),
            ["apis", name] => Group::OTHERS.into_iter().find(|group| group.name == *name).map(Self::Group),
            other => {
                let (group, rest) = in_group(other)?;
                Self::of_group(group, rest)
            }
        }
    }

    fn of_group(group: Group, rest: &[&str]) -> Option<Self> {
        match rest {
            [] => Some(Self::Resources(group)),
            ["namespaces", namespace, plural, rest @ ..] => {
                let kind = Kind::of_plural(group, plural).filter(|kind| kind.namespaced())?;
                Self::within(kind, Some(namespace), rest)
            }
            [plural, rest @ ..] => {
                let kind = Kind::of_plural(group, plural)?;
                // What is in a namespace is addressed in it.
                if kind.namespaced() && !rest.is_empty() { None } else { Self::within(kind, None, rest) }
            }
        }
    }

    fn within(kind: Kind, namespace: Option<&str>, rest: &[&str]) -> Option<Self> {
        let owned = || namespace.unwrap_or_default().to_owned();
        match rest {
            [] => Some(Self::Collection { kind, namespace: namespace.map(str::to_owned) }),
            [name] => Some(Self::Object { kind, namespace: owned(), name: (*name).to_owned() }),
            [name, part] if kind == Kind::Pod => {
                let part = Part::ALL.into_iter().find(|it| it.name() == *part)?;
                Some(Self::Pod { namespace: owned(), name: (*name).to_owned(), part })
            }
            _ => None,
        }
    }
}

/// The group that a path begins with, and what comes after it.
fn in_group<'a, 'b>(segments: &'a [&'b str]) -> Option<(Group, &'a [&'b str])> {
    match segments {
        ["api", version, rest @ ..] if *version == Group::CORE.version => Some((Group::CORE, rest)),
        ["apis", name, version, rest @ ..] => {
            let found = Group::OTHERS.into_iter().find(|group| (group.name, group.version) == (*name, *version));
            found.map(|group| (group, rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_what_an_api_server_means_by_them() {
        let namespace = || "web".to_owned();
        let name = || "p".to_owned();
        for (path, route) in [
            ("/api", Route::Versions),
            ("/api/", Route::Versions),
            ("/apis", Route::Groups),
            ("/api/v1", Route::Resources(Group::CORE)),
            ("/apis/networking.k8s.io", Route::Group(Group::OTHERS[1])),
            ("/apis/networking.k8s.io/v1", Route::Resources(Group::OTHERS[1])),
            ("/openapi/v2", Route::OpenApi2),
            ("/openapi/v3/api/v1", Route::OpenApiDocument(Group::CORE)),
            ("/openapi/v3/apis/discovery.k8s.io/v1", Route::OpenApiDocument(Group::OTHERS[0])),
            (
                "/apis/networking.k8s.io/v1/namespaces/web/networkpolicies",
                Route::Collection { kind: Kind::NetworkPolicy, namespace: Some(namespace()) },
            ),
            (
                "/apis/discovery.k8s.io/v1/endpointslices",
                Route::Collection { kind: Kind::EndpointSlice, namespace: None },
            ),
            (
                "/api/v1/namespaces/web/services/p",
                Route::Object { kind: Kind::Service, namespace: namespace(), name: name() },
            ),
            ("/readyz", Route::Health),
            ("/api/v1/pods", Route::Collection { kind: Kind::Pod, namespace: None }),
            ("/api/v1/namespaces", Route::Collection { kind: Kind::Namespace, namespace: None }),
            (
                "/api/v1/namespaces/web",
                Route::Object { kind: Kind::Namespace, namespace: String::new(), name: namespace() },
            ),
            ("/api/v1/namespaces/web/pods", Route::Collection { kind: Kind::Pod, namespace: Some(namespace()) }),
            ("/api/v1/namespaces/web/pods/p", Route::Object { kind: Kind::Pod, namespace: namespace(), name: name() }),
            ("/api/v1/nodes/p", Route::Object { kind: Kind::Node, namespace: String::new(), name: name() }),
            (
                "/api/v1/namespaces/web/pods/p/portforward",
                Route::Pod { namespace: namespace(), name: name(), part: Part::PortForward },
            ),
        ] {
            assert_eq!(Route::of(path), Some(route), "{path}");
        }
    }

    #[test]
    fn other_paths_name_nothing() {
        for path in [
            "/",
            "",
            "/api/v2",
            "/api/v1/secrets",
            "/api/v1/pods/p",
            "/api/v1/namespaces/web/nodes",
            "/api/v1/namespaces/web/events/e/log",
            "/api/v1/namespaces/web/pods/p/eviction",
            "/api/v1/namespaces/web/pods/p/log/x",
            "/api/v1/namespaces/web/pods/p%2fq",
            "/api/v1/namespaces//pods",
            "/apis/apps/v1/deployments",
            "/apis/apps",
            "/apis/networking.k8s.io/v2",
            "/apis/networking.k8s.io/v1/services",
            "/api/v1/networkpolicies",
            "/openapi/v3/apis/apps/v1",
            "/openapi/v3/api/v1/pods",
        ] {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }
}
