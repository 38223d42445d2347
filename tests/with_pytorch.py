#!/usr/bin/env python3
"""convzoo and a real PyTorch, each reading what the other has written.

Run by hand, with Python packages torch, torchvision, timm and safetensors:

    cargo build && python tests/with_pytorch.py target/debug/convzoo [MODEL ...]

For every model:
1. PyTorch draws weights and writes them, with torch.save in both formats and as safetensors in f32;
   convzoo converts each, and its logits for one picture must be PyTorch's.
2. PyTorch reads the file that convzoo has written (strictly, with safetensors), and its logits must
   be the same again.
Then convzoo trains a small network for a moment, and PyTorch must read the result.
"""

import csv
import io
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file

MODELS = [
    "alexnet", "vgg11", "vgg16_bn", "googlenet", "inception_v3", "resnet18", "resnet50",
    "squeezenet1_0", "squeezenet1_1", "inception_v4", "timm:resnet34", "timm:vgg11_bn",
]
# How far logits may be apart, relative to their Euclidean norm: single precision, in another order of
# summation.
TOLERANCE = 1e-5


def build(name):
    """PyTorch's model, with weights that make logits differ, and the zoo's name for it."""
    torch.manual_seed(1)
    if name.startswith("timm:") or name == "inception_v4":
        model = timm.create_model(name.removeprefix("timm:"))
    elif name in ("googlenet", "inception_v3"):
        model = getattr(torchvision.models, name)(aux_logits=True, init_weights=True)
    else:
        model = getattr(torchvision.models, name)()
    gain = 0.625 if "resnet" in name else 1.0  # the branches of residual blocks add up
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                bound = 0.9 * (6 / parameter[0].numel()) ** 0.5
                parameter.uniform_(-bound, bound)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5 * gain, 1.5 * gain)
                module.bias.uniform_(-0.1, 0.1)
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.7, 1.3)
    return model.eval(), name.removeprefix("timm:")


def picture(side):
    """A picture of the size that evaluation resizes to, so that resizing it plays no part."""
    rng = numpy.random.default_rng(1)
    coarse = rng.integers(0, 256, (7, 7, 3), dtype=numpy.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def sizes(name):
    """What torchvision's published transforms resize to, and crop."""
    return {"inception_v3": (342, 299), "inception_v4": (342, 299), "resnet50": (232, 224)}.get(name, (256, 224))


def prepared(image, name):
    """What torchvision's published transforms make of the picture."""
    if name in ("googlenet", "inception_v3"):
        mean, std = [0.5] * 3, [0.5] * 3
    else:
        mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    resize, crop = sizes(name)
    transforms = torchvision.transforms
    steps = [transforms.Resize(resize), transforms.CenterCrop(crop), transforms.ToTensor(),
             transforms.Normalize(mean, std)]
    return transforms.Compose(steps)(image)[None]


def convzoo(program, *args):
    return subprocess.run([program, *map(str, args)], check=True, capture_output=True, text=True).stdout


def predicted(program, name, weights, image):
    """convzoo's logits but for a constant, by the names of the classes."""
    text = convzoo(program, "predict", "--model", name, "--weights", weights, "--csv", "--top", 1000, image)
    rows = list(csv.DictReader(io.StringIO(text)))
    # Some classes share a name ("crane", "maillot"): ranks make pairs of them.
    return sorted((row["class"], numpy.log(float(row["probability"]))) for row in rows)


def by_name(logits, classes):
    return sorted((classes[i], float(logit)) for i, logit in enumerate(logits))


def difference(a, b):
    """Of logits, relative to their norm, whatever constant is added to either."""
    assert [name for name, _ in a] == [name for name, _ in b], "other classes"
    a, b = (numpy.array([value for _, value in rows]) for rows in (a, b))
    a, b = a - a.mean(), b - b.mean()
    return numpy.linalg.norm(a - b) / numpy.linalg.norm(b)


def check(program, name, folder, classes):
    model, zoo_name = build(name)
    image = folder / "picture.png"
    picture(sizes(zoo_name)[0]).save(image)
    with torch.no_grad():
        x = prepared(Image.open(image).convert("RGB"), zoo_name)
        expected = by_name(model(x)[0], classes)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    files = {kind: folder / f"{zoo_name}-{kind}" for kind in ("zip", "legacy", "safetensors")}
    torch.save(model.state_dict(), files["zip"])
    torch.save(model.state_dict(), files["legacy"], _use_new_zipfile_serialization=False)
    save_file(state, files["safetensors"])
    worst = 0.0
    for kind, path in files.items():
        out = folder / f"{zoo_name}-{kind}.out"
        convzoo(program, "weights", "convert", path, out)
        worst = max(worst, difference(predicted(program, zoo_name, out, image), expected))
    # convzoo writes torchvision's names: PyTorch reads them strictly into torchvision's model.
    if name.startswith("timm:"):
        model = getattr(torchvision.models, zoo_name)().eval()
    model.load_state_dict(load_file(out), strict=True)
    with torch.no_grad():
        again = by_name(model(x)[0], classes)
    back = difference(again, expected)
    spread = max(p for _, p in expected) - min(p for _, p in expected)
    print(f"{name:14} convzoo's logits differ by {worst:.1e}, read back by {back:.1e}; they span {spread:.1f}")
    assert worst < TOLERANCE and back < TOLERANCE and spread > 0.5, name
    for path in folder.iterdir():
        path.unlink()


def trained(program, folder):
    """PyTorch reads the weights of a run of convzoo's."""
    run = folder / "run"
    convzoo(program, "train", "resnet18", "--dataset", "cats-dogs-drawn", "--limit", 16, "--epochs", 1,
            "--batch-size", 8, "--image-size", 64, "--out", run)
    model = torchvision.models.resnet18(num_classes=2)
    model.load_state_dict(load_file(run / "best.safetensors"), strict=True)
    model.eval()
    image = folder / "picture.png"
    picture(73).save(image)  # the shorter side that evaluation resizes to
    text = convzoo(program, "predict", "--weights", run / "best.safetensors", "--csv", image)
    ours = {row["class"]: float(row["probability"]) for row in csv.DictReader(io.StringIO(text))}
    import json
    import struct
    raw = (run / "best.safetensors").read_bytes()
    header = json.loads(raw[8:8 + struct.unpack("<Q", raw[:8])[0]])
    about = json.loads(header["__metadata__"]["convzoo"])
    last = about["preprocessing"][-1]
    transforms = torchvision.transforms
    steps = [transforms.Resize(73), transforms.CenterCrop(64), transforms.ToTensor(),
             transforms.Normalize(last["mean"], last["std"])]
    with torch.no_grad():
        x = transforms.Compose(steps)(Image.open(image).convert("RGB"))[None]
        theirs = dict(zip(about["classes"], torch.softmax(model(x)[0], 0).tolist()))
    worst = max(abs(ours[name] - theirs[name]) for name in ours)
    print(f"a trained resnet18: PyTorch's probabilities differ by {worst:.1e}")
    assert worst < TOLERANCE


def main():
    program = Path(sys.argv[1]).resolve()
    names = sys.argv[2:] or MODELS
    listed = Path(__file__).parent.parent / "src" / "data" / "imagenet_classes.txt"
    classes = listed.read_text().splitlines()
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            check(program, name, Path(folder), classes)
        trained(program, Path(folder))
    print("all the same")


if __name__ == "__main__":
    main()
