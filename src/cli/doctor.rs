//! `tidegate doctor`: tries what a broker or proxy of this configuration rests on, and says what is
//! wrong with it, what that does and what helps.
//!
//! Nothing is started and nothing is left behind: one small file beside the data and some small
//! objects under `probe/` are written and removed; of a proxy's upstream it only asks. It may be
//! run beside the broker or proxy.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer is its output")]

mod bucket;
mod disk;
mod listeners;
mod report;
mod upstream;

use std::path::PathBuf;
use std::process::ExitCode;

use self::report::Report;
use super::{EXIT_USAGE, Settings, run_to_end};
use crate::clock::{Clock, Random};
use crate::config::{Config, ProxyConfig, Role};

/// Examines the configuration of a broker or proxy, prints the findings and gives the exit code: 0
/// if nothing is wrong, 1 if something is, [`EXIT_USAGE`] if the configuration cannot be read.
pub fn doctor(settings: &Settings, json: bool, role: Role) -> ExitCode {
    let clock = Clock::system();
    let examined = match role {
        Role::Broker => {
            settings.load().map(|config| run_to_end(examine(&config, &clock, &Random::system())))
        }
        Role::Proxy => {
            settings.load_proxy().map(|config| run_to_end(examine_proxy(&config, &clock)))
        }
    };
    let report = match examined {
        Ok(Ok(report)) => report,
        Ok(Err(code)) => return code,
        Err(errors) => {
            if json {
                println!("{}", unreadable(&errors.to_string(), role).json());
            } else {
                eprintln!("{errors}");
            }
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    if report.is_healthy() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A script that asks for JSON gets it, whatever is wrong.
fn unreadable(errors: &str, role: Role) -> Report {
    let mut report = Report::default();
    let (effect, reference) = match role {
        Role::Broker => ("the broker does not start", "`tidegate config reference`"),
        Role::Proxy => ("the proxy does not start", "`tidegate config reference --proxy`"),
    };
    let fix = format!("correct what is named; {reference} lists every key");
    let trouble = report::trouble("it holds no configuration", effect, fix);
    report.problem("configuration", errors, trouble);
    report
}

async fn examine_proxy(config: &ProxyConfig, clock: &Clock) -> Report {
    let mut report = Report::default();
    upstream::examine(&mut report, config, clock).await;
    report
}

async fn examine(config: &Config, clock: &Clock, random: &Random) -> Report {
    let mut report = Report::default();
    let data_dir = config.storage.data_dir.as_ref().map(absolute);
    match &data_dir {
        Some(data_dir) => disk::examine(&mut report, data_dir, &config.storage.wal, clock),
        None => report.fine("disk", "the data directory is temporary"),
    }
    listeners::examine(&mut report, config).await;
    let object = config.storage.object.within(&data_dir.unwrap_or_default());
    bucket::examine(&mut report, &object, clock, random).await;
    report
}

/// A directory that cannot be made absolute is reported as what it was given as.
fn absolute(path: &PathBuf) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn a_configuration_that_cannot_be_read_is_told_as_json_too() {
        let errors = Sources::of_flags(&[("no.such.key", "1")]).load().unwrap_err().to_string();
        let told: serde_json::Value =
            serde_json::from_str(&unreadable(&errors, Role::Broker).json()).unwrap();
        let finding = &told["findings"][0];
        assert_eq!(
            (&finding["part"], &finding["status"]),
            (&"configuration".into(), &"problem".into())
        );
        assert!(finding["found"].as_str().unwrap().contains("no.such.key"), "{told}");
        assert!(finding["fix"].as_str().unwrap().contains("config reference"), "{told}");
    }

    #[tokio::test]
    async fn a_sound_configuration_has_no_problem_and_each_part_a_finding() {
        let temp = tempfile::tempdir().unwrap();
        let data = temp.path().join("data").display().to_string();
        let flags = [("data.dir", data.as_str()), ("listeners", "PLAINTEXT://127.0.0.1:0")];
        let config = Sources::of_flags(&flags).load().unwrap();
        let report = examine(&config, &Clock::system(), &Random::seeded(1)).await;
        assert!(report.is_healthy(), "{report}");
        let text = report.to_string();
        for part in ["disk", "listener PLAINTEXT", "bucket"] {
            assert!(text.contains(&format!("ok       {part}: ")), "{text}");
        }
        let left: Vec<_> = std::fs::read_dir(temp.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "only the bucket's directory is made: {left:?}");
    }
}
