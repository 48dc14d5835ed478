"""The tasks that are built in. `get_task("multiplication").make(1000, seed=0, digits="4x2")`."""

from tacit.errors import unknown_name
from tacit.tasks.arithmetic import AddSub, Gsm8k, MultiArith, SingleEq, Svamp
from tacit.tasks.choices import Aqua, CommonsenseQa, DateUnderstanding
from tacit.tasks.coin_flip import CoinFlip
from tacit.tasks.dataset import SPLITS, DataSet
from tacit.tasks.last_letters import LastLetters
from tacit.tasks.multiplication import Multiplication
from tacit.tasks.shuffled_objects import ShuffledObjects
from tacit.tasks.strategy_qa import StrategyQa
from tacit.tasks.task import Option, Task
from tacit.tasks.word_problems import WordProblems
from tacit.trace import Trace

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Multiplication(),
        CoinFlip(),
        LastLetters(),
        ShuffledObjects(),
        WordProblems(),
        SingleEq(),
        AddSub(),
        MultiArith(),
        Svamp(),
        Gsm8k(),
        Aqua(),
        CommonsenseQa(),
        DateUnderstanding(),
        StrategyQa(),
    )
}
ALIASES = {alias: task.name for task in TASKS.values() for alias in task.aliases}
CUSTOM = Task()

__all__ = ["CUSTOM", "SPLITS", "TASKS", "DataSet", "Option", "Task", "get_task", "task_of"]


def get_task(name: str | None) -> Task:
    """The task of that name or alias (`strategyqa`, `coin-flip`); `None` or "custom" is that of people's own traces.

    Raises:
        TacitError: There is no such task; the text names the nearest.
    """
    task = CUSTOM if name is None else _find(name)
    if task is None:
        raise unknown_name("task", str(name), TASKS)
    return task


def task_of(trace: Trace, name: str | None = None) -> Task:
    """The named task; without a name the one that the trace says it is of (`source["task"]`), else people's own.

    People's own traces may name tasks of their own. Raises as `get_task` for a name.
    """
    if name:
        return get_task(name)
    own = (trace.source or {}).get("task")
    return (_find(own) if isinstance(own, str) else None) or CUSTOM


def _find(name: str) -> Task | None:
    known = name.lower().replace("-", "_")
    return CUSTOM if name == CUSTOM.name else TASKS.get(ALIASES.get(known, known))
