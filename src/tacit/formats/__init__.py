"""Files of other projects, read as traces and written back.

    tacit              the trace contract, JSON Lines
    icot               `INPUT||COT #### ANSWER`, one a line: the official files of Stepwise Internalization and ICoT-KD
    gsm8k              GSM8K's JSON Lines: the steps are lines, the last line is `#### ANSWER`
    gsm8k-socratic     the same with `SUB-QUESTION ** STEP` lines
    socratic           any JSON Lines with sub-questions
    strategyqa         StrategyQA's JSON files: the decomposition is the steps
    svamp              SVAMP's JSON file: the equation is the step
    messages           chats of other tools, JSON Lines: OpenAI's `messages`, ShareGPT's `conversations`
    zero-shot-cot-log  the logs of Zero-shot-CoT: a teacher's rationales with their gold answers

A format stands below in `PARSERS` where a line of the file is a trace, in `READERS` where only the file as a whole can
be read, and in `FORMATTERS` where it can be written, a line a trace.
Free text is split into steps by a stated rule, which is recorded in `source["steps"]`.

Usage: `traces = read("valid.txt", "icot")`, `write(traces, "copy.txt", "icot")`.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tacit.errors import TacitError, unknown_name
from tacit.formats.dialogue import split_dialogue
from tacit.formats.gsm8k import format_gsm8k, format_gsm8k_socratic, parse_gsm8k, parse_gsm8k_socratic
from tacit.formats.icot import format_icot, parse_icot
from tacit.formats.messages import format_messages, parse_messages
from tacit.formats.socratic import format_socratic, parse_socratic
from tacit.formats.steps import split_steps, split_thinking
from tacit.formats.strategyqa import read_strategyqa
from tacit.formats.svamp import read_svamp
from tacit.formats.zero_shot_cot import read_zero_shot_cot_log
from tacit.trace import Trace, read_jsonl, read_lines, write_jsonl, write_lines

PARSERS: dict[str, Callable[[str], Trace]] = {
    "icot": parse_icot,
    "gsm8k": parse_gsm8k,
    "gsm8k-socratic": parse_gsm8k_socratic,
    "socratic": parse_socratic,
    "messages": parse_messages,
}
READERS: dict[str, Callable[[str], Iterator[Trace]]] = {
    "strategyqa": read_strategyqa,
    "svamp": read_svamp,
    "zero-shot-cot-log": read_zero_shot_cot_log,
}
FORMATTERS: dict[str, Callable[[Trace], str]] = {
    "icot": format_icot,
    "gsm8k": format_gsm8k,
    "gsm8k-socratic": format_gsm8k_socratic,
    "socratic": format_socratic,
    "messages": format_messages,
}
FORMATS = ("tacit", *PARSERS, *READERS)
WRITABLE = ("tacit", *FORMATTERS)

__all__ = [
    "FORMATS",
    "FORMATTERS",
    "PARSERS",
    "READERS",
    "WRITABLE",
    "format_gsm8k",
    "format_gsm8k_socratic",
    "format_icot",
    "format_messages",
    "format_socratic",
    "parse_gsm8k",
    "parse_gsm8k_socratic",
    "parse_icot",
    "parse_messages",
    "parse_socratic",
    "read",
    "split_dialogue",
    "split_steps",
    "split_thinking",
    "write",
]


def read(path: str | os.PathLike, format: str = "tacit", problems: dict[int, str] | None = None) -> list[Trace]:
    """The traces of a file in one of `FORMATS`.

    Args:
        path, format: The file and its format.
        problems (`dict[int, str]`, *optional*): Of a format with a trace a line, gets the numbers of lines that do
            not parse, and why, instead of an error.

    Raises:
        TacitError: The text names file, line (or record) and field.
    """
    if format == "tacit":
        return read_jsonl(path, problems)
    if format in PARSERS:
        return read_lines(path, PARSERS[format], problems)
    if format in READERS:
        return _read_whole(path, READERS[format])
    raise unknown_name("format", format, FORMATS)


def _read_whole(path: str | os.PathLike, parse: Callable[[str], Iterator[Trace]]) -> list[Trace]:
    try:
        text = Path(path).read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        traces = list(parse(text))
    except OSError as error:
        raise TacitError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise TacitError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except TacitError as error:
        raise TacitError(f"{path}: {error}") from None
    if not traces:
        raise TacitError(f"{path}: no traces in this file")
    return traces


def write(traces: Iterable[Trace], path: str | os.PathLike, format: str = "tacit") -> None:
    """Writes traces in one of `WRITABLE`, all or nothing. Raises `TacitError` where the format cannot carry one."""
    if format == "tacit":
        write_jsonl(traces, path)
    elif format in FORMATTERS:
        write_lines([FORMATTERS[format](trace) for trace in traces], path)
    elif format in FORMATS:
        raise TacitError(f"format {format!r} can only be read; to write, choose from: {', '.join(WRITABLE)}")
    else:
        raise unknown_name("format", format, FORMATS)
