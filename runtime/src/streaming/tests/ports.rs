//! Port forwarding, both ends.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use crate::streaming::channels::Config;
use crate::streaming::portforward::{Client, Protocol, Server};

const PROTOCOLS: [Protocol; 4] =
    [Protocol::Spdy, Protocol::SpdyInWebSocket, Protocol::WebSocket, Protocol::WebSocketBase64];

fn both(protocol: Protocol, ports: &[u16]) -> (Client, Server) {
    let (near, far) = duplex(4096);
    let client = Client::new(near, protocol, ports, Config::default()).unwrap();
    (client, Server::new(far, protocol, ports, Config::default()).unwrap())
}

#[tokio::test]
async fn many_connections_echo_at_one_time() {
    for protocol in PROTOCOLS {
        let ports: Vec<u16> = (8000..8009).collect();
        let (client, mut server) = both(protocol, &ports);
        let serve = async {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..ports.len() {
                let mut forward = server.accept().await.unwrap();
                tasks.spawn(async move {
                    let mut buffer = vec![0; 1000];
                    let mut left = 300_000;
                    while left > 0 {
                        let count = forward.receiver.read(&mut buffer).await.unwrap();
                        forward.sender.write_all(&buffer[..count]).await.unwrap();
                        left -= count;
                    }
                    forward.port
                });
            }
            let mut seen = tasks.join_all().await;
            seen.sort_unstable();
            seen
        };
        let talk = |port: u16| {
            let client = &client;
            async move {
                let mut forwarded = client.connect(port).await.unwrap();
                let sent: Vec<u8> = (0..300_000_u32).map(|it| (it * u32::from(port)) as u8).collect();
                let mut came = vec![0; sent.len()];
                let (wrote, read) =
                    tokio::join!(forwarded.sender.write_all(&sent), forwarded.receiver.read_exact(&mut came));
                wrote.unwrap();
                read.unwrap();
                assert!(came == sent, "{protocol:?} port {port}");
            }
        };
        let talks = futures_util::future::join_all(ports.iter().map(|port| talk(*port)));
        let (seen, _) = tokio::join!(serve, talks);
        assert_eq!(seen, ports, "{protocol:?}");
    }
}

#[tokio::test]
async fn what_went_wrong_is_told_and_the_next_connection_is_none_the_worse() {
    for protocol in PROTOCOLS {
        let (client, mut server) = both(protocol, &[80, 81]);
        let serve = async {
            server.accept().await.unwrap().fail("nobody listens").await;
            let mut forward = server.accept().await.unwrap();
            forward.sender.write_all(b"hello").await.unwrap();
            drop(forward);
            server.accept().await.is_none()
        };
        let talk = async {
            let mut forwarded = client.connect(80).await.unwrap();
            let mut why = vec![0; 14];
            forwarded.error.read_exact(&mut why).await.unwrap();
            assert_eq!(why, b"nobody listens", "{protocol:?}");
            let mut forwarded = client.connect(81).await.unwrap();
            let mut came = vec![0; 5];
            forwarded.receiver.read_exact(&mut came).await.unwrap();
            assert_eq!(came, b"hello", "{protocol:?}");
            drop(forwarded);
            drop(client);
        };
        let (ended, ()) = tokio::join!(serve, talk);
        assert!(ended, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_half_close_goes_through_and_the_other_half_goes_on() {
    for protocol in [Protocol::Spdy, Protocol::SpdyInWebSocket] {
        let (client, mut server) = both(protocol, &[]);
        let serve = async {
            let mut forward = server.accept().await.unwrap();
            let mut came = Vec::new();
            forward.receiver.read_to_end(&mut came).await.unwrap();
            assert_eq!(came, b"question", "{protocol:?}");
            forward.sender.write_all(b"answer").await.unwrap();
        };
        let talk = async {
            let mut forwarded = client.connect(80).await.unwrap();
            forwarded.sender.write_all(b"question").await.unwrap();
            forwarded.sender.shutdown().await.unwrap();
            let mut came = Vec::new();
            forwarded.receiver.read_to_end(&mut came).await.unwrap();
            assert_eq!(came, b"answer", "{protocol:?}");
            let mut errors = Vec::new();
            forwarded.error.read_to_end(&mut errors).await.unwrap();
            assert!(errors.is_empty(), "{protocol:?}");
        };
        tokio::join!(serve, talk);
    }
}
