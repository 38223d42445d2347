//! The parts of a data set, and the names that people give to their folders.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which images of a data set are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Those to train on.
    Train,
    /// Those to choose by.
    Val,
    /// Those to test on in the end.
    Test,
    /// All of them.
    All,
}

impl Part {
    /// Its name: train, val, test or all.
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Val => "val",
            Part::Test => "test",
            Part::All => "all",
        }
    }

    /// The part that a folder called `name` is, by the names that are in use: in any case, with or
    /// without hyphens, underscores and spaces.
    pub(crate) fn of_folder(name: &str) -> Option<Part> {
        let name = name.to_lowercase().replace(['-', '_', ' '], "");
        match name.as_str() {
            "train" | "training" | "trainset" | "trainingset" | "traindata" | "trainingdata"
            | "segtrain" => Some(Part::Train),
            "val" | "valid" | "validation" | "dev" | "valset" | "validset" | "validationset"
            | "devset" | "valdata" | "validationdata" => Some(Part::Val),
            "test" | "testing" | "testset" | "testingset" | "testdata" | "testingdata"
            | "segtest" => Some(Part::Test),
            _ => None,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_the_names_that_people_give_them() {
        let is = |part, names: &str| {
            for name in names.split(',') {
                assert_eq!(Part::of_folder(name), part, "{name}");
            }
        };
        is(Some(Part::Train), "train,Training,train_set,training-set,TRAIN DATA,seg_train");
        is(Some(Part::Val), "val,Valid,VALIDATION,dev,dev-set");
        is(Some(Part::Test), "test,Testing,test_set,seg_test,test-data");
        is(None, "trains,cat,tests,seg_pred,protest,all");
    }
}
