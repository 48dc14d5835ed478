"""The benchmark at toy size, beside a stand-in for the official code with the same functions; and its arithmetic."""

import dataclasses
import json
import os
import sys
import time
from multiprocessing import Pipe
from pathlib import Path
from threading import Thread
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from tacit.environment import environment
from tacit.errors import TacitError
from tacit.rendering import render
from tacit.stages import Batcher, Removal
from tacit.tasks import get_task

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import __main__ as program
from benchmarks import machine, page, training, turns
from benchmarks.official import Official
from benchmarks.turns import Turns, Work, _serve

CPU = torch.device("cpu")

# What the benchmark calls of the official code, in our words: it answers every problem with its first digit.
STAND_IN = {
    "train.py": """
import argparse
import tqdm
from transformers import AdamW
from data import CoTDataCollator, CoTDataset
from model import ImplicitModel, ImplicitModelConfig
from torch.utils.data import DataLoader

def main():
    parser = argparse.ArgumentParser()
    for name in ("model", "train_path", "val_path", "save_model"):
        parser.add_argument(f"--{name}")
    for name in ("batch_size", "remove_per_epoch", "removal_smoothing_lambda"):
        parser.add_argument(f"--{name}", type=float)
    for name in ("bf16", "reset_optimizer"):
        parser.add_argument(f"--{name}", action="store_true")
    args = parser.parse_args()
    model = ImplicitModel(ImplicitModelConfig(args.model))
    rows = CoTDataset(model.tokenizer, args.train_path)
    optimizer = AdamW(model.parameters())
    for batch in tqdm.tqdm(DataLoader(rows, int(args.batch_size), collate_fn=CoTDataCollator(model.tokenizer))):
        print("a step")
        model.compute_loss(batch["input_ids_all"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    raise AssertionError("there is no end of an epoch")
""",
    "generate.py": """
import tqdm
from transformers import AdamW
from torch.utils.data import DataLoader

def evaluate(dataloader, tokenizer, device, ctx, model, max_new_tokens):
    for batch in tqdm.tqdm(dataloader):
        (text,) = tokenizer.batch_decode(batch["input_ids_all"], skip_special_tokens=True)
        print("Input: " + text)
        print("Target: " + text)
        print("Predicted: " + model.generate(text))
""",
    "model.py": """
import torch
from configuration_model import ImplicitModelConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

class ImplicitModel(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.base_model = AutoModelForCausalLM.from_pretrained(config.base_model)
        self.tokenizer = AutoTokenizer.from_pretrained(config.base_model)

    def compute_loss(self, input_ids):
        return self.base_model(input_ids=input_ids, labels=input_ids).loss

    def generate(self, text, do_sample=True):
        assert not do_sample
        return "#### " + text.partition(" #### ")[2].strip()[:1]
""".replace(
        "def generate(self, text, do_sample=True):",
        "def generate(self, text, do_sample=False):\n        # do_sample=True",
    ),
    "data.py": """
import torch

class CoTDataset(list):
    def __init__(self, tokenizer, path):
        lines = [line.strip().replace("||", " ") for line in open(path)]
        super().__init__(tokenizer(line).input_ids for line in lines)

class CoTDataCollator:
    def __init__(self, tokenizer):
        self.eos = tokenizer.eos_token_id

    def __call__(self, rows):
        longest = max(map(len, rows))
        return {"input_ids_all": torch.tensor([row + [self.eos] * (longest - len(row)) for row in rows])}

def extract_answer(text):
    return text.partition("####")[2].strip()
""",
    "utils.py": "",
    "configuration_model.py": """
class ImplicitModelConfig:
    def __init__(self, base_model):
        self.base_model = base_model
""",
}


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    (tmp_path / "official" / "src").mkdir(parents=True)
    for name, text in STAND_IN.items():
        (tmp_path / "official" / "src" / name).write_text(text)
    return tmp_path / "official"


@pytest.fixture(autouse=True)
def any_precision():
    """Trainers of other precisions can be made before and after."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def test_the_program_without_training(stand_in, tmp_path, bpe_tokenizer, monkeypatch, capsys):
    bpe_tokenizer.save_pretrained(tmp_path / "gpt2")
    words = "--parts exact-match inference --layers 1 --width 16 --digits 2x2 --batches 1 3 --problems 24"
    words += f" --steps 2 --traces 160 --rounds 2 --official {stand_in} --tokenizer {tmp_path}/gpt2"
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words.split(), "-o", str(tmp_path / "result.json")])
    before = list(sys.path), [name for name in sys.modules if name in ("train", "utils", "model", "data")]
    program.main()
    assert before == (sys.path, [name for name in sys.modules if name in ("train", "utils", "model", "data")])
    result = json.loads((tmp_path / "result.json").read_text())
    chain = sum(len(step.text.split()) for step in get_task("multiplication").make(1, 0, digits="4x2")[0].steps)
    target = {"silent": 6 + 2, "explicit CoT": 6 + 2 + chain}
    rows = [row for row in result["inference"] if row["setting"].startswith("quickstart")]
    assert [(row["batch_size"], row["tokens"]) for row in rows] == [(n, target[m]) for n in (1, 3) for m in target]
    assert result["exact_match"]["generation_agrees"] == 24
    assert result["exact_match"]["official_agrees"] == round(24 * (1 - result["exact_match"]["exact_match"]))
    table = capsys.readouterr().out.strip()
    assert table == page.markdown(result)
    for row in result["ratios"]:
        assert f"| {row['what']} | {page._times(row['ratio'])} |" in table
    drawing = ElementTree.fromstring(page.chart(result))
    assert len([element for element in drawing.iter() if element.tag.endswith("circle")]) == len(result["ratios"])


def test_programs_beside_the_official_one(stand_in, capfd):
    tiny = training.gpt2("tiny", "3x2", 1, 16, "words", 64)
    trainer, bare, official = (training.Contestant(loop, "fp32", tiny, 4) for loop in ("trainer", "bare", "official"))
    pairs = [training.Comparison(trainer, other, "tokens", 0.5) for other in (official, bare)]
    impossible = dataclasses.replace(trainer, setting=dataclasses.replace(tiny, attn_implementation="none such"))
    impossible = dataclasses.replace(impossible, batch_size=8)
    pairs.append(training.Comparison(impossible, official, "tokens"))
    rows, ratios = training.measure([official, impossible, trainer], pairs, 2, 0.0, CPU, stand_in)
    assert "a step" not in capfd.readouterr().out
    failed = rows.pop()
    assert (failed["loop"], failed["batch_size"]) == ("trainer", 8)
    assert "none such" in failed["failed"]
    assert "| tiny | trainer | fp32 | 8 | failed: TacitError: cannot build a gpt2 model" in page.markdown(
        {"ratios": [], "training": [failed], "device": "cpu", "threads": 1, **environment()}
    )
    assert [row["loop"] for row in rows] == ["official", "trainer"]
    for row in rows:
        mean = np.mean(row["step_milliseconds"])  # as the median of two
        assert row["examples_per_second"] == pytest.approx(1000 * 4 / mean)
        assert row["tokens_per_second"] == pytest.approx(row["examples_per_second"] * row["tokens_per_example"])
        assert 0 < row["outside_model"] < 1
        assert row["mfu"] > 0
    (found,) = ratios
    theirs, ours = ([time / row["tokens_per_example"] for time in row["step_milliseconds"]] for row in rows)
    assert found["ratio"] == pytest.approx(np.mean(np.divide(theirs, ours)))
    assert found["rounds"] == 2
    result = {"ratios": ratios, "training": rows, "device": "cpu", "threads": 1, **environment()}
    assert "| tiny | official | fp32 | 4 |" in page.markdown(result)
    assert "its rows are left out" in page.markdown({**result, "training": rows[1:]})


def test_all_comparisons_are_between_those_who_run(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--best-batch", "512", "--digits", "9x9"])
    options = program.parse()
    large = training.gpt2(options.shape, options.digits, options.layers, options.width, options.tokenizer, 64)
    for contestants, pairs in program.training_tables(options, large, training.quickstart(64)):
        assert len({c.name for c in contestants}) == len(contestants)
        assert all(pair.ours in contestants and pair.theirs in contestants for pair in pairs)


def test_another_copy_of_the_official_code_is_refused(stand_in):
    (stand_in / "src" / "train.py").write_text("from torch.optim import AdamW")
    with pytest.raises(TacitError, match=r"train\.py is not the official one"):
        Official(stand_in)
    (stand_in / "src" / "train.py").unlink()
    with pytest.raises(TacitError, match=r"no copy of the official code"):
        Official(stand_in)


def test_the_bare_loss_is_the_models_own():
    traces = get_task("multiplication").make(8, seed=0, digits="2x2,3x2")
    model, tokenizer = training.gpt2("tiny", "2x2", 1, 16, "words", 8).build(traces)
    rendered = render(traces, tokenizer)
    batcher, examples = Batcher(rendered, tokenizer.pad_token_id), np.arange(8)
    start, length = Removal().spans(rendered, examples, np.arange(8))
    inputs = batcher.cut(examples, start, length)
    model.eval()
    own = training.bare_loss(model, batcher.predicting(examples, length), **inputs)
    torch.testing.assert_close(own, model(**inputs).loss)


class Walker:
    """What a program does, and the file that tells of it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def tell(self, text: str) -> None:
        with open(self.path, "a") as out:
            out.write(text + "\n")


def begin_walk(path: Path, name: str, limit: int) -> Work:
    walker = Walker(path)

    def loop(after_step):
        try:
            for step in range(limit):
                walker.tell(f"{name}{step}")
                after_step()
        except Exception:
            walker.tell("held up")
        finally:
            walker.tell(f"{name} ends")

    return Work(loop, [(Walker, "tell")], lambda: {"limit": limit})


@pytest.fixture
def in_threads(monkeypatch):
    """A process takes seconds to start."""

    def start(turns, name):
        ours, theirs = Pipe()
        thread = Thread(target=_serve, args=(theirs, CPU, *turns.programs[name]), daemon=True)
        thread.start()
        return thread, ours

    monkeypatch.setattr(Turns, "_start", start)


@pytest.mark.usefixtures("in_threads")
def test_whoever_fails_later_leaves_the_table_to_the_others(tmp_path, monkeypatch):
    """It ends in its second timed turn; nobody is timed before all have their data."""
    path, limits = tmp_path / "told", {"trainer": 99, "bare": 4}

    def begin(contestant, *_):
        work = begin_walk(path, contestant.loop, limits[contestant.loop])
        return dataclasses.replace(work, facts=lambda: {"tokens_per_example": 7.0, "flops_per_token": 1.0})

    monkeypatch.setattr(training, "begin", begin)
    tiny = training.gpt2("tiny", "3x2", 1, 16, "words", 64)
    trainer, bare = (training.Contestant(loop, "fp32", tiny, 4) for loop in limits)
    pairs = [training.Comparison(trainer, bare, "tokens")]
    rows, ratios = training.measure([bare, trainer], pairs, 3, 0.0, CPU, None)
    assert [(row["loop"], row.get("failed")) for row in rows] == [("trainer", None), ("bare", "it ended by itself")]
    assert len(rows[0]["step_milliseconds"]) == 3
    assert ratios == []
    told = path.read_text().splitlines()
    assert told[:6] == ["bare0", "bare1", "trainer0", "trainer1", "bare2", "trainer2"]
    assert told[-1] == "trainer ends"
    text = page.markdown(
        {"ratios": [], "training": [{**rows[1], "failed": "a|b\nc"}], "device": "cpu", "threads": 1, **environment()}
    )
    assert "failed: a\\|b c |" in text


@pytest.mark.usefixtures("in_threads")
def test_programs_take_turns_and_end(tmp_path):
    path = tmp_path / "told"
    turns = Turns({"a": (begin_walk, path, "a", 9), "b": (begin_walk, path, "b", 2), "c": (open, "/no/such")}, CPU)
    first = turns.take("a", 1)
    assert (first.inside, first.facts) == (0, {"limit": 9})
    turns.take("b", 2)
    watched = turns.take("a", 2, watched=True)
    assert 0 < watched.inside < watched.seconds
    with pytest.raises(TacitError, match="b: it ended by itself"):
        turns.take("b", 1)
    with pytest.raises(TacitError, match="c: FileNotFoundError"):
        turns.take("c", 1)
    turns.close()
    assert path.read_text().splitlines() == ["a0", "b0", "b1", "a1", "a2", "b ends", "a ends"]


def test_on_a_gpu_the_first_step_of_a_turn_is_not_timed(tmp_path, monkeypatch):
    """A program that waits leaves its spare memory to the others, and takes it back in that step."""
    freed = []
    for module in (turns, machine):
        monkeypatch.setattr(module, "synchronize", lambda _: None)
    monkeypatch.setattr(turns, "peak_memory", lambda _: 1.0)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(path.read_text() if path.exists() else ""))
    path = tmp_path / "told"
    ours, theirs = Pipe()
    Thread(target=_serve, args=(theirs, torch.device("cuda"), begin_walk, path, "a", 9), daemon=True).start()
    for steps, watched, told in ((1, False, ["a0", "a1"]), (2, True, ["a2", "a3", "a4"])):
        ours.send((steps, watched))
        turn = ours.recv()
        assert path.read_text().splitlines()[-len(told) :] == told
        assert (turn.inside > 0) == watched
        assert turn.inside < turn.seconds
    ours.send((0, False))
    assert freed[0] == ""
    assert freed[1] == "a0\na1\n"


def test_a_program_that_is_killed_is_an_error():
    with pytest.raises(TacitError, match="killed: its process ended with status 3"):
        Turns({"killed": (os._exit, 3)}, CPU).take("killed", 1)


def test_the_stopwatch_counts_nested_calls_once():
    class Work:
        def outer(self):
            time.sleep(0.02)
            self.inner()

        def inner(self):
            time.sleep(0.03)

    watch = machine.Stopwatch(CPU)
    with watch.around((Work, "outer"), (Work, "inner")):
        begin = time.perf_counter()
        Work().outer()
        whole = time.perf_counter() - begin
        time.sleep(0.05)
    assert 0.05 <= watch.seconds <= whole
    Work().outer()
    assert watch.seconds <= whole


def test_a_ratio_is_taken_round_by_round():
    found = machine.ratio("x", [1.0, 2.0, 4.0], [2.0, 2.0, 2.0])
    assert (found["ratio"], found["low"], found["high"]) == (1.0, 0.5, 2.0)


def test_the_cost_of_a_token():
    """6 a weight of a product; for attention two products of T x d a layer, and twice as much in the backward pass."""
    layers, width, length = 3, 16, 7
    setting = training.gpt2("tiny", "2x2", layers, width, "words", 50)
    model, tokenizer = setting.build(setting.traces())
    weights = layers * (3 + 1 + 4 + 4) * width**2 + len(tokenizer) * width
    assert training._sizes(model) == (weights, layers, width)
    attention = layers * 3 * 2 * 2 * length * width
    assert training.flops_per_token(weights, layers, width, length) == 6 * weights + attention


def test_steps_to_the_target_are_those_of_full_removal(tmp_path):
    (tmp_path / "stepwise").mkdir()
    lines = [
        {"event": "eval", "step": 200, "seconds": 5.0, "removed": 0, "total": 12, "exact_match": 1.0, "n": 500},
        {"event": "eval", "step": 400, "seconds": 9.0, "removed": 12, "total": 12, "exact_match": 0.94, "n": 500},
        {"event": "train", "step": 500, "seconds": 11.0, "removed": 12, "total": 12, "loss": 0.1},
        {"event": "eval", "step": 600, "seconds": 13.0, "removed": 12, "total": 12, "exact_match": 0.95, "n": 500},
    ]
    metrics = tmp_path / "stepwise" / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert program.quickstart_to_target(tmp_path)["step"] == 600
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines[:3]))
    assert program.quickstart_to_target(tmp_path)["step"] is None
