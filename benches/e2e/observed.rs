//! What it costs to be observed: a tidegate with metrics by topic that is scraped beside one
//! without them that is not.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::cells::{self, Cell, Measure, Ready};
use super::peer::{Kind, Lane, Peer, Places};
use super::wire::fault;

/// Between two scrapes: fifteen times as often as Prometheus with its defaults.
const EVERY: Duration = Duration::from_secs(1);
/// How many times as long as elsewhere a measurement is, so that each has some scrapes in it.
const TIMES: usize = 2;
/// Topics beside the cell's own, and the partitions of each.
const OTHERS: (usize, i32) = (10, 100);
/// What each server takes in before.
const WARM_BYTES: usize = 256 << 20;
/// What is switched off where nobody looks.
const OFF: [&str; 2] = ["metrics.topics.max=0", "metrics.groups.max=0"];

/// The measurements of one cell; number n of each belongs to pair n.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) cell: Cell,
    pub(crate) scraped: Vec<Measure>,
    pub(crate) alone: Vec<Measure>,
}

/// Measures `cells` at both, in pairs whose order alternates.
pub(crate) fn measure(
    places: &Places,
    cells: &[Cell],
    pairs: usize,
    smoke: bool,
) -> io::Result<Vec<Observed>> {
    let mut silent = places.clone();
    silent.settings.extend(OFF.map(str::to_owned));
    let mut peers = [started(places)?, started(&silent)?];
    let scraper = Scraper::start(peers[0].admin());
    let results = cells.iter().map(|cell| pairs_of(*cell, &mut peers, pairs, smoke));
    let results = results.collect::<io::Result<Vec<_>>>()?;
    let scrapes = scraper.stop()?;
    eprintln!("observed: {scrapes} scrapes");
    Ok(results)
}

fn started(places: &Places) -> io::Result<Peer> {
    let mut peer = Peer::start(Kind::Tidegate, Lane::PageCache, places)?;
    peer.first_produce()?;
    let mut connection = peer.connect()?;
    for number in 0..OTHERS.0 {
        peer.create_topic(&mut connection, &format!("another-{number}"), OTHERS.1)?;
    }
    cells::warm_up(&mut peer, WARM_BYTES)?;
    Ok(peer)
}

fn pairs_of(cell: Cell, peers: &mut [Peer; 2], pairs: usize, smoke: bool) -> io::Result<Observed> {
    let mut ready = Vec::new();
    for peer in &mut *peers {
        let mut prepared = Ready::prepare(&cell, peer, smoke)?;
        prepared.lengthen(TIMES);
        prepared.warm(peer, smoke)?;
        ready.push(prepared);
    }
    let mut measures = [Vec::new(), Vec::new()];
    for pair in 0..pairs {
        for turn in 0..2 {
            let at = (pair + turn) % 2;
            measures[at].push(ready[at].measure(&peers[at])?);
        }
        eprintln!("observed: {} pair {}", cell.id, pair + 1);
    }
    for (prepared, peer) in ready.into_iter().zip(&*peers) {
        prepared.finish(peer)?;
    }
    let [scraped, alone] = measures;
    Ok(Observed { cell, scraped, alone })
}

/// A thread in the place of Prometheus.
struct Scraper {
    stop: Sender<()>,
    thread: JoinHandle<io::Result<usize>>,
}

impl Scraper {
    fn start(admin: SocketAddr) -> Scraper {
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let mut scrapes = 0;
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                scrape(admin)?;
                scrapes += 1;
            }
            Ok(scrapes)
        });
        Scraper { stop, thread }
    }

    /// Ends it, and tells how often it has scraped.
    fn stop(self) -> io::Result<usize> {
        drop(self.stop);
        self.thread.join().map_err(|_| fault("the scraper panicked"))?
    }
}

fn scrape(admin: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(admin)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    if !page.starts_with("HTTP/1.1 200") || !page.contains("tidegate_topic_partitions{") {
        return Err(fault(format!("no metrics but {:?}", page.lines().next())));
    }
    Ok(())
}
