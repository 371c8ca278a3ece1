"""A W&B report that compares runs, made with W&B's own client library, wandb-workspaces."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seglab.cli.wandb_runs import wandb_id
from seglab.errors import InputError
from seglab.lab.comparison import compare
from seglab.lab.groups import Group, group_runs
from seglab.lab.runs import Run
from seglab.lab.tables import as_markdown

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import Report, Runset

_COLUMNS = ("run:displayName", "summary:test_miou", "summary:test_miou_low", "summary:test_miou_high")
_MORE_COLUMNS = ("summary:best_val_miou", "config:seed.value")


def build_report(runs: Sequence[Run], project: str, entity: str, title: str, baseline: str | None = None) -> "Report":
    """Returns the report, not saved yet: a table of scores with intervals and verdicts, curves, tests, pictures.

    Its runs are those given, by their ids in W&B; seeds of one configuration are drawn as their mean and range.

    Raises:
        InputError: wandb-workspaces is not installed, a run is not of W&B, or the runs cannot be compared.
    """
    wr = workspaces()
    groups = group_runs(runs)
    comparison = compare(groups, baseline=baseline)
    runset = _runset(wr, runs, groups, project, entity)
    sections = {
        "Curves": _curves(wr, spread=any(len(group.runs) > 1 for group in groups)),
        "Test": _tests(wr, comparison.class_names),
        "Pictures": [wr.MediaBrowser(media_keys=["predictions"], num_columns=3, layout=_place(wr, w=24, h=12))],
        "What differs": _differing(wr, groups),
    }
    blocks = [wr.MarkdownBlock(text=as_markdown(comparison)), wr.TableOfContents()]
    for heading, panels in sections.items():
        blocks += [wr.H2(text=heading), wr.PanelGrid(runsets=[runset], panels=panels)]
    description = f"{len(runs)} runs, {comparison.num_images} images ({comparison.evaluations}), {comparison.protocol}"
    return wr.Report(project=project, entity=entity, title=title, description=description, blocks=blocks, width="fluid")


def workspaces() -> Any:
    """Returns wandb-workspaces' module of reports.

    Raises:
        InputError: It is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as reports
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("wandb_workspaces"):
            raise
        raise InputError("seglab wandb report needs W&B's library: pip install wandb-workspaces") from None
    return reports


def _runset(wr: Any, runs: Sequence[Run], groups: Sequence[Group], project: str, entity: str) -> "Runset":
    columns = list(groups[0].values)
    seeds = any(len(group.runs) > 1 for group in groups)
    keys = [_config_key(runs[0], column) for column in columns]
    ids = ", ".join(f"'{wandb_id(run)}'" for run in runs)
    return wr.Runset(
        entity=entity,
        project=project,
        name="runs",
        filters=f"Metric('ID') in [{ids}]",
        groupby=[f"config.{key}.value" for key in keys or ["config_hash"]] if seeds else [],
        order=[wr.OrderBy(wr.SummaryMetric("test_miou"), ascending=False)],
        pinned_columns=list(_COLUMNS),
        visible_columns=[*_MORE_COLUMNS, *(f"config:{key}.value" for key in keys)],
    )


def _config_key(run: Run, column: str) -> str:
    """Returns the key of a group's value in a run's config at W&B."""
    return f"choices/{column}" if column in run.choices else column


def _place(wr: Any, x: int = 0, y: int = 0, w: int = 12, h: int = 8) -> Any:
    """Returns a panel's place on the grid of 24 columns."""
    return wr.Layout(x=x, y=y, w=w, h=h)


def _curves(wr: Any, spread: bool) -> list[Any]:
    grouped = {"groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"} if spread else {}
    axes = [("validation mIoU", "epoch", "val/miou"), ("validation mIoU", "images_seen", "val/miou")]
    axes += [("training loss", "epoch", "train/loss"), ("validation loss", "epoch", "val/loss")]
    return [
        wr.LinePlot(title=title, x=x, y=[y], layout=_place(wr, x=12 * (i % 2), y=8 * (i // 2)), **grouped)
        for i, (title, x, y) in enumerate(axes)
    ]


def _tests(wr: Any, class_names: Sequence[str]) -> list[Any]:
    iou = [f"test/iou/{name}" for name in class_names]
    return [
        wr.BarPlot(title="test mIoU", metrics=["test_miou"], layout=_place(wr, w=8)),
        wr.ScatterPlot(x="parameters", y="test_miou", log_x=True, layout=_place(wr, x=8, w=8)),
        wr.ScatterPlot(x="images_per_second", y="test_miou", layout=_place(wr, x=16, w=8)),
        wr.BarPlot(title="test IoU of each class", metrics=iou, layout=_place(wr, y=8, h=12)),
        wr.CustomChart(
            query={"summaryTable": {"tableKey": "test/confusion"}},
            chart_name="wandb/confusion_matrix/v1",  # as wandb.plot.confusion_matrix draws it
            chart_fields={"Actual": "label", "Predicted": "prediction", "nPredictions": "share"},
            chart_strings={"title": "confusion, in shares of the label's pixels"},
            layout=_place(wr, x=12, y=8, h=12),
        ),
    ]


def _differing(wr: Any, groups: Sequence[Group]) -> list[Any]:
    first = groups[0]
    panels = [
        wr.ParameterImportancePlot(with_respect_to="test_miou", layout=_place(wr)),
        wr.RunComparer(diff_only="split", layout=_place(wr, y=8, w=24, h=12)),
    ]
    if choices := [wr.Config(_config_key(first.runs[0], key)) for key in first.values if key in first.runs[0].choices]:
        columns = [wr.ParallelCoordinatesPlotColumn(axis) for axis in (*choices, wr.SummaryMetric("test_miou"))]
        panels.append(wr.ParallelCoordinatesPlot(columns=columns, layout=_place(wr, x=12)))
    return panels
