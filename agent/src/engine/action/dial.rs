//! TCP connections to what is asked.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

/// A connection that did not come to be.
#[derive(Debug, thiserror::Error)]
#[error("dial tcp {}: {reason}", address(host, *port))]
pub struct DialError {
    host: String,
    port: u16,
    reason: String,
}

impl DialError {
    /// Nobody answered in time.
    pub fn late(host: &str, port: u16, limit: Duration) -> Self {
        DialError { host: host.to_owned(), port, reason: format!("no answer within {limit:?}") }
    }
}

/// `HOST:PORT`, an IPv6 address in brackets.
pub fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Connects to the first address of `host` that answers.
pub async fn dial(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let failed = |error: io::Error| DialError { host: host.to_owned(), port, reason: words(&error) };
    // No proxy, whatever the environment says: the pod is next door.
    let stream = TcpStream::connect((host, port)).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

/// The kernel's words without the number that Rust adds.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_is_put_in_brackets() {
        assert_eq!(address("10.0.0.2", 80), "10.0.0.2:80");
        assert_eq!(address("fd00::2", 80), "[fd00::2]:80");
        assert_eq!(address("db.example", 5432), "db.example:5432");
    }

    #[test]
    fn a_refused_connection_says_where_and_why() {
        let error = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
        let error = DialError { host: "::1".into(), port: 80, reason: words(&error) };
        assert_eq!(error.to_string(), "dial tcp [::1]:80: connection refused");
    }
}
