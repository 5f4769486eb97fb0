//! What an answer of the API server that is an error means.

use kube::Error;

/// Whether the answer is about what was asked for, not about the server: asked again, it would be the same.
pub fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Api(status) if (400..500).contains(&status.code) && !matches!(status.code, 401 | 408 | 429))
}

/// Whether the server answered with this code.
pub fn is_code(error: &Error, code: u16) -> bool {
    matches!(error, Error::Api(status) if status.code == code)
}

/// Whether the pod that was meant is there no more: there is none of its name, or another one.
pub fn is_gone(error: &Error) -> bool {
    let another = |error: &Error| matches!(error, Error::Api(status) if status.message.contains("UID in precondition"));
    is_code(error, 404) || (is_code(error, 409) && another(error))
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn api(code: u16, message: &str) -> Error {
        Error::Api(Status::failure(message, "").with_code(code).boxed())
    }

    #[test]
    fn an_answer_about_the_server_is_no_refusal() {
        let rows =
            [(400, true), (403, true), (404, true), (409, true), (422, true), (401, false), (429, false), (500, false)];
        for (code, refusal) in rows {
            assert_eq!(is_refusal(&api(code, "")), refusal, "{code}");
        }
    }

    #[test]
    fn a_pod_is_gone_when_its_name_is_nobody_s_or_another_one_s() {
        let other = "Precondition failed: UID in precondition: a, UID in object meta: b";
        for (code, message, gone) in [(404, "", true), (409, other, true), (409, "modified", false), (422, "", false)] {
            assert_eq!(is_gone(&api(code, message)), gone, "{code} {message}");
        }
        assert!(is_code(&api(410, ""), 410));
    }
}
