//! `WWW-Authenticate`: what a registry wants to know of us.

/// One challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token from somewhere else.
    Bearer(Bearer),
}

/// Where tokens come from, and for what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bearer {
    pub realm: String,
    pub service: Option<String>,
    pub scope: Option<String>,
    /// `invalid_token`, `insufficient_scope`.
    pub error: Option<String>,
}

/// The challenges of all header lines that we know the answer to, bearer first.
pub(super) fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = headers.flat_map(line).collect();
    challenges.sort_by_key(|challenge| matches!(challenge, Challenge::Basic));
    challenges
}

/// One line may hold several challenges, each a word and parameters with commas between: a word without `=` begins the
/// next.
fn line(mut rest: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            break;
        }
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        match (value, found.last_mut()) {
            (Some(after), Some((_, parameters))) if !word.is_empty() => {
                let (value, after) = self::value(after.trim_start_matches([' ', '\t']));
                parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            (Some(after), _) => rest = self::value(after).1,
            (None, _) => {
                found.push((word.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
    }
    found.into_iter().filter_map(|(scheme, parameters)| challenge(&scheme, parameters)).collect()
}

/// A token or a quoted string, and what follows it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, character) in quoted.char_indices() {
        match character {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return (value, &quoted[at + 1..]),
            character => {
                value.push(character);
                escaped = false;
            }
        }
    }
    (value, "")
}

fn challenge(scheme: &str, parameters: Vec<(String, String)>) -> Option<Challenge> {
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => {
            let mut bearer = Bearer::default();
            for (name, value) in parameters {
                match name.as_str() {
                    "realm" => bearer.realm = value,
                    "service" => bearer.service = Some(value),
                    "scope" => bearer.scope = Some(value),
                    "error" => bearer.error = Some(value),
                    _ => {}
                }
            }
            (!bearer.realm.is_empty()).then_some(Challenge::Bearer(bearer))
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer(Bearer { realm: realm.into(), service: own(service), scope: own(scope), error: None })
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let rows: [(&[&str], Vec<Challenge>); 8] = [
            (&["Basic realm=\"x\""], vec![Challenge::Basic]),
            (&["Basic"], vec![Challenge::Basic]),
            (
                &["Bearer realm=\"https://a/t\",service=\"r\",scope=\"repository:a/b:pull,push\""],
                vec![bearer("https://a/t", Some("r"), Some("repository:a/b:pull,push"))],
            ),
            (&["bearer realm=https://a/t , service=r"], vec![bearer("https://a/t", Some("r"), None)]),
            (
                &["Basic realm=\"a, b=c\", Bearer realm=\"https://a/t\""],
                vec![bearer("https://a/t", None, None), Challenge::Basic],
            ),
            (&["Basic realm=x", "Bearer realm=y"], vec![bearer("y", None, None), Challenge::Basic]),
            (&["Bearer realm=\"a\\\"b"], vec![bearer("a\"b", None, None)]),
            (&["Negotiate", "", "=", "Bearer service=\"no realm\""], vec![]),
        ];
        for (lines, expected) in rows {
            assert_eq!(parse(lines.iter().copied()), expected, "{lines:?}");
        }
    }
}
