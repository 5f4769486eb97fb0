//! From a request to the answer that it gets.

use std::sync::Arc;

use super::wire::Asked;
use super::{Access, Fault, REPOSITORY, Shared, State, Target};
use crate::archive::digest;
use crate::registry::BASIC;

/// An answer, and how its body is sent.
pub(super) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Arc<Vec<u8>>,
    /// Where in `body` it begins.
    pub from: usize,
    pub fault: Option<Fault>,
}

impl Answer {
    fn new(status: u16, body: Vec<u8>) -> Self {
        Self { status, headers: Vec::new(), body: Arc::new(body), from: 0, fault: None }
    }

    fn error(status: u16, code: &str) -> Self {
        let text = format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"by script\"}}]}}");
        Self::new(status, text.into_bytes()).header("Content-Type", "application/json")
    }

    fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// What a path stands for.
pub(super) fn target(shared: &Shared, path: &str) -> Target {
    let path = path.split('?').next().unwrap_or_default();
    if path == "/v2/" || path == "/v2" {
        return Target::Base;
    }
    if path == "/token" {
        return Target::Token;
    }
    let Some(rest) = path.strip_prefix("/v2/").and_then(|rest| rest.strip_prefix(REPOSITORY)) else {
        return Target::Other;
    };
    let content = &shared.content;
    if let Some(name) = rest.strip_prefix("/manifests/") {
        return match name {
            "1" => Target::Tagged,
            name if name == digest(&content.tagged.0) => Target::Tagged,
            name if name == digest(&content.manifest.0) => Target::Manifest,
            _ => Target::Other,
        };
    }
    let Some(name) = rest.strip_prefix("/blobs/") else { return Target::Other };
    if name == content.id() {
        return Target::Config;
    }
    let layer = (0..content.layers.len()).find(|layer| name == content.layer_digest(*layer));
    layer.map_or(Target::Other, Target::Layer)
}

/// The answer to a request, with the fault that is due.
pub(super) fn answer(shared: &Shared, asked: &Asked, target: Target) -> Answer {
    let mut state = shared.lock();
    let fault = if asked.method == "HEAD" { None } else { state.fault(target) };
    if target == Target::Token {
        return state.token(asked, fault);
    }
    if let Some(refusal) = state.refusal(shared, asked) {
        return refusal;
    }
    drop(state);
    let content = &shared.content;
    let whole = match target {
        Target::Base => Answer::new(200, b"{}".to_vec()),
        Target::Tagged => document(&content.tagged),
        Target::Manifest => document(&content.manifest),
        Target::Config => blob(&content.config),
        Target::Layer(number) => blob(&content.layers[number]),
        Target::Token | Target::Other => Answer::error(404, "NOT_FOUND"),
    };
    spoil(ranged(whole, asked, fault.as_ref()), asked, fault)
}

fn document((bytes, media_type): &(Arc<Vec<u8>>, String)) -> Answer {
    let answer = Answer { body: Arc::clone(bytes), ..Answer::new(200, Vec::new()) };
    answer.header("Content-Type", media_type.clone()).header("Docker-Content-Digest", digest(bytes))
}

fn blob(bytes: &Arc<Vec<u8>>) -> Answer {
    let answer = Answer { body: Arc::clone(bytes), ..Answer::new(200, Vec::new()) };
    answer.header("Content-Type", "application/octet-stream").header("Accept-Ranges", "bytes")
}

fn ranged(answer: Answer, asked: &Asked, fault: Option<&Fault>) -> Answer {
    let length = answer.body.len();
    let Some(from) = asked.from.and_then(|from| usize::try_from(from).ok()) else { return answer };
    if answer.status != 200 || matches!(fault, Some(Fault::IgnoreRange)) {
        return answer;
    }
    if from >= length {
        return Answer::error(416, "RANGE_INVALID").header("Content-Range", format!("bytes */{length}"));
    }
    let from = match fault {
        Some(Fault::WrongRange(by)) => from.saturating_sub(usize::try_from(*by).unwrap_or(usize::MAX)),
        _ => from,
    };
    let range = format!("bytes {from}-{}/{length}", length - 1);
    Answer { status: 206, from, ..answer }.header("Content-Range", range)
}

/// What the answer itself has to say of a fault; the rest happens while it is sent.
fn spoil(mut answer: Answer, asked: &Asked, fault: Option<Fault>) -> Answer {
    match fault {
        Some(Fault::Status(status, headers)) => {
            let error = Answer::error(status, "BY_SCRIPT");
            headers.into_iter().fold(error, |error, (name, value)| error.header(name, value))
        }
        Some(Fault::Redirect(host)) => {
            Answer::new(307, Vec::new()).header("Location", format!("http://{host}{}", asked.path))
        }
        Some(Fault::Corrupt) => {
            let mut bytes = answer.body.to_vec();
            // The middle of what is sent.
            let middle = answer.from + (bytes.len() - answer.from) / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 1;
            }
            answer.body = Arc::new(bytes);
            answer
        }
        fault => {
            answer.fault = fault;
            answer
        }
    }
}

impl State {
    fn fault(&mut self, target: Target) -> Option<Fault> {
        let once = self.once.get_mut(&target).and_then(|faults| faults.pop_front());
        once.or_else(|| self.always.get(&target).cloned())
    }

    fn token(&mut self, asked: &Asked, fault: Option<Fault>) -> Answer {
        let known = asked.authorization.as_deref() == Some(BASIC);
        if self.access == Access::Bearer && !known {
            return Answer::error(401, "UNAUTHORIZED");
        }
        self.tokens.push(0);
        let body = serde_json::json!({"token": format!("token-{}", self.tokens.len()), "expires_in": 300});
        let answer = Answer::new(200, body.to_string().into_bytes()).header("Content-Type", "application/json");
        spoil(answer, asked, fault)
    }

    fn refusal(&mut self, shared: &Shared, asked: &Asked) -> Option<Answer> {
        let given = asked.authorization.as_deref();
        let basic = "Basic realm=\"e2e\"".to_owned();
        let bearer = format!(
            "Bearer realm=\"http://{}/token\",service=\"e2e\",scope=\"repository:{REPOSITORY}:pull\"",
            shared.address
        );
        let (admitted, challenge) = match self.access {
            Access::Open => (true, basic),
            Access::Basic => (given == Some(BASIC), basic),
            Access::Nobody => (false, basic),
            Access::Bearer | Access::AnonymousBearer => (self.use_token(given, u32::MAX), bearer),
            Access::ShortBearer(uses) => (self.use_token(given, uses), bearer),
        };
        (!admitted).then(|| Answer::error(401, "UNAUTHORIZED").header("WWW-Authenticate", challenge))
    }

    fn use_token(&mut self, given: Option<&str>, uses: u32) -> bool {
        let number = given.and_then(|given| given.strip_prefix("Bearer token-")?.parse::<usize>().ok());
        let used = number.and_then(|number| self.tokens.get_mut(number.checked_sub(1)?));
        used.is_some_and(|used| {
            *used += 1;
            *used <= uses
        })
    }
}
