//! The strategies that come with the crate.

mod bandit;
mod blind;
mod gradient;
mod merge;
mod minibatch;
mod promotion;
mod reflective;

pub use bandit::{Bandit, BanditSettings};
pub use blind::{Random, RandomSettings};
pub use gradient::{Gradient, GradientSettings};
pub use reflective::{Reflective, ReflectiveSettings};
