//! Addresses: from a path to what it names.

use crate::store::Kind;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/api`: the versions of the core group.
    Versions,
    /// `/apis`: the other groups, of which there are none.
    Groups,
    /// `/api/v1`: the resources.
    Resources,
    /// `/version`
    Version,
    /// `/openapi/v3`: the documents.
    OpenApi,
    /// `/openapi/v3/api/v1`: the one document.
    OpenApiDocument,
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
            ["api", "v1"] => Some(Self::Resources),
            ["version"] => Some(Self::Version),
            ["openapi", "v3"] => Some(Self::OpenApi),
            ["openapi", "v3", "api", "v1"] => Some(Self::OpenApiDocument),
            ["healthz" | "livez" | "readyz"] => Some(Self::Health),
            ["api", "v1", "namespaces", namespace, plural, rest @ ..] => {
                let kind = Kind::of_plural(plural).filter(|kind| kind.namespaced())?;
                Self::within(kind, Some(namespace), rest)
            }
            ["api", "v1", plural, rest @ ..] => {
                let kind = Kind::of_plural(plural)?;
                // What is in a namespace is addressed in it.
                if kind.namespaced() && !rest.is_empty() { None } else { Self::within(kind, None, rest) }
            }
            _ => None,
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
            ("/api/v1", Route::Resources),
            ("/openapi/v3/api/v1", Route::OpenApiDocument),
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
        ] {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }
}
