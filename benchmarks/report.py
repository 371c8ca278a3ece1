"""Size of a report of many runs, the time to write it, and the time a browser takes to open it.

    python benchmarks/report.py [--runs 60] [--images 150] [--keep FOLDER]

The runs are made up: three seeds of each configuration, 100 epochs, made scenes of 320 pixels as photographs, and
predictions that are the labels with shifted outlines, wrong blobs and speckles. Opening is from
navigation to the end of loading, in headless Chromium, the median of five.
"""

import argparse
import csv
import json
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from seglab.cli.conf_groups import CONF
from seglab.cli.resolvers import register_resolvers
from seglab.cli.run_folder import save_config, write_summary
from seglab.data import Shapes
from seglab.lab.comparison import compare
from seglab.lab.groups import group_runs
from seglab.lab.report import write_report
from seglab.lab.runs import find_runs
from seglab.task.pictures import save_mask

SIZE, EPOCHS, SEEDS = 320, 100, 3
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
CHROMIUM = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")


def predicted(mask: np.ndarray, num_classes: int, quality: float, rng: np.random.Generator) -> np.ndarray:
    """Returns a prediction for a mask (h, w) that is the better the nearer `quality` is to 1."""
    size = mask.shape[::-1]

    def field(cells: int) -> np.ndarray:
        return cv2.resize(rng.standard_normal((cells, cells)).astype(np.float32), size, interpolation=cv2.INTER_CUBIC)

    rows, columns = np.indices(mask.shape, dtype=np.float32)
    shift = 14 * (1 - quality)
    moved = cv2.remap(mask, columns + shift * field(12), rows + shift * field(12), cv2.INTER_NEAREST)
    moved[moved >= num_classes] = 0
    wrong = field(6) + 0.5 * field(40) > 1.2 * quality
    blobs = np.floor(np.abs(3 * field(4))).astype(np.uint8) % num_classes
    return np.where(wrong, blobs, moved)


def write_run(folder: Path, lr: float, width: float, seed: int, masks: list[np.ndarray], classes: list[str]) -> None:
    """Writes a finished run's folder."""
    rng = np.random.default_rng([seed, int(1e6 * lr), int(100 * width)])
    quality = min(0.95, 0.35 + 0.5 * width - 20 * abs(lr - 1e-3) + rng.normal(0, 0.02))
    words = ["data=shapes", f"data.crop_size={SIZE}", f"optimizer.lr={lr}", f"model.width={width}", f"seed={seed}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", words, return_hydra_config=True)
    choices = {key: value for key, value in cfg.hydra.runtime.choices.items() if not key.startswith("hydra/")}
    cfg = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    cfg.run_dir = str(folder)
    save_config(cfg, words, folder)
    (folder / "evaluation" / "test" / "predictions").mkdir(parents=True)
    confusion = []
    for i, mask in enumerate(masks):
        preds = predicted(mask, len(classes), quality, rng)
        save_mask(preds, folder / "evaluation" / "test" / "predictions" / f"test_{i:05d}.png", len(classes))
        scored = mask < len(classes)
        pairs = mask[scored].astype(int) * len(classes) + preds[scored]
        confusion.append(np.bincount(pairs, minlength=len(classes) ** 2).reshape(len(classes), -1))
    confusion = np.stack(confusion)
    total = confusion.sum(0)
    iou = total.diagonal() / (total.sum(0) + total.sum(1) - total.diagonal())
    scores = {"miou": float(iou.mean()), "classes_scored": len(classes), "iou": dict(zip(classes, iou, strict=True))}
    metrics = {"split": "test", "num_images": len(masks), "protocol": "full", **scores}
    metrics["pixel_accuracy"] = float(total.diagonal().sum() / total.sum())
    (folder / "evaluation" / "test" / "metrics.json").write_text(json.dumps(metrics))
    names = np.array([f"test_{i:05d}" for i in range(len(masks))])
    np.savez_compressed(folder / "evaluation" / "test" / "confusion.npz", names=names, confusion=confusion)
    write_curves(folder / "metrics.csv", metrics["miou"], rng)
    summary = {"status": "finished", "seed": seed, "protocol": "full", "choices": choices, "overrides": words}
    summary |= {"command": "python train.py " + " ".join(words), "git_commit": "0" * 40, "test_miou": metrics["miou"]}
    summary |= {"seconds": 900 * width, "parameters": int(2.8e7 * width**2), "gflops": 14 * width**2}
    write_summary(folder, summary)


def write_curves(path: Path, miou: float, rng: np.random.Generator) -> None:
    """Writes a metrics.csv that comes close to a score."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "val/miou", "val/loss", "train/miou", "train/loss", "images_seen"])
        for epoch in range(EPOCHS):
            rise, noise = 1 - 0.95**epoch, rng.normal(0, 0.01, 4)
            row = np.array([miou * rise, 2 - 1.5 * rise, miou * 1.2 * rise, 2 - 1.7 * rise]) + noise
            writer.writerow([epoch, *row, 1000 * (epoch + 1)])


def opening_times(page: Path, rounds: int = 5) -> list[float]:
    """Returns the milliseconds of each opening."""
    from playwright.sync_api import sync_playwright

    times = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(CHROMIUM))
        for _ in range(rounds):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            tab.goto(page.resolve().as_uri())
            times.append(tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
            tab.close()
        browser.close()
    return times


def main() -> None:
    """Writes the runs and the page, and prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--keep", type=Path, help="folder for the runs and the page; a temporary one if not given")
    arguments = parser.parse_args()
    register_resolvers()
    source = Shapes(SIZE, 1, 1, arguments.images, 0, 9)
    masks = [source.read("test", i)[1] for i in range(arguments.images)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        for number in range(arguments.runs):
            configuration, seed = divmod(number, SEEDS)
            lr, width = RATES[configuration % len(RATES)], round(0.2 * (1 + configuration // len(RATES)), 1)
            if not (folder / "sweep" / f"{number:03d}" / "summary.json").exists():
                write_run(folder / "sweep" / f"{number:03d}", lr, width, seed, masks, list(source.class_names))
        runs, _ = find_runs([folder / "sweep"])
        comparison = compare(group_runs(runs))
        page, start = folder / "report.html", time.perf_counter()
        write_report(
            comparison, page, title="Many runs", read_pair=lambda name: source.read("test", int(name.split("_")[1]))
        )
        seconds = time.perf_counter() - start
        print(f"{len(runs)} runs x {arguments.images} images: {page.stat().st_size / 1e6:.1f} MB in {seconds:.1f} s")
        times = opening_times(page)
        print(f"opens in {statistics.median(times):.0f} ms (median of {', '.join(f'{t:.0f}' for t in times)})")


if __name__ == "__main__":
    main()
