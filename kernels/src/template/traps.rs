//! The wrong-template traps that users of other tools fall into, each as a test: a tuned model that never stops, two begin
//! tokens, a default system turn on one side only, an empty thought, a prompt in training that serving never sends.

use super::*;
use crate::gguf::{GgufFile, GgufWriter, Value as Meta};
use crate::vocab::starter_for_tests;

/// The starter's vocabulary; with `begins`, as one that wants a begin token.
fn vocab(begins: bool) -> Vocab {
    let file = GgufFile::open(&starter_for_tests()).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in file.metadata.iter().filter(|(key, _)| *key != "tokenizer.ggml.add_bos_token") {
        writer.meta(key, value.clone());
    }
    writer.meta("tokenizer.ggml.add_bos_token", Meta::Bool(begins));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vocab.gguf");
    writer.write(&path).unwrap();
    Vocab::load(&path).unwrap()
}

fn template(vocab: &Vocab, source: &str) -> ChatTemplate {
    ChatTemplate::new(source, TemplateFacts::of(vocab)).unwrap()
}

fn talk(contents: &[&str]) -> Vec<ChatMessage> {
    let roles = ["user", "assistant"].into_iter().cycle();
    roles.zip(contents).map(|(role, content)| ChatMessage::new(role, content)).collect()
}

/// Texts of the stretches that carry loss.
fn learnt(vocab: &Vocab, row: &TrainingRow) -> Vec<String> {
    let mut stretches: Vec<Vec<i32>> = Vec::new();
    let mut before = false;
    for (&token, &trained) in row.tokens.iter().zip(&row.trained) {
        match (trained, before) {
            (true, false) => stretches.push(vec![token]),
            (true, true) => stretches.last_mut().unwrap().push(token),
            _ => {}
        }
        before = trained;
    }
    stretches.iter().map(|tokens| vocab.text(tokens, true)).collect()
}

/// The tokens before the last stretch that carries loss.
fn before_last(row: &TrainingRow) -> &[i32] {
    let end = row.trained.iter().rposition(|&trained| trained).unwrap();
    let start = row.trained[..end].iter().rposition(|&trained| !trained).map_or(0, |at| at + 1);
    &row.tokens[..start]
}

fn row(vocab: &Vocab, template: &ChatTemplate, messages: &[ChatMessage]) -> TrainingRow {
    template.training_row(vocab, messages, LossOn::AllAssistantTurns).unwrap()
}

#[test]
fn a_default_system_turn_is_there_in_training_as_in_serving() {
    let vocab = vocab(false);
    let source = GgufFile::open(&starter_for_tests()).unwrap().str("tokenizer.chat_template").unwrap().to_owned();
    let template = template(&vocab, &source);
    let messages = talk(&["Hi", "Hello!"]);
    let row = row(&vocab, &template, &messages);
    let prompt = template.tokens(&vocab, &messages[..1], true).unwrap();
    assert_eq!(before_last(&row), prompt);
    assert!(vocab.text(&prompt, true).contains("You are a helpful AI assistant named SmolLM"));
    assert_eq!(learnt(&vocab, &row), ["Hello!<|im_end|>"]);
}

#[test]
fn there_is_one_begin_token_whoever_writes_it() {
    let vocab = vocab(true);
    let begin = vocab.named().bos.unwrap();
    let body = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    // The begin token's text is also that of a turn here, so the ones of turns are subtracted.
    let count = |tokens: &[i32]| tokens.iter().filter(|&&token| token == begin).count();
    let messages = talk(&["Hi", "Hello!"]);
    let plain = template(&vocab, body);
    let turns = plain.render_text(&messages, false).unwrap().matches(&vocab.spelling(Some(begin))).count();
    let own = ["{{ bos_token }}", ""].map(|begins| {
        let template = template(&vocab, &format!("{{% if true %}}{begins}{{% endif %}}{body}"));
        let row = row(&vocab, &template, &messages);
        assert_eq!(before_last(&row), template.tokens(&vocab, &messages[..1], true).unwrap());
        assert!(!row.trained[0]);
        (count(&row.tokens), row.tokens)
    });
    assert_eq!(own[0].0, turns + 1, "the template writes it");
    // Where a template begins with the very token, that one counts.
    assert_eq!(own[1].0, turns, "the first turn's mark is the begin token");
    let other = template(&vocab, "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}");
    let tokens = other.tokens(&vocab, &messages[..1], true).unwrap();
    assert_eq!((tokens[0], count(&tokens)), (begin, 1), "the vocabulary wants it and the template leaves it out");
}

#[test]
fn an_answer_that_nothing_ends_is_learnt_with_the_end_token() {
    let vocab = vocab(false);
    let source = "{% for m in messages %}{% if m.role == 'user' %}### Instruction:\n{{ m.content }}\n\n\
                  {% else %}### Response:\n{{ m.content }}\n\n{% endif %}{% endfor %}\
                  {% if add_generation_prompt %}### Response:\n{% endif %}";
    let template = template(&vocab, source);
    let row = row(&vocab, &template, &talk(&["One?", "First.", "Two?", "Second."]));
    let end = vocab.spelling(vocab.named().eos);
    assert_eq!(learnt(&vocab, &row), ["First.".to_owned(), format!("Second.{end}")]);
    let last = row.trained.iter().rposition(|&trained| trained).unwrap();
    assert!(vocab.is_end(row.tokens[last]));
    // Also where the conversation ends with the contents themselves.
    let bare = "{% for m in messages %}{{ '> ' if m.role == 'user' else '' }}{{ m.content }}\
                {{ '\\n' if not loop.last or add_generation_prompt }}{% endfor %}";
    let row = self::row(&vocab, &self::template(&vocab, bare), &talk(&["One?", "First."]));
    assert_eq!(learnt(&vocab, &row), [format!("First.{end}")]);
}

#[test]
fn an_empty_thought_that_the_prompt_does_not_hold_is_learnt() {
    let vocab = vocab(false);
    let source = "{% for m in messages %}<|im_start|>{{ m.role }}\n\
                  {% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n\
                  {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let template = template(&vocab, source);
    let messages = talk(&["One?", "First.", "Two?", "Second."]);
    let row = row(&vocab, &template, &messages);
    assert_eq!(learnt(&vocab, &row), ["First.<|im_end|>", "<think>\n\n</think>\n\nSecond.<|im_end|>"]);
    assert_eq!(before_last(&row), template.tokens(&vocab, &messages[..3], true).unwrap());
    let parts: usize = row.parts.iter().map(|part| part.token_count).sum();
    assert_eq!(parts, row.tokens.len());
}

#[test]
fn a_template_without_a_generation_prompt_teaches_the_role_too() {
    let vocab = vocab(false);
    let source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";
    let template = template(&vocab, source);
    let row = row(&vocab, &template, &talk(&["Hi", "Hello!"]));
    assert_eq!(learnt(&vocab, &row), ["<|im_start|>assistant\nHello!<|im_end|>"]);
}

#[test]
fn an_answer_behind_a_prompt_that_serving_never_sends_is_not_trained() {
    let vocab = vocab(false);
    // The system's words stand in the last turn of a person, as in Mistral's templates.
    let source = "{% set system = messages[0].content if messages[0].role == 'system' else '' %}\
                  {% set talk = messages[1:] if system else messages %}\
                  {% for m in talk %}{% if m.role == 'user' %}[INST] {% if system and loop.index0 >= (talk|length) - 2 %}\
                  {{ system }}\n\n{% endif %}{{ m.content }} [/INST]{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}";
    let template = template(&vocab, source);
    let mut messages = vec![ChatMessage::new("system", "Be brief.")];
    messages.extend(talk(&["One?", "First.", "Two?", "Second."]));
    let end = vocab.spelling(vocab.named().eos);
    let row = row(&vocab, &template, &messages);
    assert_eq!(learnt(&vocab, &row), [format!("Second.{end}")]);
    assert_eq!(before_last(&row), template.tokens(&vocab, &messages[..4], true).unwrap());
    let both = self::row(&vocab, &template, &messages[1..]);
    assert_eq!(learnt(&vocab, &both), [format!("First.{end}"), format!("Second.{end}")]);
}
