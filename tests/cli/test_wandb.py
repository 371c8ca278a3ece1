"""The offline W&B file of a run, read back record by record with the client's own message types."""

import http.server
import json
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from wandb.proto import wandb_internal_pb2

ROOT = Path(__file__).resolve().parents[2]
BLOCK = 32768
FULL, FIRST, LAST = 1, 2, 4


def records(path):
    """The messages of a .wandb file, which is a LevelDB log behind a header of 7 bytes."""
    data, place, part = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:  # too little room for a header: the rest of the block is padding
            place += BLOCK - place % BLOCK
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        body = data[place + 7 : place + 7 + length]
        place += 7 + length
        part = body if kind in (FULL, FIRST) else part + body
        if kind in (FULL, LAST):
            message = wandb_internal_pb2.Record()
            message.ParseFromString(part)
            yield message


def read(run):
    [path] = (run / "wandb").glob("offline-run-*/*.wandb")
    found = {"history": [], "config": {}, "files": [], "exit": None, "group": None, "id": None}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["group"], found["id"] = record.run.run_group, record.run.run_id
            updates = record.run.config.update
        elif kind == "config":
            updates = record.config.update
        else:
            updates = []
        found["config"] |= {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in updates}
        if kind == "history":
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            found["history"].append(row)
        elif kind == "files":
            found["files"] += [file.path for file in record.files.files]
        elif kind == "exit":
            found["exit"] = record.exit.exit_code
    return found


@pytest.fixture(scope="module")
def sweep(command, tmp_path_factory):
    """Two jobs that work and, between them, one that diverges."""
    folder = tmp_path_factory.mktemp("sweep") / "lr"
    words = ["model=unet4", "model.width=0.02", "data.source.train=8", "data.source.val=4", "data.source.test=4"]
    words += ["data.crop_size=32", "data.batch_size=4", "trainer.max_epochs=2", "callbacks.strips.every_n_epochs=1"]
    done = command("train.py", "-m", "optimizer.lr=1e-3,1e30,1e-2", *words, f"hydra.sweep.dir={folder}")
    return folder, done


def test_each_job_of_a_sweep_has_its_own_run_with_config_history_images_table_and_exit_code(sweep):
    folder, _ = sweep
    runs = [read(folder / str(job)) for job in range(3)]
    assert len({run["id"] for run in runs}) == 3
    assert {run["group"] for run in runs} == {"lr"}
    assert [run["config"]["optimizer.lr"] for run in runs] == [1e-3, 1e30, 1e-2]
    assert [run["exit"] for run in runs] == [0, 1, 0]
    for job in (0, 2):
        run = runs[job]
        assert run["config"]["model.name"] == "unet4"
        history = run["history"]
        assert [row["epoch"] for row in history if "train/miou" in row] == [0, 1]
        keys = {key.removesuffix("/_type") for row in history for key in row}
        wanted = {"lr", "train/loss", "train/images_per_second", "images_seen", "val/loss", "val/miou", "val/iou/disc"}
        assert wanted | {"test/miou", "test/iou/disc", "predictions", "test/iou_per_class"} <= keys
        rows = (folder / str(job) / "metrics.csv").read_text().splitlines()
        assert len(rows) == 3
        miou = float(rows[2].split(",")[rows[0].split(",").index("val/miou")])
        logged = [row["val/miou"] for row in history if "val/miou" in row]
        assert logged[-1] == pytest.approx(miou, nan_ok=True)
        assert sum("images/predictions" in path for path in run["files"]) == 2
        assert any("table/test/iou_per_class" in path for path in run["files"])


def test_a_failing_job_leaves_the_others_alone_and_the_sweep_says_so(sweep):
    folder, done = sweep
    assert done.returncode == 2
    assert "optimizer.lr=1e+30" in done.stderr and "diverged" in done.stderr and "Traceback" not in done.stderr
    states = [json.loads((folder / str(job) / "summary.json").read_text())["status"] for job in range(3)]
    assert states == ["finished", "failed", "finished"]


def test_without_a_key_there_is_one_warning_with_the_command_that_uploads(sweep):
    folder, _ = sweep
    log = (folder / "0" / "train.log").read_text()
    assert log.count("W&B is offline") == 1
    assert f"wandb sync {folder}/0/wandb/offline-run-*" in log


def test_a_server_that_does_not_answer_is_a_reason_to_stay_offline(environment):
    closed = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    closed.close()
    key = {"WANDB_BASE_URL": address, "WANDB_API_KEY": "0" * 40}
    code = "from seglab.cli.loggers import wandb_offline_reason; print(wandb_offline_reason())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment | key, capture_output=True, text=True, check=True)
    assert "127.0.0.1 does not answer" in done.stdout


class RefusesTheKey(http.server.BaseHTTPRequestHandler):
    """A W&B server that knows no key."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(401)
        answer = b'{"errors": [{"message": "invalid key"}]}'
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST

    def log_message(self, *arguments):
        pass


def test_a_refused_key_keeps_the_run_offline(environment, tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), RefusesTheKey)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    key = {"WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}", "WANDB_API_KEY": "0" * 40}
    words = ["model=unet4", "model.width=0.02", "data.source.train=4", "data.source.val=2", "data.source.test=2"]
    words += ["data.crop_size=32", "data.batch_size=2", "trainer.max_epochs=1", f"hydra.run.dir={tmp_path / 'run'}"]
    command = [sys.executable, "train.py", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment | key, capture_output=True, text=True, timeout=200)
    server.shutdown()
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "run" / "train.log").read_text()
    assert log.count("W&B refused (invalid key)") == 1 and "wandb sync" in log
    assert read(tmp_path / "run")["exit"] == 0
