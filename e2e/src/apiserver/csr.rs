//! Requests for certificates: what the controllers of a cluster do with those of nodes.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::State;
use super::kinds::Kind;
use super::write;

/// Who signs what nodes show as clients.
pub const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Who signs what nodes show as servers.
pub const SERVING: &str = "kubernetes.io/kubelet-serving";

/// Does with a request that was written what the controllers do: approves it, if it is of a node as a client, and signs
/// it once it is approved. Each is a write of its own, which watches see.
pub(super) fn settle(state: &mut State, kind: &Kind, name: &str) {
    let Some(request) = state.store.get(kind, "", name) else { return };
    let mut request = Value::clone(&request);
    let has = |request: &Value, what: &str| {
        let conditions = request["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|it| it["type"] == what))
    };
    if request["spec"]["signerName"] == CLIENT
        && state.approving
        && !has(&request, "Approved")
        && !has(&request, "Denied")
    {
        let message = "Auto approving kubelet client certificate after SubjectAccessReview.";
        request["status"]["conditions"] = json!([{
            "type": "Approved", "status": "True", "reason": "AutoApproved", "message": message,
            "lastUpdateTime": write::now(), "lastTransitionTime": write::now(),
        }]);
        request = Value::clone(&state.store.put(kind, request));
    }
    let signed = !request["status"]["certificate"].as_str().unwrap_or_default().is_empty();
    if signed || !has(&request, "Approved") || has(&request, "Denied") {
        return;
    }
    let serves = request["spec"]["signerName"] == SERVING;
    let life = request["spec"]["expirationSeconds"]
        .as_u64()
        .map_or(state.certificates_live, |seconds| Duration::from_secs(seconds).min(state.certificates_live));
    let pem = STANDARD.decode(request["spec"]["request"].as_str().unwrap_or_default()).unwrap_or_default();
    match state.authority.sign_request(&String::from_utf8_lossy(&pem), serves, life) {
        Ok(certificate) => request["status"]["certificate"] = STANDARD.encode(certificate).into(),
        Err(why) => {
            let failed = json!({
                "type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": why,
                "lastUpdateTime": write::now(), "lastTransitionTime": write::now(),
            });
            if let Some(conditions) = request["status"]["conditions"].as_array_mut() {
                conditions.push(failed);
            }
        }
    }
    state.store.put(kind, request);
}
