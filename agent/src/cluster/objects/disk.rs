//! What was last known of objects, on disk, beside the desired state: `ROOT/desired/objects/DIGEST.json`, one an object or a
//! token, and `ROOT/desired/services.json`. Secrets and tokens lie in there: nobody but root reads them.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtime::store::{self, Durability};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::references::Reference;
use super::state::{Item, TokenKey};
use crate::engine::config::objects::Token;
use crate::net::services::OfCluster;
use crate::node::desired::disk::{self as desired, discard};

/// The version of the records.
const VERSION: u32 = 1;

/// The file of the cluster's Services.
const SERVICES: &str = "services.json";

/// The records below one root directory.
#[derive(Clone, Debug)]
pub struct Disk {
    desired: PathBuf,
    directory: PathBuf,
}

/// A record as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    key: Key,
    content: Value,
}

/// What a record holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// An object.
    Object(Item),
    /// A token.
    Token(Token),
    /// There is none.
    Nothing,
}

impl From<Item> for Content {
    fn from(item: Item) -> Self {
        Content::Object(item)
    }
}

/// What was known.
#[derive(Debug, Default)]
pub struct Recalled {
    /// Objects.
    pub objects: Vec<(Reference, Item)>,
    /// Tokens.
    pub tokens: Vec<(TokenKey, Token)>,
    /// Services, if they were ever listed.
    pub services: Option<OfCluster>,
}

/// What a record is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Key {
    /// An object.
    Object(Reference),
    /// A token.
    Token(TokenKey),
}

impl Disk {
    /// Makes the directory.
    pub fn open(root: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let desired = desired::directory(root);
        let directory = desired.join("objects");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        store::sweep_temporaries(&directory)?;
        Ok(Disk { desired, directory })
    }

    /// Everything that is recorded. A record that cannot be read is as good as none: the object is asked for again.
    pub fn load(&self) -> io::Result<Recalled> {
        let mut recalled = Recalled::default();
        let services = self.desired.join(SERVICES);
        match store::read_json::<Vec<_>>(&services) {
            Ok(services) => recalled.services = services.map(|services| services.into_iter().collect()),
            Err(error) => tell(&services, &error),
        }
        for entry in std::fs::read_dir(&self.directory)? {
            let path = entry?.path();
            recalled.read(&path).unwrap_or_else(|error| tell(&path, &error));
        }
        Ok(recalled)
    }

    /// Writes a record, or removes it. The answer is what is to be synced.
    pub fn write(&self, key: &Key, content: &Content) -> io::Result<Option<PathBuf>> {
        let content = match content {
            Content::Object(Item::ConfigMap(map)) => serde_json::to_value(&**map),
            Content::Object(Item::Secret(secret)) => serde_json::to_value(&**secret),
            Content::Object(Item::Claim(claim)) => serde_json::to_value(&**claim),
            Content::Object(Item::Volume(volume)) => serde_json::to_value(&**volume),
            Content::Object(Item::RuntimeClass(class)) => serde_json::to_value(&**class),
            Content::Object(Item::CsiDriver(driver)) => serde_json::to_value(&**driver),
            Content::Object(Item::Attachment(attachment)) => serde_json::to_value(&**attachment),
            Content::Token(token) => serde_json::to_value(token),
            Content::Nothing => return discard(&self.directory.join(name_of(key))).map(|()| None),
        };
        let (name, record) = (name_of(key), Record { version: VERSION, key: key.clone(), content: content? });
        store::write_json(&self.directory, &name, &record, Durability::Deferred)?;
        Ok(Some(self.directory.join(name)))
    }

    /// Records the Services.
    pub fn write_services(&self, services: &OfCluster) -> io::Result<()> {
        let services: Vec<_> = services.iter().collect();
        store::write_json(&self.desired, SERVICES, &services, Durability::Deferred)
    }

    /// Forgets everything but these.
    pub fn keep(&self, keys: &BTreeSet<Key>) -> io::Result<()> {
        let names: BTreeSet<String> = keys.iter().map(name_of).collect();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') && !names.contains(&name) {
                discard(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Says what cannot be used.
fn tell(record: &Path, error: &io::Error) {
    tracing::warn!(record = %record.display(), %error, "a record of an object of the cluster cannot be used");
}

impl Recalled {
    fn read(&mut self, path: &Path) -> io::Result<()> {
        let Some(Record { version, key, content }) = store::read_json::<Record>(path)? else { return Ok(()) };
        if version != VERSION {
            let why = format!("it has version {version}, and this coracle knows version {VERSION}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let reference = match key {
            Key::Token(key) => {
                self.tokens.push((key, serde_json::from_value(content)?));
                return Ok(());
            }
            Key::Object(reference) => reference,
        };
        let item = match &reference {
            Reference::ConfigMap(_) => Item::ConfigMap(Arc::new(serde_json::from_value(content)?)),
            Reference::Secret(_) => Item::Secret(Arc::new(serde_json::from_value(content)?)),
            Reference::Claim { .. } => Item::Claim(Arc::new(serde_json::from_value(content)?)),
            Reference::Volume { .. } => Item::Volume(Arc::new(serde_json::from_value(content)?)),
            Reference::RuntimeClass(_) => Item::RuntimeClass(Arc::new(serde_json::from_value(content)?)),
            Reference::CsiDriver(_) => Item::CsiDriver(Arc::new(serde_json::from_value(content)?)),
            Reference::Attachment { .. } => Item::Attachment(Arc::new(serde_json::from_value(content)?)),
        };
        self.objects.push((reference, item));
        Ok(())
    }
}

/// The name of a record: names of objects have characters and lengths that file names cannot have.
fn name_of(key: &Key) -> String {
    let text = match key {
        Key::Object(reference) => format!("object {reference:?}"),
        Key::Token(key) => format!("token {key:?}"),
    };
    let digest = Sha256::digest(text.as_bytes());
    let digits: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{digits}.json")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;
    use crate::engine::config::objects::TokenWish;

    fn secret(name: &str, value: &str) -> (Key, Content) {
        let secret = json!({"metadata": {"namespace": "ns", "name": name}, "stringData": {"k": value}});
        let item = Item::Secret(Arc::new(serde_json::from_value(secret).unwrap()));
        (Key::Object(Reference::Secret(("ns".into(), name.into()))), Content::Object(item))
    }

    fn token(pod: &str) -> (Key, Content) {
        let wish = TokenWish { audience: None, seconds: 3607 };
        let (given, expires) = ("2026-01-01T00:00:00Z".parse().unwrap(), "2026-01-01T01:00:00Z".parse().unwrap());
        let token = Token { text: "t".into(), given, expires };
        (Key::Token(TokenKey { pod: pod.into(), wish }), Content::Token(token))
    }

    #[test]
    fn what_was_known_is_known_to_the_next_agent_and_to_nobody_else() {
        let root = tempfile::tempdir().unwrap();
        let disk = Disk::open(root.path()).unwrap();
        for (key, content) in [secret("a", "1"), secret("b", "1"), secret("b", "2"), token("u"), token("gone")] {
            let path = disk.write(&key, &content).unwrap().unwrap();
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&disk.directory), 0o700);
        disk.write(&secret("a", "").0, &Content::Nothing).unwrap();
        disk.keep(&[secret("b", "").0, token("u").0].into()).unwrap();
        let recalled = Disk::open(root.path()).unwrap().load().unwrap();
        let (Key::Object(reference), Content::Object(item)) = secret("b", "2") else { unreachable!() };
        assert_eq!(recalled.objects, [(reference, item)]);
        assert_eq!(recalled.tokens.len(), 1);
        assert!(recalled.services.is_none(), "they were never listed");
    }

    #[test]
    fn services_are_known_even_if_there_are_none() {
        let root = tempfile::tempdir().unwrap();
        let disk = Disk::open(root.path()).unwrap();
        disk.write_services(&OfCluster::new()).unwrap();
        assert_eq!(disk.load().unwrap().services, Some(OfCluster::new()));
        let spec = json!({"spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 443}]}});
        let services: OfCluster =
            [(("default".into(), "kubernetes".into()), serde_json::from_value(spec).unwrap())].into();
        disk.write_services(&services).unwrap();
        disk.keep(&BTreeSet::new()).unwrap();
        assert_eq!(disk.load().unwrap().services, Some(services));
    }

    #[test]
    fn a_record_that_cannot_be_read_takes_nothing_else_along() {
        let root = tempfile::tempdir().unwrap();
        let disk = Disk::open(root.path()).unwrap();
        let (key, content) = secret("a", "1");
        disk.write(&key, &content).unwrap();
        std::fs::write(disk.directory.join("broken.json"), "{").unwrap();
        let newer = json!({"version": VERSION + 1, "key": secret("b", "").0, "content": {}});
        std::fs::write(disk.directory.join("newer.json"), newer.to_string()).unwrap();
        assert_eq!(disk.load().unwrap().objects.len(), 1);
    }
}
