//! Persons: who may do what over the socket. The user that the daemon runs as may do everything; other users of the machine are let in by
//! their number, and each gets a role. Never here: enforcing it (the daemon does).

use serde::{Deserialize, Serialize};

use crate::labelling::LabelRequest;
use crate::request::Request;

/// Persons of a store. More are refused.
pub const PEOPLE_MAX: usize = 1000;

/// What a person may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look at models, datasets, jobs, services and projects.
    Viewer,
    /// Label the projects that are named, and nothing else.
    Annotator,
    /// All but persons, money, keys and stopping the daemon.
    Developer,
    /// Everything.
    Owner,
}

/// A person that is let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonRecord {
    /// The name that acts are attributed to, `[a-z0-9._-]`.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Number of the system's user that they come as; none for one who comes as the daemon's own user with `--as`.
    pub uid: Option<u32>,
    /// Projects that an annotator labels; empty for all.
    pub projects: Vec<String>,
    /// When it was said, Unix milliseconds.
    pub changed_at_ms: i64,
    /// By whom.
    pub changed_by: String,
}

/// Who asks, and what they may do: decided once for each connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The name.
    pub person: String,
    /// What they may do.
    pub role: Role,
    /// Projects that an annotator labels; empty for all.
    pub projects: Vec<String>,
}

impl Role {
    /// All roles with their words.
    pub const ALL: [(&'static str, Role); 4] = [
        ("owner", Role::Owner),
        ("developer", Role::Developer),
        ("annotator", Role::Annotator),
        ("viewer", Role::Viewer),
    ];

    /// The word on the wire.
    pub fn word(self) -> &'static str {
        Role::ALL.iter().find(|(_, role)| *role == self).map_or("viewer", |(word, _)| word)
    }
}

impl Standing {
    /// Somebody who may do everything.
    pub fn owner(person: &str) -> Standing {
        Standing { person: person.to_owned(), role: Role::Owner, projects: Vec::new() }
    }

    /// Whether a project is theirs to label or to look at.
    pub fn sees(&self, project: &str) -> bool {
        self.role != Role::Annotator || self.projects.is_empty() || self.projects.iter().any(|name| name == project)
    }

    /// Whether they may settle what others disagree on.
    pub fn settles(&self) -> bool {
        self.role >= Role::Developer
    }

    /// Whether the request is theirs to make.
    pub fn may(&self, request: &Request) -> bool {
        match self.role {
            Role::Owner => true,
            Role::Developer => !owners_alone(request),
            Role::Annotator => match request {
                Request::Watch => true,
                Request::Labelling(request) => self.labels(request),
                _ => false,
            },
            Role::Viewer => {
                request.is_read()
                    && !owners_alone(request)
                    && !matches!(request, Request::ExportDataset { .. } | Request::PreviewImport { .. })
                    || *request == Request::Watch
            }
        }
    }

    fn labels(&self, request: &LabelRequest) -> bool {
        match request {
            LabelRequest::Projects => true,
            LabelRequest::Next { project, .. }
            | LabelRequest::Rows { project, .. }
            | LabelRequest::Decide { project, .. }
            | LabelRequest::TakeBack { project, .. } => self.sees(project),
            // Only their own labels: what others said would steer them.
            LabelRequest::Labels { project, person, .. } => self.sees(project) && *person == self.person,
            _ => false,
        }
    }
}

/// What only an owner may ask: persons, money, secrets, the audit log, logged requests, commands that run on the machine, the end of the daemon.
fn owners_alone(request: &Request) -> bool {
    use Request::*;
    matches!(
        request,
        Shutdown
            | Audit { .. }
            | SetPerson { .. }
            | RemovePerson { .. }
            | SetLimits { .. }
            | Pay { .. }
            | CreateKey { .. }
            | RotateKey { .. }
            | RevokeKey { .. }
            | SetPool { .. }
            | RemovePool { .. }
            | Reserve { .. }
            | SetHook { .. }
            | RemoveHook { .. }
            | TestHook { .. }
            | Apply { .. }
            | Declared
            | SetLog { .. }
            | LogPage(_)
            | LogEntry { .. }
            | ClearLog { .. }
            | Purge { .. }
            | PurgeDatasets { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotator_labels_their_projects_and_does_nothing_else() {
        let lin = Standing { person: "lin".into(), role: Role::Annotator, projects: vec!["tone".into()] };
        let next = |project: &str| {
            Request::Labelling(LabelRequest::Next { project: project.into(), session: 1, held: Vec::new(), count: 1 })
        };
        assert!(lin.may(&next("tone")) && !lin.may(&next("other")) && lin.may(&Request::Watch));
        let labels = |person: &str| {
            let (project, person) = ("tone".to_owned(), person.to_owned());
            Request::Labelling(LabelRequest::Labels {
                project,
                person,
                row_id: None,
                before: None,
                taken_back: false,
                count: 5,
            })
        };
        assert!(lin.may(&labels("lin")) && !lin.may(&labels("ada")) && !lin.may(&labels("")));
        for refused in [Request::Datasets, Request::Status, Request::Shutdown, Request::People] {
            assert!(!lin.may(&refused), "{refused:?}");
        }
        let agreement = Request::Labelling(LabelRequest::Agreement { project: "tone".into() });
        assert!(!lin.may(&agreement));
    }

    #[test]
    fn a_viewer_looks_and_a_developer_works_without_keys_and_money() {
        let of = |role| Standing { person: "mo".into(), role, projects: Vec::new() };
        let key = Request::CreateKey { application: "a".into(), label: String::new(), expires_at_ms: None };
        let project = Request::Labelling(LabelRequest::Agreement { project: "tone".into() });
        let switch = Request::SetService { name: "desk".into(), wanted: false };
        assert!(of(Role::Viewer).may(&Request::Datasets) && of(Role::Viewer).may(&project));
        assert!(!of(Role::Viewer).may(&switch) && !of(Role::Viewer).may(&Request::Audit { count: 1 }));
        assert!(of(Role::Developer).may(&switch) && of(Role::Developer).may(&project));
        assert!(!of(Role::Developer).may(&key) && !of(Role::Developer).may(&Request::Shutdown));
        assert!(of(Role::Owner).may(&key));
    }
}
