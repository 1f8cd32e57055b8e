//! Tests of pipelines.

use super::*;
use crate::way_back::Undo;

/// Adds a letter on the way in and takes it off the end on the way back.
struct Letter(char);

struct TakeOff(char);

impl Undo for TakeOff {
    fn concerns(&self, _: &str) -> bool {
        true
    }

    fn whole(&self, text: &str, _: crate::Form) -> Result<Option<String>, StepError> {
        let text = text.strip_suffix(self.0).ok_or_else(|| StepError::failed("in the wrong order"))?;
        Ok(Some(text.to_owned()))
    }

    fn channel(&self, _: crate::Form) -> Box<dyn crate::Channel> {
        Box::new(Late(self.0, String::new()))
    }
}

struct Late(char, String);

impl crate::Channel for Late {
    fn push(&mut self, chunk: &str, _: &mut String) -> Result<(), StepError> {
        self.1.push_str(chunk);
        Ok(())
    }

    fn end(&mut self, out: &mut String) -> Result<(), StepError> {
        let whole = TakeOff(self.0).whole(&self.1, crate::Form::Text)?;
        out.push_str(&whole.unwrap_or_default());
        Ok(())
    }
}

impl Transform for Letter {
    fn name(&self) -> &str {
        "letter"
    }

    fn version(&self) -> String {
        self.0.to_string()
    }

    fn request(&self, prompt: &Prompt<'_>, changes: &mut Changes, _: &Seed) -> Stepped {
        for (index, part) in prompt.parts() {
            changes.replace(index, format!("{}{}", part.text(), self.0));
            changes.note("letters", 1);
        }
        Ok(Some(Box::new(TakeOff(self.0))))
    }
}

/// Fails after it wanted something changed.
struct Fails(fn() -> Stepped);

impl Transform for Fails {
    fn name(&self) -> &str {
        "fails"
    }

    fn request(&self, _: &Prompt<'_>, changes: &mut Changes, _: &Seed) -> Stepped {
        changes.replace(0, "half-done".to_owned());
        (self.0)()
    }
}

fn seed() -> Seed {
    Seed::derive(&[7; 32], "test")
}

#[test]
fn steps_run_in_order_and_answers_come_back_in_reverse() {
    let pipeline = Pipeline::new("p", [Step::new(Letter('a')), Step::new(Letter('b'))]);
    let done = pipeline.run_text("x", &seed()).unwrap();
    assert_eq!(done.text.as_deref(), Some("xab"));
    assert_eq!(done.way_back.whole("xab", crate::Form::Text).unwrap().as_deref(), Some("x"));
    assert!(done.way_back.whole("xba", crate::Form::Text).is_err());
    let mut channel = done.way_back.channel(crate::Form::Text);
    assert_eq!(["x", "a", "b"].map(|chunk| channel.push(chunk).unwrap()).concat(), "");
    assert_eq!(channel.end().unwrap(), "x");
    assert_eq!(pipeline.described(), "letter, letter");
    let noted: Vec<_> = done.report.iter().map(|step| (step.changed, step.notes.get("letters"))).collect();
    assert_eq!(noted, [(true, 1), (true, 1)]);
}

#[test]
fn without_steps_nothing_is_altered() {
    let pipeline = Pipeline::new("none", []);
    let done = pipeline.run_body(br#"{"messages":[{"role":"user","content":"x"}]}"#, &seed()).unwrap();
    assert!(done.text.is_none() && done.way_back.is_empty() && done.report.is_empty());
}

#[test]
fn a_failing_step_fails_closed_or_open() {
    let failing: [fn() -> _; 2] = [|| Err(StepError::failed("no")), || panic!("on purpose")];
    for fails in failing {
        let closed = Pipeline::new("p", [Step::new(Fails(fails))]);
        let stopped = closed.run_text("x", &seed()).unwrap_err();
        assert!(!stopped.is_refusal(), "{stopped}");
        let open =
            Pipeline::new("p", [Step::new(Fails(fails)).on_failure(OnFailure::Open), Step::new(Letter('a'))]);
        let done = open.run_text("x", &seed()).unwrap();
        assert_eq!(done.text.as_deref(), Some("xa"));
        assert!(done.report[0].failed.is_some() && !done.report[0].changed);
    }
}

#[test]
fn what_is_refused_on_purpose_is_refused_when_open_too() {
    let step = Step::new(Fails(|| Err(StepError::refused("no")))).on_failure(OnFailure::Open);
    assert!(Pipeline::new("p", [step]).run_text("x", &seed()).unwrap_err().is_refusal());
}

#[test]
fn the_version_names_every_step_and_setting() {
    let version = |steps: Vec<Step>| Pipeline::new("p", steps).version().to_owned();
    let letter = |c| Step::new(Letter(c));
    let versions = [
        version(vec![letter('a')]),
        version(vec![letter('b')]),
        version(vec![letter('a'), letter('b')]),
        version(vec![letter('b'), letter('a')]),
        version(vec![letter('a').on_failure(OnFailure::Open)]),
    ];
    for (index, one) in versions.iter().enumerate() {
        assert!(!versions[index + 1..].contains(one));
    }
    assert_eq!(versions[0], version(vec![letter('a')]));
}

#[test]
fn steps_say_where_they_work() {
    let of = |place| Pipeline::new("p", [Step::new(Letter('a')).place(place)]);
    assert!(!of(Place::Inline).wants_pool(usize::MAX, 0));
    assert!(of(Place::Pool).wants_pool(0, 10));
    assert!(of(Place::BySize).wants_pool(11, 10) && !of(Place::BySize).wants_pool(10, 10));
}
