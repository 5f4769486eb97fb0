//! Clients that say a token: the API server knows whose it is.

use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::Api;
use kube::api::PostParams;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::cache::Cache;
use super::{Unknown, User};
use crate::cluster::Link;

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Questions at a time: whoever reaches the port can ask them.
const QUESTIONS: usize = 16;

/// Answers that are remembered.
const ANSWERS: usize = 4096;

/// The longest token that is asked about.
const LONGEST: usize = 16 * 1024;

/// Whose tokens are whose.
pub struct Tokens {
    link: Link,
    counts: Duration,
    /// By the token's digest: the tokens themselves are not kept.
    answers: Cache<[u8; 32], Option<User>>,
    questions: Semaphore,
}

impl Tokens {
    /// Asks over `link`; an answer counts for so long.
    pub fn new(link: Link, counts: Duration) -> Self {
        Self { link, counts, answers: Cache::new(ANSWERS), questions: Semaphore::new(QUESTIONS) }
    }

    /// Whose it is; nobody's, if the API server says so.
    pub async fn user(&self, token: &str) -> Result<Option<User>, Unknown> {
        if token.is_empty() || token.len() > LONGEST {
            return Ok(None);
        }
        let question: [u8; 32] = Sha256::digest(token).into();
        if let Some(user) = self.answers.get(&question, Instant::now()) {
            return Ok(user);
        }
        let asked = tokio::time::timeout(PATIENCE, async {
            let _place = self.questions.acquire().await.map_err(|_| Unknown::Busy)?;
            let spec = TokenReviewSpec { token: token.to_owned(), audiences: None };
            let review = TokenReview { spec, ..TokenReview::default() };
            let api = Api::<TokenReview>::all(self.link.client().await);
            Ok::<_, Unknown>(api.create(&PostParams::default(), &review).await?)
        });
        let review = asked.await.map_err(|_| Unknown::Silent(PATIENCE))??;
        let user = user(review.status.ok_or_else(|| Unknown::Empty)?);
        self.answers.put(question, user.clone(), Instant::now(), self.counts);
        Ok(user)
    }
}

fn user(status: TokenReviewStatus) -> Option<User> {
    let user = status.user.filter(|_| status.authenticated == Some(true))?;
    Some(User {
        name: user.username.unwrap_or_default(),
        uid: user.uid.unwrap_or_default(),
        groups: user.groups.unwrap_or_default(),
        extra: user.extra.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    #[test]
    fn a_token_is_somebody_s_only_if_the_api_server_says_so() {
        let info = UserInfo { username: Some("u".into()), groups: Some(vec!["g".into()]), ..UserInfo::default() };
        let status =
            |authenticated| TokenReviewStatus { authenticated, user: Some(info.clone()), ..Default::default() };
        assert_eq!(user(status(None)), None);
        assert_eq!(user(status(Some(false))), None);
        let known = user(status(Some(true))).map(User::authenticated);
        assert_eq!(
            known.map(|it| (it.name, it.groups)),
            Some(("u".into(), vec!["g".into(), "system:authenticated".into()]))
        );
        assert_eq!(user(TokenReviewStatus { authenticated: Some(true), ..Default::default() }), None);
    }
}
