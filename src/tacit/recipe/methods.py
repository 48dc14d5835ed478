"""The methods that a recipe can name, and the checks of each one's settings."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tacit.errors import TacitError, unknown_name
from tacit.evaluation.prompting import BASELINES, Prompting
from tacit.implicit.states import check_choice
from tacit.recipe.checking import check_section, check_whole, field_names
from tacit.recipe.sections import check_train
from tacit.socratic.pipeline import MAX_QUESTIONS, STUDENTS
from tacit.socratic.rows import Wording

METHODS: dict[str, dict[str, Any]] = {
    "no_cot": {"schedule": "remove_all"},
    "cot": {"schedule": "keep_all"},
    "stepwise": {"schedule": "linear"},
    "unified": {"schedule": "keep_all"},
    "cumulative": {"schedule": "keep_all"},
    "socratic": {"schedule": "keep_all"},
    "implicit_kd": {"schedule": "remove_all"},
}
OTHERWISE = ("oracle", "teacher_questions", "gold_plan", "calculator")  # other ways to ask what `socratic` trained
OWN_KEYS = ("from", "data")  # of a trained method, beside its training settings


@dataclass(frozen=True)
class Socratic:
    """How `socratic` decomposes and solves; its training settings stand beside, those of one student below its name.

    Args:
        guidance, history (`str`): As `tacit.socratic.rows.Wording` has them. What guides the decomposer is gold in
            training, and the planner's afterwards.
        shared (`bool`): One student has all roles.
        max_questions (`int`): Asked of a problem at most.
    """

    guidance: str = "none"
    history: str = "steps"
    shared: bool = False
    max_questions: int = MAX_QUESTIONS

    @property
    def students(self) -> dict[str, tuple[str, ...]]:
        """The students by folder, each with its roles."""
        roles = ("decomposer", "solver", *(("planner",) if self.guidance != "none" else ()))
        return {"student": roles} if self.shared else {role: (role,) for role in roles}


@dataclass(frozen=True)
class ImplicitKD:
    """How `implicit_kd` distils; its training settings stand beside, those of one network below its name.

    Args:
        states (`str`), stride (`int` or `"dynamic"`): As `tacit.implicit.states.Mind` has them.
        mixture (`bool`): The emulator chooses among as many components as there are tokens; it is taught which.
        component_weight (`float`): Of that lesson in the emulator's loss.
        temperature (`float`): tau, of the choice.
        begin (`"model"` or `"teacher"`): What student and emulator begin as.
        frozen (`"none"`, `"student"` or `"emulator"`): What stays as it is when both are coupled.
        states_memory (`float`): GiB that the teacher's states of all training traces may take; where they need more,
            they are computed anew each time.
    """

    states: str = "diagonal"
    stride: int | str = "dynamic"
    mixture: bool = False
    component_weight: float = 1.0
    temperature: float = 0.05
    begin: str = "model"
    frozen: str = "none"
    states_memory: float = 2.0


NETWORKS = {  # of ICoT-KD: which of its own settings each depends on, besides its training settings and the teacher
    "mind_reader": ("states", "stride", "begin"),
    "emulator": ("states", "stride", "begin", "mixture", "component_weight"),
    "coupled": tuple(field_names(ImplicitKD)),
}
# Methods of several networks: what they say of themselves, and the names below which one network has settings.
SEVERAL: dict[str, tuple[Any, tuple[str, ...]]] = {
    "socratic": (Socratic, STUDENTS),
    "implicit_kd": (ImplicitKD, tuple(NETWORKS)),
}


def check_methods(given: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The section `methods`: each method's settings. Raises `TacitError`.

    Args:
        given: The section as the document has it.
        model: The section `model`, which a prompted baseline needs to name a trained one.
    """
    methods: dict[str, dict[str, Any]] = {}
    for name, own in given.items():
        if name not in (*METHODS, *BASELINES, *OTHERWISE):
            raise unknown_name("method", str(name), [*METHODS, *OTHERWISE, *BASELINES])
        if not isinstance(own, dict | None):
            raise TacitError(f"recipe key methods.{name} must be a mapping of settings, got {own!r}")
    for name, own in given.items():
        own = own or {}
        if name == "socratic":
            methods[name] = _socratic(own)
        elif name == "implicit_kd":
            methods[name] = _implicit(own, given)
        elif name in OTHERWISE:
            methods[name] = _otherwise(name, own, given)
        elif name in METHODS:
            methods[name] = _trained(name, own, given)
        else:
            methods[name] = _baseline(name, own, model)
    return methods


def _trained(name: str, own: Mapping[str, Any], methods: Mapping[str, Any]) -> dict[str, Any]:
    if "from" in own and (name != "cot" or own["from"] != "stepwise" or "stepwise" not in methods or len(own) > 1):
        raise TacitError(
            "only `cot: {from: stepwise}` takes its model from another method, of the same recipe and without "
            "settings of its own"
        )
    if "from" in own and (methods["stepwise"] or {}).get("removal_start"):
        raise TacitError("`cot: {from: stepwise}` needs an explicit stage; Stepwise with removal_start has none")
    _check_own_data(name, own)
    settings = check_train(f"methods.{name}", {key: value for key, value in own.items() if key not in OWN_KEYS})
    fixed = METHODS[name]["schedule"]
    if name not in ("stepwise", "unified") and settings.get("schedule", fixed) != fixed:
        raise TacitError(
            f"recipe key methods.{name}.schedule: it is {fixed!r} by definition; stepwise, unified and the solver of "
            "socratic take another"
        )
    return {**{key: own[key] for key in OWN_KEYS if key in own}, **settings}


def _check_own_data(name: str, own: Mapping[str, Any]) -> None:
    if not isinstance(own.get("data", ""), str):
        raise TacitError(f"recipe key methods.{name}.data must be a file of training traces, got {own['data']!r}")


def _socratic(own: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the method `socratic`: its own, those of all its students, and those of one."""
    socratic, settings = _several("socratic", own)
    check_whole("methods.socratic.max_questions", socratic.max_questions, 1)
    Wording(socratic.guidance, socratic.history)
    for name in STUDENTS:
        if name in own and name not in socratic.students:
            raise TacitError(
                f"recipe key methods.socratic.{name}: with these settings its students are "
                f"{', '.join(socratic.students)} (guidance adds a planner; shared: true makes one student of all)"
            )
        if name != "solver" and "schedule" in own.get(name, {}):
            raise TacitError(
                f"recipe key methods.socratic.{name}.schedule: of the students, the solver has steps to remove"
            )
    schedule = own.get("solver", {}).get("schedule", settings.get("schedule", "keep_all"))
    if schedule != "keep_all" and (socratic.shared or socratic.history != "answers"):
        raise TacitError(
            "a solver whose steps are removed has only answers to read of earlier turns, and is a student of its own: "
            "methods.socratic with a schedule takes history: answers, and not shared: true"
        )
    return dict(own)


def _implicit(own: Mapping[str, Any], methods: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the method `implicit_kd`: its own, those of all its networks, and those of one."""
    if "cot" not in methods:
        raise TacitError("method implicit_kd learns from the student of the method cot: the recipe needs both")
    implicit, settings = _several("implicit_kd", own)
    check_choice(implicit.states, implicit.stride)
    for key, valid in (("begin", ("model", "teacher")), ("frozen", ("none", "student", "emulator"))):
        if getattr(implicit, key) not in valid:
            raise unknown_name(f"methods.implicit_kd.{key}", getattr(implicit, key), valid)
    least = implicit.temperature > 0, 0 <= implicit.component_weight < math.inf, implicit.states_memory >= 0
    if not all(least):  # nan is none of them
        raise TacitError(
            "methods.implicit_kd takes a positive temperature, and a component_weight and states_memory of at least 0"
        )
    for where, given in (("", settings), *((f".{name}", own.get(name, {})) for name in NETWORKS)):
        for key, fixed in (("schedule", "remove_all"), ("keep_positions", False), ("keep_stages", [])):
            if given.get(key, fixed) != fixed:
                raise TacitError(
                    f"recipe key methods.implicit_kd{where}.{key}: ICoT-KD removes nothing stage by stage"
                )
    return dict(own)


def _several(method: str, own: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What a method of several networks says of itself, and the training settings of all of them."""
    kind, names = SEVERAL[method]
    said = check_section(kind, f"methods.{method}", {key: own[key] for key in field_names(kind) if key in own})
    _check_own_data(method, own)
    known = (*field_names(kind), *names, "data")
    settings = {key: value for key, value in own.items() if key not in known}
    check_train(f"methods.{method}", settings, known)
    for name in names:
        if not isinstance(own.get(name, {}), dict):
            raise TacitError(f"recipe key methods.{method}.{name} must be a mapping of settings, got {own[name]!r}")
        check_train(f"methods.{method}.{name}", own.get(name, {}))
    return said, settings


def _otherwise(name: str, own: Mapping[str, Any], methods: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of another way to ask what `socratic` trained."""
    if "socratic" not in methods:
        raise TacitError(f"method {name} asks what the method socratic trained: the recipe needs both")
    if name == "gold_plan" and (methods["socratic"] or {}).get("guidance", "none") == "none":
        raise TacitError("method gold_plan guides the decomposer: it goes with methods.socratic.guidance")
    wanted = ["questions"] if name == "teacher_questions" else []
    if sorted(own) != wanted or not all(isinstance(own[key], str) for key in wanted):
        takes = "a file of traces with sub-questions (questions: FILE)" if wanted else "no settings"
        raise TacitError(f"method {name} takes {takes}, got {own!r}")
    return dict(own)


def _baseline(name: str, own: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    if name == "random":
        if own:
            raise TacitError(f"method random guesses: it has no settings, got {own!r}")
    else:
        if "name" not in model:
            raise TacitError(f"method {name} asks a model that was trained before: it goes with model.name")
        check_section(Prompting, f"methods.{name}", own)
    return dict(own)
