"""The training step's short cuts against the plain way: the same loss, the same gradients, the same trajectories."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from hypothesis import given
from hypothesis import strategies as st
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, TrainerCallback
from transformers.modeling_layers import GradientCheckpointingLayer

from scripts import tiny
from tacit import models
from tacit.errors import TacitError
from tacit.evaluation.exact_match import one_pass
from tacit.models import pad_id, target_logits
from tacit.rendering import render
from tacit.stages import IGNORED, Batcher, Removal
from tacit.training.trainer import StepwiseInternalizationTrainer, target_loss

LLAMA = dict(tiny.FAMILIES["llama"][1])
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_layer": 2, "n_embd": 32, "n_head": 2},
    "llama": LLAMA,
    "qwen2": LLAMA,
    "gpt_neox": {name: value for name, value in LLAMA.items() if name != "num_key_value_heads"},
    "falcon": {
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "num_attention_heads": 2,
    },  # asks for sdpa by name, and for a mask
    "gemma2": {**LLAMA, "head_dim": 16, "final_logit_softcapping": 0.5},  # low: it bends every logit
}
TOKENIZER = tiny.tokenizer()
RENDERED = render(tiny.traces(24, "2x2,3x2"), TOKENIZER)  # of several lengths


pytestmark = pytest.mark.usefixtures("one_thread")


def make(architecture: str) -> Any:
    model = models.from_config(architecture, ARCHITECTURES[architecture], TOKENIZER, positions=64, seed=0)
    return model.eval()  # no dropout


# --- the vocabulary projection ---------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 23), min_size=1, max_size=8), st.data())
def test_rows_are_where_a_label_follows(chosen: list[int], data: st.DataObject) -> None:
    examples = np.array(chosen)
    removed = np.array([data.draw(st.integers(0, 30)) for _ in chosen])
    start, length = Removal().spans(RENDERED, examples, removed)
    batcher = Batcher(RENDERED, pad_id(TOKENIZER))
    labels = batcher.cut(examples, start, length)["labels"]
    width = labels.shape[1]
    expected = [
        row * width + at
        for row in range(len(labels))
        for at in range(width - 1)
        if labels[row, at + 1].item() != IGNORED
    ]
    assert batcher.predicting(examples, length).tolist() == expected


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_projecting_targets_only_gives_loss_and_gradients_of_the_model(architecture: str) -> None:
    model, examples = make(architecture), np.arange(24)
    start, length = Removal().spans(RENDERED, examples, np.arange(24) % 5)
    batcher = Batcher(RENDERED, pad_id(TOKENIZER))
    batch, rows = batcher.cut(examples, start, length), batcher.predicting(examples, length)
    plain = model(**batch)
    plain.loss.backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()

    labels, projected = batch.pop("labels"), []
    head = model.get_output_embeddings()
    counting = head.register_forward_hook(lambda _, given, out: projected.append(out[..., 0].numel()))
    logits = target_logits(model, head, rows, **batch)
    counting.remove()
    assert projected == [len(rows)]
    loss = torch.nn.functional.cross_entropy(logits, labels.flatten()[rows + 1])
    loss.backward()
    torch.testing.assert_close(logits, plain.logits.flatten(0, 1)[rows], rtol=0, atol=1e-6)
    torch.testing.assert_close(loss, plain.loss, rtol=0, atol=1e-6)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-6)
    assert model(**batch).logits.shape[:2] == batch["input_ids"].shape  # as before
    torch.testing.assert_close(target_logits(model, None, rows, **batch), logits, rtol=0, atol=1e-6)


class Plain(StepwiseInternalizationTrainer):
    """The trainer without its short cut."""

    def _projects_targets_only(self) -> bool:
        return False


CASES = {
    "gpt2": {},
    "accumulation": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    "kept positions": {"keep_positions": True, "digits": "2x2"},
    "gemma2": {"architecture": "gemma2"},
    "lora": {"lora": True},
}


def trajectory(kind: type, folder: Path, resume: bool | None = None, **case: Any) -> tuple[list[float], torch.Tensor]:
    """Losses and last weights of a training in float64."""
    peft_config = None
    if case.pop("lora", False):
        peft = pytest.importorskip("peft")
        peft_config = peft.LoraConfig(r=4, target_modules=["c_attn", "c_proj"], task_type="CAUSAL_LM")
    traces = tiny.traces(40, case.pop("digits", "2x2,3x2"))
    model = make(case.pop("architecture", "gpt2")).double()
    torch.manual_seed(0)  # LoRA's
    args = tiny.settings(
        folder, **{"per_device_train_batch_size": 8, "learning_rate": 3e-3, "removal_smoothing": 1.0, **case}
    )
    trainer = kind(model, args, traces, processing_class=TOKENIZER, peft_config=peft_config)
    trainer.train(resume_from_checkpoint=resume)
    return [line["loss"] for line in tiny.metrics(folder, "train")], tiny.weights(trainer.model)


@pytest.mark.parametrize("case", ["gpt2", "kept positions", "gemma2", "lora"])
def test_compiled_layers_and_plain_ones_go_the_same_way(case: str, tmp_path: Path) -> None:
    """torch compiles for the first length, and once more for any length; one layer for all of them."""
    from torch._dynamo.utils import counters

    counters.clear()
    torch._dynamo.reset()
    settings = {**CASES[case], "removal_per_epoch": 5}
    compiled = trajectory(
        StepwiseInternalizationTrainer,
        tmp_path / "compiled",
        **{"torch_compile": True, "torch_compile_backend": "aot_eager", **settings},
    )
    removed = {line["removed"] for line in tiny.metrics(tmp_path / "compiled", "train")}
    assert len(removed) > 5
    assert 0 < counters["stats"]["unique_graphs"] <= 8
    plain = trajectory(Plain, tmp_path / "plain", **settings)
    assert compiled[0] == pytest.approx(plain[0], abs=2e-6)
    torch.testing.assert_close(compiled[1], plain[1], rtol=0, atol=1e-5)


def test_compiled_is_the_training_alone(tmp_path: Path) -> None:
    """In one training after another, also where the first was interrupted; what is handed out is the plain model."""
    during: list[bool] = []

    class Seeing(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            during.append(all(layer._compiled_call_impl is not None for layer in models.layers(model)))
            if len(during) == 2:
                raise KeyboardInterrupt

    args = tiny.settings(tmp_path, max_steps=3, torch_compile=True, torch_compile_backend="eager")
    trainer = StepwiseInternalizationTrainer(
        make("gpt2"), args, tiny.traces(40), processing_class=TOKENIZER, callbacks=[Seeing()]
    )
    for training in range(2):
        if not training:
            with pytest.raises(KeyboardInterrupt):
                trainer.train()
        else:
            trainer.train()
        assert all(layer._compiled_call_impl is None for layer in models.layers(trainer.student().model))
    assert during == [True] * 5


def test_layers_inside_of_layers_are_compiled_with_them() -> None:
    model = make("llama")
    outer = models.layers(model)
    assert len(outer) == 2
    outer[0].mlp = copy.deepcopy(outer[1])
    assert models.layers(model) == outer


def test_a_model_without_layers_cannot_be_compiled(tmp_path: Path) -> None:
    model = models.from_config("openai-gpt", {"n_layer": 1, "n_embd": 8, "n_head": 1}, TOKENIZER, 64, seed=0)
    with pytest.raises(TacitError, match="torch_compile: a OpenAIGPTLMHeadModel has no layers"):
        StepwiseInternalizationTrainer(
            model, tiny.settings(tmp_path, torch_compile=True), tiny.traces(40), processing_class=TOKENIZER
        )


@pytest.mark.parametrize("case", CASES)
def test_fast_and_plain_trajectories_are_equal(case: str, tmp_path: Path) -> None:
    fast = trajectory(StepwiseInternalizationTrainer, tmp_path / "fast", **CASES[case])
    plain = trajectory(Plain, tmp_path / "plain", **CASES[case])
    assert len(fast[0]) == len(plain[0]) == 20
    assert fast[0] == pytest.approx(plain[0], abs=2e-6)  # it is taken in float32
    torch.testing.assert_close(fast[1], plain[1], rtol=0, atol=1e-5)


def test_smoothed_labels_are_trainers(tmp_path: Path) -> None:
    smoothing = {"label_smoothing_factor": 0.5, "max_steps": 6}
    smoothed, weights = trajectory(StepwiseInternalizationTrainer, tmp_path / "smoothed", **smoothing)
    plain, expected = trajectory(Plain, tmp_path / "plain", **smoothing)
    usual, _ = trajectory(StepwiseInternalizationTrainer, tmp_path / "usual", max_steps=6)
    assert smoothed == pytest.approx(plain, abs=2e-6)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-4)  # ours is taken in float32
    assert smoothed[-1] > usual[-1] + 0.02


# --- attention over padding ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("keep_positions", [False, True])
def test_padding_on_the_right_needs_no_mask(architecture: str, keep_positions: bool) -> None:
    """Logits and gradients at the targets, with gaps in the positions as well; the model is left as it was."""
    model, examples = make(architecture), np.arange(24)
    if model.config._attn_implementation != "sdpa":
        pytest.skip("no fused attention")
    start, length = Removal().spans(RENDERED, examples, np.arange(24) % 5)
    batcher = Batcher(RENDERED, pad_id(TOKENIZER), keep_positions=keep_positions)
    batch, rows = batcher.cut(examples, start, length), batcher.predicting(examples, length)
    batch.pop("labels")
    assert not batch["attention_mask"].all()
    masks: list[torch.Tensor] = []
    for layer in (module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)):
        layer.register_forward_pre_hook(
            lambda _, given, named: masks.extend(
                one for one in [*given, *named.values()] if isinstance(one, torch.Tensor) and one.ndim == 4
            ),
            with_kwargs=True,
        )
    plain = model(**batch).logits.flatten(0, 1)[rows]
    expected = torch.autograd.grad(plain.square().sum(), list(model.parameters()))
    assert len(masks) == 2
    fast = target_logits(model, model.get_output_embeddings(), rows, **batch)
    assert len(masks) == (4 if architecture == "falcon" else 2)  # no more, unless the model insists
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-5)
    for one, other in zip(torch.autograd.grad(fast.square().sum(), list(model.parameters())), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model(**batch).logits.flatten(0, 1)[rows], plain, rtol=0, atol=0)


@pytest.mark.parametrize("architecture", ["roberta", "bert-generation"])
def test_where_tokens_look_ahead_padding_is_masked(architecture: str) -> None:
    """Encoders that somebody trains as they are: their masks are more than causal."""
    shape = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    config = CONFIG_MAPPING[architecture](
        vocab_size=len(TOKENIZER), pad_token_id=1, max_position_embeddings=99, **shape
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    assert model.config._attn_implementation == "sdpa"
    examples = np.arange(6)
    start, length = Removal().spans(RENDERED, examples, np.arange(6) % 5)
    batcher = Batcher(RENDERED, pad_id(TOKENIZER))
    batch, rows = batcher.cut(examples, start, length), batcher.predicting(examples, length)
    batch.pop("labels")
    plain = model(**batch).logits.flatten(0, 1)[rows]
    fast = target_logits(model, model.get_output_embeddings(), rows, **batch)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-5)


def test_a_sliding_window_stays(tmp_path: Path) -> None:
    """What a layer does not see for another reason than padding, it still does not see."""
    settings = {**LLAMA, "sliding_window": 4, "layer_types": ["sliding_attention"] * 2, "use_sliding_window": True}
    model = models.from_config("qwen2", settings, TOKENIZER, positions=64, seed=0).eval()
    examples = np.arange(6)
    batcher = Batcher(RENDERED, pad_id(TOKENIZER))
    none = np.zeros(6, dtype=np.int64)
    batch, rows = batcher.cut(examples, none, none), batcher.predicting(examples, none)
    batch.pop("labels")
    plain = model(**batch).logits.flatten(0, 1)[rows]
    fast = target_logits(model, model.get_output_embeddings(), rows, **batch)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-5)
    wide = models.from_config("qwen2", LLAMA, TOKENIZER, positions=64, seed=0).eval()
    assert not torch.allclose(wide(**batch).logits.flatten(0, 1)[rows], plain, atol=1e-3)


# --- the device ------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_nothing_in_the_loop_waits_for_the_device(tmp_path: Path) -> None:
    """torch itself raises where the host would; between two log lines, with padding and a removal at every step."""

    class Watched(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            torch.cuda.set_sync_debug_mode("error" if 2 < state.global_step < 18 else "default")

    args = tiny.settings(
        tmp_path,
        max_steps=20,
        logging_steps=19,
        removal_per_epoch=5,
        removal_smoothing=1.0,
        optimizer="muon",
        use_cpu=False,
        bf16=True,
        save_strategy="no",
    )
    model = models.from_config("gpt2", ARCHITECTURES["gpt2"], TOKENIZER, positions=64, seed=0)
    trainer = StepwiseInternalizationTrainer(
        model, args, tiny.traces(40, "2x2,3x2"), processing_class=TOKENIZER, callbacks=[Watched()]
    )
    try:
        trainer.train()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.network.device.type == "cuda"
    assert trainer.state.global_step == 20


# --- mixed precision -------------------------------------------------------------------------------------------------


def test_mixed_precision_ends_with_the_training(tmp_path: Path) -> None:
    """What is published, and evaluated after the training, is the float32 model; before, logits stay in bfloat16."""
    seen: list[torch.dtype] = []

    class Seeing(StepwiseInternalizationTrainer):
        def training_step(self, *given: Any, **named: Any) -> torch.Tensor:
            self.target_loss = lambda logits, targets: seen.append(logits.dtype) or target_loss(logits, targets)
            return super().training_step(*given, **named)

    AcceleratorState._reset_state()
    args = tiny.settings(tmp_path, max_steps=3, bf16=True, save_strategy="steps", save_steps=3)
    for _ in range(2):  # the second resumes what is done
        trainer = Seeing(tiny.model(), args, tiny.traces(40), processing_class=tiny.tokenizer())
        trainer.train(resume_from_checkpoint=True)
        model = trainer.student().model
        assert model(input_ids=torch.tensor([[3, 4]])).logits.dtype == torch.float32
        assert "forward" not in vars(model)
    AcceleratorState._reset_state()
    assert seen == [torch.bfloat16] * 3


def test_one_process_has_one_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's DataParallel would compute in another precision, and without the short cuts."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    PartialState._reset_state()
    AcceleratorState._reset_state(reset_partial_state=True)
    args = tiny.settings(tmp_path, use_cpu=False, bf16=False, per_device_train_batch_size=8)
    assert str(args.device) == "cuda:0"
    assert (args.n_gpu, args.train_batch_size) == (1, 8)
    monkeypatch.undo()
    AcceleratorState._reset_state(reset_partial_state=True)


def test_one_pass_projects_targets_only() -> None:
    model, projected = make("gpt2"), []
    model.get_output_embeddings().register_forward_hook(lambda _, given, out: projected.append(out[..., 0].numel()))
    one_pass(model, Batcher(RENDERED, pad_id(TOKENIZER)), Removal(), 10**6, batch_size=10)
    assert len(projected) == 3
    assert sum(projected) == (RENDERED.lengths - RENDERED.prompt_lengths - RENDERED.chain_lengths).sum()


# --- the activation --------------------------------------------------------------------------------------------------


def test_the_fused_activation_is_the_same_function(tmp_path: Path) -> None:
    """Against stock transformers, which loads the saved model as ever."""
    fused = make("gpt2")
    fused.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert stock.config.activation_function == "gelu_new"
    loaded, _ = models.load(str(tmp_path))
    kinds = [type(model.transformer.h[0].mlp.act).__name__ for model in (fused, loaded.eval(), stock)]
    assert kinds == ["GELU", "GELU", "NewGELUActivation"]
    ids = torch.randint(0, len(TOKENIZER), (4, 20), generator=torch.Generator().manual_seed(0))
    for model in (fused, loaded, stock):
        model(input_ids=ids, labels=ids).loss.backward()
    for own in (fused, loaded):
        torch.testing.assert_close(own(ids).logits, stock(ids).logits, rtol=0, atol=1e-6)
        for (name, one), other in zip(own.named_parameters(), stock.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-6, msg=name)


# --- padding ---------------------------------------------------------------------------------------------------------


def test_batches_of_one_length_and_an_exact_resume(tmp_path: Path) -> None:
    """Half of the traces are longer. Every eight examples are sorted, so that at most one batch of two is mixed."""
    traces = [*tiny.traces(20), *tiny.traces(20, "3x2")]
    settings = {
        "train_sampling_strategy": "group_by_length",
        "schedule": "keep_all",
        "max_steps": 16,
        "save_strategy": "steps",
        "save_steps": 8,
    }
    seen: list[tuple[int, ...]] = []

    class Watching(StepwiseInternalizationTrainer):
        def training_step(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> torch.Tensor:
            seen.append(tuple(inputs["attention_mask"].sum(1).tolist()))
            return super().training_step(model, inputs, *rest, **more)

    def trainer() -> Watching:
        return Watching(make("gpt2"), tiny.settings(tmp_path, **settings), traces, processing_class=TOKENIZER)

    whole = trainer()
    whole.train()
    expected, weights = list(seen), tiny.weights(whole.model)
    for epoch in (expected[:10], expected[10:]):
        assert sum(len(set(lengths)) > 1 for lengths in epoch) <= 5
    assert expected[:6] != expected[10:]  # another order
    seen.clear()
    again = trainer()
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert seen == expected[8:]
    assert torch.equal(tiny.weights(again.model), weights)


def test_a_restart_gets_another_order_by_length(tmp_path: Path) -> None:
    trainer = tiny.trainer(tmp_path, train=tiny.traces(40, tiny.LENGTHS), train_sampling_strategy="group_by_length")
    orders = []
    for restarts in (0, 1):
        trainer.recovery.restarts = restarts
        orders.append(list(trainer._get_train_sampler()))
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(40))
