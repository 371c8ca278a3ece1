"""What `auto` stands for in the trainer's and the loader's keys, on this machine, and who starts the processes."""

import os
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from seglab.cli.stamp import cores
from seglab.errors import InputError
from seglab.numeric import is_whole

if TYPE_CHECKING:
    from seglab.models import Segmenter


def resolve_precision(precision: str | int, accelerator: str) -> str | int:
    """Returns the trainer's precision; `auto` becomes bf16-mixed where the hardware is faster in it, else 32-true.

    On a CPU that is Intel's AMX, and AVX-512's bf16 as AMD builds it; Intel's AVX-512 bf16 without AMX is the slower
    one (docs/speed.md has figures).

    Raises:
        InputError: Weights and sums would have 16 bits.
    """
    import torch

    if str(precision) in ("16-true", "bf16-true", "transformer-engine", "transformer-engine-float16"):
        raise InputError(
            f"trainer.precision={precision} keeps sums and averages in 16 bits, too few for them: give bf16-mixed, "
            "16-mixed or 32-true"
        )
    if precision != "auto":
        return {"bf16": "bf16-mixed", "16": "16-mixed", "32": "32-true", "64": "64-true"}.get(str(precision), precision)
    if uses_gpu(accelerator):
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    cpu = torch.cpu.get_capabilities() if accelerator in ("auto", "cpu") else {}
    fast = cpu.get("amx_bf16") or (cpu.get("avx512_bf16") and "AMD" in cpu.get("cpu_name", ""))
    return "bf16-mixed" if fast else "32-true"


def resolve_workers(num_workers: int | str, accelerator: str) -> int | str:
    """Returns the number of processes that prepare samples; `auto` becomes a number.

    None on a CPU, whose cores the network needs itself; for a GPU the cores that this process may use less one for the
    training, at most 8.
    """
    if num_workers != "auto":
        return num_workers
    return min(cores() - 1, 8) if uses_gpu(accelerator) else 0


def uses_gpu(accelerator: str) -> bool:
    """Returns whether the trainer runs on a GPU with this accelerator."""
    import torch

    return torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda")


def check_accelerator(accelerator: str) -> None:
    """Refuses a GPU where none can be used.

    Raises:
        InputError: Naming the key.
    """
    if accelerator not in ("gpu", "cuda"):
        return
    import torch

    if not (torch.cuda.is_available() or (accelerator == "gpu" and torch.backends.mps.is_available())):
        raise InputError(f"trainer.accelerator={accelerator}: no GPU can be used here; leave it out, or give cpu")


def check_devices(cfg: DictConfig) -> None:
    """Refuses a training on no device.

    Raises:
        InputError: Naming the key.
    """
    devices, nodes = cfg.trainer.get("devices", 1), cfg.trainer.get("num_nodes", 1)
    if not (is_whole(nodes) and nodes >= 1):
        raise InputError(f"trainer.num_nodes={nodes}: give the number of machines, from 1 on")
    if isinstance(devices, bool | float) or devices is None or num_processes(cfg) < 1:
        raise InputError(f"trainer.devices={devices}: give a number from 1 on, a list such as [0,1], or -1 for all")


def num_processes(cfg: DictConfig) -> int:
    """Returns how many processes train, one for each of `trainer.devices` on each node."""
    import torch

    devices = cfg.trainer.get("devices", 1)
    if devices in ("auto", -1, "-1"):
        devices = torch.cuda.device_count() if uses_gpu(cfg.trainer.accelerator) else 1
    elif str(devices).isdecimal():
        devices = int(devices)
    else:  # a list of devices, or a text such as 0,1
        devices = len(devices.strip(",").split(",") if isinstance(devices, str) else devices)
    return devices * cfg.trainer.get("num_nodes", 1)


def is_first_process() -> bool:
    """Returns whether this is the first of the processes that train, or the one that starts them.

    They are told by Lightning (LOCAL_RANK, NODE_RANK), torchrun (RANK), or Slurm where it starts one for each device.
    """
    return all(os.environ.get(rank, "0") == "0" for rank in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def starts_its_own_in_slurm() -> bool:
    """Returns whether this runs in a Slurm job of one task and training has to start its processes itself.

    Lightning would wait there for processes that Slurm has not started. Those of torchrun are there already.
    """
    from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    alone = os.environ.get("SLURM_NTASKS") == "1" and SLURMEnvironment.detect()
    return alone and not TorchElasticEnvironment.detect()


def resolve_strategy(cfg: DictConfig, model: "Segmenter") -> str:
    """Returns the trainer's strategy; `auto` on several devices expects parameters that get no gradient, if there are.

    DDP ends with an error at the second step otherwise. They are those of a backbone while `frozen_epochs` lasts, and
    those of layers whose output the decoder does not read.
    """
    from seglab.models import idle_parameters

    if cfg.trainer.strategy != "auto":
        return cfg.trainer.strategy
    if num_processes(cfg) == 1:
        return "auto"
    frozen = OmegaConf.select(cfg, "model.fine_tuning.frozen_epochs")
    return "ddp_find_unused_parameters_true" if frozen or idle_parameters(model) else "auto"
