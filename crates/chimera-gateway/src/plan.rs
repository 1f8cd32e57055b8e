//! What may be done for one request, decided once: from its directives, the route's policy and its time.

use std::{sync::Arc, time::Duration};

use chimera_cache::{Found, Freshness, Lifetime};
use chimera_protocol::Operation;
use http::{HeaderMap, HeaderValue, request::Parts};
use tokio::time::Instant;

use crate::{
    context::Context,
    directives::{self, Directives},
    entry::Entry,
    failure::Failure,
    look::Looked,
    respond::names,
    route::Call,
    settings::CachePolicy,
    upstream::Framing,
};

/// What may be done for one request, decided once.
pub(crate) struct Plan {
    pub(crate) directives: Directives,
    pub(crate) reads: bool,
    pub(crate) stores: bool,
    pub(crate) lifetime: Lifetime,
    /// How long a refusal of the request itself is kept.
    pub(crate) negative: Duration,
    pub(crate) tags: Option<Arc<str>>,
    pub(crate) tier: &'static str,
    pub(crate) tier_deadline: Instant,
    /// The caller's own, if that is sooner.
    pub(crate) deadline: Instant,
}

impl Plan {
    pub(crate) fn new(
        context: &Context<'_>,
        call: &Call<'_>,
        parts: &Parts,
        looked: &Looked,
    ) -> Result<Self, Failure> {
        let settings = &context.state.settings;
        let head = &context.arrival.head;
        let mut directives = match head.has_directives {
            true => Directives::of(&parts.headers),
            false => Directives::default(),
        };
        if let Some(member) = &looked.cache_member {
            directives.add_member(member);
        }
        let tags = if head.has_directives { directives::tags(&parts.headers)? } else { None };
        let cache = settings.cache.on(call.label);
        let allowed = match cache.policy {
            CachePolicy::All => true,
            CachePolicy::Deterministic => looked.deterministic,
            CachePolicy::Off => false,
        };
        let timeouts = &settings.timeouts;
        let (tier, limit) = match (call.operation, looked.form.framing) {
            (Operation::Chat, Framing::Unary) => ("llm", timeouts.llm),
            (Operation::Chat, _) => ("llm", timeouts.first_event.unwrap_or(timeouts.llm)),
            _ => ("standard", timeouts.standard),
        };
        let arrived = context.arrival.at;
        let tier_deadline = arrived + limit;
        let asked = if head.has_timeout { directives::asked_timeout(&parts.headers)? } else { None };
        let deadline = asked.map_or(tier_deadline, |asked| tier_deadline.min(arrived + asked));
        let most = |own: Duration, asked: Option<Duration>| asked.map_or(own, |asked| asked.min(own));
        Ok(Self {
            reads: allowed && !directives.no_cache,
            stores: allowed && !directives.no_store,
            lifetime: Lifetime::fresh(most(cache.ttl, directives.ttl))
                .stale_while_revalidate(cache.stale_while_revalidate)
                .stale_if_error(cache.stale_if_error),
            negative: most(cache.negative_ttl, directives.ttl),
            tags,
            directives,
            tier,
            tier_deadline,
            deadline,
        })
    }

    /// Whether the call may serve others that ask the same. Where it may bring an answer that another gateway was
    /// given, it is not for those who say how old that may be.
    pub(crate) fn shares(&self, has_leases: bool) -> bool {
        self.reads && self.stores && !(has_leases && self.is_choosy())
    }

    /// Whether an answer that is there is not necessarily good enough.
    pub(crate) fn is_choosy(&self) -> bool {
        self.directives.no_cache || self.directives.max_age.is_some()
    }

    pub(crate) fn lookup(&self, context: &Context<'_>, looked: &Looked) -> Option<Found<Arc<Entry>>> {
        if !self.reads {
            return None;
        }
        let now = context.arrival.at.into_std();
        self.welcome(context.gateway.shared.cache.near(&looked.fingerprint, now)?)
    }

    /// A look at the second tier, one for all that ask the same at the same time.
    pub(crate) async fn look_far(&self, context: &Context<'_>, looked: &Looked) -> Option<Found<Arc<Entry>>> {
        self.welcome(context.gateway.shared.cache.far_once(&looked.fingerprint).await?)
    }

    /// A second look, which counts for nothing.
    pub(crate) fn look_again(&self, context: &Context<'_>, looked: &Looked) -> Option<Found<Arc<Entry>>> {
        let now = context.arrival.at.into_std();
        let found = context.gateway.shared.cache.peek(&looked.fingerprint, now)?;
        self.welcome(found).filter(is_fresh)
    }

    pub(crate) fn welcome(&self, found: Found<Arc<Entry>>) -> Option<Found<Arc<Entry>>> {
        if self.directives.refuses(found.age) {
            return None;
        }
        if is_fresh(&found) { Some(found) } else { self.welcome_stale(found) }
    }

    /// A caller's own bounds on what is stale may be narrower than those that it was kept with.
    fn welcome_stale(&self, mut found: Found<Arc<Entry>>) -> Option<Found<Arc<Entry>>> {
        let (directives, stale) = (&self.directives, found.stale_for());
        let within = |bound: Option<Duration>| bound.is_none_or(|bound| stale <= bound);
        if found.freshness == Freshness::WhileRevalidate {
            if within(directives.while_revalidate) {
                return Some(found);
            }
            found.freshness = Freshness::IfError;
            return (stale < self.lifetime.if_error && within(directives.if_error)).then_some(found);
        }
        within(directives.if_error).then_some(found)
    }

    /// An old answer when no provider has given one in so long a time, if it is still welcome then.
    pub(crate) fn stands_in(&self, found: Found<Arc<Entry>>, waited: Duration) -> Option<Found<Arc<Entry>>> {
        found.outlives(waited).and_then(|found| self.welcome(found))
    }

    /// Whether a served answer is to be renewed for those who come next.
    pub(crate) fn renews(&self, found: &Found<Arc<Entry>>) -> bool {
        found.freshness != Freshness::Fresh && self.stores && !self.directives.only_if_cached
    }

    /// Tells a caller who asks by which key its answer is kept, for a purge.
    pub(crate) fn show_key(&self, looked: &Looked, headers: &mut HeaderMap) {
        if self.directives.show_key
            && let Ok(key) = HeaderValue::from_str(&hex(looked.fingerprint.as_bytes()))
        {
            headers.insert(&names::CACHE_KEY, key);
        }
    }

    /// What `x-chimera-cache` says of an answer that a provider gave.
    pub(crate) fn miss(&self) -> HeaderValue {
        HeaderValue::from_static(match (self.reads, self.stores) {
            (true, true) if self.directives.max_age.is_some() => "miss; reason=max-age",
            (true, true) => "miss; reason=cold",
            (true, false) => "miss; reason=no-store",
            (false, true) => "miss; reason=no-cache",
            (false, false) => "bypass",
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether it is served without asking a provider first.
pub(crate) fn is_served(found: &Found<Arc<Entry>>) -> bool {
    found.freshness != Freshness::IfError
}

pub(crate) fn is_fresh(found: &Found<Arc<Entry>>) -> bool {
    matches!(found.freshness, Freshness::Fresh | Freshness::RenewEarly)
}
