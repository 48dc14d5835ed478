"""Sweeps over a recipe key, nested samples of a teacher, files of a method's own: cells, folders, rows, resume."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tacit import models
from tacit.errors import TacitError
from tacit.recipe import load_recipe, parse_recipe
from tacit.report.reading import cell_name, read_run
from tacit.run import Run, carry_out, cells
from tacit.trace import Step, Trace, iter_text, read_jsonl, write_jsonl

torch.set_num_threads(1)

GPT2 = {"architecture": "gpt2", "config": {"n_layer": 1, "n_embd": 16, "n_head": 2}}
WAYS = ("so", "then", "now", "thus")  # how the teacher begins its four samples


def problems() -> list[Trace]:
    """Coin flips of three people: every name is met early."""
    people, verbs = ("Ada", "Ben", "Cy"), {True: "flips it", False: "does not flip it"}
    made = [
        Trace(
            f"A coin is heads up . {a} {verbs[x]} . {b} {verbs[y]} . Is it still heads up ?",
            (Step(f"{a} : {'tails' if x else 'heads'}"), Step(f"{b} : {'heads' if x == y else 'tails'}")),
            "yes" if x == y else "no",
        )
        for a in people
        for b in people
        for x in verbs
        for y in verbs
    ]
    random.Random(0).shuffle(made)
    return made


def taught(questions: list[Trace], samples: int = 4) -> list[Trace]:
    """A teacher's traces of these questions: a few samples each, in words of their own."""
    return [
        Trace(
            one.question,
            (Step(f"{WAYS[sample]} we look"), *one.steps),
            one.answer,
            gold=one.answer,
            id=f"{one.id}/{sample}",
            source={"question_id": one.id, "sample": sample},
        )
        for one in questions
        for sample in range(samples)
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher's file, the bare questions (more than the teacher got right), and held-out problems."""
    folder = tmp_path_factory.mktemp("data")
    made = problems()
    write_jsonl(taught(made[:16]), folder / "traces.jsonl")
    write_jsonl([Trace(one.question, (), one.answer) for one in made[:22]], folder / "questions.jsonl")
    write_jsonl(made[22:], folder / "test.jsonl")
    return folder


def document(home: Path | str = "home", **changes: Any) -> dict[str, Any]:
    """A recipe of seconds that varies how many samples of the teacher are used."""
    return {
        "name": "diverse",
        "task": "coin_flip",
        "data": {"train": f"{home}/traces.jsonl", "test": f"{home}/test.jsonl"},
        "model": GPT2,
        "train": {"max_steps": 3, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "logging_steps": 1},
        "methods": {"cot": {}, "no_cot": {"data": f"{home}/questions.jsonl"}, "random": {}},
        "vary": {"data.samples": [1, 2, 4]},
        "evaluation": {"batch_size": 16, "speed_problems": 8},
        **changes,
    }


@pytest.fixture(scope="module")
def folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "diverse"
    carry_out(parse_recipe(document(data, seeds=[0, 1])), path)
    return path


# --- what a varied key reaches ---------------------------------------------------------------------------------------


def names(**changes: Any) -> list[str]:
    return [cell.name for cell in cells(parse_recipe(document(**changes)), Path("run"))]


def test_cells_are_methods_seeds_and_values() -> None:
    assert names() == ["cot-samples1", "cot-samples2", "cot-samples4", "no_cot", "random"]
    assert names(seeds=[5, 2]) == [
        *["cot-samples1-seed5", "cot-samples2-seed5", "cot-samples4-seed5", "no_cot-seed5", "random-seed5"],
        *["cot-samples1-seed2", "cot-samples2-seed2", "cot-samples4-seed2", "no_cot-seed2"],
    ]


@pytest.mark.parametrize(
    ("vary", "reached"),
    [
        ({"data.samples": [1, 2]}, {"stepwise", "cot"}),
        ({"data.train": ["a.jsonl", "b.jsonl"]}, {"stepwise", "cot"}),
        ({"data.test": ["a.jsonl", "b.jsonl"]}, {"stepwise", "cot", "no_cot", "zero_shot", "random"}),
        ({"model.name": ["a", "b"]}, {"stepwise", "cot", "no_cot", "zero_shot"}),
        ({"model.attn_implementation": ["eager", "sdpa"]}, {"stepwise", "cot", "no_cot", "zero_shot"}),
        ({"train.max_steps": [3, 4]}, {"stepwise", "cot", "no_cot"}),
        ({"train.learning_rate": [1e-3, 2e-3]}, {"stepwise", "cot"}),  # no_cot has its own
        ({"methods.stepwise.removal_per_epoch": [1, 2]}, {"stepwise", "cot"}),  # cot comes from it
        ({"methods.no_cot.weight_decay": [0.0, 0.1]}, {"no_cot"}),
        ({"methods.zero_shot.trigger": ["generic", "format"]}, {"zero_shot"}),
        ({"methods.no_cot.data": ["a.jsonl", "b.jsonl"]}, {"no_cot"}),
    ],
)
def test_what_a_key_does_not_reach_is_made_once(vary: dict[str, Any], reached: set[str]) -> None:
    """A cell is made once for all values that leave everything it is made from as it is."""
    recipe = document(vary=vary, model={"name": "some/model"})
    recipe["methods"] = {
        "stepwise": {},
        "cot": {"from": "stepwise"},
        "no_cot": {"data": "questions.jsonl", "learning_rate": 5e-3},
        "zero_shot": {},
        "random": {},
    }
    (key,) = vary
    place = recipe
    for part in key.split(".")[:-1]:
        place = place[part]
    place.pop(key.split(".")[-1], None)  # a varied key has no other value
    parsed = parse_recipe(recipe)
    for method in recipe["methods"]:
        assert parsed.values(method) == (list(vary[key]) if method in reached else [None]), method


def test_a_value_takes_its_place_in_settings_and_data(data: Path, tmp_path: Path) -> None:
    recipe = parse_recipe(document(data, vary={"train.learning_rate": [1e-3, 4e-3]}, train={"max_steps": 3}))
    assert [recipe.at(value).settings("cot", 0, tmp_path).learning_rate for value in (1e-3, 4e-3)] == [1e-3, 4e-3]
    assert recipe.at(None) is recipe
    assert "vary" not in recipe.at(4e-3).document
    assert recipe.at(4e-3).document["train"] == {"max_steps": 3, "learning_rate": 4e-3}
    assert recipe.document["vary"] == {"train.learning_rate": [1e-3, 4e-3]}
    assert "learning_rate" not in recipe.document["train"]


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ("data.samples", "vary is one recipe key with its values"),
        ({"data.samples": [1, 2], "train.max_steps": [1, 2]}, "vary is one recipe key with its values"),
        ({"data.samples": 4}, "vary.data.samples must be a list of at least two different values, got 4"),
        ({"data.samples": [4]}, "at least two different values"),
        ({"data.samples": [4, 4.0]}, "at least two different values"),
        ({"data.samples": [1, None]}, "at least two different values"),
        ({"model.config": [{"n_layer": 1}, {"n_layer": 2}]}, "at least two different values"),
        ({"seeds": [1, 2]}, "vary takes a key below data, model, train or methods.NAME"),
        ({"methods.cot": ["a", "b"]}, "vary takes a key below data, model, train or methods.NAME"),
        ({"evaluation.grader": ["strict", "flexible"]}, "vary takes a key below data, model, train or methods.NAME"),
        ({"data.sample": [1, 2]}, "did you mean 'data.samples'?"),
        ({"data.samples": [1, 0]}, "data.samples must be a whole number of at least 1"),
        ({"train.num_train_epochs": ["few", "many"]}, "train.num_train_epochs must be a number"),
        ({"train.learning_rate": [1e-3, 2e-3]}, "train.learning_rate is varied and has the value 0.001, too"),
        ({"data.train": ["a", "b"]}, "data.train is varied and has the value"),
        ({"methods.random.seed": [1, 2]}, "random guesses: it has no settings"),
        ({"methods.cot": {"one": {}}}, "at least two labels, each with its settings"),
        ({"methods.cot": {"one": {}, 2: {}}}, "is not text: put it in quotes; got 2"),
        ({"methods.cot": {False: {}, True: {}}}, "is not text: put it in quotes; got False"),
        ({"methods.cot": {"one": {}, " ": {}}}, "is not text: put it in quotes; got ' '"),
        ({"methods.cot": {"one": {}, "two": 3}}, "at least two labels, each with its settings"),
        ({"methods.cot": {"one": {}, "two": {"learning_rat": 1}}}, "did you mean 'methods.cot.learning_rate'?"),
        ({"methods.cot.learning_rate": {"one": {}, "two": {}}}, "one of these sections with labelled settings"),
        ({"methods": {"one": {}, "two": {}}}, "one of these sections with labelled settings"),
        ({"methods.stepwise.removal_per_epoch": [1, 2]}, None),
    ],
)
def test_what_cannot_be_varied(vary: Any, message: str | None) -> None:
    if message is None:  # a method that the recipe does not name is one more
        assert "stepwise-removal_per_epoch2" in names(vary=vary)
        labelled = {"methods.stepwise": {"fast": {"removal_per_epoch": 2}, "plain": {}}}
        assert {"stepwise-fast", "stepwise-plain"} <= set(names(vary=labelled))
        return
    with pytest.raises(TacitError) as error:
        parse_recipe(document(vary=vary))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_key_that_changes_nothing_is_no_sweep() -> None:
    methods = {"no_cot": {"data": "questions.jsonl"}, "random": {}}
    with pytest.raises(TacitError, match=r"vary\.data\.samples changes none of the methods no_cot, random"):
        parse_recipe(document(methods=methods))


def test_labels_name_several_settings_at_once(tmp_path: Path) -> None:
    labels = {"full": {}, "no smoothing": {"removal_smoothing": float("inf")}, "slow": {"removal_per_epoch": 2}}
    methods = {"stepwise": {"removal_smoothing": 0.7}, "cot": {"from": "stepwise"}, "no_cot": {}}
    recipe = parse_recipe(document(methods=methods, vary={"methods.stepwise": labels}))
    settings = [recipe.at(label).settings("stepwise", 0, tmp_path) for label in labels]
    assert [(one.removal_smoothing, one.removal_per_epoch) for one in settings] == [
        (0.7, 8.0),
        (float("inf"), 8.0),
        (0.7, 2.0),
    ]
    assert [cell.name for cell in cells(recipe, Path("run"))] == [
        *["stepwise-full", "stepwise-no_smoothing", "stepwise-slow"],
        *["cot-full", "cot-no_smoothing", "cot-slow", "no_cot"],
    ]
    lengths = {"short": {"max_steps": 2}, "long": {"max_steps": 9, "learning_rate": 1e-4}}
    recipe = parse_recipe(document(vary={"train": lengths}))
    assert [recipe.at(label).settings("cot", 0, tmp_path).max_steps for label in lengths] == [2, 9]
    assert names(vary={"train": lengths}) == ["cot-short", "cot-long", "no_cot-short", "no_cot-long", "random"]


def test_overrides_of_a_sweep(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(document()))
    assert list(load_recipe(path, ["vary.data.samples=[1, 8]"]).variants) == [1, 8]
    recipe = load_recipe(path, ["vary.train.max_steps=[1, 8]", "train.max_steps=null"])
    assert (recipe.varied, list(recipe.variants)) == ("train.max_steps", [1, 8]), "another key takes its place"
    assert load_recipe(path, ["vary=null", "data.samples=2"]).variants == {}
    with pytest.raises(TacitError, match=r"data\.samples is varied and has the value 2, too"):
        load_recipe(path, ["data.samples=2"])
    with pytest.raises(TacitError, match="did you mean 'vary'"):
        load_recipe(path, ["varry={data.samples: [1, 2]}"])


def test_values_become_names_that_any_disk_takes() -> None:
    assert cell_name("cot", 0, {"train.learning_rate": 1e-05}) == "cot-learning_rate1e-05-seed0"
    assert cell_name("cot", None, {"data.train": "../my data/a:b.jsonl"}) == "cot-train.._my_data_a_b.jsonl"
    assert cell_name("no_cot", None, {}) == "no_cot"
    with pytest.raises(TacitError, match="would share the folder cot-trainmy_data"):
        names(vary={"data.train": ["my data", "my/data"]}, data={"test": "test.jsonl"})


def test_the_recipes_of_the_docs_can_be_read(tmp_path: Path) -> None:
    """The whole one as it stands; of the sweep, what the docs leave out is added."""
    text = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")
    whole, diverse, labels = (block.partition("```")[0] for block in text.split("```yaml\n")[1:])
    (tmp_path / "whole.yaml").write_text(whole)
    assert load_recipe(tmp_path / "whole.yaml").varied == "train.weight_decay"
    (tmp_path / "diverse.yaml").write_text(diverse)
    recipe = load_recipe(tmp_path / "diverse.yaml", ["model.name=some/model"])
    assert recipe.values("cot") == [1, 2, 4, 8]
    assert recipe.values("no_cot") == recipe.values("zero_shot_cot") == [None]

    rest = {key: value for key, value in document().items() if key not in ("methods", "vary")}
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump(rest) + labels)
    assert [cell.name for cell in cells(load_recipe(tmp_path / "labels.yaml"), Path("run"))] == [
        "stepwise-full_method",
        "stepwise-no_smoothing",
        "stepwise-faster",
    ]


# --- samples and files -----------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 5), st.one_of(st.integers(0, 9), st.none(), st.text(max_size=2))), min_size=1)
)
def test_samples_are_nested(tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, Any]]) -> None:
    """Of each question the samples numbered below D; what carries no number stays; more samples only add."""
    path = tmp_path_factory.mktemp("samples")
    written = [
        Trace(f"question {question}", (Step(f"step {index}"),), "1", source={"sample": sample})
        for index, (question, sample) in enumerate(drawn)
    ]
    write_jsonl(written, path / "train.jsonl")
    write_jsonl(written, path / "test.jsonl")
    files = {"train": str(path / "train.jsonl"), "test": str(path / "test.jsonl")}
    before: set[str] = set()
    for samples in (1, 3, 8, 99):
        recipe = parse_recipe(document(data={**files, "samples": samples}, vary=None, task=None))
        naive = [
            trace.id
            for trace, (_, sample) in zip(written, drawn, strict=True)
            if not isinstance(sample, int) or sample < samples
        ]
        if not any(isinstance(sample, int) for _, sample in drawn):
            with pytest.raises(TacitError, match=r"say which sample they are \(source\.sample\)"):
                recipe.traces()
            continue
        if not naive:
            with pytest.raises(TacitError, match=f"data.samples={samples} leaves no training trace"):
                recipe.traces()
            continue
        train, _, test = recipe.traces()
        assert [trace.id for trace in train] == naive
        assert len(test) == len(written), "held-out problems are never sampled"
        assert before <= set(naive)
        before = set(naive)


def test_a_method_has_a_file_of_its_own(data: Path) -> None:
    recipe = parse_recipe(document(data, vary=None, data={**document(data)["data"], "samples": 2}))
    assert len(recipe.traces()[0]) == len(recipe.traces("cot")[0]) == 32
    assert len(recipe.traces("no_cot")[0]) == 22, "whole, whatever data.samples says"
    assert recipe.traces("no_cot")[2] == recipe.traces()[2]
    assert len(recipe.all_training_traces(recipe.traces()[0])) == 64 + 22


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": {"no_cot": {"data": 5}}, "vary": None}, "methods.no_cot.data must be a file"),
        ({"methods": {"stepwise": {}, "cot": {"from": "stepwise", "data": "x"}}}, "without settings of its own"),
        ({"data": {"flips": 2, "train": 9, "test": 5}}, "data.samples goes with a file of a teacher's traces"),
        ({"model": {"name": "some/model", "tokenizer": "t"}}, "model.tokenizer goes with model.architecture"),
        ({"model": {**GPT2, "tokenizer": 3}}, "model.tokenizer must be text"),
        ({"methods": {"cot": {}, "zero_shot": {}}}, "zero_shot asks a model that was trained before"),
        ({"methods": {"cot": {}, "zero_shots": {}}}, "did you mean 'zero_shot'?"),
        (
            {"methods": {"cot": {}, "zero_shot": {"triggers": 1}}, "model": {"name": "m"}},
            "did you mean 'methods.zero_shot.trigger'",
        ),
        ({"methods": {"cot": {}, "random": {"seed": 1}}}, "random guesses: it has no settings"),
        ({"evaluation": {"grader": "lenient"}}, "unknown grader 'lenient'"),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TacitError) as error:
        parse_recipe(document(**changes))
    assert message in str(error.value)


def test_a_file_that_is_not_there_is_told_before_training(data: Path, tmp_path: Path) -> None:
    methods = {"cot": {}, "no_cot": {"data": str(tmp_path / "nope.jsonl")}}
    with pytest.raises(TacitError, match=r"nope\.jsonl: No such file"):
        carry_out(parse_recipe(document(data, methods=methods)), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("metrics.jsonl"))


def test_a_from_scratch_model_with_a_tokenizer_of_subwords(data: Path, tmp_path: Path, bpe_tokenizer: Any) -> None:
    """No word of the held-out problems needs to be in the training data; positions are counted in its tokens."""
    bpe_tokenizer.save_pretrained(tmp_path / "tokenizer")
    write_jsonl([Trace("Zoltan's coin lands heads. Up?", (), "yes")], tmp_path / "test.jsonl")
    model = {**GPT2, "tokenizer": str(tmp_path / "tokenizer")}
    files = {"train": f"{data}/traces.jsonl", "test": str(tmp_path / "test.jsonl")}
    recipe = document(data, model=model, data=files, vary=None, methods={"cot": {}})
    student = carry_out(parse_recipe(recipe), tmp_path / "run").student("cot")
    assert student.model.config.vocab_size == len(bpe_tokenizer)
    longest = max(len(bpe_tokenizer(text).input_ids) for text in iter_text(read_jsonl(data / "traces.jsonl")))
    assert student.model.config.max_position_embeddings > longest
    with pytest.raises(TacitError, match="cannot load the tokenizer"):
        carry_out(parse_recipe({**recipe, "model": {**GPT2, "tokenizer": "nowhere/at-all"}}), tmp_path / "other")


# --- a run that varies a key -----------------------------------------------------------------------------------------


def test_folders_and_rows(folder: Path) -> None:
    made = {f"cot-samples{d}-seed{seed}" for d in (1, 2, 4) for seed in (0, 1)} | {"no_cot-seed0", "no_cot-seed1"}
    files = {"recipe.yaml", "environment.json", "summary.json", "report.html"}
    assert {path.name for path in folder.iterdir()} == made | {"random-seed0"} | files
    rows = json.loads((folder / "summary.json").read_text())["rows"]
    assert [(row["method"], row["seed"], row.get("varied")) for row in rows] == [
        *[("cot", 0, {"data.samples": d}) for d in (1, 2, 4)],
        *[("no_cot", 0, None), ("random", 0, None)],
        *[("cot", 1, {"data.samples": d}) for d in (1, 2, 4)],
        ("no_cot", 1, None),
    ]
    for row in rows:
        assert ("varied" in row) == (row["method"] == "cot")
        assert row["grader"] == "flexible"
        if row["method"] == "random":
            assert (row["train_steps"], row["train_examples"], row["train_seconds"]) == (0, 0, 0)
            assert row["examples_per_second"] is row["relative_speed"] is None
        else:
            assert (row["train_steps"], row["train_examples"]) == (3, 24), "the same budget, however large the file"
            assert row["relative_speed"] > 0


def test_students_of_a_sweep_have_the_same_size_and_words(folder: Path, data: Path) -> None:
    """One sample of the teacher does not know all the words of four, but its student must."""
    run = Run(folder)
    sizes = {
        (student.model.config.vocab_size, student.model.config.max_position_embeddings)
        for student in (run.student("cot", 0, 1), run.student("cot", 0, 4), run.student("no_cot", 0))
    }
    assert len(sizes) == 1
    assert len(models.word_tokenizer(iter_text(taught(read_jsonl(data / "test.jsonl"), 1)))) < sizes.pop()[0]


def test_a_sweep_is_read_by_method_seed_and_value(folder: Path) -> None:
    run = Run(folder)
    assert run.cell("cot") == folder / "cot-samples1-seed0"
    assert run.cell("cot", 1, 4) == folder / "cot-samples4-seed1"
    assert run.cell("cot", value=2) == folder / "cot-samples2-seed0"
    assert run.cell("no_cot", 1) == folder / "no_cot-seed1"
    assert run.student("cot", 1, 4).info["recipe"]["data"]["samples"] == 4
    assert len(run.predictions("random")) == 14
    with pytest.raises(TacitError, match=r"no method 'cot' with seed 0 and value 8; .*cot \(seed 0, data.samples 1\)"):
        run.cell("cot", 0, 8)
    with pytest.raises(TacitError, match="no checkpoint of tacit's"):
        run.student("random")
    values = [(cell.method, cell.varied) for cell in read_run(folder).cells if cell.seed == 1]
    assert values == [*[("cot", {"data.samples": d}) for d in (1, 2, 4)], ("no_cot", {})]


def test_each_student_is_the_one_of_its_own_recipe(folder: Path, data: Path, tmp_path: Path) -> None:
    """A cell of a sweep is what the same recipe gives with that value written into it."""
    single = document(data, vary=None, data={**document(data)["data"], "samples": 2}, methods={"cot": {}}, seeds=[1])
    single["methods"]["no_cot"] = document(data)["methods"]["no_cot"]  # its words are in the vocabulary
    run = carry_out(parse_recipe(single), tmp_path / "single")
    ours, theirs = Run(folder).student("cot", 1, 2), run.student("cot", 1)
    weights = zip(ours.model.state_dict().values(), theirs.model.state_dict().values(), strict=True)
    assert all(torch.equal(mine, other) for mine, other in weights)
    assert Run(folder).predictions("cot", 1, 2) == run.predictions("cot", 1)


def test_a_sweep_is_resumed_where_it_lacks_something(folder: Path) -> None:
    recipe = load_recipe(folder / "recipe.yaml")
    before = {path: path.read_bytes() for path in folder.rglob("*.json*")}
    heard: list[str] = []
    carry_out(recipe, folder, resume=True, listener=lambda name, line: heard.append(name))
    assert heard == []
    for name in ("cot-samples2-seed1", "random-seed0"):
        shutil.rmtree(folder / name)
    carry_out(recipe, folder, resume=True, listener=lambda name, line: heard.append(name))
    assert set(heard) == {"cot-samples2-seed1", "random-seed0", "speed"}
    after = {path: path.read_bytes() for path in folder.rglob("*.json*")}
    assert set(after) == set(before)
    assert {path.name for path in after if after[path] != before[path]} <= {
        "summary.json",
        "metrics.jsonl",
        "tacit.json",
    }
    with pytest.raises(TacitError, match=r"other settings \(vary\.data\.samples\)"):
        carry_out(parse_recipe({**recipe.document, "vary": {"data.samples": [1, 2]}}), folder, resume=True)


def test_overwriting_removes_cells_and_nothing_else(data: Path, tmp_path: Path) -> None:
    recipe = parse_recipe(document(data, vary={"data.samples": [1, 2]}, methods={"cot": {}}))
    carry_out(recipe, tmp_path / "run")
    mine = tmp_path / "run" / "cot-samples1-of-mine"
    shutil.copytree(tmp_path / "run" / "cot-samples1", mine)
    with pytest.raises(TacitError, match="exists; add --resume"):
        carry_out(recipe, tmp_path / "run")
    carry_out(parse_recipe(document(data, vary=None, methods={"cot": {}})), tmp_path / "run", overwrite=True)
    folders = {path.name for path in (tmp_path / "run").iterdir() if path.is_dir()}
    assert folders == {"cot", "cot-samples1-of-mine"}
    assert (mine / "model.safetensors").is_file()


@pytest.mark.slow
def test_side_by_side(data: Path, folder: Path, tmp_path: Path) -> None:
    """Two processes give what one gives."""
    recipe = parse_recipe(document(data, jobs=2, vary={"data.samples": [1, 4]}, methods={"cot": {}}))
    run = carry_out(recipe, tmp_path / "run")
    for value in (1, 4):
        assert run.predictions("cot", value=value) == Run(folder).predictions("cot", value=value)


def test_problems_may_be_varied_too(tmp_path: Path) -> None:
    """Each student is timed and graded on the problems of its own value."""
    recipe = document(
        task="multiplication",
        data={"train": 30, "test": 4},
        methods={"cot": {}, "no_cot": {}, "random": {}},
        vary={"data.digits": ["1x1", "3x2"]},
    )
    run = carry_out(parse_recipe(recipe), tmp_path / "run")
    assert [row["method"] for row in run.rows] == ["cot", "cot", "no_cot", "no_cot", "random", "random"]
    for method in ("cot", "no_cot", "random"):
        for digits, length in (("1x1", 3), ("3x2", 6)):
            asked = [one["question"] for one in run.predictions(method, value=digits)]
            assert [len(question.split()) for question in asked] == [length] * 4
    assert [row["relative_speed"] for row in run.rows if row["method"] == "no_cot"] == [1, 1]


def test_stages_are_taken_value_by_value(data: Path, tmp_path: Path) -> None:
    methods = {"stepwise": {"removal_per_epoch": 9}, "cot": {"from": "stepwise"}}
    run = carry_out(parse_recipe(document(data, methods=methods, vary={"data.samples": [1, 4]})), tmp_path / "run")
    for value in (1, 4):
        assert run.student("cot", value=value).info["recipe"]["data"]["samples"] == value
    assert [row["method"] for row in run.rows] == ["stepwise", "stepwise", "cot", "cot"]
