"""The official code of Stepwise Internalization, run as it is from a fetched copy (README.md says how).

Nothing of it is kept here. A temporary copy is mended where it would not start, or would sample.

Usage: `official = Official("path/to/copy")`; `official.train(model_folder, traces, 32, "fp32", after_step)`.
"""

from __future__ import annotations

import importlib
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from tacit.errors import TacitError
from tacit.formats import write
from tacit.trace import Trace

# File, what is replaced, by what. `transformers.AdamW` is gone, and was never used; decoding samples by default.
MENDED = (
    ("train.py", "from transformers import AdamW", "from torch.optim import AdamW"),
    ("generate.py", "from transformers import AdamW", "from torch.optim import AdamW"),
    ("model.py", "do_sample=True", "do_sample=False"),
)
MODULES = ("train", "generate", "model", "data", "utils", "configuration_model")
PUBLISHED_EPOCH = 808_000  # lines of the published training files


class Official:
    """A mended copy, with its modules imported.

    Args:
        path: The fetched copy, or its folder `src`.

    Raises:
        TacitError: It is not what was published.
    """

    def __init__(self, path: Path) -> None:
        source = path / "src" if (path / "src").is_dir() else path
        self._folder = tempfile.TemporaryDirectory()  # lives as long as this object
        self.folder = Path(self._folder.name)
        try:
            files = {f"{name}.py": (source / f"{name}.py").read_text(encoding="utf-8") for name in MODULES}
        except OSError as error:
            raise TacitError(f"{path}: no copy of the official code ({error.filename} is missing)") from None
        for name, before, after in MENDED:
            if before not in files[name]:
                raise TacitError(f"{path}: {name} is not the official one ({before!r} is not in it)")
            files[name] = files[name].replace(before, after)
        for name, text in files.items():
            (self.folder / name).write_text(text, encoding="utf-8")
        before = {name: sys.modules.pop(name, None) for name in MODULES}
        sys.path.insert(0, str(self.folder))
        try:
            self.modules: dict[str, ModuleType] = {name: importlib.import_module(name) for name in MODULES}
        finally:
            sys.path.remove(str(self.folder))
            for name, module in before.items():  # names such as `utils` are not left to whoever imports next
                sys.modules.pop(name, None)
                if module is not None:
                    sys.modules[name] = module
            logging.disable(logging.NOTSET)  # it turns warnings off for the whole process
        for module in self.modules.values():
            vars(module)["print"] = lambda *_: None
        self.tokens_per_example = 0.0

    @property
    def model_class(self) -> Any:
        """Its wrapper around a model; `compute_loss` is its forward pass."""
        return self.modules["model"].ImplicitModel

    def train(
        self,
        model: Path,
        traces: Sequence[Trace],
        batch_size: int,
        precision: str,
        after_step: Callable[[], None],
    ) -> None:
        """Its `main` with the published settings for multiplication, `after_step` called once a training step.

        Its progress bar around the training batches is replaced by a plain loop that makes these calls and knows no
        end. The pace of the removal is the published one: one token each 3,156 steps of 32. `tokens_per_example`
        then holds the mean of a batch before the removal.

        Args:
            model: Folder of a model and its tokenizer.
            traces: To train on.
            batch_size (`int`): Examples.
            precision (`str`): "fp32", or "bf16": its `--bf16`, which puts the weights into bfloat16.
            after_step: Raises in the end.
        """
        write(traces, self.folder / "train.txt", "icot")
        write(traces[:1], self.folder / "valid.txt", "icot")

        def endless(loader: Any) -> Generator[Any]:
            sys.argv = own_arguments
            while True:
                for batch in loader:
                    self.tokens_per_example = batch["input_ids_all"].numel() / len(batch["input_ids_all"])
                    yield batch
                    after_step()

        settings = {
            "model": model,
            "train_path": self.folder / "train.txt",
            "val_path": self.folder / "valid.txt",
            "batch_size": batch_size,
            "remove_per_epoch": 8 * len(traces) / PUBLISHED_EPOCH,
            "removal_smoothing_lambda": 4,
            "save_model": self.folder / "saved",
        }
        arguments = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        arguments += ["--reset_optimizer", *(["--bf16"] if precision == "bf16" else [])]
        train = self.modules["train"]
        vars(train)["tqdm"] = SimpleNamespace(tqdm=endless)
        own_arguments, sys.argv = sys.argv, ["train.py", *arguments]
        train.main()

    def verdicts(
        self, model: Path, traces: Sequence[Trace], max_new_tokens: int, device: torch.device
    ) -> tuple[list[bool], float]:
        """Its own evaluation by generation at batch 1: which problems are right, and the seconds that it took.

        Args:
            model: Folder of a model and its tokenizer.
            traces: The problems.
            max_new_tokens (`int`): Where generation stops at the latest.
            device: Where it runs.
        """
        write(traces, self.folder / "test.txt", "icot")
        generate, data = self.modules["generate"], self.modules["data"]
        vars(generate)["tqdm"] = SimpleNamespace(tqdm=iter)
        wrapped = self.model_class(self.modules["configuration_model"].ImplicitModelConfig(base_model=str(model)))
        wrapped = wrapped.to(device)
        printed: list[str] = []
        vars(generate)["print"] = printed.append
        rows = data.CoTDataset(wrapped.tokenizer, str(self.folder / "test.txt"))
        loader = generate.DataLoader(rows, batch_size=1, collate_fn=data.CoTDataCollator(wrapped.tokenizer))
        begin = time.perf_counter()
        generate.evaluate(loader, wrapped.tokenizer, device, None, wrapped, max_new_tokens)
        seconds = time.perf_counter() - begin
        targets = [line.removeprefix("Target: ") for line in printed if line.startswith("Target: ")]
        replies = [line.removeprefix("Predicted: ") for line in printed if line.startswith("Predicted: ")]
        answer = data.extract_answer
        return [answer(reply) == answer(target) for reply, target in zip(replies, targets, strict=True)], seconds
