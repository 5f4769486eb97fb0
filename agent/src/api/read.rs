//! Objects and lists of them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Error;
use super::Inner;
use super::Query;
use super::selector::Selector;
use super::table::{self, Form};
use crate::access::body::{self, Body};
use crate::store::{Kind, Object};

/// Which objects a client wants, and how.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Their kind.
    pub kind: Kind,
    /// Those of one namespace.
    pub namespace: Option<String>,
    /// Those that it selects.
    pub selector: Selector,
    /// As a table.
    pub table: Option<Form>,
}

impl Wanted {
    /// Reads what list and watch have in common.
    pub fn parse(kind: Kind, namespace: Option<String>, query: &Query, accept: &str) -> Result<Self, Error> {
        let (labels, fields) = (query.text("labelSelector"), query.text("fieldSelector"));
        Ok(Self {
            kind,
            namespace,
            selector: Selector::parse(kind, labels.unwrap_or_default(), fields.unwrap_or_default())?,
            table: table::asked_for(accept, query.text("includeObject")),
        })
    }

    /// Whether an object is one of those.
    pub fn is(&self, object: &Object) -> bool {
        let inside = self.namespace.is_none() || self.namespace == object.metadata().namespace;
        inside && self.selector.matches(object)
    }
}

/// Where a list goes on: the version of its first part, from which it can be watched without a gap, and the last object
/// that was in it.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    version: u64,
    namespace: String,
    name: String,
}

impl Continue {
    fn parse(text: &str) -> Result<Self, Error> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let wrong = || Error::BadRequest("continue key is not valid".into());
        bytes.and_then(|it| serde_json::from_slice(&it).ok()).ok_or_else(wrong)
    }

    fn after(version: u64, object: &Object) -> Self {
        let meta = object.metadata();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self { version, namespace: text(&meta.namespace), name: text(&meta.name) }
    }

    fn is_before(&self, object: &Object) -> bool {
        let meta = object.metadata();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        (text(&meta.namespace), text(&meta.name)) > (self.namespace.clone(), self.name.clone())
    }

    fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!(self).to_string())
    }
}

#[derive(Serialize)]
struct List<'a> {
    kind: String,
    #[serde(rename = "apiVersion")]
    api_version: String,
    metadata: &'a Value,
    items: &'a [Object],
}

/// All objects that are wanted, or a part of them.
pub fn list(api: &Inner, wanted: &Wanted, query: &Query) -> Result<Response<Body>, Error> {
    let listed = api.store.objects(wanted.kind, wanted.namespace.as_deref());
    let from = query.text("continue").map(Continue::parse).transpose()?;
    let version = from.as_ref().map_or(listed.version, |it| it.version);
    let mut items = listed.items;
    items.retain(|it| wanted.selector.matches(it) && from.as_ref().is_none_or(|from| from.is_before(it)));
    let mut metadata = json!({"resourceVersion": version.to_string()});
    let limit = query.number("limit")?.and_then(|it| usize::try_from(it).ok()).filter(|it| *it > 0);
    if let Some(limit) = limit
        && items.len() > limit
    {
        metadata["remainingItemCount"] = json!(items.len() - limit);
        items.truncate(limit);
        metadata["continue"] = json!(items.last().map(|last| Continue::after(version, last).text()));
    }
    match wanted.table {
        Some(form) => body::json(&form.table(wanted.kind, &items, &metadata, true, Timestamp::now())),
        None => {
            let kind = format!("{}List", wanted.kind.name());
            let api_version = wanted.kind.group().api_version();
            body::json(&List { kind, api_version, metadata: &metadata, items: &items })
        }
    }
}

/// One object.
pub fn get(
    api: &Inner,
    kind: Kind,
    namespace: &str,
    name: &str,
    query: &Query,
    accept: &str,
) -> Result<Response<Body>, Error> {
    let not_found = || Error::NotFound { kind, name: name.to_owned() };
    let object = api.store.object(kind, namespace, name).ok_or_else(not_found)?;
    match table::asked_for(accept, query.text("includeObject")) {
        Some(form) => {
            let metadata = json!({"resourceVersion": object.metadata().resource_version});
            body::json(&form.table(kind, &[object], &metadata, true, Timestamp::now()))
        }
        None => body::json(&object),
    }
}
