//! Persons that are let in beside the daemon's own user. Never here: asking who a connection is of (`socket/connection.rs`).

use std::sync::Arc;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::person::{PEOPLE_MAX, PersonRecord, Role};
use hone_protocol::request::Answer;

use super::Decider;
use super::commands::check_name;
use crate::store::{Table, codec};

impl Decider {
    /// Lets a person in, or changes what they may do.
    pub(super) fn set_person(
        &mut self,
        by: &str,
        name: &str,
        role: Role,
        uid: Option<u32>,
        projects: Vec<String>,
    ) -> Result<Answer, Failure> {
        check_name("name", name)?;
        if !self.state.people.contains_key(name) && self.state.people.len() >= PEOPLE_MAX {
            let message = format!("there are {PEOPLE_MAX} persons already");
            return Err(Failure::new(FailureCode::LimitReached, message).at("name"));
        }
        if uid == Some(rustix::process::geteuid().as_raw()) {
            let message = "this is the daemon's own user, who is the owner";
            return Err(Failure::field("uid", message));
        }
        if let Some(other) =
            self.state.people.values().find(|other| uid.is_some() && other.uid == uid && other.name != name)
        {
            let message = format!("{} comes as that user already", other.name);
            return Err(Failure::field("uid", message).hint(HintCode::CorrectField));
        }
        for project in &projects {
            self.state.project(project)?;
        }
        if !projects.is_empty() && role != Role::Annotator {
            return Err(Failure::field("projects", "only annotators are bound to projects"));
        }
        let (changed_at_ms, changed_by) = (self.now_ms, by.to_owned());
        let record = PersonRecord { name: name.to_owned(), role, uid, projects, changed_at_ms, changed_by };
        self.writes.put(Table::People, name.as_bytes(), codec::record(&record));
        Arc::make_mut(&mut self.state.people).insert(record.name.clone(), Arc::new(record));
        Ok(Answer::Done)
    }

    /// Lets a person in no longer. What they did keeps their name; connections that are open end with their next request.
    pub(super) fn remove_person(&mut self, name: &str) -> Result<Answer, Failure> {
        if Arc::make_mut(&mut self.state.people).remove(name).is_none() {
            return Err(Failure::not_found("person", name));
        }
        self.writes.delete(Table::People, name.as_bytes());
        Ok(Answer::Done)
    }
}
