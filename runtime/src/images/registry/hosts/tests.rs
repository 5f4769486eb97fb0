use std::path::Path;

use super::*;

fn read(domain: &str, text: &str) -> Result<(Vec<Host>, Vec<String>), Error> {
    file::parse(text, domain, Path::new("/etc/x/hosts.toml"))
}

#[test]
fn a_registry_without_a_file_is_reached_by_its_own_name() {
    let rows = [
        ("docker.io", "https://registry-1.docker.io", false),
        ("quay.io", "https://quay.io", false),
        ("localhost:5000", "https://localhost:5000", true),
        ("127.0.0.1:5000", "https://127.0.0.1:5000", true),
        ("[::1]:5000", "https://[::1]:5000", true),
        ("registry.local:5000", "https://registry.local:5000", false),
    ];
    for (domain, root, plain_too) in rows {
        let (hosts, notes) = of(domain, &[]).unwrap();
        assert_eq!((hosts.len(), notes.len()), (1, 0));
        assert_eq!((hosts[0].root.as_str(), hosts[0].plain_too), (root, plain_too), "{domain}");
        assert_eq!((hosts[0].api.as_str(), hosts[0].is_origin, &hosts[0].namespace), ("/v2", true, &None), "{domain}");
        assert_eq!(hosts[0].is_local(), plain_too, "{domain}");
    }
}

#[test]
fn mirrors_come_in_the_order_of_the_file_and_the_registry_last() {
    let text = r#"
server = "https://registry.example"
ca = "own.crt"

[host."http://z.example:5000"]
  capabilities = ["pull", "resolve"]
  [host."http://z.example:5000".header]
    x-key = ["a", "b"]

[host."https://a.example/cache"]
  capabilities = ["pull"]
  skip_verify = true
  client = [["/c.crt", "/c.key"]]
  override_path = true
  tomorrow = 1
"#;
    let (hosts, notes) = read("registry.example", text).unwrap();
    let roots: Vec<&str> = hosts.iter().map(|host| host.root.as_str()).collect();
    assert_eq!(roots, ["http://z.example:5000", "https://a.example", "https://registry.example"]);
    assert_eq!((hosts[0].pull, hosts[0].resolve, hosts[0].api.as_str()), (true, true, "/v2"));
    assert_eq!(hosts[0].headers.get_all("x-key").iter().count(), 2);
    assert_eq!(hosts[0].namespace.as_deref(), Some("registry.example"));
    assert_eq!((hosts[1].pull, hosts[1].resolve, hosts[1].api.as_str()), (true, false, "/cache"));
    assert!(hosts[1].tls.skip_verify);
    assert_eq!(hosts[1].tls.client, [("/c.crt".into(), Some("/c.key".into()))]);
    assert_eq!((hosts[2].is_origin, &hosts[2].namespace), (true, &None));
    assert_eq!(hosts[2].tls.ca, [PathBuf::from("/etc/x/own.crt")]);
    assert_eq!(notes, ["/etc/x/hosts.toml:15: \"tomorrow\" is not known and has no effect"]);
}

#[test]
fn a_mistake_is_reported_with_its_line() {
    let rows = [
        ("server = 1", 1, "server is a integer"),
        ("\nserver = \"ftp://x\"", 2, "not an http or https URL"),
        ("[host.\"https://a\"]\ncapabilities = [\"pull\",\n \"eat\"]", 3, "\"eat\" is not one of"),
        ("[host.\"https://a\"]\nskip_verify = \"yes\"", 2, "not true or false"),
        ("[host.\"https://u:p@a\"]", 1, "no credentials"),
        ("host = 3", 1, "host is not a table"),
        ("server = \"https://a\"\n[host", 2, ""),
        ("[host.\"https://a\".header]\n\"x y\" = \"1\"", 2, "not a header's name"),
    ];
    for (text, line, words) in rows {
        let error = read("a", text).unwrap_err();
        let shown = error.to_string();
        assert!(shown.starts_with(&format!("/etc/x/hosts.toml:{line}: ")), "{text:?}: {shown}");
        assert!(shown.contains(words), "{text:?}: {shown}");
    }
}

#[test]
fn the_directory_of_a_host_with_a_port_has_no_colon() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, server: &str| {
        fs::create_dir_all(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("hosts.toml"), format!("server = \"{server}\"")).unwrap();
    };
    let server = |domain: &str| of(domain, &[dir.path().to_owned()]).unwrap().0[0].root.clone();
    write("a.example_5000_", "http://underscores");
    write("b.example:5000", "http://colon");
    assert_eq!(server("a.example:5000"), "http://underscores");
    assert_eq!(server("b.example:5000"), "http://colon");
    assert_eq!(server("c.example"), "https://c.example");
    write("_default", "http://default");
    assert_eq!(server("c.example"), "http://default");
}
