//! The file that `fileKeyRef` reads: `NAME='value'` lines in the strict form that kubelet takes. What stands between
//! single quotes is taken as it is, over several lines if need be; comments and blank lines are passed over.

/// What is wrong with a file, and in which line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct Malformed {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub problem: &'static str,
}

/// The value of `key`, where the file has it. What follows it is not looked at.
pub fn value_of<'a>(text: &'a str, key: &str) -> Result<Option<&'a str>, Malformed> {
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        let (first, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let wrong = |problem| Malformed { line, problem };
        let content = first.trim_start_matches([' ', '\t']).trim_end_matches('\r');
        if content.is_empty() || content.starts_with('#') {
            (rest, line) = (after, line + 1);
            continue;
        }
        let (name, value) = content.split_once('=').ok_or(wrong("there is no `=`"))?;
        if name.is_empty() {
            return Err(wrong("a variable has no name"));
        }
        if name.ends_with([' ', '\t']) {
            return Err(wrong("a blank before `=`"));
        }
        // A shell takes that for an empty value, and so does kubelet.
        if value.starts_with([' ', '\t']) {
            if name == key {
                return Ok(Some(""));
            }
            (rest, line) = (after, line + 1);
            continue;
        }
        if !value.starts_with('\'') {
            return Err(wrong("a value stands in single quotes"));
        }
        let start = rest.find('=').map_or(rest.len(), |equals| equals + 2);
        let body = &rest[start..];
        let end = body.find('\'').ok_or(wrong("the quote is never closed"))?;
        let value = &body[..end];
        let last = line + value.matches('\n').count();
        let (tail, after) = body[end + 1..].split_once('\n').unwrap_or((&body[end + 1..], ""));
        let tail = tail.trim_matches([' ', '\t', '\r']);
        if !tail.is_empty() && !tail.starts_with('#') {
            return Err(Malformed { line: last, problem: "something follows the closing quote" });
        }
        if name == key {
            return Ok(Some(value));
        }
        (rest, line) = (after, last + 1);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_as_kubelet_finds_them() {
        let text = "# made by an init container\n\n  A='1'\nB='two words' # really\r\nC='x\n  y # no comment\n\nz'\nD= 'v'\n\
                    E='$HOME \"q\"'\nA='again'\nF=''";
        for (key, value) in [
            ("A", Some("1")),
            ("B", Some("two words")),
            ("C", Some("x\n  y # no comment\n\nz")),
            ("D", Some("")),
            ("E", Some("$HOME \"q\"")),
            ("F", Some("")),
            ("G", None),
            ("", None),
        ] {
            assert_eq!(value_of(text, key), Ok(value), "{key}");
        }
        assert_eq!(value_of("", "A"), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, problem) in [
            ("A='1'\nB", 2, "there is no `=`"),
            ("='1'", 1, "a variable has no name"),
            ("A ='1'", 1, "a blank before `=`"),
            ("\nA=1", 2, "a value stands in single quotes"),
            ("A=\"1\"", 1, "a value stands in single quotes"),
            ("A='1\n2\n", 1, "the quote is never closed"),
            ("A='1\n2' 3", 2, "something follows the closing quote"),
        ] {
            assert_eq!(value_of(text, "X"), Err(Malformed { line, problem }), "{text:?}");
        }
    }
}
