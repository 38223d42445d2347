//! What a file is that holds no weights that can be read here, and what to do about it. Known by its
//! content; the name counts only where the content says nothing.

use std::path::Path;

use super::bytes::{Bytes, Outcome};
use super::zip::Archive;

/// What to do about a model of PyTorch's that is more than its weights.
pub(super) const SAVE_PLAIN: &str = "in PyTorch, save the model's state_dict() with torch.save";

const KERAS: &str = "convzoo reads PyTorch's weights and safetensors; convert it with a tool that \
                     knows the network, or train it here";

/// What files begin with, what such a file is, and what to do.
const BEGINNINGS: &[(&[u8], &str, &str)] = &[
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the weights",
        "fetch the file itself with git lfs pull",
    ),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras saves its weights (.h5)", KERAS),
    (b"\x93NUMPY", "a NumPy array (.npy)", "save the tensors by their names as safetensors"),
    (b"GGUF", "a GGUF file", "it holds quantised language models; take the original weights"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it with gunzip first"),
    (b"BZh", "compressed with bzip2", "unpack it with bunzip2 first"),
    (b"\xfd7zXZ\0", "compressed with xz", "unpack it with unxz first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it with unzstd first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it first"),
    (b"Rar!", "a RAR archive", "unpack it first"),
    (b"\x89PNG", "a PNG image", "give the weights with --weights"),
    (b"\xff\xd8\xff", "a JPEG image", "give the weights with --weights"),
    (b"GIF8", "a GIF image", "give the weights with --weights"),
    (b"%PDF", "a PDF document", "give the weights with --weights"),
    (b"MATLAB 5.0 MAT-file", "a MATLAB file (.mat)", "save the weights as safetensors"),
    // Its version, and how many images it has seen.
    (b"\0\0\0\0\x02\0\0\0", "a file of Darknet's weights", "convert it to PyTorch first"),
    (b"\0\0\0\0\x01\0\0\0", "a file of Darknet's weights", "convert it to PyTorch first"),
    (b"\x12\x01\0\0\0\0\0\0", "a file of MXNet's parameters", "convert it to PyTorch first"),
];

/// The last eight bytes of a TensorFlow checkpoint's index.
const TENSORFLOW_INDEX: [u8; 8] = [0x57, 0xfb, 0x80, 0x8b, 0x24, 0x75, 0x47, 0xdb];

/// One line: what the file is, and what to do.
pub(super) fn explained(path: &Path, bytes: &Bytes) -> String {
    match told_apart(path, bytes) {
        Ok((what, todo)) => format!("is {what}; {todo}"),
        Err(cause) => format!("cannot be read: {cause}"),
    }
}

fn told_apart(path: &Path, bytes: &Bytes) -> Outcome<(String, String)> {
    let head = bytes.head(1024)?;
    let found = |what: &str, todo: &str| Ok((what.to_owned(), todo.to_owned()));
    let known = BEGINNINGS.iter().find(|(beginning, _, _)| head.starts_with(beginning));
    if let Some((_, what, todo)) = known {
        return found(what, todo);
    }
    if head.get(257..262) == Some(b"ustar") {
        return found(
            "a tar archive",
            "unpack it first; an old tar file of PyTorch's, save it anew",
        );
    }
    if head.get(4..8) == Some(b"TFL3") {
        return found("a TensorFlow Lite model", KERAS);
    }
    if is_tensorflow_checkpoint(path, bytes)? {
        return found("a part of a TensorFlow checkpoint", KERAS);
    }
    if let Some(what) = protobuf(&head) {
        let todo = match what.contains("ONNX") {
            true => "it is for running, not for training; give the weights it was exported from",
            false => KERAS,
        };
        return found(what, todo);
    }
    Ok(text(&head).unwrap_or_else(|| {
        let what = "not a weight file of a kind that is known here";
        (what.to_owned(), "safetensors files and those of torch.save are read".to_owned())
    }))
}

fn is_tensorflow_checkpoint(path: &Path, bytes: &Bytes) -> Outcome<bool> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let tail = bytes.len().saturating_sub(8);
    Ok(name.contains(".data-0") && name.contains("-of-")
        || *bytes.read(tail, bytes.len() - tail)? == TENSORFLOW_INDEX)
}

/// Models in protocol buffers, which have no mark of their own: by the numbers of their first fields.
fn protobuf(head: &[u8]) -> Option<&'static str> {
    match *head.first_chunk()? {
        // saved_model_schema_version = 1, meta_graphs
        [0x08, 0x01, 0x12] => Some("a SavedModel of TensorFlow's"),
        // ir_version, then producer_name, domain, graph, or opset_import
        [0x08, 0x01..=0x40, 0x12 | 0x22 | 0x3a | 0x42] => Some("an ONNX model"),
        _ => None,
    }
}

/// What text is.
fn text(head: &[u8]) -> Option<(String, String)> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    // The last character may be cut off.
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let text = text.trim_start();
    let binary = text.chars().any(|c| c.is_control() && !c.is_whitespace());
    let (what, todo) = match text.chars().next() {
        Some('<') => ("a web page, as a failed download leaves it", "download the file again"),
        Some('{' | '[') if text.contains("\"class_name\"") => {
            ("the JSON description of a Keras model, without weights", KERAS)
        }
        Some('{' | '[') => ("JSON, not weights", "give the weights with --weights"),
        None => ("blank", "it may be what a failed download left; download the file again"),
        Some(_) if !binary => ("text, not weights", "give the weights with --weights"),
        Some(_) => return None,
    };
    Some((what.to_owned(), todo.to_owned()))
}

/// What a zip archive is that torch.save has not written.
pub(super) fn zip_explained(archive: &Archive) -> String {
    let has = |ending: &str| archive.names().any(|name| name.ends_with(ending));
    let (what, todo) = if has("constants.pkl") {
        ("a TorchScript program", SAVE_PLAIN)
    } else if has("model.weights.h5") {
        ("a Keras model (.keras)", KERAS)
    } else if has("saved_model.pb") {
        ("a zip archive of a SavedModel of TensorFlow's", KERAS)
    } else if has(".npy") {
        ("a NumPy archive (.npz)", "save the tensors by their names as safetensors")
    } else if ["safetensors", ".pth", ".pt", ".bin", ".ckpt"].iter().any(|ending| has(ending)) {
        ("a zip archive with a weight file in it", "unpack it first")
    } else if has("/.data/serialization_id") || has("/version") {
        ("a zip archive of PyTorch's without weights", SAVE_PLAIN)
    } else {
        ("a zip archive, but not one that torch.save wrote", "unpack it first")
    };
    format!("is {what}; {todo}")
}
