//! A connection in use by one request, whichever HTTP it speaks.

use std::{
    error::Error,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, header, response};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::{
    connect::Connected,
    error::ConnectError,
    http1::{Http1, Unanswered},
    http2::{Http2, Http2Stream},
    keys::Credential,
    target::Target,
};

/// An error of either.
pub(crate) type AnyError = Box<dyn Error + Send + Sync>;

/// A connection in use by one request. Dropping it before the answer's end closes the connection
/// (HTTP/1.1) or resets the stream (HTTP/2).
pub(crate) enum Lease {
    Http1(Box<Http1>),
    Http2(Http2Stream),
}

impl Lease {
    /// Whether others use the connection, too.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// Sends a request to its target with its credential, and reads the head of the answer.
    pub(crate) async fn send(
        &mut self,
        mut request: Request<Bytes>,
        target: &Target,
        credential: Option<&Credential>,
    ) -> Result<response::Parts, Unanswered<AnyError>> {
        match self {
            Self::Http1(connection) => {
                let credential = credential.map(|credential| (credential.name(), credential.value()));
                let sent = connection.send(request, target.host_header(), credential).await;
                sent.map_err(Unanswered::erased)
            }
            Self::Http2(stream) => {
                let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                let uri = target.absolute(path);
                *request.uri_mut() = uri.map_err(|error| Unanswered { unsent: true, error }.erased())?;
                request.headers_mut().remove(header::HOST);
                if let Some(credential) = credential {
                    request.headers_mut().insert(credential.name().clone(), credential.value().clone());
                }
                stream.send(request).await.map_err(Unanswered::erased)
            }
        }
    }

    /// Everything of the body that is ready, in one piece; `None` at its end.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, AnyError>>> {
        match self {
            Self::Http1(connection) => connection.poll_body(cx).map_err(AnyError::from),
            Self::Http2(stream) => stream.poll_body(cx).map_err(AnyError::from),
        }
    }
}

impl<E: Into<AnyError>> Unanswered<E> {
    fn erased(self) -> Unanswered<AnyError> {
        Unanswered { unsent: self.unsent, error: self.error.into() }
    }
}

/// A connection that was just made.
pub(crate) enum Opened {
    Http1(Box<Http1>),
    Http2(Http2),
}

pub(crate) async fn open(
    connected: Connected,
    permit: OwnedSemaphorePermit,
    returned: &Arc<Notify>,
) -> Result<Opened, ConnectError> {
    if connected.http2 {
        Http2::handshake(connected.transport, permit, returned.clone()).await.map(Opened::Http2)
    } else {
        Ok(Opened::Http1(Box::new(Http1::new(connected.transport, permit))))
    }
}
