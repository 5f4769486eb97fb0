//! Patches: of JSON (RFC 6902), merging (RFC 7396), and merging as Kubernetes does, with lists by key.

mod strategic;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::kinds::Kind;
use super::refusal::{Cause, Refusal};

/// What an object becomes by a patch of a media type.
pub fn apply(kind: &Kind, name: &str, object: &Value, media: &str, patch: &Value) -> Result<Value, Refusal> {
    let mut new = object.clone();
    match media {
        "application/json-patch+json" => {
            let patch: json_patch::Patch = serde_json::from_value(patch.clone())
                .map_err(|error| Refusal::bad_request(format!("error decoding patch: {error}")))?;
            json_patch::patch(&mut new, &patch).map_err(|error| {
                let (reason, field) = ("FieldValueInvalid", String::new());
                Refusal::invalid(kind, name, &[Cause { reason, message: error.to_string(), field }])
            })?;
        }
        "application/merge-patch+json" => json_patch::merge(&mut new, patch),
        "application/strategic-merge-patch+json" => strategic::merge(kind, &mut new, patch)?,
        "application/apply-patch+yaml" => return Err(Refusal::not_implemented("server-side apply")),
        other => {
            let known = "application/json-patch+json, application/merge-patch+json, \
                application/strategic-merge-patch+json, application/apply-patch+yaml, application/apply-patch+cbor";
            let message =
                format!("the body of the request was in an unknown format - accepted media types include: {known}");
            debug_assert!(!known.contains(other) || other.is_empty(), "{other} is among them");
            return Err(Refusal::media_type(message));
        }
    }
    Ok(new)
}
