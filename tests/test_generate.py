"""`tacit generate`: a teacher over HTTP that misbehaves on purpose, a local one, and every row exactly once."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

import tacit.cli
from scripts.teacher_server import Ask, TeacherServer
from tacit.errors import TacitError
from tacit.teacher import client
from tacit.teacher.cache import Cache, key_of
from tacit.teacher.client import Server
from tacit.teacher.generate import GIVE_UP, Asking, Price, estimate, write
from tacit.teacher.plan import Plan
from tacit.teacher.reply import Reply
from tacit.trace import Step, Trace, read_jsonl, write_jsonl

KEY = "sk-very-secret-0123456789"
NOBODY = "http://127.0.0.1:9/v1"  # the port "discard", where nobody listens


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return tmp_path


def questions(count: int) -> list[Trace]:
    made = []
    for i in range(count):
        made.append(Trace(f"What is {i} + {7 * i}?", (), str(8 * i), id=f"q{i}", source={"task": "gsm8k"}))
    return made


def plan(count: int = 6, **changed: Any) -> Plan:
    return Plan(questions(count), **{"model": "adder", **changed})


def ask(plan: Plan, server: TeacherServer, cache: str = "cache", timeout: float = 5.0, **changed: Any) -> Asking:
    """Carries a plan out; failed tries are repeated at once."""
    asking = Asking(plan, Server(server.url, KEY, timeout=timeout, pause=0.01), Cache(cache), **changed)
    try:
        asking.run()
    finally:
        asking.cache.close()
    return asking


def rows(plan: Plan, cache: str = "cache") -> list[Trace]:
    """Writes and reads the rows."""
    write(plan, Cache(cache), "raw.jsonl")
    return read_jsonl("raw.jsonl")


def are_whole(found: list[Trace], count: int, samples: int) -> bool:
    """Every question exactly D times, in order, and answered."""
    wanted = [f"q{i}/{sample}" for i in range(count) for sample in range(samples)]
    assert [row.id for row in found] == wanted
    assert all(row.answer == row.gold for row in found)
    return True


# --- the command line ------------------------------------------------------------------------------------------------


def words(server: TeacherServer | str, *more: str) -> list[str]:
    url = server if isinstance(server, str) else server.url
    return ["generate", "questions.jsonl", "-o", "raw.jsonl", "--model", "adder", "--base-url", url, *more]


def tacit_(*words: str) -> Result:
    result = CliRunner().invoke(tacit.cli.app, list(words), prog_name="tacit")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def start(*words: str, **settings: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tacit", *words]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)


def until(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_two_stages_of_every_question() -> None:
    write_jsonl(questions(6), "questions.jsonl")
    with TeacherServer() as server:
        result = tacit_(*words(server, "--samples", "2"))
    assert result.exit_code == 0, result.stderr
    assert "raw.jsonl: 12 of 12 rows; 12 right, 0 without an answer, 0 cut off" in result.stdout
    found = read_jsonl("raw.jsonl")
    assert are_whole(found, 6, 2)
    seed = next(a.body["seed"] for a in server.asked if "What is 3 + 21?" in a.text and "seed" in a.body)
    row = next(row for row in found if row.id.startswith("q3/") and str(seed) in row.steps[2].text)
    rationale = f" First there is 3. Then comes 21. That took {seed} thoughts. So there are 24."
    assert row == Trace(
        "What is 3 + 21?",
        tuple(Step(f"{text}.") for text in rationale.removesuffix(".").strip().split(". ")),
        "24",
        gold="24",
        id=row.id,
        source={
            "task": "gsm8k",
            "question_id": "q3",
            "sample": int(row.id[-1]),
            "model": "adder",
            "prompt": "zero-shot-cot",
            "temperature": 0.7,
            "rationale": rationale,
            "completion": " 24.",
            "marked": True,
            "finish_reason": "stop",
            "usage": {"prompt_tokens": 12 + 31, "completion_tokens": 17 + 3},
            "steps": "sentences",
        },
    )
    assert {a.path for a in server.asked} == {"/v1/chat/completions"}
    assert {a.key for a in server.asked} == {f"Bearer {KEY}"}
    first = [a.body for a in server.asked if "seed" in a.body]
    second = [a.body for a in server.asked if "seed" not in a.body]
    assert {(b["temperature"], b["max_tokens"], len(b["messages"])) for b in first} == {(0.7, 128, 1)}
    assert {(b["temperature"], b["max_tokens"], len(b["messages"])) for b in second} == {(0.0, 128, 3)}
    assert len({b["seed"] for b in first}) == len(first) == len(second) == 12


def test_completion_models_read_one_text() -> None:
    with TeacherServer() as server:
        asking = ask(plan(3, chat=False, temperature=0.0), server)
        assert are_whole(rows(asking.plan), 3, 1)
    assert {a.path for a in server.asked} == {"/v1/completions"}
    assert not any("seed" in a.body for a in server.asked)  # greedy requests need none
    second = next(a.text for a in server.asked if "What is 2 + 14?" in a.text and "Therefore" in a.text)
    assert second == (
        "Q: What is 2 + 14?\nA: Let's think step by step. First there is 2. Then comes 14. So there are 16.\n"
        "Therefore, the answer is"
    )


def test_a_rerun_costs_nothing_and_changes_nothing() -> None:
    write_jsonl(questions(5), "questions.jsonl")
    with TeacherServer() as server:
        assert tacit_(*words(server, "--samples", "3")).exit_code == 0
        before, asked = Path("raw.jsonl").read_bytes(), server.requests
        again = tacit_(*words(server, "--samples", "3", "--json"))
        assert server.requests == asked == 30
    assert again.exit_code == 0
    facts = json.loads(again.stdout)
    assert (facts["asked"]["requests"], facts["total"]["requests"], facts["rows"]) == (0, 30, 15)
    assert Path("raw.jsonl").read_bytes() == before
    assert tacit_(*words(NOBODY, "--samples", "3")).exit_code == 0  # the address is no part of a request


def test_more_samples_ask_for_the_missing_ones_only() -> None:
    write_jsonl(questions(5), "questions.jsonl")
    with TeacherServer() as server:
        assert tacit_(*words(server, "--samples", "2")).exit_code == 0
        two, asked = read_jsonl("raw.jsonl"), server.requests
        assert tacit_(*words(server, "--samples", "4")).exit_code == 0
        four = read_jsonl("raw.jsonl")
        assert (asked, server.requests) == (20, 40)
    assert are_whole(four, 5, 4)
    assert [row for row in four if (row.source or {})["sample"] < 2] == two
    assert all(len({row.steps for row in four if row.question == q.question}) == 4 for q in questions(5))


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_never_more_requests_at_a_time_than_allowed(limit: int) -> None:
    with TeacherServer(delay=0.05) as server:
        ask(plan(12), server, concurrency=limit)
        assert (limit + 1) // 2 <= server.busiest <= limit
        assert server.requests == 24


def test_a_dry_run_asks_nothing() -> None:
    write_jsonl(questions(4), "questions.jsonl")
    options = ("--samples", "2", "--price", "1,2", "--dry-run")
    with TeacherServer() as server:
        first = json.loads(tacit_(*words(server, *options, "--json")).stdout)
        assert (server.requests, sorted(os.listdir())) == (0, ["questions.jsonl"])
        tacit_(*words(server, "--temperature", "0"))  # other requests
        os.remove("raw.jsonl")
        assert json.loads(tacit_(*words(server, *options, "--json")).stdout) == first
        done = tacit_(*words(server, "--samples", "2", "--price", "1,2", "--json"))
        rest = json.loads(tacit_(*words(server, *options, "--json")).stdout)
    assert (first["rows"], first["requests"], first["completion_tokens"]) == (8, 16, 16 * 128)
    assert 0 < json.loads(done.stdout)["asked"]["cost"] <= first["cost"]
    assert (rest["rows"], rest["requests"], rest["cost"]) == (8, 0, 0)
    assert "8 rows (4 questions, 2 samples of each)" in tacit_(*words(server, *options)).stdout


def test_what_cannot_be_meant_is_refused_before_anything_is_asked() -> None:
    write_jsonl(questions(2), "questions.jsonl")
    with TeacherServer() as server:
        for more, problem in (
            (["--local"], "give either --base-url URL or --local"),
            (["--prompt", "zero-shot-cod"], "did you mean 'zero-shot-cot'?"),
            (["--trigger", "formal"], "did you mean 'format'?"),
            (["--api", "chats"], "did you mean 'chat'?"),
            (["--task", "gsm7k"], "did you mean 'gsm8k'?"),
            (["--price", "1"], "--price must be two prices"),
            (["--price", "1,-2"], "--price must be two prices"),
            (["--max-cost", "1"], "--max-cost needs --price"),
            (["--max-cost", "inf", "--price", "1,1"], "--max-cost must be a finite number"),
            (["--max-cost", "1", "--price", "1,1", "--extra-body", '{"max_tokens": null}'], "needs a limit of tokens"),
            (["--temperature", "inf"], "--temperature must be a finite number"),
            (["--extra-body", "{"], "--extra-body: not JSON"),
            (["--extra-body", "[]"], "--extra-body must be a JSON object"),
            (["--extra-body", '{"stream": true}'], "ask for no stream"),
            (["--key-env", "NO_SUCH_KEY"], "the environment variable NO_SUCH_KEY is not set"),
            (["--base-url", "localhost:8000"], "must look like http://localhost:8000/v1"),
            (["--prompt", "few-shot-cot"], "--prompt few-shot-cot needs --examples FILE"),
            (["--examples", "missing.txt"], "--examples FILE is for --prompt few-shot-cot or socratic"),
            (["-o", "."], "is a folder"),
            (["-o", "./questions.jsonl", "--overwrite"], "questions.jsonl cannot be RAW and DATA"),
            (["--cache", "raw.jsonl", "--overwrite"], "raw.jsonl cannot be RAW and the cache"),
            (["-o", "/dev/null"], "--cache FILE"),
        ):
            result = tacit_(*words(server, *more))
            assert (result.exit_code, result.stdout) == (2, ""), more
            assert problem in result.stderr
        result = tacit_(*words(server, "--prompt", "few-shot-cot", "--examples", "missing.txt"))
        assert (result.exit_code, result.stdout) == (1, "")
        assert "missing.txt: No such file" in result.stderr
        result = tacit_(*words(server, "--prompt", "few-shot-cot", "--examples", "questions.jsonl"))
        assert (result.exit_code, result.stdout) == (1, "")
        assert "error: questions.jsonl: not JSON (Extra data at line 2" in result.stderr
        assert (server.requests, sorted(os.listdir())) == (0, ["questions.jsonl"])


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "no traces in this file"),
        (["{}"], ":1: field 'question' is missing"),
        (['{"question": "a", "id": "1"}', '{"question": "b", "id": "1"}'], "2 questions have the id '1'; give each"),
        (['{"question": "a", "answer": 3}'], ":1: field 'answer': expected a string, got a number"),
    ],
)
def test_questions_that_cannot_be_read(lines: list[str], problem: str) -> None:
    Path("questions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    result = tacit_(*words(NOBODY))
    assert (result.exit_code, result.stdout) == (1, "")
    assert problem in result.stderr


def test_questions_need_neither_steps_nor_an_answer() -> None:
    lines = ['{"question": "What is 1 + 2?", "id": "q"}', '{"question": "What is 1 + 2?", "answer": "3", "id": "p"}']
    Path("questions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with TeacherServer() as server:
        result = tacit_(*words(server, "--task", "gsm8k"))
    assert result.exit_code == 0
    found = read_jsonl("raw.jsonl")
    assert [(row.id, row.gold, row.answer) for row in found] == [("q/0", None, "3"), ("p/0", "3", "3")]
    assert server.requests == 2  # the same question: the same request, asked once


@pytest.mark.parametrize(
    ("golds", "said", "answers"),
    [
        (["1,500", "-3.0"], ["So $1500.00 in all.", "It is minus: -3 degrees, in 2 days"], ["1,500", "-3.0"]),
        (["1500", "-3"], ["So 1501 in all.", "I see."], ["1501", ""]),
        (["Yes", "no"], ["Yes, it is.", "It is not, no."], ["Yes", "no"]),
        (["B", "D"], ["(B) is right", "B, not D"], ["B", "B"]),
        (["blue", "2 cups"], [" blue ", "2 cups"], ["blue", "2 cups"]),
        (["I", "1"], ["I", "1"], ["I", "1"]),
    ],
)
def test_answers_of_peoples_own_questions_are_found_by_what_theirs_look_like(
    golds: list[str], said: list[str], answers: list[str]
) -> None:
    own = [Trace(f"Question {i}", (), gold, id=f"q{i}") for i, gold in enumerate(golds)]
    with TeacherServer(says=lambda ask: {"content": said[int(ask.text[len("Q: Question ")])]}) as server:
        asking = ask(Plan(own, "adder", prompt="zero-shot"), server)
    found = rows(asking.plan)
    assert [row.answer for row in found] == answers
    assert [row.gold for row in found] == golds


# --- output that exists ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "difference"),
    [
        (["--temperature", "0"], "has temperature 0.7, not 0.0"),
        (["--model", "other"], "has model adder, not other"),
        (["--prompt", "zero-shot"], "has prompt zero-shot-cot, not zero-shot"),
        (["--max-tokens", "99"], "was asked for with other settings, or its reply is in another cache"),
        (["--cache", "other"], "was asked for with other settings, or its reply is in another cache"),
        (["--task", "aqua"], "has other texts now"),
    ],
)
def test_rows_that_would_be_lost_are_kept(more: list[str], difference: str) -> None:
    write_jsonl(questions(2), "questions.jsonl")
    with TeacherServer() as server:
        assert tacit_(*words(server)).exit_code == 0
        before, asked = Path("raw.jsonl").read_bytes(), server.requests
        result = tacit_(*words(server, *more))
        assert (result.exit_code, result.stdout, server.requests) == (1, "", asked)
        assert f"raw.jsonl exists already, and its row 'q0/0' {difference}; choose another" in result.stderr
        assert Path("raw.jsonl").read_bytes() == before
        assert tacit_(*words(server, *more, "--overwrite")).exit_code == 0
        assert (server.requests == asked) == (more[0] == "--task")


def test_one_sample_grows_by_itself() -> None:
    write_jsonl(questions(2), "questions.jsonl")
    with TeacherServer() as server:
        assert tacit_(*words(server)).exit_code == 0
        before = Path("raw.jsonl").read_text("utf-8").splitlines()
        assert tacit_(*words(server, "--samples", "3")).exit_code == 0
        assert server.requests == 2 * 3 * 2
    assert Path("raw.jsonl").read_text("utf-8").splitlines()[::3] == before


def test_fewer_samples_would_lose_rows_and_more_questions_do_not() -> None:
    write_jsonl(questions(2), "questions.jsonl")
    with TeacherServer() as server:
        assert tacit_(*words(server, "--samples", "3", "--temperature", "1")).exit_code == 0
        fewer = tacit_(*words(server, "--samples", "2", "--temperature", "1"))
        assert "its row 'q0/2' is not asked for now" in fewer.stderr
        write_jsonl(questions(4), "questions.jsonl")
        assert tacit_(*words(server, "--samples", "3", "--temperature", "1")).exit_code == 0
        assert server.requests == 4 * 3 * 2
    assert are_whole(read_jsonl("raw.jsonl"), 4, 3)


@pytest.mark.parametrize("content", ["", "my notes\n", '{"question": "a", "steps": [], "answer": "b"}\n'])
def test_a_file_of_something_else_is_kept(content: str) -> None:
    write_jsonl(questions(2), "questions.jsonl")
    Path("raw.jsonl").write_text(content, encoding="utf-8")
    result = tacit_(*words(NOBODY))
    assert result.exit_code == 1
    assert "raw.jsonl exists already" in result.stderr
    assert Path("raw.jsonl").read_text(encoding="utf-8") == content


# --- a teacher that misbehaves ---------------------------------------------------------------------------------------

FAULTS = ["429", "500", "hang", "close", "broken", "empty choice", "no choice"]
STATUSES = "408 409 425 429 500 502 503 504 529".split()
BROKEN = "hang", "drip", "close", "half", "broken", "null", "no choice", "empty choice", "no content", "silence"


def test_everything_that_can_pass_in_one_row() -> None:
    write_jsonl(questions(2), "questions.jsonl")
    with TeacherServer(faults=lambda ask: FAULTS[ask.tries - 1] if ask.tries <= len(FAULTS) else None) as server:
        asking = ask(plan(2), server, timeout=0.3)
        assert are_whole(rows(asking.plan), 2, 1)
        assert Counter(a.tries for a in server.asked) == dict.fromkeys(range(1, 9), 4)
        assert (server.answered, asking.asked.requests) == (4, 4)


@pytest.mark.parametrize(
    ("fault", "chat"),
    [*((fault, True) for fault in (*STATUSES, *BROKEN)), *((fault, False) for fault in BROKEN[-4:])],
)
def test_each_fault_alone(fault: str, chat: bool) -> None:
    told = []
    with TeacherServer(faults=lambda ask: fault if ask.tries <= 2 else None) as server:
        asking = ask(plan(1, chat=chat), server, timeout=0.3, listener=lambda asking: told.append(asking.trouble))
        assert are_whole(rows(asking.plan), 1, 1)
        assert server.requests == 6
    assert any("trying again in 0.0 s" in trouble for trouble in told)
    assert told[-1] == ""


def test_one_question_that_always_fails_stops_no_other() -> None:
    write_jsonl(questions(5), "questions.jsonl")
    with TeacherServer(faults=lambda ask: "500" if "What is 2 +" in ask.text else None) as server:
        asking = ask(plan(5), server)
        assert server.requests == 4 * 2 + client.TRIES
        problem = f"HTTP 500: Incorrect API key provided: *** (the last of {client.TRIES} tries)"
        assert asking.failed == {"q2/0": problem}
        assert [row.id for row in rows(asking.plan)] == ["q0/0", "q1/0", "q3/0", "q4/0"]
        server.faults = lambda ask: None
        assert ask(plan(5), server).failed == {}
        assert are_whole(rows(asking.plan), 5, 1)


def test_a_question_longer_than_the_context() -> None:
    write_jsonl(questions(5), "questions.jsonl")
    with TeacherServer(faults=lambda ask: "400" if "What is 2 +" in ask.text else None) as server:
        result = tacit_(*words(server, "--samples", "3"))
        assert (result.exit_code, server.requests) == (1, 4 * 3 * 2 + 3)
        assert "raw.jsonl: 12 of 15 rows" in result.stdout
        assert "failed: q2/0: HTTP 400: Incorrect API key provided: ***" in result.stdout
        assert re.search(r"error: 3 rows could not be had; the first: q2/[012]: HTTP 400", result.stderr)
        assert "12 of 15 rows are there; go on: " in result.stderr
        assert len(read_jsonl("raw.jsonl")) == 12
        server.faults = lambda ask: None  # with a larger context
        assert tacit_(*words(server, "--samples", "3")).exit_code == 0
        assert are_whole(read_jsonl("raw.jsonl"), 5, 3)


def test_many_questions_may_be_too_long() -> None:
    """Once a teacher has answered at all, refusals are the questions' fault, however many there are."""
    with TeacherServer(faults=lambda ask: "400" if "What is 0 +" not in ask.text else None) as server:
        asking = ask(plan(3 * GIVE_UP), server, concurrency=1)
        assert (asking.done, len(asking.failed)) == (1, 3 * GIVE_UP - 1)


@pytest.mark.parametrize("fault", ["400", "422", "403", "500"])
def test_a_teacher_that_never_answers_is_left_alone(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TRIES", 2)
    with (
        TeacherServer(faults=lambda ask: fault) as server,
        pytest.raises(TacitError, match=f"{GIVE_UP} requests in a row failed; the last one: HTTP {fault}"),
    ):
        ask(plan(100), server, concurrency=4)
    assert server.requests <= (GIVE_UP + 4) * (client.TRIES if fault == "500" else 1)


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("401", "HTTP 401: Incorrect API key provided: ***; set OPENAI_API_KEY to the key of this server"),
        ("404", "HTTP 404: Incorrect API key provided: ***; look at --model and --base-url"),
        ("402", "HTTP 402: Incorrect API key provided: ***; the account is empty"),
        ("429 retry-after: 86400", "it asks to come back in 86,400 s"),
    ],
)
def test_a_wrong_key_or_model_ends_at_once(fault: str, problem: str) -> None:
    write_jsonl(questions(50), "questions.jsonl")
    with TeacherServer(faults=lambda ask: fault) as server:
        result = tacit_(*words(server, "--concurrency", "2"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert problem in result.stderr
    assert result.stderr.count("error: ") == 1
    assert "Traceback" not in result.stderr
    assert server.requests <= 2
    assert not Path("raw.jsonl").exists()


def test_a_key_that_expires_midway_keeps_what_was_answered() -> None:
    write_jsonl(questions(20), "questions.jsonl")
    with TeacherServer(faults=lambda ask: "401" if ask.number > 25 else None) as server:
        result = tacit_(*words(server, "--concurrency", "1"))
        assert result.exit_code == 1
        assert "12 of 20 rows are there; go on: " in result.stderr
        assert [row.id for row in read_jsonl("raw.jsonl")] == [f"q{i}/0" for i in range(12)]
        server.faults = lambda ask: None
        assert tacit_(*words(server)).exit_code == 0
        assert server.requests == 26 + 15
    assert are_whole(read_jsonl("raw.jsonl"), 20, 1)


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(questions(50), "questions.jsonl")
    monkeypatch.setattr(client, "LONGEST_PAUSE", 0.01)
    result = tacit_(*words(NOBODY.replace("//", "//ann:password@")))
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"cannot reach {NOBODY}: " in result.stderr
    assert "password" not in result.stderr


def test_a_server_says_when_to_come_back() -> None:
    def faults(ask: Ask) -> str | None:
        return "429 retry-after: 0.4" if ask.tries == 1 else None

    with TeacherServer(faults=faults) as server:
        begun = time.monotonic()
        ask(plan(1), server)
        assert time.monotonic() - begun >= 0.8


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({}, 0, 0),
        ({"retry-after": "7"}, 7, 7),
        ({"retry-after": "1.5"}, 1.5, 1.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, -math.inf, 0),
        ({"retry-after": "soon"}, 0, 0),
        ({"retry-after-ms": ""}, 0, 0),
    ],
)
def test_the_forms_of_retry_after(headers: dict[str, str], low: float, high: float) -> None:
    assert low <= client._wait(headers) <= high


def test_a_date_to_come_back_at() -> None:
    soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    assert 25 < client._wait({"retry-after": soon}) < 31


def test_a_teacher_with_nothing_to_say_is_taken_at_its_word() -> None:
    with TeacherServer(faults=lambda ask: "silence" if "Therefore" not in ask.text else None) as server:
        asking = ask(plan(2), server)
        assert [(row.steps, row.answer) for row in rows(asking.plan)] == [((), "0"), ((), "8")]
        assert server.requests == 2 * (client.EMPTY_TRIES + 1)


def test_strange_text_is_written_and_read_again() -> None:
    said = 'half a pair \ud83d, a null \0, a break\u2028, "quotes", 👍 '
    with TeacherServer(says=lambda ask: {"content": said}) as server:
        asking = ask(plan(1, prompt="zero-shot"), server)
    assert (rows(asking.plan)[0].source or {})["completion"] == said.replace("\ud83d", "?")


# --- reasoning models ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        {"content": "They are 8.", "reasoning_content": "1 and 7.\nThat is 8."},
        {"content": "They are 8.", "reasoning": "1 and 7.\nThat is 8."},
        {"content": "<think>\n1 and 7.\nThat is 8.\n</think>\n\nThey are 8."},
        {"content": "1 and 7.\nThat is 8.\n</think>\n\nThey are 8."},
    ],
)
def test_thinking_is_the_rationale_and_needs_no_second_stage(message: dict[str, str]) -> None:
    with TeacherServer(says=lambda ask: dict(message)) as server:
        asking = ask(plan(2), server)
        row = rows(asking.plan)[1]
        assert server.requests == 2
    assert [step.text for step in row.steps] == ["1 and 7.", "That is 8."]
    assert row.answer == "8"
    assert ((row.source or {})["completion"], (row.source or {})["marked"]) == ("They are 8.", False)


@pytest.mark.parametrize("content", [None, ""])
def test_thinking_that_was_cut(content: str | None) -> None:
    def says(ask: Ask) -> dict[str, Any]:
        if "Therefore" in ask.text:
            assert ask.body["messages"][1] == {"role": "assistant", "content": "1 and"}
            return {"content": "8"}
        return {"content": content, "reasoning_content": "1 and", "finish_reason": "length"}

    with TeacherServer(says=says) as server:
        asking = ask(plan(2), server)
    row = rows(asking.plan)[1]
    assert (row.steps, row.answer, (row.source or {})["finish_reason"]) == ((Step("1 and"),), "8", "length")


# --- keys ------------------------------------------------------------------------------------------------------------


def echo(ask: Ask) -> dict[str, Any]:
    """A server that sends the key back in all that it says."""
    return {"content": f"{ask.key} and 3", "reasoning_content": f"I was told {ask.key}", "finish_reason": ask.key}


def assert_no_key_in_any_file() -> None:
    for path in filter(Path.is_file, Path().rglob("*")):
        assert KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("fault", [None, "401"])
def test_the_key_is_nowhere(fault: str | None) -> None:
    """With everything told that the libraries can tell."""
    write_jsonl(questions(3), "questions.jsonl")
    with TeacherServer(faults=lambda ask: fault if "What is 1" in ask.text else None, says=echo) as server:
        settings = {**os.environ, "TEACHER_KEY": f" {KEY}\n", "OPENAI_API_KEY": "", "OPENAI_LOG": "debug"}
        done = start(*words(server, "--key-env", "TEACHER_KEY"), env=settings)
        told = done.communicate(timeout=60)
    assert done.returncode == (fault is not None), told
    assert server.asked[0].key == f"Bearer {KEY}"
    assert KEY not in "".join(told)
    assert_no_key_in_any_file()
    if fault is None:
        assert b"I was told Bearer ***" in Path("raw.jsonl").read_bytes()


@pytest.mark.parametrize("fault", ["400", "429", "close"])
def test_the_key_is_in_no_report_of_a_failed_try(fault: str) -> None:
    told = []
    with TeacherServer(faults=lambda ask: fault if "What is 1" in ask.text else None, says=echo) as server:
        asking = ask(plan(3), server, listener=lambda asking: told.append(asking.trouble))
    assert list(asking.failed) == ["q1/0"]
    assert any("trying again" in trouble for trouble in told) == (fault != "400")
    assert KEY not in "".join([*told, *asking.failed.values()])
    rows(asking.plan)
    assert_no_key_in_any_file()


def test_a_key_that_no_header_can_carry_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(questions(1), "questions.jsonl")
    monkeypatch.setenv("OPENAI_API_KEY", "schlüssel\ngeheim")
    result = tacit_(*words(NOBODY))
    assert result.exit_code == 2
    assert "the key in OPENAI_API_KEY holds characters that no key has" in result.stderr
    assert "geheim" not in result.stderr


# --- kills, interrupts, two at once, a full disk ---------------------------------------------------------------------


def test_kill_9_loses_at_most_what_is_under_way() -> None:
    write_jsonl(questions(20), "questions.jsonl")
    limit, kills = 4, 0
    moments = random.Random(0)
    with TeacherServer(delay=0.02) as server:
        while True:
            process = start(*words(server, "--samples", "2", "--concurrency", str(limit)))
            if kills == 2:
                output = process.communicate(timeout=60)
                break
            wanted = server.requests + moments.randint(5, 25)
            until(lambda wanted=wanted: server.requests >= wanted)
            process.kill()
            process.wait()
            kills += 1
        assert process.returncode == 0, output
        assert 80 <= server.requests <= 80 + kills * limit
    assert are_whole(read_jsonl("raw.jsonl"), 20, 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_polite_kill_write_what_is_there_and_say_how_to_go_on(number: int) -> None:
    write_jsonl(questions(20), "questions.jsonl")
    with TeacherServer(delay=0.02) as server:
        # Tests that a script has put into the background would hand on that they ignore Ctrl-C.
        listening = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            process = start(*words(server, "--concurrency", "4"))
        finally:
            signal.signal(signal.SIGINT, listening)
        until(lambda: server.requests >= 18)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 130, stderr
        part = read_jsonl("raw.jsonl")
        assert f"raw.jsonl: {len(part)} of 20 rows" in stdout
        line = stderr.splitlines()[-1]
        assert line.startswith("stopped; go on with: ")
        assert 0 < len(part) < 20
        again = subprocess.run(line.partition("with: ")[2], shell=True, capture_output=True, text=True, timeout=60)
        assert again.returncode == 0, again.stderr
        assert 40 <= server.requests <= 44
    assert are_whole(read_jsonl("raw.jsonl"), 20, 1)
    assert all(row in read_jsonl("raw.jsonl") for row in part)


def test_two_processes_share_a_cache() -> None:
    """Each request is asked once, by one of them; both write every row."""
    write_jsonl(questions(15), "questions.jsonl")
    with TeacherServer(delay=0.01) as server:
        options = words(server, "--samples", "2", "--cache", "both")
        both = [start(*options), start(*options, "-o", "other.jsonl")]
        for process in both:
            output = process.communicate(timeout=60)
            assert process.returncode == 0, output
        assert server.requests == 60
    assert are_whole(read_jsonl("raw.jsonl"), 15, 2)
    assert Path("raw.jsonl").read_bytes() == Path("other.jsonl").read_bytes()


def test_what_a_killed_process_was_asking_is_asked_at_once_by_the_other() -> None:
    write_jsonl(questions(4), "questions.jsonl")
    with TeacherServer(faults=lambda ask: "hang" if ask.number <= 4 else None) as server:
        first = start(*words(server, "--concurrency", "4"))
        until(lambda: server.requests == 4)
        second = start(*words(server))
        time.sleep(1.5)  # long enough to come to the claimed requests
        assert (server.requests, second.poll()) == (4, None)
        first.kill()
        first.wait()
        output = second.communicate(timeout=60)
        assert second.returncode == 0, output
        assert server.requests == 4 + 8
    assert are_whole(read_jsonl("raw.jsonl"), 4, 1)


def test_a_full_disk_loses_nothing() -> None:
    write_jsonl(questions(60), "questions.jsonl")

    def says(ask: Ask) -> dict[str, Any]:
        return {"content": "Think. " * 300 + "8"}

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    with TeacherServer(says=says) as server:
        full = start(*words(server, "--concurrency", "4"), preexec_fn=small_disk)
        _, stderr = full.communicate(timeout=60)
        assert full.returncode == 1
        assert "error: cannot write the cache raw.jsonl.cache: " in stderr
        assert "the replies in it are safe: make room and run again" in stderr
        answered = server.answered
        assert 10 < answered < 120
        again = start(*words(server, "--concurrency", "4"))
        output = again.communicate(timeout=60)
        assert again.returncode == 0, output
        assert 120 <= server.requests <= 120 + 4
    assert [row.id for row in read_jsonl("raw.jsonl")] == [f"q{i}/0" for i in range(60)]


# --- cost ------------------------------------------------------------------------------------------------------------


def test_the_cost_is_counted() -> None:
    with TeacherServer() as server:
        asking = ask(plan(4), server, price=Price(2.0, 30.0))
    read = sum(len(a.text.split()) for a in server.asked)
    assert asking.asked == asking.total
    assert (asking.asked.requests, asking.asked.prompt_tokens) == (8, read)
    assert asking.asked.cost == pytest.approx((2 * read + 30 * asking.asked.completion_tokens) / 1e6)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 0.02), st.integers(1, 6))
def test_no_more_is_spent_than_allowed(folder: Path, most: float, limit: int) -> None:
    """What the server counts never costs more; going on with more money asks nothing twice."""
    price = Price(10.0, 100.0)

    def spent() -> float:
        said = sum(price.of(len(a.text.split()), 2 if "Therefore" in a.text else 14) for a in server.asked)
        assert server.answered == server.requests
        return said

    (folder / "cache").unlink(missing_ok=True)
    with TeacherServer() as server:
        asking = ask(plan(6), server, concurrency=limit, price=price, max_cost=most)
        assert spent() <= most
        assert asking.total.cost <= most
        assert asking.stopped == (asking.done < 6)
        more = ask(plan(6), server, price=price, max_cost=1.0)
        assert (more.done, more.stopped, server.requests) == (6, False, 12)
        assert more.total.cost == pytest.approx(spent(), rel=0.2)


def test_the_command_says_how_to_go_on_with_more_money() -> None:
    write_jsonl(questions(12), "questions.jsonl")
    options = ("--price", "10,100", "--max-tokens", "20", "--concurrency", "2")  # few rows are begun at a time
    with TeacherServer() as server:
        poor = tacit_(*words(server, *options, "--max-cost", "0.015"))
        part = len(read_jsonl("raw.jsonl"))
        assert (poor.exit_code, 0 < part < 12) == (1, True)
        assert f"the next request could exceed --max-cost; {part} of 12 rows are there; go on, with a" in poor.stderr
        same = tacit_(*words(server, *options, "--max-cost", "0.015"))
        assert (same.exit_code, server.requests < 20) == (1, True)
        assert tacit_(*words(server, *options, "--max-cost", "1")).exit_code == 0
        assert server.requests == 24
    assert are_whole(read_jsonl("raw.jsonl"), 12, 1)


# --- requests --------------------------------------------------------------------------------------------------------


def bodies(plan: Plan) -> dict[str, dict[str, Any]]:
    """The first request of every sample, by its name in the cache."""
    return {plan.key(body, sample): body for question, sample in plan for body in [next(plan.talk(question, sample))]}


@given(st.integers(1, 4), st.integers(1, 4))
def test_a_larger_d_changes_nothing_of_the_smaller_one(small: int, more: int) -> None:
    less, all_ = (bodies(plan(3, samples=d, temperature=0.7)) for d in (small, small + more))
    assert less.items() <= all_.items()
    assert len(all_) == 3 * (small + more)
    assert len({body["seed"] for body in all_.values()}) == len(all_)


def test_whatever_changes_a_request_changes_its_name() -> None:
    plans = [
        plan(2),
        plan(2, model="other"),
        plan(2, chat=False),
        plan(2, temperature=0.3),
        plan(2, max_tokens=99),
        plan(2, prompt="zero-shot"),
        plan(2, extra_body={"top_p": 0.5}),
        plan(2, identity="other weights"),
        plan(2, generation_config=True),
    ]
    names = [set(bodies(one)) for one in plans]
    assert all(not a & b for a, b in itertools.combinations(names, 2))


def test_extra_fields_are_added_replaced_and_taken_away() -> None:
    changed = plan(
        1, temperature=1.0, extra_body={"top_p": 0.5, "max_tokens": None, "max_completion_tokens": 7, "seed": 3}
    )
    body = next(iter(bodies(changed).values()))
    assert set(body) == {"model", "messages", "temperature", "top_p", "max_completion_tokens", "seed"}
    assert (body["seed"], changed.limit(body)) == (3, 7)


def test_an_estimate_knows_what_is_there() -> None:
    whole = estimate(plan(6), None, Price(1.0, 1.0))
    with TeacherServer() as server:
        ask(plan(2), server)
        rest = estimate(plan(6), Cache("cache"), Price(1.0, 1.0))
    assert (whole.requests, rest.requests) == (12, 8)
    assert 0 < rest.cost < whole.cost
    assert whole.cost == pytest.approx((whole.prompt_tokens + whole.completion_tokens) / 1e6)


# --- the cache -------------------------------------------------------------------------------------------------------

replies = st.builds(
    Reply,
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.none() | st.sampled_from(["stop", "length"]),
    st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens"]), st.integers(0, 10**9)),
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text("0123456789abcdef", min_size=64, max_size=64), replies, max_size=5), replies)
def test_a_cache_keeps_the_first_reply(folder: Path, kept: dict[str, Reply], late: Reply) -> None:
    (folder / "cache").unlink(missing_ok=True)
    cache = Cache("cache")
    for key, reply in kept.items():
        assert cache.get(key) is None
        cache.put(key, reply)
        cache.put(key, late)
    cache.close()
    assert {key: Cache("cache").get(key) for key in kept} == kept


def test_a_claim_is_for_one() -> None:
    cache, key = Cache("cache"), key_of("", {}, 0)
    assert cache.claim(key)
    assert not cache.claim(key)
    assert cache.claim(key_of("", {}, 1))
    cache.release(key)
    assert cache.claim(key)
    cache.put(key, Reply("7"))
    cache.release(key)
    assert not cache.claim(key)  # it was answered


@pytest.mark.parametrize("content", [b"not a database, but long enough to look at" * 50, "other"])
def test_a_file_that_is_no_cache_is_left_alone(content: bytes | str) -> None:
    if isinstance(content, bytes):
        Path("cache").write_bytes(content)
    else:
        sqlite3.connect("cache").execute("CREATE TABLE letters (text)").connection.commit()
    before = Path("cache").read_bytes()
    with pytest.raises(TacitError, match=r"cache: (another program's database|file is not a database)"):
        Cache("cache")
    assert Path("cache").read_bytes() == before


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(TacitError, match="cannot open the cache missing/cache: unable to open database file"):
        Cache("missing/cache")


def test_the_command_imports_nothing_heavy_before_it_is_used() -> None:
    code = "import sys, tacit.cli.generate; print(*{'torch', 'transformers', 'openai', 'asyncio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr
