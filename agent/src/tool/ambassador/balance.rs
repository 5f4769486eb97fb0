//! The order in which targets are tried.

use super::config::Balance;

/// What is known of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is there.
    Up,
    /// Nobody knows yet.
    Unknown,
    /// It is not there.
    Down,
}

/// Which of the targets to try, the best first. `turn` counts the connections of the port.
///
/// Those that are down are tried last rather than not at all: a check may be wrong, and a client that is refused loses
/// no more than one that is not tried for.
pub fn order(balance: Balance, turn: usize, known: &[Known]) -> Vec<usize> {
    let of = |wanted: Known| (0..known.len()).filter(move |at| known[*at] == wanted);
    let mut order: Vec<usize> = of(Known::Up).collect();
    if balance == Balance::RoundRobin && !order.is_empty() {
        let count = order.len();
        order.rotate_left(turn % count);
    }
    order.extend(of(Known::Unknown));
    order.extend(of(Known::Down));
    order
}

#[cfg(test)]
mod tests {
    use super::Known::{Down, Unknown, Up};
    use super::*;

    #[test]
    fn the_first_that_is_there_is_first() {
        assert_eq!(order(Balance::FirstHealthy, 7, &[Up, Up]), [0, 1]);
        assert_eq!(order(Balance::FirstHealthy, 0, &[Down, Unknown, Up, Up]), [2, 3, 1, 0]);
        assert_eq!(order(Balance::FirstHealthy, 0, &[Down, Down]), [0, 1]);
        assert!(order(Balance::RoundRobin, 3, &[]).is_empty());
    }

    #[test]
    fn those_that_are_there_take_turns() {
        let firsts: Vec<usize> =
            (0..6).map(|turn| order(Balance::RoundRobin, turn, &[Up, Down, Up, Unknown, Up])[0]).collect();
        assert_eq!(firsts, [0, 2, 4, 0, 2, 4]);
        assert_eq!(order(Balance::RoundRobin, 1, &[Up, Down, Up, Unknown]), [2, 0, 3, 1]);
    }
}
