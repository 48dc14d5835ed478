"""The trainings of ICoT-KD (arXiv 2311.01460, section 3): mind-reading student, thought emulator, and both coupled.

Usage, with a `teacher` that writes its chain of thought:

    config = ImplicitConfig(text_config=teacher.config)
    reader = ImplicitTrainer(MindReadingStudent(config, student), args, traces, processing_class=tokenizer, mind=mind)
    emulator = EmulatorTrainer(ThoughtEmulator(config, other), args, traces, processing_class=tokenizer, mind=mind)
    coupled = ImplicitTrainer(ImplicitModel(config, reader.model, emulator.model), args, traces, ...)

with `mind = Mind(teacher)`; each is trained by its `train()`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from tacit.errors import TacitError
from tacit.evaluation.thoughts import emulation_error
from tacit.implicit.modeling import ImplicitModel
from tacit.implicit.states import Mind, PromptBatcher, TeacherStates, ThoughtBatcher, check_student
from tacit.models import pad_id
from tacit.rendering import Renderings
from tacit.training.config import StepwiseInternalizationConfig
from tacit.training.trainer import StepwiseInternalizationTrainer


class ImplicitTrainer(StepwiseInternalizationTrainer):
    """Trains a `MindReadingStudent` to answer from its teacher's states, or an `ImplicitModel` to do so alone.

    Args:
        model (`MindReadingStudent` or `ImplicitModel`): What is trained; parts that need no gradient stay as they are.
        args (`StepwiseInternalizationConfig`): Settings, with the schedule `remove_all`: no chain is a target.
        mind (`Mind`, *optional*): The teacher's, for a network that reads it.
        others: As for `StepwiseInternalizationTrainer`.

    Raises:
        TacitError: As there; or a setting, or a compiled model, does not go with thoughts put into layers, a network
            that reads a mind is given none (or the coupled one is), or its teacher is not of its depth and width.
    """

    batches: type[ThoughtBatcher] = ThoughtBatcher

    def __init__(
        self, model: Any, args: StepwiseInternalizationConfig, *rest: Any, mind: Mind | None = None, **others: Any
    ) -> None:
        check_settings(args)
        _check_layers(model)
        if (mind is None) != isinstance(model, ImplicitModel):
            raise TacitError(
                "a mind-reading student and an emulator need the mind of a teacher, and the coupled model has none"
            )
        self.mind = mind
        if mind is not None:
            mind.check(model.config)
        super().__init__(model, args, *rest, **others)
        self.about = {"method": "implicit_kd"}

    @property
    def states(self) -> TeacherStates | None:
        """The teacher's, of the training sequences."""
        return self.batcher.states if isinstance(self.batcher, ThoughtBatcher) else None

    def make_batcher(self, rendered: Renderings) -> ThoughtBatcher:
        """With the place of each thought; with a teacher's mind, also with its states."""
        padding = pad_id(self.tokenizer)
        states = None if self.mind is None else TeacherStates(self.mind, rendered, padding)
        return self.batches(rendered, padding, self.args.device, states)


def check_settings(args: StepwiseInternalizationConfig) -> None:
    """Raises `TacitError` where training settings do not go with thoughts put into layers."""
    if args.torch_compile or args.gradient_checkpointing:
        raise TacitError("ICoT-KD changes what enters each layer: leave torch_compile and gradient_checkpointing off")
    if args.schedule != "remove_all" or args.keep_positions:
        raise TacitError("ICoT-KD has no stages: it takes schedule='remove_all', without keep_positions")


def _check_layers(model: torch.nn.Module) -> None:
    """Raises `TacitError` where nothing can be put into the layers of a network."""
    for name, part in model.named_modules():
        if hasattr(part, "_orig_mod") or part._compiled_call_impl is not None:
            raise TacitError("the model is compiled: ICoT-KD changes what enters each layer, so give it the plain one")
        if name in ("language_model", "student.language_model", "emulator.language_model"):
            check_student(part)


class EmulatorTrainer(ImplicitTrainer):
    """Trains a `ThoughtEmulator` to foretell its teacher's states from the prompt alone.

    `L_b = mean_batch sum_l 1/2 |v_l - v^_l|^2`, with a mixture plus `weight * mean_batch sum_l -log softmax(E u_l)` of
    the token at t_l, which is the component it is to choose.

    Args:
        component_weight (`float`): `weight`.
        others: As for `ImplicitTrainer`; `mind` is needed.

    Raises:
        TacitError: As there; or a mixture has not a component for each token.
    """

    batches = PromptBatcher

    def __init__(self, *rest: Any, component_weight: float = 1.0, **others: Any) -> None:
        super().__init__(*rest, **others)
        count = self.network.config.components
        if count > 1 and count <= self.rendered.ids.max():
            raise TacitError(f"components are tokens of the chain: {count} are fewer than the vocabulary has")
        self.component_weight = component_weight
        self.loss_is_scaled_for_ga = False  # a mean over the micro-batch

    def _projects_targets_only(self) -> bool:
        return False

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """L_b of a micro-batch."""
        wanted = inputs.pop("thoughts")
        found, logits = model(**inputs)
        loss = (found.float() - wanted).square().sum((1, 2)).mean() / 2
        if logits is not None:
            miss = cross_entropy(logits.float().flatten(0, 1), inputs["components"].flatten(), reduction="sum")
            loss = loss + self.component_weight * miss / len(wanted)
        return (loss, {"thoughts": found}) if return_outputs else loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The emulation error on validation traces, by layer into `metrics.jsonl`.

        Returns:
            `eval_emulation_error`, the mean over the layers whose states differ.
        """
        rendered = self.eval_rendered if eval_dataset is None else self._render_evaluated(eval_dataset, self.network)
        if rendered is None:
            raise TacitError("evaluation needs an eval_dataset")
        with self.autocast_smart_context_manager():
            errors = emulation_error(self.network, self.make_batcher(rendered), self.args.per_device_eval_batch_size)
        known = [error for error in errors if error is not None]
        metrics = {f"{metric_key_prefix}_emulation_error": sum(known) / len(known)} if known else {}
        self.log(dict(metrics))
        self._tell("eval", self.spent, emulation_error=errors, n=len(rendered))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics
