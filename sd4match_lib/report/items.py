"""The tables and figures of the paper, one by one: what it says by each, and what measures it here."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Cost:
    """What an item computes under the `paper` profile, for estimates.

    Attributes:
        trainings: prompts learned that no earlier item has learned.
        pair_runs: evaluations of all SPair-71k test pairs, each pair by itself (CPM).
        image_runs: evaluations that compute features once per picture.
    """

    trainings: int = 0
    pair_runs: float = 0
    image_runs: float = 0


@dataclass(frozen=True)
class Compared:
    """A measured number and the published one that it stands beside.

    Attributes:
        name: what is compared.
        table: the measured table's name.
        row: its cells that pick the row.
        column: the column of the measured PCK.
        paper: the published number's table and row.
        dataset: the data set tested on.
    """

    name: str
    table: str
    row: tuple[tuple[str, str], ...]
    column: str
    paper: tuple[str, str]
    dataset: str = "spair"


@dataclass(frozen=True)
class Item:
    """A table or figure of the paper.

    Attributes:
        title: what it is called.
        says: what the paper says by it.
        notebook: the stem of the notebook that measures it.
        tables: the tables that the notebook leaves.
        figures: the figures that it leaves.
        compared: numbers to set beside published ones.
        cost: what it takes under the `paper` profile.
    """

    title: str
    says: str
    notebook: str
    tables: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    compared: tuple[Compared, ...] = ()
    cost: Cost = Cost()

    @property
    def built(self) -> bool:
        """Whether there is a notebook for it."""
        return bool(self.tables or self.figures)


def _of_table2(method: str) -> Compared:
    row = (("method", method),)
    return Compared(f"{method} on SPair-71k", "table2_spair", row, "all", ("table2", method))


def _of_ablation(case: str) -> Compared:
    return Compared(case, "figure3a_ablation", (("case", case),), "PCK@0.10", ("figure3a", case))


def _of_size(side: int) -> Compared:
    row = (("size", f"{side} x {side}"),)
    paper = ("supplement7", f"SD2-1 at {side}x{side}")
    return Compared(f"SD2-1 at {side} x {side}", "section7_size", row, "PCK@0.10", paper)


CASES: Final = (
    "1 pair, local (CPM)",
    "2 pair, global",
    "3 image, local",
    "4 image, global",
    "5 without global prompt",
    "6 without g_n",
)
"""The cases of Fig. 3(a), as the published numbers call them."""

ITEMS: Final = (
    Item(
        "Table 1: existing prompts",
        "SD keeps most of its matching ability with an empty prompt; the category's name or an implicit "
        "captioner gains about 2 points of PCK@0.1 on SPair-71k, for DIFT and for SD+DINO without DINO "
        "(Sec. 3.2). DIFT with the text prompt: 52.9.",
        "01_prompt_baselines",
        ("table1_prompts", "table1_baselines"),
        ("table1_prompts",),
        (
            Compared(
                "DIFT with the text prompt",
                "table1_prompts",
                (("method", "DIFT"), ("prompt", "text")),
                "PCK@0.10",
                ("table2", "DIFT"),
            ),
        ),
        Cost(image_runs=13),
    ),
    Item(
        "Table 2: SPair-71k by category",
        "In every category a learned prompt is best; over all Single has 72.6, Class 75.5, CPM 75.5 PCK@0.1, "
        "where SimSC-iBOT has 63.5 and DIFT, on the same model, 52.9 (Sec. 4.3).",
        "05_spair_per_category",
        ("table2_spair", "table2_gains", "table2_columns", "table2_errors", "table2_protocols"),
        ("table2_categories", "table2_difficulty", "table2_errors"),
        tuple(
            map(
                _of_table2, ("DINOv2", "DIFT", "SD+DINO", "SD4Match-Single", "SD4Match-Class", "SD4Match-CPM")
            )
        ),
        Cost(trainings=5, pair_runs=3, image_runs=12),
    ),
    Item(
        "Table 3: generalisation",
        "Tuned on PF-Pascal, CPM is on par with SimSC-iBOT there and best on PF-Willow and SPair-71k among "
        "tuned methods, but worse on SPair-71k than methods without tuning; tuned on SPair-71k it gains "
        "slightly on PF-Pascal and much on PF-Willow over untuned ones (Sec. 4.3).",
        "06_generalization",
        ("table3_generalization", "table3_gains"),
        ("table3_generalization",),
        cost=Cost(trainings=2, pair_runs=1.4, image_runs=6),
    ),
    Item(
        "Figure 3(a): ablation of CPM",
        "Conditioning on the pair matters more than conditioning on local features; without the global "
        "prompt 0.9 points are lost, without the mixing of patches 1.5 (Sec. 4.4).",
        "07_cpm_ablation",
        ("figure3a_ablation",),
        ("figure3a_ablation",),
        tuple(map(_of_ablation, CASES)),
        Cost(trainings=5, pair_runs=6, image_runs=4),
    ),
    Item(
        "Figure 3(b): timesteps",
        "The learned prompts beat DIFT at every t from 0 to 500. They are trained at t = 261, but best at "
        "t = 50: they favour a cleaner picture (Sec. 4.4). The curves' values are not printed.",
        "08_timestep_sweep",
        ("figure3b_best",),
        ("figure3b_timesteps",),
        cost=Cost(pair_runs=12, image_runs=35),
    ),
    Item(
        "Table 4 and section 7: initialisation and image size",
        'Starting from the empty string or from "a photo of an object" is slightly better than from random '
        "words. At half the size SD2-1 falls from 52.9 to 34.6, at double the size to 47.9 (Sec. 6, 7).",
        "09_initialization_and_size",
        ("table4_initialization", "section7_size"),
        ("table4_initialization", "section7_size"),
        tuple(map(_of_size, (384, 768, 1536))),
        Cost(trainings=3, image_runs=11),
    ),
    Item(
        "Figures 4, 5, 7, 8: prompts as pictures",
        "Painted from, a class prompt gives an abstract illustration of its category, and CPM's prompt one "
        "of what the two pictures share, although nothing but keypoints was learned from (Sec. 4.4).",
        "10_prompt_to_image",
        ("figure4_names",),
        ("figure4_class_prompts", "figure5_pair_prompts"),
        cost=Cost(image_runs=1),
    ),
    Item(
        "Figures 6, 9: correlation maps",
        "Learned prompts tell objects from background better than text does; Class and CPM are more "
        "localised than Single (Sec. 8).",
        "11_correlation_maps",
        ("figure6_localisation", "figure5_common_object"),
        ("figure6_correlation", "figure9_matches"),
        cost=Cost(pair_runs=0.3),
    ),
    Item(
        "Beyond the paper: unseen keypoints",
        "This was not asked. Adapters tuned on SPair-71k's keypoints fall below zero-shot features on other "
        "keypoints of the same pictures: GeoAware-SC 53.4, SD+DINO 59.4 on SPair-U (Geometry Matters, 2026).",
        "14_unseen_keypoints",
        ("unseen_keypoints", "unseen_categories"),
        ("unseen_keypoints",),
        cost=Cost(pair_runs=3, image_runs=9),
    ),
    Item(
        "Beyond the paper: the field today",
        "This was not asked. Since then alpha = 0.01, averages over categories and a geometry-aware subset "
        "have become usual; the best published numbers on SPair-71k are 33.2, 78.9 and 87.2 at 0.01, 0.05, "
        "0.10, of two systems (ImCorr, 2026).",
        "15_the_field",
        ("field_spair", "field_columns", "field_ranking"),
        (),
    ),
    Item(
        "Beyond the paper: its idea carried on",
        "This was not asked: the step of the training, the test's matcher in the loss, both directions of a "
        "pair, normalised tokens and a mixture of layers, by a plan that was written before the runs.",
        "16_beyond_the_paper",
        ("beyond_plan", "beyond_validation", "beyond_failures", "beyond_test", "beyond_unseen"),
        (),
    ),
)
