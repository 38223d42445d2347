//! The parts of the page.

use std::fmt::Write as _;

use super::columns::{Cell, columns, in_percent, plain, short, thousands};
use super::confusion::Confusion;
use super::figures::{self, Figure, class};
use super::record::Record;
use super::rows::{Group, Row};
use super::views::{Answer, Sample};
use super::{Report, escape};
use crate::Result;
use crate::data::DataKind;
use crate::digits::counted;

/// What the pictures are and what came out, in a few sentences.
pub fn lead(group: &Group) -> String {
    let mut out = String::new();
    if group.kind == DataKind::Drawn {
        out += "<p class=\"warning\"><b>Drawn pictures, not photographs.</b> The program drew \
                them itself: these accuracies say nothing about photographs.</p>\n";
    }
    let Some(data) = group.rows.first().map(|row| &row.config().data) else { return out };
    let (train, val) = (thousands(data.train_images as f64), thousands(data.val_images as f64));
    let classes = match &data.classes[..] {
        few if few.len() <= 10 => few.join(", "),
        many => format!("{} classes", many.len()),
    };
    let _ = writeln!(
        out,
        "<p class=\"lead\">{} ({}): {train} to train on, {val} to validate; {}. {}</p>",
        escape(&group.dataset),
        group.kind,
        escape(&classes),
        escape(&outcome(group))
    );
    for (title, caution) in group.cautions() {
        let caution = escape(&caution);
        let _ = writeln!(out, "<p class=\"warning\"><b>{title}</b> {caution}</p>");
    }
    out
}

/// The runs that are in no table, where there are any.
pub fn left_out(report: &Report) -> String {
    let text = report.lacks().map(|text| escape(&text));
    text.map_or(String::new(), |text| {
        format!("<p class=\"warning\"><b>Not all runs are here.</b> {text}</p>\n")
    })
}

/// Which row is best, and which comes near with far less.
fn outcome(group: &Group) -> String {
    let known = group.rows.iter().filter_map(|row| Some((row, group.top1(row)?.mean)));
    let known: Vec<(&Row, f64)> = known.collect();
    let Some(&(best, top)) = known.iter().reduce(|a, b| if b.1 > a.1 { b } else { a }) else {
        return "No epoch has been evaluated yet.".to_owned();
    };
    let part = if group.is_tested() { "test" } else { "validation" };
    let params = |row: &Row| row.config().model.params as f64;
    let percent = |share: f64| plain(in_percent(share));
    if known.len() == 1 {
        return format!("{} gets {} % of the {part} pictures right.", best.label, percent(top));
    }
    let mut text = format!(
        "Highest: {} with {} % of the {part} pictures right and {} parameters",
        best.label,
        percent(top),
        short(params(best))
    );
    let near =
        known.iter().filter(|(row, top1)| top - top1 <= 0.02 && params(row) < 0.5 * params(best));
    if let Some((row, top1)) = near.min_by(|a, b| params(a.0).total_cmp(&params(b.0))) {
        let (points, params) = (percent(top - top1), short(params(row)));
        let _ = write!(text, "; {} comes within {points} points of it with {params}", row.label);
    }
    text + "."
}

/// The table of all rows, and the published accuracies beside them.
pub fn table(group: &Group) -> String {
    let columns = columns(group);
    let published = group.rows.iter().any(|row| row.published().is_some());
    let mut head = String::new();
    for column in &columns {
        let kind = if column.key == "model" { "words" } else { "numbers" };
        let help = escape(column.help);
        let title = match column.key {
            "params" | "macs" => format!("{},<br>millions", column.title),
            _ => column.title.to_owned(),
        };
        let _ = write!(
            head,
            "<th scope=\"col\" data-kind=\"{kind}\" title=\"{help}\"><button>{title}</button></th>"
        );
    }
    if published {
        head += "<th scope=\"col\" data-kind=\"numbers\" title=\"As torchvision publishes it; not measured \
                 here\"><button>ImageNet<br>published</button></th>";
    }
    let best = columns
        .iter()
        .map(|c| c.key)
        .find(|key| *key == if group.is_tested() { "test_top1" } else { "val_top1" });
    let top =
        group.rows.iter().filter_map(|row| group.top1(row)).map(|s| s.mean).fold(0.0, f64::max);
    let mut body = String::new();
    for row in &group.rows {
        body += "<tr>";
        for column in &columns {
            let cell = column.cell(row);
            let is_best = Some(column.key) == best && cell.value == Some(top);
            body += &match column.key {
                "model" => name_cell(row, &cell.text),
                "params" | "macs" => millions_cell(&cell),
                _ => number_cell(&cell, is_best),
            };
        }
        if published {
            body += &published_cell(row);
        }
        body += "</tr>\n";
    }
    let note = match published {
        true => {
            "Bold: the highest accuracy. The last column is what torchvision publishes for its \
                 weights on ImageNet's 1000 classes; convzoo has not measured it."
        }
        false => "Bold: the highest accuracy.",
    };
    format!(
        "<p class=\"soft\">A click on a column's head sorts by it.</p>\n<div class=\"scroll\">\n<table \
         class=\"runs\">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n</div>\n<p \
         class=\"soft\">{note}</p>\n"
    )
}

fn name_cell(row: &Row, text: &str) -> String {
    let (class, text) = (class(row), escape(text));
    format!("<td data-value=\"{text}\"><span class=\"chip {class}\"></span>{text}</td>")
}

fn number_cell(cell: &Cell, is_best: bool) -> String {
    let value = cell.value.map_or(String::new(), |value| value.to_string());
    let class = if is_best { " class=\"best\"" } else { "" };
    format!("<td data-value=\"{value}\"{class}>{}</td>", escape(&cell.text))
}

/// In millions, which is as much as anybody compares by eye; all digits on hover.
fn millions_cell(cell: &Cell) -> String {
    let Some(value) = cell.value else { return number_cell(cell, false) };
    let millions = match value / 1e6 {
        few if few < 100.0 => format!("{few:.2}"),
        many => thousands(many),
    };
    format!("<td data-value=\"{value}\" title=\"{}\">{millions}</td>", escape(&cell.text))
}

fn published_cell(row: &Row) -> String {
    match row.published() {
        Some(published) => {
            let top1 = published.top1;
            format!("<td data-value=\"{top1}\"><i>{} %</i></td>", plain(top1))
        }
        None => "<td data-value=\"\">-</td>".to_owned(),
    }
}

fn card(figure: &Figure, caption: &str) -> String {
    let (title, svg) = (escape(&figure.title), figure.element());
    let caption = match caption {
        "" => String::new(),
        caption => format!("<figcaption>{caption}</figcaption>"),
    };
    format!("<figure>\n<h3>{title}</h3>\n{svg}{caption}</figure>\n")
}

/// Accuracy against four costs.
pub fn costs(group: &Group) -> Result<String> {
    let figures = figures::costs(group)?;
    if group.rows.len() < 2 || figures.is_empty() {
        return Ok(String::new());
    }
    let spread = match group.rows.iter().any(|row| row.runs.len() > 1) {
        true => " Bars: one standard deviation of the runs to each side.",
        false => "",
    };
    let cards: String = figures.iter().map(|figure| card(figure, "")).collect();
    Ok(format!(
        "<p class=\"soft\">Up and to the left is better. The scale of accuracy does not begin at \
         zero.{spread}</p>\n<div class=\"cards\">\n{cards}</div>\n"
    ))
}

/// Training and validation error of all rows.
pub fn errors(group: &Group) -> Result<String> {
    let cards: String = figures::errors(group)?.iter().map(|figure| card(figure, "")).collect();
    if cards.is_empty() || group.rows.len() < 2 {
        return Ok(String::new()); // one network's errors are in its learning curves
    }
    let bands = match group.rows.iter().any(|row| row.runs.len() > 1) {
        true => " Lines are means of the runs, bands reach from the lowest to the highest.",
        false => "",
    };
    Ok(format!(
        "<p class=\"soft\">Both on one scale. Training pictures are counted as augmented, each before the \
         step it was for, which makes their error higher than that of the same weights on plain \
         pictures.{bands}</p>\n<div class=\"cards\">\n{cards}</div>\n"
    ))
}

/// Loss and top-1 of each row.
pub fn learning(group: &Group) -> Result<String> {
    let pair = |[loss, top1]: &[Figure; 2]| card(loss, "") + &card(top1, "");
    let cards: String = figures::learning(group)?.iter().map(pair).collect();
    if cards.is_empty() {
        return Ok(cards);
    }
    let smoothed = group.rows.iter().any(|row| row.config().train.label_smoothing > 0.0);
    let smoothing = match smoothed {
        true => {
            " Where labels are smoothed, the training loss has the smoothing in it and the \
                 validation loss has not: the two are not to be compared."
        }
        false => "",
    };
    let astray = match &figures::astray(group)[..] {
        [] => String::new(),
        runs => format!(
            " Epochs whose loss is not finite, or has gone astray, are not drawn: there are some in {}.",
            escape(&runs.join(", "))
        ),
    };
    Ok(format!(
        "<p class=\"soft\">Dashed: training. Solid: validation. All on the same scales.{smoothing}{astray}</p>\n<div \
         class=\"smalls\">\n{cards}</div>\n"
    ))
}

/// Classes whose numbers fit into cells.
const MOST_NUMBERED: usize = 12;
/// Classes up to which matrices stand beside each other.
const MOST_BESIDE: usize = 6;
/// Classes of which a matrix is shown at all.
const MOST_SHOWN: usize = 100;

/// The confusion matrices of all rows that have one.
pub fn confusion(group: &Group) -> String {
    let known = group.rows.iter().filter_map(|row| Some((row, row.first().confusion.as_ref()?)));
    let cards: String = known.map(|(row, confusion)| matrix(row, confusion)).collect();
    if cards.is_empty() {
        return cards;
    }
    format!(
        "<p class=\"soft\">Rows: what it is. Columns: what it was taken for. Numbers are pictures, shades \
         their share of the row. Best weights, first seed.</p>\n<div class=\"cards\">\n{cards}</div>\n"
    )
}

fn matrix(row: &Row, confusion: &Confusion) -> String {
    let classes = &confusion.classes;
    let (label, class) = (escape(&row.label), class(row));
    let worst = confusion.worst(3);
    let worst: Vec<String> =
        worst.iter().map(|(truth, taken, n)| format!("{truth} for {taken} ({n} times)")).collect();
    let caption = match worst.is_empty() {
        true => "Nothing was mistaken.".to_owned(),
        false => format!("Most often mistaken: {}.", escape(&worst.join(", "))),
    };
    let (off, part) = (plain(100.0 * confusion.calibration_error), &confusion.part);
    let caption =
        format!("{caption} On {part} pictures; confidence is off by {off} points on average.");
    let mut table = String::new();
    if classes.len() <= MOST_SHOWN {
        let many = classes.len() > MOST_NUMBERED;
        let heads = classes.iter().map(|name| format!("<th scope=\"col\">{}</th>", escape(name)));
        let head = if many { String::new() } else { heads.collect() };
        let rows = (0..classes.len()).map(|truth| matrix_row(confusion, truth, many));
        let kind = if many { " many" } else { "" };
        table = format!(
            "<div class=\"scroll\"><table class=\"matrix{kind} {class}\"><thead><tr><td></td>{head}</tr></thead>\
             <tbody>{}</tbody></table></div>\n",
            rows.collect::<String>()
        );
    }
    let whole = if classes.len() > MOST_BESIDE { " class=\"whole\"" } else { "" };
    format!(
        "<figure{whole}>\n<h3>{label}</h3>\n{table}<figcaption>{caption}</figcaption></figure>\n"
    )
}

fn matrix_row(confusion: &Confusion, truth: usize, many: bool) -> String {
    let classes = &confusion.classes;
    let cell = |taken: usize| {
        let (share, count) = (confusion.share(truth, taken), confusion.counts[truth][taken]);
        let (from, to) = (escape(&classes[truth]), escape(&classes[taken]));
        let percent = format!("{:.0} %", 100.0 * share);
        let text = if many || count == 0 { String::new() } else { thousands(count as f64) };
        format!(
            "<td class=\"cell\" style=\"--share:{share:.3}\" title=\"{from} taken for {to}: {count} \
             ({percent})\">{text}</td>"
        )
    };
    let cells: String = (0..classes.len()).map(cell).collect();
    format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", escape(&classes[truth]))
}

/// The same pictures through every network, with Grad-CAM over them.
pub fn looks(group: &Group) -> String {
    let Some(views) = &group.views else { return String::new() };
    let head = views.samples.iter().map(|(sample, url)| {
        let truth = sample.truth.as_deref().unwrap_or(&sample.name);
        let (name, truth) = (escape(&sample.name), escape(truth));
        format!(
            "<td><img src=\"{url}\" alt=\"{name}\" title=\"{name}\"><small>{truth}</small></td>"
        )
    });
    let unseen = group.rows.iter().zip(&views.answers).filter(|(_, answers)| answers.is_none());
    let unseen: Vec<&str> = unseen.map(|(row, _)| row.label.as_str()).collect();
    let unseen = match unseen.is_empty() {
        true => String::new(),
        false => format!(
            "<p class=\"soft\">Not shown, for want of best.safetensors in the run's folder: {}.</p>\n",
            escape(&unseen.join(", "))
        ),
    };
    let rows = group.rows.iter().zip(&views.answers).filter_map(|(row, answers)| {
        let cells: String = answers.as_ref()?.iter().zip(&views.samples).map(seen).collect();
        let layer = answers.as_ref()?.first().map_or("", |answer| answer.layer.as_str());
        let name = format!("{}<small>{}</small>", escape(&row.label), escape(layer));
        Some(format!("<tr><td>{name}</td>{cells}</tr>\n"))
    });
    format!(
        "<p class=\"soft\">Grad-CAM (Selvaraju et al., 2017) of the likeliest class, on the best weights of the \
         first seed: red is where the named layer's maps speak for that class. Under each picture the class and \
         its probability; ✗ where it is the wrong one.</p>\n<div class=\"scroll\">\n<table \
         class=\"pictures\">\n<tbody>\n<tr><td>the pictures</td>{}</tr>\n{}</tbody>\n</table>\n</div>\n{unseen}",
        head.collect::<String>(),
        rows.collect::<String>()
    )
}

/// One network's answer to one picture.
fn seen((answer, (sample, _)): (&Answer, &(Sample, String))) -> String {
    let wrong = sample.truth.as_ref().is_some_and(|truth| *truth != answer.class);
    let mark = if wrong { "✗ " } else { "" };
    let says = escape(&format!("{mark}{} {:.0} %", answer.class, 100.0 * answer.probability));
    format!("<td><img src=\"{}\" alt=\"{says}\"><small>{says}</small></td>", answer.map)
}

/// What publishers say of the networks on ImageNet.
pub fn published(group: &Group) -> Result<String> {
    let Some(figure) = figures::published(group)? else { return Ok(String::new()) };
    let mut body = String::new();
    for (row, published) in group.rows.iter().filter_map(|row| Some((row, row.published()?))) {
        let macs = figures::published_macs(published)? as f64;
        let ours =
            group.top1(row).map_or("-".to_owned(), |s| format!("{:.2} %", in_percent(s.mean)));
        let _ = writeln!(
            body,
            "<tr>{}<td data-value=\"{}\"><i>{} %</i></td><td data-value=\"{}\"><i>{} %</i></td><td \
             data-value=\"{macs}\">{}</td><td data-value=\"{}\">{}</td><td data-value=\"{}\">{ours}</td></tr>",
            name_cell(row, &row.label),
            published.top1,
            plain(published.top1),
            published.top5,
            plain(published.top5),
            thousands(macs),
            published.params,
            thousands(published.params as f64),
            group.top1(row).map_or(String::new(), |s| s.mean.to_string()),
        );
    }
    let here = escape(&group.dataset);
    let heads =
        ["Top-1, published", "Top-5, published", "Multiply-adds", "Parameters"].map(str::to_owned);
    let heads = heads.into_iter().chain([format!("Here, on {here}")]);
    let heads: String = heads
        .map(|head| format!("<th scope=\"col\" data-kind=\"numbers\"><button>{head}</button></th>"))
        .collect();
    Ok(format!(
        "<p class=\"soft\">These accuracies are torchvision's own for its default weights, on ImageNet's \
         50,000 validation pictures and 1000 classes; convzoo has not measured them. Multiply-adds and \
         parameters are counted here. Another task than the one above: what compares is the order, not the \
         height.</p>\n<div class=\"wide\">\n{}</div>\n<div class=\"scroll\">\n<table>\n<thead><tr><th \
         scope=\"col\" data-kind=\"words\"><button>Network</button></th>{heads}</tr></thead>\n<tbody>\n{body}\
         </tbody>\n</table>\n</div>\n",
        figure.element()
    ))
}

/// For every run: command, machine, settings, data.
pub fn provenance(group: &Group) -> String {
    let runs = group.rows.iter().flat_map(|row| row.runs.iter().map(move |run| (row, run)));
    runs.map(|(row, run)| account(row, run)).collect()
}

fn account(row: &Row, run: &Record) -> String {
    let (config, train) = (&run.config, &run.config.train);
    let machine = config.machine.as_ref().map_or("not recorded".to_owned(), ToString::to_string);
    let state = match (&run.summary, run.epochs.len()) {
        (Some(_), done) => format!("{done} epochs, finished"),
        (None, done) => format!("unfinished: {done} of {} epochs", train.epochs),
    };
    let ended = run.summary.as_ref().and_then(|summary| summary.finished.clone());
    let when =
        [config.started.clone(), ended].map(|t| t.unwrap_or_else(|| "not recorded".to_owned()));
    let skipped = run.summary.as_ref().map_or(0, |summary| summary.skipped_images);
    let best = run.best_epoch().map_or("none yet".to_owned(), |epoch| format!("epoch {epoch}"));
    let mut facts = vec![
        ("Command", commands(&config.command)),
        ("Run", escape(&format!("{} (seed {})", run.name(), train.seed))),
        ("State", escape(&state)),
        ("Best weights", escape(&best)),
        ("Began, ended", escape(&format!("{}, {}", when[0], when[1]))),
        (
            "Machine",
            escape(&format!(
                "{machine}; {} with {}",
                config.device,
                counted(config.threads, "thread")
            )),
        ),
        (
            "Data",
            escape(&format!(
                "{} ({}), identity {}",
                config.data.name, config.data.kind, config.data.identity
            )),
        ),
        ("Pictures left out", format!("{skipped} that could not be read")),
        ("Training", escape(&recipe(run))),
        ("Training pictures", escape(&config.data.train_pipeline.to_string())),
        ("Validation pictures", escape(&config.data.eval_pipeline.to_string())),
        (
            "Versions",
            escape(&format!(
                "convzoo {}, candle {}",
                config.versions.convzoo, config.versions.candle
            )),
        ),
    ];
    if let Some(weights) = &config.model.weights {
        facts.insert(1, ("Began with", escape(weights)));
    }
    facts.extend(config.resumed_by.iter().map(|line| ("Went on by", commands(line))));
    let facts: String =
        facts.iter().map(|(name, fact)| format!("<dt>{name}</dt><dd>{fact}</dd>\n")).collect();
    let title = format!("{}, seed {}", row.label, train.seed);
    format!("<details>\n<summary>{}</summary>\n<dl>\n{facts}</dl>\n</details>\n", escape(&title))
}

fn recipe(run: &Record) -> String {
    let train = &run.config.train;
    let plain = format!(
        "{} epochs of batches of {}, {}, rate {} ({}), weight decay {}, label smoothing {}",
        train.epochs,
        train.batch_size,
        train.optimizer,
        train.lr,
        train.schedule,
        train.weight_decay,
        train.label_smoothing
    );
    [vec![plain], train.finetune.in_words()].concat().join(", ")
}

/// A command line as it was typed, but that the program is named without its folder.
fn commands(line: &[String]) -> String {
    let quote = |word: &String| match word
        .contains(|c: char| c.is_whitespace() || "\"'$&|;<>()".contains(c))
    {
        true => format!("'{}'", word.replace('\'', "'\\''")),
        false => word.clone(),
    };
    let mut words: Vec<String> = line.iter().map(quote).collect();
    if let Some(program) = words.first_mut() {
        *program = program.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    }
    format!("<code>{}</code>", escape(&words.join(" ")))
}

/// What the words of the page mean.
pub fn meanings() -> String {
    let words = [
        (
            "Top-1",
            "The share of pictures for which the class with the highest logit is the right one. The best \
                   epoch is chosen by the validation pictures, so its accuracy on them is a little too good; test \
                   pictures, where there are any, had no part in the choice.",
        ),
        ("± ", "One standard deviation of the sample of runs, which differ in their seed."),
        ("Parameters", "Trainable values, auxiliary heads not counted."),
        (
            "Multiply-adds",
            "Of convolutions and linear layers, for one picture of the stated size, forward.",
        ),
        (
            "Images/s",
            "Training pictures over seconds of training steps, waiting for pictures included, evaluation not.",
        ),
        (
            "Time",
            "Training and evaluation of all epochs, on the machine named for the run, with whatever else ran on it.",
        ),
        (
            "Memory",
            "The highest resident memory of the whole process while it trained: weights, maps, optimiser, \
                    pictures under way, program.",
        ),
    ];
    let words = words
        .map(|(word, meaning)| format!("<dt>{}</dt><dd>{}</dd>\n", word.trim(), escape(meaning)));
    format!(
        "<section id=\"words\">\n<h2>What the words mean</h2>\n<dl>\n{}</dl>\n</section>\n",
        words.concat()
    )
}
