//! Starting the process that speaks to a server elsewhere, and what it says of that server. After its start it is a serving
//! process like any other. Never here: what it says to the server (`upstream/`).

use std::path::{Path, PathBuf};

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::ServiceId;
use hone_protocol::upstream::{Secret, UpstreamTask};
use hone_protocol::worker::{FromWorker, ToWorker};

use super::line::Line;
use super::process::Program;
use super::serving::Keeper;
use crate::dispatcher::effect::ServingStart;
use crate::dispatcher::event::ServingFact;
use crate::sandbox::Paths;
use crate::store::{Table, codec};

impl Keeper {
    /// Starts it, and waits until it has looked at its server once.
    pub(super) async fn open_upstream(
        &self,
        start: &ServingStart,
        service: ServiceId,
        log: &Path,
    ) -> Result<Line, Failure> {
        let state = self.hub.state();
        let record = state.services.get(&service).ok_or_else(|| Failure::not_found("service", &service.to_string()))?;
        let upstream = record.upstream.as_ref();
        let upstream = upstream.ok_or_else(|| Failure::new(FailureCode::Interrupted, "the service has moved on"))?;
        let certificates = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from).filter(|file| file.is_absolute());
        let paths = certificates.into_iter().fold(Paths::none(), Paths::read);
        let mut line = Line::open(&self.spawner, Program::Daemon("upstream"), paths, None, log).await?;
        let task = UpstreamTask {
            service: record.name.clone(),
            url: upstream.url.clone(),
            model: upstream.model.clone(),
            key: if upstream.has_key { self.key_of(service)? } else { Secret(String::new()) },
            slots: start.slots,
        };
        line.send(&ToWorker::Upstream(task)).await?;
        match line.recv().await? {
            FromWorker::Health(trouble) => {
                self.tell_health(start, trouble).await;
                self.report(start.base, start.generation, ServingFact::Ready { memory_bytes: 0 }).await;
                Ok(line)
            }
            _ => Err(Failure::new(FailureCode::BadFrame, "honed upstream did not begin with how its server is")),
        }
    }

    /// How the server elsewhere is: for whoever looks at the service, and one line for the log.
    pub(super) async fn tell_health(&self, start: &ServingStart, trouble: Option<Failure>) {
        let name = start.upstream.map_or_else(String::new, |service| self.hub.state().service_name(service));
        let words = trouble.as_ref().map_or("its upstream answers", |failure| failure.message_en.as_str());
        let plain: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        eprintln!("honed: service {name}: {plain}");
        self.report(start.base, start.generation, ServingFact::Health(trouble)).await;
    }

    fn key_of(&self, service: ServiceId) -> Result<Secret, Failure> {
        let lost = || Failure::new(FailureCode::FileUnreadable, "the key of the upstream is not in the store");
        let kept = self.store.get(Table::UpstreamKeys, service.bytes());
        let kept = kept.map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))?;
        codec::read(Table::UpstreamKeys, service.bytes(), &kept.ok_or_else(lost)?)
            .map_err(|_| Failure::new(FailureCode::Internal, "the kept key of the upstream cannot be read"))
    }
}
