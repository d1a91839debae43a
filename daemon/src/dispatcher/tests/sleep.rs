//! Which services are loaded, over simulated clocks. Never here: processes.

use hone_protocol::service::Keep;

use super::*;

const MINUTE_MS: i64 = 60_000;

impl Desk {
    fn keep(&mut self, slots: u32, keep: Keep) -> ServiceId {
        let price = Price::default();
        let (name, version) = ("base".into(), "starter".into());
        let publish =
            Request::Publish { name, version, slots, context_tokens: 8192, price, keep: Some(keep), pool: None };
        self.ask("publish", publish).unwrap();
        self.serving("ready", ServingFact::Ready { memory_bytes: 300 << 20 });
        self.state().service("base").unwrap().id
    }

    fn stage(&self) -> ServiceState {
        self.state().service_view(self.state().service("base").unwrap().id).unwrap().state
    }

    fn wake(&mut self, service: ServiceId) -> Result<(), Failure> {
        let (reply, mut told) = oneshot::channel();
        self.tell("somebody asks", Event::Wake { service, reply });
        // An effect that is carried out answers; here only a refusal does.
        told.try_recv().unwrap_or(Ok(()))
    }

    fn request_opens(&mut self, service: ServiceId) -> LedgerId {
        let record = self.state().services[&service].clone();
        let id = new_id();
        let row = LedgerRow {
            id,
            application: self.state().application(crate::state::OWNER).unwrap().id,
            key: None,
            service,
            version: record.version,
            opened_at_ms: 0,
            day: String::new(),
            closed_at_ms: None,
            outcome: Outcome::Open,
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            price: record.price,
            amount: Default::default(),
            user: String::new(),
            metadata: Vec::new(),
            first_token_ms: None,
            total_ms: None,
        };
        let reply = oneshot::channel().0;
        self.tell("a request opens", Event::OpenRow { row: Box::new(row), tokens_most: (1, 1), reply });
        id
    }

    fn request_closes(&mut self, id: LedgerId) {
        let (prompt_tokens, cached_tokens, completion_tokens) = (1, 0, 1);
        let (outcome, first_token_ms, total_ms) = (Outcome::Complete, None, 2);
        let close = Close {
            outcome,
            prompt_tokens,
            cached_tokens,
            completion_tokens,
            first_token_ms,
            total_ms,
            is_estimate: false,
        };
        self.tell("it closes", Event::CloseRow { id, close, reply: oneshot::channel().0 });
    }
}

#[test]
fn what_is_kept_for_minutes_sleeps_until_it_is_asked() {
    let mut desk = Desk::furnished();
    let service = desk.keep(2, Keep::Minutes(5));
    desk.said.clear();
    let request = desk.request_opens(service);
    desk.pass(6 * MINUTE_MS);
    desk.tell("too early: it is busy", Event::LookIdle { service });
    assert_eq!(desk.stage(), ServiceState::On);
    desk.request_closes(request);
    desk.pass(4 * MINUTE_MS);
    desk.tell("too early: it was used", Event::LookIdle { service });
    assert_eq!(desk.stage(), ServiceState::On);
    // A clock that people set moves nothing.
    desk.now.wall_ms += 60 * MINUTE_MS;
    desk.tell("too early: the wall's clock was set", Event::LookIdle { service });
    assert_eq!(desk.stage(), ServiceState::On);
    desk.pass(MINUTE_MS);
    desk.tell("the time is over", Event::LookIdle { service });
    assert_eq!((desk.stage(), desk.state().serving.len()), (ServiceState::Asleep, 0));
    desk.wake(service).unwrap();
    assert_eq!(desk.stage(), ServiceState::Starting);
    desk.serving("ready", ServingFact::Ready { memory_bytes: 300 << 20 });
    desk.start("the daemon starts again");
    assert_eq!((desk.stage(), desk.state().serving.len()), (ServiceState::Asleep, 0));
    insta::assert_snapshot!(desk.transcript());
}

#[test]
fn idle_services_make_room_and_busy_or_pinned_ones_do_not() {
    // The caches of 21 slots leave less of the pool than a training run needs.
    for (keep, busy, sleeps) in [(Keep::Ready, false, true), (Keep::Ready, true, false), (Keep::Pinned, false, false)] {
        let mut desk = Desk::furnished();
        let service = desk.keep(21, keep);
        if busy {
            desk.request_opens(service);
        }
        let job = desk.submit("a run is asked for", train());
        assert_eq!(desk.stage() == ServiceState::Asleep, sleeps, "{keep:?} {busy}");
        assert_eq!(desk.state().attempts.contains_key(&job), sleeps, "{keep:?} {busy}");
        if !sleeps {
            continue;
        }
        // What the run holds is not to be had; afterwards it is.
        let refused = desk.wake(service).unwrap_err();
        assert_eq!(refused.code, FailureCode::DoesNotFit);
        assert!(refused.message_en.contains("MiB"), "{}", refused.message_en);
        assert_eq!(desk.stage(), ServiceState::Asleep);
        desk.ask("the run is cancelled", Request::Cancel { job }).unwrap();
        desk.end("it ends", job, AttemptEnd::Stopped);
        desk.wake(service).unwrap();
        assert_eq!(desk.stage(), ServiceState::Starting);
    }
}

#[test]
fn a_service_gets_as_many_slots_as_the_pool_bears() {
    let mut desk = Desk::furnished();
    let mut slots = |context_tokens| {
        let publish = Request::Publish {
            name: format!("of-{context_tokens}"),
            version: "starter".into(),
            slots: 0,
            context_tokens,
            price: Price::default(),
            keep: None,
            pool: None,
        };
        match desk.ask("publish", publish).unwrap() {
            Answer::Service(view) => view.record.slots,
            other => panic!("{other:?}"),
        }
    };
    // An eighth of 4 GiB holds 11 caches of 2,048 tokens, and 2 of 8,192.
    assert_eq!((slots(512), slots(2048), slots(8192)), (16, 8, 2));
}
