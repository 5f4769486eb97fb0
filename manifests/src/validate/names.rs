//! The alphabets of Kubernetes names.

use crate::suggest::clip;

/// A rule that a name breaks, and what would keep it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub message: String,
    pub help: Option<String>,
}

type Checked = Result<(), Broken>;

fn broken(name: &str, rule: impl std::fmt::Display, help: Option<String>) -> Checked {
    let message = match name {
        "" => format!("an empty name: {rule}"),
        name => format!("`{}` is not valid: {rule}", clip(name)),
    };
    Err(Broken { message, help })
}

fn lower_alphanumeric(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// A name that would do, made of one that does not.
fn tamed(name: &str, label: bool) -> Option<String> {
    let tame = |c: char| match c.to_ascii_lowercase() {
        '.' if !label => '.',
        c if lower_alphanumeric(c) => c,
        _ => '-',
    };
    let tamed: String = name.chars().map(tame).take(if label { 63 } else { 253 }).collect();
    let tamed = tamed.trim_matches(['-', '.']).to_owned();
    (!tamed.is_empty() && tamed != name).then(|| format!("`{}` would do", clip(&tamed)))
}

fn is_label(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(|c| lower_alphanumeric(c) || c == '-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// RFC 1123 label: names of containers, volumes, namespaces; host names.
pub(crate) fn dns_label(name: &str) -> Checked {
    if name.len() > 63 {
        return broken(name, format!("{} characters, and at most 63 are allowed", name.len()), None);
    }
    if is_label(name) {
        return Ok(());
    }
    let rule = "only lower-case letters, digits and `-` are allowed, and no `-` at either end";
    broken(name, rule, tamed(name, true))
}

/// RFC 1123 subdomain: names of objects.
pub(crate) fn dns_subdomain(name: &str) -> Checked {
    if name.len() > 253 {
        return broken(name, format!("{} characters, and at most 253 are allowed", name.len()), None);
    }
    if name.split('.').all(is_label) {
        return Ok(());
    }
    let rule = "only lower-case letters, digits, `-` and `.` are allowed, and a letter or digit at each end of a part";
    broken(name, rule, tamed(name, false).filter(|help| !help.contains("..")))
}

fn is_qualified_part(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.chars().all(inner)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
}

/// `name` or `example.com/name`: keys of labels and annotations, names of resources.
pub(super) fn qualified(name: &str) -> Checked {
    let (prefix, part) = match name.split_once('/') {
        Some((prefix, part)) => (Some(prefix), part),
        None => (None, name),
    };
    if part.len() > 63 {
        return broken(name, format!("{} characters after the prefix, and at most 63 are allowed", part.len()), None);
    }
    if prefix.is_some_and(|prefix| dns_subdomain(prefix).is_err()) {
        return broken(name, "what stands before the `/` must be a DNS name", None);
    }
    if is_qualified_part(part) {
        return Ok(());
    }
    broken(name, "only letters, digits, `-`, `_` and `.` are allowed, and a letter or digit at either end", None)
}

/// What a label may be set to.
pub(super) fn label_value(value: &str) -> Checked {
    if value.len() > 63 {
        return broken(value, format!("{} characters, and a label has at most 63", value.len()), None);
    }
    if value.is_empty() || is_qualified_part(value) {
        return Ok(());
    }
    let rule = "a label has only letters, digits, `-`, `_` and `.`, and a letter or digit at either end";
    broken(value, rule, Some("annotations take any text".to_owned()))
}

/// Keys of ConfigMaps and Secrets, which become file names.
pub(super) fn config_key(key: &str) -> Checked {
    if key.len() > 253 {
        return broken(key, format!("{} characters, and at most 253 are allowed", key.len()), None);
    }
    if key == "." || key.starts_with("..") {
        return broken(key, "it would be a path of its own", None);
    }
    if !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Ok(());
    }
    broken(key, "only letters, digits, `-`, `_` and `.` are allowed", None)
}

/// Names of environment variables: printable, and no `=`.
pub(super) fn env_name(name: &str) -> Checked {
    if !name.is_empty() && name.chars().all(|c| (' '..='~').contains(&c) && c != '=') {
        return Ok(());
    }
    broken(name, "a variable's name has only printable ASCII characters, and no `=`", None)
}

/// Names of ports (RFC 6335).
pub(super) fn port_name(name: &str) -> Checked {
    let alphabet = name.chars().all(|c| lower_alphanumeric(c) || c == '-');
    let ends = !name.starts_with('-') && !name.ends_with('-') && !name.contains("--");
    let letter = name.chars().any(|c| c.is_ascii_lowercase());
    if name.len() <= 15 && alphabet && ends && letter {
        return Ok(());
    }
    let rule = "a port's name has at most 15 lower-case letters, digits and single `-`, and at least one letter";
    broken(name, rule, None)
}

/// Names of kernel parameters that belong to a pod's namespaces, with `.` or `/`.
pub(crate) fn sysctl(name: &str) -> Checked {
    let dotted = name.replace('/', ".");
    let part = |part: &str| {
        part.chars().all(|c| lower_alphanumeric(c) || c == '-' || c == '_')
            && part.starts_with(lower_alphanumeric)
            && part.ends_with(lower_alphanumeric)
    };
    // Network interfaces in the middle of a name may have any case.
    if name.len() > 253 || !dotted.to_ascii_lowercase().split('.').all(part) {
        return broken(name, "a kernel parameter is written like `net.core.somaxconn`", None);
    }
    let own = ["kernel.shm", "kernel.msg", "fs.mqueue.", "net."];
    if dotted == "kernel.sem" || own.iter().any(|prefix| dotted.starts_with(prefix)) {
        return Ok(());
    }
    broken(name, "it belongs to the whole host, not to a pod", Some("set it on the host".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_accepted_and_refused_as_kubernetes_does() {
        let long = "a".repeat(64);
        type Case<'a> = (fn(&str) -> Checked, &'a [&'a str], &'a [&'a str]);
        let cases: [Case<'_>; 8] = [
            (dns_label, &["a", "a-1", "1a"], &["", "-a", "a-", "A", "a.b", "a_b", &long, "é"]),
            (dns_subdomain, &["a", "a.b-c.1"], &["", "a..b", ".a", "a.", "A.b", "a_b"]),
            (qualified, &["a", "A_b.c-d", "x.io/A"], &["", "/a", "a/", "a/b/c", "X.io/a", "-a", &long]),
            (label_value, &["", "A_b.1"], &["a b", "-a", "a/b", &long]),
            (config_key, &["a.conf", "_", ".hidden", "A-b"], &["", ".", "..", "..a", "a/b", "a b"]),
            (env_name, &["A", "a.b", "1", "a b"], &["", "A=B", "é", "a\n"]),
            (port_name, &["http", "a-1"], &["", "80", "HTTP", "a--b", "-a", "a-", "abcdefghijklmnop"]),
            (
                sysctl,
                &["net.core.somaxconn", "kernel.shm_rmid_forced", "net/ipv4/ip_forward", "kernel.sem"],
                &["", "kernel.panic", "vm.swappiness", "net", "net..x", "kernel.semx"],
            ),
        ];
        for (position, (check, good, bad)) in cases.iter().enumerate() {
            good.iter().for_each(|name| assert_eq!(check(name), Ok(()), "{position}: {name}"));
            bad.iter().for_each(|name| assert!(check(name).is_err(), "{position}: {name}"));
        }
    }

    #[test]
    fn a_better_name_is_proposed() {
        let help = |checked: Checked| checked.err().and_then(|broken| broken.help);
        assert_eq!(help(dns_label("My_App")).as_deref(), Some("`my-app` would do"));
        assert_eq!(help(dns_subdomain("My_App.Local")).as_deref(), Some("`my-app.local` would do"));
        assert_eq!(help(dns_label("")), None);
    }
}
