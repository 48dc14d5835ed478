"""The settings of Stepwise Internalization, on top of `transformers.TrainingArguments`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from transformers import PreTrainedTokenizerBase, TrainingArguments

from tacit.environment import fast_bf16
from tacit.errors import TacitError
from tacit.rendering import CHAT, TEMPLATES, Renderings, Template, get_template
from tacit.stages import AdaptiveSchedule, ConstantSchedule, LinearSchedule, Removal, Schedule, StagedSchedule
from tacit.training.recovery import Recovery

SCHEDULES = ("linear", "adaptive", "geometric", "keep_all", "remove_all")


@dataclass
class StepwiseInternalizationConfig(TrainingArguments):
    """Settings of `StepwiseInternalizationTrainer` (arXiv 2405.14838).

    Defaults that differ from `TrainingArguments`: constant learning rate 5e-5 with weight decay 0.01 as published,
    batch 32, bf16 autocast (over float32 weights) where the hardware has it, a log line every 50 steps, two
    checkpoints kept, no filter for NaN losses. The defaults of the removal are the paper's.

    `schedule` decides when the next stage begins: `linear`, `adaptive` and `geometric` internalize; `keep_all` is
    explicit CoT and `remove_all` is No CoT, the two baselines.
    """

    learning_rate: float = field(default=5e-5, metadata={"help": "Initial learning rate."})
    weight_decay: float = field(default=0.01, metadata={"help": "Decoupled weight decay."})
    lr_scheduler_type: str = field(
        default="constant", metadata={"help": "Learning-rate schedule; constant, as published."}
    )
    per_device_train_batch_size: int = field(
        default=32, metadata={"help": "Examples in a micro-batch on each device."}
    )
    per_device_eval_batch_size: int = field(default=256, metadata={"help": "Problems in one evaluation pass."})
    logging_steps: float = field(default=50, metadata={"help": "Optimizer steps between two log lines."})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Hide NaN losses in the log."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Resume checkpoints kept, at least 2."})
    dataloader_pin_memory: bool = field(
        default=False, metadata={"help": "Not used: the loader gives example numbers, no tensors."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Not used: batches are gathered from ids."})
    bf16: bool | None = field(default=None, metadata={"help": "bf16 autocast; by default where it is fast."})  # ty: ignore[incompatible-attribute-override]
    decay_share: float = field(
        default=0.0, metadata={"help": "Share of the steps, at the end, over which the learning rate falls to zero."}
    )
    optimizer: Literal["adamw", "muon"] = field(
        default="adamw",
        metadata={
            "help": "`adamw` (any `optim` of transformers), or `muon`: Muon on hidden matrices, AdamW on the rest."
        },
    )

    schedule: str = field(default="linear", metadata={"help": f"When the next stage begins: {', '.join(SCHEDULES)}."})
    removal_unit: Literal["token", "step"] = field(default="token", metadata={"help": "What a removal counts."})
    removal_side: Literal["left", "right"] = field(default="left", metadata={"help": "From which end the chain goes."})
    removal_smoothing: float = field(
        default=4.0, metadata={"help": "lambda of the random extra removal, P(o) ~ exp(-lambda o); inf is off."}
    )
    learn_partial_steps: bool = field(
        default=True,
        metadata={
            "help": "What is left of a partly removed step is a target, as published; false: it is only read, and a "
            "model that stops there cannot write it (causal models, tokens removed from the left)."
        },
    )
    removal_start: int = field(default=0, metadata={"help": "Removed from the first step on."})
    remove_all_after: float = field(
        default=math.inf, metadata={"help": "From this scheduled removal on, everything is removed (39 for GSM8K)."}
    )
    keep_positions: bool = field(
        default=False,
        metadata={
            "help": "Removed tokens leave a gap in the positions, which the published model's position table closes; "
            "for learned positions and sequences of one shape."
        },
    )
    reset_optimizer: bool = field(default=True, metadata={"help": "Clear the optimizer's state when a stage begins."})

    removal_per_epoch: float = field(default=8.0, metadata={"help": "linear: Delta, removed an epoch."})
    explicit_epochs: float = field(default=0.0, metadata={"help": "linear: epochs before the removal begins."})

    removal_chunk: int = field(
        default=1, metadata={"help": "adaptive, geometric: removed at a time, or by the first removal."}
    )
    removal_growth: float | None = field(
        default=None,
        metadata={"help": "adaptive, geometric: each removal is this many times the one before; 1 and 2 by default."},
    )
    recovery_tolerance: float = field(
        default=1.1,
        metadata={"help": "adaptive: recovered at this many times the lowest loss before, plus the slack."},
    )
    recovery_slack: float = field(default=0.05, metadata={"help": "adaptive: in nats per token."})
    recovery_exact_match: float | None = field(
        default=None,
        metadata={
            "help": "adaptive: recovered, and the explicit stage over, when this share of the training examples has "
            "all targets right; in place of the loss."
        },
    )
    recovery_window: int = field(default=10, metadata={"help": "adaptive: steps over which either is smoothed."})
    stage_min_steps: int = field(default=30, metadata={"help": "adaptive: the shortest stage, in optimizer steps."})
    stage_patience: int = field(
        default=500, metadata={"help": "adaptive: the longest stage, in optimizer steps; geometric: every stage."}
    )
    explicit_loss: float = field(default=0.05, metadata={"help": "adaptive: the loss that ends the explicit stage."})
    explicit_patience: int = field(
        default=2000, metadata={"help": "adaptive: the longest explicit stage; geometric: its length."}
    )

    max_restarts: int = field(
        default=2, metadata={"help": "How often a collapsed training goes back to its last good stage; 0 is off."}
    )
    collapse_below: float = field(
        default=0.1,
        metadata={"help": "Collapsed: validation exact match stays below this share of the best so far, not rising."},
    )
    collapse_patience: int = field(default=2000, metadata={"help": "Collapsed: for so many optimizer steps in a row."})
    restart_below: float = field(
        default=0.5,
        metadata={"help": "A stage is good from this share of the best exact match on; the end must be, too."},
    )

    template: str = field(
        default="tacit",
        metadata={
            "help": f"How traces are written: {', '.join(TEMPLATES)}, or {CHAT} (the tokenizer's own chat template)."
        },
    )
    prompt: str | None = field(
        default=None, metadata={"help": "What the model is given, with {question} in it; the template's by default."}
    )
    separator: str | None = field(
        default=None, metadata={"help": "White space between two steps; the template's by default."}
    )
    marker: str | None = field(
        default=None,
        metadata={"help": "Opens the answer segment; the template's by default, '' for none (with remove_all)."},
    )
    max_length: int | None = field(
        default=None,
        metadata={
            "help": "Leave out training traces of more tokens than this (encoder-decoder: in the prompt or in the "
            "rest); none by default."
        },
    )
    keep_stages: list[int] = field(
        default_factory=list, metadata={"help": "Removals whose last model is kept under stages/; 0 is explicit CoT."}
    )

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise TacitError(f"schedule must be one of {', '.join(SCHEDULES)}; got {self.schedule!r}")
        for name, valid in (
            ("removal_unit", ("token", "step")),
            ("removal_side", ("left", "right")),
            ("optimizer", ("adamw", "muon")),
        ):
            if getattr(self, name) not in valid:
                raise TacitError(f"{name} must be {' or '.join(valid)}; got {getattr(self, name)!r}")
        for name, least in (
            ("removal_per_epoch", 0),
            ("removal_chunk", 1),
            ("removal_start", 0),
            ("explicit_epochs", 0),
            ("recovery_window", 1),
            ("stage_min_steps", 0),
            ("stage_patience", 1),
            ("explicit_patience", 1),
            ("max_restarts", 0),
            ("collapse_patience", 1),
            ("per_device_train_batch_size", 1),
            ("per_device_eval_batch_size", 1),
            ("gradient_accumulation_steps", 1),
        ):
            if not getattr(self, name) >= least:  # nan is not
                raise TacitError(f"{name} must be at least {least}; got {getattr(self, name)}")
        if self.max_steps == 0 or not (self.max_steps > 0 or self.num_train_epochs > 0):
            raise TacitError(
                "nothing would be trained: max_steps, or num_train_epochs with max_steps -1, must be positive"
            )
        if self.removal_growth is not None and not 0 < self.removal_growth <= 100:
            raise TacitError(f"removal_growth must be positive, and at most 100; got {self.removal_growth}")
        self.removal_smoothing = float(self.removal_smoothing)
        self.remove_all_after = float(self.remove_all_after)
        if not self.removal_smoothing > 0:
            raise TacitError(f"removal_smoothing must be positive (inf is off); got {self.removal_smoothing}")
        if self.recovery_exact_match is not None and not 0 < self.recovery_exact_match < 1:  # 1 is never reached
            raise TacitError(f"recovery_exact_match must lie between 0 and 1; got {self.recovery_exact_match}")
        if not self.learn_partial_steps and (self.removal_unit != "token" or self.removal_side != "left"):
            raise TacitError("learn_partial_steps: false goes with removal_unit=token and removal_side=left")
        if not 0 <= self.collapse_below < self.restart_below <= 1:
            raise TacitError(
                "collapse_below must be less than restart_below, both from 0 to 1; got "
                f"{self.collapse_below} and {self.restart_below}"
            )
        if not 0 <= self.decay_share <= 1:
            raise TacitError(f"decay_share must lie between 0 and 1; got {self.decay_share}")
        if self.decay_share and self.lr_scheduler_type != "constant":
            raise TacitError("decay_share is the end of a constant learning rate; leave lr_scheduler_type out")
        if self.load_best_model_at_end:
            raise TacitError("load_best_model_at_end would return a model from before internalization; leave it off")
        if self.save_total_limit is not None and self.save_total_limit < 2:
            raise TacitError(
                "save_total_limit must be at least 2: a kill can leave the newest checkpoint half-written"
            )
        if self.template != CHAT:  # for which the tokenizer is needed
            self.make_template()
        if self.marker == "" and self.schedule != "remove_all":
            raise TacitError("without a marker a chain cannot be told from its answer: marker '' needs remove_all")
        if self.deepspeed:
            raise TacitError("DeepSpeed cannot reset the optimizer between stages; use FSDP2 for sharding")
        if self.bf16 is None:
            self.bf16 = fast_bf16("cuda" if torch.cuda.is_available() and not self.use_cpu else "cpu")
        if self.bf16 and not torch.cuda.is_available():
            self.use_cpu = True
        super().__post_init__()
        if self.n_gpu > 1:  # a process has one GPU, and `accelerate launch` takes all: torch's DataParallel would
            self._n_gpu = 1  # compute in another precision, and without the short cuts

    def make_template(self, tokenizer: PreTrainedTokenizerBase | None = None) -> Template:
        """How traces are written down: the named template with the parts that are given.

        Raises:
            TacitError: There is no such template, a part does not fit, or the tokenizer has no chat template.
        """
        parts = {name: getattr(self, name) for name in ("prompt", "separator", "marker")}
        given = {name: part for name, part in parts.items() if part is not None}
        return replace(get_template(self.template, tokenizer), **given)

    @property
    def removal(self) -> Removal:
        """Which part of a chain goes."""
        return Removal(
            self.removal_unit, self.removal_side, self.removal_smoothing, self.seed, self.learn_partial_steps
        )

    def make_recovery(self) -> Recovery:
        """What watches a training."""
        return Recovery(self.max_restarts, self.collapse_below, self.collapse_patience, self.restart_below)

    def make_schedule(self, rendered: Renderings, steps_per_epoch: int) -> Schedule:
        """The schedule for these training sequences."""
        total = self.removal.total(rendered)
        if self.schedule == "keep_all":
            return ConstantSchedule(total, 0)
        if self.schedule == "remove_all":
            return ConstantSchedule(total, total)
        if self.schedule == "linear":
            return LinearSchedule(
                total,
                self.removal_per_epoch,
                steps_per_epoch,
                self.removal_start,
                round(self.explicit_epochs * steps_per_epoch),
                self.remove_all_after,
            )
        growth = self.removal_growth or (2.0 if self.schedule == "geometric" else 1.0)
        stages = {
            "total": total,
            "chunk": self.removal_chunk,
            "growth": growth,
            "patience": self.stage_patience,
            "explicit_patience": self.explicit_patience,
            "start": self.removal_start,
            "remove_all_after": self.remove_all_after,
        }
        if self.schedule == "geometric":
            return StagedSchedule(**stages)
        return AdaptiveSchedule(
            **stages,
            tolerance=self.recovery_tolerance,
            slack=self.recovery_slack,
            min_steps=self.stage_min_steps,
            explicit_loss=self.explicit_loss,
            window=self.recovery_window,
            exact_match=self.recovery_exact_match,
        )
