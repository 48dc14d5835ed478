"""tacit teaches a small language model to reason, and then to reason silently.

    import tacit

    run = tacit.Run("runs/quickstart")                     # a run's rows, predictions, students
    student = tacit.load("runs/quickstart/stepwise")       # a checkpoint that answers
    student.ask("4821 * 37").shown

Names are imported when they are first used: `import tacit` is instant and needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tacit.checkpoint import save
    from tacit.curation import Curation, curate
    from tacit.errors import TacitError
    from tacit.evaluation.evaluate import evaluate, summarise
    from tacit.recipe import load_recipe
    from tacit.rendering import Template, render
    from tacit.run import Run, carry_out
    from tacit.socratic.pipeline import Dialogue, SocraticPipeline, load
    from tacit.student import Student
    from tacit.tasks import get_task
    from tacit.trace import Step, Trace, from_dataset, read_jsonl, to_dataset, write_jsonl
    from tacit.training.config import StepwiseInternalizationConfig
    from tacit.training.trainer import StepwiseInternalizationTrainer

_HOMES = {
    "Curation": "curation",
    "Dialogue": "socratic.pipeline",
    "Run": "run",
    "SocraticPipeline": "socratic.pipeline",
    "Step": "trace",
    "StepwiseInternalizationConfig": "training.config",
    "StepwiseInternalizationTrainer": "training.trainer",
    "Student": "student",
    "TacitError": "errors",
    "Template": "rendering",
    "Trace": "trace",
    "carry_out": "run",
    "curate": "curation",
    "evaluate": "evaluation.evaluate",
    "from_dataset": "trace",
    "get_task": "tasks",
    "load": "socratic.pipeline",
    "load_recipe": "recipe",
    "read_jsonl": "trace",
    "render": "rendering",
    "save": "checkpoint",
    "summarise": "evaluation.evaluate",
    "to_dataset": "trace",
    "write_jsonl": "trace",
}

__all__ = [
    "Curation",
    "Dialogue",
    "Run",
    "SocraticPipeline",
    "Step",
    "StepwiseInternalizationConfig",
    "StepwiseInternalizationTrainer",
    "Student",
    "TacitError",
    "Template",
    "Trace",
    "carry_out",
    "curate",
    "evaluate",
    "from_dataset",
    "get_task",
    "load",
    "load_recipe",
    "read_jsonl",
    "render",
    "save",
    "summarise",
    "to_dataset",
    "write_jsonl",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tacit' has no attribute {name!r}")
    return getattr(import_module(f"tacit.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
