//! Removing services for good. Never here: publishing them (`commands`), which processes run (`serving`).

use std::sync::Arc;

use hone_protocol::application::{ApplicationRecord, Services};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::job::{JobRecord, JobSpec};
use hone_protocol::request::Answer;
use hone_protocol::service::ServiceRecord;

use super::{Decider, Subject};
use crate::store::{Table, codec};

impl Decider {
    /// Removes a service. Its record stays apart, because the ledger's rows name it.
    pub(super) fn delete_service(&mut self, name: &str) -> Result<Answer, Failure> {
        let service = self.state.service(name)?.clone();
        let users = self.users_of(&service);
        if !users.is_empty() {
            let users = users.join(", ");
            let message = format!("service {name} is in use: {users}");
            return Err(Failure::new(FailureCode::InUse, message).at("service").arg("users", users));
        }
        self.writes.delete(Table::Services, *service.id.bytes());
        self.forget_upstream_key(&service);
        self.writes.put(Table::FormerServices, *service.id.bytes(), codec::record(&*service));
        Arc::make_mut(&mut self.state.services).remove(&service.id);
        Arc::make_mut(&mut self.state.former_services).insert(service.id, service.clone());
        self.dirty.insert(Subject::Service(service.id));
        if let Some(version) = self.state.versions.get(&service.version) {
            self.dirty.insert(Subject::Model(version.model));
        }
        // Those that may call every service are shown with one less.
        let all = self.state.applications.values().filter(|a| a.services == Services::All);
        self.dirty.extend(all.map(|a| Subject::Application(a.id)));
        Ok(Answer::Done)
    }

    /// What keeps a service from being removed, in words.
    fn users_of(&self, service: &ServiceRecord) -> Vec<String> {
        let is_on = service.wanted.then(|| format!("it is on (hone service stop {} turns it off)", service.name));
        let open = self.state.open_rows.values().filter(|row| row.service == service.id).count();
        let answers = (open > 0).then(|| format!("{open} requests are being answered"));
        let lists =
            |a: &&Arc<ApplicationRecord>| matches!(&a.services, Services::Listed(ids) if ids.contains(&service.id));
        let applications = self.state.applications.values().filter(lists);
        let applications = applications.map(|a| format!("application {} lists it", a.name));
        let publishes = |job: &&Arc<JobRecord>| {
            let register = match &job.spec {
                JobSpec::Train(spec) => spec.register.as_ref(),
                JobSpec::Register(spec) => Some(&spec.register),
                _ => None,
            };
            register.is_some_and(|register| register.publish == service.name)
        };
        let jobs = self.queued.iter().filter_map(|id| self.state.jobs.get(id)).filter(publishes);
        let jobs = jobs.map(|job| format!("{} publishes to it", job.id));
        is_on.into_iter().chain(answers).chain(applications).chain(jobs).collect()
    }

    /// Whether an application can pay for a job: with a budget, something must be left of it.
    pub(super) fn may_pay(&self, payer: &ApplicationRecord) -> Result<(), Failure> {
        if self.budget_left(payer).is_none_or(|left| left.0 > 0) {
            return Ok(());
        }
        let message = format!("the budget of {} is spent; raise it or enter a payment", payer.name);
        Err(Failure::new(FailureCode::BudgetSpent, message).at("payer"))
    }
}
