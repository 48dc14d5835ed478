"""Multiplication in the head: n-by-m digits, written least significant digit first (arXiv 2405.14838).

For `A * B`, `x = int(A)` with n digits, B with m digits `b_i` (i = 0 the least significant), and `LE(v, w)` = the w
digits of v, least significant first:

    term_i = LE(x * b_i * 10^i, n + 1 + i)                    i = 0..m-1
    sum_i  = LE(sum over j <= i of x * b_j * 10^j, n + 1 + i)  i = 1..m-2
    chain  = term_0, then for each i >= 1 "+" term_i and, where there is one, "(" sum_i ")"
    answer = LE(x * int(B), n + m)

The grammar reproduces the official files from their inputs. A step of the chain is a term with its "+", or a running
sum in its parentheses. 4821 * 37 is `1 2 8 4 * 7 3`, its answer `7 7 3 8 7 1`.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tacit.errors import TacitError
from tacit.grading import AnswerFormat
from tacit.tasks.task import Option, Task
from tacit.trace import Step, Trace

Sizes = tuple[tuple[int, int], ...]
MAX_DIGITS = 100
DIGITS = AnswerFormat("a whole number, its digits reversed and spaced")


def parse_digits(value: Any) -> Sizes:
    """`"4x2"` or a mix such as `"2x2,3x3"` as pairs of digit counts. Raises `TacitError` for anything else."""
    sizes = []
    for part in str(value).split(","):
        match = re.fullmatch(r"\s*([0-9]{1,3})[xX]([0-9]{1,3})\s*", part)
        pair = (int(match[1]), int(match[2])) if match else (0, 0)
        if not all(1 <= count <= MAX_DIGITS for count in pair):
            raise TacitError(
                f"digits must look like 4x2, or 2x2,3x3 for a mix, with 1 to {MAX_DIGITS} digits each; got {value!r}"
            )
        sizes.append(pair)
    return tuple(dict.fromkeys(sizes))


def parse_ordered(value: Any) -> bool:
    """Yes or no, as typed or from YAML."""
    if str(value).lower() not in ("true", "false"):
        raise TacitError(f"ordered must be true or false, got {value!r}")
    return str(value).lower() == "true"


def digits(value: int, width: int) -> str:
    """LE(value, width): that many digits, least significant first, separated by spaces."""
    return " ".join(reversed(f"{value:0{width}d}"))


def solve(a: int, b: int, n: int | None = None, m: int | None = None) -> Trace:
    """The trace of `a * b`, by the official grammar."""
    n, m = n or len(str(a)), m or len(str(b))
    steps = []
    running = 0
    for i in range(m):
        term = a * (b // 10**i % 10) * 10**i
        running += term
        written = digits(term, n + 1 + i)
        steps.append(Step(f"+ {written}" if i else written, answer=written))
        if 1 <= i <= m - 2:
            total = digits(running, n + 1 + i)
            steps.append(Step(f"( {total} )", answer=total))
    return Trace(
        question=f"{digits(a, n)} * {digits(b, m)}",
        steps=tuple(steps),
        answer=digits(a * b, n + m),
        source={"task": "multiplication", "digits": f"{n}x{m}"},
    )


def operands(question: str) -> tuple[int, int]:
    """The two numbers of a question in the model's form. Raises `TacitError` where it is not one."""
    parts = question.split(" * ")
    if len(parts) != 2 or not all(re.fullmatch(r"[0-9]( [0-9])*", part) for part in parts):
        raise TacitError(f"not a multiplication question (reversed, spaced digits): {question!r}")
    a, b = (int(part.replace(" ", "")[::-1]) for part in parts)
    return a, b


def problem_count(n: int, m: int, ordered: bool) -> int:
    """How many distinct n-by-m problems there are; unless `ordered`, a*b and b*a are one."""
    left, right = 9 * 10 ** (n - 1), 9 * 10 ** (m - 1)
    return left * (left + 1) // 2 if n == m and not ordered else left * right


@dataclass(frozen=True)
class Multiplication(Task):
    """n-by-m-digit multiplication with the schoolbook chain of partial products and running sums."""

    name: str = "multiplication"
    summary: str = "n-by-m-digit products, digits reversed and spaced, partial products as the chain"
    format: AnswerFormat = DIGITS
    licence: str = "generated"
    example: str = "4821 * 37"
    options: dict[str, Option] = field(
        default_factory=lambda: {
            "digits": Option("4x2", parse_digits, "digits of the two factors; several sizes as 2x2,3x3"),
            "ordered": Option(False, parse_ordered, "count a*b and b*a as two problems, as the official files do"),
        }
    )

    def make(self, size: int, seed: int, **options: Any) -> list[Trace]:
        """`size` distinct problems in random order; a mix shares them out evenly as far as there are enough."""
        settings = self.settings(options)
        sizes, ordered = settings["digits"], settings["ordered"]
        if not ordered:  # 4x2 and 2x4 are one family then
            sizes = tuple({frozenset(pair): pair for pair in reversed(sizes)}.values())[::-1]
        counts = [problem_count(n, m, ordered) for n, m in sizes]
        if size > sum(counts):
            shown = ",".join(f"{n}x{m}" for n, m in sizes)
            raise TacitError(f"{size:,} problems asked for, but only {sum(counts):,} distinct {shown} problems exist")
        rng = random.Random(seed)
        traces = []
        # The smallest families first: what they cannot give, the larger ones make up for.
        for left, ((n, m), count) in zip(
            range(len(sizes), 0, -1), sorted(zip(sizes, counts, strict=True), key=lambda pair: pair[1]), strict=True
        ):
            share = min(count, (size - len(traces)) // left)
            pairs = _distinct_pairs(rng, n, m, share, ordered)
            traces += [solve(a, b, n, m) for a, b in pairs]
        rng.shuffle(traces)
        return traces

    def read_question(self, typed: str) -> str:
        """`4821 * 37` (also with `x`, `×` or thousands commas) as `1 2 8 4 * 7 3`; the model's own form passes."""
        if re.fullmatch(r"\s*[0-9]( [0-9])+ \* [0-9]( [0-9])*\s*|\s*[0-9]( [0-9])* \* [0-9]( [0-9])+\s*", typed):
            return typed.strip()
        match = re.fullmatch(r"\s*([0-9][0-9,]*)\s*[*xX×·]\s*([0-9][0-9,]*)\s*=?\s*", typed)
        if not match:
            raise TacitError(f"a multiplication question looks like {self.example!r}; got {typed!r}")
        # As text: Python refuses to convert numbers of thousands of digits.
        a, b = (number.replace(",", "").lstrip("0") or "0" for number in match.groups())
        return f"{' '.join(reversed(a))} * {' '.join(reversed(b))}"

    def show_question(self, question: str) -> str:
        """`1 2 8 4 * 7 3` as `4821 * 37`."""
        a, b = operands(question)
        return f"{a} * {b}"

    def show_answer(self, answer: str) -> str:
        """`7 7 3 8 7 1` as `178377`; text that is no spaced number stays as it is."""
        if not re.fullmatch(r"[0-9]( [0-9])*", answer):
            return answer
        return answer.replace(" ", "")[::-1].lstrip("0") or "0"

    def problem(self, question: str) -> str:
        """a*b and b*a are one problem."""
        a, b = sorted(operands(question))
        return f"{a} * {b}"


def _distinct_pairs(rng: random.Random, n: int, m: int, size: int, ordered: bool) -> Iterator[tuple[int, int]]:
    low, high = (10 ** (n - 1), 10 ** (m - 1)), (10**n, 10**m)
    total = (high[0] - low[0]) * (high[1] - low[1])

    def draws() -> Iterator[tuple[int, int]]:
        if size > total // 4:  # a shuffled list, so that asking for all of them ends
            for index in rng.sample(range(total), total):
                yield low[0] + index // (high[1] - low[1]), low[1] + index % (high[1] - low[1])
        while True:
            yield rng.randrange(low[0], high[0]), rng.randrange(low[1], high[1])

    seen = set()
    source = draws()
    while len(seen) < size:
        a, b = next(source)
        key = (a, b) if ordered or a <= b else (b, a)
        if key not in seen:
            seen.add(key)
            yield a, b
