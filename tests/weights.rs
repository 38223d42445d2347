//! Weight files: what is read, what is refused, and how tensors find their places.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use common::fill;
use convzoo::models::{Config, Model, find};
use convzoo::weights::{self, Format, WeightFile};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn samples() -> Option<(PathBuf, serde_json::Value)> {
    let folder = common::shared()?.join("fixtures/pth");
    let json = common::json(&folder.join("samples.json"));
    Some((folder, json))
}

fn read(path: &Path) -> convzoo::Result<WeightFile> {
    weights::load(path, &Device::Cpu)
}

fn lenet(seed: u64) -> Result<Model> {
    Ok(Model::new("lenet5", find("lenet5")?.config(), seed, &Device::Cpu)?)
}

fn state(model: &Model) -> BTreeMap<String, Tensor> {
    let entries = model.network.params().entries().iter();
    entries.map(|e| (e.spec.name.clone(), e.var.as_detached_tensor())).collect()
}

fn write(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    Ok(weights::write(path, tensors.iter().map(|(n, t)| (n.as_str(), t)), None)?)
}

#[test]
fn pytorchs_files_are_read_or_refused_as_recorded() -> Result<()> {
    let Some((folder, json)) = samples() else { return Ok(()) };
    for (name, sample) in json["files"].as_object().expect("files") {
        let found = read(&folder.join(name));
        if !sample["expect"].as_str().expect("a word").starts_with("load") {
            let message = found.expect_err(name).to_string();
            assert!(message.contains(name.as_str()) && !message.contains('\n'), "{message}");
            continue;
        }
        let found = found?;
        let wanted = &json["tensors"][sample["tensors"].as_str().expect("a set")];
        let wanted = wanted.as_object().expect("tensors");
        let names: Vec<_> = found.tensors.keys().collect();
        let mut expected: Vec<_> = wanted.keys().collect();
        expected.sort();
        assert_eq!(names, expected, "{name}");
        for (key, recorded) in wanted {
            let tensor = &found.tensors[key];
            let dims: Vec<_> = tensor.dims().iter().map(|&d| serde_json::json!(d)).collect();
            assert_eq!(serde_json::Value::Array(dims), recorded["shape"], "{name} {key}");
            let values = common::values(tensor);
            let sum: f64 = values.iter().sum();
            let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
            let close = |a: f64, b: &serde_json::Value| {
                (a - b.as_f64().unwrap()).abs() < 1e-9 * (1.0 + norm)
            };
            assert!(close(sum, &recorded["sum"]), "{name} {key}: sum {sum}");
            assert!(close(norm, &recorded["l2"]), "{name} {key}: norm {norm}");
            if let Some(all) = recorded["values"].as_array() {
                let all: Vec<f64> = all.iter().map(|v| v.as_f64().unwrap()).collect();
                assert_eq!(values, all, "{name} {key}");
            } else {
                let error = fill::summary_error(key, tensor, recorded);
                assert!(error < 1e-9, "{name} {key}: {error}");
            }
        }
    }
    Ok(())
}

#[test]
fn what_a_pickle_asks_for_beyond_tensors_is_named() -> Result<()> {
    let Some((folder, _)) = samples() else { return Ok(()) };
    for name in ["disallowed_global_zip.pth", "disallowed_global_legacy.pth"] {
        let message = read(&folder.join(name)).unwrap_err().to_string();
        assert!(message.contains("print") && message.contains("state_dict"), "{message}");
    }
    let message = read(&folder.join("zip_bit_flipped.pth")).unwrap_err().to_string();
    assert!(message.contains("CRC-32"), "{message}");
    let message = read(&folder.join("legacy_huge_storage.pth")).unwrap_err().to_string();
    assert!(message.contains("storage"), "{message}");
    Ok(())
}

/// A pickle of the old format around a program for the state dict.
fn legacy(program: &[u8]) -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    file.extend(b"\x80\x02M\xe9\x03.\x80\x02}.\x80\x02");
    file.extend(program);
    file.extend(b".\x80\x02]q\x01U\x010a.");
    file.extend(4u64.to_le_bytes());
    file.extend([1f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()));
    file
}

/// `{'x': tensor}` with this offset, shape and stride over a storage of this many elements.
fn tensor_program(count: &[u8], offset: &[u8], shape: &[u8], stride: &[u8]) -> Vec<u8> {
    let mut program = b"}U\x01xctorch._utils\n_rebuild_tensor_v2\n((U\x07storage".to_vec();
    program.extend(b"ctorch\nFloatStorage\nU\x010U\x03cpu");
    for part in [count, b"NtQ", offset, shape, stride, b"\x89}tRs"] {
        program.extend(part);
    }
    program
}

#[test]
fn hostile_pickles_end_in_an_error() -> Result<()> {
    let parse = |program: &[u8]| weights::parse(Path::new("x.pth"), &legacy(program));
    let good = tensor_program(b"K\x04", b"K\x00", b"K\x02K\x02\x86", b"K\x01K\x02\x86");
    let read = parse(&good)?;
    assert_eq!(common::values(&read.tensors["x"]), [1.0, 3.0, 2.0, 4.0]);

    let huge = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f".as_slice();
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("beyond its storage", tensor_program(b"K\x04", b"K\x01", b"K\x04\x85", b"K\x01\x85")),
        ("beyond its storage", tensor_program(b"K\x04", huge, b"K\x02\x85", huge_tuple())),
        ("too large", tensor_program(b"K\x04", b"K\x00", huge_tuple(), b"K\x00\x85")),
        ("too few", tensor_program(huge, b"K\x00", b"K\x01\x85", b"K\x01\x85")),
        (
            "makes no sense",
            tensor_program(b"K\x04", b"J\xff\xff\xff\xff", b"K\x01\x85", b"K\x01\x85"),
        ),
        ("do not match", tensor_program(b"K\x04", b"K\x00", b"K\x01\x85", b")")),
        ("os.system", b"cos\nsystem\nU\x02id\x85R".to_vec()),
        ("calls", b"U\x02idU\x02id\x85R".to_vec()),
        ("more values", b"0".to_vec()),
        ("mark", b"t".to_vec()),
        ("recalls", b"h\x05".to_vec()),
        ("0xff", b"\xff".to_vec()),
        ("cut off", b"X\xff\xff\xff\x7fab".to_vec()),
        ("not a dict of tensors", b"N".to_vec()),
        (
            "too long",
            [
                b"ctorch\nSize\n(".as_slice(),
                &[b'N'; 100],
                b"tctorch._utils\n_rebuild_parameter\nh".as_slice(),
            ]
            .concat(),
        ),
        ("no tensors", b"ccollections\nOrderedDict\n)\x81".to_vec()),
    ];
    for (expected, program) in bad {
        let message = parse(&program).expect_err(expected).to_string();
        let recalled = expected == "too long" && message.contains("recalls");
        assert!(message.contains(expected) || recalled, "{message}; expected {expected:?}");
    }
    // A million tuples in each other, lists that hold themselves: no stack overflows.
    assert!(parse(&[b"N".as_slice(), &[0x85; 1_000_000]].concat()).is_err());
    assert!(parse(b"]q\x00h\x00ah\x00a").is_err());
    // Few bytes that build much, again and again.
    let storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04tq\x00Q";
    let again = b"h\x00Q".repeat(2_000_000);
    let message = parse(&[&storage[..], &again].concat()).unwrap_err().to_string();
    assert!(message.contains("values"), "{message}");
    Ok(())
}

fn huge_tuple() -> &'static [u8] {
    b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85"
}

#[test]
fn every_prefix_of_a_file_is_an_error() -> Result<()> {
    let Some((folder, _)) = samples() else { return Ok(()) };
    for name in ["views_dtypes_zip.pth", "views_dtypes_legacy.pth"] {
        let bytes = std::fs::read(folder.join(name))?;
        for end in 0..bytes.len() {
            assert!(weights::parse(Path::new(name), &bytes[..end]).is_err(), "{name} up to {end}");
        }
    }
    Ok(())
}

#[test]
fn misfits_are_told_in_one_message() -> Result<()> {
    let here = tempfile::tempdir()?;
    let path = here.path().join("w.safetensors");
    let (source, model) = (lenet(1)?, lenet(2)?);
    let before = state(&model);
    let mut tensors = state(&source);
    tensors.remove("conv2.bias");
    tensors.insert("extra.weight".into(), Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?);
    tensors.insert("fc1.bias".into(), Tensor::zeros(7, DType::F32, &Device::Cpu)?);
    write(&path, &tensors)?;
    let file = read(&path)?;
    let message = file.apply(&model.network).unwrap_err().to_string();
    for part in [
        "w.safetensors",
        "1 missing (conv2.bias [16])",
        "1 unexpected (extra.weight [2, 3])",
        "1 wrongly shaped (fc1.bias is [7], needed [120])",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert!(state(&model).iter().all(|(n, t)| common::rel_l2(t, &before[n]) == 0.0));

    let applied = file.apply_partial(&model.network)?;
    assert_eq!((applied.loaded, applied.left_out.len()), (8, 1));
    let (now, wanted) = (state(&model), state(&source));
    assert_eq!(common::rel_l2(&now["conv1.weight"], &wanted["conv1.weight"]), 0.0);
    assert_eq!(common::rel_l2(&now["fc1.bias"], &before["fc1.bias"]), 0.0);
    Ok(())
}

#[test]
fn a_head_of_another_size_begins_anew() -> Result<()> {
    let here = tempfile::tempdir()?;
    for (name, head) in [("lenet5", "fc3"), ("squeezenet1_1", "classifier.1")] {
        let path = here.path().join(name);
        let config = find(name)?.config();
        let source = Model::new(name, config.clone(), 1, &Device::Cpu)?;
        write(&path, &state(&source))?;
        let model = Model::new(name, Config { classes: 3, ..config }, 2, &Device::Cpu)?;
        let applied = read(&path)?.apply_for_training(&model.network)?;
        assert_eq!(applied.replaced, [head]);
        assert_eq!(applied.loaded, state(&source).len() - 2);
    }
    Ok(())
}

#[test]
fn half_precision_is_widened() -> Result<()> {
    let here = tempfile::tempdir()?;
    let source = lenet(1)?;
    for (dtype, tolerance) in [(DType::F16, 1e-3), (DType::BF16, 1e-2), (DType::F32, 0.0)] {
        let path = here.path().join(dtype.as_str());
        let halved = state(&source).into_iter().map(|(n, t)| Ok((n, t.to_dtype(dtype)?)));
        write(&path, &halved.collect::<Result<_>>()?)?;
        let model = lenet(2)?;
        read(&path)?.apply(&model.network)?;
        for (name, tensor) in state(&model) {
            assert_eq!(tensor.dtype(), DType::F32);
            let error = common::rel_l2(&tensor, &state(&source)[&name]);
            assert!(error <= tolerance, "{dtype:?} {name}: {error}");
        }
    }
    Ok(())
}

#[test]
fn timms_names_become_torchvisions() -> Result<()> {
    let Some(shared) = common::shared() else { return Ok(()) };
    let json = common::json(&shared.join("fixtures/arch/timm_names.json"));
    for (name, arch) in json["archs"].as_object().expect("architectures") {
        let layers = find(name)?.layers(&Config { aux: false, ..find(name)?.config() })?;
        let shape = |value: &serde_json::Value| -> Vec<usize> {
            value.as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect()
        };
        let renamed: BTreeMap<_, _> = arch["differences"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|d| {
                (
                    d["torchvision"].as_str().unwrap(),
                    (d["timm"].as_str().unwrap(), shape(&d["timm_shape"])),
                )
            })
            .collect();
        let mut theirs = BTreeMap::new();
        for spec in layers.state_specs() {
            let plain = (spec.name.as_str(), spec.shape.clone());
            let (name, shape) = renamed.get(plain.0).cloned().unwrap_or(plain);
            // Without numbers in memory: one zero, repeated.
            let zero = Tensor::zeros((), DType::U8, &Device::Cpu)?;
            theirs.insert(format!("module.{name}"), zero.broadcast_as(shape)?);
        }
        let ours = weights::torchvision(&theirs)?;
        assert_eq!(ours.len(), layers.state_specs().len(), "{name}");
        for spec in layers.state_specs() {
            assert_eq!(ours[&spec.name].dims(), spec.shape, "{name} {}", spec.name);
        }
        let fits: Vec<_> = weights::fits(&ours).iter().map(|fit| fit.architecture.name).collect();
        assert_eq!(fits, [name.as_str()]);
    }
    Ok(())
}

/// The header's length may be the first byte of a pickle, or the letters of a zip archive.
#[test]
fn a_header_of_any_length_is_safetensors() -> Result<()> {
    for length in [0x80, 0x0280, usize::from(u16::from_le_bytes(*b"PK"))] {
        let json = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let mut bytes = (length as u64).to_le_bytes().to_vec();
        bytes.extend(format!("{json:<length$}").bytes());
        bytes.extend([1f32, 2.0].iter().flat_map(|v| v.to_le_bytes()));
        let file = weights::parse(Path::new("x"), &bytes)?;
        assert_eq!(common::values(&file.tensors["a"]), [1.0, 2.0]);
    }
    Ok(())
}

#[test]
fn a_written_file_reads_the_same() -> Result<()> {
    let here = tempfile::tempdir()?;
    let (one, two) = (here.path().join("1"), here.path().join("2"));
    let tensors = state(&lenet(1)?);
    write(&one, &tensors)?;
    let file = read(&one)?;
    assert_eq!(file.format, Format::Safetensors);
    write(&two, &file.tensors)?;
    assert_eq!(std::fs::read(&one)?, std::fs::read(&two)?);
    let fits: Vec<_> = weights::fits(&tensors).iter().map(|fit| fit.architecture.name).collect();
    assert_eq!(fits, ["lenet5", "lenet5-relu"]);
    Ok(())
}

/// The folder of trained weights that comes with the source.
fn trained() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/weights"))
}

#[test]
fn the_trained_weights_are_what_their_manifest_says() -> Result<()> {
    let manifest = weights::Manifest::open(&trained())?;
    manifest.check(&trained())?;
    assert!(manifest.files.iter().any(|entry| entry.architecture == "lenet5-relu"));
    for entry in &manifest.files {
        assert!(entry.bytes < 30_000_000, "{} is too large to carry around", entry.file);
        assert!(!entry.command.contains("../"), "{}", entry.command);
    }
    Ok(())
}

/// Where the pictures are at hand; those on photographs, which take longer, with `CONVZOO_ALL`.
#[test]
fn the_trained_weights_get_right_what_their_manifest_says() -> Result<()> {
    let Some(shared) = common::shared() else { return Ok(()) };
    for entry in weights::Manifest::open(&trained())?.files {
        let folder = shared.join("data").join(&entry.dataset);
        let quick = entry.dataset == "mnist" || std::env::var_os("CONVZOO_ALL").is_some();
        if !folder.is_dir() || !quick {
            println!("skipped: {} (no pictures, or set CONVZOO_ALL)", entry.file);
            continue;
        }
        let mut eval = std::process::Command::new(env!("CARGO_BIN_EXE_convzoo"));
        eval.args(["eval", "--json", "--dataset", &entry.dataset, "--weights"]);
        eval.arg(trained().join(&entry.file)).arg("--data-dir").arg(folder);
        let output = eval.output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let found: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        // Another processor may sum in another order: one picture in a thousand may tip over.
        let near = |part: &str, stated: weights::Measured| {
            let top1 = found[part]["top1"].as_f64().expect("an accuracy");
            assert_eq!(found[part]["images"], stated.images, "{} {part}", entry.file);
            assert!((top1 - stated.top1).abs() <= 1e-3, "{} {part}: {top1}", entry.file);
        };
        // The files are older than the record of what they were trained on: the test part is measured,
        // where there is one.
        match entry.test {
            Some(test) => near("test", test),
            None => near("val", entry.val),
        }
    }
    Ok(())
}

#[test]
fn a_manifest_notices_what_has_changed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for entry in std::fs::read_dir(trained())? {
        let path = entry?.path();
        std::fs::copy(&path, folder.path().join(path.file_name().expect("a name")))?;
    }
    let manifest = weights::Manifest::open(folder.path())?;
    manifest.check(folder.path())?;
    let refused = |text: &str| {
        let error = manifest.check(folder.path()).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    };
    let path = folder.path().join(&manifest.files[0].file);
    let mut bytes = std::fs::read(&path)?;
    *bytes.last_mut().expect("bytes") ^= 1;
    std::fs::write(&path, &bytes)?;
    refused("its SHA-256 is");
    bytes.pop();
    std::fs::write(&path, &bytes)?;
    refused("its size is");
    std::fs::remove_file(&path)?;
    refused(&manifest.files[0].file);
    std::fs::copy(trained().join(&manifest.files[0].file), &path)?;
    std::fs::copy(&path, folder.path().join("stranger.safetensors"))?;
    refused("is not in manifest.json");
    Ok(())
}

#[test]
fn halved_weights_keep_their_names_and_their_statistics() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = Config { input: (3, 32, 32), classes: 10, ..find("resnet20")?.config() };
    let model = Model::new("resnet20", config, 1, &Device::Cpu)?;
    let (whole, half) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    write(&whole, &state(&model))?;
    let whole = read(&whole)?;
    let count = whole.write_as(&half, Some(DType::F16))?;
    let half = read(&half)?;
    assert_eq!((count, half.tensors.len()), (whole.tensors.len(), whole.tensors.len()));
    for (name, tensor) in &half.tensors {
        let wanted = match name.rsplit('.').next() {
            Some("running_mean" | "running_var" | "num_batches_tracked") => {
                whole.tensors[name].dtype()
            }
            _ => DType::F16,
        };
        assert_eq!(tensor.dtype(), wanted, "{name}");
        assert!(common::rel_l2(tensor, &whole.tensors[name]) < 1e-3, "{name}");
    }
    half.apply(&model.network)?;
    let large = BTreeMap::from([("fc.weight".to_owned(), Tensor::new(&[1e6f32], &Device::Cpu)?)]);
    let path = folder.path().join("large.safetensors");
    write(&path, &large)?;
    let error = read(&path)?.write_as(&path, Some(DType::F16)).unwrap_err().to_string();
    assert!(error.contains("fc.weight has values too large for f16"), "{error}");
    Ok(())
}
