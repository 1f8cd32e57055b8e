//! The command line.

use std::{error::Error, ffi::OsString, time::Duration};

use lexopt::{Arg, Parser, ValueExt};

/// What the driver asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A few prompts over and over, so that a cache answers.
    Hit,
    /// A new prompt every time.
    Miss,
    /// A new prompt every time, answered as a stream.
    Stream,
    /// The same of an Anthropic caller.
    Messages,
}

impl Mode {
    /// The path that it asks at, unless another is given.
    fn path(self) -> &'static str {
        match self {
            Self::Messages => "/v1/messages",
            Self::Hit | Self::Miss | Self::Stream => "/v1/chat/completions",
        }
    }

    /// The end of a complete answer, where it is a stream.
    pub(crate) fn end(self) -> Option<&'static [u8]> {
        match self {
            Self::Hit | Self::Miss => None,
            Self::Stream => Some(b"data: [DONE]\n\n"),
            Self::Messages => Some(b"data: {\"type\":\"message_stop\"}\n\n"),
        }
    }
}

/// All options of all subcommands; each reads the ones it knows.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) command: String,
    pub(crate) listen: String,
    pub(crate) upstream: String,
    pub(crate) target: String,
    pub(crate) path: String,
    pub(crate) mode: Mode,
    pub(crate) connections: usize,
    pub(crate) seconds: f64,
    pub(crate) requests: Option<u64>,
    pub(crate) rate: Option<f64>,
    pub(crate) streams: usize,
    pub(crate) events: usize,
    pub(crate) gap: Duration,
    pub(crate) delay: Duration,
    pub(crate) one_write: bool,
}

impl Options {
    /// Reads a subcommand and its options.
    pub(crate) fn parse(args: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            command: String::new(),
            listen: "127.0.0.1:0".into(),
            upstream: String::new(),
            target: String::new(),
            path: String::new(),
            mode: Mode::Miss,
            connections: 64,
            seconds: 5.0,
            requests: None,
            rate: None,
            streams: 0,
            events: 64,
            gap: Duration::ZERO,
            delay: Duration::ZERO,
            one_write: false,
        };
        let mut parser = Parser::from_args(args);
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Value(value) if options.command.is_empty() => options.command = value.string()?,
                Arg::Long(name) => {
                    let name = name.to_owned();
                    options.set(&name, &mut parser)?;
                }
                other => return Err(other.unexpected().into()),
            }
        }
        if options.path.is_empty() {
            options.path = options.mode.path().into();
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, parser: &mut Parser) -> Result<(), Box<dyn Error>> {
        let millis = |value: u64| Duration::from_millis(value);
        match name {
            "listen" => self.listen = parser.value()?.string()?,
            "upstream" => self.upstream = parser.value()?.string()?,
            "target" => self.target = parser.value()?.string()?,
            "path" => self.path = parser.value()?.string()?,
            "mode" => self.mode = mode(&parser.value()?.string()?)?,
            "connections" => self.connections = parser.value()?.parse()?,
            "seconds" => self.seconds = parser.value()?.parse()?,
            "requests" => self.requests = Some(parser.value()?.parse()?),
            "rate" => self.rate = Some(parser.value()?.parse()?),
            "streams" => self.streams = parser.value()?.parse()?,
            "events" => self.events = parser.value()?.parse()?,
            "gap-ms" => self.gap = millis(parser.value()?.parse()?),
            "delay-ms" => self.delay = millis(parser.value()?.parse()?),
            "one-write" => self.one_write = true,
            other => return Err(format!("unknown option `--{other}`").into()),
        }
        Ok(())
    }
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "hit" => Ok(Mode::Hit),
        "miss" => Ok(Mode::Miss),
        "stream" => Ok(Mode::Stream),
        "messages" => Ok(Mode::Messages),
        other => Err(format!("unknown mode `{other}`")),
    }
}
