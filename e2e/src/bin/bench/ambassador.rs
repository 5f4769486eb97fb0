//! What an ambassador costs: throughput, latency, connections, memory; beside the loopback alone, and beside socat.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use e2e::netns::Host;
use e2e::{Run, binary, debian};
use rustix::process::Signal;

use crate::network::field;
use crate::report::Row;

/// What the target listens on, and what leads there.
const TARGET: u16 = 7000;
const RELAYED: u16 = 7001;

/// Questions of one latency sample, and connections of one of connecting.
const QUESTIONS: usize = 500;
const CONNECTIONS: u32 = 100;

/// All rows.
pub fn rows(runs: usize) -> anyhow::Result<Vec<Row>> {
    let host = Host::new()?;
    let mut rows = Vec::new();
    let at = |port: u16| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    measure(&host, "loopback", at(TARGET), runs, &mut rows)?;
    let relay = start(&host, RELAYED);
    let [pss, own] = memory(&relay)?;
    rows.push(Row::new("memory of an idle ambassador, alone on the machine (PSS)", "KiB", "coracle", vec![pss]));
    rows.push(Row::new("of it its own, not pages of the binary", "KiB", "coracle", vec![own]));
    let others: Vec<Run> = (1..10).map(|number| start(&host, RELAYED + number)).collect();
    let [pss, _] = memory(&relay)?;
    rows.push(Row::new("memory of an idle ambassador, one of ten (PSS)", "KiB", "coracle", vec![pss]));
    others.into_iter().for_each(end);
    measure(&host, "coracle", at(RELAYED), runs, &mut rows)?;
    end(relay);
    match debian::program("socat", "socat") {
        Ok(socat) => {
            let mut command = Command::new(socat);
            command.arg(format!("TCP4-LISTEN:{RELAYED},fork,reuseaddr")).arg(format!("TCP4:127.0.0.1:{TARGET}"));
            let run = host.spawn(command);
            wait(&host, at(RELAYED))?;
            measure(&host, "socat", at(RELAYED), runs, &mut rows)?;
            end(run);
        }
        Err(why) => rows.push(Row::absent("throughput of one stream through an ambassador", "MB/s", "socat", &why)),
    }
    Ok(rows)
}

fn start(host: &Host, port: u16) -> Run {
    let mut command = Command::new(binary::coracle());
    command.args(["tool", "ambassador"]).env_clear();
    command.env(format!("TARGET_PORT_{port}_TCP"), format!("tcp://127.0.0.1:{TARGET}"));
    let mut run = host.spawn(command);
    run.wait_for(" leads to ");
    run
}

fn end(mut run: Run) {
    run.signal(Signal::TERM);
    run.wait();
}

/// Until something listens there. What that costs the listener is over before anything is measured.
fn wait(host: &Host, at: SocketAddr) -> anyhow::Result<()> {
    let begun = Instant::now();
    while host.within(|| TcpStream::connect(at)).is_err() {
        ensure!(begun.elapsed() < Duration::from_secs(10), "nothing listens at {at}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Of the process, idle, in KiB: its share of everything, and what is its own alone and written to.
fn memory(run: &Run) -> anyhow::Result<[f64; 2]> {
    std::thread::sleep(Duration::from_millis(300));
    let path = format!("/proc/{}/smaps_rollup", run.pid().as_raw_nonzero());
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let of = |name: &str| field(&text, name).with_context(|| format!("{path} has no {name}"));
    Ok([of("Pss")?, of("Private_Dirty")?])
}

fn measure(host: &Host, program: &str, at: SocketAddr, runs: usize, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let named = |what: &str| match program {
        "loopback" => format!("{what}, direct"),
        _ => format!("{what} through an ambassador"),
    };
    let streams = (0..3).map(|_| stream(host, at)).collect::<anyhow::Result<Vec<f64>>>()?;
    rows.push(Row::new(&named("throughput of one stream"), "MB/s", program, streams));
    let samples = (0..runs).map(|_| latency(host, at)).collect::<anyhow::Result<Vec<f64>>>()?;
    rows.push(Row::new(&named("64 bytes there and back"), "µs", program, samples));
    let samples = (0..runs.min(10)).map(|_| connections(host, at)).collect::<anyhow::Result<Vec<f64>>>()?;
    rows.push(Row::new(&named("connection, 64 bytes there and back, and its end"), "µs", program, samples));
    Ok(())
}

/// Serves one connection after the other until one was the last: those that say nothing are of who looked for a listener.
fn serve(
    host: &Host,
    mut with: impl FnMut(TcpStream) -> std::io::Result<bool> + Send + 'static,
) -> anyhow::Result<Serving> {
    let listener = host.within(|| TcpListener::bind((Ipv4Addr::LOCALHOST, TARGET))).context("listen")?;
    Ok(std::thread::spawn(move || {
        loop {
            if with(listener.accept()?.0)? {
                return Ok(());
            }
        }
    }))
}

type Serving = std::thread::JoinHandle<std::io::Result<()>>;

fn join(serving: Serving) -> anyhow::Result<()> {
    serving.join().map_err(|_| anyhow!("the target panicked"))?.context("serve")
}

fn connect(host: &Host, at: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = host.within(|| TcpStream::connect_timeout(&at, Duration::from_secs(10))).context("connect")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The megabytes that arrive in a second.
fn stream(host: &Host, at: SocketAddr) -> anyhow::Result<f64> {
    const CHUNK: usize = 256 * 1024;
    let (tell, told) = std::sync::mpsc::channel();
    let serving = serve(host, move |mut stream| {
        let (mut buffer, mut bytes, begun) = (vec![0; CHUNK], 0, Instant::now());
        loop {
            match stream.read(&mut buffer)? {
                0 => break,
                read => bytes += read,
            }
        }
        if bytes > 0 {
            // Who measures waits for it.
            let _ = tell.send(bytes as f64 / 1e6 / begun.elapsed().as_secs_f64());
        }
        Ok(bytes > 0)
    })?;
    let mut stream = connect(host, at)?;
    let (buffer, begun) = (vec![0; CHUNK], Instant::now());
    while begun.elapsed() < Duration::from_secs(1) {
        stream.write_all(&buffer).context("send")?;
    }
    drop(stream);
    join(serving)?;
    told.recv().context("nothing arrived")
}

/// Sends back 64 bytes at a time; whether it was asked anything.
fn echo(mut stream: TcpStream) -> std::io::Result<bool> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut asked) = ([0; 64], false);
    while stream.read_exact(&mut buffer).is_ok() {
        asked = true;
        stream.write_all(&buffer)?;
    }
    Ok(asked)
}

fn ask(stream: &mut TcpStream) -> anyhow::Result<()> {
    let mut buffer = [7; 64];
    stream.write_all(&buffer)?;
    stream.read_exact(&mut buffer).context("read the answer")
}

/// Microseconds for a question and its answer, on a connection that stands: the median of many, for what else the machine
/// does makes some of them a hundred times as long.
fn latency(host: &Host, at: SocketAddr) -> anyhow::Result<f64> {
    let serving = serve(host, echo)?;
    let mut stream = connect(host, at)?;
    ask(&mut stream)?;
    let mut took = Vec::new();
    for _ in 0..QUESTIONS {
        let begun = Instant::now();
        ask(&mut stream)?;
        took.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    drop(stream);
    join(serving)?;
    took.sort_by(f64::total_cmp);
    Ok(took[took.len() / 2])
}

/// Microseconds for a connection with one question.
fn connections(host: &Host, at: SocketAddr) -> anyhow::Result<f64> {
    let mut left = CONNECTIONS;
    let serving = serve(host, move |stream| {
        left -= u32::from(echo(stream)?);
        Ok(left == 0)
    })?;
    let begun = Instant::now();
    for _ in 0..CONNECTIONS {
        ask(&mut connect(host, at)?)?;
    }
    let took = begun.elapsed().as_secs_f64() * 1e6 / f64::from(CONNECTIONS);
    join(serving)?;
    Ok(took)
}
