//! The 1000 classes of ImageNet's classification task.

/// Mean of ImageNet's channels, of samples from 0 to 1.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet's channels.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// The names of the classes, in the order in which published weights have their logits.
pub fn classes() -> Vec<String> {
    include_str!("imagenet_classes.txt").lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_are_a_thousand() {
        let classes = super::classes();
        assert_eq!(classes.len(), 1000);
        assert_eq!((classes[0].as_str(), classes[999].as_str()), ("tench", "toilet tissue"));
    }
}
