//! Nothing: this package is its bench, and its peers are out of everybody's way here.
