//! Who works on which row of a project, and how far it is: facts of memory, made anew of the stored labels at start. Lives here: the order
//! of rows, leases, repeats, undo. Never here: the store, whether a value fits the task.

use std::collections::{HashMap, HashSet};

use hone_protocol::labelling::{
    Decision, How, LEASE_MS, LabelRecord, Order, PersonCounts, ProjectCounts, ProjectSpec, SUGGESTED_LEAST_PERCENT,
    SUGGESTED_LOOK, Suggestion,
};

use super::said::{Said, Seat, What, hash, is_flagged, standing, what};

/// A repeat comes after at least so many other rows.
const REPEAT_AFTER: usize = 10;

/// A row that somebody looks at.
#[derive(Debug, Clone, Copy)]
struct Lease {
    person: u16,
    session: u64,
    until_ms: i64,
}

/// A project at work.
pub(crate) struct Desk {
    /// Ids of its rows, ascending as the version has them.
    rows: Vec<u64>,
    in_project: HashSet<u64>,
    /// Places in `rows`, in the order in which they are looked at; made when it is needed.
    order: Option<Vec<u32>>,
    said: HashMap<u64, Vec<Said>>,
    leases: HashMap<u64, Vec<Lease>>,
    suggested: HashMap<u64, (u64, Option<f32>)>,
    seats: Vec<Seat>,
    done: u64,
    begun: u64,
    disputed: u64,
    next_seq: u64,
}

/// SplitMix64 (Steele, Lea, Flood 2014) over a seed and a number.
fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What a row counts for: done, begun, disputed.
type RowCount = (bool, bool, bool);

impl Desk {
    /// A desk without labels. `spans` are the rows of the version, `chosen` those of the project where not all are.
    pub(crate) fn new(spec: &ProjectSpec, spans: Vec<(u64, u64)>, chosen: Option<Vec<u64>>) -> Desk {
        let all = spans.into_iter().flat_map(|(first, count)| first..first.saturating_add(count));
        let mut rows: Vec<u64> = match chosen {
            None => all.collect(),
            Some(chosen) => {
                let chosen: HashSet<u64> = chosen.into_iter().collect();
                all.filter(|id| chosen.contains(id)).collect()
            }
        };
        if spec.rows_max > 0 && (rows.len() as u64) > spec.rows_max {
            if spec.order == Order::Random {
                rows.sort_by_key(|id| mix(spec.seed, *id));
            }
            rows.truncate(spec.rows_max as usize);
            rows.sort_unstable();
        }
        Desk {
            in_project: rows.iter().copied().collect(),
            rows,
            order: None,
            said: HashMap::new(),
            leases: HashMap::new(),
            suggested: HashMap::new(),
            seats: Vec::new(),
            done: 0,
            begun: 0,
            disputed: 0,
            next_seq: 0,
        }
    }

    /// How many rows it has.
    pub(crate) fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Ids of its rows, ascending as the version has them.
    pub(crate) fn row_ids(&self) -> &[u64] {
        &self.rows
    }

    /// Whether a row is in it.
    pub(crate) fn has(&self, row_id: u64) -> bool {
        self.in_project.contains(&row_id)
    }

    /// The number of the next label.
    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// How far it is.
    pub(crate) fn counts(&self) -> ProjectCounts {
        ProjectCounts {
            done: self.done,
            begun: self.begun,
            disputed: self.disputed,
            suggested: self.suggested.len() as u64,
            next_seq: self.next_seq,
            persons: self.seats.iter().map(|seat| seat.counts.clone()).collect(),
        }
    }

    /// What a service thinks of a row.
    pub(crate) fn suggest(&mut self, suggestion: &Suggestion) {
        self.suggested.insert(suggestion.row_id, (hash(&suggestion.value.key()), suggestion.probability));
    }

    /// The order is another now, because suggestions came or the project was changed.
    pub(crate) fn reorder(&mut self) {
        self.order = None;
        self.seats.iter_mut().for_each(|seat| seat.cursor = 0);
    }

    /// Whether somebody was suggested for a row, and whether a decision says the same.
    pub(crate) fn as_suggested(&self, decision: &Decision) -> Option<bool> {
        if decision.value.is_skip() || decision.how == How::Final {
            return None;
        }
        self.suggested.get(&decision.row_id).map(|(key, _)| *key == hash(&decision.value.key()))
    }

    /// Whether a person is shown this row again without knowing.
    pub(crate) fn is_repeat(&self, person: &str, row_id: u64) -> bool {
        let Some(person) = self.find(person) else { return false };
        let decided = self.own(row_id, person).is_some_and(|(what, _)| what == What::Decided);
        decided && self.seats[usize::from(person)].repeats.contains(&row_id)
    }

    /// Why a person may not decide on a row, if so: who has decided it.
    pub(crate) fn taken_by(&self, spec: &ProjectSpec, person: &str, row_id: u64) -> Option<String> {
        let said = self.said.get(&row_id)?;
        let name = |number: u16| self.seats[usize::from(number)].counts.person.clone();
        if let Some(last) = said.iter().rfind(|said| said.what == What::Settled) {
            return Some(name(last.person));
        }
        let own = self.find(person);
        let others: Vec<u16> = standing(said).filter(|s| Some(s.person) != own).map(|s| s.person).collect();
        let again = standing(said).any(|said| Some(said.person) == own);
        (!again && others.len() >= spec.persons as usize)
            .then(|| others.into_iter().map(name).collect::<Vec<_>>().join(", "))
    }

    fn find(&self, person: &str) -> Option<u16> {
        self.seats.iter().position(|seat| seat.counts.person == person).map(|at| at as u16)
    }

    fn number(&mut self, person: &str) -> u16 {
        self.find(person).unwrap_or_else(|| {
            let counts = PersonCounts { person: person.to_owned(), ..PersonCounts::default() };
            self.seats.push(Seat { counts, ..Seat::default() });
            (self.seats.len() - 1) as u16
        })
    }

    /// What a row counts for.
    fn row_count(&self, row_id: u64, persons: u32) -> RowCount {
        let Some(said) = self.said.get(&row_id) else { return (false, false, false) };
        let settled = said.iter().any(|said| said.what == What::Settled);
        let keys: Vec<u64> = standing(said).map(|said| said.key).collect();
        let differ = keys.windows(2).any(|pair| pair[0] != pair[1]) || is_flagged(said);
        (settled || keys.len() >= persons.max(1) as usize, settled || !keys.is_empty(), differ && !settled)
    }

    fn count(&mut self, before: RowCount, after: RowCount) {
        let add = |sum: &mut u64, before: bool, after: bool| match (before, after) {
            (false, true) => *sum += 1,
            (true, false) => *sum -= 1,
            _ => {}
        };
        add(&mut self.done, before.0, after.0);
        add(&mut self.begun, before.1, after.1);
        add(&mut self.disputed, before.2, after.2);
    }

    /// Takes a stored label at start.
    pub(crate) fn remember(&mut self, record: &LabelRecord) {
        self.next_seq = self.next_seq.max(record.seq + 1);
        if record.taken_back_at_ms.is_none() {
            self.add(record, u32::MAX);
        }
    }

    /// After all labels were remembered, or the number of persons changed: counts rows anew.
    pub(crate) fn recount(&mut self, persons: u32) {
        (self.done, self.begun, self.disputed) = (0, 0, 0);
        let rows: Vec<u64> = self.said.keys().copied().collect();
        for row_id in rows {
            let now = self.row_count(row_id, persons);
            self.count((false, false, false), now);
        }
    }

    /// Takes a label.
    pub(crate) fn add(&mut self, record: &LabelRecord, persons: u32) {
        self.next_seq = self.next_seq.max(record.seq + 1);
        let decision = &record.decision;
        let person = self.number(&record.person);
        let before = self.row_count(decision.row_id, persons);
        let own_before = self.own(decision.row_id, person);
        let said = Said {
            person,
            seq: record.seq,
            what: what(decision, record.is_repeat),
            key: hash(&decision.value.key()),
            spent_ms: decision.spent_ms,
            as_suggested: record.as_suggested,
        };
        let first = self.said.get(&decision.row_id).and_then(|all| standing(all).find(|s| s.person == person)).copied();
        self.said.entry(decision.row_id).or_default().push(said);
        self.count(before, self.row_count(decision.row_id, persons));
        let own_after = self.own(decision.row_id, person);
        let seat = &mut self.seats[usize::from(person)];
        seat.counts.last_at_ms = seat.counts.last_at_ms.max(record.at_ms);
        seat.tell(&said, first, 1);
        seat.now(decision.row_id, own_before, own_after);
        match seat.groups.last_mut().filter(|(group, _)| *group == record.group) {
            Some((_, rows)) => rows.push((decision.row_id, record.seq)),
            None => seat.groups.push((record.group, vec![(decision.row_id, record.seq)])),
        }
        if let Some(same) = record.as_suggested {
            if seat.recent.len() == SUGGESTED_LOOK {
                seat.recent.pop_front();
            }
            seat.recent.push_back(same);
        }
        if record.is_repeat {
            self.seats[usize::from(person)].repeats.remove(&decision.row_id);
        }
        self.release(person, decision.row_id);
    }

    /// The newest group of a person that holds a row, or the newest of all: rows with the numbers of their labels.
    pub(crate) fn newest_group(&self, person: &str, row_id: Option<u64>) -> Option<Vec<(u64, u64)>> {
        let seat = &self.seats[usize::from(self.find(person)?)];
        let holds = |rows: &[(u64, u64)]| row_id.is_none_or(|row_id| rows.iter().any(|(id, _)| *id == row_id));
        seat.groups.iter().rfind(|(_, rows)| holds(rows)).map(|(_, rows)| rows.clone())
    }

    /// Takes a label back.
    pub(crate) fn remove(&mut self, (person, row_id, seq): (&str, u64, u64), persons: u32) {
        let Some(person) = self.find(person) else { return };
        let before = self.row_count(row_id, persons);
        let own_before = self.own(row_id, person);
        let Some(all) = self.said.get_mut(&row_id) else { return };
        let Some(at) = all.iter().position(|said| said.seq == seq) else { return };
        let said = all.remove(at);
        let first = standing(all).find(|s| s.person == person).copied();
        if all.is_empty() {
            self.said.remove(&row_id);
        }
        self.count(before, self.row_count(row_id, persons));
        let own_after = self.own(row_id, person);
        let seat = &mut self.seats[usize::from(person)];
        seat.tell(&said, first, -1);
        seat.now(row_id, own_before, own_after);
        for (_, rows) in &mut seat.groups {
            rows.retain(|(_, own)| *own != seq);
        }
        seat.groups.retain(|(_, rows)| !rows.is_empty());
        if said.as_suggested.is_some() {
            seat.recent.pop_back();
        }
        if matches!(said.what, What::Repeated | What::Passed) {
            // The row is on the table again, and still measures the person.
            seat.repeats.insert(row_id);
        }
        // The row is open again for everybody.
        self.seats.iter_mut().for_each(|seat| seat.cursor = 0);
    }

    /// What a person's word on a row is now, and its number.
    fn own(&self, row_id: u64, person: u16) -> Option<(What, u64)> {
        let said = self.said.get(&row_id)?;
        let own =
            |said: &&Said| said.person == person && !matches!(said.what, What::Repeated | What::Passed | What::Settled);
        said.iter().rfind(own).map(|said| (said.what, said.seq))
    }

    fn release(&mut self, person: u16, row_id: u64) {
        if let Some(leases) = self.leases.get_mut(&row_id) {
            leases.retain(|lease| lease.person != person);
            if leases.is_empty() {
                self.leases.remove(&row_id);
            }
        }
    }

    /// A window is gone: its rows are free.
    pub(crate) fn leave(&mut self, person: &str, session: u64) {
        let Some(person) = self.find(person) else { return };
        self.leases.retain(|_, leases| {
            leases.retain(|lease| (lease.person, lease.session) != (person, session));
            !leases.is_empty()
        });
    }

    /// Whether suggestions may be chosen beforehand for a person.
    pub(crate) fn is_suggesting(&self, person: &str) -> bool {
        let Some(person) = self.find(person) else { return true };
        let recent = &self.seats[usize::from(person)].recent;
        let same = recent.iter().filter(|same| **same).count() as u64;
        recent.len() < SUGGESTED_LOOK / 2 || same * 100 >= SUGGESTED_LEAST_PERCENT * recent.len() as u64
    }

    /// Rows for a person, which are theirs from now on; those that the session holds stay so, its others are let go.
    pub(crate) fn hand_out(
        &mut self,
        spec: &ProjectSpec,
        (person, session): (&str, u64),
        held: &[u64],
        count: usize,
        now_ms: i64,
    ) -> Vec<u64> {
        let person = self.number(person);
        let held: HashSet<u64> = held.iter().copied().collect();
        self.leases.retain(|row_id, leases| {
            let own = |lease: &Lease| lease.person == person && lease.session == session;
            leases.retain(|lease| lease.until_ms > now_ms && (!own(lease) || held.contains(row_id)));
            leases.iter_mut().filter(|lease| own(lease)).for_each(|lease| lease.until_ms = now_ms + LEASE_MS);
            !leases.is_empty()
        });
        let lease = || Lease { person, session, until_ms: now_ms + LEASE_MS };
        for row_id in held.iter().filter(|row_id| self.in_project.contains(row_id)) {
            // After a restart of the daemon nobody held anything. What is another's meanwhile stays so.
            if self.is_free(spec, person, *row_id) {
                self.leases.entry(*row_id).or_default().push(lease());
            }
        }
        let mut handed = Vec::new();
        while handed.len() < count {
            let repeat = self.repeat(spec, person, handed.len());
            let next = match repeat {
                Some(row_id) => Some((row_id, true)),
                None => self.next_open(spec, person).map(|row_id| (row_id, false)),
            };
            let Some((row_id, is_repeat)) = next else { break };
            self.leases.entry(row_id).or_default().push(lease());
            let seat = &mut self.seats[usize::from(person)];
            seat.handed += 1;
            if is_repeat {
                seat.repeats.insert(row_id);
            }
            handed.push(row_id);
        }
        handed
    }

    /// A row that the person is shown again, if it is time for one.
    fn repeat(&self, spec: &ProjectSpec, person: u16, ahead: usize) -> Option<u64> {
        let seat = &self.seats[usize::from(person)];
        if mix(spec.seed ^ 0x5eed, seat.handed) % 100 >= u64::from(spec.repeat_percent) {
            return None;
        }
        let older = seat.groups.len().checked_sub(REPEAT_AFTER.saturating_sub(ahead).max(1))?;
        if older == 0 {
            return None;
        }
        // A few tries: rows that were repeated or changed already are not repeated again.
        (0..8).find_map(|tried| {
            let (_, rows) = &seat.groups[(mix(spec.seed, seat.handed ^ (tried << 32)) % older as u64) as usize];
            let (row_id, _) = rows.first()?;
            let said = self.said.get(row_id)?;
            let own = said.iter().filter(|said| said.person == person).count();
            let decided = self.own(*row_id, person).is_some_and(|(what, _)| what == What::Decided);
            let settled = said.iter().any(|said| said.what == What::Settled);
            let leased = self.leases.get(row_id).is_some_and(|leases| leases.iter().any(|l| l.person == person));
            (own == 1 && decided && !settled && !leased).then_some(*row_id)
        })
    }

    /// The next row that a person has not decided and others leave open; skipped ones come at the end.
    fn next_open(&mut self, spec: &ProjectSpec, person: u16) -> Option<u64> {
        if self.order.is_none() {
            self.order = Some(self.make_order(spec));
        }
        let order = self.order.take()?;
        let mut cursor = self.seats[usize::from(person)].cursor;
        let mut found = None;
        let mut only_finished = true;
        let begin = cursor;
        for (place, at) in order.iter().enumerate().skip(begin) {
            let row_id = self.rows[*at as usize];
            let finished = self.is_finished(spec, person, row_id);
            only_finished &= finished;
            if only_finished {
                cursor = place + 1;
            }
            if !finished && self.is_free(spec, person, row_id) {
                found = Some(row_id);
                break;
            }
        }
        self.seats[usize::from(person)].cursor = cursor;
        self.order = Some(order);
        found.or_else(|| {
            let seat = &self.seats[usize::from(person)];
            let skipped = seat.skipped.iter().map(|(_, row_id)| *row_id);
            skipped
                .into_iter()
                .find(|row_id| !self.is_full(spec, person, *row_id) && self.is_free(spec, person, *row_id))
        })
    }

    /// Whether the person has said something of the row, or no more persons are wanted for it.
    fn is_finished(&self, spec: &ProjectSpec, person: u16, row_id: u64) -> bool {
        self.own(row_id, person).is_some() || self.is_full(spec, person, row_id)
    }

    fn is_full(&self, spec: &ProjectSpec, person: u16, row_id: u64) -> bool {
        let Some(said) = self.said.get(&row_id) else { return false };
        let others = standing(said).filter(|said| said.person != person).count();
        others >= spec.persons as usize || said.iter().any(|said| said.what == What::Settled)
    }

    /// Whether nobody else is about to make the row full, and the person does not hold it already.
    fn is_free(&self, spec: &ProjectSpec, person: u16, row_id: u64) -> bool {
        let Some(leases) = self.leases.get(&row_id) else { return true };
        if leases.iter().any(|lease| lease.person == person) {
            return false;
        }
        let said = self.said.get(&row_id).map_or(&[][..], Vec::as_slice);
        let decided = standing(said).count();
        // Whoever has decided the row and looks at it again takes nobody's place.
        let waiting = leases.iter().filter(|lease| !standing(said).any(|said| said.person == lease.person)).count();
        decided + waiting < spec.persons as usize
    }

    /// Rows in the order in which suggestions are wanted: that of the project, without those that have one.
    pub(crate) fn unsuggested(&self, spec: &ProjectSpec) -> Vec<u64> {
        let order = self.make_order(spec);
        let rows = order.iter().map(|place| self.rows[*place as usize]);
        rows.filter(|row_id| !self.suggested.contains_key(row_id)).collect()
    }

    fn make_order(&self, spec: &ProjectSpec) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.rows.len() as u32).collect();
        let row = |place: &u32| self.rows[*place as usize];
        match spec.order {
            Order::File => {}
            Order::Random => order.sort_by_cached_key(|place| mix(spec.seed, row(place))),
            Order::Unsure => order.sort_by_key(|place| {
                let sure = self.suggested.get(&row(place)).and_then(|(_, probability)| *probability);
                // Probabilities are not negative, so their bits sort as they do.
                sure.map_or(u32::MAX, |sure| sure.max(0.0).to_bits())
            }),
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use hone_protocol::labelling::{LabelName, LabelValue, Task};

    use super::*;
    use crate::labelling::sample_spec;

    fn spec(persons: u32, order: Order, repeat_percent: u32) -> ProjectSpec {
        let label = |name: &str| LabelName { name: name.into(), title: String::new(), keep: true };
        let task = Task::Choice { labels: vec![label("good"), label("bad")] };
        ProjectSpec { order, seed: 7, repeat_percent, persons, ..sample_spec(task) }
    }

    /// A desk with what a test does at it.
    struct Work {
        spec: ProjectSpec,
        desk: Desk,
        records: Vec<LabelRecord>,
        now_ms: i64,
    }

    impl Work {
        fn new(spec: ProjectSpec, rows: u64) -> Work {
            let desk = Desk::new(&spec, vec![(0, rows)], None);
            Work { spec, desk, records: Vec::new(), now_ms: 1_000 }
        }

        fn next(&mut self, person: &str, held: &[u64], count: usize) -> Vec<u64> {
            self.desk.hand_out(&self.spec, (person, 1), held, count, self.now_ms)
        }

        fn say(&mut self, person: &str, row_id: u64, value: LabelValue) -> Result<(), String> {
            if let Some(by) = self.desk.taken_by(&self.spec, person, row_id) {
                return Err(by);
            }
            let seq = self.desk.next_seq();
            let flag = String::new();
            let decision = Decision { row_id, value, flag, note: String::new(), spent_ms: 100, how: How::Own };
            let is_repeat = self.desk.is_repeat(person, row_id);
            let as_suggested = self.desk.as_suggested(&decision);
            let (person, at_ms) = (person.to_owned(), self.now_ms);
            let record = LabelRecord {
                seq,
                group: seq,
                person,
                at_ms,
                decision,
                is_repeat,
                as_suggested,
                taken_back_at_ms: None,
            };
            self.desk.add(&record, self.spec.persons);
            self.records.push(record);
            Ok(())
        }

        fn good(&mut self, person: &str, row_id: u64) -> Result<(), String> {
            self.say(person, row_id, LabelValue::Labels(vec!["good".into()]))
        }

        fn back(&mut self, person: &str, row_id: Option<u64>) -> Vec<u64> {
            let group = self.desk.newest_group(person, row_id).unwrap_or_default();
            for (_, seq) in &group {
                let record = self.records.iter_mut().find(|record| record.seq == *seq).unwrap();
                record.taken_back_at_ms = Some(self.now_ms);
                self.desk.remove((person, record.decision.row_id, *seq), self.spec.persons);
            }
            group.into_iter().map(|(row_id, _)| row_id).collect()
        }

        /// A desk that was made anew of what is stored counts the same.
        fn check(&self) {
            let mut again = Desk::new(&self.spec, vec![(0, self.desk.len())], None);
            self.records.iter().for_each(|record| again.remember(record));
            again.recount(self.spec.persons);
            let (mut now, mut then) = (self.desk.counts(), again.counts());
            for persons in [&mut now.persons, &mut then.persons] {
                persons.retain(|person| person.done + person.skipped + person.flagged + person.repeats > 0);
                persons.iter_mut().for_each(|person| person.last_at_ms = 0);
                persons.sort_by(|a, b| a.person.cmp(&b.person));
            }
            then.suggested = now.suggested;
            assert_eq!(now, then);
        }
    }

    #[test]
    fn no_row_is_handed_to_two_and_none_is_decided_twice() {
        let mut work = Work::new(spec(1, Order::File, 0), 6);
        assert_eq!(work.next("ada", &[], 2), [0, 1]);
        assert_eq!(work.next("lin", &[], 2), [2, 3]);
        work.good("ada", 0).unwrap();
        assert_eq!(work.good("lin", 0), Err("ada".to_owned()));
        assert_eq!(work.next("ada", &[1], 2), [4, 5]);
        assert_eq!(work.next("lin", &[2, 3], 2), Vec::<u64>::new());
        // A window that is gone holds nothing.
        work.desk.leave("lin", 1);
        assert_eq!(work.next("lin", &[], 2), [2, 3]);
        // What ada no longer holds is open again.
        assert_eq!(work.next("ada", &[5], 0), Vec::<u64>::new());
        assert_eq!(work.next("lin", &[2, 3], 9), [1, 4]);
        // Nobody holds a row for ever.
        work.now_ms += LEASE_MS;
        assert_eq!(work.next("mo", &[], 9), [1, 2, 3, 4, 5]);
        work.check();
    }

    #[test]
    fn two_persons_judge_each_row_and_differ() {
        let mut work = Work::new(spec(2, Order::File, 0), 3);
        for person in ["ada", "lin"] {
            assert_eq!(work.next(person, &[], 9), [0, 1, 2]);
        }
        assert!(work.next("mo", &[], 9).is_empty(), "both places are taken");
        for row in 0..3 {
            work.good("ada", row).unwrap();
            work.say("lin", row, LabelValue::Labels(vec![if row == 1 { "bad" } else { "good" }.into()])).unwrap();
        }
        let counts = work.desk.counts();
        assert_eq!((counts.done, counts.begun, counts.disputed), (3, 3, 1));
        work.check();
        assert_eq!(work.back("lin", Some(1)), [1]);
        assert_eq!((work.desk.counts().done, work.desk.counts().disputed), (2, 0));
        assert_eq!(work.next("mo", &[], 9), [1], "the place is free again");
        work.check();
    }

    #[test]
    fn undo_walks_back_through_all_and_skips_come_last() {
        let mut work = Work::new(spec(1, Order::File, 0), 5);
        assert_eq!(work.next("ada", &[], 5), [0, 1, 2, 3, 4]);
        work.say("ada", 0, LabelValue::Skip).unwrap();
        for row in 1..4 {
            work.good("ada", row).unwrap();
        }
        assert_eq!(work.next("ada", &[], 5), [4, 0]);
        // Back and forth: another word on the same row stands in the place of the first.
        work.say("ada", 2, LabelValue::Labels(vec!["bad".into()])).unwrap();
        assert_eq!(work.desk.counts().persons[0].done, 3);
        work.check();
        let mut walked = Vec::new();
        loop {
            let rows = work.back("ada", None);
            work.check();
            if rows.is_empty() {
                break;
            }
            walked.extend(rows);
        }
        assert_eq!(walked, [2, 3, 2, 1, 0]);
        assert_eq!(work.desk.counts().persons[0].done, 0);
        assert_eq!(work.next("ada", &[], 9), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn some_rows_come_again_and_measure_only_the_person() {
        let mut work = Work::new(spec(1, Order::Random, 20), 300);
        let mut repeats = 0;
        loop {
            let next = work.next("ada", &[], 1);
            let Some(row) = next.first() else { break };
            repeats += u64::from(work.desk.is_repeat("ada", *row));
            let value = if row % 3 == 0 { "good" } else { "bad" };
            work.say("ada", *row, LabelValue::Labels(vec![value.into()])).unwrap();
        }
        let counts = work.desk.counts();
        assert_eq!((counts.done, counts.persons[0].done), (300, 300));
        assert!((40..110).contains(&repeats), "{repeats}");
        assert_eq!((counts.persons[0].repeats, counts.persons[0].repeats_same), (repeats, repeats));
        work.check();
    }

    #[test]
    fn the_least_sure_come_first_and_poor_suggestions_are_not_chosen_beforehand() {
        let mut work = Work::new(spec(1, Order::Unsure, 0), 100);
        for (row_id, probability) in [(5, Some(0.9)), (6, Some(0.4)), (7, None)] {
            let value = LabelValue::Labels(vec!["good".into()]);
            work.desk.suggest(&Suggestion { row_id, value, probability, by: "desk".into() });
        }
        work.desk.reorder();
        assert_eq!(work.next("ada", &[], 4), [6, 5, 0, 1]);
        assert!(work.desk.is_suggesting("ada"));
        for row_id in 0..100 {
            let value = LabelValue::Labels(vec!["good".into()]);
            work.desk.suggest(&Suggestion { row_id, value, probability: None, by: "desk".into() });
        }
        for row in 10..40 {
            let word = if row % 2 == 0 { "good" } else { "bad" };
            work.say("ada", row, LabelValue::Labels(vec![word.into()])).unwrap();
        }
        assert!(!work.desk.is_suggesting("ada") && work.desk.is_suggesting("lin"));
        let person = &work.desk.counts().persons[0];
        assert_eq!((person.suggested, person.suggested_same), (30, 15));
    }

    #[test]
    fn a_part_of_the_rows_is_taken_in_the_order_of_the_project() {
        let few = |order| {
            let spec = ProjectSpec { rows_max: 10, ..spec(1, order, 0) };
            let mut work = Work::new(spec, 1000);
            assert_eq!(work.desk.len(), 10);
            work.next("ada", &[], 100)
        };
        assert_eq!(few(Order::File), (0..10).collect::<Vec<_>>());
        assert!(few(Order::Random).iter().any(|row| *row > 100));
    }
}
