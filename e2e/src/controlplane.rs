//! A real control plane, of programs that are built elsewhere: what recordings are made from, and what benchmarks measure in.
//!
//! Its directory has `kube-apiserver`, `kube-controller-manager` and, for [`Parts::All`], `kube-scheduler`, of one version;
//! `etcd` comes from there, or from Debian's package.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::apiserver::{Authority, Client, User, write_kubeconfig};
use crate::{Node, Run, deadline, debian};

/// What of a cluster there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// The API server, and the controllers that sign: nothing else that would write.
    Signing,
    /// All but the nodes.
    All,
}

/// A control plane on a node's loopback. It ends when dropped; what it stored goes with the node's directory.
pub struct ControlPlane<'n> {
    node: &'n Node,
    dir: PathBuf,
    authority: Authority,
    programs: PathBuf,
    runs: Vec<Run>,
}

/// A request that the API server has answered, as its audit log tells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Audited {
    /// Who asked.
    pub user: String,
    /// `get`, `patch` …
    pub verb: String,
    /// The plural, and the part of the object if it says one: `pods/status`.
    pub resource: String,
}

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6443);

const APISERVER: &str = "--etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --bind-address=127.0.0.1 \
    --advertise-address=127.0.0.1 --endpoint-reconciler-type=none --tls-cert-file=server.crt \
    --tls-private-key-file=server.key --client-ca-file=ca.crt --service-cluster-ip-range=10.254.0.0/16 \
    --service-account-key-file=sa.pub --service-account-signing-key-file=sa.key \
    --service-account-issuer=https://kubernetes.default --authorization-mode=Node,RBAC \
    --enable-admission-plugins=NodeRestriction --allow-privileged";

const CONTROLLERS: &str = "--kubeconfig=admin.kubeconfig --cluster-signing-cert-file=ca.crt \
    --cluster-signing-key-file=ca.key --leader-elect=false --bind-address=127.0.0.1 --secure-port=0";

/// Each request of nodes once, when it is answered.
const AUDIT: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived, ResponseStarted]\nrules:\n\
    - {level: Metadata, userGroups: ['system:nodes']}\n- {level: None}\n";

impl Parts {
    /// More arguments of the API server, and of the controllers.
    fn arguments(self) -> [&'static str; 2] {
        match self {
            Self::Signing => [
                "--disable-admission-plugins=ServiceAccount,StorageObjectInUseProtection",
                "--controllers=csrsigning,csrapproving",
            ],
            Self::All => [
                "--audit-policy-file=audit.yaml --audit-log-path=audit.log",
                "--service-account-private-key-file=sa.key --root-ca-file=ca.crt --use-service-account-credentials",
            ],
        }
    }
}

impl<'n> ControlPlane<'n> {
    /// Starts it on a node's host, and waits until it answers; the error says what is missing.
    pub fn start(node: &'n Node, programs: &Path, parts: Parts) -> Result<Self, String> {
        let dir = node.make_dir("controlplane");
        let programs = std::path::absolute(programs).map_err(|error| format!("{}: {error}", programs.display()))?;
        let mut plane = Self { node, dir, authority: Authority::new(), programs, runs: Vec::new() };
        plane.write_files().map_err(|error| format!("cannot write a control plane's files: {error}"))?;
        let [of_server, of_controllers] = parts.arguments();
        plane.run("etcd", "--data-dir=etcd --listen-peer-urls=http://127.0.0.1:2380 --log-level=error")?;
        plane.run("kube-apiserver", &format!("{APISERVER} {of_server}"))?;
        // The last of what the server makes at its start.
        plane.wait_for(&plane.client(Some(&User::admin())), "/api/v1/namespaces/kube-node-lease")?;
        plane.run("kube-controller-manager", &format!("{CONTROLLERS} {of_controllers}"))?;
        if parts == Parts::All {
            plane.run("kube-scheduler", "--kubeconfig=admin.kubeconfig --leader-elect=false --secure-port=0")?;
            // What the controllers make last for a pod that says nothing of accounts.
            plane.wait_for(
                &plane.client(Some(&User::admin())),
                "/api/v1/namespaces/default/configmaps/kube-root-ca.crt",
            )?;
            plane
                .wait_for(&plane.client(Some(&User::admin())), "/api/v1/namespaces/default/serviceaccounts/default")?;
        }
        Ok(plane)
    }

    fn write_files(&self) -> std::io::Result<()> {
        let server = self.authority.server(&[ADDRESS.ip()]);
        let key = rcgen::KeyPair::generate().map_err(std::io::Error::other)?;
        let all = [
            ("ca.crt", self.authority.certificate()),
            ("ca.key", &self.authority.key()),
            ("server.crt", &server.certificate),
            ("server.key", &server.key),
            ("sa.key", &key.serialize_pem()),
            ("sa.pub", &key.public_key_pem()),
            ("audit.yaml", AUDIT),
        ];
        for (name, text) in all {
            std::fs::write(self.dir.join(name), text)?;
        }
        self.kubeconfig("admin", &User::admin());
        Ok(())
    }

    fn run(&mut self, program: &str, arguments: &str) -> Result<(), String> {
        let built = self.programs.join(program);
        let path = match (built.is_file(), program) {
            (true, _) => built,
            (false, "etcd") => debian::unpacked(&["etcd-server"])?.join("usr/bin/etcd"),
            (false, _) => return Err(format!("no {program} in {}", self.programs.display())),
        };
        let mut command = Command::new(path);
        command.args(arguments.split_whitespace()).current_dir(&self.dir);
        self.runs.push(Run::start(&mut self.node.host().command(command), None));
        Ok(())
    }

    /// Waits until a client is given an object.
    pub fn wait_for(&self, client: &Client, url: &str) -> Result<(), String> {
        let end = Instant::now() + deadline();
        loop {
            let answer = client.ask("GET", url, "", &Value::Null);
            match answer {
                Ok(reply) if reply.status == 200 => return Ok(()),
                answer if Instant::now() > end => {
                    let last = |run: &Run| run.lines().last().map(|line| line.text.clone()).unwrap_or_default();
                    let said: Vec<String> = self.runs.iter().map(last).collect();
                    return Err(format!("the control plane never has {url}: {answer:?}: {said:#?}"));
                }
                _ => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// A client that asks as a user, or as nobody.
    pub fn client(&self, user: Option<&User>) -> Client {
        let identity = user.map(|user| self.authority.client(user));
        Client::new(self.node.host(), ADDRESS, self.authority.certificate(), identity.as_ref())
    }

    /// Asks as an administrator; the body of the answer, which says yes.
    pub fn admin(&self, method: &str, url: &str, body: &Value) -> Result<Value, String> {
        let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let reply = self.client(Some(&User::admin())).ask(method, url, media, body)?;
        if reply.status < 300 { Ok(reply.body) } else { Err(format!("{method} {url}: {:#}", reply.body)) }
    }

    /// Lets a group do what a role says.
    pub fn bind(&self, name: &str, group: &str, role: &str) -> Result<(), String> {
        let api = "rbac.authorization.k8s.io";
        let body = json!({
            "apiVersion": format!("{api}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "subjects": [{"kind": "Group", "name": group, "apiGroup": api}],
            "roleRef": {"kind": "ClusterRole", "name": role, "apiGroup": api},
        });
        self.admin("POST", &format!("/apis/{api}/v1/clusterrolebindings"), &body).map(drop)
    }

    /// Writes a kubeconfig of a user.
    pub fn kubeconfig(&self, name: &str, user: &User) -> PathBuf {
        let path = self.dir.join(format!("{name}.kubeconfig"));
        let identity = self.authority.client(user);
        write_kubeconfig(&path, &format!("https://{ADDRESS}"), self.authority.certificate(), identity.as_user());
        path
    }

    /// The file with the authority's certificate.
    pub fn authority_file(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// The requests of a user since the audit log was so long, and how long it is now.
    pub fn audited(&self, user: &str, since: usize) -> Result<(Vec<Audited>, usize), String> {
        let path = self.dir.join("audit.log");
        let log = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        // A line may be half written.
        let end = log.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines = String::from_utf8_lossy(log.get(since..end).unwrap_or_default()).into_owned();
        Ok((lines.lines().filter_map(Audited::parse).filter(|it| it.user == user).collect(), end))
    }
}

impl Audited {
    /// A line of the log, if it is of a request for objects.
    fn parse(line: &str) -> Option<Self> {
        let event: Value = serde_json::from_str(line).ok()?;
        let of = &event["objectRef"];
        let resource = match of["subresource"].as_str() {
            Some(part) => format!("{}/{part}", of["resource"].as_str()?),
            None => of["resource"].as_str()?.to_owned(),
        };
        Some(Self { user: event["user"]["username"].as_str()?.into(), verb: event["verb"].as_str()?.into(), resource })
    }
}

#[cfg(test)]
mod tests {
    use super::Audited;

    #[test]
    fn a_line_of_the_audit_log_says_who_did_what_to_what() {
        let line = r#"{"verb":"patch","user":{"username":"system:node:n"},
            "objectRef":{"resource":"pods","namespace":"default","name":"web","subresource":"status"}}"#;
        let expected = Audited { user: "system:node:n".into(), verb: "patch".into(), resource: "pods/status".into() };
        assert_eq!(Audited::parse(line), Some(expected));
        assert_eq!(Audited::parse(r#"{"verb":"get","user":{"username":"n"},"requestURI":"/version"}"#), None);
        assert_eq!(Audited::parse("half a li"), None);
    }
}
