//! Reviews: who somebody is, and whether somebody may do something.

use serde_json::{Value, json};

use super::asked::{Asked, User};
use super::authorize::{self, Deed};
use super::refusal::Refusal;
use super::select::Selector;
use super::{State, tokens};

/// Answers a review: what was asked, with its `status`.
pub(super) fn answer(state: &State, asked: &Asked, kind: &str) -> Result<Value, Refusal> {
    if asked.method != "POST" {
        return Err(Refusal::method_not_allowed());
    }
    let mut review = asked.body.clone();
    let spec = review["spec"].take();
    let group = if kind == "TokenReview" || kind == "SelfSubjectReview" { "authentication" } else { "authorization" };
    let status = match kind {
        "TokenReview" => token(state, &spec),
        "SubjectAccessReview" => access(state, &user_of(&spec), &spec),
        "SelfSubjectAccessReview" => access(state, &asked.user, &spec),
        other => return Err(Refusal::not_implemented(other)),
    };
    Ok(json!({
        "kind": kind, "apiVersion": format!("{group}.k8s.io/v1"), "metadata": {}, "spec": spec, "status": status,
    }))
}

fn token(state: &State, spec: &Value) -> Value {
    let said = spec["token"].as_str().unwrap_or_default();
    let wanted: Vec<&str> = spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let wanted = if wanted.is_empty() { vec![tokens::ISSUER] } else { wanted };
    let found = state.token(said);
    let for_us = |token: &tokens::Token| {
        token.audiences.is_empty() || token.audiences.iter().any(|it| wanted.contains(&it.as_str()))
    };
    let Some(token) = found.filter(|token| for_us(token)) else {
        return json!({"user": {}, "error": "[invalid bearer token, unknown]"});
    };
    let user = &token.user;
    let mut shown = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        shown["uid"] = user.uid.clone().into();
    }
    let audiences: Vec<&str> = wanted
        .into_iter()
        .filter(|it| token.audiences.is_empty() || token.audiences.iter().any(|of| of == it))
        .collect();
    json!({"authenticated": true, "user": shown, "audiences": audiences})
}

fn user_of(spec: &Value) -> User {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let groups = spec["groups"].as_array().into_iter().flatten().map(text).collect();
    User { name: text(&spec["user"]), groups, uid: text(&spec["uid"]) }
}

fn access(state: &State, user: &User, spec: &Value) -> Value {
    let (of, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let text = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
    let deed = Deed {
        verb: if path.is_null() { text(of, "verb") } else { text(path, "verb") },
        group: text(of, "group"),
        resource: text(of, "resource"),
        part: text(of, "subresource"),
        namespace: text(of, "namespace"),
        name: text(of, "name"),
        path: text(path, "path"),
    };
    match authorize::decide(&state.store, &state.grants, user, &deed, &Selector::default()) {
        Ok(()) => json!({"allowed": true}),
        Err(why) if why.is_empty() => json!({"allowed": false}),
        Err(why) => json!({"allowed": false, "reason": why}),
    }
}
