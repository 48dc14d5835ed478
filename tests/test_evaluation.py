"""Evaluation: one forward pass against generation, the interval, speed, and what a prediction says."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tacit import models
from tacit.errors import TacitError
from tacit.evaluation.evaluate import evaluate, measure_speed, summarise
from tacit.evaluation.exact_match import one_pass
from tacit.evaluation.statistics import wilson
from tacit.models import pad_id
from tacit.rendering import Renderings, Template, render
from tacit.stages import IGNORED, Batcher, Removal
from tacit.student import Student
from tacit.tasks import get_task
from tacit.trace import Trace, iter_text

torch.set_num_threads(1)

ARCHITECTURES = {
    "gpt2": {"n_layer": 2, "n_embd": 32, "n_head": 2, "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1},
    "llama": {
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 64,
    },
}


def problems() -> list[Trace]:
    """Prompts and targets of mixed lengths, some of them with digits in common."""
    made = get_task("multiplication").make(36, seed=3, digits="1x1,2x1,3x2")
    return [*made, *made[:4]]  # and some twice: a verdict depends on the problem alone


def teach(model: torch.nn.Module, rendered: Renderings, removed: int, steps: int, pad: int) -> None:
    """A few steps of plain cross-entropy, so that some targets come out right and some wrong."""
    batcher = Batcher(rendered, pad)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    examples = np.arange(len(rendered))
    batch = batcher.cut(examples, *Removal().spans(rendered, examples, removed))
    for _ in range(steps):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=IGNORED
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def student_for(
    architecture: str, traces: list[Trace], seed: int = 0, pad: bool = True, **settings: object
) -> Student:
    tokenizer = models.word_tokenizer([Template().words, *iter_text(traces)])
    if not pad:  # as GPT-2: padded with the end of sequence
        tokenizer.pad_token = None
    torch.manual_seed(seed)
    model = models.from_config(architecture, {**ARCHITECTURES[architecture], **settings}, tokenizer, 64, seed)
    return Student(model, tokenizer, max_new_tokens=40, task=get_task("multiplication"))


# --- one forward pass is as good as generation -----------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("pad", [True, False], ids=["pad", "pad-is-eos"])
@pytest.mark.parametrize(("removed", "steps"), [(0, 60), (99, 0), (99, 35), (3, 45)])
def test_one_pass_is_generation(architecture: str, pad: bool, removed: int, steps: int) -> None:
    traces = problems()
    student = student_for(architecture, traces, pad=pad)
    rendered = render(traces, student.tokenizer)
    teach(student.model, rendered, removed, steps, pad_id(student.tokenizer))
    batcher = Batcher(rendered, pad_id(student.tokenizer))
    student.model.train()
    whole, answer = one_pass(student.model, batcher, Removal(), removed, batch_size=7)
    assert student.model.training, "the mode is given back"

    targets = []
    for index in range(len(rendered)):
        one = rendered[index]
        gone = min(removed, len(one.chain))
        targets.append(one.ids[one.starts[0] + gone :])
    written = student.generate([rendered[i].prompt for i in range(len(rendered))], batch_size=7)
    assert whole.tolist() == [np.array_equal(*pair) for pair in zip(written, targets, strict=True)]
    assert answer.tolist() == [naive_answer(student, rendered, i, removed) for i in range(len(rendered))]
    assert (answer | ~whole).all(), "a whole target that is exact has an exact answer"
    if steps:
        assert whole.sum() > 0 or removed == 0, "some right"
        assert whole.sum() < len(whole) or answer.all(), "some wrong"
    for batch_size in (1, 1000):
        again = one_pass(student.model, batcher, Removal(), removed, batch_size)
        assert [again[0].tolist(), again[1].tolist()] == [whole.tolist(), answer.tolist()]


def naive_answer(student: Student, rendered: Renderings, index: int, removed: int) -> bool:
    """Whether the answer segment is what the model writes behind the gold rest of the chain, token by token."""
    one = rendered[index]
    ids = [*one.prompt, *one.chain[min(removed, len(one.chain)) :]]
    student.model.eval()
    for token in one.answer:
        with torch.inference_mode():
            logits = student.model(input_ids=torch.tensor([ids])).logits
        if int(logits[0, -1].argmax()) != token:
            return False
        ids.append(token)
    return True


@pytest.mark.parametrize("removal", [Removal("step", "left"), Removal("step", "right"), Removal("token", "right")])
def test_one_pass_of_partly_removed_chains(removal: Removal) -> None:
    traces = problems()
    student = student_for("gpt2", traces)
    rendered = render(traces, student.tokenizer)
    teach(student.model, rendered, 0, 40, pad_id(student.tokenizer))
    whole, answer = one_pass(student.model, Batcher(rendered, 1), removal, 1)
    written = student.generate([rendered[i].prompt for i in range(len(rendered))], 16)
    starts, lengths = removal.spans(rendered, np.arange(len(rendered)), 1)
    for index, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        one = rendered[index]
        target = np.concatenate([one.ids[one.starts[0] : start], one.ids[start + length :]])
        assert whole[index] == np.array_equal(written[index], target)
        chain = target[: len(target) - len(one.answer)]
        ids = torch.from_numpy(np.concatenate([one.prompt, chain, one.answer]).astype(np.int64))[None]
        with torch.inference_mode():
            guesses = student.model(input_ids=ids).logits[0].argmax(-1).numpy()
        assert answer[index] == np.array_equal(guesses[-len(one.answer) - 1 : -1], one.answer)


@given(seed=st.integers(0, 2**16), removed=st.integers(0, 30), temperature=st.floats(0.02, 3.0))
def test_one_pass_is_generation_for_any_weights(seed: int, removed: int, temperature: float) -> None:
    """Random weights, and as targets what such a model writes: every second one with one token changed."""
    traces = problems()[:8]
    student = student_for("gpt2", traces, seed=seed, n_layer=1, n_embd=16)
    with torch.no_grad():
        for parameter in student.model.parameters():
            parameter.add_(torch.randn_like(parameter) * temperature)
    rendered = render(traces, student.tokenizer)
    student.max_new_tokens = int((rendered.lengths - rendered.prompt_lengths).max())
    prompts = [rendered[i].prompt for i in range(len(rendered))]
    for index, ids in enumerate(student.generate(prompts, 3)):  # written over the gold targets, where they fit
        room = rendered.lengths[index] - rendered.prompt_lengths[index]
        begin = rendered.offsets[index] + rendered.prompt_lengths[index]
        rendered.ids[begin : begin + room] = (
            np.resize(ids, room) if index % 2 else ids[:room].tolist() + [0] * (room - len(ids[:room]))
        )
    whole, _ = one_pass(student.model, Batcher(rendered, 1), Removal(), 0, 3)
    for index, ids in enumerate(student.generate(prompts, 5)):
        target = rendered[index].ids[rendered[index].starts[0] :]
        # Generation ends at the first end of sequence; a target made up here may go on behind it.
        ended = np.flatnonzero(target == 0)
        if len(ended) and ended[0] < len(target) - 1:
            continue
        assert whole[index] == np.array_equal(ids[: len(target)], target)


# --- the whole evaluation --------------------------------------------------------------------------------------------


def test_a_silent_student_is_graded_as_if_it_had_generated() -> None:
    traces = problems()
    student = student_for("gpt2", traces)
    rendered = render(traces, student.tokenizer)
    teach(student.model, rendered, 99, 50, 1)
    student.silent = True
    quick = evaluate(student, traces, 7)
    student.silent = False
    slow = evaluate(student, traces, 16)
    assert [p.to_dict() for p in quick] == [p.to_dict() for p in slow]
    assert 0 < sum(p.correct for p in quick) < len(quick)
    assert all(p.reasoning_tokens == 0 for p in quick if p.correct)
    facts = summarise(quick)
    assert facts["n"] == len(traces)
    assert facts["accuracy"] == sum(p.correct for p in quick) / len(quick)
    assert facts["ci95"] == list(wilson(sum(p.correct for p in quick), len(quick)))
    assert facts["generated_tokens"] == np.mean([p.generated_tokens for p in quick])


def test_a_prediction_tells_the_model_and_the_person() -> None:
    trace = get_task("multiplication").make(1, 0, digits="2x1")[0]
    student = student_for("gpt2", [trace])
    teach(student.model, render([trace], student.tokenizer), 0, 60, 1)
    (prediction,) = evaluate(student, [trace])
    assert list(prediction.to_dict()) == [
        *["id", "question", "shown_question", "gold", "shown_gold", "answer", "shown_answer", "text", "correct"],
        *["reasoning_tokens", "generated_tokens"],
    ]
    assert prediction.correct
    assert prediction.text.endswith(f"#### {trace.answer}")
    a, b = (int(number.replace(" ", "")[::-1]) for number in trace.question.split(" * "))
    assert prediction.shown_question == f"{a} * {b}"
    assert prediction.shown_answer == prediction.shown_gold == str(a * b)
    assert prediction.reasoning_tokens == len(render([trace], student.tokenizer)[0].chain)


def test_gold_counts_and_not_what_a_trace_concludes() -> None:
    right = get_task("multiplication").make(1, 0, digits="2x1")[0]
    wrong = Trace(right.question, right.steps, "9 9 9", gold=right.answer)
    student = student_for("gpt2", [right, wrong])
    teach(student.model, render([right], student.tokenizer), 99, 60, 1)
    for silent in (True, False):
        student.silent = silent
        (prediction,) = evaluate(student, [wrong])
        assert prediction.correct
        assert prediction.gold == right.answer


def test_the_grader_has_the_last_word() -> None:
    """A thousands comma is no difference to the grader, although the tokens differ."""
    trace = Trace("what ?", (), "1,000")
    student = student_for("gpt2", [trace, Trace("a", (), "1000")])
    student.task, student.silent = get_task(None), True
    teach(student.model, render([Trace("what ?", (), "1000")], student.tokenizer), 0, 60, 1)
    (prediction,) = evaluate(student, [trace])
    assert prediction.correct
    assert (prediction.answer, prediction.gold) == ("1000", "1,000")


@pytest.mark.parametrize("silent", [True, False])
def test_problems_beyond_the_positions_are_refused(silent: bool) -> None:
    traces = get_task("multiplication").make(3, 0, digits="20x20")
    student = student_for("gpt2", traces)
    student.silent = silent
    with pytest.raises(TacitError, match=r"prompt and answer have \d+ tokens, but the model has only 64 positions"):
        evaluate(student, traces)


def test_speed_is_measured_for_each_student() -> None:
    traces = problems()
    student = student_for("gpt2", traces)
    slow = student_for("gpt2", traces, n_layer=12)
    slow.max_new_tokens = 40
    student.max_new_tokens = 2
    fast_speed, slow_speed = measure_speed([student, slow], [trace.question for trace in traces], 8, rounds=2)
    assert fast_speed > slow_speed > 0


# --- the interval ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
    ],
)
def test_wilson_gives_the_published_values(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_the_share_and_solves_its_equation(case: tuple[int, int]) -> None:
    successes, n = case
    low, high = wilson(successes, n)
    share = successes / n
    assert 0 <= low <= share <= high <= 1
    assert low < high
    mirrored = wilson(n - successes, n)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-12)
    z = 1.959963984540054
    for end in (low, high):  # Wilson's definition: |share - p| = z sqrt(p (1 - p) / n)
        if 0 < end < 1:
            assert abs(share - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n), abs=1e-9)
