//! Guards at the service desk: what goes in passes them before anything is opened or computed, what comes out before anybody is told,
//! and what they found is counted. Never here: what they look for.

use hone_protocol::failure::Failure;
use hone_protocol::generate::{Format, Prompt};
use hone_protocol::guard::GuardSide;
use hone_protocol::service::ServiceRecord;

use super::{Metered, ServiceDesk};
use crate::dispatcher::event::Event;
use crate::guards::{self, Hits, Outward};
use crate::http::desk::{AnswerStep, Ask, Caller, EmbedAsk};
use crate::state::State;

impl ServiceDesk {
    /// Lets a request pass the guards of its service, or refuses it. What is found on the way in, and who looks at what comes out.
    pub(super) async fn guard(
        &self,
        state: &State,
        caller: &Caller,
        service: &ServiceRecord,
        ask: &mut Ask,
    ) -> Result<(Hits, Option<Outward>), Failure> {
        if state.guards.is_empty() {
            return Ok((Hits::default(), None));
        }
        let hits = self.guard_in(state, caller, service, &mut ask.prompts).await?;
        let out = self.guards.of(state, GuardSide::Output, &service.name, &caller.application_name)?;
        let is_json = ask.wish.format != Format::Text;
        Ok((hits, out.map(|set| Outward::new(set, ask.choices(), is_json))))
    }

    /// The same for texts that are embedded.
    pub(super) async fn guard_embed(
        &self,
        state: &State,
        caller: &Caller,
        service: &ServiceRecord,
        ask: &mut EmbedAsk,
    ) -> Result<Hits, Failure> {
        self.guard_in(state, caller, service, &mut ask.inputs).await
    }

    async fn guard_in(
        &self,
        state: &State,
        caller: &Caller,
        service: &ServiceRecord,
        prompts: &mut [Prompt],
    ) -> Result<Hits, Failure> {
        let mut hits = Hits::default();
        let set = self.guards.of(state, GuardSide::Input, &service.name, &caller.application_name)?;
        let Some(set) = set else { return Ok(hits) };
        let passed = guards::inward(&set, prompts, &mut hits);
        // A request that is let in tells what was found with its end.
        if passed.is_err() && !hits.all().is_empty() {
            let hits = hits.take();
            self.events.post(Event::Guarded { service: service.id, application: caller.application, hits }).await;
        }
        passed.map(|()| hits)
    }
}

impl Metered {
    /// Hands a step to the guards; what they let through waits to be told. An answer that a guard has ended is not generated on.
    pub(super) fn let_out(&mut self, step: AnswerStep) {
        let Some(outward) = &mut self.outward else {
            self.steps.push_back(step);
            return;
        };
        if let Some(choice) = outward.take(step, &mut self.steps) {
            self.serving.forget(self.first + u64::from(choice));
        }
    }
}
