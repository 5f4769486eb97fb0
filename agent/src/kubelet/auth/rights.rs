//! What a client may do: the API server decides.

use std::time::{Duration, Instant};

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use manifests::kubelet::Server;
use tokio::sync::Semaphore;

use super::cache::Cache;
use super::{Unknown, User};
use crate::cluster::Link;

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Questions at a time.
const QUESTIONS: usize = 16;

/// Answers that are remembered.
const ANSWERS: usize = 4096;

/// What a right is needed for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The verb, as an API server calls it.
    pub verb: &'static str,
    /// The sub-resource of the node.
    pub subresource: &'static str,
}

/// Who may do what.
pub enum Rights {
    /// Whoever is known may do everything.
    All,
    /// The API server says.
    Reviewed(Box<Reviewed>),
}

/// What the API server said.
pub struct Reviewed {
    link: Link,
    node: String,
    allowed: Duration,
    denied: Duration,
    answers: Cache<(Asked, Vec<u8>), bool>,
    questions: Semaphore,
}

impl Rights {
    /// Asks over `link` about rights on this node.
    pub fn reviewed(link: Link, node: String, settings: &Server) -> Self {
        Self::Reviewed(Box::new(Reviewed {
            link,
            node,
            allowed: settings.allowed,
            denied: settings.denied,
            answers: Cache::new(ANSWERS),
            questions: Semaphore::new(QUESTIONS),
        }))
    }

    /// Whether an API server is asked.
    pub fn asks(&self) -> bool {
        matches!(self, Self::Reviewed(_))
    }

    /// Whether `user` may do it.
    pub async fn allow(&self, user: &User, asked: &Asked) -> Result<bool, Unknown> {
        match self {
            Self::All => Ok(true),
            Self::Reviewed(reviewed) => reviewed.allow(user, asked).await,
        }
    }
}

impl Reviewed {
    async fn allow(&self, user: &User, asked: &Asked) -> Result<bool, Unknown> {
        let question = (asked.clone(), identity(user));
        if let Some(answer) = self.answers.get(&question, Instant::now()) {
            return Ok(answer);
        }
        let review = review(user, asked, &self.node);
        let answered = tokio::time::timeout(PATIENCE, async {
            let _place = self.questions.acquire().await.map_err(|_| Unknown::Busy)?;
            let api = Api::<SubjectAccessReview>::all(self.link.client().await);
            Ok::<_, Unknown>(api.create(&PostParams::default(), &review).await?)
        });
        let status = answered.await.map_err(|_| Unknown::Silent(PATIENCE))??.status;
        let status = status.ok_or_else(|| Unknown::Empty)?;
        if let Some(error) = status.evaluation_error.filter(|_| !status.allowed && status.denied != Some(true)) {
            // As kubelet has it, that is no decision, and nobody is let in by none.
            tracing::debug!(user = user.name, error, "the API server could not decide");
        }
        let allowed = status.allowed && status.denied != Some(true);
        self.answers.put(question, allowed, Instant::now(), if allowed { self.allowed } else { self.denied });
        Ok(allowed)
    }
}

/// Everything that may make a difference, without two users ever being the same.
fn identity(user: &User) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut add = |text: &str| {
        bytes.extend_from_slice(&text.len().to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    };
    add(&user.name);
    add(&user.uid);
    add(&user.groups.len().to_string());
    user.groups.iter().for_each(|it| add(it));
    for (key, values) in &user.extra {
        add(key);
        add(&values.len().to_string());
        values.iter().for_each(|it| add(it));
    }
    bytes
}

fn review(user: &User, asked: &Asked, node: &str) -> SubjectAccessReview {
    let some = |text: &str| Some(text.to_owned()).filter(|it| !it.is_empty());
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: some(&user.name),
            uid: some(&user.uid),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()).filter(|it| !it.is_empty()),
            resource_attributes: Some(ResourceAttributes {
                verb: Some(asked.verb.to_owned()),
                version: Some("v1".into()),
                resource: Some("nodes".into()),
                subresource: Some(asked.subresource.to_owned()),
                name: Some(node.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_that_differ_in_anything_are_asked_about_apart() {
        let base = User { name: "a".into(), groups: vec!["b".into()], ..User::default() };
        let extra = |value: &str| [("k".to_owned(), vec![value.to_owned()])].into();
        let others = [
            User { name: "ab".into(), groups: Vec::new(), ..User::default() },
            User { groups: vec!["b".into(), String::new()], ..base.clone() },
            User { uid: "b".into(), ..base.clone() },
            User { extra: extra("v"), ..base.clone() },
            User { extra: extra("w"), ..base.clone() },
        ];
        let mut all: Vec<_> = others.iter().chain([&base]).map(identity).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), others.len() + 1);
    }

    #[test]
    fn what_is_asked_is_what_kubelet_asks() {
        let user = User { name: "u".into(), ..User::default() }.authenticated();
        let review = review(&user, &Asked { verb: "get", subresource: "metrics" }, "n1");
        let spec = serde_json::to_value(review.spec).unwrap_or_default();
        let expected = serde_json::json!({
            "user": "u", "groups": ["system:authenticated"],
            "resourceAttributes": {"verb": "get", "version": "v1", "resource": "nodes", "subresource": "metrics", "name": "n1"},
        });
        assert_eq!(spec, expected);
    }
}
