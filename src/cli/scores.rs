//! What a network got right, as tables.

use serde_json::Value;

use super::{table, thousands};
use crate::digits::counted;
use crate::train::{Assessment, LeftOut};

/// Up to so many classes the table says what each was taken for.
const MATRIX: usize = 12;

/// Classes that a longer table shows: the worst.
const SHOWN: usize = 20;

/// The figures that everybody looks at first.
pub fn line_of(found: &Assessment) -> String {
    let left_out = match found.left_out.len() {
        0 => String::new(),
        count => {
            format!(" ({count} of {} could not be read)", thousands(found.images + count as u64))
        }
    };
    format!(
        "top-1 {:.2} %, top-5 {:.2} %, loss {:.4}, calibration error {:.2} % on {} pictures{left_out}",
        100.0 * found.top1,
        100.0 * found.top5,
        found.loss,
        100.0 * found.calibration_error,
        thousands(found.images)
    )
}

/// The accuracy of each class, the worst first, and what it was taken for.
pub fn table_of(found: &Assessment, names: &[String]) -> String {
    let classes = found.per_class.len();
    let mut order: Vec<usize> = (0..classes).filter(|&c| found.per_class[c].images > 0).collect();
    let seen = order.len();
    if classes > MATRIX {
        let accuracy = |class: &usize| found.per_class[*class].accuracy.unwrap_or(2.0);
        order.sort_by(|a, b| accuracy(a).total_cmp(&accuracy(b)));
        order.truncate(SHOWN);
    }
    let name = |class: usize| names.get(class).map_or("?", String::as_str);
    let mut header = vec!["class", "pictures", "right"];
    match classes <= MATRIX {
        true => header.extend((0..classes).map(name)),
        false => header.push("mostly taken for"),
    }
    let row = |&class: &usize| {
        let score = found.per_class[class];
        let share = score.accuracy.map_or("-".to_owned(), |a| format!("{:.2} %", 100.0 * a));
        let mut cells = vec![name(class).to_owned(), score.images.to_string(), share];
        match classes <= MATRIX {
            true => cells.extend(found.confusion[class].iter().map(u64::to_string)),
            false => cells.push(mistaken_for(&found.confusion[class], class, name)),
        }
        cells
    };
    let text = table(&header, &order.iter().map(row).collect::<Vec<_>>());
    let mut text = text;
    if classes <= MATRIX {
        text += "\n(a row a class, a column for what it was taken for)";
    }
    if seen > order.len() {
        let more = seen - order.len();
        text += &format!("\n({more} more classes, all at least as good; --json has them)");
    }
    if classes > seen {
        text += &format!("\n(no images of {} of the {classes} classes)", classes - seen);
    }
    text
}

/// The other class that most pictures of a class were taken for.
fn mistaken_for<'a>(row: &[u64], class: usize, name: impl Fn(usize) -> &'a str) -> String {
    let others = row.iter().enumerate().filter(|(other, count)| *other != class && **count > 0);
    // The first among equals.
    match others.max_by_key(|(other, count)| (**count, std::cmp::Reverse(*other))) {
        Some((other, count)) => format!("{} ({count})", name(other)),
        None => String::new(),
    }
}

/// The details, beside what an evaluation has.
pub fn json_of(found: &Assessment, top_k: &[usize]) -> anyhow::Result<Value> {
    let mut all = serde_json::to_value(found)?;
    let shares = top_k.iter().map(|&k| (k.to_string(), Value::from(found.top_k(k))));
    if !top_k.is_empty() {
        all["top_k"] = Value::Object(shares.collect());
    }
    Ok(all)
}

/// The images that could not be read, with reasons; `None` where there are none.
pub fn left_out(images: &[LeftOut]) -> Option<String> {
    let line = |LeftOut { name, error }: &LeftOut| match error.contains(name) {
        true => format!("  {error}"),
        false => format!("  {name}: {error}"),
    };
    let mut lines = vec![format!(
        "left out  {} that could not be read, counted nowhere:",
        counted(images.len(), "image")
    )];
    lines.extend(images.iter().take(SHOWN).map(line));
    if images.len() > SHOWN {
        lines.push(format!("  and {} more (--json has them)", images.len() - SHOWN));
    }
    (!images.is_empty()).then(|| lines.join("\n"))
}
