"""Reads the event files of a run back with the real tensorboard package, and holds them against
metrics.csv.

    pip install tensorboard
    python tests/with_tensorboard.py target/debug/convzoo
"""

import csv
import os
import subprocess
import sys
import tempfile

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

COLUMNS = {
    "train/loss": "train_loss",
    "train/top1": "train_top1",
    "val/loss": "val_loss",
    "val/top1": "val_top1",
    "ema/val_loss": "ema_val_loss",
    "ema/val_top1": "ema_val_top1",
}


def train(convzoo, *flags):
    command = [convzoo, "train", "lenet5-relu", "--json", *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def check(run, epochs, batches):
    events = EventAccumulator(os.path.join(run, "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert tags >= {"train/batch_loss", "train/lr", "train/images_per_s", "val/top5"} | set(COLUMNS), tags
    with open(os.path.join(run, "metrics.csv")) as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == epochs, rows
    for tag, column in COLUMNS.items():
        found = events.Scalars(tag)
        assert [e.step for e in found] == [(i + 1) * batches - 1 for i in range(epochs)], (tag, found)
        for event, row in zip(found, rows):
            assert abs(event.value - float(row[column])) < 2e-6, (tag, event, row)
    steps = [event.step for event in events.Scalars("train/batch_loss")]
    assert steps == list(range(epochs * batches)), steps
    rates = events.Scalars("train/lr")
    for epoch, row in enumerate(rows):
        rate = rates[(epoch + 1) * batches - 1].value
        assert abs(rate / float(row["lr"]) - 1) < 1e-6, (rate, row)


def main():
    convzoo = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        run = os.path.join(folder, "run")
        train(convzoo, "--dataset", "cats-dogs-drawn", "--limit", "24", "--batch-size", "8",
              "--schedule", "constant", "--ema", "0.9", "--epochs", "2", "--tensorboard", "--out", run)
        check(run, 2, 3)
        # A run that goes on writes a second file beside the first.
        train(convzoo, "--resume", run, "--epochs", "3")
        assert len(os.listdir(os.path.join(run, "tensorboard"))) == 2
        check(run, 3, 3)
    print("event files: all values are those of metrics.csv")


if __name__ == "__main__":
    main()
