//! Which keys rest after an answer, and for how long.

use std::time::{Duration, SystemTime};

use http::response;
use tokio::time::Instant;

use crate::{
    classify::{Refusal, RefusalKind},
    deployment::Deployment,
    keys::KeyIndex,
    learnt,
    parking::KeyRest,
    random::Random,
};

/// How long a key rests after 429 when the provider named no time.
const THROTTLED_REST: Duration = Duration::from_secs(1);
/// A shorter wait than this is none: a time that has passed, or zero.
const SHORTEST_REST: Duration = Duration::from_millis(10);
/// The longest rest a provider can ask for.
const LONGEST_REST: Duration = Duration::from_secs(300);
/// How long a refused credential rests.
const CREDENTIAL_REST: Duration = Duration::from_secs(60);
/// How long a key rests whose account has spent what it may: that takes somebody's doing, or a new month.
const QUOTA_REST: Duration = Duration::from_secs(300);

/// Rests the key that was refused, or the provider without keys, for the model or for all; true when the provider has
/// another one that may be tried.
pub(crate) fn rest(deployment: &Deployment, model: u64, refusal: &Refusal, key: Option<KeyIndex>) -> bool {
    let (keys, model) = (&deployment.provider().keys, deployment.key_rests.of(model));
    let now = Instant::now().into_std();
    let asked = refusal.retry_after.filter(|wait| *wait >= SHORTEST_REST);
    let asked = asked.map(|wait| wait.min(LONGEST_REST));
    let Some(key) = key else {
        let rest = match refusal.kind {
            RefusalKind::Throttled => asked.map(|wait| (KeyRest::Throttled, wait)),
            RefusalKind::Quota => Some((KeyRest::Quota, QUOTA_REST)),
            _ => None,
        };
        if let Some((why, wait)) = rest {
            keys.park_keyless(model, wait, why, now);
        }
        return false;
    };
    let (why, wait) = match (refusal.kind, asked) {
        (RefusalKind::Fault | RefusalKind::Unfit | RefusalKind::Rightful, _) => return false,
        (RefusalKind::Credentials, _) => (KeyRest::Refused, CREDENTIAL_REST),
        (RefusalKind::Payment, _) => (KeyRest::Payment, CREDENTIAL_REST),
        (RefusalKind::Quota, _) => (KeyRest::Quota, QUOTA_REST),
        (RefusalKind::Throttled, Some(wait)) => (KeyRest::Throttled, wait),
        // Without a time worth the name a lone key is not rested: that would refuse everybody for a guess.
        (RefusalKind::Throttled, None) if keys.len() > 1 => (KeyRest::Throttled, THROTTLED_REST),
        (RefusalKind::Throttled, None) => return false,
    };
    keys.park(key, model, wait, why, now);
    keys.awake(model, now) > 0
}

/// Passes a deployment over that throttles and names no time, where others can stand in for it: its
/// breaker does not count that, and each request that found out anew would cost a retry.
pub(crate) fn stand_back(deployment: &Deployment, refusal: &Refusal, random: &Random) {
    let named = refusal.retry_after.is_some_and(|wait| wait >= SHORTEST_REST);
    if refusal.kind == RefusalKind::Throttled && !named {
        let most = THROTTLED_REST.as_millis() as u64;
        // Between half and all of it, so that gateways side by side do not come back together.
        let rest = Duration::from_millis(most / 2 + random.below(most / 2));
        deployment.rest(rest, Instant::now());
    }
}

/// Notes what the provider says is left of a key, and rests one of which that is next to nothing: while others have
/// more, or when nothing is left at all.
pub(crate) fn learn(deployment: &Deployment, model: u64, key: Option<KeyIndex>, parts: &response::Parts) {
    let provider = deployment.provider();
    let Some(key) = key.filter(|_| provider.learns) else { return };
    provider.keys.note(key, learnt::told(&parts.headers));
    let Some(low) = learnt::low(&parts.headers, SystemTime::now()) else { return };
    let (model, now) = (deployment.key_rests.of(model), Instant::now().into_std());
    if (low.empty || provider.keys.awake(model, now) > 1) && low.reset >= SHORTEST_REST {
        provider.keys.park(key, model, low.reset.min(LONGEST_REST), KeyRest::NearlyUsed, now);
    }
}
