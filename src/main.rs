//! The `tidegate` binary: flags, configuration, runtime, run; exit codes.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the terminal is the user here")]

use std::io::IsTerminal;
use std::process::ExitCode;

use tidegate::cli::{self, Command, Settings};
use tidegate::config::ProcessConfig;
use tidegate::run::{self, RunError};

/// glibc keeps what was freed in an arena per thread, tens of megabytes above a small byte budget.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match cli::parse() {
        Command::Serve(settings) => serve(&settings),
        Command::Proxy(settings) => proxy(&settings),
        Command::ConfigReference { role, markdown } => cli::reference(role, markdown),
        Command::ConfigCheck { settings, role } => cli::check(&settings, role),
        Command::WalCheck(settings) => cli::wal_check(&settings),
        Command::BucketCheck { settings, json } => cli::bucket_check(&settings, json),
        Command::BucketRestore { settings, wanted } => cli::bucket_restore(&settings, wanted),
        Command::Doctor { settings, role, json } => cli::doctor(&settings, json, role),
    }
}

fn serve(settings: &Settings) -> ExitCode {
    let config = match settings.load() {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(cli::EXIT_USAGE);
        }
    };
    start_logging(&config.process);
    run::warn_about(&config);
    let serve = run::serve(config, settings.take_over, |config, bound, admin, dir| {
        println!("{}", cli::banner(config, bound, admin, dir));
    });
    end(cli::run_to_end(serve))
}

fn proxy(settings: &Settings) -> ExitCode {
    let config = match settings.load_proxy() {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(cli::EXIT_USAGE);
        }
    };
    start_logging(&config.process);
    run::proxy::warn_about(&config);
    let serve = run::proxy::serve(config, |config, bound, admin| {
        println!("{}", cli::proxy_banner(config, bound, admin));
    });
    end(cli::run_to_end(serve))
}

/// How the process ends.
fn end(outcome: Result<Result<(), RunError>, ExitCode>) -> ExitCode {
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("tidegate: {error}");
            ExitCode::FAILURE
        }
        Err(code) => code,
    }
}

/// Logs to standard error, as `log.level` says.
fn start_logging(config: &ProcessConfig) {
    let filter = tracing_subscriber::EnvFilter::new(&config.log_level);
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    log.with_writer(std::io::stderr).init();
}
