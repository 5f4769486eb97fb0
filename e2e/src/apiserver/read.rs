//! Reading: one object, lists of them, and watches.

use std::time::Duration;

use serde_json::{Value, json};

use super::Answer;
use super::asked::{Asked, Target};
use super::kinds::Kind;
use super::refusal::Refusal;
use super::select::Selector;
use super::store::{Store, Wish};

/// One object.
pub fn get(store: &Store, target: &Target) -> Result<Value, Refusal> {
    let name = target.name.as_deref().unwrap_or_default();
    let found = store.get(target.kind, target.namespace.as_deref().unwrap_or_default(), name);
    found.map(|object| Value::clone(&object)).ok_or_else(|| Refusal::not_found(target.kind, name))
}

/// What the selectors of a request say.
pub fn selector(asked: &Asked) -> Result<Selector, Refusal> {
    let text = |key| asked.query(key).unwrap_or_default();
    Selector::parse(text("fieldSelector"), text("labelSelector"))
}

/// A list, or a part of one.
pub fn list(store: &mut Store, asked: &Asked, target: &Target) -> Result<Value, Refusal> {
    let selector = selector(asked)?;
    let limit = asked.query("limit").and_then(|it| it.parse().ok()).filter(|limit| *limit > 0);
    let (revision, mut items) = match asked.query("continue").filter(|word| !word.is_empty()) {
        Some(word) => store.rest(word)?,
        None => {
            let wanted = revision(asked)?.filter(|wanted| *wanted > store.revision());
            if let Some(wanted) = wanted {
                return Err(Refusal::too_large(wanted, store.revision()));
            }
            let found = store.list(target.kind, target.namespace.as_deref(), &selector);
            (store.revision(), found.iter().map(|object| Value::clone(object)).collect())
        }
    };
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if let Some(limit) = limit.filter(|limit| items.len() > *limit) {
        let rest = items.split_off(limit);
        metadata["remainingItemCount"] = rest.len().into();
        metadata["continue"] = store.keep_rest(revision, rest).into();
    }
    items.iter_mut().for_each(|item| bare(target.kind, item));
    Ok(target.kind.list(items, metadata))
}

/// Items of a list do not say what they are.
fn bare(_kind: &Kind, item: &mut Value) {
    if let Some(fields) = item.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
}

/// A watch.
pub fn watch(store: &mut Store, asked: &Asked, target: &Target) -> Result<Answer, Refusal> {
    let initial = asked.says("sendInitialEvents");
    let since = revision(asked)?.filter(|_| !initial);
    let wish = Wish {
        namespace: target.namespace.clone(),
        selector: selector(asked)?,
        since,
        bookmarks: asked.says("allowWatchBookmarks"),
        says_initial_end: initial,
    };
    let seconds = asked.query("timeoutSeconds").and_then(|it| it.parse().ok()).filter(|seconds| *seconds > 0);
    Ok(Answer::Watch(store.watch(target.kind, wish)?, seconds.map(Duration::from_secs)))
}

/// The resourceVersion of a request; 0 is any.
fn revision(asked: &Asked) -> Result<Option<u64>, Refusal> {
    let Some(text) = asked.query("resourceVersion").filter(|text| !text.is_empty()) else { return Ok(None) };
    let number = text.parse::<u64>().map_err(|_| Refusal::bad_request(format!("invalid resource version {text:?}")))?;
    Ok(Some(number).filter(|number| *number > 0))
}
