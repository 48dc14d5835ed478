"""Checkpoints: an ordinary Hugging Face folder, with `tacit.json` and a model card beside the weights.

`AutoModelForCausalLM.from_pretrained(folder).generate(...)` needs no import of tacit. `tacit.json` says how to write
the prompt and how the model was trained.

Usage: `save(student, folder)`, `student = load(folder)`.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from tacit.errors import TacitError
from tacit.models import load as load_model
from tacit.models import pad_id
from tacit.rendering import Template
from tacit.student import Student
from tacit.tasks import CUSTOM, get_task
from tacit.trace import write_lines

INFO = "tacit.json"
FIELDS = {"prompt": str, "separator": str, "marker": str, "silent": bool, "max_new_tokens": int}  # to load a student


def chat_template(template: Template, has_bos: bool) -> str:
    """A Jinja chat template whose generation prompt for one user message equals the training prompt."""
    # As they are: Jinja would read JSON's escape of an emoji as two halves.
    before, after = (json.dumps(part, ensure_ascii=False) for part in template.prompt.split("{question}"))
    bos = "{{- bos_token -}}" if has_bos else ""
    return (
        f"{bos}{{%- for message in messages -%}}"
        f"{{%- if message['role'] == 'user' -%}}{{{{- {before} + message['content'] + {after} -}}}}"
        "{%- elif message['role'] == 'assistant' -%}{{- ' ' + message['content'] + eos_token -}}"
        "{%- endif -%}{%- endfor -%}"
    )


def save(student: Student, folder: str | os.PathLike) -> None:
    """Writes a student as a folder that stock transformers runs. `tacit.json` comes last: it makes the folder whole.

    Raises:
        TacitError: The disk is full, or the tokenizer writes a prompt that the model was not trained on.
    """
    from transformers import GenerationConfig

    folder = Path(folder)
    tokenizer, model = student.tokenizer, student.model
    prompt = tokenizer(student.template.write_prompt("1")).input_ids
    if len(prompt) > 1 and prompt[-1] == tokenizer.eos_token_id:
        _end_without_eos(tokenizer)
        prompt = tokenizer(student.template.write_prompt("1")).input_ids
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "left"  # the latter is what is written
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    has_bos = tokenizer.bos_token_id is not None and prompt[0] == tokenizer.bos_token_id
    tokenizer.chat_template = chat_template(student.template, has_bos)
    tokenizer.model_max_length = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
    cached, model.config.use_cache = getattr(model.config, "use_cache", True), True
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = pad_id(tokenizer)
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=student.max_new_tokens,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=pad_id(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / INFO).unlink(missing_ok=True)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_lines([_card(student)], folder / "README.md")
        info = {
            **student.info,
            "prompt": student.template.prompt,
            "separator": student.template.separator,
            "marker": student.template.marker,
            "task": student.task.name,
            "silent": student.silent,
            "max_new_tokens": student.max_new_tokens,
        }
        write_lines([json.dumps(_plain(info), indent=2, ensure_ascii=False)], folder / INFO)
    except OSError as error:
        raise TacitError(f"cannot write checkpoint {folder}: {error.strerror or error}") from None
    finally:
        model.config.use_cache = cached  # Trainer turns it off while it trains


def _plain(value: Any) -> Any:
    """A value as strict JSON knows it: what only YAML has (dates, infinity) becomes text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    finite = not isinstance(value, float) or math.isfinite(value)
    return value if finite and isinstance(value, str | int | float | None) else str(value)


def _end_without_eos(tokenizer: Any) -> None:
    """Makes a tokenizer that ends every text with an end of sequence write an open prompt instead."""
    from tokenizers import processors

    bos = tokenizer.bos_token_id is not None and tokenizer("1").input_ids[0] == tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{tokenizer.bos_token} $A" if bos else "$A",
        special_tokens=[(tokenizer.bos_token, tokenizer.bos_token_id)] if bos else [],
    )


def is_checkpoint(folder: str | os.PathLike) -> bool:
    """Whether a folder holds a whole checkpoint of tacit's."""
    return (Path(folder) / INFO).is_file()


def load_info(folder: str | os.PathLike) -> dict[str, Any]:
    """What `tacit.json` says of a checkpoint.

    Raises:
        TacitError: The folder does not exist or is no checkpoint of tacit's.
    """
    path = Path(folder)
    if not path.is_dir():
        raise TacitError(f"{folder}: no such folder")
    if not is_checkpoint(path):
        inside = sorted((str(found.parent) for found in path.glob(f"*/{INFO}")), reverse=True)  # stepwise first
        hint = f"; did you mean {inside[0]}?" if inside else ""
        raise TacitError(f"{folder}: no checkpoint of tacit's ({INFO} is missing){hint}")
    try:
        info = json.loads((path / INFO).read_text(encoding="utf-8"))
    except ValueError as error:
        raise TacitError(f"{path / INFO}: not JSON ({error})") from None
    for key, kind in FIELDS.items():
        if not isinstance(info, dict) or not isinstance(info.get(key), kind):
            raise TacitError(f"{path / INFO}: {key!r} is missing or no {kind.__name__}")
    return info


def load(folder: str | os.PathLike) -> Student:
    """The student in a checkpoint folder. Raises `TacitError` where the folder is no checkpoint of tacit's."""
    info = load_info(folder)
    template = Template(info["prompt"], info["separator"], info["marker"])
    task = get_task(info.get("task", CUSTOM.name))
    model, tokenizer = load_model(str(folder))
    return Student(model.eval(), tokenizer, template, task, info["max_new_tokens"], info["silent"], info)


def _card(student: Student) -> str:
    """The model card: what it is, how to run it without tacit, what it can and cannot do."""
    info, task = student.info, student.task
    example = task.example or "your question"
    question = task.read_question(example)
    prompt = json.dumps(student.template.write_prompt(question), ensure_ascii=False)
    result = info.get("evaluation")
    measured = (
        f"Exact match {result['accuracy']:.4f} (95 % interval {result['ci95'][0]:.4f} to {result['ci95'][1]:.4f}) on "
        f"{result['n']:,} held-out problems, with {result['reasoning_tokens']:.1f} reasoning tokens and "
        f"{result['generated_tokens']:.1f} generated tokens per answer."
        if result
        else "Not evaluated by tacit."
    )
    behaviour = (
        "It answers at once: its reasoning was internalized and cannot be read."
        if student.silent
        else "It writes its chain of thought before the answer."
    )
    paper = "\nMethod: Stepwise Internalization, arXiv:2405.14838.\n" if info.get("method") == "stepwise" else ""
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [tacit, {info.get("method", "custom")}]
---

# {info.get("name", "student")}: {info.get("method", "student")} on {task.name}

A small causal language model trained with tacit ({task.summary}). {behaviour}
{paper}
## Use

As a person asks `{example}`, the model reads `{question}`:

```python
from transformers import pipeline

model = pipeline("text-generation", model=".")
print(model({prompt}, return_full_text=False)[0]["generated_text"])
```

The prompt is `{student.template.prompt}` with the question in the place of `{{question}}`; the answer follows
`{student.template.marker}`. The chat template writes the same prompt. No code of tacit's is needed. With it:
`tacit ask . {json.dumps(example)}`.

## Measured

{measured}

## Training

Method `{info.get("method", "?")}`, {info.get("train_steps", "?")} optimizer steps.
Tokens of the chain of thought removed at the end: {info.get("removed_tokens", "?")}. The settings are in `tacit.json`.

## Limits

Trained for one task and one way of writing it; other questions get meaningless answers."""
