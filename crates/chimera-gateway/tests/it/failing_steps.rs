//! U24: a step that fails on the way back, in the middle of a stream.

use std::sync::Arc;

use chimera_gateway::{DialectId, Gateway, Models, Settings};
use chimera_transform::{
    Changes, Channel, Form, Pipeline, Prompt, Seed, Step, StepError, Stepped, Transform, Undo,
};

use crate::{
    dialects::{CALLERS, PROVIDERS, ask, model, stream_answer},
    support::{Answer, Scripted, call, provider},
};

/// A step that takes no answer back that says `there`.
#[derive(Clone, Copy)]
enum Failing {
    Fails,
    Panics,
}

impl Failing {
    fn check(self, text: &str) -> Result<(), StepError> {
        match self {
            _ if !text.contains("there") => Ok(()),
            Self::Fails => Err(StepError::failed("it is broken")),
            Self::Panics => panic!("planted"),
        }
    }
}

impl Transform for Failing {
    fn name(&self) -> &str {
        "failing"
    }

    fn request(&self, _: &Prompt<'_>, _: &mut Changes, _: &Seed) -> Stepped {
        Ok(Some(Box::new(*self)))
    }
}

impl Undo for Failing {
    fn concerns(&self, _: &str) -> bool {
        true
    }

    fn whole(&self, text: &str, _: Form) -> Result<Option<String>, StepError> {
        self.check(text).map(|()| None)
    }

    fn channel(&self, _: Form) -> Box<dyn Channel> {
        Box::new(*self)
    }
}

impl Channel for Failing {
    fn push(&mut self, chunk: &str, out: &mut String) -> Result<(), StepError> {
        self.check(chunk)?;
        out.push_str(chunk);
        Ok(())
    }

    fn end(&mut self, _: &mut String) -> Result<(), StepError> {
        Ok(())
    }
}

fn gateway(dialect: DialectId, upstream: &Arc<Scripted>, step: Failing) -> Gateway {
    let mut models = Models::default();
    models.add_provider(provider("one", dialect, upstream));
    let mut settings = Settings::new(models);
    let pipeline = Pipeline::new("ours", [Step::new(step)]);
    let routes = ["chat_completions", "messages", "responses", "generate_content", "stream_generate_content"];
    settings.transforms.add_pipeline(pipeline, &routes.map(str::to_owned), &[]).unwrap();
    Gateway::new(settings, [7; 32]).unwrap()
}

/// The stream ends with the caller's error event, and nothing in it looks like a proper end or tells what was
/// not to pass.
fn check(caller: DialectId, answer: &Answer, way: &str) {
    let begins_well = answer.body.contains("hello") || way.contains("panics");
    assert_eq!(answer.status, 200, "{way}: {}", answer.body);
    assert!(answer.aborted, "{way}: {}", answer.body);
    assert!(begins_well && !answer.body.contains("there"), "{way}: {}", answer.body);
    for end in ["[DONE]", "message_stop", "finishReason", "\"finish_reason\":\"", "response.completed"] {
        assert!(!answer.body.contains(end), "{way}: {end}: {}", answer.body);
    }
    // Events of Gemini's have its line ends.
    let body = answer.body.replace("\r\n", "\n");
    let last = body.trim_end().rsplit("\n\n").next().unwrap();
    let begins = match caller {
        DialectId::OpenAi | DialectId::Gemini => "data: {\"error\":{",
        DialectId::Anthropic => "event: error\ndata: {\"type\":\"error\",",
        DialectId::Responses => "event: error\ndata: {",
    };
    assert!(last.trim_start().starts_with(begins), "{way}: {last}");
    assert!(body.ends_with("\n\n"), "{way}: the event is whole");
    assert!(caller.dialect().fold(answer.body.as_bytes()).is_err(), "{way}");
}

/// Of a stream that is at hand nothing was told when a step fails: there is a status to say so.
fn check_whole(answer: &Answer, way: &str) {
    assert_eq!((answer.status, answer.aborted), (500, false), "{way}: {}", answer.body);
    assert!(answer.json()["error"].is_object() && !answer.body.contains("there"), "{way}: {}", answer.body);
}

#[tokio::test]
async fn u24_p07_a_step_that_fails_in_mid_stream_ends_it_with_the_dialects_error_event() {
    for (step, how) in [(Failing::Fails, "fails"), (Failing::Panics, "panics")] {
        for caller in CALLERS {
            for dialect in PROVIDERS {
                let upstream = Scripted::answering(stream_answer(dialect));
                let gateway = gateway(dialect, &upstream, step);
                let way = format!("{caller:?} of {dialect:?}, {how}");
                check(caller, &call(&gateway, ask(caller, model(dialect), true)).await, &way);
                let again = call(&gateway, ask(caller, model(dialect), true)).await;
                // What had been read to its end is kept; Gemini's is the end of its bytes, for which nobody waited.
                match dialect {
                    DialectId::Gemini => check(caller, &again, &way),
                    _ => check_whole(&again, &way),
                }
                assert_eq!(upstream.count(), if dialect == DialectId::Gemini { 2 } else { 1 }, "{way}");
            }
        }
    }
}

/// Gemini's array has its error as the last element, and as the only one where nothing else may pass.
#[tokio::test]
async fn u24_a_step_that_fails_in_an_array_ends_it_with_an_error_element() {
    let element = |text: &str, end: &str| {
        format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}],"role":"model"}}{end},"index":0}}]}}"#
        )
    };
    let last = element(" there", r#","finishReason":"STOP""#);
    let first = element("hello", "");
    for (step, array, passes) in [
        (Failing::Fails, format!("[{first},\r\n{last}]"), 1),
        (Failing::Fails, format!("[{last}]"), 0),
        (Failing::Panics, format!("[{last}]"), 0),
    ] {
        let upstream = Scripted::answering(crate::support::unary(200, &array));
        let gateway = gateway(DialectId::Gemini, &upstream, step);
        let body = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;
        let path = "/v1beta/models/gemini-x:streamGenerateContent";
        let answer = call(&gateway, crate::support::post(path, body)).await;
        assert!(answer.aborted, "{}", answer.body);
        // Closed behind the error, so that whoever reads it as a whole can.
        let told = answer.json();
        let told = told.as_array().unwrap();
        assert_eq!(told.len(), passes + 1, "{}", answer.body);
        assert_eq!(told[passes]["error"]["status"], "INTERNAL", "{}", answer.body);
        assert!(!answer.body.contains("there") && !answer.body.contains("STOP"), "{}", answer.body);
        check_whole(&call(&gateway, crate::support::post(path, body)).await, &array);
        assert_eq!(upstream.count(), 1);
    }
}
