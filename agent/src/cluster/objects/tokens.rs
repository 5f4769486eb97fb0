//! Tokens of service accounts: asked for when a pod comes, and again long before they expire.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::{Api, PostParams};

use super::Shared;
use super::state::{Answer, Holder, TokenKey};
use super::watching::Trouble;
use crate::engine::config::objects::Token;

/// No token is used for longer than this.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// By up to how much renewals of many pods are spread.
const SPREAD_SECONDS: u32 = 10;

/// How long at most to sleep before the clock is looked at again: it may be set, and the machine may be suspended.
const NAP: Duration = Duration::from_secs(300);

/// How long to wait after an answer in any case.
const PAUSE: Duration = Duration::from_secs(30);

/// Keeps one token of a pod fresh.
pub async fn keep(shared: Arc<Shared>, key: TokenKey, holder: Option<Holder>) {
    let Some(holder) = holder else { return };
    let mut trouble = Trouble::default();
    let spread = spread();
    loop {
        let due = shared.token(&key).map(|token| renewal(&token, spread));
        let now = Timestamp::now();
        if let Some(due) = due.filter(|due| *due > now) {
            let left = Duration::try_from(due.duration_since(now)).unwrap_or_default();
            tokio::time::sleep(left.min(NAP)).await;
            continue;
        }
        let client = shared.link.client().await;
        let permit = shared.asking.acquire().await.ok();
        let answer = request(client, &key, &holder).await;
        drop(permit);
        match answer {
            Ok(token) => {
                trouble.refusals = 0;
                shared.hear_token(&key, Answer::Is(token)).await;
                // Where the clocks differ, what is new may look old.
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                tracing::debug!(pod = holder.pod.name, account = holder.account, %error, "no token could be had");
                shared.hear_token(&key, trouble.answer(&error)).await;
                trouble.rest(Some(&error)).await;
            }
        }
    }
}

async fn request(client: Client, key: &TokenKey, holder: &Holder) -> Result<Token, kube::Error> {
    let spec = TokenRequestSpec {
        audiences: key.wish.audience.clone().map(|audience| vec![audience]),
        expiration_seconds: Some(key.wish.seconds),
        bound_object_ref: Some(BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(holder.pod.name.clone()),
            uid: Some(holder.pod.uid.clone()),
        }),
        ..TokenRequestSpec::default()
    };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let accounts = Api::<ServiceAccount>::namespaced(client, &holder.pod.namespace);
    let answer = accounts.create_token_request(&holder.account, &PostParams::default(), &request).await?;
    let status = answer.status.unwrap_or_default();
    let (Some(text), Some(expires)) = (status.token, status.expiration_timestamp.map(|time| time.0)) else {
        let nothing = io::Error::other("the API server answered without a token");
        return Err(kube::Error::Service(nothing.into()));
    };
    // The API server may grant less, or more, than was asked for.
    let life = answer.spec.and_then(|spec| spec.expiration_seconds).unwrap_or(key.wish.seconds);
    let given = expires.saturating_sub(SignedDuration::from_secs(life)).unwrap_or(Timestamp::MIN);
    Ok(Token { text, given, expires })
}

/// When a token is to be renewed: with a fifth of its life left, and in any case a day after it was given.
fn renewal(token: &Token, spread: SignedDuration) -> Timestamp {
    let life = token.expires.duration_since(token.given);
    let early = token.expires.saturating_sub(life / 5).unwrap_or(Timestamp::MIN);
    let day = token.given.saturating_add(LONGEST).unwrap_or(Timestamp::MAX);
    early.min(day).saturating_sub(spread).unwrap_or(Timestamp::MIN)
}

fn spread() -> SignedDuration {
    let number = getrandom::u32().unwrap_or_default();
    SignedDuration::from_millis(i64::from(number % (SPREAD_SECONDS * 1000)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_is_renewed_with_a_fifth_of_its_life_left_and_after_a_day_at_the_latest() {
        let given: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (seconds, spread, expected) in [
            (3607, 0, "2026-01-01T00:48:05.6Z"),
            (600, 0, "2026-01-01T00:08:00Z"),
            (600, 10, "2026-01-01T00:07:50Z"),
            (86_400, 0, "2026-01-01T19:12:00Z"),
            (864_000, 0, "2026-01-02T00:00:00Z"),
        ] {
            let expires = given + SignedDuration::from_secs(seconds);
            let token = Token { text: String::new(), given, expires };
            let renewal = renewal(&token, SignedDuration::from_secs(spread));
            assert_eq!(renewal, expected.parse().unwrap(), "{seconds}");
        }
    }

    #[test]
    fn renewals_are_spread_over_a_few_seconds() {
        for _ in 0..100 {
            assert!(spread() < SignedDuration::from_secs(SPREAD_SECONDS.into()));
        }
    }
}
