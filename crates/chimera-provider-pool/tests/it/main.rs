//! The pool over real sockets, real TLS and a resolver that does as it is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod connections;
mod faults;
mod hedges;
mod http1;
mod http2;
mod names;
mod overload;
mod pickers;
mod support;
mod tls;
