//! What the environment says of the kernels: read once, for the whole process.

use std::ffi::OsString;
use std::sync::OnceLock;

use super::nhwc::lanes::Isa;
use crate::{Error, Result};

/// What the variables come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The instruction set of the kernels.
    pub isa: Isa,
    /// Whether 3x3 convolutions go Winograd's way where that is the faster one.
    pub winograd: bool,
    /// Whether ops on CUDA are made of candle's, though there are kernels for it.
    pub portable_on_cuda: bool,
}

const ISA: &str = "CONVZOO_ISA";
const WINOGRAD: &str = "CONVZOO_WINOGRAD";
const CUDA_OPS: &str = "CONVZOO_CUDA_OPS";

/// The variables, and the values that each takes on this machine.
fn known() -> [(&'static str, Vec<&'static str>); 3] {
    let isas = Isa::available().iter().map(|isa| isa.name()).collect();
    [(ISA, isas), (WINOGRAD, vec!["on", "off", "0"]), (CUDA_OPS, vec!["kernels", "portable"])]
}

/// The settings by what `value_of` says of a variable; one that is empty is as good as not set.
fn read(value_of: impl Fn(&str) -> Option<OsString>) -> Result<Settings, String> {
    let available = Isa::available();
    let mut settings = Settings { isa: available[0], winograd: true, portable_on_cuda: false };
    for (name, values) in known() {
        let Some(value) = value_of(name).filter(|value| !value.is_empty()) else { continue };
        let value = value.to_string_lossy();
        if !values.contains(&&*value) {
            let value = crate::visible::visible_line(&value);
            let values = values.join(", ");
            return Err(format!("{name}={value}: on this machine it takes {values}"));
        }
        match name {
            ISA => {
                let named = |isa: &&Isa| isa.name() == value;
                settings.isa = *available.iter().find(named).unwrap_or(&available[0]);
            }
            WINOGRAD => settings.winograd = value == "on",
            _ => settings.portable_on_cuda = value == "portable",
        }
    }
    Ok(settings)
}

fn of_environment() -> &'static Result<Settings, String> {
    static SETTINGS: OnceLock<Result<Settings, String>> = OnceLock::new();
    SETTINGS.get_or_init(|| read(|name| std::env::var_os(name)))
}

/// What is in force: the environment's settings, or those without any where [`check_environment`] has
/// something to say against them.
pub(crate) fn settings() -> Settings {
    let best = || Isa::available()[0];
    let without = || Settings { isa: best(), winograd: true, portable_on_cuda: false };
    of_environment().clone().unwrap_or_else(|_| without())
}

/// Refuses values of `CONVZOO_ISA`, `CONVZOO_WINOGRAD` and `CONVZOO_CUDA_OPS` that there are not, and
/// instruction sets that this CPU has not: results would be computed in another way than was asked
/// for. Every op asks it; a program may do so before it begins.
///
/// | variable | values | without it |
/// | --- | --- | --- |
/// | `CONVZOO_ISA` | `avx512`, `avx2`, `plain`: the instruction set of the CPU's kernels | the best one there is |
/// | `CONVZOO_WINOGRAD` | `off` (or `0`) computes 3×3 convolutions the direct way, slower and to some more digits; `on` | `on` |
/// | `CONVZOO_CUDA_OPS` | `portable` makes ops on CUDA of candle's own; `kernels` | `kernels` |
///
/// Each of them changes the bits of results, none changes them by more than rounding.
///
/// # Errors
/// Names the variable, what it is set to and what it takes.
pub fn check_environment() -> Result<()> {
    match of_environment() {
        Ok(_) => Ok(()),
        Err(message) => Err(Error::Setting(message.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &'static str) -> Result<Settings, String> {
        read(move |asked| (asked == name).then(|| value.into()))
    }

    #[test]
    fn every_value_is_known_or_refused() {
        let usual = read(|_| None).unwrap();
        assert_eq!(usual.isa, Isa::available()[0]);
        assert!(usual.winograd && !usual.portable_on_cuda);
        for (name, values) in known() {
            assert_eq!(with(name, "").unwrap(), usual, "{name} is empty");
            values.iter().for_each(|value| _ = with(name, value).unwrap());
            for wrong in ["none", "OFF", "avx1024", " plain", "1", "\u{1b}[31m"] {
                let message = with(name, wrong).unwrap_err();
                assert!(message.starts_with(name) && message.contains(values[0]), "{message}");
                assert!(!message.contains('\u{1b}'), "{message}");
            }
        }
        assert_eq!(with(ISA, "plain").unwrap().isa, Isa::Plain);
        assert!(!with(WINOGRAD, "off").unwrap().winograd && !with(WINOGRAD, "0").unwrap().winograd);
        assert!(with(CUDA_OPS, "portable").unwrap().portable_on_cuda);
        let absent = ["avx512", "avx2"]
            .into_iter()
            .filter(|name| !Isa::available().iter().any(|isa| isa.name() == *name));
        absent.for_each(|name| assert!(with(ISA, name).is_err(), "{name}"));
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_no_text_is_refused() {
        use std::os::unix::ffi::OsStringExt;
        let bytes = |name: &str| (name == ISA).then(|| OsString::from_vec(vec![0xff, b'p']));
        assert!(read(bytes).unwrap_err().contains("CONVZOO_ISA="));
    }
}
