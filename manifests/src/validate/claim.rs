//! PersistentVolumeClaims.

use super::Context;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::suggest::{clip, nearest};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

const MODES: [&str; 4] = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];

pub(super) fn validate(context: &mut Context<'_, '_>, path: &Path, claim: &PersistentVolumeClaim) {
    let path = path.field("spec");
    let Some(spec) = &claim.spec else {
        context.error(&path, "`spec` is missing");
        return;
    };
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        context.error_help(
            &path.field("accessModes"),
            "`accessModes` is missing",
            "add `accessModes: [ReadWriteOnce]`",
        );
    }
    for (index, mode) in modes.iter().enumerate() {
        let at = path.field("accessModes").index(index);
        match mode.as_str() {
            "ReadWriteOncePod" => {
                let help = "`ReadWriteOnce`, if you see to it that one pod alone mounts the claim";
                context.error_help(&at, "`ReadWriteOncePod` is not run yet", help);
            }
            mode if MODES.contains(&mode) => {}
            mode => {
                let help =
                    nearest(mode, MODES).map_or_else(|| MODES.join(", "), |near| format!("did you mean `{near}`?"));
                context.error_help(&at, format!("`{}` is not an access mode", clip(mode)), help);
            }
        }
    }
    let at = path.field("resources").field("requests");
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    for name in requests.iter().flat_map(|requests| requests.keys()).filter(|name| *name != "storage") {
        let message = format!("unknown resource `{}`", clip(name));
        context.key_error(&at.key(name), message, Some("a claim asks for `storage`".to_owned()));
    }
    match requests.and_then(|requests| requests.get("storage")) {
        None => {
            context.error_help(&at, "a claim says how much it asks for", "add `resources: {requests: {storage: 1Gi}}`")
        }
        Some(amount) => {
            let amount = Quantity::try_from(amount).ok().filter(|amount| amount.nano() <= 0);
            if let Some(amount) = amount {
                context.error(&at.key("storage"), format!("`{amount}` is not more than 0"));
            }
        }
    }
}
