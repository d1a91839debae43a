//! Pictures of usage, of pools, of a service's figures and of the payment form, at three sizes in both languages, empty ones too. Only tests
//! see this.

use crossterm::event::{KeyCode, KeyEvent};
use hone_protocol::application::{Budget, LedgerRow, Outcome, Usage};
use hone_protocol::catalogue::Language;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::guard::{GuardCounts, GuardStats, GuardTrial};
use hone_protocol::id::{ApplicationId, LedgerId, ServiceId, VersionId};
use hone_protocol::log::{FeedbackCounts, LogPage, Rating};
use hone_protocol::model::Alias;
use hone_protocol::pool::{PoolPlace, Share, SlurmPlace};
use hone_protocol::request::{Answer, Down, Request};
use hone_protocol::service::{Moving, Price};
use hone_protocol::upstream::{Secret, Upstream};
use hone_protocol::usage::{ComputeUsage, ReservedUsage, ServiceStats, Span, Stats, UsageLine, UsagePage};
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
        reserved: ReservedUsage { rows: 1, reserved_ms: 3_600_000, amount: Pico(1_200_000_000_000) },
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
        feedback: FeedbackCounts { up: 12, down: 2, corrections: 1 },
    };
    let guard = GuardStats {
        guard: "pii".into(),
        service: "desk".into(),
        application: "web-shop".into(),
        counts: GuardCounts { input: 41, output: 3, refused: 0 },
    };
    Stats { span: Span::Hour, lines: vec![line], is_cut: false, guards: vec![guard] }
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
                (0..3).for_each(|_| drop(bench.press(Action::PreviousTab)));
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

/// Answers what the log and the guards ask for.
fn oversee(bench: &mut Bench, is_empty: bool) {
    // The page first, then the entry that is selected in it.
    for _ in 0..2 {
        bench.app.update(Event::Tick, NOW_MS);
        for (id, request) in bench.asks() {
            match request {
                Request::LogPage(_) if is_empty => bench.answer(id, Answer::LogPage(LogPage::default())),
                Request::LogPage(_) => bench.answer(id, Answer::LogPage(sample::log_page())),
                Request::LogEntry { .. } => bench.answer(id, Answer::LogEntry(Box::new(sample::log_detail()))),
                Request::Guards => {
                    bench.answer(id, Answer::Guards(if is_empty { Vec::new() } else { sample::guards() }))
                }
                Request::TestGuard { .. } => {
                    let trial = GuardTrial { passes: "write to [EMAIL]".into(), refused: false, matches: Vec::new() };
                    bench.answer(id, Answer::Trial(trial));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_log_and_guards_are_shown_and_their_forms() {
    for language in [Language::En, Language::Zh] {
        for size in SIZES {
            let name = |what: &str| format!("{what}_{}x{}_{}", size.0, size.1, word(language));
            for is_empty in [false, true] {
                let state = if is_empty { "empty" } else { "filled" };
                let mut bench = Bench::new(language, sample::filled());
                bench.picture(size);
                bench.go(Area::Services);
                bench.press(Action::NextTab);
                bench.press(Action::Down);
                bench.press(Action::Log);
                keep(name("log_loading"), &bench.picture(size));
                oversee(&mut bench, is_empty);
                keep(name(&format!("log_{state}")), &bench.picture(size));
                if !is_empty {
                    bench.press(Action::New);
                    keep(name("form_log_rows"), &bench.picture(size));
                    bench.press(Action::Out);
                    bench.press(Action::Edit);
                    keep(name("form_log_search"), &bench.picture(size));
                    bench.press(Action::Out);
                }
                bench.press(Action::NextTab);
                keep(name("guards_loading"), &bench.picture(size));
                oversee(&mut bench, is_empty);
                keep(name(&format!("guards_{state}")), &bench.picture(size));
                bench.press(Action::New);
                keep(name("form_guard"), &bench.picture(size));
            }
        }
    }
}

/// A machine that is divided, and a cluster.
fn divided() -> hone_protocol::event::Snapshot {
    let mut facts = sample::filled();
    let share = Share { cores: 4, memory_bytes: 6 << 30, gpus: vec!["0".into()] };
    let slurm = SlurmPlace {
        folder: "/shared/hone".into(),
        programs: None,
        partition: Some("main".into()),
        account: None,
        qos: None,
        minutes: Some(240),
        cores: 16,
        memory_mib: None,
        gres: Some("gpu:1".into()),
        options: vec!["--constraint=avx512".into()],
    };
    let mut cluster = sample::pool("cluster", NOW_MS, Some(PoolPlace::Slurm(Box::new(slurm))));
    (cluster.cores, cluster.memory_bytes) = (16, 0);
    cluster.record.price.core_hour_micros = Some(30_000);
    cluster.users = vec!["job_01 (train)".into()];
    let mut night = sample::pool("night", NOW_MS, Some(PoolPlace::Share(share)));
    (night.cores, night.memory_bytes, night.used_bytes) = (4, 6 << 30, 1 << 30);
    facts.pools.extend([cluster, night]);
    facts
}

#[test]
fn pools_with_their_users_and_forms() {
    for language in [Language::En, Language::Zh] {
        for size in SIZES {
            let name = |what: &str| format!("{what}_{}x{}_{}", size.0, size.1, word(language));
            for (state, facts) in [("local", sample::filled()), ("filled", divided())] {
                let mut bench = Bench::new(language, facts);
                bench.picture(size);
                bench.go(Area::Services);
                (0..3).for_each(|_| drop(bench.press(Action::NextTab)));
                if state == "filled" {
                    bench.press(Action::Down);
                }
                keep(name(&format!("pools_{state}")), &bench.picture(size));
                bench.press(Action::Enter);
                keep(name(&format!("form_pool_{state}")), &bench.picture(size));
            }
        }
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
                (0..4).for_each(|_| drop(bench.press(Action::NextTab)));
                keep(name(if is_empty { "hooks_empty" } else { "hooks_filled" }), &bench.picture(size));
                bench.press(if is_empty { Action::New } else { Action::Edit });
                keep(name(if is_empty { "form_hook" } else { "form_hook_filled" }), &bench.picture(size));
            }
        }
        let mut bench = Bench::new(language, facts.clone());
        bench.picture((100, 30));
        bench.go(Area::Services);
        (0..4).for_each(|_| drop(bench.press(Action::NextTab)));
        bench.asks();
        bench.press(Action::Try);
        let is_test = |request: &Request| matches!(request, Request::TestHook { name } if name == "ops");
        assert!(bench.asks().iter().any(|(_, request)| is_test(request)));
        bench.press(Action::Edit);
        bench.press(Action::Run);
        let asked = bench.asks().into_iter().find_map(|(id, request)| match request {
            Request::SetHook { name, on, target, timeout_ms } => Some((id, name, on, target, timeout_ms)),
            _ => None,
        });
        let hook = facts.hooks[0].clone();
        let (id, said, on, target, timeout_ms) = asked.unwrap();
        assert_eq!((&said, &on, &target, timeout_ms), (&hook.name, &hook.on, &hook.target, hook.timeout_ms));
        bench.answer(id, Answer::Hook { hook: Box::new(hook), secret: Some("hook_0123456789abcdef".into()) });
        keep(format!("hook_secret_100x30_{}", word(language)), &bench.picture((100, 30)));
        bench.press(Action::Out);
        bench.press(Action::Delete);
        keep(format!("question_remove_hook_100x30_{}", word(language)), &bench.picture((100, 30)));
    }
}

#[test]
fn what_is_pressed_in_the_log_is_asked_for() {
    let mut bench = Bench::new(Language::En, sample::filled());
    bench.picture((200, 50));
    bench.go(Area::Services);
    bench.press(Action::NextTab);
    bench.press(Action::Down);
    bench.press(Action::Log);
    oversee(&mut bench, false);
    let line = sample::log_page().lines.remove(0);
    bench.press(Action::Delete);
    let rated = bench.asks().into_iter().find_map(|(id, request)| match request {
        Request::Rate { response, feedback } => Some((id, response, feedback.rating)),
        _ => None,
    });
    let (id, response, rating) = rated.expect("it is said to be bad");
    assert_eq!((response, rating), (line.id.to_string(), Some(Rating::Down)));
    bench.answer(id, Answer::Done);
    bench.app.update(Event::Tick, NOW_MS);
    assert!(bench.asks().iter().any(|(_, request)| matches!(request, Request::LogPage(_))), "it is read again");
    oversee(&mut bench, false);
    bench.press(Action::Mark);
    bench.press(Action::New);
    bench.press(Action::Run);
    let made = bench.asks().into_iter().find_map(|(_, request)| match request {
        Request::Submit { spec, .. } => Some(serde_json::to_value(spec).unwrap()),
        _ => None,
    });
    let made = made.expect("rows are asked for");
    let source = &made["import_dataset"]["source"]["log"];
    assert_eq!((&source["shape"], &source["ids"][0]), (&"chat".into(), &line.id.to_string().into()));
    assert_eq!(made["import_dataset"]["name"], "web-shop-log");

    bench.press(Action::NextTab);
    oversee(&mut bench, false);
    bench.press(Action::Try);
    bench.press(Action::Run);
    assert!(bench.asks().iter().any(|(_, request)| matches!(request, Request::TestGuard { .. })));
    bench.press(Action::Delete);
    bench.press(Action::Enter);
}

#[test]
fn a_pool_is_made_changed_and_removed() {
    let mut bench = Bench::new(Language::En, divided());
    bench.picture((100, 30));
    bench.go(Area::Services);
    (0..3).for_each(|_| drop(bench.press(Action::NextTab)));
    bench.press(Action::Down);
    bench.press(Action::Enter);
    bench.asks();
    bench.press(Action::Run);
    let asked = bench.asks().into_iter().find_map(|(id, request)| match request {
        Request::SetPool { name, price, place } => Some((id, name, price, place)),
        _ => None,
    });
    let (id, name, price, place) = asked.expect("the pool is asked for as it was");
    let cluster = divided().pools.remove(1).record;
    assert_eq!((name, price, place), (cluster.name, cluster.price, cluster.place));
    let refused = hone_protocol::failure::Failure::field("minutes", "a job needs 3 minutes at least");
    bench.app.update(Event::Down(1, Box::new(Down::Answer { id, answer: Err(refused) })), NOW_MS);
    keep("form_pool_refused_100x30_en".into(), &bench.picture((100, 30)));
    bench.press(Action::Out);
    bench.press(Action::Delete);
    keep("question_remove_pool_100x30_en".into(), &bench.picture((100, 30)));
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

#[test]
fn a_server_elsewhere_is_shown_and_changed() {
    let mut facts = sample::filled();
    let service = &mut facts.services[0];
    let upstream = Upstream { url: "https://up.example/v1".into(), model: "big".into(), has_key: true };
    service.record.upstream = Some(upstream);
    service.version_reference = "upstream:big".into();
    service.memory_bytes = 0;
    let why = "the upstream of service desk refuses the key that hone has for it";
    let failure = Failure::new(FailureCode::UpstreamFailed, why).hint(HintCode::CheckUpstream);
    service.trouble = Some(failure);
    for language in [Language::En, Language::Zh] {
        let mut bench = Bench::new(language, facts.clone());
        bench.picture((100, 30));
        bench.go(Area::Services);
        for size in SIZES {
            keep(format!("upstream_service_{}x{}_{}", size.0, size.1, word(language)), &bench.picture(size));
        }
        bench.press(Action::Edit);
        // Engine, name, address, model, key.
        for _ in 0..4 {
            bench.press(Action::Down);
        }
        bench.key(KeyEvent::from(KeyCode::Enter));
        bench.typed("sk-new");
        bench.key(KeyEvent::from(KeyCode::Enter));
        for size in SIZES {
            let picture = bench.picture(size);
            assert!(!picture.contains("sk-new"));
            keep(format!("form_upstream_{}x{}_{}", size.0, size.1, word(language)), &picture);
        }
        bench.asks();
        bench.press(Action::Run);
        let asked = bench.asks().into_iter().find_map(|(_, request)| match request {
            Request::PublishUpstream { name, upstream, .. } => Some((name, upstream)),
            _ => None,
        });
        let (name, upstream) = asked.expect("it is published");
        assert_eq!((name.as_str(), upstream.model.as_str()), (facts.services[0].record.name.as_str(), "big"));
        assert_eq!(upstream.key, Some(Secret("sk-new".into())));
    }
}
