//! Questions that others are being asked right now: few at a time for each client, and each but once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::cache::Key;
use super::message::Reply;

/// Of one pod.
const MOST_OF_CLIENT: usize = 64;

/// Of all pods: each has a socket.
const MOST: usize = 256;

/// What is told when there is an answer.
type Landing = watch::Receiver<Option<Reply>>;

#[derive(Default)]
struct Inner {
    clients: HashMap<IpAddr, usize>,
    count: usize,
    asked: HashMap<Key, Landing>,
}

/// Questions on their way.
#[derive(Default)]
pub struct Flights(Mutex<Inner>);

/// A client's place among those that wait. It is given back when it is dropped.
pub struct Seat<'a> {
    flights: &'a Flights,
    client: IpAddr,
}

/// Who asks, and who waits for what somebody else has asked.
pub enum Part<'a> {
    /// Asks.
    Lead(Lead<'a>),
    /// Waits.
    Follow(Landing),
}

/// The one who asks. If it is dropped without an answer, those who wait get none.
pub struct Lead<'a> {
    flights: &'a Flights,
    key: Key,
    answer: watch::Sender<Option<Reply>>,
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a client's question. None while it has too many, or all together have.
    pub fn board(&self, client: IpAddr) -> Option<Seat<'_>> {
        let mut inner = self.lock();
        let of_client = inner.clients.get(&client).copied().unwrap_or(0);
        if of_client >= MOST_OF_CLIENT || inner.count >= MOST {
            return None;
        }
        inner.clients.insert(client, of_client + 1);
        inner.count += 1;
        Some(Seat { flights: self, client })
    }

    /// Asks, or waits for who asks the same.
    pub fn join(&self, key: &Key) -> Part<'_> {
        let mut inner = self.lock();
        if let Some(landing) = inner.asked.get(key) {
            return Part::Follow(landing.clone());
        }
        let (answer, landing) = watch::channel(None);
        inner.asked.insert(key.clone(), landing);
        Part::Lead(Lead { flights: self, key: key.clone(), answer })
    }
}

impl Lead<'_> {
    /// Tells all who wait.
    pub fn land(self, reply: &Reply) {
        self.answer.send_replace(Some(reply.clone()));
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.flights.lock().asked.remove(&self.key);
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut inner = self.flights.lock();
        inner.count = inner.count.saturating_sub(1);
        let left = inner.clients.get(&self.client).map_or(0, |it| it.saturating_sub(1));
        if left == 0 {
            inner.clients.remove(&self.client);
        } else {
            inner.clients.insert(self.client, left);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_client_waits_for_few_questions_and_leaves_room_for_others() {
        let flights = Flights::default();
        let [one, other]: [IpAddr; 2] = ["10.201.0.2".parse().unwrap(), "10.201.0.3".parse().unwrap()];
        let mut seats: Vec<_> = (0..MOST_OF_CLIENT).map(|_| flights.board(one).unwrap()).collect();
        assert!(flights.board(one).is_none());
        let others = flights.board(other).unwrap();
        seats.pop();
        seats.push(flights.board(one).unwrap());
        assert!(flights.board(one).is_none());
        drop((seats, others));
        assert!(flights.lock().clients.is_empty());
        assert_eq!(flights.lock().count, 0);
    }

    #[test]
    fn all_together_have_a_bound() {
        let flights = Flights::default();
        let clients = (0..100u8).map(|it| IpAddr::from([10, 201, 0, it]));
        let seats: Vec<_> =
            clients.flat_map(|it| (0..MOST_OF_CLIENT).map(move |_| it)).map_while(|it| flights.board(it)).collect();
        assert_eq!(seats.len(), MOST);
    }
}
