#![allow(clippy::unwrap_used)]
use super::*;

const UNIT: &str = "unit.example/u";

fn set<const N: usize>(ids: [&str; N]) -> BTreeSet<String> {
    ids.map(str::to_owned).into()
}

fn given<const N: usize>(ids: [&str; N]) -> Option<Given> {
    Some(Given { devices: set(ids), answer: Answer::default() })
}

/// A pool where `a` to `d` are there, and `d` is not healthy.
fn pool() -> Pool {
    let mut pool = Pool::default();
    pool.registered(UNIT);
    pool.listed(UNIT, ["a", "b", "c", "d"].map(|id| (id.to_owned(), id != "d")).into());
    pool
}

fn count(pool: &mut Pool, now: Instant) -> (usize, usize) {
    let count = pool.counts(now)[UNIT];
    (count.capacity, count.allocatable)
}

#[test]
fn devices_of_a_plug_in_that_is_gone_are_unhealthy_for_a_while_and_then_none() {
    let (mut pool, now) = (pool(), Instant::now());
    assert_eq!(count(&mut pool, now), (4, 3));
    pool.gone(UNIT, now);
    assert_eq!(count(&mut pool, now), (4, 0));
    assert_eq!(pool.choice(UNIT, 1, &set([])), Err(Lack::Plugin));
    pool.registered(UNIT);
    assert_eq!(pool.choice(UNIT, 1, &set([])), Err(Lack::Plugin), "nothing is known of them yet");
    assert_eq!(count(&mut pool, now + GRACE), (0, 0), "and what it registered for it never said");
    pool.gone(UNIT, now);
    assert_eq!(count(&mut pool, now + GRACE), (0, 0), "the resource is still named");
    assert_eq!(Pool::new(set([UNIT]), BTreeMap::new()).counts(now)[UNIT], Count::default());
}

#[test]
fn a_list_says_what_it_has_changed() {
    let mut pool = pool();
    let list = |healthy: [bool; 4]| ["a", "b", "c", "d"].map(str::to_owned).into_iter().zip(healthy).collect();
    let news = |counts, served| News { counts, served };
    assert_eq!(pool.listed(UNIT, list([true, true, true, false])), news(false, false));
    assert_eq!(pool.listed(UNIT, list([false, true, true, true])), news(false, false), "as many as before");
    assert_eq!(pool.listed(UNIT, list([false, false, true, true])), news(true, false));
    pool.registered(UNIT);
    assert_eq!(count(&mut pool, Instant::now()), (4, 0), "another one may have others");
    assert_eq!(pool.listed(UNIT, list([false; 4])), news(false, true));
    assert_eq!(pool.choice(UNIT, 1, &set([])), Err(Lack::Healthy));
}

#[test]
fn a_device_is_one_container_s_until_its_pod_has_it_no_more() {
    let mut pool = pool();
    pool.give("one", "c", UNIT, given(["a"]));
    pool.reserve(UNIT, &set(["b"]));
    assert_eq!(pool.choice(UNIT, 1, &set([])), Ok(Choice { taken: set([]), free: set(["c"]) }));
    assert_eq!(pool.choice(UNIT, 2, &set([])), Err(Lack::Free { lacking: 2, free: 1 }));
    pool.unreserve(UNIT, &set(["b"]));
    assert!(pool.release("one"));
    assert!(!pool.release("one"));
    assert_eq!(pool.choice(UNIT, 3, &set([])), Ok(Choice { taken: set([]), free: set(["a", "b", "c"]) }));
}

#[test]
fn what_an_unhealthy_device_s_pod_has_it_keeps() {
    let mut pool = pool();
    pool.give("one", "c", UNIT, given(["a"]));
    pool.listed(UNIT, [("a".to_owned(), false), ("b".to_owned(), true)].into());
    assert_eq!(pool.given("one", "c", UNIT).unwrap().devices, set(["a"]));
    assert_eq!(count(&mut pool, Instant::now()), (2, 1));
}

#[test]
fn devices_of_the_same_pod_come_first_and_preferred_ones_next() {
    let mut pool = pool();
    pool.give("one", "init", UNIT, given(["b"]));
    let choice = pool.choice(UNIT, 2, &set(["b", "d"])).unwrap();
    assert_eq!(choice, Choice { taken: set(["b"]), free: set(["a", "c"]) }, "d is not healthy");
    assert_eq!(choice.clone().pick(2, &set(["c", "d", "x"])), set(["b", "c"]));
    assert_eq!(choice.pick(2, &set([])), set(["a", "b"]));
}

#[test]
fn a_node_knows_so_many_resources_and_no_more() {
    let mut pool = Pool::default();
    for number in 0..RESOURCES {
        let resource = format!("unit.example/{number}");
        let known = pool.known_with(&resource).unwrap();
        assert!(!pool.knows(&resource) && known.len() == number + 1 && known.contains(&resource));
        pool.know(&resource);
    }
    assert!(pool.known_with("unit.example/more").unwrap_err().to_string().contains("256 resources"));
}
