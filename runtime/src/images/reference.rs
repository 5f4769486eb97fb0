//! Image references as Docker and containerd resolve them: `nginx` is `docker.io/library/nginx:latest`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::digest::{Digest, is_hex};
use super::error::Error;

const DEFAULT_DOMAIN: &str = "docker.io";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A reference in full: domain, repository, and a tag or digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference, short or full, and completes it.
    pub fn parse(text: &str) -> Result<Reference, Error> {
        parse(text).map_err(|reason| Error::Reference { text: text.to_owned(), reason })
    }

    /// The registry's host, with its port if there is one.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Domain and repository.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag; `latest` if neither tag nor digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The name that a pull gives: with a digest, what it names, whatever the tag says.
    pub(super) fn pinned(&self) -> Reference {
        let mut name = self.clone();
        name.tag = name.tag.filter(|_| name.digest.is_none());
        name
    }

    /// The name of what this name means now: the repository with a digest.
    pub(super) fn with_digest(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The digest, which wins over the tag.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;

    fn try_from(text: String) -> Result<Reference, Error> {
        Reference::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() == 64 && is_hex(text) {
        return Err("64 hexadecimal digits are an id, not a name");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(Digest::parse(digest).map_err(|_| "the digest is not a sha256 digest")?)),
        None => (text, None),
    };
    // A colon before the last slash belongs to the domain's port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    let (domain, path) = split_domain(name);
    check_domain(domain)?;
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    let path =
        if domain == DEFAULT_DOMAIN && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
    check_path(&path)?;
    if domain.len() + 1 + path.len() > MAX_NAME {
        return Err("the name is longer than 255 characters");
    }
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let tag = match (tag, &digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(_)) => None,
        (None, None) => Some("latest".to_owned()),
    };
    Ok(Reference { domain: domain.to_owned(), path, tag, digest })
}

/// The first component is a host if it looks like one: a dot, a port, `localhost`, or capitals, which a repository
/// cannot have.
fn split_domain(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    }
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or("the host's bracket is not closed")?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| "the host is not an IPv6 address")?;
            (None, after.strip_prefix(':').or(if after.is_empty() { None } else { Some("") }))
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(domain), None),
        },
    };
    if port.is_some_and(|p| p.is_empty() || !p.bytes().all(|b| b.is_ascii_digit())) {
        return Err("the port is not a number");
    }
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    if host.is_some_and(|h| !h.split('.').all(label)) {
        return Err("the host name is not valid");
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), &'static str> {
    for component in path.split('/') {
        if component.is_empty() {
            return Err("a part of the name is empty");
        }
        if component.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err("the repository must be lower-case");
        }
        if !component.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-')) {
            return Err("the name has a character other than a-z, 0-9, '.', '_', '-' and '/'");
        }
        // Separators stand between letters or digits: one dot, one or two underscores, any number of dashes.
        let edge = |c: char| !c.is_ascii_alphanumeric();
        if component.starts_with(edge) || component.ends_with(edge) {
            return Err("a part of the name begins or ends with a separator");
        }
        let runs = component.split(|c: char| c.is_ascii_alphanumeric()).filter(|s| !s.is_empty());
        for run in runs {
            if !(run == "." || run == "_" || run == "__" || run.bytes().all(|b| b == b'-')) {
                return Err("separators in the name are '.', '_', '__' or dashes");
            }
        }
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    match tag.as_bytes() {
        [] => Err("the tag is empty"),
        [first, rest @ ..] if word(*first) && rest.iter().all(|b| word(*b) || matches!(b, b'.' | b'-')) => {
            if tag.len() > MAX_TAG { Err("the tag is longer than 128 characters") } else { Ok(()) }
        }
        _ => Err("the tag has a character other than letters, digits, '_', '.' and '-', or begins with a separator"),
    }
}
