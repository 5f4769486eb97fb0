//! `coracle describe`

mod network;

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use hyper::Method;
use jiff::Timestamp;
use k8s_openapi::List;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateTerminated, ContainerStatus, Event, Pod, Service,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::events;
use crate::api::client::{Client, Options, pod};
use crate::cli::Global;
use crate::engine::plan::{init_of, spec_of};
use crate::printer::{Columns, Printer, Table};

/// Flags of `describe`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of object
    #[arg(
        value_name = "KIND",
        value_parser = ["pods", "pod", "po", "services", "service", "svc", "networkpolicies", "networkpolicy", "netpol"]
    )]
    kind: String,
    /// Names
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
}

/// Shows everything that matters about objects, for people.
pub fn main(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let client = Client::of(&global.state_dir);
    super::block_on(async {
        let mut printer = Printer::stdout();
        for (at, name) in args.names.iter().enumerate() {
            let shown = match args.kind.as_bytes() {
                [b's', ..] => of_service(&client, &args.namespace, name).await?,
                [b'n', ..] => of_policy(&client, &args.namespace, name).await?,
                _ => of_pod(&client, &args.namespace, name).await?,
            };
            if at > 0 {
                printer.line("\n")?;
            }
            printer.text(shown.as_bytes())?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn of_pod(client: &Client, namespace: &str, name: &str) -> anyhow::Result<String> {
    let shown: Pod = ask(client, &pod(namespace, name, "")).await?;
    let uid = shown.metadata.uid.as_deref().unwrap_or_default();
    let selector = format!("involvedObject.name={name},involvedObject.uid={uid}");
    let address = Options::default().with("fieldSelector", &selector);
    let address = address.of(&format!("/api/v1/namespaces/{namespace}/events"));
    let list = client.ask(Method::GET, &address, None).await?.object;
    Ok(text(&shown, &events::of_list(&list), Timestamp::now()))
}

async fn of_service(client: &Client, namespace: &str, name: &str) -> anyhow::Result<String> {
    let service: Service = ask(client, &format!("/api/v1/namespaces/{namespace}/services/{name}")).await?;
    let address = Options::default().with("labelSelector", &format!("kubernetes.io/service-name={name}"));
    let address = address.of(&format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"));
    let slices: List<EndpointSlice> = ask(client, &address).await?;
    Ok(network::service(&service, &slices.items))
}

async fn of_policy(client: &Client, namespace: &str, name: &str) -> anyhow::Result<String> {
    let address = format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/{name}");
    Ok(network::policy(&ask::<NetworkPolicy>(client, &address).await?))
}

async fn ask<T: serde::de::DeserializeOwned>(client: &Client, address: &str) -> anyhow::Result<T> {
    let object = client.ask(Method::GET, address, None).await?.object;
    serde_json::from_value(object).context("read the agent's answer")
}

/// Labels and the like, in one line.
fn pairs(pairs: Option<&BTreeMap<String, String>>) -> String {
    let pairs: Vec<String> = pairs.into_iter().flatten().map(|(name, value)| format!("{name}={value}")).collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(", ") }
}

/// Lines of names and values.
#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, depth: usize, name: &str, value: impl Display) {
        let name = format!("{}{name}:", "  ".repeat(depth));
        let line = format!("{name:<18} {value}");
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{}", line.trim_end());
    }

    fn some(&mut self, depth: usize, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.line(depth, name, value);
        }
    }
}

fn text(pod: &Pod, events: &[Event], now: Timestamp) -> String {
    let mut text = Text::default();
    let (meta, spec) = (&pod.metadata, spec_of(pod));
    let status = pod.status.clone().unwrap_or_default();
    text.some(0, "Name", meta.name.as_ref());
    text.some(0, "Namespace", meta.namespace.as_ref());
    text.some(0, "Node", spec.node_name.as_ref());
    text.some(0, "Start Time", status.start_time.as_ref().map(|time| time.0));
    text.line(0, "Labels", pairs(meta.labels.as_ref()));
    text.line(0, "Annotations", pairs(meta.annotations.as_ref()));
    text.line(0, "Status", Columns::of(pod, now).status);
    text.some(0, "Reason", status.reason.as_ref());
    text.some(0, "Message", status.message.as_ref());
    let ips: Vec<&str> = status.pod_ips.iter().flatten().map(|it| it.ip.as_str()).collect();
    text.line(0, "IPs", if ips.is_empty() { "<none>".into() } else { ips.join(", ") });
    for (heading, containers, statuses) in [
        ("Init Containers", init_of(spec), status.init_container_statuses.as_deref()),
        ("Containers", spec.containers.as_slice(), status.container_statuses.as_deref()),
    ] {
        if !containers.is_empty() {
            text.line(0, heading, "");
        }
        for container in containers {
            let status = statuses.unwrap_or_default().iter().find(|it| it.name == container.name);
            describe(&mut text, container, status);
        }
    }
    text.line(0, "Conditions", "");
    for condition in status.conditions.iter().flatten() {
        let why = [&condition.reason, &condition.message].into_iter().flatten().cloned().collect::<Vec<_>>().join(": ");
        text.line(1, &condition.type_, format!("{}   {why}", condition.status));
    }
    text.line(0, "QoS Class", status.qos_class.unwrap_or_default());
    if events.is_empty() {
        text.line(0, "Events", "<none>");
    } else {
        text.line(0, "Events", "");
        let mut table = Table::new(&["  TYPE", "REASON", "AGE", "MESSAGE"]);
        for event in events {
            let word = |word: &Option<String>| word.clone().unwrap_or_default();
            let kind = format!("  {}", word(&event.type_));
            table.row([kind, word(&event.reason), events::age(event), word(&event.message)]);
        }
        text.0.push_str(&table.render());
    }
    text.0
}

fn describe(text: &mut Text, container: &Container, status: Option<&ContainerStatus>) {
    text.line(1, &container.name, "");
    text.some(2, "Container ID", status.and_then(|it| it.container_id.as_ref()));
    text.some(2, "Image", container.image.as_ref());
    text.some(2, "Image ID", status.map(|it| &it.image_id).filter(|it| !it.is_empty()));
    let ports: Vec<String> = container.ports.iter().flatten().map(port).collect();
    text.some(2, "Ports", Some(ports.join(", ")).filter(|it| !it.is_empty()));
    text.some(2, "Command", container.command.as_ref().map(|it| it.join(" ")));
    text.some(2, "Args", container.args.as_ref().map(|it| it.join(" ")));
    if let Some(status) = status {
        state(text, "State", status.state.as_ref());
        state(text, "Last State", status.last_state.as_ref().filter(|it| **it != ContainerState::default()));
        text.line(2, "Ready", if status.ready { "True" } else { "False" });
        text.line(2, "Restart Count", status.restart_count);
    }
    let mounts: Vec<_> = container.volume_mounts.iter().flatten().map(|it| (&it.mount_path, &it.name)).collect();
    for (path, volume) in mounts {
        text.line(2, "Mount", format!("{path} from {volume}"));
    }
}

fn port(port: &k8s_openapi::api::core::v1::ContainerPort) -> String {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match port.host_port {
        Some(host) => format!("{}/{protocol} as {host} of the host", port.container_port),
        None => format!("{}/{protocol}", port.container_port),
    }
}

fn state(text: &mut Text, heading: &str, state: Option<&ContainerState>) {
    let Some(state) = state else { return };
    if let Some(running) = &state.running {
        text.line(2, heading, "Running");
        text.some(3, "Started", running.started_at.as_ref().map(|it| it.0));
    } else if let Some(waiting) = &state.waiting {
        text.line(2, heading, "Waiting");
        text.some(3, "Reason", waiting.reason.as_ref());
        text.some(3, "Message", waiting.message.as_ref());
    } else if let Some(ended) = &state.terminated {
        text.line(2, heading, "Terminated");
        terminated(text, ended);
    }
}

fn terminated(text: &mut Text, ended: &ContainerStateTerminated) {
    text.some(3, "Reason", ended.reason.as_ref());
    text.some(3, "Message", ended.message.as_ref());
    text.line(3, "Exit Code", ended.exit_code);
    text.some(3, "Started", ended.started_at.as_ref().map(|it| it.0));
    text.some(3, "Finished", ended.finished_at.as_ref().map(|it| it.0));
}
