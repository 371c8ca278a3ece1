"""What `auto` and other words for the hardware stand for, and checks that follow from it."""

import pytest
from omegaconf import OmegaConf

from seglab.cli.checks import check_shares
from seglab.cli.hardware import is_first_process, num_processes, resolve_precision, starts_its_own_in_slurm
from seglab.errors import InputError


@pytest.mark.parametrize(
    ("devices", "nodes", "expected"),
    [(1, 1, 1), ("2", 1, 2), (3, 2, 6), ([0, 2], 1, 2), ("0,2", 1, 2), ("0,", 1, 1), ("auto", 1, 1), (-1, 1, 1)],
)
def test_processes_are_counted_whatever_names_the_devices(devices, nodes, expected):
    trainer = {"devices": devices, "num_nodes": nodes, "accelerator": "cpu"}
    assert num_processes(OmegaConf.create({"trainer": trainer})) == expected


@pytest.mark.parametrize(
    ("variables", "is_first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}, True),
        ({"RANK": "2", "LOCAL_RANK": "0", "GROUP_RANK": "1"}, False),  # torchrun's first on the second machine
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}, False),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),
    ],
)
def test_one_process_is_the_first_whoever_started_them(monkeypatch, variables, is_first):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_NTASKS", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() == is_first


@pytest.mark.parametrize(
    ("variables", "starts"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train"}, True),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "train"}, False),
        ({"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "TORCHELASTIC_RUN_ID": "1"}, False),
    ],
)
def test_processes_are_started_where_neither_slurm_nor_torchrun_has(monkeypatch, variables, starts):
    for name in ("SLURM_NTASKS", "SLURM_JOB_NAME", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert starts_its_own_in_slurm() == starts


def test_a_precision_has_one_name():
    assert [resolve_precision(name, "cpu") for name in ("bf16", 32, "16-mixed")] == [
        "bf16-mixed",
        "32-true",
        "16-mixed",
    ]


@pytest.mark.parametrize(("devices", "refused"), [(1, False), (2, True)])
def test_a_share_is_one_of_the_batches_of_each_process(devices, refused):
    cfg = OmegaConf.create({"trainer": {"devices": devices, "accelerator": "cpu", "limit_test_batches": 0.25}})
    if not refused:
        return check_shares(cfg, test=range(4))
    with pytest.raises(InputError, match="limit_test_batches=0.25 of 2 batches is less than one: .* at least 0.5$"):
        check_shares(cfg, test=range(4))
