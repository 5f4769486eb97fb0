//! What a container and its commands can say in a second: to the log, and to a client.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::BUSYBOX;
use e2e::cri::Endpoint;
use e2e::cri::proto::{
    ContainerConfig, ContainerState, ExecRequest, Mount, RemovePodSandboxRequest, StopPodSandboxRequest,
};

use super::lifecycle::{Standing, new_pod};
use super::{Sides, websocket};
use crate::report::Row;

/// Bytes of a line of text with its newline.
const LINE: usize = 100;
/// What an answer of ExecSync can carry: the message ends at 16 MiB.
const ANSWER: usize = 15 << 20;
/// A log that does not grow for so long will not any more.
const STALLED: Duration = Duration::from_secs(20);
/// Where the text is in a container.
const INSIDE: &str = "/text";

/// All rows.
pub fn rows(sides: &Sides<'_>, megabytes: usize) -> anyhow::Result<Vec<Row>> {
    let lines = (megabytes << 20) / LINE;
    for side in sides.all() {
        let dir = side.make_dir("text");
        write_lines(&dir.join("lines"), lines).context("write the text")?;
        File::create(dir.join("answer"))?.write_all(&vec![b'x'; ANSWER])?;
    }
    let [rate, lost] = sides.turns(5, |side| log(side, lines))?;
    let what = format!("a log of {megabytes} MiB in lines of {LINE} bytes, written at full speed");
    let mut rows = rate.rows(&what, "MB/s");
    // A ratio of nothings says nothing.
    rows.extend(lost.rows(&format!("lines of it lost or changed, of {lines}"), "").into_iter().take(2));
    let standing: Vec<_> = sides
        .all()
        .into_iter()
        .map(|side| Standing::start_with(side, |it| mount(side, it)))
        .collect::<Result<_, _>>()?;
    let [pair] = sides.turns(10, |side| exec_sync(side, Standing::on(&standing, side)))?;
    rows.extend(pair.rows("output of ExecSync, 15 MiB", "MB/s"));
    let [pair] = sides.turns(5, |side| exec(side, Standing::on(&standing, side), lines * LINE))?;
    rows.extend(pair.rows(&format!("output of a streaming Exec by WebSocket, {megabytes} MiB"), "MB/s"));
    Ok(rows)
}

/// The line of a number: each is like no other.
fn line(number: usize) -> String {
    format!("{number:<width$}\n", width = LINE - 1)
}

fn write_lines(path: &Path, count: usize) -> std::io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    (0..count).try_for_each(|number| file.write_all(line(number).as_bytes()))?;
    file.flush()
}

fn mount(side: &dyn Endpoint, container: &mut ContainerConfig) {
    let host_path = side.make_dir("text").display().to_string();
    let mount = Mount { container_path: INSIDE.into(), host_path, readonly: true, ..Default::default() };
    container.mounts.push(mount);
}

fn rate(bytes: usize, begun: Instant) -> f64 {
    bytes as f64 / 1e6 / begun.elapsed().as_secs_f64()
}

/// From StartContainer until the last line is in the log; and how many lines are not there as they were written.
fn log(side: &dyn Endpoint, lines: usize) -> anyhow::Result<[f64; 2]> {
    let pod = new_pod(side);
    let sandbox = side.try_run_pod(&pod)?;
    let mut container = side.container("c", BUSYBOX, &["cat", &format!("{INSIDE}/lines")]);
    mount(side, &mut container);
    let id = side.try_create_container(&sandbox, &pod, &container)?;
    let path = side.log_file(&pod, &container);
    let begun = Instant::now();
    side.try_start_container(&id)?;
    wait_for_end(&path, &line(lines - 1)).with_context(|| format!("the log on {}", side.name()))?;
    let rate = rate(lines * LINE, begun);
    side.wait_for_state(&id, ContainerState::ContainerExited);
    let lost = lost(&path, lines)?;
    // Not written to the disk for nothing.
    std::fs::remove_file(&path)?;
    side.client().stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox.clone() })?;
    side.client().remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox })?;
    Ok([rate, lost as f64])
}

/// Waits until a file ends with a text.
fn wait_for_end(path: &Path, text: &str) -> anyhow::Result<()> {
    let (mut length, mut grown) = (0, Instant::now());
    loop {
        let now = std::fs::metadata(path).map_or(0, |data| data.len());
        if now != length {
            (length, grown) = (now, Instant::now());
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(length.saturating_sub(text.len() as u64)))?;
            let mut end = String::new();
            file.take(text.len() as u64).read_to_string(&mut end)?;
            if end == text {
                return Ok(());
            }
        }
        ensure!(grown.elapsed() < STALLED, "it stays at {length} bytes and never has its last line");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How many of the lines are not in the log as they were written, whole and in their order.
fn lost(path: &Path, lines: usize) -> anyhow::Result<usize> {
    let mut found = 0;
    let mut expected = 0;
    for entry in BufReader::with_capacity(1 << 20, File::open(path)?).split(b'\n') {
        let entry = String::from_utf8(entry?)?;
        let Some((_, text)) = entry.split_once(" stdout F ") else { continue };
        let Ok(number) = text.trim_end().parse::<usize>() else { continue };
        if number >= expected && number < lines && line(number).trim_end_matches('\n') == text {
            found += 1;
            expected = number + 1;
        }
    }
    Ok(lines - found)
}

fn exec_sync(side: &dyn Endpoint, id: &str) -> anyhow::Result<[f64; 1]> {
    let begun = Instant::now();
    let answer = side.try_exec_sync(id, &["cat", &format!("{INSIDE}/answer")], 60)?;
    let rate = rate(ANSWER, begun);
    let (code, length) = (answer.exit_code, answer.stdout.len());
    ensure!(code == 0 && length == ANSWER, "ExecSync on {}: {length} bytes, exit code {code}", side.name());
    Ok([rate])
}

fn exec(side: &dyn Endpoint, id: &str, bytes: usize) -> anyhow::Result<[f64; 1]> {
    let cmd = vec!["cat".into(), format!("{INSIDE}/lines")];
    let request = ExecRequest { container_id: id.into(), cmd, stdout: true, stderr: true, ..Default::default() };
    let begun = Instant::now();
    let url = side.client().exec(request)?.url;
    let output = websocket::output(side.host(), &url).with_context(|| format!("Exec on {}", side.name()))?;
    let rate = rate(bytes, begun);
    ensure!(output == bytes, "Exec on {}: {output} bytes of {bytes}", side.name());
    Ok([rate])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(numbers: &[usize]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        for number in numbers {
            write!(file, "2026-11-22T18:31:45.1Z stdout F {}", line(*number)).expect("it is written");
        }
        file
    }

    #[test]
    fn lines_that_are_missing_doubled_or_out_of_order_are_counted() {
        for (numbers, expected) in
            [(&[0, 1, 2, 3][..], 0), (&[0, 1, 3], 1), (&[0, 1, 1, 2, 3], 0), (&[0, 2, 1, 3], 1), (&[], 4)]
        {
            assert_eq!(lost(log_of(numbers).path(), 4).expect("a log"), expected, "{numbers:?}");
        }
        let mut damaged = log_of(&[0, 1, 2]);
        writeln!(damaged, "2026-11-22T18:31:45.1Z stdout F 3").expect("it is written");
        assert_eq!(lost(damaged.path(), 4).expect("a log"), 1);
    }
}
