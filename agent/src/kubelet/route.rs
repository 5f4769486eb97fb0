//! Addresses: from a path to what it names, and to what a client needs a right for.

use hyper::Method;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/healthz`, `/healthz/CHECK`
    Health(Option<String>),
    /// `/pods`
    Pods,
    /// `/runningpods/`
    RunningPods,
    /// `/stats/summary`
    Summary,
    /// `/metrics` and its kin.
    Metrics(Page),
    /// `/configz`
    Configz,
    /// `/logs/PATH`
    Logs(String),
    /// `/checkpoint/NAMESPACE/POD/CONTAINER`
    Checkpoint,
    /// `/containerLogs/NAMESPACE/POD/CONTAINER`
    ContainerLogs(Named),
    /// `/exec/NAMESPACE/POD/[UID/]CONTAINER`
    Exec(Named),
    /// `/attach/NAMESPACE/POD/[UID/]CONTAINER`
    Attach(Named),
    /// `/run/NAMESPACE/POD/[UID/]CONTAINER`
    Run(Named),
    /// `/portForward/NAMESPACE/POD[/UID]`
    PortForward(Named),
    /// Nothing that is served; who may ask for anything is told so.
    Nothing,
}

/// A page of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `/metrics`: the agent's own.
    Own,
    /// `/metrics/cadvisor`: what containers use, under cAdvisor's names.
    Cadvisor,
    /// `/metrics/resource`: what metrics-server asks for.
    Resource,
    /// `/metrics/probes`: what probes answered.
    Probes,
}

/// A pod, or a container of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid, where the client says which one of that name it means.
    pub uid: Option<String>,
    /// The container's name; empty where the whole pod is meant.
    pub container: String,
}

impl Route {
    /// What a decoded path names.
    pub fn of(path: &str) -> Self {
        let Some(path) = path.strip_prefix('/') else { return Self::Nothing };
        if let Some(file) = path.strip_prefix("logs").filter(|rest| rest.is_empty() || rest.starts_with('/')) {
            return Self::Logs(file.trim_start_matches('/').to_owned());
        }
        let segments: Vec<&str> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
        if segments.iter().any(|it| it.is_empty()) {
            return Self::Nothing;
        }
        match segments.as_slice() {
            ["healthz"] => Self::Health(None),
            ["healthz", check] => Self::Health(Some((*check).to_owned())),
            ["pods"] => Self::Pods,
            ["runningpods"] => Self::RunningPods,
            ["stats", "summary"] => Self::Summary,
            ["metrics"] => Self::Metrics(Page::Own),
            ["metrics", "cadvisor"] => Self::Metrics(Page::Cadvisor),
            ["metrics", "resource"] => Self::Metrics(Page::Resource),
            ["metrics", "probes"] => Self::Metrics(Page::Probes),
            ["configz"] => Self::Configz,
            ["checkpoint", _, _, _] => Self::Checkpoint,
            ["containerLogs", rest @ ..] if rest.len() == 3 => {
                container(rest).map_or(Self::Nothing, Self::ContainerLogs)
            }
            ["exec", rest @ ..] => container(rest).map_or(Self::Nothing, Self::Exec),
            ["attach", rest @ ..] => container(rest).map_or(Self::Nothing, Self::Attach),
            ["run", rest @ ..] => container(rest).map_or(Self::Nothing, Self::Run),
            ["portForward", namespace, pod] => Self::PortForward(named(namespace, pod, None, "")),
            ["portForward", namespace, pod, uid] => Self::PortForward(named(namespace, pod, Some(uid), "")),
            _ => Self::Nothing,
        }
    }

    /// Whether something is done in a pod, whatever the method says: a WebSocket begins with GET, and who may read shall not
    /// run commands by that.
    pub fn acts(&self) -> bool {
        matches!(self, Self::Exec(_) | Self::Attach(_) | Self::PortForward(_) | Self::Run(_))
    }

    /// Whether it is answered although `enableDebuggingHandlers` is off.
    pub fn is_always_on(&self) -> bool {
        matches!(self, Self::Health(_) | Self::Pods | Self::Summary | Self::Metrics(_))
    }
}

fn container(rest: &[&str]) -> Option<Named> {
    match rest {
        [namespace, pod, container] => Some(named(namespace, pod, None, container)),
        [namespace, pod, uid, container] => Some(named(namespace, pod, Some(uid), container)),
        _ => None,
    }
}

fn named(namespace: &str, pod: &str, uid: Option<&str>, container: &str) -> Named {
    let (namespace, pod, container) = (namespace.to_owned(), pod.to_owned(), container.to_owned());
    Named { namespace, pod, uid: uid.map(str::to_owned), container }
}

/// A path as it is meant, with what is encoded in it; none if no path can be that.
pub fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let hex = |digit: Option<u8>| char::from(digit?).to_digit(16).and_then(|it| u8::try_from(it).ok());
        bytes.push(if byte == b'%' { hex(rest.next())? << 4 | hex(rest.next())? } else { byte });
    }
    let text = String::from_utf8(bytes).ok()?;
    let climbs = text.split('/').any(|segment| segment == "." || segment == "..");
    (!climbs && !text.contains('\0')).then_some(text)
}

/// The verb of an API server that a method is.
pub fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// The sub-resources of `nodes` one of which a client needs a right for, the narrowest first.
pub fn subresources(path: &str) -> &'static [&'static str] {
    let first = path.strip_prefix('/').and_then(|it| it.split('/').next()).unwrap_or_default();
    match first {
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "statusz" => &["statusz"],
        "flagz" => &["configz"],
        _ => &["proxy"],
    }
}

/// The first part of a path, by which requests are counted.
pub fn bucket(path: &str) -> &'static str {
    let mut parts = path.trim_start_matches('/').splitn(3, '/');
    match (parts.next().unwrap_or_default(), parts.next()) {
        ("metrics", Some("cadvisor")) => "metrics/cadvisor",
        ("metrics", Some("resource")) => "metrics/resource",
        ("metrics", Some("probes")) => "metrics/probes",
        ("metrics", Some(_)) => "other",
        (first, _) => {
            let known = [
                "attach",
                "checkpoint",
                "configz",
                "containerLogs",
                "exec",
                "healthz",
                "logs",
                "metrics",
                "pods",
                "portForward",
                "run",
                "runningpods",
                "stats",
            ];
            known.into_iter().find(|it| *it == first).unwrap_or("other")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_what_kubelet_means_by_them() {
        let web = |uid: Option<&str>, container: &str| named("d", "web", uid, container);
        for (path, route) in [
            ("/healthz", Route::Health(None)),
            ("/healthz/", Route::Health(None)),
            ("/healthz/syncloop", Route::Health(Some("syncloop".into()))),
            ("/pods", Route::Pods),
            ("/pods/", Route::Pods),
            ("/pods/x", Route::Nothing),
            ("/runningpods/", Route::RunningPods),
            ("/runningpods", Route::RunningPods),
            ("/stats/summary", Route::Summary),
            ("/stats/", Route::Nothing),
            ("/metrics", Route::Metrics(Page::Own)),
            ("/metrics/cadvisor", Route::Metrics(Page::Cadvisor)),
            ("/metrics/resource", Route::Metrics(Page::Resource)),
            ("/metrics/probes", Route::Metrics(Page::Probes)),
            ("/metrics/slis", Route::Nothing),
            ("/configz", Route::Configz),
            ("/logs", Route::Logs(String::new())),
            ("/logs/", Route::Logs(String::new())),
            ("/logs/a/b c", Route::Logs("a/b c".into())),
            ("/logsx", Route::Nothing),
            ("/checkpoint/d/web/c", Route::Checkpoint),
            ("/containerLogs/d/web/c", Route::ContainerLogs(web(None, "c"))),
            ("/containerLogs/d/web/u/c", Route::Nothing),
            ("/containerLogs/d/web", Route::Nothing),
            ("/exec/d/web/c", Route::Exec(web(None, "c"))),
            ("/exec/d/web/u/c", Route::Exec(web(Some("u"), "c"))),
            ("/exec/d//c", Route::Nothing),
            ("/attach/d/web/c", Route::Attach(web(None, "c"))),
            ("/run/d/web/u/c", Route::Run(web(Some("u"), "c"))),
            ("/portForward/d/web", Route::PortForward(web(None, ""))),
            ("/portForward/d/web/u", Route::PortForward(web(Some("u"), ""))),
            ("/portforward/d/web", Route::Nothing),
            ("/", Route::Nothing),
            ("", Route::Nothing),
            ("*", Route::Nothing),
            ("/debug/pprof/", Route::Nothing),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn a_path_is_decoded_once_and_never_climbs() {
        for (path, expected) in [
            ("/logs/a%20b", Some("/logs/a b")),
            ("/%70ods", Some("/pods")),
            ("/a%2Fb", Some("/a/b")),
            ("/a%252e%252e", Some("/a%2e%2e")),
            ("/logs/../x", None),
            ("/logs/%2e%2e/x", None),
            ("/logs/%2E%2e%2Fx", None),
            ("/logs/./x", None),
            ("/a%00", None),
            ("/a%ff", None),
            ("/a%4", None),
            ("/a%zz", None),
            ("/...", Some("/...")),
        ] {
            assert_eq!(decoded(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn rights_are_kubelet_s() {
        for (path, expected) in [
            ("/pods", &["pods", "proxy"][..]),
            ("/pods/x", &["pods", "proxy"]),
            ("/podsx", &["proxy"]),
            ("/runningpods/", &["pods", "proxy"]),
            ("/healthz/ping", &["healthz", "proxy"]),
            ("/configz", &["configz", "proxy"]),
            ("/stats/summary", &["stats"]),
            ("/metrics", &["metrics"]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/logs/", &["log"]),
            ("/checkpoint/a/b/c", &["checkpoint"]),
            ("/containerLogs/a/b/c", &["proxy"]),
            ("/exec/a/b/c", &["proxy"]),
            ("/flagz", &["configz"]),
            ("/statusz", &["statusz"]),
            ("/", &["proxy"]),
        ] {
            assert_eq!(subresources(path), expected, "{path}");
        }
        let verbs =
            [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD].map(|it| verb(&it));
        assert_eq!(verbs, ["get", "create", "update", "patch", "delete", ""]);
    }

    #[test]
    fn requests_are_counted_by_what_they_begin_with() {
        for (path, expected) in [
            ("/exec/a/b/c", "exec"),
            ("/metrics", "metrics"),
            ("/metrics/resource", "metrics/resource"),
            ("/metrics/x", "other"),
            ("/whatever", "other"),
            ("/", "other"),
        ] {
            assert_eq!(bucket(path), expected, "{path}");
        }
    }
}
