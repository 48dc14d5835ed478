"""Files of other projects: the official ones come back byte for byte, and what a format cannot carry is refused."""

import json
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tacit import formats
from tacit.errors import TacitError
from tacit.formats import (
    format_gsm8k,
    format_gsm8k_socratic,
    format_icot,
    parse_gsm8k,
    parse_gsm8k_socratic,
    parse_icot,
    split_steps,
)
from tacit.trace import Step, Trace, read_jsonl, write_jsonl


def texts(trace: Trace) -> list[str]:
    return [step.text for step in trace.steps]


# --- official files --------------------------------------------------------------------------------------------------

ICOT_FILES = {
    **{f"multiplication/{n}x{n}_valid.txt": (1000, {"terms": 1000}) for n in (4, 5, 7, 9, 11)},
    "gsm8k_icot/valid.txt": (500, {"spans": 494, "sentences": 6}),  # the six have no chain
    "gsm8k_icot/train_no_aug.txt": (6973, {"sentences": 6973}),
}


@pytest.mark.shared
@pytest.mark.parametrize("name", ICOT_FILES)
def test_official_icot_files_come_back_byte_for_byte(shared: Path, tmp_path: Path, name: str) -> None:
    count, rules = ICOT_FILES[name]
    original = shared / "data" / name
    traces = formats.read(original, "icot")
    assert len(traces) == count
    assert Counter(trace.source["steps"] for trace in traces) == rules
    formats.write(traces, tmp_path / "direct.txt", "icot")
    assert (tmp_path / "direct.txt").read_bytes() == original.read_bytes()
    # and by way of the trace contract
    formats.write(traces, tmp_path / "traces.jsonl")
    formats.write(formats.read(tmp_path / "traces.jsonl"), tmp_path / "again.txt", "icot")
    assert (tmp_path / "again.txt").read_bytes() == original.read_bytes()


@pytest.mark.shared
def test_official_multiplication_has_a_step_for_every_digit(shared: Path) -> None:
    for n in (4, 5, 7, 9, 11):
        for trace in formats.read(shared / "data" / "multiplication" / f"{n}x{n}_valid.txt", "icot"):
            assert len(trace.steps) == n
            assert all(step.text.startswith("+ ") for step in trace.steps[1:])


@pytest.mark.shared
def test_official_icot_chains_without_steps(shared: Path) -> None:
    traces = formats.read(shared / "data" / "gsm8k_icot" / "valid.txt", "icot")
    assert Counter(len(trace.steps) for trace in traces)[0] == 6
    assert all(text.startswith("<<") and text.endswith(">>") for trace in traces for text in texts(trace))


@pytest.mark.shared
@pytest.mark.parametrize(("part", "count"), [("train", 7473), ("test", 1319)])
def test_official_gsm8k(shared: Path, tmp_path: Path, part: str, count: int) -> None:
    files = {"gsm8k": f"{part}.jsonl", "gsm8k-socratic": f"{part}_socratic.jsonl"}
    read = {name: formats.read(shared / "data" / "gsm8k" / file, name) for name, file in files.items()}
    for name, traces in read.items():
        assert len(traces) == count
        lines = (shared / "data" / "gsm8k" / files[name]).read_text("utf-8").split("\n")[:-1]
        formats.write(traces, tmp_path / "out.jsonl", name)
        assert formats.read(tmp_path / "out.jsonl", name) == traces
        for line, written in zip(lines, (tmp_path / "out.jsonl").read_text("utf-8").split("\n")[:-1], strict=True):
            wanted = json.loads(line)
            solution = [text for text in wanted["answer"].split("\n") if text.strip() and not text.endswith(" ** ")]
            assert json.loads(written) == {**wanted, "answer": "\n".join(solution)}  # a few hold a blank line
        write_jsonl(traces, tmp_path / "traces.jsonl")
        assert read_jsonl(tmp_path / "traces.jsonl") == traces
    for plain, socratic in zip(read["gsm8k"], read["gsm8k-socratic"], strict=True):
        assert texts(plain) == texts(socratic)
        assert (plain.question, plain.answer) == (socratic.question, socratic.answer)
        assert [step.answer for step in plain.steps] == [step.answer for step in socratic.steps]
        assert all(step.question for step in socratic.steps)


# --- icot ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "question", "steps", "answer"),
    [
        ("q|| #### 7", "q", [], "7"),
        ("q||#### 7", "q", [], "7"),
        ("q||<<1+1=2>> #### 2", "q", ["<<1+1=2>>"], "2"),
        ("q||<<1+1=2>> <<2*2=4>> #### 1,000", "q", ["<<1+1=2>>", "<<2*2=4>>"], "1,000"),
        ("q||So <<1+1=2>>2. Then 3. #### 3", "q", ["So <<1+1=2>>2.", "Then 3."], "3"),
        ("a #### b||c #### d #### 3", "a #### b", ["c #### d"], "3"),
        ("1 * 2||2 0 + 0 #### 2 0", "1 * 2", ["2 0", "+ 0"], "2 0"),
        ("q|no||c #### 1", "q|no", ["c"], "1"),
        ("q||It costs 3.5 dollars. 4 are left. #### 4", "q", ["It costs 3.5 dollars.", "4 are left."], "4"),
    ],
)
def test_icot_lines(line: str, question: str, steps: list[str], answer: str) -> None:
    trace = parse_icot(line)
    assert (trace.question, texts(trace), trace.answer) == (question, steps, answer)
    assert parse_icot(format_icot(trace)) == trace


def test_the_empty_chain_is_written_as_the_official_files_do() -> None:
    assert format_icot(Trace("q", (), "7")) == "q|| #### 7"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("no separator #### 7", "expected exactly one '||' between input and chain, found 0"),
        ("a||b||c #### 7", "expected exactly one '||' between input and chain, found 2"),
        ("a||b", "no '####' before the answer"),
        ("a #### 7||b", "no '####' before the answer"),
        ("||b #### 7", "the input is empty"),
        ("a||b ####  ", "the answer is empty"),
    ],
)
def test_bad_icot_lines(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(f"q||c #### 1\n{line}\n")
    with pytest.raises(TacitError) as caught:
        formats.read(path, "icot")
    assert str(caught.value) == f"{path}:2: {expected}"


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        (Trace("a || b", (), "c"), "field 'question' holds '||', which icot cannot carry"),
        (Trace("a", (Step("b || c"),), "c"), "field 'steps' holds '||', which icot cannot carry"),
        (Trace("a", (), "b || c"), "field 'answer' holds '||', which icot cannot carry"),
        (Trace("a", (), "b", gold="c #### d"), "field 'answer' holds '####', which icot cannot carry"),
        (Trace("a\nb", (), "c"), "field 'question' holds a line break, which icot cannot carry"),
        (Trace("a", (Step("b\nc"),), "d"), "field 'steps' holds a line break, which icot cannot carry"),
        (Trace("a", (), "c\r"), "field 'answer' holds a line break, which icot cannot carry"),
    ],
)
def test_what_icot_cannot_carry(tmp_path: Path, trace: Trace, expected: str) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old\n")
    with pytest.raises(TacitError) as caught:
        formats.write([Trace("fine", (), "fine"), trace], path, "icot")
    assert str(caught.value) == f"trace {trace.id}: {expected}"
    assert path.read_text() == "old\n"


def test_gold_is_what_is_written() -> None:
    trace = Trace("q", (Step("s"),), "wrong", gold="right")
    assert format_icot(trace) == "q||s #### right"
    assert json.loads(format_gsm8k(trace))["answer"] == "s\n#### right"


plain = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text.strip())


@given(plain, st.lists(plain, max_size=4), plain)
def test_a_format_carries_a_text_whole_or_refuses_it(question: str, chain: list[str], answer: str) -> None:
    question, answer = question.strip(), answer.strip()
    trace = Trace(question, tuple(Step(text.strip(), question="why") for text in chain), answer)
    for name in ("gsm8k", "gsm8k-socratic", "icot"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "file")
            try:
                formats.write([trace], path, name)
            except TacitError:
                assert not path.exists()
                continue
            (back,) = formats.read(path, name)
        assert (back.question, back.answer) == (question, answer)
        if name == "icot":  # which knows no steps: a rule finds them again
            assert "".join("".join(texts(back)).split()) == "".join("".join(texts(trace)).split())
        else:
            assert texts(back) == texts(trace)


# --- gsm8k -----------------------------------------------------------------------------------------------------------


def test_gsm8k_steps_and_their_answers() -> None:
    solution = "Half of 48 is <<48/2=24>>24.\n\nNo sum here.\nSo <<1+1=2>>2, and <<2*3=6>>6 in all.\n#### 1,006"
    trace = parse_gsm8k(json.dumps({"question": "q", "answer": solution}))
    assert [step.answer for step in trace.steps] == ["24", None, "6"]
    assert trace.answer == "1,006"
    assert trace.source == {"format": "gsm8k", "steps": "lines"}


def test_gsm8k_socratic_sub_questions() -> None:
    line = json.dumps({"question": "q", "answer": "Why? ** As 2 ** 3 = <<2**3=8>>8.\nAlone? ** \n#### 8"})
    trace = parse_gsm8k_socratic(line)
    assert trace.steps == (Step("As 2 ** 3 = <<2**3=8>>8.", question="Why?", answer="8"),)
    assert parse_gsm8k_socratic(format_gsm8k_socratic(trace)) == trace


def test_gsm8k_without_steps() -> None:
    line = json.dumps({"question": "q", "answer": "#### 5"})
    for parse, write in ((parse_gsm8k, format_gsm8k), (parse_gsm8k_socratic, format_gsm8k_socratic)):
        trace = parse(line)
        assert (trace.steps, trace.answer) == ((), "5")
        assert write(trace) == line


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        ("gsm8k", "{", "not JSON"),
        ("gsm8k", "[" * 100_000, "not JSON that can be read"),
        ("gsm8k", '["question", "answer"]', "field 'question' is missing or not a string"),
        ("gsm8k", '{"question": 3, "answer": "#### 1"}', "field 'question' is missing or not a string"),
        ("gsm8k", '{"question": "q"}', "field 'answer' is missing or not a string"),
        ("gsm8k", '{"question": "q", "answer": "1"}', "field 'answer': no '####' before the final answer"),
        ("gsm8k", '{"question": "q", "answer": "s\\n####"}', "the final answer is empty"),
        ("gsm8k", '{"question": " ", "answer": "#### 1"}', "the question is empty"),
        ("gsm8k-socratic", '{"question": "q", "answer": "s\\n#### 1"}', "field 'answer': step 0 has no ' ** '"),
    ],
    ids=range(9),
)
def test_bad_gsm8k_lines(tmp_path: Path, name: str, line: str, expected: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(f"\n{line}\n")
    with pytest.raises(TacitError) as caught:
        formats.read(path, name)
    assert str(caught.value).startswith(f"{path}:2: {expected}")


@pytest.mark.parametrize(
    ("name", "trace", "expected"),
    [
        ("gsm8k", Trace("q", (Step("a\nb"),), "c"), "field 'steps[0]' holds a line break, which gsm8k cannot carry"),
        ("gsm8k", Trace("q", (), "c #### d"), "field 'answer' holds '####', which gsm8k cannot carry"),
        ("gsm8k-socratic", Trace("q", (Step("a"),), "c"), "field 'steps[0].question' is missing"),
        ("gsm8k-socratic", Trace("q", (Step("a", "b ** c"),), "c"), "field 'steps[0].question' holds ' ** '"),
    ],
)
def test_what_gsm8k_cannot_carry(tmp_path: Path, name: str, trace: Trace, expected: str) -> None:
    with pytest.raises(TacitError) as caught:
        formats.write([trace], tmp_path / "out.jsonl", name)
    assert str(caught.value).startswith(f"trace {trace.id}: {expected}")
    assert not list(tmp_path.iterdir())


# --- steps out of free text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chain", "steps", "rule"),
    [
        ("", [], "sentences"),
        ("one\n\n two \nthree", ["one", "two", "three"], "lines"),
        ("<<1+1=2>>", ["<<1+1=2>>"], "spans"),
        ("<<1+1=2>> <<2+2=4>>", ["<<1+1=2>>", "<<2+2=4>>"], "spans"),
        ("1 2 + 0 3 ( 1 5 ) + 0 0 4", ["1 2", "+ 0 3 ( 1 5 )", "+ 0 0 4"], "terms"),
        ("Half is left. So 3.5 kg! Right?", ["Half is left.", "So 3.5 kg!", "Right?"], "sentences"),
        ("one sentence without an end", ["one sentence without an end"], "sentences"),
    ],
)
def test_free_text_is_split_by_a_stated_rule(chain: str, steps: list[str], rule: str) -> None:
    assert split_steps(chain) == (steps, rule)


@given(plain)
def test_splitting_loses_nothing_but_white_space(chain: str) -> None:
    steps, rule = split_steps(chain)
    assert "".join("".join(steps).split()) == "".join(chain.split())
    assume(rule != "lines")
    assert all(step.strip() for step in steps)


# --- names -----------------------------------------------------------------------------------------------------------


def test_an_unknown_format_names_the_nearest(tmp_path: Path) -> None:
    for call in (lambda: formats.read(tmp_path / "x", "gsm8"), lambda: formats.write([], tmp_path / "x", "gsm8")):
        with pytest.raises(TacitError, match="unknown format 'gsm8'; did you mean 'gsm8k'"):
            call()
    with pytest.raises(TacitError, match="choose from: gsm8k, gsm8k-socratic, icot, tacit"):
        formats.read(tmp_path / "x", "parquet")
