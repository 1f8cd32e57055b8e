//! Calls of a group whose deployments speak different dialects.
//!
//! Each attempt is made in the dialect of the deployment that is tried: with the caller's own bytes where
//! it speaks the caller's dialect, with a translation, made only then, where it does not. A deployment
//! that the request cannot be put to is passed over. What comes back says in which dialect it is, and
//! each caller is handed its own.
//!
//! The fingerprint is that of the request in the first deployment's dialect, so that callers of every
//! dialect share their answers, and callers of that one pay nothing for it. Where the request cannot be
//! put into that dialect, it is the caller's own.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use chimera_protocol::{DialectId, json};
use chimera_provider_pool::Deployment;
use http::{HeaderName, HeaderValue, Request};

use crate::{
    aside::{LARGE_REQUEST, aside},
    failure::{Code, Failure},
    gateway::State,
    load::Provenance,
    look::{Language, Looked},
    translate::{Asked, Foreign},
    upstream::{Framing, Outgoing},
};

/// What was found of a request, and what puts its answer into the caller's dialect.
pub(crate) struct Asking {
    pub(crate) looked: Arc<Looked>,
    /// Where the deployments speak different dialects.
    pub(crate) mixed: Option<Arc<Mixed>>,
}

impl Asking {
    pub(crate) fn new(
        state: &Arc<State>,
        looked: Arc<Looked>,
        headers: &[(HeaderName, HeaderValue)],
        body: &Bytes,
    ) -> Self {
        let mixed = match &looked.language {
            Language::Mixed { asked, first } => Some(Arc::new(Mixed {
                state: state.clone(),
                asked: *asked,
                headers: headers.to_vec(),
                body: body.clone(),
                model: looked.model.clone(),
                made: Mutex::new(Made {
                    translations: first.iter().cloned().collect(),
                    refusals: Vec::new(),
                }),
            })),
            Language::Own | Language::Foreign(_) | Language::Counted { .. } => None,
        };
        Self { looked, mixed }
    }

    /// What puts an answer into the caller's dialect; `None` where it is in it.
    pub(crate) fn foreign(&self, provenance: &Provenance) -> Result<Option<Arc<Foreign>>, Failure> {
        self.foreign_of(provenance.dialect, &provenance.model)
    }

    /// The same of an answer in a dialect, given by a model.
    pub(crate) fn foreign_of(
        &self,
        dialect: DialectId,
        model: &HeaderValue,
    ) -> Result<Option<Arc<Foreign>>, Failure> {
        match (&self.looked.language, &self.mixed) {
            (Language::Foreign(foreign), _) => Ok(Some(foreign.clone())),
            (_, Some(mixed)) => mixed.foreign(dialect, model.to_str().unwrap_or_default()),
            _ => Ok(None),
        }
    }
}

/// One caller's call, in as many dialects as it had to be put into.
pub(crate) struct Mixed {
    state: Arc<State>,
    asked: Asked,
    /// The caller's headers that may go on.
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    /// The model for deployments that set none.
    model: String,
    made: Mutex<Made>,
}

/// The translations that were made so far, and those that could not be.
struct Made {
    translations: Vec<Arc<Foreign>>,
    /// Into which dialect, for which model, and why not.
    refusals: Vec<(DialectId, String, Failure)>,
}

impl Mixed {
    /// In what a deployment is asked and answers.
    pub(crate) fn spoken(&self, deployment: &Deployment) -> (DialectId, Framing) {
        let caller = self.asked.caller;
        let dialect = self.state.settings.models.language(deployment, caller);
        let framing = match self.asked.form.framing {
            Framing::Array if dialect != caller => Framing::Events,
            framing => framing,
        };
        (dialect, framing)
    }

    /// Puts a large call into every dialect that it may be asked in, beside the event loop: when a
    /// deployment is picked, there is no time to wait.
    pub(crate) async fn prepare(self: &Arc<Self>, deployments: &[Arc<Deployment>]) {
        if self.body.len() <= LARGE_REQUEST {
            return;
        }
        let (mixed, deployments) = (self.clone(), deployments.to_vec());
        // What cannot be said is remembered, and told when it is asked for.
        let all = move || deployments.iter().for_each(|one| _ = mixed.foreign_for(one));
        let _ = aside(all).await;
    }

    /// The call as a deployment gets it; `None` where that is as the caller made it.
    pub(crate) fn foreign_for(&self, deployment: &Deployment) -> Result<Option<Arc<Foreign>>, Failure> {
        let (dialect, _) = self.spoken(deployment);
        self.foreign(dialect, deployment.model().unwrap_or(&self.model))
    }

    /// The call in a dialect; `None` where that is the caller's own.
    pub(crate) fn foreign(&self, to: DialectId, model: &str) -> Result<Option<Arc<Foreign>>, Failure> {
        if to == self.asked.caller {
            return Ok(None);
        }
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let known = made.translations.iter().find(|foreign| foreign.to == to && foreign.model == model);
        if let Some(known) = known {
            return Ok(Some(known.clone()));
        }
        if let Some((.., failure)) =
            made.refusals.iter().find(|(dialect, name, _)| (*dialect, &**name) == (to, model))
        {
            return Err(failure.clone());
        }
        match self.translated(to, model) {
            Ok(foreign) => {
                made.translations.push(foreign.clone());
                Ok(Some(foreign))
            }
            Err(failure) => {
                made.refusals.push((to, model.to_owned(), failure.clone()));
                Err(failure)
            }
        }
    }

    fn translated(&self, to: DialectId, model: &str) -> Result<Arc<Foreign>, Failure> {
        let document = json::Document::parse(&self.body)
            .map_err(|_| Failure::new(Code::Internal, "a request that was valid is no more"))?;
        Foreign::of(&document, self.asked, to, model).map(Arc::new)
    }

    /// Why some deployment could not be asked.
    pub(crate) fn refused(&self) -> Option<Failure> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).refusals.first().map(|(.., why)| why.clone())
    }

    /// The request for one deployment; `native` is the call as the caller made it.
    pub(crate) fn build(
        &self,
        native: &Outgoing,
        deployment: &Deployment,
    ) -> Result<Request<Bytes>, http::Error> {
        match self.foreign_for(deployment) {
            Ok(None) => native.build(deployment),
            Ok(Some(foreign)) => foreign.outgoing(self.headers.clone(), self.model.clone()).build(deployment),
            // Such a deployment was passed over.
            Err(_) => Request::builder().method("").body(Bytes::new()),
        }
    }
}
