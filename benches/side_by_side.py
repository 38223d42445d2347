#!/usr/bin/env python3
"""convzoo beside PyTorch, case by case in one go.

    python3 benches/side_by_side.py --torch-bench torch_bench.py --python VENV/bin/python
    python3 benches/side_by_side.py ... --sections train --only resnet18 --compile
    python3 benches/side_by_side.py ... --quick

For each case PyTorch and convzoo are measured in turn, `--rounds` times each, so that both see the
machine in the same state; the best median of a side counts. PyTorch runs in every memory format (and
with --compile under torch.compile too), with glibc's malloc told to keep memory; the best of these is
what convzoo is compared with. convzoo runs as its command line does, a process for each case, and tells
glibc's malloc the same. Where candle's built-in ops can do a convolution or pooling, they are measured
too, once as they come, in a process that tells malloc nothing, and once where it is told to keep
memory, as convzoo's ops are measured. Their products have AVX-512 in both, because convzoo turns it on
in the crate `gemm` that both use.

Prints a table as it goes and writes it as Markdown to --out.

PyTorch's side is torch_bench.py, whose functions a second process (--python, which needs torch and
torchvision) calls for single cases; this script itself needs nothing but Python. A ratio is
convzoo's speed over the other's: above 1, convzoo is faster (for memory: the other's over convzoo's).
"""
import argparse
import gc
import importlib.util
import json
import os
import platform
import shlex
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SECTIONS = ["machine", "conv", "ops", "infer", "train", "rss"]
# section -> what `convzoo bench` calls the group it belongs to
GROUP = {"machine": "machine", "conv": "ops", "ops": "ops",
         "infer": "models", "train": "models", "rss": "models"}
QUICK = ["resnet_3x3_64_56", "lenet_5x5_1_6_28", "maxpool3x3s2p1_64_112", "lenet5", "resnet18"]
# torch_bench times products of matrices by two libraries; the better one counts
RENAMED = {"gemm_f32_2048_mkl": ("gemm_f32_2048", "mkl"),
           "gemm_f32_2048_onednn_conv1x1": ("gemm_f32_2048", "onednn")}
# what torch_bench.py --malloc tuned sets: glibc keeps freed memory
TUNED_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000",
                "MALLOC_TOP_PAD_": "268435456"}


# ------------------------------------------------- PyTorch's side, a process of its own
def load_torch_bench(path):
    spec = importlib.util.spec_from_file_location("torch_bench", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["torch_bench"] = module
    spec.loader.exec_module(module)
    return module


class FormatsOf(list):
    """The memory formats, for the case of one name alone: bench_ops goes over them once a case,
    with the case's name in a local variable."""

    def __init__(self, formats, name):
        super().__init__(formats)
        self.name = name

    def __iter__(self):
        is_it = sys._getframe(1).f_locals.get("name") == self.name
        return super().__iter__() if is_it else iter(())


def torch_rows(tb, a, section, name):
    """The rows of one case, in every format."""
    rows = []
    a.models, formats = [name], ["nchw", "channels_last"]
    a.formats = FormatsOf(formats, name) if section == "ops" else formats
    out = lambda **row: rows.append(row)
    if section == "conv":
        everything = tb.CONVS
        tb.CONVS = [case for case in everything if case[0] == name]
        tb.bench_conv(a, out)
        tb.CONVS = everything
    else:
        getattr(tb, "bench_" + section)(a, out)
    if a.compile and section in ("infer", "train"):
        torch_compile_rows(tb, a, section, name, out)
    gc.collect()
    return [row for row in rows if RENAMED.get(row["name"], (row["name"],))[0] == name]


def torch_compile_rows(tb, a, section, name, out):
    """The same under torch.compile, with frozen weights in inference."""
    import torch._inductor.config as config

    config.freezing = section == "infer"
    bench = tb.bench_infer if section == "infer" else tb.bench_train
    try:
        bench(a, lambda **row: out(**{**row, "section": section}), compiled=True, models=[name])
    except Exception as error:  # no C++ compiler, say: the other rows stand
        print(f"torch.compile of {name}: {error}"[:200], file=sys.stderr)


def worker(a):
    """Answers requests, a line of JSON each, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    tb = load_torch_bench(a.torch_bench)
    import torch
    import torchvision

    torch.set_num_threads(a.threads)
    a.quick = False
    about = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    print(json.dumps(about), file=answers, flush=True)
    for line in sys.stdin:
        section, name = json.loads(line)
        print(json.dumps(torch_rows(tb, a, section, name)), file=answers, flush=True)


class Torch:
    """The process of PyTorch's side; a fresh one for each network."""

    def __init__(self, a):
        self.a, self.about, self.key, self.process = a, "", None, None

    def rows(self, section, name):
        key = (section, name if GROUP[section] == "models" else None)
        if key != self.key:
            self.close()
            self.start(section)
            self.key = key
        self.process.stdin.write(json.dumps([section, name]) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def start(self, section):
        a = self.a
        command = [a.python, os.path.abspath(__file__), "--worker", "--torch-bench", a.torch_bench,
                   "--threads", str(a.threads), "--target", str(a.target)]
        command += ["--compile"] if a.compile else []
        # Kept memory would count as used where memory is what is measured.
        env = dict(os.environ) if section == "rss" else {**os.environ, **TUNED_MALLOC}
        self.process = subprocess.Popen(command, env=env, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self.about = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("error: PyTorch's side ended; what it printed is above")
        return json.loads(line)

    def close(self):
        if self.process:
            self.process.stdin.close()
            self.process.wait()
            self.process = None


# ------------------------------------------------- convzoo's side, a process for each case
class Convzoo:
    def __init__(self, a):
        self.a = a
        self.program = a.convzoo or build()

    def call(self, group, *args):
        a = self.a
        command = [self.program, "bench", group, "--threads", str(a.threads), *args]
        # candle's built-in ops take their threads from the environment
        env = {**os.environ, "RAYON_NUM_THREADS": str(a.threads)}
        done = subprocess.run(command, env=env, text=True, capture_output=True)
        if done.returncode:
            sys.exit(f"{shlex.join(command)}: {done.stderr.strip()}")
        return done.stdout.splitlines()

    def cases(self, section):
        lines = self.call(GROUP[section], "--section", section, "--list")
        return [line.split()[1] for line in lines]

    def rows(self, section, name, *more):
        args = ["--section", section, "--only", name, "--target", str(self.a.target), "--json"]
        return [json.loads(line) for line in self.call(GROUP[section], *args, *more)]

    def rows_and_candle(self, section, name):
        """The same with candle's, as it comes and told to keep memory."""
        rows = self.rows(section, name, "--candle")
        return rows + self.rows(section, name, "--candle-as-it-comes")


def build():
    """Builds convzoo as `cargo run` would, and gives the program's path."""
    command = ["cargo", "build", "--bin", "convzoo", "--message-format=json-render-diagnostics"]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit("error: convzoo does not build; cargo's words are above")
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    return next(m["executable"] for m in messages if m.get("executable"))


# ------------------------------------------------- comparing
def cost(row):
    """What is to be small: seconds, or MiB."""
    return row.get("median_s") or row.get("peak_minus_import_mib")


def amount(row):
    """What is shown, in the unit of its section."""
    for field, unit in [("images_per_s", "images/s"), ("gflops", "GFLOP/s"),
                        ("gbytes_per_s", "GB/s"), ("peak_minus_import_mib", "MiB")]:
        if field in row:
            return f"{digits(row[field])} {unit}"
    return f"{digits(row['median_s'] * 1e3)} ms"


def digits(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def by(row):
    """Which side, format and back end a row is of."""
    return (row.get("format", ""), row.get("backend", ""))


def key(row):
    name, backend = RENAMED.get(row["name"], (row["name"], None))
    if backend:
        row["backend"] = backend
    return (row["section"], name, row.get("op", ""), row.get("batch", 0), row["threads"])


class Table:
    """For each key, the best row of each side and format."""

    def __init__(self):
        self.best = {}

    def add(self, side, rows):
        for row in rows:
            if "error" in row:
                print(f"{row['name']}: {row['error']}", file=sys.stderr)
                continue
            of_key = self.best.setdefault(key(row), {})
            backend = row.get("backend", "")
            where = (backend, "") if backend in CANDLE else (side, *by(row))
            if where not in of_key or (cost(row) or 0) < (cost(of_key[where]) or 0):
                of_key[where] = row

    def lines(self, wanted):
        """Cells of the rows whose key begins with `wanted`."""
        return [self.cells(k) for k in self.best if k[:len(wanted)] == wanted]

    def cells(self, k):
        _section, name, op, batch, threads = k
        rows = self.best[k]
        side = lambda which: [row for where, row in rows.items() if where[0] == which]
        ours = min(side("convzoo"), key=cost, default=None)
        torch = min(side("torch"), key=cost, default=None)
        candle = [next(iter(side(which)), None) for which in CANDLE]
        others = [row["other_cores"] for row in (ours, torch) if row and "other_cores" in row]
        return [name, op, str(batch or ""), str(threads),
                amount(ours) if ours else "",
                amount(torch) if torch else "",
                " ".join(filter(None, by(torch))) if torch else "",
                ratio(torch, ours),
                *[cell for row in candle for cell in (theirs(row), ratio(row, ours))],
                f"{max(others):.1f}" if others else ""]


def ratio(other, ours):
    return f"{cost(other) / cost(ours):.2f}" if ours and other and cost(other) else ""


def theirs(candle):
    if not candle:
        return ""
    return f"cannot: {candle['cannot']}" if "cannot" in candle else amount(candle)


CANDLE = ["candle as it comes", "candle"]
HEADER = ["case", "op", "batch", "threads", "convzoo", "PyTorch", "its format", "ratio",
          "candle as it comes", "ratio to it", "candle told to keep memory", "ratio to it", "others"]
TITLES = {"machine": "The machine", "conv": "Convolution layers", "ops": "Other layers",
          "infer": "Inference", "train": "Training steps",
          "rss": "Peak memory of training steps, above that of the program at its start"}


def aligned(cells):
    return "  ".join(f"{cell:<{width}}" for cell, width in
                     zip(cells, [28, 10, 5, 7, 16, 16, 22, 5, 18, 11, 26, 11, 6])).rstrip()


def markdown(a, table, about):
    lines = ["# convzoo beside PyTorch", "",
             "Written by `benches/side_by_side.py`, whose head says how it measures. A ratio above 1 "
             "means that convzoo is faster (or takes less memory). \"others\" is what other "
             "processes took of the CPUs meanwhile, in cores: a row where it is not near 0 says "
             "little.", ""]
    lines += [f"* {what}: {text}" for what, text in about.items()]
    for section in a.sections:
        cells = table.lines((section,))
        if cells:
            lines += ["", f"## {TITLES[section]}", "", "| " + " | ".join(HEADER) + " |",
                      "|" + " --- |" * len(HEADER)]
            lines += ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join(lines) + "\n"


def write(path, text):
    with open(path + ".new", "w") as f:
        f.write(text)
    os.replace(path + ".new", path)


def about(a, torch):
    """What the numbers were measured on."""
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as f:
            names = [line.split(":")[1].strip() for line in f if line.startswith("model name")]
        cpu = names[0] if names else cpu
    said = lambda *command: subprocess.run(command, cwd=ROOT, text=True,
                                           capture_output=True).stdout.strip()
    # paths say where things are on one machine only
    words = [os.path.basename(word) if os.sep in word else word for word in sys.argv]
    return {"machine": f"{cpu}, {os.cpu_count()} cores, {platform.system()}",
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "command": f"`python3 benches/{shlex.join(words)}`",
            "sides": f"convzoo {said('git', 'rev-parse', '--short', 'HEAD')}, "
                     f"{' '.join(said('rustc', '--version').split()[:2])}; {torch.about}"}


# ------------------------------------------------- main
def flags():
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--torch-bench", required=True, metavar="FILE", help="torch_bench.py")
    ap.add_argument("--python", default=sys.executable, metavar="FILE",
                    help="a Python that has torch and torchvision (default: this one)")
    ap.add_argument("--convzoo", metavar="FILE", help="the program (default: cargo build's)")
    ap.add_argument("--sections", type=lambda text: text.split(","), default=SECTIONS,
                    metavar="LIST", help="of " + ",".join(SECTIONS))
    ap.add_argument("--only", type=lambda text: text.split(","), default=[], metavar="LIST",
                    help="cases by name, as in resnet18,vgg16")
    ap.add_argument("--compile", action="store_true", help="torch.compile too")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--target", type=float, default=0.3,
                    help="seconds of timed calls for a layer; networks get twice that")
    ap.add_argument("--rounds", type=int, default=2, help="how often each side is measured")
    ap.add_argument("--quick", action="store_true", help="a few cases, once, a minute or two")
    ap.add_argument("--out", default=os.path.join(ROOT, "benches", "RESULTS.md"), metavar="FILE")
    ap.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    a = ap.parse_args()
    if unknown := [section for section in a.sections if section not in SECTIONS]:
        ap.error(f"there is no section {unknown[0]}; there are {', '.join(SECTIONS)}")
    if not os.path.isfile(a.torch_bench):
        ap.error(f"--torch-bench: there is no file {a.torch_bench}")
    if a.quick:
        a.target, a.rounds, a.only = min(a.target, 0.1), 1, a.only or QUICK
    return a


def cases(a, convzoo):
    """(section, name) of what is to be measured."""
    found = [(section, name) for section in a.sections for name in convzoo.cases(section)]
    names = {name for _section, name in found}
    if unknown := [name for name in a.only if name not in names and not a.quick]:
        sys.exit(f"error: there is no case {unknown[0]}; there are {', '.join(sorted(names))}")
    return [case for case in found if not a.only or case[1] in a.only]


def main():
    a = flags()
    if a.worker:
        return worker(a)
    convzoo, torch, table = Convzoo(a), Torch(a), Table()
    wanted = cases(a, convzoo)
    print(aligned(HEADER))
    for section, name in wanted:
        for turn in range(a.rounds):
            table.add("torch", torch.rows(section, name))
            # candle's built-ins are slow, and no yardstick that needs a second look
            candle = turn == 0 and section in ("conv", "ops")
            table.add("convzoo", (convzoo.rows_and_candle if candle else convzoo.rows)(section, name))
        for cells in table.lines((section, name)):
            print(aligned(cells), flush=True)
        write(a.out, markdown(a, table, about(a, torch)))
    torch.close()
    print(f"written: {a.out}")


if __name__ == "__main__":
    main()
