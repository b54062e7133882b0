"""What every notebook needs around its own question: profile, data, runs, captions, files, the last record.

study = open_study("05_spair_per_category", PROFILE, seed=SEED)
result = study.evaluate("text")
study.table(result.table, "table2", "Table 2", runs=result)
study.finish()
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from PIL.Image import Image

from sd4match_lib.analysis.controls import category_names_prompt, with_random_unet
from sd4match_lib.analysis.localisation import Localisation, localise
from sd4match_lib.analysis.prompts import untrained_prompt
from sd4match_lib.analysis.several_objects import common_object_share
from sd4match_lib.config.profile import Profile, load_profile, resize_profile
from sd4match_lib.data.datasets import open_dataset
from sd4match_lib.data.types import PairDataset
from sd4match_lib.evaluation.evaluate import EvaluationResult, evaluate
from sd4match_lib.matcher.drawing import save_picture
from sd4match_lib.metrics.averages import describe_protocol
from sd4match_lib.prompts.base import Prompt
from sd4match_lib.prompts.learned import LearnedPrompt
from sd4match_lib.report.archive import write_archive
from sd4match_lib.report.captions import Training, describe_runs
from sd4match_lib.report.claims import Claim, claims_table, compare_claims, write_claims
from sd4match_lib.report.diagram import Diagram
from sd4match_lib.report.estimates import Results, estimate
from sd4match_lib.report.page import report_summary, write_report
from sd4match_lib.report.style import save_figure
from sd4match_lib.report.tables import markdown_table, table_caption, write_table
from sd4match_lib.reproduce.doctor import check, format_report
from sd4match_lib.reproduce.prepare import prepare_data
from sd4match_lib.runs.record import RunRecord
from sd4match_lib.runs.store import finish_notebook
from sd4match_lib.training.train import TrainResult, train
from sd4match_lib.utils.files import refuse_links


class Shown:
    """Markdown that a notebook's cell ends in; elsewhere it is its text."""

    def __init__(self, text: str) -> None:
        """Keep the text."""
        self.text = text

    def __repr__(self) -> str:
        """Return the text, for terminals."""
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text


class Study:
    """One notebook's work: it runs what is asked for, and writes tables and figures that say so."""

    def __init__(self, stem: str, profile: Profile, seed: int) -> None:
        """Make a study; use `open_study`."""
        self.stem, self.profile, self.seed = stem, profile, seed
        self._outputs: list[Path] = []
        self._records: dict[str, RunRecord] = {}
        self._trainings: dict[str, Training] = {}

    def varied(self, **parts: Mapping[str, Any]) -> Study:
        """Return this study under a profile with other settings in some parts; its runs are kept here too."""
        other = copy.copy(self)
        changed = {name: replace(getattr(self.profile, name), **part) for name, part in parts.items()}
        other.profile = replace(self.profile, **changed)
        return other

    def doctor(self) -> Shown:
        """Return what the profile needs and what is here; see `doctor.check`."""
        return Shown(f"```text\n{format_report(check(self.profile))}\n```")

    def diagram(self, name: str) -> Diagram:
        """Return a drawing of the method for display: "pipeline" (Fig. 1) or "cpm" (Fig. 2)."""
        return Diagram(name)

    def pairs(self, dataset: str = "spair", split: str = "test") -> PairDataset:
        """Return the pairs that evaluations of a split look at."""
        return open_dataset(self.profile.dataset(dataset), split)

    def evaluate(
        self,
        prompt: Prompt | str | None = None,
        *,
        dataset: str = "spair",
        scale: float = 1.0,
        random_unet: bool = False,
        **request: Any,
    ) -> EvaluationResult:
        """Match all pairs of a split, or find the run that did; see `evaluate`.

        Args:
            prompt, dataset: as for `evaluate`.
            scale: of the network input, against the profile's own.
            random_unet: a control: on a UNet that has learned nothing (`with_random_unet`).
            request: what else `evaluate` takes; the seed is the study's own unless it is given.
        """
        profile = self.profile if scale == 1 else resize_profile(self.profile, scale)
        profile = with_random_unet(profile) if random_unet else profile
        result = evaluate(profile, dataset=dataset, prompt=prompt, **{"seed": self.seed, **request})
        self._records[result.record.run_id] = result.record
        return result

    def validation(self, prompt: Prompt | str) -> float:
        """Return PCK@0.1 (fraction) of a prompt as trainings validate theirs, for their curves."""
        profile = self.profile
        asked: dict[str, Any] = {"matcher": "nn", "timestep": profile.features.train_timestep, "ensemble": 1}
        asked["max_pairs"] = profile.training.validation_pairs
        return estimate(self.evaluate(prompt, split="val", **asked)).value

    def evaluate_each(self, prompts: Mapping[int, Prompt], **request: Any) -> dict[int, EvaluationResult]:
        """Evaluate the prompts of several trainings, by seed; all under the study's own noises."""
        return {seed: self.evaluate(prompt, **request) for seed, prompt in prompts.items()}

    def localise(
        self, prompt: Prompt | str | Mapping[int, Prompt], **request: Any
    ) -> dict[int, Localisation]:
        """Measure a prompt's correlation maps, or those of several trainings, by seed; see `localise`."""
        prompts = prompt if isinstance(prompt, Mapping) else {self.seed: prompt}
        return {
            seed: localise(self.profile, one, **{"seed": self.seed, **request})
            for seed, one in prompts.items()
        }

    def listen(self, prompts: Mapping[int, Prompt], **request: Any) -> dict[int, Localisation]:
        """Measure, by seed, what CPM prompts listen to in pairs of two objects; see `common_object_share`."""
        return {
            seed: common_object_share(self.profile, prompt, **request) for seed, prompt in prompts.items()
        }

    def train(self, kind: str, *, dataset: str = "spair", **request: Any) -> TrainResult:
        """Learn a prompt, or find the training that did; `request` as for `train`."""
        result = train(self.profile, kind, dataset=dataset, **{"seed": self.seed, **request})
        self._records[result.record.run_id] = result.record
        self._note(result.prompt, Training(int(result.record.number("steps")), result.record.seed))
        return result

    def learned(self, kind: str, seeds: Sequence[int], **request: Any) -> dict[int, LearnedPrompt]:
        """Return the prompts of several trainings, by seed; see `train`."""
        return {seed: self.train(kind, seed=seed, **request).prompt for seed in seeds}

    def untrained(self, kind: str, *, seed: int | None = None, **request: Any) -> LearnedPrompt:
        """Return the prompt that `train` with the same arguments starts from: its own control."""
        seed = self.seed if seed is None else seed
        prompt = untrained_prompt(self.profile, kind, seed=seed, **request)
        self._note(prompt, Training(0, seed))
        return prompt

    def starts(self, kind: str, seeds: Sequence[int], **request: Any) -> dict[int, LearnedPrompt]:
        """Return what several trainings start from, by seed; see `untrained`."""
        return {seed: self.untrained(kind, seed=seed, **request) for seed in seeds}

    def fixed_prompts(self) -> dict[str, Prompt | str]:
        """Return the prompts that nobody learned: the paper's two, and one as long as learned ones are."""
        names = category_names_prompt(self.profile)
        self._note(names, Training(0, self.seed))
        return {"empty": "empty", "text": "text", "all categories' names": names}

    def claims(self, claims: Sequence[Claim], runs: Mapping[str, Results], *, alpha: float = 0.1) -> Shown:
        """Test claims of the paper, keep what was found for the report, and return it for display."""
        found = compare_claims(claims, runs, alpha=alpha, seed=self.seed)
        self._outputs.append(write_claims(found, self.profile.results_path / "tables", self.stem))
        asked = {name for claim in claims for names in claim.comparisons for name in names}
        title = "What the claims come to here: differences in points; of a claim about several, the smallest"
        caption = self.caption(title, [runs[name] for name in asked])
        return Shown(markdown_table(claims_table(found), caption, percent=["paper"]))

    def report(self) -> Shown:
        """Write the report over all notebooks, and the rows behind its numbers; return what it comes to.

        See `write_report` and `report_summary`.
        """
        written = write_report(self.profile)
        self._outputs += [*written, *write_archive(self.profile)]
        return Shown(report_summary(self.profile))

    def caption(self, title: str, runs: Any = ()) -> str:
        """Return a caption that says what its numbers depend on: profile, runs, metric."""
        records = list(_records(runs))
        scored = any(record.kind in ("evaluate", "score") for record in records)
        told = [describe_runs(records, self._trainings), *([describe_protocol()] if scored else [])]
        if scored and self.profile.decided_by:
            told.append(f"too small to decide claims: run `{self.profile.decided_by}` to decide this")
        return table_caption(title, profile=self.profile.name, protocol="; ".join(filter(None, told)))

    def table(
        self, frame: pd.DataFrame, name: str, title: str, *, runs: Any = (), percent: Sequence[str] = ()
    ) -> Shown:
        """Write a table as CSV and Markdown, and return it for display.

        Args:
            frame: see `markdown_table`.
            name: the files' name without suffix.
            title: what it shows; the rest of the caption comes from the runs.
            runs: what its numbers come from: results of evaluations or trainings, in lists or mappings.
            percent: as for `markdown_table`.
        """
        folder = self.profile.results_path / "tables"
        written = write_table(frame, folder, name, self.caption(title, runs), percent=percent)
        self._outputs += written
        return Shown(written[1].read_text(encoding="utf-8"))

    def show(self, rows: Sequence[Mapping[str, Any]], caption: str) -> Shown:
        """Return rows as a table for display, without keeping it."""
        return Shown(markdown_table(pd.DataFrame(rows), caption))

    def conclude(self, text: str) -> Shown:
        """Return what the results above come to, computed from them, for display."""
        decided = self.profile.decided_by
        small = f" (Too small to decide claims: run `{decided}` to decide this.)" if decided else ""
        return Shown(f"> **In profile `{self.profile.name}`:** {text}{small}")

    def figure(self, drawn: Any, name: str, *, runs: Any = (), note: str = "") -> None:
        """Write a figure as PNG and SVG, with what it rests on in small print.

        Args:
            drawn: a figure, or axes of it.
            name: the files' name without suffix.
            runs: as for `table`.
            note: what no record says, such as the steps of a painting.
        """
        told = [f"profile {self.profile.name}", describe_runs(_records(runs), self._trainings), note]
        folder = self.profile.results_path / "figures"
        self._outputs += save_figure(drawn.figure, folder, name, note="; ".join(filter(None, told)))

    def save_picture(self, picture: Image, name: str) -> None:
        """Write a picture, such as a widget's `still()`, as PNG among the figures."""
        self._outputs.append(save_picture(picture, self.profile.results_path / "figures" / f"{name}.png"))

    def finish(self, **metrics: Any) -> None:
        """Declare the notebook complete; see `finish_notebook`. Every run's numbers are kept by its id."""
        own = {run: record.metrics for run, record in self._records.items()}
        finish_notebook(self.stem, self.profile, self._outputs, metrics={**own, **metrics})

    def _note(self, prompt: LearnedPrompt, training: Training) -> None:
        self._trainings[str(prompt.identity()["weights"])] = training


def open_study(stem: str, profile: str, *, seed: int = 0) -> Study:
    """Begin a notebook, by its file's stem: read the profile, and make the data that can be made.

    Raises:
        UserError: there is no such profile, or a link lies among its results.
    """
    loaded = load_profile(profile)
    refuse_links(loaded.results_path, loaded.results_path)
    prepare_data(loaded)
    return Study(stem, loaded, seed)


def _records(runs: Any) -> Iterator[RunRecord]:
    """The records of results in lists and mappings, however deep."""
    if hasattr(runs, "record"):
        yield runs.record
        return
    parts: Iterable[Any] = runs.values() if isinstance(runs, Mapping) else runs
    for part in parts:
        yield from _records(part)
