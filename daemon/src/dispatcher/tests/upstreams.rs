//! Servers elsewhere as services: where their key goes, when their process is another one, and what it costs this machine.

use hone_protocol::upstream::{Secret, UpstreamWish};

use super::*;

fn wish(url: &str, model: &str, key: Option<&str>) -> Request {
    let key = key.map(|key| Secret(key.into()));
    let upstream = UpstreamWish { url: url.into(), model: model.into(), key, plain_http: String::new() };
    let price = Price { input_micros: Some(1), cached_micros: None, output_micros: Some(2) };
    Request::PublishUpstream { name: "far".into(), upstream, slots: 0, context_tokens: 0, price }
}

const URL: &str = "https://up.example/v1";

impl Desk {
    fn far(&mut self, fact: ServingFact) {
        let (base, generation) = self.state().serving.iter().map(|(base, s)| (*base, s.generation)).next().unwrap();
        self.tell("its process says something", Event::Serving { base, generation, fact });
    }

    fn kept_key(&self) -> Option<Vec<u8>> {
        let service = self.state().service("far").ok()?.id;
        self.store.as_ref().unwrap().get(Table::UpstreamKeys, service.bytes()).unwrap()
    }
}

#[test]
fn a_server_elsewhere_becomes_a_service() {
    let mut desk = Desk::new();
    desk.said.clear();
    desk.ask("published with a key", wish(URL, "big", Some("sk-very-secret"))).unwrap();
    desk.far(ServingFact::Health(Some(Failure::new(FailureCode::UpstreamUnavailable, "it is not there"))));
    desk.far(ServingFact::Ready { memory_bytes: 0 });
    let view = desk.state().service_view(desk.state().service("far").unwrap().id).unwrap();
    assert_eq!((view.state, view.version_reference.as_str()), (ServiceState::On, "upstream:big"));
    assert!(view.trouble.is_some() && view.record.upstream.unwrap().has_key);
    desk.far(ServingFact::Health(None));
    // Nothing of this machine is held or charged.
    assert_eq!(desk.state().committed_bytes("local"), 0);
    assert!(desk.state().serving.values().all(|s| s.meter.is_none()));
    let first = desk.state().service("far").unwrap().version;
    desk.ask("only a price", wish(URL, "big", None)).unwrap();
    assert_eq!(desk.state().service("far").unwrap().version, first, "the same process goes on");
    desk.ask("another key", wish(URL, "big", Some("sk-other"))).unwrap();
    let second = desk.state().service("far").unwrap().version;
    assert_ne!(second, first);
    desk.ask("another model", wish(URL, "bigger", None)).unwrap();
    assert_ne!(desk.state().service("far").unwrap().version, second);
    assert!(desk.kept_key().is_some_and(|key| key.ends_with(b"\"sk-other\"")));
    desk.start("the daemon starts again");
    assert_eq!(desk.state().serving.len(), 1);
    desk.ask("stopped", Request::SetService { name: "far".into(), wanted: false }).unwrap();
    desk.ask("started", Request::SetService { name: "far".into(), wanted: true }).unwrap();
    desk.ask("stopped", Request::SetService { name: "far".into(), wanted: false }).unwrap();
    let service = desk.state().service("far").unwrap().id;
    desk.ask("deleted", Request::DeleteService { name: "far".into() }).unwrap();
    assert_eq!(desk.store.as_ref().unwrap().get(Table::UpstreamKeys, service.bytes()).unwrap(), None);
    let audit = desk.store.as_ref().unwrap().prefix(Table::Audit, b"").unwrap();
    let rows = audit.iter().map(|(_, row)| String::from_utf8_lossy(row).into_owned()).collect::<String>();
    assert!(rows.contains("far = big at https://up.example/v1"));
    assert!(!format!("{:?}{rows}{}", desk.state().services, desk.said).contains("sk-"));
    insta::assert_snapshot!(desk.transcript());
}

#[test]
fn a_key_does_not_go_to_another_place() {
    let mut desk = Desk::new();
    desk.ask("published", wish(URL, "big", Some("sk-a"))).unwrap();
    for url in ["https://evil.example/v1", "http://127.0.0.1:1/v1", "https://up.example:8443/v1"] {
        let failure = desk.ask("moved", wish(url, "big", None)).unwrap_err();
        assert_eq!(failure.place, "key", "{url}");
    }
    assert!(desk.kept_key().is_some());
    desk.ask("the same place, another path", wish("https://up.example/v2", "big", None)).unwrap();
    assert!(desk.kept_key().is_some());
    desk.ask("moved without a key", wish("https://evil.example/v1", "big", Some(""))).unwrap();
    assert_eq!(desk.kept_key(), None);
    desk.ask("moved on", wish("http://127.0.0.1:1/v1", "big", None)).unwrap();
    assert_eq!(desk.kept_key(), None);
}

#[test]
fn what_cannot_be_is_refused() {
    let mut desk = Desk::new();
    desk.tell("HTTP listens", Event::Http(vec!["http://127.0.0.1:7077".into()]));
    for (request, place) in [
        (wish("ftp://a", "m", None), "url"),
        (wish("http://node7", "m", None), "plain_http"),
        (wish(URL, "", None), "model"),
        (wish(URL, "m", Some("a b")), "key"),
        (wish("http://127.0.0.1:7077/v1", "far", None), "url"),
    ] {
        assert_eq!(desk.ask("refused", request).unwrap_err().place, place);
    }
    desk.ask("another service of this daemon", wish("http://127.0.0.1:7077/v1", "near", None)).unwrap();
}

#[test]
fn a_row_that_a_restart_cut_is_an_estimate() {
    let mut desk = Desk::new();
    desk.ask("published", wish(URL, "big", None)).unwrap();
    let record = desk.state().service("far").unwrap().clone();
    let id = new_id();
    let owner = desk.state().application(crate::state::OWNER).unwrap().id;
    let row = LedgerRow {
        id,
        application: owner,
        key: None,
        service: record.id,
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
    desk.tell("a request opens", Event::OpenRow { row: Box::new(row), tokens_most: (1, 1), reply });
    desk.start("the daemon was killed");
    let rows = desk.store.as_ref().unwrap().prefix(Table::Ledger, b"").unwrap();
    let row: LedgerRow = codec::read(Table::Ledger, &rows[0].0, &rows[0].1).unwrap();
    assert!(row.is_estimate() && row.outcome == Outcome::CutByRestart);
}
