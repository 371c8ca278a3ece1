"""From the composed config to built objects; the only place where run-time values meet the config's nodes."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from seglab.cli.build_loss import build_loss
from seglab.cli.hardware import resolve_precision, resolve_strategy, resolve_workers, starts_its_own_in_slurm
from seglab.errors import InputError

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from seglab.data import SegmentationDataModule
    from seglab.data.train_samples import ProgressiveResize
    from seglab.models import FisherClassifier, Segmenter
    from seglab.task import SegmentationTask

log = logging.getLogger(__name__)


def build_datamodule(cfg: DictConfig) -> "SegmentationDataModule":
    """Builds the datamodule; a renamed argument of an augmentation is an error, not a warning."""
    from seglab.data import Augmentation, SegmentationDataModule, TrainSamples
    from seglab.data.augment import refuse_unknown_arguments

    data, plain = cfg.data, OmegaConf.to_container(cfg.data, resolve=True)  # where older runs lack later keys
    with refuse_unknown_arguments():
        transforms = [
            instantiate(node, _convert_="all") for node in cfg.augment.transforms.values() if node is not None
        ]
    samples = TrainSamples(
        crop=data.crop,
        crop_size=data.crop_size,
        crop_sizes=plain.get("crop_sizes"),
        progressive_resize=progressive_resize(plain.get("progressive_resize")),
        scale=plain.get("scale"),
        augment=Augmentation(transforms, data.ignore_index),
        mix=instantiate(cfg.get("mix"), _convert_="all"),
        repeat_threshold=plain.get("repeat_threshold"),
        seed=cfg.seed,
    )
    return SegmentationDataModule(
        source=instantiate(data.source, _convert_="all"),
        samples=samples,
        resize=data.resize,
        protocol=cfg.protocol,
        batch_size=data.batch_size,
        num_workers=resolve_workers(data.num_workers, cfg.trainer.accelerator),
        cache_mb=data.cache_mb,
    )


def progressive_resize(values: Any) -> "ProgressiveResize | None":
    """Returns how training crops grow, from data.progressive_resize.

    Raises:
        InputError: It is no mapping of the names that there are.
    """
    from seglab.data.train_samples import ProgressiveResize

    if values is None:
        return None
    default = vars(ProgressiveResize())
    if not isinstance(values, dict) or not values.keys() <= default.keys():
        example = ",".join(f"{name}:{value}" for name, value in default.items())
        raise InputError(f"data.progressive_resize={values}: give 'data.progressive_resize={{{example}}}', or null")
    return ProgressiveResize(**values)


def build_model(
    cfg: DictConfig, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> "Segmenter":
    """Builds the network, the decoder on the encoder's channels.

    Args:
        cfg: The composed config.
        mean: Of the training data's channels, in [0, 1]; a pretrained encoder's own goes before it. None for a network
            that is going to take its whole state from a checkpoint: no pretrained weights are read for it.
        std: As `mean`.

    Raises:
        InputError: Encoder, decoder and heads do not fit each other.
    """
    from seglab.models import Segmenter

    no_weights = {"weights": None} if mean is None and "weights" in cfg.model.encoder else {}
    encoder = instantiate(cfg.model.encoder, _convert_="all", **no_weights)
    mean = getattr(encoder, "mean", None) or mean or [0.0] * 3
    std = getattr(encoder, "std", None) or std or [1.0] * 3
    try:
        decoder = instantiate(cfg.model.decoder, _convert_="all")(channels=encoder.channels, strides=encoder.strides)
        return Segmenter(
            encoder,
            decoder,
            cfg.data.num_classes,
            dropout=cfg.model.dropout,
            mean=mean,
            std=std,
            auxiliary_weights=auxiliary_weights(cfg),
            object_classifier=build_object_classifier(cfg),
        )
    except ValueError as error:
        raise InputError(f"model={cfg.model.name}: {error}") from None


def build_object_classifier(cfg: DictConfig) -> "FisherClassifier | None":
    """Builds what gives a second opinion on the objects, if anything does.

    Raises:
        InputError: A value is out of range.
    """
    if cfg.model.get("object_classifier") is None:
        return None
    try:
        return instantiate(cfg.model.object_classifier, _convert_="all")(cfg.data.num_classes)
    except ValueError as error:
        raise InputError(f"model.object_classifier: {error}") from None


def auxiliary_weights(cfg: DictConfig) -> dict[int, float]:
    """Returns the loss weights of auxiliary heads by the stride of their features.

    Raises:
        InputError: They are no numbers by stride.
    """
    weights = cfg.model.get("auxiliary_weights") or {}
    try:
        return {int(stride): float(weight) for stride, weight in weights.items()}
    except (AttributeError, TypeError, ValueError):
        raise InputError(
            f"model.auxiliary_weights={weights}: give weights by stride, such as 'model.auxiliary_weights={{16: 0.4}}'"
        ) from None


def build_task(
    cfg: DictConfig, mean: Sequence[float] | None, std: Sequence[float] | None, weights: list[float] | None
) -> "SegmentationTask":
    """Builds the LightningModule around the network, with its loss, optimizer and scheduler.

    Mean and std are those of `build_model`; of a run that goes on, the checkpoint has them.
    """
    import torch

    from seglab.task import SegmentationTask

    # Lightning clips no gradients of a fused optimizer in mixed precision.
    clipping = {"fused": False} if cfg.trainer.gradient_clip_val and "fused" in cfg.optimizer else {}
    scheduler = OmegaConf.to_container(cfg.scheduler, resolve=True)
    monitor = scheduler.pop("monitor", "val/loss")
    optimizer = instantiate(cfg.optimizer, _convert_="all", **clipping)
    try:
        optimizer([torch.zeros(1)])  # which says now, and not when the fit starts, what is wrong with its values
    except (TypeError, ValueError) as error:
        raise InputError(f"optimizer: {error}") from None
    return SegmentationTask(
        model=build_model(cfg, mean, std) if cfg.resume is None else build_model(cfg),
        loss=build_loss(cfg, weights),
        class_names=list(cfg.data.class_names),
        ignore_index=cfg.data.ignore_index,
        optimizer=optimizer,
        scheduler=instantiate(scheduler, _convert_="all") if scheduler else None,
        monitor=monitor,
        fine_tuning=instantiate(cfg.model.get("fine_tuning")),
    )


def build_trainer(
    cfg: DictConfig, model: "Segmenter", callbacks: list["pl.Callback"], loggers: list[Any]
) -> "pl.Trainer":
    """Builds the trainer of a network with whole-file checkpoints."""
    from pytorch_lightning.plugins.environments import LightningEnvironment

    from seglab.task import AtomicCheckpointIO

    return instantiate(
        cfg.trainer,
        strategy=resolve_strategy(cfg, model),
        precision=resolve_precision(cfg.trainer.precision, cfg.trainer.accelerator),
        callbacks=callbacks,
        logger=loggers,
        plugins=[AtomicCheckpointIO(), *([LightningEnvironment()] if starts_its_own_in_slurm() else [])],
        default_root_dir=cfg.run_dir,
    )


def build_callbacks(cfg: DictConfig) -> list["pl.Callback"]:
    """Builds every callback that is not null, and the averaging of weights."""
    nodes = [*cfg.callbacks.values(), cfg.get("averaging")]
    return [instantiate(node, _convert_="all") for node in nodes if node is not None]
