//! The request path of the gateway: route, authenticate, cache, pool, respond
