use std::net::{TcpListener, UdpSocket};

use super::*;

fn port(text: &str) -> PortMapping {
    let (text, protocol) = text.split_once('/').unwrap();
    let protocol = if protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
    let (ip, number) = text.split_once('@').map_or((None, text), |(number, ip)| (Some(ip.parse().unwrap()), number));
    PortMapping { protocol, container_port: 1, host_port: number.parse().unwrap(), host_ip: ip }
}

#[test]
fn ports_clash_by_protocol_number_and_address() {
    for (one, other, expected) in [
        ("80/tcp", "80/tcp", true),
        ("80/tcp", "80/udp", false),
        ("80/tcp", "81/tcp", false),
        ("80/tcp", "80@127.0.0.1/tcp", true),
        ("80/tcp", "80@::1/tcp", true),
        ("80@127.0.0.1/tcp", "80@127.0.0.1/tcp", true),
        ("80@127.0.0.1/tcp", "80@127.0.0.2/tcp", false),
        ("80@0.0.0.0/tcp", "80@127.0.0.2/tcp", true),
        ("80@0.0.0.0/tcp", "80/tcp", true),
        ("80@0.0.0.0/tcp", "80@::/tcp", false),
        ("80@::/tcp", "80@::1/tcp", true),
        ("80@::/tcp", "80@127.0.0.1/tcp", false),
    ] {
        assert_eq!(clash(&port(one), &port(other)), expected, "{one} {other}");
        assert_eq!(clash(&port(other), &port(one)), expected, "{other} {one}");
    }
}

#[test]
fn a_pod_that_has_the_port_is_named() {
    let taken = [("default/web".to_owned(), port("65501@127.0.0.1/tcp"))];
    let error = check(&[port("65500/tcp"), port("65501/tcp")], taken.into_iter()).unwrap_err();
    assert_eq!(error.to_string(), "host port 65501/tcp is taken by pod default/web");
    let error = check(&[port("65500/tcp"), port("65500@::1/tcp")], std::iter::empty()).unwrap_err();
    assert_eq!(error.to_string(), "host port [::1]:65500/tcp is taken by another port of the same pod");
}

#[test]
fn a_process_that_has_the_port_is_named() {
    let me = std::process::id() as i32;
    let expect = |wanted: PortMapping| {
        let error = check(&[wanted], std::iter::empty()).unwrap_err();
        assert!(matches!(error.holder, Holder::Process { pid, .. } if pid == me), "{error}");
        assert!(error.to_string().contains(&format!("is taken by process {me} (")), "{error}");
    };
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let number = tcp.local_addr().unwrap().port();
    for wanted in ["", "@127.0.0.1", "@0.0.0.0"] {
        expect(port(&format!("{number}{wanted}/tcp")));
    }
    for free in ["@127.0.0.2/tcp", "@::1/tcp", "/udp"] {
        assert_eq!(check(&[port(&format!("{number}{free}"))], std::iter::empty()), Ok(()), "{free}");
    }
    let udp = UdpSocket::bind("[::1]:0").unwrap();
    let number = udp.local_addr().unwrap().port();
    expect(port(&format!("{number}/udp")));
    expect(port(&format!("{number}@::1/udp")));
    drop((tcp, udp));
    assert_eq!(check(&[port(&format!("{number}/udp"))], std::iter::empty()), Ok(()));
    // An address that is not this host's is nobody's.
    assert_eq!(check(&[port("65502@203.0.113.77/tcp")], std::iter::empty()), Ok(()));
}

#[test]
fn a_connection_that_is_over_holds_no_port() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let number = server.local_addr().unwrap().port();
    let client = std::net::TcpStream::connect(("127.0.0.1", number)).unwrap();
    // Who closes first keeps the port in TIME_WAIT.
    drop(server.accept().unwrap());
    drop(server);
    drop(client);
    assert_eq!(check(&[port(&format!("{number}/tcp"))], std::iter::empty()), Ok(()));
}
