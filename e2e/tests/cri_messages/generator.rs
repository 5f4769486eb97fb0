//! Messages from the descriptors, by chance.

use std::collections::{BTreeSet, HashMap};

use e2e::random::Random;
use e2e::{BUSYBOX, Node};
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// A unary call.
#[derive(Clone)]
pub struct Method {
    /// `/runtime.v1.Service/Method`
    pub path: String,
    /// The message that it takes.
    input: String,
}

/// Draws messages.
pub struct Generator {
    random: Random,
    methods: Vec<Method>,
    messages: HashMap<String, DescriptorProto>,
    /// Ids that exist.
    pub pods: Vec<String>,
    /// Ids that exist.
    pub containers: Vec<String>,
    /// Paths of the node's: a directory, a file, one that is not there.
    paths: Vec<String>,
    logs: String,
    cgroup: String,
}

impl Generator {
    pub fn new(random: Random, node: &Node) -> Self {
        let set = FileDescriptorSet::decode(cri_proto::DESCRIPTORS).expect("the build wrote a descriptor set");
        let file = set.file.into_iter().find(|file| file.package() == "runtime.v1").expect("package runtime.v1");
        let mut messages = HashMap::new();
        for message in &file.message_type {
            let name = format!(".runtime.v1.{}", message.name());
            for nested in &message.nested_type {
                messages.insert(format!("{name}.{}", nested.name()), nested.clone());
            }
            messages.insert(name, message.clone());
        }
        let mut methods = Vec::new();
        for service in &file.service {
            let unary = service.method.iter().filter(|method| !method.server_streaming());
            methods.extend(unary.map(|method| Method {
                path: format!("/runtime.v1.{}/{}", service.name(), method.name()),
                input: method.input_type().to_owned(),
            }));
        }
        let dir = node.make_dir("fuzz/a/b");
        std::fs::write(dir.join("file"), "{}").expect("the directory is ours");
        let path = |name: &str| dir.join(name).display().to_string();
        Self {
            random,
            methods,
            messages,
            pods: Vec::new(),
            containers: Vec::new(),
            paths: vec![path("."), path("file"), path("none"), path("none/x"), String::new()],
            logs: node.make_dir("fuzz/logs/a/b").display().to_string(),
            cgroup: node.cgroup_root.clone(),
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.random.number() % limit.max(1) as u64) as usize
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let index = self.below(from.len());
        from[index].clone()
    }

    /// A call; those that make something come more often.
    pub fn method(&mut self) -> Method {
        let methods = self.methods.clone();
        if self.one_in(2) {
            let makers = ["/RunPodSandbox", "/CreateContainer", "/StartContainer", "/ExecSync"];
            let maker = self.pick(&makers);
            return methods.into_iter().find(|it| it.path.ends_with(maker)).expect("it is a method");
        }
        self.pick(&methods)
    }

    /// A message for a call; now and then bytes that are none.
    pub fn request(&mut self, method: &Method) -> Vec<u8> {
        if self.one_in(40) {
            return (0..self.below(200)).map(|_| self.random.number() as u8).collect();
        }
        let input = method.input.clone();
        self.message(&input, 0)
    }

    fn message(&mut self, name: &str, depth: usize) -> Vec<u8> {
        let fields = self.messages.get(name).map(|it| it.field.clone()).unwrap_or_default();
        let of = name.rsplit('.').next().unwrap_or_default().to_owned();
        let mut out = Vec::new();
        for field in fields {
            // Whole requests are as likely as torn ones.
            let likely =
                matches!(field.name(), "config" | "metadata" | "image" | "name" | "uid" | "namespace" | "command");
            if self.one_in(if likely { 12 } else { 2 }) || depth > 7 {
                continue;
            }
            let count = match field.label() {
                Label::Repeated if self.one_in(60) => 200,
                Label::Repeated => self.below(4),
                _ => 1,
            };
            for _ in 0..count {
                self.field(&of, &field, depth, &mut out);
            }
        }
        out
    }

    fn field(&mut self, message: &str, field: &FieldDescriptorProto, depth: usize, out: &mut Vec<u8>) {
        let number = field.number() as u64;
        match field.r#type() {
            Type::String | Type::Bytes => {
                let text = self.text(message, field.name());
                bytes(number, text.as_bytes(), out);
            }
            Type::Message => {
                let inner = self.message(field.type_name(), depth + 1);
                bytes(number, &inner, out);
            }
            Type::Double => {
                varint(number << 3 | 1, out);
                out.extend_from_slice(&self.random.number().to_le_bytes());
            }
            kind => {
                let value = self.number(message, field.name(), kind);
                varint(number << 3, out);
                varint(value as u64, out);
            }
        }
    }

    /// A text for a field: what reaches the machine is the node's, what is an id often exists, the rest is anything.
    fn text(&mut self, message: &str, field: &str) -> String {
        match field {
            "host_path" if message == "Device" => self.pick(&["/dev/null", "/dev/zero", "/dev/none", ""]).to_owned(),
            "host_path" | "localhost_ref" | "seccomp_profile_path" | "location" | "output_path" | "checkpoint_path" => {
                let paths = self.paths.clone();
                self.pick(&paths)
            }
            "log_directory" => self.logs.clone(),
            "log_path" => self.pick(&["c.log", "d/c.log", "../c.log", "", "."]).to_owned(),
            "cgroup_parent" => {
                let below = self.pick(&["", "/", "/x", "/x/y", "/x.slice", "/-.slice", "/x/../y", "//x"]);
                if self.one_in(3) { String::new() } else { format!("/{}{below}", self.cgroup) }
            }
            // Keys of sysctls and of cgroup files, and their values.
            "key" if matches!(message, "SysctlsEntry" | "UnifiedEntry") => {
                let keys = ["net.ipv4.ip_unprivileged_port_start", "memory.high", "no.such", "../x", "a/b", "", "."];
                self.pick(&keys).to_owned()
            }
            "value" if matches!(message, "SysctlsEntry" | "UnifiedEntry") => {
                self.pick(&["1", "0", "max", "", "-1", "x", "99999999999999999999"]).to_owned()
            }
            "container_id" | "container_ids" | "target_id" => {
                let ids = self.containers.clone();
                self.id(&ids)
            }
            "pod_sandbox_id" => {
                let ids = self.pods.clone();
                self.id(&ids)
            }
            "image" | "user_specified_image" | "image_ref" => self
                .pick(&[BUSYBOX, BUSYBOX, BUSYBOX, "127.0.0.1:1/a:b", "", "A B", "sha256:0", "::", "a@b"])
                .to_owned(),
            // What runs is harmless whatever it may do, and ends by itself.
            "command" | "cmd" | "args" => {
                self.pick(&["true", "sleep", "1", "echo", "/no/such", "", "false", "a\0b", "\u{fffd}"]).to_owned()
            }
            "page_size" => self.pick(&["2MB", "1GB", "", "2 MB", "../x"]).to_owned(),
            "pod_cidr" => {
                self.pick(&["10.222.0.0/24", "", "10.222.0.0/33", "fd00::/64", "x", "10.222.0.0/24,x"]).to_owned()
            }
            "runtime_handler" if !self.one_in(10) => String::new(),
            _ => self.any_text(),
        }
    }

    /// One that exists, the beginning of one, or none.
    fn id(&mut self, ids: &[String]) -> String {
        if ids.is_empty() || self.one_in(8) {
            return self.pick(&["", "x", "../..", "0", &"f".repeat(64), &"f".repeat(300)]).to_owned();
        }
        let id = self.pick(ids);
        if self.one_in(10) { id[..self.below(id.len())].to_owned() } else { id }
    }

    fn any_text(&mut self) -> String {
        let kinds = 12;
        match self.below(kinds) {
            0 => String::new(),
            1 => "x".repeat(self.below(300)),
            2 if self.one_in(10) => "y".repeat(1 << 20),
            3 => self
                .pick(&["..", ".", "/", "a/b", "../x", "a\nb", "a\0b", " ", "-", "--help", "%s%n", "${x}"])
                .to_owned(),
            4 => self.pick(&["\u{202e}x", "\u{0}", "é", "\u{10ffff}", "\r\n", "\t", "\"", "'", "\\"]).to_owned(),
            5 => self.pick(&["0", "-1", "1", "65536", "0-3", "0,1", "9999", "1e9", "0x10"]).to_owned(),
            6 => self.pick(&["10.0.0.1", "::1", "999.0.0.1", "localhost", "10.0.0.0/8"]).to_owned(),
            7 => self
                .pick(&["ALL", "CAP_SYS_ADMIN", "NET_RAW", "no_such", "root", "nobody", "ro", "rslave", "noexec"])
                .to_owned(),
            _ => format!("name-{}", self.below(1000)),
        }
    }

    fn number(&mut self, message: &str, field: &str, kind: Type) -> i64 {
        match (message, field) {
            // It would have the machine itself.
            (_, "privileged") => 0,
            // What waits for long would wait as it is told to.
            ("StopContainerRequest" | "ExecSyncRequest" | "CheckpointContainerRequest", "timeout") => {
                self.pick(&[i64::MIN, -1, 0, 1, 2])
            }
            _ if kind == Type::Bool => self.below(2) as i64,
            _ if kind == Type::Enum => self.pick(&[0, 0, 1, 1, 2, 3, 15, 65, 77, -1, i64::from(i32::MAX)]),
            _ => {
                let any = self.random.number() as i64;
                let small = self.below(70_000) as i64;
                let extremes =
                    [0, 1, -1, 2, 1000, small, any, i64::MIN, i64::MAX, i64::from(i32::MAX), i64::from(u32::MAX)];
                self.pick(&extremes)
            }
        }
    }

    /// Whether a text speaks of a field that the request has, at any depth, with its underscores or with blanks.
    pub fn names_a_field(&self, method: &Method, text: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut names = BTreeSet::new();
        self.collect(&method.input, &mut seen, &mut names);
        let text = text.to_lowercase().replace([' ', '-'], "_");
        names.iter().any(|name| text.contains(name.trim_end_matches('s')))
    }

    fn collect(&self, message: &str, seen: &mut BTreeSet<String>, names: &mut BTreeSet<String>) {
        if !seen.insert(message.to_owned()) {
            return;
        }
        for field in self.messages.get(message).iter().flat_map(|it| &it.field) {
            names.insert(field.name().to_lowercase());
            if field.r#type() == Type::Message {
                self.collect(field.type_name(), seen, names);
            }
        }
    }
}

/// A field of bytes: its tag, its length, itself.
fn bytes(number: u64, value: &[u8], out: &mut Vec<u8>) {
    varint(number << 3 | 2, out);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// A number as protobuf writes it.
fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
