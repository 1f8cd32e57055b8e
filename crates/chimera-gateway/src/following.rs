//! A call as one caller follows it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use chimera_cache::{Interrupted, Source};
use futures_core::Stream;

use crate::{
    body::Follow,
    failure::{Code, Failure},
    load::Piece,
    translating::Translating,
};

/// A call that one caller follows, alone or with others.
pub(crate) enum Following {
    Shared(Follow),
    Alone(Source<Piece>),
    /// In the caller's dialect, which is not the provider's.
    Translated(Box<Translating>),
}

impl Following {
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        match self {
            Self::Shared(follow) => Pin::new(follow).poll_next(cx),
            Self::Alone(source) => source.as_mut().poll_next(cx),
            Self::Translated(translating) => translating.poll_next(cx),
        }
    }

    /// What cut it, where the end that was met is not the call's own.
    pub(crate) fn cut(&self) -> Option<Failure> {
        match self {
            Self::Shared(follow) => follow.interrupted().map(left_behind),
            Self::Alone(_) => None,
            Self::Translated(translating) => translating.cut(),
        }
    }
}

/// What a follower of a call is told that was left before its end.
fn left_behind(why: Interrupted) -> Failure {
    match why {
        Interrupted::Panicked => Failure::new(Code::Internal, "the gateway failed on this call"),
        Interrupted::TooSlow => Failure::new(Code::Overloaded, "this stream was read too slowly to be held"),
    }
}
