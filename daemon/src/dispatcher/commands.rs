//! What persons wish: each request that changes facts, decided. Reads never come here.

use std::sync::Arc;

use hone_protocol::dataset::Shape;
use hone_protocol::evaluation::{Scorer, SuiteRecord};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::id::{DatasetVersionId, JobId};
use hone_protocol::job::{JobEventKind, JobRecord, JobSpec, JobState};
use hone_protocol::paths::is_name;
use hone_protocol::pool::LOCAL_POOL;
use hone_protocol::request::{Answer, Request};
use hone_protocol::service::{Keep, Price, ServiceRecord};
use hone_protocol::value::Hash;
use hone_protocol::wire;
use sha2::{Digest, Sha256};

use super::effect::Effect;
use super::event::ReplyTo;
use super::{Decider, Remembered, Subject, judgements, labelling};
use crate::clock::new_id;
use crate::jobs;
use crate::pools::called;
use crate::state::{OWNER, State};
use crate::store::{Table, codec};

/// Slots of a service when none are asked for: the most of these whose caches, all full, leave seven eighths of the
/// pool's memory to others.
const SLOTS: [u32; 4] = [16, 8, 4, 2];
/// Fewest tokens of one request's context, where the model itself has as many.
const CONTEXT_TOKENS_LEAST: u32 = 256;
/// Context of a slot when none is asked for.
pub(crate) const CONTEXT_TOKENS: u32 = 2048;
pub(super) const SLOTS_MAX: u32 = 256;

pub(super) fn check_name(kind: &str, name: &str) -> Result<(), Failure> {
    if is_name(name) {
        return Ok(());
    }
    let message = format!("{name:?} cannot be a name: use 1 to 64 of a-z 0-9 . _ - beginning with a letter or digit");
    Err(Failure::field(kind, message).hint(HintCode::ChooseAnotherName))
}

/// The word for the audit log, and what the request is about.
pub(super) fn words(state: &State, request: &Request) -> (&'static str, String) {
    // What a movable name means at this moment.
    let exact = |version: &String| state.version(version).map_or(version.clone(), |v| state.version_reference(v.id));
    match request {
        Request::Submit { spec, .. } => ("submit", spec.kind().to_owned()),
        Request::Cancel { job } => ("cancel", job.to_string()),
        Request::Pause { job } => ("pause", job.to_string()),
        Request::Resume { job } => ("resume", job.to_string()),
        Request::SetAlias { model, alias, version, past_gate: None } => {
            ("set_alias", format!("{model}:{alias} = {}", exact(version)))
        }
        Request::SetAlias { model, alias, version, past_gate: Some(reason) } => {
            ("pass_gate", format!("{model}:{alias} ({reason}) = {}", exact(version)))
        }
        Request::RollBack { model, alias } => {
            let known = state.model(model).and_then(|m| m.aliases.iter().find(|known| known.name == *alias));
            let to = known.and_then(|known| known.previous).map_or(String::new(), |id| state.version_reference(id));
            ("roll_back", format!("{model}:{alias} = {to}"))
        }
        Request::SetGate { model, alias, gate } => {
            ("set_gate", format!("{model}:{alias} {}", gate.as_deref().unwrap_or("none")))
        }
        Request::RemoveAlias { model, alias } => ("remove_alias", format!("{model}:{alias}")),
        Request::Trash { version } => ("trash", version.clone()),
        Request::Restore { version } => ("restore", version.clone()),
        Request::Purge { versions } => ("purge", versions.join(" ")),
        Request::Publish { name, version, .. } => ("publish", format!("{name} = {}", exact(version))),
        Request::SetService { name, wanted } => {
            ("set_service", format!("{name} {}", if *wanted { "on" } else { "off" }))
        }
        Request::DeleteService { name } => ("delete_service", name.clone()),
        Request::PublishUpstream { name, upstream, .. } => {
            ("publish_upstream", format!("{name} = {} at {}", upstream.model, upstream.url))
        }
        Request::SetPool { name, .. } => ("set_pool", name.clone()),
        Request::RemovePool { name } => ("remove_pool", name.clone()),
        Request::Reserve { service, application, .. } => {
            ("reserve", format!("{service} for {}", application.as_deref().unwrap_or("nobody")))
        }
        Request::SetApplication { name, .. } => ("set_application", name.clone()),
        Request::SetLimits { application, .. } => ("set_limits", application.clone()),
        Request::Pay { application, amount, .. } => ("pay", format!("{application} {}", amount.rounded())),
        Request::CreateKey { application, .. } => ("create_key", application.clone()),
        Request::RotateKey { key, .. } => ("rotate_key", key.to_string()),
        Request::RevokeKey { key } => ("revoke_key", key.to_string()),
        Request::Apply { changes, .. } => ("apply", format!("{} changes", changes.len())),
        Request::SetHook { name, .. } => ("set_hook", name.clone()),
        Request::RemoveHook { name } => ("remove_hook", name.clone()),
        Request::TestHook { name } => ("test_hook", name.clone()),
        Request::CreateSuite { name, .. } => ("create_suite", name.clone()),
        Request::Labelling(request) => labelling::words(request).unwrap_or_default(),
        Request::SetPerson { name, role, .. } => ("set_person", format!("{name} {}", role.word())),
        Request::RemovePerson { name } => ("remove_person", name.clone()),
        Request::Judge { dataset, judgement } => ("judge", judgements::subject(dataset, judgement)),
        Request::Unjudge { dataset, seq } => ("unjudge", format!("{dataset} {seq}")),
        Request::KeepNote { kind, name, .. } => ("keep_note", format!("{} {name}", kind.word())),
        Request::DropNote { kind, name } => ("drop_note", format!("{} {name}", kind.word())),
        Request::SetLog { application, log } => {
            ("set_log", format!("{application} {}", if log.is_some() { "on" } else { "off" }))
        }
        Request::ClearLog { application } => ("clear_log", application.clone()),
        Request::SetGuard { name, spec } => ("set_guard", format!("{name} {}", spec.act.word())),
        Request::RemoveGuard { name } => ("remove_guard", name.clone()),
        Request::SetStandard { name, .. } => ("set_standard", name.clone()),
        Request::RemoveStandard { name } => ("remove_standard", name.clone()),
        Request::ReleaseDataset { version, released: true } => ("release", version.clone()),
        Request::ReleaseDataset { version, released: false } => ("take_back", version.clone()),
        Request::TrashDataset { dataset } => ("trash", dataset.clone()),
        Request::RestoreDataset { dataset } => ("restore", dataset.clone()),
        Request::PurgeDatasets { versions } => ("purge", versions.join(" ")),
        Request::Shutdown => ("shutdown", String::new()),
        _ => ("other", String::new()),
    }
}

impl Decider {
    /// Decides a wish, once per idempotency id.
    pub(super) fn request(&mut self, person: &str, once: Option<String>, request: Request, reply: ReplyTo) {
        let identity = once.as_ref().map(|once| {
            let key = Hash(Sha256::digest([person.as_bytes(), &[0], once.as_bytes()].concat()).into());
            (key, Hash(Sha256::digest(wire::encode(&request)).into()))
        });
        if let Some((key, payload)) = identity
            && let Some(before) = self.remembered.get(&key)
        {
            let answer = if before.payload == payload {
                before.answer.clone()
            } else {
                let message = "this idempotency id came with another request before";
                Err(Failure::new(FailureCode::IdempotencyConflict, message).at("once"))
            };
            self.effects.push(Effect::Reply(reply, answer));
            return;
        }
        if once.is_some()
            && matches!(
                request,
                Request::CreateKey { .. } | Request::RotateKey { .. } | Request::SetHook { .. } | Request::Apply { .. }
            )
        {
            // Remembering the answer would store the secret.
            let message = "making a key or a hook cannot be repeated safely; leave out the idempotency id";
            self.effects.push(Effect::Reply(reply, Err(Failure::new(FailureCode::InvalidRequest, message).at("once"))));
            return;
        }
        let (verb, subject) = words(&self.state, &request);
        let answer = self.wish_of(person, request);
        if answer.is_ok() {
            // What has no word stands in a table of its own, with who and when.
            if !verb.is_empty() {
                self.audit(person, verb, &subject);
            }
            if let Some((key, payload)) = identity {
                let remembered = Remembered { at_ms: self.now_ms, payload, answer: answer.clone() };
                self.writes.put(Table::Idempotency, key.0, codec::record(&remembered));
                self.remembered.insert(key, remembered);
            }
        }
        self.effects.push(Effect::Reply(reply, answer));
    }

    pub(super) fn wish_of(&mut self, person: &str, request: Request) -> Result<Answer, Failure> {
        if self.state.stopping && !matches!(request, Request::Shutdown) {
            return Err(Failure::new(FailureCode::Stopping, "the daemon is stopping").hint(HintCode::TryAgain));
        }
        match request {
            Request::Labelling(request) => self.labelling(person, request),
            Request::SetPerson { name, role, uid, projects } => self.set_person(person, &name, role, uid, projects),
            Request::RemovePerson { name } => self.remove_person(&name),
            Request::Submit { spec, payer, pool } => self.submit(person, spec, payer.as_deref(), pool),
            Request::Cancel { job } => self.cancel(job).and_then(|()| self.job_answer(job)),
            Request::Pause { job } => self.pause(job).and_then(|()| self.job_answer(job)),
            Request::Resume { job } => self.resume(job).and_then(|()| self.job_answer(job)),
            Request::SetAlias { model, alias, version, past_gate } => {
                self.set_alias(person, &model, &alias, &version, past_gate.as_deref())
            }
            Request::RemoveAlias { model, alias } => self.remove_alias(person, &model, &alias),
            Request::RollBack { model, alias } => self.roll_back(person, &model, &alias),
            Request::SetGate { model, alias, gate } => self.set_gate(&model, &alias, gate.as_deref()),
            Request::Trash { version } => self.trash(&version),
            Request::Restore { version } => self.restore(&version),
            Request::Purge { versions } => self.purge(&versions),
            Request::Publish { name, version, slots, context_tokens, price, keep, pool } => {
                self.publish(person, &name, &version, (slots, context_tokens), price, (keep, pool))
            }
            Request::SetService { name, wanted } => self.set_service(&name, wanted),
            Request::DeleteService { name } => self.delete_service(&name),
            Request::PublishUpstream { name, upstream, slots, context_tokens, price } => {
                self.publish_upstream(person, &name, upstream, (slots, context_tokens), price)
            }
            Request::SetPool { name, price, place } => self.set_pool(person, &name, price, place),
            Request::RemovePool { name } => self.remove_pool(&name),
            Request::Reserve { service, application, hour_micros } => {
                self.reserve(&service, application.as_deref(), hour_micros)
            }
            Request::SetApplication { name, title, services, priority } => {
                self.set_application(person, &name, &title, &services, priority)
            }
            Request::SetLimits { application, limits, budget } => self.set_limits(&application, limits, budget),
            Request::Pay { application, amount, note } => self.pay(person, &application, amount, &note),
            Request::CreateKey { application, label, expires_at_ms } => {
                self.create_key(&application, &label, expires_at_ms)
            }
            Request::RotateKey { key, overlap_ms } => self.rotate_key(key, overlap_ms),
            Request::RevokeKey { key } => self.revoke_key(key),
            Request::Apply { made_for, changes } => self.apply(person, made_for, changes),
            Request::SetHook { name, on, target, timeout_ms } => self.set_hook(person, &name, on, target, timeout_ms),
            Request::RemoveHook { name } => self.remove_hook(&name),
            Request::TestHook { name } => self.test_hook(person, &name),
            Request::CreateSuite { name, dataset, split, part, scorers } => {
                let dataset = self.chats(&dataset)?;
                let suite = SuiteRecord {
                    id: new_id(),
                    name,
                    dataset,
                    split,
                    part,
                    scorers,
                    created_at_ms: self.now_ms,
                    created_by: person.to_owned(),
                };
                self.create_suite(suite)
            }
            Request::Judge { dataset, judgement } => self.judge(person, &dataset, *judgement),
            Request::Unjudge { dataset, seq } => self.unjudge(&dataset, seq),
            Request::KeepNote { kind, name, title, value } => self.keep_note(person, kind, name, title, value),
            Request::DropNote { kind, name } => Ok(self.drop_note(person, kind, &name)),
            Request::SetLog { application, log } => self.set_log(&application, log),
            Request::ClearLog { application } => self.clear_log(&application),
            Request::SetGuard { name, spec } => self.set_guard(person, &name, *spec),
            Request::RemoveGuard { name } => self.remove_guard(&name),
            Request::SetStandard { name, spec } => self.set_standard(person, &name, *spec),
            Request::RemoveStandard { name } => self.remove_standard(&name),
            Request::ReleaseDataset { version, released } => self.release_dataset(person, &version, released),
            Request::TrashDataset { dataset } => self.trash_dataset(&dataset),
            Request::RestoreDataset { dataset } => self.restore_dataset(&dataset),
            Request::PurgeDatasets { versions } => self.purge_datasets(&versions),
            Request::Shutdown => {
                self.stop();
                Ok(Answer::Done)
            }
            _ => Err(Failure::new(FailureCode::Internal, "a read reached the dispatcher").hint(HintCode::ReportBug)),
        }
    }

    fn job_answer(&self, job: JobId) -> Result<Answer, Failure> {
        let view = self.state.job_view(job).ok_or_else(|| Failure::not_found("job", &job.to_string()))?;
        Ok(Answer::Job(Box::new(view)))
    }

    fn submit(
        &mut self,
        person: &str,
        spec: JobSpec,
        payer: Option<&str>,
        pool: Option<String>,
    ) -> Result<Answer, Failure> {
        let named = match &spec {
            JobSpec::Batch(batch) => batch.payer(),
            JobSpec::Generate(spec) => &spec.payer,
            _ => OWNER,
        };
        if let (JobSpec::Batch(_) | JobSpec::Generate(_), Some(payer)) = (&spec, payer)
            && payer != named
        {
            return Err(Failure::field("payer", format!("the job names {named} as who pays, not {payer}")));
        }
        let payer = self.state.application(payer.unwrap_or(named))?.clone();
        self.may_pay(&payer)?;
        self.check_job_pool(&spec, pool.as_deref())?;
        (jobs::kind(&spec).check)(&self.state, &spec)?;
        jobs::fits(&self.state, &spec, pool.as_deref().unwrap_or(LOCAL_POOL))?;
        let spec = jobs::pin(&self.state, spec)?;
        let id: JobId = new_id();
        let job = JobRecord {
            id,
            person: person.to_owned(),
            payer: payer.id,
            spec,
            batch: None,
            created_at_ms: self.now_ms,
            state: JobState::Queued,
            wish: None,
            attempt: 0,
            strikes: 0,
            barren: 0,
            checkpoint: None,
            started_at_ms: None,
            ended_at_ms: None,
            next_event_seq: 0,
            compute: None,
            pool: pool.filter(|pool| pool != LOCAL_POOL),
        };
        Arc::make_mut(&mut self.state.jobs).insert(id, Arc::new(job));
        self.queued.insert(id);
        self.touch_pools();
        self.job_event(id, JobEventKind::Submitted);
        self.job_answer(id)
    }

    /// Publishes a version, or moves a service to it.
    pub(super) fn publish(
        &mut self,
        person: &str,
        name: &str,
        version: &str,
        (slots, context_tokens): (u32, u32),
        price: Price,
        (keep, pool): (Option<Keep>, Option<String>),
    ) -> Result<Answer, Failure> {
        check_name("service", name)?;
        let follows = version.split_once(':').map(|(_, alias)| alias.to_owned());
        let version = self.state.version(version)?.clone();
        let base_id = self.state.base_of(&version);
        let base = self.state.versions.get(&base_id).cloned();
        let base = base.ok_or_else(|| Failure::not_found("version", &base_id.to_string()))?;
        let before = self.state.service(name).ok().cloned();
        let context = if context_tokens == 0 {
            before.as_ref().map_or(CONTEXT_TOKENS, |b| b.context_tokens)
        } else {
            context_tokens
        };
        let context = if context_tokens == 0 { context.min(base.facts.context_tokens) } else { context };
        let id = before.as_ref().map_or_else(new_id, |before| before.id);
        let pool = pool.or_else(|| before.as_ref().map(|before| before.pool.clone()));
        let pool = pool.unwrap_or_else(|| LOCAL_POOL.to_owned());
        self.state.check_service_pool(&pool, id, base_id)?;
        let pool_bytes = self.state.capacity(&pool).memory_bytes;
        let slots = match (slots, &before) {
            (0, Some(before)) => before.slots,
            (0, None) => {
                let slot_bytes = base.facts.kv_bytes_per_token.saturating_mul(context.into());
                let fits = |slots: &u32| slot_bytes.saturating_mul((*slots).into()) <= pool_bytes / 8;
                SLOTS.into_iter().find(fits).unwrap_or(1)
            }
            (slots, _) => slots,
        };
        if slots > SLOTS_MAX {
            return Err(Failure::field("slots", format!("slots is {slots}; at most {SLOTS_MAX} are possible")));
        }
        let most = base.facts.context_tokens;
        let least = CONTEXT_TOKENS_LEAST.min(most);
        if context < least || context > most {
            let message = format!("context_tokens is {context}; this model takes {least} to {most} tokens");
            return Err(Failure::field("context_tokens", message));
        }
        let needed = self.state.serve_bytes(base_id, slots, context);
        if needed > pool_bytes {
            let mib = |bytes: u64| bytes >> 20;
            let message = format!(
                "{slots} slots of {context} tokens need about {} MiB, {} has {} MiB",
                mib(needed),
                called(&pool),
                mib(pool_bytes)
            );
            return Err(Failure::new(FailureCode::DoesNotFit, message).at("slots").hint(HintCode::ReduceMemory));
        }
        let service = ServiceRecord {
            id,
            name: name.to_owned(),
            version: version.id,
            pool: pool.clone(),
            slots,
            context_tokens: context,
            price,
            wanted: true,
            keep: keep.or(before.as_ref().and_then(|b| b.keep)),
            reserved: before.as_ref().and_then(|b| b.reserved),
            follows,
            created_at_ms: before.as_ref().map_or(self.now_ms, |b| b.created_at_ms),
            created_by: before.as_ref().map_or_else(|| person.to_owned(), |b| b.created_by.clone()),
            upstream: None,
        };
        let id = service.id;
        self.forgive_loading(version.id);
        self.put_service(service);
        if let Some(before) = before {
            self.touch_model_of(before.version);
            let is_other = before.upstream.is_none() && before.version != version.id;
            if is_other && self.may_stay_beside(&before, &pool, base_id, needed) {
                self.retire(&before);
            }
            self.forget_upstream_key(&before);
        }
        self.note_reserved(id);
        self.rouse(id);
        self.touch_model_of(version.id);
        let view = self.state.service_view(id).ok_or_else(|| Failure::not_found("service", name))?;
        Ok(Answer::Service(Box::new(view)))
    }

    pub(super) fn touch_model_of(&mut self, version: hone_protocol::id::VersionId) {
        if let Some(version) = self.state.versions.get(&version) {
            self.dirty.insert(Subject::Model(version.model));
        }
    }

    /// Stores a service.
    pub(super) fn put_service(&mut self, service: ServiceRecord) {
        self.writes.put(Table::Services, *service.id.bytes(), codec::record(&service));
        self.dirty.insert(Subject::Service(service.id));
        self.touch_pools();
        Arc::make_mut(&mut self.state.services).insert(service.id, Arc::new(service));
    }

    fn set_service(&mut self, name: &str, wanted: bool) -> Result<Answer, Failure> {
        let mut service = (**self.state.service(name)?).clone();
        if wanted && service.upstream.is_none() {
            // A version in the trash says so, and how it comes out.
            self.state.version(&self.state.version_reference(service.version))?;
        }
        if wanted && let Some(version) = self.state.versions.get(&service.version) {
            self.state.check_service_pool(&service.pool, service.id, self.state.base_of(version))?;
        }
        service.wanted = wanted;
        let (id, engine) = (service.id, self.state.engine_of(&service));
        self.put_service(service);
        self.note_reserved(id);
        if !wanted {
            self.forget_retired(id);
        }
        if wanted && let Some(engine) = engine {
            self.forgive_serving(engine);
            self.rouse(id);
        }
        let view = self.state.service_view(id).ok_or_else(|| Failure::not_found("service", name))?;
        Ok(Answer::Service(Box::new(view)))
    }

    /// A dataset version of chats; others have no answer to judge.
    fn chats(&self, reference: &str) -> Result<DatasetVersionId, Failure> {
        let version = self.state.dataset_version(reference)?;
        if let Some(source) = self.state.generated_in(version.id) {
            let message =
                format!("rows of {reference} were written by a service ({source}); a suite holds rows of people only");
            return Err(Failure::field("dataset", message));
        }
        match self.state.datasets.get(&version.dataset).map(|dataset| dataset.shape) {
            Some(shape) if shape != Shape::Chat => {
                let message = format!("{reference} holds {} rows; a suite judges answers of chats", shape.word());
                Err(Failure::field("dataset", message))
            }
            _ => Ok(version.id),
        }
    }

    fn create_suite(&mut self, suite: SuiteRecord) -> Result<Answer, Failure> {
        check_name("suite", &suite.name)?;
        if self.state.suite(&suite.name).is_ok() {
            let message = format!("there is a suite named {:?} already; suites do not change", suite.name);
            return Err(Failure::new(FailureCode::NameTaken, message).at("name").hint(HintCode::ChooseAnotherName));
        }
        if suite.scorers.is_empty() {
            return Err(Failure::field("scorers", "name at least one scorer: loss, expect or exact"));
        }
        if suite.split.held_out_percent > 90 {
            return Err(Failure::field("split.held_out_percent", "held_out_percent must be between 0 and 90"));
        }
        let mut seen: Vec<&Scorer> = Vec::new();
        for scorer in &suite.scorers {
            if seen.contains(&scorer) {
                return Err(Failure::field("scorers", "a scorer stands twice"));
            }
            seen.push(scorer);
        }
        self.writes.put(Table::Suites, *suite.id.bytes(), codec::record(&suite));
        self.dirty.insert(Subject::Suite(suite.id));
        Arc::make_mut(&mut self.state.suites).insert(suite.id, Arc::new(suite.clone()));
        Ok(Answer::Suite(suite))
    }
}
