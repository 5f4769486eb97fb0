//! The tar reader by itself: PAX, GNU extensions, and bytes that are neither.

use std::io::Cursor;

use proptest::prelude::*;
use tar::EntryType;

use super::craft::{E, tar};
use crate::images::pax::Pax;
use crate::images::tarstream::{EntryKind, TarEntry, TarReader};

fn entries(bytes: Vec<u8>) -> std::io::Result<Vec<TarEntry>> {
    let mut reader = TarReader::new(Cursor::new(bytes));
    let mut entries = Vec::new();
    while let Some(entry) = reader.next()? {
        entries.push(entry);
    }
    Ok(entries)
}

#[test]
fn extensions_belong_to_the_entry_behind_them_alone() {
    let long = "n".repeat(300);
    let found = entries(tar(&[
        E { data: format!("{long}\0").into(), ..E::new(EntryType::GNULongName, "././@LongLink") },
        E { data: b"target\0".to_vec(), ..E::new(EntryType::GNULongLink, "././@LongLink") },
        E::symlink("short", "s"),
        E { data: b"18 path=elsewhere\n".to_vec(), ..E::new(EntryType::XGlobalHeader, "global") },
        E::file("a", "1").pax("uid", "70000").pax("mtime", "1.5"),
        E::file("b", "22"),
    ]))
    .unwrap();
    let paths: Vec<_> = found.iter().map(|e| String::from_utf8_lossy(&e.path).into_owned()).collect();
    assert_eq!(paths, [long.as_str(), "a", "b"]);
    assert_eq!(found[0].link, b"target");
    assert_eq!((found[1].uid, found[1].mtime), (70_000, (1, 500_000_000)));
    assert_eq!((found[2].uid, found[2].size), (0, 2));
}

#[test]
fn sizes_are_those_that_go_reads() {
    // A link with a size has no content, whatever its header says; a PAX size overrides the header's.
    let mut link = tar(&[E::hard_link("l", "t")]);
    let mut header = tar::Header::from_byte_slice(&link[..512]).clone();
    header.set_size(4096);
    header.set_cksum();
    link[..512].copy_from_slice(header.as_bytes());
    link.truncate(512);
    link.extend(tar(&[E::file("after", "x")]));
    let found = entries(link).unwrap();
    assert_eq!((found.len(), found[1].path.as_slice()), (2, &b"after"[..]));
    let mut legacy = tar(&[E::file("old/", "")]);
    let mut header = tar::Header::from_byte_slice(&legacy[..512]).clone();
    header.as_mut_bytes()[156] = 0;
    header.set_cksum();
    legacy[..512].copy_from_slice(header.as_bytes());
    let legacy = entries(legacy).unwrap();
    assert_eq!(legacy[0].kind, EntryKind::Directory);
}

#[test]
fn damaged_extensions_are_errors() {
    for bad in ["5 a\n", "99 path=x\n", "path=x\n", "8 path=x", "9 size=x\n", "11 mtime=1-\n", "3 \n", "0 a=b\n"] {
        assert!(Pax::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
    let huge = E { data: vec![b'x'; 2 << 20], ..E::new(EntryType::XHeader, "pax") };
    assert!(entries(tar(&[huge])).unwrap_err().to_string().contains("longer than 1 MiB"));
    let alone = E { data: b"name\0".to_vec(), ..E::new(EntryType::GNULongName, "x") };
    assert!(entries(tar(&[alone])).is_err());
    for sparse in ["4,2,1,1", "0,9"] {
        let entry = E::file("s", "abc").pax("GNU.sparse.size", "6").pax("GNU.sparse.map", sparse);
        assert!(entries(tar(&[entry])).is_err(), "{sparse}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_entries_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let _ = entries(bytes.clone());
        let _ = Pax::parse(&bytes);
    }

    #[test]
    fn changed_bytes_are_entries_or_an_error(changes in proptest::collection::vec((0usize..6000, any::<u8>()), 1..8)) {
        let mut bytes = tar(&[
            E::file("a", "1").pax("GNU.sparse.major", "1").pax("GNU.sparse.minor", "0").pax("GNU.sparse.realsize", "10"),
            E::file("b", "2").xattr("user.x", "v"),
            E { data: b"name\0".to_vec(), ..E::new(EntryType::GNULongName, "x") },
            E::file("c", "3"),
        ]);
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let _ = entries(bytes);
    }

    #[test]
    fn attributes_of_any_bytes_come_through(value in proptest::collection::vec(any::<u8>(), 0..300)) {
        let found = entries(tar(&[E::file("f", "x").xattr("user.any", &value)])).unwrap();
        prop_assert_eq!(&found[0].xattrs, &[(b"user.any".to_vec(), value)]);
    }
}
