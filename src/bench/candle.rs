//! candle's built-in ops beside ours, where they give what ours give.

use candle_core::Tensor;

use super::pass::Pass;
use super::{Plan, Rate, Row};
use crate::{Error, Result};

/// Largest difference that is taken for rounding, relative to the largest value.
const TOLERANCE: f32 = 1e-3;

/// `row` (of `op`) for the built-in op `theirs`, its code called `backend`; it says why where that
/// cannot do what `ours` does.
pub(super) fn row(
    (row, backend): (Row, &'static str),
    op: &'static str,
    (ours, theirs): (&Pass, &Pass),
    plan: Plan,
    rate: Rate,
) -> Result<Row> {
    let row = Row { backend, ..row };
    match agrees(op, ours, theirs) {
        Ok(()) => Ok(row.timed(theirs.time(op, plan)?, rate)),
        Err(error) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default().to_owned();
            Ok(Row { cannot: Some(first), ..row })
        }
    }
}

/// Fails where the two do not give the same values.
fn agrees(op: &str, ours: &Pass, theirs: &Pass) -> Result<()> {
    let (ours, theirs) = (ours.values(op)?, theirs.values(op)?);
    let wrong = |what: &str| Err(Error::Setting(format!("wrong {what}")));
    if ours.len() != theirs.len() {
        return wrong("number of gradients");
    }
    for (i, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        if ours.dims() != theirs.dims() || difference(ours, theirs)? > TOLERANCE {
            return wrong(if i == 0 { "output" } else { "gradient" });
        }
    }
    Ok(())
}

/// The largest difference, as a share of the largest value.
fn difference(a: &Tensor, b: &Tensor) -> Result<f32> {
    let largest = |t: &Tensor| t.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>();
    Ok(largest(&(a - b)?)? / largest(a)?.max(f32::MIN_POSITIVE))
}
