//! How far a pull is: the newest state for anybody who looks, so that nobody who looks slowly holds it up.

use std::sync::Arc;

use tokio::sync::watch;

use crate::images::{Digest, Error, Imported};

/// Notices that are kept; a pull that has more to say repeats itself.
const MAX_NOTICES: usize = 64;

/// What a layer is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// Its turn has not come.
    #[default]
    Waiting,
    /// Bytes come.
    Downloading,
    /// All bytes are here.
    Unpacking,
    /// It is unpacked.
    Done,
    /// It was in the store.
    Exists,
}

/// A layer of the image that is pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerState {
    /// As the manifest names it.
    pub digest: Digest,
    /// As the manifest says.
    pub size: u64,
    /// What it is at.
    pub phase: Phase,
    /// Bytes that are here.
    pub bytes: u64,
    /// Of these, the ones that an earlier attempt had brought.
    pub resumed: u64,
}

/// What a subscriber hears.
#[derive(Debug, Clone)]
pub enum Event {
    /// The layers are known: the manifest's digest, and all of them.
    Layers(Digest, Vec<LayerState>),
    /// A layer went on: its position and where it is.
    Layer(usize, LayerState),
    /// Something to tell the operator.
    Notice(String),
    /// It is over.
    Done(Result<Imported, Arc<Error>>),
}

/// Everything there is to know.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    pub manifest: Option<Digest>,
    pub layers: Vec<LayerState>,
    pub notices: Vec<String>,
    pub result: Option<Result<Imported, Arc<Error>>>,
}

/// The pull's end. Cheap to clone.
#[derive(Clone)]
pub(super) struct Reporter(pub Arc<watch::Sender<Snapshot>>);

impl Reporter {
    pub fn layers(&self, manifest: &Digest, layers: Vec<LayerState>) {
        self.0.send_modify(|state| {
            state.manifest = Some(manifest.clone());
            state.layers = layers;
        });
    }

    pub fn layer(&self, position: usize, change: impl FnOnce(&mut LayerState)) {
        self.0.send_modify(|state| {
            if let Some(layer) = state.layers.get_mut(position) {
                change(layer);
            }
        });
    }

    pub fn notice(&self, text: String) {
        self.0.send_if_modified(|state| {
            let room = state.notices.len() < MAX_NOTICES && !state.notices.contains(&text);
            if room {
                state.notices.push(text);
            }
            room
        });
    }

    pub fn finish(&self, result: Result<Imported, Arc<Error>>) {
        self.0.send_modify(|state| state.result = Some(result));
    }
}

/// What a subscriber has not heard yet.
pub(super) fn news(seen: &Snapshot, now: &Snapshot) -> Vec<Event> {
    let mut events: Vec<Event> = now.notices.iter().skip(seen.notices.len()).cloned().map(Event::Notice).collect();
    if let Some(manifest) = now.manifest.as_ref().filter(|_| seen.manifest.is_none()) {
        events.push(Event::Layers(manifest.clone(), now.layers.clone()));
    }
    for (position, layer) in now.layers.iter().enumerate() {
        if seen.layers.get(position) != Some(layer) {
            events.push(Event::Layer(position, layer.clone()));
        }
    }
    if let Some(result) = now.result.as_ref().filter(|_| seen.result.is_none()) {
        events.push(Event::Done(result.clone()));
    }
    events
}
