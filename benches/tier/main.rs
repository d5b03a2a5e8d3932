//! Tiered storage end to end: catching up from the bucket against a raw read of the same bytes, the
//! time to ready with many sections, what a reader that catches up takes from those at the end, and
//! requests per GiB. `benches/README.md` says how to run it and what each cell means.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a bench measures with the machine's own clock, threads and files, talks to people, \
              and ends where something is not as it should be"
)]

mod catch_up;
mod economy;
#[path = "../../tests/harness/mod.rs"]
mod harness;
#[path = "../e2e/machine.rs"]
#[allow(dead_code, reason = "shared with the end-to-end bench")]
mod machine;
#[path = "../e2e/replay.rs"]
#[allow(dead_code, reason = "shared with the end-to-end bench")]
mod replay;
mod restart;
mod tail;
mod topics;
#[path = "../e2e/wire.rs"]
#[allow(dead_code, reason = "shared with the end-to-end bench")]
mod wire;

use std::process::ExitCode;

/// How to use it.
const USAGE: &str = "\
usage: cargo bench --bench tier -- [--cells PART] [--mib N] [--pairs N] [--seconds N]
  --cells    only cells whose name contains this: catch-up-file, catch-up-s3, restart, tail,
             economy-10-partitions, -1000-, -10000-
  --mib      how much is written for catch-up and economy (1024)
  --pairs    pairs of a measurement and its comparison (4)
  --seconds  how long each phase of the tail cell lasts (15)
environment:
  TIDEGATE_BIN      the broker, instead of the one that cargo builds
  TIDEGATE_CLIENTS  the folder that has versitygw (target/clients)";

/// What to do.
#[derive(Clone, Debug)]
struct Plan {
    cells: String,
    mib: usize,
    pairs: usize,
    seconds: u64,
}

impl Plan {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Plan, String> {
        let mut plan = Plan { cells: String::new(), mib: 1_024, pairs: 4, seconds: 15 };
        while let Some(name) = arguments.next() {
            if name == "--bench" {
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = || value.parse::<usize>().map_err(|error| format!("{name}: {error}"));
            match name.as_str() {
                "--cells" => plan.cells.clone_from(&value),
                "--mib" => plan.mib = number()?,
                "--pairs" => plan.pairs = number()?,
                "--seconds" => plan.seconds = number()? as u64,
                _ => return Err(format!("unknown argument {name}")),
            }
        }
        Ok(plan)
    }

    fn has(&self, cell: &str) -> bool {
        cell.contains(&self.cells)
    }
}

fn main() -> ExitCode {
    let plan = match Plan::parse(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(wrong) => {
            eprintln!("{wrong}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    println!(
        "{}, {}; load averages {} before",
        machine::today(),
        machine::describe(),
        machine::load()
    );
    if plan.has("catch-up-file") {
        catch_up::from_files(&plan);
    }
    if plan.has("catch-up-s3") {
        catch_up::from_s3(&plan);
    }
    if plan.has("restart") {
        restart::run(&plan);
    }
    if plan.has("tail") {
        tail::run(&plan);
    }
    for partitions in economy::PARTITIONS {
        if plan.has(&format!("economy-{partitions}-partitions")) {
            economy::run(&plan, partitions);
        }
    }
    println!("load averages {} after", machine::load());
    ExitCode::SUCCESS
}

/// The middle one of figures, the least and the greatest.
fn spread(mut figures: Vec<f64>) -> String {
    figures.sort_by(f64::total_cmp);
    let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
    let (middle, last) = (figures.len() / 2, figures.len().saturating_sub(1));
    let median = if figures.len() % 2 == 1 {
        at(middle)
    } else {
        f64::midpoint(at(middle.max(1) - 1), at(middle))
    };
    format!("{median:.3} ({:.3}-{:.3})", at(0), at(last))
}
