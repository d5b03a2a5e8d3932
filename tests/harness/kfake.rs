//! franz-go's fake cluster, a light upstream (`tests/compat/go/kfake`).

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::{Wire, free_port, installation, topology};

/// The process. Killed when dropped.
pub struct Kfake {
    child: Child,
    ports: Vec<u16>,
}

impl Kfake {
    /// Starts nodes 0 to `nodes - 1` and waits until they listen.
    pub fn start(nodes: usize) -> Self {
        let ports: Vec<u16> = (0..nodes).map(|_| free_port()).collect();
        let list: Vec<String> = ports.iter().map(u16::to_string).collect();
        let mut command = Command::new(installation("kfake"));
        command.arg(list.join(",")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { child, ports }
    }

    /// Where the first node listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// A connection to the node that takes changes.
    pub fn connect_to_controller(&self) -> Wire {
        let known = topology::metadata(&mut self.connect(), Some(&[]));
        Wire::connect(&format!("127.0.0.1:{}", self.ports[known.controller_id.0 as usize]))
    }

    /// A connection to the first node.
    pub fn connect(&self) -> Wire {
        Wire::connect(&self.address())
    }
}

impl Drop for Kfake {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
