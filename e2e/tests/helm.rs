//! A chart, made manifests of by a real helm and applied by a real kubectl, on a node of a cluster.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use e2e::agent::{Agent, condition};
use e2e::apiserver::{ApiServer, Controllers};
use e2e::helm::Helm;
use e2e::inspect::wait_until;
use e2e::kubectl::Kubectl;
use e2e::manifest::with;
use e2e::registry::{DockerRegistry, PASSWORD, USER};
use e2e::{Finished, Node, Run, fixtures, need, patience, traffic};
use serde_json::{Value, json};

/// The node's name.
const NAME: &str = "worker";

/// Where the pods of the chart's site listen.
const PORT: u16 = 8080;

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/web")
}

/// A cluster of one node, and who works on it.
struct World<'n> {
    node: &'n Node,
    helm: Helm,
    kubectl: Kubectl,
    values: Value,
    /// The volume of the chart's journal.
    data: PathBuf,
    server: ApiServer,
    agent: Agent<'n>,
    _controllers: Controllers,
    _registry: DockerRegistry,
}

impl<'n> World<'n> {
    fn start(node: &'n Node) -> Result<Self, String> {
        let (helm, kubectl) = (Helm::find()?, Kubectl::websocket()?);
        let registry = DockerRegistry::with_auth(node)?;
        registry.push(node, &fixtures::busybox()?, "web/busybox:1")?;
        let data = node.make_dir("data");
        let values = json!({
            "image": {"registry": registry.host}, "imageCredentials": {"username": USER, "password": PASSWORD},
            "secret": {"token": "hunter2"}, "persistence": {"local": {"path": data, "node": NAME}},
        });
        let server = ApiServer::start(node);
        let kubeconfig = server.kubeconfig_of_node(NAME);
        let ca = server.authority_file();
        let args = ["--hostname-override", NAME, "--node-ip", "127.0.0.1", "--kubeconfig"].map(Into::into);
        let agent = Agent::start_with(node, args.into_iter().chain([kubeconfig, "--client-ca-file".into(), ca]));
        let _controllers = Controllers::start(&server, NAME);
        Ok(Self { node, helm, kubectl, values, data, server, agent, _controllers, _registry: registry })
    }

    /// The chart's manifests, with more values.
    fn manifests(&self, more: Value) -> String {
        self.helm.template(self.node, "web", &chart(), &with(self.values.clone(), more))
    }

    /// A kubectl that reads.
    #[track_caller]
    fn kubectl(&self, args: &[&str], input: &str) -> Finished {
        let mut command = self.kubectl.command(self.node, &self.server.kubeconfig_of_admin(), args);
        Run::start(&mut command, Some(input.as_bytes())).wait().exits(0)
    }

    /// Waits until the site's pods are those of the Deployment as it is now.
    #[track_caller]
    fn rolled_out(&self) {
        let timeout = format!("--timeout={}s", patience(std::time::Duration::from_secs(50)).as_secs());
        self.kubectl(&["rollout", "status", "deployment/web", &timeout], "").says("successfully rolled out");
    }

    /// The site's pods, without those that end.
    fn site(&self) -> Vec<Value> {
        let mut pods = self.server.list("pods");
        pods.retain(|pod| {
            let meta = &pod["metadata"];
            meta["labels"]["app.kubernetes.io/component"] == "site" && meta["deletionTimestamp"].is_null()
        });
        pods
    }

    /// Lines that the pods' hooks have written.
    fn journal(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.data.join("journal")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// That a pod of the site is well, serves what the chart says, and has what it refers to.
    #[track_caller]
    fn check(&self, pod: &Value, message: &str) {
        assert_eq!(condition(pod, "Ready"), Some(true), "{pod:#}");
        assert_eq!(pod["status"]["containerStatuses"][0]["started"], true, "{pod:#}");
        let address = SocketAddr::new(pod["status"]["podIP"].as_str().unwrap().parse().unwrap(), PORT);
        let page = traffic::get(self.node.host(), address).unwrap();
        assert_eq!(page, format!("<h1>{message}</h1>\n"));
        let name = pod["metadata"]["name"].as_str().unwrap();
        let script = "echo $MESSAGE,$TOKEN,$POD_NAME,$WEB_SERVICE_PORT_HTTP; cat /secret/token; echo; id -u; touch /no";
        let seen = self.kubectl(&["exec", name, "--", "sh", "-c", &format!("{script} 2>&1; true")], "");
        let said = seen.stdout();
        assert!(said.starts_with(&format!("{message},hunter2,{name},80\nhunter2\n1000\n")), "{seen}");
        assert!(said.contains("Read-only file system"), "{seen}");
        assert!(self.journal().contains(&format!("started {name}")), "{:?}", self.journal());
        self.kubectl(&["logs", name], "").says("200");
    }
}

#[test]
fn a_chart_is_applied_serves_is_upgraded_and_leaves_nothing() {
    let node = Node::new();
    let mut world = need!(World::start(&node));
    world.helm.lint(&node, &chart(), &world.values);

    let manifests = world.manifests(json!({}));
    let applied = world.kubectl(&["apply", "-f", "-"], &manifests);
    for object in ["serviceaccount/web", "secret/web-registry", "persistentvolumeclaim/web", "job.batch/web-setup"] {
        assert!(applied.stdout().contains(&format!("{object} created")), "{applied}");
    }
    world.rolled_out();
    world.kubectl(&["wait", "--for=condition=complete", "job/web-setup"], "");
    assert_eq!(std::fs::read_to_string(world.data.join("setup")).unwrap(), "Hello from the chart. hunter2\n");
    let before = world.site();
    assert_eq!(before.len(), 2);
    before.iter().for_each(|pod| world.check(pod, "Hello from the chart."));

    // Other settings are other pods; the same settings are nothing.
    let upgraded = world.manifests(json!({"message": "Hello again.", "replicaCount": 3}));
    world
        .kubectl(&["apply", "-f", "-"], &upgraded)
        .says("deployment.apps/web configured")
        .says("job.batch/web-setup unchanged");
    world.rolled_out();
    let old = |pod: &Value| before.iter().any(|it| it["metadata"]["uid"] == pod["metadata"]["uid"]);
    wait_until("new pods alone", || world.site().len() == 3 && !world.site().iter().any(old));
    world.site().iter().for_each(|pod| world.check(pod, "Hello again."));
    let all = [before, world.site()].concat();

    world.kubectl(&["delete", "-f", "-"], &upgraded);
    wait_until("no pods", || world.server.list("pods").is_empty());
    for pod in &all {
        let line = format!("stops {}", pod["metadata"]["name"].as_str().unwrap());
        assert!(world.journal().contains(&line), "{line:?} is not in {:?}", world.journal());
    }
    world.agent.stop_with_nothing_left();
}

/// What a machine without a cluster makes of the same manifests: nobody makes pods of templates there, and that is said.
#[test]
fn without_a_cluster_a_chart_is_read_and_what_nobody_acts_upon_is_named() {
    let (node, helm) = (Node::new(), need!(Helm::find()));
    let manifests = helm.template(&node, "web", &chart(), &json!({}));
    let validated = node.coracle(["validate".into(), node.manifest(manifests)]).exits(0);
    let said = validated.text();
    let left_out: Vec<&str> =
        said.lines().filter_map(|line| line.strip_prefix("warning: kind: ")?.split_once(' ')).map(|it| it.0).collect();
    assert_eq!(left_out, ["ServiceAccount", "Deployment", "Job"], "{validated}");
    validated.says("1 file, 4 objects: 0 errors");
}
