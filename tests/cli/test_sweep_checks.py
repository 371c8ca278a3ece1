"""Mistakes of a sweep's jobs show before the first one starts, and what to do is said about those that come later."""

import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from seglab.cli import build, sweep
from seglab.cli.conf_groups import CONF
from seglab.cli.resolvers import register_resolvers
from seglab.cli.run_folder import write_summary
from seglab.cli.sweep_plan import START, Job, plan
from seglab.errors import InputError

POCKET = ["model=unet4", "model.width=0.02", "data.crop_size=32", "data.batch_size=4", "logger=csv"]


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Plans a sweep over two keys."""
    monkeypatch.setenv("SEGLAB_CACHE_DIR", str(tmp_path / "cache"))
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda *pairs: plan(tmp_path / "sweep", [[*POCKET, *pair] for pair in pairs])


def test_each_mistake_is_said_once_with_the_job_that_has_it(planned):
    with pytest.raises(InputError) as refused:
        planned(*([f"seed={seed}", f"trainer.max_epochs={epochs}"] for seed in ("0", "oops") for epochs in (0, 1)))
    assert str(refused.value).splitlines() == [
        "no job was started, since 3 would fail:",
        "seed=0-max_epochs=0: trainer.max_epochs=0: give a whole number of at least 1",
        "seed=oops-max_epochs=0 and 1 more: seed=oops: give a number, such as 0",
    ]
    with pytest.raises(InputError, match="^no job was started, since 9 would fail:\n(.*\n){5}and 4 other mistakes$"):
        planned(*([f"trainer.max_epochs={-epochs}"] for epochs in range(9)))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.dropout=2"], "model=unet4: dropout probability has to be between 0 and 1, but got 2"),
        (["optimizer.lr=-1"], "optimizer: Invalid learning rate: -1"),
        (["data.batch_size=0"], "data.batch_size=0: give a whole number of at least 1"),
        (["+data.batchsize=4"], "+data.batchsize=4: nothing reads such a key; did you mean data.batch_size"),
        (["model=unet_timm"], "model.encoder.name is not given"),
    ],
)
def test_what_shows_without_data_is_refused(planned, words, said):
    with pytest.raises(InputError) as refused:
        planned([], words, [*words, "seed=1"])
    assert str(refused.value).startswith("no job was started, since 2 would fail:\n")
    assert f" and 1 more: {said}" in str(refused.value)


def test_what_only_the_data_or_the_machine_shows_is_left_to_the_job(planned, monkeypatch):
    words = [["data=voc9", "data.root=/nowhere"], ["trainer.accelerator=gpu"], ["loss=weighted_cross_entropy"]]
    assert [each.action for each in planned(*words)] == [START] * 3
    whole = build.build_task

    def needs_values(*arguments):  # as a part does that reads a tensor as it is made
        torch.zeros(1).item()
        return whole(*arguments)

    monkeypatch.setattr(build, "build_task", needs_values)
    assert [each.action for each in planned(["seed=0"], ["model=unet6"])] == [START] * 2


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("optimizer=adam,adan", "error: optimizer=adan is not known: did you mean adam"),
        ("model.dropout=0,2", "error: no job was started, since 1 would fail:\ndropout=2: model=unet4: dropout prob"),
    ],
)
def test_as_a_user_sees_it(command, tmp_path, word, said):
    done = command("train.py", "-m", *POCKET, word, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith(said), done.stderr
    assert not [path for path in (tmp_path / "sweep").iterdir() if path.name != ".lock"]


@pytest.mark.parametrize(
    ("endings", "said"),
    [
        ([None, None], "seglab compare 'two words'   says which of them are better"),
        (["killed by SIGKILL", None], "1 of 2 jobs did not finish; the same command goes on with them."),
        (
            ["InputError: a.png is damaged", "OSError: the disk is full"],
            "2 of 2 jobs did not finish; 1 by a mistake: correct the words, or the file, that the error names; "
            "the same command goes on with the others.",
        ),
        (
            [None, "exit status 2"],
            "1 of 2 jobs did not finish; 1 by a mistake: correct the words, or the file, that the error names.",
        ),
    ],
)
def test_it_says_what_to_do_about_the_jobs(monkeypatch, tmp_path, capsys, endings, said):
    folder = tmp_path / "two words"
    monkeypatch.chdir(tmp_path)
    jobs = [Job([f"seed={number}"], f"seed={number}", START) for number in range(len(endings))]
    monkeypatch.setattr(sweep, "plan", lambda *_: jobs)
    for job, error in zip(jobs, endings, strict=True):
        (folder / job.folder).mkdir(parents=True)
        ending = {"status": "failed", "error": error} if error else {"status": "finished", "test_miou": 0.5}
        write_summary(folder / job.folder, ending)
    assert sweep.Sweep(folder, []).finish() == any(endings)
    assert capsys.readouterr().out == f"\n{said}\n"
