"""What a run found, in a sentence or a few: the one that matters, then those that put it in its place.

Usage: `finding(read_run(Path("runs/quickstart")).rows)[0]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tacit.report.reading import Row, is_section
from tacit.report.words import amount, display_name, percent

SUBJECTS = ("stepwise", "socratic", "implicit_kd")  # a run with one of them is about it


@dataclass(frozen=True)
class Outcome:
    """A method's rows taken together: means over seeds; None where no row has the value."""

    method: str
    seeds: int
    accuracy: float
    lowest: float
    highest: float
    n: float | None
    reasoning_tokens: float | None
    milliseconds: float | None
    batch_size: float | None
    gold_states: float | None


def _outcomes(rows: list[Row]) -> dict[str, Outcome]:
    outcomes = {}
    for method in dict.fromkeys(row.method for row in rows):
        known = [row for row in rows if row.method == method and row.accuracy is not None]
        accuracies = [row.accuracy for row in known if row.accuracy is not None]
        if known:
            outcomes[method] = Outcome(
                method=method,
                seeds=len(known),
                accuracy=sum(accuracies) / len(accuracies),
                lowest=min(accuracies),
                highest=max(accuracies),
                n=_common([row.n for row in known]),
                reasoning_tokens=_mean([row.reasoning_tokens for row in known]),
                milliseconds=_mean([row.milliseconds for row in known]),
                batch_size=_common([row.batch_size for row in known]),
                gold_states=_mean([row.thoughts.gold_states.share for row in known]),
            )
    return outcomes


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _common(values: Sequence[float | None]) -> float | None:
    return values[0] if len(set(values)) == 1 else None


def finding(rows: list[Row]) -> list[str]:
    """What the run found: the sentence that matters, then those that put it in its place."""
    if sentence := _sweep_finding(rows):
        return [sentence, *_budget_sentence(rows)]
    outcomes = _outcomes(rows)
    if not outcomes:
        return ["No model of this run has been evaluated yet."]
    hero = next((outcomes[method] for method in SUBJECTS if method in outcomes), None)
    hero = hero or max(outcomes.values(), key=lambda outcome: outcome.accuracy)
    plain = outcomes.get("no_cot")
    first = f"{display_name(hero.method)} answers {_share(hero)} of {_problems(hero)} right{_writing(hero)}"
    if plain and plain is not hero:
        other = "without internalization the same model" if hero.method == "stepwise" else display_name(plain.method)
        first += f"; {other} reaches {percent(plain.accuracy)}"
    others = {method: outcome for method, outcome in outcomes.items() if outcome is not hero}
    return [
        f"{first}.",
        *_chain_sentence(hero, others),
        *_socratic_sentences(outcomes, others),
        *_implicit_sentences(outcomes, others),
        *_budget_sentence(rows),
    ]


def _chain_sentence(hero: Outcome, others: Mapping[str, Outcome]) -> list[str]:
    chain = others.get("cot")
    if not chain:
        return []
    without = " without sub-questions" if hero.method == "socratic" else ""
    tokens = f", {amount(chain.reasoning_tokens)} reasoning tokens" if chain.reasoning_tokens else ""
    sentence = (
        f"Writing the chain of thought out{without} ({display_name('cot')}{tokens}) reaches {percent(chain.accuracy)}"
    )
    same_batch = chain.batch_size is not None and chain.batch_size == hero.batch_size
    if chain.milliseconds and hero.milliseconds and same_batch:
        longer = chain.milliseconds / hero.milliseconds
        if longer >= 1:
            sentence += f" and takes {longer:.1f} times as long per answer"
        else:
            sentence += f" and is {1 / longer:.1f} times as fast"
    return [f"{sentence}."]


def _socratic_sentences(outcomes: Mapping[str, Outcome], others: Mapping[str, Outcome]) -> list[str]:
    """What belongs to a decomposer and a solver: both in one pass, and the solver with better questions."""
    pair = outcomes.get("socratic")
    if not pair:
        return []
    sentences = []
    if "socratic" in others:
        sentences.append(f"{display_name('socratic')} reaches {percent(pair.accuracy)}{_writing(pair)}.")
    if unified := others.get("unified"):
        sentences.append(
            f"One student that asks and answers in one pass ({display_name('unified')}) reaches "
            f"{percent(unified.accuracy)}."
        )
    if oracle := others.get("oracle"):
        bound = ", which bounds what better questions could bring" if oracle.accuracy >= pair.accuracy else ""
        sentences.append(
            f"Asked the gold sub-questions in place of the decomposer's, the same solver reaches "
            f"{percent(oracle.accuracy)}{bound}."
        )
    return sentences


def _implicit_sentences(outcomes: Mapping[str, Outcome], others: Mapping[str, Outcome]) -> list[str]:
    """What belongs to ICoT-KD: its accuracy where the run is about another, and what perfect emulation would give."""
    implicit = outcomes.get("implicit_kd")
    if not implicit:
        return []
    name, sentences = display_name("implicit_kd"), []
    if "implicit_kd" in others:
        sentences.append(f"{name} reaches {_share(implicit)}{_writing(implicit)}.")
    if implicit.gold_states is not None:
        bound = ", which bounds what better emulation could bring" if implicit.gold_states >= implicit.accuracy else ""
        sentences.append(
            f"Given its teacher's own states instead of emulated ones, the student of {name} reaches "
            f"{percent(implicit.gold_states)}{bound}."
        )
    return sentences


def _budget_sentence(rows: list[Row]) -> list[str]:
    """What each method cost, where ICoT-KD, which is several trainings, stands beside others that cost something else.

    A method's lowest and highest number of steps are told, where its seeds or values differ.
    """
    steps: dict[str, str] = {}
    for method in dict.fromkeys(row.method for row in rows):
        if known := [row.train_steps for row in rows if row.method == method and row.train_steps]:
            low, high = amount(min(known)), amount(max(known))
            steps[method] = low if low == high else f"{low} to {high}"
    own = steps.pop("implicit_kd", None)
    if own is None or set(steps.values()) <= {own}:
        return []
    rest = ", ".join(f"{display_name(method)} {told}" for method, told in steps.items())
    together = "teacher, mind-reading student, emulator and coupling together"
    return [f"Optimizer steps: {display_name('implicit_kd')} {own} ({together}), {rest}."]


def _sweep_finding(rows: list[Row]) -> str:
    """How accuracy goes with the varied key, of the method that it changes most; "" where nothing is varied.

    Numbers are told from the first to the last, texts from the worst to the best.
    """
    trends = []
    for method in dict.fromkeys(row.method for row in rows if row.varied):
        values = list(dict.fromkeys(row.value for row in rows if row.method == method))
        of_value = [_outcomes([row for row in rows if (row.method, row.value) == (method, value)]) for value in values]
        known = [(value, found[method]) for value, found in zip(values, of_value, strict=True) if found]
        if not all(isinstance(value, int | float) for value in values):
            known.sort(key=lambda one: one[1].accuracy)
        if len(known) > 1:
            trends.append((known[0], known[-1]))
    if not trends:
        return ""
    (first, before), (last, after) = max(trends, key=lambda ends: abs(ends[1][1].accuracy - ends[0][1].accuracy))
    key = next(key for row in rows for key in row.varied)
    sentence = f"{display_name(after.method)} goes from {percent(before.accuracy)}"
    if is_section(key):
        sentence += f" ({first}) to {percent(after.accuracy)} ({last}) of {_problems(after)} right"
    else:
        sentence += f" to {percent(after.accuracy)} of {_problems(after)} right as {key} goes from {first} to {last}"
    plain = _outcomes([row for row in rows if row.method == "no_cot" and not row.varied]).get("no_cot")
    return f"{sentence}; {display_name('no_cot')} reaches {percent(plain.accuracy)}." if plain else f"{sentence}."


def _share(outcome: Outcome) -> str:
    low, high = percent(outcome.lowest), percent(outcome.highest)
    if outcome.seeds == 1:
        return percent(outcome.accuracy)
    return f"{percent(outcome.accuracy)} ({low} to {high} over {outcome.seeds} seeds)"


def _problems(outcome: Outcome) -> str:
    return "held-out problems" if outcome.n is None else f"{amount(outcome.n)} held-out problems"


def _writing(outcome: Outcome) -> str:
    if outcome.reasoning_tokens is None:
        return ""
    if outcome.reasoning_tokens == 0:
        return " without writing a reasoning token"
    return f", writing {amount(outcome.reasoning_tokens)} reasoning tokens per answer"
