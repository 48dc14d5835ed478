"""Checkpoints: an ordinary Hugging Face folder, with `tacit.json` and a model card beside the weights.

`AutoModelForCausalLM.from_pretrained(folder).generate(...)` (`AutoModelForSeq2SeqLM` for an encoder-decoder) needs no
import of tacit. `tacit.json` says how to write the prompt and how the model was trained.

Usage: `save(student, folder)`, `student = load(folder)`.
"""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from tacit.errors import TacitError
from tacit.models import load as load_model
from tacit.models import pad_id
from tacit.rendering import Template, chat_ids
from tacit.student import Student
from tacit.tasks import CUSTOM, get_task
from tacit.trace import write_lines

INFO = "tacit.json"
WRITING = [field.name for field in fields(Template)]
FIELDS = {**dict.fromkeys(WRITING, str), "silent": bool, "max_new_tokens": int}  # to load a student
PIPELINE_FIELDS = {"students": list, "wording": dict, "max_questions": int}  # and several (see `socratic.pipeline`)


def chat_template(template: Template, before: str = "", after: str = "") -> str:
    """A Jinja chat template whose generation prompt for one user message equals the training prompt.

    Args:
        template (`Template`): Writes the prompt.
        before, after (`str`): The special tokens that the tokenizer itself writes around a prompt, if any.
    """
    # As they are: Jinja would read JSON's escape of an emoji as two halves.
    texts = (before, *template.prompt.split("{question}"), after, template.opening)
    first, head, tail, last, opening = (json.dumps(text, ensure_ascii=False) for text in texts)
    return (
        f"{{{{- {first} -}}}}{{%- for message in messages -%}}"
        f"{{%- if message['role'] == 'user' -%}}{{{{- {head} + message['content'] + {tail} + {last} -}}}}"
        f"{{%- elif message['role'] == 'assistant' -%}}{{{{- {opening} + message['content'] + eos_token -}}}}"
        "{%- endif -%}{%- endfor -%}"
    )


def save(student: Student, folder: str | os.PathLike) -> None:
    """Writes a student as a folder that stock transformers runs. `tacit.json` comes last: it makes the folder whole.

    Raises:
        TacitError: The folder cannot be written.
    """
    folder = Path(folder)
    tokenizer, model = student.tokenizer, student.model
    if not student.encoder_decoder:
        _end_without_eos(student)
    side = "right" if student.encoder_decoder else "left"
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = side  # the latter is what is written
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    _set_chat_template(student)
    tokenizer.model_max_length = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
    cached, model.config.use_cache = getattr(model.config, "use_cache", True), True
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = pad_id(tokenizer)
    if (head := model.get_output_embeddings()) is not None:  # transformers 5 says of all T5 models that they are tied
        model.config.tie_word_embeddings = head.weight is model.get_input_embeddings().weight
    model.generation_config = student.generation_config(student.max_new_tokens)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / INFO).unlink(missing_ok=True)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        save_info(student, folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TacitError(f"cannot write checkpoint {folder}: {reason}") from None
    finally:
        model.config.use_cache = cached  # Trainer turns it off while it trains


def save_info(student: Student, folder: Path) -> None:
    """Writes what lies beside the weights of a student: model card and `tacit.json`. Raises as `save` does."""
    info = {
        **student.info,
        **student.template.to_dict(),
        "task": student.task.name,
        "silent": student.silent,
        "max_new_tokens": student.max_new_tokens,
    }
    write_info(folder, info, _card(student))


def write_info(folder: Path, info: dict[str, Any], card: str) -> None:
    """Writes the model card, then `tacit.json`. Raises `TacitError` where the folder cannot be written."""
    write_lines([card], folder / "README.md")
    write_lines([json.dumps(_plain(info), indent=2, ensure_ascii=False)], folder / INFO)


def _plain(value: Any) -> Any:
    """A value as strict JSON knows it: what only YAML has (dates, infinity) becomes text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    finite = not isinstance(value, float) or math.isfinite(value)
    return value if finite and isinstance(value, str | int | float | None) else str(value)


def _end_without_eos(student: Student) -> None:
    """Makes a tokenizer that ends every text with an end of sequence write an open prompt instead."""
    from tokenizers import processors

    tokenizer = student.tokenizer
    prompt = tokenizer(student.template.write_prompt("1")).input_ids
    if len(prompt) < 2 or prompt[-1] != tokenizer.eos_token_id:
        return
    bos = tokenizer.bos_token_id is not None and prompt[0] == tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{tokenizer.bos_token} $A" if bos else "$A",
        special_tokens=[(tokenizer.bos_token, tokenizer.bos_token_id)] if bos else [],
    )


def _set_chat_template(student: Student) -> None:
    """Leaves the tokenizer the chat template of its own if that writes the training prompt, else gives it ours."""
    tokenizer = student.tokenizer
    prompt = tokenizer([student.template.write_prompt("1")]).encodings[0]
    with suppress(Exception):  # there is none, or it is made for other chats
        if chat_ids(tokenizer, "1") == prompt.ids:
            return
    ends = [index for index, special in enumerate(prompt.special_tokens_mask) if not special]
    before, after = "".join(prompt.tokens[: ends[0]]), "".join(prompt.tokens[ends[-1] + 1 :])
    tokenizer.chat_template = chat_template(student.template, before, after)


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
        near = sorted((str(found.parent) for found in path.glob(f"*/{INFO}")), reverse=True)  # stepwise first
        near += [str(path.parent)] * is_checkpoint(path.parent)  # one of its networks
        hint = f"; did you mean {near[0]}?" if near else ""
        raise TacitError(f"{folder}: no checkpoint of tacit's ({INFO} is missing){hint}")
    try:
        info = json.loads((path / INFO).read_text(encoding="utf-8"))
    except ValueError as error:
        raise TacitError(f"{path / INFO}: not JSON ({error})") from None
    if isinstance(info, dict):
        info.setdefault("opening", Template.opening)  # which older folders leave out
    fields = PIPELINE_FIELDS if isinstance(info, dict) and "students" in info else FIELDS
    for key, kind in fields.items():
        if not isinstance(info, dict) or not isinstance(info.get(key), kind):
            raise TacitError(f"{path / INFO}: {key!r} is missing or no {kind.__name__}")
    return info


def load(folder: str | os.PathLike) -> Student:
    """The student in a checkpoint folder.

    Raises:
        TacitError: The folder is no checkpoint of tacit's, or holds several students.
    """
    info = load_info(folder)
    if "students" in info:
        inside = ", ".join(str(Path(folder) / str(role)) for role in info["students"])
        raise TacitError(f"{folder} holds several students, which only work together here; one of them is {inside}")
    if info.get("method") == "implicit_kd":
        import_module("tacit.implicit.modeling")  # transformers learns of its models
    template = Template(**{name: info[name] for name in WRITING})
    task = get_task(info.get("task", CUSTOM.name))
    model, tokenizer = load_model(str(folder))
    return Student(model.eval(), tokenizer, template, task, info["max_new_tokens"], info["silent"], info)


CAUSAL = """from transformers import pipeline

model = pipeline("text-generation", model=".")
print(model({prompt}, return_full_text=False)[0]["generated_text"])"""
IMPLICIT = """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".", trust_remote_code=True)  # modeling.py, which lies here
tokenizer = AutoTokenizer.from_pretrained(".")
prompt = tokenizer({prompt}, return_tensors="pt")
ids = model.generate(**prompt)[0, prompt.input_ids.shape[1] :]
print(tokenizer.decode(ids, skip_special_tokens=True))"""
ENCODER_DECODER = """from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained("."), AutoTokenizer.from_pretrained(".")
ids = model.generate(**tokenizer({prompt}, return_tensors="pt"))[0]
print(tokenizer.decode(ids, skip_special_tokens=True))"""


def _card(student: Student) -> str:
    """The model card: what it is, how to run it without tacit, what it can and cannot do."""
    info, task = student.info, student.task
    example = task.example or "your question"
    question = info.get("reads") or task.read_question(example)  # a role of Socratic CoT reads more than the question
    prompt = json.dumps(student.template.write_prompt(question), ensure_ascii=False)
    result = info.get("evaluation")
    measured = (
        f"Accuracy {result['accuracy']:.4f} (95 % interval {result['ci95'][0]:.4f} to {result['ci95'][1]:.4f}) on "
        f"{result['n']:,} held-out problems, with {result['reasoning_tokens']:.1f} reasoning tokens and "
        f"{result['generated_tokens']:.1f} generated tokens per answer."
        if result
        else "Not evaluated by tacit."
    )
    whole = "its chain of thought" if not info.get("removed_tokens") else "what is left of its chain of thought"
    behaviour = f"It writes {whole} before the answer."
    if student.silent:
        behaviour = (
            "It answers at once; it was never shown any reasoning."
            if info.get("method") in ("no_cot", "planner")
            else "It answers at once: its reasoning was internalized and cannot be read."
        )
    implicit = info.get("method") == "implicit_kd"
    if implicit:
        behaviour = (
            "It answers at once: an emulator puts one state into each layer of a student, in the place of a chain of "
            "thought. These states cannot be read."
        )
    papers = {
        "stepwise": "Stepwise Internalization, arXiv:2405.14838",
        "cot": "Fine-tune-CoT, arXiv:2212.10071",
        "implicit_kd": "ICoT-KD, arXiv:2311.01460",
    }
    method = info.get("method", "custom")
    source = "Socratic CoT, arXiv:2212.00193" if "reads" in info else papers.get(method)
    paper = f"\nMethod: {source}.\n" if source else ""
    kind, tag, code = "causal", "pipeline_tag: text-generation\n", CAUSAL
    if implicit:  # pipelines would need the code as well
        kind, tag, code = "causal", "", IMPLICIT
    if student.encoder_decoder:  # for which transformers 5 has no pipeline
        kind, tag, code = "encoder-decoder", "", ENCODER_DECODER
    outcome = f" What happened: {info['outcome']}." if "outcome" in info else ""
    form = json.dumps(student.template.prompt, ensure_ascii=False)[1:-1]
    written = (
        "the question alone" if form == "{question}" else f"`{form}` with the question in the place of `{{question}}`"
    )
    asked = f"As a person asks `{example}`, the model reads `{question}`:" if question != example else "For example:"
    marker = student.template.marker
    answer = f"the answer follows `{marker}`" if marker else "the reply is the answer"
    needs = "No code of tacit's is needed. With it:"
    if implicit:
        needs = "Two networks run, which `modeling.py` couples; no other code of tacit's is needed. With tacit:"
    return f"""---
library_name: transformers
{tag}tags: [tacit, {method}]
---

# {info.get("name", "student")}: {method} on {task.name}

A small {kind} language model trained with tacit ({task.summary}). {behaviour}
{paper}
## Use

{asked}

```python
{code.format(prompt=prompt)}
```

The prompt is {written}; {answer}.
The chat template writes the same prompt. {needs} `tacit ask . {json.dumps(example)}`.

## Measured

{measured}

## Training

Method `{method}`, {info.get("train_steps", "?")} optimizer steps.
Tokens of the chain of thought removed at the end: {info.get("removed_tokens", "?")}.{outcome} The settings are in
`tacit.json`.

## Limits

Trained for one task and one way of writing it; other questions get meaningless answers."""
