//! Makes the recordings anew, from a real server that is started for it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::apiserver::{Authority, Client, User};
use e2e::{Node, Run, deadline};

use super::recording::{Recording, users};

const BINDING: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: NAME}
subjects: [{kind: Group, name: 'GROUP', apiGroup: rbac.authorization.k8s.io}]
roleRef: {kind: ClusterRole, name: 'ROLE', apiGroup: rbac.authorization.k8s.io}
";

/// A real API server with its storage and the controllers that sign, and nothing else that would write.
struct Real {
    node: Node,
    address: SocketAddr,
    authority: Authority,
    _runs: Vec<Run>,
}

impl Real {
    /// Starts it from a directory that has `etcd`, `kube-apiserver` and `kube-controller-manager`.
    fn start(programs: &Path) -> Self {
        let node = Node::new();
        let dir = node.make_dir("real");
        let file = |name: &str| dir.join(name);
        let authority = Authority::new();
        let loopback = Ipv4Addr::LOCALHOST;
        let server = authority.server(&[loopback.into()]);
        let admin = authority.client(&User::admin());
        let key = rcgen::KeyPair::generate().unwrap();
        let all = [
            ("ca.crt", authority.certificate()),
            ("ca.key", &authority.key()),
            ("server.crt", &server.certificate),
            ("server.key", &server.key),
            ("sa.key", &key.serialize_pem()),
            ("sa.pub", &key.public_key_pem()),
        ];
        all.iter().for_each(|(name, text)| std::fs::write(file(name), text).unwrap());
        e2e::apiserver::write_kubeconfig(
            &file("admin.kubeconfig"),
            "https://127.0.0.1:6443",
            authority.certificate(),
            admin.as_user(),
        );
        let start = |program: &str, args: &[String]| {
            let mut command = Command::new(programs.join(program));
            command.args(args).current_dir(&dir);
            Run::start(&mut node.host().command(command), None)
        };
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let etcd = start("etcd", &words("--data-dir etcd --listen-peer-urls http://127.0.0.1:2380"));
        let api = start("kube-apiserver", &words(APISERVER));
        let address = SocketAddr::new(loopback.into(), 6443);
        let mut real = Self { node, address, authority, _runs: vec![etcd, api] };
        real.wait();
        let controllers = Command::new(programs.join("kube-controller-manager"));
        let mut controllers = real.node.host().command(controllers);
        for word in words(CONTROLLERS) {
            controllers.arg(if word.contains('.') && !word.starts_with("--") { file(&word) } else { word.into() });
        }
        real._runs.push(Run::start(&mut controllers, None));
        real
    }

    fn client(&self, user: Option<&User>) -> Client {
        let identity = user.map(|user| self.authority.client(user));
        Client::new(self.node.host(), self.address, self.authority.certificate(), identity.as_ref())
    }

    fn wait(&self) {
        // The last of what the server makes at its start.
        self.wait_for(&self.client(Some(&User::admin())), "/api/v1/namespaces/kube-node-lease");
    }

    fn wait_for(&self, client: &Client, url: &str) {
        let end = Instant::now() + deadline();
        while !client.ask("GET", url, "", &serde_json::Value::Null).is_ok_and(|it| it.status == 200) {
            assert!(Instant::now() < end, "the real server never answers");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Lets a group do what a role says.
    fn bind(&self, name: &str, group: &str, role: &str) {
        let text = BINDING.replace("NAME", name).replace("GROUP", group).replace("ROLE", role);
        let body: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        let url = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
        let reply = self.client(Some(&User::admin())).ask("POST", url, "application/json", &body).unwrap();
        assert_eq!(reply.status, 201, "{:#}", reply.body);
    }
}

const APISERVER: &str = "--etcd-servers http://127.0.0.1:2379 --secure-port 6443 --bind-address 127.0.0.1 \
    --advertise-address 127.0.0.1 --endpoint-reconciler-type none --tls-cert-file server.crt \
    --tls-private-key-file server.key --client-ca-file ca.crt --service-cluster-ip-range 10.254.0.0/16 \
    --service-account-key-file sa.pub --service-account-signing-key-file sa.key \
    --service-account-issuer https://kubernetes.default --authorization-mode Node,RBAC \
    --enable-admission-plugins NodeRestriction --disable-admission-plugins ServiceAccount --allow-privileged";

const CONTROLLERS: &str = "--kubeconfig admin.kubeconfig --cluster-signing-cert-file ca.crt \
    --cluster-signing-key-file ca.key --leader-elect=false --bind-address=127.0.0.1 --secure-port=0 \
    --controllers=csrsigning,csrapproving";

/// `CORACLE_KUBERNETES=DIR cargo test --test apiserver -- --ignored record`
#[test]
#[ignore = "makes files of the tree anew; needs the programs of a control plane"]
fn record() {
    let programs = PathBuf::from(std::env::var_os("CORACLE_KUBERNETES").expect("CORACLE_KUBERNETES names a directory"));
    let real = Real::start(&programs);
    real.bind("nodes-bootstrap", "system:bootstrappers", "system:node-bootstrapper");
    let approving = "system:certificates.k8s.io:certificatesigningrequests:nodeclient";
    real.bind("nodes-approve", "system:bootstrappers", approving);
    let approving = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient";
    real.bind("nodes-renew", "system:nodes", approving);
    let clients: BTreeMap<&str, Client> =
        users().iter().map(|(name, user)| (*name, real.client(user.as_ref()))).collect();
    real.wait_for(&clients["bootstrap"], "/apis/certificates.k8s.io/v1/certificatesigningrequests");
    let version = clients["admin"].ask("GET", "/version", "", &serde_json::Value::Null).unwrap().body;
    for (file, recording) in Recording::all() {
        println!("{}", file.display());
        let mut again = recording.again(&clients);
        version["gitVersion"].as_str().unwrap().clone_into(&mut again.kubernetes);
        again.write(&file);
    }
}
