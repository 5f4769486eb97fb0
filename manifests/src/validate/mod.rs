//! What the API server would refuse, found on the typed objects and pointed at in the text.
//!
//! Every check sees a whole object, whose wrong parts are empty: what is already reported is not reported again.

mod ambassador;
mod claim;
mod config;
mod container;
mod env;
mod links;
mod meta;
pub(crate) mod names;
mod network;
mod pod;
mod policy;
mod probe;
mod projected;
mod resources;
mod restart;
mod security;
mod selector;
mod service;
mod volume;

pub use self::resources::is_extended as is_extended_resource;
use crate::Object;
use crate::diagnostic::Severity;
use crate::path::Path;
use crate::report::Report;
use crate::yaml::Node;

/// Validates an object whose fields stand below `path` in `root`.
pub(crate) fn object(object: &Object, root: &Node, path: &Path, report: &mut Report<'_>) {
    let mut context = Context { root, report };
    meta::validate(&mut context, &path.field("metadata"), object);
    match object {
        Object::Pod(pod) => pod::validate(&mut context, path, pod),
        Object::ConfigMap(map) => config::config_map(&mut context, path, map),
        Object::Secret(secret) => config::secret(&mut context, path, secret),
        Object::PersistentVolumeClaim(claim) => claim::validate(&mut context, path, claim),
        Object::Service(service) => service::validate(&mut context, path, service),
        Object::NetworkPolicy(policy) => policy::validate(&mut context, path, policy),
        Object::Network(it) => network::validate(&mut context, path, it),
        Object::Ambassador(it) => ambassador::validate(&mut context, path, it),
    }
}

/// Finds places for what the checks have to say.
struct Context<'a, 'r> {
    root: &'a Node,
    report: &'a mut Report<'r>,
}

impl Context<'_, '_> {
    fn error(&mut self, path: &Path, message: impl Into<String>) {
        self.add(Severity::Error, false, path, message.into(), None);
    }

    fn error_help(&mut self, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Error, false, path, message.into(), Some(help.into()));
    }

    /// About the key, not about its value.
    fn key_error(&mut self, path: &Path, message: impl Into<String>, help: Option<String>) {
        self.add(Severity::Error, true, path, message.into(), help);
    }

    fn key_warning(&mut self, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Warning, true, path, message.into(), Some(help.into()));
    }

    fn missing(&mut self, parent: &Path, name: &str) {
        self.error(&parent.field(name), format!("`{name}` is missing"));
    }

    /// Reports a broken rule about a name.
    fn check(&mut self, path: &Path, checked: Result<(), names::Broken>) {
        if let Err(broken) = checked {
            self.add(Severity::Error, false, path, broken.message, broken.help);
        }
    }

    /// The same, of a key.
    fn check_key(&mut self, path: &Path, checked: Result<(), names::Broken>) {
        if let Err(broken) = checked {
            self.add(Severity::Error, true, path, broken.message, broken.help);
        }
    }

    fn at_least(&mut self, path: &Path, value: Option<i64>, least: i64) {
        if let Some(value) = value.filter(|value| *value < least) {
            self.error(path, format!("`{value}` is less than {least}"));
        }
    }

    fn within(&mut self, path: &Path, value: Option<i64>, least: i64, most: i64) {
        if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
            self.error(path, format!("`{value}` is not between {least} and {most}"));
        }
    }

    fn add(&mut self, severity: Severity, key: bool, path: &Path, message: String, help: Option<String>) {
        if self.report.is_settled(path) {
            return;
        }
        let (value, at_key) = path.locate(self.root);
        let at = if key { at_key.unwrap_or(value) } else { value };
        self.report.add(severity, at, path, message, help);
    }
}
