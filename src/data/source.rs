//! Where pictures come from: the [`Source`] trait, parts of sources, and what identifies one.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::picture::Picture;
use crate::error::Result;
use crate::rng::Rng;

/// A list of labelled pictures that can be read in any order, by many threads at once.
pub trait Source: Send + Sync {
    /// How many pictures there are.
    fn len(&self) -> usize;

    /// The class of picture `index`, from 0.
    fn label(&self, index: usize) -> u32;

    /// What people call picture `index`: a file's name within the data set, for one.
    fn name(&self, index: usize) -> String;

    /// Reads, or draws, picture `index`.
    ///
    /// # Errors
    /// The picture cannot be read; the error names it.
    fn picture(&self, index: usize) -> Result<Picture>;

    /// A number that changes when picture `index` does: the size of its file, a hash of its pixels.
    fn stamp(&self, _index: usize) -> u64 {
        0
    }

    /// When the file of picture `index` was written last, in nanoseconds since 1970; `None` where it is
    /// no file.
    fn written(&self, _index: usize) -> Option<u64> {
        None
    }

    /// Whether there is no picture at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Some pictures of another source.
pub struct Subset {
    source: Arc<dyn Source>,
    indices: Vec<usize>,
}

impl Subset {
    /// The pictures of `source` at `indices`, in that order.
    ///
    /// # Panics
    /// If an index is not below `source.len()`.
    pub fn new(source: Arc<dyn Source>, indices: Vec<usize>) -> Self {
        assert!(indices.iter().all(|&index| index < source.len()), "index beyond the source");
        Subset { source, indices }
    }
}

impl Source for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.source.label(self.indices[index])
    }

    fn name(&self, index: usize) -> String {
        self.source.name(self.indices[index])
    }

    fn picture(&self, index: usize) -> Result<Picture> {
        self.source.picture(self.indices[index])
    }

    fn stamp(&self, index: usize) -> u64 {
        self.source.stamp(self.indices[index])
    }

    fn written(&self, index: usize) -> Option<u64> {
        self.source.written(self.indices[index])
    }
}

/// The images of several sources, one source after the other.
pub(crate) struct Joined {
    sources: Vec<Arc<dyn Source>>,
}

impl Joined {
    pub(crate) fn new(sources: Vec<Arc<dyn Source>>) -> Self {
        Joined { sources }
    }

    /// The source of image `index`, and its index there.
    fn find(&self, mut index: usize) -> (&dyn Source, usize) {
        for source in &self.sources {
            match index.checked_sub(source.len()) {
                Some(further) => index = further,
                None => return (source.as_ref(), index),
            }
        }
        panic!("index beyond the sources");
    }
}

impl Source for Joined {
    fn len(&self) -> usize {
        self.sources.iter().map(|source| source.len()).sum()
    }

    fn label(&self, index: usize) -> u32 {
        let (source, index) = self.find(index);
        source.label(index)
    }

    fn name(&self, index: usize) -> String {
        let (source, index) = self.find(index);
        source.name(index)
    }

    fn picture(&self, index: usize) -> Result<Picture> {
        let (source, index) = self.find(index);
        source.picture(index)
    }

    fn stamp(&self, index: usize) -> u64 {
        let (source, index) = self.find(index);
        source.stamp(index)
    }

    fn written(&self, index: usize) -> Option<u64> {
        let (source, index) = self.find(index);
        source.written(index)
    }
}

/// The indices of each class, in order.
fn by_class(source: &dyn Source, classes: usize) -> Vec<Vec<usize>> {
    let mut found = vec![Vec::new(); classes];
    for index in 0..source.len() {
        let class = source.label(index) as usize;
        if class >= found.len() {
            found.resize(class + 1, Vec::new());
        }
        found[class].push(index);
    }
    found
}

/// Splits off a share for validation: of each class that share, at least one picture, chosen by
/// the seed. Both parts keep the order of the source. A class of one picture stays in the first.
pub(crate) fn split(
    source: &Arc<dyn Source>,
    classes: usize,
    share: f64,
    seed: u64,
) -> (Arc<dyn Source>, Arc<dyn Source>) {
    let (mut train, mut val) = (Vec::new(), Vec::new());
    for (class, mut indices) in by_class(source.as_ref(), classes).into_iter().enumerate() {
        Rng::stream(seed, "split", &[class as u64]).shuffle(&mut indices);
        let most = indices.len().saturating_sub(1);
        let held = ((indices.len() as f64 * share).round() as usize).max(1).min(most);
        val.extend_from_slice(&indices[..held]);
        train.extend_from_slice(&indices[held..]);
    }
    train.sort_unstable();
    val.sort_unstable();
    let part = |indices| -> Arc<dyn Source> { Arc::new(Subset::new(source.clone(), indices)) };
    (part(train), part(val))
}

/// The first `limit` pictures of a seeded order, the classes in turn, so that they are balanced as
/// far as there are pictures. `what` names the part, as "train".
pub(crate) fn limited(
    source: Arc<dyn Source>,
    classes: usize,
    limit: usize,
    seed: u64,
    what: &str,
) -> Arc<dyn Source> {
    if limit >= source.len() {
        return source;
    }
    let mut waiting = by_class(source.as_ref(), classes);
    for (class, indices) in waiting.iter_mut().enumerate() {
        Rng::stream(seed, &format!("limit {what}"), &[class as u64]).shuffle(indices);
    }
    let mut chosen = Vec::with_capacity(limit);
    while chosen.len() < limit {
        let room = limit - chosen.len();
        chosen.extend(waiting.iter_mut().filter_map(Vec::pop).take(room));
    }
    chosen.sort_unstable();
    Arc::new(Subset::new(source, chosen))
}

/// A hash over the names, labels and stamps of the parts of a data set; the same on every machine.
pub fn identity(parts: &[(&str, &dyn Source)]) -> String {
    let mut hash = Sha256::new();
    for (part, source) in parts {
        hash.update(format!("{part} {}\n", source.len()));
        for index in 0..source.len() {
            let (name, label) = (source.name(index), source.label(index));
            hash.update(format!("{name}\t{label}\t{}\n", source.stamp(index)));
        }
    }
    short(hash)
}

/// A hash over the times at which the files of the parts were written last; `None` where there are no
/// files.
pub fn times(parts: &[&dyn Source]) -> Option<String> {
    let mut hash = Sha256::new();
    for source in parts {
        for index in 0..source.len() {
            hash.update(source.written(index)?.to_le_bytes());
        }
    }
    Some(short(hash))
}

fn short(hash: Sha256) -> String {
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Labels alone; its pictures are one grey pixel.
    struct Labels(Vec<u32>);

    impl Source for Labels {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn label(&self, index: usize) -> u32 {
            self.0[index]
        }
        fn name(&self, index: usize) -> String {
            format!("{index}")
        }
        fn picture(&self, _: usize) -> Result<Picture> {
            Picture::new(1, 1, 1, vec![0])
        }
    }

    fn counts(source: &dyn Source) -> Vec<usize> {
        by_class(source, 3).iter().map(Vec::len).collect()
    }

    fn uneven() -> Arc<dyn Source> {
        Arc::new(Labels([vec![0; 50], vec![1; 30], vec![2; 4]].concat()))
    }

    #[test]
    fn a_split_takes_its_share_of_each_class() {
        let (train, val) = split(&uneven(), 3, 0.1, 1);
        assert_eq!(counts(val.as_ref()), [5, 3, 1]);
        assert_eq!(counts(train.as_ref()), [45, 27, 3]);
        let mut names: Vec<String> = (0..train.len()).map(|i| train.name(i)).collect();
        names.extend((0..val.len()).map(|i| val.name(i)));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 84);
        let again = split(&uneven(), 3, 0.1, 1).1;
        let other = split(&uneven(), 3, 0.1, 2).1;
        let list = |source: &Arc<dyn Source>| -> Vec<String> {
            (0..source.len()).map(|i| source.name(i)).collect()
        };
        assert_eq!(list(&val), list(&again));
        assert_ne!(list(&val), list(&other));
    }

    #[test]
    fn a_limit_keeps_the_classes_balanced() {
        let few = limited(uneven(), 3, 21, 1, "train");
        assert_eq!(counts(few.as_ref()), [9, 8, 4]);
        assert_eq!(limited(uneven(), 3, 2, 1, "train").len(), 2);
        assert_eq!(limited(uneven(), 3, 1000, 1, "train").len(), 84);
    }

    #[test]
    fn identity_follows_names_labels_and_parts() {
        let a: Arc<dyn Source> = Arc::new(Labels(vec![0, 1]));
        let b: Arc<dyn Source> = Arc::new(Labels(vec![0, 0]));
        let of = |source: &Arc<dyn Source>, part| identity(&[(part, source.as_ref())]);
        assert_eq!(of(&a, "train"), of(&a, "train"));
        assert_ne!(of(&a, "train"), of(&b, "train"));
        assert_ne!(of(&a, "train"), of(&a, "val"));
    }
}
