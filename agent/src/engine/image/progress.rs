//! What a pull's messages add up to.

use std::time::{Duration, Instant};

use cri_proto::node::{PullImageLayers, PullLayerProgress, PullPhase};

/// How often a pull that takes long says where it stands.
const EVERY: Duration = Duration::from_secs(10);

/// The layers of one image under way.
#[derive(Debug)]
pub struct Tally {
    layers: Vec<Layer>,
    told: Instant,
}

#[derive(Clone, Debug, Default)]
struct Layer {
    size: u64,
    bytes: u64,
    resumed: u64,
    /// It has to be fetched, as against one that was here.
    transferred: bool,
}

impl Default for Tally {
    fn default() -> Self {
        Self { layers: Vec::new(), told: Instant::now() }
    }
}

impl Tally {
    /// Takes in which layers there are.
    pub fn layers(&mut self, layers: &PullImageLayers) {
        self.layers = layers.layers.iter().map(|layer| Layer { size: layer.size, ..Layer::default() }).collect();
    }

    /// Takes in how a layer stands.
    pub fn layer(&mut self, at: &PullLayerProgress) {
        let layer = usize::try_from(at.layer).ok().and_then(|index| self.layers.get_mut(index));
        let Some(layer) = layer else { return };
        match at.phase() {
            PullPhase::Unspecified | PullPhase::Waiting | PullPhase::Exists => {}
            PullPhase::Downloading => {
                layer.transferred = true;
                (layer.bytes, layer.resumed) = (at.bytes, at.resumed_bytes);
            }
            // Messages in between may be left out; from here on all of it has come.
            PullPhase::Unpacking | PullPhase::Done => {
                layer.transferred = true;
                (layer.bytes, layer.resumed) = (layer.size, at.resumed_bytes.max(layer.resumed));
            }
        }
    }

    /// Whether anything has to be fetched at all.
    pub fn transfers(&self) -> bool {
        self.layers.iter().any(|layer| layer.transferred)
    }

    /// Bytes that this pull has brought.
    pub fn fetched(&self) -> u64 {
        self.layers.iter().map(|layer| layer.bytes.saturating_sub(layer.resumed)).sum()
    }

    /// Bytes that were there from an earlier attempt.
    pub fn resumed(&self) -> u64 {
        self.layers.iter().map(|layer| layer.resumed).sum()
    }

    /// Bytes here and in all, of the layers that are fetched, once in a while.
    pub fn due(&mut self, now: Instant) -> Option<(u64, u64)> {
        if now.duration_since(self.told) < EVERY {
            return None;
        }
        self.told = now;
        let fetched = self.layers.iter().filter(|layer| layer.transferred);
        Some(fetched.fold((0, 0), |(bytes, total), layer| (bytes + layer.bytes, total + layer.size)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cri_proto::node::PullLayer;

    fn at(layer: u32, phase: PullPhase, bytes: u64, resumed_bytes: u64) -> PullLayerProgress {
        PullLayerProgress { layer, phase: phase.into(), bytes, resumed_bytes }
    }

    #[test]
    fn bytes_of_this_pull_are_told_from_those_that_were_here() {
        let mut tally = Tally::default();
        let layer = |size| PullLayer { digest: String::new(), size };
        tally.layers(&PullImageLayers {
            manifest_digest: String::new(),
            layers: vec![layer(100), layer(50), layer(30)],
        });
        tally.layer(&at(0, PullPhase::Exists, 100, 0));
        assert!(!tally.transfers());
        tally.layer(&at(1, PullPhase::Downloading, 20, 10));
        tally.layer(&at(7, PullPhase::Downloading, 20, 10));
        assert!(tally.transfers());
        assert_eq!((tally.fetched(), tally.resumed()), (10, 10));
        let start = tally.told;
        assert_eq!(tally.due(start), None);
        assert_eq!(tally.due(start + EVERY), Some((20, 50)));
        tally.layer(&at(1, PullPhase::Done, 0, 0));
        tally.layer(&at(2, PullPhase::Unpacking, 30, 0));
        assert_eq!((tally.fetched(), tally.resumed()), (70, 10));
    }
}
