//! As much of a WebSocket client as takes the output of a command, without a copy too many: what is measured is the server.

use std::io::{BufReader, Read, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use e2e::netns::Host;

const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;

/// How many bytes of output came until a command ended well.
pub fn output(host: &Host, url: &str) -> anyhow::Result<usize> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url} is no address of plain HTTP"))?;
    let (authority, path) = rest.split_once('/').with_context(|| format!("{url} has no path"))?;
    let mut connection = host.within(|| TcpStream::connect(authority)).context("connect")?;
    connection.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(
        connection,
        "GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
    )?;
    let mut reader = BufReader::with_capacity(256 * 1024, connection);
    expect_upgrade(&mut reader)?;
    follow(&mut reader)
}

fn expect_upgrade(reader: &mut impl Read) -> anyhow::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        reader.read_exact(&mut byte).context("read the answer")?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    ensure!(head.starts_with("HTTP/1.1 101 ") && head.contains("v4.channel.k8s.io"), "no upgrade: {head}");
    Ok(())
}

/// Frames of a server: never masked; the first byte of a message is its channel.
fn follow(reader: &mut impl Read) -> anyhow::Result<usize> {
    let (mut bytes, mut payload) = (0, Vec::new());
    loop {
        let opcode = frame(reader, &mut payload)?;
        match (opcode, payload.split_first()) {
            (2, Some((&STDOUT, data))) => bytes += data.len(),
            (2, Some((&STATUS, status))) => {
                let status = String::from_utf8_lossy(status);
                ensure!(status.contains("Success"), "the command failed: {status}");
                return Ok(bytes);
            }
            (2, Some((&STDERR, data))) => {
                ensure!(data.is_empty(), "the command complains: {}", String::from_utf8_lossy(data));
            }
            // Empty messages and pings: nobody waits for an answer as long as bytes flow.
            (2 | 9, _) => {}
            (opcode, _) => bail!("a frame of type {opcode} after {bytes} bytes, before any status"),
        }
    }
}

/// Reads a frame and returns its type.
fn frame(reader: &mut impl Read, payload: &mut Vec<u8>) -> anyhow::Result<u8> {
    let mut head = [0; 2];
    reader.read_exact(&mut head).context("read a frame")?;
    ensure!(head[0] & 0x80 != 0, "a message in several frames");
    let length = match head[1] {
        126 => {
            let mut length = [0; 2];
            reader.read_exact(&mut length)?;
            u64::from(u16::from_be_bytes(length))
        }
        127 => {
            let mut length = [0; 8];
            reader.read_exact(&mut length)?;
            u64::from_be_bytes(length)
        }
        short => u64::from(short),
    };
    ensure!(length <= 1 << 24, "a frame of {length} bytes");
    payload.resize(length as usize, 0);
    reader.read_exact(payload).context("read a frame's payload")?;
    Ok(head[0] & 0x0f)
}

#[cfg(test)]
mod tests {
    use super::follow;

    #[test]
    fn output_is_counted_until_the_status() {
        let mut wire = vec![0x82, 3, 1, b'a', b'b', 0x82, 1, 2, 0x82, 126, 1, 0];
        wire.extend([1; 256]);
        let status = b"\x03{\"status\":\"Success\"}";
        wire.extend([0x82, status.len() as u8]);
        wire.extend(status);
        assert_eq!(follow(&mut wire.as_slice()).expect("it succeeds"), 257);
    }

    #[test]
    fn a_command_that_fails_is_an_error() {
        let mut wire = vec![0x82, 8];
        wire.extend(b"\x03Failure");
        assert!(follow(&mut wire.as_slice()).is_err());
        assert!(follow(&mut [0x88, 0].as_slice()).is_err());
    }
}
