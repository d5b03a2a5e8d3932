//! `tidegate config …`: the flags.

use clap::Subcommand;

use super::super::Command;
use super::settings::EitherArgs;
use crate::config::Role;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigSub {
    /// List every key with its type, default and effect.
    Reference {
        /// List the keys of a proxy rather than those of a broker.
        #[arg(long)]
        proxy: bool,
        /// Print it as docs/configuration.md, or docs/proxy-configuration.md.
        #[arg(long)]
        markdown: bool,
    },
    /// Print the keys as a JSON Schema, which the values of the Helm chart have, too.
    Schema {
        /// The keys of a proxy rather than those of a broker.
        #[arg(long)]
        proxy: bool,
    },
    /// Check a configuration without starting anything; exit code 2 if it is wrong.
    Check(Box<EitherArgs>),
}

impl ConfigSub {
    pub(super) fn into_command(self) -> Command {
        match self {
            Self::Reference { proxy, markdown } => {
                Command::ConfigReference { role: role(proxy), markdown }
            }
            Self::Schema { proxy } => Command::ConfigSchema { role: role(proxy) },
            Self::Check(either) => {
                let (role, settings) = either.split();
                Command::ConfigCheck { settings, role }
            }
        }
    }
}

fn role(is_proxy: bool) -> Role {
    if is_proxy { Role::Proxy } else { Role::Broker }
}
