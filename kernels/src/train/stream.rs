//! The passes of a run in order, packed an epoch at a time: a pure function of rows and settings, so that any pass can
//! be found again from its number.

use super::batch::Shape;
use super::packing::{self, Document, Layout, MicroBatch};
use super::params::TrainParams;

/// The passes of a run, an epoch at a time.
pub(super) struct Stream {
    documents: Vec<Document>,
    layout: Layout,
    seed: u64,
    /// Passes up to and including each epoch.
    ends: Vec<u64>,
    /// Passes that the run uses.
    pub(super) passes: u64,
    pub(super) steps: u64,
    pub(super) shape: Shape,
    /// Tokens of rows in all passes that the run uses.
    pub(super) tokens: u64,
    current: Option<(usize, Vec<MicroBatch>)>,
}

impl Stream {
    pub(super) fn new(documents: Vec<Document>, params: &TrainParams) -> Stream {
        let layout = Layout::new(&documents, params.batch_tokens(), params.objective.rows_per_group());
        let per_step = u64::from(params.accumulation);
        let most = params.max_steps.map_or(u64::MAX, |steps| steps.saturating_mul(per_step));
        let mut stream = Stream {
            documents,
            layout,
            seed: params.seed,
            ends: Vec::new(),
            passes: 0,
            steps: 0,
            shape: Shape::of(layout, [].iter()),
            tokens: 0,
            current: None,
        };
        for epoch in 0..params.epochs as usize {
            if stream.passes >= most {
                break;
            }
            let batches = stream.pack(epoch);
            let used = (batches.len() as u64).min(most - stream.passes);
            stream.shape = stream.shape.join(Shape::of(layout, batches.iter()));
            stream.tokens += batches[..used as usize].iter().map(|batch| batch.tokens as u64).sum::<u64>();
            stream.passes += used;
            stream.ends.push(stream.ends.last().copied().unwrap_or(0) + batches.len() as u64);
        }
        stream.steps = stream.passes.div_ceil(per_step);
        stream
    }

    fn pack(&self, epoch: usize) -> Vec<MicroBatch> {
        let order = packing::shuffled(self.documents.len() / self.layout.group, self.seed, epoch as u64);
        packing::pack(&self.documents, &order, self.layout)
    }

    /// Pass `index` of the run.
    pub(super) fn pass(&mut self, index: u64) -> &MicroBatch {
        let epoch = self.ends.partition_point(|&end| end <= index);
        if self.current.as_ref().is_none_or(|(loaded, _)| *loaded != epoch) {
            self.current = Some((epoch, self.pack(epoch)));
        }
        let begin = if epoch == 0 { 0 } else { self.ends[epoch - 1] };
        let (_, batches) = self.current.as_ref().expect("just loaded");
        &batches[(index - begin) as usize]
    }

    /// Passes of the first epoch.
    pub(super) fn epoch_passes(&self) -> u64 {
        self.ends.first().copied().unwrap_or(0)
    }

    /// Passes over the rows after `passes` passes.
    pub(super) fn epochs_done(&self, passes: u64) -> f64 {
        let epoch = self.ends.partition_point(|&end| end <= passes);
        if epoch == self.ends.len() {
            return epoch as f64;
        }
        let begin = if epoch == 0 { 0 } else { self.ends[epoch - 1] };
        epoch as f64 + (passes - begin) as f64 / (self.ends[epoch] - begin) as f64
    }
}
