//! Runs a scenario: workers that send, and one thread that gathers what they counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    ScenarioError,
    connection::Connector,
    mix::Template,
    random::{Weighted, mix},
    report::{
        BreakingPoint, Evidence, Generator, Numbers, Percentiles, Provenance, Report, StepReport, Verdict,
        curve, refusal,
    },
    scenario::{Arrivals, FOREVER, Scenario, Shape, Step},
    schedule::Schedule,
    tally::Tally,
    timeline::{Row, Timeline, drift},
    trace::Trace,
    watch::{Sampler, Slopes, own_use},
    worker::{self, Pace, Plan, Shared},
};

/// How often what was counted is gathered.
const TICK: Duration = Duration::from_secs(1);

/// Ends a run from elsewhere; the report is of what was done until then.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<AtomicBool>);

impl Control {
    /// Ends the run.
    pub fn stop(&self) {
        self.0.store(true, Relaxed);
    }

    fn stopped(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// How a run stands, once a second.
#[derive(Debug, Clone)]
pub struct Live {
    /// Seconds since it began.
    pub elapsed: f64,
    /// Seconds that it takes, if that is known.
    pub planned: Option<f64>,
    /// Of a stress run: the step, of how many, at which rate.
    pub step: Option<(usize, usize, f64)>,
    /// The last second.
    pub row: Row,
    /// All so far.
    pub overall: Numbers,
    /// Requests under way.
    pub in_flight: u64,
    /// Open connections.
    pub connections: u64,
}

/// Runs a scenario to its end; `see` is called once a second.
pub fn run(
    scenario: &Scenario,
    control: &Control,
    see: &mut dyn FnMut(&Live),
) -> Result<Report, ScenarioError> {
    let salt = scenario.seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        mix(now.as_nanos() as u64)
    });
    let trace = match &scenario.shape {
        Shape::Replay { trace, .. } => Trace::read(trace, salt)?,
        _ => Trace::default(),
    };
    let mut run = Run {
        scenario,
        control,
        see,
        salt,
        trace: Arc::new(trace),
        left: scenario.limits.count,
        begin: Instant::now(),
        total: Tally::new(scenario.mix.len()),
        seconds: 0.0,
        timeline: Timeline::default(),
        steps: Vec::new(),
        breaking_point: None,
        refused: None,
    };
    let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let sampler = scenario.watch.clone().map(Sampler::start);
    run.whole()?;
    Ok(run.report(began, sampler.as_ref()))
}

struct Run<'a> {
    scenario: &'a Scenario,
    control: &'a Control,
    see: &'a mut dyn FnMut(&Live),
    salt: u64,
    trace: Arc<Trace>,
    left: Option<u64>,
    begin: Instant,
    total: Tally,
    seconds: f64,
    timeline: Timeline,
    steps: Vec<StepReport>,
    breaking_point: Option<BreakingPoint>,
    /// Of a stress run, why its last step does not count.
    refused: Option<String>,
}

/// A part of a run: between two of them everything comes to rest.
struct Phase {
    pace: PhasePace,
    warm_up: Duration,
    /// How long requests that count are sent.
    lasts: Duration,
    /// Of a stress run.
    step: Option<(usize, usize, f64)>,
}

enum PhasePace {
    Closed,
    Rates(Arrivals, Vec<Step>),
    Trace(f64),
}

impl Run<'_> {
    fn whole(&mut self) -> Result<(), ScenarioError> {
        let limits = &self.scenario.limits;
        let (warm_up, step) = (limits.warm_up, None);
        let lasts = limits.duration.unwrap_or(FOREVER);
        let phase = match &self.scenario.shape {
            Shape::Stress { arrivals, steps, .. } => return self.stress(*arrivals, steps),
            Shape::Closed => Phase { pace: PhasePace::Closed, warm_up, lasts, step },
            Shape::Open { arrivals, steps } => {
                let lasts = steps.iter().map(|step| step.lasts).sum();
                Phase { pace: PhasePace::Rates(*arrivals, warmed(steps, warm_up)), warm_up, lasts, step }
            }
            Shape::Replay { speed, .. } => {
                let last = self.trace.rows.last().map_or(Duration::ZERO, |row| row.at.div_f64(*speed));
                let lasts = lasts.min(last.saturating_sub(warm_up) + Duration::from_millis(1));
                Phase { pace: PhasePace::Trace(*speed), warm_up, lasts, step }
            }
        };
        let (tally, seconds) = self.phase(phase)?;
        self.total.merge(&tally);
        self.seconds += seconds;
        Ok(())
    }

    /// One step after the other until a threshold breaks. Between steps, everything comes to rest, so that one
    /// does not pay for the queue of another.
    fn stress(&mut self, arrivals: Arrivals, steps: &[Step]) -> Result<(), ScenarioError> {
        for (at, step) in steps.iter().enumerate() {
            let warm_up = if at == 0 { self.scenario.limits.warm_up } else { Duration::ZERO };
            let phase = Phase {
                pace: PhasePace::Rates(arrivals, warmed(std::slice::from_ref(step), warm_up)),
                warm_up,
                lasts: step.lasts,
                step: Some((at + 1, steps.len(), step.rate)),
            };
            let (tally, seconds) = self.phase(phase)?;
            self.total.merge(&tally);
            self.seconds += seconds;
            if self.control.stopped() {
                break;
            }
            let broken = self.broken(&tally, seconds);
            let held = self.steps.last().map(|step| step.rate);
            self.steps.push(StepReport {
                rate: step.rate,
                numbers: Numbers::of(&tally.all(), seconds),
                lag_p99: tally.lag.percentile(99.0),
                broken: broken.clone(),
            });
            // What breaks while the generator is late may be the generator: it is no point to name.
            self.refused = refusal(&tally.lag, self.scenario.limits.max_lag)
                .map(|why| format!("at {}/s {why}", step.rate));
            if self.refused.is_some() {
                break;
            }
            if !broken.is_empty() {
                self.breaking_point = Some(BreakingPoint { rate: step.rate, held, broken });
                break;
            }
        }
        Ok(())
    }

    fn broken(&self, tally: &Tally, seconds: f64) -> Vec<String> {
        let names = self.names();
        let evidence = Evidence { tally, names: &names, seconds, rows: &[], slopes: None };
        let verdicts = self.scenario.thresholds.iter().filter_map(|one| evidence.judge(one));
        verdicts
            .filter(|verdict| !verdict.held)
            .map(|verdict| format!("{} (it was {})", verdict.threshold, verdict.shown))
            .collect()
    }

    fn names(&self) -> Vec<String> {
        self.scenario.mix.iter().map(|mix| mix.name.clone()).collect()
    }

    /// Sends for one phase; what was counted, and for how many seconds.
    fn phase(&mut self, phase: Phase) -> Result<(Tally, f64), ScenarioError> {
        let limits = &self.scenario.limits;
        let plan = Arc::new(self.plan(&phase)?);
        let shared: Vec<_> =
            (0..limits.workers).map(|_| Arc::new(Shared::new(self.scenario.mix.len()))).collect();
        let workers: Vec<_> = shared
            .iter()
            .enumerate()
            .map(|(at, shared)| {
                let (plan, shared) = (Arc::clone(&plan), Arc::clone(shared));
                let pace = self.pace(&phase, at);
                // The first ones take what does not divide.
                let most = limits.connections / limits.workers
                    + usize::from(at < limits.connections % limits.workers);
                thread::spawn(move || {
                    worker::run(plan, shared, pace, at as u64, most);
                    Instant::now()
                })
            })
            .collect();
        let mut tally = Tally::new(self.scenario.mix.len());
        let mut taken = self.begin.max(plan.begin);
        while !workers.iter().all(thread::JoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(20));
            if taken.elapsed() >= TICK {
                taken = self.gather(&shared, &mut tally, taken, &phase, &plan);
            }
        }
        let ends = workers.into_iter().filter_map(|worker| worker.join().ok());
        let end = ends.max().unwrap_or_else(Instant::now);
        self.gather(&shared, &mut tally, taken, &phase, &plan);
        if let (Some(left), Some(rest)) = (&mut self.left, &plan.left) {
            *left = rest.load(Relaxed);
        }
        let ran_out = plan.left.as_ref().is_some_and(|left| left.load(Relaxed) == 0);
        let early = ran_out || self.control.stopped();
        let whole = if early { end } else { end.max(plan.until) };
        Ok((tally, whole.saturating_duration_since(plan.counts_from).as_secs_f64()))
    }

    fn plan(&self, phase: &Phase) -> Result<Plan, ScenarioError> {
        let scenario = self.scenario;
        let templates: Result<Vec<_>, _> =
            scenario.mix.iter().map(|mix| Template::new(mix, &scenario.target)).collect();
        let begin = Instant::now() + Duration::from_millis(50);
        Ok(Plan {
            templates: templates?,
            weights: Weighted::new(scenario.mix.iter().map(|mix| mix.weight)),
            connector: Connector::new(&scenario.target)?,
            trace: Arc::clone(&self.trace),
            timeout: scenario.limits.timeout,
            begin,
            counts_from: begin + phase.warm_up,
            until: begin + phase.warm_up + phase.lasts,
            left: self.left.map(AtomicU64::new),
            salt: self.salt,
            part: self.steps.len() as u64,
            stop: Arc::clone(&self.control.0),
        })
    }

    fn pace(&self, phase: &Phase, at: usize) -> Pace {
        let workers = self.scenario.limits.workers;
        match &phase.pace {
            PhasePace::Closed => Pace::Closed,
            PhasePace::Rates(arrivals, steps) => {
                let seed = mix(self.salt ^ (at as u64) << 32 ^ self.steps.len() as u64);
                Pace::Open(Schedule::rates(*arrivals, steps.clone(), (at, workers), seed))
            }
            PhasePace::Trace(speed) => {
                let trace = Arc::clone(&self.trace);
                Pace::Open(Schedule::Trace { trace, next: at, stride: workers, speed: *speed })
            }
        }
    }

    /// Takes what the workers counted since `taken`; says when it did.
    fn gather(
        &mut self,
        shared: &[Arc<Shared>],
        tally: &mut Tally,
        taken: Instant,
        phase: &Phase,
        plan: &Plan,
    ) -> Instant {
        let mixes = self.scenario.mix.len();
        let mut last = Tally::new(mixes);
        shared.iter().for_each(|shared| last.merge(&shared.take(Tally::new(mixes))));
        let now = Instant::now();
        let at = now.saturating_duration_since(self.begin).as_secs_f64();
        let row = Row::of(&last, at, now.saturating_duration_since(taken).as_secs_f64());
        // The warm-up, and the empty moment at the end, are no rows.
        if last.offered > 0 || row.throughput > 0.0 || row.failed > 0 {
            self.timeline.push(row);
        }
        tally.merge(&last);
        let sum = |what: fn(&Shared) -> &AtomicU64| shared.iter().map(|one| what(one).load(Relaxed)).sum();
        let counted = now.saturating_duration_since(plan.counts_from).as_secs_f64();
        let mut all = self.total.all();
        all.merge(&tally.all());
        (self.see)(&Live {
            elapsed: at,
            planned: (phase.step.is_none() && phase.lasts < FOREVER)
                .then(|| (phase.warm_up + phase.lasts).as_secs_f64()),
            step: phase.step,
            row,
            overall: Numbers::of(&all, self.seconds + counted),
            in_flight: sum(|shared| &shared.in_flight),
            connections: sum(|shared| &shared.connections),
        });
        now
    }

    fn report(self, began: u64, sampler: Option<&Sampler>) -> Report {
        let samples = sampler.map(Sampler::samples).unwrap_or_default();
        let slopes = Slopes::of(&samples);
        let names = self.names();
        let (rows, total, seconds) = (self.timeline.rows(), &self.total, self.seconds);
        let evidence = Evidence { tally: total, names: &names, seconds, rows, slopes };
        let stress = matches!(self.scenario.shape, Shape::Stress { .. });
        let verdicts = if stress {
            vec![self.reached()]
        } else {
            self.scenario.thresholds.iter().filter_map(|one| evidence.judge(one)).collect()
        };
        let limit = self.scenario.limits.max_lag;
        let refused = if stress { self.refused.clone() } else { refusal(&total.lag, limit) };
        let all = total.all();
        let (cpu_seconds, peak_memory_bytes) = own_use();
        Report {
            scenario: self.scenario.name.clone(),
            target: self.scenario.target.url(),
            shape: match self.scenario.shape {
                Shape::Closed => "closed",
                Shape::Open { .. } => "open",
                Shape::Stress { .. } => "stress",
                Shape::Replay { .. } => "replay",
            },
            provenance: Provenance::default(),
            began,
            seconds,
            interrupted: self.control.stopped(),
            overall: Numbers::of(&all, seconds),
            mixes: names
                .iter()
                .zip(&total.mixes)
                .map(|(name, mix)| (name.clone(), Numbers::of(mix, seconds)))
                .collect(),
            curve: curve(&all.latency),
            latency_drift: drift(rows),
            timeline: rows.to_vec(),
            steps: self.steps,
            breaking_point: self.breaking_point,
            samples,
            slopes,
            generator: Generator {
                lag: Percentiles::of(&total.lag),
                warm_up: total.warm_up,
                unfinished: total.unfinished,
                connects: total.connects,
                resent: total.resent,
                cpu_seconds,
                peak_memory_bytes,
            },
            refused,
            verdicts,
        }
    }

    /// Of a stress run: whether the rate held that must.
    fn reached(&self) -> Verdict {
        let at_least = match &self.scenario.shape {
            Shape::Stress { at_least, .. } => *at_least,
            _ => 0.0,
        };
        let held = self.steps.iter().filter(|step| step.broken.is_empty()).map(|step| step.rate).next_back();
        Verdict {
            threshold: format!("all thresholds at {at_least}/s"),
            value: held,
            shown: held.map_or_else(|| "not at any rate".to_owned(), |rate| format!("up to {rate:.1}/s")),
            held: held.is_some_and(|rate| rate >= at_least),
        }
    }
}

/// The first rate goes on for the warm-up before it counts.
fn warmed(steps: &[Step], warm_up: Duration) -> Vec<Step> {
    let mut steps = steps.to_vec();
    if let Some(first) = steps.first_mut() {
        first.lasts += warm_up;
    }
    steps
}
