//! `convzoo doctor`

use std::process::ExitCode;

use clap::Args;

use super::session::use_threads;
use super::terminal::{is_watched, status};
use super::{print_json, print_line, table};
use crate::doctor::{self, Check, Facts, Folder, Outcome, Report};

#[derive(Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Leave out what is only timed
    #[arg(long)]
    no_speed: bool,
    /// Threads that compute [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

pub fn doctor(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    use_threads(args.threads)?;
    let watched = !args.json && is_watched();
    let mut say = |what: &str| {
        if watched {
            status(Some(what));
        }
    };
    let report = doctor::examine(!args.no_speed, &mut say)?;
    if watched {
        status(None);
    }
    if args.json {
        print_json(&report)?;
    } else {
        print_line(&text(&report))?;
    }
    Ok(if report.sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(report: &Report) -> String {
    let mut parts = vec![facts(&report.facts)];
    let header = ["op", "form", "device", "shapes", "forward", "backward", "verdict"];
    parts.push(table(&header, &report.checks.iter().map(cells).collect::<Vec<_>>()));
    if !report.speed.is_empty() {
        let rows = report.speed.iter().map(|speed| {
            let rate = format!("{:.*}", usize::from(speed.rate < 100.0), speed.rate);
            vec![speed.what.clone(), speed.device.clone(), rate, speed.unit.to_owned()]
        });
        parts.push(table(&["speed", "device", "rate", "unit"], &rows.collect::<Vec<_>>()));
    }
    parts.push(verdict(report));
    parts.join("\n\n")
}

fn facts(facts: &Facts) -> String {
    let list = |items: &[&str]| if items.is_empty() { "none".into() } else { items.join(", ") };
    let mut lines = vec![
        ("convzoo", format!("{}, {}", facts.version, facts.platform)),
        ("features", list(&facts.features)),
        ("CPU", facts.cpu.clone().unwrap_or_else(|| "unknown".to_owned())),
        (
            "instructions",
            format!("{} (this CPU has {})", facts.instruction_set, list(&facts.instruction_sets)),
        ),
        ("3x3 by", winograd(facts.winograd).to_owned()),
        ("threads", facts.threads.to_string()),
    ];
    if let Some((total, free)) = facts.memory_mib {
        lines.push(("memory", format!("{free} of {total} MiB free")));
    }
    let devices = facts.devices.iter().map(|device| format!("{}: {}", device.name, device.what));
    lines.extend(devices.map(|device| ("device", device)));
    lines.push(("data", folder(&facts.data)));
    lines.push(("downloads", facts.cache.as_ref().map_or_else(|| "nowhere".to_owned(), folder)));
    let environment = facts.environment.iter().map(|(name, value)| format!("{name}={value}"));
    lines.extend(environment.map(|setting| ("environment", setting)));
    let lines = lines.into_iter().map(|(what, value)| format!("{what:<12}  {value}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// How 3x3 convolutions are computed.
fn winograd(on: bool) -> &'static str {
    match on {
        true => "Winograd's way, where it is faster (CONVZOO_WINOGRAD=off for the direct way)",
        false => "the direct way (CONVZOO_WINOGRAD=off)",
    }
}

fn folder(folder: &Folder) -> String {
    let note = if folder.exists { "" } else { " (not there yet)" };
    format!("{}{note}", folder.path.display())
}

/// Of the largest errors, relative to the definition in f64.
fn cells(check: &Check) -> Vec<String> {
    let (forward, backward, verdict) = match &check.outcome {
        Outcome::Passed { forward, backward } => (*forward, *backward, "pass".to_owned()),
        Outcome::Wrong { forward, backward, bound } => {
            (*forward, *backward, format!("WRONG: more than {bound:.0e}"))
        }
        Outcome::Failed { error } => (f64::NAN, f64::NAN, format!("FAILED: {error}")),
    };
    let number = |error: f64| if error.is_nan() { "-".to_owned() } else { format!("{error:.1e}") };
    vec![
        check.op.to_owned(),
        check.form.to_owned(),
        check.device.clone(),
        check.shapes.to_string(),
        number(forward),
        number(backward),
        verdict,
    ]
}

fn verdict(report: &Report) -> String {
    let passed = report.checks.iter().filter(|check| check.passed()).count();
    let seconds: f64 = report.checks.iter().map(|check| check.seconds).sum();
    let all = report.checks.len();
    let mut lines: Vec<_> =
        report.facts.problems.iter().map(|problem| format!("problem: {problem}")).collect();
    lines.push(format!("{passed} of {all} checks passed in {seconds:.1} s"));
    lines.join("\n")
}
