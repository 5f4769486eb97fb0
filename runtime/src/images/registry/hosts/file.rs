//! Reading one `hosts.toml`. Every mistake is reported with its line; a key that we do not know is a note, for the file
//! may be another runtime's too.

use std::path::Path;

use reqwest::header::{HeaderName, HeaderValue};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Host, default_server, wrong};
use crate::images::Error;

/// Understood by containerd, and nothing that we could do differently.
const IGNORED: [&str; 1] = ["dial_timeout"];

struct File<'a> {
    text: &'a str,
    path: &'a Path,
    notes: Vec<String>,
}

/// The hosts of a file in the order they stand, the registry itself last.
pub(super) fn parse(text: &str, domain: &str, path: &Path) -> Result<(Vec<Host>, Vec<String>), Error> {
    let mut file = File { text, path, notes: Vec::new() };
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map(|span| line_at(text, span.start));
        wrong(path, line, error.message().to_owned())
    })?;
    let mut server = default_server(domain, path)?;
    if let Some(value) = table.get_ref().get("server").filter(|value| value.get_ref().as_str() != Some("")) {
        server = file.host_at(file.string(value, "server")?, domain, value)?;
        // Wherever it is, this is the registry.
        server.is_origin = true;
    }
    let mut hosts = Vec::new();
    for (key, value) in table.get_ref() {
        match key.get_ref().as_ref() {
            "server" => {}
            "host" => hosts = file.hosts(value, domain)?,
            _ => file.setting(&mut server, key, value)?,
        }
    }
    hosts.push(server);
    Ok((hosts, file.notes))
}

impl File<'_> {
    fn error<T>(&self, at: &Spanned<T>, reason: impl Into<String>) -> Error {
        wrong(self.path, Some(line_at(self.text, at.span().start)), reason.into())
    }

    fn host_at<T>(&self, address: &str, domain: &str, at: &Spanned<T>) -> Result<Host, Error> {
        Host::at(address, domain).map_err(|reason| self.error(at, reason))
    }

    fn hosts(&mut self, value: &Spanned<DeValue<'_>>, domain: &str) -> Result<Vec<Host>, Error> {
        let table = value.get_ref().as_table().ok_or_else(|| self.error(value, "host is not a table"))?;
        let mut entries: Vec<_> = table.iter().collect();
        // The order in the file is the order of trying.
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut hosts = Vec::new();
        for (key, value) in entries {
            let mut host = self.host_at(key.get_ref(), domain, key)?;
            let settings = value.get_ref().as_table();
            for (key, value) in settings.ok_or_else(|| self.error(value, "a host is a table of settings"))? {
                self.setting(&mut host, key, value)?;
            }
            hosts.push(host);
        }
        Ok(hosts)
    }

    fn setting<K: AsRef<str>>(
        &mut self,
        host: &mut Host,
        key: &Spanned<K>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), Error> {
        match key.get_ref().as_ref() {
            "capabilities" => self.capabilities(host, value)?,
            "ca" => host.tls.ca = self.paths(value, "ca")?,
            "client" => host.tls.client = self.clients(value)?,
            "skip_verify" => host.tls.skip_verify = self.boolean(value, "skip_verify")?,
            "override_path" => {
                if self.boolean(value, "override_path")? {
                    host.api = host.given_path.clone();
                }
            }
            "header" => self.headers(host, value)?,
            name if IGNORED.contains(&name) => {}
            name => {
                let line = line_at(self.text, key.span().start);
                self.notes.push(format!("{}:{line}: {name:?} is not known and has no effect", self.path.display()));
            }
        }
        Ok(())
    }

    fn capabilities(&self, host: &mut Host, value: &Spanned<DeValue<'_>>) -> Result<(), Error> {
        (host.pull, host.resolve) = (false, false);
        for item in self.array(value, "capabilities")? {
            match self.string(item, "a capability")? {
                "pull" => host.pull = true,
                "resolve" => host.resolve = true,
                // Images are not pushed.
                "push" => {}
                other => {
                    return Err(self.error(item, format!("capability {other:?} is not one of pull, resolve, push")));
                }
            }
        }
        Ok(())
    }

    fn headers(&self, host: &mut Host, value: &Spanned<DeValue<'_>>) -> Result<(), Error> {
        let table = value.get_ref().as_table().ok_or_else(|| self.error(value, "header is not a table"))?;
        for (key, value) in table {
            let name = HeaderName::from_bytes(key.get_ref().as_bytes())
                .map_err(|_| self.error(key, format!("{:?} is not a header's name", key.get_ref())))?;
            for text in self.strings(value, "a header")? {
                let mut parsed = HeaderValue::from_str(text)
                    .map_err(|_| self.error(value, format!("the value of header {name} is not valid")))?;
                // It may be a key to the mirror.
                parsed.set_sensitive(true);
                host.headers.append(name.clone(), parsed);
            }
        }
        Ok(())
    }

    /// A file; a list of files; or a list of pairs, certificate and key.
    fn clients(
        &self,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Vec<(std::path::PathBuf, Option<std::path::PathBuf>)>, Error> {
        let Some(items) = value.get_ref().as_array() else {
            return Ok(vec![(self.path_of(self.string(value, "client")?), None)]);
        };
        let mut clients = Vec::new();
        for item in items {
            let Some(pair) = item.get_ref().as_array() else {
                clients.push((self.path_of(self.string(item, "client")?), None));
                continue;
            };
            match pair.iter().map(|it| self.string(it, "client")).collect::<Result<Vec<_>, Error>>()?.as_slice() {
                [certificate] => clients.push((self.path_of(certificate), None)),
                [certificate, ""] => clients.push((self.path_of(certificate), None)),
                [certificate, key] => clients.push((self.path_of(certificate), Some(self.path_of(key)))),
                _ => return Err(self.error(item, "client is a certificate and a key")),
            }
        }
        Ok(clients)
    }

    fn paths(&self, value: &Spanned<DeValue<'_>>, what: &str) -> Result<Vec<std::path::PathBuf>, Error> {
        Ok(self.strings(value, what)?.into_iter().map(|text| self.path_of(text)).collect())
    }

    /// Relative to the file's own directory.
    fn path_of(&self, text: &str) -> std::path::PathBuf {
        self.path.parent().unwrap_or(Path::new("/")).join(text)
    }

    /// A string or a list of them.
    fn strings<'v>(&self, value: &'v Spanned<DeValue<'_>>, what: &str) -> Result<Vec<&'v str>, Error> {
        match value.get_ref().as_array() {
            Some(items) => items.iter().map(|item| self.string(item, what)).collect(),
            None => Ok(vec![self.string(value, what)?]),
        }
    }

    fn array<'v, 'i>(&self, value: &'v Spanned<DeValue<'i>>, what: &str) -> Result<&'v [Spanned<DeValue<'i>>], Error> {
        match value.get_ref().as_array() {
            Some(items) => Ok(items),
            None => Err(self.error(value, format!("{what} is not a list"))),
        }
    }

    fn string<'v>(&self, value: &'v Spanned<DeValue<'_>>, what: &str) -> Result<&'v str, Error> {
        let found = value.get_ref();
        found.as_str().ok_or_else(|| self.error(value, format!("{what} is a {}, not a string", found.type_str())))
    }

    fn boolean(&self, value: &Spanned<DeValue<'_>>, what: &str) -> Result<bool, Error> {
        let found = value.get_ref();
        found.as_bool().ok_or_else(|| self.error(value, format!("{what} is a {}, not true or false", found.type_str())))
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}
