//! Vectors at the service desk: the same ledger, limits and budgets as for answers, and one row of it for each request,
//! durably open before anything is computed and closed before a vector leaves. Never here: shapes of HTTP.

use std::sync::Arc;

use hone_protocol::application::{LedgerRow, Outcome};
use hone_protocol::embed::EmbedTask;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::model::{VersionRecord, Weights};
use hone_protocol::service::ServiceRecord;
use hone_protocol::worker::{FromWorker, ToWorker};
use tokio::sync::oneshot;

use super::{InTurn, Metered, ServiceDesk, check_room, gone, prompt_tokens_most, slots_of};
use crate::dispatcher::event::Event;
use crate::http::desk::{Answering, Caller, EmbedAsk, Embedded, Vector};
use crate::state::State;
use crate::workers::turns::Spare;

/// Refuses to let an encoder write.
pub(super) fn check_writes(state: &State, service: &ServiceRecord) -> Result<(), Failure> {
    if !state.is_encoder(service.version) {
        return Ok(());
    }
    let message = format!(
        "service {} makes embeddings and writes no text; ask it with POST /v1/embeddings, and take another service for this",
        service.name
    );
    Err(Failure::new(FailureCode::InvalidRequest, message).at("model"))
}

/// Whether a version can make such vectors.
fn check_makes(version: &VersionRecord, ask: &EmbedAsk) -> Result<(), Failure> {
    if matches!(version.weights, Weights::Adapter { .. }) {
        let message = format!(
            "service {} answers with an adapter, which embeddings are not made with; publish its base or a merged version",
            ask.service
        );
        return Err(Failure::new(FailureCode::InvalidRequest, message).at("model"));
    }
    let width = version.facts.embedding;
    match ask.dimensions {
        Some(wanted) if wanted != width => {
            let message = format!(
                "dimensions is {wanted}, and the vectors of this model have {width}; they are not cut, because a model's file does not say whether it was trained to bear that"
            );
            Err(Failure::field("dimensions", message))
        }
        _ => Ok(()),
    }
}

/// Whether a server elsewhere can be asked so: the protocol has no word for cutting.
fn check_passes(ask: &EmbedAsk) -> Result<(), Failure> {
    if !ask.cut {
        return Ok(());
    }
    let message =
        format!("service {} is answered by an upstream, which cannot be asked to truncate inputs", ask.service);
    Err(Failure::field("truncate", message))
}

impl ServiceDesk {
    /// The vectors of all inputs, after their row was closed.
    pub(super) async fn vectors(&self, caller: &Caller, ask: EmbedAsk) -> Result<Embedded, Failure> {
        let (answer, made) = self.begin_vectors(caller, ask, None).await?;
        let opening = answer.opening().clone();
        match made {
            Ok(vectors) => Ok(Embedded { opening, vectors, row: settle(answer, Outcome::Complete).await? }),
            Err(failure) => {
                settle(answer, Outcome::Failed).await?;
                Err(failure)
            }
        }
    }

    /// As [`ServiceDesk::begin_row`], for a row that asks for vectors: they come with their row of the ledger still open.
    pub async fn begin_vectors_row(
        &self,
        caller: &Caller,
        ask: EmbedAsk,
    ) -> Result<(Metered, Result<Vec<Vector>, Failure>), Failure> {
        let asked = self.service(&self.hub.state(), caller, &ask.service)?;
        let state = self.loaded(asked.id).await?;
        let service = self.service(&state, caller, &ask.service)?;
        let (serving, _) = self.find(&state, &service)?;
        let turn = serving.turns.spare(None, 1, slots_of(&state, &service)).await;
        self.begin_vectors(caller, ask, Some(turn)).await
    }

    /// Opens the row durably and makes the vectors: in the turn of a row, or at once.
    async fn begin_vectors(
        &self,
        caller: &Caller,
        mut ask: EmbedAsk,
        row_turn: Option<Spare>,
    ) -> Result<(Metered, Result<Vec<Vector>, Failure>), Failure> {
        let asked = self.service(&self.hub.state(), caller, &ask.service)?;
        let state = self.loaded(asked.id).await?;
        let service = self.service(&state, caller, &ask.service)?;
        match (state.versions.get(&service.version), &service.upstream) {
            (_, Some(_)) => check_passes(&ask)?,
            (Some(version), None) => check_makes(version, &ask)?,
            (None, None) => return Err(Failure::not_found("version", &service.version.to_string())),
        }
        let (serving, _) = self.find(&state, &service)?;
        let turn = match row_turn {
            Some(turn) => InTurn::Row(turn),
            None => {
                check_room(&serving, &service, 1)?;
                InTurn::First { _turn: serving.turns.urgent(None, 1, slots_of(&state, &service)) }
            }
        };
        let hits = self.guard_embed(&state, caller, &service, &mut ask).await?;
        let row = self.row(caller, &service, ask.user.clone(), Vec::new());
        let mut answer = self.metered(&state, &service, Arc::clone(&serving), (1, 1), row.clone(), turn);
        (answer.draft, answer.hits) = (self.draft_embed(&state, caller, row.id, &ask), hits);
        let most = u64::from(service.context_tokens);
        // A longer input is refused or cut.
        let tokens_most = ask.inputs.iter().map(|input| prompt_tokens_most(input).min(most)).sum();
        let (opened, open) = oneshot::channel();
        self.events.post(Event::OpenRow { row: Box::new(row), tokens_most: (tokens_most, 0), reply: opened }).await;
        answer.opened(open).await?;
        let inputs = ask.inputs.len();
        let EmbedAsk { inputs: list, cut, dimensions, .. } = ask;
        let task = EmbedTask { request: answer.first, inputs: list, cut, dimensions };
        let made = match serving.send(ToWorker::Embed(task)).await {
            true => answer.gather(inputs).await,
            false => Err(gone()),
        };
        Ok((answer, made))
    }
}

/// Closes the row in a task of its own, so that a client that leaves now cannot leave it open.
async fn settle(answer: Metered, outcome: Outcome) -> Result<LedgerRow, Failure> {
    match tokio::spawn(answer.close(outcome, 0)).await {
        Ok(closed) => closed,
        Err(_) => Err(Failure::new(FailureCode::Internal, "the closing of a ledger row panicked")),
    }
}

impl Metered {
    /// Waits for the vectors of so many inputs. What comes from a child is not trusted.
    async fn gather(&mut self, inputs: usize) -> Result<Vec<Vector>, Failure> {
        let wrong = |what: &str| Failure::new(FailureCode::BadFrame, format!("the serving worker sent {what}"));
        let mut vectors: Vec<Option<Vector>> = (0..inputs).map(|_| None).collect();
        loop {
            let word = self.word().await.ok_or_else(gone)?;
            match word {
                FromWorker::Began { .. } => self.note_begin(&word),
                FromWorker::Counted { prompt_tokens, cached_tokens, .. } => {
                    self.note_prompt(0, prompt_tokens, cached_tokens);
                    self.estimated[0] = false;
                }
                FromWorker::Embedded { index, vector, cut, left, .. } => {
                    let place = vectors.get_mut(index as usize).ok_or_else(|| wrong("a vector of no input"))?;
                    let values = vector;
                    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
                        return Err(wrong("a vector that is none"));
                    }
                    *place = Some(Vector { values, was_cut: cut });
                    let elapsed = self.started.elapsed().as_millis().min(u128::from(u32::MAX)) as u32;
                    self.first_token_ms.get_or_insert(elapsed);
                    if left == 0 {
                        let all: Option<Vec<Vector>> = vectors.into_iter().collect();
                        return all.ok_or_else(|| wrong("fewer vectors than inputs"));
                    }
                }
                FromWorker::Refused { failure, .. } => return Err(failure),
                _ => return Err(wrong("another answer than was asked for")),
            }
        }
    }
}
