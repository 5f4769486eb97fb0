//! Tables, as kubectl asks for them: the columns of each kind are made here, where the rules are, and a client only
//! aligns them.

pub mod network;
mod rows;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::store::{Kind, Object};

/// How a client wants a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// The version of `meta.k8s.io`.
    pub version: &'static str,
    /// What comes with each row.
    pub include: Include,
}

/// What comes with each row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// The object's metadata.
    #[default]
    Metadata,
    /// The whole object.
    Object,
    /// Nothing.
    None,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Column {
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    format: &'static str,
    description: &'static str,
    priority: u8,
}

/// A column that is always shown.
const fn column(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", description, priority: 0 }
}

/// A column that is shown where there is room.
const fn wide(name: &'static str, description: &'static str) -> Column {
    Column { priority: 1, ..column(name, description) }
}

const NAME: Column = Column { format: "name", ..column("Name", "The name, unique in its namespace.") };
const AGE: Column = column("Age", "The time since the object was made.");

/// The form that the header `Accept` asks for, if it asks for a table before anything else.
pub fn asked_for(accept: &str, include: Option<&str>) -> Option<Form> {
    let first = accept.split(',').next()?;
    let mut parameters = first.split(';').map(str::trim);
    let json = parameters.next() == Some("application/json");
    let parameters: Vec<&str> = parameters.collect();
    let has = |parameter: &str| parameters.contains(&parameter);
    if !(json && has("as=Table") && has("g=meta.k8s.io")) {
        return None;
    }
    let version = match (has("v=v1"), has("v=v1beta1")) {
        (true, _) => "meta.k8s.io/v1",
        (_, true) => "meta.k8s.io/v1beta1",
        _ => return None,
    };
    let include = match include {
        Some("Object") => Include::Object,
        Some("None") => Include::None,
        _ => Include::Metadata,
    };
    Some(Form { version, include })
}

impl Form {
    /// A table of objects of one kind. `metadata` is the list's; without columns it goes on from an earlier one.
    pub fn table(self, kind: Kind, objects: &[Object], metadata: &Value, columns: bool, now: Timestamp) -> Value {
        let rows: Vec<Value> = objects.iter().map(|object| self.row(object, now)).collect();
        json!({
            "kind": "Table", "apiVersion": self.version, "metadata": metadata,
            "columnDefinitions": if columns { Some(rows::columns(kind)) } else { None },
            "rows": rows,
        })
    }

    fn row(self, object: &Object, now: Timestamp) -> Value {
        let shown = match self.include {
            Include::None => Value::Null,
            Include::Object => json!(object),
            Include::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": self.version, "metadata": object.metadata()})
            }
        };
        json!({"cells": rows::cells(object, now), "object": shown})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_made_for_whom_it_is_the_first_choice() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,\
                       application/json";
        let form = |version| Some(Form { version, include: Include::Metadata });
        assert_eq!(asked_for(kubectl, None), form("meta.k8s.io/v1"));
        assert_eq!(
            asked_for("application/json; as=Table; v=v1beta1; g=meta.k8s.io", None),
            form("meta.k8s.io/v1beta1")
        );
        assert_eq!(asked_for(kubectl, Some("Object")).map(|it| it.include), Some(Include::Object));
        for other in ["application/json", "*/*", "", "application/json;as=Table;v=v2;g=meta.k8s.io", "text/plain"] {
            assert_eq!(asked_for(other, None), None, "{other}");
        }
    }
}
