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
    let (mut all, mut failed) = (String::from("{\"results\":["), 0_usize);
    while let Some(told) = std::future::poll_fn(|cx| results.poll_next(cx)).await {
        if !all.ends_with('[') {
            all.push(',');
        }
        all.push_str(&told.text);
        failed += usize::from(told.is_failure);
    }
    all.push_str(&format!("],\"failed\":{failed}}}"));
    let mut response = Response::new(Body::whole(all));
    response.headers_mut().insert(header::CONTENT_TYPE, respond::JSON);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let total = books.ended(RequestOutcome::Success);
    respond::timing(response.headers_mut(), &[("total", total)]);
    Ok(response)
}

const LINES: &[u8] = b"application/x-ndjson";

/// Items that go to a thread together, by the bytes of their texts: the way there and back costs as much as
/// some items do, and whoever waits for a thread should not wait long.
const TOGETHER: usize = 32 * 1024;

/// Items that go to a thread together; some are none, and have failed already.
struct Group {
    /// The number of the first.
    first: usize,
    items: Vec<Result<Item, Failure>>,
}

/// The result of an item, as it is told.
struct Told {
    text: String,
    is_failure: bool,
}

/// What a group has come to.
enum Under {
    Way(Job<Vec<Told>>, usize, usize),
    Done(std::vec::IntoIter<Told>),
}

/// The results of a batch, in order. As many items are under way as keep every thread busy: the queue is
/// everybody's.
struct Results {
    shared: Arc<Shared>,
    pipeline: Pipeline,
    model: Arc<str>,
    waiting: std::vec::IntoIter<Result<Item, Failure>>,
    /// The number of the next that waits.
    begun: usize,
    under_way: VecDeque<Under>,
    deadline: Instant,
    /// A group for which there was no room.
    next: Option<Arc<Group>>,
}

impl Results {
    fn new(shared: Arc<Shared>, asked: Asked, deadline: Instant) -> Self {
        Self {
            shared,
            pipeline: asked.pipeline,
            model: asked.model.into(),
            waiting: asked.items.into_iter(),
            begun: 0,
            under_way: VecDeque::new(),
            deadline,
            next: None,
        }
    }

    /// The next items that go together.
    fn group(&mut self) -> Option<Arc<Group>> {
        let (first, mut items, mut bytes) = (self.begun, Vec::new(), 0);
        while bytes < TOGETHER
            && let Some(item) = self.waiting.next()
        {
            bytes += item.as_ref().map_or(0, Item::len);
            items.push(item);
        }
        self.begun += items.len();
        (!items.is_empty()).then(|| Arc::new(Group { first, items }))
    }

    /// Begins as many groups as there is room for.
    fn fill(&mut self) {
        let window = self.shared.pool.settings().threads * 4;
        while self.under_way.len() < window {
            let Some(group) = self.next.take().or_else(|| self.group()) else { return };
            let (first, count) = (group.first, group.items.len());
            let (pipeline, model, work) = (self.pipeline.clone(), self.model.clone(), group.clone());
            let submitted = self.shared.pool.submit(Priority::Batch, Some(self.deadline), move |_| {
                let items = work.items.iter().enumerate();
                let told = items.map(|(index, item)| {
                    let result = item.as_ref().map_err(Failure::clone);
                    let result = result.and_then(|item| run(&pipeline, item, &model, &Seed::random()));
                    told(work.first + index, result)
                });
                told.collect()
            });
            match submitted {
                Ok(job) => self.under_way.push_back(Under::Way(job, first, count)),
                // There is room again when one of ours is done.
                Err(PoolError::Full) if !self.under_way.is_empty() => {
                    self.next = Some(group);
                    return;
                }
                Err(why) => self.under_way.push_back(undone(why, first, count)),
            }
        }
    }

    fn poll_next(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Told>> {
        loop {
            self.fill();
            match self.under_way.front_mut() {
                None => return Poll::Ready(None),
                Some(Under::Done(told)) => {
                    if let Some(told) = told.next() {
                        return Poll::Ready(Some(told));
                    }
                    self.under_way.pop_front();
                }
                Some(Under::Way(job, first, count)) => {
                    let (first, count) = (*first, *count);
                    let done = match ready!(Pin::new(job).poll(cx)) {
                        Ok(told) => Under::Done(told.into_iter()),
                        Err(why) => undone(why, first, count),
                    };
                    self.under_way.pop_front();
                    self.under_way.push_front(done);
                }
            }
        }
    }
}

/// A group that came to nothing: each of its items says so.
fn undone(why: PoolError, first: usize, count: usize) -> Under {
    let failure = unpooled(why);
    let told: Vec<_> = (first..first + count).map(|index| told(index, Err(failure.clone()))).collect();
    Under::Done(told.into_iter())
}

fn told(index: usize, result: Result<Value, Failure>) -> Told {
    let is_failure = result.is_err();
    let told = match result {
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
    };
    Told { text: told.to_string(), is_failure }
}

/// Runs a pipeline over one line, `{"text"}` or `{"messages"}` in JSON: its result as a line, an error
/// among them.
pub fn transform_line(pipeline: &Pipeline, line: &str, index: usize) -> String {
    let result = line_item(line, index).and_then(|item| run(pipeline, &item, MODEL, &Seed::random()));
    told(index, result).text
}

/// The results as lines of JSON.
struct Lines(Results);

impl Stream for Lines {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_next(cx).map(|told| told.map(|told| format!("{}\n", told.text).into()))
    }
}
