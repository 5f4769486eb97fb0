//! A real server from Debian's package, saved by the tools that people save images with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::netns::{HOST, Host};
use e2e::pods::ips;
use e2e::{Node, Run, debian, fixtures, loopfs, need};
use rustix::process::Signal;

const REFERENCE: &str = "coracle.test/nginx:1";

/// The node's host has ports of its own: this one is free.
const PORT: u16 = fixtures::NGINX_PORT;

/// Where it is published.
const PUBLISHED: u16 = 8000;

/// A directory with busybox, nginx and a Dockerfile.
fn context(node: &Node) -> Result<PathBuf, String> {
    let context = node.make_dir("context");
    let root = node.make_dir("context/root");
    fixtures::busybox_root(&root)?;
    fixtures::nginx_root(&root, PORT)?;
    let dockerfile = "FROM scratch\nCOPY root /\nENV PATH=/usr/sbin:/usr/bin:/sbin:/bin\n\
        CMD [\"nginx\", \"-g\", \"daemon off;\"]\n";
    std::fs::write(context.join("Dockerfile"), dockerfile).expect("a file");
    Ok(context)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("an ASCII path")
}

/// Podman with a store of the test's own.
struct Podman {
    program: PathBuf,
    store: PathBuf,
}

impl Podman {
    fn new(node: &Node) -> Result<Self, String> {
        e2e::skip::root()?;
        Ok(Self { program: debian::program("podman", "podman")?, store: node.make_dir("podman") })
    }

    fn run(&self, args: &[&str]) -> Result<(), String> {
        let store = text(&self.store);
        let (root, run) = (format!("{store}/root"), format!("{store}/run"));
        let flags = ["--root", &root, "--runroot", &run, "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"];
        loopfs::tool(text(&self.program), &[&flags[..], args].concat())
    }

    fn build(&self, context: &Path) -> Result<(), String> {
        self.run(&["build", "--isolation=chroot", "-q", "--format", "oci", "-t", REFERENCE, text(context)])
    }
}

/// A manifest for an image of nginx with these lines in its spec and its port so written.
fn manifest(image: &str, spec: &str, port: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n{spec}  terminationGracePeriodSeconds: 5\n  \
         containers:\n  - name: nginx\n    image: {image}\n    ports: [{{containerPort: {PORT}{port}}}]\n"
    )
}

/// Fetches nginx' page, which may take a moment to be there.
#[track_caller]
fn fetch(from: &Host, address: impl Into<IpAddr>, port: u16) {
    let url = format!("http://{}/", SocketAddr::new(address.into(), port));
    let mut curl = Command::new("curl");
    curl.args(["-gsS", "--fail", "--retry", "20", "--retry-connrefused", "--retry-delay", "1", &url]);
    from.run(curl).exits(0).says("Welcome to nginx!");
}

fn end(node: &Node, mut run: Run) {
    run.wait_for("GET / HTTP/1.1");
    run.signal(Signal::INT);
    run.wait();
    node.assert_nothing_left();
}

#[test]
fn nginx_saved_by_podman_as_oci_archive_serves_its_page_on_the_host_network() {
    let node = Node::new();
    let podman = need!(Podman::new(&node));
    need!(debian::program("curl", "curl"));
    need!(podman.build(&need!(context(&node))));
    let archive = node.dir().join("nginx.tar");
    need!(podman.run(&["save", "-q", "--format", "oci-archive", "-o", text(&archive), REFERENCE]));
    node.import(&archive);
    let run = node.run(manifest(REFERENCE, "  hostNetwork: true\n", ""));
    node.wait_for_phase("web", "Running");
    fetch(node.host(), Ipv4Addr::LOCALHOST, PORT);
    end(&node, run);
}

#[test]
fn nginx_saved_by_podman_as_docker_archive_serves_its_page_at_its_address_and_a_port_of_the_host() {
    let node = Node::new();
    let podman = need!(Podman::new(&node));
    need!(debian::program("curl", "curl"));
    need!(podman.build(&need!(context(&node))));
    let archive = node.dir().join("nginx.tar");
    need!(podman.run(&["save", "-q", "--format", "docker-archive", "-o", text(&archive), REFERENCE]));
    node.import(&archive);
    let outside = node.outside();
    let run = node.run(manifest(REFERENCE, "", &format!(", hostPort: {PUBLISHED}")));
    let ips = ips(&node.wait_for_phase("web", "Running"));
    for (family, ip) in ips.iter().enumerate() {
        fetch(node.host(), *ip, PORT);
        fetch(node.host(), HOST[family], PUBLISHED);
        fetch(node.host(), [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()][family], PUBLISHED);
        fetch(outside, HOST[family], PUBLISHED);
    }
    end(&node, run);
}

#[test]
fn nginx_from_an_archive_of_our_own_serves_its_page_on_the_host_network() {
    let node = Node::new();
    need!(e2e::skip::root());
    need!(debian::program("curl", "curl"));
    node.import(&need!(fixtures::nginx(PORT)));
    let run = node.run(manifest(fixtures::NGINX, "  hostNetwork: true\n", ""));
    node.wait_for_phase("web", "Running");
    fetch(node.host(), Ipv4Addr::LOCALHOST, PORT);
    end(&node, run);
}

#[test]
fn an_archive_that_skopeo_recompressed_with_zstd_imports_and_runs() {
    let node = need!(Node::with_busybox());
    let skopeo = need!(debian::program("skopeo", "skopeo"));
    let archive = need!(fixtures::busybox());
    let copy = node.dir().join("zstd.tar");
    let (from, to) =
        (format!("oci-archive:{}", text(&archive)), format!("oci-archive:{}:coracle.test/zstd:1", text(&copy)));
    let flags = ["--insecure-policy", "copy", "--dest-compress-format", "zstd", "--dest-compress", &from, &to];
    need!(loopfs::tool(text(&skopeo), &flags));
    node.import(&copy);
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: z}\nspec:\n  restartPolicy: Never\n  containers:\n  \
        - {name: c, image: 'coracle.test/zstd:1', command: [echo, unpacked]}\n";
    node.run_to_end(pod).exits(0).says("z/c | unpacked");
}
