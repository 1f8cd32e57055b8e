//! Connection pools, fail-over and deadlines over deployments of HTTP providers
