//! Targets that are not there, are not any more, and are others now.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use e2e::netns::Host;
use e2e::traffic::{Answerer, Protocol};
use e2e::{deadline, need, patience, skip};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::world::{Echo, PORT, STATUS, V4, World, http, round_trip};

fn answerer(host: &Host, port: u16, name: &str) -> Answerer {
    Answerer::start(host, Protocol::Tcp, (V4, port).into(), name).expect("a port")
}

fn at(port: u16) -> SocketAddr {
    (V4, port).into()
}

/// Two targets that are checked often.
fn two(balance: &str) -> Value {
    json!({"ports": [{"port": PORT}], "targets": ["127.0.0.1:7001", "127.0.0.1:7002"], "balance": balance,
        "healthCheck": {"periodSeconds": 1, "failureThreshold": 1}})
}

#[test]
fn the_first_target_that_is_there_has_the_connections() {
    need!(skip::root());
    let mut world = World::with(two("FirstHealthy"));
    assert!(!world.is_ready(), "nothing is there yet");
    let one = answerer(&world.host, 7001, "one");
    let _two = answerer(&world.host, 7002, "two");
    world.wait_until_up(at(7001), true);
    world.wait_until_up(at(7002), true);
    assert!(world.is_ready());
    for _ in 0..5 {
        assert_eq!(world.who(PORT).expect("an answer"), "one");
    }
    drop(one);
    // Whether or not a check has found out: nobody is refused.
    for _ in 0..20 {
        assert_eq!(world.who(PORT).expect("an answer"), "two");
    }
    world.wait_until_up(at(7001), false);
    assert!(world.is_ready(), "one of them is there");
    let _one = answerer(&world.host, 7001, "one");
    world.wait_until_up(at(7001), true);
    assert_eq!(world.who(PORT).expect("an answer"), "one");
}

#[test]
fn targets_that_are_there_take_turns() {
    need!(skip::root());
    let mut world = World::with(two("RoundRobin"));
    let one = answerer(&world.host, 7001, "one");
    let _two = answerer(&world.host, 7002, "two");
    world.wait_until_up(at(7001), true);
    world.wait_until_up(at(7002), true);
    let said: Vec<String> = (0..10).map(|_| world.who(PORT).expect("an answer")).collect();
    let of_one = said.iter().filter(|name| *name == "one").count();
    assert_eq!((of_one, said.len()), (5, 10), "{said:?}");
    assert!(said.windows(2).all(|pair| pair[0] != pair[1]), "{said:?}");
    drop(one);
    world.wait_until_up(at(7001), false);
    assert!((0..5).all(|_| world.who(PORT).is_ok_and(|name| name == "two")));
}

#[test]
fn a_target_that_answers_wrongly_is_not_healthy() {
    need!(skip::root());
    let mut world = World::new();
    let status = world.write("status", "200");
    let mut server = std::process::Command::new(e2e::binary::coracle());
    server.args(["tool", "serve", "--port", "7001", "--status-file"]).arg(&status);
    let mut server = world.host.spawn(server);
    server.wait_for("serving on");
    world.configure(&json!({"ports": [{"port": PORT}], "targets": ["127.0.0.1:7001"],
        "healthCheck": {"type": "HTTP", "path": "/health", "periodSeconds": 1, "failureThreshold": 2}}));
    world.start();
    world.wait_until_up(at(7001), true);
    assert!(world.is_ready());
    world.write("status", "503");
    world.wait_until_up(at(7001), false);
    assert_eq!(http(&world.host, at(STATUS), "/ready").expect("an answer").0, 503);
    // There is no better one, and it may be the check that is wrong.
    assert_eq!(http(&world.host, at(PORT), "/").expect("it is led there").0, 503);
    world.write("status", "204");
    world.wait_until_up(at(7001), true);
}

#[test]
fn a_client_learns_that_its_target_died_and_that_there_is_none() {
    need!(skip::root());
    let world = World::with(json!({"ports": [{"port": PORT}], "targets": ["127.0.0.1:7000"]}));
    let echo = Echo::start(&world.host, at(7000));
    let mut stream = world.connect(PORT);
    round_trip(&mut stream, "alive").expect("it stands");
    drop(echo);
    let ended = stream.read(&mut [0; 10]);
    assert!(
        matches!(&ended, Ok(0)) || ended.as_ref().is_err_and(|e| e.kind() == ErrorKind::ConnectionReset),
        "{ended:?}"
    );
    // The reset may be there before the client's connect has returned.
    let refused = world.connect_to(at(PORT)).and_then(|mut stream| stream.read(&mut [0; 10]));
    assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
    assert!(world.metric("connections_refused_total{port=\"6379\",protocol=\"TCP\"}") > 0);
}

#[test]
fn a_target_that_says_nothing_costs_its_time_and_no_more() {
    need!(skip::root());
    let mut world = World::new();
    let outside = world.host.join_outside().expect("a neighbour");
    // Nobody has that address: what is sent there is lost.
    let lost = "192.0.2.77:7001";
    let config = json!({"ports": [{"port": PORT}], "targets": [lost, "192.0.2.2:7002"], "connectTimeoutSeconds": 1,
        "healthCheck": {"type": "None"}});
    world.configure(&config);
    world.start();
    let _two = Answerer::start(&outside, Protocol::Tcp, (e2e::netns::OUTSIDE[0], 7002).into(), "two").expect("a port");
    assert_eq!(world.who(PORT).expect("the second is asked"), "two");
    assert_eq!(world.metric(&format!("target_refused_total{{target=\"{lost}\",address=\"{lost}\"}}")), 1);
    // It is left alone for a while.
    let begun = Instant::now();
    assert_eq!(world.who(PORT).expect("an answer"), "two");
    let again = world.metric(&format!("target_refused_total{{target=\"{lost}\",address=\"{lost}\"}}"));
    assert!(again == 1 || begun.elapsed() > Duration::from_secs(1), "{again}");
}

#[test]
fn other_targets_are_for_new_connections_and_the_old_ones_live_on() {
    need!(skip::root());
    let config = |target: &str, ports: &[u16]| {
        let ports: Vec<Value> = ports.iter().map(|port| json!({"port": port})).collect();
        json!({"ports": ports, "targets": [target]})
    };
    let mut world = World::with(config("127.0.0.1:7001", &[PORT]));
    let _echo = Echo::start(&world.host, at(7001));
    let _two = answerer(&world.host, 7002, "two");
    let mut old = world.connect(PORT);
    round_trip(&mut old, "before").expect("it stands");
    world.reconfigure(&config("127.0.0.1:7002", &[PORT, 6380]));
    assert_eq!(world.who(PORT).expect("an answer"), "two");
    assert_eq!(world.who(6380).expect("the new port is there"), "two");
    round_trip(&mut old, "after").expect("it still stands");
    // What is not good changes nothing.
    world.configure(&json!({"ports": []}));
    world.eventually("it is refused", |world| world.metric("config_reloads_total{outcome=\"bad\"}") == 1);
    assert_eq!(world.who(PORT).expect("an answer"), "two");
    // A port that goes takes none with it.
    world.reconfigure(&config("127.0.0.1:7002", &[6380]));
    world.eventually("the port is free", |world| world.connect_to(at(PORT)).is_err());
    round_trip(&mut old, "and after").expect("it still stands");
}

#[test]
fn whoever_ends_it_waits_for_its_connections_and_not_for_ever() {
    need!(skip::root());
    let config =
        |seconds: u32| json!({"ports": [{"port": PORT}], "targets": ["127.0.0.1:7000"], "drainSeconds": seconds});
    let mut world = World::with(config(600));
    let _echo = Echo::start(&world.host, at(7000));
    let mut stream = world.connect(PORT);
    round_trip(&mut stream, "before").expect("it stands");
    world.run().signal(Signal::TERM);
    world.run().wait_for("ending: ");
    assert!(!world.is_ready());
    world.connect_to(at(PORT)).expect_err("nobody is let in");
    round_trip(&mut stream, "meanwhile").expect("it goes on");
    drop(stream);
    world.take_run().wait_within(patience(Duration::from_secs(30))).exits(0);

    let mut world = World::with(config(1));
    let _echo = Echo::start(&world.host, at(7000));
    let mut stream = world.connect(PORT);
    round_trip(&mut stream, "before").expect("it stands");
    world.run().signal(Signal::TERM);
    world.take_run().wait_within(deadline()).exits(0);
    stream.read(&mut [0; 1]).map(|count| assert_eq!(count, 0)).unwrap_or_default();
}
