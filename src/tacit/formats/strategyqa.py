"""StrategyQA's own files (`train.json`, `dev.json`): one JSON list of questions with their decompositions.

A step is one sub-question of the decomposition; `#k` in it stands for the answer of step k, as in the file. The last
step's answer is the gold answer. People's answers to the other sub-questions are not in the files; what is a step's
text, `source["steps"]` says:

    facts          the fact of the same number, where there are as many facts as sub-questions
    step answers   else the machine's answer, of a file that has them (`step_answers`); there `#k` is filled in already
    decomposition  else the sub-question itself

The machine's answer is also the step's answer (it may have found none); its last one stays in
`source["step_answers"]` alone, since the gold answer is known. The facts stay in `source`, too.

Usage: `traces = list(read_strategyqa(text))`.
"""

from collections.abc import Iterator

from tacit.errors import TacitError
from tacit.formats.records import Record, field_text, field_texts, records
from tacit.trace import Step, Trace


def read_strategyqa(text: str) -> Iterator[Trace]:
    """The traces of a whole file. Raises `TacitError` naming record and field."""
    return records(text, _trace)


def _trace(record: Record) -> Trace:
    question, asked, facts = (
        field_text(record, "question"),
        field_texts(record, "decomposition"),
        field_texts(record, "facts"),
    )
    if not isinstance(record.get("answer"), bool):
        raise TacitError("field 'answer' is not true or false")
    answer = "yes" if record["answer"] else "no"
    told = record.get("step_answers", [])
    if not isinstance(told, list) or not all(isinstance(text, str) for text in told):
        raise TacitError("field 'step_answers' is not a list of texts")
    if told and len(told) != len(asked):
        raise TacitError("field 'step_answers': not as many as sub-questions in 'decomposition'")
    answers = [*(text.strip() or None for text in (told or [""] * len(asked))[:-1]), answer]
    if len(facts) == len(asked):
        rule, texts = "facts", facts
    elif told:
        rule, texts = "step answers", answers
    else:
        rule, texts = "decomposition", asked
    steps = (Step(text or "", *rest) for text, *rest in zip(texts, asked, answers, strict=True))
    source = {"format": "strategyqa", "facts": facts, **({"step_answers": told} if told else {}), "steps": rule}
    return Trace(question, tuple(steps), answer, id=field_text(record, "qid"), source=source)
