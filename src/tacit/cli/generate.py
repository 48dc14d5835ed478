"""`tacit generate`: a teacher's rationales for a file of questions; run it again to resume or to ask for more."""

from __future__ import annotations

import math
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tacit.cli.shell import AsJson, UsageError, print_json, program, usage, waiting
from tacit.errors import TacitError, unknown_name
from tacit.prompts import PROMPTS, TRIGGERS
from tacit.tasks import get_task
from tacit.trace import parse_json

if TYPE_CHECKING:
    from tacit.teacher.generate import Asking, Bill, Price
    from tacit.teacher.plan import Plan

APIS = ("chat", "completions")
SHOWN = 5
QUIET_SECONDS = 15.0
MAX_TOKENS, SOCRATIC_TOKENS = 128, 512
KEY = "OPENAI_API_KEY"


def generate(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Questions: a file of traces.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="RAW", help="File of traces to write.")],
    model: Annotated[str, typer.Option(metavar="NAME", help="The teacher, as the server calls it.")],
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="An OpenAI-compatible server, such as http://localhost:8000/v1.")
    ] = None,
    local: Annotated[bool, typer.Option("--local", help="NAME is a Hugging Face model to run here.")] = False,
    prompt: Annotated[
        str, typer.Option(metavar="PROMPT", help=f"One of: {', '.join(PROMPTS)}. plain is the bare question.")
    ] = "zero-shot-cot",
    trigger: Annotated[
        str, typer.Option(metavar="TRIGGER", help="Asks for the answer: generic, or in words for its format.")
    ] = "generic",
    examples: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Worked examples, as text or by task as JSON; socratic has its own."),
    ] = None,
    solution: Annotated[
        bool, typer.Option("--solution", help="Of socratic: also show the teacher each question's own steps.")
    ] = False,
    facts: Annotated[
        bool, typer.Option("--facts", help="Of socratic: also show the facts in each question's source.")
    ] = False,
    api: Annotated[
        str | None, typer.Option(metavar="API", help="chat or completions; by default chat, where the model can.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="The built-in task of the questions (`tacit tasks`).")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, metavar="D", help="Rationales for each question.")] = 1,
    temperature: Annotated[
        float, typer.Option(min=0, metavar="T", help="Of the rationale; the paper takes 0 where D will stay 1.")
    ] = 0.7,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help=f"Of the rationale; by default {MAX_TOKENS}, of socratic {SOCRATIC_TOKENS}."
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, metavar="N", help="Requests at a time.")] = 8,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="S", help="Seconds that a request may take.")] = 120.0,
    price: Annotated[str | None, typer.Option(metavar="IN,OUT", help="Of a million tokens read, and written.")] = None,
    max_cost: Annotated[
        float | None, typer.Option(min=0, metavar="X", help="What all of RAW may cost; stops before more is spent.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask nothing; estimate requests, tokens, cost.")] = False,
    cache: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where replies are kept; RAW.cache by default.")
    ] = None,
    key_env: Annotated[str, typer.Option(metavar="NAME", help="The environment variable of the server's key.")] = KEY,
    extra_body: Annotated[
        str, typer.Option(metavar="JSON", help="Fields for every request; null takes one away.")
    ] = "{}",
    transformers_serve: Annotated[
        bool, typer.Option("--transformers-serve", help="The server is `transformers serve`: tell it how to sample.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a RAW that holds other rows.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask a teacher for rationales.

    Every reply is kept in the cache at once. The same command resumes where it stopped, and asks only for the new
    samples if --samples has grown; a run that was finished costs nothing.
    """
    if local == (base_url is not None):
        raise UsageError("give either --base-url URL or --local")
    if local and (extra_body != "{}" or transformers_serve):
        raise UsageError("--extra-body and --transformers-serve are for a server, not for --local")
    key = os.environ.get(key_env, "")
    if key_env != KEY and not key:
        raise UsageError(f"the environment variable {key_env} is not set")
    if prompt == "few-shot-cot" and examples is None:
        raise UsageError("--prompt few-shot-cot needs --examples FILE")
    if prompt not in ("few-shot-cot", "socratic") and examples is not None:
        raise UsageError("--examples FILE is for --prompt few-shot-cot or socratic")
    if (solution or facts) and (prompt != "socratic" or (solution and facts)):
        raise UsageError("--solution or --facts, one of them, is for --prompt socratic")
    max_tokens = max_tokens or (SOCRATIC_TOKENS if prompt == "socratic" else MAX_TOKENS)
    if output.is_dir():
        raise UsageError(f"{output} is a folder")
    if output.resolve() in (data.resolve(), cache and cache.resolve()):
        raise UsageError(f"{output} cannot be RAW and {'DATA' if output.resolve() == data.resolve() else 'the cache'}")
    if cache is None and output.exists() and not output.is_file():
        raise UsageError(f"{output} is no file; say with --cache FILE where the replies are to be kept")
    for name, value in (("temperature", temperature), ("timeout", timeout), ("max-cost", max_cost)):
        if value is not None and not math.isfinite(value):
            raise UsageError(f"--{name} must be a finite number, not {value}")
    with usage():
        _known("prompt", prompt, PROMPTS)
        _known("trigger", trigger, TRIGGERS)
        _known("API", api or APIS[0], APIS)
        get_task(task)
        extra = _extra(extra_body)
    if max_cost is not None and price is None:
        raise UsageError("--max-cost needs --price IN,OUT")
    if max_cost is not None and not (extra.get("max_tokens", max_tokens) or extra.get("max_completion_tokens")):
        raise UsageError("--max-cost needs a limit of tokens: --extra-body takes away max_tokens and gives no other")
    with waiting("starting"):
        from tacit.teacher.cache import Cache
        from tacit.teacher.generate import FREE, Asking, check_output, estimate
        from tacit.teacher.plan import Plan, read_questions

        prices = _prices(price) if price else FREE
        questions = read_questions(data)
        if local:
            from tacit.models import hush
            from tacit.teacher.local import LocalTeacher

            hush()
            teacher = LocalTeacher(model, concurrency)
        else:
            from tacit.teacher.client import Server

            with usage():
                teacher = Server(base_url or "", key, key_env, timeout)
        plan = Plan(
            questions,
            model=model,
            task=task,
            prompt=prompt,
            trigger=trigger,
            examples=examples,
            given="solution" if solution else "facts" if facts else "",
            chat=api == "chat" or (api is None and teacher.chats),
            samples=samples,
            temperature=temperature,
            max_tokens=max_tokens,
            extra_body=extra,
            generation_config=transformers_serve,
            identity=teacher.identity,
        )
        kept = cache or Path(f"{output}.cache")
        if not dry_run:
            output.parent.mkdir(parents=True, exist_ok=True)
        replies = None if dry_run and not kept.exists() else Cache(kept)
        if not overwrite:
            check_output(plan, replies, output)
        if replies is None or dry_run:
            _show_estimate(plan, estimate(plan, replies, prices), output, bool(price), as_json)
            return
        asking = Asking(plan, teacher, replies, concurrency, prices, max_cost)

    try:
        _carry_out(asking, output, bool(price), as_json)
    finally:
        replies.close()


def _carry_out(asking: Asking, output: Path, priced: bool, as_json: bool) -> None:
    """Asks, writes the rows that are whole, tells what came of it, and fails where rows are missing."""
    from tacit.teacher.generate import write

    plan, problem = asking.plan, None
    try:
        with _kill_as_interrupt(), _Display(asking, priced) as display:
            asking.listener = display.hear
            asking.run()
    except (TacitError, KeyboardInterrupt) as stop:
        problem = stop
    again = f"{program()} {shlex.join(re.sub('//[^/@]*@', '//', word) for word in sys.argv[1:])}"
    try:
        with waiting(f"writing {output}"):
            facts = write(plan, asking.cache, output)
    except TacitError as error:
        raise problem or TacitError(f"{error}; every reply is in {asking.cache.path}; go on: {again}") from None
    if problem is None or asking.asked.requests:
        _show(asking, facts, output, priced, as_json)
    if isinstance(problem, KeyboardInterrupt):
        raise KeyboardInterrupt(f"stopped; go on with: {again}")
    if problem is None and asking.failed:
        row, reason = next(iter(asking.failed.items()))
        problem = TacitError(f"{len(asking.failed):,} rows could not be had; the first: {row}: {reason}")
    if problem is None and asking.stopped:
        problem = TacitError("the next request could exceed --max-cost")
    if problem:
        more = ", with a larger --max-cost" * asking.stopped
        raise TacitError(f"{problem}; {facts['rows']:,} of {plan.rows:,} rows are there; go on{more}: {again}")


@contextmanager
def _kill_as_interrupt() -> Generator[None]:
    """A polite kill ends it as Ctrl-C does; where Ctrl-C is ignored, as in a script's background, it just ends."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# --- what was typed --------------------------------------------------------------------------------------------------


def _known(kind: str, name: str, valid: tuple[str, ...]) -> None:
    if name not in valid:
        raise unknown_name(kind, name, valid)


def _extra(text: str) -> dict[str, Any]:
    try:
        fields = parse_json(text)
    except TacitError as error:
        raise TacitError(f"--extra-body: {error}") from None
    if not isinstance(fields, dict) or fields.get("stream"):
        raise TacitError('--extra-body must be a JSON object, such as {"top_p": 0.9}, and ask for no stream')
    return fields


def _prices(text: str) -> Price:
    from tacit.teacher.generate import Price

    try:
        prompt, completion = map(float, text.split(","))
    except ValueError:
        prompt = completion = math.nan
    if not (0 <= prompt < math.inf and 0 <= completion < math.inf):
        raise UsageError(f"--price must be two prices of a million tokens, such as 0.15,0.60, not {text!r}")
    return Price(prompt, completion)


# --- what is shown ---------------------------------------------------------------------------------------------------


def _show_estimate(plan: Plan, bill: Bill, output: Path, priced: bool, as_json: bool) -> None:
    if as_json:
        print_json(
            {"questions": len(plan.questions), "samples": plan.samples, "rows": plan.rows, **_dict(bill, priced)}
        )
        return
    cost = f", for at most {bill.cost:,.4f}" * priced
    each = f"{plan.samples:,} sample{'s' * (plan.samples > 1)} of each"
    print(f"{output}: {plan.rows:,} rows ({len(plan.questions):,} questions, {each})")
    print(
        f"Still to ask: up to {bill.requests:,} requests, which read about {bill.prompt_tokens:,} tokens and write at "
        f"most {bill.completion_tokens:,}{cost}"
    )


def _show(asking: Asking, facts: dict[str, int], output: Path, priced: bool, as_json: bool) -> None:
    """On stdout, or on stderr where the rows themselves went to a pipe."""
    plan = asking.plan
    if as_json:
        summary = {"questions": len(plan.questions), "samples": plan.samples, "wanted": plan.rows, **facts}
        bills = {"asked": _dict(asking.asked, priced), "total": _dict(asking.total, priced)}
        print_json({**summary, **bills, "failed": asking.failed, "stopped": asking.stopped})
        return
    lines = [f"{output}: {facts['rows']:,} of {plan.rows:,} rows"]
    known = sum(bool(question.label) for question in plan.questions) * plan.samples
    if known and facts["rows"]:
        lines[0] += f"; {facts['right']:,} right, {facts['unanswered']:,} without an answer, {facts['cut']:,} cut off"
    lines.append(f"Asked now: {_bill(asking.asked, priced)}. In all: {_bill(asking.total, priced)}.")
    if facts["alike"]:
        lines.append(f"note: {facts['alike']:,} questions whose samples are all the same")
        if not plan.temperature:
            lines[-1] += ": at --temperature 0 a teacher says one thing"
        elif not plan.generation_config:
            lines[-1] += "; `transformers serve` samples only with --transformers-serve"
    for row, reason in list(asking.failed.items())[:SHOWN]:
        lines.append(f"failed: {row}: {reason}")
    print("\n".join(lines), file=sys.stdout if output.is_file() or not facts["rows"] else sys.stderr)


def _bill(bill: Bill, priced: bool) -> str:
    cost = f", cost {bill.cost:,.4f}" * priced
    return f"{bill.requests:,} requests, {bill.prompt_tokens:,} + {bill.completion_tokens:,} tokens{cost}"


def _dict(bill: Bill, priced: bool) -> dict[str, Any]:
    return {**asdict(bill), "cost": bill.cost if priced else None}


class _Display:
    """Rows, rate, tokens and cost as they come, on stderr: a bar where a person watches, else now and then a line."""

    def __init__(self, asking: Asking, priced: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self.watched = console.is_terminal and asking.done < asking.plan.rows
        columns = (TextColumn("{task.completed:,.0f}/{task.total:,.0f} rows"), BarColumn(), TimeRemainingColumn())
        self.bar = Progress(
            *columns, TextColumn("{task.fields[state]}", markup=False), console=console, transient=True
        )
        self.task = self.bar.add_task("", total=asking.plan.rows, completed=asking.done, state="")
        self.priced, self.begun, self.told, self.troubled = priced, time.monotonic(), time.monotonic(), False

    def __enter__(self) -> _Display:
        if self.watched:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.watched:
            self.bar.stop()

    def hear(self, asking: Asking) -> None:
        """Shows how far it is."""
        now = time.monotonic()
        rate = asking.asked.requests / max(now - self.begun, 1e-3)
        tokens = asking.total.prompt_tokens + asking.total.completion_tokens
        state = f"{rate:,.1f} requests/s, {tokens:,} tokens" + f", cost {asking.total.cost:,.4f}" * self.priced
        if asking.failed:
            state += f", {len(asking.failed):,} failed"
        if asking.trouble:
            state += f" ({asking.trouble})"
        if self.watched:
            self.bar.update(self.task, completed=asking.done, state=state)
        elif now - self.told > QUIET_SECONDS or (asking.trouble and not self.troubled):
            self.told, self.troubled = now, bool(asking.trouble)
            print(f"{asking.done:,}/{asking.plan.rows:,} rows, {state}", file=sys.stderr, flush=True)
