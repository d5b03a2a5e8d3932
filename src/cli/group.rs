//! `tidegate group …`: consumer groups by the Kafka protocol, of any cluster that speaks it.

mod delete;
mod describe;
mod model;
mod plan;
mod reset;

use std::process::ExitCode;

use serde::Serialize;

pub(super) use self::delete::remove;
use self::model::Listed;
use super::Remote;
use super::args::group::GroupAction;
use super::output::{Align, Answer, Failure, Output, Table, column};
use super::session::{Session, carry_out};

/// Does what is asked with groups and gives the exit code: 0 done, 1 failed, 2 asked wrongly.
pub fn group(remote: &Remote<GroupAction>) -> ExitCode {
    let work = async |session: &Session| run(session, remote.output, &remote.action).await;
    carry_out(&remote.connection, work)
}

async fn run(session: &Session, output: Output, action: &GroupAction) -> Result<(), Failure> {
    match action {
        GroupAction::List { state, types } => {
            let (groups, told) = model::list(session, state, types).await?;
            output.print(&List { groups })?;
            told
        }
        GroupAction::Describe { groups, state, members, verbose } => {
            let shown = describe::Shown { members: *members, verbose: *verbose };
            describe::describe(session, output, groups, state, shown).await
        }
        GroupAction::Delete { groups, execute } => {
            delete::groups(session, output, groups, *execute).await
        }
        GroupAction::ResetOffsets(reset) => reset::reset(session, output, reset).await,
        GroupAction::DeleteOffsets { group, topics, execute } => {
            delete::offsets(session, output, group, topics, *execute).await
        }
    }
}

#[derive(Serialize)]
struct List {
    groups: Vec<Listed>,
}

impl Answer for List {
    fn tables(&self) -> Vec<(Option<String>, Table)> {
        let mut table = Table::new(vec![
            column("GROUP", Align::Left),
            column("TYPE", Align::Left),
            column("STATE", Align::Left),
            column("PROTOCOL", Align::Left),
            column("COORDINATOR", Align::Right),
        ]);
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        table.rows(self.groups.iter().map(|row| {
            let (kind, state) = (or_dash(&row.kind), or_dash(&row.state));
            vec![row.group.clone(), kind, state, row.protocol.clone(), row.coordinator.to_string()]
        }));
        vec![(None, table)]
    }
}
