"""What went well and wrong in dialogues of a Socratic pipeline, beside traces with the gold sub-questions.

Usage: `predictions, measures = evaluate_dialogues(pipeline, traces)`; `measures["same_count"]["share"]`.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from tacit.errors import TacitError
from tacit.evaluation.evaluate import Prediction, predict
from tacit.evaluation.statistics import share
from tacit.grading import GRADERS, NUMBER, same_answer
from tacit.socratic.pipeline import Dialogue, SocraticPipeline
from tacit.socratic.rows import answered, has_answers, is_socratic, read_turns
from tacit.tasks import Task
from tacit.trace import Trace

# Where a dialogue left the gold one first; between them stands "step 1", "step 2" and so on.
NOWHERE, LAST, TOO_FEW, TOO_MANY = "nowhere", "last step", "too few questions", "too many questions"


def evaluate_dialogues(
    pipeline: SocraticPipeline,
    traces: Sequence[Trace],
    batch_size: int = 64,
    grader: str = GRADERS[0],
    asked: Sequence[Sequence[str]] | None = None,
    plans: Sequence[str] | None = None,
) -> tuple[list[Prediction], dict[str, Any]]:
    """Grades a pipeline on problems, and measures its dialogues.

    Args:
        pipeline (`SocraticPipeline`): Its students are put into evaluation mode for the time.
        traces: The problems; their `label` is the right answer.
        batch_size (`int`): Problems at a time.
        grader (`str`): One of `tacit.grading.GRADERS`.
        asked, plans: Sub-questions or plans from somebody else, as `SocraticPipeline.reply` takes them.

    Returns:
        The predictions, and `summarise_dialogues` with one more entry where nothing is from somebody else and there
        are gold sub-questions: `gold_history`, the `step_accuracy` of the solver given the gold turns before each.

    Raises:
        TacitError: There are no problems, one is empty, or a tokenizer cannot represent it.
    """
    if not traces:
        raise TacitError("there are no problems to evaluate the pipeline on")
    task = pipeline.task
    dialogues = pipeline.reply([trace.question for trace in traces], batch_size, asked, plans)
    predictions = [predict(task, trace, said, grader) for trace, said in zip(traces, dialogues, strict=True)]
    measures = summarise_dialogues(dialogues, traces, task, grader)
    gold = [trace for trace in traces if is_socratic(trace) and has_answers(trace)]
    if gold and asked is None and plans is None:
        measures["gold_history"] = step_accuracy(answer_steps(pipeline, gold, batch_size), gold, task, grader)
    return predictions, measures


def summarise_dialogues(
    dialogues: Sequence[Dialogue], traces: Sequence[Trace], task: Task, grader: str = GRADERS[0]
) -> dict[str, Any]:
    """The measures of dialogues beside the answers' accuracy, as JSON values.

        n                 dialogues
        questions         asked of a problem, the mean; after the pipeline's guards (a repeated one counts once)
        notes             {note: dialogues that have it}: what went wrong, and had a fallback
        gold              problems whose trace has a sub-question on each step, those that nothing answers left
                          out; what follows is of them, and missing where there are none
        gold_questions    in a trace, the mean
        same_count        the share of problems with as many questions as the trace, as {share, ci95, n}
        count_difference  questions asked less those in the trace, the mean
        same_questions    the share with the very list of questions of the trace, up to white space
        bleu              BLEU of the questions, 0 to 100, of the whole corpus; a problem's are joined by spaces
        bleu_signature    how sacrebleu (Post 2018) calculated it
        first_wrong       {place: dialogues}, as `first_wrong` finds it; the places stand in their order. This and
                          `steps` are of the traces whose steps have answers
        steps             `step_accuracy` of the dialogues with as many turns as their trace has steps: with oracle
                          questions, of all; `None` where there are none

    Args:
        dialogues: Those of a pipeline.
        traces: The problems, in the same order.
        task (`Task`): Grades the last answer.
        grader (`str`): One of `tacit.grading.GRADERS`.
    """
    summary: dict[str, Any] = {
        "n": len(dialogues),
        "questions": statistics.fmean(len(dialogue.asked) for dialogue in dialogues),
        "notes": dict(sorted(Counter(note for dialogue in dialogues for note in set(dialogue.notes)).items())),
    }
    pairs = [pair for pair in zip(dialogues, traces, strict=True) if is_socratic(pair[1])]
    summary["gold"] = len(pairs)
    if not pairs:
        return summary
    asked = [[" ".join(question.split()) for question in dialogue.asked] for dialogue, _ in pairs]
    gold = [[" ".join((step.question or "").split()) for step in answered(trace).steps] for _, trace in pairs]
    both = list(zip(asked, gold, strict=True))
    told = [pair for pair in pairs if has_answers(pair[1])]
    places = Counter(first_wrong(*pair, task, grader) for pair in told)
    aligned = [pair for pair in told if len(pair[0].turns) == len(answered(pair[1]).steps)]
    answers = [[turn.answer for turn in dialogue.turns] for dialogue, _ in aligned]
    return {
        **summary,
        "gold_questions": statistics.fmean(map(len, gold)),
        "same_count": share(len(one) == len(other) for one, other in both),
        "count_difference": statistics.fmean(len(one) - len(other) for one, other in both),
        "same_questions": share(one == other for one, other in both),
        **_bleu([" ".join(one) for one in asked], [" ".join(other) for other in gold]),
        "first_wrong": {place: places[place] for place in sorted(places, key=_place)},
        "steps": step_accuracy(answers, [trace for _, trace in aligned], task, grader) if aligned else None,
    }


def first_wrong(dialogue: Dialogue, trace: Trace, task: Task, grader: str = GRADERS[0]) -> str:
    """Where a dialogue with a wrong conclusion left that of its trace first.

    Answers are compared in their order: turn j's with step j's, but for the last of the shorter of the two, since the
    last turn concludes whatever its number. So a step that another sub-question took the place of is wrong, too, and
    so is one that comes in another order.

    Args:
        dialogue (`Dialogue`): Of a pipeline.
        trace (`Trace`): The same problem with its gold sub-questions.
        task (`Task`), grader (`str`): They grade the conclusion.

    Returns:
        "nowhere" where the conclusion is right; "step j" for the first answer that differs; where none does, "too few
        questions" or "too many questions" if the numbers differ, else "last step".
    """
    if task.grade(dialogue.conclusion, trace.label, grader, dialogue.marked):
        return NOWHERE
    gold = read_turns(trace)
    for j, (turn, right) in enumerate(zip(dialogue.turns[:-1], gold[:-1], strict=False), 1):
        if not _same_result(turn.answer, right.answer):
            return f"step {j}"
    if len(dialogue.turns) == len(gold):
        return LAST
    return TOO_FEW if len(dialogue.turns) < len(gold) else TOO_MANY


def answer_steps(pipeline: SocraticPipeline, traces: Sequence[Trace], batch_size: int = 64) -> list[list[str]]:
    """What the solver answers to each sub-question of each trace, given the gold turns before it.

    Where it cannot read them, the answer is empty. Raises `TacitError` for a trace without sub-questions.
    """
    golds = [read_turns(trace) for trace in traces]
    answers = [[""] * len(gold) for gold in golds]
    for j in range(max(map(len, golds), default=0)):
        asking = {
            i: Dialogue(traces[i].question, asked=[turn.question for turn in gold], turns=gold[:j])
            for i, gold in enumerate(golds)
            if j < len(gold)
        }
        pipeline.answer(list(asking.values()), j, batch_size)
        for i, dialogue in asking.items():
            answers[i][j] = dialogue.answer if len(dialogue.turns) > j else ""
    return answers


def step_accuracy(
    answers: Sequence[Sequence[str]], traces: Sequence[Trace], task: Task, grader: str = GRADERS[0]
) -> dict[str, Any]:
    """How many steps were answered right, all together and by their place.

    The last answer of a trace is graded by its task; those before by value if the gold one is a number, else as text.

    Args:
        answers: Of each trace, in the order of its steps; one that is missing is wrong.
        traces: With sub-questions; at least one.
        task (`Task`), grader (`str`): For the last answers.

    Returns:
        Over all steps `{"share", "ci95", "n", "by_step": [{"share", "ci95", "n"}, ...]}`; `by_step` has an entry for
        step 1, step 2 and so on, over the traces that have it.
    """
    right: defaultdict[int, list[bool]] = defaultdict(list)
    for given, trace in zip(answers, traces, strict=True):
        *before, last = read_turns(trace)
        got = [*given[: len(before) + 1], *[""] * (len(before) + 1 - len(given))]
        for j, turn in enumerate(before):
            right[j].append(_same_result(got[j], turn.answer))
        right[len(before)].append(task.grade(got[-1], last.answer, grader))
    by_step = [right[j] for j in range(len(right))]
    return {**share(one for step in by_step for one in step), "by_step": [share(step) for step in by_step]}


def _same_result(answer: str, gold: str) -> bool:
    """An intermediate answer is often a number where the task's own answers are none."""
    return NUMBER.same(answer, gold) if NUMBER.extract(gold, "strict") else same_answer(answer, gold)


def _place(place: str) -> tuple[int, int]:
    """Orders what `first_wrong` returns."""
    if place.startswith("step "):
        return 1, int(place.removeprefix("step "))
    return (NOWHERE, "", LAST, TOO_FEW, TOO_MANY).index(place), 0


def _bleu(written: list[str], gold: list[str]) -> dict[str, Any]:
    from sacrebleu.metrics import BLEU

    bleu = BLEU(force=True)  # says nothing where words and punctuation are set apart already
    return {"bleu": bleu.corpus_score(written, [gold]).score, "bleu_signature": str(bleu.get_signature())}
