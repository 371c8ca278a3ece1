"""Every mistake in the words of a command is answered in a line that names what is wrong and what to do."""

import pytest


def test_unknown_config_keys_and_choices_get_the_nearest_name(refused):
    assert "did you mean optimizer.lr" in refused("train", "optimizer.lrr=1")
    assert "did you mean model" in refused("train", "modle=unet6")
    assert "did you mean unet6" in refused("train", "model=unet66")
    assert "did you mean split" in refused("evaluate", "run=x", "splitt=val")
    said = refused("train", "augment=albu", "+augment.transforms.rotate.limitt=3", "logger=csv")
    assert "limitt" in said
    assert "mix=null: null is no choice of mix: leave it out, or give classmix" in refused("train", "mix=null")
    assert "data=base: base is no choice of data: leave it out, or give folder, shapes" in refused("train", "data=base")


def test_names_are_those_of_the_choices_given_or_of_the_choices_that_have_them(refused):
    assert "did you mean loss.gamma" in refused("train", "loss=focal", "loss.gama=1")
    assert "did you mean data.root" in refused("train", "data=folder", "data.rot=photos")
    assert "no key data.root: data=folder, voc, voc9, voc_vehicles have it; " in refused("train", "data.root=photos")
    assert "optimizer=rmsprop, sgd have it; " in refused("train", "optimizer.momentum=0.9")
    assert "the config has no key xyz: it has augment, " in refused("train", "xyz=1")
    said = refused("train", "experiment=scratch", "data=shapes", "model=unet6")  # the experiment names a backbone
    assert "model.encoder: ConvEncoder takes no key name; leave it out, or choose the model= that has it" in said


def test_added_keys_that_nothing_reads(refused):
    assert "+data.batchsize=4: nothing reads such a key; did you mean data.batch_size" in refused(
        "train", "+data.batchsize=4"
    )
    assert "scheduler=warmup_cosine, warmup_poly have it; leave it out" in refused("train", "+scheduler.warmup=0.1")
    assert "+callbacks.mine.every=2: nothing reads such a key" in refused("train", "+callbacks.mine.every=2")
    known = ["++data.batch_size=4", "+model.auxiliary_weights.16=0.4", "+callbacks.mine={_target_:builtins.object}"]
    assert "trainer.max_epochs=0" in refused("train", *known, "trainer.max_epochs=0")


def test_values_that_need_quotes_are_shown_in_them(refused):
    said = refused("train", "data=folder", "data.root=my photos (1)")
    assert """two pairs of them: 'data.root="my photos (1)"'""" in said
    assert "foo: is no KEY=VALUE" in refused("train", "foo")
    assert "data.classes=[a,b: close every bracket and quote" in refused("train", "data.classes=[a,b")
    assert """'checkpoint="seed=0/best.ckpt"'""" in refused("evaluate", "run=x", "checkpoint=seed=0/best.ckpt")


def test_values_that_make_no_sense(refused):
    assert "data.batch_size=0" in refused("train", "data.batch_size=0", "logger=csv")
    said = refused("train", "data.crop=middle", "logger=csv")
    assert "data.crop=middle" in said and "center" in said
    assert "protocol=half" in refused("train", "protocol=half", "logger=csv")
    assert "trainer.limit_val_batches=0" in refused("train", "trainer.limit_val_batches=0", "logger=csv")
    assert "trainer.limit_test_batches=0" in refused("train", "trainer.limit_test_batches=0", "logger=csv")
    assert "Precision 17 is invalid" in refused("train", "trainer.precision=17", "logger=csv")
    assert "data.batch_size=abc" in refused("train", "data.batch_size=abc", "logger=csv")


def test_a_run_folder_without_its_key(refused, tmp_path):
    run = tmp_path / "lr=0.1"
    (run / ".hydra").mkdir(parents=True)
    assert refused("evaluate", run) == f"error: {run} is a run folder: write run={run}\n"
    assert refused("train", run) == f"error: {run} is a run folder: write resume={run}\n"


@pytest.mark.parametrize("value", ["0.5", "{initial_size:0.5}", "[0.5,0.2]"])
def test_crops_that_grow_in_an_unknown_way(refused, value):
    said = refused("train", f"data.progressive_resize={value}", "logger=csv")
    assert said.startswith("error: data.progressive_resize=")
    assert (
        "give 'data.progressive_resize={initial_scale:0.5,delay_fraction:0.5,finetune_fraction:0.2}', or null" in said
    )


def test_a_word_for_a_number(refused):
    words = [
        "logger=csv",
        "seed=x",
        "trainer.max_epochs=ten",
        "optimizer.lr=abc",
        "model.width=wide",
        "data.crop_size=big",
    ]
    said = refused("train", *words, "callbacks.strips.num_images=all", "data.num_workers=1", "trainer.devices=auto")
    assert said.splitlines() == [
        "error: seed=x: give a number, such as 0",
        "trainer.max_epochs=ten: give a number, such as 100",
        "optimizer.lr=abc: give a number, such as 0.001",
        "model.width=wide: give a number, such as 1.0",
        "data.crop_size=big: give a number, such as 64",
        "callbacks.strips.num_images=all: give a number, such as 6",
    ]


def test_a_word_for_true_or_false(refused, tmp_path):
    for value in ("flase", "1"):
        words = [f"data.normalize={value}", "trainer.max_epochs=0"]
        assert refused("train", "logger=csv", *words) == f"error: data.normalize={value}: give true or false\n"
    words = ["data=voc", f"data.root={tmp_path}", "data.download=flase"]
    assert refused("stats", *words) == "error: data.download=flase: give true or false\n"
    said = refused("train", "data.normalize=null", "optimizer.fused=null", "trainer.deterministic=warn", "seed=x")
    assert said == "error: seed=x: give a number, such as 0\n"


def test_numbers_out_of_range(refused):
    for seed in (-1, 2**32):
        assert f"seed={seed}: give a whole number from 0 to 4294967295" in refused(
            "train", f"seed={seed}", "logger=csv"
        )
    for key in ("max_epochs", "check_val_every_n_epoch", "accumulate_grad_batches"):
        said = refused("train", f"trainer.{key}=0", "logger=csv")
        assert f"trainer.{key}=0: give a whole number of at least 1" in said
    small = ["logger=csv", "data.source.train=2", "data.source.val=1", "data.source.test=1", "data.crop_size=16"]
    assert "optimizer: Invalid learning rate: -1" in refused("train", "optimizer.lr=-1", *small)
    said = refused("train", "optimizer=sgd", "optimizer.momentum=-3", *small)
    assert "optimizer: Invalid momentum value: -3" in said


def test_what_an_ablation_takes_out_is_there_and_not_set_again(refused):
    recipe = ["experiment=pretrained", "logger=csv"]
    said = refused("train", *recipe, "without=pretraining", "model.encoder.weights=best.pth")
    assert "without=pretraining takes out what model.encoder.weights=best.pth sets: leave one of them out" in said
    assert "without=mix takes out what mix=cutmix sets" in refused("train", *recipe, "without=mix", "mix=cutmix")
    assert "did you mean mix" in refused("train", *recipe, "without=mixx")
    assert "without=mix takes nothing out of this config" in refused("train", "logger=csv", "without=mix")
    said = refused("train", "logger=csv", "without=pretraining")
    assert "without=pretraining takes nothing out of this config" in said


def test_wrong_monitor(refused):
    said = refused("train", "logger=csv", "callbacks.best.monitor=val/mioo")
    assert "callbacks.best.monitor=val/mioo" in said and "did you mean val/miou" in said
    said = refused("train", "logger=csv", "scheduler=plateau", "scheduler.monitor=val/los")
    assert "scheduler.monitor=val/los" in said and "did you mean val/loss" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.num_classes=5"], "data.num_classes follows from data.classes: leave it out, or give data.classes"),
        (["data.class_names=[a,b]"], "data.class_names follows from data.classes"),
        (["--data.batch_size=3"], "--data.batch_size=3 is no option: keys have no dashes, data.batch_size=3"),
        (["--epochs"], "--epochs is no option: keys have no dashes; did you mean trainer.max_epochs? `--help` lists"),
        (["optimizer.lr=1e-3,1e-4"], "is several values: give one number, or add -m for a run with each"),
        (["model=unet4,unet6"], "model=unet4,unet6 is several values: give one value, or add -m for a run"),
        (["data=folder", "data.root=~/a b"], "~ is read at the start of a word alone: write 'data.root=\"/"),
        (
            ["data=folder", "data.root=x", "data.classes={a: 0, b c: 1, b c : 2}"],
            "data.classes: b c stands twice in {a: 0, ",
        ),
        (["data=folder", "data.root=x", r"data.classes={a\,c: 0, b\,c: 1}", "seed=x"], "error: seed=x: give a number"),
        (["--resume"], "--resume is no option: keys have no dashes, resume=VALUE"),
        (["data=folder", "data.root=x", "data.classes=a,b"], "give a list, 'data.classes=[a,b]', or add -m for a run"),
        (["data=folder", "data.root=x", "data.classes=3"], "give a list of names, '[background,cat]', or a table with"),
        (["lr=1e-3"], "the config has no key lr: did you mean optimizer.lr? "),
        (["epochs=3"], "the config has no key epochs: did you mean trainer.max_epochs"),
        (
            ["model/encoder=resnet50"],
            "no model/encoder is chosen by the other groups: +model/encoder=CHOICE adds",
        ),
        (["trainer.accelerator=gpu"], "trainer.accelerator=gpu: no GPU can be used here; leave it out, or give cpu"),
        (["data=folder", "data.root=x", "data.classes=[a]", "data.splits=[1,0,0]"], "data.splits: is of another kind"),
    ],
)
def test_words_that_are_nearly_right(refused, monkeypatch, words, said):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert said in refused("train", "logger=csv", *words)
    if words[0].startswith("data"):
        assert said.removesuffix(", or add -m for a run") in refused("stats", *words)
