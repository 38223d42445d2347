//! `convzoo diagram MODEL -o FILE`

use std::path::PathBuf;

use clap::Args;

use super::args::StemName;
use super::inspect::{scale, writable};
use super::print_line;
use super::summary::{parse_classes, parse_input, tree};
use crate::inspect::{diagram as figure, ending};

/// Draw a network as textbooks do.
///
/// Solids are as high and as deep as a map has rows and columns (by the square root), and as thick as
/// it has channels. Branches and shortcuts are drawn where they are looked into; below a figure that
/// does not, each kind of block is shown once from inside. In a page (.html), a click on a block opens
/// it.
#[derive(Args)]
pub struct DiagramArgs {
    /// The network, as `convzoo list` names it
    model: String,
    /// The file: .svg, .png or .html
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Look into the layers down to this depth, 1 being the outermost [default: as deep as a page
    /// allows]
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// Pixels of a PNG for one of the figure's, which is about 1000 wide
    #[arg(long, value_name = "FACTOR", default_value_t = 2.0, value_parser = scale)]
    scale: f64,
    /// Channels, height and width of the input, as in 3x224x224 [default: the paper's]
    #[arg(long, value_parser = parse_input)]
    input: Option<(usize, usize, usize)>,
    /// Outputs of the last layer [default: the paper's]
    #[arg(long, value_parser = parse_classes)]
    classes: Option<usize>,
    /// How a ResNet begins
    #[arg(long, value_enum)]
    stem: Option<StemName>,
}

pub fn diagram(args: DiagramArgs) -> anyhow::Result<()> {
    writable(&args.out, &["svg", "png", "html"], "a diagram is written as .svg, .png or .html")?;
    let (layers, input) = tree(&args.model, args.input, args.classes, args.stem)?;
    match ending(&args.out).as_str() {
        "html" => figure::page(&args.model, &layers, input, args.depth)?.write(&args.out)?,
        _ => {
            figure::diagram(&args.model, &layers, input, args.depth)?
                .write(&args.out, args.scale)?;
        }
    }
    print_line(&format!("wrote {}", args.out.display()))
}
