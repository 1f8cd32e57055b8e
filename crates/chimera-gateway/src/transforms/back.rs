//! The way back of a call: its answer restored and judged, and asked for once more when it does not fit.
//!
//! A stream is restored as it passes. Where it may have to be asked for again, it is held back until all of
//! it is judged, its head too: what was told cannot be called back, and a caller that has heard nothing yet
//! can still be told a status.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use chimera_protocol::DialectId;
use chimera_transform::{Events, Role, WayBack, answer_texts, with_turns};
use http::{HeaderValue, Response, header, request::Parts};

use super::{
    restore::{self, Restoring, Withheld},
    through::{INLINE, on_pool},
};
use crate::{
    body::Body, books::Books, call::serve, context::Context, failure::Failure, metrics::RequestOutcome,
    reply, route::Call, settings::SizeLimits, upstream::Framing,
};

/// What became of an answer.
enum Back {
    Restored(Response<Body>),
    /// It is not what was asked for, and may be asked for again: what the model said, and why not.
    Unfit {
        said: String,
        why: String,
    },
}

/// Serves a call whose answers are restored: once, and once more if the answer is unfit.
pub(super) async fn served(way: Way<'_>, body: Bytes, books: &mut Books) -> Result<Response<Body>, Failure> {
    let (said, why) = match way.serve(body.clone(), books).await? {
        Back::Restored(response) => return Ok(response),
        Back::Unfit { said, why } => (said, why),
    };
    let Some(again) = corrected(way.call.dialect, &body, said, &why) else {
        return Err(Withheld::Unfit(why).into());
    };
    books.goes_on();
    match way.serve(again, books).await? {
        Back::Restored(response) => Ok(response),
        Back::Unfit { why, .. } => Err(Withheld::Unfit(why).into()),
    }
}

/// A request that asks once more: with the answer that did not fit, and why it did not.
fn corrected(dialect: DialectId, body: &[u8], said: String, why: &str) -> Option<Bytes> {
    let ask = format!("{why}. Answer again with JSON alone that fits the schema.");
    let turns = [(Role::Assistant, said), (Role::User, ask)];
    with_turns(dialect, body, &turns).map(Bytes::from)
}

/// The way back of one call.
pub(super) struct Way<'c> {
    context: &'c Context<'c>,
    call: &'c Call<'c>,
    /// The caller's own head.
    parts: &'c Parts,
    /// The head that the call is served with: what is to be restored cannot come compressed.
    plain: Parts,
    way_back: Arc<WayBack>,
    deadline: Instant,
}

impl<'c> Way<'c> {
    pub(super) fn new(
        context: &'c Context<'c>,
        call: &'c Call<'c>,
        parts: &'c Parts,
        way_back: WayBack,
        deadline: Instant,
    ) -> Self {
        let mut plain = parts.clone();
        plain.headers.remove(header::ACCEPT_ENCODING);
        Self { context, call, parts, plain, way_back: Arc::new(way_back), deadline }
    }

    async fn serve(&self, body: Bytes, books: &mut Books) -> Result<Back, Failure> {
        let response = serve(self.context, self.call, &self.plain, body, books).await?;
        self.restored(response, books).await
    }

    /// A response on its way back: what is at hand at once, a stream as it passes, unless it is held.
    async fn restored(&self, mut response: Response<Body>, books: &mut Books) -> Result<Back, Failure> {
        let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_events = kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"));
        let is_array = self.call.stream && !is_events && response.status().is_success();
        let framing = restore::framing(is_events, is_array);
        if let Some(whole) = response.body_mut().take_whole() {
            return match is_events || is_array {
                true => self.stream(response, framing, whole).await,
                false => self.whole(response, whole).await,
            };
        }
        if self.way_back.may_ask_again()
            && let Some(held) = response.body_mut().take_stream(self.sizes().answer).await?
        {
            let back = self.stream(response, framing, held).await;
            books.ended(RequestOutcome::Success);
            return back;
        }
        response.body_mut().restore(self.restoring(framing));
        reply::encode_stream(self.context, self.parts, &mut response);
        Ok(Back::Restored(response))
    }

    fn restoring(&self, framing: Framing) -> Restoring {
        let events = Events::new(self.way_back.clone(), self.call.dialect);
        Restoring::new(events, framing, self.sizes().event)
    }

    fn sizes(&self) -> &SizeLimits {
        &self.context.state.settings.sizes
    }

    /// A stream that is at hand, restored.
    async fn stream(
        &self,
        mut response: Response<Body>,
        framing: Framing,
        stream: Bytes,
    ) -> Result<Back, Failure> {
        let (mut restoring, source) = (self.restoring(framing), stream.clone());
        match self.aside(stream.len(), move || restoring.whole(source)).await? {
            Ok(restored) => {
                *response.body_mut() = Body::whole(restored);
                Ok(Back::Restored(response))
            }
            Err(Withheld::Unfit(why)) => {
                let said = restore::said(self.call.dialect, framing, self.sizes().event, stream);
                Ok(Back::Unfit { said, why })
            }
            Err(why) => Err(why.into()),
        }
    }

    /// A whole answer, restored.
    async fn whole(&self, mut response: Response<Body>, answer: Bytes) -> Result<Back, Failure> {
        let (way_back, source) = (self.way_back.clone(), answer.clone());
        let changed = self.aside(answer.len(), move || way_back.body(&source)).await?;
        match changed.map_err(Withheld::from) {
            Ok(changed) => {
                let plain = changed.map_or(answer, Bytes::from);
                let headers = response.headers_mut();
                let encoded = reply::encode_whole(self.context, self.parts, plain, headers).await;
                *response.body_mut() = Body::whole(encoded);
                Ok(Back::Restored(response))
            }
            Err(Withheld::Unfit(why)) => Ok(Back::Unfit { said: answer_texts(&answer).concat(), why }),
            Err(why) => Err(why.into()),
        }
    }

    /// Does work on so many bytes where it holds up nobody.
    async fn aside<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        if bytes <= INLINE {
            return Ok(work());
        }
        on_pool(&self.context.gateway.shared, self.context.priority(), self.deadline, work).await
    }
}
