//! The page: one file, with its style, its script and its figures inside.

use super::rows::Group;
use super::{Report, escape, sections, style};
use crate::Result;
use crate::data::DataKind;

/// The whole page.
///
/// # Errors
/// Where a figure cannot be drawn.
pub fn html(report: &Report) -> Result<String> {
    let title = title(report);
    let mut main = format!("<h1>{}</h1>\n", escape(&title));
    main += &sections::left_out(report);
    for (i, group) in report.groups.iter().enumerate() {
        main += &part(group, i, report.groups.len() > 1)?;
    }
    main += &sections::meanings();
    let (title, figure, page, script) = (escape(&title), style::FIGURE, style::PAGE, style::SCRIPT);
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"generator\" content=\"convzoo {}\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n\
         <style>\n{figure}{page}</style>\n</head>\n<body>\n<main>\n{main}</main>\n\
         <script>\n{script}</script>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    ))
}

/// `Six networks on cats-dogs`.
fn title(report: &Report) -> String {
    match &report.groups[..] {
        [group] => match &group.rows[..] {
            [row] => format!("{} on {}", row.label, named(group)),
            rows => format!("{} networks on {}", in_words(rows.len()), named(group)),
        },
        groups => format!("Runs on {} data sets", in_words(groups.len()).to_lowercase()),
    }
}

/// The data set, with what its name alone would hide.
fn named(group: &Group) -> String {
    match group.kind {
        DataKind::Drawn if !group.dataset.contains("drawn") => format!("{} (drawn)", group.dataset),
        _ => group.dataset.clone(),
    }
}

fn in_words(count: usize) -> String {
    let words =
        ["No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten"];
    words.get(count).map_or_else(|| count.to_string(), |word| (*word).to_owned())
}

/// A heading with its place on the page, and what belongs under it.
type Section = (&'static str, &'static str, String);

/// All about one group.
fn part(group: &Group, number: usize, several: bool) -> Result<String> {
    let sections: Vec<Section> = [
        ("table", "Side by side", sections::table(group)),
        ("cost", "What accuracy costs", sections::costs(group)?),
        ("errors", "Error by epoch", sections::errors(group)?),
        ("learning", "Learning curves", sections::learning(group)?),
        ("confusion", "What was taken for what", sections::confusion(group)),
        ("looks", "Where each network looked", sections::looks(group)),
        ("published", "ImageNet, as published", sections::published(group)?),
        ("how", "How each number was obtained", sections::provenance(group)),
    ]
    .into_iter()
    .filter(|(_, _, body)| !body.is_empty())
    .collect();
    let id = |name: &str| if number == 0 { name.to_owned() } else { format!("{name}-{number}") };
    let mut out = String::new();
    if several {
        out += &format!("<h2>{}</h2>\n", escape(&named(group)));
    }
    out += &sections::lead(group);
    let link = |(name, title, _): &Section| format!("<a href=\"#{}\">{title}</a>\n", id(name));
    out += &format!("<nav>\n{}</nav>\n", sections.iter().map(link).collect::<String>());
    for (name, title, body) in &sections {
        out += &format!("<section id=\"{}\">\n<h2>{title}</h2>\n{body}</section>\n", id(name));
    }
    Ok(out)
}
