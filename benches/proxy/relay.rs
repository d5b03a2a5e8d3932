//! The raw copy relay: what no proxy can leave out. Two sockets, a buffer and a task a direction,
//! and no look at what passes. It runs in a process of its own, so that its CPU is measured as the
//! proxy's is.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// The buffer of a direction.
const BUFFER_BYTES: usize = 64 << 10;

/// Relays from `port` to `upstream` until the process is ended.
pub(crate) fn serve(port: u16, upstream: u16) -> io::Result<()> {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(local(port)).await?;
        loop {
            let (client, _) = listener.accept().await?;
            tokio::spawn(async move {
                let _ = join(client, local(upstream)).await;
            });
        }
    })
}

/// Connects the other side and begins both directions.
async fn join(client: TcpStream, upstream: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::spawn(copy(from_client, to_server));
    copy(from_server, to_client).await;
    Ok(())
}

/// Copies until either side ends; dropping the write half tells the other side.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
