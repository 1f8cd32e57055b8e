//! The one look at a request's body: is it sound, what does it ask for, what is its fingerprint.

use std::{borrow::Cow, cell::RefCell, ops::Range, sync::Arc};

use bytes::Bytes;
use chimera_protocol::{DialectId, Fingerprint, LookOver, Operation, Scope, json};
use http::HeaderValue;

use crate::{
    aside::{LARGE_REQUEST, aside},
    auth::Tenant,
    context::Context,
    directives,
    entry::Form,
    failure::{Code, Failure},
    gateway::State,
    models::{Models, Resolved},
    route::Call,
    translate::{self, Asked, Foreign},
    upstream::{Edit, Framing},
};

/// What the look found. It depends on the request's bytes, its tenant and the configuration alone.
pub(crate) struct Looked {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) form: Form,
    /// The model as the caller named it.
    pub(crate) model: String,
    /// Where the body names it.
    pub(crate) model_range: Option<Range<usize>>,
    /// Changes to the body before it goes on, the model's name aside.
    pub(crate) edits: Vec<Edit>,
    /// Whether usage is asked for on the caller's behalf.
    pub(crate) strip_usage: bool,
    /// Whether the same answer is to be expected again.
    pub(crate) deterministic: bool,
    /// What a `cache` member says.
    pub(crate) cache_member: Option<serde_json::Value>,
    pub(crate) language: Language,
}

impl Looked {
    /// Bytes of a translation that it holds beside the facts.
    pub(crate) fn translation(&self) -> usize {
        match &self.language {
            Language::Foreign(foreign) | Language::Mixed { first: Some(foreign), .. } => foreign.bytes(),
            Language::Counted { body, .. } => body.len(),
            Language::Own | Language::Mixed { first: None, .. } => 0,
        }
    }
}

/// In whose dialect providers are asked.
pub(crate) enum Language {
    /// The caller's.
    Own,
    /// Another, the same for every deployment.
    Foreign(Arc<Foreign>),
    /// That of the deployment that is tried; with the translation that the fingerprint was made of.
    Mixed { asked: Asked, first: Option<Arc<Foreign>> },
    /// Nobody is asked: a provider that counts no tokens has them counted here. The answer.
    Counted { body: Bytes, dropped: Option<HeaderValue> },
}

/// What the look needs to know besides the body.
struct Looking<'a> {
    call: &'a Call<'a>,
    tenant: &'a str,
    models: &'a Models,
    key: &'a [u8; 32],
    apart: &'a Apart,
    array: bool,
}

/// What sets a request apart from others with the same body, a line each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Apart {
    /// Forwarded headers that may change the answer.
    pub(crate) versions: Bytes,
    /// What the caller wants kept apart.
    pub(crate) partition: Bytes,
}

impl Apart {
    /// Both.
    pub(crate) fn all(&self) -> Bytes {
        match self.partition.is_empty() {
            true => self.versions.clone(),
            false => [&*self.versions, &*self.partition].concat().into(),
        }
    }
}

impl Looking<'_> {
    /// What is part of the key besides the body: forwarded headers, where they go on, and what the caller wants kept
    /// apart.
    fn versions(&self, over: &LookOver<'_>, forwards: bool) -> Cow<'_, [u8]> {
        let versions: &[u8] = if forwards { &self.apart.versions } else { b"" };
        let named = over.cache_member.as_ref().and_then(|member| directives::namespace(&member.value));
        match (&*self.apart.partition, named) {
            ([], None) => versions.into(),
            (partition, named) => [versions, partition, named.unwrap_or_default().as_bytes()].concat().into(),
        }
    }
}

thread_local! {
    /// Reused by every request of a worker: parsing allocates nothing once they have grown.
    static SCRATCH: RefCell<(json::Scratch, Vec<u8>)> = RefCell::default();
}

/// Looks at a body and finds where it goes: a large one aside, and one whose tokens may have to be
/// counted, for which tables are unpacked once.
pub(crate) async fn look(
    context: &Context<'_>,
    call: &Call<'_>,
    body: &Bytes,
    apart: &Apart,
    array: bool,
) -> Result<(Looked, Resolved), Failure> {
    let key = context.fingerprint_key();
    let looking = move |state: &State, tenant: &Tenant, call: &Call<'_>, body: &[u8], apart: &Apart| {
        let (tenant, models) = (&tenant.name, &state.settings.models);
        look_at_bytes(body, &Looking { call, tenant, models, key: &key, apart, array })
    };
    if body.len() <= LARGE_REQUEST && call.operation != Operation::CountTokens {
        return looking(&context.state, &context.tenant, call, body, apart);
    }
    let (state, tenant, call) = (context.state.clone(), context.tenant.clone(), call.to_owned_call());
    let (body, apart) = (body.clone(), apart.clone());
    aside(move || looking(&state, &tenant, &call, &body, &apart)).await?
}

fn look_at_bytes(body: &[u8], looking: &Looking<'_>) -> Result<(Looked, Resolved), Failure> {
    SCRATCH.with_borrow_mut(|(scratch, canonical)| {
        let document = json::Document::parse_with(body, scratch)
            .map_err(|error| Failure::invalid(format!("the body is not valid JSON: {error}")))?;
        look_at(&document, canonical, looking)
    })
}

/// Why embeddings of a mixed group are refused.
const APART: &str = "the deployments of this model are of different vendors, whose embeddings cannot stand in for each other; call one of them by name";

fn look_at(
    document: &json::Document<'_>,
    canonical: &mut Vec<u8>,
    looking: &Looking<'_>,
) -> Result<(Looked, Resolved), Failure> {
    let call = looking.call;
    let over = LookOver::of(call.dialect, call.operation, document)
        .map_err(|refusal| Failure::invalid(refusal.message).param(refusal.param))?;
    let model = match &call.model {
        Some(model) => model.as_ref(),
        None => over.model.as_deref().unwrap_or_default(),
    };
    let resolved = looking
        .models
        .resolve(model)
        .ok_or_else(|| Failure::new(Code::ModelNotFound, "no provider serves this model").param("model"))?;
    let stream = call.stream || over.stream;
    let framing = match stream {
        false => Framing::Unary,
        true if looking.array => Framing::Array,
        true => Framing::Events,
    };
    let form = Form { framing, include_usage: over.include_usage };
    let asked = Asked { caller: call.dialect, operation: call.operation, form };
    let home = resolved.home(call.dialect);
    if home.is_some() && call.operation == Operation::Embed {
        return Err(Failure::invalid(APART).param("model"));
    }
    if home.is_none() && !resolved.speaks(call.dialect) {
        return look_abroad(document, asked, canonical, looking, &over, resolved, model.to_owned());
    }
    let mut edits = Vec::new();
    if let Some(member) = &over.cache_member {
        edits.push(Edit { range: member.cut.clone(), with: String::new() });
    }
    let strip_usage = call.dialect == DialectId::OpenAi
        && call.operation == Operation::Chat
        && stream
        && !over.include_usage
        && resolved.provider.ask_usage;
    if strip_usage {
        let edit = chimera_protocol::ask_usage(document);
        edits.push(Edit { range: edit.range, with: edit.with.to_owned() });
    }
    let abroad = match home {
        Some(home) if home != call.dialect => {
            Foreign::of(document, asked, home, resolved.first_model()).ok().map(Arc::new)
        }
        _ => None,
    };
    let fingerprint = match &abroad {
        Some(foreign) => foreign_fingerprint(foreign, canonical, looking, (&resolved, &over))?,
        None => own_fingerprint(document, canonical, looking, (&resolved, &over)),
    };
    let looked = Looked {
        fingerprint,
        form: if home.is_some() { asked.shared_form() } else { asked.form },
        model: model.to_owned(),
        model_range: over.model_range.clone(),
        edits,
        strip_usage,
        deterministic: call.operation != Operation::Chat || over.is_deterministic(),
        cache_member: over.cache_member.map(|member| member.value),
        language: match home {
            Some(_) => Language::Mixed { asked, first: abroad },
            None => Language::Own,
        },
    };
    Ok((looked, resolved))
}

/// What is found of a call whose provider speaks another dialect: its fingerprint is that of the
/// translated request, so that callers of every dialect share their answers.
fn look_abroad(
    document: &json::Document<'_>,
    asked: Asked,
    canonical: &mut Vec<u8>,
    looking: &Looking<'_>,
    over: &LookOver<'_>,
    resolved: Resolved,
    model: String,
) -> Result<(Looked, Resolved), Failure> {
    let to = resolved.common_dialect().ok_or_else(|| {
        Failure::new(Code::ModelNotFound, "this model's provider speaks no dialect that is known")
    })?;
    if asked.operation == Operation::CountTokens && to == DialectId::OpenAi {
        let (body, dropped) = translate::counted(document, asked.caller, resolved.first_model())?;
        let looked = Looked {
            fingerprint: own_fingerprint(document, canonical, looking, (&resolved, over)),
            form: asked.form,
            model,
            model_range: None,
            edits: Vec::new(),
            strip_usage: false,
            deterministic: true,
            cache_member: None,
            language: Language::Counted { body, dropped },
        };
        return Ok((looked, resolved));
    }
    // What a model knows depends on which it is: a group's name says nothing.
    let foreign = Foreign::of(document, asked, to, resolved.first_model())?;
    let looked = Looked {
        fingerprint: foreign_fingerprint(&foreign, canonical, looking, (&resolved, over))?,
        form: foreign.provider_form(),
        model,
        model_range: foreign.model_range.clone(),
        edits: Vec::new(),
        strip_usage: false,
        deterministic: looking.call.operation != Operation::Chat || over.is_deterministic(),
        cache_member: over.cache_member.as_ref().map(|member| member.value.clone()),
        language: Language::Foreign(Arc::new(foreign)),
    };
    Ok((looked, resolved))
}

fn own_fingerprint(
    document: &json::Document<'_>,
    canonical: &mut Vec<u8>,
    looking: &Looking<'_>,
    (resolved, over): (&Resolved, &LookOver<'_>),
) -> Fingerprint {
    let versions = looking.versions(over, true);
    let scope = Scope {
        operation: looking.call.cache_operation(),
        route: resolved.identity(),
        model: &resolved.model,
        versions: &versions,
        ..Scope::new(looking.tenant, looking.call.dialect)
    };
    Fingerprint::compute(looking.key, &scope, document, canonical)
}

fn foreign_fingerprint(
    foreign: &Foreign,
    canonical: &mut Vec<u8>,
    looking: &Looking<'_>,
    (resolved, over): (&Resolved, &LookOver<'_>),
) -> Result<Fingerprint, Failure> {
    let document = json::Document::parse(&foreign.body)
        .map_err(|_| Failure::new(Code::Internal, "a translated request is not valid"))?;
    let versions = foreign.versions(&looking.versions(over, resolved.is_mixed()));
    let scope = Scope {
        operation: match foreign.verb {
            ":streamGenerateContent" => ":generateContent",
            verb => verb,
        },
        route: resolved.identity(),
        model: &resolved.model,
        versions: &versions,
        ..Scope::new(looking.tenant, foreign.to)
    };
    Ok(Fingerprint::compute(looking.key, &scope, &document, canonical))
}
