"""Schedules, removal smoothing against the published table, and the removal itself against a plain loop."""

import dataclasses
import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from tacit.rendering import Rendering, Renderings, render
from tacit.stages import (
    IGNORED,
    AdaptiveSchedule,
    Batcher,
    ConstantSchedule,
    LinearSchedule,
    Removal,
    Schedule,
    StagedSchedule,
)
from tacit.trace import Trace

# --- linear and constant ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("per_epoch", "steps_per_epoch"), [(8, 800), (8, 25_248), (1, 12_051), (39, 39), (0.5, 100)])
def test_linear_at_the_borders_of_its_stages(per_epoch: float, steps_per_epoch: int) -> None:
    schedule = LinearSchedule(total=50, per_epoch=per_epoch, steps_per_epoch=steps_per_epoch)
    every = round(steps_per_epoch / per_epoch)  # R, steps for each removed token
    assert every * per_epoch == steps_per_epoch
    assert [schedule.removed(step) for step in (0, every - 1, every, 2 * every - 1, 2 * every)] == [0, 0, 1, 1, 2]
    for k in range(51):
        assert schedule.removed(k * every) == k
        assert schedule.removed(k * every + every - 1) == k
    assert schedule.removed(51 * every) == schedule.removed(10**9) == 50


@given(st.integers(1, 64), st.integers(1, 30_000), st.integers(0, 10**6))
def test_linear_is_the_formula(per_epoch: int, steps_per_epoch: int, step: int) -> None:
    schedule = LinearSchedule(total=10**9, per_epoch=per_epoch, steps_per_epoch=steps_per_epoch)
    assert schedule.removed(step) == per_epoch * step // steps_per_epoch


def test_linear_runs_on_across_epochs_where_they_do_not_divide() -> None:
    schedule = LinearSchedule(total=100, per_epoch=8, steps_per_epoch=25_250)  # published: 808,000 lines in 32s
    firsts = [next(t for t in range(3000 * k, 3200 * k) if schedule.removed(t) == k) for k in range(1, 20)]
    assert firsts == [-(-25_250 * k // 8) for k in range(1, 20)]


def test_more_than_one_token_a_step() -> None:
    schedule = LinearSchedule(total=9, per_epoch=5, steps_per_epoch=2)
    assert [schedule.removed(step) for step in range(6)] == [0, 2, 5, 7, 9, 9]


def test_remove_all_beyond() -> None:
    schedule = LinearSchedule(total=82, per_epoch=1, steps_per_epoch=10, remove_all_after=39)
    assert schedule.removed(10 * 39 - 1) == 38
    assert schedule.removed(10 * 39) == 82
    assert LinearSchedule(82, 1, 10, remove_all_after=0).removed(0) == 82
    assert LinearSchedule(20, 1, 10, remove_all_after=39).removed(10**6) == 20


def test_explicit_steps_come_first_and_without_smoothing() -> None:
    schedule = LinearSchedule(total=50, per_epoch=1, steps_per_epoch=10, explicit_steps=25)
    assert [schedule.removed(step) for step in (0, 24, 25, 34, 35)] == [0, 0, 0, 0, 1]
    assert [schedule.smoothed(step) for step in (0, 24, 25, 35)] == [False, False, True, True]
    assert LinearSchedule(50, 1, 10).smoothed(0)


def test_start_offset() -> None:
    schedule = LinearSchedule(total=50, per_epoch=1, steps_per_epoch=10, start=7, explicit_steps=5)
    assert [schedule.removed(step) for step in (0, 5, 14, 15)] == [7, 7, 7, 8]
    assert LinearSchedule(total=5, per_epoch=1, steps_per_epoch=10, start=7).removed(0) == 5
    assert LinearSchedule(50, 1, 10, start=7, remove_all_after=7).removed(0) == 50


@pytest.mark.parametrize(("amount", "removed"), [(0, 0), (12, 12), (99, 12)])
def test_constant(amount: int, removed: int) -> None:
    schedule = ConstantSchedule(total=12, amount=amount)
    assert {schedule.removed(step) for step in (0, 1, 10**6)} == {removed}
    assert not schedule.smoothed(0)


@pytest.mark.parametrize("schedule", [ConstantSchedule(9, 4), LinearSchedule(9, 1, 3)])
def test_a_pure_function_of_the_step_has_no_state(schedule: Schedule) -> None:
    before = [schedule.removed(step) for step in range(30)]
    state = schedule.state_dict()
    schedule.observe(3, 100.0)
    assert schedule.state_dict() == state
    assert [schedule.removed(step) for step in reversed(range(30))] == before[::-1]


@pytest.mark.parametrize("explicit", [0, 40])
def test_linear_at_half_the_pace_from_where_it_stands(explicit: int) -> None:
    schedule = LinearSchedule(total=50, per_epoch=1, steps_per_epoch=10, start=3, explicit_steps=explicit)
    schedule.slow_down(25)
    slowed = [schedule.removed(step) for step in range(25, 200)]
    first, begin = (3, 40) if explicit else (5, 25)
    assert slowed == [first + max(0, step - begin) // 20 for step in range(25, 200)]
    schedule.slow_down(105)
    again = LinearSchedule(total=50, per_epoch=1, steps_per_epoch=10, start=3, explicit_steps=explicit)
    again.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    assert [again.removed(105 + 40 * k) - slowed[80] for k in range(4)] == [0, 1, 2, 3]


# --- stages of one length, growing and shrinking ---------------------------------------------------------------------


def test_geometric_removal_is_over_after_a_logarithm_of_stages() -> None:
    schedule = StagedSchedule(total=30, growth=2.0, patience=5, explicit_patience=3)
    removed = [schedule.removed(step) for step in range(30)]
    assert removed == [0] * 3 + [1] * 5 + [3] * 5 + [7] * 5 + [15] * 5 + [30] * 7
    assert not StagedSchedule(total=3).smoothed(0)
    assert schedule.smoothed(3)


@given(st.integers(1, 40), st.integers(1, 9), st.floats(0.2, 4), st.integers(0, 5))
def test_chunks_grow_and_shrink_by_the_ratio(total: int, chunk: int, growth: float, start: int) -> None:
    schedule = StagedSchedule(total, chunk, growth, patience=1, explicit_patience=1, start=start)
    amount, expected = min(start, total), []
    for stage in range(45):
        expected.append(amount)
        amount = min(total, amount + max(1, round(chunk * growth**stage)))
    assert [schedule.removed(step) for step in range(45)] == expected


@pytest.mark.parametrize("kind", [StagedSchedule, AdaptiveSchedule])
def test_stages_at_half_the_pace(kind: type[StagedSchedule]) -> None:
    schedule = kind(total=40, chunk=4, patience=5, explicit_patience=3)
    before = [schedule.removed(step) for step in range(10)]
    assert before == [0] * 3 + [4] * 5 + [8] * 2
    schedule.slow_down(10)
    assert [schedule.removed(step) for step in range(10, 31)] == [8] * 10 + [12] * 10 + [16]
    again = kind(total=40, chunk=4, patience=5, explicit_patience=3)
    again.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    assert [again.removed(step) for step in (39, 40)] == [16, 20]


# --- adaptive --------------------------------------------------------------------------------------------------------


def removals(schedule: AdaptiveSchedule, losses: list[float], first: int = 0, lag: int = 0) -> list[int]:
    """What is removed at each step, when the loss of a step arrives `lag` steps late."""
    removed = []
    for step in range(first, len(losses)):
        if step - 1 - lag >= first:
            schedule.observe(step - 1 - lag, losses[step - 1 - lag])
        removed.append(schedule.removed(step))
    return removed


def adaptive(**fields: Any) -> AdaptiveSchedule:
    base = AdaptiveSchedule(total=6, min_steps=3, patience=20, explicit_patience=40, window=1)
    return dataclasses.replace(base, **fields)


def test_the_explicit_stage_ends_when_the_loss_is_low() -> None:
    losses = [1.0] * 10 + [0.04] * 3
    assert removals(adaptive(), losses) == [0] * 11 + [1, 1]
    assert removals(adaptive(), [0.04] * 5) == [0, 0, 0, 1, 1]  # not before min_steps


def test_the_explicit_stage_ends_when_its_patience_is_used_up() -> None:
    assert removals(adaptive(), [1.0] * 42) == [0] * 40 + [1, 1]


def test_a_later_stage_is_measured_against_the_best_end_of_those_before() -> None:
    schedule = adaptive(tolerance=1.5, slack=0.05)
    before = [1.0] * 9 + [0.4] * 31  # explicit patience; the reference is 0.4, so the gate is 0.65
    assert removals(schedule, [*before, 2.0, 2.0, 2.0, 2.0, 0.66, 0.64, 2.0]) == [0] * 40 + [1] * 6 + [2]
    assert schedule.reference == 0.4
    assert removals(schedule, [*[9.0] * 50, 0.3, 2.0], first=47)[-1] == 3
    assert schedule.reference == 0.3


def test_a_later_stage_ends_when_its_patience_is_used_up() -> None:
    assert removals(adaptive(), [0.04] * 3 + [9.0] * 22) == [0] * 3 + [1] * 20 + [2] * 2


def test_the_loss_is_smoothed_within_a_stage() -> None:
    schedule = adaptive(window=4)
    for step, loss in enumerate([1.0, 0.0, 0.0]):
        schedule.observe(step, loss)
    assert schedule.loss == pytest.approx(0.75**2)
    lucky = adaptive(window=10)  # one low batch is no recovery
    assert removals(lucky, [1.0] * 5 + [0.0] + [1.0] * 5) == [0] * 11


def test_a_reading_from_before_the_removal_does_not_count() -> None:
    schedule = adaptive()
    assert removals(schedule, [0.04] * 4) == [0, 0, 0, 1]
    schedule.observe(2, 0.04)  # late: step 3 is the first of the new stage
    assert schedule.loss is None
    schedule.observe(3, 9.0)
    assert schedule.loss == 9.0
    assert schedule.reference == 0.04


def test_adaptive_removes_in_chunks_up_to_all() -> None:
    removed = removals(adaptive(chunk=4), [0.0] * 20)
    assert removed == [0] * 3 + [4] * 3 + [6] * 14
    removed = removals(adaptive(chunk=2, remove_all_after=4), [0.0] * 20)
    assert removed == [0] * 3 + [2] * 3 + [6] * 14
    assert removals(adaptive(start=5), [0.0] * 6) == [5] * 3 + [6] * 3
    assert removals(adaptive(start=99), [0.0] * 2) == [6, 6]


def test_a_loss_that_is_no_number_waits_for_patience() -> None:
    assert removals(adaptive(patience=5, explicit_patience=7), [math.nan] * 18) == [0] * 7 + [1] * 5 + [2] * 5 + [3]


@given(
    st.lists(st.sampled_from([0.01, 0.1, 0.3, 1.0, 3.0]), min_size=40, max_size=60),
    st.data(),
    st.integers(0, 3),
    st.builds(
        AdaptiveSchedule,
        total=st.integers(0, 8),
        chunk=st.integers(1, 3),
        tolerance=st.floats(0.5, 2),
        slack=st.floats(0, 1),
        min_steps=st.integers(1, 5),
        patience=st.integers(1, 15),
        explicit_patience=st.integers(1, 15),
        start=st.integers(0, 3),
        window=st.integers(1, 5),
    ),
)
def test_adaptive_goes_on_from_a_saved_state(
    losses: list[float], data: st.DataObject, lag: int, schedule: AdaptiveSchedule
) -> None:
    copy = dataclasses.replace(schedule)
    whole = removals(schedule, losses, lag=lag)
    assert whole == sorted(whole)
    assert all(0 <= removed <= schedule.total for removed in whole)

    stop = data.draw(st.integers(1, len(losses)))
    before, resumed = dataclasses.replace(copy), dataclasses.replace(copy)
    first = removals(before, losses[:stop], lag=lag)
    resumed.load_state_dict(json.loads(json.dumps(before.state_dict())))
    rest = []
    for step in range(stop, len(losses)):
        if step - 1 - lag >= 0:
            resumed.observe(step - 1 - lag, losses[step - 1 - lag])
        rest.append(resumed.removed(step))
    assert first + rest == whole
    assert resumed.state_dict() == schedule.state_dict()


def test_stages_that_end_when_enough_is_right() -> None:
    """Whatever the loss, and from the explicit stage on; a step of which nothing is known changes nothing."""
    schedule = adaptive(exact_match=0.8, min_steps=2, window=2)
    removed = []
    for step, right in enumerate([0.0, 0.9, 0.9, 1.0, 0.5, None, 1.0, 0.7, 0.7]):
        removed.append(schedule.removed(step))
        schedule.observe(step, loss=0.0 if step < 3 else 9.0, exact_match=right)
    # smoothed: 0, 0.45, 0.675, 0.8375 | 0.5, 0.5, 0.75, 0.725, 0.7125
    assert removed == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert schedule.right == pytest.approx(0.7125)
    again = adaptive(exact_match=0.8, min_steps=2, window=2)
    again.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    for one in (schedule, again):
        one.observe(9, 9.0, 1.0)
        assert one.removed(10) == 2
        assert one.right is None
    assert [schedule.removed(step) for step in (29, 30)] == [2, 3], "patience"
    schedule.observe(31, 9.0, 1.0)
    schedule.slow_down(32)
    assert schedule.right is None


# --- smoothing -------------------------------------------------------------------------------------------------------

EXAMPLES = np.arange(400_000)


@pytest.mark.parametrize(
    ("smoothing", "shares", "mean"),
    [
        (4, [0.981684, 0.017980, 3.293e-4, 6.03e-6], 0.01866),
        (2, [0.864665, 0.117020, 0.015837, 0.002143], 0.15652),
        (1, [0.632121, 0.232544, 0.085548, 0.031471], 0.58198),
    ],
)
def test_smoothing_follows_the_published_table(smoothing: float, shares: list[float], mean: float) -> None:
    offsets = Removal(smoothing=smoothing, seed=11).offsets(3, EXAMPLES)
    count = len(offsets)
    for o, share in enumerate(shares):
        tolerance = 5 * math.sqrt(share * (1 - share) / count) + 1e-6
        assert (offsets == o).mean() == pytest.approx(share, abs=tolerance)
    deviation = math.sqrt(math.exp(-smoothing)) / (1 - math.exp(-smoothing))
    assert offsets.mean() == pytest.approx(mean, abs=5 * deviation / math.sqrt(count) + 1e-5)
    assert offsets.min() == 0


def test_infinite_lambda_is_off() -> None:
    assert not Removal(smoothing=math.inf).offsets(5, EXAMPLES).any()


@given(st.integers(0, 2**31), st.integers(0, 10**7), st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_an_offset_is_a_function_of_seed_step_and_example(seed: int, step: int, examples: list[int]) -> None:
    removal = Removal(smoothing=0.5, seed=seed)
    together = removal.offsets(step, np.array(examples))
    alone = [int(Removal(smoothing=0.5, seed=seed).offsets(step, np.array([example]))[0]) for example in examples]
    assert together.tolist() == alone
    assert removal.offsets(step, np.array(examples[::-1])).tolist() == alone[::-1]
    assert (together >= 0).all()


def test_seeds_steps_and_examples_are_independent() -> None:
    def draw(seed: int, step: int, shift: int = 0) -> np.ndarray:
        return Removal(smoothing=0.5, seed=seed).offsets(step, EXAMPLES[:100_000] + shift).astype(float)

    base = draw(0, 0)
    for other in (draw(1, 0), draw(0, 1), draw(1, 1), draw(0, 0, 1), draw(0, 0, 1000)):
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.02
    by_step = np.array([Removal(smoothing=0.5, seed=3).offsets(step, np.array([7]))[0] for step in range(4000)])
    assert abs(np.corrcoef(by_step[:-1], by_step[1:])[0, 1]) < 0.08
    assert (by_step == 0).mean() == pytest.approx(1 - math.exp(-0.5), abs=0.05)


def test_offsets_are_the_same_on_every_machine() -> None:
    offsets = Removal(smoothing=0.5, seed=3).offsets(17, np.arange(12))
    assert offsets.tolist() == [3, 0, 2, 1, 5, 0, 1, 4, 2, 1, 3, 4]


# --- removal and batches, against a plain loop -----------------------------------------------------------------------

PAD = 0


@dataclasses.dataclass
class Sequence:
    """A sequence with its segments as lists."""

    prompt: list[int]
    steps: list[list[int]]
    answer: list[int]


def sequences(max_steps: int = 4) -> st.SearchStrategy[list[Sequence]]:
    """Sequences of ids that all differ, so that a misplaced token cannot hide; the last id of each is the pad id."""
    shape = st.tuples(st.integers(1, 4), st.lists(st.integers(1, 4), max_size=max_steps), st.integers(0, 4))

    def build(shapes: list[tuple[int, list[int], int]]) -> list[Sequence]:
        ids = iter(range(1, 10_000))

        def take(count: int) -> list[int]:
            return [next(ids) for _ in range(count)]

        return [Sequence(take(p), [take(length) for length in steps], [*take(a), PAD]) for p, steps, a in shapes]

    return st.lists(shape, min_size=1, max_size=6).map(build)


def flat(lists: list[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(lists))


def as_renderings(some: list[Sequence], encoder_decoder: bool = False) -> Renderings:
    whole = [[*one.prompt, *flat(one.steps), *one.answer] for one in some]
    starts = [
        start for one in some for start in np.cumsum([len(one.prompt), *(len(step) for step in one.steps)]).tolist()
    ]
    return Renderings(
        np.array(flat(whole)),
        np.array([len(ids) for ids in whole]),
        np.array(starts),
        np.array([len(one.steps) for one in some]),
        encoder_decoder,
    )


def plain_removal(one: Sequence, unit: str, side: str, removed: int) -> list[int]:
    """What is left of the chain."""
    units = one.steps if unit == "step" else [[token] for step in one.steps for token in step]
    left = units[removed:] if side == "left" else units[: max(0, len(units) - removed)]
    return flat(left)


def plain_unasked(one: Sequence, removed: int) -> int:
    """How many tokens are left of the step in which a removal from the left ends, if it ends within one."""
    for step in one.steps:
        if removed < len(step):
            return len(step) - removed if removed else 0
        removed -= len(step)
    return 0


def plain_batch(
    some: list[Sequence], chains: list[list[int]], unasked: list[int] | None = None
) -> dict[str, list[list[int]]]:
    rows = [
        (one.prompt + chain + one.answer, [IGNORED] * (len(one.prompt) + count) + chain[count:] + one.answer)
        for one, chain, count in zip(some, chains, unasked or [0] * len(some), strict=True)
    ]
    longest = max(len(ids) for ids, _ in rows)
    return {
        "input_ids": [ids + [PAD] * (longest - len(ids)) for ids, _ in rows],
        "attention_mask": [[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows],
        "labels": [labels + [IGNORED] * (longest - len(labels)) for _, labels in rows],
    }


def plain_batch_apart(some: list[Sequence], chains: list[list[int]]) -> dict[str, list[list[int]]]:
    """For an encoder-decoder: the prompts are read, the rest is written."""
    targets = [chain + one.answer for one, chain in zip(some, chains, strict=True)]
    longest, widest = max(len(one.prompt) for one in some), max(map(len, targets))
    return {
        "input_ids": [one.prompt + [PAD] * (longest - len(one.prompt)) for one in some],
        "attention_mask": [[1] * len(one.prompt) + [0] * (longest - len(one.prompt)) for one in some],
        "labels": [target + [IGNORED] * (widest - len(target)) for target in targets],
    }


def as_lists(batch: dict[str, torch.Tensor]) -> dict[str, list[list[int]]]:
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())
    return {name: tensor.tolist() for name, tensor in batch.items()}


units = st.sampled_from(["token", "step"])
sides = st.sampled_from(["left", "right"])


@given(sequences(), units, sides, st.booleans(), st.data())
def test_removal_is_what_a_plain_loop_does(
    some: list[Sequence], unit: Any, side: Any, apart: bool, data: st.DataObject
) -> None:
    """Of a causal model and of an encoder-decoder, whose prompts no removal touches."""
    rendered = as_renderings(some, apart)
    chosen = data.draw(st.lists(st.integers(0, len(some) - 1), min_size=1, max_size=8))  # any order, repeats too
    amounts = data.draw(st.lists(st.integers(0, 20), min_size=len(chosen), max_size=len(chosen)))
    examples = np.array(chosen)
    start, length = Removal(unit, side).spans(rendered, examples, np.array(amounts))
    assert start.shape == length.shape == examples.shape
    assert length.dtype == np.int64
    batch = Batcher(rendered, PAD).cut(examples, start, length)
    picked = [some[at] for at in chosen]
    chains = [plain_removal(one, unit, side, k) for one, k in zip(picked, amounts, strict=True)]
    assert as_lists(batch) == (plain_batch_apart if apart else plain_batch)(picked, chains)


@given(sequences(), st.data())
def test_partial_steps_are_read_and_no_targets(some: list[Sequence], data: st.DataObject) -> None:
    rendered, examples = as_renderings(some), np.arange(len(some))
    amounts = data.draw(st.lists(st.integers(0, 20), min_size=len(some), max_size=len(some)))
    removal = Removal(learn_partial_steps=False)
    start, length = removal.spans(rendered, examples, np.array(amounts))
    unasked = removal.unasked(rendered, examples, length)
    counts = [plain_unasked(one, k) for one, k in zip(some, amounts, strict=True)]
    assert unasked.tolist() == counts
    batcher = Batcher(rendered, PAD)
    batch = batcher.cut(examples, start, length, unasked)
    chains = [plain_removal(one, "token", "left", k) for one, k in zip(some, amounts, strict=True)]
    assert as_lists(batch) == plain_batch(some, chains, counts)
    labels = batch["labels"].flatten()
    asked = [at for at, label in enumerate(labels.tolist()) if label != IGNORED]
    assert (batcher.predicting(examples, length, unasked) + 1).tolist() == asked
    assert not Removal().unasked(rendered, examples, length).any()


@given(sequences(), units, sides, st.integers(0, 20))
def test_one_amount_for_all(some: list[Sequence], unit: Any, side: Any, removed: int) -> None:
    rendered, examples = as_renderings(some), np.arange(len(some))
    start, length = Removal(unit, side).spans(rendered, examples, removed)
    batch = Batcher(rendered, PAD).cut(examples, start, length)
    assert as_lists(batch) == plain_batch(some, [plain_removal(one, unit, side, removed) for one in some])


@given(sequences(), units, sides)
def test_nothing_and_everything(some: list[Sequence], unit: Any, side: Any) -> None:
    rendered, examples, removal = as_renderings(some), np.arange(len(some)), Removal(unit, side)
    batcher = Batcher(rendered, PAD)
    whole = [flat(one.steps) for one in some]
    assert as_lists(batcher.cut(examples, *removal.spans(rendered, examples, 0))) == plain_batch(some, whole)
    everything = plain_batch(some, [[] for _ in some])  # exactly prompt and answer segment
    for removed in (removal.total(rendered), removal.total(rendered) + 5, 10**9):
        assert as_lists(batcher.cut(examples, *removal.spans(rendered, examples, removed))) == everything
    longest = max(len(one.steps) if unit == "step" else len(chain) for one, chain in zip(some, whole, strict=True))
    assert removal.total(rendered) == longest


def test_sides_and_units_by_hand() -> None:
    (one,) = [Sequence([1, 2], [[3, 4], [5], [6, 7, 8]], [9, PAD])]
    rendered, examples = as_renderings([one]), np.array([0])
    expected = {
        ("token", "left", 1): [1, 2, 4, 5, 6, 7, 8, 9, 0],
        ("token", "right", 1): [1, 2, 3, 4, 5, 6, 7, 9, 0],
        ("token", "left", 4): [1, 2, 7, 8, 9, 0],
        ("token", "right", 4): [1, 2, 3, 4, 9, 0],
        ("step", "left", 1): [1, 2, 5, 6, 7, 8, 9, 0],
        ("step", "right", 1): [1, 2, 3, 4, 5, 9, 0],
        ("step", "left", 2): [1, 2, 6, 7, 8, 9, 0],
        ("step", "right", 2): [1, 2, 3, 4, 9, 0],
    }
    for (unit, side, removed), ids in expected.items():
        span = Removal(unit, side).spans(rendered, examples, removed)
        assert Batcher(rendered, PAD).cut(examples, *span)["input_ids"].tolist() == [ids]


def test_a_batch_without_any_chain() -> None:
    some = [Sequence([1], [], [2, PAD]), Sequence([3, 4], [], [PAD])]
    rendered, examples = as_renderings(some), np.arange(2)
    assert Removal().total(rendered) == Removal("step").total(rendered) == 0
    for removal in (Removal("token"), Removal("step", "right")):
        batch = Batcher(rendered, PAD).cut(examples, *removal.spans(rendered, examples, 3))
        assert as_lists(batch) == plain_batch(some, [[], []])


# --- targets, on rendered traces -------------------------------------------------------------------------------------


@pytest.mark.parametrize("removed", [0, 1, 3, 1000])
def test_the_loss_is_on_what_the_model_writes(
    tokenizer: PreTrainedTokenizerBase, traces: list[Trace], removed: int
) -> None:
    """Remaining chain, answer segment and end of sequence; never the prompt, never padding, though pad = eos."""
    rendered = render(traces, tokenizer)
    examples = np.random.default_rng(0).permutation(len(traces))[:32]
    pad = tokenizer.eos_token_id
    batch = Batcher(rendered, pad).cut(examples, *Removal().spans(rendered, examples, removed))
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape
    for row, example in enumerate(examples):
        one: Rendering = rendered[int(example)]
        target = [*one.chain[removed:], *one.answer]
        real = len(one.prompt) + len(target)
        ids, labels, mask = (batch[name][row].tolist() for name in ("input_ids", "labels", "attention_mask"))
        assert ids == [*one.prompt, *target, *[pad] * (len(ids) - real)]
        assert labels == [*[IGNORED] * len(one.prompt), *target, *[IGNORED] * (len(ids) - real)]
        assert mask == [1] * real + [0] * (len(ids) - real)
        assert [label for label in labels if label != IGNORED].count(tokenizer.eos_token_id) == 1
    assert batch["attention_mask"].sum(1).max() == batch["input_ids"].shape[1]  # no wider than it must be


@pytest.mark.parametrize("removed", [0, 3, 1000])
def test_a_decoder_writes_the_target_and_one_end(
    tokenizer: PreTrainedTokenizerBase, traces: list[Trace], removed: int
) -> None:
    """Where padding is the end of sequence too, the one at the end of the target is still learned."""
    rendered = render(traces, tokenizer, encoder_decoder=True)
    examples, pad = np.arange(len(traces))[::-2], tokenizer.eos_token_id
    batch = Batcher(rendered, pad).cut(examples, *Removal().spans(rendered, examples, removed))
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    for row, example in enumerate(examples):
        one: Rendering = rendered[int(example)]
        target = [*one.chain[removed:], *one.answer]
        ids, labels, mask = (batch[name][row].tolist() for name in ("input_ids", "labels", "attention_mask"))
        assert ids == [*one.prompt, *[pad] * (len(ids) - len(one.prompt))]
        assert mask == [1] * len(one.prompt) + [0] * (len(ids) - len(one.prompt))
        assert labels == target + [IGNORED] * (len(labels) - len(target))
        assert [label for label in labels if label != IGNORED].count(tokenizer.eos_token_id) == 1
    assert (batch["labels"] != IGNORED).sum(1).max() == batch["labels"].shape[1]  # no wider than it must be


@pytest.mark.gpu
@pytest.mark.parametrize("apart", [False, True])
def test_batches_are_the_same_on_the_device(
    bpe_tokenizer: PreTrainedTokenizerBase, traces: list[Trace], apart: bool
) -> None:
    rendered, examples = render(traces, bpe_tokenizer, encoder_decoder=apart), np.arange(len(traces))
    span = Removal().spans(rendered, examples, np.arange(len(traces)) % 9)
    here, there = (Batcher(rendered, PAD, device).cut(examples, *span) for device in ("cpu", "cuda"))
    for name, tensor in there.items():
        assert tensor.device.type == "cuda"
        assert torch.equal(tensor.cpu(), here[name])
