//! A listener in front of a node: it knows who comes, and what goes through it can be cut.
//!
//! A node that advertises a relay's address is found by clients there only, and each connection
//! tells whose it is: the leak canary of the proxy's suites.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Bytes that go on at a time.
const BUFFER: usize = 64 << 10;

/// The listener, and what it relays.
pub struct Relay {
    address: SocketAddr,
    listener: TcpListener,
    state: Arc<State>,
}

/// What the threads share.
#[derive(Default)]
struct State {
    /// The process whose connections are expected, if one is named.
    expected: Mutex<Option<u32>>,
    /// Who else came.
    strangers: Mutex<Vec<String>>,
    /// Streams to those who came.
    clients: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// Listens on `host`; nobody is served before [`Relay::serve`].
    pub fn bind(host: &str) -> Self {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, listener, state: Arc::default() }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Relays every connection to `target` from now on, until the process ends.
    pub fn serve(&self, target: &str) {
        let (listener, state) = (self.listener.try_clone().unwrap(), Arc::clone(&self.state));
        let target = target.to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                state.judge(&client);
                let Ok(node) = TcpStream::connect(&target) else { continue };
                state.clients.lock().unwrap().push(client.try_clone().unwrap());
                copy_both_ways(client, node);
            }
        });
    }

    /// From now on only connections of this process are expected.
    pub fn expect_only(&self, pid: u32) {
        *self.state.expected.lock().unwrap() = Some(pid);
    }

    /// Who came and was not expected.
    pub fn strangers(&self) -> Vec<String> {
        self.state.strangers.lock().unwrap().clone()
    }

    /// Sends the end of the stream to everybody who is connected, and goes on reading.
    pub fn half_close(&self) {
        for client in &*self.state.clients.lock().unwrap() {
            // One that is gone needs no end.
            let _ = client.shutdown(Shutdown::Write);
        }
    }
}

impl State {
    /// Finds out whose socket is at the other end.
    fn judge(&self, client: &TcpStream) {
        let Some(expected) = *self.expected.lock().unwrap() else { return };
        let (Ok(peer), Ok(own)) = (client.peer_addr(), client.local_addr()) else { return };
        if !owns_connection(expected, peer, own) {
            let stranger = format!("{peer} connected to {own} and is not process {expected}");
            self.strangers.lock().unwrap().push(stranger);
        }
    }
}

/// Whether the socket of `pid` is the one with these addresses.
fn owns_connection(pid: u32, local: SocketAddr, remote: SocketAddr) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let (local, remote) = (in_table(local), in_table(remote));
    let inode = table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1) == Some(&&*local) && fields.get(2) == Some(&&*remote);
        is_it.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]"))).flatten()
    });
    let Some(inode) = inode else { return false };
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
    let mut links = open.into_iter().flatten().filter_map(|entry| {
        let link = std::fs::read_link(entry.ok()?.path()).ok()?;
        Some(link.to_string_lossy().into_owned())
    });
    links.any(|link| link == inode)
}

/// An address as `/proc/net/tcp` has it.
fn in_table(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else { panic!("{address} is not of IPv4") };
    let host = u32::from_le_bytes(address.ip().octets());
    format!("{host:08X}:{:04X}", address.port())
}

/// One thread per direction; the end of one is handed on.
fn copy_both_ways(client: TcpStream, node: TcpStream) {
    let ways = [(client.try_clone().unwrap(), node.try_clone().unwrap()), (node, client)];
    for (mut from, mut to) in ways {
        let _ = from.set_nodelay(true);
        std::thread::spawn(move || {
            let mut buffer = vec![0; BUFFER];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Write);
            let _ = from.shutdown(Shutdown::Read);
        });
    }
}
