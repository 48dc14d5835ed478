"""Stepwise Internalization on `transformers.Trainer` (arXiv 2405.14838): batches, losses and evaluation of its stages.

The removal happens once per optimizer step in `get_batch_samples`, before loss tokens are counted: a collator would be
one step late (batches are fetched ahead), and with accumulation it would split a step over two stages.

Usage:

    args = StepwiseInternalizationConfig("out", removal_per_epoch=8)
    trainer = StepwiseInternalizationTrainer("openai-community/gpt2", args, train_dataset=traces)
    trainer.train()
    trainer.student().ask("4821 * 37")
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.optimization import get_wsd_schedule

from tacit import checkpoint
from tacit.environment import environment
from tacit.errors import TacitError
from tacit.evaluation.exact_match import one_pass, right_targets
from tacit.models import (
    close_gap,
    compiled,
    is_encoder_decoder,
    layers,
    load,
    pad_id,
    parameter_count,
    position_table,
    target_logits,
)
from tacit.rendering import Renderings, render
from tacit.stages import IGNORED, Batcher, ConstantSchedule
from tacit.student import Student
from tacit.tasks import CUSTOM, Task
from tacit.trace import Trace
from tacit.training.config import StepwiseInternalizationConfig
from tacit.training.data import ByLength, Indices, as_traces, check_positions, render_training
from tacit.training.memory import keep_freed_memory
from tacit.training.optimizers import MuonAdamW
from tacit.training.restarts import RestartingTrainer

if TYPE_CHECKING:
    import datasets


class StepwiseInternalizationTrainer(RestartingTrainer):
    """Trains a language model while its chain of thought is removed from the targets, stage by stage.

    Args:
        model (`str` or `PreTrainedModel`): A name or folder (loaded in float32), or a model; causal or an
            encoder-decoder.
        args (`StepwiseInternalizationConfig`): Settings.
        train_dataset (`list[Trace]` or `datasets.Dataset`): Rows with `question`, `steps`, `answer`.
        eval_dataset (the same, *optional*): For the exact match during training.
        processing_class (*optional*): The tokenizer; by default the model's own.
        task (`Task`, *optional*): What the traces are of, for the checkpoint.
        peft_config (*optional*): A `peft` configuration; adapters are merged into the published checkpoint.
        callbacks (*optional*): As for `Trainer`.
        listener (`Callable`, *optional*): Called with each line of `metrics.jsonl`.

    Attributes:
        about (`dict`): What else `tacit.json` is to say of the student, here and at every stage that is kept.

    Raises:
        TacitError: A trace cannot be rendered or is longer than the model's positions, no trace has steps although the
            schedule removes them, the adapters cannot be merged, or settings do not fit together.
    """

    _tag_names = ["tacit", "implicit-cot"]

    def __init__(
        self,
        model: str | PreTrainedModel,
        args: StepwiseInternalizationConfig | None = None,
        train_dataset: Iterable[Trace] | datasets.Dataset | None = None,
        eval_dataset: Iterable[Trace] | datasets.Dataset | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        task: Task = CUSTOM,
        peft_config: Any = None,
        callbacks: list[Any] | None = None,
        listener: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        args = args or StepwiseInternalizationConfig("trainer_output")
        if train_dataset is None:
            raise TacitError("training needs a train_dataset")
        if isinstance(model, str):
            model, tokenizer = load(model)
            processing_class = processing_class or tokenizer
        if processing_class is None:
            raise TacitError("a model object needs its tokenizer as processing_class")
        if peft_config is not None:
            from peft import get_peft_model

            if peft_config.is_prompt_learning:
                raise TacitError(
                    "peft_config must be of adapters that can be merged into the model, such as LoRA's; "
                    f"{peft_config.peft_type.value} adds to what the model reads, which no plain checkpoint can hold"
                )
            model = get_peft_model(model, peft_config)
        self.task = task
        self.about: dict[str, Any] = {}
        self.tokenizer = processing_class
        self.template = args.make_template(processing_class)
        self.encoder_decoder = is_encoder_decoder(model)
        # `left_out` counts training traces, by the reason.
        rendered, self.left_out = render_training(as_traces(train_dataset), processing_class, model, args)
        self.eval_rendered = None if eval_dataset is None else self._render_evaluated(eval_dataset, model)
        if args.eval_strategy != "no" and eval_dataset is None:
            raise TacitError("eval_strategy needs validation traces (data.validation in a recipe); or set it to 'no'")
        try:
            super().__init__(
                rendered,
                args,
                listener,
                model=model,
                eval_dataset=None if self.eval_rendered is None else Indices(len(self.eval_rendered)),
                processing_class=processing_class,
                callbacks=callbacks,
            )
        except (ValueError, RuntimeError, ImportError) as error:  # settings that transformers refuses
            raise TacitError(str(error).strip().split("\n")[0]) from None
        self.projects_targets_only = self._projects_targets_only()
        # Whether the schedule waits for examples to be right.
        self.counts_right = args.schedule == "adaptive" and args.recovery_exact_match is not None
        if self.counts_right and not (self.encoder_decoder or self.projects_targets_only):
            raise TacitError("recovery_exact_match does not go with a model whose loss is more than its cross entropy")
        self.target_loss = partial(target_loss, label_smoothing=args.label_smoothing_factor)
        self.compiled: list[torch.nn.Module] = []  # the parts that are, while it trains
        if args.torch_compile:
            self.compiled = layers(self.network)
            self.target_loss = torch.compile(self.target_loss, dynamic=True, **self._how_to_compile)
        if args.device.type == "cpu":
            keep_freed_memory()
        if self.encoder_decoder or self.projects_targets_only:
            self.model_accepts_loss_kwargs = True  # `compute_loss` sees to it, whatever the model does
        if args.optimizer == "muon":
            self.optimizer_cls_and_kwargs = (_muon_factory, _muon_settings(args))
        if args.keep_positions:
            self._check_kept_positions()
        self.batcher = self.make_batcher(self.rendered)
        self.eval_batcher = None if self.eval_rendered is None else self.make_batcher(self.eval_rendered)

    def _render_evaluated(self, rows: Iterable[Trace] | datasets.Dataset, model: PreTrainedModel) -> Renderings:
        traces = as_traces(rows)
        rendered = render(traces, self.tokenizer, self.template, self.encoder_decoder)
        check_positions(rendered, traces, model)
        return rendered

    @property
    def network(self) -> Any:
        """The model itself, not what wraps it for several processes."""
        return self.accelerator.unwrap_model(self.model)

    def describe(self) -> str:
        """The size of the model and of its data, in words."""
        text = f"{parameter_count(self.network):,} parameters, {len(self.rendered):,} traces"
        if self.left_out:
            text += f" ({', '.join(f'{count:,} {reason}' for reason, count in self.left_out.items())} left out)"
        return text

    def make_batcher(self, rendered: Renderings) -> Batcher:
        """What cuts the batches of these sequences."""
        return Batcher(rendered, pad_id(self.tokenizer), self.args.device, self.args.keep_positions)

    def _check_kept_positions(self) -> None:
        """Kept positions can be published only as one gap at one place of a learned position table."""
        args, parts = self.args, [part for part in (self.rendered, self.eval_rendered) if part is not None]
        if position_table(self.network) is None:
            raise TacitError("keep_positions needs a causal model with a learned position table, such as gpt2")
        if args.removal_unit != "token" or args.removal_side != "left":
            raise TacitError("keep_positions goes with removal_unit=token and removal_side=left")
        shapes = {(p, c) for part in parts for p, c in zip(part.prompt_lengths, part.chain_lengths, strict=True)}
        if len(shapes) > 1:
            raise TacitError(
                "keep_positions needs prompts of one length and chains of one length (in tokens); these differ, so "
                "that no plain checkpoint could reproduce the gaps"
            )

    def _projects_targets_only(self) -> bool:
        """Whether the loss is the cross entropy of a causal model, and nothing else."""
        return not (self.encoder_decoder or getattr(self.network.config, "output_router_logits", False))

    @property
    def _how_to_compile(self) -> dict[str, Any]:
        return {"backend": self.args.torch_compile_backend, "mode": self.args.torch_compile_mode}

    def _build_accelerator_args(self, **others: Any) -> dict[str, Any]:
        """Trainer's, without compiling the whole model: its layers are compiled."""
        settings = super()._build_accelerator_args(**others)
        settings.pop("dynamo_plugin", None)
        return settings

    def create_accelerator_and_postprocess(self) -> None:
        """Trainer's; bf16 is left to `autocast_smart_context_manager`."""
        super().create_accelerator_and_postprocess()
        if self.args.bf16:
            self.accelerator.native_amp = False

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> contextlib.AbstractContextManager:
        """bf16 around forward pass and loss.

        In place of accelerate's around the forward pass alone, which copies all logits to float32 and would stay on
        the model after its training.
        """
        if self.args.bf16:
            return torch.autocast(self.args.device.type, torch.bfloat16)
        return super().autocast_smart_context_manager(cache_enabled)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As `RestartingTrainer.train`; with `torch_compile`, the layers of the model are compiled meanwhile."""
        with compiled(self.compiled, **self._how_to_compile):
            return super().train(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        """Trainer's; for `train_sampling_strategy="group_by_length"`, by the length before any removal."""
        args = self.args
        if args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        lengths, batch_size = self.rendered.lengths.tolist(), self.get_total_train_batch_size(args)
        return ByLength(
            lengths, batch_size, self._order_seed, epoch=lambda: self.state.global_step // self.steps_per_epoch
        )

    # --- stages ------------------------------------------------------------------------------------------------------

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, torch.Tensor | int | None]:
        """The micro-batches of one optimizer step, all shortened by the removal of its stage."""
        step = self.state.global_step
        if step >= self.state.max_steps:  # resumed where all was done; Trainer would take one step more
            return [], None
        self._read_losses(step)
        if self._collapse:
            self.control.should_training_stop = True
            return [], None
        removed = self.schedule.removed(step)
        if self.removed is not None and removed != self.removed:
            self._begin_stage(removed)
        self.removed = removed

        def cut(batch: dict[str, np.ndarray]) -> dict[str, Any]:
            examples = batch["examples"]
            mixed = self.schedule.smoothed(step) and removed < self.schedule.total
            extra = self.removal.offsets(step, examples) if mixed else np.zeros_like(examples)
            start, length = self.removal.spans(self.rendered, examples, removed + extra)
            unasked = self.removal.unasked(self.rendered, examples, length)
            shortened: dict[str, Any] = self.batcher.cut(examples, start, length, unasked)
            if self.projects_targets_only:
                shortened["rows"] = self.batcher.predicting(examples, length, unasked)
            if self.counts_right:
                at_stage = torch.from_numpy(extra == 0)
                shortened["at_stage"] = at_stage.to(self.args.device, non_blocking=True)
            return shortened

        return super().get_batch_samples(map(cut, epoch_iterator), num_batches, device)

    def _begin_stage(self, removed: int) -> None:
        """At the start of the step in which the stage advances: a checkpoint never sees an emptied optimizer."""
        if self.removed in self.args.keep_stages:
            self.keep_stage()
        if self.is_world_process_zero():
            self.metrics.write("stage", self.spent, removed=removed, total=self.schedule.total, previous=self.removed)
        if self.args.reset_optimizer:
            # Only the state: the object stays, and with it accelerate's wrapper, schedulers and sharding.
            assert isinstance(self.optimizer, torch.optim.Optimizer)
            self.optimizer.state.clear()

    def keep_stage(self) -> None:
        """Saves the model as it stands as a checkpoint under `stages/`, named by the removal in force."""
        if self.args.should_save:
            checkpoint.save(self.student(), self.folder / "stages" / f"{self.removed or 0:03d}")

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Trainer's: the mean over all targets of the optimizer step.

        A causal model projects nothing but what predicts a target. T5 and its kind take the mean over the micro-batch,
        whatever they are told; here it is given its weight.
        """
        rows, at_stage = inputs.get("rows"), inputs.pop("at_stage", None)
        if num_items_in_batch is None or (rows is None and not self.encoder_decoder):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if rows is not None:
            read = {name: value for name, value in inputs.items() if name not in ("labels", "rows")}
            logits = target_logits(model, self._head, rows, **read)
            loss = self.target_loss(logits, inputs["labels"].flatten()[rows + 1])
            weight, outputs = 1 / num_items_in_batch, {"logits": logits}
        else:
            loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
            weight = (inputs["labels"] != IGNORED).sum() / num_items_in_batch
        if at_stage is not None:
            right = right_targets(outputs["logits"].detach(), inputs["labels"], rows).all(1)
            self._count_right(right, at_stage)
        if self.args.average_tokens_across_devices:  # counted over all of them, and then averaged
            weight *= self.accelerator.num_processes
        return (loss * weight, outputs) if return_outputs else loss * weight

    @cached_property
    def _head(self) -> torch.nn.Module:
        """What projects to the vocabulary; looked up once, since unwrapping searches for packages each time."""
        return self.network.get_output_embeddings()

    @cached_property
    def _operations_per_token(self) -> int:
        return 6 * self.network.num_parameters(exclude_embeddings=True)

    def floating_point_ops(self, inputs: dict[str, torch.Tensor | Any]) -> int:
        """Trainer's estimate, which would count the parameters anew at every step."""
        return self._operations_per_token * inputs["input_ids"].numel()

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Trainer's; with `decay_share`, constant (after any warm-up) and then linear to zero."""
        if self.lr_scheduler is None and self.args.decay_share:
            self.lr_scheduler = get_wsd_schedule(
                optimizer or self.optimizer,  # ty: ignore[invalid-argument-type]
                num_warmup_steps=self.args.get_warmup_steps(num_training_steps),
                num_decay_steps=max(1, round(self.args.decay_share * num_training_steps)),
                num_training_steps=num_training_steps,
                decay_type="linear",
            )
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    # --- evaluation, logs, the result --------------------------------------------------------------------------------

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Exact match of traces by one forward pass each, at the removal now in force.

        Args:
            eval_dataset (`list[Trace]` or `datasets.Dataset`, *optional*): By default, the validation traces.
            ignore_keys (*optional*): As `Trainer` has it; not used.
            metric_key_prefix (`str`, *optional*): Opens the names of the figures.

        Returns:
            `eval_exact_match` (the whole remaining target), `eval_answer_match` (the answer segment given the gold
            rest of the chain) and `eval_removed`.
        """
        batcher = self.eval_batcher
        if eval_dataset is not None:
            rendered = self._render_evaluated(eval_dataset, self.network)
            batcher = self.make_batcher(rendered)
        if batcher is None:
            raise TacitError("evaluation needs an eval_dataset")
        removed = self.removed if self.removed is not None else self.schedule.removed(0)
        with self.autocast_smart_context_manager():
            whole, answer = one_pass(
                self.network, batcher, self.removal, removed, self.args.per_device_eval_batch_size
            )
        metrics = {
            f"{metric_key_prefix}_exact_match": float(whole.mean()),
            f"{metric_key_prefix}_answer_match": float(answer.mean()),
            f"{metric_key_prefix}_removed": removed,
        }
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if self.is_in_train and eval_dataset is None and not isinstance(self.schedule, ConstantSchedule):
            every = np.arange(len(batcher.rendered))
            _, length = self.removal.spans(batcher.rendered, every, removed)
            within_step = bool(self.removal.unasked(batcher.rendered, every, length).any())
            self._watch(removed, float(whole.mean()), within_step)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As `Trainer.log`, and into `metrics.jsonl`."""
        if "loss" in logs:
            logs["removed"] = self.removed or 0
        super().log(logs, start_time)
        if "eval_exact_match" in logs:
            values = {"exact_match": logs["eval_exact_match"], "answer_match": logs["eval_answer_match"]}
            self._tell("eval", self.spent, **values, n=len(self.eval_rendered or ()))
        elif "loss" in logs:
            values = {key: float(logs[key]) for key in ("loss", "learning_rate", "grad_norm") if key in logs}
            self._tell("train", self.spent, **values)

    def student(self) -> Student:
        """The model as it stands. It is silent when the removal in force leaves no chain."""
        removed = self.removed or 0
        silent = removed >= self.schedule.total
        _, gone = self.removal.spans(self.rendered, np.arange(len(self.rendered)), removed)
        longest = int((self.rendered.lengths - self.rendered.prompt_lengths - gone).max())
        model = self.network
        if hasattr(model, "merge_and_unload"):
            model = copy.deepcopy(model).merge_and_unload()
        if self.args.keep_positions and removed:
            model = copy.deepcopy(model)
            close_gap(model, int(self.rendered.prompt_lengths[0]), int(gone[0]))
        info = {
            "method": {"keep_all": "cot", "remove_all": "no_cot"}.get(self.args.schedule, "stepwise"),
            "removed_tokens": int(gone.max()),
            "train_steps": self.spent,
            "train_examples": self.spent * self.get_total_train_batch_size(self.args),
            "versions": environment()["versions"],
        }
        if self.recovery.restarts:
            info["restarts"] = self.recovery.restarts
        if self.outcome:
            info["outcome"] = self.outcome
        info |= self.about
        return Student(model, self.tokenizer, self.template, self.task, longest + 8, silent, info)


def target_loss(logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """The sum of the cross entropy, in float32, of logits of shape (targets, vocabulary)."""
    return cross_entropy(logits.float(), targets, reduction="sum", label_smoothing=label_smoothing)


def _muon_settings(args: StepwiseInternalizationConfig) -> dict[str, Any]:
    return {
        "lr": args.learning_rate,
        "weight_decay": args.weight_decay,
        "betas": (args.adam_beta1, args.adam_beta2),
        "eps": args.adam_epsilon,
    }


def _muon_factory() -> type[MuonAdamW]:
    """What Trainer calls to build an optimizer from the whole model."""
    return MuonAdamW
