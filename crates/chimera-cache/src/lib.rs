//! A tiered cache with one computation per key
