//! `$(NAME)` in commands, arguments and variables, by Kubernetes' rules: `$$` is a dollar, what cannot be resolved
//! stays as it is, and nothing is an error.

/// Expands references in `input`. `resolve` answers `None` for a name that it does not know.
pub fn expand<'a>(input: &[u8], resolve: impl Fn(&[u8]) -> Option<&'a [u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len());
    let mut rest = input;
    while let Some(dollar) = rest.iter().position(|byte| *byte == b'$') {
        out.extend_from_slice(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        match after.first() {
            Some(b'$') => {
                out.push(b'$');
                rest = &after[1..];
            }
            Some(b'(') => match after.iter().position(|byte| *byte == b')') {
                Some(end) => {
                    match resolve(&after[1..end]) {
                        Some(value) => out.extend_from_slice(value),
                        None => out.extend_from_slice(&rest[dollar..=dollar + 1 + end]),
                    }
                    rest = &after[end + 1..];
                }
                None => {
                    out.extend_from_slice(b"$(");
                    rest = &after[1..];
                }
            },
            _ => {
                out.push(b'$');
                rest = after;
            }
        }
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_as_kubernetes_does() {
        let resolve = |name: &[u8]| -> Option<&'static [u8]> {
            match name {
                b"A" => Some(b"1"),
                b"REF" => Some(b"$(A)"),
                b"EMPTY" => Some(b""),
                _ => None,
            }
        };
        for (input, output) in [
            ("plain", "plain"),
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$$$$(A)", "$$(A)"),
            ("$(REF)", "$(A)"),
            ("$(EMPTY)", ""),
            ("$(B)", "$(B)"),
            ("$(B)$(A)", "$(B)1"),
            ("$(A", "$(A"),
            ("$(A$(A)", "$(A$(A)"),
            ("$()", "$()"),
            ("$", "$"),
            ("$$", "$"),
            ("$A ${A} $x$(A)", "$A ${A} $x1"),
            ("ü$ü$(A)ü", "ü$ü1ü"),
        ] {
            let out = expand(input.as_bytes(), resolve);
            assert_eq!(String::from_utf8_lossy(&out), output, "{input}");
        }
    }
}
