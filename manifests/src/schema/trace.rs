//! The shape of the Kubernetes types, read off the types themselves.
//!
//! A deserializer that has no input answers every question a type asks with the smallest value that satisfies it, and
//! notes the question. What comes out cannot drift from `k8s_openapi`, and needs no second list of a thousand fields.

use serde::de::value::{Error, StrDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    Int32,
    Int64,
    Float,
    Str,
    /// Base64 in the manifest.
    Bytes,
    Quantity,
    Time,
    IntOrString,
    /// Anything goes: it is opaque to Kubernetes too.
    Any,
    List(Box<Type>),
    Map(Box<Type>),
    /// By the name of its definition.
    Object(&'static str),
}

/// One field of an object.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub name: &'static str,
    pub ty: Type,
    pub required: bool,
}

/// Every object type that is reachable from the ones traced.
#[derive(Debug, Default)]
pub(crate) struct Objects(BTreeMap<&'static str, Vec<Field>>);

impl Objects {
    /// The fields of an object type, in alphabetical order.
    pub(crate) fn fields(&self, object: &str) -> &[Field] {
        self.0.get(object).map_or(&[], Vec::as_slice)
    }

    /// One field of an object type.
    pub(crate) fn field(&self, object: &str, name: &str) -> Option<&Field> {
        self.fields(object).iter().find(|field| field.name == name)
    }

    /// Adds `T` and everything it holds.
    pub(crate) fn trace<T>(&mut self) -> Result<(), Error>
    where
        T: DeserializeOwned + serde::Serialize + k8s_openapi::Resource,
    {
        let root = self.probe::<T>(T::API_VERSION, T::KIND)?;
        self.mark_required::<T>(root);
        Ok(())
    }

    /// Adds a type of which nothing is required, and everything it holds.
    pub(crate) fn trace_optional<T: DeserializeOwned>(&mut self) -> Result<(), Error> {
        self.probe::<T>("", "").map(drop)
    }

    fn probe<T: DeserializeOwned>(&mut self, api_version: &'static str, kind: &'static str) -> Result<Type, Error> {
        let notes = RefCell::new(std::mem::take(self));
        let asked = RefCell::new(Type::Any);
        let traced = T::deserialize(Probe { notes: &notes, asked: &asked, api_version, kind, text: "" });
        *self = notes.into_inner();
        traced.map(|_| asked.into_inner())
    }

    /// A required field is written even when it was not read. So: read an object that has every object and list in it
    /// but no scalar, and see which scalars are written.
    fn mark_required<T: DeserializeOwned + serde::Serialize>(&mut self, root: Type) {
        let sparse = self.sparse(&root);
        if let Ok(written) = serde_json::from_value::<T>(sparse).and_then(serde_json::to_value) {
            self.mark(&root, &written);
        }
    }

    fn sparse(&self, ty: &Type) -> Value {
        match ty {
            Type::List(item) => Value::Array(vec![self.sparse(item)]),
            Type::Map(item) => Value::Object(Map::from_iter([("key".to_owned(), self.sparse(item))])),
            Type::Object(name) => {
                let nested = |ty: &Type| match ty {
                    Type::List(item) | Type::Map(item) => matches!(**item, Type::Object(_)),
                    ty => matches!(ty, Type::Object(_)),
                };
                let fields = self.fields(name).iter().filter(|field| nested(&field.ty));
                Value::Object(fields.map(|field| (field.name.to_owned(), self.sparse(&field.ty))).collect())
            }
            _ => Value::Null,
        }
    }

    fn mark(&mut self, ty: &Type, written: &Value) {
        match (ty, written) {
            (Type::List(item), Value::Array(items)) => items.iter().for_each(|value| self.mark(item, value)),
            (Type::Map(item), Value::Object(items)) => items.values().for_each(|value| self.mark(item, value)),
            (Type::Object(name), Value::Object(values)) => {
                for (key, value) in values {
                    let Some(field) = self.0.get_mut(name).and_then(|f| f.iter_mut().find(|f| f.name == *key)) else {
                        continue;
                    };
                    let nested = field.ty.clone();
                    let written_unread = !matches!(nested, Type::Object(_)) && !holds_objects(&nested);
                    // `apiVersion` and `kind` of a resource are written by the type, not by the reader.
                    field.required |= written_unread && !matches!(field.name, "apiVersion" | "kind");
                    self.mark(&nested, value);
                }
            }
            _ => {}
        }
    }
}

fn holds_objects(ty: &Type) -> bool {
    match ty {
        Type::List(item) | Type::Map(item) => matches!(**item, Type::Object(_)),
        _ => false,
    }
}

/// The deserializer without input.
#[derive(Clone, Copy)]
struct Probe<'a> {
    notes: &'a RefCell<Objects>,
    /// Where the answer to "what did the type ask for" goes.
    asked: &'a RefCell<Type>,
    api_version: &'static str,
    kind: &'static str,
    /// The string to answer with: some types look into it.
    text: &'static str,
}

impl<'a> Probe<'a> {
    fn note(self, ty: Type) {
        *self.asked.borrow_mut() = ty;
    }

    /// A probe for something held, with its own answer.
    fn inner(self, asked: &'a RefCell<Type>) -> Probe<'a> {
        Probe { asked, text: "", ..self }
    }
}

macro_rules! answers {
    ($($method:ident: $ty:expr, $visit:ident($value:expr);)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.note($ty);
            visitor.$visit($value)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Probe<'_> {
    type Error = Error;

    answers! {
        deserialize_bool: Type::Bool, visit_bool(false);
        deserialize_i32: Type::Int32, visit_i32(0);
        deserialize_i64: Type::Int64, visit_i64(0);
        deserialize_f64: Type::Float, visit_f64(0.0);
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.note(Type::Str);
        visitor.visit_str(self.text)
    }

    /// Only the two types that decode what they read ask for a borrowed string: bytes, and times (which come through
    /// `deserialize_newtype_struct`).
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.note(Type::Bytes);
        visitor.visit_str(self.text)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    /// Types that take anything come through `deserialize_newtype_struct`; left is the one that takes two things.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.note(Type::IntOrString);
        visitor.visit_str("0")
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        let text = if matches!(name, "Time" | "MicroTime") { "1970-01-01T00:00:00.000000Z" } else { "0" };
        let value = visitor.visit_newtype_struct(Probe { text, ..self })?;
        self.note(match name {
            "Quantity" => Type::Quantity,
            "Time" | "MicroTime" => Type::Time,
            _ => Type::Any,
        });
        Ok(value)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let item = RefCell::new(Type::Any);
        let value = visitor.visit_seq(Once { probe: Some(self.inner(&item)) })?;
        self.note(Type::List(Box::new(item.into_inner())));
        Ok(value)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let item = RefCell::new(Type::Any);
        let value = visitor.visit_map(Once { probe: Some(self.inner(&item)) })?;
        self.note(Type::Map(Box::new(item.into_inner())));
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.note(Type::Object(name));
        // Known already, or being traced further up: an empty object will do.
        let names = if self.notes.borrow().0.contains_key(name) { &[] } else { names };
        if !names.is_empty() {
            self.notes.borrow_mut().0.insert(name, Vec::new());
        }
        let asked = RefCell::new(Type::Any);
        visitor.visit_map(Fields { probe: self, object: name, names: names.iter(), current: "", asked: &asked })
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
    }
}

/// A list, or a map, of one element.
struct Once<'a> {
    probe: Option<Probe<'a>>,
}

impl<'de> de::SeqAccess<'de> for Once<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.probe.take().map(|probe| seed.deserialize(probe)).transpose()
    }
}

impl<'de> de::MapAccess<'de> for Once<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let key: StrDeserializer<'_, Error> = "key".into_deserializer();
        self.probe.map(|_| seed.deserialize(key)).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let probe = self.probe.take().ok_or_else(|| de::Error::custom("a value without a key"))?;
        seed.deserialize(probe)
    }
}

/// An object with every one of its fields.
struct Fields<'a> {
    probe: Probe<'a>,
    object: &'static str,
    names: std::slice::Iter<'a, &'static str>,
    current: &'static str,
    asked: &'a RefCell<Type>,
}

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(name) = self.names.next() else { return Ok(None) };
        self.current = name;
        let key: StrDeserializer<'_, Error> = (*name).into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let text = match (self.object == self.probe.kind, self.current) {
            (true, "apiVersion") => self.probe.api_version,
            (true, "kind") => self.probe.kind,
            _ => "",
        };
        let value = seed.deserialize(Probe { asked: self.asked, text, ..self.probe })?;
        let ty = self.asked.replace(Type::Any);
        if let Some(fields) = self.probe.notes.borrow_mut().0.get_mut(self.object) {
            fields.push(Field { name: self.current, ty, required: false });
        }
        Ok(value)
    }
}
