"""The calculator: values as they are written, and the tokens that a student is spared."""

import json
import operator
import re
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from scripts import tiny
from tacit import models
from tacit.arithmetic import judge, value_of
from tacit.rendering import Template
from tacit.student import Student

torch.set_num_threads(1)

# --- values ----------------------------------------------------------------------------------------------------------

OPERATIONS = {"+": (1, operator.add), "-": (1, operator.sub), "*": (2, operator.mul), "/": (2, operator.truediv)}
Sum = tuple[str, Fraction | None, int]  # its text, its value, how strongly its last operation binds
numbers = (st.integers(0, 999) | st.decimals(0, 99, places=2)).map(lambda n: (str(n), Fraction(n), 3))


def combine(parts: tuple[Sum, str, Sum]) -> Sum:
    """Two sums and a sign, with brackets where they are needed and nowhere else."""
    (left, one, first), sign, (right, other, second) = parts
    binds, operation = OPERATIONS[sign]
    left, right = left if first >= binds else f"({left})", right if second > binds else f"({right})"
    defined = one is not None and other is not None and not (sign == "/" and other == 0)
    return left + sign + right, operation(one, other) if defined else None, binds


@given(
    st.recursive(numbers, lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(combine), max_leaves=9)
)
@example(("11.36*(377*4.92)*(11.46*(278+0.01))", Fraction(52446903236793, 781250), 2))  # too long for a float
def test_values_are_exact_or_none(made: Sum) -> None:
    text, value, _ = made
    written = value_of(text)
    short = value is not None and abs(value) < 10**15 and 10**12 % value.denominator == 0
    assert (written is not None) == (short and len(text) <= 200)
    if written is not None:
        assert Fraction(written) == value
        assert re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?", written)
        assert judge(f"<<{text}={written}>>") is True
        assert value_of(f" {' '.join(text)} ") == f" {' '.join(written)} "


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("48/2", "24"),
        ("5/2", "2.5"),
        (".5*.5", "0.25"),
        ("0.1*3", "0.3"),
        ("3-5", "-2"),
        ("0-0", "0"),
        ("20%*50", "10"),
        ("3×4÷6", "2"),
        ("3x4", "12"),
        ("1/4096", "0.000244140625"),
        ("1/8192", None),  # 13 decimals
        ("1/3", None),
        ("10**15-1", "999999999999999"),
        ("10**15", None),
        (" 4 8 / 2 ", " 2 4 "),
        (" 2 . 5 * 5 ", " 1 2 . 5 "),
        (" 3 - 5 ", " - 2 "),
        (" 48 / 2 ", " 24 "),
        (" 48/2", " 24 "),
        ("4 8/2", None),
        (" 4 8 / 12 ", None),
        ("1/0", None),
        ("", None),
        (" ", None),
        ("=", None),
        ("2+2=4", None),
        ("two", None),
        ("٣+٣", None),
        ("²", None),
        ("1e9", None),
        ("1_0", None),
        ("2(3)", None),
        ("()", None),
        ("__import__('os')", None),
        ("9**9**9**9", None),
    ],
)
def test_values_as_they_are_written(expression: str, value: str | None) -> None:
    assert value_of(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "9" * 100_000,
        "(" * 100_000,
        "-" * 190 + "1",
        "9%" * 50_000,
        "999999999**99*" * 14 + "1",
        "(" * 95 + "1" + ")" * 95,
    ],
    ids=lambda text: f"{text[:6]}{len(text)}",
)
def test_hostile_expressions_are_quick(expression: str) -> None:
    begin = time.perf_counter()
    value_of(expression)
    value_of(" " + " ".join(expression))
    assert time.perf_counter() - begin < 1


@pytest.mark.shared
def test_the_calculations_of_gsm8k(shared: Path) -> None:
    """The value of each of the 27,998 is that of the file; 823 are written otherwise: 144.00, .5, 4.80, 3/4."""
    count, as_text = 0, 0
    for name in ("train", "test"):
        for line in (shared / "data" / "gsm8k" / f"{name}.jsonl").read_text("utf-8").splitlines():
            for expression, written in re.findall(r"<<([^<>=]*)=([^<>]*)>>", json.loads(line)["answer"]):
                value = value_of(expression)
                assert value is not None
                assert Fraction(value) == Fraction(written)
                count += 1
                as_text += value == written
    assert (count, as_text) == (27_998, 27_175)


# --- writing ---------------------------------------------------------------------------------------------------------


class Script:
    """Makes a model write given texts: that of a row is chosen by the length of its prompt.

    A text goes on behind the `>>` of a span, however long the value in the span has become.
    """

    def __init__(self, student: Student, texts: dict[int, str]) -> None:
        self.student, self.texts, self.generate = student, texts, student.model.generate
        student.model.generate = self.begin
        student.model.register_forward_hook(self.write, with_kwargs=True)

    def begin(self, **given: Any) -> Any:
        self.rows = [self.texts[int(length)] for length in given["attention_mask"].sum(1)]
        self.written: list[list[int]] = []
        return self.generate(**given)

    def write(self, model: Any, args: Any, given: dict[str, Any], out: Any) -> Any:
        ids = given["decoder_input_ids" if self.student.encoder_decoder else "input_ids"]
        if self.written:
            for written, new in zip(self.written, ids[:, -1].tolist(), strict=True):
                written.append(new)
        else:
            self.written = [[] for _ in self.rows]
        out.logits[:] = 0
        for row, (text, written) in enumerate(zip(self.rows, self.written, strict=True)):
            out.logits[row, -1, self.next(text, written)] = 9
        return out

    def next(self, text: str, written: list[int]) -> int:
        spans = [self.student.tokenizer.decode(written[:n]).count(">>") for n in range(len(written) + 1)]
        pieces = re.split("(?<=>>)", text)
        done = len(self.ids("".join(pieces[: spans[-1]])))
        ids = self.ids("".join(pieces[: spans[-1] + 1]))[done:]
        place = len(written) - spans.index(spans[-1])
        return ids[place] if place < len(ids) else self.student.tokenizer.eos_token_id

    def ids(self, text: str) -> list[int]:
        return self.student.tokenizer(text, add_special_tokens=False).input_ids


def scripted(family: str, tokenizer: PreTrainedTokenizerBase, prompts: list[str], texts: list[str]) -> Student:
    student = Student(tiny.family(family, tokenizer, 128), tokenizer, Template("{question}"))
    Script(student, {len(student.prompt(prompt)): text for prompt, text in zip(prompts, texts, strict=True)})
    return student


def write(student: Student, prompts: list[str], batch_size: int, calculator: bool) -> list[str]:
    student.calculator = calculator
    return [reply.text for reply in student.reply(prompts, batch_size)]


SPACED = [  # what a student would write, and what it writes with a calculator
    (
        "Ada has << 4 8 / 2 = 9 >> so << 2 4 * 1 0 = 1 >> #### 1",
        "Ada has << 4 8 / 2 = 2 4 >> so << 2 4 * 1 0 = 2 4 0 >> #### 1",
    ),
    ("<< 9 - 9 = 1 2 >> #### 1", "<< 9 - 9 = 0 >> #### 1"),
    ("<< 1 / 0 = 7 >> << 1 / 3 = 7 >> #### 7", None),
    ("4 + 4 = 9 << >> 4 + 4 = 9 #### 9", None),
    ("= 9 >> #### 9", None),  # what the calculation is of stands in the prompt
    ("<< 4 + 4 = 8 = 9 >> #### 9", "<< 4 + 4 = 8 >> #### 9"),
    ("<< << 4 + 4 = 9 = 9", "<< << 4 + 4 = 8 >>"),
]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_values_are_written_for_a_student(family: str) -> None:
    texts = [text for pair in SPACED for text in pair if text]
    tokenizer = models.word_tokenizer([*texts, "<< 4 + 4"])
    prompts = ["<< " * length + "<< 4 + 4" for length in range(len(SPACED))]
    own = [text for text, _ in SPACED]
    student = scripted(family, tokenizer, prompts, own)
    assert write(student, prompts, 8, calculator=False) == own
    expected = [calculated or text for text, calculated in SPACED]
    for batch_size in (1, 3, 8):
        assert write(student, prompts, batch_size, calculator=True) == expected
    student.max_new_tokens = 8  # it may end in the middle of a value
    assert write(student, prompts, 8, calculator=True) == [" ".join(text.split()[:8]) for text in expected]


def test_what_the_tokenizer_cannot_write_is_left_to_the_student() -> None:
    own = "<< 4 + 4 = 9 >> #### 9"
    tokenizer = models.word_tokenizer([own])  # without 8
    assert write(scripted("gpt2", tokenizer, ["4"], [own]), ["4"], 1, calculator=True) == [own]


@pytest.mark.parametrize(
    ("own", "calculated"),
    [
        ("There are <<48/2=25>>25 and <<5-3=12>>2 #### 2", "There are <<48/2=24>>25 and <<5-3=2>>2 #### 2"),
        ("So <<3-5=-9>>9, <<.5*5=9>>9 #### 9", "So <<3-5=-2>>9, <<.5*5=2.5>>9 #### 9"),
        ("<< 48 / 2 = 9 >> and << 4 8 / 2 = 9 >> #### 9", "<< 48 / 2 = 24 >> and << 4 8 / 2 = 2 4 >> #### 9"),
        ("4+4=9 <<(2+4)=9>> 4+4=9 <<2+2 #### 4", "4+4=9 <<(2+4)=6>> 4+4=9 <<2+2 #### 4"),
    ],
)
def test_each_kind_of_tokenizer(
    bpe_tokenizer: PreTrainedTokenizerBase,
    unigram_bos_tokenizer: PreTrainedTokenizerBase,
    t5_tokenizer: PreTrainedTokenizerBase,
    own: str,
    calculated: str,
) -> None:
    for family, tokenizer in (("gpt2", bpe_tokenizer), ("llama", unigram_bos_tokenizer), ("t5", t5_tokenizer)):
        student = scripted(family, tokenizer, ["4"], [own])
        assert write(student, ["4"], 1, calculator=False) == [own]
        assert write(student, ["4"], 1, calculator=True) == [calculated]


@pytest.mark.shared
def test_a_token_that_holds_more_than_the_sign(gpt2_tokenizer: PreTrainedTokenizerBase) -> None:
    own = "So <<(3-5)=7>> <<(3-5)=-9>> <<(5-3)=-9>> #### 9"
    assert {")=", "=-"} & set(gpt2_tokenizer.tokenize("<<(3-5)=7>> <<3-5=-9>>"))
    student = scripted("gpt2", gpt2_tokenizer, ["4"], [own])
    assert write(student, ["4"], 1, calculator=True) == ["So <<(3-5)=-2>> <<(3-5)=-2>> <<(5-3)=-9>> #### 9"]
