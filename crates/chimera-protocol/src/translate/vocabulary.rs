//! The shared vocabulary: what every dialect can be read into and written from. No dialect knows
//! another; each knows these words.

use std::borrow::Cow;

use super::{citation::Citation, text::Text};
use crate::usage::Usage;

/// A request for a generation.
#[derive(Debug, Default)]
pub(crate) struct Request<'a> {
    /// What stands before the conversation.
    pub(crate) system: Vec<Part<'a>>,
    pub(crate) messages: Vec<Message<'a>>,
    pub(crate) tools: Vec<Tool<'a>>,
    pub(crate) tool_choice: Option<ToolChoice<'a>>,
    /// Whether several tools may be called at once.
    pub(crate) parallel: Option<bool>,
    pub(crate) format: Option<Format<'a>>,
    // Numbers go on as they are spelled.
    pub(crate) max_tokens: Option<&'a str>,
    pub(crate) temperature: Option<&'a str>,
    pub(crate) top_p: Option<&'a str>,
    pub(crate) top_k: Option<&'a str>,
    pub(crate) presence: Option<&'a str>,
    pub(crate) frequency: Option<&'a str>,
    pub(crate) seed: Option<&'a str>,
    pub(crate) top_logprobs: Option<&'a str>,
    pub(crate) logprobs: bool,
    pub(crate) stop: Vec<Text<'a>>,
    /// How many answers are wanted.
    pub(crate) n: Option<u64>,
    pub(crate) reasoning: Option<Reasoning>,
    /// Who the end user is.
    pub(crate) user: Option<Text<'a>>,
    pub(crate) stream: bool,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// An instruction in the middle of a conversation.
    System,
    User,
    Assistant,
}

/// One turn. Results of tools are parts of the user's.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) role: Role,
    pub(crate) parts: Vec<Part<'a>>,
    /// Its place among the caller's messages.
    pub(crate) at: usize,
}

/// A part of a turn.
#[derive(Debug, Clone)]
pub(crate) struct Part<'a> {
    pub(crate) kind: PartKind<'a>,
    /// A hint to the provider's prompt cache, as it stands.
    pub(crate) cache: Option<&'a str>,
}

impl<'a> From<PartKind<'a>> for Part<'a> {
    fn from(kind: PartKind<'a>) -> Self {
        Self { kind, cache: None }
    }
}

/// What a part is.
#[derive(Debug, Clone)]
pub(crate) enum PartKind<'a> {
    /// Text, perhaps with Gemini's signature.
    Text(Text<'a>, Option<Signature<'a>>),
    /// What the model thought, and the proof that it did.
    Thinking(Text<'a>, Option<Signature<'a>>),
    /// Thoughts that only their provider can read.
    Redacted(Text<'a>),
    /// A model's refusal in words.
    Refusal(Text<'a>),
    Media(Media<'a>),
    Call(Call<'a>),
    Result(ToolResult<'a>),
}

/// A call of a tool.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub(crate) id: Text<'a>,
    pub(crate) name: Text<'a>,
    /// The JSON of the arguments as it is spelled; empty for none.
    pub(crate) arguments: Cow<'a, str>,
    pub(crate) signature: Option<Signature<'a>>,
}

/// What a tool answered.
#[derive(Debug, Clone)]
pub(crate) struct ToolResult<'a> {
    pub(crate) id: Text<'a>,
    /// The tool's name, where the caller tells it.
    pub(crate) name: Option<Text<'a>>,
    pub(crate) parts: Vec<Part<'a>>,
    pub(crate) is_error: bool,
}

/// A provider's opaque proof, which must come back to it as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature<'a> {
    pub(crate) vendor: Vendor,
    pub(crate) text: Text<'a>,
}

/// Whose a signature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vendor {
    Anthropic,
    Gemini,
}

/// Something that is not text.
#[derive(Debug, Clone)]
pub(crate) struct Media<'a> {
    pub(crate) kind: MediaKind,
    pub(crate) source: Source<'a>,
    pub(crate) name: Option<Text<'a>>,
    /// Whether the caller asked for a look at low or high resolution.
    pub(crate) detail: Option<Detail>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaKind {
    Image,
    Audio,
    Document,
    Video,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    Low,
    High,
}

/// Where it is. What is elsewhere is never fetched.
#[derive(Debug, Clone)]
pub(crate) enum Source<'a> {
    Inline {
        mime: Cow<'a, str>,
        data: Text<'a>,
    },
    Url {
        url: Text<'a>,
        mime: Option<Cow<'a, str>>,
    },
    /// A file that the caller gave to its provider.
    File,
}

/// A tool that may be called.
#[derive(Debug)]
pub(crate) struct Tool<'a> {
    pub(crate) name: Text<'a>,
    pub(crate) description: Option<Text<'a>>,
    /// The JSON schema of its arguments.
    pub(crate) schema: Option<Cow<'a, str>>,
    pub(crate) strict: Option<bool>,
    pub(crate) cache: Option<&'a str>,
}

/// Which tools may or must be called.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ToolChoice<'a> {
    Auto,
    None,
    Any,
    /// One of these must be called.
    Only(Vec<Text<'a>>),
}

/// The form that the answer is held to.
#[derive(Debug)]
pub(crate) enum Format<'a> {
    /// Any JSON.
    Json,
    Schema {
        name: Option<Text<'a>>,
        description: Option<Text<'a>>,
        schema: Cow<'a, str>,
        strict: bool,
    },
}

/// How much to think.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reasoning {
    pub(crate) level: Option<Level>,
    /// In tokens; below zero leaves it to the model.
    pub(crate) budget: Option<i64>,
    /// Whether the thoughts are to be shown.
    pub(crate) shown: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Most,
}

impl Level {
    /// The level of a budget, by the figures that Google published for its own translation.
    pub(crate) fn of_budget(budget: i64) -> Self {
        match budget {
            ..=0 => Self::None,
            1..=1024 => Self::Low,
            1025..=8192 => Self::Medium,
            _ => Self::High,
        }
    }

    /// The budget of a level.
    pub(crate) fn budget(self) -> i64 {
        match self {
            Self::None => 0,
            Self::Minimal | Self::Low => 1024,
            Self::Medium => 8192,
            Self::High | Self::Most => 24576,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Most => "xhigh",
        }
    }
}

/// A whole answer.
#[derive(Debug, Default)]
pub(crate) struct Completion<'a> {
    pub(crate) id: Option<Text<'a>>,
    pub(crate) model: Option<Text<'a>>,
    pub(crate) choices: Vec<Choice<'a>>,
    pub(crate) usage: Option<Usage>,
}

/// One of the answers.
#[derive(Debug)]
pub(crate) struct Choice<'a> {
    pub(crate) index: u64,
    pub(crate) parts: Vec<Part<'a>>,
    pub(crate) finish: Finish<'a>,
    pub(crate) logprobs: Vec<TokenLogprob<'a>>,
    pub(crate) citations: Vec<Citation<'a>>,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finish<'a> {
    Stop,
    /// At one of the stop sequences.
    Sequence(Text<'a>),
    Length,
    Tools,
    /// Held back by the provider's filter.
    Filter,
    /// Paused by the provider, to be continued.
    Pause,
}

impl Finish<'_> {
    pub(crate) fn to_owned(&self) -> Finish<'static> {
        match self {
            Self::Stop => Finish::Stop,
            Self::Sequence(text) => Finish::Sequence(text.to_owned()),
            Self::Length => Finish::Length,
            Self::Tools => Finish::Tools,
            Self::Filter => Finish::Filter,
            Self::Pause => Finish::Pause,
        }
    }
}

/// A token of the answer and how likely it was.
#[derive(Debug, Clone)]
pub(crate) struct TokenLogprob<'a> {
    pub(crate) token: Text<'a>,
    pub(crate) logprob: &'a str,
    /// The likeliest in its place.
    pub(crate) top: Vec<(Text<'a>, &'a str)>,
}

/// A piece of a streamed answer.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    /// The answer begins. Comes once, before all others.
    Start {
        id: Option<Text<'a>>,
        model: Option<Text<'a>>,
        usage: Option<Usage>,
    },
    Text {
        choice: u64,
        text: Text<'a>,
    },
    Thinking {
        choice: u64,
        text: Text<'a>,
    },
    /// The proof of the thoughts or, with Gemini, of the text before it.
    Signed {
        choice: u64,
        signature: Signature<'a>,
        thoughts: bool,
    },
    Redacted {
        choice: u64,
        data: Text<'a>,
    },
    Refusal {
        choice: u64,
        text: Text<'a>,
    },
    /// A page that the text refers to.
    Citation {
        choice: u64,
        citation: Citation<'a>,
    },
    /// A call begins. `call` counts the calls of one choice from zero.
    Call {
        choice: u64,
        call: u64,
        id: Text<'a>,
        name: Text<'a>,
        signature: Option<Signature<'a>>,
    },
    Arguments {
        choice: u64,
        call: u64,
        text: Text<'a>,
    },
    /// The arguments of a call are whole.
    CallEnd {
        choice: u64,
        call: u64,
    },
    Logprobs {
        choice: u64,
        tokens: Vec<TokenLogprob<'a>>,
    },
    Finish {
        choice: u64,
        finish: Finish<'a>,
    },
    Usage(Usage),
}
