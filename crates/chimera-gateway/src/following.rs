//! A call as one caller follows it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use chimera_cache::Source;
use futures_core::Stream;

use crate::{body::Follow, load::Piece, translating::Translating};

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

    /// Whether the end that was met is not the call's own.
    pub(crate) fn interrupted(&self) -> bool {
        match self {
            Self::Shared(follow) => follow.interrupted(),
            Self::Alone(_) => false,
            Self::Translated(translating) => translating.interrupted(),
        }
    }
}
