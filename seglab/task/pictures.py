"""Pictures of masks and scores: strips of image | label | prediction, overlays, and the confusion matrix."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from seglab.data.labels import colormap

BOUNDARY_COLOR = (224, 224, 192)  # PASCAL's colour of its void label
UNPREDICTED = 255  # in a prediction's picture: outside the window that was scored


def palette(num_classes: int) -> np.ndarray:
    """Returns colours uint8 (256, 3): PASCAL's for the classes, its void colour for the boundary and all above."""
    colors = np.full((256, 3), BOUNDARY_COLOR, dtype=np.uint8)
    colors[:num_classes] = colormap(num_classes)
    return colors


def save_mask(mask: np.ndarray, file: Path | BinaryIO, num_classes: int) -> None:
    """Writes class indices uint8 (h, w) as a palette PNG; reading it gives the same indices back."""
    picture = Image.new("P", (mask.shape[1], mask.shape[0]))
    picture.frombytes(np.ascontiguousarray(mask).tobytes())
    picture.putpalette(palette(num_classes).tobytes())
    picture.save(file, format="PNG")


def overlay(image: np.ndarray, mask: np.ndarray, num_classes: int, opacity: float = 0.5) -> np.ndarray:
    """Returns the photograph uint8 (h, w, 3) with every class but the first laid over it in its colour."""
    blended = np.array(Image.blend(Image.fromarray(image), Image.fromarray(palette(num_classes)[mask]), opacity))
    left = (mask == 0) | (mask >= num_classes)
    blended[left] = image[left]
    return blended


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def legend(class_names: Sequence[str], width: int) -> Image.Image:
    """Returns a band of colour swatches with the class names, wrapped to `width` pixels; the boundary comes last."""
    font, size, gap = _font(13), 14, 10
    colors = palette(len(class_names))
    names = [*class_names, "boundary"]
    x, y, places = gap, 6, []
    for name in names:
        length = size + 5 + int(font.getlength(name)) + gap
        if x + length > width and x > gap:
            x, y = gap, y + size + 8
        places.append((x, y))
        x += length
    band = Image.new("RGB", (width, y + size + 8), "white")
    draw = ImageDraw.Draw(band)
    for index, (name, (x, y)) in enumerate(zip(names, places, strict=True)):
        draw.rectangle((x, y, x + size, y + size), fill=tuple(int(c) for c in colors[index]), outline="gray")
        draw.text((x + size + 5, y + size / 2), name, fill="black", font=font, anchor="lm")
    return band


def strips(
    rows: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]], class_names: Sequence[str], height: int = 160
) -> Image.Image:
    """Returns rows of image | label | prediction with a heading and a legend of the class names.

    Args:
        rows: For each row its name, image uint8 (h, w, 3), mask and preds uint8 (h, w).
        class_names: Names of the classes.
        height: Height of each row in pixels.
    """
    colors = palette(len(class_names))
    pictures = []
    for name, image, mask, preds in rows:
        tiles = [Image.fromarray(image), Image.fromarray(colors[mask]), Image.fromarray(colors[preds])]
        width = max(1, round(height * image.shape[1] / image.shape[0]))
        resampling = (Image.Resampling.BICUBIC, Image.Resampling.NEAREST, Image.Resampling.NEAREST)
        pictures.append((name, [tile.resize((width, height), r) for tile, r in zip(tiles, resampling, strict=True)]))
    gap, heading = 6, 22
    column = max(tiles[0].width for _, tiles in pictures)
    total = max(3 * column + 4 * gap, 420)
    band = legend(class_names, total)
    sheet = Image.new("RGB", (total, heading + len(rows) * (height + gap + 16) + band.height), "white")
    draw, font = ImageDraw.Draw(sheet), _font(13)
    for index, title in enumerate(("image", "label", "prediction")):
        draw.text((gap + index * (column + gap) + column / 2, heading / 2), title, "black", font, anchor="mm")
    y = heading
    for name, tiles in pictures:
        for index, tile in enumerate(tiles):
            sheet.paste(tile, (gap + index * (column + gap) + (column - tile.width) // 2, y))
        draw.text((gap, y + height + 8), name, "dimgray", _font(11), anchor="lm")
        y += height + gap + 16
    sheet.paste(band, (0, y))
    return sheet


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[tuple[np.ndarray, np.ndarray]]]],
    headings: Sequence[str],
    class_names: Sequence[str],
    side: int = 160,
) -> Image.Image:
    """Returns samples in a grid, each above itself with its mask laid over it; what is not scored is painted over.

    Args:
        rows: For each row its name and its samples, image uint8 (h, h, 3) and mask uint8 (h, h).
        headings: One for each column.
        class_names: Names of the classes.
        side: Of each tile in pixels.
    """
    gap, heading, below = 6, 22, 22
    step = 2 * side + below
    width = len(headings) * (side + gap) + gap
    band = legend(class_names, width)
    sheet = Image.new("RGB", (width, heading + len(rows) * step + band.height), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(headings):
        draw.text((gap + column * (side + gap) + side / 2, heading / 2), title, "black", _font(13), anchor="mm")
    for row, (name, samples) in enumerate(rows):
        y = heading + row * step
        for column, (image, mask) in enumerate(samples):
            laid_over = overlay(image, mask, len(class_names))
            laid_over[mask >= len(class_names)] = BOUNDARY_COLOR
            for line, tile in enumerate((image, laid_over)):
                resized = Image.fromarray(tile).resize((side, side), Image.Resampling.BICUBIC)
                sheet.paste(resized, (gap + column * (side + gap), y + line * side))
        draw.text((gap, y + 2 * side + below / 2 - 2), name, "dimgray", _font(11), anchor="lm")
    sheet.paste(band, (0, sheet.height - band.height))
    return sheet


def save_confusion(confusion: np.ndarray, class_names: Sequence[str], path: Path, title: str) -> None:
    """Draws a confusion matrix int64 (K, K) with each row as shares of its label's pixels."""
    from matplotlib.figure import Figure
    from matplotlib.textpath import TextPath

    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    # Margins by rule: matplotlib's own layouts draw all twice, and a short training's pictures are a third of its time.
    longest = max(TextPath((0, 0), name, size=10).get_extents().width for name in class_names) / 72  # inches
    names, side = 0.5 + longest, max(3, 0.55 * len(class_names) + 0.6)
    width, height = names + side + 1.4, 0.8 * names + side + 0.9
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((names / width, (0.8 * names + 0.4) / height, side / width, side / height))
    bar = figure.add_axes(((names + side + 0.2) / width, (0.8 * names + 0.4) / height, 0.2 / width, side / height))
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(class_names))
    axes.set_xticks(ticks, class_names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, class_names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("labelled")
    axes.set_title(title)
    for row, column in np.argwhere(shares >= 0.005):
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(
            column, row, f"{shares[row, column]:.2f}".lstrip("0"), ha="center", va="center", color=color, fontsize=8
        )
    figure.colorbar(picture, bar, label="share of the label's pixels")
    figure.savefig(path, dpi=120)


def save_reliability(sums: np.ndarray, path: Path, title: str) -> None:
    """Draws the share of right pixels at each confidence, and below it how many pixels are so confident.

    Args:
        sums: (bins, 4), as `calibration_sums` returns them.
        path: The PNG to write.
        title: Stands above.
    """
    from matplotlib.figure import Figure

    used, width = sums[:, 0] > 0, 1 / len(sums)
    centers = (np.flatnonzero(used) + 0.5) * width
    pixels, confidence, hits, _ = sums[used].T
    right, sure = hits / pixels, confidence / pixels
    figure = Figure(figsize=(5.2, 6.2))
    margins = {"left": 0.13, "right": 0.97, "bottom": 0.08, "top": 0.94, "hspace": 0.08}
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1], gridspec_kw=margins)
    above.bar(centers, right, width, color="tab:blue", edgecolor="white", label="right")
    above.bar(
        centers, sure - right, width, right, color="none", edgecolor="tab:red", hatch="///", label="gap to confidence"
    )
    above.plot([0, 1], [0, 1], color="gray", linestyle="--", linewidth=1)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of right pixels", title=title)
    above.legend(loc="upper left")
    below.bar(centers, pixels / pixels.sum(), width, color="tab:gray", edgecolor="white")
    below.set(ylim=(0, 1), xlabel="confidence", ylabel="share of pixels")
    figure.savefig(path, dpi=120)
