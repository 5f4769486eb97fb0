//! Writing: what becomes of an object that is created, replaced or patched.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::asked::{Asked, Target};
use super::kinds::{self, Kind};
use super::refusal::{Cause, Refusal};
use super::store::Store;
use super::{patch, shape};

/// Now, as objects say it: to the second.
pub fn now() -> String {
    stamp(Timestamp::now())
}

/// A time, as objects say it.
pub fn stamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Creates an object.
pub fn create(store: &mut Store, asked: &Asked, target: &Target) -> Result<Value, Refusal> {
    let kind = target.kind;
    let mut object = asked.body.clone();
    let name = name_new(kind, target, &mut object)?;
    if let Some(namespace) = object["metadata"]["namespace"].as_str()
        && store.get(namespaces(), "", namespace).is_none()
    {
        return Err(Refusal::not_found(namespaces(), namespace));
    }
    super::admission::create(store, asked, target, &object)?;
    if name.is_empty() {
        let message = "Required value: name or generateName is required".to_owned();
        let cause = Cause { reason: "FieldValueRequired", message, field: "metadata.name".to_owned() };
        return Err(Refusal::invalid(kind, "", &[cause]));
    }
    let metadata = &mut object["metadata"];
    for field in ["resourceVersion", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields"] {
        metadata.as_object_mut().map(|it| it.remove(field));
    }
    metadata["uid"] = uid().into();
    metadata["creationTimestamp"] = now().into();
    if kind.generation {
        metadata["generation"] = 1.into();
    }
    shape::begin(kind, &asked.user, &mut object);
    if store.get(kind, target.namespace.as_deref().unwrap_or_default(), &name).is_some() {
        return Err(Refusal::already_exists(kind, &name));
    }
    Ok(Value::clone(&store.put(kind, object)))
}

/// Says of a new object what it is and where; its name.
fn name_new(kind: &Kind, target: &Target, object: &mut Value) -> Result<String, Refusal> {
    typed(kind, object)?;
    place(target, object)?;
    let metadata = &mut object["metadata"];
    if metadata["name"].as_str().unwrap_or_default().is_empty()
        && let Some(prefix) = metadata["generateName"].as_str().filter(|prefix| !prefix.is_empty())
    {
        metadata["name"] = format!("{prefix}{}", letters(5)).into();
    }
    Ok(metadata["name"].as_str().unwrap_or_default().to_owned())
}

/// An object is of the kind of its path, and says so.
fn typed(kind: &Kind, object: &mut Value) -> Result<(), Refusal> {
    if !object.is_object() {
        return Err(Refusal::bad_request("the body is not an object"));
    }
    for (field, wanted) in [("apiVersion", kind.api_version()), ("kind", kind.kind.to_owned())] {
        let said = object[field].as_str().unwrap_or_default();
        if said.is_empty() {
            object[field] = wanted.into();
        } else if said != wanted {
            let message = format!(
                "{} in version {:?} cannot be handled as a {}",
                object["kind"].as_str().unwrap_or_default(),
                object["apiVersion"].as_str().unwrap_or_default(),
                kind.kind
            );
            return Err(Refusal::bad_request(message));
        }
    }
    Ok(())
}

/// An object is in the namespace of its path, and says so.
fn place(target: &Target, object: &mut Value) -> Result<(), Refusal> {
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    match (&target.namespace, metadata["namespace"].as_str().unwrap_or_default()) {
        (Some(wanted), "") => metadata["namespace"] = wanted.clone().into(),
        (Some(wanted), said) if wanted != said => {
            let message = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Refusal::bad_request(message));
        }
        (None, "") if target.kind.namespaced => {
            return Err(Refusal::bad_request("an empty namespace may not be set during creation"));
        }
        _ => {}
    }
    Ok(())
}

/// Replaces an object, or a part of one.
pub fn update(store: &mut Store, asked: &Asked, target: &Target) -> Result<Value, Refusal> {
    let (kind, name) = (target.kind, target.name.as_deref().unwrap_or_default());
    let mut object = asked.body.clone();
    typed(kind, &mut object)?;
    place(target, &mut object)?;
    let said = object["metadata"]["name"].as_str().unwrap_or_default();
    if said != name {
        let message = format!("the name of the object ({said}) does not match the name on the URL ({name})");
        return Err(Refusal::bad_request(message));
    }
    let old = super::read::get(store, target)?;
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    if !uid.is_empty() && old["metadata"]["uid"] != uid {
        return Err(other_uid(kind, name, uid, &old));
    }
    if object["metadata"]["resourceVersion"].as_str().unwrap_or_default().is_empty() && kind.kind == "Lease" {
        let message = "Invalid value: 0: must be specified for an update".to_owned();
        let field = "metadata.resourceVersion".to_owned();
        return Err(Refusal::invalid(kind, name, &[Cause { reason: "FieldValueInvalid", message, field }]));
    }
    change(store, asked, target, &old, object)
}

/// Patches an object, or a part of one.
pub fn patched(store: &mut Store, asked: &Asked, target: &Target) -> Result<Value, Refusal> {
    let (kind, name) = (target.kind, target.name.as_deref().unwrap_or_default());
    let old = super::read::get(store, target)?;
    let new = patch::apply(kind, name, &old, &asked.media, &asked.body)?;
    change(store, asked, target, &old, new)
}

/// The object is another one of the same name.
pub fn other_uid(kind: &Kind, name: &str, wanted: &str, object: &Value) -> Refusal {
    let found = object["metadata"]["uid"].as_str().unwrap_or_default();
    let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}");
    Refusal::conflict(kind, name, &why)
}

/// Writes what an object is to become, as far as the request may say it.
fn change(store: &mut Store, asked: &Asked, target: &Target, old: &Value, new: Value) -> Result<Value, Refusal> {
    let (kind, name) = (target.kind, target.name.as_deref().unwrap_or_default());
    let version = new["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    if !version.is_empty() && old["metadata"]["resourceVersion"] != version {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        return Err(Refusal::conflict(kind, name, why));
    }
    let new = shape::next(kind, target.part.as_deref(), old, new)?;
    super::admission::change(store, &asked.user, target, old, &new)?;
    if shape::is_gone(&new) {
        store.remove(kind, &new);
        return Ok(new);
    }
    if new == *old {
        return Ok(new);
    }
    Ok(Value::clone(&store.put(kind, new)))
}

/// The kind of namespaces.
pub fn namespaces() -> &'static Kind {
    kinds::find("", "v1", "namespaces").unwrap_or_else(|| unreachable!("namespaces are served"))
}

/// A new uid.
pub fn uid() -> String {
    let mut bytes = [0_u8; 16];
    random(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// So many letters by chance, none of which makes a word.
pub fn letters(count: usize) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut bytes = vec![0_u8; count];
    random(&mut bytes);
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).unwrap_or_else(|error| panic!("the kernel has no randomness: {error}"));
}
