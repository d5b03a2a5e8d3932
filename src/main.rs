//! The `tidegate` binary: flags, configuration, runtime, run; exit codes.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the terminal is the user here")]

use std::process::ExitCode;

use tidegate::admin::LogLevel;
use tidegate::cli::{self, Command, Settings};
use tidegate::run::{self, RunError};

/// glibc keeps what was freed in an arena per thread, tens of megabytes above a small byte budget.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match cli::parse() {
        Command::Serve(settings) => serve(&settings),
        Command::Proxy(settings) => proxy(&settings),
        Command::ConfigReference { role, markdown } => cli::reference(role, markdown),
        Command::ConfigSchema { role } => cli::schema(role),
        Command::ConfigCheck { settings, role } => cli::check(&settings, role),
        Command::WalCheck(settings) => cli::wal_check(&settings),
        Command::BucketCheck { settings, json } => cli::bucket_check(&settings, json),
        Command::BucketRestore { settings, wanted } => cli::bucket_restore(&settings, wanted),
        Command::Doctor { settings, role, json } => cli::doctor(&settings, json, role),
        Command::Topic(remote) => cli::topic(&remote),
        Command::Group(remote) => cli::group(&remote),
        Command::Cluster(remote) => cli::cluster(&remote),
        Command::Produce { connection, wanted } => cli::produce(&connection, &wanted),
        Command::Bench(remote) => cli::bench(&remote),
        Command::Demo { connection, shown } => cli::demo(&connection, &shown),
        Command::Consume(asked) => cli::consume(&asked.0, &asked.1),
        Command::Top(asked) => cli::top(&asked),
        Command::Completions(shell) => cli::completions(shell),
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
    let log_level = LogLevel::start(&config.process);
    run::warn_about(&config);
    let serve = run::serve(config, settings.take_over, log_level, |config, bound, admin, dir| {
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
    let log_level = LogLevel::start(&config.process);
    run::proxy::warn_about(&config);
    let serve = run::proxy::serve(config, log_level, |config, bound, admin| {
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
