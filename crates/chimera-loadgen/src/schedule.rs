//! When requests are to start: decided ahead of time, whatever the target does.

use std::{sync::Arc, time::Duration};

use crate::{
    random::Random,
    scenario::{Arrivals, Step},
    trace::Trace,
};

/// The intended starts of one worker, counted from the beginning of the run. For a trace, with the row.
#[derive(Debug)]
pub(crate) enum Schedule {
    Rates(Rates),
    Trace { trace: Arc<Trace>, next: usize, stride: usize, speed: f64 },
}

/// Rates one after the other. A worker of several takes its share of the rate: of a constant one every so
/// many-th arrival, of a Poisson process a thinner one, which together are the whole process again.
#[derive(Debug)]
pub(crate) struct Rates {
    arrivals: Arrivals,
    steps: Vec<Step>,
    workers: f64,
    /// The step under way, when it began, and the next arrival.
    step: usize,
    began: f64,
    next: f64,
    random: Random,
}

impl Schedule {
    pub(crate) fn rates(
        arrivals: Arrivals,
        steps: Vec<Step>,
        (worker, workers): (usize, usize),
        seed: u64,
    ) -> Self {
        let mut random = Random::new(seed);
        let rate = steps.first().map_or(1.0, |step| step.rate);
        let next = match arrivals {
            Arrivals::Constant => worker as f64 / rate,
            Arrivals::Poisson => random.pause(rate / workers as f64),
        };
        let rates = Rates { arrivals, steps, workers: workers as f64, step: 0, began: 0.0, next, random };
        Self::Rates(rates)
    }

    /// The next intended start; `None` when there is no more.
    pub(crate) fn next(&mut self) -> Option<(Duration, usize)> {
        match self {
            Self::Rates(rates) => rates.next().map(|at| (at, 0)),
            Self::Trace { trace, next, stride, speed } => {
                let row = trace.rows.get(*next)?;
                let at = row.at.div_f64(*speed);
                let row = std::mem::replace(next, *next + *stride);
                Some((at, row))
            }
        }
    }
}

impl Rates {
    fn next(&mut self) -> Option<Duration> {
        loop {
            let step = *self.steps.get(self.step)?;
            let end = self.began + step.lasts.as_secs_f64();
            if self.next < end {
                let at = self.next;
                let rate = step.rate / self.workers;
                self.next += match self.arrivals {
                    Arrivals::Constant => 1.0 / rate,
                    Arrivals::Poisson => self.random.pause(rate),
                };
                return Duration::try_from_secs_f64(at).ok();
            }
            // What is left of a pause is as long at the new rate as that is slower or faster.
            let after = self.steps.get(self.step + 1)?;
            self.next = end + (self.next - end) * step.rate / after.rate;
            self.began = end;
            self.step += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut schedule: Schedule) -> Vec<f64> {
        std::iter::from_fn(|| schedule.next()).map(|(at, _)| at.as_secs_f64()).collect()
    }

    fn step(rate: f64, seconds: u64) -> Step {
        Step { rate, lasts: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_constant_rate_is_even_over_all_workers() {
        let mut starts: Vec<f64> = (0..4)
            .flat_map(|worker| all(Schedule::rates(Arrivals::Constant, vec![step(100.0, 2)], (worker, 4), 1)))
            .collect();
        starts.sort_by(f64::total_cmp);
        assert_eq!(starts.len(), 200);
        for (index, at) in starts.iter().enumerate() {
            assert!((at - index as f64 / 100.0).abs() < 1e-6, "{index}: {at}");
        }
    }

    #[test]
    fn poisson_arrivals_come_as_often_as_asked() {
        let starts = all(Schedule::rates(Arrivals::Poisson, vec![step(1000.0, 100)], (0, 2), 5));
        assert!((49_300..50_700).contains(&starts.len()), "{}", starts.len());
        assert!(starts.is_sorted());
        let again = all(Schedule::rates(Arrivals::Poisson, vec![step(1000.0, 100)], (0, 2), 5));
        assert_eq!(starts, again);
    }

    #[test]
    fn steps_follow_each_other() {
        let steps = vec![step(10.0, 1), step(100.0, 1), step(10.0, 1)];
        let starts = all(Schedule::rates(Arrivals::Constant, steps, (0, 1), 1));
        let within = |from: f64, to: f64| starts.iter().filter(|at| (from..to).contains(*at)).count();
        assert_eq!((within(0.0, 1.0), within(1.0, 2.0), within(2.0, 3.0)), (10, 100, 10));
    }
}
