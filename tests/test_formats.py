"""Files of other projects: the official ones come back byte for byte, and what a format cannot carry is refused."""

import json
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tacit import formats
from tacit.errors import TacitError
from tacit.formats import (
    format_gsm8k,
    format_gsm8k_socratic,
    format_icot,
    format_messages,
    parse_gsm8k,
    parse_gsm8k_socratic,
    parse_icot,
    parse_messages,
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
def test_official_multiplication_has_a_step_for_every_term_and_sum(shared: Path) -> None:
    for n in (4, 5, 7, 9, 11):
        for trace in formats.read(shared / "data" / "multiplication" / f"{n}x{n}_valid.txt", "icot"):
            opened = "".join(step.text[:1] if index else "" for index, step in enumerate(trace.steps))
            assert opened == "+(" * (n - 2) + "+"


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
            solution = [text for text in wanted["answer"].split("\n") if text.strip()]  # a few hold a blank line
            assert json.loads(written) == {**wanted, "answer": "\n".join(solution)}
        write_jsonl(traces, tmp_path / "traces.jsonl")
        assert read_jsonl(tmp_path / "traces.jsonl") == traces
    for plain, socratic in zip(read["gsm8k"], read["gsm8k-socratic"], strict=True):
        told = [step for step in socratic.steps if step.text]
        assert texts(plain) == [step.text for step in told]
        assert (plain.question, plain.answer) == (socratic.question, socratic.answer)
        assert [step.answer for step in plain.steps] == [step.answer for step in told]
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
@example("a|", [], "0")
@example("a", ["|b"], "0")
def test_a_format_carries_a_text_whole_or_refuses_it(question: str, chain: list[str], answer: str) -> None:
    question, answer = question.strip(), answer.strip()
    trace = Trace(question, tuple(Step(text.strip(), question="why") for text in chain), answer)
    for name in ("gsm8k", "gsm8k-socratic", "icot", "messages"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "file")
            try:
                formats.write([trace], path, name)
            except TacitError:
                assert not path.exists()
                continue
            (back,) = formats.read(path, name)
        assert (back.question, back.answer) == (question, answer)
        if name in ("icot", "messages"):  # which know no steps: a rule finds them again
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
    assert trace.steps == (Step("As 2 ** 3 = <<2**3=8>>8.", question="Why?", answer="8"), Step("", question="Alone?"))
    assert parse_gsm8k_socratic(format_gsm8k_socratic(trace)) == trace
    assert format_gsm8k_socratic(trace) == line


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


# --- messages --------------------------------------------------------------------------------------------------------


def chat(*turns: tuple[str, str], **last: object) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    messages[-1].update(last)
    return json.dumps({"messages": messages})


@pytest.mark.parametrize(
    ("reply", "last", "steps", "answer", "marked"),
    [
        ("2 and 2.\nThat is 4.\n#### 4", {}, ["2 and 2.", "That is 4."], "4", True),
        ("#### 4", {}, [], "4", True),
        ("#### no\n#### 4.0", {}, ["#### no"], "4.0", True),
        ("It is 2 + 2. So the answer is 4.", {}, ["It is 2 + 2."], "4", True),
        ("I count.\n\n**Final Answer:** 1,004 apples\nHope it helps!", {}, ["I count."], "1,004 apples", True),
        (
            "The answer is 3. No, wait. Therefore, the final answer is: 4.",
            {},
            ["The answer is 3.", "No, wait."],
            "4",
            True,
        ),
        ("<think>\n2 and 2.\nIs 4.\n</think>\n\nIt is 4.", {}, ["2 and 2.", "Is 4."], "It is 4.", False),
        ("<think>2 and 2</think>Well. #### 4", {}, ["2 and 2"], "4", True),
        ("2 and 2</think>4", {}, ["2 and 2"], "4", False),  # the chat template wrote the opening
        ("<think>\n\n</think>\n\n4", {}, [], "4", False),
        ("<think>2 and 2 and 2 and", {}, ["2 and 2 and 2 and"], "", False),  # cut
        ("4", {"reasoning_content": "2 and 2"}, ["2 and 2"], "4", False),
        ("4", {"reasoning": "2 and 2"}, ["2 and 2"], "4", False),
        ("The answer is 4.", {"thinking": "2 and 2"}, ["2 and 2"], "4", True),
        (None, {"reasoning_content": "2 and 2 and"}, ["2 and 2 and"], "", False),
        ("4", {"reasoning_content": None, "tool_calls": []}, [], "4", False),
        ([{"type": "text", "text": "2 and 2."}, {"type": "text", "text": " #### 4"}], {}, ["2 and 2."], "4", True),
        ("just 4", {}, [], "just 4", False),
        (r"It is 2 + 2. So \boxed{4}.", {}, ["It is 2 + 2.", r"So \boxed{4}."], "4", True),  # the box is no mark
        (r"It is 2 + 2. Therefore, the answer is \( \boxed{4} \).", {}, ["It is 2 + 2."], "4", True),
        (
            r"The answer is not 3. It is $\boxed{1}$, or $\boxed{\frac{4}{\sqrt{1}}}$",
            {"thinking": "2 and 2"},
            ["2 and 2"],
            r"\frac{4}{\sqrt{1}}",
            True,
        ),
        (r"So \boxed{4", {}, [], r"So \boxed{4", False),
        ("\\boxed{3} #### 4", {}, ["\\boxed{3}"], "4", True),
    ],
)
def test_replies_in_messages(reply: object, last: dict, steps: list[str], answer: str, marked: bool) -> None:
    trace = parse_messages(chat(("user", "2 + 2?"), ("assistant", reply), **last))
    steps = [text for step in steps for text in step.split("\n") if text]
    assert (trace.question, texts(trace), trace.answer, trace.gold) == ("2 + 2?", steps, answer, None)
    assert trace.source["marked"] is marked
    assert answer in trace.source["completion"]
    assert Trace.from_dict(trace.to_dict()) == trace
    # ShareGPT's names for the same
    turns = [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": reply, **last}]
    assert parse_messages(json.dumps({"conversations": turns})) == trace


def test_a_chat_of_several_turns_is_one_trace_of_its_last_reply() -> None:
    turns = [
        ("system", "Be brief."),
        ("user", "2 + 2?"),
        ("assistant", "4"),
        ("user", "And 1?"),
        ("assistant", "#### 5"),
    ]
    trace = parse_messages(chat(*turns))
    assert trace.question == "user: 2 + 2?\n\nassistant: 4\n\nuser: And 1?"
    assert (trace.answer, trace.source["system"]) == ("5", "Be brief.")
    written = json.loads(format_messages(trace))["messages"]
    assert [message["role"] for message in written] == ["system", "user", "assistant"]
    assert parse_messages(json.dumps({"messages": written})).question == trace.question


def test_other_fields_of_a_chat_are_carried_along() -> None:
    record = {"id": 7, "dataset": "mine", "score": 0.5, **json.loads(chat(("user", "q"), ("assistant", "#### 1")))}
    trace = parse_messages(json.dumps(record))
    assert (trace.id, trace.source["dataset"], trace.source["score"]) == ("7", "mine", 0.5)


def test_messages_that_are_written() -> None:
    trace = Trace("2 + 2?", (Step("2 and 2."), Step("So 4.")), "5", gold="4")
    assert json.loads(format_messages(trace)) == {
        "messages": [
            {"role": "user", "content": "2 + 2?"},
            {"role": "assistant", "content": "2 and 2.\nSo 4.\n#### 4"},
        ]
    }


USER = {"role": "user", "content": "q"}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ([], "expected an object with the field 'messages' (OpenAI) or 'conversations' (ShareGPT)"),
        ({"prompt": "q"}, "expected an object with the field 'messages' (OpenAI) or 'conversations' (ShareGPT)"),
        ({"messages": "q"}, "field 'messages' is not a list"),
        (
            {"messages": []},
            "field 'messages': expected a user's message and the assistant's last, the last is no one's",
        ),
        (
            {"messages": [USER]},
            "field 'messages': expected a user's message and the assistant's last, the last is user's",
        ),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "field 'messages': expected a user's message and"),
        ({"messages": [USER, "a"]}, "field 'messages[1]' is not an object"),
        ({"messages": [USER, {"content": "a"}]}, "field 'messages[1]': no 'role' (or 'from') says who speaks"),
        ({"messages": [{"role": "user"}, USER]}, "field 'messages[0]': no text in 'content' (or 'value')"),
        ({"messages": [{**USER, "content": " "}]}, "field 'messages[0]': no text in 'content' (or 'value')"),
        ({"messages": [{**USER, "content": [{"type": "image_url"}]}]}, "field 'messages[0]': no text in 'content'"),
        ({"conversations": [{"from": "human", "value": 3}]}, "field 'conversations[0]': no text in 'content'"),
    ],
)
def test_bad_messages(tmp_path: Path, record: object, expected: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{chat(('user', 'q'), ('assistant', 'a'))}\n{json.dumps(record)}\n")
    with pytest.raises(TacitError) as caught:
        formats.read(path, "messages")
    assert str(caught.value).startswith(f"{path}:2: {expected}")


# --- whole files of JSON ---------------------------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize(("part", "count"), [("train", 2061), ("dev", 229)])
def test_official_strategyqa(shared: Path, part: str, count: int) -> None:
    path = shared / "data" / "strategyqa" / f"{part}.json"
    traces = formats.read(path, "strategyqa")
    records = json.loads(path.read_text("utf-8"))
    assert len(traces) == len(records) == count
    for trace, record in zip(traces, records, strict=True):
        assert (trace.id, trace.question) == (record["qid"], record["question"])
        assert trace.answer == ("yes" if record["answer"] else "no")
        assert [step.question for step in trace.steps] == record["decomposition"]
        assert [step.answer for step in trace.steps] == [None] * (len(trace.steps) - 1) + [trace.answer]
        assert trace.source["facts"] == record["facts"]
        assert Trace.from_dict(trace.to_dict()) == trace


@pytest.mark.shared
def test_official_svamp(shared: Path) -> None:
    traces = formats.read(shared / "data" / "svamp" / "SVAMP.json", "svamp")
    unified = json.loads((shared / "data" / "fine-tune-cot-datasets" / "svamp.json").read_text("utf-8"))
    assert len(traces) == len(unified) == 1000
    assert [" ".join(trace.question.split()) for trace in traces] == [
        " ".join(one["question"].split()) for one in unified
    ]
    assert [float(trace.answer) for trace in traces] == [float(one["answer"]) for one in unified]
    assert all(trace.answer.isdigit() for trace in traces)  # 51, not 51.0
    assert all(len(trace.steps) == 1 for trace in traces)


STRATEGY = {
    "qid": "a",
    "question": "Is it?",
    "answer": True,
    "facts": ["It is."],
    "decomposition": ["What?", "Is #1?"],
}
SVAMP = {"ID": "a", "Body": "3 boys.", "Question": "How many?", "Equation": "( 3.0 )", "Answer": 3.0, "Type": "x"}


@pytest.mark.parametrize(
    ("name", "record", "expected"),
    [
        ("strategyqa", "text", "not a JSON object"),
        ("strategyqa", {**STRATEGY, "question": ""}, "field 'question' is missing or empty"),
        ("strategyqa", {**STRATEGY, "question": 3}, "field 'question' is not text"),
        ("strategyqa", {**STRATEGY, "answer": "yes"}, "field 'answer' is not true or false"),
        ("strategyqa", {**STRATEGY, "decomposition": ["What?", 3]}, "field 'decomposition' is not a list of texts"),
        ("strategyqa", {**STRATEGY, "facts": None}, "field 'facts' is missing"),
        ("svamp", {**SVAMP, "Answer": "3"}, "field 'Answer' is not a number"),
        ("svamp", {**SVAMP, "Answer": True}, "field 'Answer' is not a number"),
        ("svamp", {**SVAMP, "Body": None}, "field 'Body' is missing or empty"),
        ("svamp", {}, "field 'Body' is missing or empty"),
    ],
)
def test_bad_records(tmp_path: Path, name: str, record: object, expected: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps([STRATEGY if name == "strategyqa" else SVAMP, record], indent=1))
    with pytest.raises(TacitError) as caught:
        formats.read(path, name)
    assert str(caught.value) == f"{path}: record 2: {expected}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[\n{"ID" 1}]', "not JSON (Expecting ':' delimiter at line 2, column 7)"),
        ("{}", "not one JSON list of records"),
        ("[]", "no traces"),
    ],
)
def test_bad_json_files(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    for name in ("svamp", "strategyqa"):
        with pytest.raises(TacitError) as caught:
            formats.read(path, name)
        assert str(caught.value).startswith(f"{path}: {expected}")


# --- the logs of Zero-shot-CoT ---------------------------------------------------------------------------------------

LINE = "*" * 25
HEADER = """*****************************
Namespace(cot_trigger="Let's think step by step.", dataset='multiarith', decode_strategy='greedy', model='gpt3-xl')
*****************************
setup data loader ...
OPENAI_API_KEY:
sk-not-a-key
"""
NUMBER_TRIGGER = "Therefore, the answer (arabic numerals) is"
# Items and right answers of the official logs, as the data's README counts them.
LOGS = {
    "addsub": (395, 275),
    "singleeq": (508, 396),
    "multiarith": (600, 472),
    "date_understanding": (369, 249),
    "shuffled_objects": (750, 393),
    "coin_flip": (500, 457),
    "last_letters": (500, 288),
    "strategyqa": (2290, 1254),
}


def block(
    number: int, question: str, rationale: str, completion: str, gold: str, trigger: str = NUMBER_TRIGGER
) -> str:
    """A block as the official program prints it."""
    answer = completion.strip().partition("\n")[0].rstrip(".")
    return (
        f"{LINE}\n{number}st data\n1_th_sampling\nQ: {question}\nA: Let's think step by step.{rationale} \n"
        f"{trigger}{completion}\npred_before : {completion}\npred_after : {answer}\npred_list : ['{answer}']\n"
        f"pred_mode : {answer}\nGT : {gold}\n{LINE}\n"
    )


def read_log(folder: Path, text: str) -> list[Trace]:
    path = folder / "some.log"
    path.write_text(text, newline="")
    return formats.read(path, "zero-shot-cot-log")


def log_fails(folder: Path, text: str) -> str:
    with pytest.raises(TacitError) as caught:
        read_log(folder, text)
    assert str(caught.value).startswith(f"{folder / 'some.log'}: ")
    return str(caught.value).removeprefix(f"{folder / 'some.log'}: ")


@pytest.mark.shared
@pytest.mark.parametrize("name", LOGS)
def test_official_logs(shared: Path, name: str) -> None:
    path = shared / "data" / "zero_shot_cot" / "log" / f"{name}_zero_shot_cot.log"
    traces = formats.read(path, "zero-shot-cot-log")
    assert (len(traces), sum(trace.answer == trace.gold for trace in traces)) == LOGS[name]
    assert len({trace.id for trace in traces}) == len(traces)
    text = path.read_text("utf-8")
    for trace in traces:
        source = trace.source
        assert f"Q: {trace.question}\nA: Let's think step by step.{source['rationale']}" in text
        assert f" is{source['completion']}\npred_before : " in text
        assert "".join("".join(texts(trace)).split()) == "".join(source["rationale"].split())
        assert (source["model"], source["temperature"], source["prompt"]) == ("gpt3-xl", 0, "zero-shot-cot")
        assert source["marked"] is True
        assert trace.id == f"{source['question_id']}/{source['sample']}"
        assert Trace.from_dict(trace.to_dict()) == trace


@pytest.mark.shared
def test_official_log_and_its_data(shared: Path) -> None:
    data = json.loads((shared / "data" / "zero_shot_cot" / "MultiArith" / "MultiArith.json").read_text("utf-8"))
    log = shared / "data" / "zero_shot_cot" / "log" / "multiarith_zero_shot_cot.log"
    traces = formats.read(log, "zero-shot-cot-log")
    wanted = Counter((one["sQuestion"].strip(), float(one["lSolutions"][0])) for one in data)
    assert Counter((trace.question, float(trace.gold)) for trace in traces) == wanted
    # Twenty questions come twice: they are two samples of one question.
    assert Counter(trace.source["sample"] for trace in traces) == {0: 580, 1: 20}


def test_a_log_block_by_block(tmp_path: Path) -> None:
    first = block(1, "How many?\nAnd why?", " \n\nThere are 2.\nSo 4.", " 4.", "5")
    second = block(2, "Who?", " The answer is 7. So what?", " 7 and\n\nthe answer is 8: or so", "7")
    one, two = read_log(tmp_path, f"{HEADER}{first}{second}accuracy : 50.0\n./log/some.json\n")
    assert (one.question, texts(one), one.answer, one.gold) == (
        "How many?\nAnd why?",
        ["There are 2.", "So 4."],
        "4",
        "5",
    )
    assert one.source == {
        "format": "zero-shot-cot-log",
        "question_id": one.id.removesuffix("/0"),
        "sample": 0,
        "model": "gpt3-xl",
        "prompt": "zero-shot-cot",
        "temperature": 0,
        "rationale": " \n\nThere are 2.\nSo 4.",
        "completion": " 4.",
        "marked": True,
        "extracted": "4",
        "steps": "lines",
    }
    assert (texts(two), two.source["completion"]) == (
        ["The answer is 7.", "So what?"],
        " 7 and\n\nthe answer is 8: or so",
    )
    assert one.source["question_id"] != two.source["question_id"]


def test_a_log_never_passes_on_its_header(tmp_path: Path) -> None:
    (trace,) = read_log(tmp_path, HEADER + block(1, "q", " r", " 4", "4"))
    assert "sk-not-a-key" not in json.dumps(trace.to_dict())


def test_logs_without_what_is_not_always_there(tmp_path: Path) -> None:
    said = f"Q: q\nA: Let's think step by step. r \n{NUMBER_TRIGGER} 4"
    bare = f"{LINE}\n{said}\npred_before :  4\npred_after : 4\nGT : 4\n{LINE}\n"
    published = bare.replace("\nQ: ", "\n1st data\nQ: ").replace("\nGT", "\npred : 4\nGT")
    for text in (bare, published, published.replace("\n", "\r\n"), f"\ufeff{published}"):
        (trace,) = read_log(tmp_path, text)
        assert (trace.question, texts(trace), trace.answer, trace.gold) == ("q", ["r"], "4", "4")
        assert not {"model", "temperature", "finish_reason"} & set(trace.source)


def test_a_log_without_chain_of_thought(tmp_path: Path) -> None:
    text = block(1, "q", "", " 4", "4").replace(f" Let's think step by step. \n{NUMBER_TRIGGER}", " The answer is")
    (trace,) = read_log(tmp_path, text)
    assert (trace.steps, trace.source["prompt"], trace.source["rationale"]) == ((), "zero-shot", "")


@pytest.mark.parametrize(
    "trigger",
    [
        NUMBER_TRIGGER,
        "Therefore, among A through E, the answer is",
        "Therefore, among A through F, the answer is",
        "Therefore, the answer (Yes or No) is",
        "Therefore, the answer is",
    ],
)
def test_every_trigger_of_the_official_program(tmp_path: Path, trigger: str) -> None:
    rationale = f" As we see.\n{trigger} 3, says Bob, but the answer is 4."
    (trace,) = read_log(tmp_path, block(1, "q", rationale, " 4.", "4", trigger))
    assert (trace.source["rationale"], trace.source["completion"]) == (rationale, " 4.")


def test_a_question_that_comes_again_is_its_next_sample(tmp_path: Path) -> None:
    traces = read_log(
        tmp_path, "".join(block(k, q, f" r{k}", " 4", "4") for k, q in enumerate(["a", "b", "a", "a"], 1))
    )
    assert [trace.source["sample"] for trace in traces] == [0, 0, 1, 2]
    assert len({trace.id for trace in traces}) == 4


said = st.text(st.sampled_from("ab .\n:0"), max_size=12)


@given(st.lists(st.tuples(plain, said, said), min_size=1, max_size=3))
def test_what_a_log_holds_comes_back(blocks: list[tuple[str, str, str]]) -> None:
    blocks = [(" ".join(question.split()), rationale, completion) for question, rationale, completion in blocks]
    text = "".join(block(k, q, f" {r}", f" {c}", "1") for k, (q, r, c) in enumerate(blocks, 1))
    with tempfile.TemporaryDirectory() as folder:
        traces = read_log(Path(folder), text)
    assert [(t.question, t.source["rationale"], t.source["completion"]) for t in traces] == [
        (question, f" {rationale}", f" {completion}") for question, rationale, completion in blocks
    ]


def test_a_log_that_is_cut_anywhere_names_the_block(tmp_path: Path) -> None:
    blocks = [block(k, f"q{k}", " First.\nThen.", " 14.", "14") for k in (1, 2)]
    whole = read_log(tmp_path, "".join(blocks))
    outcomes: Counter[str] = Counter()
    for cut in range(len(blocks[0]) - 40, len(blocks[0] + blocks[1]) + 1):
        text = "".join(blocks)[:cut]
        try:
            outcome = "read" if read_log(tmp_path, text) == whole[: text.count("Q: ")] else "altered"
        except TacitError as error:
            outcome = "block 1" if ", block 1: " in str(error) else str(error).partition(", ")[2][:7]
        outcomes[outcome] += 1
    # "12st" in the line behind the asterisks is not yet a block: the text behind block 1 is told.
    assert set(outcomes) == {"read", "block 1", "block 2"}
    assert min(outcomes.values()) > 20


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("\nA:", "\nB:", "line 14, block 2: cut short: no 'A:'"),
        ("\npred_before", "", "line 14, block 2: cut short: no 'pred_before :'"),
        ("\nGT : 7", "\nGT : ", "line 14, block 2: field 'GT' is not one line of text"),
        ("Q: who", "Q:  ", "line 14, block 2: field 'Q' is not one line of text"),
        ("\nQ: who", "\nwho", "line 14, block 2: cut short: no 'Q: '"),
        ("Let's think step by step.", "", "line 14, block 2: after 'A:' neither"),
        ("before :  7", "before :  8", "line 14, block 2: after 'A:' neither"),
        ("pred_list", "2_th_sampling", "line 14, block 2: unknown line before 'GT : ' (several samplings"),
        (f"7\n{LINE}", f"7\n{LINE}\nTraceback (most", "line 14, block 2: text behind the block that belongs to none"),
    ],
)
def test_bad_logs(tmp_path: Path, old: str, new: str, expected: str) -> None:
    fine, bad = block(1, "q", " r", " 4", "4"), block(2, "who", " r", " 7", "7")
    assert old in bad
    assert log_fails(tmp_path, fine + bad.replace(old, new, 1)).startswith(expected)
    assert log_fails(tmp_path, fine + bad.replace(old, new, 1) + fine).startswith(expected)


def test_text_that_is_no_log(tmp_path: Path) -> None:
    for text in ("", "text", HEADER, f"{LINE}\n", json.dumps({"question": "q", "steps": [], "answer": "a"})):
        assert log_fails(tmp_path, text).startswith("no block of a Zero-shot-CoT log")


# --- steps out of free text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chain", "steps", "rule"),
    [
        ("", [], "sentences"),
        ("one\n\n two \nthree", ["one", "two", "three"], "lines"),
        ("<<1+1=2>>", ["<<1+1=2>>"], "spans"),
        ("<<1+1=2>> <<2+2=4>>", ["<<1+1=2>>", "<<2+2=4>>"], "spans"),
        ("1 2 + 0 3 ( 1 5 ) + 0 0 4", ["1 2", "+ 0 3", "( 1 5 )", "+ 0 0 4"], "terms"),
        ("( 1 5 ) + ( 0 4 ) + 5", ["( 1 5 )", "+ ( 0 4 )", "+ 5"], "terms"),
        ("Half is left. So 3.5 kg! Right?", ["Half is left.", "So 3.5 kg!", "Right?"], "sentences"),
        ("Now Ada has it . now Ben has it .", ["Now Ada has it .", "now Ben has it ."], "sentences"),
        ("Ada : red ; Ben : blue ; so red", ["Ada : red ;", "Ben : blue ;", "so red"], "sentences"),
        ("he ran; it has 3 .5 and ...and no end", ["he ran; it has 3 .5 and ...and no end"], "sentences"),
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
    with pytest.raises(TacitError, match=f"choose from: {', '.join(sorted(formats.FORMATS))}"):
        formats.read(tmp_path / "x", "parquet")


def test_every_format_is_there() -> None:
    wanted = "tacit icot gsm8k gsm8k-socratic socratic strategyqa svamp messages zero-shot-cot-log"
    assert sorted(formats.FORMATS) == sorted(wanted.split())


def test_a_format_that_can_only_be_read(tmp_path: Path) -> None:
    for name in set(formats.FORMATS) - set(formats.WRITABLE):
        with pytest.raises(TacitError, match=f"format '{name}' can only be read; to write, choose from: tacit, icot"):
            formats.write([Trace("q", (), "a")], tmp_path / "x", name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", formats.READERS)
def test_files_that_cannot_be_read_as_a_whole(tmp_path: Path, name: str) -> None:
    def fails(data: bytes) -> str:
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(TacitError) as caught:
            formats.read(tmp_path / "x", name)
        return str(caught.value).removeprefix(f"{tmp_path}/")

    with pytest.raises(TacitError, match=f"{tmp_path}/missing: No such file"):
        formats.read(tmp_path / "missing", name)
    assert fails(b"\n\xff").startswith("x: not UTF-8 text (invalid start byte at byte 1)")
    assert fails(b"").startswith("x: not JSON" if name != "zero-shot-cot-log" else "x: no block of")


@pytest.mark.parametrize("name", formats.FORMATTERS)
def test_a_trace_without_an_answer_is_refused(tmp_path: Path, name: str) -> None:
    trace = Trace("q", (Step("s", question="why"),), "", source={"completion": ""})
    with pytest.raises(TacitError, match=f"trace {trace.id}: field 'answer' is empty, which {name} cannot carry"):
        formats.write([trace], tmp_path / "x", name)
