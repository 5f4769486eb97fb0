//! What runs inside the containers of these tests.

use std::io::Write as _;
use std::process::ExitCode;

pub fn run(args: &[String]) -> ExitCode {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["true"] => ExitCode::SUCCESS,
        ["exit", code] => ExitCode::from(code.parse::<u8>().unwrap()),
        ["echo", words @ ..] => {
            println!("{}", words.join(" "));
            ExitCode::SUCCESS
        }
        ["both"] => {
            println!("out");
            eprintln!("err");
            ExitCode::SUCCESS
        }
        // Says to everybody who connects who it is, by its address.
        ["serve", port] => {
            let listener = std::net::TcpListener::bind(("::", port.parse().unwrap())).unwrap();
            println!("listening");
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let peer = stream.peer_addr().unwrap().ip().to_canonical();
                let _ = write!(stream, "hello {peer}");
            }
            ExitCode::SUCCESS
        }
        ["dial", address] => {
            let address: std::net::SocketAddr = address.parse().unwrap();
            let answer = std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_secs(60))
                .and_then(|mut it| std::io::read_to_string(&mut it));
            match answer {
                Ok(text) => println!("{text}"),
                Err(error) => println!("{error}"),
            }
            ExitCode::SUCCESS
        }
        ["sleep"] => loop {
            std::thread::sleep(std::time::Duration::from_secs(3600));
        },
        ["cat", paths @ ..] => {
            for path in paths {
                print!("{}", std::fs::read_to_string(path).unwrap_or_else(|error| format!("{path}: {error}\n")));
            }
            ExitCode::SUCCESS
        }
        ["ls", path] => {
            let mut names: Vec<_> =
                std::fs::read_dir(path).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            println!("{}", names.join(" "));
            ExitCode::SUCCESS
        }
        ["links", path] => {
            for entry in std::fs::read_dir(path).unwrap() {
                let path = entry.unwrap().path();
                println!("{} -> {}", path.display(), std::fs::read_link(&path).unwrap_or_default().display());
            }
            ExitCode::SUCCESS
        }
        ["write", paths @ ..] => {
            for path in paths {
                match std::fs::write(path, "x") {
                    Ok(()) => println!("{path}: written"),
                    Err(error) => println!("{path}: {error}"),
                }
            }
            ExitCode::SUCCESS
        }
        ["eat"] => {
            let mut all: Vec<Vec<u8>> = Vec::new();
            loop {
                all.push(vec![1; 1 << 20]);
            }
        }
        other => {
            eprintln!("no such applet: {other:?}");
            ExitCode::from(99)
        }
    }
}
