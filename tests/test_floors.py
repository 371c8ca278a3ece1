import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {"errors": 0, "numeric": 0, "replace_text": 0, "data": 1, "models": 2, "task": 3, "lab": 3, "cli": 4}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module


def test_an_import_only_ever_points_down():
    seen = 0
    for path in sorted((ROOT / "seglab").rglob("*.py")):
        here = path.relative_to(ROOT / "seglab").with_suffix("").parts[0]
        for module in imported(path):
            if not module.startswith("seglab."):
                continue
            there = module.split(".")[1]
            seen += 1
            if here in FLOORS and there != here:
                assert FLOORS[there] < FLOORS[here], f"{path.relative_to(ROOT)} imports {module}"
                assert (here, there) != ("models", "data"), f"{path.relative_to(ROOT)} imports {module}"
    assert seen > 20


def test_only_the_command_line_knows_hydra_and_only_the_task_and_datamodule_know_lightning():
    for path in (ROOT / "seglab").rglob("*.py"):
        floor = path.relative_to(ROOT / "seglab").parts[0]
        names = {module.split(".")[0] for module in imported(path)}
        if floor != "cli":
            assert not names & {"hydra", "omegaconf"}, path
        if floor not in ("task", "cli") and path.name != "datamodule.py":
            assert "pytorch_lightning" not in names, path
