//! Weight files as people have them: checkpoints with other things beside the weights, wrappers before
//! the names, other programs' files, and files that would give wrong numbers without a word.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::{DType, Device, Tensor};
use common::pickled::{Py, dict, saved, saved_the_old_way, state, text, zip};
use convzoo::inspect::Viewer;
use convzoo::models::{Config, Model, find};
use convzoo::weights::{self, Manifest, WeightFile, WeightSource};
use serde_json::json;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
type Tensors = BTreeMap<String, Tensor>;

fn tensors_of(name: &str, seed: u64) -> Tensors {
    let config = Config { aux: false, ..find(name).expect("a network").config() };
    let model = Model::new(name, config, seed, &Device::Cpu).expect("a network");
    let entries = model.network.params().entries().iter();
    entries.map(|e| (e.spec.name.clone(), e.var.as_detached_tensor())).collect()
}

/// LeNet-5 has no batch norms, whose counters are whole numbers: `torch.save` is imitated for f32 alone.
fn lenet(seed: u64) -> Tensors {
    tensors_of("lenet5", seed)
}

fn under(prefix: &str, tensors: &Tensors) -> Tensors {
    tensors.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())).collect()
}

fn ones(shape: &[usize]) -> Tensor {
    Tensor::ones(shape, DType::F32, &Device::Cpu).expect("a tensor")
}

fn parse(root: &Py) -> convzoo::Result<WeightFile> {
    let [zip, old] = [saved(root), saved_the_old_way(root)]
        .map(|bytes| weights::parse(Path::new("x.pth"), &bytes));
    assert_eq!(zip.is_ok(), old.is_ok());
    zip
}

fn same(found: &Tensors, wanted: &Tensors) {
    assert!(found.keys().eq(wanted.keys()), "{:?}", found.keys());
    assert!(wanted.iter().all(|(name, tensor)| common::rel_l2(&found[name], tensor) == 0.0));
}

/// Whether the file's network is LeNet-5 with these weights; what is said about it.
fn is_lenet(file: WeightFile, wanted: &Tensors) -> Result<String> {
    let file = file.described(Some("lenet5"))?;
    same(&file.tensors, wanted);
    file.model(&Device::Cpu)?;
    Ok(file.remarks.join("\n"))
}

fn write(path: &Path, tensors: &Tensors, metadata: Option<&weights::Metadata>) {
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    weights::write(path, named, metadata).expect("a file");
}

/// What LeNet-5's file says about itself.
fn metadata(classes: usize) -> weights::Metadata {
    let json = json!({
        "architecture": "lenet5",
        "classes": (0..classes).map(|class| format!("c{class}")).collect::<Vec<_>>(),
        "input": find("lenet5").expect("a network").config().input,
        "preprocessing": [
            {"step": "resize-exact", "size": 28, "filter": "bilinear"},
            {"step": "channels", "channels": 1},
            {"step": "normalise", "mean": [0.13], "std": [0.3]},
        ],
        "dataset": "mnist",
        "data_kind": "digits",
    });
    let mut metadata: weights::Metadata = serde_json::from_value(json).expect("metadata");
    let (_, side, _) = metadata.input;
    metadata.preprocessing[0]["size"] = side.into();
    metadata
}

fn convzoo(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_convzoo")).args(args).output().expect("the program")
}

/// Standard output of a command that ends well.
fn good(args: &[&str]) -> String {
    let output = convzoo(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The one line of a command that is refused.
fn refused(args: &[&str]) -> String {
    let output = convzoo(args);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{args:?} went well: {error}");
    assert_eq!(error.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{error}");
    error
}

#[test]
fn the_state_dict_is_found_under_its_key() -> Result<()> {
    let wanted = lenet(1);
    let inner = || state(&wanted);
    for key in
        ["state_dict", "model_state_dict", "model", "net", "network", "params", "module", "weights"]
    {
        let optimiser = dict([("state", dict([("exp_avg", Py::Tensor(ones(&[3])))]))]);
        let root = dict([
            ("epoch", Py::Int(3)),
            ("optimizer", optimiser),
            (key, inner()),
            ("best_acc1", Py::Tensor(ones(&[1]))),
        ]);
        let said = is_lenet(parse(&root)?, &wanted)?;
        assert!(said.contains(&format!("tensors under {key:?} are taken")), "{said}");
        assert!(said.contains("left out beside them: best_acc1 [1]"), "{said}");
    }
    let nested = dict([("model", dict([("state_dict", inner())]))]);
    assert!(is_lenet(parse(&nested)?, &wanted)?.contains("\"model.state_dict\""));
    // A key that nobody knows, and none at all.
    is_lenet(parse(&dict([("my_net", inner()), ("optimizer", dict([]))]))?, &wanted)?;
    assert_eq!(is_lenet(parse(&inner())?, &wanted)?, "");
    let error = parse(&dict([("one", inner()), ("two", inner())])).unwrap_err().to_string();
    assert!(error.contains("several sets of tensors, \"one\", \"two\""), "{error}");
    // A dict within itself is looked at once.
    let knot = Py::Raw(b"}q\x01X\x05\x00\x00\x00modelh\x01s".to_vec());
    assert!(parse(&knot).is_err());
    Ok(())
}

#[test]
fn of_plain_and_averaged_weights_the_plain_are_taken_and_the_others_on_request() -> Result<()> {
    let (plain, averaged) = (lenet(1), lenet(2));
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("w.pth");
    for key in ["state_dict_ema", "model_ema", "ema", "params_ema"] {
        let root = dict([(key, state(&averaged)), ("state_dict", state(&plain))]);
        std::fs::write(&path, saved(&root))?;
        let said = is_lenet(weights::load(&path, &Device::Cpu)?, &plain)?;
        assert!(said.contains(&format!("FILE#{key} takes them")), "{said}");
        for asked in ["ema", key] {
            let source = WeightSource::parse(&format!("{}#{asked}", path.display()))?;
            let file = weights::load(&source.fetch(None, None)?, &Device::Cpu)?;
            let said = is_lenet(file, &averaged)?;
            assert!(said.contains(&format!("under {key:?} are taken")), "{said}");
        }
    }
    let none = format!("{}#teacher", path.display());
    let error = weights::load(Path::new(&none), &Device::Cpu).unwrap_err().to_string();
    assert!(
        error.contains("no tensors under \"teacher\"") && error.contains("state_dict"),
        "{error}"
    );
    let alone = dict([("epoch", Py::Int(1)), ("model_ema", state(&averaged))]);
    assert!(is_lenet(parse(&alone)?, &averaged)?.contains("\"model_ema\""));
    Ok(())
}

#[test]
fn wrappers_are_taken_off_although_other_names_stand_beside_them() -> Result<()> {
    let wanted = lenet(1);
    let stray: [(&str, &[usize]); 3] =
        [("n_averaged", &[1]), ("criterion.weight", &[10]), ("other.module.x", &[2])];
    let wrappers = [
        "module.",
        "model.",
        "backbone.",
        "_orig_mod.",
        "net.",
        "encoder.",
        "student.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "module.model.backbone.",
        "my_own_lenet.",
        "model.my_own_lenet.",
    ];
    for wrapper in wrappers {
        let mut tensors = under(wrapper, &wanted);
        assert_eq!(is_lenet(parse(&state(&tensors))?, &wanted)?, "", "{wrapper}");
        tensors.extend(stray.map(|(name, shape)| (name.to_owned(), ones(shape))));
        let file = parse(&state(&tensors))?;
        let model = Model::new("lenet5", find("lenet5")?.config(), 2, &Device::Cpu)?;
        let applied = file.apply(&model.network)?;
        assert_eq!((applied.loaded, applied.left_out.len()), (wanted.len(), 1), "{wrapper}");
        let said = is_lenet(file, &wanted)?;
        for (name, _) in stray {
            assert!(said.contains(name) && applied.left_out[0].contains(name), "{wrapper}: {said}");
        }
    }
    // The network's last layer outside its wrapper; two networks in one file.
    let mut head = under("backbone.", &wanted);
    for name in ["fc3.weight", "fc3.bias"] {
        let tensor = head.remove(&format!("backbone.{name}")).expect("the last layer");
        head.insert(name.to_owned(), tensor);
    }
    is_lenet(parse(&state(&head))?, &wanted)?;
    let both: Tensors =
        under("student.", &wanted).into_iter().chain(under("teacher.", &lenet(2))).collect();
    let said = is_lenet(parse(&state(&both))?, &wanted)?;
    assert!(said.contains("teacher.* (10 tensors)"), "{said}");
    Ok(())
}

#[test]
fn a_tensor_within_the_network_is_never_left_over() -> Result<()> {
    // A network with a batch norm that LeNet-5 has not: its outputs would be others.
    for name in ["conv1.scale", "bn1.weight", "fc3.1.weight"] {
        let mut tensors = lenet(1);
        tensors.insert(name.to_owned(), ones(&[6]));
        let model = Model::new("lenet5", find("lenet5")?.config(), 2, &Device::Cpu)?;
        let error = parse(&state(&tensors))?.apply(&model.network).unwrap_err().to_string();
        assert!(error.contains(&format!("1 unexpected ({name} [6])")), "{error}");
        assert!(parse(&state(&tensors))?.described(Some("lenet5")).is_err());
    }
    Ok(())
}

#[test]
fn objects_beside_tensors_stay_inert() -> Result<()> {
    let wanted = lenet(1);
    let attributes = || dict([("lr", Py::Raw(b"G?\xb9\x99\x99\x99\x99\x99\x9a".to_vec()))]);
    let with = |object: Py| Py::With(Box::new(object), Box::new(attributes()));
    let numpy = |name| {
        Py::Call(
            "numpy.core.multiarray",
            name,
            vec![
                Py::Call("numpy", "dtype", vec![text("f8")]),
                Py::Call("_codecs", "encode", vec![text("\u{9a}\u{99}"), text("latin1")]),
            ],
        )
    };
    let beside = [
        with(Py::New("argparse", "Namespace", vec![])),
        with(Py::New("types", "SimpleNamespace", vec![])),
        with(Py::New("omegaconf.dictconfig", "DictConfig", vec![])),
        numpy("scalar"),
        with(numpy("_reconstruct")),
        Py::Call("pathlib", "PosixPath", vec![text("/data")]),
        Py::Call("pathlib", "WindowsPath", vec![text("C:")]),
        Py::Call("torch", "device", vec![text("cuda"), Py::Int(0)]),
        Py::Name("torch", "float32"),
        Py::Call("torch", "Size", vec![Py::Tuple(vec![Py::Int(2)])]),
        Py::Call("torch", "Generator", vec![]),
        Py::Call("datetime", "datetime", vec![Py::Raw(b"C\x03\xff\xfe\xfd".to_vec())]),
        Py::Call("my.code", "Colour", vec![Py::Int(1)]),
        Py::Call("builtins", "set", vec![Py::List(vec![Py::Int(1)])]),
        with(Py::Call("functools", "partial", vec![Py::Name("my.code", "f")])),
        Py::Holding(
            Box::new(Py::Call("collections", "defaultdict", vec![Py::Name("builtins", "list")])),
            vec![(Py::Int(1), Py::None)],
        ),
        Py::Holding(
            Box::new(Py::New("my.code", "AttrDict", vec![])),
            vec![(text("a"), Py::Int(1))],
        ),
        // Objects and numbers of old protocols, sets and frozen sets, a string that is not Unicode.
        Py::Raw(b"(imy.code\nOld\n".to_vec()),
        Py::Raw(b"(cmy.code\nOld\nK\x01o".to_vec()),
        Py::Raw(b"cmy.code\nNew\n)}\x92".to_vec()),
        Py::Raw(b"\x8f(K\x01\x90".to_vec()),
        Py::Raw(b"(K\x01\x91".to_vec()),
        Py::Raw(b"U\x02\xff\xfe".to_vec()),
        Py::Raw(b"S'a'\n".to_vec()),
        Py::Raw([&b"\x8a\x20"[..], &[7; 32]].concat()),
        Py::Raw(b"(lp1\ng1\n0".to_vec()),
    ];
    for object in beside {
        let root = dict([("args", object), ("state_dict", state(&wanted))]);
        is_lenet(parse(&root)?, &wanted)?;
    }
    // A dict of another kind around the state dict, and one made of pairs.
    let root = Py::Holding(
        Box::new(Py::New("my.code", "Checkpoint", vec![])),
        vec![(text("state_dict"), state(&wanted))],
    );
    is_lenet(parse(&root)?, &wanted)?;
    let pair =
        |(name, tensor): (&String, &Tensor)| Py::List(vec![text(name), Py::Tensor(tensor.clone())]);
    let pairs = Py::List(wanted.iter().map(pair).collect());
    is_lenet(parse(&Py::Call("collections", "OrderedDict", vec![pairs]))?, &wanted)?;
    // A tensor with attributes, and a parameter.
    let name = wanted.keys().next().expect("a name").clone();
    let tensor = || Py::Tensor(wanted[&name].clone());
    let parameter =
        Py::Call("torch._utils", "_rebuild_parameter", vec![tensor(), Py::Int(1), Py::None]);
    let typed = Py::Call(
        "torch._tensor",
        "_rebuild_from_type_v2",
        vec![
            Py::Name("torch._utils", "_rebuild_parameter"),
            Py::Name("torch.nn.parameter", "Parameter"),
            Py::Tuple(vec![tensor(), Py::Int(1), Py::None]),
            Py::None,
        ],
    );
    for value in [parameter, typed] {
        let mut others = wanted.clone();
        others.remove(&name);
        let Py::Holding(object, mut entries) = state(&others) else { unreachable!() };
        entries.push((text(&name), value));
        is_lenet(parse(&Py::Holding(object, entries))?, &wanted)?;
    }
    // What would do harm if it were run is said.
    let folder = tempfile::tempdir()?;
    let touched = folder.path().join("was-here");
    let harm = Py::Call("os", "system", vec![text(&format!("touch {}", touched.display()))]);
    let root = dict([("args", harm), ("state_dict", state(&wanted))]);
    let said = is_lenet(parse(&root)?, &wanted)?;
    assert!(said.contains("os.system") && said.contains("nothing was run"), "{said}");
    assert!(!touched.exists());
    Ok(())
}

#[test]
fn what_would_have_to_run_to_give_tensors_is_refused_by_name() {
    let quantised = Py::Call("torch._utils", "_rebuild_qtensor", vec![Py::None]);
    let numpy = Py::Call("numpy.core.multiarray", "_reconstruct", vec![Py::None]);
    let module = Py::With(
        Box::new(Py::New("torchvision.models.resnet", "ResNet", vec![])),
        Box::new(dict([("training", Py::Int(0))])),
    );
    let tensor = || Py::Tensor(ones(&[2]));
    for (root, named) in [
        (dict([("a", tensor()), ("b", quantised)]), "torch._utils._rebuild_qtensor"),
        (dict([("a", tensor()), ("b", numpy)]), "numpy.core.multiarray._reconstruct"),
        (module.clone(), "torchvision.models.resnet.ResNet"),
        (dict([("model", module), ("epoch", Py::Int(1))]), "torchvision.models.resnet.ResNet"),
    ] {
        let error = parse(&root).unwrap_err().to_string();
        assert!(error.contains(named) && error.contains("state_dict()"), "{error}");
        assert!(!error.contains('\n'));
    }
}

#[test]
fn other_programs_files_are_told_apart() {
    let deflated = |name: &str| {
        let mut bytes = zip(&[(name, b"x")]);
        // The method, in the local header and in the directory.
        let directory = bytes.windows(4).position(|w| w == b"PK\x01\x02").expect("a directory");
        (bytes[8], bytes[directory + 10]) = (8, 8);
        bytes
    };
    let tar = [&[b'a'; 257][..], b"ustar\0", &[0; 300]].concat();
    let tensorflow = [&[1; 40][..], &[0x57, 0xfb, 0x80, 0x8b, 0x24, 0x75, 0x47, 0xdb]].concat();
    let torchscript = zip(&[("m/data.pkl", b"\x80\x02}."), ("m/constants.pkl", b"\x80\x02).")]);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec(), "git lfs pull"),
        (b"<!DOCTYPE html><html>".to_vec(), "a web page"),
        (b"\n  <html>".to_vec(), "a web page"),
        (b"{\"a\": 1}".to_vec(), "JSON"),
        (b"{\"class_name\": \"Sequential\"}".to_vec(), "Keras"),
        (b"{\"weight_map\": {}}".to_vec(), "JSON"),
        (b"epoch,loss\n1,2\n".to_vec(), "text"),
        (b"  \n".to_vec(), "blank"),
        (b"\x89HDF\r\n\x1a\n\0\0".to_vec(), "HDF5"),
        (b"\x93NUMPY\x01\0".to_vec(), ".npy"),
        (b"GGUF\x03\0\0\0".to_vec(), "GGUF"),
        (b"\x08\x07\x12\x07pytorch".to_vec(), "ONNX"),
        (b"\x08\x01\x12\x90\x01".to_vec(), "SavedModel"),
        (b"\x1c\0\0\0TFL3".to_vec(), "TensorFlow Lite"),
        (tensorflow, "TensorFlow checkpoint"),
        (tar, "tar archive"),
        (b"\x1f\x8b\x08\0".to_vec(), "gzip"),
        (b"BZh9".to_vec(), "bzip2"),
        (b"\x89PNG\r\n".to_vec(), "PNG image"),
        (b"\xff\xd8\xff\xe0".to_vec(), "JPEG image"),
        (b"\0\0\0\0\x02\0\0\0\x05\0\0\0".to_vec(), "Darknet"),
        (torchscript, "TorchScript"),
        (zip(&[("config.json", b"{}"), ("model.weights.h5", b"x")]), "Keras model"),
        (deflated("model.weights.h5"), "Keras model"),
        (zip(&[("conv1.npy", b"x")]), ".npz"),
        (deflated("conv1.npy"), ".npz"),
        (zip(&[("a/model.pth", b"x")]), "with a weight file in it"),
        (zip(&[("letter.txt", b"x")]), "not one that torch.save wrote"),
        (b"\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94.".to_vec(), "not one that torch.save wrote"),
        (b"\x80\x02csklearn.svm\nSVC\n)R.".to_vec(), "sklearn.svm.SVC"),
        ([7; 100].to_vec(), "not a weight file of a kind that is known"),
    ];
    for (bytes, expected) in cases {
        let error = weights::parse(Path::new("x.bin"), &bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}; expected {expected}");
        assert!(error.starts_with("x.bin: ") && !error.contains('\n'), "{error}");
        let todo = bytes.is_empty() || error.contains("; ") || error.contains(": ");
        assert!(todo, "{error} says nothing to do");
    }
}

#[test]
fn a_model_in_several_files_is_read_by_its_index() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let wanted = lenet(1);
    let (one, two): (Tensors, Tensors) =
        wanted.clone().into_iter().partition(|(name, _)| name.starts_with("conv"));
    write(&folder.path().join("m-1.safetensors"), &one, None);
    write(&folder.path().join("m-2.safetensors"), &two, None);
    let index = folder.path().join("model.safetensors.index.json");
    let map = |second: &str| -> serde_json::Value {
        let file = |name: &String| {
            if one.contains_key(name) { "m-1.safetensors" } else { second }.to_owned()
        };
        wanted
            .keys()
            .map(|name| (name.clone(), json!(file(name))))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let said = |map: serde_json::Value| -> Result<convzoo::Result<WeightFile>> {
        std::fs::write(
            &index,
            json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string(),
        )?;
        Ok(weights::load(&index, &Device::Cpu))
    };
    assert!(is_lenet(said(map("m-2.safetensors"))??, &wanted)?.contains("out of 2 files"));
    // The folder stands for its index.
    same(&weights::load(folder.path(), &Device::Cpu)?.tensors, &wanted);
    for (second, expected) in [
        ("m-3.safetensors", "m-3.safetensors"),
        ("../m-2.safetensors", "not beside it"),
        ("m-1.safetensors", "says that fc1.bias is in m-1.safetensors, and it is not"),
    ] {
        let error = said(map(second))?.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    Ok(())
}

#[test]
fn a_run_folder_stands_for_its_best_weights() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let run = folder.path().to_str().expect("a name");
    write(&folder.path().join("best.safetensors"), &lenet(1), Some(&metadata(10)));
    write(&folder.path().join("last.safetensors"), &lenet(2), Some(&metadata(10)));
    let picture = folder.path().join("a.png");
    image::GrayImage::from_pixel(28, 28, image::Luma([200])).save(&picture)?;
    let picture = picture.to_str().expect("a name");
    let [best, last] = ["best", "last"].map(|name| format!("{run}/{name}.safetensors"));
    let predict = |weights: &str| good(&["predict", "--weights", weights, "--csv", picture]);
    assert_eq!(predict(run), predict(&best));
    assert_ne!(predict(run), predict(&last));
    assert!(good(&["weights", "inspect", run]).contains("says: lenet5 with 10 classes"));
    let path = WeightSource::parse(run)?.fetch(None, None)?;
    assert_eq!(path, PathBuf::from(&best));
    std::fs::remove_file(&best)?;
    let output = convzoo(&["predict", "--weights", run, "--csv", picture]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("last.safetensors is taken"));
    std::fs::remove_file(&last)?;
    let error = refused(&["predict", "--weights", run, picture]);
    assert!(error.contains("is a folder without best.safetensors"), "{error}");
    Ok(())
}

/// Every way to a number, from a file in which something is wrong.
fn refused_everywhere(path: &Path, expected: &str) {
    let file = weights::load(path, &Device::Cpu).expect("a file that can be read");
    let config = Config { classes: 10, ..find("lenet5").expect("a network").config() };
    let model = Model::new("lenet5", config, 2, &Device::Cpu).expect("a network");
    let errors = [
        file.model(&Device::Cpu).map(drop).unwrap_err(),
        file.apply(&model.network).map(drop).unwrap_err(),
        Viewer::new(&file).map(drop).unwrap_err(),
    ];
    for error in errors {
        let error = error.to_string();
        assert!(error.contains(expected) && error.contains("w.safetensors"), "{error}");
    }
    let picture = path.with_file_name("a.png");
    image::GrayImage::from_pixel(28, 28, image::Luma([200])).save(&picture).expect("an image");
    let [path, picture] = [path, &picture].map(|path| path.to_str().expect("a name"));
    let error = refused(&["predict", "--weights", path, picture]);
    assert!(error.contains(expected), "{error}");
}

#[test]
fn only_training_begins_a_layer_anew() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("w.safetensors");
    let expected = "its metadata lists 5 classes, and its last layer fc3 has 10 outputs";
    write(&path, &lenet(1), Some(&metadata(5)));
    refused_everywhere(&path, expected);
    let text = good(&["weights", "inspect", path.to_str().expect("a name")]);
    assert!(text.contains(&format!("PROBLEM: {expected}")), "{text}");
    // Without metadata, into a network of five classes.
    write(&path, &lenet(1), None);
    let config = Config { classes: 5, ..find("lenet5")?.config() };
    let model = Model::new("lenet5", config, 2, &Device::Cpu)?;
    let file = weights::load(&path, &Device::Cpu)?;
    let error = file.apply(&model.network).unwrap_err().to_string();
    assert!(error.contains("fc3.weight is [10, 84], needed [5, 84]"), "{error}");
    assert_eq!(file.apply_for_training(&model.network)?.replaced, ["fc3"]);
    // More names than any network of the file's size could have outputs.
    write(&path, &lenet(1), Some(&metadata(200_000)));
    refused_everywhere(&path, "lists 200000 classes");
    Ok(())
}

#[test]
fn numbers_that_are_not_finite_are_refused_by_the_tensors_name() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("w.safetensors");
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut tensors = lenet(1);
        let mut values: Vec<f32> = tensors["conv2.weight"].flatten_all()?.to_vec1()?;
        values[77] = bad;
        let shape = tensors["conv2.weight"].shape().clone();
        tensors.insert("conv2.weight".to_owned(), Tensor::from_vec(values, shape, &Device::Cpu)?);
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            let cast = tensors.iter().map(|(name, t)| Ok((name.clone(), t.to_dtype(dtype)?)));
            write(&path, &cast.collect::<Result<_>>()?, Some(&metadata(10)));
            let file = weights::load(&path, &Device::Cpu)?;
            assert_eq!(file.not_finite()?, ["conv2.weight"]);
            let error = file.model(&Device::Cpu).unwrap_err().to_string();
            assert!(
                error.contains("tensor conv2.weight has numbers that are not finite"),
                "{error}"
            );
        }
        refused_everywhere(&path, "tensor conv2.weight has numbers that are not finite");
        let model = Model::new("lenet5", find("lenet5")?.config(), 2, &Device::Cpu)?;
        let file = weights::load(&path, &Device::Cpu)?;
        assert!(file.apply_for_training(&model.network).is_err());
        assert!(file.apply_partial(&model.network).is_err());
        let text = good(&["weights", "inspect", path.to_str().expect("a name")]);
        assert!(text.contains("PROBLEM: 1 tensors are not finite"), "{text}");
    }
    // Finite in 64 bits, and not in the 32 that are used.
    let mut tensors = lenet(1);
    tensors.insert("fc3.bias".to_owned(), Tensor::full(1e300, 10, &Device::Cpu)?);
    write(&path, &tensors, Some(&metadata(10)));
    refused_everywhere(&path, "tensor fc3.bias");
    Ok(())
}

#[test]
fn metadata_that_contradicts_itself_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("w.safetensors");
    let change = |change: &dyn Fn(&mut weights::Metadata)| {
        let mut metadata = metadata(10);
        change(&mut metadata);
        metadata
    };
    let (_, side, _) = metadata(10).input;
    for (metadata, expected) in [
        (change(&|m| m.classes.clear()), "lists no classes"),
        (change(&|m| m.input = (3, side, side)), "a preprocessing that makes 1x"),
        (change(&|m| m.input = (1, side + 1, side + 1)), "a preprocessing that makes 1x"),
        (change(&|m| m.input = (1, 0, 1)), "make sense"),
        (change(&|m| m.input = (1, usize::MAX, usize::MAX)), "make sense"),
        (
            change(&|m| m.preprocessing = json!([{"step": "unknown"}])),
            "preprocessing cannot be used",
        ),
        (change(&|m| m.val_top1 = Some(5e10)), "not a share"),
    ] {
        write(&path, &lenet(1), Some(&metadata));
        refused_everywhere(&path, expected);
    }
    write(&path, &lenet(1), Some(&change(&|m| m.classes[3] = "c1".to_owned())));
    let file = weights::load(&path, &Device::Cpu)?;
    assert_eq!(file.remarks, ["two of its classes are called \"c1\""]);
    file.model(&Device::Cpu)?;
    Ok(())
}

#[test]
fn whole_numbers_are_no_weights_and_64_bits_are_said() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("w.safetensors");
    let cast = |dtype| -> Result<Tensors> {
        lenet(1).into_iter().map(|(name, tensor)| Ok((name, tensor.to_dtype(dtype)?))).collect()
    };
    write(&path, &cast(DType::U8)?, Some(&metadata(10)));
    refused_everywhere(&path, "10 of whole numbers, as quantised weights are");
    write(&path, &cast(DType::F64)?, Some(&metadata(10)));
    let file = weights::load(&path, &Device::Cpu)?;
    assert!(file.remarks[0].contains("have 64 bits"), "{:?}", file.remarks);
    file.model(&Device::Cpu)?;
    Ok(())
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    for path in [pipe.to_str().expect("a name"), "/dev/zero"] {
        let error = refused(&["weights", "inspect", path]);
        assert!(error.contains(&format!("{path}: is not a regular file")), "{error}");
        assert!(refused(&["predict", "--weights", path, "a.png"]).contains("not a regular file"));
    }
    for name in ["manifest.json", "config.json"] {
        let inside = folder.path().join(name);
        assert!(Command::new("mkfifo").arg(&inside).status().expect("mkfifo").success());
    }
    let error = refused(&["weights", "check", folder.path().to_str().expect("a name")]);
    assert!(error.contains("manifest.json: is not a regular file"), "{error}");
    // timm's settings beside weights.
    let path = folder.path().join("w.safetensors");
    write(&path, &lenet(1), None);
    let file = weights::load(&path, &Device::Cpu).expect("weights");
    let error = file.described(Some("lenet5")).unwrap_err().to_string();
    assert!(error.contains("config.json: is not a regular file"), "{error}");
}

#[test]
fn manifests_state_what_can_be_so() -> Result<()> {
    let trained = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights");
    let text = std::fs::read_to_string(trained.join("manifest.json"))?;
    let good: serde_json::Value = serde_json::from_str(&text)?;
    let folder = tempfile::tempdir()?;
    let open = |json: &serde_json::Value| {
        std::fs::write(folder.path().join("manifest.json"), json.to_string()).expect("a file");
        Manifest::open(folder.path())
    };
    assert_eq!(open(&good)?, Manifest::open(&trained)?);
    for (pointer, value, expected) in [
        ("/files/0/file", json!("../lenet5-mnist.safetensors"), "not the name of a file"),
        ("/files/0/file", json!("/etc/passwd"), "not the name of a file"),
        ("/files/0/file", json!("a/b.safetensors"), "not the name of a file"),
        ("/files/0/file", json!("a\u{0}b"), "not the name of a file"),
        ("/files/0/file", json!(""), "not the name of a file"),
        ("/files/0/file", json!(".."), "not the name of a file"),
        ("/files/0/file", good["files"][1]["file"].clone(), "listed twice"),
        ("/files/0/val/top1", json!(5e10), "top1 is 50000000000; a share from 0 to 1"),
        ("/files/0/val/top1", json!(-0.1), "a share from 0 to 1"),
        ("/files/0/val/images", json!(0), "no images"),
        ("/files/0/test", json!({"top1": 1.5, "images": 10}), "test: top1 is 1.5"),
        ("/files/0/sha256", json!("abc"), "64 hexadecimal digits"),
        ("/files/0/dtype", json!("int4"), "f32, f16 or bf16"),
        ("/files/0/bytes", json!(0), "no bytes"),
    ] {
        let mut bad = good.clone();
        match pointer.strip_suffix("/test") {
            Some(entry) => bad.pointer_mut(entry).expect("an entry")["test"] = value,
            None => *bad.pointer_mut(pointer).expect("a field") = value,
        }
        let error = open(&bad).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("manifest.json"), "{error}");
    }
    Ok(())
}

/// The inputs on which the program was wrong, where they are at hand.
#[test]
fn the_cases_that_went_wrong_are_right() -> Result<()> {
    let Some(cases) = common::shared().map(|shared| shared.join("cases")).filter(|c| c.is_dir())
    else {
        return Ok(());
    };
    let load = |name: &str| weights::load(&cases.join("weights").join(name), &Device::Cpu);
    let described = |name: &str| load(name)?.described(Some("resnet20"));
    let plain = described("plain.pth")?;
    for (name, said) in [
        ("best_acc1_tensor.pth.tar", "left out beside them: best_acc1"),
        ("args_namespace.pth.tar", "under \"state_dict\" are taken"),
        ("averaged_model.pth", "n_averaged"),
        ("lightning_criterion.ckpt", "criterion.weight [10]"),
    ] {
        let file = described(name)?;
        same(&file.tensors, &plain.tensors);
        file.model(&Device::Cpu)?;
        assert!(file.remarks.join("\n").contains(said), "{name}: {:?}", file.remarks);
    }
    let error = load("torchscript.pt").unwrap_err().to_string();
    assert!(error.contains("is a TorchScript program; in PyTorch, save"), "{error}");
    let attack = |name: &str| weights::load(&cases.join("attack").join(name), &Device::Cpu);
    for (name, expected) in [
        ("meta_classes_5.safetensors", "lists 5 classes, and its last layer fc3 has 10"),
        ("w_nan.safetensors", "not finite"),
    ] {
        let error = attack(name)?.model(&Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let path = cases.join("attack/ansi.safetensors");
    let text = good(&["weights", "inspect", path.to_str().expect("a name")]);
    assert!(!text.contains('\x1b') && text.contains("\\x1b[2J"), "{text:?}");
    Ok(())
}
