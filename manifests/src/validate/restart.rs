//! When a container is started again.

use super::Context;
use super::pod::Surroundings;
use crate::path::Path;
use crate::suggest::clip;
use k8s_openapi::api::core::v1::Container;
use std::collections::BTreeSet;

/// The most rules of one container, and the most exit codes of a rule.
const RULES: usize = 20;
const CODES: usize = 255;

pub(super) fn validate(context: &mut Context<'_, '_>, path: &Path, container: &Container, sidecar: bool) {
    let rules = container.restart_policy_rules.as_deref().unwrap_or_default();
    let at = path.field("restartPolicyRules");
    if !rules.is_empty() && container.restart_policy.is_none() {
        let help = "for what no rule is about; such as `restartPolicy: Never`".to_owned();
        context.key_error(&at, "rules need a `restartPolicy` beside them", Some(help));
    }
    if !rules.is_empty() && sidecar {
        context.key_error(&at, "a sidecar is always started again: it has no rules", None);
    }
    if rules.len() > RULES {
        context.error(&at, format!("{} rules, and at most {RULES} are allowed", rules.len()));
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = at.index(index);
        match &rule.exit_codes {
            None => context.missing(&path, "exitCodes"),
            Some(codes) => {
                let count = codes.values.as_ref().map_or(0, Vec::len);
                if count > CODES {
                    let message = format!("{count} exit codes, and at most {CODES} are allowed");
                    context.error(&path.field("exitCodes").field("values"), message);
                }
            }
        }
    }
}

/// What a change of a resource does to a running container.
pub(super) fn resizing(
    context: &mut Context<'_, '_>,
    path: &Path,
    container: &Container,
    init: bool,
    surroundings: &Surroundings<'_>,
) {
    let mut seen = BTreeSet::new();
    for (index, policy) in container.resize_policy.iter().flatten().enumerate() {
        let path = path.field("resizePolicy").index(index);
        if !seen.insert(&policy.resource_name) {
            let message = format!("the resource `{}` is there twice", clip(&policy.resource_name));
            context.error(&path.field("resourceName"), message);
        }
        let at = path.field("restartPolicy");
        if policy.restart_policy != "RestartContainer" {
            continue;
        }
        if surroundings.never_restarts {
            context.error(&at, "a pod with `restartPolicy: Never` restarts nothing");
        } else if init {
            context.error(&at, "an init container that is no sidecar is not restarted for its resources");
        }
    }
}
