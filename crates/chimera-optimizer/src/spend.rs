//! What calls cost: tokens and money, counted in whole units so that sums do not depend on their order.

use std::ops::{Add, AddAssign};

/// What a call cost, or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Spend {
    /// Tokens that the model read.
    pub input_tokens: u64,
    /// Tokens that it wrote.
    pub output_tokens: u64,
    /// Money in billionths of a dollar.
    pub nanodollars: u64,
}

impl Spend {
    /// So many tokens, at no price.
    pub fn tokens(input: u64, output: u64) -> Self {
        Self { input_tokens: input, output_tokens: output, nanodollars: 0 }
    }

    /// The same tokens at a price.
    pub fn at(self, price: Price) -> Self {
        let dollars_per_million =
            self.input_tokens as f64 * price.input + self.output_tokens as f64 * price.output;
        Self { nanodollars: (dollars_per_million * 1000.0).round() as u64, ..self }
    }

    /// Tokens read and written.
    pub fn all_tokens(self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// Money in dollars, for people.
    pub fn dollars(self) -> f64 {
        self.nanodollars as f64 / 1e9
    }
}

impl Add for Spend {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            nanodollars: self.nanodollars.saturating_add(other.nanodollars),
        }
    }
}

impl AddAssign for Spend {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// What a million tokens of a model cost, in dollars.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Price {
    /// A million tokens read.
    pub input: f64,
    /// A million tokens written.
    pub output: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_for_a_million_tokens() {
        let spend = Spend::tokens(1_000_000, 500_000).at(Price { input: 0.15, output: 0.60 });
        assert_eq!(spend.nanodollars, 450_000_000);
        assert!((spend.dollars() - 0.45).abs() < 1e-12);
        assert_eq!((spend + spend).all_tokens(), 3_000_000);
    }
}
