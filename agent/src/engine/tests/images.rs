//! What becomes of images, on paused time.

use super::super::notice::Pull;
use super::*;

fn with_policy(policy: &str, image: &str) -> Arc<Pod> {
    pod("p", json!({"containers": [{"name": "a", "image": image, "imagePullPolicy": policy}]}))
}

fn pulls(fake: &Fake) -> Vec<String> {
    fake.calls().into_iter().filter(|call| call.contains(" pull ")).collect()
}

fn told(bench: &mut Bench) -> Vec<Pull> {
    let events = bench.events().into_iter();
    let pulls = events.filter_map(|event| match event {
        Event::Pull { pull: Pull::Done { image, bytes, resumed, .. }, .. } => {
            Some(Pull::Done { image, bytes, resumed, took: Duration::ZERO })
        }
        Event::Pull { pull, .. } => Some(pull),
        _ => None,
    });
    pulls.collect()
}

#[tokio::test(start_paused = true)]
async fn the_pull_policy_table_holds() {
    for (policy, image, pulled, reason) in [
        ("Always", "i", true, None),
        ("Always", "gone", true, Some("ErrImagePull")),
        ("IfNotPresent", "i", false, None),
        ("IfNotPresent", "gone", true, Some("ErrImagePull")),
        ("Never", "i", false, None),
        ("Never", "gone", false, Some("ErrImageNeverPull")),
    ] {
        let bench = bench_with(|options| options.fail_fast = true).await;
        let handle = bench.engine.start(with_policy(policy, image)).unwrap();
        at(1).await;
        handle.stop(Duration::ZERO);
        let fatal = handle.outcome().await.fatal.map(|failure| failure.reason);
        assert_eq!(fatal.as_deref(), reason, "{policy} {image}");
        assert_eq!(!pulls(&bench.fake).is_empty(), pulled, "{policy} {image}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pull_is_told_and_one_that_brings_nothing_is_not() {
    for foreign in [false, true] {
        let mut bench = bench().await;
        bench.fake.world().pulls.foreign = foreign;
        let handle = bench.engine.start(with_policy("Always", "i")).unwrap();
        at(1).await;
        assert_eq!(told(&mut bench), []);
        handle.stop(Duration::ZERO);
        handle.outcome().await;
    }
    let mut bench = bench().await;
    bench.fake.world().pulls.bytes = 5000;
    let handle = bench.engine.start(with_policy("Always", "i")).unwrap();
    at(1).await;
    let image = || "i".to_owned();
    let done = Pull::Done { image: image(), bytes: 5000, resumed: 0, took: Duration::ZERO };
    assert_eq!(told(&mut bench), [Pull::Begun { image: image() }, done]);
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_down_is_tried_again_even_by_a_hasty_run_but_not_for_a_refusal() {
    let mut bench = bench_with(|options| options.fail_fast = true).await;
    let down = || Status::unavailable("503");
    bench.fake.world().pulls.failures.extend([down(), down(), down()]);
    let handle = bench.engine.start(with_policy("Always", "i")).unwrap();
    at(75).await;
    assert_eq!(pulls(&bench.fake), ["0 pull i", "10 pull i", "30 pull i", "70 pull i"]);
    assert_eq!(creations(&bench.fake), ["70 create a 0"]);
    let waits: Vec<(String, u64)> = bench
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Waiting { reason, delay, .. } => Some((reason, delay.as_secs())),
            _ => None,
        })
        .collect();
    let expected = [("ErrImagePull", 10), ("ImagePullBackOff", 20), ("ImagePullBackOff", 40)];
    assert_eq!(waits, expected.map(|(reason, delay)| (reason.to_owned(), delay)));
    handle.stop(Duration::ZERO);
    handle.outcome().await;

    let bench = bench_with(|options| options.fail_fast = true).await;
    bench.fake.world().pulls.failures.extend([down(), Status::unauthenticated("401")]);
    let outcome = bench.engine.start(with_policy("Always", "i")).unwrap().outcome().await;
    assert_eq!(pulls(&bench.fake), ["0 pull i", "10 pull i"]);
    assert!(outcome.fatal.unwrap().message.contains("401"));
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_a_pull() {
    for foreign in [false, true] {
        let bench = bench().await;
        bench.fake.world().pulls =
            super::super::fake::Pulls { foreign, takes: Duration::from_secs(1000), ..Default::default() };
        let handle = bench.engine.start(with_policy("Always", "i")).unwrap();
        at(2).await;
        handle.stop(Duration::from_secs(30));
        let outcome = tokio::time::timeout(Duration::from_secs(1), handle.outcome()).await.unwrap();
        assert_eq!(outcome.fatal, None);
        assert_eq!(bench.fake.calls()[1..], ["0 pull i", "2 stop-sandbox p-s0"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_pull_keeps_no_other_pod_from_starting() {
    let bench = bench().await;
    bench.fake.world().pulls.takes = Duration::from_secs(1000);
    let slow =
        |name: &str| pod(name, json!({"containers": [{"name": "a", "image": "i", "imagePullPolicy": "Always"}]}));
    let mut handles: Vec<_> = ["x", "y", "z"].map(|name| bench.engine.start(slow(name)).unwrap()).into();
    handles.push(bench.engine.start(one("Always")).unwrap());
    at(1).await;
    assert_eq!(creations(&bench.fake), ["0 create a 0"]);
    for handle in handles {
        handle.stop(Duration::ZERO);
        handle.outcome().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_pods_secrets_are_tried_in_turn_and_then_the_hosts_own() {
    let secret = |user: &str| {
        let config = json!({"auths": {"r.test": {"username": user, "password": "p"}}}).to_string();
        serde_json::from_value(json!({"stringData": {".dockerconfigjson": config}})).unwrap()
    };
    for (foreign, user, expected) in [
        (false, "second", vec!["first", "second"]),
        (true, "second", vec!["first", "second"]),
        (false, "", vec!["first", "second", ""]),
    ] {
        let bench = bench_with(|options| {
            for name in ["first", "second"] {
                options.objects.secrets.insert(("default".into(), name.into()), Arc::new(secret(name)));
            }
        })
        .await;
        bench.fake.world().images.insert("r.test/i".into());
        bench.fake.world().pulls = super::super::fake::Pulls { foreign, user: Some(user.into()), ..Default::default() };
        let names = json!([{"name": "first"}, {"name": "second"}]);
        let containers = json!([{"name": "a", "image": "r.test/i", "imagePullPolicy": "Always"}]);
        let spec = json!({"imagePullSecrets": names, "containers": containers});
        let handle = bench.engine.start(pod("p", spec)).unwrap();
        at(1).await;
        let expected: Vec<String> =
            expected.iter().map(|user| format!("0 pull r.test/i {user}").trim_end().to_owned()).collect();
        assert_eq!(pulls(&bench.fake), expected);
        assert_eq!(creations(&bench.fake), ["0 create a 0"]);
        handle.stop(Duration::ZERO);
        handle.outcome().await;
    }
}
