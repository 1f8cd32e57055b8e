//! A lock-free circuit breaker with permits, sliding windows and bounded probes
