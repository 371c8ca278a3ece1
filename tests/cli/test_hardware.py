"""What `auto` and other words for the hardware stand for, and checks that follow from it."""

import pytest
from omegaconf import OmegaConf

from seglab.cli.checks import check_shares
from seglab.cli.hardware import num_processes, resolve_precision
from seglab.errors import InputError


@pytest.mark.parametrize(
    ("devices", "nodes", "expected"),
    [(1, 1, 1), ("2", 1, 2), (3, 2, 6), ([0, 2], 1, 2), ("0,2", 1, 2), ("0,", 1, 1), ("auto", 1, 1), (-1, 1, 1)],
)
def test_processes_are_counted_whatever_names_the_devices(devices, nodes, expected):
    trainer = {"devices": devices, "num_nodes": nodes, "accelerator": "cpu"}
    assert num_processes(OmegaConf.create({"trainer": trainer})) == expected


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
