//! `hone chat`: a conversation in lines. Never here: the full-screen playground.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;
use hone_protocol::dataset::ChatMessage;
use hone_protocol::failure::{Failure, FailureCode};

use super::context::Context;
use super::service::{self, SamplingArgs};
use crate::print::{self, End, Outcome};

/// Talk to a service, one line at a time; answers stream to stdout.
///
/// `/new` begins a new conversation, `/quit` or the end of input leaves. Application `owner` pays.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone chat desk --system \"You are a support desk.\"")]
pub(super) struct Chat {
    /// Name of the service.
    service: String,
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl Chat {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        self.sampling.sampling()?;
        let opening: Vec<ChatMessage> =
            self.sampling.system.iter().map(|text| message("system", text.clone())).collect();
        let mut messages = opening.clone();
        let by_hand = io::stdin().is_terminal();
        if by_hand {
            context.say("cli.chat_hello", &[("service", &self.service)]);
        }
        loop {
            if by_hand {
                // The prompt goes to stderr: stdout holds answers and nothing else.
                let _ = write!(io::stderr(), "> ");
            }
            let mut line = String::new();
            let read = io::stdin().lock().read_line(&mut line);
            match read {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => {
                    return Err(Failure::new(FailureCode::FileUnreadable, error.to_string()).at("stdin").into());
                }
            }
            match line.trim() {
                "" => continue,
                "/quit" => return Ok(()),
                "/new" => {
                    messages.clone_from(&opening);
                    context.say("cli.chat_new", &[]);
                    continue;
                }
                _ => {}
            }
            messages.push(message("user", line.trim_end_matches(['\n', '\r']).to_owned()));
            match service::chat(context, &mut link, &self.service, messages.clone(), &self.sampling) {
                Ok((text, end)) => {
                    if context.json {
                        print::json(&serde_json::json!({ "text": text, "end": end }))?;
                    } else {
                        print::out("\n")?;
                    }
                    if by_hand {
                        context
                            .say("cli.chat_end", &service::chat_args(&end).each_ref().map(|(k, v)| (*k, v.as_str())));
                    }
                    messages.push(message("assistant", text));
                }
                // By hand a refused turn is said and taken back, so that the conversation can go on; in a script
                // it ends the script.
                Err(End::Failed(failure)) if by_hand && failure.code != FailureCode::NotFound => {
                    print::note(print::failure(context.language, &failure).trim_end());
                    messages.pop();
                }
                Err(end) => return Err(end),
            }
        }
    }
}

fn message(role: &str, content: String) -> ChatMessage {
    ChatMessage { role: role.into(), content }
}
