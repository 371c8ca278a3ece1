"""Run folders written from arrays, in the shape that a training leaves behind."""

import csv
import functools
import json
import platform
import shutil

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from seglab.cli.conf_groups import CONF
from seglab.cli.resolvers import register_resolvers
from seglab.cli.run_folder import save_config, write_summary
from seglab.cli.stamp import hardware, versions
from seglab.lab.result_config import config_hash
from seglab.task.pictures import save_mask


@functools.cache
def composed(choices):
    """The training config of these choices, and the choice of every group."""
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"{group}={choice}" for group, choice in choices], return_hydra_config=True)
    chosen = {group: name for group, name in cfg.hydra.runtime.choices.items() if not group.startswith("hydra/")}
    cfg = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    OmegaConf.set_struct(cfg, True)  # a mistyped change is an error
    return cfg, chosen


def random_confusion(num_images=6, num_classes=9, seed=0, accuracy=0.7):
    """One matrix for each image, int64 (num_images, num_classes, num_classes); the labels are the same for any seed."""
    rng = np.random.default_rng(0)
    present = rng.random((num_images, num_classes)) < 0.4
    present[:, 0] = True
    areas = np.round(rng.gamma(2.0, 200.0, (num_images, num_classes)) * present).astype(np.int64)  # (n, k) labels
    mixing = np.full((num_classes, num_classes), (1 - accuracy) / (num_classes - 1))
    np.fill_diagonal(mixing, accuracy)
    return np.random.default_rng([1, seed]).multinomial(areas, mixing[None])  # (n, k, k) rows the labels


def scores_of(confusion, class_names):
    """What metrics.json says of a matrix for each image."""
    total = confusion.sum(0)
    hits = np.diagonal(total)
    union = total.sum(0) + total.sum(1) - hits
    iou = [hit / area if area else None for hit, area in zip(hits.tolist(), union.tolist(), strict=True)]
    scored = [value for value in iou if value is not None]
    return {
        "miou": sum(scored) / len(scored),
        "classes_scored": len(scored),
        "iou": dict(zip(class_names, iou, strict=True)),
        "pixel_accuracy": float(hits.sum() / total.sum()),
        "images_with": dict(zip(class_names, np.count_nonzero(confusion.sum(2), axis=0).tolist(), strict=True)),
    }


def history(class_names, epochs, miou, seed):
    """Rows of metrics.csv: curves that come close to `miou`."""
    rng = np.random.default_rng(seed)
    rise = 1 - 0.8 ** np.arange(1, epochs + 1)
    for epoch in range(epochs):
        reached = miou * rise[epoch] + rng.normal(0, 0.005)
        row = {"epoch": epoch, "step": (epoch + 1) * 3, "val/loss": 2 - 1.5 * rise[epoch], "val/miou": reached}
        row |= {f"val/iou/{name}": reached + rng.normal(0, 0.02) for name in class_names}
        row |= {"lr": 1e-3, "train/images_per_second": 40.0, "images_seen": (epoch + 1) * 12.0}
        yield row | {"train/loss": 1.9 - 1.6 * rise[epoch], "train/miou": reached + 0.02}


def make_run(
    folder,
    *,
    seed=0,
    choices=None,
    changes=None,
    confusion=None,
    names=None,
    class_names=None,
    split="test",
    protocol="full",
    status="finished",
    epochs=3,
    predictions=None,
    summary=None,
):
    """Writes a run folder that differs from a training's only in where its figures come from.

    `choices` are those of config groups ({"model": "unet4"}), `changes` single keys ({"optimizer.lr": 0.01});
    `confusion` is int64 (N, K, K), `predictions` uint8 (h, w) by image name, `summary` further keys of summary.json.
    """
    cfg, chosen = composed(tuple(({"logger": "csv"} | (choices or {})).items()))
    cfg = cfg.copy()
    changes = {"seed": seed} | ({"protocol": protocol} if protocol != "full" else {}) | (changes or {})
    for key, value in changes.items():
        OmegaConf.update(cfg, key, value)
    cfg.run_dir = str(folder)
    words = {key: str(value).replace(" ", "") for key, value in ((choices or {}) | changes).items()}
    save_config(cfg, [f"{key}={value}" for key, value in words.items()], folder)
    resolved = json.loads((folder / ".hydra" / "resolved.json").read_text())

    class_names = class_names or resolved["data"]["class_names"]
    confusion = random_confusion(num_classes=len(class_names), seed=seed) if confusion is None else confusion
    names = [f"test_{index:05d}" for index in range(len(confusion))] if names is None else names
    scores = scores_of(confusion, class_names)
    stamp = {
        "status": status,
        "seed": seed,
        "protocol": protocol,
        "config_hash": config_hash(resolved),
        "choices": chosen,
        "overrides": [f"{key}={value}" for key, value in words.items()],
        "command": " ".join(["python train.py", *(f"{key}={value}" for key, value in words.items())]),
        "git_commit": "0" * 40,
        "versions": {"python": platform.python_version()} | versions(),
        "hardware": hardware(),
        "data_fingerprint": "f" * 64,
    }
    rows = list(history(class_names, epochs, scores["miou"], seed))
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "train.log").write_text("12:00:00 INFO  fitted\n")
    if status == "finished":
        stamp |= {
            "best_epoch": epochs,
            "best_val_miou": rows[-1]["val/miou"],
            "test_miou": scores["miou"],
            "epochs": epochs,
            "max_epochs": epochs,
            "images_seen": epochs * 12,
            "images_per_second": 73.5,
            "parameters": 12417,
            "gflops": 0.0052,
            "peak_memory_mib": 901.8,
            "device": "cpu",
            "precision": "bf16-mixed",
            "memory_format": "channels_last",
            "threads": 2,
            "seconds": 9.0,
        }
        evaluation = folder / "evaluation" / split
        shutil.rmtree(evaluation, ignore_errors=True)
        (evaluation / "predictions").mkdir(parents=True)
        metrics = {"split": split, "num_images": len(names), "protocol": protocol, **scores, "loss": 1.0}
        metrics |= {f"boundary_{key}": scores[key] for key in ("miou", "classes_scored", "iou")}
        metrics |= {"ece": 0.1, "nll": 1.0}
        (evaluation / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
        np.savez_compressed(evaluation / "confusion.npz", names=np.array(names), confusion=confusion)
        for picture in ("confusion.png", "reliability.png"):
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(evaluation / picture)
        for name, preds in (predictions or {}).items():
            path = evaluation / "predictions" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_mask(preds, path, len(class_names))
    write_summary(folder, stamp | (summary or {}))
    return folder
