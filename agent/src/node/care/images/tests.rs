#![allow(clippy::unwrap_used)]
use super::*;

fn at(seconds: u64) -> Monotonic {
    Monotonic(Duration::from_secs(seconds))
}

fn image(id: &str) -> cri::Image {
    cri::Image { id: id.to_owned(), pinned: id.starts_with("pinned"), ..cri::Image::default() }
}

fn images(ids: &str) -> Vec<cri::Image> {
    ids.split_whitespace().map(image).collect()
}

fn set(ids: &str) -> BTreeSet<String> {
    ids.split_whitespace().map(str::to_owned).collect()
}

fn order(book: &Book, ids: &str, age: u64, now: u64) -> String {
    let images = images(ids);
    let free = book.removable(&images, Duration::from_secs(age), at(now));
    free.iter().map(|image| image.id.as_str()).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_longest_unused_goes_first() {
    let mut book = Book::default();
    let all = "never old recent used pinned";
    book.look(&images(all), &set("old recent used"), at(0));
    book.look(&images(all), &set("recent used"), at(100));
    book.look(&images(all), &set("used pinned"), at(200));
    assert_eq!(order(&book, all, 60, 200), "never old recent");
    book.look(&images(all), &set("never"), at(300));
    assert_eq!(order(&book, all, 60, 300), "old recent used");
}

#[test]
fn what_has_just_come_stays() {
    let mut book = Book::default();
    book.look(&images("there"), &set(""), at(0));
    book.look(&images("there come"), &set(""), at(10));
    assert_eq!(order(&book, "there come", 60, 59), "", "not even what was there before the agent");
    assert_eq!(order(&book, "there come", 60, 69), "there");
    assert_eq!(order(&book, "there come", 60, 70), "there come");
    book.look(&images("come"), &set(""), at(80));
    book.look(&images("there come"), &set(""), at(90));
    assert_eq!(order(&book, "there come", 60, 90), "come", "it came again");
}

#[test]
fn it_is_known_for_how_long_an_image_is_unused() {
    let mut book = Book::default();
    book.look(&images("a b"), &set("a"), at(10));
    book.look(&images("a b c"), &set(""), at(20));
    for (id, seconds) in [("a", 40), ("b", 40), ("c", 30), ("none", 0)] {
        assert_eq!(book.unused_for(id, at(50)), Duration::from_secs(seconds), "{id}");
    }
}

#[test]
fn a_disk_is_full_by_bytes_or_by_files() {
    let of = |bytes: (u64, u64), inodes: Option<(u64, u64)>| {
        let observation = |(available, capacity)| Observation { available, capacity };
        Space { bytes: observation(bytes), inodes: inodes.map(observation) }
    };
    for (space, used, above) in [
        (of((160, 1000), None), false, true),
        (of((159, 1000), None), true, true),
        (of((199, 1000), None), false, true),
        (of((200, 1000), None), false, false),
        (of((900, 1000), Some((10, 1000))), true, true),
        (of((900, 1000), Some((900, 1000))), false, false),
        (of((0, 0), Some((0, 0))), false, false),
        (of((2000, 1000), None), false, false),
    ] {
        assert_eq!((is_used(&space, 85), is_above(&space, 80)), (used, above), "{space:?}");
    }
}

#[test]
fn what_was_pulled_is_known_to_the_next_agent() {
    let dir = tempfile::tempdir().unwrap();
    let mut pulled = Pulled::open(dir.path());
    assert!(!pulled.has("a"));
    pulled.add("a");
    pulled.add("b");
    pulled.keep(|id| id == "b");
    let again = Pulled::open(dir.path());
    assert!(!again.has("a") && again.has("b"));
    std::fs::write(dir.path().join("pulled-images.json"), "{").unwrap();
    assert!(!Pulled::open(dir.path()).has("b"), "what cannot be read is nobody's");
}

#[test]
fn pods_name_images_of_containers_and_volumes() {
    let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {
        "initContainers": [{"name": "i", "image": "init"}],
        "containers": [{"name": "c", "image": "main"}, {"name": "d"}],
        "volumes": [{"name": "v", "image": {"reference": "data"}}, {"name": "e", "emptyDir": {}}]}}))
    .unwrap();
    assert_eq!(named(&pod).collect::<Vec<_>>(), ["init", "main", "data"]);
}
