//! One result, as it is printed.

use serde::{Serialize, Serializer};

use super::{Memory, Timing};

/// One result.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// `conv`, `ops`, `infer`, `train`, `scaling`, `rss` or `machine`.
    pub section: &'static str,
    /// The case.
    pub name: &'static str,
    /// `fwd`, `fwd+bwd`, `infer` or `train_step`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub op: Option<&'static str>,
    /// How the pictures lie in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<&'static str>,
    /// Whose code ran: `convzoo` or `candle`.
    pub backend: &'static str,
    /// Pictures in a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// Channels, height and width of a picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<[usize; 3]>,
    /// Threads that computed.
    pub threads: usize,
    /// How long a call took.
    #[serde(flatten)]
    pub timing: Option<Timing>,
    /// What that comes to.
    #[serde(flatten)]
    pub rates: Rates,
    /// Peak memory.
    #[serde(flatten)]
    pub memory: Option<Memory>,
    /// Why the case cannot be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cannot: Option<String>,
}

/// What a call does, to put beside the time it takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// 10⁹ floating-point operations, 2 for each multiply-add; a backward pass counts twice its
    /// forward pass, and taps on padding count.
    Gflop(f64),
    /// Pictures, each of so many 10⁹ operations.
    Images(usize, f64),
    /// Values that go in.
    Elements(usize),
    /// 10⁹ bytes that are read and written.
    Gbytes(f64),
}

/// What was done in a second, by the median time and (`_best`) by the shortest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// 10⁹ floating-point operations of a call.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "five_digits_of")]
    pub gflop: Option<f64>,
    /// The same a second.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "five_digits_of")]
    pub gflops: Option<f64>,
    /// The same a second, at best.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "five_digits_of")]
    pub gflops_best: Option<f64>,
    /// Pictures a second.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "five_digits_of")]
    pub images_per_s: Option<f64>,
    /// Pictures a second, at best.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "five_digits_of")]
    pub images_per_s_best: Option<f64>,
    /// Values that go into a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elements: Option<usize>,
    /// Nanoseconds for each of them.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "five_digits_of")]
    pub ns_per_element: Option<f64>,
    /// 10⁹ bytes a second.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "five_digits_of")]
    pub gbytes_per_s: Option<f64>,
    /// 10⁹ bytes a second, at best.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "five_digits_of")]
    pub gbytes_per_s_best: Option<f64>,
}

impl Row {
    /// A row of convzoo's, with nothing measured yet.
    pub(super) fn new(section: &'static str, name: &'static str, threads: usize) -> Self {
        Row { section, name, threads, backend: "convzoo", ..Row::default() }
    }

    /// The same for a call on `batch` pictures.
    pub(super) fn on(self, op: &'static str, batch: usize) -> Self {
        Row { op: Some(op), batch: Some(batch), format: Some("nchw"), ..self }
    }

    /// The same with what was measured.
    pub(super) fn timed(self, timing: Timing, rate: Rate) -> Self {
        Row { timing: Some(timing), rates: Rates::of(rate, &timing), ..self }
    }
}

impl Rates {
    fn of(rate: Rate, timing: &Timing) -> Self {
        let Timing { median_s, min_s, .. } = *timing;
        match rate {
            Rate::Gflop(gflop) => Rates {
                gflop: Some(gflop),
                gflops: Some(gflop / median_s),
                gflops_best: Some(gflop / min_s),
                ..Rates::default()
            },
            Rate::Images(batch, gflop) => Rates {
                images_per_s: Some(batch as f64 / median_s),
                images_per_s_best: Some(batch as f64 / min_s),
                ..Rates::of(Rate::Gflop(batch as f64 * gflop), timing)
            },
            Rate::Elements(elements) => Rates {
                elements: Some(elements),
                ns_per_element: Some(median_s / elements as f64 * 1e9),
                ..Rates::default()
            },
            Rate::Gbytes(gbytes) => Rates {
                gbytes_per_s: Some(gbytes / median_s),
                gbytes_per_s_best: Some(gbytes / min_s),
                ..Rates::default()
            },
        }
    }
}

/// More digits than a measurement has would only be noise.
pub(super) fn five_digits<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(format!("{value:.4e}").parse().unwrap_or(*value))
}

fn five_digits_of<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => five_digits(value, serializer),
        None => serializer.serialize_none(),
    }
}
