//! Holding many slow streams at once, so that their memory can be weighed.

use std::{
    error::Error,
    io,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::task::LocalSet;

use crate::{
    body, drive,
    options::{Mode, Options},
    tally::Tally,
    wire::Wire,
};

/// Opens the streams one after the other, says when all are open, and waits for their ends.
pub(crate) async fn hold(options: &Options) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let tasks = LocalSet::new();
    let total = tasks
        .run_until(async {
            let mut streams = Vec::with_capacity(options.streams);
            for number in 0..options.streams as u64 {
                let options = options.clone();
                let base = u64::from(std::process::id()) * 1_000_000_000;
                streams.push(tokio::task::spawn_local(async move { one(&options, base + number).await }));
                // A listener's backlog is short; a stream a fifth of a millisecond does not overrun it.
                if number % 5 == 4 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            println!("{}", json!({"opened": options.streams, "seconds": start.elapsed().as_secs_f64()}));
            let mut total = Tally::default();
            for stream in streams {
                match stream.await {
                    Ok(Ok(time)) => total.success(Duration::ZERO, time, None),
                    Ok(Err(error)) => total.error(error),
                    Err(error) => total.error(error),
                }
            }
            total
        })
        .await;
    println!("{}", total.report(start.elapsed()));
    Ok(())
}

async fn one(options: &Options, number: u64) -> io::Result<Duration> {
    let start = Instant::now();
    let mut wire = Wire::connect(&options.target).await?;
    let body = body::request(number, true);
    let request = body::http_request(&options.target, &options.path, &body);
    wire.write(&request).await?;
    drive::receive(&mut wire, Mode::Stream.end(), start).await?;
    Ok(start.elapsed())
}
