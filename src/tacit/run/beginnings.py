"""The models of a recipe as they are before any training."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tacit import models
from tacit.evaluation.prompting import Baseline, Prompting
from tacit.recipe import Recipe
from tacit.socratic.pipeline import SocraticPipeline
from tacit.socratic.rows import is_socratic
from tacit.student import Student
from tacit.trace import Trace, iter_text
from tacit.training.config import StepwiseInternalizationConfig


class Beginnings:
    """Makes the models that the students of a recipe begin with.

    A model from scratch has words and positions for all that any student of the run reads and writes, so that the
    students are alike. That is found out once, and not for each student: of many texts it takes long.

    Args:
        recipe (`Recipe`): Whose students.
        found (`dict`, *optional*): What was found out in another process.
    """

    def __init__(self, recipe: Recipe, found: dict[str, tuple[PreTrainedTokenizerBase, int]] | None = None) -> None:
        self.recipe = recipe
        self.found = {} if found is None else found

    def make(self, value: Any, settings: StepwiseInternalizationConfig, seed: int) -> tuple[Any, Any]:
        """A model and its tokenizer.

        Args:
            value: Of the varied key.
            settings (`StepwiseInternalizationConfig`): How the student's traces are written.
            seed (`int`): Of the weights of a model from scratch.

        Raises:
            TacitError: The model cannot be loaded or built, or the data cannot be read.
        """
        recipe = self.recipe.at(value)
        wanted = recipe.model
        if wanted.name is not None:
            return models.load(wanted.name, wanted.attn_implementation, wanted.trust_remote_code)
        assert wanted.architecture is not None  # the recipe has one of the two
        tokenizer, positions = self.vocabulary_and_positions(value, settings)
        tokenizer = copy.deepcopy(tokenizer)  # a checkpoint changes its own
        model = models.from_config(
            wanted.architecture, wanted.config, tokenizer, positions, seed, wanted.attn_implementation
        )
        return model, tokenizer

    def vocabulary_and_positions(
        self, value: Any, settings: StepwiseInternalizationConfig
    ) -> tuple[PreTrainedTokenizerBase, int]:
        """Of a model from scratch: its tokenizer, and how many positions it needs. Arguments as for `make`."""
        recipe = self.recipe.at(value)
        written = settings.template, settings.prompt, settings.separator, settings.marker
        said = recipe.task.name, recipe.data, recipe.methods, recipe.model.tokenizer, written
        key = repr(said)  # other values may have the same
        if key not in self.found:
            self.found[key] = _vocabulary_and_positions(recipe, settings)
        return self.found[key]


def _vocabulary_and_positions(
    recipe: Recipe, settings: StepwiseInternalizationConfig
) -> tuple[PreTrainedTokenizerBase, int]:
    """The tokenizer of a model from scratch, and how many positions it needs."""
    train, validation, test = recipe.traces()
    known, held_out = recipe.all_training_traces(train), [*validation, *test]
    dialogues, plain = [[t for t in held_out if is_socratic(t) == wanted] for wanted in (True, False)]
    written = [(known, [*known, *held_out])]  # what is taught, and all; the traces themselves, and the rows of a role
    for role in recipe.roles:
        rows = recipe.rows([role], known)
        written.append((rows, [*rows, *recipe.rows([role], dialogues)]))
    kind = recipe.model.tokenizer
    if kind in ("words", "bpe"):
        learn = models.word_tokenizer if kind == "words" else models.bpe_tokenizer
        tokenizer = learn([settings.make_template().words, *(text for rows, _ in written for text in iter_text(rows))])
    else:
        tokenizer = models.load_tokenizer(kind)
    template = settings.make_template(tokenizer)

    def lengths(texts: list[str]) -> list[int]:
        if kind == "words":  # also where a held-out text has a word that the vocabulary lacks
            return [len(text.split()) for text in texts]
        return [len(ids) for ids in tokenizer(texts, verbose=False).input_ids]

    def longest_prompt(traces: list[Trace]) -> int:
        return max(lengths([template.write_prompt(trace.question) for trace in traces]), default=0)

    longest = 0
    for _, rows in written:  # room for the longest target behind the longest prompt, also where no trace has both
        if not rows:  # no trace teaches this role
            continue
        prompts = lengths([template.write_prompt(row.question) for row in rows])
        wholes = lengths([template.write(row)[0] for row in rows])
        targets = (whole - prompt for prompt, whole in zip(prompts, wholes, strict=True))
        longest = max(longest, max(prompts) + max(targets) + 1)
    if recipe.roles and plain:  # problems whose rows nobody knows, and which may be longer than all others
        longest += max(0, longest_prompt(plain) - longest_prompt([*known, *dialogues]))
    return tokenizer, longest + 8


def baseline(recipe: Recipe, method: str) -> Baseline:
    """The model of a recipe, to be asked by prompts. Raises `TacitError` where it cannot be loaded."""
    wanted = recipe.model
    assert wanted.name is not None  # the recipe was checked
    model, tokenizer = models.load(wanted.name, wanted.attn_implementation, wanted.trust_remote_code)
    return Baseline(placed(model), tokenizer, recipe.task, method, Prompting(**recipe.methods[method]))


def placed(what: Any) -> Any:
    """A model, a student or a pipeline where it would be trained: on the GPU, where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if isinstance(what, SocraticPipeline):
        for student in what.students.values():
            placed(student)
    elif isinstance(what, Student):
        what.model.to(device)
    else:
        what.to(device)
    return what
