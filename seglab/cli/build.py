"""From the composed config to built objects; the only place where run-time values meet the config's nodes."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from seglab.cli.stamp import cores
from seglab.errors import InputError

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from seglab.data import SegmentationDataModule
    from seglab.models import Segmenter
    from seglab.task import SegmentationTask

log = logging.getLogger(__name__)


def build_datamodule(cfg: DictConfig) -> "SegmentationDataModule":
    """Builds the datamodule; a renamed argument of an augmentation is an error, not a warning."""
    from seglab.data import Augmentation, SegmentationDataModule
    from seglab.data.augment import refuse_unknown_arguments

    data = cfg.data
    with refuse_unknown_arguments():
        transforms = [
            instantiate(node, _convert_="all") for node in cfg.augment.transforms.values() if node is not None
        ]
    return SegmentationDataModule(
        source=instantiate(data.source, _convert_="all"),
        resize=data.resize,
        crop=data.crop,
        crop_size=data.crop_size,
        protocol=cfg.protocol,
        augment=Augmentation(transforms, data.ignore_index),
        batch_size=data.batch_size,
        num_workers=resolve_workers(data.num_workers, cfg.trainer.accelerator),
        seed=cfg.seed,
        cache_mb=data.cache_mb,
    )


def build_model(cfg: DictConfig, mean: Sequence[float], std: Sequence[float]) -> "Segmenter":
    """Builds the network, the decoder on the encoder's channels; mean and std of the channels are in [0, 1]."""
    from seglab.models import Segmenter

    encoder = instantiate(cfg.model.encoder, _convert_="all")
    decoder = instantiate(cfg.model.decoder, _convert_="all")(channels=encoder.channels, strides=encoder.strides)
    return Segmenter(encoder, decoder, cfg.data.num_classes, dropout=cfg.model.dropout, mean=mean, std=std)


def class_weights(cfg: DictConfig, datamodule: "SegmentationDataModule") -> list[float] | None:
    """Returns one loss weight for each class, computed where the config names a rule.

    Raises:
        InputError: The list has another length than the classes, or the rule is unknown.
    """
    weights, count = cfg.loss.get("class_weights"), cfg.data.num_classes
    if weights is None:
        return None
    if weights == "inverse_area":
        return datamodule.statistics.inverse_area_weights()
    if isinstance(weights, str):
        raise InputError(
            f"loss.class_weights={weights} is unknown: give inverse_area, null or a list of {count} weights"
        )
    if len(weights) != count:
        names = ", ".join(cfg.data.class_names)
        raise InputError(
            f"loss.class_weights has {len(weights)} weights for {count} classes: give one for each of {names}"
        )
    if not all(isinstance(weight, int | float) for weight in weights):
        raise InputError(f"loss.class_weights={list(weights)}: give numbers")
    return [float(weight) for weight in weights]


def build_task(
    cfg: DictConfig, mean: Sequence[float], std: Sequence[float], weights: list[float] | None
) -> "SegmentationTask":
    """Builds the LightningModule around the network, with its loss, optimizer and scheduler."""
    from seglab.task import SegmentationTask

    # Lightning clips no gradients of a fused optimizer in mixed precision.
    clipping = {"fused": False} if cfg.trainer.gradient_clip_val and "fused" in cfg.optimizer else {}
    scheduler = OmegaConf.to_container(cfg.scheduler, resolve=True)
    monitor = scheduler.pop("monitor", "val/loss")
    return SegmentationTask(
        build_model(cfg, mean, std),
        instantiate(cfg.loss, _convert_="all", **({} if weights is None else {"class_weights": weights})),
        list(cfg.data.class_names),
        cfg.data.ignore_index,
        instantiate(cfg.optimizer, _convert_="all", **clipping),
        instantiate(scheduler, _convert_="all") if scheduler else None,
        monitor,
    )


def resolve_precision(precision: str | int, accelerator: str) -> str | int:
    """Returns the trainer's precision; `auto` becomes bf16-mixed where the hardware is faster in it, else 32-true.

    On a CPU that is Intel's AMX, and AVX-512's bf16 as AMD builds it; Intel's AVX-512 bf16 without AMX is the slower
    one (docs/speed.md has figures).
    """
    import torch

    if precision != "auto":
        return precision
    if torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda"):
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    cpu = torch.cpu.get_capabilities() if accelerator in ("auto", "cpu") else {}
    fast = cpu.get("amx_bf16") or (cpu.get("avx512_bf16") and "AMD" in cpu.get("cpu_name", ""))
    return "bf16-mixed" if fast else "32-true"


def resolve_workers(num_workers: int | str, accelerator: str) -> int | str:
    """Returns the number of processes that prepare samples; `auto` becomes a number.

    None on a CPU, whose cores the network needs itself; for a GPU the cores that this process may use less one for the
    training, at most 8.
    """
    import torch

    if num_workers != "auto":
        return num_workers
    uses_gpu = torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda")
    return min(cores() - 1, 8) if uses_gpu else 0


def build_trainer(cfg: DictConfig, callbacks: list["pl.Callback"], loggers: list[Any]) -> "pl.Trainer":
    """Builds the trainer with whole-file checkpoints."""
    from seglab.task import AtomicCheckpointIO

    return instantiate(
        cfg.trainer,
        precision=resolve_precision(cfg.trainer.precision, cfg.trainer.accelerator),
        callbacks=callbacks,
        logger=loggers,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=cfg.run_dir,
    )


def build_callbacks(cfg: DictConfig) -> list["pl.Callback"]:
    """Builds every callback that is not null."""
    return [instantiate(node, _convert_="all") for node in cfg.callbacks.values() if node is not None]
