//! Tokens: of service accounts, and those that a test names.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::asked::{Asked, Target, User};
use super::kinds;
use super::refusal::{Cause, Refusal};
use super::store::Store;
use super::{read, write};

/// Who issues tokens, and whom they are for unless they say so.
pub const ISSUER: &str = "https://kubernetes.default";

/// A token that is believed.
#[derive(Clone, Debug)]
pub struct Token {
    /// As it is said.
    pub text: String,
    /// Who says it.
    pub user: User,
    /// Whom it is for.
    pub audiences: Vec<String>,
    /// Until when it is believed; for ever if it says nothing.
    pub expires: Option<Timestamp>,
    /// The pod that it goes with: namespace, name, uid.
    pub pod: Option<(String, String, String)>,
}

impl Token {
    /// Whether it is still believed: its time is not over, and its pod is there.
    pub fn is_good(&self, store: &Store) -> bool {
        let pods = kinds::find("", "v1", "pods");
        let pod_is_there = self.pod.as_ref().is_none_or(|(namespace, name, uid)| {
            let found = pods.and_then(|kind| store.get(kind, namespace, name));
            found.is_some_and(|pod| pod["metadata"]["uid"] == uid.as_str())
        });
        self.expires.is_none_or(|expires| Timestamp::now() < expires) && pod_is_there
    }
}

/// Answers a TokenRequest; the new token too. `longest` is what a test has the server grant at most.
pub fn request(store: &Store, asked: &Asked, target: &Target, longest: Option<i64>) -> Result<(Value, Token), Refusal> {
    let (namespace, name) =
        (target.namespace.as_deref().unwrap_or_default(), target.name.as_deref().unwrap_or_default());
    let spec = &asked.body["spec"];
    let pod = bound(store, asked, target, &spec["boundObjectRef"])?;
    let account = read::get(store, target)?;
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(3600);
    if seconds < 600 {
        let message = format!("Invalid value: {seconds}: may not specify a duration less than 10 minutes");
        let field = "spec.expirationSeconds".to_owned();
        let request = kinds::Kind { kind: "TokenRequest", group: "authentication.k8s.io", ..of_account(target) };
        return Err(Refusal::invalid(&request, name, &[Cause { reason: "FieldValueInvalid", message, field }]));
    }
    let audiences: Vec<String> =
        spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let audiences = if audiences.is_empty() { vec![ISSUER.to_owned()] } else { audiences };
    let expires = Timestamp::now() + SignedDuration::from_secs(longest.unwrap_or(seconds).min(seconds));
    let user = User {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ],
        uid: account["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
    };
    let text = signed(&json!({
        "aud": audiences, "exp": expires.as_second(), "iat": Timestamp::now().as_second(), "iss": ISSUER,
        "jti": write::uid(), "sub": user.name,
        "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": user.uid},
            "pod": pod.as_ref().map(|(_, name, uid)| json!({"name": name, "uid": uid}))},
    }));
    let mut answer = json!({
        "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": write::now()},
        "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": spec["boundObjectRef"]},
        "status": {"token": text, "expirationTimestamp": write::stamp(expires)},
    });
    answer["metadata"]["uid"] = account["metadata"]["uid"].clone();
    Ok((answer, Token { text, user, audiences, expires: Some(expires), pod }))
}

fn of_account(target: &Target) -> kinds::Kind {
    let kinds::Kind { version, plural, singular, short, namespaced, parts, generation, group, kind } = *target.kind;
    kinds::Kind { version, plural, singular, short, namespaced, parts, generation, group, kind }
}

/// The pod that a token is to go with.
fn bound(
    store: &Store,
    asked: &Asked,
    target: &Target,
    reference: &Value,
) -> Result<Option<(String, String, String)>, Refusal> {
    let account = target.name.as_deref().unwrap_or_default();
    let forbidden = |why: &str| Err(Refusal::forbidden(target.kind, account, why));
    let node = asked.user.as_node();
    let text = |key: &str| reference[key].as_str().unwrap_or_default().to_owned();
    if reference["kind"] != "Pod" {
        return match (node, reference["kind"].as_str()) {
            (Some(_), _) => forbidden("node requested token not bound to a pod"),
            (None, None) => Ok(None),
            (None, Some(kind)) => Err(Refusal::not_implemented(format!("tokens bound to a {kind}"))),
        };
    }
    if node.is_some() && text("uid").is_empty() {
        return forbidden("node requested token with a pod binding without a uid");
    }
    let pods = kinds::find("", "v1", "pods").unwrap_or(target.kind);
    let namespace = target.namespace.clone().unwrap_or_default();
    let pod = store.get(pods, &namespace, &text("name")).ok_or_else(|| Refusal::not_found(pods, &text("name")))?;
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    if !text("uid").is_empty() && text("uid") != uid {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been \
            deleted and then recreated",
            text("uid")
        );
        return match node {
            Some(_) => forbidden(&why),
            None => Err(Refusal::conflict(pods, &text("name"), &why)),
        };
    }
    if node.is_some_and(|node| pod["spec"]["nodeName"] != node) {
        return forbidden("node requested token bound to a pod scheduled on a different node");
    }
    Ok(Some((namespace, text("name"), uid)))
}

/// Claims in the form of a signed token. Nobody but this server looks at it, and it looks whether it gave it out: the
/// signature is by chance.
fn signed(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({"alg": "ES256", "kid": "e2e", "typ": "JWT"});
    format!("{}.{}.{}", part(&header), part(claims), URL_SAFE_NO_PAD.encode(write::letters(64)))
}
