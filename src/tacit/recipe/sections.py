"""The sections `data`, `model`, `evaluation` and `train` of a recipe: what each says, and the checks of its values."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tacit.errors import TacitError, unknown_name
from tacit.formats import FORMATS
from tacit.grading import GRADERS
from tacit.recipe.checking import check_section, check_types, check_whole, field_names
from tacit.tasks import Task
from tacit.training.config import StepwiseInternalizationConfig

RESERVED = {"output_dir": "-o", "seed": "seeds", "data_seed": "seeds"}


@dataclass(frozen=True)
class Data:
    """Where the traces come from: sizes for a generated task, file names otherwise.

    Of a teacher's file, `samples` keeps the first so many traces of each question: more samples add to fewer.
    """

    train: int | str
    validation: int | str | None = None
    test: int | str | None = None
    seed: int = 0
    format: str = "tacit"
    samples: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """Which student: a name or folder, or an architecture with its configuration, from scratch.

    The latter's `tokenizer` is "words", those of its training data; "bpe", byte pairs learned from its training data,
    which can write any text; or another model's, by name or folder.
    """

    name: str | None = None
    architecture: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: str = "words"
    attn_implementation: str | None = None
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Evaluation:
    """How the students are measured: problems in one batch, on how many the speed is timed, and who grades."""

    batch_size: int = 256
    speed_problems: int = 512
    grader: str = "flexible"


def check_data(given: Mapping[str, Any], task: Task) -> Data:
    """The section `data`, whose keys are `Data`'s own and the options of the task. Raises `TacitError`."""
    own = {*field_names(Data)} - {"options"}
    for key in given:
        if key not in own and key not in task.options:
            valid = [f"data.{name}" for name in (*own, *task.options)]
            raise unknown_name("recipe key", f"data.{key}", valid)
    if "train" not in given:
        raise TacitError("recipe key data.train is missing: a number of generated traces, or a file")
    check_types(Data, "data", {key: value for key, value in given.items() if key in own})
    data = Data(
        **{key: value for key, value in given.items() if key in own},
        options={key: value for key, value in given.items() if key not in own},
    )
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    generated = isinstance(data.train, int)
    for key, value in parts.items():
        if value is None:
            continue
        if generated:
            check_whole(f"data.{key}", value, 1)
        elif not isinstance(value, str):
            raise TacitError(f"recipe key data.{key} must be a file, as data.train is; got {value!r}")
    if generated and not task.options:
        raise TacitError(f"task {task.name!r} has no generator: data.train must be a file")
    if data.test is None:
        raise TacitError("recipe key data.test is missing: a result needs held-out problems")
    if data.samples is not None:
        check_whole("data.samples", data.samples, 1)
        if generated:
            raise TacitError("recipe key data.samples goes with a file of a teacher's traces, not with a generator")
    if data.format not in FORMATS:
        raise unknown_name("format", data.format, FORMATS)
    check_whole("data.seed", data.seed, 0)
    task.settings(data.options)
    return data


def check_model(given: Mapping[str, Any]) -> Model:
    """The section `model`. Raises `TacitError`."""
    model = check_section(Model, "model", given)
    if (model.name is None) == (model.architecture is None):
        raise TacitError("recipe section 'model' names either a model (name) or a from-scratch architecture")
    if model.name is not None and model.config:
        raise TacitError("recipe key model.config goes with model.architecture, not with model.name")
    if model.name is not None and "tokenizer" in given:
        raise TacitError("recipe key model.tokenizer goes with model.architecture; a named model has its own")
    return model


def check_evaluation(given: Mapping[str, Any]) -> Evaluation:
    """The section `evaluation`. Raises `TacitError`."""
    evaluation = check_section(Evaluation, "evaluation", given)
    check_whole("evaluation.batch_size", evaluation.batch_size, 1)
    check_whole("evaluation.speed_problems", evaluation.speed_problems, 1)
    if evaluation.grader not in GRADERS:
        raise unknown_name("grader", evaluation.grader, GRADERS)
    return evaluation


def check_train(where: str, given: Mapping[str, Any], others: Iterable[str] = ()) -> dict[str, Any]:
    """The training settings that stand at `where`.

    Args:
        where, given: The section's name and its settings.
        others: What else may stand there, for the hint at a misspelt key.

    Raises:
        TacitError: A key is unknown or set by the run, or a value is of another type.
    """
    fields = train_fields()
    for key in given:
        if key in RESERVED:
            raise TacitError(f"recipe key {where}.{key} is set by the run; use {RESERVED[key]}")
        if key not in fields:
            near = difflib.get_close_matches(str(key), [*others, *fields], n=1)
            hint = f"; did you mean '{where}.{near[0]}'?" if near else " (see docs/recipes.md for all of them)"
            raise TacitError(f"unknown recipe key '{where}.{key}'{hint}")
    check_types(StepwiseInternalizationConfig, where, given)
    return dict(given)


def train_fields() -> dict[str, dataclasses.Field]:
    """The fields of the training settings that a recipe may set, by name."""
    return {f.name: f for f in dataclasses.fields(StepwiseInternalizationConfig) if f.init and f.name not in RESERVED}
