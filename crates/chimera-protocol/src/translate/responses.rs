//! OpenAI's responses as a caller's dialect: requests are read, answers and streams written. A provider
//! that speaks it is asked natively or not at all.

pub(super) mod answer_out;
mod input;
mod item;
pub(super) mod request_in;
pub(super) mod stream_out;
