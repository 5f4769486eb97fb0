#![allow(clippy::unwrap_used)]
use super::choice::{Ranges, choose};
use super::*;

fn mapping(container: u32, host: u32, length: u32) -> IdMapping {
    IdMapping { container, host, length }
}

#[test]
fn ids_are_translated_within_their_stretch_alone() {
    let map = mapping(10, 1000, 5);
    for (id, host) in [(9, None), (10, Some(1000)), (14, Some(1004)), (15, None)] {
        assert_eq!(map.to_host(id), host, "{id}");
    }
}

#[test]
fn a_mapping_of_nothing_or_of_too_much_is_refused() {
    let check = |uid: IdMapping| IdMap { uids: vec![uid], gids: vec![mapping(0, 1, 1)] }.check("it");
    check(mapping(0, 65_536, 65_536)).unwrap();
    check(mapping(0, 0, u32::MAX)).unwrap();
    for wrong in [mapping(0, 1000, 0), mapping(0, u32::MAX - 9, 11), mapping(u32::MAX, 0, 1)] {
        assert!(check(wrong).unwrap_err().to_string().starts_with("a uid mapping of it"), "{wrong:?}");
    }
    assert!(IdMap::default().check("it").is_err());
}

#[test]
fn the_first_range_that_nobody_has_is_chosen() {
    let none = Ranges::default();
    assert_eq!(choose(&none, &[]), Some(65_536));
    assert_eq!(choose(&none, &[(65_536, 65_536)]), Some(131_072));
    // A stretch that another client chose need not be aligned.
    assert_eq!(choose(&none, &[(1000, 100_000)]), Some(131_072));
    assert_eq!(choose(&none, &[(131_072, 65_536), (65_536, 65_536)]), Some(196_608));
    // What a removed pod had is free again.
    assert_eq!(choose(&none, &[(131_072, 65_536)]), Some(65_536));
}

#[test]
fn subordinate_ids_of_users_are_left_alone_and_kubelets_are_used() {
    let text = "# who\nada:100000:65536\nkubelet:2000000:200000\nbroken\n";
    let ranges = Ranges::parse(text, text);
    assert_eq!(ranges.ours, Some((2_000_000, 200_000)));
    assert_eq!(choose(&ranges, &[]), Some(2_031_616));
    assert_eq!(choose(&ranges, &[(2_031_616, 65_536)]), Some(2_097_152));
    assert_eq!(choose(&ranges, &[(2_031_616, 131_072)]), None);
    // A range of users without the same one of groups is none.
    let users = Ranges::parse(text, "ada:100000:65536\n");
    assert_eq!(users.ours, None);
    assert_eq!(choose(&users, &[]), Some(196_608));
}

#[test]
fn a_range_of_groups_for_ping_means_the_pods_groups() {
    let gids = [mapping(0, 65_536, 65_536)];
    for (value, expected) in [
        ("0 2147483647", "65536 131071"),
        ("0 0", "65536 65536"),
        ("1000\t2000", "66536 67536"),
        ("1 0", "1 0"),
        ("70000 80000", "70000 80000"),
        ("text", "text"),
    ] {
        assert_eq!(ping_group_range(value, &gids), expected, "{value}");
    }
}

#[test]
fn the_kernels_format_has_inside_host_and_length() {
    assert_eq!(lines(&[mapping(0, 1000, 5), mapping(7, 9, 1)]), "0 1000 5\n7 9 1\n");
}
