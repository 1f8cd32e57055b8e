//! OpenAI's chat completions as they are read and written in translation.

pub(super) mod answer_out;
mod finish;
mod message_in;
mod message_out;
pub(super) mod request_in;
pub(super) mod request_out;
pub(super) mod stream_in;
pub(super) mod stream_out;

pub(super) use message_in::detail_of;
