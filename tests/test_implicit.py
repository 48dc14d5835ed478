"""The networks of ICoT-KD: which states a teacher gives, what student and emulator make of them, the coupled model."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, GPT2Config, PreTrainedModel, PreTrainedTokenizerBase

from scripts import minds, tiny
from scripts.minds import WIDTH, coupled, decoder, emulate_slowly, emulator, place, read_slowly
from tacit.errors import TacitError
from tacit.implicit.modeling import ImplicitConfig, ImplicitModel, MindReadingStudent, ThoughtEmulator, layers_of
from tacit.implicit.states import SUBSETS, Mind, TeacherStates, ThoughtBatcher, columns
from tacit.models import pad_id
from tacit.rendering import Renderings, render
from tacit.stages import Removal
from tacit.trace import Trace

pytestmark = pytest.mark.usefixtures("one_thread")
every_decoder = pytest.mark.parametrize("name", minds.DECODERS)
LAYERS = 4


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return tiny.tokenizer()


@pytest.fixture(scope="module")
def rendered(tokenizer: PreTrainedTokenizerBase) -> Renderings:
    """Prompts and chains of several lengths, longer and shorter than the layers are many; the last has no chain."""
    made = tiny.traces(6, tiny.LENGTHS)
    found = render([*made, Trace(made[0].question, (), made[0].answer)], tokenizer)
    assert len(set(found.chain_lengths)) > 2
    assert len(set(found.prompt_lengths)) > 1
    assert found.chain_lengths.min() == 0
    return found


def prompt_and_answer(rendered: Renderings, index: int) -> tuple[list[int], list[int]]:
    """The ids of one example without its chain."""
    one = rendered[index]
    return one.ids[: one.starts[0]].tolist(), one.ids[one.starts[-1] :].tolist()


def cut(batcher: ThoughtBatcher) -> dict[str, torch.Tensor]:
    """The batch of all examples, without their chains."""
    examples = np.arange(len(batcher.rendered))
    return batcher.cut(examples, *Removal().spans(batcher.rendered, examples, 10**6))


# --- which states ----------------------------------------------------------------------------------------------------


class Shift(torch.nn.Module):
    def __init__(self, by: int) -> None:
        super().__init__()
        self.by = by

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states.roll(self.by, -1)


class Grid(PreTrainedModel):
    """A teacher whose state before block l at position t is 1 at place `l * positions + t`, and 0 elsewhere."""

    device = torch.device("cpu")

    def __init__(self, layers: int, positions: int) -> None:
        super().__init__(GPT2Config(n_layer=layers, n_embd=layers * positions, n_head=1))
        self.layers = torch.nn.ModuleList(Shift(positions) for _ in range(layers))

    def forward(self, input_ids: torch.Tensor, **_: Any) -> None:
        hidden = torch.eye(self.config.n_embd)[: input_ids.shape[1]].expand(len(input_ids), -1, -1)
        for layer in self.layers:
            hidden = layer(hidden)


@settings(max_examples=25)
@given(
    layers=st.integers(1, 5),
    lengths=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 7), st.integers(1, 2)), min_size=1, max_size=4),
    subset=st.sampled_from(SUBSETS),
    stride=st.one_of(st.just("dynamic"), st.integers(1, 5)),
)
def test_every_state_is_from_where_it_should_be(
    layers: int, lengths: list[tuple[int, int, int]], subset: str, stride: int | str
) -> None:
    """Each example by its own chain; fewer tokens than layers, or more; no chain; one layer."""
    positions = 12
    total = np.array([sum(one) for one in lengths])
    starts = np.concatenate([(prompt, prompt + chain) for prompt, chain, _ in lengths])
    rendered = Renderings(np.zeros(total.sum()), total, starts, np.ones(len(lengths)))
    states = TeacherStates(Mind(Grid(layers, positions), subset, stride), rendered, 0)
    found = states.of(np.arange(len(lengths)))
    assert found.shape == (len(lengths), layers, layers * positions)
    for (prompt, chain, _), of_example in zip(lengths, found, strict=True):
        first, last = prompt - 1, prompt + chain
        wanted = [place(layer, layers, first, last, subset, stride) for layer in range(layers)]
        assert [divmod(int(vector.argmax()), positions) for vector in of_example] == wanted


@given(st.integers(2, 12), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40)), min_size=1, max_size=5))
def test_the_dynamic_diagonal_spans_the_chain(layers: int, spans: list[tuple[int, int]]) -> None:
    first, length = np.array(spans).T
    found = columns(first, first + length, layers, "dynamic")
    assert (found[:, 0] == first).all()
    assert (found[:, -1] == first + length).all()
    steps = np.diff(found)
    assert (steps >= 0).all()
    assert (steps.max(1) - steps.min(1) <= 1).all(), "evenly"


def test_columns_of_one_example_by_hand() -> None:
    first, last = np.array([5]), np.array([12])
    assert columns(first, last, 4, "dynamic").tolist() == [[5, 7, 10, 12]]
    assert columns(first, last, 3, "dynamic").tolist() == [[5, 9, 12]], "halves up"
    assert columns(first, last, 4, 3).tolist() == [[5, 8, 11, 12]]
    assert columns(first, last, 1, "dynamic").tolist() == [[5]]


@every_decoder
@pytest.mark.parametrize("subset", SUBSETS)
def test_states_against_the_stock_model(
    name: str, subset: str, tokenizer: PreTrainedTokenizerBase, rendered: Renderings
) -> None:
    """One example at a time, all of it, by transformers' own `output_hidden_states`."""
    teacher = decoder(name, tokenizer, LAYERS)
    examples = np.arange(len(rendered))
    states = TeacherStates(Mind(teacher, subset), rendered, pad_id(tokenizer))
    found, components = states.of(examples), states.components(examples)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    for index in examples:
        one = rendered[int(index)]
        hidden = teacher(torch.tensor(one.ids[None].astype(int)), output_hidden_states=True).hidden_states
        for layer in range(LAYERS):
            row, at = place(layer, LAYERS, one.starts[0] - 1, one.starts[-1], subset, "dynamic")
            numbers = hidden[row][0, at].tolist()
            mean = sum(numbers) / WIDTH
            deviation = (sum((number - mean) ** 2 for number in numbers) / WIDTH) ** 0.5
            wanted = torch.tensor([(number - mean) / deviation for number in numbers])
            torch.testing.assert_close(found[index, layer], wanted, rtol=1e-3, atol=1e-3)
            assert components[index, layer] == one.ids[at]
    torch.testing.assert_close(found.mean(-1), torch.zeros(found.shape[:2]), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.var(-1, unbiased=False), torch.ones(found.shape[:2]), rtol=0, atol=2e-3)


def test_the_first_state_is_the_embedding(tokenizer: PreTrainedTokenizerBase, rendered: Renderings) -> None:
    teacher = decoder("gpt2", tokenizer, LAYERS)
    found = TeacherStates(Mind(teacher), rendered, pad_id(tokenizer)).of(np.arange(len(rendered)))
    for index in range(len(rendered)):
        prompt, _ = prompt_and_answer(rendered, index)
        embedded = teacher.transformer.wte.weight[prompt[-1]] + teacher.transformer.wpe.weight[len(prompt) - 1]
        torch.testing.assert_close(found[index, 0], torch.nn.functional.layer_norm(embedded, (WIDTH,)))


def test_kept_states(
    tokenizer: PreTrainedTokenizerBase, rendered: Renderings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those computed anew, in half precision, and without another look at the teacher."""
    monkeypatch.setattr("tacit.implicit.states.READ_AT_ONCE", 3)
    teacher = decoder("gpt2", tokenizer, LAYERS)
    states = TeacherStates(Mind(teacher), rendered, pad_id(tokenizer))
    examples, told = np.array([5, 0, 5, 3]), []
    anew = states.of(examples)
    states.keep(told.append)
    teacher.forward = teacher.base_model.forward = None
    assert states.of(examples).dtype == torch.float32
    torch.testing.assert_close(states.of(examples), anew.half().float(), rtol=1e-3, atol=1e-4)
    assert states.kept.numel() * 2 == states.bytes_kept
    assert told == [3, 6, 7]


def test_a_teacher_is_not_trained_any_more(tokenizer: PreTrainedTokenizerBase) -> None:
    teacher = decoder("gpt2", tokenizer).train()
    Mind(teacher)
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


# --- the student -----------------------------------------------------------------------------------------------------


@pytest.fixture
def student(name: str, tokenizer: PreTrainedTokenizerBase) -> MindReadingStudent:
    language_model = decoder(name, tokenizer, LAYERS)
    return MindReadingStudent(ImplicitConfig(text_config=language_model.config), language_model).eval()


@pytest.fixture
def thoughts(rendered: Renderings) -> torch.Tensor:
    return torch.randn((len(rendered), LAYERS, WIDTH), generator=torch.Generator().manual_seed(0))


@every_decoder
def test_a_student_reads_thoughts(
    student: MindReadingStudent,
    thoughts: torch.Tensor,
    tokenizer: PreTrainedTokenizerBase,
    rendered: Renderings,
) -> None:
    """A padded batch of prompts of several lengths against each alone; and what the thoughts reach."""
    batch = cut(ThoughtBatcher(rendered, pad_id(tokenizer)))
    thoughts.requires_grad_()
    found = student(**batch, thoughts=thoughts)
    stock = student.language_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    other = student(**batch, thoughts=thoughts + 1).logits
    for index in range(len(rendered)):
        prompt, answer = prompt_and_answer(rendered, index)
        ids, end = prompt + answer, len(prompt) - 1
        slow = read_slowly(student, ids, thoughts[index], end)
        torch.testing.assert_close(found.logits[index, : len(ids)], slow, rtol=1e-4, atol=1e-4)
        for logits in (stock, other):
            gap = (found.logits - logits)[index, : len(ids)].abs().amax(-1)
            assert gap[:end].max() == 0, "before the end of the prompt nothing changes"
            assert gap[end:].min() > 1e-3, "all from there on does"
    found.loss.backward()
    assert (thoughts.grad.abs().amax(-1) > 0).all()
    for part, parameter in student.readers.named_parameters():
        assert parameter.grad.abs().max() > 0, part


def test_without_thoughts_a_student_is_its_language_model(
    tokenizer: PreTrainedTokenizerBase, rendered: Renderings
) -> None:
    language_model = decoder("gpt2", tokenizer, LAYERS)
    ids = torch.tensor(rendered[0].ids[None].astype(int))
    before = language_model(ids).logits
    student = MindReadingStudent(ImplicitConfig(text_config=language_model.config), language_model).eval()
    assert torch.equal(student(ids).logits, before), "building a student touches no weight of the language model"


# --- the emulator ----------------------------------------------------------------------------------------------------


@every_decoder
@pytest.mark.parametrize("components", ["one", "chosen", "given"])
def test_the_emulator_is_its_equations(
    name: str, components: str, tokenizer: PreTrainedTokenizerBase, rendered: Renderings
) -> None:
    count = 1 if components == "one" else len(tokenizer)
    network = emulator(name, tokenizer, LAYERS, components=count, component_temperature=0.7)
    batch = ThoughtBatcher(rendered, pad_id(tokenizer))
    given = TeacherStates(Mind(decoder(name, tokenizer)), rendered, 0).components(np.arange(len(rendered)))
    kinds = given if components == "given" else None
    found, logits = network(
        **batch.prompts(np.arange(len(rendered))),
        thought_at=torch.from_numpy(rendered.prompt_lengths - 1),
        components=kinds,
    )
    assert (logits is None) == (count == 1)
    for index in range(len(rendered)):
        prompt, _ = prompt_and_answer(rendered, index)
        slow, slow_logits = emulate_slowly(network, prompt, None if kinds is None else kinds[index].tolist())
        torch.testing.assert_close(found[index], slow, rtol=1e-3, atol=1e-3)
        if logits is not None:
            torch.testing.assert_close(logits[index], slow_logits, rtol=1e-3, atol=1e-3)


def test_one_layer(tokenizer: PreTrainedTokenizerBase, rendered: Renderings) -> None:
    """It has one thought, of the end of the prompt."""
    model = coupled("gpt2", tokenizer, 1)
    prompt, answer = prompt_and_answer(rendered, 0)
    thoughts, _ = emulate_slowly(model.emulator, prompt)
    slow = read_slowly(model.student, prompt + answer, thoughts, len(prompt) - 1)
    fast = model(torch.tensor([prompt + answer]), thought_at=torch.tensor([len(prompt) - 1])).logits[0]
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-4)


def test_an_emulator_sees_the_prompt_alone(tokenizer: PreTrainedTokenizerBase, rendered: Renderings) -> None:
    network = emulator("llama", tokenizer, LAYERS, components=len(tokenizer))
    batch = cut(ThoughtBatcher(rendered, pad_id(tokenizer)))
    ids, at = batch["input_ids"], batch["thought_at"]
    behind = torch.arange(ids.shape[1]) > at[:, None]
    assert behind.any(1).all()
    found, _ = network(ids, at)
    other, _ = network(torch.where(behind, 5, ids), at)
    assert torch.equal(found, other)
    changed, _ = network(torch.where(torch.arange(ids.shape[1]) == 0, 5, ids), at)
    assert not torch.isclose(found, changed).all(-1).any(0)[1:].all()


@pytest.mark.parametrize("components", [1, "vocabulary"])
def test_gradients_reach_all_that_an_emulator_thinks_with(
    components: int | str, tokenizer: PreTrainedTokenizerBase, rendered: Renderings
) -> None:
    """All but the last block and what follows it: the last thought is had before them."""
    count = len(tokenizer) if components == "vocabulary" else 1
    network = emulator("gpt2", tokenizer, LAYERS, components=count, component_temperature=5.0)
    batch = cut(ThoughtBatcher(rendered, pad_id(tokenizer)))
    network(batch["input_ids"], batch["thought_at"])[0].square().sum().backward()
    without = {part for part, p in network.named_parameters() if p.grad is None or not p.grad.abs().max()}
    behind = (f"language_model.h.{LAYERS - 1}.", "language_model.ln_f.")
    assert without == {part for part, _ in network.named_parameters() if part.startswith(behind)}


# --- how they begin --------------------------------------------------------------------------------------------------


def deviations(network: torch.nn.Module) -> dict[str, tuple[float, float]]:
    """Standard deviation of each parameter that is no language model's, and of the inputs that it maps."""
    return {
        name: (float(p.detach().std(correction=0)), p.shape[-1])
        for name, p in network.named_parameters()
        if "language_model" not in name
    }


def test_how_networks_begin(tokenizer: PreTrainedTokenizerBase) -> None:
    """Linear maps keep the variance of what they read; components are as normalized states; the LSTM is torch's."""
    text = decoder("gpt2", tokenizer, 2, n_embd=64).config
    model = ImplicitModel(ImplicitConfig(text_config=text, components=len(tokenizer)))
    for name, (deviation, inputs) in deviations(model).items():
        if "recurrence" in name:
            assert deviation == pytest.approx((64 * 3) ** -0.5, rel=0.15), name  # uniform, up to H^-1/2
        elif "components" in name:
            assert deviation == pytest.approx(1, rel=0.1), name
        else:
            assert deviation == pytest.approx(0 if name.endswith("bias") else inputs**-0.5, rel=0.1), name
    own = model.student.language_model.transformer.wte.weight.detach()
    assert float(own.std()) == pytest.approx(0.02, rel=0.1), "in its own way"


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_reloading_gives_the_same_weights(
    name: str, tied: bool, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    """Of each network, bit by bit: nothing is initialised anew. What was one matrix is one again."""
    text = decoder(name, tokenizer, 2, tie_word_embeddings=tied).config
    config = ImplicitConfig(text_config=text, components=3, component_temperature=0.3)
    for kind in (MindReadingStudent, ThoughtEmulator, ImplicitModel):
        network = minds.enliven(kind(config))
        network.save_pretrained(tmp_path / kind.__name__)
        again, notes = kind.from_pretrained(tmp_path / kind.__name__, output_loading_info=True)
        assert not any(notes.values()), notes
        before, after = network.state_dict(), again.state_dict()
        assert before.keys() == after.keys()
        assert [key for key in before if not torch.equal(before[key], after[key])] == []
        assert (again.config.components, again.config.component_temperature) == (3, 0.3)
        if kind is not ThoughtEmulator:
            assert (again.get_output_embeddings().weight is again.get_input_embeddings().weight) == tied
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path / "ImplicitModel")) is ImplicitModel


# --- the coupled model -----------------------------------------------------------------------------------------------


def write_slowly(model: ImplicitModel, prompt: list[int], count: int) -> tuple[list[int], float]:
    """What one prompt is continued by, recomputed for each token; and by how much the best token leads, at least."""
    thoughts, _ = emulate_slowly(model.emulator, prompt)
    ids, lead = list(prompt), float("inf")
    with torch.no_grad():
        for _ in range(count):
            best = read_slowly(model.student, ids, thoughts, len(prompt) - 1)[-1].topk(2)
            lead = min(lead, float(best.values[0] - best.values[1]))
            ids.append(int(best.indices[0]))
    return ids[len(prompt) :], lead


def padded(prompts: list[list[int]], padding: int) -> dict[str, torch.Tensor]:
    """On the left, as for `generate`."""
    width = max(map(len, prompts))
    ids = [[padding] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


@pytest.mark.parametrize(("name", "mixture"), [*((name, False) for name in minds.DECODERS), ("llama", True)])
def test_the_coupled_model(name: str, mixture: bool, tokenizer: PreTrainedTokenizerBase, rendered: Renderings) -> None:
    """Emulator, then student: in one pass with labels, and in generation, with the cache and without."""
    model = coupled(name, tokenizer, LAYERS, components=len(tokenizer) if mixture else 1)
    batch = cut(ThoughtBatcher(rendered, pad_id(tokenizer)))
    found = model(**batch)
    prompts = [prompt_and_answer(rendered, index)[0] for index in range(len(rendered))]
    thoughts = torch.stack([emulate_slowly(model.emulator, prompt)[0] for prompt in prompts])
    by_hand = model.student(**batch, thoughts=thoughts)
    torch.testing.assert_close(found.logits, by_hand.logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.loss, by_hand.loss, rtol=1e-3, atol=1e-3)
    found.loss.backward()
    for part, parameter in model.emulator.predictors.named_parameters():
        assert parameter.grad.abs().max() > 0, part

    length = 5
    slow, leads = zip(*(write_slowly(model, prompt, length) for prompt in prompts), strict=True)
    clear = [index for index, lead in enumerate(leads) if lead > 0.01]
    assert len(clear) > len(prompts) // 2
    assert len({tuple(ids) for ids in slow}) > 1
    for cached in (True, False):
        options = {"max_new_tokens": length, "do_sample": False, "use_cache": cached, "eos_token_id": -1}
        together = model.generate(**padded(prompts, pad_id(tokenizer)), **options)[:, -length:].tolist()
        alone = [model.generate(torch.tensor([prompt]), **options)[0, -length:].tolist() for prompt in prompts]
        assert [together[index] for index in clear] == [alone[index] for index in clear]
        assert [together[index] for index in clear] == [slow[index] for index in clear]


def test_coupling_touches_no_weight(tokenizer: PreTrainedTokenizerBase) -> None:
    config = ImplicitConfig(text_config=decoder("gpt2", tokenizer, 2).config)
    parts = {"student": minds.enliven(MindReadingStudent(config)), "emulator": minds.enliven(ThoughtEmulator(config))}
    before = {f"{part}.{key}": value.clone() for part, net in parts.items() for key, value in net.state_dict().items()}
    after = ImplicitModel(config, **parts).state_dict()
    assert before.keys() == after.keys()
    assert [key for key in before if not torch.equal(before[key], after[key])] == []


def test_several_answers_of_each_prompt(tokenizer: PreTrainedTokenizerBase, rendered: Renderings) -> None:
    """Thoughts go with their prompts where `generate` multiplies these."""
    model = coupled("gpt2", tokenizer, LAYERS)
    prompts = [prompt_and_answer(rendered, index)[0] for index in range(3)]
    batch, options = padded(prompts, pad_id(tokenizer)), {"max_new_tokens": 4, "eos_token_id": -1, "num_beams": 2}
    together = model.generate(**batch, **options, num_return_sequences=2)[:, -4:]
    alone = [model.generate(torch.tensor([prompt]), **options, num_return_sequences=2)[:, -4:] for prompt in prompts]
    assert torch.equal(together, torch.cat(alone))


CLEAN = """
import json, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tacit":
            raise ImportError("tacit is not here")
sys.meta_path.insert(0, Block())
import torch
torch.set_num_threads(1)
from transformers import AutoModelForCausalLM
folder, prompts = json.load(sys.stdin)
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
prompts = {name: torch.tensor(ids) for name, ids in prompts.items()}
out = model.generate(**prompts, max_new_tokens=5, do_sample=False, eos_token_id=-1)
assert "tacit" not in sys.modules
json.dump(out.tolist(), sys.stdout)
"""


def test_a_process_without_tacit(tokenizer: PreTrainedTokenizerBase, rendered: Renderings, tmp_path: Path) -> None:
    """The folder brings its own code."""
    model = coupled("llama", tokenizer, LAYERS, components=len(tokenizer))
    model.save_pretrained(tmp_path / "model")
    batch = padded([prompt_and_answer(rendered, index)[0] for index in range(4)], pad_id(tokenizer))
    asked = json.dumps([str(tmp_path / "model"), {name: part.tolist() for name, part in batch.items()}])
    result = subprocess.run(
        [sys.executable, "-I", "-c", CLEAN],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")},
        input=asked,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    here = model.generate(**batch, max_new_tokens=5, do_sample=False, eos_token_id=-1)
    assert json.loads(result.stdout) == here.tolist()


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [0, -1, 1.5, True, "1.5", "fixed", None])
def test_strides_that_are_none(stride: Any) -> None:
    with pytest.raises(TacitError, match="the stride must be 'dynamic' or a whole number of at least 1; got "):
        Mind(Grid(2, 3), stride=stride)


def test_an_unknown_subset() -> None:
    with pytest.raises(TacitError, match="unknown subset of states 'diagnal'; did you mean 'diagonal'"):
        Mind(Grid(2, 3), "diagnal")


def test_layers_that_cannot_be_told() -> None:
    """Two lists of that length, none, and one inside the other, of which the outer one holds the layers."""
    grid = Grid(2, 3)
    outer = grid.layers
    outer[0].experts = torch.nn.ModuleList(Shift(1) for _ in range(2))
    assert layers_of(grid) is outer
    grid.others = torch.nn.ModuleList(Shift(1) for _ in range(2))
    with pytest.raises(TacitError, match="the layers of a Grid cannot be found: 2 lists have 2 parts"):
        Mind(grid)
    del grid.others, grid.layers
    with pytest.raises(TacitError, match="the layers of a Grid cannot be found: 0 lists have 2 parts"):
        Mind(grid)


def test_an_encoder_decoder_is_no_teacher() -> None:
    with pytest.raises(TacitError, match="decoders only, such as gpt2 or llama; this has an encoder"):
        Mind(tiny.model(architecture="t5"))


def test_a_student_of_icot_kd_is_no_teacher(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(TacitError, match="a student of ICoT-KD is two networks"):
        Mind(coupled("gpt2", tokenizer, LAYERS))


def test_compiled_teachers(tokenizer: PreTrainedTokenizerBase, rendered: Renderings) -> None:
    """One that is wrapped is refused; one that was compiled in place is read like any other."""
    teacher = decoder("gpt2", tokenizer, LAYERS)
    with pytest.raises(TacitError, match="a model of transformers as it is; a OptimizedModule wraps or compiles it"):
        Mind(torch.compile(teacher, backend="eager"))
    examples = np.arange(len(rendered))
    before = TeacherStates(Mind(teacher), rendered, 0).of(examples)
    teacher.compile(backend="eager")
    assert torch.equal(TeacherStates(Mind(teacher), rendered, 0).of(examples), before)
