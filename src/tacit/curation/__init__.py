"""Curation: of a teacher's traces, those that are worth training on (Fine-tune-CoT, arXiv 2212.10071, section 3).

Every trace that is dropped is dropped for one reason, the first in this order that holds:

    test_question     its problem is one of those to exclude
    unfinished        the text was cut: `finish_reason` is not "stop"
    no_gold           there is no gold answer to compare with
    no_answer         the teacher gave no answer
    wrong_answer      the answer is not the gold answer, by the task's grader
    too_long          the steps have more words than allowed
    wrong_arithmetic  an equation `<<a=b>>` does not hold
    no_sub_question   a step has no sub-question, or a sub-question no answer, or there are no steps
    no_majority       no gold answer, and no answer that most samples of the question give: at least two, none as many
    outvoted          another answer than that majority's
    duplicate         sub-questions, steps and answer of another sample of the question once more
    near_duplicate    nearly so
    over_limit        the question has enough traces already

A check drops only what it knows to be bad: a trace that does not say why its text ended passes `unfinished`, an
equation that cannot be read passes `wrong_arithmetic`; the summary counts both.

Samples of a question are taken in the order of `source["sample"]`, so what is kept of the first D samples is a part of
what is kept of more of them, unless votes or `shortest_first` look at all samples at once. What a limit of 4 keeps is
always a part of what a limit of 8 keeps.

Usage: `kept, summary = curate(traces, Curation(per_question=8, dedupe="near"))`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

from tacit.arithmetic import judge
from tacit.curation.duplicates import Seen
from tacit.errors import TacitError, unknown_name
from tacit.formats.dialogue import coverage
from tacit.formats.steps import SPAN
from tacit.grading import GRADERS
from tacit.tasks import CUSTOM, Task, get_task, task_of
from tacit.trace import Trace

KEEP = ("correct", "agreed", "all")
DEDUPE = ("exact", "near")
REASONS = (
    "test_question",
    "unfinished",
    "no_gold",
    "no_answer",
    "wrong_answer",
    "too_long",
    "wrong_arithmetic",
    "no_sub_question",
    "no_majority",
    "outvoted",
    "duplicate",
    "near_duplicate",
    "over_limit",
)
MIN_VOTES = 2
Fault = tuple[str, str]  # one of REASONS, and what was seen


@dataclass(frozen=True)
class Curation:
    """What is kept.

    Args:
        keep (`str`): "correct", right by the gold answer; "agreed", that too, and where a question has no gold answer,
            the answer that most of its samples give; "all", whatever the answer.
        per_question (`int`, *optional*): At most so many traces of one question.
        finished (`bool`): Only texts that were not cut.
        dedupe (`str`, *optional*): "exact" or "near" (see `tacit.curation.duplicates`).
        shortest_first (`bool`): Prefer the traces with the fewest words where a limit or a duplicate decides.
        max_length (`int`, *optional*): The most words that the steps of a trace may have.
        check_arithmetic (`bool`): Only traces whose `<<a=b>>` hold (see `tacit.arithmetic`).
        sub_questions (`bool`): Only traces with a sub-question, and what answers it, on each step.
        exclude (`frozenset[str]`): Questions of test sets; no trace of the same problem is kept.
        task (`str`, *optional*): The task of all traces; without it, each one's `source["task"]`.
        grader (`str`): One of `tacit.grading.GRADERS`. To "original", the answer that a log says was taken
            (`source["extracted"]`) is the answer, and it is right if it is the gold answer letter by letter.
    """

    keep: str = "correct"
    per_question: int | None = None
    finished: bool = False
    dedupe: str | None = None
    shortest_first: bool = False
    max_length: int | None = None
    check_arithmetic: bool = False
    sub_questions: bool = False
    exclude: frozenset[str] = frozenset()
    task: str | None = None
    grader: str = "flexible"

    def __post_init__(self) -> None:
        for kind, name, valid in (("keep", self.keep, KEEP), ("grader", self.grader, GRADERS)):
            if name not in valid:
                raise unknown_name(kind, name, valid)
        if self.dedupe is not None and self.dedupe not in DEDUPE:
            raise unknown_name("dedupe", self.dedupe, DEDUPE)
        for name in ("per_question", "max_length"):
            if (limit := getattr(self, name)) is not None and limit < 1:
                raise TacitError(f"{name} must be at least 1, got {limit}")
        get_task(self.task)


@dataclass
class Summary:
    """What became of the traces: `read` is `kept` and all of `dropped` together.

    Args:
        read, kept (`int`): Traces.
        dropped (`dict[str, int]`): Traces by reason, every reason in its order.
        right (`dict[str, int]`): By grader, how many of all that was read have the gold answer.
        examples (`dict[str, str]`): By reason, the first trace that was dropped for it, and what was seen.
        unjudged (`dict[str, int]`): Traces that a check could not judge and let pass, by what was unknown.
        equations (`int`): `<<a=b>>` that were checked.
        sub_questions (`dict[str, int]`): Of all that was read, traces with a sub-question on "all", "some" or "none"
            of their steps.
        questions (`int`): In all that was read.
        rationales (`dict[int, int]`): How many of the questions have so many traces that were kept.
    """

    read: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    right: dict[str, int] = field(default_factory=lambda: dict.fromkeys(GRADERS, 0))
    examples: dict[str, str] = field(default_factory=dict)
    unjudged: dict[str, int] = field(default_factory=lambda: {"finish_reason": 0, "equations": 0})
    equations: int = 0
    sub_questions: dict[str, int] = field(default_factory=lambda: {"all": 0, "some": 0, "none": 0})
    questions: int = 0
    rationales: dict[int, int] = field(default_factory=dict)

    def drop(self, trace_id: str, reason: str, seen: str) -> None:
        """Counts a trace that is not kept."""
        self.dropped[reason] += 1
        self.examples.setdefault(reason, f"{trace_id}: {seen}")


@dataclass(slots=True)
class _Candidate:
    """What the checks among the traces of one question need to know of a trace; small, for files of millions."""

    number: int
    id: str
    task: Task
    sample: int
    words: int
    text: str
    vote: str | None


def curate(traces: Iterable[Trace], curation: Curation = Curation()) -> tuple[list[Trace], Summary]:
    """The traces that are kept, unchanged and in their order, and what became of the others."""
    traces = list(traces)
    keep, summary = choose(traces, curation)
    return list(compress(traces, keep)), summary


def choose(traces: Iterable[Trace], curation: Curation) -> tuple[bytearray, Summary]:
    """As `curate`, of traces that may be read one by one: in their order, 1 for each to keep, 0 for each other."""
    keep, summary = bytearray(), Summary()
    checks = _Checks(curation, summary)
    questions: dict[str, list[_Candidate]] = defaultdict(list)
    for number, trace in enumerate(traces):
        keep.append(0)
        candidates = questions[" ".join(trace.question.split())]
        summary.sub_questions[coverage(trace)] += 1
        task = task_of(trace, curation.task)
        for grader in GRADERS if trace.gold is not None else ():
            summary.right[grader] += _is_right(read_answer(trace, task, grader), trace, task, grader)
        if fault := checks.fault(trace, task):
            summary.drop(trace.id, *fault)
        else:
            candidates.append(checks.candidate(number, trace, task))
    counts: Counter[int] = Counter()
    for candidates in questions.values():
        count = 0
        for candidate, fault in _compare(candidates, curation):
            if fault:
                summary.drop(candidate.id, *fault)
            else:
                keep[candidate.number] = 1
                count += 1
        counts[count] += 1
    summary.rationales = dict(sorted(counts.items()))
    summary.read, summary.kept, summary.questions = len(keep), sum(keep), len(questions)
    return keep, summary


def _problem(task: Task, question: str) -> str:
    try:
        return task.problem(question)
    except TacitError:  # not one of the task's: then the same words are the same problem
        return CUSTOM.problem(question)


class _Checks:
    """What can be said of a trace without the others, in the order of `REASONS`."""

    def __init__(self, curation: Curation, summary: Summary) -> None:
        self.curation = curation
        self.summary = summary
        self.excluded: dict[str, set[str]] = {}

    def fault(self, trace: Trace, task: Task) -> Fault | None:
        """The first reason against a trace, with what was seen."""
        return (
            self._leak(trace, task)
            or self._cut(trace)
            or self._answer(trace, task)
            or self._length(trace)
            or self._arithmetic(trace)
            or self._sub_questions(trace)
        )

    def candidate(self, number: int, trace: Trace, task: Task) -> _Candidate:
        """What remains to be compared of a trace without a fault."""
        sample = (trace.source or {}).get("sample")
        return _Candidate(
            number,
            trace.id,
            task,
            sample if isinstance(sample, int) else -1,
            _words(trace),
            " ".join(
                (*filter(None, (part for step in trace.steps for part in (step.question, step.text))), trace.label)
            )
            if self.curation.dedupe
            else "",
            read_answer(trace, task, self.curation.grader)
            if self.curation.keep == "agreed" and trace.gold is None
            else None,
        )

    def _leak(self, trace: Trace, task: Task) -> Fault | None:
        if not self.curation.exclude:
            return None
        if task.name not in self.excluded:  # a problem's name is the task's affair
            self.excluded[task.name] = {_problem(task, question) for question in self.curation.exclude}
        return (
            ("test_question", _short(trace.question))
            if _problem(task, trace.question) in self.excluded[task.name]
            else None
        )

    def _cut(self, trace: Trace) -> Fault | None:
        if not self.curation.finished:
            return None
        reason = (trace.source or {}).get("finish_reason")
        if reason is None:
            self.summary.unjudged["finish_reason"] += 1
            return None
        return None if reason == "stop" else ("unfinished", f"finish_reason is {reason!r}")

    def _answer(self, trace: Trace, task: Task) -> Fault | None:
        if self.curation.keep == "correct" and trace.gold is None:
            return "no_gold", f"answer {_short(trace.answer)}"
        if self.curation.keep == "all":
            return None if trace.label.strip() else ("no_answer", "nothing to train on")
        answer = read_answer(trace, task, self.curation.grader)
        if not answer:
            return "no_answer", f"in {_short(_completion(trace, task)[0])}"
        if trace.gold is None or _is_right(answer, trace, task, self.curation.grader):
            return None
        return "wrong_answer", f"{answer!r} is not {trace.gold!r}"

    def _length(self, trace: Trace) -> Fault | None:
        words, limit = _words(trace), self.curation.max_length
        return ("too_long", f"{words:,} words") if limit is not None and words > limit else None

    def _arithmetic(self, trace: Trace) -> Fault | None:
        if not self.curation.check_arithmetic:
            return None
        equations = [span for step in trace.steps for span in SPAN.findall(step.text)]
        verdicts = [judge(equation) for equation in equations]
        self.summary.equations += len(equations)
        if False in verdicts:
            return "wrong_arithmetic", equations[verdicts.index(False)]
        self.summary.unjudged["equations"] += None in verdicts
        return None

    def _sub_questions(self, trace: Trace) -> Fault | None:
        if not self.curation.sub_questions:
            return None
        if coverage(trace) != "all":
            return "no_sub_question", f"on {coverage(trace)} of {len(trace.steps)} steps"
        unanswered = [step.question for step in trace.steps if not step.text.strip()]
        return ("no_sub_question", f"no answer to {_short(unanswered[0] or '')}") if unanswered else None


def read_answer(trace: Trace, task: Task, grader: str = "flexible") -> str:
    """The answer that a task finds in what a teacher wrote; "" where there is none."""
    if (extracted := _extracted(trace, grader)) is not None:
        return extracted
    text, marked = _completion(trace, task)
    return task.format.extract(text, grader, marked)


def _is_right(answer: str, trace: Trace, task: Task, grader: str) -> bool:
    gold = trace.gold or ""
    return answer == gold if _extracted(trace, grader) is not None else task.format.same(answer, gold, grader)


def _extracted(trace: Trace, grader: str) -> str | None:
    """What the program that asked the teacher took for the answer, where it is told: then its verdict is the original.

    Zero-shot-CoT compares that as text with the gold answer as it is written, whatever the task.
    """
    extracted = (trace.source or {}).get("extracted")
    return extracted if grader == "original" and isinstance(extracted, str) else None


def _completion(trace: Trace, task: Task) -> tuple[str, bool]:
    """The text that holds a trace's answer, and whether it followed a marker.

    A task reads the teacher's own words where they are kept; for people's own traces, `answer` is the answer.
    """
    source = trace.source or {}
    completion = source.get("completion")
    if task is CUSTOM or not isinstance(completion, str):
        return trace.answer, True
    return completion, bool(source.get("marked", True))


def _words(trace: Trace) -> int:
    return sum(len(step.text.split()) for step in trace.steps)


def _short(text: str) -> str:
    return repr(" ".join(text.split())[:60])


def _compare(candidates: list[_Candidate], curation: Curation) -> Iterator[tuple[_Candidate, Fault | None]]:
    """What becomes of the traces of one question when they are compared with each other."""
    left = []
    majority = _majority(candidates, curation.grader)
    for candidate in candidates:
        if candidate.vote is None or (
            majority and candidate.task.format.same(candidate.vote, majority, curation.grader)
        ):
            left.append(candidate)
        elif majority:
            yield candidate, ("outvoted", f"{candidate.vote!r} against {majority!r}")
        else:
            yield candidate, ("no_majority", f"{candidate.vote!r}")
    left.sort(key=lambda one: (one.words if curation.shortest_first else 0, one.sample, one.number))
    seen = Seen(curation.dedupe) if curation.dedupe else None
    count = 0
    for candidate in left:
        if seen and (reason := seen.find(candidate.text)):
            yield candidate, (reason, _short(candidate.text))
        elif curation.per_question is not None and count == curation.per_question:
            yield candidate, ("over_limit", f"{candidate.words:,} words")
        else:
            count += 1
            yield candidate, None


def _majority(candidates: list[_Candidate], grader: str) -> str | None:
    """The answer that most samples give, if at least `MIN_VOTES` do and no other has as many (self-consistency)."""
    votes: list[list[Any]] = []
    for candidate in candidates:
        if candidate.vote is None:
            continue
        for known in votes:
            if candidate.task.format.same(candidate.vote, known[0], grader):
                known[1] += 1
                break
        else:
            votes.append([candidate.vote, 1])
    votes.sort(key=lambda known: -known[1])
    clear = votes and votes[0][1] >= MIN_VOTES and (len(votes) == 1 or votes[0][1] > votes[1][1])
    return votes[0][0] if clear else None
