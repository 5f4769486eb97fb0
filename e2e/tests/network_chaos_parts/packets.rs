//! Real packets between pairs of pods.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use e2e::pods::Pod;
use e2e::traffic::{Answerer, Protocol, SILENCE, ask, ask_within, get, get_within};
use e2e::{Node, inspect};

use super::model::{DECLARED, HIDDEN, Pods, name, reaches};

/// Ways that are tried at the same time.
const AT_ONCE: usize = 32;

/// A port of a pod, and how it is asked: the server of the pod itself, or ones beside it in its network.
#[derive(Clone, Copy, Debug)]
enum Way {
    Http,
    Udp,
    Undeclared,
}

/// Which of these pairs do not behave as declared.
pub fn wrong(node: &Node, pods: &Pods, pairs: &BTreeSet<(usize, usize)>) -> Vec<String> {
    let numbers: BTreeSet<usize> = pairs.iter().flat_map(|(from, to)| [*from, *to]).collect();
    let found: BTreeMap<usize, Pod> = numbers.iter().map(|it| (*it, Pod::find(node, &name(*it)))).collect();
    let answer = |pod: &Pod, protocol, port| {
        let any = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), port);
        Answerer::start(&pod.network, protocol, any, &pod.name).expect("nobody has the port")
    };
    let _answerers: Vec<_> =
        found.values().map(|pod| [answer(pod, Protocol::Udp, DECLARED), answer(pod, Protocol::Tcp, HIDDEN)]).collect();
    let mut ways = Vec::new();
    for (from, to) in pairs {
        for way in [Way::Http, Way::Udp, Way::Undeclared] {
            let port = if matches!(way, Way::Undeclared) { HIDDEN } else { DECLARED };
            let expected = reaches(pods, *from, *to, port);
            ways.extend(found[to].at(port).into_iter().map(|at| (&found[from], &found[to], way, at, expected)));
        }
    }
    let mut wrong = Vec::new();
    for some in ways.chunks(AT_ONCE) {
        wrong.extend(std::thread::scope(|scope| {
            let tried: Vec<_> = some
                .iter()
                .map(|&(from, to, way, at, expected)| {
                    scope.spawn(move || {
                        let answered = answers(from, to, way, at, expected);
                        (answered != expected)
                            .then(|| format!("{} to {} at {at} by {way:?}: {answered}", from.name, to.name))
                    })
                })
                .collect();
            tried.into_iter().filter_map(|it| it.join().expect("it asks")).collect::<Vec<_>>()
        }));
    }
    wrong
}

fn answers(from: &Pod, to: &Pod, way: Way, at: SocketAddr, expected: bool) -> bool {
    let named = |answer: std::io::Result<e2e::traffic::Answer>| {
        answer.is_ok_and(|it| it.name == to.name && it.from == from.ip_like(at.ip()))
    };
    let protocol = if matches!(way, Way::Udp) { Protocol::Udp } else { Protocol::Tcp };
    match (way, expected) {
        // It is ready before it listens: nobody has told it to say so.
        (Way::Http, true) => {
            let right = || (get(&from.network, at).ok()? == format!("hello from {}\n", to.name)).then_some(());
            inspect::wait_for(right).is_some()
        }
        (Way::Http, false) => get_within(&from.network, at, SILENCE).is_ok(),
        (_, true) => named(ask(&from.network, protocol, at)),
        (_, false) => ask_within(&from.network, protocol, at, SILENCE).is_ok(),
    }
}
