use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn user(found: Option<Secret>) -> String {
    match found {
        Some(Secret::Password { username, .. }) => username,
        Some(Secret::IdentityToken(token)) => format!("identity {token}"),
        Some(Secret::RegistryToken(token)) => format!("registry {token}"),
        None => "nobody".to_owned(),
    }
}

fn look(text: &str, host: &str, repository: &str) -> Result<String, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    fs::write(&path, text).unwrap();
    find(&[dir.path().join("missing.json"), path], host, repository).map(user)
}

fn auths(entries: &[(&str, &str)]) -> String {
    let entries: Vec<String> = entries
        .iter()
        .map(|(key, user)| format!("{key:?}: {{\"auth\": {:?}}}", STANDARD.encode(format!("{user}:p"))))
        .collect();
    format!("{{\"auths\": {{{}}}}}", entries.join(","))
}

#[test]
fn the_longest_key_that_fits_counts() {
    let file =
        auths(&[("r.example", "host"), ("r.example/a", "a"), ("r.example/a/b", "ab"), ("r.example:5000", "port")]);
    let rows = [
        ("r.example", "a/b", "ab"),
        ("r.example", "a/b/c", "ab"),
        ("r.example", "a/bc", "a"),
        ("r.example", "x", "host"),
        ("r.example:5000", "a/b", "port"),
        ("q.example", "a/b", "nobody"),
    ];
    for (host, repository, expected) in rows {
        assert_eq!(look(&file, host, repository).unwrap(), expected, "{host}/{repository}");
    }
}

#[test]
fn the_registry_of_docker_has_several_names() {
    for key in ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "https://registry-1.docker.io/v2/"] {
        assert_eq!(look(&auths(&[(key, "me")]), "registry-1.docker.io", "library/nginx").unwrap(), "me", "{key}");
    }
}

#[test]
fn tokens_stand_before_passwords() {
    let file = r#"{"auths": {"a": {"auth": "dTpw", "identitytoken": "i"}, "b": {"registrytoken": "r"}, "c": {}}}"#;
    assert_eq!(look(file, "a", "x").unwrap(), "identity i");
    assert_eq!(look(file, "b", "x").unwrap(), "registry r");
    assert_eq!(look(file, "c", "x").unwrap(), "nobody");
}

#[test]
fn a_broken_file_is_named_and_its_content_is_not_shown() {
    for text in ["{\"auths\": {\"a\": {\"auth\": \"s3cret", "{\"auths\": {\"a\": {\"auth\": \"s3cret\"}}}"] {
        let error = look(text, "a", "x").unwrap_err().to_string();
        assert!(error.contains("config.json") && !error.contains("s3cret"), "{error}");
    }
}

#[test]
fn a_request_shows_no_secret_when_printed() {
    let auth = RegistryAuth { username: "me".into(), password: "s3cret".into(), ..RegistryAuth::default() };
    assert!(!format!("{auth:?}").contains("s3cret"));
}

#[test]
fn a_helper_is_asked_for_what_it_was_named_for() {
    let dir = tempfile::tempdir().unwrap();
    let helper = dir.path().join("docker-credential-coracletest");
    let script = "#!/bin/sh\nread server\n[ \"$server\" = none ] && { echo 'credentials not found in native keychain'; exit 1; }\n\
                  echo \"{\\\"Username\\\": \\\"at $server\\\", \\\"Secret\\\": \\\"p\\\"}\"\n";
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let name = helper.display().to_string();
    // A path is no name: what runs is found by PATH alone.
    let file = format!("{{\"credHelpers\": {{\"a\": {name:?}}}}}");
    assert!(look(&file, "a", "x").unwrap_err().to_string().contains("no helper's name"));
}
