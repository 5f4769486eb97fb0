//! The container runtime interface over gRPC: Coracle's answers, and those of Debian's containerd to the same questions.
//!
//! The two take turns at everything, so that what else the machine does hits both and the ratios hold.

mod lifecycle;
mod many;
mod output;
mod websocket;

use e2e::Node;
use e2e::cri::{Containerd, Cri, Endpoint};

use crate::report::Row;

/// How much is measured.
pub struct Scale {
    /// Times that each quick call is measured.
    pub runs: usize,
    /// Sandboxes started at once.
    pub parallel: usize,
    /// Pods that stand while lists are asked for.
    pub listed: usize,
    /// MiB that a container writes to its log, and an exec to its client.
    pub megabytes: usize,
}

/// All rows.
pub fn rows(scale: &Scale) -> anyhow::Result<Vec<Row>> {
    let ours = Node::with_busybox().map_err(anyhow::Error::msg)?;
    let theirs = Node::new();
    let sides = Sides { coracle: Cri::start(&ours), containerd: Containerd::start(&theirs) };
    let mut rows = lifecycle::rows(&sides, scale.runs)?;
    rows.extend(output::rows(&sides, scale.megabytes)?);
    rows.extend(many::rows(&sides, scale.parallel, scale.listed)?);
    Ok(rows)
}

/// Who is compared, each on a node of its own.
struct Sides<'n> {
    coracle: Cri<'n>,
    /// Or why there is none.
    containerd: Result<Containerd<'n>, String>,
}

impl Sides<'_> {
    /// Both, or Coracle alone.
    fn all(&self) -> Vec<&dyn Endpoint> {
        let theirs = self.containerd.as_ref().ok().map(|it| it as &dyn Endpoint);
        [&self.coracle as &dyn Endpoint].into_iter().chain(theirs).collect()
    }

    /// `N` figures of each side, `runs` times in turns. The first turn warms the caches and does not count; who begins
    /// changes with every turn.
    fn turns<const N: usize>(
        &self,
        runs: usize,
        mut measure: impl FnMut(&dyn Endpoint) -> anyhow::Result<[f64; N]>,
    ) -> anyhow::Result<[Pair; N]> {
        let mut pairs = std::array::from_fn(|_| Pair { ours: Vec::new(), theirs: self.nobody() });
        for turn in 0..=runs {
            let mut order = self.all();
            if turn % 2 == 1 {
                order.reverse();
            }
            for side in order {
                let figures = measure(side)?;
                if turn > 0 {
                    pairs.iter_mut().zip(figures).for_each(|(pair, figure)| pair.push(side, figure));
                }
            }
        }
        Ok(pairs)
    }

    fn nobody(&self) -> Result<Vec<f64>, String> {
        self.containerd.as_ref().map(|_| Vec::new()).map_err(Clone::clone)
    }
}

/// The same thing measured of both.
struct Pair {
    ours: Vec<f64>,
    theirs: Result<Vec<f64>, String>,
}

impl Pair {
    fn push(&mut self, side: &dyn Endpoint, figure: f64) {
        match &mut self.theirs {
            Ok(theirs) if side.name() == "containerd" => theirs.push(figure),
            _ => self.ours.push(figure),
        }
    }

    /// Ours, theirs, and ours in hundredths of theirs, turn by turn.
    fn rows(self, what: &str, unit: &'static str) -> Vec<Row> {
        let ratio = self.theirs.as_ref().ok().map(|theirs| {
            let turns = self.ours.iter().zip(theirs);
            turns.map(|(ours, theirs)| 100.0 * ours / theirs).collect()
        });
        let mut rows = vec![Row::new(what, unit, "coracle", self.ours), Row::of(what, unit, "containerd", self.theirs)];
        rows.extend(ratio.map(|ratio| Row::new(&format!("{what}: of containerd's"), "%", "coracle", ratio)));
        rows
    }
}
