//! Whether the classes of weights are those of a data set: a number alone says little.

use std::path::Path;

use anyhow::anyhow;

use crate::data::Dataset;
use crate::weights::WeightFile;

/// Names of a list that a message shows.
const FEW: usize = 5;

/// Refuses a data set whose classes have other names than those in a weight file, or another order.
pub fn check(file: &WeightFile, dataset: &Dataset) -> anyhow::Result<()> {
    match names(file) {
        Some(names) if !same_classes(names, &dataset.classes) => {
            Err(differ(&file.path, names, &dataset.name, &dataset.classes))
        }
        _ => Ok(()),
    }
}

/// The names that a weight file has for its classes; `None` where they are guessed, as
/// [`described`](WeightFile::described) does for files that other programs wrote.
fn names(file: &WeightFile) -> Option<&[String]> {
    let metadata = file.metadata.as_ref()?;
    (metadata.dataset != "unknown").then_some(&metadata.classes[..])
}

/// Whether two lists have the same names in the same order, whatever their case. Folders of ImageNet
/// have numbers for names, in the order of its classes: those cannot be compared with words.
pub fn same_classes(weights: &[String], dataset: &[String]) -> bool {
    let comparable = are_synsets(weights) == are_synsets(dataset);
    let mut pairs = weights.iter().zip(dataset);
    let same = |(a, b): (&String, &String)| a.to_lowercase() == b.to_lowercase();
    weights.len() == dataset.len() && (!comparable || pairs.all(same))
}

/// Whether all names are like n01440764.
fn are_synsets(names: &[String]) -> bool {
    let digits = |name: &str| name.len() == 8 && name.bytes().all(|byte| byte.is_ascii_digit());
    names.iter().all(|name| name.strip_prefix('n').is_some_and(digits))
}

/// Says that the classes of weights are not those of a data set.
pub fn differ(
    path: &Path,
    weights: &[String],
    dataset_name: &str,
    dataset: &[String],
) -> anyhow::Error {
    let first = first_other(weights, dataset);
    anyhow!(
        "{}: its {} classes are {}, but the {} of data set {dataset_name} are {}; take pictures of \
         the same classes (a folder has the name of its class)",
        path.display(),
        weights.len(),
        few(weights, first),
        dataset.len(),
        few(dataset, first)
    )
}

/// Where two lists begin to differ; 0 where that is seen among the first few.
fn first_other(a: &[String], b: &[String]) -> usize {
    let same = |(a, b): &(&String, &String)| a.to_lowercase() == b.to_lowercase();
    match a.iter().zip(b).take_while(same).count() {
        at if at < FEW || at == a.len().min(b.len()) => 0,
        at => at,
    }
}

/// A few names of a list, from this one on.
fn few(names: &[String], first: usize) -> String {
    let shown: Vec<_> = names.iter().skip(first).take(FEW).map(String::as_str).collect();
    let before = if first > 0 { "... " } else { "" };
    let after = if first + shown.len() < names.len() { " ..." } else { "" };
    format!("{before}{}{after}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{Format, Metadata};

    fn list(names: &str) -> Vec<String> {
        names.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn names_and_order_are_compared() {
        assert!(same_classes(&list("cat dog"), &list("Cat DOG")));
        assert!(!same_classes(&list("cat dog"), &list("dog cat")));
        assert!(!same_classes(&list("cat dog"), &list("cat fox")));
        assert!(!same_classes(&list("cat dog"), &list("cat dog fox")));
        assert!(same_classes(&list("tench goldfish"), &list("n01440764 n01443537")));
        assert!(!same_classes(&list("n01440764 n01443537"), &list("n01440764 n01484850")));
    }

    #[test]
    fn both_lists_are_named_in_short() {
        let said = |weights, dataset| {
            differ(Path::new("w.safetensors"), &list(weights), "folder", &list(dataset)).to_string()
        };
        let short = said("cat dog", "dog cat");
        assert!(short.starts_with("w.safetensors: its 2 classes are cat, dog, but"), "{short}");
        assert!(short.contains("the 2 of data set folder are dog, cat; take"), "{short}");
        let early = said("a b c d e f g h", "a b x d e f g h");
        assert!(early.contains("are a, b, c, d, e ..., but"), "{early}");
        let late = said("a b c d e f g h", "a b c d e f x h");
        assert!(
            late.contains("are ... g, h, but") && late.contains("are ... x, h; take"),
            "{late}"
        );
        let more = said("a b", "a b c");
        assert!(
            more.contains("2 classes are a, b, but the 3") && more.contains("a, b, c;"),
            "{more}"
        );
    }

    #[test]
    fn names_that_are_guessed_are_not_compared() {
        let file = |dataset: &str| WeightFile {
            path: "w.safetensors".into(),
            format: Format::Safetensors,
            metadata: Some(Metadata {
                architecture: "lenet5".to_owned(),
                stem: Default::default(),
                classes: list("cat dog"),
                input: (1, 28, 28),
                preprocessing: serde_json::Value::Null,
                dataset: dataset.to_owned(),
                data_kind: "drawn".to_owned(),
                val_top1: None,
                trained_on: None,
            }),
            notes: Default::default(),
            remarks: Default::default(),
            tensors: Default::default(),
        };
        assert_eq!(names(&file("cats-dogs-drawn")), Some(&list("cat dog")[..]));
        assert_eq!(names(&file("unknown")), None);
    }
}
