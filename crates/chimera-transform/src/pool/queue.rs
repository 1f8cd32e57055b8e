//! The order in which jobs are begun, and which are turned away: a value that is told the time.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::metrics::Rejected;

/// Which jobs go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Somebody waits for it.
    Interactive,
    /// Part of a large piece of work.
    Batch,
}

/// After so many interactive jobs in a row one of a batch is begun, if any waits: a busy day must not
/// starve it.
const IN_A_ROW: u32 = 16;

/// Jobs that wait.
#[derive(Debug)]
pub(crate) struct Queue<J> {
    interactive: VecDeque<(Instant, J)>,
    batch: VecDeque<(Instant, J)>,
    capacity: usize,
    max_age: Duration,
    in_a_row: u32,
}

impl<J> Queue<J> {
    pub(crate) fn new(capacity: usize, max_age: Duration) -> Self {
        let (interactive, batch) = (VecDeque::new(), VecDeque::new());
        Self { interactive, batch, capacity, max_age, in_a_row: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.interactive.len() + self.batch.len()
    }

    /// How long the oldest job of a kind has waited.
    pub(crate) fn oldest(&self, priority: Priority, now: Instant) -> Option<Duration> {
        let queue = match priority {
            Priority::Interactive => &self.interactive,
            Priority::Batch => &self.batch,
        };
        queue.front().map(|(since, _)| now.saturating_duration_since(*since))
    }

    /// Takes a job, unless too many wait, or one of its kind has waited so long that this one would too.
    pub(crate) fn push(&mut self, priority: Priority, job: J, now: Instant) -> Result<(), Rejected> {
        if self.len() >= self.capacity {
            return Err(Rejected::Full);
        }
        if self.oldest(priority, now).is_some_and(|age| age > self.max_age) {
            return Err(Rejected::Stale);
        }
        match priority {
            Priority::Interactive => self.interactive.push_back((now, job)),
            Priority::Batch => self.batch.push_back((now, job)),
        }
        Ok(())
    }

    /// The next job, since when it waited, and whether that is too long.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(J, Duration, bool)> {
        let batch_first = self.in_a_row >= IN_A_ROW && !self.batch.is_empty();
        let found = if batch_first { None } else { self.interactive.pop_front() };
        self.in_a_row = if found.is_some() { self.in_a_row.saturating_add(1) } else { 0 };
        let (since, job) = found.or_else(|| self.batch.pop_front())?;
        let waited = now.saturating_duration_since(since);
        Some((job, waited, waited > self.max_age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(capacity: usize) -> (Queue<u32>, Instant) {
        (Queue::new(capacity, Duration::from_secs(1)), Instant::now())
    }

    fn popped(queue: &mut Queue<u32>, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop(now).map(|(job, ..)| job)).collect()
    }

    #[test]
    fn interactive_jobs_go_first_in_their_order() {
        let (mut queue, now) = queue(10);
        for (priority, job) in [
            (Priority::Batch, 1),
            (Priority::Interactive, 2),
            (Priority::Batch, 3),
            (Priority::Interactive, 4),
        ] {
            queue.push(priority, job, now).unwrap();
        }
        assert_eq!(popped(&mut queue, now), [2, 4, 1, 3]);
    }

    #[test]
    fn a_batch_is_not_starved() {
        let (mut queue, now) = queue(100);
        queue.push(Priority::Batch, 99, now).unwrap();
        (0..40).for_each(|job| queue.push(Priority::Interactive, job, now).unwrap());
        let at = popped(&mut queue, now).iter().position(|job| *job == 99);
        assert_eq!(at, Some(IN_A_ROW as usize));
    }

    #[test]
    fn the_queue_is_bounded_by_count_and_by_age() {
        let (mut queue, now) = queue(2);
        queue.push(Priority::Interactive, 1, now).unwrap();
        let later = now + Duration::from_millis(1001);
        assert_eq!(queue.push(Priority::Interactive, 2, later), Err(Rejected::Stale));
        queue.push(Priority::Batch, 2, later).unwrap();
        assert_eq!(queue.push(Priority::Batch, 3, later), Err(Rejected::Full));
        assert_eq!(queue.pop(later), Some((1, later - now, true)));
        assert_eq!(queue.pop(later), Some((2, Duration::ZERO, false)));
        assert_eq!(queue.pop(later), None);
    }
}
