//! What a reload leaves as it is: connections, breakers, rested keys and used limits of whatever is
//! configured as before.

use std::sync::Arc;

use chimera_gateway::{ModelProvider, Models, Settings, Tenant};
use chimera_provider_pool::{Credential, Group};

use crate::config::{Client, File};

/// The configuration in force, and what was made of it.
pub(crate) struct InForce<'a> {
    pub(crate) file: &'a File,
    pub(crate) settings: &'a Settings,
}

impl InForce<'_> {
    /// The provider in force, where `new` is made of the same. A secret in the environment or in a file
    /// may have changed although the configuration names the same place, so the secrets themselves are
    /// compared; a provider with certificates of its own is made anew, for they may have changed too.
    pub(crate) fn provider(&self, file: &File, new: &ModelProvider) -> Option<Arc<ModelProvider>> {
        let name = new.provider.name();
        let (given, before) = (file.providers.get(name), self.file.providers.get(name));
        let has_roots = given.is_some_and(|given| given.ca_file.is_some());
        if given != before
            || has_roots
            || file.breaker != self.file.breaker
            || file.timeouts.connect != self.file.timeouts.connect
        {
            return None;
        }
        let held = self.settings.models.provider(name)?;
        let same = secrets(held).eq(secrets(new));
        same.then(|| held.clone())
    }

    /// The group in force, where `new` is made of the same and all its providers are kept.
    pub(crate) fn group(&self, file: &File, models: &Models, new: &Group) -> Option<Arc<Group>> {
        let name = new.name();
        if file.groups.get(name) != self.file.groups.get(name) || file.breaker != self.file.breaker {
            return None;
        }
        let held = self.settings.models.group(name)?;
        let is_kept = |provider: &str| {
            let before = self.settings.models.provider(provider);
            models.provider(provider).zip(before).is_some_and(|(now, before)| Arc::ptr_eq(now, before))
        };
        held.deployments()
            .iter()
            .all(|deployment| is_kept(deployment.provider().name()))
            .then(|| held.clone())
    }

    /// The tenant in force, where its limits are the same: what it has used of them stays used.
    pub(crate) fn tenant(&self, name: &str, client: &Client) -> Option<Arc<Tenant>> {
        let before = self.file.clients.get(name)?;
        let limits =
            |client: &Client| (client.requests_per_minute, client.tokens_per_minute, client.concurrency);
        if limits(before) != limits(client) {
            return None;
        }
        self.settings.tenants.tenant(name).cloned()
    }
}

fn secrets(provider: &ModelProvider) -> impl Iterator<Item = &str> {
    provider.provider.keys().credentials().map(Credential::secret).map(|secret| secret.expose())
}
