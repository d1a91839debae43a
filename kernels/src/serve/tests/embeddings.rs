//! Vectors of the starter, a decoder, beside its answers: turns, cancelling, what is refused. The encoder on its way through
//! everything is `tests/tests/embeddings.rs`.

use super::*;

fn inputs(count: usize, words: usize) -> Vec<Vec<i32>> {
    let vocab = Vocab::load(&starter_for_tests()).unwrap();
    (0..count).map(|i| vocab.tokenize(&format!("Number {i} {}", "and so on ".repeat(words)), false).unwrap()).collect()
}

/// Vectors of a request by input.
fn vectors(events: &[EngineEvent], wanted: u64) -> Vec<Vec<f32>> {
    let mut found: Vec<(u32, Vec<f32>)> = Vec::new();
    for event in events {
        match event {
            EngineEvent::Embedded { id, index, vector, .. } if *id == wanted => found.push((*index, vector.clone())),
            EngineEvent::Failed { id, error, .. } if *id == wanted => panic!("failed: {error}"),
            _ => {}
        }
    }
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, vector)| vector).collect()
}

#[test]
fn vectors_are_the_same_alone_and_among_others_and_answers_go_on() {
    let mut engine = engine(2);
    let texts = inputs(20, 9);
    engine.submit(request(1, "Say hello.", 8)).unwrap();
    engine.submit_embed(EmbedRequest { id: 2, inputs: texts.clone() }).unwrap();
    // A short one that comes later does not wait for all of the long one.
    engine.submit_embed(EmbedRequest { id: 3, inputs: texts[..1].to_vec() }).unwrap();
    let events = drain(&mut engine);
    assert!(answer(&events, 1).sampled > 0);
    let last = |wanted: u64| {
        events.iter().rposition(|e| matches!(e, EngineEvent::Embedded { id, .. } if *id == wanted)).unwrap()
    };
    assert!(last(3) < last(2), "the short request is over first");
    let told = events.iter().filter(|e| matches!(e, EngineEvent::EmbedStarted { id: 2, .. })).count();
    assert_eq!(told, 1);
    let all = vectors(&events, 2);
    assert_eq!((all.len(), all[0].len()), (20, 576));
    let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    for (index, vector) in all.iter().enumerate().step_by(7) {
        engine.submit_embed(EmbedRequest { id: 9, inputs: vec![texts[index].clone()] }).unwrap();
        let alone = vectors(&drain(&mut engine), 9);
        assert!((cosine(vector, vector) - 1.0).abs() < 1e-5);
        assert!(cosine(vector, &alone[0]) > 0.999, "{index}");
    }
    assert!(cosine(&all[0], &vectors(&events, 3)[0]) > 0.999);
}

#[test]
fn a_cancelled_request_says_no_more_and_the_next_is_served() {
    let mut engine = engine(1);
    engine.submit_embed(EmbedRequest { id: 1, inputs: inputs(40, 9) }).unwrap();
    let mut events = Vec::new();
    assert!(engine.step(&mut events));
    assert_eq!((engine.stats().running, engine.stats().waiting), (1, 0));
    assert!(matches!(engine.cancel(1), Some(EngineEvent::Failed { id: 1, .. })));
    assert!(engine.cancel(1).is_none());
    engine.submit_embed(EmbedRequest { id: 1, inputs: inputs(2, 1) }).unwrap();
    assert_eq!(vectors(&drain(&mut engine), 1).len(), 2);
    assert_eq!((engine.stats().running, engine.stats().waiting), (0, 0));
}

#[test]
fn what_cannot_be_embedded_is_refused() {
    let mut engine = engine(1);
    let mut ask = |inputs: Vec<Vec<i32>>| engine.submit_embed(EmbedRequest { id: 5, inputs });
    assert_eq!(ask(vec![]), Err(Refusal::Empty));
    assert_eq!(ask(vec![vec![1], vec![]]), Err(Refusal::EmptyInput { index: 1 }));
    let long = Refusal::InputTooLong { index: 1, tokens: 513, tokens_max: 512 };
    assert_eq!(ask(vec![vec![1], vec![1; 513]]), Err(long));
    assert!(matches!(ask(vec![vec![-1]]), Err(Refusal::Token { token: -1, .. })));
    assert_eq!(ask(vec![vec![1; 512]]), Ok(()));
    assert_eq!(ask(vec![vec![1]]), Err(Refusal::IdInUse { id: 5 }));
}
