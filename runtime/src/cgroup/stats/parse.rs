//! The kernel's formats: text in, numbers out. What is missing or not understood is not counted.

use super::{Device, Pressure, Stall};

/// The number after a key in a flat keyed file.
pub fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A file that holds one number, or "max".
pub fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A pressure file: the lines "some" and "full". Before 5.13 the CPU's has no second one.
pub fn pressure(text: &str) -> Pressure {
    Pressure { some: stall(text, "some ").unwrap_or_default(), full: stall(text, "full ").unwrap_or_default() }
}

fn stall(text: &str, kind: &str) -> Option<Stall> {
    let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
    let value = |key: &str| line.split(' ').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    let average = |key| value(key).and_then(|v| v.parse().ok()).unwrap_or(0.0);
    Some(Stall {
        avg10: average("avg10"),
        avg60: average("avg60"),
        avg300: average("avg300"),
        total_us: value("total").and_then(|v| v.parse().ok()).unwrap_or(0),
    })
}

/// Version 2's `io.stat`: a line for each device, `8:0 rbytes=… wbytes=… rios=… wios=…`.
pub fn io_stat(text: &str) -> Vec<Device> {
    let device = |line: &str| {
        let mut parts = line.split_ascii_whitespace();
        let (major, minor) = numbers(parts.next()?)?;
        let mut device = Device { major, minor, ..Device::default() };
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => device.read_bytes = value,
                "wbytes" => device.write_bytes = value,
                "rios" => device.reads = value,
                "wios" => device.writes = value,
                _ => {}
            }
        }
        Some(device)
    };
    text.lines().filter_map(device).collect()
}

/// Version 1's `blkio.throttle.io_service_bytes` and `blkio.throttle.io_serviced`: a line for each device and operation,
/// `8:0 Read 4096`, and a sum at the end.
pub fn blkio(bytes: &str, operations: &str) -> Vec<Device> {
    let mut devices: Vec<Device> = Vec::new();
    for (text, is_bytes) in [(bytes, true), (operations, false)] {
        for (id, operation, value) in text.lines().filter_map(blkio_line) {
            let index = devices.iter().position(|it| (it.major, it.minor) == id).unwrap_or_else(|| {
                devices.push(Device { major: id.0, minor: id.1, ..Device::default() });
                devices.len() - 1
            });
            let device = &mut devices[index];
            match (operation, is_bytes) {
                ("Read", true) => device.read_bytes = value,
                ("Write", true) => device.write_bytes = value,
                ("Read", false) => device.reads = value,
                ("Write", false) => device.writes = value,
                _ => {}
            }
        }
    }
    devices
}

fn blkio_line(line: &str) -> Option<((u32, u32), &str, u64)> {
    let mut parts = line.split_ascii_whitespace();
    Some((numbers(parts.next()?)?, parts.next()?, parts.next()?.parse().ok()?))
}

fn numbers(device: &str) -> Option<(u32, u32)> {
    let (major, minor) = device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn io_stat_of_version_2() {
        let text = "254:0 rbytes=1253376 wbytes=8192 rios=62 wios=2 dbytes=0 dios=0\n7:3 rbytes=5\n259:1 \n";
        let disk = Device { major: 254, read_bytes: 1_253_376, write_bytes: 8192, reads: 62, writes: 2, minor: 0 };
        let found = io_stat(text);
        assert_eq!(found[0], disk);
        assert_eq!(found[1], Device { major: 7, minor: 3, read_bytes: 5, ..Device::default() });
        assert_eq!(found.len(), 3, "a device without a counter is one whose counters are zero");
        assert_eq!(io_stat("(unknown)\nabc rbytes=1\n1:x rbytes=2\n"), [], "what has no number is no device");
    }

    #[test]
    fn blkio_of_version_1() {
        let bytes = "254:0 Read 4096\n254:0 Write 8192\n254:0 Sync 12288\n254:0 Async 0\n254:0 Discard 0\n\
                     254:0 Total 12288\n7:0 Read 10\nTotal 12298\n";
        let operations = "254:0 Read 1\n254:0 Write 2\n254:0 Total 3\nTotal 3\n";
        let disk = Device { major: 254, minor: 0, read_bytes: 4096, write_bytes: 8192, reads: 1, writes: 2 };
        let other = Device { major: 7, read_bytes: 10, ..Device::default() };
        assert_eq!(blkio(bytes, operations), [disk, other]);
        assert_eq!(blkio("Total 0\n", "Total 0\n"), []);
        assert_eq!(blkio("254:0 Read\n254:0\n:\n\n254:0 Read many\n", ""), []);
    }

    #[test]
    fn pressure_with_and_without_its_second_line() {
        let some = "some avg10=1.50 avg60=0.25 avg300=0.01 total=77\n";
        let both = pressure(&format!("{some}full avg10=0.00 avg60=0.00 avg300=0.00 total=5\n"));
        assert_eq!(both.some, Stall { avg10: 1.5, avg60: 0.25, avg300: 0.01, total_us: 77 });
        assert_eq!(both.full.total_us, 5);
        assert_eq!(pressure(some), Pressure { full: Stall::default(), ..both });
        assert_eq!(pressure("nonsense\nsome\n"), Pressure::default());
    }

    #[test]
    fn a_key_is_matched_whole() {
        let stat = "total_rss 7\nrss_huge 5\nrss 3\npgfault x\n";
        assert_eq!((field(stat, "rss"), field(stat, "pgfault"), field(stat, "none")), (Some(3), None, None));
        assert_eq!((number("max\n"), number("12\n")), (None, Some(12)));
    }

    proptest::proptest! {
        #[test]
        fn no_text_upsets_the_parsers(text in ".*(\n.*){0,4}", other in "[0-9: Rread=\n]*") {
            for text in [&text, &other] {
                let _ = (field(text, "a"), number(text), pressure(text), io_stat(text), blkio(text, &other));
            }
        }
    }
}
