//! Whether a request may begin: an application's requests and tokens of the last minute, what is open, and what its budget
//! leaves. A pure function of ledger rows and of the time that is handed in, by a clock that is never set, so that no step of the
//! wall's clock opens a window again; it is filled from the ledger at start.
//! Never here: the ledger itself, prices.

use std::collections::{HashMap, VecDeque};

use hone_protocol::application::Limits;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::{ApplicationId, LedgerId};
use hone_protocol::value::Pico;

/// How far limits look back.
pub(super) const WINDOW_MS: i64 = 60_000;
/// Name of a failure's argument that says after how many seconds to try again.
const RETRY_AFTER: &str = "retry_after_s";

/// A request as the limits see it.
#[derive(Debug, Clone)]
struct Begun {
    row: LedgerId,
    at_ms: i64,
    /// Of an open request, the most that it may become.
    tokens: u64,
    /// Of an open request, the most that it may cost; else nothing, since it is in the sums then.
    reserved: Pico,
    open: bool,
}

/// What a request may become.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Most tokens.
    pub(super) tokens: u64,
    /// Most cost.
    pub(super) cost: Pico,
}

/// What a limit of a minute leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The limit.
    pub most: u64,
    /// What is left of it.
    pub left: u64,
    /// After how many milliseconds all of it is there again, if nothing more is asked for.
    pub reset_ms: u64,
}

/// What the limits of an application leave; none where there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowance {
    /// Requests of a minute.
    pub requests: Option<Room>,
    /// Tokens of a minute.
    pub tokens: Option<Room>,
}

impl Allowance {
    /// Names of arguments of a failure that say the same, for requests and for tokens: limit, left, reset in milliseconds.
    pub const ARGS: [[&str; 3]; 2] =
        [["requests_limit", "requests_left", "requests_reset_ms"], ["tokens_limit", "tokens_left", "tokens_reset_ms"]];

    /// A refusal that says it too.
    pub(super) fn told(self, refused: Failure) -> Failure {
        let each = [self.requests, self.tokens].into_iter().zip(Allowance::ARGS);
        each.filter_map(|(room, names)| Some((room?, names))).fold(refused, |refused, (room, [most, left, reset])| {
            refused.arg(most, room.most).arg(left, room.left).arg(reset, room.reset_ms)
        })
    }
}

/// Requests of the last minute and open ones, by application, oldest first.
#[derive(Debug, Default)]
pub(super) struct Begins {
    by_application: HashMap<ApplicationId, VecDeque<Begun>>,
}

impl Begins {
    /// Whether a request may begin now. `left` is what the budget leaves but for what is open; `None` without a budget.
    pub(super) fn admit(
        &mut self,
        application: ApplicationId,
        limits: Limits,
        left: Option<Pico>,
        wanted: Wanted,
        now_ms: i64,
    ) -> Result<(), Failure> {
        let begun = self.by_application.entry(application).or_default();
        let recent = || begun.iter().filter(|one| one.at_ms > now_ms - WINDOW_MS);
        // In whole seconds, and never 0: at once is no advice.
        let wait = |at_ms: i64| ((at_ms + WINDOW_MS - now_ms).max(1) as u64).div_ceil(1000);
        if let Some(most) = limits.parallel {
            let open = begun.iter().filter(|one| one.open).count() as u64;
            if open >= most {
                return Err(reached("parallel", format!("{most} requests at a time"), most, open, 1));
            }
        }
        if let Some(most) = limits.requests_per_minute {
            let count = recent().count() as u64;
            if count >= most {
                let free = recent().nth((count - most) as usize).map_or(1, |one| wait(one.at_ms));
                return Err(reached("requests_per_minute", format!("{most} requests a minute"), most, count, free));
            }
        }
        if let Some(most) = limits.tokens_per_minute {
            if wanted.tokens > most {
                let message = format!(
                    "the request may come to {} tokens and {most} a minute are allowed; lower max_tokens",
                    wanted.tokens
                );
                return Err(Failure::new(FailureCode::LimitReached, message)
                    .at("tokens_per_minute")
                    .arg("limit", most)
                    .arg("wanted", wanted.tokens));
            }
            let used: u64 = recent().map(|one| one.tokens).sum();
            if used + wanted.tokens > most {
                let mut over = used + wanted.tokens - most;
                let free = recent().find(|one| {
                    over = over.saturating_sub(one.tokens);
                    over == 0
                });
                let free = free.map_or(1, |one| wait(one.at_ms));
                return Err(reached("tokens_per_minute", format!("{most} tokens a minute"), most, used, free));
            }
        }
        match left {
            Some(left) => affordable(Pico(left.0 - self.reserved(application).0), wanted.cost),
            None => Ok(()),
        }
    }

    /// What open requests of an application may come to.
    pub(super) fn reserved(&self, application: ApplicationId) -> Pico {
        self.by_application.get(&application).into_iter().flatten().map(|one| one.reserved).sum()
    }

    /// A request began. What no limit looks at any more is forgotten here, where every application passes, limited or not.
    pub(super) fn begin(&mut self, application: ApplicationId, row: LedgerId, at_ms: i64, wanted: Wanted) {
        let begun = self.by_application.entry(application).or_default();
        begun.retain(|one| one.open || one.at_ms > at_ms - WINDOW_MS);
        begun.push_back(Begun { row, at_ms, tokens: wanted.tokens, reserved: wanted.cost, open: true });
    }

    /// What was set aside for an open request is known better.
    pub(super) fn correct(&mut self, application: ApplicationId, row: LedgerId, wanted: Wanted) {
        let begun = self.by_application.get_mut(&application).into_iter().flatten();
        if let Some(one) = begun.rev().find(|one| one.row == row && one.open) {
            (one.tokens, one.reserved) = (wanted.tokens, wanted.cost);
        }
    }

    /// What limits leave now.
    pub(super) fn allowance(&self, application: ApplicationId, limits: Limits, now_ms: i64) -> Allowance {
        let begun = self.by_application.get(&application).into_iter().flatten();
        let recent: Vec<&Begun> = begun.filter(|one| one.at_ms > now_ms - WINDOW_MS).collect();
        let room = |most: u64, used: u64| {
            let reset_ms = recent.last().map_or(0, |last| (last.at_ms + WINDOW_MS - now_ms).max(0) as u64);
            Room { most, left: most.saturating_sub(used), reset_ms }
        };
        let tokens = recent.iter().map(|one| one.tokens).sum();
        Allowance {
            requests: limits.requests_per_minute.map(|most| room(most, recent.len() as u64)),
            tokens: limits.tokens_per_minute.map(|most| room(most, tokens)),
        }
    }

    /// A request ended with so many tokens.
    pub(super) fn end(&mut self, application: ApplicationId, row: LedgerId, tokens: u64) {
        let begun = self.by_application.get_mut(&application).into_iter().flatten();
        if let Some(one) = begun.rev().find(|one| one.row == row) {
            *one = Begun { tokens, reserved: Pico(0), open: false, ..one.clone() };
        }
    }
}

fn reached(limit: &'static str, words: String, most: u64, used: u64, wait_s: u64) -> Failure {
    Failure::new(FailureCode::LimitReached, format!("this application may have {words}; try again in {wait_s} s"))
        .at(limit)
        .arg("limit", most)
        .arg("used", used)
        .arg(RETRY_AFTER, wait_s)
}

fn affordable(left: Pico, cost: Pico) -> Result<(), Failure> {
    if left.0 > 0 && cost <= left {
        return Ok(());
    }
    let message = match left.0 > 0 {
        true => format!(
            "the request may cost {} and {} of the application's budget is left; lower max_tokens, or let the owner raise the budget",
            cost.rounded(),
            left.rounded()
        ),
        false => "the application's budget is spent; the owner can raise it or enter a payment".to_owned(),
    };
    Err(Failure::new(FailureCode::BudgetSpent, message)
        .at("budget")
        .arg("left", left.rounded())
        .arg("cost", cost.rounded()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHOP: ApplicationId = ApplicationId::from_bytes([1; 16]);

    fn row(number: u8) -> LedgerId {
        LedgerId::from_bytes([number; 16])
    }

    fn free(tokens: u64) -> Wanted {
        Wanted { tokens, cost: Pico(0) }
    }

    #[test]
    fn a_window_slides_and_says_when_there_is_room() {
        let limits = Limits { requests_per_minute: Some(2), ..Limits::default() };
        let mut begins = Begins::default();
        for (number, at_ms) in [(1, 0), (2, 10_000)] {
            begins.admit(SHOP, limits, None, free(1), at_ms).unwrap();
            begins.begin(SHOP, row(number), at_ms, free(1));
            begins.end(SHOP, row(number), 1);
        }
        let refused = begins.admit(SHOP, limits, None, free(1), 20_000).unwrap_err();
        assert_eq!((refused.code, refused.place.as_str()), (FailureCode::LimitReached, "requests_per_minute"));
        assert!(refused.message_en.ends_with("try again in 40 s"), "{refused}");
        assert!(begins.admit(SHOP, limits, None, free(1), 59_999).is_err());
        begins.admit(SHOP, limits, None, free(1), 60_000).unwrap();
        let other = ApplicationId::from_bytes([2; 16]);
        begins.admit(other, limits, None, free(1), 20_000).unwrap();
    }

    #[test]
    fn tokens_are_set_aside_while_a_request_is_open_and_counted_as_billed_after() {
        let limits = Limits { tokens_per_minute: Some(100), ..Limits::default() };
        let mut begins = Begins::default();
        begins.begin(SHOP, row(1), 0, free(80));
        assert!(begins.admit(SHOP, limits, None, free(30), 1_000).is_err());
        begins.end(SHOP, row(1), 20);
        begins.admit(SHOP, limits, None, free(80), 2_000).unwrap();
        let never = begins.admit(SHOP, limits, None, free(101), 2_000).unwrap_err();
        assert!(never.message_en.contains("lower max_tokens"), "{never}");
    }

    #[test]
    fn what_is_open_counts_however_long_it_takes_and_only_so_long() {
        let limits = Limits { parallel: Some(1), ..Limits::default() };
        let mut begins = Begins::default();
        begins.begin(SHOP, row(1), 0, free(1));
        assert!(begins.admit(SHOP, limits, None, free(1), 3_600_000).is_err());
        begins.end(SHOP, row(1), 1);
        begins.admit(SHOP, limits, None, free(1), 3_600_001).unwrap();
    }

    #[test]
    fn an_application_without_limits_is_remembered_for_a_minute_only() {
        let mut begins = Begins::default();
        for number in 0..200 {
            begins.begin(SHOP, row(number), i64::from(number) * 1_000, free(1));
            if number > 0 {
                begins.end(SHOP, row(number), 1);
            }
        }
        // The last minute, and the one that is open still.
        assert_eq!(begins.by_application[&SHOP].len(), 61);
    }

    #[test]
    fn a_budget_is_refused_by_what_a_request_may_cost() {
        let mut begins = Begins::default();
        let wanted = Wanted { tokens: 1, cost: Pico(60) };
        begins.admit(SHOP, Limits::default(), Some(Pico(100)), wanted, 0).unwrap();
        begins.begin(SHOP, row(1), 0, wanted);
        let refused = begins.admit(SHOP, Limits::default(), Some(Pico(100)), wanted, 0).unwrap_err();
        assert_eq!(refused.code, FailureCode::BudgetSpent);
        begins.end(SHOP, row(1), 1);
        begins.admit(SHOP, Limits::default(), Some(Pico(99)), wanted, 0).unwrap();
        let spent = begins.admit(SHOP, Limits::default(), Some(Pico(0)), free(1), 0).unwrap_err();
        assert!(spent.message_en.contains("is spent"), "{spent}");
    }

    proptest! {
        /// Whatever comes and goes, no minute holds more than its limits and no budget is overrun.
        #[test]
        fn no_limit_is_ever_passed(asks in proptest::collection::vec((0_i64..9_000, 1_u64..60, 0_u64..60, any::<bool>()), 1..120)) {
            let limits = Limits { requests_per_minute: Some(7), tokens_per_minute: Some(200), parallel: Some(3) };
            let (mut begins, mut now_ms, mut spent) = (Begins::default(), 0, 0);
            let mut all: Vec<(i64, u64, Option<u64>)> = Vec::new();
            for (index, (pause, most, used, ends)) in asks.into_iter().enumerate() {
                now_ms += pause;
                let wanted = Wanted { tokens: most, cost: Pico(most as i128) };
                let id = row(index as u8);
                if begins.admit(SHOP, limits, Some(Pico(1_000 - spent)), wanted, now_ms).is_ok() {
                    begins.begin(SHOP, id, now_ms, wanted);
                    all.push((now_ms, most, None));
                    if ends {
                        begins.end(SHOP, id, used.min(most));
                        spent += used.min(most) as i128;
                        all.last_mut().unwrap().2 = Some(used.min(most));
                    }
                }
                let recent: Vec<_> = all.iter().filter(|(at, ..)| *at > now_ms - WINDOW_MS).collect();
                prop_assert!(recent.len() <= 7);
                prop_assert!(recent.iter().map(|(_, most, used)| used.unwrap_or(*most)).sum::<u64>() <= 200);
                let open: Vec<_> = all.iter().filter(|(.., used)| used.is_none()).collect();
                prop_assert!(open.len() <= 3);
                prop_assert!(spent + open.iter().map(|(_, most, _)| *most as i128).sum::<i128>() <= 1_000);
            }
        }
    }
}
