//! Tests of the worker pool.

use std::sync::mpsc;

use super::*;

fn pool(queue: usize, max_age: Duration) -> WorkerPool {
    WorkerPool::new(PoolSettings { threads: 1, queue, max_age })
}

const LONG: Duration = Duration::from_secs(60);

/// Occupies the one thread until told to go on.
fn occupy(pool: &WorkerPool) -> (Job<()>, mpsc::Sender<()>) {
    let (go, wait) = mpsc::channel::<()>();
    let (began, begun) = mpsc::channel();
    let job = pool.submit(Priority::Interactive, None, move |_| {
        let _ = began.send(());
        let _ = wait.recv();
    });
    begun.recv().unwrap();
    (job.unwrap(), go)
}

#[test]
fn results_come_back() {
    let pool = pool(8, LONG);
    let job = pool.submit(Priority::Batch, None, |cancelled| !cancelled.get()).unwrap();
    assert_eq!(job.wait(), Ok(true));
}

#[tokio::test]
async fn a_job_is_a_future() {
    let pool = WorkerPool::new(PoolSettings::default());
    let jobs: Vec<_> =
        (0..100).map(|n| pool.submit(Priority::Batch, None, move |_| n * 2).unwrap()).collect();
    for (n, job) in jobs.into_iter().enumerate() {
        assert_eq!(job.await, Ok(n * 2));
    }
}

#[test]
fn p07_a_panic_ends_its_job_and_no_thread() {
    let pool = pool(8, LONG);
    for _ in 0..3 {
        let job = pool.submit(Priority::Interactive, None, |_| -> u8 { panic!("on purpose") }).unwrap();
        assert_eq!(job.wait(), Err(PoolError::Panicked));
    }
    assert_eq!(pool.submit(Priority::Interactive, None, |_| 7).unwrap().wait(), Ok(7));
    let seen = pool.snapshot();
    assert_eq!((seen.panicked, seen.busy, seen.queued), (3, 0, 0));
}

#[test]
fn a_full_queue_turns_away_at_once() {
    let pool = pool(1, LONG);
    let (held, go) = occupy(&pool);
    let waiting = pool.submit(Priority::Batch, None, |_| ()).unwrap();
    assert_eq!(pool.submit(Priority::Interactive, None, |_| ()).unwrap_err(), PoolError::Full);
    assert_eq!((pool.snapshot().busy, pool.snapshot().queued), (1, 1));
    go.send(()).unwrap();
    assert_eq!((held.wait(), waiting.wait()), (Ok(()), Ok(())));
    assert_eq!(pool.snapshot().rejected, 1);
}

#[test]
fn what_waited_too_long_is_not_begun() {
    let pool = pool(8, Duration::ZERO);
    let (ran, runs) = mpsc::channel::<()>();
    let job = pool.submit(Priority::Batch, None, move |_| ran.send(())).unwrap();
    assert_eq!(job.wait(), Err(PoolError::Stale));
    assert!(runs.recv().is_err());
    assert_eq!(pool.snapshot().rejected, 1);
}

#[test]
fn a_job_past_its_deadline_is_not_begun() {
    let pool = pool(8, LONG);
    let (ran, runs) = mpsc::channel::<()>();
    let job = pool.submit(Priority::Interactive, Some(Instant::now()), move |_| ran.send(())).unwrap();
    assert_eq!(job.wait(), Err(PoolError::Late));
    assert!(runs.recv().is_err());
}

#[test]
fn a_job_whose_caller_left_is_not_begun() {
    let pool = pool(8, LONG);
    let (held, go) = occupy(&pool);
    let (ran, runs) = mpsc::channel::<()>();
    drop(pool.submit(Priority::Interactive, None, move |_| ran.send(())).unwrap());
    go.send(()).unwrap();
    held.wait().unwrap();
    assert!(runs.recv().is_err());
    // The one after it shows that its turn has passed.
    pool.submit(Priority::Batch, None, |_| ()).unwrap().wait().unwrap();
    assert_eq!(pool.snapshot().cancelled, 1);
}

#[test]
fn a_job_under_way_sees_that_its_caller_left() {
    let pool = pool(8, LONG);
    let (began, begun) = mpsc::channel();
    let (ended, end) = mpsc::channel();
    let job = pool.submit(Priority::Interactive, None, move |cancelled| {
        let _ = began.send(());
        while !cancelled.get() {
            std::thread::yield_now();
        }
        let _ = ended.send(());
    });
    begun.recv().unwrap();
    drop(job);
    end.recv().unwrap();
}

#[test]
fn a_pool_that_is_gone_says_so() {
    let pool = pool(8, LONG);
    let (held, go) = occupy(&pool);
    let waiting = pool.submit(Priority::Batch, None, |_| ()).unwrap();
    drop(pool);
    go.send(()).unwrap();
    assert_eq!((held.wait(), waiting.wait()), (Ok(()), Err(PoolError::Stopped)));
}
