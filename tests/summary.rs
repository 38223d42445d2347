//! Summaries beside what others count: torchinfo, and Stanford's CS231n.

use convzoo::Result;
use convzoo::inspect::{BYTES, Summary};
use convzoo::models;
use convzoo::nn::{Layer, Shape, Trace, branches, conv, linear, max_pool, residual, sequential};

fn tree(model: &str, input: (usize, usize, usize)) -> Result<Layer> {
    let architecture = models::find(model)?;
    architecture.layers(&models::Config { input, aux: false, ..architecture.config() })
}

/// torchinfo's multiply-adds: biases count once for each place, a batch norm's parameters once.
fn torchinfo_macs(trace: &Trace) -> u64 {
    let extra = |step: &convzoo::nn::Step| match (step.layer, step.output) {
        (Layer::Conv2d(conv), output) if conv.bias => output.len(),
        (Layer::Linear { outputs, .. }, _) => *outputs,
        (Layer::BatchNorm2d { channels, .. }, _) => 2 * channels,
        _ => 0,
    };
    trace.steps.iter().map(|step| step.macs() + extra(step) as u64).sum()
}

/// torchinfo 1.8.0 on torchvision 0.29.2: parameters, mult-adds, and the "forward/backward pass size",
/// which is twice the outputs of the layers with parameters.
#[test]
fn summaries_agree_with_torchinfo() -> Result<()> {
    for (model, side, params, mult_adds, output_bytes, layers) in [
        ("resnet18", 64, 11_689_512, 148_568_424, 3_252_032, 41),
        ("vgg11", 64, 132_863_336, 735_306_728, 4_923_200, 11),
        ("alexnet", 96, 61_100_840, 161_624_360, 709_440, 8),
        ("googlenet", 64, 6_624_904, 123_272_392, 4_221_760, 115),
        ("squeezenet1_1", 64, 1_235_496, 21_766_248, 1_453_376, 26),
    ] {
        let tree = tree(model, (3, side, side))?;
        let input = Shape::Map(3, side, side);
        let summary = Summary::new(&tree, input, usize::MAX, 1)?;
        assert_eq!(summary.params, params, "{model}");
        assert_eq!(torchinfo_macs(&tree.trace(input)?), mult_adds, "{model}");
        let weighted: Vec<_> = summary.layers.iter().filter(|row| row.params > 0).collect();
        assert_eq!(weighted.len(), layers, "{model}");
        let bytes: u64 = weighted.iter().map(|row| row.activation_bytes).sum();
        assert_eq!(2 * bytes, output_bytes, "{model}");
    }
    Ok(())
}

/// The table "VGGNet in detail" of the course notes: memory in values, weights without biases, row by
/// row. Its rows sum up to 15.2 million values, 61 MB; the "24M" under it is not their sum.
#[test]
fn vgg16_agrees_with_cs231n_row_by_row() -> Result<()> {
    const K: u64 = 1000;
    let rows: [(u64, u64); 21] = [
        (3200 * K, 1_728),
        (3200 * K, 36_864),
        (800 * K, 0),
        (1600 * K, 73_728),
        (1600 * K, 147_456),
        (400 * K, 0),
        (800 * K, 294_912),
        (800 * K, 589_824),
        (800 * K, 589_824),
        (200 * K, 0),
        (400 * K, 1_179_648),
        (400 * K, 2_359_296),
        (400 * K, 2_359_296),
        (100 * K, 0),
        (100 * K, 2_359_296),
        (100 * K, 2_359_296),
        (100 * K, 2_359_296),
        (25 * K, 0),
        (4096, 102_760_448),
        (4096, 16_777_216),
        (1000, 4_096_000),
    ];
    let tree = tree("vgg16", (3, 224, 224))?;
    let input = Shape::Map(3, 224, 224);
    let summary = Summary::new(&tree, input, usize::MAX, 1)?;
    // torchvision has a pooling to 7x7 that the paper has not; at 224x224 it does nothing.
    let own = summary.layers.iter().filter(|row| row.activation_bytes > 0 && row.name != "avgpool");
    let trace = tree.trace(input)?;
    let mut count = 0;
    for (row, (values, weights)) in own.zip(rows) {
        let (found, name) = (row.activation_bytes / BYTES, &row.name);
        assert!(found.abs_diff(values) * 50 <= values, "{name}: {found} is not about {values}");
        let step = trace.steps.iter().find(|step| step.path == *name).expect("the same layers");
        let biases = match step.layer {
            Layer::Conv2d(conv) => conv.outputs,
            Layer::Linear { outputs, .. } => *outputs,
            _ => 0,
        };
        assert_eq!((row.params - biases) as u64, weights, "{name}");
        count += 1;
    }
    assert_eq!(count, rows.len());
    let kept = summary.memory.activations - 512 * 7 * 7 * BYTES; // without that pooling
    assert_eq!(kept, 15_237_608 * BYTES);
    let of_table = 150 * K + rows.iter().map(|(values, _)| values).sum::<u64>();
    assert!((kept / BYTES).abs_diff(of_table) * 100 < of_table);
    assert_eq!(summary.params, 138_357_544);
    Ok(())
}

#[test]
fn memory_is_what_lives_at_once() -> Result<()> {
    let input = Shape::Map(2, 4, 4); // 32 values
    let memory = |layers: &Layer, batch| Summary::new(layers, input, 9, batch).map(|s| s.memory);
    let conv = |inputs, outputs| -> Layer { conv(inputs, outputs, 1).no_bias().into() };
    // 32 -> 64 -> 16: while the first layer runs 96 are alive, then 80.
    let row = sequential([("a", conv(2, 4)), ("act", Layer::Relu), ("b", conv(4, 1))]);
    let found = memory(&row, 3)?;
    assert_eq!(found.weights, 12 * BYTES);
    assert_eq!(found.largest_at_once, 96 * BYTES);
    assert_eq!(found.activations, (32 + 64 + 16) * BYTES);
    assert_eq!(found.forward, (12 + 3 * 96) * BYTES);
    assert_eq!(found.training, (3 * 12 + 3 * (32 + 2 * 80)) * BYTES);
    // The block's input is there until the sum: 32 beside 64 -> 32.
    let block = residual([("a", conv(2, 4)), ("b", conv(4, 2))], None);
    assert_eq!(memory(&block, 1)?.largest_at_once, (32 + 64 + 32) * BYTES);
    // A projection of 64 is there from the beginning, the input only for the first layer.
    let side = Some(("side", conv(2, 4)));
    let block = residual([("a", conv(2, 1)), ("b", conv(1, 4))], side);
    assert_eq!(memory(&block, 1)?.largest_at_once, (64 + 16 + 64) * BYTES);
    // Branches write where the join has its place: the input, one branch of 64, one of 16.
    let lanes = branches([("a", conv(2, 4)), ("b", conv(2, 1))]);
    assert_eq!(memory(&lanes, 1)?.largest_at_once, (32 + 64 + 16) * BYTES);
    Ok(())
}

#[test]
fn rows_are_those_of_the_depth() -> Result<()> {
    let resnet = tree("resnet18", (3, 224, 224))?;
    let at = |depth| Summary::new(&resnet, Shape::Map(3, 224, 224), depth, 1);
    assert!(at(0).unwrap_err().to_string().contains("a depth is at least 1"));
    let outer = at(1)?;
    let names: Vec<_> = outer.layers.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names[3..7], ["maxpool", "layer1", "layer2", "layer3"]);
    let (all, sum) = (at(usize::MAX)?, |s: &Summary| s.layers.iter().map(|row| row.macs).sum());
    let macs: u64 = sum(&all);
    assert_eq!((sum(&outer), macs), (outer.macs, all.macs));
    let layer4 = outer.layers.iter().find(|row| row.name == "layer4").expect("it is there");
    let field = layer4.receptive_field.expect("it is a map");
    assert_eq!((field.size, field.stride, field.offset), ((435, 435), (32, 32), (0.0, 0.0)));
    let last = outer.layers.last().expect("there are layers");
    assert_eq!((last.name.as_str(), last.receptive_field), ("fc", None));
    let pool = max_pool(2, 2);
    let flat =
        sequential([("pool", Layer::from(pool)), ("flat", Layer::Flatten), ("fc", linear(8, 2))]);
    assert!(Summary::new(&flat, Shape::Map(2, 9, 9), 1, 1).is_err());
    Ok(())
}
