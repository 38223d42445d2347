//! `--config FILE`: flags from a TOML file, or a run's `config.json` to repeat the run.

use std::ffi::OsString;
use std::path::Path;

use anyhow::Context;
use clap::error::{ContextKind, ContextValue};
use clap::{ArgAction, Command};
use toml::{Table, Value};

use super::args::RunArgs;
use crate::train::RunConfig;

/// The run of a `config.json` that `--config` names; none where it names another kind of file.
pub fn repeated(args: &RunArgs) -> anyhow::Result<Option<RunConfig>> {
    let Some(path) = args.config.as_ref().filter(|path| is_json(path)) else { return Ok(None) };
    let text = crate::files::regular::read_text(path)?;
    let config = serde_json::from_str(&text);
    Ok(Some(config.with_context(|| format!("{} is no config.json of a run", path.display()))?))
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

/// The command line with a flag for each line of the TOML file that `--config` names. Flags that are
/// on the command line already are left out: they win.
pub fn expanded(command: &Command, args: Vec<OsString>) -> anyhow::Result<Vec<OsString>> {
    let Some(path) = config_path(&args).filter(|path| !is_json(Path::new(path))) else {
        return Ok(args);
    };
    let (command, at) = subcommand(command, &args);
    if !flags(command).any(|flag| flag == "config") {
        return Ok(args); // the parser says so better
    }
    let path = Path::new(&path);
    let text = crate::files::regular::read_text(path)?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        crate::Error::file(path, format!("line {line}: {}", error.message().replace('\n', " ")))
    })?;
    let mut added = Vec::new();
    for (key, value) in &table {
        let flag = known(command, key).map_err(|why| crate::Error::file(path, why))?;
        if !given(&args, &flag) {
            added.extend(argument(command, &flag, value).map_err(|w| crate::Error::file(path, w))?);
        }
    }
    let mut all = args;
    all.splice(at..at, added.into_iter().map(OsString::from));
    Ok(all)
}

/// What the parser says of a flag that only the file of `--config` gives, as an error of that file.
pub fn blamed(args: &[OsString], error: &clap::Error) -> Option<crate::Error> {
    let path = config_path(args).filter(|path| !is_json(Path::new(path)))?;
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let flag = argument.strip_prefix("--")?.split([' ', '=']).next()?;
    if given(args, flag) {
        return None;
    }
    let text = error.to_string(); // what is wrong, an empty line, where to find help
    let words = text.lines().take_while(|line| !line.is_empty()).flat_map(str::split_whitespace);
    let what = words.skip_while(|&word| word == "error:").collect::<Vec<_>>().join(" ");
    Some(crate::Error::file(Path::new(&path), what))
}

/// The file after `--config`.
fn config_path(args: &[OsString]) -> Option<OsString> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--config" {
            return args.next().cloned();
        }
        if let Some(path) = arg.to_str().and_then(|arg| arg.strip_prefix("--config=")) {
            return Some(path.into());
        }
    }
    None
}

/// The subcommand that is called, and where its flags begin.
fn subcommand<'a>(command: &'a Command, args: &[OsString]) -> (&'a Command, usize) {
    let called = args.get(1).and_then(|name| name.to_str());
    match called.and_then(|name| command.find_subcommand(name)) {
        Some(subcommand) => (subcommand, 2),
        None => (command, 1),
    }
}

fn flags(command: &Command) -> impl Iterator<Item = &str> {
    command.get_arguments().filter_map(|arg| arg.get_long())
}

/// The flag that a key is for: underscores may stand for dashes.
fn known(command: &Command, key: &str) -> Result<String, String> {
    let flag = key.replace('_', "-");
    if flag != "config" && flags(command).any(|known| known == flag) {
        return Ok(flag);
    }
    let near = flags(command).filter(|known| *known != "config");
    let near = near.map(|known| (distance(known, &flag), known)).min();
    Err(match near {
        Some((steps, near)) if steps <= 3 => format!("no setting {key}; did you mean {near}?"),
        _ => format!("no setting {key}; every flag of `{} --help` is one", command.get_name()),
    })
}

/// Whether a flag is on the command line.
pub fn given(args: &[OsString], flag: &str) -> bool {
    let is = |arg: &str| {
        let rest = arg.strip_prefix("--").and_then(|arg| arg.strip_prefix(flag));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    args.iter().filter_map(|arg| arg.to_str()).any(is)
}

/// `--flag=value` for a value of TOML; nothing for `flag = false`.
fn argument(command: &Command, flag: &str, value: &Value) -> Result<Option<String>, String> {
    let switch = command
        .get_arguments()
        .any(|arg| arg.get_long() == Some(flag) && matches!(arg.get_action(), ArgAction::SetTrue));
    match (switch, value) {
        (true, Value::Boolean(true)) => Ok(Some(format!("--{flag}"))),
        (true, Value::Boolean(false)) => Ok(None),
        (true, other) => {
            Err(format!("{flag} is of type {}; it must be true or false", other.type_str()))
        }
        (false, Value::Array(items)) => {
            let items = items.iter().map(|item| text(flag, item)).collect::<Result<Vec<_>, _>>()?;
            Ok(Some(format!("--{flag}={}", items.join(","))))
        }
        (false, value) => Ok(Some(format!("--{flag}={}", text(flag, value)?))),
    }
}

fn text(flag: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        other => Err(format!(
            "{flag} is of type {}; it must be a number, a text or a list of them",
            other.type_str()
        )),
    }
}

/// How many letters must be changed, added or taken away (Levenshtein, 1966).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use clap::CommandFactory;

    use super::*;

    fn expand(toml: &str, extra: &[&str]) -> anyhow::Result<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        std::fs::write(&path, toml).unwrap();
        let path = path.to_str().unwrap();
        let args = [&["convzoo", "train", "--config", path], extra].concat();
        let command = crate::cli::Cli::command();
        let args = expanded(&command, args.iter().map(OsString::from).collect())?;
        Ok(args[2..].iter().map(|arg| arg.to_string_lossy().replace(path, "FILE")).collect())
    }

    #[test]
    fn every_line_is_a_flag_and_the_command_line_wins() {
        let toml = "model = \"resnet18\"\nepochs = 3\nlr = 1e-3\nnesterov = true\njson = false\n\
                    freeze = [\"layer1\", \"layer2\"]\nclip_norm = 1.0";
        let args = expand(toml, &["--lr", "0.5"]).unwrap();
        let expected = [
            "--clip-norm=1",
            "--epochs=3",
            "--freeze=layer1,layer2",
            "--model=resnet18",
            "--nesterov",
            "--config",
            "FILE",
            "--lr",
            "0.5",
        ];
        assert_eq!(args, expected);
    }

    #[test]
    fn what_is_unknown_is_refused_with_the_nearest_name() {
        let told = |toml| expand(toml, &[]).unwrap_err().to_string();
        assert!(told("epoch = 3").contains("did you mean epochs?"));
        assert!(told("a_long_unknown_key = 3").contains("--help"));
        assert!(told("nesterov = 3").contains("true or false"));
        assert!(told("lr = 1979-05-27").contains("lr is of type datetime"));
        assert!(told("a = 1\nb =").contains("line 2"));
        assert!(told("config = \"other.toml\"").contains("no setting config"));
    }

    #[test]
    fn a_wrong_value_is_the_file_s_unless_the_command_line_gives_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        std::fs::write(&path, "lr = \"fast\"\non-nan = \"go\"").unwrap();
        let told = |extra: &[&str]| {
            let args = [&["convzoo", "train", "--config", path.to_str().unwrap()], extra].concat();
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            let mut command = crate::cli::Cli::command();
            let all = expanded(&command, args.clone()).unwrap();
            let error = command.try_get_matches_from_mut(all).unwrap_err();
            blamed(&args, &error).map(|error| error.to_string())
        };
        let file = told(&[]).unwrap();
        assert!(file.contains("run.toml: invalid value 'fast' for '--lr"), "{file}");
        let file = told(&["--lr", "0.1"]).unwrap();
        assert!(file.contains("'go' for '--on-nan") && file.contains("stop, skip"), "{file}");
        assert!(told(&["--on-nan", "stop", "--lr", "slow"]).is_none());
    }

    /// Whatever a file holds: flags that may be right, or one line of complaint. For longer, with
    /// `CONVZOO_FUZZ_SECONDS=1200 cargo test --lib damaged_files_of_flags -- --nocapture`.
    #[test]
    fn damaged_files_of_flags_are_answered() {
        const GOOD: &str = "model = \"resnet18\"\nepochs = 3\nlr = 1e-3\nnesterov = true\n\
                            freeze = [\"layer1\"]\nclass_weights = \"1,2.5\"\ntop-k = [1, 5]\n";
        const PIECES: &[&str] = &[
            "\"", "=", "[", "]", "\n", "-", "1e999", "nan", "true", "\u{0}", "{", "}", "\\", ".",
            "9",
        ];
        let seconds = std::env::var("CONVZOO_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
        let end = Duration::from_secs(seconds.unwrap_or(1));
        let (start, mut rng) = (Instant::now(), crate::rng::Rng::new(1));
        let (mut count, mut taken) = (0, 0);
        while start.elapsed() < end {
            let mut text = GOOD.to_owned();
            for _ in 0..1 + rng.below(4) {
                let [a, b] = [(); 2].map(|()| rng.below(text.len() + 1));
                match rng.below(3) {
                    0 => text.replace_range(a.min(b)..(a.min(b) + 6).min(a.max(b)), ""),
                    1 => text.insert_str(a, PIECES[rng.below(PIECES.len())]),
                    _ => {
                        let piece = text[a.min(b)..a.max(b)].to_owned();
                        text.insert_str(a, &piece);
                    }
                }
            }
            let mut command = crate::cli::Cli::command();
            match expand(&text, &[]) {
                Ok(flags) => {
                    let args = ["convzoo", "train"].into_iter().map(str::to_owned).chain(flags);
                    taken += usize::from(command.try_get_matches_from_mut(args).is_ok());
                }
                Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
            }
            count += 1;
        }
        println!("flags: {count} files in {end:?}, {taken} of them taken");
    }

    #[test]
    fn distances() {
        assert_eq!(distance("epoch", "epochs"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
