"""Where a recipe's traces come from: a task's generator, or files."""

from tacit.errors import TacitError
from tacit.formats import read
from tacit.recipe.sections import Data
from tacit.tasks import Task
from tacit.trace import Trace

Parts = tuple[list[Trace], list[Trace], list[Trace]]


class Reader:
    """Reads or generates training, validation and test traces; the last are kept, for the next method or variant."""

    def __init__(self) -> None:
        self._last: tuple[str, Parts] | None = None

    def parts(self, task: Task, data: Data) -> Parts:
        """Lists of one's own. Raises `TacitError` where a file cannot be read, or a generator has not so many."""
        key = f"{task.name} {data}"
        if self._last is None or self._last[0] != key:
            self._last = None  # room for what comes
            self._last = key, _generated(task, data) if isinstance(data.train, int) else _from_files(data)
        train, validation, test = self._last[1]
        return list(train), list(validation), list(test)


def _generated(task: Task, data: Data) -> Parts:
    sizes = [int(part or 0) for part in (data.train, data.validation, data.test)]
    made = task.make(sum(sizes), data.seed, **data.options)
    held_out = sizes[1] + sizes[2]  # first in line, so that a larger training set keeps the same problems out
    names = {task.problem(trace.question) for trace in made[:held_out]}
    train = [trace for trace in made[held_out:] if task.problem(trace.question) not in names]
    return train, made[: sizes[1]], made[sizes[1] : held_out]


def _from_files(data: Data) -> Parts:
    train, validation, test = (
        [] if part is None else read(str(part), data.format) for part in (data.train, data.validation, data.test)
    )
    return train, validation, test


def first_samples(traces: list[Trace], samples: int, file: str) -> list[Trace]:
    """The traces that are among the first samples of their question; those without a number stay.

    Raises:
        TacitError: No trace has a number, or none is left; `file` is where they come from.
    """
    numbers = [(trace.source or {}).get("sample") for trace in traces]
    if not any(isinstance(number, int) for number in numbers):
        raise TacitError(f"{file}: data.samples needs traces that say which sample they are (source.sample)")
    pairs = zip(traces, numbers, strict=True)
    kept = [trace for trace, number in pairs if not isinstance(number, int) or number < samples]
    if not kept:
        raise TacitError(f"{file}: data.samples={samples} leaves no training trace")
    return kept
