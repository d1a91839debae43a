//! A run's answers to its fixed prompts, by the engine that would serve them: so they are what the endpoint would say.
//!
//! What never lives here: when a run is sampled, and the run's own weights; they come as a file.

use std::path::{Path, PathBuf};

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::train::{Method, SAMPLE_TOKENS_MAX, SampleAnswer, TrainParams, Tuning};
use hone_protocol::worker::TrainTask;

use super::facts;
use super::rows::Renderer;
use crate::serve::{Engine, EngineEvent, EngineParams, Finish, GenRequest, Sampling};

/// Context is made in pieces of so many tokens.
const CONTEXT_STEP: usize = 256;
/// The run's state in the attempt's folder while it is asked, and the adapter's name in the engine.
const STATE: &str = "sampled.gguf";

/// Prompts, and what answers them.
pub(super) struct Sampler {
    model: PathBuf,
    state: PathBuf,
    prompts: Vec<Vec<i32>>,
    threads: usize,
    /// Whether the state is a whole model; else it is an adapter over the base.
    whole: bool,
    /// The base, once it was asked for; a whole model is another one each time.
    base: Option<Engine>,
}

impl Sampler {
    /// The prompts of a run as its model sees them: turns of a person, or texts to go on with where the run learns texts. `None`
    /// where there are none.
    pub(super) fn new(
        task: &TrainTask,
        renderer: &Renderer,
        context_tokens: usize,
    ) -> Result<Option<Sampler>, Failure> {
        if task.samples.is_empty() {
            return Ok(None);
        }
        let TrainParams { method, tuning, threads, .. } = task.params;
        let room = context_tokens.saturating_sub(SAMPLE_TOKENS_MAX as usize);
        let mut prompts = Vec::new();
        for (at, text) in task.samples.iter().enumerate() {
            let prompt = if method == Method::Pretrain { renderer.opening(text)? } else { renderer.question(text)? };
            if prompt.is_empty() || prompt.len() > room {
                let message = format!(
                    "sample prompt {} has {} tokens; the model has room for 1 to {room} before the answer",
                    at + 1,
                    prompt.len()
                );
                return Err(Failure::new(FailureCode::InvalidField, message).at("samples"));
            }
            prompts.push(prompt);
        }
        let (model, state) = (PathBuf::from(&task.model_path), Path::new(&task.folder).join(STATE));
        let whole = tuning == Tuning::Full;
        Ok(Some(Sampler { model, state, prompts, threads: threads.max(1) as usize, whole, base: None }))
    }

    /// Answers all prompts with the state that `save` writes; `None` when `stop`, asked before every step, said yes.
    pub(super) fn ask(
        &mut self,
        save: impl FnOnce(&Path) -> Result<(), Failure>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<SampleAnswer>>, Failure> {
        save(&self.state)?;
        let answers = self.ask_saved(stop);
        // A whole model's state is as big as the model; failing to remove it costs disk, nothing else.
        let _ = std::fs::remove_file(&self.state);
        answers
    }

    fn ask_saved(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Vec<SampleAnswer>>, Failure> {
        if self.whole {
            let mut engine = self.load(&self.state)?;
            return self.answers(&mut engine, None, stop);
        }
        let mut engine = match self.base.take() {
            Some(engine) => engine,
            None => self.load(&self.model)?,
        };
        engine.add_adapter(STATE, &self.state).map_err(facts::of_engine)?;
        let answers = self.answers(&mut engine, Some(STATE), stop)?;
        if answers.is_some() {
            engine.remove_adapter(STATE).map_err(facts::of_engine)?;
            self.base = Some(engine);
        }
        Ok(answers)
    }

    fn load(&self, path: &Path) -> Result<Engine, Failure> {
        let longest = self.prompts.iter().map(Vec::len).max().unwrap_or_default() + SAMPLE_TOKENS_MAX as usize;
        Engine::load(EngineParams {
            slots: self.prompts.len(),
            context_tokens_per_slot: longest.next_multiple_of(CONTEXT_STEP) as u32,
            threads: Some(self.threads),
            ..EngineParams::new(path)
        })
        .map_err(facts::of_engine)
    }

    fn answers(
        &self,
        engine: &mut Engine,
        adapter: Option<&str>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<SampleAnswer>>, Failure> {
        for (id, prompt) in self.prompts.iter().enumerate() {
            let request = GenRequest {
                id: id as u64,
                adapter: adapter.map(str::to_owned),
                tokens: prompt.clone(),
                sampling: Sampling { temperature: 0.0, ..Sampling::default() },
                stop: Vec::new(),
                max_tokens: SAMPLE_TOKENS_MAX,
                cache_scope: [0; 32],
                ignore_end: false,
                chances: None,
                echo: false,
                limit: None,
            };
            engine.submit(request).map_err(|refusal| facts::of_refusal(&refusal))?;
        }
        let mut answers = vec![SampleAnswer { text: String::new(), ended: false }; self.prompts.len()];
        let mut events = Vec::new();
        loop {
            if stop() {
                return Ok(None);
            }
            let more = engine.step(&mut events);
            for event in events.drain(..) {
                match event {
                    EngineEvent::Piece { id, text, .. } => answers[id as usize].text.push_str(&text),
                    EngineEvent::Finished { id, finish, .. } => answers[id as usize].ended = finish == Finish::End,
                    EngineEvent::Failed { error, .. } => return Err(Failure::new(FailureCode::Internal, error)),
                    EngineEvent::Started { .. }
                    | EngineEvent::Echoed { .. }
                    | EngineEvent::Scored { .. }
                    | EngineEvent::EmbedStarted { .. }
                    | EngineEvent::Embedded { .. } => {}
                }
            }
            if !more {
                return Ok(Some(answers));
            }
        }
    }
}
