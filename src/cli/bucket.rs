//! `tidegate bucket check`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer is its output")]

use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{EXIT_USAGE, Settings, run_to_end};
use crate::broker::bucket_check::{self, BucketReport};
use crate::clock::{Clock, Random};
use crate::config::{Config, ObjectUrl};
use crate::metrics::Registry;
use crate::object::{Store, Variables};

/// Walks everything that the configured broker has in its bucket, changes nothing, and says what
/// is wrong: exit code 0 if nothing is, 1 if something is or the walk could not be made,
/// [`EXIT_USAGE`] if the configuration is wrong.
pub fn bucket_check(settings: &Settings, json: bool) -> ExitCode {
    let config = match settings.load() {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let report = match run_to_end(examine(&config)) {
        Ok(Ok(report)) => report,
        Ok(Err(error)) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
        Err(code) => return code,
    };
    if json {
        println!("{}", as_json(&report));
    } else {
        print!("{}", as_text(&report));
    }
    if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn examine(config: &Config) -> Result<BucketReport, String> {
    let data_dir = config.storage.data_dir.clone().unwrap_or_default();
    let data_dir = std::path::absolute(&data_dir).unwrap_or(data_dir);
    let object = config.storage.object.within(&data_dir);
    if object.url == ObjectUrl::Memory {
        return Err("object.url is memory://: there is no bucket to check".to_owned());
    }
    let (clock, random) = (Clock::system(), Random::system());
    let variables = Variables::of_process();
    let store = Store::connect(&object, &variables, &clock, &random, &Registry::new())
        .map_err(|error| error.to_string())?;
    // It is for people: where standard error is no terminal it draws nothing.
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let template = "{bar:30} {binary_bytes} of {binary_total_bytes} read, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    let report = bucket_check::check(&store, config.node.id, |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    report.map_err(|error| error.to_string())
}

fn as_json(report: &BucketReport) -> String {
    serde_json::to_string_pretty(report).expect("texts and numbers are always written as JSON")
}

fn as_text(report: &BucketReport) -> String {
    let mut lines = vec![
        format!("cluster {}, metadata entry {}", report.cluster, report.metadata_entry),
        match report.checkpoint_ms {
            Some(made) => format!("last checkpoint made at {made} ms since 1970"),
            None => "no checkpoint".to_owned(),
        },
        format!(
            "{} partitions in {} objects of {} bytes; {} chunks have their checksum",
            report.partitions, report.objects, report.bytes, report.chunks
        ),
        format!("{} objects wait for their deletion", report.garbage),
        format!("{} orphans of {} bytes", report.orphans, report.orphan_bytes),
    ];
    lines.extend(report.orphan_names.iter().map(|name| format!("orphan   {name}")));
    let problem =
        |problem: &bucket_check::Problem| format!("PROBLEM  {}: {}", problem.what, problem.detail);
    lines.extend(report.problems.iter().map(problem));
    lines.push(match report.problems.len() {
        0 => "sound: a restore would find everything".to_owned(),
        count => format!("{count} problems: a restore would not find everything"),
    });
    lines.push(String::new());
    lines.join("\n")
}
