//! What a job tells.

use std::{sync::Arc, time::Duration};

use chimera_optimizer::Event;
use tokio::sync::broadcast::error::TryRecvError;

use crate::support::{counted, job, settings};

#[tokio::test(start_paused = true)]
async fn events_tell_what_happened_in_order() {
    let model = counted(&Arc::default(), |_| Duration::from_millis(20));
    let job = job("invoices", "reflective", settings(1, 150), model).build().unwrap();
    let (mut events, progress) = (job.handle().events(), job.handle().progress());
    let found = job.run().await.unwrap();
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        told.push(event);
    }
    assert_eq!(told.first(), Some(&Event::Started { resumed: 0 }));
    assert_eq!(
        told.last(),
        Some(&Event::Finished { ended: "budget", score: found.scores.validation.map(|s| s.mean) })
    );
    let steps: Vec<u64> = told
        .iter()
        .filter_map(|event| if let Event::Tried { step, .. } = event { Some(*step) } else { None })
        .collect();
    assert_eq!(steps, (1..=found.tried as u64).collect::<Vec<_>>());
    let bests: Vec<f64> = told
        .iter()
        .filter_map(|event| if let Event::Best { score, .. } = event { Some(*score) } else { None })
        .collect();
    assert_eq!(bests, found.curve.iter().map(|point| point.score).collect::<Vec<_>>());
    assert!(told.iter().any(|event| matches!(event, Event::Accepted { .. })));
    assert!(told.iter().any(|event| matches!(event, Event::Frontier { members } if !members.is_empty())));
    let last = progress.borrow().clone();
    assert_eq!((last.evaluations, last.best), (found.evaluations, found.scores.validation.map(|s| s.mean)));
    let json = serde_json::to_value(&told[1]).unwrap();
    assert!(json["type"].is_string(), "{json}");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_listen_holds_up_nothing() {
    let model = counted(&Arc::default(), |_| Duration::ZERO);
    let job = job("invoices", "random", settings(1, 1500), model).build().unwrap();
    let mut events = job.handle().events();
    job.run().await.unwrap();
    assert!(matches!(events.try_recv(), Err(TryRecvError::Lagged(lost)) if lost > 0));
}
