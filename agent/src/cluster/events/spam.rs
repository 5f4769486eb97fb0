//! How often events of one object are told: kubelet's numbers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Event;
use tokio::time::Instant;

use crate::cluster::pace::Bucket;

/// So many at once.
const BURST: u32 = 25;

/// Then one in so many seconds.
const PERIOD: f64 = 300.0;

/// Of so many objects at most it is known how often they were told of.
const OBJECTS: usize = 4096;

/// Kind, namespace, name and uid.
type Key = [String; 4];

/// Who was told of how often.
#[derive(Debug, Default)]
pub(super) struct Spam {
    buckets: BTreeMap<Key, Bucket>,
}

impl Spam {
    /// Whether one more event of its object may be told.
    pub(super) fn admits(&mut self, event: &Event, now: Instant) -> bool {
        let about = &event.involved_object;
        let key = [&about.kind, &about.namespace, &about.name, &about.uid].map(|it| it.clone().unwrap_or_default());
        if self.buckets.len() >= OBJECTS && !self.buckets.contains_key(&key) {
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
            if self.buckets.len() >= OBJECTS {
                self.buckets.pop_first();
            }
        }
        let bucket = self.buckets.entry(key).or_insert_with(|| Bucket::new(1.0 / PERIOD, BURST));
        bucket.try_take(now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::api::core::v1::ObjectReference;

    use super::*;

    fn of(name: &str) -> Event {
        let involved_object = ObjectReference { name: Some(name.into()), ..ObjectReference::default() };
        Event { involved_object, ..Event::default() }
    }

    #[test]
    fn one_object_has_its_burst_and_no_other_suffers() {
        let (mut spam, now) = (Spam::default(), Instant::now());
        let admitted = (0..40).filter(|_| spam.admits(&of("loud"), now)).count();
        assert_eq!(admitted, 25);
        assert!(spam.admits(&of("quiet"), now));
        assert!(!spam.admits(&of("loud"), now + Duration::from_secs(290)));
        assert!(spam.admits(&of("loud"), now + Duration::from_secs(310)));
    }

    #[test]
    fn it_remembers_no_more_than_it_may() {
        let (mut spam, now) = (Spam::default(), Instant::now());
        for number in 0..OBJECTS * 2 {
            assert!(spam.admits(&of(&number.to_string()), now));
        }
        assert!(spam.buckets.len() <= OBJECTS);
    }
}
