//! Streams that share a connection.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use crate::streaming::channels::{Config, Connection, Error, Receiver, Role, Sender};
use crate::streaming::codec::Headers;
use crate::streaming::{driver, spdy};

fn connection(io: tokio::io::DuplexStream, role: Role, config: Config) -> Connection {
    driver::start(io, Box::new(spdy::Connection::new(role, &config).unwrap()), config, role == Role::Client)
}

/// One stream, both ends of it.
async fn stream(client: &Connection, server: &mut Connection) -> ((Receiver, Sender), (Receiver, Sender)) {
    let headers = Headers::from_iter([("streamType", "data")]);
    let (opened, accepted) =
        tokio::join!(client.open(&headers), async { server.accept().await.map(|incoming| incoming.accept()) });
    (opened.unwrap(), accepted.unwrap())
}

#[tokio::test]
async fn a_stream_that_has_much_to_say_lets_the_others_speak() {
    let (near, far) = duplex(64 << 10);
    let client = connection(near, Role::Client, Config::default());
    let mut server = connection(far, Role::Server, Config::default());
    let ((_r1, mut loud), (mut heard, _s1)) = stream(&client, &mut server).await;
    let ((_r2, mut quiet), (mut listened, _s2)) = stream(&client, &mut server).await;
    let shout = async { while loud.write_all(&[1; 32 << 10]).await.is_ok() {} };
    let hear = async {
        let mut buffer = vec![0; 64 << 10];
        while heard.read(&mut buffer).await.is_ok() {}
    };
    let talk = async {
        for round in 0..100_u8 {
            quiet.write_all(&[round]).await.unwrap();
            assert_eq!(listened.read_u8().await.unwrap(), round);
        }
    };
    tokio::select! {
        () = shout => panic!("the loud stream broke"),
        () = hear => panic!("the loud stream broke"),
        () = talk => {}
    }
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_end_nothing() {
    let (near, far) = duplex(64 << 10);
    let client = connection(near, Role::Client, Config::default());
    let mut server = connection(far, Role::Server, Config { streams: 2, ..Config::default() });
    let mut first = stream(&client, &mut server).await;
    let second = stream(&client, &mut server).await;
    let more = client.open(&Headers::default()).await;
    assert!(matches!(more, Err(Error::Refused)), "{more:?}");
    first.0.1.write_all(b"still").await.unwrap();
    let mut came = [0; 5];
    first.1.0.read_exact(&mut came).await.unwrap();
    assert_eq!(&came, b"still");
    drop(second);
    // Its place is free once both ends have said so to each other: what is said after it proves that.
    first.0.1.write_all(b"there").await.unwrap();
    first.1.0.read_exact(&mut came).await.unwrap();
    first.1.1.write_all(b"again").await.unwrap();
    first.0.0.read_exact(&mut came).await.unwrap();
    stream(&client, &mut server).await;
}

#[tokio::test]
async fn a_stream_that_is_cut_off_leaves_the_others() {
    let (near, far) = duplex(1024);
    let client = connection(near, Role::Client, Config::default());
    let mut server = connection(far, Role::Server, Config::default());
    let ((_r1, sender), (mut receiver, mut back)) = stream(&client, &mut server).await;
    let ((_r2, mut other), (mut heard, _s2)) = stream(&client, &mut server).await;
    sender.reset();
    assert!(receiver.read_u8().await.is_err());
    assert!(back.write_all(b"x").await.is_err());
    other.write_all(b"y").await.unwrap();
    assert_eq!(heard.read_u8().await.unwrap(), b'y');
}

#[tokio::test]
async fn silence_ends_a_connection() {
    let (near, _far) = duplex(1024);
    let config = Config { idle: Some(std::time::Duration::from_millis(20)), ..Config::default() };
    let client = connection(near, Role::Client, config);
    assert!(matches!(client.closed().await, Error::Timeout(_)));
}
