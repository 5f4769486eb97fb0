#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};

use super::*;

fn name(name: &str) -> (String, String) {
    ("ns".to_owned(), name.to_owned())
}

fn pods(pods: &[(&str, Value)]) -> Pods {
    let pod = |(uid, volumes): &(&str, Value)| {
        let pod = json!({
            "metadata": {"namespace": "ns", "name": format!("pod-{uid}"), "uid": uid},
            "spec": {"serviceAccountName": "robot", "containers": [{"name": "c"}], "volumes": volumes}
        });
        (name(&format!("pod-{uid}")), Arc::new(serde_json::from_value(pod).unwrap()))
    };
    pods.iter().map(pod).collect()
}

fn map_volume(map: &str) -> Value {
    json!([{"name": map, "configMap": {"name": map}}])
}

fn map(value: &str) -> Answer<Item> {
    let map = json!({"metadata": {"namespace": "ns", "name": "m"}, "data": {"k": value}});
    Answer::Is(Item::ConfigMap(Arc::new(serde_json::from_value(map).unwrap())))
}

fn reference(map: &str) -> Reference {
    Reference::ConfigMap(name(map))
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn token(expires: &str) -> Token {
    Token { text: "t".into(), given: Timestamp::UNIX_EPOCH, expires: expires.parse().unwrap() }
}

/// A state in which the Services are known.
fn state() -> State {
    State { services_known: true, ..State::default() }
}

fn told(given: &Given) -> Vec<&str> {
    given.iter().map(|(uid, _)| uid.as_str()).collect()
}

#[test]
fn a_pod_waits_until_something_was_told_of_all_that_it_refers_to() {
    let secret = Reference::Secret(name("s"));
    let mut state = State::default();
    state.want(&pods(&[
        ("a", json!([{"name": "m", "configMap": {"name": "m"}}, {"name": "s", "secret": {"secretName": "s"}}])),
        ("b", json!([])),
    ]));
    let waits = |state: &State| state.unknown(now());
    assert_eq!(waits(&state)["a"], ["ConfigMap ns/m", "Secret ns/s", "Services"]);
    assert_eq!(waits(&state)["b"], ["Services"]);
    state.services_known = true;
    state.hear(&reference("m"), Answer::Unknown(Some("connection refused".into())));
    assert_eq!(waits(&state)["a"], ["ConfigMap ns/m (connection refused)", "Secret ns/s"]);
    assert!(!waits(&state).contains_key("b"));
    state.hear(&reference("m"), Answer::Missing);
    assert_eq!(waits(&state)["a"], ["Secret ns/s"]);
    state.hear(&secret, Answer::Refused("secrets \"s\" is forbidden".into()));
    assert!(waits(&state).is_empty(), "what may not be read is told, too");
}

#[test]
fn what_is_known_stays_in_use_until_the_server_says_something_else() {
    let lost = || Answer::Unknown(Some("gone".into()));
    for (answers, expected) in [
        (vec![map("1"), lost()], map("1")),
        (vec![map("1"), Answer::Refused("no".into())], map("1")),
        (vec![map("1"), map("2")], map("2")),
        (vec![map("1"), Answer::Missing], Answer::Missing),
        (vec![Answer::Missing, lost()], Answer::Missing),
        (vec![Answer::Missing, Answer::Refused("no".into())], Answer::Refused("no".into())),
        (vec![Answer::Missing, map("1")], map("1")),
        (vec![Answer::Refused("no".into()), lost()], Answer::Refused("no".into())),
        (vec![Answer::Refused("no".into()), map("1"), lost()], map("1")),
        (vec![lost(), Answer::Unknown(None)], Answer::Unknown(None)),
    ] {
        let mut known = Answer::Unknown(None);
        answers.clone().into_iter().for_each(|answer| known.take(answer));
        assert_eq!(known, expected, "{answers:?}");
    }
}

#[test]
fn only_the_pods_are_told_that_refer_to_what_has_changed() {
    let mut state = state();
    let given = state.want(&pods(&[("a", map_volume("m")), ("b", map_volume("m")), ("c", map_volume("other"))]));
    assert_eq!(told(&given), ["a", "b", "c"]);
    assert!(given.iter().all(|(_, objects)| objects.origin == Origin::Cluster), "nothing of manifests is theirs");
    let given = state.hear(&reference("m"), map("1"));
    assert_eq!(told(&given), ["a", "b"]);
    assert_eq!(given[0].1.config_map("ns", "m").unwrap()["k"], b"1");
    assert!(state.hear(&reference("m"), map("1")).is_empty(), "nothing new");
    assert_eq!(told(&state.hear(&reference("m"), map("2"))), ["a", "b"]);
    let given = state.want(&pods(&[("a", map_volume("m")), ("b", map_volume("other"))]));
    assert_eq!(told(&given), ["b"], "it refers to something else now");
    assert!(given[0].1.config_maps.is_empty());
}

#[test]
fn what_nobody_refers_to_any_more_is_forgotten() {
    let mut state = state();
    state.want(&pods(&[("a", map_volume("m"))]));
    state.hear(&reference("m"), map("1"));
    assert_eq!(state.references(), [reference("m")].into());
    state.want(&pods(&[]));
    assert_eq!(state.references(), [].into());
    state.want(&pods(&[("a", map_volume("m"))]));
    assert_eq!(state.unknown(now())["a"], ["ConfigMap ns/m"]);
}

#[test]
fn a_claim_leads_to_its_volume_when_it_is_bound() {
    let claim_ref = Reference::Claim { pod: "a".into(), name: name("c") };
    let volume_ref = Reference::Volume { pod: "a".into(), name: "pv".into() };
    let claim = |phase: &str| {
        let claim = json!({"metadata": {"namespace": "ns", "name": "c"}, "spec": {"volumeName": "pv"},
            "status": {"phase": phase}});
        Answer::Is(Item::Claim(Arc::new(serde_json::from_value(claim).unwrap())))
    };
    let mut state = state();
    state.want(&pods(&[("a", json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]))]));
    state.hear(&claim_ref, claim("Pending"));
    assert_eq!(state.references(), [claim_ref.clone()].into());
    assert!(state.unknown(now()).is_empty(), "what it waits for is told by the volume's own words");
    state.hear(&claim_ref, claim("Bound"));
    assert_eq!(state.references(), [claim_ref, volume_ref.clone()].into());
    assert_eq!(state.unknown(now())["a"], ["PersistentVolume pv"]);
    let volume = serde_json::from_value(json!({"metadata": {"name": "pv"}})).unwrap();
    let given = state.hear(&volume_ref, Answer::Is(Item::Volume(Arc::new(volume))));
    assert!(given[0].1.volumes.contains_key("pv"));
    assert!(state.unknown(now()).is_empty());
}

#[test]
fn a_token_that_has_expired_lets_nobody_begin_and_is_taken_from_nobody() {
    let wish = TokenWish { audience: None, seconds: 3607 };
    let key = TokenKey { pod: "a".into(), wish: wish.clone() };
    let source = json!([{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}]);
    let volumes = json!([{"name": "v", "projected": {"sources": source}}]);
    let mut state = state();
    state.want(&pods(&[("a", volumes)]));
    assert_eq!(state.token_keys()[&key].account, "robot");
    assert_eq!(state.unknown(now())["a"], ["token of service account robot"]);
    let given = state.hear_token(&key, Answer::Refused("serviceaccounts \"robot\" not found".into()));
    assert!(state.unknown(now()).is_empty(), "the volume says why");
    assert_eq!(
        given[0].1.token(&wish).unwrap_err().to_string(),
        "failed to fetch token: serviceaccounts \"robot\" not found"
    );
    state.hear_token(&key, Answer::Is(token("2026-01-01T01:00:00Z")));
    assert!(state.unknown(now()).is_empty());
    let later = "2026-01-01T01:00:00Z".parse().unwrap();
    assert_eq!(state.unknown(later)["a"], ["token of service account robot (the last has expired)"]);
    state.hear_token(&key, Answer::Unknown(Some("gone".into())));
    assert_eq!(state.token(&key), Some(&token("2026-01-01T01:00:00Z")));
}

#[test]
fn what_is_recalled_is_known_for_those_who_refer_to_it() {
    let Answer::Is(item) = map("1") else { unreachable!() };
    let mut state = State::recalled(vec![(reference("m"), item)], vec![], true);
    let given = state.want(&pods(&[("a", map_volume("m"))]));
    assert!(given[0].1.config_maps.contains_key(&name("m")));
    assert!(state.unknown(now()).is_empty(), "it begins without the API server");
}
