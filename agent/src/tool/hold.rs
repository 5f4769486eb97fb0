//! Applets that hold something until they are stopped: time, memory, a processor.

use std::ffi::OsString;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use super::{Failure, plain, signals};

/// `sleep SECONDS|inf`
pub fn sleep(args: &[OsString]) -> Result<u8, Failure> {
    let span = match args {
        [span] if span == "inf" || span == "infinity" => None,
        [span] => Some(seconds(span)?),
        _ => return Err(Failure::Usage("how long?".into())),
    };
    signals::end_on_termination()?;
    match span {
        Some(span) => thread::sleep(span),
        None => hold(),
    }
    Ok(0)
}

/// `spin [SECONDS]`
pub fn spin(args: &[OsString]) -> Result<u8, Failure> {
    let span = match args {
        [] => None,
        [span] => Some(seconds(span)?),
        _ => return Err(Failure::Usage("takes one number of seconds".into())),
    };
    signals::end_on_termination()?;
    let start = Instant::now();
    let mut turns = 0_u64;
    while span.is_none_or(|span| start.elapsed() < span) {
        turns = black_box(turns.wrapping_add(1));
    }
    Ok(0)
}

/// `eat MEMORY`
pub fn eat(args: &[OsString]) -> Result<u8, Failure> {
    const CHUNK: usize = 1 << 20;
    let [amount] = args else {
        return Err(Failure::Usage("how much?".into()));
    };
    let total =
        amount.to_str().and_then(crate::size::parse).and_then(|it| usize::try_from(it).ok()).ok_or_else(|| {
            Failure::Usage(format!("{} is not an amount of memory such as 64Mi, 1G or 4096", amount.display()))
        })?;
    signals::end_on_termination()?;
    // In steps, so that memory rises as a real program's does, until the limit strikes.
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    let mut left = total;
    while left > 0 {
        let size = left.min(CHUNK);
        let mut chunk = Vec::new();
        chunk.try_reserve_exact(size).map_err(|e| Failure::Failed(format!("{} bytes in: {e}", total - left)))?;
        chunk.resize(size, 1);
        eaten.push(black_box(chunk));
        left -= size;
    }
    plain::print(format!("holding {total} bytes\n").as_bytes())?;
    hold();
    drop(black_box(eaten));
    Ok(0)
}

fn hold() {
    loop {
        thread::park();
    }
}

fn seconds(word: &OsString) -> Result<Duration, Failure> {
    let number = word.to_str().and_then(|text| text.strip_suffix('s').unwrap_or(text).parse().ok());
    number
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| Failure::Usage(format!("{} is not a number of seconds", word.display())))
}
