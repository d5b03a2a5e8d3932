//! From settings to a [`ProxyConfig`].

mod cluster;
mod ports;
mod scopes;

use std::time::Duration;

use self::scopes::Scopes;
use super::super::error::Errors;
use super::super::{Notes, ProxyConfig, ProxyLimits, Sources};
use super::values::Values;

impl Sources {
    /// Checks everything and builds a proxy's configuration, or lists everything that is wrong.
    pub fn load_proxy(&self) -> Result<ProxyConfig, Errors> {
        let Scopes { mut process, clusters: scopes } = Scopes::gather(self);
        let mut notes = Notes::default();
        let mut clusters = Vec::new();
        for mut scope in scopes {
            let cluster = cluster::cluster(&mut scope, &self.machine.hostname, &mut notes);
            clusters.extend(cluster);
            process.absorb(scope.values.take_problems());
        }
        let admin = super::admin(&mut process);
        ports::check(&mut process, &clusters, &admin.listener);
        let config = ProxyConfig {
            process: super::process(&mut process, self.machine.memory_bytes),
            admin,
            limits: limits(&mut process),
            clusters,
            notes,
        };
        process.finish(config)
    }
}

fn limits(values: &mut Values) -> ProxyLimits {
    let idle_ms = values.number("connections.max.idle.ms");
    ProxyLimits {
        request_bytes_max: values.number("socket.request.max.bytes") as u32,
        connection_idle_max: u64::try_from(idle_ms).ok().map(Duration::from_millis),
        connections_max: values.number("max.connections") as u32,
        connections_per_ip_max: values.number("max.connections.per.ip") as u32,
    }
}

#[cfg(test)]
mod tests;
