//! Many items at once: in parallel on the worker pool, told in their order, each with its own fate.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use chimera_transform::{Job, Pipeline, PoolError, Priority, Seed};
use futures_core::Stream;
use http::{HeaderMap, HeaderValue, Response, header};
use serde_json::{Value, json};

use super::{
    api::{Asked, Item, MODEL, line_item, read, run},
    through::{on_pool, unpooled},
};
use crate::{
    body::Body, books::Books, context::Context, failure::Failure, gateway::Shared, metrics::RequestOutcome,
    respond,
};

/// Answers `POST /api/v1/transform/batch`.
pub(crate) async fn batch(
    context: &Context<'_>,
    headers: &HeaderMap,
    body: Bytes,
    books: &mut Books,
) -> Result<Response<Body>, Failure> {
    let shared = &context.gateway.shared;
    let deadline = (context.arrival.at + context.state.settings.timeouts.standard).into_std();
    let state = context.state.clone();
    let read = move || read(&body, &state.settings.transforms, true);
    let asked = on_pool(shared, Priority::Batch, deadline, read).await??;
    let wants_lines = headers.get(header::ACCEPT).is_some_and(|accept| {
        accept.as_bytes().split(|byte| *byte == b',').any(|kind| kind.trim_ascii().starts_with(LINES))
    });
    let stream = asked.stream || wants_lines;
    let mut results = Results::new(shared.clone(), asked, deadline);
    if stream {
        let mut response = Response::new(Body::lines(Box::pin(Lines(results))));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        return Ok(response);
    }
    let mut all = Vec::new();
    while let Some(result) = std::future::poll_fn(|cx| results.poll_next(cx)).await {
        all.push(result);
    }
    let failed = all.iter().filter(|result| result.get("error").is_some()).count();
    let mut response = Response::new(Body::whole(json!({ "results": all, "failed": failed }).to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, respond::JSON);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let total = books.ended(RequestOutcome::Success);
    respond::timing(response.headers_mut(), &[("total", total)]);
    Ok(response)
}

const LINES: &[u8] = b"application/x-ndjson";

/// What an item has come to.
enum Under {
    Way(Job<Result<Value, Failure>>),
    Done(Failure),
}

/// The results of a batch, in order. As many items are under way as keep every thread busy: the queue is
/// everybody's.
struct Results {
    shared: Arc<Shared>,
    pipeline: Pipeline,
    model: Arc<str>,
    waiting: std::vec::IntoIter<Result<Item, Failure>>,
    under_way: VecDeque<Under>,
    told: usize,
    deadline: Instant,
    /// An item for which there was no room.
    next: Option<Arc<Item>>,
}

impl Results {
    fn new(shared: Arc<Shared>, asked: Asked, deadline: Instant) -> Self {
        Self {
            shared,
            pipeline: asked.pipeline,
            model: asked.model.into(),
            waiting: asked.items.into_iter(),
            under_way: VecDeque::new(),
            told: 0,
            deadline,
            next: None,
        }
    }

    /// Begins as many items as there is room for.
    fn fill(&mut self) {
        let window = self.shared.pool.settings().threads * 4;
        while self.under_way.len() < window {
            let item = match self.next.take() {
                Some(item) => item,
                None => match self.waiting.next() {
                    Some(Ok(item)) => Arc::new(item),
                    Some(Err(failure)) => {
                        self.under_way.push_back(Under::Done(failure));
                        continue;
                    }
                    None => return,
                },
            };
            let (pipeline, model, work) = (self.pipeline.clone(), self.model.clone(), item.clone());
            let submitted = self.shared.pool.submit(Priority::Batch, Some(self.deadline), move |_| {
                run(&pipeline, &work, &model, &Seed::random())
            });
            match submitted {
                Ok(job) => self.under_way.push_back(Under::Way(job)),
                // There is room again when one of ours is done.
                Err(PoolError::Full) if !self.under_way.is_empty() => {
                    self.next = Some(item);
                    return;
                }
                Err(why) => self.under_way.push_back(Under::Done(unpooled(why))),
            }
        }
    }

    fn poll_next(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Value>> {
        self.fill();
        let result = match self.under_way.front_mut() {
            None => return Poll::Ready(None),
            Some(Under::Way(job)) => {
                let done = ready!(Pin::new(job).poll(cx));
                done.unwrap_or_else(|why| Err(unpooled(why)))
            }
            Some(Under::Done(failure)) => Err(failure.clone()),
        };
        self.under_way.pop_front();
        let index = self.told;
        self.told += 1;
        Poll::Ready(Some(told(index, result)))
    }
}

fn told(index: usize, result: Result<Value, Failure>) -> Value {
    match result {
        Ok(mut output) => {
            if let Some(members) = output.as_object_mut() {
                members.insert("index".to_owned(), Value::from(index));
            }
            output
        }
        Err(failure) => {
            let place = format!("items[{index}]");
            let param = match failure.param.as_deref() {
                Some(param) if param.starts_with("items[") => param.to_owned(),
                _ => place,
            };
            json!({
                "index": index,
                "error": { "code": failure.code.as_str(), "message": failure.message, "param": param },
            })
        }
    }
}

/// Runs a pipeline over one line, `{"text"}` or `{"messages"}` in JSON: its result as a line, an error
/// among them.
pub fn transform_line(pipeline: &Pipeline, line: &str, index: usize) -> String {
    let result = line_item(line, index).and_then(|item| run(pipeline, &item, MODEL, &Seed::random()));
    told(index, result).to_string()
}

/// The results as lines of JSON.
struct Lines(Results);

impl Stream for Lines {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_next(cx).map(|result| result.map(|result| format!("{result}\n").into()))
    }
}
