//! Scalars: what each type takes, and what it does not.

use super::{Place, mismatch};
use crate::diagnostic::Severity::Error;
use crate::quantity::Quantity;
use crate::report::Report;
use crate::schema::Type;
use crate::suggest::clip;
use crate::yaml::Scalar;
use serde::Deserialize as _;
use serde_json::Value;

pub(super) fn scalar(place: Place<'_>, text: &str, meaning: &Scalar, report: &mut Report<'_>) -> Option<Value> {
    let found = || meaning.describe(text);
    match (place.ty, meaning) {
        (Type::Bool, Scalar::Bool(value)) => Some(Value::Bool(*value)),
        (Type::Bool, Scalar::Str) if matches!(Scalar::plain(text), Scalar::Bool(_)) => {
            mismatch(place, &found(), Some("remove the quotes".to_owned()), report)
        }
        (Type::Int32 | Type::Int64, Scalar::Int(number)) => whole(place, *number, text, report),
        (Type::Int32 | Type::Int64, Scalar::Float(number)) if number.fract() == 0.0 && number.abs() < 1e18 => {
            whole(place, *number as i128, text, report)
        }
        (Type::Int32 | Type::Int64, Scalar::Str) if matches!(Scalar::plain(text), Scalar::Int(_)) => {
            mismatch(place, &found(), Some("remove the quotes".to_owned()), report)
        }
        (Type::Float, Scalar::Int(number)) => Some(Value::from(*number as f64)),
        (Type::Float, Scalar::Float(number)) => Some(Value::from(*number)),
        (Type::Str, Scalar::Str) => Some(Value::from(text)),
        (Type::Str, Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_)) => {
            mismatch(place, &found(), Some(format!("quote it: \"{}\"", clip(text))), report)
        }
        (Type::Bytes, Scalar::Str) => base64(place, text, report),
        (Type::Bytes, _) => mismatch(place, &found(), Some(format!("quote it: \"{}\"", clip(text))), report),
        (Type::Quantity, Scalar::Int(number)) => quantity(place, &number.to_string(), report),
        (Type::Quantity, Scalar::Float(_)) => quantity(place, &text.replace('_', ""), report),
        (Type::Quantity, Scalar::Str) => quantity(place, text, report),
        (Type::IntOrString, Scalar::Int(number)) => whole(place, *number, text, report),
        (Type::IntOrString, Scalar::Str) => Some(Value::from(text)),
        (Type::Time, Scalar::Str) => {
            let value = Value::from(text);
            let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time::deserialize(&value);
            if time.is_err() { mismatch(place, &found(), None, report) } else { Some(value) }
        }
        _ => mismatch(place, &found(), None, report),
    }
}

fn whole(place: Place<'_>, number: i128, text: &str, report: &mut Report<'_>) -> Option<Value> {
    let (least, most) = match place.ty {
        Type::Int64 => (i128::from(i64::MIN), i128::from(i64::MAX)),
        _ => (i128::from(i32::MIN), i128::from(i32::MAX)),
    };
    if (least..=most).contains(&number) {
        return Some(Value::from(number as i64));
    }
    report.add(Error, place.at, place.path, format!("`{}` is not between {least} and {most}", clip(text)), None);
    None
}

fn quantity(place: Place<'_>, text: &str, report: &mut Report<'_>) -> Option<Value> {
    match text.parse::<Quantity>() {
        Ok(_) => Some(Value::from(text)),
        Err(error) => {
            let help = "a number with one of m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei, or nothing".to_owned();
            report.add(Error, place.at, place.path, format!("not a quantity: {error}"), Some(help));
            None
        }
    }
}

/// Line breaks within base64 are allowed, as in a block scalar; the type does not expect them.
fn base64(place: Place<'_>, text: &str, report: &mut Report<'_>) -> Option<Value> {
    use base64::Engine as _;
    let joined: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    if base64::engine::general_purpose::STANDARD.decode(&joined).is_ok() {
        return Some(Value::from(joined));
    }
    let help = match place.path.to_string().starts_with("data[") || place.path.to_string().contains(".data[") {
        true => "encode it with `base64 -w0`, or write it as it is under `stringData`",
        false => "encode it with `base64 -w0`",
    };
    // The value itself is not repeated: it may be a secret.
    report.add(Error, place.at, place.path, "not valid base64", Some(help.to_owned()));
    None
}
