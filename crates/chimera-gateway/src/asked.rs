//! From a request that was looked at to the call that answers it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderValue;
use tokio::time::Instant;

use crate::{
    context::Context,
    failure::{Code, Failure},
    keep::Keep,
    load::Load,
    look::Language,
    mixed::Asking,
    models::Resolved,
    plan::Plan,
    route::Call,
    set_aside::SetAside,
    traces::Calling,
    upstream::Outgoing,
};

/// What of a request its call is made of.
pub(crate) struct Asked {
    pub(crate) query: &'static str,
    pub(crate) headers: Vec<(http::HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
    /// Where the model is served, if that was looked up already.
    pub(crate) resolved: Option<Resolved>,
    /// Where it is traced.
    pub(crate) calling: Option<Calling>,
}

/// For whom an answer is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeepFor {
    /// A caller who waits for it.
    Caller,
    /// One who gets an old answer if there is no other: a refusal does not take its place.
    StaleCaller,
    /// Those who come next.
    Renewal,
}

/// The call that answers a request.
pub(crate) fn load_of(
    context: &Context<'_>,
    call: &Call<'_>,
    plan: &Plan,
    asking: &Asking,
    asked: Asked,
    keep_for: KeepFor,
) -> Result<Load, Failure> {
    let (shared, looked) = (&context.gateway.shared, &*asking.looked);
    let Asked { query, headers, body, resolved, calling } = asked;
    let resolved = match resolved {
        Some(resolved) => resolved,
        None => context.state.settings.models.resolve(&looked.model).ok_or_else(|| {
            Failure::new(Code::ModelNotFound, "no provider serves this model").param("model")
        })?,
    };
    // A shared call has the tier's deadline, whoever began it: only its own being shorter is neutral.
    let is_shared = plan.shares(shared.cache.has_leases()) || keep_for == KeepFor::Renewal;
    let deadline = if is_shared { plan.tier_deadline } else { plan.deadline };
    Ok(Load {
        shared: shared.clone(),
        state: context.state.clone(),
        tenant: context.tenant.clone(),
        background: context.arrival.background,
        group: resolved.group,
        mixed: asking.mixed.clone(),
        outgoing: match &looked.language {
            Language::Foreign(foreign) => foreign.outgoing(headers, resolved.model),
            _ => Outgoing {
                dialect: call.dialect,
                verb: call.verb,
                query,
                headers,
                body,
                same_name: resolved.model == looked.model,
                model: resolved.model,
                model_range: looked.model_range.clone(),
                edits: looked.edits.clone(),
            },
        },
        operation: call.operation,
        framing: looked.form.framing,
        strip_usage: looked.strip_usage,
        keep: plan.stores.then(|| Keep {
            fingerprint: looked.fingerprint,
            lifetime: plan.lifetime,
            negative: if keep_for == KeepFor::Caller { plan.negative } else { Duration::ZERO },
            tags: plan.tags.clone(),
            renews: keep_for == KeepFor::Renewal || plan.is_choosy(),
            ticket: shared.cache.ticket(&looked.fingerprint),
        }),
        lease: None,
        set_aside: SetAside::default(),
        calling,
        tries: (plan.deadline < deadline).then(Arc::default),
        deadline,
        shortened: deadline < plan.tier_deadline,
        tier: plan.tier,
        worker: context.gateway.worker_index(),
        began: Instant::now(),
    })
}
