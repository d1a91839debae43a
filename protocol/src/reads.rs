//! Which requests only read. Never here: the requests (see [`crate::request`]).

use crate::request::Request;

impl Request {
    /// Whether it changes nothing, so that the dispatcher need not see it.
    pub fn is_read(&self) -> bool {
        use Request::*;
        if let Labelling(request) = self {
            return request.is_read();
        }
        matches!(
            self,
            Status
                | Audit { .. }
                | Models
                | TrashList
                | CheckGate { .. }
                | Moves { .. }
                | History { .. }
                | Datasets
                | Rows { .. }
                | FindRows { .. }
                | PreviewImport { .. }
                | RenderRow { .. }
                | ExportDataset { .. }
                | Jobs { .. }
                | Job { .. }
                | Follow { .. }
                | Log { .. }
                | Metrics { .. }
                | Samples { .. }
                | Checkpoints { .. }
                | BatchRows { .. }
                | PlanTrain { .. }
                | Services
                | Applications
                | Payments { .. }
                | Ledger { .. }
                | Usage(_)
                | Invoice { .. }
                | Stats { .. }
                | Pools
                | Hooks
                | Declared
                | Alerts { .. }
                | Evaluations
                | EvaluationRows { .. }
                | CountTokens { .. }
                | Judgements { .. }
                | Notes { .. }
                | Note { .. }
                | LogPage(_)
                | LogEntry { .. }
                | Guards
                | TestGuard { .. }
                | PreviewRecipe { .. }
                | RecipeLedger { .. }
                | People
                | Standards
                | Standard { .. }
                | CheckRows { .. }
                | EstimateGenerate { .. }
                | RejectedCandidates { .. }
                | DatasetTrash
                | DiffDatasets { .. }
                | DatasetLineage { .. }
        )
    }
}
