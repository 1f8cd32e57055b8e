//! The names that members have in each dialect, so that a refusal speaks the caller's own words.

use super::refuse::{Dropped, Refused};
use crate::dialect::DialectId;

/// A member of a request, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Messages,
    ToolChoice,
    Parallel,
    Format,
    MaxTokens,
    Temperature,
    TopK,
    Presence,
    Frequency,
    Seed,
    Stop,
    N,
    Logprobs,
    Thoughts,
    Shown,
    User,
    Cache,
    Detail,
    FileName,
}

impl Field {
    /// Its name in a dialect.
    pub(crate) fn name(self, dialect: DialectId) -> &'static str {
        use DialectId::{Anthropic, Gemini, OpenAi, Responses};
        match (self, dialect) {
            (Self::Messages, Responses) => "input",
            (Self::Messages, Gemini) => "contents",
            (Self::Messages, _) => "messages",
            (Self::ToolChoice, Gemini) => "toolConfig.functionCallingConfig",
            (Self::ToolChoice, _) => "tool_choice",
            (Self::Parallel, Anthropic) => "tool_choice.disable_parallel_tool_use",
            (Self::Parallel, _) => "parallel_tool_calls",
            (Self::Format, Responses) => "text.format",
            (Self::Format, OpenAi) => "response_format",
            (Self::Format, Anthropic) => "output_config.format",
            (Self::Format, Gemini) => "generationConfig.responseMimeType",
            (Self::MaxTokens, Responses) => "max_output_tokens",
            (Self::MaxTokens, OpenAi) => "max_completion_tokens",
            (Self::MaxTokens, Anthropic) => "max_tokens",
            (Self::MaxTokens, Gemini) => "generationConfig.maxOutputTokens",
            (Self::Temperature, Gemini) => "generationConfig.temperature",
            (Self::Temperature, _) => "temperature",
            (Self::TopK, Gemini) => "generationConfig.topK",
            (Self::TopK, _) => "top_k",
            (Self::Presence, Gemini) => "generationConfig.presencePenalty",
            (Self::Presence, _) => "presence_penalty",
            (Self::Frequency, Gemini) => "generationConfig.frequencyPenalty",
            (Self::Frequency, _) => "frequency_penalty",
            (Self::Seed, Gemini) => "generationConfig.seed",
            (Self::Seed, _) => "seed",
            (Self::Stop, Responses) => "stop",
            (Self::Stop, OpenAi) => "stop",
            (Self::Stop, Anthropic) => "stop_sequences",
            (Self::Stop, Gemini) => "generationConfig.stopSequences",
            (Self::N, Gemini) => "generationConfig.candidateCount",
            (Self::N, _) => "n",
            (Self::Logprobs, Gemini) => "generationConfig.responseLogprobs",
            (Self::Logprobs, _) => "logprobs",
            (Self::Thoughts, Responses) => "input.encrypted_content",
            (Self::Thoughts, OpenAi) => "messages.reasoning_content",
            (Self::Thoughts, Anthropic) => "messages.content.thinking",
            (Self::Thoughts, Gemini) => "contents.parts.thought",
            (Self::Shown, Responses) => "reasoning.summary",
            (Self::Shown, OpenAi) => "reasoning",
            (Self::Shown, Anthropic) => "thinking.display",
            (Self::Shown, Gemini) => "generationConfig.thinkingConfig.includeThoughts",
            (Self::User, Anthropic) => "metadata.user_id",
            (Self::User, _) => "user",
            (Self::Cache, _) => "cache_control",
            (Self::Detail, Responses) => "input.content.detail",
            (Self::Detail, _) => "messages.content.image_url.detail",
            (Self::FileName, Responses) => "input.content.filename",
            (Self::FileName, OpenAi) => "messages.content.file.filename",
            (Self::FileName, Anthropic) => "messages.content.title",
            (Self::FileName, Gemini) => "contents.parts.inlineData.displayName",
        }
    }
}

/// The side of the caller while its request is being written in another dialect.
pub(crate) struct Side<'s> {
    pub(crate) caller: DialectId,
    /// The model's name as its provider knows it.
    pub(crate) model: &'s str,
    pub(crate) dropped: &'s mut Dropped,
}

impl Side<'_> {
    /// Refuses a member in the caller's words.
    pub(crate) fn refuse<T>(&self, field: Field, message: &'static str) -> Result<T, Refused> {
        Err(Refused::here(message).inside(field.name(self.caller)))
    }

    /// Refuses something in one of the caller's messages.
    pub(crate) fn refuse_message<T>(&self, at: usize, message: &'static str) -> Result<T, Refused> {
        Err(Refused::here(message).item(at).inside(Field::Messages.name(self.caller)))
    }

    /// Notes a member that is left out because it cannot change the answer.
    pub(crate) fn drop(&mut self, field: Field) {
        self.dropped.add(field.name(self.caller));
    }
}
