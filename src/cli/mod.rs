//! The command line, thin: flags become settings once, the library does the rest.

mod apart;
mod args;
mod bench;
mod budget;
mod compare;
mod config_file;
mod curve;
mod data_check;
mod diagram;
mod doctor;
mod draw;
mod evaluate;
mod field;
mod inspect;
mod learn;
mod list;
mod lr_find;
mod matching;
mod meaning;
mod measured;
mod memory;
mod predict;
mod progress;
mod recipe;
mod report;
mod run;
mod scores;
mod session;
mod signals;
mod summary;
mod terminal;
mod weights;
mod weights_add;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::digits::thousands;
use crate::visible::visible_line;

pub use args::RunArgs;
use terminal::{complain, print_json, print_line};

/// The classic convolutional networks: train them, ask them, compare them.
#[derive(Parser)]
#[command(name = "convzoo", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

// A command without words here has those of its arguments, which say more.
#[derive(Subcommand)]
enum Command {
    /// Train a network, or go on with a run
    ///
    /// Ctrl-C, SIGTERM and SIGHUP finish the step and save; the exit code is 130, 143 or 129 then. A
    /// signal that is ignored from the start, as under nohup, stays ignored.
    Train(run::TrainArgs),
    LrFind(lr_find::LrFindArgs),
    Eval(evaluate::EvalArgs),
    Predict(predict::PredictArgs),
    Summary(summary::SummaryArgs),
    ReceptiveField(field::FieldArgs),
    Diagram(diagram::DiagramArgs),
    Inspect(inspect::InspectArgs),
    Draw(draw::DrawArgs),
    /// List the networks
    List(list::ListArgs),
    /// Look into weight files, and convert them
    Weights(weights::WeightsArgs),
    Compare(compare::CompareArgs),
    /// Look after data sets: read every picture, find bad files and duplicates
    Data(data_check::DataArgs),
    /// Make a page of run folders: table, figures, how each number was obtained
    Report(report::ReportArgs),
    /// Measure ops, networks and the machine
    Bench(bench::BenchArgs),
    /// Say what this build has, whether it computes rightly here, and how fast
    Doctor(doctor::DoctorArgs),
}

/// The binary `convzoo`.
pub fn main() -> ExitCode {
    exit(|| run(parse::<Cli>()?.command))
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    if !matches!(command, Command::Doctor(_)) {
        check_environment()?; // the doctor says it among the rest
    }
    match command {
        Command::Train(args) => run::train(args),
        Command::LrFind(args) => lr_find::lr_find(args).map(done),
        Command::Eval(args) => evaluate::eval(args),
        Command::Predict(args) => predict::predict(args).map(done),
        Command::Summary(args) => summary::summary(args).map(done),
        Command::ReceptiveField(args) => field::receptive_field(args).map(done),
        Command::Diagram(args) => diagram::diagram(args).map(done),
        Command::Inspect(args) => inspect::inspect(args).map(done),
        Command::Draw(args) => draw::draw(args).map(done),
        Command::List(args) => list::list(args).map(done),
        Command::Weights(args) => weights::weights(args).map(done),
        Command::Compare(args) => compare::compare(args),
        Command::Data(args) => data_check::data(args),
        Command::Report(args) => report::report(args).map(done),
        Command::Bench(args) => bench::bench(args).map(done),
        Command::Doctor(args) => doctor::doctor(args),
    }
}

/// Settings in the environment that there are not are an error, before work begins.
fn check_environment() -> anyhow::Result<()> {
    crate::files::check_environment()?;
    Ok(crate::ops::check_environment()?)
}

/// The command line, with what a file of `--config` adds to it.
fn parse<T: CommandFactory + FromArgMatches>() -> anyhow::Result<T> {
    let mut command = T::command();
    let given: Vec<_> = std::env::args_os().collect();
    let args = config_file::expanded(&command, given.clone())?;
    let matches = command.try_get_matches_from_mut(args);
    let parsed = matches.and_then(|matches| T::from_arg_matches(&matches));
    parsed.or_else(|error| match config_file::blamed(&given, &error) {
        Some(why) => Err(why.into()),
        None => error.format(&mut command).exit(),
    })
}

/// An example: trains (or with `--eval` only measures) one architecture; every setting is a flag.
pub fn example(model: &'static str) -> ExitCode {
    exit(|| {
        check_environment()?;
        run::run(model, parse()?)
    })
}

/// The example that compares: `convzoo compare` without the subcommand.
pub fn compare_example() -> ExitCode {
    exit(|| {
        check_environment()?;
        compare::compare(parse()?)
    })
}

/// One clear line, and a code that scripts can see.
fn exit(command: impl FnOnce() -> anyhow::Result<ExitCode>) -> ExitCode {
    signals::fail_at_file_limit();
    match command() {
        Ok(code) => code,
        // A reader that has seen enough (`| head`) is no fault of ours.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn done((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}

/// A table with aligned columns: numbers to the right, words to the left. A row is a line, whatever is
/// in its cells.
fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let shown = |cell: &String| visible_line(cell).into_owned();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(shown).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let numeric = |column: usize| {
        let starts = rows.iter().filter_map(|row| row[column].chars().next());
        rows.iter().any(|row| !row[column].is_empty())
            && starts.into_iter().all(|first| first.is_ascii_digit() || first == '-')
    };
    let columns: Vec<(usize, bool)> = (0..header.len()).map(|i| (width(i), numeric(i))).collect();
    let line = |cells: &[&str]| {
        let padded = cells.iter().zip(&columns).map(|(cell, &(width, numeric))| {
            if numeric { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let rule: Vec<String> = columns.iter().map(|&(width, _)| "-".repeat(width)).collect();
    let mut lines = vec![line(header), rule.join("  ")];
    for row in &rows {
        lines.push(line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        RunArgs::command().debug_assert();
    }

    #[test]
    fn numbers_and_tables_are_aligned() {
        assert_eq!(thousands(11_689_512), "11,689,512");
        assert_eq!(thousands(512), "512");
        let text = table(&["model", "params"], &[vec!["a".into(), "1".into()]]);
        assert_eq!(text, "model  params\n-----  ------\na           1");
        let text = table(&["class"], &[vec!["a\x1b[2J\nb".into()]]);
        assert_eq!(text, "class\n-----------\na\\x1b[2J\\nb");
    }
}
