"""The tasks that are built in. `get_task("multiplication").make(1000, seed=0, digits="4x2")`."""

from tacit.errors import unknown_name
from tacit.tasks.coin_flip import CoinFlip
from tacit.tasks.multiplication import Multiplication
from tacit.tasks.task import Option, Task

TASKS: dict[str, Task] = {task.name: task for task in (Multiplication(), CoinFlip())}
CUSTOM = Task()

__all__ = ["CUSTOM", "TASKS", "Option", "Task", "get_task"]


def get_task(name: str | None) -> Task:
    """The task of that name; `None` or "custom" is the task of people's own traces.

    Raises:
        TacitError: There is no such task; the text names the nearest.
    """
    if name is None or name == CUSTOM.name:
        return CUSTOM
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]
