//! Which images are measured: those held out, where the weights were trained on others of the same set;
//! else all that are asked for.

use std::sync::Arc;

use super::{MeasuredPart, relabelled};
use crate::data::{self, DataKind, DataRequest, Dataset, EvalSet, Part, Source, limited};
use crate::weights::{Overlap, TrainedOn};
use crate::{Error, Result};

/// Images before their labels are those of a network.
pub(super) struct Images {
    pub(super) name: String,
    pub(super) kind: DataKind,
    pub(super) classes: Vec<String>,
    pub(super) mean: Vec<f32>,
    pub(super) std: Vec<f32>,
    pub(super) origin: String,
    pub(super) notes: Vec<String>,
    parts: Vec<Slice>,
}

/// One part of them.
struct Slice {
    part: Part,
    what: String,
    source: Arc<dyn Source>,
    known: Known,
}

/// What follows for a part from the images being those of the training.
#[derive(Clone, Copy)]
enum Known {
    TrainedOn,
    HeldOut,
    No,
}

impl Images {
    /// The images that are asked for; `about` are those that the weights were trained on.
    pub(super) fn open(
        request: &DataRequest,
        part: Option<Part>,
        about: Option<&TrainedOn>,
    ) -> Result<Self> {
        let own = about.filter(|_| part != Some(Part::All)).map(|about| own_images(request, about));
        match (own.flatten(), about) {
            (Some(dataset), Some(about)) => Images::held_out(request, dataset, part, about),
            _ => Ok(Images::of(data::open_eval(request, part)?)),
        }
    }

    /// Of a set that was opened to be measured.
    fn of(set: EvalSet) -> Self {
        let EvalSet { name, kind, classes, mean, std, origin, which, part, source, notes, .. } =
            set;
        let parts = vec![Slice { part: which, what: part, source, known: Known::No }];
        Images { name, kind, classes, mean, std, origin, notes, parts }
    }

    /// The parts that were not trained on, or the one that is asked for, split as they were.
    fn held_out(
        request: &DataRequest,
        dataset: Dataset,
        part: Option<Part>,
        about: &TrainedOn,
    ) -> Result<Self> {
        let Dataset { name, kind, classes, mean, std, origin, train, val, test, notes, .. } =
            dataset;
        let mut all = vec![(Part::Train, train), (Part::Val, val)];
        all.extend(test.map(|test| (Part::Test, test)));
        all.retain(|(own, _)| part.map_or(*own != Part::Train, |part| part == *own));
        if all.is_empty() {
            return Err(Error::dataset(name, "has no test part; --split takes train, val or all"));
        }
        let limit = request.limit.filter(|_| request.limit != about.limit);
        let slice = |(part, whole): (Part, Arc<dyn Source>)| {
            let source = match limit {
                Some(limit) => {
                    limited(whole.clone(), classes.len(), limit, about.seed, part.as_str())
                }
                None => whole.clone(),
            };
            let (count, all) = (source.len(), whole.len());
            let of = if count < all { format!(" of {all}, --limit") } else { String::new() };
            let (what, known) = match part {
                Part::Train => ("the images trained on", Known::TrainedOn),
                _ => ("held out when these weights were trained", Known::HeldOut),
            };
            Slice { part, what: format!("{count} images{of}, {what}"), source, known }
        };
        let parts = all.into_iter().map(slice).collect();
        Ok(Images { name, kind, classes, mean, std, origin, notes, parts })
    }

    /// The parts with the network's labels, each with what is known of it.
    pub(super) fn parts(&self, labels: &[u32], about: Option<&TrainedOn>) -> Vec<MeasuredPart> {
        let part = |slice: &Slice| {
            let images = slice.source.len();
            let sure = |trained_on| Some(Overlap { trained_on, images, exact: true });
            let overlap = match slice.known {
                Known::TrainedOn => sure(images),
                Known::HeldOut => sure(0),
                Known::No => {
                    let about = about.filter(|about| !about.sketch.is_empty());
                    about.map(|about| about.overlap(slice.source.as_ref()))
                }
            };
            MeasuredPart {
                part: slice.part,
                what: slice.what.clone(),
                source: relabelled(slice.source.clone(), labels),
                overlap,
            }
        };
        self.parts.iter().map(part).collect()
    }
}

/// The very images that were trained on, split as they were; `None` where these are others.
fn own_images(request: &DataRequest, about: &TrainedOn) -> Option<Dataset> {
    let (seed, val_split, limit) = (about.seed, about.val_split, about.limit);
    let request = DataRequest { seed, val_split, limit, ..request.clone() };
    // What cannot be opened to train on may well be measured.
    data::open(&request).ok().filter(|dataset| dataset.identity == about.identity)
}
