//! Many items at once: in parallel on the worker pool, told in their order, each with its own fate.
//!
//! One job validates the body and notes where the items stand. Everything else about them is done by the
//! threads: each reads a run of items, works on them, and writes what is told of them. The event loop only
//! hands the pieces on, in their order.

use std::{
    collections::VecDeque,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use chimera_protocol::json::{Document, Kind, Value};
use chimera_transform::{Job, Pipeline, PoolError, Priority};
use futures_core::Stream;
use http::{HeaderMap, HeaderValue, Response, header};

use super::{
    Transforms,
    api::{MODEL, flag, not_json, object, runner},
    fault::item_at,
    item::Item,
    telling::{Runner, failed},
    through::{on_pool, unpooled},
};
use crate::{body::Body, context::Context, failure::Failure, gateway::Shared, intake::InFlight, respond};

/// Answers `POST /api/v1/transform/batch`. The answer begins when the first items are done.
pub(crate) async fn batch(
    context: &Context<'_>,
    headers: &HeaderMap,
    body: Bytes,
    in_flight: InFlight,
) -> Result<Response<Body>, Failure> {
    let shared = &context.gateway.shared;
    let deadline = (context.arrival.at + context.state.settings.timeouts.standard).into_std();
    let wants_lines = headers.get(header::ACCEPT).is_some_and(|accept| {
        accept.as_bytes().split(|byte| *byte == b',').any(|kind| kind.trim_ascii().starts_with(LINES))
    });
    let state = context.state.clone();
    let read = move || Batch::read(body, &state.settings.transforms, wants_lines);
    let batch = on_pool(shared, Priority::Batch, deadline, read).await??;
    let kind = match batch.form {
        Form::Whole => respond::JSON,
        Form::Lines => HeaderValue::from_static("application/x-ndjson"),
    };
    let results = Results::new(shared.clone(), batch, deadline, in_flight);
    let mut response = Response::new(Body::lines(Box::pin(results)));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

const LINES: &[u8] = b"application/x-ndjson";

/// The most items of a batch.
const MOST: usize = 1000;

/// Items that go to a thread together, by their bytes: the way there and back costs as much as some items
/// do, and whoever waits for a thread should not wait long.
const TOGETHER: usize = 32 * 1024;

/// How results are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As one object.
    Whole,
    /// Each as a line.
    Lines,
}

/// A request that was read as far as all of its items need it. Its jobs share it.
struct Batch {
    body: Bytes,
    /// Where the items stand in the body.
    items: Vec<Range<usize>>,
    runner: Runner,
    form: Form,
}

/// What is told of some items.
struct Piece {
    text: Vec<u8>,
    failed: usize,
}

impl Batch {
    fn read(body: Bytes, transforms: &Transforms, wants_lines: bool) -> Result<Self, Failure> {
        let document = Document::parse(&body).map_err(|error| match item_at(&body, error.offset) {
            Some(item) => not_json(error).param(format!("items[{item}]")),
            None => not_json(error),
        })?;
        let root = object(&document)?;
        let items = items(root)?;
        let runner = runner(root, transforms, &["items", "stream"])?;
        let form = if flag(root, "stream")? || wants_lines { Form::Lines } else { Form::Whole };
        Ok(Self { items, runner, form, body: body.clone() })
    }

    /// The items that go together from one on.
    fn group(&self, first: usize) -> Range<usize> {
        let mut bytes = 0;
        let items = self.items.iter().skip(first).take_while(|item| {
            let has_room = bytes < TOGETHER;
            bytes += item.len();
            has_room
        });
        first..first + items.count()
    }

    /// Reads items, runs them through the pipeline, and tells what came of each.
    fn done(&self, group: Range<usize>) -> Piece {
        let bytes = self.items.get(group.clone()).unwrap_or_default().iter().map(Range::len).sum::<usize>();
        self.told(group, bytes + bytes / 4, |index, out| {
            let raw = self.items.get(index).and_then(|item| self.body.get(item.clone()));
            let document = parse_item(raw.unwrap_or_default())?;
            self.runner.run(&Item::read(document.root(), Some(index))?, Some(index), out)
        })
    }

    /// Tells of items that came to nothing for one reason.
    fn undone(&self, group: Range<usize>, why: PoolError) -> Piece {
        let failure = unpooled(why);
        self.told(group, 0, |_, _| Err(failure.clone()))
    }

    /// What is told of items, each by one function or else as a failure.
    fn told(
        &self,
        group: Range<usize>,
        room: usize,
        tell: impl Fn(usize, &mut Vec<u8>) -> Result<(), Failure>,
    ) -> Piece {
        let mut piece = Piece { text: Vec::with_capacity(room + group.len() * 256), failed: 0 };
        for index in group {
            piece.text.extend_from_slice(match (self.form, index) {
                (Form::Whole, 0) => b"{\"results\":[",
                (Form::Whole, _) => b",",
                (Form::Lines, _) => b"",
            });
            if let Err(failure) = tell(index, &mut piece.text) {
                failed(index, &failure, &mut piece.text);
                piece.failed += 1;
            }
            if self.form == Form::Lines {
                piece.text.push(b'\n');
            }
        }
        piece
    }
}

/// Where the items of a request stand.
fn items(root: Value<'_>) -> Result<Vec<Range<usize>>, Failure> {
    let wrong = |why: &'static str| Failure::invalid(why).param("items");
    let items = root.get("items").ok_or_else(|| wrong("items is required"))?;
    if items.kind() != Kind::Array {
        return Err(wrong("items must be an array"));
    }
    let items: Vec<_> = items.elements().take(MOST + 1).map(Value::range).collect();
    match items.len() {
        0 => Err(wrong("items is empty")),
        count if count > MOST => Err(wrong("a batch has at most 1000 items").status(422)),
        _ => Ok(items),
    }
}

fn parse_item(raw: &[u8]) -> Result<Document<'_>, Failure> {
    Document::parse(raw).map_err(|error| Failure::invalid(format!("the item is not valid JSON: {error}")))
}

/// What some items have come to.
enum Under {
    Way(Job<Piece>, Range<usize>),
    Done(Piece),
}

/// The results of a batch, in order. As many items are under way as keep every thread busy: the queue is
/// everybody's.
struct Results {
    shared: Arc<Shared>,
    batch: Arc<Batch>,
    /// The number of the next item that waits.
    next: usize,
    under_way: VecDeque<Under>,
    deadline: Instant,
    failed: usize,
    over: bool,
    /// The body is in memory until all is told.
    _in_flight: InFlight,
}

impl Results {
    fn new(shared: Arc<Shared>, batch: Batch, deadline: Instant, in_flight: InFlight) -> Self {
        Self {
            shared,
            batch: Arc::new(batch),
            next: 0,
            under_way: VecDeque::new(),
            deadline,
            failed: 0,
            over: false,
            _in_flight: in_flight,
        }
    }

    /// Begins as many groups as there is room for.
    fn fill(&mut self) {
        let window = self.shared.pool.settings().threads * 4;
        while self.under_way.len() < window && self.next < self.batch.items.len() {
            let group = self.batch.group(self.next);
            let (batch, items) = (self.batch.clone(), group.clone());
            let work = move |_: &_| batch.done(items);
            self.next = group.end;
            let under = match self.shared.pool.submit(Priority::Batch, Some(self.deadline), work) {
                Ok(job) => Under::Way(job, group),
                // There is room again when one of ours is done.
                Err(PoolError::Full) if !self.under_way.is_empty() => {
                    self.next = group.start;
                    return;
                }
                Err(why) => Under::Done(self.batch.undone(group, why)),
            };
            self.under_way.push_back(under);
        }
    }

    /// What is told of the next items; nothing, when all were told of.
    fn poll_piece(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Piece>> {
        self.fill();
        let piece = match self.under_way.pop_front() {
            None => return Poll::Ready(None),
            Some(Under::Done(piece)) => piece,
            Some(Under::Way(mut job, group)) => match Pin::new(&mut job).poll(cx) {
                Poll::Ready(done) => done.unwrap_or_else(|why| self.batch.undone(group, why)),
                Poll::Pending => {
                    self.under_way.push_front(Under::Way(job, group));
                    return Poll::Pending;
                }
            },
        };
        Poll::Ready(Some(piece))
    }
}

impl Stream for Results {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Bytes>> {
        if let Some(piece) = ready!(self.poll_piece(cx)) {
            self.failed += piece.failed;
            return Poll::Ready(Some(piece.text.into()));
        }
        let ends = self.batch.form == Form::Whole && !std::mem::replace(&mut self.over, true);
        Poll::Ready(ends.then(|| format!("],\"failed\":{}}}", self.failed).into()))
    }
}

/// Runs a pipeline over one line, `{"text"}` or `{"messages"}` in JSON: its result as a line, an error
/// among them.
pub fn transform_line(pipeline: &Pipeline, line: &str, index: usize) -> String {
    let runner = Runner { pipeline: pipeline.clone(), model: MODEL.to_owned() };
    let mut out = Vec::new();
    let told = Document::parse(line.as_bytes())
        .map_err(|error| Failure::invalid(format!("the line is not valid JSON: {error}")))
        .and_then(|document| runner.run(&Item::read(document.root(), Some(index))?, Some(index), &mut out));
    if let Err(failure) = told {
        failed(index, &failure, &mut out);
    }
    String::from_utf8(out).unwrap_or_default()
}
