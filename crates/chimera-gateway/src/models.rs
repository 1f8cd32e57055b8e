//! Model names: which group of deployments serves one, and what the provider calls it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chimera_protocol::DialectId;
use chimera_provider_pool::{Deployment, Group, Provider};
use foldhash::fast::RandomState;

/// A provider as the gateway knows it: its connections and the dialects it speaks.
pub struct ModelProvider {
    /// Its connections and credentials.
    pub provider: Arc<Provider>,
    /// The dialects it speaks natively.
    pub dialects: Vec<DialectId>,
    /// The deployment used for `provider/model` and for bare names: it sends the caller's model name.
    pub group: Arc<Group>,
    /// Bare model names that belong to it; a trailing `*` matches any rest.
    pub patterns: Vec<String>,
    /// Whether a streamed OpenAI request that does not ask for usage is made to ask. Default yes: an
    /// answer without usage can be neither billed nor served to unary callers from the cache.
    pub ask_usage: bool,
    /// After its last caller has left a stream, for how long the rest is still read, because usage comes at
    /// its end and the provider bills it either way. Default zero: the call ends at once.
    pub drain_for_usage: Duration,
}

/// The providers and groups of a gateway.
#[derive(Default)]
pub struct Models {
    providers: Vec<Arc<ModelProvider>>,
    by_name: HashMap<String, Arc<ModelProvider>, RandomState>,
    groups: HashMap<String, Arc<Known>, RandomState>,
    by_deployment: HashMap<String, Arc<ModelProvider>, RandomState>,
}

/// Where a request goes.
#[derive(Clone)]
pub(crate) struct Resolved {
    pub(crate) group: Arc<Group>,
    /// The model name to send where a deployment sets none; the caller's without its provider prefix.
    pub(crate) model: String,
    /// The first provider of the group.
    pub(crate) provider: Arc<ModelProvider>,
    /// The configured group, where the name is one.
    known: Option<Arc<Known>>,
}

/// A configured group, and what follows from it.
struct Known {
    group: Arc<Group>,
    /// The first provider of the group.
    provider: Arc<ModelProvider>,
    /// The dialects that every deployment of the group speaks.
    dialects: Vec<DialectId>,
    /// Whether some deployment speaks responses.
    responses: bool,
    /// Its name and its deployments': configured anew, it has other answers.
    identity: String,
}

impl Resolved {
    pub(crate) fn speaks(&self, dialect: DialectId) -> bool {
        self.dialects().contains(&dialect)
    }

    fn dialects(&self) -> &[DialectId] {
        self.known.as_ref().map_or(&self.provider.dialects, |known| &known.dialects)
    }

    /// The dialect of the first deployment, where no dialect is common to all. Callers of each share
    /// their answers by what their request is in this one.
    ///
    /// Responses cannot be translated into another dialect: their callers share nothing where some
    /// deployment may answer them natively.
    pub(crate) fn home(&self, caller: DialectId) -> Option<DialectId> {
        let known = self.known.as_ref().filter(|known| known.is_mixed())?;
        let alone = caller == DialectId::Responses && known.responses;
        if alone { Some(caller) } else { translatable(&self.provider.dialects) }
    }

    pub(crate) fn is_mixed(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.is_mixed())
    }

    /// The model as the first deployment knows it.
    pub(crate) fn first_model(&self) -> &str {
        let first = self.group.deployments().first().and_then(|deployment| deployment.model());
        first.unwrap_or(&self.model)
    }

    /// Who may answer, as part of the cache key.
    pub(crate) fn identity(&self) -> &str {
        self.known.as_ref().map_or(self.provider.provider.name(), |known| &known.identity)
    }

    /// The dialect in which callers of another are served: one that every deployment speaks, and that
    /// can be translated into.
    pub(crate) fn common_dialect(&self) -> Option<DialectId> {
        translatable(self.dialects())
    }
}

impl Known {
    fn is_mixed(&self) -> bool {
        translatable(&self.dialects).is_none()
    }
}

/// The first dialect that requests can be translated into.
fn translatable(dialects: &[DialectId]) -> Option<DialectId> {
    dialects.iter().copied().find(|dialect| *dialect != DialectId::Responses)
}

impl Models {
    /// Adds a provider under its configured name.
    pub fn add_provider(&mut self, provider: impl Into<Arc<ModelProvider>>) {
        let provider = provider.into();
        let name = provider.provider.name().to_owned();
        for deployment in provider.group.deployments() {
            self.by_deployment.insert(deployment.name().to_owned(), provider.clone());
        }
        self.by_name.insert(name, provider.clone());
        self.providers.push(provider);
    }

    /// Adds a model group. Its deployments must belong to providers that were added; a group of which
    /// none does serves nobody.
    pub fn add_group(&mut self, group: Arc<Group>) {
        for deployment in group.deployments() {
            if let Some(provider) = self.by_name.get(deployment.provider().name()) {
                self.by_deployment.insert(deployment.name().to_owned(), provider.clone());
            }
        }
        let mut providers = group.deployments().iter().filter_map(|deployment| self.of(deployment));
        let Some(provider) = providers.next().cloned() else { return };
        let mut dialects = provider.dialects.clone();
        let mut responses = dialects.contains(&DialectId::Responses);
        for other in providers {
            responses |= other.dialects.contains(&DialectId::Responses);
            dialects.retain(|dialect| other.dialects.contains(dialect));
        }
        let names: Vec<_> = group.deployments().iter().map(|deployment| deployment.name()).collect();
        let identity = format!("{}={}", group.name(), names.join(","));
        let name = group.name().to_owned();
        self.groups.insert(name, Arc::new(Known { group, provider, dialects, responses, identity }));
    }

    /// The providers in configured order.
    pub fn providers(&self) -> &[Arc<ModelProvider>] {
        &self.providers
    }

    /// A provider by its configured name.
    pub fn provider(&self, name: &str) -> Option<&Arc<ModelProvider>> {
        self.by_name.get(name)
    }

    /// A configured group by its name.
    pub fn group(&self, name: &str) -> Option<&Arc<Group>> {
        self.groups.get(name).map(|known| &known.group)
    }

    /// The names of the groups, sorted.
    pub fn group_names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.groups.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Every group once, those of a single provider first, in a stable order.
    pub fn every_group(&self) -> impl Iterator<Item = &Arc<Group>> {
        let own = self.providers.iter().map(|provider| &provider.group);
        let mut groups: Vec<_> = self.groups.values().map(|known| &known.group).collect();
        groups.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        own.chain(groups)
    }

    /// Every deployment once, in a stable order.
    pub fn deployments(&self) -> Vec<Arc<Deployment>> {
        self.every_group().flat_map(|group| group.deployments()).cloned().collect()
    }

    /// The provider behind a deployment.
    pub(crate) fn of(&self, deployment: &Deployment) -> Option<&Arc<ModelProvider>> {
        self.by_deployment.get(deployment.name())
    }

    /// The dialect in which a deployment is asked for a caller: the caller's own where it is spoken.
    pub(crate) fn language(&self, deployment: &Deployment, caller: DialectId) -> DialectId {
        let dialects = self.of(deployment).map_or(&[][..], |provider| &provider.dialects);
        if dialects.contains(&caller) { caller } else { translatable(dialects).unwrap_or(caller) }
    }

    /// Whether some provider serves a model.
    pub fn serves(&self, model: &str) -> bool {
        self.resolve(model).is_some()
    }

    /// A group's name first, then `provider/model`, then a bare name by pattern, the longest first.
    pub(crate) fn resolve(&self, model: &str) -> Option<Resolved> {
        if let Some(known) = self.groups.get(model) {
            return Some(Resolved {
                group: known.group.clone(),
                model: model.to_owned(),
                provider: known.provider.clone(),
                known: Some(known.clone()),
            });
        }
        let prefixed = model.split_once('/').and_then(|(name, rest)| {
            let provider = self.by_name.get(name).filter(|_| !rest.is_empty())?;
            Some((provider, rest))
        });
        let (provider, model) = match prefixed {
            Some(found) => found,
            None => (self.by_pattern(model)?, model),
        };
        Some(Resolved {
            group: provider.group.clone(),
            model: model.to_owned(),
            provider: provider.clone(),
            known: None,
        })
    }

    fn by_pattern(&self, model: &str) -> Option<&Arc<ModelProvider>> {
        let longest = |provider: &Arc<ModelProvider>| {
            provider.patterns.iter().filter(|pattern| matches(pattern, model)).map(String::len).max()
        };
        self.providers
            .iter()
            .filter_map(|provider| Some((longest(provider)?, provider)))
            .rev()
            .max_by_key(|(length, _)| *length)
            .map(|(_, provider)| provider)
    }
}

fn matches(pattern: &str, model: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => model.starts_with(prefix),
        None => model == pattern,
    }
}
