//! A step of one's own beside a built-in one, over a chat request, and the answer on its way back.
#![allow(clippy::print_stdout, missing_docs)]

use chimera_transform::{
    Changes, Form, Pipeline, Prompt, Redact, RedactSettings, Role, Seed, Step, StepError, Stepped, Transform,
};

/// Refuses requests that have too many turns.
struct ShortTalk(usize);

impl Transform for ShortTalk {
    fn name(&self) -> &str {
        "short_talk"
    }

    fn version(&self) -> String {
        self.0.to_string()
    }

    fn request(&self, prompt: &Prompt<'_>, changes: &mut Changes, _: &Seed) -> Stepped {
        let asked = prompt.turns().iter().filter(|turn| turn.role() == Role::User).count();
        changes.note("questions", asked as u64);
        match asked > self.0 {
            true => Err(StepError::refused(format!("more than {} questions", self.0))),
            false => Ok(None),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let redact = Redact::new(RedactSettings::default())?;
    let pipeline = Pipeline::new("support", [Step::new(ShortTalk(3)), Step::new(redact)]);
    let body = r#"{"model":"m","messages":[{"role":"user","content":"Call +44 20 7946 0958 about 4111 1111 1111 1111."}]}"#;

    let done = pipeline.run_body(body.as_bytes(), &Seed::random())?;
    let sent = done.output(body);
    println!("sent:   {sent}");
    for step in done.report.iter() {
        println!("report: {} changed={} {:?} in {:?}", step.step, step.changed, step.notes, step.elapsed);
    }

    // A model that repeats what it was asked, in chunks of three characters.
    let mut channel = done.way_back.channel(Form::Text);
    let mut restored = String::new();
    let characters: Vec<char> = sent.chars().collect();
    for chunk in characters.chunks(3) {
        restored.push_str(&channel.push(&chunk.iter().collect::<String>())?);
    }
    restored.push_str(&channel.end()?);
    println!("back:   {restored}");
    assert_eq!(restored, body);
    Ok(())
}
