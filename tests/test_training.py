"""The trainer: equal trajectories, the removal at every step, the loss, the optimizer reset, the methods, bad input.

Exact resume is in `test_resume.py`, the optimizers in `test_optimizers.py`.
"""

import copy
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerBase, TrainerCallback

from scripts import tiny
from tacit import checkpoint
from tacit.errors import TacitError
from tacit.evaluation.evaluate import evaluate
from tacit.evaluation.exact_match import one_pass
from tacit.recipe import load_recipe, parse_recipe
from tacit.run import carry_out
from tacit.stages import AdaptiveSchedule
from tacit.trace import Step, Trace, to_dataset
from tacit.training.config import StepwiseInternalizationConfig
from tacit.training.trainer import StepwiseInternalizationTrainer

pytestmark = pytest.mark.usefixtures("one_thread")


# --- equal trajectories ----------------------------------------------------------------------------------------------

LINEAR = {"removal_per_epoch": 4}
SCHEDULES = [pytest.param(LINEAR, id="linear"), pytest.param(tiny.ADAPTIVE, id="adaptive")]
SAME = {"max_steps": 14, "learning_rate": 3e-3, "removal_smoothing": 1.0}
# T5 computes norms and attention in float32 whatever its weights are: an optimizer that does not magnify that, and
# without clipping, that sees every factor of the gradient.
T5 = {"optim": "sgd", "learning_rate": 0.3, "max_grad_norm": 1e9}


def train_exactly(
    folder: Path, micro_batch: int, accumulate: int, architecture: str = "gpt2", **changed: Any
) -> torch.Tensor:
    """Weights after a training in float64, where the order of additions does not show; dropout would."""
    trainer = tiny.trainer(
        folder,
        tiny.model(architecture=architecture).double(),
        tiny.traces(60),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=accumulate,
        **{**SAME, **changed},
    )
    trainer.train()
    return tiny.weights(trainer.model)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("architecture", "optimizer"), [("gpt2", "adamw"), ("gpt2", "muon"), ("t5", "adamw")])
def test_accumulation_changes_no_trajectory(
    schedule: dict[str, Any], architecture: str, optimizer: str, tmp_path: Path
) -> None:
    """60 examples: the last step of each epoch is short, and a stage begins inside an epoch."""
    schedule = {**schedule, **(T5 if architecture == "t5" else {})}
    whole = train_exactly(tmp_path / "8x1", 8, 1, architecture, optimizer=optimizer, **schedule)
    stages = tiny.metrics(tmp_path / "8x1", "stage")
    assert len(stages) > 2
    for micro_batch, accumulate in ((1, 8), (4, 2)):
        folder = tmp_path / f"{micro_batch}x{accumulate}"
        parts = train_exactly(folder, micro_batch, accumulate, architecture, optimizer=optimizer, **schedule)
        assert tiny.metrics(folder, "stage") == stages
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5 if architecture == "t5" else 1e-6)
        for one, other in zip(tiny.metrics(folder, "train"), tiny.metrics(tmp_path / "8x1", "train"), strict=True):
            assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)


def test_the_weights_would_tell(tmp_path: Path) -> None:
    """The comparison above is sharp: another removal at a single step shows."""
    whole = train_exactly(tmp_path / "a", 8, 1, **LINEAR)
    other = train_exactly(tmp_path / "b", 8, 1, **LINEAR, removal_start=1)
    assert (whole - other).abs().max() > 1e-3
    again = train_exactly(tmp_path / "c", 8, 1, **LINEAR)
    assert torch.equal(whole, again)


def train_two_ranks(folder: Path, architecture: str, settings: dict[str, Any]) -> torch.Tensor:
    """The weights that two processes have in the end, which are the same."""
    folder.mkdir(exist_ok=True)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = str(Path(tiny.__file__).with_name("train_ranks.py"))
    done = subprocess.run(
        [*launch, script, str(folder), architecture, json.dumps(settings)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [load_file(folder / f"rank{rank}.safetensors")["weights"] for rank in range(2)]
    assert torch.equal(*ranks)
    return ranks[0]


@pytest.mark.parametrize(
    ("schedule", "architecture"),
    [pytest.param(LINEAR, "gpt2"), pytest.param(tiny.ADAPTIVE, "gpt2"), pytest.param(LINEAR, "t5")],
    ids=["linear", "adaptive", "linear-t5"],
)
def test_two_processes_are_one(schedule: dict[str, Any], architecture: str, tmp_path: Path) -> None:
    """Two ranks of batch 4 are one of batch 8."""
    same = {**SAME, **schedule, **(T5 if architecture == "t5" else {}), "per_device_train_batch_size": 4}
    ranks = train_two_ranks(tmp_path / "two", architecture, same)
    student = tiny.model(architecture=architecture).double()
    traces = tiny.traces(40, tiny.LENGTHS)
    one = tiny.trainer(tmp_path / "one", student, traces, **{**same, "per_device_train_batch_size": 8})
    one.train()
    assert tiny.metrics(tmp_path / "two", "stage") == tiny.metrics(tmp_path / "one", "stage") != []
    torch.testing.assert_close(ranks, tiny.weights(one.model), rtol=0, atol=1e-5 if architecture == "t5" else 1e-6)


def test_two_processes_go_on_where_one_stopped(tmp_path: Path) -> None:
    """In the middle of the second epoch, whose examples come by length in an order of its own."""
    same = {**SAME, **LINEAR, "train_sampling_strategy": "group_by_length"}
    saved = {"per_device_train_batch_size": 8, "save_strategy": "steps", "save_steps": 7}
    one = tiny.trainer(tmp_path / "one", tiny.model().double(), tiny.traces(40, tiny.LENGTHS), **same, **saved)
    one.train()
    shutil.copytree(tmp_path / "one" / "checkpoint-7", tmp_path / "two" / "checkpoint-7")
    ranks = train_two_ranks(tmp_path / "two", "gpt2", {**same, "per_device_train_batch_size": 4})
    assert tiny.metrics(tmp_path / "two", "train")[0]["step"] == 8
    torch.testing.assert_close(ranks, tiny.weights(one.model), rtol=0, atol=1e-6)


# --- the removal and the loss of every step --------------------------------------------------------------------------


class Recorder(TrainerCallback):
    """What `Batcher.cut` was asked for, by optimizer step."""

    def __init__(self) -> None:
        self.cuts: dict[int, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}

    def watch(self, trainer: StepwiseInternalizationTrainer) -> None:
        cut = trainer.batcher.cut

        def recorded(examples: np.ndarray, start: np.ndarray, length: np.ndarray, *unasked: Any) -> dict[str, Any]:
            self.cuts.setdefault(trainer.state.global_step, []).append((examples, start, length))
            return cut(examples, start, length, *unasked)

        trainer.batcher.cut = recorded  # ty: ignore[invalid-assignment]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_step_is_cut_by_its_own_stage(
    schedule: dict[str, Any], accumulate: int, workers: int, tmp_path: Path
) -> None:
    """Whatever is fetched ahead: all micro-batches of a step are cut as the schedule says for that very step."""
    recorder = Recorder()
    trainer = tiny.trainer(
        tmp_path,
        removal_smoothing=math.inf,
        gradient_accumulation_steps=accumulate,
        per_device_train_batch_size=4 // accumulate,
        dataloader_num_workers=workers,
        max_steps=14,
        **schedule,
    )
    recorder.watch(trainer)
    trainer.train()
    assert sorted(recorder.cuts) == list(range(14))
    begins = {line["step"]: line["removed"] for line in tiny.metrics(tmp_path, "stage")}
    wanted, removed = [], 0
    for step in range(14):
        removed = begins.get(step, removed)
        wanted.append(removed)
        assert len(recorder.cuts[step]) == accumulate
        for examples, start, length in recorder.cuts[step]:
            assert (start == trainer.rendered.prompt_lengths[examples]).all()
            assert (length == removed).all()
    if schedule is LINEAR:
        assert wanted == [4 * step // 9 for step in range(14)]  # 9 steps an epoch
    assert len(set(wanted)) > 2


def naive_loss(trainer: StepwiseInternalizationTrainer, examples: list[int], removed: list[int]) -> float:
    """The mean loss of the targets left, one sequence at a time, nothing padded."""
    total, count = 0.0, 0
    for example, gone in zip(examples, removed, strict=True):
        one = trainer.rendered[example]
        prompt, target = one.prompt.tolist(), [*one.chain.tolist()[gone:], *one.answer.tolist()]
        with torch.no_grad():
            if trainer.encoder_decoder:
                shifted = [trainer.model.config.decoder_start_token_id, *target[:-1]]
                inputs = {"input_ids": torch.tensor([prompt]), "decoder_input_ids": torch.tensor([shifted])}
                logits = trainer.model(**inputs).logits[0]
            else:
                logits = trainer.model(input_ids=torch.tensor([[*prompt, *target]])).logits[0, len(prompt) - 1 : -1]
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor(target), reduction="none")
        total, count = total + float(losses.sum()), count + len(target)
    return total / count


@pytest.mark.parametrize("architecture", ["gpt2", "t5", "bart"])
@pytest.mark.parametrize("smoothing", [math.inf, 0.7])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_loss_is_the_mean_over_the_targets_that_are_left(
    accumulate: int, smoothing: float, architecture: str, tmp_path: Path
) -> None:
    """Tokens are counted after the removal, over all micro-batches of a step. Chains of two lengths; weights rest.

    T5 and BART themselves take the mean over each micro-batch, whatever the trainer tells them.
    """
    recorder, student = Recorder(), tiny.family(architecture, tiny.tokenizer())
    if architecture == "bart":  # as older architectures say of themselves
        student.accepts_loss_kwargs = False
    trainer = tiny.trainer(
        tmp_path,
        student,
        train=tiny.traces(36, "2x2,3x2"),
        learning_rate=0.0,
        weight_decay=0.0,
        gradient_accumulation_steps=accumulate,
        per_device_train_batch_size=4 // accumulate,
        removal_smoothing=smoothing,
        max_steps=10,
    )
    recorder.watch(trainer)
    trainer.train()
    trainer.model.eval()
    for step, line in enumerate(tiny.metrics(tmp_path, "train")):
        scheduled = math.floor(4.5 * step / 9)
        examples = [int(example) for cut in recorder.cuts[step] for example in cut[0]]
        removed = []
        for example in examples:
            extra = int(trainer.removal.offsets(step, np.array([example]))[0])
            removed.append(min(scheduled + extra, len(trainer.rendered[example].chain)))
        assert line["removed"] == scheduled
        assert line["loss"] == pytest.approx(naive_loss(trainer, examples, removed), abs=2e-5)


# --- the optimizer reset ---------------------------------------------------------------------------------------------


class OptimizerWatch(TrainerCallback):
    """How many parameters have a state when a step begins, when it ends, and in its checkpoint."""

    def __init__(self) -> None:
        self.begin: list[int] = []
        self.end: list[int] = []
        self.saved: list[dict[str, Any]] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **about: Any) -> None:
        self.begin.append(len(about["optimizer"].state))

    def on_step_end(self, args: Any, state: Any, control: Any, **about: Any) -> None:
        self.end.append(len(about["optimizer"].state))

    def on_save(self, args: Any, state: Any, control: Any, **about: Any) -> None:
        path = Path(args.output_dir) / f"checkpoint-{state.global_step}" / "optimizer.pt"
        self.saved.append(torch.load(path, weights_only=True)["state"])


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_optimizer_is_emptied_when_a_stage_begins(optimizer: str, tmp_path: Path) -> None:
    watch = OptimizerWatch()
    trainer = tiny.trainer(
        tmp_path,
        callbacks=[watch],
        optimizer=optimizer,
        removal_per_epoch=27,  # three a step: everything is gone at step 3, then a long rest
        save_strategy="steps",
        save_steps=1,
        max_steps=7,
    )
    kept = trainer.create_optimizer()
    trainer.train()
    assert [line["removed"] for line in tiny.metrics(tmp_path, "stage")] == [3, 6, tiny.CHAIN]
    assert [line["step"] for line in tiny.metrics(tmp_path, "stage")] == [1, 2, 3]
    parameters = len(list(trainer.model.parameters()))
    assert watch.begin == [0, 0, 0, 0, parameters, parameters, parameters]  # emptied at 1, 2, 3, then never
    assert watch.end == [parameters] * 7
    assert [len(state) for state in watch.saved] == [parameters] * 7  # never in a checkpoint
    assert getattr(trainer.optimizer, "optimizer", trainer.optimizer) is getattr(kept, "optimizer", kept)
    if optimizer == "adamw":
        assert [int(state[0]["step"]) for state in watch.saved] == [1, 1, 1, 1, 2, 3, 4]


def test_no_reset_where_it_is_off(tmp_path: Path) -> None:
    watch = OptimizerWatch()
    trainer = tiny.trainer(tmp_path, callbacks=[watch], reset_optimizer=False, removal_per_epoch=27, max_steps=5)
    trainer.train()
    parameters = len(list(trainer.model.parameters()))
    assert watch.begin == [0] + [parameters] * 4


@pytest.mark.parametrize(
    "rates", [{"lr_scheduler_type": "linear", "warmup_steps": 3}, {"decay_share": 0.5}], ids=["linear", "decay_share"]
)
def test_the_learning_rate_does_not_see_the_reset(rates: dict[str, Any], tmp_path: Path) -> None:
    curves = []
    for reset in (True, False):
        folder = tmp_path / str(reset)
        tiny.trainer(folder, reset_optimizer=reset, max_steps=10, **rates).train()
        assert len(tiny.metrics(folder, "stage")) == 4
        curves.append([line["learning_rate"] for line in tiny.metrics(folder, "train")])
    assert curves[0] == curves[1]
    if "decay_share" in rates:
        assert curves[0] == pytest.approx([1e-3] * 6 + [8e-4, 6e-4, 4e-4, 2e-4])


# --- the methods -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["gpt2", "t5"])
@pytest.mark.parametrize(("schedule", "left"), [("remove_all", 0), ("keep_all", tiny.CHAIN)])
def test_the_baselines(schedule: str, left: int, architecture: str, tmp_path: Path) -> None:
    """No CoT never sees a token of the chain, CoT always all of it; neither knows smoothing, stages or resets."""
    seen = []
    student, held_out = tiny.model(architecture=architecture), tiny.traces(8)
    trainer = tiny.trainer(
        tmp_path, student, schedule=schedule, removal_smoothing=0.1, max_steps=12, evaluated=held_out
    )
    cut = trainer.batcher.cut

    def watched(examples: np.ndarray, *spans: Any) -> dict[str, torch.Tensor]:
        batch = cut(examples, *spans)
        for row, example in enumerate(examples):
            one = trainer.rendered[int(example)]
            answer = one.answer.tolist()
            labels = [token for token in batch["labels"][row].tolist() if token != -100]
            assert labels == (one.chain.tolist() if left else []) + answer
            seen.append(len(labels) - len(answer))
        return batch

    trainer.batcher.cut = watched  # ty: ignore[invalid-assignment]
    trainer.train()
    assert set(seen) == {left}
    assert tiny.metrics(tmp_path, "stage") == []
    assert trainer.student().silent == (left == 0)
    assert trainer.evaluate()["eval_removed"] == tiny.CHAIN - left


@pytest.mark.parametrize("architecture", ["gpt2", "t5"])
def test_kept_stages_are_checkpoints(architecture: str, tmp_path: Path) -> None:
    trainer = tiny.trainer(tmp_path, architecture=architecture, keep_stages=[0, 2], max_steps=8)
    trainer.train()
    kept = sorted(path.name for path in (tmp_path / "stages").iterdir())
    assert kept == ["000", "002"]
    begins = {line["previous"]: line["step"] for line in tiny.metrics(tmp_path, "stage")}
    for name in kept:
        student = checkpoint.load(tmp_path / "stages" / name)
        assert not student.silent
        assert student.info["removed_tokens"] == int(name)
        assert student.info["train_steps"] == begins[int(name)]
        again = tiny.trainer(tmp_path / f"until{name}", architecture=architecture, max_steps=begins[int(name)])
        again.train()
        assert torch.equal(tiny.weights(student.model), tiny.weights(again.model))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_model_of_a_folder(family: str, tmp_path: Path) -> None:
    """As from the Hub: model and tokenizer by name. It ends as a silent student that anybody can load."""
    tokenizer = tiny.tokenizer()
    student = tiny.family(family, tokenizer, 32)
    tokenizer.model_max_length = 32
    student.save_pretrained(tmp_path / "hub")
    tokenizer.save_pretrained(tmp_path / "hub")
    by_name = tiny.trainer(tmp_path / "name", str(tmp_path / "hub"), removal_per_epoch=27, max_steps=5)
    by_name.train()
    by_object = tiny.trainer(tmp_path / "object", student, removal_per_epoch=27, max_steps=5)
    by_object.train()
    assert torch.equal(tiny.weights(by_name.model), tiny.weights(by_object.model))
    checkpoint.save(by_name.student(), tmp_path / "out")
    loaded = checkpoint.load(tmp_path / "out")
    assert loaded.silent
    assert type(loaded.model) is type(student)
    assert loaded.reply(["1 2 * 3 4"]) == by_object.student().reply(["1 2 * 3 4"])


def test_prompt_tuning_is_refused(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    with pytest.raises(TacitError, match="such as LoRA's; PROMPT_TUNING adds to what the model reads"):
        StepwiseInternalizationTrainer(
            tiny.model(),
            tiny.settings(tmp_path),
            tiny.traces(),
            processing_class=tiny.tokenizer(),
            peft_config=peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
        )


@pytest.mark.parametrize(("architecture", "optimizer"), [("gpt2", "adamw"), ("gpt2", "muon"), ("t5", "adamw")])
def test_lora(architecture: str, optimizer: str, tmp_path: Path) -> None:
    """Adapters alone are trained, resumed exactly, and merged into a plain model for the student."""
    peft = pytest.importorskip("peft")
    where = {
        "gpt2": {"target_modules": ["c_attn"], "fan_in_fan_out": True},
        "t5": {"target_modules": ["q", "v"], "task_type": "SEQ_2_SEQ_LM"},
    }

    def made(folder: Path, steps: int) -> StepwiseInternalizationTrainer:
        return StepwiseInternalizationTrainer(
            tiny.model(architecture=architecture),
            tiny.settings(
                folder, optimizer=optimizer, max_steps=steps, learning_rate=1e-2, save_strategy="steps", save_steps=4
            ),
            train_dataset=tiny.traces(),
            processing_class=tiny.tokenizer(),
            peft_config=peft.LoraConfig(r=4, lora_dropout=0.1, **where[architecture]),
        )

    trainer = made(tmp_path / "a", 9)
    trainer.train()
    trained = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora" in name for name in trained)
    trainer.model.eval()
    one = trainer.rendered[0]
    ids = {"input_ids": torch.tensor([one.ids.tolist()])}
    if trainer.encoder_decoder:
        ids = {"input_ids": torch.tensor([one.prompt.tolist()]), "labels": torch.tensor([one.answer.tolist()])}
    student, untrained = trainer.student(), tiny.model(architecture=architecture).eval()
    assert type(student.model) is type(untrained)
    assert not [name for name, _ in student.model.named_parameters() if "lora" in name]
    logits = student.model.eval()(**ids).logits
    torch.testing.assert_close(logits, trainer.model(**ids).logits, rtol=0, atol=1e-4)
    assert (logits - untrained(**ids).logits).abs().max() > 1e-2
    checkpoint.save(student, tmp_path / "out")
    loaded = checkpoint.load(tmp_path / "out").model
    assert torch.equal(tiny.weights(loaded), tiny.weights(student.model))
    torch.testing.assert_close(loaded(**ids).logits, logits, rtol=0, atol=1e-6)

    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "checkpoint-8").rename(tmp_path / "b" / "checkpoint-8")
    resumed = made(tmp_path / "b", 9)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(tiny.weights(resumed.model), tiny.weights(trainer.model))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_each_family_learns(family: str, tmp_path: Path) -> None:
    """A few products by heart, first with their chains, then without: the exported student knows them."""
    traces = tiny.traces(6)
    trainer = tiny.trainer(
        tmp_path / "run",
        tiny.family(family, tiny.tokenizer()),
        train=traces,
        evaluated=traces,
        schedule="adaptive",
        removal_chunk=4,
        stage_min_steps=5,
        stage_patience=40,
        explicit_patience=100,
        max_steps=220,
        learning_rate=5e-3,
        per_device_train_batch_size=6,
    )
    trainer.train()
    assert trainer.removed == tiny.CHAIN
    match = trainer.evaluate()["eval_exact_match"]
    assert match >= 0.8
    checkpoint.save(trainer.student(), tmp_path / "out")
    student = checkpoint.load(tmp_path / "out")
    predictions = evaluate(student, traces)
    assert sum(prediction.correct for prediction in predictions) == round(match * len(traces))
    assert {prediction.reasoning_tokens for prediction in predictions if prediction.correct} == {0}
    student.silent = False
    assert evaluate(student, traces) == predictions, "generation gives the same"


@pytest.mark.parametrize("schedule", ["keep_all", "linear"])
def test_an_instruction_tuned_model_keeps_its_chat_template(
    chatting_tokenizer: PreTrainedTokenizerBase, schedule: str, tmp_path: Path
) -> None:
    tokenizer = copy.deepcopy(chatting_tokenizer)
    trainer = StepwiseInternalizationTrainer(
        tiny.family("gpt2", tokenizer, 128),
        tiny.settings(tmp_path / "run", template="chat", marker="=>", schedule=schedule, max_steps=4),
        train_dataset=tiny.traces(8),
        processing_class=tokenizer,
    )
    trainer.train()
    for one, trace in zip(trainer.rendered, tiny.traces(8), strict=True):
        chat = [{"role": "user", "content": trace.question}]
        asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        assert one.prompt.tolist() == asked
        assert str(tokenizer.decode(one.answer[:-1])) == f" => {trace.answer}"
    checkpoint.save(trainer.student(), tmp_path / "out")
    assert checkpoint.load(tmp_path / "out").tokenizer.chat_template == chatting_tokenizer.chat_template


def test_answers_alone(tmp_path: Path) -> None:
    """Vanilla fine-tuning, as Fine-tune-CoT compares with: the question, and its answer without any marker."""
    traces = tiny.traces(6)
    trainer = tiny.trainer(
        tmp_path,
        tiny.family("t5", tiny.tokenizer()),
        train=traces,
        template="fine-tune-cot-t5",
        marker="",
        schedule="remove_all",
        max_steps=150,
        learning_rate=5e-3,
        per_device_train_batch_size=6,
    )
    trainer.train()
    (one, *_) = trainer.rendered
    assert str(trainer.tokenizer.decode(one.prompt)) == traces[0].question
    assert str(trainer.tokenizer.decode(one.answer[:-1])) == traces[0].answer
    predictions = evaluate(trainer.student(), traces)
    assert sum(prediction.correct for prediction in predictions) >= 5
    assert {prediction.reasoning_tokens for prediction in predictions} == {0}


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_length_of_an_epoch(drop_last: bool, accumulate: int, tmp_path: Path) -> None:
    """36 examples in batches of 8: what the schedule counts as an epoch is one."""
    trainer = tiny.trainer(
        tmp_path,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=accumulate,
        dataloader_drop_last=drop_last,
        max_steps=-1,
        num_train_epochs=1,
    )
    trainer.train()
    assert trainer.state.global_step == trainer.steps_per_epoch == {1: 4, 2: 2}[accumulate] + (not drop_last)


def test_a_dataset_is_as_good_as_traces(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    plain = tiny.trainer(tmp_path / "a", max_steps=5, evaluated=tiny.traces(6))
    columns = tiny.trainer(
        tmp_path / "b", train=to_dataset(tiny.traces()), max_steps=5, evaluated=to_dataset(tiny.traces(6))
    )
    for trainer in (plain, columns):
        trainer.train()
    assert torch.equal(tiny.weights(plain.model), tiny.weights(columns.model))
    assert plain.evaluate() == columns.evaluate()


def test_what_is_written_down(tmp_path: Path) -> None:
    """`metrics.jsonl`: the lines with all of their fields, to whoever listens as well."""
    heard: list[dict[str, Any]] = []
    trainer = StepwiseInternalizationTrainer(
        tiny.model(),
        tiny.settings(tmp_path, max_steps=6, logging_steps=2, eval_strategy="steps", eval_steps=3),
        train_dataset=tiny.traces(),
        eval_dataset=tiny.traces(7),
        processing_class=tiny.tokenizer(),
        listener=heard.append,
    )
    trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [(line["event"], line["step"]) for line in lines] == [
        *[("train", 2), ("stage", 2), ("eval", 3), ("train", 4), ("stage", 4), ("train", 6), ("eval", 6)],
        ("outcome", 6),
    ]
    common = {"event", "step", "seconds", "removed", "total"}
    own = {
        "train": {"loss", "learning_rate", "grad_norm"},
        "eval": {"exact_match", "answer_match", "n"},
        "stage": {"previous"},
        "outcome": {"text"},
    }
    for line in lines:
        assert set(line) == common | own[line["event"]]
        assert line["total"] == tiny.CHAIN
        assert line.get("n", 7) == 7
    assert [line["seconds"] for line in lines] == sorted(line["seconds"] for line in lines)
    stages = [0, 1, 1, 1, 2, 2, 2, 2]
    assert heard == [{**line, "max_steps": 6, "stage": stage} for line, stage in zip(lines, stages, strict=True)]
    assert not list(tmp_path.glob("*.part"))


# --- examples that are right -----------------------------------------------------------------------------------------


def half_taught(architecture: str) -> Any:
    """A model that writes some of the targets and not others."""
    model, rendered = tiny.model(architecture=architecture), tiny.traces()
    settings: dict[str, Any] = {"schedule": "keep_all", "max_steps": 90, "learning_rate": 1e-2}
    with tempfile.TemporaryDirectory() as folder:
        tiny.trainer(Path(folder), model, rendered, per_device_train_batch_size=36, **settings).train()
    return model


@pytest.mark.parametrize(("micro_batch", "accumulate"), [(36, 1), (12, 3), (8, 5)])
@pytest.mark.parametrize(("architecture", "learn_partial_steps"), [("gpt2", True), ("gpt2", False), ("t5", True)])
def test_the_schedule_is_shown_how_many_are_right(
    architecture: str,
    micro_batch: int,
    accumulate: int,
    learn_partial_steps: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of those at the stage itself, whatever the micro-batches: what a pass over all of them counts. No step moves."""
    seen: dict[int, float] = {}
    real = AdaptiveSchedule.observe

    def observe(self: AdaptiveSchedule, step: int, loss: float, exact_match: float | None = None) -> None:
        assert exact_match is not None
        seen[step] = exact_match
        real(self, step, loss, exact_match)

    monkeypatch.setattr(AdaptiveSchedule, "observe", observe)
    trainer = tiny.trainer(
        tmp_path,
        half_taught(architecture),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=accumulate,
        learning_rate=0.0,
        max_steps=12,
        **{**tiny.ADAPTIVE, "stage_patience": 3, "explicit_patience": 3},
        recovery_exact_match=0.999,
        removal_smoothing=0.7,
        learn_partial_steps=learn_partial_steps,
    )
    trainer.train()
    begun = {line["step"]: line["removed"] for line in tiny.metrics(tmp_path, "stage")}
    assert begun == {3: 1, 6: 2, 9: 3}
    everything = np.arange(36)
    for step, found in seen.items():
        removed = max((k for at, k in begun.items() if at <= step), default=0)
        whole, _ = one_pass(trainer.model, trainer.batcher, trainer.removal, removed)
        offsets = trainer.removal.offsets(step, everything) if removed else np.zeros(36)
        assert found == pytest.approx(whole[offsets == 0].mean())
    assert len(seen) >= 9
    assert 0 < min(seen[0], seen[1]) < 1


def test_stages_that_wait_for_examples_go_on_exactly(tmp_path: Path) -> None:
    taught = half_taught("gpt2")
    settings: dict[str, Any] = {
        **tiny.ADAPTIVE,
        "recovery_exact_match": 0.3,
        "learn_partial_steps": False,
        "save_strategy": "steps",
        "save_steps": 1,
        "save_total_limit": None,
        "max_steps": 14,
    }
    whole = tiny.trainer(tmp_path / "whole", copy.deepcopy(taught), **settings)
    whole.train()
    for step in (4, 9):
        folder = tmp_path / str(step)
        shutil.copytree(tmp_path / "whole", folder)
        for later in range(step + 1, 15):
            shutil.rmtree(folder / f"checkpoint-{later}")
        again = tiny.trainer(folder, copy.deepcopy(taught), **settings)
        again.train(resume_from_checkpoint=True)
        assert again.schedule.state_dict() == whole.schedule.state_dict()
        assert tiny.metrics(folder) == tiny.metrics(tmp_path / "whole")
        assert torch.equal(tiny.weights(again.model), tiny.weights(whole.model))


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["linear", "adaptive"])
def test_traces_without_steps(schedule: str, tmp_path: Path) -> None:
    bare = [Trace(one.question, (), one.answer) for one in tiny.traces()]
    with pytest.raises(TacitError, match="no training trace has steps"):
        tiny.trainer(tmp_path, train=bare, schedule=schedule)
    tiny.trainer(tmp_path, train=bare, schedule="remove_all", max_steps=2).train()


def test_explicit_reasoning_needs_steps(tmp_path: Path) -> None:
    bare = [Trace(one.question, (), one.answer) for one in tiny.traces()]
    with pytest.raises(TacitError, match="steps"):
        tiny.trainer(tmp_path, train=bare, schedule="keep_all")


def test_some_traces_without_steps_are_fine(tmp_path: Path) -> None:
    mixed = [
        one if index % 3 else Trace(one.question, (), one.answer, id=one.id) for index, one in enumerate(tiny.traces())
    ]
    tiny.trainer(tmp_path, train=mixed, max_steps=6).train()
    assert len(tiny.metrics(tmp_path, "stage")) == 2


def long_trace(steps: int) -> Trace:
    return Trace("1 2 * 3 4", tuple(Step("1 2 3") for _ in range(steps)), "1", id="the-long-one")


def test_longer_than_the_positions(tmp_path: Path) -> None:
    train = [*tiny.traces(20, "2x2"), long_trace(9), *tiny.traces(5, "2x2"), long_trace(20)]
    with pytest.raises(TacitError) as error:
        tiny.trainer(tmp_path, train=train)
    message = str(error.value)
    assert "2 of 27 traces" in message
    assert "32 positions" in message
    assert "the-long-one" in message
    assert "max_length=32" in message
    trainer = tiny.trainer(tmp_path, train=train, max_length=32, max_steps=2)
    assert len(trainer.rendered) == 25
    assert trainer.left_out == {"longer than max_length": 2}
    trainer.train()


def test_the_long_trace_that_is_named_is_the_long_one(tmp_path: Path) -> None:
    """After max_length has left some out, the ids still go with their lengths."""
    train = [long_trace(40), *tiny.traces(3), Trace("1 * 2", tuple(Step("3 4 1") for _ in range(12)), "1", id="next")]
    with pytest.raises(TacitError, match=r"trace next, has 4\d tokens"):
        tiny.trainer(tmp_path, train=train, max_length=60)


def test_nothing_is_short_enough(tmp_path: Path) -> None:
    with pytest.raises(TacitError, match="max_length=3"):
        tiny.trainer(tmp_path, max_length=3)


def test_no_data(tmp_path: Path) -> None:
    with pytest.raises(TacitError, match="no traces"):
        tiny.trainer(tmp_path, train=[])
    with pytest.raises(TacitError, match="train_dataset"):
        StepwiseInternalizationTrainer(tiny.model(), tiny.settings(tmp_path), processing_class=tiny.tokenizer())
    with pytest.raises(TacitError, match="processing_class"):
        StepwiseInternalizationTrainer(tiny.model(), tiny.settings(tmp_path), train_dataset=tiny.traces())
    with pytest.raises(TacitError, match="no/such/model"):
        tiny.trainer(tmp_path, str(tmp_path / "no/such/model"))
    with pytest.raises(TacitError, match="eval_dataset"):
        tiny.trainer(tmp_path).evaluate()


def test_unknown_characters(tmp_path: Path) -> None:
    """Training traces with such are left out and counted, unless all are; held-out problems must be readable."""
    strange, known = [Trace("1 * π", (Step("1"),), "1"), Trace("1", (Step("é"),), "1"), long_trace(20)], tiny.traces(5)
    trainer = tiny.trainer(tmp_path, train=[strange[0], *known, *strange[1:]], max_length=32)
    assert trainer.left_out == {"with characters that the tokenizer lacks": 2, "longer than max_length": 1}
    without = tiny.trainer(tmp_path, train=known, max_length=32)
    assert np.array_equal(trainer.rendered.ids, without.rendered.ids)
    assert without.left_out == {}
    with pytest.raises(TacitError, match="cannot represent 'π'"):
        tiny.trainer(tmp_path, train=strange[:2])
    with pytest.raises(TacitError, match="cannot represent 'é'"):
        tiny.trainer(tmp_path, train=known, evaluated=[*known, strange[1]])


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"schedule": 5}, "schedule must be one of"),
        ({"removal_unit": "word"}, "removal_unit must be token or step"),
        ({"recovery_exact_match": 0.0}, "recovery_exact_match must lie between 0 and 1"),
        ({"recovery_exact_match": 1.0}, "recovery_exact_match must lie between 0 and 1"),
        ({"learn_partial_steps": False, "removal_side": "right"}, "learn_partial_steps: false goes with"),
        ({"removal_side": "top"}, "removal_side must be left or right"),
        ({"optimizer": "sgd"}, "optimizer must be adamw or muon"),
        ({"removal_per_epoch": -1}, "removal_per_epoch must be at least 0"),
        ({"removal_chunk": 0}, "removal_chunk must be at least 1"),
        ({"removal_start": -1}, "removal_start must be at least 0"),
        ({"explicit_epochs": -0.5}, "explicit_epochs must be at least 0"),
        ({"recovery_window": 0}, "recovery_window must be at least 1"),
        ({"stage_patience": 0}, "stage_patience must be at least 1"),
        ({"explicit_patience": 0}, "explicit_patience must be at least 1"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size must be at least 1"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be at least 1"),
        ({"max_steps": 0}, "nothing would be trained"),
        ({"max_steps": -1, "num_train_epochs": 0}, "nothing would be trained"),
        ({"removal_smoothing": 0}, "removal_smoothing must be positive"),
        ({"removal_smoothing": -1.0}, "removal_smoothing must be positive"),
        ({"removal_smoothing": math.nan}, "removal_smoothing must be positive"),
        ({"removal_per_epoch": math.nan}, "removal_per_epoch"),
        ({"decay_share": 1.5}, "decay_share must lie between 0 and 1"),
        ({"decay_share": 0.5, "lr_scheduler_type": "linear"}, "decay_share"),
        ({"save_total_limit": 1}, "save_total_limit must be at least 2"),
        ({"load_best_model_at_end": True}, "load_best_model_at_end"),
        ({"prompt": "no place for it"}, "question"),
        ({"separator": ","}, "separator"),
        ({"marker": ""}, "marker '' needs remove_all"),
        ({"marker": "", "schedule": "keep_all"}, "marker '' needs remove_all"),
        ({"template": "fine-tune-cod"}, "unknown template 'fine-tune-cod'; did you mean 'fine-tune-cot'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_bad_settings(bad: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(TacitError, match=text):
        tiny.settings(tmp_path, **bad)


def test_what_cannot_wait_for_examples(tmp_path: Path) -> None:
    """The loss of a mixture of experts with that of its router comes from the model itself, without our logits."""
    shape = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
    shape |= {"intermediate_size": 32, "num_local_experts": 2, "output_router_logits": True}
    mixture = tiny.model(architecture="mixtral", **shape)
    with pytest.raises(TacitError, match="recovery_exact_match does not go with"):
        tiny.trainer(tmp_path, mixture, **tiny.ADAPTIVE, recovery_exact_match=0.5)
    tiny.trainer(tmp_path, mixture, **tiny.ADAPTIVE, max_steps=1).train()


def test_what_an_encoder_decoder_needs(tmp_path: Path) -> None:
    with pytest.raises(TacitError, match="label_smoothing_factor goes with causal models only"):
        tiny.trainer(tmp_path, architecture="t5", label_smoothing_factor=0.1)
    with pytest.raises(TacitError, match="learn_partial_steps: false goes with causal models only"):
        tiny.trainer(tmp_path, architecture="t5", learn_partial_steps=False)
    headless = tiny.model(architecture="t5")
    headless.config.decoder_start_token_id = None
    with pytest.raises(TacitError, match="has no decoder_start_token_id"):
        tiny.trainer(tmp_path, headless)
    with pytest.raises(TacitError, match="needs a model whose tokenizer has a chat template"):
        tiny.trainer(tmp_path, template="chat")


def test_an_encoder_decoder_counts_positions_twice(tmp_path: Path) -> None:
    """A prompt and a target that together exceed the positions fit; each alone must, and `max_length` counts so."""
    traces = tiny.traces(8)
    trainer = tiny.trainer(tmp_path, tiny.family("bart", tiny.tokenizer()), train=traces)
    prompt, target = (
        trainer.rendered.prompt_lengths[0],
        trainer.rendered.lengths[0] - trainer.rendered.prompt_lengths[0],
    )
    positions = int(max(prompt, target))
    assert positions < trainer.rendered.lengths[0]
    tiny.trainer(tmp_path, tiny.family("bart", tiny.tokenizer(), positions), train=traces, max_steps=1).train()
    with pytest.raises(TacitError, match=f"8 of 8 traces are longer than the model's {positions - 1} positions"):
        tiny.trainer(tmp_path, tiny.family("bart", tiny.tokenizer(), positions - 1), train=traces)
    with pytest.raises(TacitError, match=f"every trace has more than max_length={positions - 1} tokens"):
        tiny.trainer(tmp_path, tiny.family("t5", tiny.tokenizer()), train=traces, max_length=positions - 1)


# --- recipes ---------------------------------------------------------------------------------------------------------


def document(**changed: Any) -> dict[str, Any]:
    """A recipe that trains in a second."""
    return {
        "name": "tiny",
        "task": "multiplication",
        "data": {"digits": "2x2", "train": 36, "validation": 4, "test": 8},
        "model": {"architecture": "gpt2", "config": {"n_layer": 1, "n_embd": 16, "n_head": 2}},
        "train": {"max_steps": 3, "per_device_train_batch_size": 4, "use_cpu": True, "bf16": False},
        "methods": {"no_cot": {}},
        **changed,
    }


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("train.learning_rte=1", "train.learning_rate"),
        ("methods.stepwse={}", "stepwise"),
        ("methods.no_cot.learning_rte=1", "methods.no_cot.learning_rate"),
        ("data.digts=4x2", "data.digits"),
        ("model.conf={}", "model.config"),
        ("evaluation.batchsize=3", "evaluation.batch_size"),
        ("max_steps=5", "train.max_steps"),
        ("digits=4x2", "data.digits"),
        ("batch_size=5", "evaluation.batch_size"),
        ("sedes=[1]", "seeds"),
        ("task=multiplicaton", "multiplication"),
        ("train.seed=1", "use seeds"),
        ("train.output_dir=x", "use -o"),
        ("train.max_steps=many", "train.max_steps must be a whole number, got 'many'"),
        ("train.max_steps=true", "train.max_steps must be a whole number"),
        ("train.learning_rate=fast", "train.learning_rate must be a number, got 'fast'"),
        ("train.max_steps=2.5", "train.max_steps must be a whole number"),
        ("train.removal_chunk=1.5", "train.removal_chunk must be a whole number"),
        ("train.reset_optimizer=maybe", "train.reset_optimizer must be true or false"),
        ("train.max_length=long", "max_length"),
        ("train.keep_stages=3", "keep_stages"),
        ("train.prompt=5", "prompt"),
        ("train.keep_stages=[1,x]", "keep_stages must be a list, each a whole number"),
        ("train.save_strategy=no", "put it in quotes"),
        ("train.report_to=5", "train.report_to must be text or a list"),
        ("train.5=5", "unknown recipe key 'train.5'"),
        ("data.format=[tacit]", "data.format must be text"),
        ("model.name=5", "model.name must be text"),
        ("train=5", "'train' must be a mapping"),
        ("data=5", "'data' must be a mapping"),
        ("methods=[no_cot]", "'methods' must be a mapping"),
        ("methods.no_cot=5", "methods.no_cot must be a mapping"),
        ("methods={}", "no section 'methods'"),
        ("seeds=[1,1]", "distinct"),
        ("seeds=[x]", "seeds must be a whole number"),
        ("seeds=[]", "seeds"),
        ("seeds=-1", "seeds"),
        ("jobs=0", "jobs must be a whole number of at least 1"),
        ("jobs=two", "jobs"),
        ("name=a/b", "name"),
        ("task=5", "task"),
        ("task=[coin_flip]", "task"),
        ("data.digits=4by4", "4by4"),
        ("data.digits=0x4", "digits must look like 4x2"),
        ("data.train=0", "data.train"),
        ("data.train=1.5", "data.train"),
        ("data.test=null", "data.test is missing"),
        ("data.test=x.jsonl", "data.test"),
        ("data.format=xml", "format"),
        ("model.name=gpt2", "either"),
        ("model.config=5", "model.config"),
        ("model={}", "no section 'model'"),
        ("methods.cot={from: no_cot}", "from"),
        ("5=5", "unknown recipe key '5'"),
        ("train", "an override looks like"),
        ("=5", "an override looks like"),
        ("train.max_steps=[", "not YAML"),
    ],
)
def test_bad_recipes(override: str, text: str, tmp_path: Path) -> None:
    """One sentence that names the key and, where a name is unknown, the nearest that is not."""
    path = written(tmp_path, json.dumps(document()))
    with pytest.raises(TacitError) as error:
        load_recipe(path, [override]).settings("no_cot", 0, tmp_path)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "mapping"),
        ("- a\n- b\n", "mapping"),
        ("just text", "mapping"),
        ("a: [", "not YAML"),
        ("a: 'x", "not YAML"),
        (b"\xff\xfe\x00name: x", "not YAML"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
        ("5: 6", "unknown recipe key"),
        ("name: x", "no section 'data'"),
    ],
)
def test_files_that_are_no_recipe(content: str | bytes, text: str, tmp_path: Path) -> None:
    with pytest.raises(TacitError, match=text):
        load_recipe(written(tmp_path, content))


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TacitError, match=r"nowhere\.yaml: No such file"):
        load_recipe(tmp_path / "nowhere.yaml")
    with pytest.raises(TacitError, match="Is a directory"):
        load_recipe(tmp_path)


def test_the_numbers_that_people_write(tmp_path: Path) -> None:
    recipe = load_recipe(
        written(tmp_path, json.dumps(document())), ["train.learning_rate=2e-3", "train.removal_smoothing=inf"]
    )
    settings = recipe.settings("no_cot", 0, tmp_path)
    assert settings.learning_rate == 2e-3
    assert settings.removal_smoothing == math.inf


# --- run folders -----------------------------------------------------------------------------------------------------


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_folder_is_not_touched_unasked(tmp_path: Path) -> None:
    recipe = parse_recipe(document())
    carry_out(recipe, tmp_path / "run")
    before = files(tmp_path / "run")
    with pytest.raises(TacitError, match=r"exists; add --resume .* or --overwrite"):
        carry_out(recipe, tmp_path / "run")
    changed = parse_recipe(document(train={**document()["train"], "max_steps": 4, "learning_rate": 1}))
    with pytest.raises(TacitError, match=r"other settings \(train\.max_steps, train\.learning_rate\)"):
        carry_out(changed, tmp_path / "run", resume=True)
    assert files(tmp_path / "run") == before

    carry_out(recipe, tmp_path / "run", resume=True)  # nothing is left to train
    after = files(tmp_path / "run")
    same = [name for name in before if name.startswith("no_cot")]
    assert [after[name] for name in same] == [before[name] for name in same]

    carry_out(changed, tmp_path / "run", overwrite=True)
    assert checkpoint.load_info(tmp_path / "run" / "no_cot")["train_steps"] == 4


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    data = {"digits": "1x1,2x2", "train": 30, "test": 4, "seed": 0}
    recipe = parse_recipe(document(data=data, methods={"stepwise": {"max_length": 16}}))
    notes = []
    carry_out(recipe, tmp_path / "run", listener=lambda _, line: notes.append(line.get("text", "")))
    assert any(re.search(r"\d+ traces \(\d+ longer than max_length left out\)$", note) for note in notes)


def test_other_folders_are_never_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
    with pytest.raises(TacitError, match="is no run folder"):
        carry_out(parse_recipe(document()), tmp_path / "thesis", overwrite=True)
    with pytest.raises(TacitError, match="is no run folder"):
        carry_out(parse_recipe(document()), tmp_path / "thesis")
    (tmp_path / "file").write_text("x")
    for how in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(TacitError):
            carry_out(parse_recipe(document()), tmp_path / "file", **how)
    assert files(tmp_path) == {"thesis/chapter1.txt": b"years of work", "file": b"x"}


def test_more_problems_than_there_are(tmp_path: Path) -> None:
    recipe = parse_recipe(document(data={"digits": "1x1", "train": 100, "test": 8}))
    with pytest.raises(TacitError, match=r"108 problems asked for, but only 45"):
        carry_out(recipe, tmp_path / "run")


def test_cot_from_stepwise_is_its_explicit_stage(tmp_path: Path) -> None:
    """The CoT row costs no training: it is Stepwise's model when the first removal begins, and says so."""
    methods = {"stepwise": {"removal_per_epoch": 4.5}, "cot": {"from": "stepwise"}, "no_cot": {}}
    train = {**document()["train"], "max_steps": 6, "logging_steps": 1}
    run = carry_out(parse_recipe(document(methods=methods, train=train)), tmp_path / "run")
    rows = {row["method"]: row for row in run.rows}
    begins = next(line["step"] for line in tiny.metrics(tmp_path / "run" / "stepwise", "stage"))
    assert rows["cot"]["train_steps"] == begins
    assert rows["cot"]["train_examples"] == begins * 4
    assert rows["stepwise"]["train_steps"] == rows["no_cot"]["train_steps"] == 6
    assert rows["no_cot"]["relative_speed"] == 1.0
    assert not list((tmp_path / "run").rglob("checkpoint-*"))
    assert not list((tmp_path / "run").rglob("*.bin"))


@pytest.mark.parametrize(
    ("name", "instructions", "amx", "fast"),
    [
        ("AMD EPYC", True, False, True),
        ("AMD EPYC", False, False, False),
        ("Intel(R) Xeon(R) Processor", True, False, False),
        ("Intel(R) Xeon(R) Processor", True, True, True),
        ("AMD64 Family 25 Model 17 Stepping 1, AuthenticAMD", True, False, True),
        ("AMD64", True, False, False),  # the architecture, for want of a name
    ],
)
def test_bf16_is_the_default_where_it_was_found_faster(
    name: str, instructions: bool, amx: bool, fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tacit.environment.processor", lambda: name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert StepwiseInternalizationConfig(str(tmp_path)).bf16 is fast
    assert StepwiseInternalizationConfig(str(tmp_path), bf16=False).bf16 is False
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # a GPU that is not used
    assert StepwiseInternalizationConfig(str(tmp_path), use_cpu=True).bf16 is fast
