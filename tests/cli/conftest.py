import http.server
import importlib.util
import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from seglab.cli.resolvers import register_resolvers

SMALL = ["model=unet4", "model.width=0.02", "data.source.train=8", "data.source.val=4", "data.source.test=4"]
SMALL += ["data.crop_size=32", "data.batch_size=4", "trainer.max_epochs=2", "callbacks.strips.every_n_epochs=1"]
KEY = "0" * 40
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def wandb_sweep(once):
    """Two jobs that work and, between them, one that diverges; their folders are lr=0.001, lr=1e+30 and lr=0.01.

    They are started as on a cluster where its launcher is there.
    """
    words = ["optimizer.lr=1e-3,1e30,1e-2", *SMALL, "logger.wandb.tags=[mine]"]
    if importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher"):
        words += ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"]
    return once("lr", "hydra.sweep.dir", "-m", *words)


@pytest.fixture(scope="session")
def photographs(trained, tmp_path_factory):
    """The test images of the run `trained`, as files."""
    folder = tmp_path_factory.mktemp("photographs")
    register_resolvers()
    source = instantiate(OmegaConf.load(trained / ".hydra" / "config.yaml").data.source, _convert_="all")
    for place, name in enumerate(source.names("test")):
        Image.fromarray(source.read("test", place)[0]).save(folder / f"{name}.png")
    return folder


class Answers(http.server.BaseHTTPRequestHandler):
    """What W&B's client must hear to upload runs and to save a report."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        answer = {}
        if self.path.endswith("/file_stream"):
            self.server.stream(self.path.split("/")[-2], json.loads(body).get("files") or {})
        elif self.path == "/graphql":
            question = json.loads(body)
            answer = {"data": self.server.answer(question["query"], question.get("variables") or {})}
        self.reply(200, answer)

    do_PUT = do_GET = do_POST

    def reply(self, status, answer):
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


class RefusesTheKey(Answers):
    """A server that knows no key."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.reply(401, {"errors": [{"message": "invalid key"}]})

    do_PUT = do_GET = do_POST


class Server(http.server.ThreadingHTTPServer):
    """Keeps the history of each run, by id, and the reports."""

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.history, self.reports = {}, []
        self.environment = {"WANDB_BASE_URL": f"http://127.0.0.1:{self.server_port}", "WANDB_API_KEY": KEY}

    def stream(self, run, files):
        for name, part in files.items():
            if name == "wandb-history.jsonl":
                lines = self.history.setdefault(run, [])
                assert part["offset"] == len(lines)
                lines += map(json.loads, part["content"])

    def answer(self, query, variables):
        project = {"id": "p", "internalId": "p", "name": "seglab", "entityName": "me"}
        project["entity"] = {"id": "e", "name": "me"}
        if "upsertView" in query:
            self.reports.append(variables)
            view = {key: variables[key] for key in ("name", "displayName", "description", "spec")}
            return {"upsertView": {"view": view | {"id": "v", "type": "runs", "project": project}, "inserted": True}}
        if "upsertBucket" in query:
            count = len(self.history.get(variables["name"], []))
            bucket = {"id": "b", "name": variables["name"], "historyLineCount": count, "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if "createArtifact(" in query:
            return {"createArtifact": {"artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": {"id": "s"}}}}
        if "createRunFiles" in query:
            url = self.environment["WANDB_BASE_URL"] + "/upload"
            files = [{"name": name, "uploadUrl": url} for name in variables["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        if "models(" in query:
            project |= {"createdAt": "2020-01-01T00:00:00", "isBenchmark": False, "user": None}
            return {
                "models": {
                    "edges": [{"node": project, "cursor": "c"}],
                    "pageInfo": {"endCursor": None, "hasNextPage": False},
                }
            }
        return {"viewer": {"id": "u", "entity": "me", "username": "me", "teams": {"edges": []}}, "project": project}


@pytest.fixture
def start_server():
    """Starts a server that stands in for W&B's, with the answers of a class."""
    servers = []

    def start(handler=Answers):
        servers.append(Server(handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def wandb_server(start_server):
    """A server that takes uploads and reports."""
    return start_server(Answers)


@pytest.fixture
def refusing_server(start_server):
    """A server that knows no key."""
    return start_server(RefusesTheKey)


@pytest.fixture
def refused(tmp_path, call):
    """Runs a command and returns what it says on stderr; it must end with status 2 and before any training."""

    def run(command, *words):
        given = command != "train" or any(word.startswith(("hydra.run.dir", "resume")) for word in map(str, words))
        status, _, said = call(command, *words, *([] if given else [f"hydra.run.dir={tmp_path / 'run'}"]))
        assert status == 2
        assert "Traceback" not in said and "Error executing job" not in said
        assert said.strip().startswith("error: ")
        assert not (tmp_path / "run" / "checkpoints").exists(), "training has started"
        return said

    return run


HOLD = """
import sys
from pathlib import Path
from seglab.cli import job
with job.lock(Path(sys.argv[1])) as free: print(free, flush=True); input()
"""


@pytest.fixture
def held(environment):
    """Holds a folder's lock in another process, as a training does, for a block."""

    @contextmanager
    def hold(folder):
        line = [sys.executable, "-c", HOLD, str(folder)]
        with subprocess.Popen(line, stdin=-1, stdout=-1, text=True, cwd=ROOT, env=environment) as other:
            assert other.stdout.readline() == "True\n"
            yield
            other.communicate("\n")

    return hold
