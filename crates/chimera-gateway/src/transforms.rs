//! Pipelines on the way of a request: which one a call goes through, if any.
//!
//! A pipeline stands around the whole way of a call: the body is transformed before anything else looks
//! at it, and the answer is restored as it is handed out. In between nobody knows: what is fingerprinted,
//! cached, shared and sent is the transformed request and its answer, so that no cache holds what was
//! redacted. A call without a pipeline costs one look at an empty table.

mod api;
mod back;
mod batch;
mod fault;
mod item;
mod moderator;
mod restore;
mod spec;
mod telling;
mod through;

use std::{collections::BTreeMap, sync::Arc};

use chimera_transform::Pipeline;

use crate::{auth::Tenant, context::Context, failure::Failure, route::RouteLabel};

pub(crate) use api::one;
pub(crate) use batch::batch;
pub use batch::transform_line;
use moderator::Moderator;
pub(crate) use restore::Restoring;
pub use spec::{PipelineSpec, SpecError};
pub(crate) use through::{on_pool, through};

/// A pipeline with what stands beside it at a call.
#[derive(Clone)]
pub(crate) struct Chosen {
    pipeline: Pipeline,
    moderator: Option<Arc<Moderator>>,
}

/// The pipelines of a configuration, and whose they are.
#[derive(Default)]
pub struct Transforms {
    by_name: BTreeMap<String, Chosen>,
    of_clients: BTreeMap<String, String>,
    of_routes: BTreeMap<String, String>,
}

impl Transforms {
    /// Adds a pipeline for whom its settings name: clients, and routes by the label that metrics have.
    pub fn add(&mut self, name: &str, spec: &PipelineSpec) -> Result<(), SpecError> {
        let chosen = Chosen { pipeline: spec.build(name)?, moderator: spec.moderator()?.map(Arc::new) };
        self.put(chosen, &spec.routes, &spec.clients)
    }

    /// Adds a pipeline that was made in code, with steps of one's own among its steps.
    pub fn add_pipeline(
        &mut self,
        pipeline: Pipeline,
        routes: &[String],
        clients: &[String],
    ) -> Result<(), SpecError> {
        self.put(Chosen { pipeline, moderator: None }, routes, clients)
    }

    fn put(&mut self, chosen: Chosen, routes: &[String], clients: &[String]) -> Result<(), SpecError> {
        let known = |route: &String| RouteLabel::ALL.iter().any(|label| label.as_str() == route);
        if let Some(route) = routes.iter().find(|route| !known(route)) {
            return Err(SpecError::new("routes", format!("there is no route `{route}`")));
        }
        let name = chosen.pipeline.name().to_owned();
        for (key, these, all) in
            [("clients", clients, &mut self.of_clients), ("routes", routes, &mut self.of_routes)]
        {
            for one in these {
                if all.insert(one.clone(), name.clone()).is_some() {
                    return Err(SpecError::new(key, format!("`{one}` has another pipeline already")));
                }
            }
        }
        self.by_name.insert(name, chosen);
        Ok(())
    }

    /// A pipeline by its name.
    pub fn get(&self, name: &str) -> Option<&Pipeline> {
        self.by_name.get(name).map(|chosen| &chosen.pipeline)
    }

    /// The models that pipelines ask whether a request may pass, by the pipelines' names.
    pub fn moderators(&self) -> impl Iterator<Item = (&str, &str)> {
        self.by_name
            .iter()
            .filter_map(|(name, chosen)| Some((name.as_str(), &*chosen.moderator.as_ref()?.model)))
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The pipeline that the settings put before a call: the client's own before the route's.
    fn set_for(&self, tenant: &Tenant, route: RouteLabel) -> Option<&Chosen> {
        let name = self.of_clients.get(&*tenant.name).or_else(|| self.of_routes.get(route.as_str()))?;
        self.by_name.get(name)
    }
}

/// The pipeline of a call. What the settings say stands; a caller may choose where they say nothing.
pub(crate) fn choose(
    context: &Context<'_>,
    route: RouteLabel,
    asked: Option<&http::HeaderValue>,
) -> Result<Option<Chosen>, Failure> {
    const HEADER: &str = "x-chimera-pipeline";
    let transforms = &context.state.settings.transforms;
    let set = transforms.set_for(&context.tenant, route);
    let Some(asked) = asked else { return Ok(set.cloned()) };
    let found = asked.to_str().ok().and_then(|name| transforms.by_name.get(name));
    match (set, found) {
        (Some(set), Some(found)) if set.pipeline.name() != found.pipeline.name() => {
            Err(Failure::invalid("the pipeline of this call is set by the gateway").param(HEADER).status(403))
        }
        (_, Some(found)) => Ok(Some(found.clone())),
        (_, None) => Err(Failure::invalid("there is no such pipeline").param(HEADER)),
    }
}

/// Whether any call may have a pipeline.
pub(crate) fn is_possible(context: &Context<'_>) -> bool {
    context.arrival.head.pipeline.is_some() || !context.state.settings.transforms.by_name.is_empty()
}

/// What a pipeline adds to everything by which a call is known again.
pub(crate) type Version = Arc<str>;
