"""The trainings of ICoT-KD: their losses, an exact resume, what they evaluate, and what they refuse."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from scripts import tiny
from scripts.minds import emulate_slowly, enliven, read_slowly
from tacit.errors import TacitError
from tacit.evaluation.thoughts import emulation_error
from tacit.implicit.modeling import ImplicitConfig, ImplicitModel, MindReadingStudent, ThoughtEmulator
from tacit.implicit.states import Mind
from tacit.trace import Trace
from tacit.training.implicit import EmulatorTrainer, ImplicitTrainer

pytestmark = pytest.mark.usefixtures("one_thread")
LAYERS = 3
NETWORKS = {"student": MindReadingStudent, "emulator": ThoughtEmulator, "coupled": ImplicitModel}
VOCABULARY = len(tiny.tokenizer())
_MADE = tiny.traces(39, tiny.LENGTHS)
TRACES = [Trace(_MADE[5].question, (), _MADE[5].answer), *_MADE]  # the first has no chain


def network(kind: str, components: int = 1, dropout: float = 0.0) -> Any:
    """Always the same one."""
    text = tiny.model(dropout, n_layer=LAYERS).config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return NETWORKS[kind](ImplicitConfig(text_config=text, components=components))


def teacher(**config: Any) -> Any:
    return enliven(tiny.model(**{"n_layer": LAYERS, **config}), seed=5)


def trainer(
    kind: str, folder: Path, train: Any = None, evaluated: Any = None, model: Any = None, **changed: Any
) -> ImplicitTrainer:
    """Of problems of several lengths; more keywords are the trainer's, or settings."""
    own = {name: changed.pop(name) for name in ("mind", "component_weight") if name in changed}
    if kind != "coupled":
        own.setdefault("mind", Mind(teacher()))
    return (EmulatorTrainer if kind == "emulator" else ImplicitTrainer)(
        network(kind) if model is None else model,
        tiny.settings(folder, **{"schedule": "remove_all", **changed}),
        train or TRACES,
        evaluated,
        tiny.tokenizer(),
        **own,
    )


def one(made: ImplicitTrainer, index: int) -> tuple[list[int], list[int], torch.Tensor]:
    """Prompt and answer of an example that is trained on, and the thoughts that the student is to have."""
    found = made.rendered[index]
    prompt, answer = found.ids[: found.starts[0]].tolist(), found.ids[found.starts[-1] :].tolist()
    if made.states is not None:
        return prompt, answer, made.states.of(np.array([index]))[0]
    return prompt, answer, emulate_slowly(made.model.emulator, prompt)[0]


def step(made: ImplicitTrainer, *micro_batches: list[int]) -> tuple[list[dict[str, Any]], Any]:
    """The micro-batches of one optimizer step, as the trainer cuts them, and what it divides by."""
    made.state.max_steps = 1
    examples = iter([{"examples": np.array(batch)} for batch in micro_batches])
    return made.get_batch_samples(examples, len(micro_batches), made.args.device)


# --- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["student", "coupled"])
def test_the_loss_is_that_of_the_answers(kind: str, tmp_path: Path) -> None:
    """Of the answer segment and its end, given thoughts; over both micro-batches, whose targets differ in number."""
    made = trainer(kind, tmp_path)
    with torch.no_grad():
        batches, count = step(made, [3, 0], [7])
        found = sum(made.compute_loss(made.model, batch, num_items_in_batch=count) for batch in batches)
        wanted, targets = 0.0, 0
        student = made.model if kind == "student" else made.model.student
        for index in (3, 0, 7):
            prompt, answer, thoughts = one(made, index)
            logits = read_slowly(student, prompt + answer, thoughts, len(prompt) - 1)
            wanted += cross_entropy(logits[len(prompt) - 1 : -1], torch.tensor(answer), reduction="sum")
            targets += len(answer)
    assert float(found) == pytest.approx(float(wanted) / targets, rel=1e-4)


@pytest.mark.parametrize(("components", "weight"), [(1, 1.0), (VOCABULARY, 1.0), (VOCABULARY, 0.5)])
def test_the_loss_of_an_emulator(components: int, weight: float, tmp_path: Path) -> None:
    made = trainer("emulator", tmp_path, model=network("emulator", components), component_weight=weight)
    (batch,), _ = step(made, [3, 0, 7])
    wanted = 0.0
    for index in (3, 0, 7):
        prompt, _, true = one(made, index)
        tokens = made.states.components(np.array([index]))[0].tolist() if components > 1 else None
        found, logits = emulate_slowly(made.model, prompt, tokens)
        for layer in range(LAYERS):
            wanted += sum(float(a - b) ** 2 for a, b in zip(found[layer], true[layer], strict=True)) / 2
            if tokens is not None:
                wanted -= weight * float(logits[layer].softmax(0)[tokens[layer]].log())
    assert made.compute_loss(made.model, batch).item() == pytest.approx(wanted / 3, rel=1e-4)


def test_accumulation_changes_no_emulator(tmp_path: Path) -> None:
    """Without clipping, an optimizer that sees every factor of the gradient."""
    sharp = {"optim": "sgd", "learning_rate": 1e-3, "max_grad_norm": 1e9, "weight_decay": 0.0, "max_steps": 4}
    before, after = tiny.weights(network("emulator", VOCABULARY)), []
    for micro_batch, accumulate in ((8, 1), (2, 4)):
        sizes = {"per_device_train_batch_size": micro_batch, "gradient_accumulation_steps": accumulate}
        model = network("emulator", VOCABULARY)
        trainer("emulator", tmp_path / str(accumulate), model=model, **sharp, **sizes).train()
        after.append(tiny.weights(model))
    assert (after[0] - before).abs().max() > 1e-2
    torch.testing.assert_close(*after, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", NETWORKS)
def test_dropout_stays_off(kind: str) -> None:
    """Trainer asks for it before each step."""
    assert not any(part.training for part in network(kind, dropout=0.5).train().modules())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("frozen", ["student", "emulator"])
def test_a_frozen_part_stays_as_it_is(frozen: str, optimizer: str, tmp_path: Path) -> None:
    model = network("coupled")
    getattr(model, frozen).requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer("coupled", tmp_path, model=model, optimizer=optimizer, max_steps=3).train()
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert {name for name in before if name.startswith(frozen)} <= same
    thinking = {name for name in before if ".readers." in name or ".predictors." in name}
    assert not {name for name in thinking - same if name.startswith(frozen)}
    assert not {name for name in thinking & same if not name.startswith(frozen)}


# --- exact resume ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "kept", "components"),
    [("student", True, 1), ("student", False, 1), ("emulator", True, VOCABULARY), ("coupled", False, VOCABULARY)],
)
def test_twenty_steps_are_ten_and_ten(kind: str, kept: bool, components: int, tmp_path: Path) -> None:
    """With accumulation and evaluations; not one bit differs."""

    def made(folder: str) -> ImplicitTrainer:
        new = trainer(
            kind,
            tmp_path / folder,
            evaluated=tiny.traces(6, tiny.LENGTHS),
            model=network(kind, components),
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            save_strategy="steps",
            save_steps=10,
            eval_strategy="steps",
            eval_steps=5,
        )
        if kept:
            new.states.keep()
        return new

    straight = made("straight")
    before = tiny.weights(straight.model)
    straight.train()
    shutil.copytree(tmp_path / "straight", tmp_path / "stopped", ignore=shutil.ignore_patterns("checkpoint-20"))
    resumed = made("stopped")
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(tiny.weights(resumed.model), tiny.weights(straight.model))
    assert not torch.equal(tiny.weights(resumed.model), before)
    assert tiny.metrics(tmp_path / "stopped") == tiny.metrics(tmp_path / "straight")
    assert len(tiny.metrics(tmp_path / "stopped", "eval")) == 4


# --- evaluation ------------------------------------------------------------------------------------------------------


def test_a_mind_reader_is_evaluated_as_it_writes(tmp_path: Path) -> None:
    """Exact match in one pass is that of writing token by token, each with the teacher's states."""
    known = tiny.traces(8)
    made = trainer("student", tmp_path, known, max_steps=60, per_device_train_batch_size=8, learning_rate=5e-3)
    made.train()
    asked = trainer("student", tmp_path, tiny.traces(16, "2x2"), model=made.model)
    made.model.eval()
    right = []
    for index in range(len(asked.rendered)):
        prompt, answer, thoughts = one(asked, index)
        written = list(prompt)
        with torch.no_grad():
            for _ in answer:
                written.append(int(read_slowly(made.model, written, thoughts, len(prompt) - 1)[-1].argmax()))
        right.append(written == prompt + answer)
    assert 0 < sum(right) < len(right)
    assert made.evaluate(tiny.traces(16, "2x2"))["eval_exact_match"] == np.mean(right)


def test_emulation_error(tmp_path: Path) -> None:
    """Against numpy, without dropout; prompts that end alike say nothing of the first layer."""
    model = network("emulator", VOCABULARY, dropout=0.3)
    same = tiny.traces(20)
    made = trainer("emulator", tmp_path, same, same, model, per_device_eval_batch_size=8)
    found = emulation_error(model, made.eval_batcher, batch_size=8)
    metrics = made.evaluate()
    true = made.states.of(np.arange(20)).numpy()
    thoughts = np.stack([emulate_slowly(model, one(made, index)[0])[0].numpy() for index in range(20)])
    wanted = np.square(thoughts - true).sum((0, 2)) / np.square(true - true.mean(0)).sum((0, 2))
    assert found[0] is None
    assert found[1:] == pytest.approx(wanted[1:].tolist(), rel=1e-3)
    assert metrics == {"eval_emulation_error": pytest.approx(wanted[1:].mean(), rel=1e-3)}
    (line,) = tiny.metrics(tmp_path, "eval")
    assert (line["emulation_error"], line["n"]) == (found, 20)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["student", "emulator"])
@pytest.mark.parametrize(("changed", "told"), [({"n_layer": 2}, "2 layers of width 32"), ({"n_embd": 16}, "width 16")])
def test_a_teacher_of_another_shape(kind: str, changed: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(TacitError, match=rf"the teacher has .*{told}, the student 3 of 32: .* both must be alike"):
        trainer(kind, tmp_path, mind=Mind(teacher(**changed)))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"torch_compile": True}, "leave torch_compile"),
        ({"activation_checkpointing": True}, "gradient_checkpointing off"),
        ({"keep_positions": True}, "without keep_positions"),
        ({"schedule": "linear"}, "schedule='remove_all'"),
        ({"schedule": "keep_all"}, "schedule='remove_all'"),
    ],
)
def test_settings_that_do_not_fit(changed: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(TacitError, match=told):
        trainer("student", tmp_path, **changed)


@pytest.mark.parametrize("kind", NETWORKS)
def test_who_needs_a_mind(kind: str, tmp_path: Path) -> None:
    """Without it a student would learn to answer at once, and nobody would be told."""
    with pytest.raises(TacitError, match="need the mind of a teacher, and the coupled model has none"):
        trainer(kind, tmp_path, mind=Mind(teacher()) if kind == "coupled" else None)


def compiled_inside() -> Any:
    """A student whose language model was compiled."""
    language_model = tiny.model(n_layer=LAYERS)
    return MindReadingStudent(
        ImplicitConfig(text_config=language_model.config), torch.compile(language_model, backend="eager")
    )


def compiled_in_place() -> Any:
    student = network("student")
    student.language_model.compile(backend="eager")
    return student


@pytest.mark.parametrize(
    "make",
    [compiled_inside, compiled_in_place, lambda: torch.compile(network("student"), backend="eager")],
    ids=["inside", "in place", "whole"],
)
def test_compiled_students(make: Any, tmp_path: Path) -> None:
    """Compiled code might go on with the thoughts that it was compiled with."""
    with pytest.raises(TacitError, match=r"the model is compiled: .* give it the plain one"):
        trainer("student", tmp_path, model=make())


def test_an_encoder_decoder_is_no_student(tmp_path: Path) -> None:
    language_model = tiny.model(architecture="t5")
    student = MindReadingStudent(ImplicitConfig(text_config=language_model.config), language_model)
    with pytest.raises(TacitError, match="models that are decoders only, such as gpt2 or llama; this has an encoder"):
        trainer("student", tmp_path, model=student, mind=Mind(tiny.model()))


def test_an_emulator_without_anything_to_evaluate(tmp_path: Path) -> None:
    with pytest.raises(TacitError, match="evaluation needs an eval_dataset"):
        trainer("emulator", tmp_path).evaluate()
