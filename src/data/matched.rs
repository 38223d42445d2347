//! Images under the labels of a network that knows their classes by name, in whatever order.

use std::sync::Arc;

use super::names::normal;
use super::picture::Picture;
use super::source::Source;
use crate::error::Result;

/// Images of another source, under other labels.
pub struct Relabelled {
    source: Arc<dyn Source>,
    labels: Vec<u32>,
}

impl Relabelled {
    /// The images of `source`, those of its class `i` under label `labels[i]`; a class beyond the list
    /// keeps its label.
    pub fn new(source: Arc<dyn Source>, labels: Vec<u32>) -> Self {
        Relabelled { source, labels }
    }
}

impl Source for Relabelled {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn label(&self, index: usize) -> u32 {
        let label = self.source.label(index);
        self.labels.get(label as usize).copied().unwrap_or(label)
    }

    fn name(&self, index: usize) -> String {
        self.source.name(index)
    }

    fn picture(&self, index: usize) -> Result<Picture> {
        self.source.picture(index)
    }

    fn stamp(&self, index: usize) -> u64 {
        self.source.stamp(index)
    }

    fn written(&self, index: usize) -> Option<u64> {
        self.source.written(index)
    }
}

/// For each name of `found` its place in `known`, whatever case and Unicode form they are written in.
///
/// # Errors
/// The names of `found` that are not in `known`, or are there more than once.
pub fn matched(found: &[String], known: &[String]) -> Result<Vec<u32>, Vec<String>> {
    let folded = |name: &String| normal(name).to_lowercase();
    let known: Vec<String> = known.iter().map(folded).collect();
    let place = |name: &String| {
        let name = folded(name);
        let mut places = (0u32..).zip(&known).filter(|(_, known)| **known == name);
        match (places.next(), places.next()) {
            (Some((place, _)), None) => Some(place),
            _ => None,
        }
    };
    let places: Vec<Option<u32>> = found.iter().map(place).collect();
    let strangers = found.iter().zip(&places).filter(|(_, place)| place.is_none());
    let strangers: Vec<String> = strangers.map(|(name, _)| name.clone()).collect();
    match strangers.is_empty() {
        true => Ok(places.into_iter().flatten().collect()),
        false => Err(strangers),
    }
}

/// Whether all names are ImageNet's numbers of word groups, as n01440764, whose order is that of its
/// classes.
pub fn are_synsets(names: &[String]) -> bool {
    let digits = |name: &str| name.len() == 8 && name.bytes().all(|byte| byte.is_ascii_digit());
    names.iter().all(|name| name.strip_prefix('n').is_some_and(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &str) -> Vec<String> {
        names.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn names_decide_not_their_order() {
        let known = list("cat dog zebra");
        assert_eq!(matched(&list("dog cat"), &known).unwrap(), [1, 0]);
        assert_eq!(matched(&list("Zebra"), &known).unwrap(), [2]);
        assert_eq!(matched(&list("cat fox wolf"), &known).unwrap_err(), ["fox", "wolf"]);
    }

    #[test]
    fn composed_and_decomposed_names_are_the_same() {
        let (composed, decomposed) = ("caf\u{e9}".to_owned(), "Cafe\u{301}".to_owned());
        assert_eq!(matched(&[decomposed], &["tea".to_owned(), composed]).unwrap(), [1]);
    }

    #[test]
    fn a_name_of_two_classes_is_none() {
        assert_eq!(matched(&list("crane"), &list("crane heron crane")).unwrap_err(), ["crane"]);
    }

    #[test]
    fn synsets_are_known_by_their_form() {
        assert!(are_synsets(&list("n01440764 n01443537")));
        assert!(!are_synsets(&list("n01440764 newt")) && !are_synsets(&list("n0144076")));
    }
}
