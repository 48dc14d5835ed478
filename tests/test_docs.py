"""The README's commands and Python lines run as they stand (on a tiny model), and the docs name every setting."""

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tacit.formats import write
from tacit.models import bpe_tokenizer, from_config
from tacit.recipe.methods import NETWORKS, ImplicitKD
from tacit.rendering import Template
from tacit.trace import Step, Trace, iter_text, write_jsonl
from tacit.training.config import StepwiseInternalizationConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = [line for kind, text in BLOCKS if kind == "" for line in text.splitlines()]
    return [line for line in lines if line.startswith("tacit ")]


def pens() -> list[Trace]:
    """Problems of the kind that the README shows, each as a teacher's first or second sample."""
    traces = []
    for have in range(1, 10):
        for more in range(1, 10):
            verb, total = ("buys", have + more) if have <= more else ("loses", have - more)
            sign = "+" if verb == "buys" else "-"
            question = f"Ben has {have} pens and {verb} {more}. How many?"
            steps = (Step(f"{have} {sign} {more} = {total}", "How many?"),)
            traces.append(Trace(question, steps, str(total), source={"sample": more % 2}))
    return traces


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder with the README's file names in it, and a tiny local model under the Hub name that the README uses."""
    folder = tmp_path_factory.mktemp("readme")
    traces = pens()
    write_jsonl(traces, folder / "mine.jsonl")
    tokenizer = bpe_tokenizer([Template().words, *iter_text(traces)])
    model = from_config("gpt2", {"n_layer": 1, "n_embd": 16, "n_head": 2}, tokenizer, positions=512, seed=0)
    model.save_pretrained(folder / "openai-community" / "gpt2")
    tokenizer.save_pretrained(folder / "openai-community" / "gpt2")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    return folder


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300, env=environment)


def test_the_commands_on_your_own_data_run_in_their_order(workplace):
    found = commands()
    assert [shlex.split(line)[1] for line in found] == ["data", "data", "run", "ask", "generate", "curate", "run"]
    for line in found[:4]:
        words = [sys.executable, "-m", "tacit", *shlex.split(line)[1:]]
        if words[3] == "run":  # the same command, kept short
            words += ["train.max_steps=3", "train.bf16=false", "evaluation.speed_problems=4"]
        result = run(words, workplace)
        assert result.returncode == 0, f"{line}\n{result.stderr}"
    assert (workplace / "runs" / "mine" / "report.html").is_file()


def test_the_commands_on_a_teacher_run_in_their_order(workplace):
    """Of the teacher only the estimate is asked: what it would write is there."""
    for name in ("questions", "test"):
        write_jsonl(pens()[:: 2 if name == "questions" else 7], workplace / f"{name}.jsonl")
    said = [dataclasses.replace(trace, gold=trace.answer, id="") for trace in pens()]
    more = {
        "generate": ["--dry-run"],
        "curate": [],
        "run": ["train.num_train_epochs=0.2", "evaluation.speed_problems=4", "-o", "runs/taught"],
    }
    for line in commands()[4:]:
        if shlex.split(line)[1] == "curate":
            write_jsonl(said, workplace / "raw.jsonl")
        result = run([sys.executable, "-m", "tacit", *shlex.split(line)[1:], *more[shlex.split(line)[1]]], workplace)
        assert result.returncode == 0, f"{line}\n{result.stderr}"
    methods = {row["method"] for row in json.loads((workplace / "runs/taught/summary.json").read_text())["rows"]}
    assert methods == {"cot", "no_cot", "zero_shot", "zero_shot_cot", "random"}


def test_the_python_lines_run(workplace):
    (text,) = [text for kind, text in BLOCKS if kind == "python"]
    text = text.replace("num_train_epochs=15)", "max_steps=2, bf16=False, disable_tqdm=True)")
    (workplace / "data").mkdir(exist_ok=True)
    write_jsonl(pens(), workplace / "data" / "train.jsonl")
    result = run([sys.executable, "-c", text], workplace)
    assert result.returncode == 0, result.stderr


def test_the_example_runs(tmp_path):
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'examples')!r}); import python_api; python_api.main('out', 5)"
    )
    result = run([sys.executable, "-c", program], tmp_path)
    assert result.returncode == 0, result.stderr
    assert "accuracy" in result.stdout


def test_the_python_api_of_the_readme_is_ten_lines():
    (text,) = [text for kind, text in BLOCKS if kind == "python"]
    assert len([line for line in text.splitlines() if line.strip()]) <= 10


def test_every_setting_is_in_the_docs():
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    own = StepwiseInternalizationConfig.__annotations__
    for field in dataclasses.fields(StepwiseInternalizationConfig):
        if field.name in own:
            default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
            meaning = field.metadata["help"].replace("|", "\\|")
            assert f"| `{field.name}` | `{default}` | {meaning} |" in text, f"docs/recipes.md: {field.name}"


def test_every_setting_of_icot_kd_is_in_the_docs():
    text = (ROOT / "docs" / "implicit-kd.md").read_text(encoding="utf-8")
    table = text.split("<!-- implicit: begin -->")[1].split("<!-- implicit: end -->")[0]
    found = re.findall(r"^\| `(\w+)` \| `(.+?)` \|", table, re.MULTILINE)
    assert found == [(field.name, str(field.default)) for field in dataclasses.fields(ImplicitKD)]
    assert [name for name in NETWORKS if f"\n| `{name}` |" not in text] == []


def test_every_link_of_the_docs_leads_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
            other = page.parent / target if target else page
            assert other.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(other), f"{page.name}: {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """What a link to a heading of a page says behind `#`."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_settings_named_for_official_flags_exist():
    text = (ROOT / "docs" / "coming-from-the-official-code.md").read_text(encoding="utf-8")
    fields = {field.name for field in dataclasses.fields(StepwiseInternalizationConfig)}
    sections = ("data.", "model.", "evaluation.", "methods", "seeds")
    for row in re.findall(r"^\| `--.*$", text, re.MULTILINE):
        ours = re.split(r"(?<!\\)\|", row)[2]
        for name in re.findall(r"`([a-z0-9_.]+)", ours):
            assert name in fields or name.startswith(sections), f"{row}: {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_trains_two_steps(path, tmp_path, workplace):
    """On a model of some 20,000 parameters and little data, whatever the recipe asks for."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    overrides = ["train.max_steps=2", "seeds=[0]", "jobs=1", "train.bf16=false", "evaluation.speed_problems=4"]
    if isinstance(document["data"]["train"], int):
        overrides += ["data.train=400", "data.validation=8", "data.test=8"]
    else:
        form = document["data"].get("format", "tacit")
        for name in ("train", "kept", "questions"):
            write(pens(), tmp_path / f"{name}.jsonl", form)
        write(pens()[:9], tmp_path / "test.jsonl", form)
    for method, own in document["methods"].items():
        parts = {"": own, **{f".{key}": value for key, value in own.items() if isinstance(value, dict)}}
        overrides += [f"methods.{method}{part}.max_steps=2" for part, given in parts.items() if "max_steps" in given]
    if "name" in document.get("model", {}):
        overrides += [f"model={{name: {workplace / 'openai-community' / 'gpt2'}}}"]
    elif "model" in document:
        overrides += ["model={architecture: gpt2, config: {n_layer: 1, n_embd: 32, n_head: 2}}"]
    for key, values in document.get("vary", {}).items():
        few = dict(list(values.items())[-2:]) if isinstance(values, dict) else [1, 2]
        overrides += [f"vary.{key}={json.dumps(few)}"]
    result = run([sys.executable, "-m", "tacit", "run", str(path), *overrides, "-o", "out"], tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_numbers_of_the_readme_stand_in_a_record():
    block = README.split("<!-- quickstart: begin -->")[1].split("<!-- quickstart: end -->")[0]
    rows = json.loads((ROOT / "records" / "quickstart" / "summary.json").read_text(encoding="utf-8"))["rows"]
    shown = [[cell.strip() for cell in line.split("|")[1:-1]] for line in block.strip().splitlines()[2:]]
    assert len(shown) == 3
    for method, (_, accuracy, reasoning, speed) in zip(("stepwise", "cot", "no_cot"), shown, strict=True):
        own = [row for row in rows if row["method"] == method]
        assert accuracy == ", ".join(f"{row['accuracy']:.4f}" for row in own)
        assert set(reasoning.split(", ")) == {f"{row['reasoning_tokens']:.1f}" for row in own}
        assert speed == ", ".join(f"{row['relative_speed']:.2f}x" for row in own)
        assert all(row["n"] >= 2000 for row in own)
