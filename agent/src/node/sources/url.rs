//! An address that is asked for manifests, again and again.

use std::time::Duration;

use reqwest::header::{ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH};
use reqwest::{Client, StatusCode};
use tokio::sync::{mpsc, watch};

use super::{Content, Files, LARGEST, Snapshot};

/// How long an answer may take, as kubelet has it.
const PATIENCE: Duration = Duration::from_secs(10);

/// An address, and what is said to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `http://` or `https://`.
    pub url: String,
    /// Headers of each request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Reads `NAME:VALUE`, as kubelet's `--manifest-url-header` has it.
pub fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write it as NAME:VALUE")?;
    let name = name.trim().parse().map_err(|_| format!("{:?} is no name of a header", name.trim()))?;
    let value = value.trim().parse().map_err(|_| "its value has characters that no header has".to_owned())?;
    Ok((name, value))
}

/// An address that can be asked.
pub fn address(text: &str) -> Result<String, String> {
    let known = text.starts_with("http://") || text.starts_with("https://");
    match text.parse::<reqwest::Url>() {
        Ok(_) if known => Ok(text.to_owned()),
        Ok(_) => Err("it begins with neither http:// nor https://".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Asks for ever, and tells what is new.
pub async fn follow(address: Address, every: Duration, mut look: watch::Receiver<()>, told: mpsc::Sender<Snapshot>) {
    let client = client(address.headers.into_iter().collect());
    let mut tag = None;
    let mut before = None;
    loop {
        let answer = match &client {
            Ok(client) => ask(client, &address.url, &mut tag).await,
            Err(why) => Err(why.clone()),
        };
        let files = match answer {
            Ok(None) => None,
            Ok(Some(content)) => Some(Ok(Files::from([(address.url.clone(), content)]))),
            Err(why) => {
                tag = None;
                let url = &address.url;
                Some(Err(format!("cannot get manifests from {url}: {why}; what came from there goes on as it is")))
            }
        };
        let snapshot = files.map(|files| Snapshot { source: address.url.clone(), files });
        if snapshot.is_some() && snapshot != before {
            before.clone_from(&snapshot);
            if let Some(snapshot) = snapshot
                && told.send(snapshot).await.is_err()
            {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            Ok(()) = look.changed() => {}
        }
    }
}

fn client(headers: HeaderMap) -> Result<Client, String> {
    let tls = runtime::images::host_tls()?;
    let builder = Client::builder().tls_backend_preconfigured(tls).timeout(PATIENCE).default_headers(headers);
    builder.build().map_err(|error| chain(&error))
}

/// What the address answers; none when that is what it answered before.
async fn ask(client: &Client, url: &str, tag: &mut Option<HeaderValue>) -> Result<Option<Content>, String> {
    let mut request = client.get(url);
    if let Some(tag) = tag.clone() {
        request = request.header(IF_NONE_MATCH, tag);
    }
    let mut response = request.send().await.map_err(|error| chain(&error))?;
    if response.status() == StatusCode::NOT_MODIFIED {
        return Ok(None);
    }
    if !response.status().is_success() {
        return Err(format!("it answers {}", response.status()));
    }
    let new = response.headers().get(ETAG).cloned();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| chain(&error))? {
        bytes.extend_from_slice(&chunk);
        if u64::try_from(bytes.len()).is_ok_and(|size| size > LARGEST) {
            return Err("its answer is larger than 10 MiB, which no manifest is".to_owned());
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| "its answer is not UTF-8".to_owned())?;
    *tag = new;
    Ok(Some(Content::Text(text.into())))
}

/// An error with its causes: the outermost says only that the request failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn headers_and_addresses_are_read_as_kubelet_reads_them() {
        let (name, value) = header("Metadata-Flavor: Google").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("metadata-flavor", "Google"));
        assert!(header("x").is_err() && header("a b:c").is_err());
        assert!(address("http://127.0.0.1:80/pods").is_ok());
        for bad in ["ftp://host", "/etc/manifests", "http://"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
