//! Digits drawn dark on light, given to a network that knows them light on dark.

use super::picture::Picture;
use super::transform::Pipeline;

/// A data set with a lower mean has a dark background: MNIST's is 0.13, that of photographs 0.45.
const DARK: f32 = 0.35;

/// Whether `picture` seems to be the negative of what a network behind `pipeline` was trained on: the
/// training images were grey and mostly dark, by the mean that the pipeline takes off, and this one has
/// a light border around something darker.
///
/// It is a guess, to be told and not to be acted on. [`Pipeline::inverted`] turns such images round.
pub fn looks_inverted(picture: &Picture, pipeline: &Pipeline) -> bool {
    let mean = pipeline.mean();
    let grey_and_dark = mean.iter().all(|&m| m < DARK && m == mean[0]);
    if !grey_and_dark || picture.pixels.is_empty() {
        return false;
    }
    let mut grey = picture.with_channels(1);
    if pipeline.inverts() {
        grey.invert();
    }
    let (border, inside) = border_and_inside(&grey);
    border > 128 && f64::from(border) > inside
}

/// The median of the outermost pixels, and the mean of all others (of all pixels, where there are no
/// others).
fn border_and_inside(grey: &Picture) -> (u8, f64) {
    let (width, height) = (grey.width, grey.height);
    let outermost = |i: usize| {
        let (x, y) = (i % width, i / width);
        x == 0 || y == 0 || x + 1 == width || y + 1 == height
    };
    let (mut border, mut inside) = (Vec::new(), Vec::new());
    for (i, &sample) in grey.pixels.iter().enumerate() {
        if outermost(i) { border.push(sample) } else { inside.push(sample) }
    }
    let inside = if inside.is_empty() { &border } else { &inside };
    let sum: u64 = inside.iter().map(|&sample| u64::from(sample)).sum();
    let mean = sum as f64 / inside.len() as f64;
    let middle = border.len() / 2;
    (*border.select_nth_unstable(middle).1, mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataKind;
    use crate::rng::Rng;

    /// A bar of the second shade on the first.
    fn bar(back: u8, bar: u8, channels: usize) -> Picture {
        let shade = |i: usize| match (i % 20, i / 20) {
            (8..12, 4..16) => bar,
            _ => back,
        };
        let pixels = (0..400).flat_map(|i| vec![shade(i); channels]).collect();
        Picture::new(20, 20, channels, pixels).unwrap()
    }

    #[test]
    fn dark_digits_on_light_are_noticed_for_networks_of_light_ones() {
        let digits = Pipeline::eval(DataKind::Digits, 32, 1, &[0.1307], &[0.3081]).unwrap();
        let coloured = Pipeline::eval(DataKind::Digits, 32, 3, &[0.1307], &[0.3081]).unwrap();
        for pipeline in [&digits, &coloured] {
            assert!(looks_inverted(&bar(255, 0, 1), pipeline));
            assert!(looks_inverted(&bar(220, 60, 3), pipeline));
            assert!(!looks_inverted(&bar(0, 255, 3), pipeline));
            let inverted = pipeline.inverted().unwrap();
            assert!(!looks_inverted(&bar(255, 0, 1), &inverted));
            assert!(looks_inverted(&bar(0, 255, 1), &inverted));
        }
        let line = Picture::new(9, 1, 1, vec![255; 9]).unwrap();
        assert!(!looks_inverted(&line, &digits), "nothing is darker than its border");
    }

    #[test]
    fn photographs_are_left_alone() {
        let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        let photographs = Pipeline::eval(DataKind::Photographs, 32, 3, &mean, &std).unwrap();
        assert!(!looks_inverted(&bar(255, 0, 3), &photographs));
    }

    #[test]
    fn an_inverted_image_is_seen_as_its_negative_with_black_borders() {
        let digits = Pipeline::eval(DataKind::Digits, 32, 1, &[0.1307], &[0.3081]).unwrap();
        let inverted = digits.inverted().unwrap();
        assert_eq!(inverted.to_string(), "invert > resize 28x28 > pad 2 > grey > normalise");
        let seen = |pipeline: &Pipeline, picture: &Picture| {
            let mut out = vec![0.0; 32 * 32];
            pipeline.apply(picture, &mut Rng::new(1), &mut out).unwrap();
            out
        };
        assert_eq!(seen(&inverted, &bar(255, 0, 1)), seen(&digits, &bar(0, 255, 1)));
        let json = serde_json::to_string(&inverted).unwrap();
        assert!(json.starts_with(r#"[{"step":"invert"},"#), "{json}");
        assert_eq!(serde_json::from_str::<Pipeline>(&json).unwrap(), inverted);
    }
}
