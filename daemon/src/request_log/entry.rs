//! An entry on its way to the disk: personal data is masked, texts that are too long are cut and the entry says so, and it becomes
//! one line of JSON. Never here: files.

use hone_protocol::generate::{Prompt, PromptText};
use hone_protocol::guard::PiiKind;
use hone_protocol::log::{LogEntry, LogSettings};
use hone_protocol::value::Json;
use serde_json::Value;

use hone_data::pii;

/// Texts are not cut shorter than this while another one is longer.
const CUT_TO_MIN: usize = 64;
/// Cuts of one entry; then everything but its head is left out.
const CUTS_MAX: usize = 64;
/// What an entry weighs beside its texts.
const HEAD_BYTES: usize = 1024;

/// All texts of an entry but the rendered prompts.
fn texts(entry: &mut LogEntry) -> Vec<&mut String> {
    let mut all: Vec<&mut String> = Vec::new();
    for prompt in &mut entry.prompts {
        match prompt {
            Prompt::Chat(chat) => all.extend(chat.turns.iter_mut().map(|turn| &mut turn.content)),
            Prompt::Text { text, .. } => all.push(text),
            Prompt::Tokens(_) => {}
        }
    }
    for answer in &mut entry.answers {
        all.push(&mut answer.text);
        all.push(&mut answer.reasoning);
        all.extend(answer.calls.iter_mut().map(|(_, arguments)| arguments));
    }
    all
}

/// About how many bytes an entry takes.
pub(super) fn weight(entry: &LogEntry) -> usize {
    let prompt = |prompt: &Prompt| match prompt {
        Prompt::Chat(chat) => {
            chat.turns.iter().map(|turn| turn.content.len() + 64).sum::<usize>() + 256 * chat.tools.len()
        }
        Prompt::Text { text, .. } => text.len(),
        Prompt::Tokens(tokens) => 4 * tokens.len(),
    };
    let prompts: usize = entry.prompts.iter().map(prompt).sum();
    let rendered: usize = entry.rendered.iter().map(|rendered| rendered.text.len() + 8 * rendered.control.len()).sum();
    let answers: usize = entry.answers.iter().map(|answer| answer.text.len() + answer.reasoning.len()).sum();
    HEAD_BYTES + prompts + rendered + answers
}

/// Masks the texts inside a value; gives how many pieces of personal data there were.
fn mask_value(value: &mut Value) -> u64 {
    match value {
        Value::String(text) => pii::mask(text, &PiiKind::ALL),
        Value::Array(list) => list.iter_mut().map(mask_value).sum(),
        Value::Object(fields) => fields.values_mut().map(mask_value).sum(),
        Value::Number(number) => {
            let mut text = number.to_string();
            let masked = pii::mask(&mut text, &PiiKind::ALL);
            if masked > 0 {
                *value = Value::String(text);
            }
            masked
        }
        Value::Null | Value::Bool(_) => 0,
    }
}

/// Masks what stands between control tokens.
fn mask_rendered(rendered: &mut PromptText) -> u64 {
    let (mut text, mut control, mut masked, mut from) = (String::new(), Vec::new(), 0, 0_usize);
    for &(start, end) in &rendered.control {
        let (start, end) = (start as usize, end as usize);
        let Some(mut plain) = rendered.text.get(from..start).map(str::to_owned) else { continue };
        masked += pii::mask(&mut plain, &PiiKind::ALL);
        text.push_str(&plain);
        let begin = text.len() as u32;
        text.push_str(rendered.text.get(start..end).unwrap_or_default());
        control.push((begin, text.len() as u32));
        from = end;
    }
    let mut plain = rendered.text.get(from..).unwrap_or_default().to_owned();
    masked += pii::mask(&mut plain, &PiiKind::ALL);
    text.push_str(&plain);
    (rendered.text, rendered.control) = (text, control);
    masked
}

fn mask(entry: &mut LogEntry) {
    let mut masked: u64 = texts(entry).into_iter().map(|text| pii::mask(text, &PiiKind::ALL)).sum();
    for prompt in &mut entry.prompts {
        if let Prompt::Chat(chat) = prompt {
            let calls = chat.turns.iter_mut().flat_map(|turn| &mut turn.calls);
            masked += calls.map(|call| mask_value(&mut call.arguments.0)).sum::<u64>();
            masked += mask_value(&mut chat.variables.0);
        }
    }
    masked += entry.rendered.iter_mut().map(mask_rendered).sum::<u64>();
    masked += pii::mask(&mut entry.user, &PiiKind::ALL);
    masked += entry.metadata.iter_mut().map(|(_, value)| pii::mask(value, &PiiKind::ALL)).sum::<u64>();
    entry.masked = masked;
}

/// Cuts a text to so many bytes at most; gives how many went.
fn cut_text(text: &mut String, bytes: usize) -> usize {
    let before = text.len();
    let mut end = bytes.min(before);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    before - end
}

/// Takes so much away that the entry becomes shorter by `over` bytes, perhaps; gives how many bytes went.
fn cut(entry: &mut LogEntry, over: usize) -> usize {
    let keep = |length: usize| length.saturating_sub(over + 16).max(length / 4).max(CUT_TO_MIN);
    // What the model saw can be made again of what was sent: it goes first.
    if let Some(longest) = entry.rendered.iter_mut().max_by_key(|rendered| rendered.text.len())
        && longest.text.len() > CUT_TO_MIN
    {
        let length = keep(longest.text.len());
        let gone = cut_text(&mut longest.text, length);
        let end = longest.text.len() as u32;
        longest.control.retain(|(_, to)| *to <= end);
        return gone;
    }
    let tokens =
        entry.prompts.iter_mut().filter_map(|p| if let Prompt::Tokens(tokens) = p { Some(tokens) } else { None });
    if let Some(tokens) = tokens.max_by_key(|tokens| tokens.len()).filter(|tokens| tokens.len() > CUT_TO_MIN) {
        let left = keep(tokens.len() * 6) / 6;
        let gone = tokens.len().saturating_sub(left);
        tokens.truncate(left);
        return gone * 4;
    }
    if let Some(longest) = texts(entry).into_iter().max_by_key(|text| text.len()).filter(|text| text.len() > CUT_TO_MIN)
    {
        let length = longest.len();
        return cut_text(longest, keep(length));
    }
    let mut gone = 0;
    for prompt in &mut entry.prompts {
        if let Prompt::Chat(chat) = prompt {
            for tool in chat.tools.drain(..) {
                gone += tool.description.len() + tool.parameters.0.to_string().len();
            }
            for call in chat.turns.iter_mut().flat_map(|turn| &mut turn.calls) {
                let arguments = std::mem::replace(&mut call.arguments, Json(Value::Null));
                gone += if arguments.0.is_null() { 0 } else { arguments.0.to_string().len() };
            }
        }
    }
    gone
}

/// The line of an entry.
pub(super) fn line(mut entry: LogEntry, settings: &LogSettings) -> Vec<u8> {
    if settings.mask_pii {
        mask(&mut entry);
    }
    let most = settings.entry_bytes_max as usize - 1;
    let write = |entry: &LogEntry| serde_json::to_vec(entry).unwrap_or_default();
    let mut line = write(&entry);
    for _ in 0..CUTS_MAX {
        if line.len() <= most {
            break;
        }
        let gone = cut(&mut entry, line.len() - most);
        if gone == 0 {
            break;
        }
        entry.cut_bytes += gone as u64;
        line = write(&entry);
    }
    if line.len() > most {
        entry.cut_bytes += weight(&entry) as u64;
        (entry.prompts, entry.rendered, entry.answers) = (Vec::new(), Vec::new(), Vec::new());
        (entry.wish, entry.metadata) = (hone_protocol::generate::Wish::default(), Vec::new());
        line = write(&entry);
    }
    line.push(b'\n');
    line
}
