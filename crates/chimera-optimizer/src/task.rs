//! A task: the texts to improve, how they are put to work, and the examples that judge them.

use crate::{
    candidate::{Candidate, Digest},
    dataset::{DataLimits, Dataset, Example},
    error::TaskError,
    program::Program,
};

/// Which examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Set {
    /// What proposals are made from.
    Train,
    /// What candidates are chosen by.
    Validation,
    /// What nobody looks at until the search is over.
    HeldOut,
}

impl Set {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::HeldOut => "held-out",
        }
    }
}

/// What is to be improved. Checked when it is made; nothing later finds it wrong.
#[derive(Debug, Clone)]
pub struct Task {
    name: String,
    about: String,
    seed: Candidate,
    program: Program,
    data: Dataset,
    max_text: usize,
}

impl Task {
    /// A task of one prompt that is the model's instruction, under the default limits.
    pub fn prompt(name: &str, prompt: &str, data: Dataset) -> Result<Self, TaskError> {
        let seed = Candidate::new([("instruction", prompt)]);
        let program = Program::single(["instruction"]).map_err(|why| TaskError::new("instruction", why))?;
        Self::new(name, seed, program, data)
    }

    /// A task of several components and a program that uses them, under the default limits.
    pub fn new(name: &str, seed: Candidate, program: Program, data: Dataset) -> Result<Self, TaskError> {
        let task = Self { name: name.into(), about: String::new(), seed, program, data, max_text: 32 << 10 };
        task.check()?;
        Ok(task)
    }

    /// What the task is about, told to whoever proposes texts.
    #[must_use]
    pub fn about(mut self, about: impl Into<String>) -> Self {
        self.about = about.into();
        self
    }

    /// The longest text that a component may become, in bytes. Default 32 KiB.
    #[must_use]
    pub fn max_text(mut self, bytes: usize) -> Self {
        self.max_text = bytes;
        self
    }

    fn check(&self) -> Result<(), TaskError> {
        let wrong = |field: &str, why: String| Err(TaskError::new(field, why));
        if self.name.is_empty() || self.name.len() > 100 {
            return wrong("name", "must have 1 to 100 bytes".into());
        }
        if self.seed.names().len() == 0 || self.seed.names().len() > 32 {
            return wrong("components", "there must be 1 to 32".into());
        }
        for (name, text) in self.seed.iter() {
            let good = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
            if name.is_empty() || name.len() > 60 || name == "input" || !name.chars().all(good) {
                let why = "a name is 1 to 60 letters, digits, `_` and `-`, and not `input`";
                return wrong(&format!("components.{name}"), why.into());
            }
            if text.len() > self.max_text {
                let why = format!("{} bytes, {} are allowed", text.len(), self.max_text);
                return wrong(&format!("components.{name}"), why);
            }
        }
        if let Err(why) = self.program.check(&self.seed) {
            return wrong("stages", why);
        }
        if self.data.train.is_empty() {
            return wrong("train", "there must be at least one example".into());
        }
        if self.data.validation.is_empty() {
            return wrong("validation", "there must be at least one example".into());
        }
        self.check_data(&DataLimits::default())
    }

    fn check_data(&self, limits: &DataLimits) -> Result<(), TaskError> {
        let sets = [Set::Train, Set::Validation, Set::HeldOut];
        let count: usize = sets.iter().map(|set| self.examples(*set).len()).sum();
        if count > limits.examples {
            return Err(TaskError::new("examples", format!("{count}, {} are allowed", limits.examples)));
        }
        let seen: std::collections::HashSet<Digest> =
            self.data.train.iter().chain(&self.data.validation).map(Example::digest).collect();
        match self.data.held_out.iter().find(|example| seen.contains(&example.digest())) {
            Some(leaked) => {
                let why = format!("`{}` is in train or validation as well", leaked.id());
                Err(TaskError::new("held_out", why))
            }
            None => Ok(()),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is about.
    pub fn purpose(&self) -> &str {
        &self.about
    }

    /// The candidate that it begins with.
    pub fn seed(&self) -> &Candidate {
        &self.seed
    }

    /// How candidates are put to work.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The examples of a set.
    pub fn examples(&self, set: Set) -> &[Example] {
        match set {
            Set::Train => &self.data.train,
            Set::Validation => &self.data.validation,
            Set::HeldOut => &self.data.held_out,
        }
    }

    /// The longest text that a component may become.
    pub fn longest_text(&self) -> usize {
        self.max_text
    }

    /// What tells it from every other task.
    pub(crate) fn digest(&self) -> Digest {
        let (seed, program) = (self.seed.digest(), self.program.version());
        let mut parts: Vec<&[u8]> = vec![self.name.as_bytes(), self.about.as_bytes(), &seed.0];
        let max = self.max_text.to_le_bytes();
        parts.extend([program.as_bytes(), &max]);
        let examples: Vec<Digest> = [Set::Train, Set::Validation, Set::HeldOut]
            .into_iter()
            .flat_map(|set| {
                let mark = Digest::of_parts([set.name().as_bytes()]);
                std::iter::once(mark).chain(self.examples(set).iter().map(Example::digest))
            })
            .collect();
        parts.extend(examples.iter().map(|digest| digest.0.as_slice()));
        Digest::of_parts(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> Dataset {
        let set = |from: usize| vec![Example::new("x", from.to_string(), from)];
        Dataset { train: set(0), validation: set(1), held_out: set(2) }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |task: Result<Task, TaskError>| task.unwrap_err().to_string();
        assert_eq!(error(Task::prompt("", "p", data())), "name: must have 1 to 100 bytes");
        let long = "p".repeat(40_000);
        assert_eq!(
            error(Task::prompt("t", &long, data())),
            "components.instruction: 40000 bytes, 32768 are allowed"
        );
        let none = Dataset { train: vec![], ..data() };
        assert_eq!(error(Task::prompt("t", "p", none)), "train: there must be at least one example");
        let leak = Dataset { held_out: data().train, ..data() };
        assert_eq!(error(Task::prompt("t", "p", leak)), "held_out: `x` is in train or validation as well");
    }

    #[test]
    fn another_example_makes_another_task() {
        let one = Task::prompt("t", "p", data()).unwrap().digest();
        let more = Dataset { held_out: vec![], ..data() };
        assert_ne!(one, Task::prompt("t", "p", more).unwrap().digest());
        assert_eq!(one, Task::prompt("t", "p", data()).unwrap().digest());
    }
}
