//! Random interleavings of members, refusals, slow disks and time.
//!
//! What must hold whatever happens: a generation has one leader, and only it sees the members; a
//! client never sees a generation go down; whoever syncs gets what the leader of its generation
//! gave it; a commit that was answered is what a fetch shows, or a later one is; every request is
//! answered in the end; and when everybody is silent, no member is left.

use std::collections::HashMap;

use proptest::prelude::*;

use super::harness::*;
use crate::group::types::*;
use crate::group::*;

#[derive(Debug, Clone, Copy)]
enum Op {
    Join(usize),
    JoinChanged(usize),
    Sync(usize),
    Heartbeat(usize),
    Commit(usize),
    Leave(usize),
    /// The client's process restarts: it knows nothing of its member id.
    Forget(usize),
    /// The client's connection is lost: nobody waits for the answers.
    Disconnect(usize),
    Pass(u64),
    /// Everybody joins, waits and syncs, as well-behaved clients do.
    Round,
    Hold(bool),
    Refuse(bool),
}

const CLIENTS: usize = 5;

fn op() -> impl Strategy<Value = Op> {
    let client = 0..CLIENTS;
    prop_oneof![
        8 => client.clone().prop_map(Op::Join),
        1 => client.clone().prop_map(Op::JoinChanged),
        8 => client.clone().prop_map(Op::Sync),
        4 => client.clone().prop_map(Op::Heartbeat),
        2 => client.clone().prop_map(Op::Commit),
        1 => client.clone().prop_map(Op::Leave),
        1 => client.clone().prop_map(Op::Forget),
        1 => client.prop_map(Op::Disconnect),
        6 => (0..8_000_u64).prop_map(Op::Pass),
        3 => Just(Op::Round),
        1 => any::<bool>().prop_map(Op::Hold),
        1 => any::<bool>().prop_map(Op::Refuse),
    ]
}

/// A client, what it waits for, and the metadata of its last join.
struct Player {
    client: Client,
    /// Counts restarts: an answer to a former process changes nothing.
    process: u32,
    joins: Vec<(u32, Reply<JoinResponse>)>,
    syncs: Vec<(i32, Reply<SyncResponse>)>,
    commits: Vec<(i64, Reply<Vec<TopicResults>>)>,
    members: Vec<Name>,
    highest: i32,
}

struct Game {
    bench: Bench,
    players: Vec<Player>,
    /// The client that leads each generation.
    leaders: HashMap<i32, String>,
    next_offset: i64,
    committed: i64,
}

/// The client that has a member id: what stands before the UUID.
fn client_of(id: &str) -> String {
    id.split_once('-').map_or(id, |(client, _)| client).to_owned()
}

impl Game {
    async fn new() -> Self {
        let player = |index: usize| {
            let name = format!("m{index}");
            let mut client = if index < 2 { Client::fixed(&name) } else { Client::new(&name) };
            client.version = if index == 2 { 3 } else { 9 };
            client.rebalance_ms = 20_000;
            Player {
                client,
                process: 0,
                joins: Vec::new(),
                syncs: Vec::new(),
                commits: Vec::new(),
                members: Vec::new(),
                highest: 0,
            }
        };
        let players = (0..CLIENTS).map(player).collect();
        let bench = Bench::new().await;
        Self { bench, players, leaders: HashMap::new(), next_offset: 1, committed: -1 }
    }

    async fn play(&mut self, op: Op) {
        if matches!(op, Op::Round) {
            // Twice, for those that are told their id first.
            let joins = (0..CLIENTS).chain(0..CLIENTS).map(Op::Join);
            let steps = joins.chain([Op::Pass(6_500)]).chain((0..CLIENTS).map(Op::Sync));
            for step in steps {
                self.step(step).await;
            }
        } else {
            self.step(op).await;
        }
    }

    async fn step(&mut self, op: Op) {
        let bench = &self.bench;
        match op {
            Op::Join(at) | Op::JoinChanged(at) => {
                let player = &mut self.players[at];
                if matches!(op, Op::JoinChanged(_)) {
                    let (_, metadata) = &mut player.client.protocols[0];
                    let other =
                        if *metadata == subscription("orders") { "other" } else { "orders" };
                    *metadata = subscription(other);
                }
                player.joins.push((player.process, bench.join(&player.client)));
            }
            Op::Sync(at) => {
                let player = &mut self.players[at];
                let generation = player.client.generation;
                let mut request = player.client.sync_request(&[]);
                if player.client.leads() {
                    let give =
                        |id: &Name| (id.clone(), format!("{generation}:{}", client_of(id)).into());
                    request.assignments = player.members.iter().map(give).collect();
                }
                player.syncs.push((generation, bench.coordinator.sync(request)));
            }
            Op::Heartbeat(at) => {
                let player = &mut self.players[at];
                let result = bench.heartbeat(&player.client).await;
                player.failed(player.process, result.err());
            }
            Op::Commit(at) => {
                let offset = self.next_offset;
                self.next_offset += 1;
                let player = &mut self.players[at];
                player.commits.push((offset, bench.commit(&player.client, offset)));
            }
            Op::Leave(at) => {
                let id = self.players[at].client.id.clone();
                drop(bench.leave(&id, None));
            }
            Op::Forget(at) => self.players[at].forget(),
            Op::Disconnect(at) => {
                let player = &mut self.players[at];
                player.joins.clear();
                player.syncs.clear();
            }
            Op::Round => unreachable!("taken apart by play"),
            Op::Pass(millis) => bench.clock.sleep(std::time::Duration::from_millis(millis)).await,
            Op::Hold(true) => bench.log.hold(),
            Op::Hold(false) => bench.log.release(),
            Op::Refuse(refuse) => bench.log.refuse(refuse.then_some(AppendRefused::Unavailable)),
        }
        self.answers().await;
    }

    /// Takes in what has been answered.
    async fn answers(&mut self) {
        for at in 0..CLIENTS {
            let player = &mut self.players[at];
            for (process, mut reply) in std::mem::take(&mut player.joins) {
                match now(&mut reply).await {
                    None => player.joins.push((process, reply)),
                    Some(Ok(response)) => player.joined(process, response, &mut self.leaders),
                    Some(Err(error)) => player.failed(process, Some(error)),
                }
            }
            for (generation, mut reply) in std::mem::take(&mut player.syncs) {
                match now(&mut reply).await {
                    None => player.syncs.push((generation, reply)),
                    Some(Ok(response)) => {
                        let expected = format!("{generation}:m{at}");
                        assert_eq!(response.assignment, expected.as_bytes());
                    }
                    Some(Err(_)) => {}
                }
            }
            for (offset, mut reply) in std::mem::take(&mut player.commits) {
                match now(&mut reply).await {
                    None => player.commits.push((offset, reply)),
                    Some(Ok(_)) => self.committed = self.committed.max(offset),
                    Some(Err(_)) => {}
                }
            }
        }
    }

    async fn end(&mut self) {
        self.bench.log.refuse(None);
        self.bench.log.release();
        // The longest wait is that of a new member's join.
        self.bench.pass(400).await;
        self.answers().await;
        for player in &self.players {
            assert!(player.joins.is_empty(), "a join is parked for ever");
            assert!(player.syncs.is_empty(), "a sync is parked for ever");
            assert!(player.commits.is_empty(), "a commit is parked for ever");
        }
        self.bench.pass(400).await;
        assert_eq!(self.bench.metric("tidegate_group_members"), 0);
        let seen = self.bench.committed().await;
        assert!(seen >= self.committed, "{seen} is before the answered {}", self.committed);
    }
}

impl Player {
    fn forget(&mut self) {
        self.client.id = "".into();
        self.client.generation = -1;
        self.client.leader = None;
        self.process += 1;
    }

    fn joined(&mut self, process: u32, response: JoinResponse, leaders: &mut HashMap<i32, String>) {
        let leader = client_of(response.leader.as_deref().unwrap());
        let known = leaders.entry(response.generation).or_insert_with(|| leader.clone());
        assert_eq!(*known, leader, "generation {} has two leaders", response.generation);
        let sees_members = !response.members.is_empty();
        assert_eq!(sees_members, response.leader.as_ref() == Some(&response.member_id));
        assert!(response.generation >= self.highest, "a generation went down");
        self.highest = response.generation;
        if process == self.process {
            self.members = response.members.iter().map(|it| it.member_id.clone()).collect();
            self.client.joined(response);
        }
    }

    fn failed(&mut self, process: u32, error: Option<Error>) {
        if process != self.process {
            return;
        }
        match error {
            Some(Error::MemberIdRequired(id)) => self.client.id = id,
            Some(Error::UnknownMemberId | Error::FencedInstanceId) => self.forget(),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_keeps_the_promises(ops in prop::collection::vec(op(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut game = Game::new().await;
            for op in ops {
                game.play(op).await;
            }
            game.end().await;
        });
    }
}
