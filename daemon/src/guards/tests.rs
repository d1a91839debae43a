//! Guards: what passes is the same however a text is cut, nothing forbidden ever passes, and what did not pass is not counted.

use std::collections::VecDeque;

use hone_protocol::generate::{Channel, Finish, TokenChance};
use hone_protocol::guard::PiiKind;
use hone_protocol::value::Bytes;
use proptest::prelude::*;

use super::*;
use crate::http::desk::{AnswerStep, Piece};

fn spec(act: GuardAct) -> GuardSpec {
    GuardSpec {
        words: Vec::new(),
        patterns: Vec::new(),
        kinds: Vec::new(),
        input: true,
        output: true,
        act,
        services: Vec::new(),
        applications: Vec::new(),
    }
}

fn guard(spec: GuardSpec) -> Arc<Guard> {
    let parts = matcher::parts(&spec).unwrap_or_else(|failure| panic!("{spec:?}: {failure}"));
    Arc::new(Guard { name: format!("{:?}", spec.act).to_lowercase(), act: spec.act, parts, spec })
}

fn words(act: GuardAct, words: &[&str]) -> GuardSpec {
    GuardSpec { words: words.iter().map(|word| (*word).to_owned()).collect(), ..spec(act) }
}

fn patterns(act: GuardAct, patterns: &[&str]) -> GuardSpec {
    GuardSpec { patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(), ..spec(act) }
}

fn kinds(act: GuardAct) -> GuardSpec {
    GuardSpec { kinds: PiiKind::ALL.to_vec(), ..spec(act) }
}

fn set(specs: Vec<GuardSpec>) -> Set {
    let (flags, stops): (Vec<_>, Vec<_>) = specs.into_iter().map(guard).partition(|guard| guard.act == GuardAct::Flag);
    Set { stops: stops.into(), flags: flags.into() }
}

/// A piece of the answer 0.
fn piece(channel: &Channel, text: &str, tokens: u64) -> AnswerStep {
    AnswerStep::Piece(Piece { choice: 0, channel: channel.clone(), text: text.to_owned(), chances: Vec::new(), tokens })
}

/// What is told of an answer that comes in these pieces, a token each: all steps, and what guards found.
fn told(set: &Set, channel: &Channel, pieces: &[&str]) -> (Vec<AnswerStep>, Vec<GuardHit>) {
    let mut outward = Outward::new(set.clone(), 1, false);
    let mut steps = VecDeque::new();
    let mut ended = false;
    for (at, text) in pieces.iter().enumerate() {
        if !ended {
            ended = outward.take(piece(channel, text, at as u64 + 1), &mut steps).is_some();
        }
    }
    if !ended {
        let tokens = pieces.len() as u64;
        outward.take(AnswerStep::Ended { choice: 0, finish: Finish::Stop, tokens, end: Vec::new() }, &mut steps);
    }
    (steps.into(), outward.hits.take())
}

/// The text of steps, why they ended, and the tokens of the last piece.
fn said(steps: &[AnswerStep]) -> (String, Finish, u64) {
    let (mut text, mut finish, mut tokens) = (String::new(), None, 0);
    for step in steps {
        match step {
            AnswerStep::Piece(piece) => {
                assert!(finish.is_none(), "a piece after the end: {steps:?}");
                assert!(piece.tokens >= tokens && piece.tokens - tokens <= 64, "{} after {tokens}", piece.tokens);
                text.push_str(&piece.text);
                tokens = piece.tokens;
            }
            AnswerStep::Ended { finish: why, .. } => finish = Some(*why),
            other => panic!("{other:?}"),
        }
    }
    (text, finish.unwrap(), tokens)
}

fn cut<'t>(text: &'t str, places: &[usize]) -> Vec<&'t str> {
    let mut ends: Vec<usize> =
        places.iter().map(|place| place % (text.len() + 1)).filter(|at| text.is_char_boundary(*at)).collect();
    ends.sort_unstable();
    ends.push(text.len());
    let mut from = 0;
    ends.into_iter().map(|to| &text[std::mem::replace(&mut from, to)..to]).collect()
}

#[test]
fn a_word_that_is_cut_anywhere_is_masked_and_the_rest_does_not_wait() {
    let set = set(vec![words(GuardAct::Mask, &["secret", "密码"])]);
    for (pieces, expected) in [
        (&["the sec", "ret is"][..], "the [MASKED] is"),
        (&["s", "e", "c", "r", "e", "t"], "[MASKED]"),
        (&["a sec", "ond secretary's SECRET."], "a second secretary's [MASKED]."),
        (&["这是密", "码吗"], "这是[MASKED]吗"),
        (&["secre", "d"], "secred"),
    ] {
        assert_eq!(said(&told(&set, &Channel::Text, pieces).0).0, expected);
    }
    let mut scanner = stream::Scanner::new(set.stops);
    scanner.push("nothing to wait for ", false);
    assert_eq!(scanner.held(), 0);
    scanner.push("but sec", false);
    assert_eq!(scanner.held(), 3);
}

#[test]
fn what_is_refused_ends_the_answer_and_what_did_not_pass_is_not_counted() {
    let set = set(vec![words(GuardAct::Refuse, &["launch code"]), words(GuardAct::Flag, &["rocket"])]);
    let (steps, hits) = told(&set, &Channel::Text, &["The rocket", "'s ", "launch", " ", "code", " is 7", " ok"]);
    assert_eq!(said(&steps), ("The rocket's ".into(), Finish::Filtered, 2));
    let found: Vec<(&str, u64)> = hits.iter().map(|hit| (hit.guard.as_str(), hit.matches)).collect();
    assert_eq!(found, [("flag", 1), ("refuse", 1)]);
    // Five pieces came before the end of "launch code" was known; what is held when a client leaves is in no piece.
    let (steps, _) = told(&set, &Channel::Text, &["a ", "launch", " pad"]);
    assert_eq!(said(&steps), ("a launch pad".into(), Finish::Stop, 3));
}

#[test]
fn arguments_stay_json_and_escapes_hide_nothing() {
    let set = set(vec![kinds(GuardAct::Mask), words(GuardAct::Mask, &["secret"])]);
    let channel = Channel::Arguments { index: 0 };
    for (text, expected) in [
        (r#"{"to":"ann@example.com","n":13800138000}"#, r#"{"to":"[EMAIL]","n":"[PHONE]"}"#),
        (r#"{"a":"x\n13800138000"}"#, r#"{"a":"x\n[PHONE]"}"#),
        (r#"{"a":"\u0073ecret \ud83d\ude00 \"secret\""}"#, r#"{"a":"[MASKED] \ud83d\ude00 \"[MASKED]\""}"#),
        (r#"{"a":"\ud800secret"}"#, r#"{"a":"\ud800secret"}"#),
        (r#"{"a":"\ud800 secret"}"#, r#"{"a":"\ud800 [MASKED]"}"#),
    ] {
        for step in 1..6 {
            let places: Vec<usize> = (0..text.len()).step_by(step).collect();
            let (steps, _) = told(&set, &channel, &cut(text, &places));
            let (passed, finish, _) = said(&steps);
            assert_eq!((passed.as_str(), finish), (expected, Finish::Stop), "{text} by {step}");
            serde_json::from_str::<Value>(&passed.replace(r"\ud800", "")).unwrap();
        }
    }
    // What would swallow the end of a text cannot be written: the answer ends.
    let wide = self::set(vec![patterns(GuardAct::Mask, &["a.*b"])]);
    assert_eq!(said(&told(&wide, &channel, &[r#"{"x":"a","y":"b"}"#]).0).1, Finish::Filtered);
}

#[test]
fn log_probabilities_tell_nothing_of_what_is_masked() {
    let set = set(vec![words(GuardAct::Mask, &["secret"])]);
    let chance = |text: &str| TokenChance {
        token: 1,
        bytes: Bytes(text.as_bytes().to_vec()),
        ln_p: Some(-0.5),
        top: vec![(1, Bytes(text.as_bytes().to_vec()), -0.5), (2, Bytes(b"secret".to_vec()), -1.0)],
    };
    let mut outward = Outward::new(set, 1, false);
    let mut steps = VecDeque::new();
    for (tokens, text) in [(1, "my "), (2, "sec"), (3, "ret"), (4, " x")] {
        let chances = vec![chance(text)];
        let step = Piece { choice: 0, channel: Channel::Text, text: text.into(), chances, tokens };
        outward.take(AnswerStep::Piece(step), &mut steps);
    }
    outward.take(
        AnswerStep::Ended { choice: 0, finish: Finish::Stop, tokens: 5, end: vec![chance("secret")] },
        &mut steps,
    );
    let mut tokens = Vec::new();
    for step in &steps {
        let chances = match step {
            AnswerStep::Piece(piece) => &piece.chances,
            AnswerStep::Ended { end, .. } => end,
            _ => continue,
        };
        tokens.extend(chances.iter().map(|one| (String::from_utf8(one.bytes.0.clone()).unwrap(), one.top.len())));
    }
    assert_eq!(tokens, [("my ".to_owned(), 1), (" x".to_owned(), 1)]);
}

#[test]
fn several_answers_are_looked_at_apart_and_counted_together() {
    let set = set(vec![words(GuardAct::Refuse, &["bad word"])]);
    let mut outward = Outward::new(set, 2, false);
    let mut steps = VecDeque::new();
    let mut come = |choice, text: &str, tokens| {
        let piece = Piece { choice, channel: Channel::Text, text: text.into(), chances: Vec::new(), tokens };
        outward.take(AnswerStep::Piece(piece), &mut steps)
    };
    assert_eq!(come(0, "bad", 1), None);
    assert_eq!(come(1, "bad", 2), None);
    assert_eq!(come(1, "ly", 3), None);
    assert_eq!(come(0, " word", 5), None, "it could still be words");
    assert_eq!(come(0, " and more", 9), Some(0));
    assert_eq!(come(0, " for nobody", 9), None);
    assert_eq!(come(1, " done", 10), None);
    let end = AnswerStep::Ended { choice: 1, finish: Finish::Stop, tokens: 10, end: Vec::new() };
    outward.take(end, &mut steps);
    let shown: Vec<String> = steps
        .iter()
        .map(|step| match step {
            AnswerStep::Piece(piece) => format!("{} {:?} {}", piece.choice, piece.text, piece.tokens),
            AnswerStep::Ended { choice, finish, .. } => format!("{choice} {finish:?}"),
            other => format!("{other:?}"),
        })
        .collect();
    // Of the answer 0 nothing passed, so that only the tokens of the answer 1 count: one, one and one.
    assert_eq!(shown, ["1 \"bad\" 1", "1 \"ly\" 2", "0 Filtered", "1 \" done\" 3", "1 Stop"]);
}

#[test]
fn many_masked_tokens_are_counted_over_several_pieces() {
    let set = set(vec![patterns(GuardAct::Mask, &["<.*?>"])]);
    let text = format!("a<{}>b", "x".repeat(200));
    let pieces: Vec<&str> = (0..text.len()).map(|at| &text[at..=at]).collect();
    let (steps, _) = told(&set, &Channel::Text, &pieces);
    assert_eq!(said(&steps), ("a[MASKED]b".into(), Finish::Stop, text.len() as u64));
}

#[test]
fn what_goes_in_is_masked_or_refused_with_the_guard_s_name() {
    let stands = set(vec![kinds(GuardAct::Mask), words(GuardAct::Refuse, &["forbidden"])]);
    let chat = |text: &str| {
        Prompt::chat(vec![hone_protocol::dataset::ChatMessage { role: "user".into(), content: text.into() }])
    };
    let mut prompts = [chat("I am ann@example.com")];
    let mut hits = Hits::default();
    inward(&stands, &mut prompts, &mut hits).unwrap();
    assert_eq!(prompts, [chat("I am [EMAIL]")]);
    assert_eq!(hits.all()[0].matches, 1);
    let failure = inward(&stands, &mut [chat("a FORBIDDEN thing")], &mut hits).unwrap_err();
    assert_eq!((failure.code, failure.place.as_str()), (FailureCode::RefusedByGuard, "messages"));
    assert!(!failure.message_en.to_lowercase().contains("forbidden thing"));
    let tokens = inward(&stands, &mut [Prompt::Tokens(vec![1])], &mut hits).unwrap_err();
    assert_eq!(tokens.code, FailureCode::InvalidField);
    let mut arguments = serde_json::json!({"phone": 13_800_138_000_u64, "note": ["mail a@b.io"], "n": 5});
    Inward { set: &stands, hits: &mut hits }.value(&mut arguments, "messages").unwrap();
    assert_eq!(arguments, serde_json::json!({"phone": "[PHONE]", "note": ["mail [EMAIL]"], "n": 5}));
}

#[test]
fn what_cannot_be_looked_for_is_named() {
    let refused = |spec: &GuardSpec| check(spec).unwrap_err().message_en;
    assert!(
        refused(&patterns(GuardAct::Mask, &["("])).contains("unclosed group"),
        "{}",
        refused(&patterns(GuardAct::Mask, &["("]))
    );
    assert!(refused(&patterns(GuardAct::Mask, &["a*"])).contains("empty text"));
    assert!(refused(&patterns(GuardAct::Mask, &["(?:[a-z]{1000}){1000}"])).contains("too big"));
    assert!(refused(&spec(GuardAct::Mask)).contains("words, patterns or kinds"));
    assert!(refused(&words(GuardAct::Mask, &[" "])).contains("no word"));
    assert!(refused(&GuardSpec { input: false, output: false, ..words(GuardAct::Mask, &["x"]) }).contains("input"));
    let many: Vec<String> = (0..2000).map(|n| format!("word{n} of a list")).collect();
    check(&GuardSpec { words: many, ..spec(GuardAct::Mask) }).unwrap();
    let trial = trial(&kinds(GuardAct::Mask), "mail a@b.io now").unwrap();
    assert_eq!((trial.passes.as_str(), trial.refused), ("mail [EMAIL] now", false));
    assert_eq!(trial.matches, [(5, 11, "email".to_owned())]);
}

/// Expressions of every sort: with and without a longest match, looking around, preferring the shorter.
const EXPRESSIONS: &[&str] = &[
    "ab",
    "a+b",
    "a.*b",
    "a.*?b",
    "(?:ab|abc|b)",
    "(?-u:\\b)ab(?-u:\\b)",
    "\\bab?\\b",
    "^a",
    "b$",
    "(?m)^b",
    "(?m)a$",
    "[ab]{2,5}",
    "(?i)AB",
    "c(?:a|b)+c",
    "ä+",
    "a[^b]*b",
    "(?s)a.{3}",
    "\\d{3}",
    "(?:aa)+",
    "b(?:$|a)",
    "[^ab]",
    "\\Bb",
];

fn acts() -> impl Strategy<Value = GuardAct> {
    prop_oneof![3 => Just(GuardAct::Mask), 1 => Just(GuardAct::Refuse), 1 => Just(GuardAct::Flag)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn what_passes_is_the_same_however_the_text_is_cut(
        text in "[abcä0-9 \n.@密]{0,60}",
        guards in prop::collection::vec((prop::collection::vec(0..EXPRESSIONS.len(), 1..3), acts()), 1..4),
        places in prop::collection::vec(0..200_usize, 0..40),
    ) {
        let specs = guards.into_iter().map(|(which, act)| {
            patterns(act, &which.into_iter().map(|at| EXPRESSIONS[at]).collect::<Vec<_>>())
        });
        let set = set(specs.collect());
        let (whole, whole_hits) = told(&set, &Channel::Text, &[&text]);
        let (cut, cut_hits) = told(&set, &Channel::Text, &cut(&text, &places));
        prop_assert_eq!(said(&whole).0, said(&cut).0);
        prop_assert_eq!(said(&whole).1, said(&cut).1);
        prop_assert_eq!(whole_hits.iter().filter(|hit| hit.act != GuardAct::Flag).map(|hit| hit.matches).sum::<u64>(),
            cut_hits.iter().filter(|hit| hit.act != GuardAct::Flag).map(|hit| hit.matches).sum::<u64>());
    }

    #[test]
    fn a_forbidden_word_never_passes(
        before in "[a-z ]{0,20}", after in "[a-z ]{0,20}",
        places in prop::collection::vec(0..100_usize, 0..30),
        act in prop_oneof![Just(GuardAct::Mask), Just(GuardAct::Refuse)],
    ) {
        let set = set(vec![words(act, &["forbidden word"])]);
        let text = format!("{before} forbidden word {after}");
        let (steps, hits) = told(&set, &Channel::Text, &cut(&text, &places));
        let (passed, finish, _) = said(&steps);
        prop_assert!(!passed.contains("forbidden word"), "{}", passed);
        prop_assert_eq!(hits.len(), 1);
        let expected = match act {
            GuardAct::Mask => text.replace("forbidden word", "[MASKED]"),
            _ => format!("{before} "),
        };
        prop_assert_eq!(passed, expected);
        prop_assert_eq!(finish == Finish::Filtered, act == GuardAct::Refuse);
    }

    #[test]
    fn personal_data_is_masked_in_pieces_as_in_one(
        words in prop::collection::vec(prop_oneof![
            Just("ann@example.com"), Just("4111 1111 1111 1111"), Just("DE89 3704 0044 0532 0130 00"), Just("13800138000"),
            Just("11010519491231002X"), Just("10.1.2.3"), Just("12/26"), Just("1.2.3"), Just("plain"), Just("电话"), Just("+1"),
        ], 0..8),
        glue in prop_oneof![Just(" "), Just(", "), Just("，"), Just("\n"), Just("-"), Just("")],
        places in prop::collection::vec(0..300_usize, 0..60),
    ) {
        let text = words.join(glue);
        let mut expected = text.clone();
        hone_data::pii::mask(&mut expected, &PiiKind::ALL);
        let set = set(vec![kinds(GuardAct::Mask)]);
        let (steps, _) = told(&set, &Channel::Text, &cut(&text, &places));
        prop_assert_eq!(said(&steps).0, expected);
    }
}
