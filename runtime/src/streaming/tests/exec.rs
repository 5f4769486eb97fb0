//! A client against a server, over every protocol.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use crate::streaming::channels::Config;
use crate::streaming::remotecommand::{Client, Options, Protocol, Server, Size, Status};

const ALL: Options = Options { stdin: true, stdout: true, stderr: true, tty: false };
const TERMINAL: Options = Options { stdin: true, stdout: true, stderr: true, tty: true };

pub(super) fn protocols() -> Vec<Protocol> {
    let spdy = Protocol::spdy_names().filter_map(|it| Protocol::spdy([it]));
    spdy.chain(Protocol::websocket_names().filter_map(|it| Protocol::websocket([it]))).collect()
}

async fn both(protocol: Protocol, options: Options) -> (Client, Server) {
    let (near, far): (DuplexStream, DuplexStream) = duplex(4096);
    let client = Client::start(near, protocol, options, Config::default());
    let server = Server::accept(far, protocol, options, Config::default());
    let (client, server) = tokio::join!(client, server);
    (client.unwrap(), server.unwrap())
}

fn noise(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(step).collect()
}

#[tokio::test]
async fn everything_arrives_in_both_directions_at_once_and_then_the_exit_code() {
    for protocol in protocols() {
        let (client, server) = both(protocol, ALL).await;
        let (input, output, errors) = (noise(3_000_000, 1), noise(2_000_000, 2), noise(700_001, 3));
        let ends = protocol.name() == "v5.channel.k8s.io" || protocol.wire == super::super::remotecommand::Wire::Spdy;

        let (mut stdin, sent) = (client.stdin.unwrap(), input.clone());
        let feed = async move {
            stdin.write_all(&sent).await.unwrap();
            stdin.shutdown().await.unwrap();
            stdin
        };
        let drain = |stream: Option<crate::streaming::channels::Receiver>| async move {
            let mut bytes = Vec::new();
            stream.unwrap().read_to_end(&mut bytes).await.unwrap();
            bytes
        };
        let run = async move {
            let (mut stdout, mut stderr, mut stdin) =
                (server.stdout.unwrap(), server.stderr.unwrap(), server.stdin.unwrap());
            let mut came = vec![0; 3_000_000];
            let (_, _, _) = tokio::join!(
                async { stdin.read_exact(&mut came).await.unwrap() },
                async { stdout.write_all(&output).await.unwrap() },
                async { stderr.write_all(&errors).await.unwrap() },
            );
            if ends {
                assert_eq!(stdin.read(&mut [0; 1]).await.unwrap(), 0, "{protocol:?}");
            }
            drop((stdout, stderr));
            server.control.finish(Status::ExitCode(7)).await.unwrap();
            (came, output, errors)
        };
        let (_stdin, stdout, stderr, status, (came, output, errors)) =
            tokio::join!(feed, drain(client.stdout), drain(client.stderr), client.outcome.wait(), run);
        assert!(came == input && stdout == output && stderr == errors, "{protocol:?}");
        let text = "command terminated with non-zero exit code: 7".to_owned();
        let old = !matches!(
            protocol.version,
            super::super::remotecommand::Version::V4 | super::super::remotecommand::Version::V5
        );
        assert_eq!(status.unwrap(), if old { Status::Failure(text) } else { Status::ExitCode(7) }, "{protocol:?}");
    }
}

#[tokio::test]
async fn sizes_arrive_and_there_is_no_standard_error_with_a_terminal() {
    for protocol in protocols() {
        let (client, server) = both(protocol, TERMINAL).await;
        assert!(client.stderr.is_none() && server.stderr.is_none(), "{protocol:?}");
        let (Some(mut resizer), Some(mut resizes)) = (client.resize, server.resize) else {
            assert!(["v2.channel.k8s.io", "channel.k8s.io"].contains(&protocol.name()), "{protocol:?}");
            continue;
        };
        for size in [Size { width: 80, height: 24 }, Size { width: 0, height: u16::MAX }] {
            resizer.resize(size).await.unwrap();
            assert_eq!(resizes.next().await, Some(size), "{protocol:?}");
        }
        let (end, status) = tokio::join!(server.control.finish(Status::Success), client.outcome.wait());
        end.unwrap();
        assert_eq!(status.unwrap(), Status::Success, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_wakes_whoever_waits() {
    for protocol in protocols() {
        let (client, mut server) = both(protocol, ALL).await;
        let (mut stdin, mut stdout) = (server.stdin.take().unwrap(), server.stdout.take().unwrap());
        let mut sent = client.stdin.unwrap();
        sent.write_all(b"last words").await.unwrap();
        let waiting = async {
            let mut came = Vec::new();
            let _ = stdin.read_to_end(&mut came).await;
            came
        };
        let writing = async { while stdout.write_all(&[0; 4096]).await.is_ok() {} };
        let leave = async {
            // What was said is heard: it is on its way before the connection goes.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            drop((sent, client.stdout, client.stderr, client.outcome));
        };
        let (came, (), (), _) = tokio::join!(waiting, writing, leave, server.control.closed());
        assert_eq!(came, b"last words", "{protocol:?}");
    }
}

#[tokio::test]
async fn a_server_that_goes_away_gives_no_status() {
    for protocol in protocols() {
        let (client, server) = both(protocol, ALL).await;
        drop(server);
        let outcome = client.outcome.wait().await;
        // Version 1 to 3 have no word for success, so silence is one.
        let silent =
            matches!(outcome, Ok(Status::Success)) && protocol.version < super::super::remotecommand::Version::V4;
        assert!(outcome.is_err() || silent, "{protocol:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn who_is_not_read_holds_the_peer_back() {
    for protocol in protocols() {
        let (client, server) = both(protocol, ALL).await;
        let mut stdin = client.stdin.unwrap();
        let mut taken = 0;
        let push = async {
            loop {
                taken += stdin.write(&[0; 1000]).await.unwrap();
            }
        };
        let held = tokio::time::timeout(std::time::Duration::from_millis(300), push).await;
        assert!(held.is_err());
        let config = Config::default();
        // What waits at both ends, and what is on its way between them.
        let most = config.buffer + 3 * config.output + 4 * (32 << 10) + 4 * 4096;
        assert!(taken > config.buffer / 2 && taken < most, "{protocol:?}: {taken}");
        let mut came = 0;
        let mut stdin = server.stdin.unwrap();
        let mut buffer = vec![0; 1 << 16];
        while came < taken {
            came += stdin.read(&mut buffer).await.unwrap();
        }
        assert_eq!(came, taken, "{protocol:?}");
    }
}
