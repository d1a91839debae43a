//! Pictures of usage, of a service's figures and of the payment form, at three sizes in both languages, empty ones too. Only tests
//! see this.

use hone_protocol::application::{Budget, LedgerRow, Outcome, Usage};
use hone_protocol::catalogue::Language;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::{ApplicationId, LedgerId, ServiceId, VersionId};
use hone_protocol::model::Alias;
use hone_protocol::request::{Answer, Request};
use hone_protocol::service::{Moving, Price};
use hone_protocol::usage::{ComputeUsage, ServiceStats, Span, Stats, UsageLine, UsagePage};
use hone_protocol::value::Pico;

use super::super::bench::{Bench, SIZES, keep, word};
use super::super::sample::{self, NOW_MS};
use crate::action::{Action, Area};
use crate::event::Event;

fn usage(requests: u64, pico: i128) -> Usage {
    Usage {
        requests,
        prompt_tokens: 80 * requests,
        cached_tokens: 30 * requests,
        completion_tokens: 45 * requests,
        amount: Pico(pico),
        errors: requests / 100,
    }
}

/// A month until the 28th, in which web-shop asked for more and more and the owner tried something on two days.
fn month(is_empty: bool) -> UsagePage {
    let line = |day: u64, application: &str, usage| UsageLine {
        day: Some(format!("2026-11-{day:02}")),
        application: Some(application.to_owned()),
        service: None,
        user: None,
        key: None,
        usage,
    };
    let shop = (3..=28)
        .filter(|day| day % 7 != 0)
        .map(|day| line(day, "web-shop", usage(9 * day, 2_400_000_000 * i128::from(day))));
    let own = [12, 28].map(|day| line(day, "owner", usage(4, 100_000_000)));
    let mut lines: Vec<UsageLine> = if is_empty { Vec::new() } else { shop.chain(own).collect() };
    lines.sort_by(|a, b| (&a.day, &a.application).cmp(&(&b.day, &b.application)));
    let mut total = Usage::default();
    lines.iter().for_each(|line| total.merge(&line.usage));
    let compute = ComputeUsage { rows: 3, core_ms: 5_400_000, gpu_ms: 0, amount: Pico(75_000_000_000) };
    UsagePage {
        from: "2026-11-01".into(),
        to: "2026-11-28".into(),
        zone: "Europe/Berlin".into(),
        currency: "EUR".into(),
        lines,
        next: None,
        total,
        compute: Some(if is_empty { ComputeUsage::default() } else { compute }),
    }
}

fn rows() -> Vec<LedgerRow> {
    let row = |number: u8, outcome| LedgerRow {
        id: LedgerId::from_bytes([number; 16]),
        application: ApplicationId::from_bytes([61; 16]),
        key: None,
        service: ServiceId::from_bytes([80; 16]),
        version: VersionId::from_bytes([32; 16]),
        opened_at_ms: NOW_MS - i64::from(number) * 40_000,
        day: "2026-11-28".into(),
        closed_at_ms: Some(NOW_MS),
        outcome,
        prompt_tokens: 76,
        cached_tokens: 30,
        completion_tokens: 46,
        price: Price::default(),
        amount: Pico(92_000_000),
        user: String::new(),
        metadata: Vec::new(),
        first_token_ms: Some(60),
        total_ms: Some(900),
    };
    vec![row(1, Outcome::Complete), row(2, Outcome::Failed), row(3, Outcome::Disconnected)]
}

fn stats() -> Stats {
    let line = ServiceStats {
        service: "desk".into(),
        application: None,
        usage: usage(412, 0),
        total_ms: Some((820, 2_140)),
        first_token_ms: Some((64, 210)),
        tokens_per_s: Some(31.25),
    };
    Stats { span: Span::Hour, lines: vec![line], is_cut: false }
}

/// Answers what the area asks for.
fn answer(bench: &mut Bench, is_empty: bool) {
    bench.app.update(Event::Tick, NOW_MS);
    for (id, request) in bench.asks() {
        match request {
            Request::Usage(_) => bench.answer(id, Answer::Usage(month(is_empty))),
            Request::Ledger { .. } if is_empty => bench.answer(id, Answer::Ledger(Vec::new())),
            Request::Ledger { .. } => bench.answer(id, Answer::Ledger(rows())),
            Request::Stats { .. } => bench.answer(id, Answer::Stats(stats())),
            _ => {}
        }
    }
}

#[test]
fn usage_in_its_periods_and_a_service_with_its_figures() {
    for language in [Language::En, Language::Zh] {
        for size in SIZES {
            let name = |what: &str| format!("{what}_{}x{}_{}", size.0, size.1, word(language));
            for is_empty in [false, true] {
                let mut bench = Bench::new(language, if is_empty { sample::empty() } else { sample::filled() });
                bench.picture(size);
                bench.go(Area::Services);
                answer(&mut bench, is_empty);
                if !is_empty {
                    keep(name("service_figures"), &bench.picture(size));
                }
                bench.press(Action::PreviousTab);
                answer(&mut bench, is_empty);
                let state = if is_empty { "empty" } else { "filled" };
                for period in ["month", "day", "requests"] {
                    keep(name(&format!("usage_{period}_{state}")), &bench.picture(size));
                    bench.press(Action::Right);
                    answer(&mut bench, is_empty);
                }
            }
        }
    }
}

#[test]
fn a_payment_is_asked_for_and_a_service_that_is_off_can_be_deleted() {
    let mut facts = sample::filled();
    facts.services[0].record.wanted = false;
    let paid = Pico(50 * Pico::PER_UNIT);
    facts.applications[1].record.budget = Some(Budget::Prepaid { paid, used_before: Pico(0) });
    for language in [Language::En, Language::Zh] {
        let mut bench = Bench::new(language, facts.clone());
        bench.picture((100, 30));
        bench.go(Area::Services);
        bench.press(Action::Delete);
        keep(format!("question_delete_service_100x30_{}", word(language)), &bench.picture((100, 30)));
        bench.press(Action::Out);
        bench.press(Action::NextTab);
        bench.press(Action::Down);
        bench.press(Action::Add);
        for size in SIZES {
            keep(format!("form_pay_{}x{}_{}", size.0, size.1, word(language)), &bench.picture(size));
        }
        bench.asks();
        bench.press(Action::Run);
        let asked = bench.asks().into_iter().find_map(|(id, request)| match request {
            Request::Pay { application, amount, .. } => Some((id, application, amount)),
            _ => None,
        });
        let (id, application, amount) = asked.expect("a payment is asked for");
        assert_eq!((application.as_str(), amount), ("web-shop", Pico(10 * Pico::PER_UNIT)));
        bench.answer(id, Answer::Done);
        assert_eq!(bench.app.context(), crate::keymap::Context::Browse);
    }
}

#[test]
fn hooks_are_tried_and_removed_and_alerts_stand_on_home() {
    let mut facts = sample::filled();
    (facts.hooks, facts.alerts) = (sample::hooks(), sample::alerts());
    for language in [Language::En, Language::Zh] {
        for size in SIZES {
            let name = |what: &str| format!("{what}_{}x{}_{}", size.0, size.1, word(language));
            for is_empty in [true, false] {
                let mut bench = Bench::new(language, if is_empty { sample::filled() } else { facts.clone() });
                bench.picture(size);
                if !is_empty {
                    keep(name("home_alerts"), &bench.picture(size));
                }
                bench.go(Area::Services);
                (0..3).for_each(|_| drop(bench.press(Action::NextTab)));
                keep(name(if is_empty { "hooks_empty" } else { "hooks_filled" }), &bench.picture(size));
            }
        }
        let mut bench = Bench::new(language, facts.clone());
        bench.picture((100, 30));
        bench.go(Area::Services);
        (0..3).for_each(|_| drop(bench.press(Action::NextTab)));
        bench.asks();
        bench.press(Action::Try);
        let is_test = |request: &Request| matches!(request, Request::TestHook { name } if name == "ops");
        assert!(bench.asks().iter().any(|(_, request)| is_test(request)));
        bench.press(Action::Delete);
        keep(format!("question_remove_hook_100x30_{}", word(language)), &bench.picture((100, 30)));
    }
}

#[test]
fn one_key_rolls_back_the_alias_that_a_service_follows() {
    let mut facts = sample::filled();
    let service = &mut facts.services[0];
    service.record.follows = Some("live".into());
    let failure = Failure::new(FailureCode::BadFile, "the adapter is damaged");
    service.moving = Some(Moving {
        version: VersionId::from_bytes([99; 16]),
        version_reference: "support-desk-tuned@2".into(),
        failure: Some(failure),
    });
    let (serves, reference) = (service.record.version, service.version_reference.clone());
    let (model, _) = reference.split_once('@').unwrap();
    let model = facts.models.iter_mut().find(|m| m.record.name == model).unwrap();
    model.record.aliases = vec![Alias { name: "live".into(), version: serves, previous: Some(serves) }];
    for language in [Language::En, Language::Zh] {
        for size in SIZES {
            let mut bench = Bench::new(language, facts.clone());
            bench.picture(size);
            bench.go(Area::Services);
            keep(format!("service_moving_{}x{}_{}", size.0, size.1, word(language)), &bench.picture(size));
            bench.asks();
            bench.press(Action::Undo);
            keep(format!("question_roll_back_{}x{}_{}", size.0, size.1, word(language)), &bench.picture(size));
            bench.typed("y");
            let back = |request: &Request| matches!(request, Request::RollBack { alias, .. } if alias == "live");
            assert!(bench.asks().iter().any(|(_, request)| back(request)));
        }
    }
}
