//! `convzoo receptive-field --layers "..."`

use clap::Args;

use super::{print_json, print_line, table, thousands};
use crate::inspect::{Chain, Link};

/// Show what a unit sees of the input, for layers of one's own.
///
/// A layer is written conv or pool (maxpool, avgpool) with its kernel, and where needed /STRIDE,
/// pPADDING and dDILATION: conv3, conv7/2p3, conv3d2, pool3/2. A convolution's stride is 1 unless
/// it is said, a pooling's is its kernel. For the networks of the zoo, `convzoo summary` shows the
/// same.
#[derive(Args)]
pub struct FieldArgs {
    /// The layers, from the input on, as in "conv3 conv3 conv3 conv3 pool2"
    #[arg(long, value_name = "LAYERS")]
    layers: String,
    /// Side of the input; adds the sizes of the maps
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..))]
    input: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn receptive_field(args: FieldArgs) -> anyhow::Result<()> {
    let chain = Chain::parse(&args.layers, args.input.map(|side| side as usize))?;
    if args.json {
        return print_json(&chain);
    }
    let mut header = vec!["layer", "kernel", "stride", "padding", "dilation"];
    header.extend(["receptive field", "jump", "first centre"]);
    header.extend(args.input.map(|_| "size"));
    let rows: Vec<_> = chain.layers.iter().map(cells).collect();
    print_line(&table(&header, &rows))?;
    print_line(
        "\nEach layer adds (kernel - 1) x dilation x jump to the receptive field, with the jump of \
         the layer before;\nthen its stride multiplies the jump, the distance in pixels between \
         neighbouring units.",
    )
}

fn cells(link: &Link) -> Vec<String> {
    let layer = &link.layer;
    let mut cells = vec![layer.name.clone()];
    let numbers = [layer.kernel, layer.stride, layer.padding, layer.dilation];
    cells.extend(numbers.map(|n| n.to_string()));
    cells.push(thousands(link.receptive_field as u64));
    cells.extend([thousands(link.jump as u64), link.offset.to_string()]);
    cells.extend(link.size.map(|size| size.to_string()));
    cells
}
