//! `coracle.dev/links`: what a pod wants to reach, and what it calls it.
//!
//! ```text
//!  links  = link *( "," link )
//!  link   = [ KIND "/" ] NAME [ "." NAMESPACE ] [ ":" ALIAS ] [ "(" option *( "," option ) ")" ]
//!  KIND   = "pod" | "service" | "svc"
//!  option = "ungated" | "env"
//! ```

use super::{Broken, named};
use crate::suggest::{clip, nearest, one_of};
use crate::validate::names;

/// How a link is written.
const EXAMPLE: &str = "such as `db, cache.other:redis, service/web:front, peer(ungated)`";

/// What follows a name in parentheses.
const OPTIONS: [&str; 2] = ["ungated", "env"];

/// What may stand before a name.
const KINDS: [(&str, Kind); 3] = [("pod", Kind::Pod), ("service", Kind::Service), ("svc", Kind::Service)];

/// Something that a pod wants to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What kind of object it leads to.
    pub kind: Kind,
    /// The object's namespace; that of the pod where there is none.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
    /// What the pod calls it.
    pub alias: String,
    /// The pod starts when it is ready.
    pub gated: bool,
    /// The pod gets the variables of its containers, too.
    pub environment: bool,
}

/// What a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A pod; an ambassador is one.
    Pod,
    /// A Service: whichever pods are behind it.
    Service,
}

impl Kind {
    /// As it stands before a name.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Pod => "pod",
            Kind::Service => "service",
        }
    }
}

/// Reads `db, cache.other:redis, service/web:front, peer(ungated)`.
pub fn links(text: &str) -> Result<Vec<Link>, Broken> {
    let mut all: Vec<Link> = Vec::new();
    for part in parts(text)? {
        let link = link(part)?;
        if let Some(known) = all.iter().find(|known| known.alias == link.alias) {
            let same = (known.kind, &known.namespace, &known.name) == (link.kind, &link.namespace, &link.name);
            if same {
                return Err(Broken { message: format!("`{}` is there twice", clip(part)), help: None });
            }
            let message = format!("two links are called `{}`", clip(&link.alias));
            return Err(Broken::new(message, format!("give one of them another alias: `{}:ALIAS`", target(&link))));
        }
        all.push(link);
    }
    Ok(all)
}

/// A link's target as it is written.
fn target(link: &Link) -> String {
    let kind = if link.kind == Kind::Service { "service/" } else { "" };
    let namespace = link.namespace.as_ref().map(|namespace| format!(".{namespace}")).unwrap_or_default();
    format!("{kind}{}{namespace}", link.name)
}

/// The text between commas that are not in parentheses.
fn parts(text: &str) -> Result<Vec<&str>, Broken> {
    let (mut parts, mut start, mut open) = (Vec::new(), 0, None);
    for (at, c) in text.char_indices() {
        match c {
            '(' if open.is_none() => open = Some(at),
            ')' if open.is_some() => open = None,
            '(' | ')' => {
                let message = format!("`{}` has a `{c}` too many", clip(text[start..].trim()));
                return Err(Broken::new(message, EXAMPLE));
            }
            ',' if open.is_none() => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if open.is_some() {
        return Err(Broken::new(format!("`{}` has no `)`", clip(text[start..].trim())), EXAMPLE));
    }
    parts.push(text[start..].trim());
    Ok(parts)
}

fn link(part: &str) -> Result<Link, Broken> {
    let (rest, options) = match part.split_once('(') {
        None => (part, None),
        Some((rest, options)) => {
            let options = options.strip_suffix(')');
            let after = || Broken::new(format!("`{}` goes on after its `)`", clip(part)), EXAMPLE);
            (rest.trim_end(), Some(options.ok_or_else(after)?))
        }
    };
    let (target, alias) = match rest.split_once(':') {
        Some((target, alias)) => (target.trim_end(), Some(alias.trim_start())),
        None => (rest, None),
    };
    let (kind, target) = kind(target)?;
    if target.is_empty() {
        return Err(Broken::new("the name of what a link leads to is missing", EXAMPLE));
    }
    // What follows the last dot is the namespace, for a namespace has none and a pod's name may.
    let (name, namespace) = match target.rsplit_once('.') {
        Some((name, namespace)) => (name, Some(namespace)),
        None => (target, None),
    };
    match kind {
        Kind::Pod => names::dns_subdomain(name),
        Kind::Service => names::dns_label(name),
    }
    .map_err(named)?;
    namespace.map_or(Ok(()), names::dns_label).map_err(named)?;
    let (gated, environment) = read_options(part, options)?;
    if environment && kind == Kind::Service {
        return Err(Broken::new("a Service has no environment", "`env` is for links to pods"));
    }
    let alias = read_alias(target, name, alias)?;
    let (namespace, name) = (namespace.map(str::to_owned), name.to_owned());
    Ok(Link { kind, namespace, name, alias, gated, environment })
}

fn kind(target: &str) -> Result<(Kind, &str), Broken> {
    let Some((word, rest)) = target.split_once('/') else { return Ok((Kind::Pod, target)) };
    if let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == word) {
        return Ok((*kind, rest));
    }
    let words = KINDS.map(|(word, _)| word);
    let message = format!("`{}` is not one of {}", clip(word), one_of(&words));
    let help = match nearest(word, words) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("a namespace comes after the name: `{}.{}`", clip(rest), clip(word)),
    };
    Err(Broken::new(message, help))
}

/// An alias is a host name, and the beginning of variables.
fn read_alias(target: &str, name: &str, alias: Option<&str>) -> Result<String, Broken> {
    match alias {
        Some("") => return Err(Broken::new(format!("`{}:` has no alias", clip(target)), EXAMPLE)),
        Some("localhost") => {
            return Err(Broken { message: "`localhost` is the pod itself, and no alias".into(), help: None });
        }
        Some(alias) => names::dns_label(alias)
            .map_err(|broken| Broken { message: format!("the alias {}", broken.message), help: broken.help })?,
        None if names::dns_label(name).is_err() || name == "localhost" => {
            let message =
                format!("`{}` cannot be its own alias: that has no dot and at most 63 characters", clip(name));
            return Err(Broken::new(message, format!("give it one: `{}:ALIAS`", clip(target))));
        }
        None => {}
    }
    Ok(alias.unwrap_or(name).to_owned())
}

fn read_options(part: &str, options: Option<&str>) -> Result<(bool, bool), Broken> {
    let (mut gated, mut environment) = (true, false);
    let Some(options) = options else { return Ok((gated, environment)) };
    for word in options.split(',').map(str::trim) {
        let twice = match word {
            "ungated" => !std::mem::replace(&mut gated, false),
            "env" => std::mem::replace(&mut environment, true),
            "" => {
                let help = format!("there are {}", one_of(&OPTIONS));
                return Err(Broken::new(format!("an option of `{}` is missing", clip(part)), help));
            }
            _ => {
                let help = nearest(word, OPTIONS).map(|near| format!("did you mean `{near}`?"));
                return Err(Broken { message: format!("`{}` is not one of {}", clip(word), one_of(&OPTIONS)), help });
            }
        };
        if twice {
            return Err(Broken { message: format!("`{word}` is there twice"), help: None });
        }
    }
    Ok((gated, environment))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pod(name: &str, alias: &str) -> Link {
        Link {
            kind: Kind::Pod,
            namespace: None,
            name: name.into(),
            alias: alias.into(),
            gated: true,
            environment: false,
        }
    }

    #[test]
    fn links_are_read_in_order() {
        let read = links("db,cache.other:redis, service/web : front,svc/x.y(ungated), pod/a.b.c:d ( env , ungated )");
        assert_eq!(
            read.unwrap(),
            [
                pod("db", "db"),
                Link { namespace: Some("other".into()), ..pod("cache", "redis") },
                Link { kind: Kind::Service, ..pod("web", "front") },
                Link { kind: Kind::Service, namespace: Some("y".into()), gated: false, ..pod("x", "x") },
                Link { namespace: Some("c".into()), gated: false, environment: true, ..pod("a.b", "d") },
            ]
        );
        let twice = links("db, db:primary").unwrap();
        assert_eq!(twice, [pod("db", "db"), pod("db", "primary")], "one pod may have two names");
    }

    #[test]
    fn what_is_no_link_is_told() {
        let label = "only lower-case letters, digits and `-` are allowed, and no `-` at either end";
        let name =
            "only lower-case letters, digits, `-` and `.` are allowed, and a letter or digit at each end of a part";
        let long = "x".repeat(64);
        for (text, message, help) in [
            ("", "the name of what a link leads to is missing".into(), EXAMPLE.to_owned()),
            ("db,", "the name of what a link leads to is missing".into(), EXAMPLE.into()),
            ("service/", "the name of what a link leads to is missing".into(), EXAMPLE.into()),
            (":x", "the name of what a link leads to is missing".into(), EXAMPLE.into()),
            ("db(ungated", "`db(ungated` has no `)`".into(), EXAMPLE.into()),
            ("db)", "`db)` has a `)` too many".into(), EXAMPLE.into()),
            ("a, db((env))", "`db((env))` has a `(` too many".into(), EXAMPLE.into()),
            ("db(env)x", "`db(env)x` goes on after its `)`".into(), EXAMPLE.into()),
            ("db(ungted)", "`ungted` is not one of `ungated` or `env`".into(), "did you mean `ungated`?".into()),
            ("db(ready)", "`ready` is not one of `ungated` or `env`".into(), String::new()),
            ("db()", "an option of `db()` is missing".into(), "there are `ungated` or `env`".into()),
            ("db(env,env)", "`env` is there twice".into(), String::new()),
            ("db(ungated,ungated)", "`ungated` is there twice".into(), String::new()),
            ("svc/db(env)", "a Service has no environment".into(), "`env` is for links to pods".into()),
            ("db:", "`db:` has no alias".into(), EXAMPLE.into()),
            ("db:DB", format!("the alias `DB` is not valid: {label}"), "`db` would do".into()),
            ("db:a.b", format!("the alias `a.b` is not valid: {label}"), "`a-b` would do".into()),
            ("db:localhost", "`localhost` is the pod itself, and no alias".into(), String::new()),
            ("DB", format!("`DB` is not valid: {name}"), "`db` would do".into()),
            ("a b", format!("`a b` is not valid: {name}"), "`a-b` would do".into()),
            (".ns", format!("an empty name: {name}"), String::new()),
            ("db.", format!("an empty name: {label}"), String::new()),
            ("db.N", format!("`N` is not valid: {label}"), "`n` would do".into()),
            ("svc/a_b", format!("`a_b` is not valid: {label}"), "`a-b` would do".into()),
            (
                "other/db",
                "`other` is not one of `pod`, `service` or `svc`".into(),
                "a namespace comes after the name: `db.other`".into(),
            ),
            ("servce/db", "`servce` is not one of `pod`, `service` or `svc`".into(), "did you mean `service`?".into()),
            (
                "a.b.ns",
                "`a.b` cannot be its own alias: that has no dot and at most 63 characters".into(),
                "give it one: `a.b.ns:ALIAS`".into(),
            ),
            (
                long.as_str(),
                format!("`{}…` cannot be its own alias: that has no dot and at most 63 characters", "x".repeat(60)),
                format!("give it one: `{}…:ALIAS`", "x".repeat(60)),
            ),
            ("db, db", "`db` is there twice".into(), String::new()),
            (
                "db.a, cache:x, db.b",
                "two links are called `db`".into(),
                "give one of them another alias: `db.b:ALIAS`".into(),
            ),
        ] {
            let broken = links(text).unwrap_err();
            assert_eq!((broken.message, broken.help.unwrap_or_default()), (message, help), "{text}");
        }
    }
}
