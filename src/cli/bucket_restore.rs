//! `tidegate bucket restore`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer is its output")]

use std::process::ExitCode;

use super::{EXIT_USAGE, Settings, run_to_end};
use crate::broker::restore::{PartitionReport, RestoreOptions, RestoreReport, restore};
use crate::clock::{Clock, Random};
use crate::config::{Config, ObjectUrl};

/// How it is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whether the report is printed as JSON.
    pub json: bool,
    /// How many offsets each partition leaves out.
    pub offset_gap: i64,
    /// Whether what cannot be read is left out.
    pub skip_damaged: bool,
}

/// Restores the configured broker from its bucket into its data directory, which must be empty,
/// and says what came back and what is lost: exit code 0 if the broker can be started from there,
/// 1 if not, [`EXIT_USAGE`] if the configuration is wrong. What is done meanwhile is told on
/// standard error.
pub fn bucket_restore(settings: &Settings, wanted: Wanted) -> ExitCode {
    let config = match settings.load() {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let options = match options(config, wanted) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match run_to_end(restore(&options)) {
        Ok(Ok(report)) => {
            if wanted.json {
                println!("{}", as_json(&report));
            } else {
                print!("{}", as_text(&report, &options));
            }
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        Err(code) => code,
    }
}

fn options(config: Config, wanted: Wanted) -> Result<RestoreOptions, String> {
    if config.storage.object.url == ObjectUrl::Memory {
        return Err("object.url is memory://: there is no bucket to restore from".to_owned());
    }
    let Some(data_dir) = config.storage.data_dir.clone() else {
        return Err("the data directory is temporary; set data.dir".to_owned());
    };
    let data_dir = std::path::absolute(&data_dir)
        .map_err(|error| format!("data directory \"{}\": {error}", data_dir.display()))?;
    Ok(RestoreOptions {
        config,
        data_dir,
        offset_gap: wanted.offset_gap,
        skip_damaged: wanted.skip_damaged,
        clock: Clock::system(),
        random: Random::system(),
        say: Box::new(|line| eprintln!("{line}")),
    })
}

fn as_json(report: &RestoreReport) -> String {
    serde_json::to_string_pretty(report).expect("texts and numbers are always written as JSON")
}

fn as_text(report: &RestoreReport, options: &RestoreOptions) -> String {
    let mut lines = vec![
        format!(
            "cluster {}, broker {}, metadata entry {}",
            report.cluster, report.node_id, report.metadata_entry
        ),
        match report.checkpoint_ms {
            Some(made) => {
                let age_s = options.clock.wall_ms().saturating_sub(made) / 1_000;
                format!("the last checkpoint was made {age_s} s ago")
            }
            None => "no checkpoint".to_owned(),
        },
        format!(
            "{} topics with their configuration, {} partitions in {} objects, {} groups",
            report.topics,
            report.partitions.len(),
            report.objects,
            report.groups
        ),
        format!("{} sections were in the bucket behind the checkpoint", report.adopted_objects),
    ];
    lines.extend(report.partitions.iter().map(partition_line));
    lines.extend(report.damaged.iter().map(|damaged| format!("NOT READ  {damaged}")));
    lines.push(format!(
        "known to be lost: {} offsets. What was written after the last checkpoint and had not \
         reached the bucket is lost, too.",
        report.lost_at_least()
    ));
    lines.push(format!("restored; start it with data.dir={}", options.data_dir.display()));
    lines.push(String::new());
    lines.join("\n")
}

fn partition_line(partition: &PartitionReport) -> String {
    let PartitionReport { topic, partition: index, log_start, restored_end, resumes, .. } =
        partition;
    let lost = match partition.recorded_end {
        None => "the checkpoint does not know it".to_owned(),
        Some(end) if end > *restored_end => format!("{restored_end} to {} are lost", end - 1),
        Some(_) => "none is known to be lost".to_owned(),
    };
    format!(
        "{topic}-{index}: offsets {log_start} up to {restored_end} are back, {lost}; it goes on at \
         {resumes}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_says_what_is_back_what_is_lost_and_where_it_goes_on() {
        let mut partition = PartitionReport {
            topic: "orders".to_owned(),
            partition: 3,
            log_start: 5,
            restored_end: 10,
            recorded_end: Some(14),
            lost_at_least: 4,
            resumes: 1_000_000_014,
            epoch: 7,
            adopted_objects: 0,
        };
        let expected = "orders-3: offsets 5 up to 10 are back, 10 to 13 are lost; it goes on at \
                        1000000014";
        assert_eq!(partition_line(&partition), expected);
        partition.recorded_end = Some(10);
        assert!(partition_line(&partition).contains("none is known to be lost"));
        partition.recorded_end = None;
        assert!(partition_line(&partition).contains("the checkpoint does not know it"));
    }
}
