//! What a node takes and asks while nothing happens.

use std::collections::BTreeMap;
use std::time::Instant;

use rustix::process::Pid;

use super::Scale;
use crate::agent::{memory, processor, sum};
use crate::report::Row;

/// The processes of a node.
pub struct Processes {
    /// The agent; a kubelet and its runtime.
    pub daemons: Vec<Pid>,
    /// Shims, and all in containers.
    pub of_pods: Vec<Pid>,
}

/// Waits until what has happened is over, and then counts. `asked` is called with `false` when counting begins, and with
/// `true` when it ends: then its answer is what was asked of the API server meanwhile, `VERB RESOURCE` each.
pub fn rows(
    program: &str,
    scale: &Scale,
    pods: usize,
    processes: &Processes,
    mut asked: impl FnMut(bool) -> anyhow::Result<Vec<String>>,
) -> anyhow::Result<Vec<Row>> {
    std::thread::sleep(scale.settle);
    asked(false)?;
    let (Processes { daemons, of_pods }, begun) = (processes, Instant::now());
    let before = (sum(daemons, processor)?, sum(of_pods, processor)?);
    std::thread::sleep(scale.rest);
    let seconds = begun.elapsed().as_secs_f64();
    let requests = asked(true)?;
    let after = (sum(daemons, processor)?, sum(of_pods, processor)?);
    let row = |what: &str, unit, value: f64| Row::new(&format!("{what}, {pods} pods"), unit, program, vec![value]);
    let a_minute = |count: usize| count as f64 * 60.0 / seconds;
    let mut rows = vec![
        row("memory of the node's daemons (PSS)", "KiB", sum(daemons, memory)?),
        row("memory of shims and containers, a pod (PSS)", "KiB", sum(of_pods, memory)? / pods as f64),
        row("processor time of the daemons at rest", "ms/s", (after.0 - before.0) / seconds),
        row("processor time of shims and containers at rest", "ms/s", (after.1 - before.1) / seconds),
        row("API requests at rest", "/min", a_minute(requests.len())),
    ];
    let mut each: BTreeMap<String, usize> = BTreeMap::new();
    for what in requests {
        *each.entry(what).or_default() += 1;
    }
    rows.extend(each.iter().map(|(what, count)| row(&format!("of them `{what}`"), "/min", a_minute(*count))));
    Ok(rows)
}
