//! The classic form: variables as Docker's links set them, or two words.

use std::process::Command;

use e2e::traffic::{Answerer, Protocol, ask};
use e2e::{binary, need, skip};
use rustix::process::Signal;

use super::world::{Echo, V4, World, round_trip};

fn applet() -> Command {
    let mut command = Command::new(binary::coracle());
    command.args(["tool", "ambassador"]).env_clear();
    command
}

#[test]
fn variables_say_what_is_relayed() {
    need!(skip::root());
    let mut world = World::new();
    let _echo = Echo::start(&world.host, (V4, 16379).into());
    let _dns = Answerer::start(&world.host, Protocol::Udp, (V4, 7053).into(), "dns").expect("a port");
    let mut command = applet();
    command.envs([
        ("REDIS_PORT", "tcp://127.0.0.1:16379"),
        ("REDIS_PORT_6379_TCP", "tcp://127.0.0.1:16379"),
        ("REDIS_PORT_6379_TCP_ADDR", "127.0.0.1"),
        ("DNS_PORT_53_UDP", "udp://127.0.0.1:7053"),
    ]);
    world.start_as(command);
    world.run().wait_for("TCP 6379 leads to 127.0.0.1:16379");
    round_trip(&mut world.connect(6379), "hello").expect("it is relayed");
    assert_eq!(ask(&world.host, Protocol::Udp, (V4, 53).into()).expect("an answer").name, "dns");
    let held = world.connect(6379);
    world.run().signal(Signal::TERM);
    world.take_run().wait().exits(143);
    drop(held);
}

#[test]
fn two_words_are_a_host_and_a_port() {
    need!(skip::root());
    let mut world = World::new();
    let _echo = Echo::start(&world.host, ([127, 0, 0, 2], 7000).into());
    let mut command = applet();
    command.args(["127.0.0.2", "7001", "more"]);
    world.host.run(command).exits(2).says("unexpected 127.0.0.2");
    // The same port on both sides: another address of the loopback keeps the two apart.
    let mut command = applet();
    command.args(["127.0.0.2", "7000"]);
    let clash = world.host.run(command);
    clash.exits(1).says("cannot listen on TCP 7000");
    let outside = world.host.join_outside().expect("a neighbour");
    let _echo = Echo::start(&outside, (e2e::netns::OUTSIDE[0], 7002).into());
    let mut command = applet();
    command.args(["192.0.2.2", "7002"]);
    world.start_as(command);
    round_trip(&mut world.connect(7002), "hello").expect("it is relayed");
}

#[test]
fn nothing_to_relay_is_a_failure_that_says_so() {
    need!(skip::root());
    let world = World::new();
    let mut command = applet();
    command.env("PATH", "/bin");
    world.host.run(command).exits(1).says("no variable says what to relay");
    let mut command = applet();
    command.args(["--config", "/nonexistent/config.json"]);
    world.host.run(command).exits(1).says("/nonexistent/config.json");
    let bad = world.write("bad.json", "{\"ports\": [{\"port\": 1}]}");
    let mut command = applet();
    command.arg("--config").arg(bad);
    world.host.run(command).exits(1).says("port 1 leads nowhere");
}
