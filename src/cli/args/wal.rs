//! `tidegate wal …`: the flags.

use clap::Subcommand;

use super::super::Command;
use super::settings::SettingsArgs;

#[derive(Debug, Subcommand)]
pub(super) enum WalSub {
    /// Read the whole write-ahead log of a broker that is not running, and say whether a start
    /// would accept it; nothing is changed.
    Check(SettingsArgs),
}

impl WalSub {
    pub(super) fn into_command(self) -> Command {
        let Self::Check(settings) = self;
        Command::WalCheck(settings.into())
    }
}
