"""What all tests share: the official files beside the repository, the markers, and the tokenizers.

Markers (see pyproject.toml). `shared`: skipped where `../shared` does not exist; with TACIT_REQUIRE_SHARED=1 that is a
failure. `gpu`: skipped without CUDA. `slow`: left out unless `-m` or TACIT_SLOW=1 asks for it.
Tokenizers never come from the network: GPT-2's from `../shared`, the others are trained here.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from hypothesis import HealthCheck, settings
from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast, T5Tokenizer

from tacit import models
from tacit.rendering import Template
from tacit.tasks import get_task
from tacit.trace import Trace, iter_text

SHARED = Path(__file__).resolve().parents[2] / "shared"

# No deadline: how long one example takes says more about the machine than about the code.
settings.register_profile(
    "tacit", deadline=None, max_examples=60, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tacit")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.markexpr or os.environ.get("TACIT_SLOW") == "1":
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("shared") and not (SHARED / "data" / "multiplication").is_dir():
        if os.environ.get("TACIT_REQUIRE_SHARED") == "1":
            pytest.fail("needs ../shared, and TACIT_REQUIRE_SHARED=1 does not allow it to be missing", pytrace=False)
        pytest.skip(f"{item.name} needs ../shared")  # by name: pytest folds equal reasons
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip(f"{item.name} needs a CUDA device")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny trainings are slower on several threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of official files; a test that takes it is marked `shared`."""
    return SHARED


# --- tokenizers ------------------------------------------------------------------------------------------------------

PROSE = """
A baker has five trays with twelve rolls each. Two trays fall to the ground. How many rolls are left?
There are five trays, so at first there are sixty rolls. The two trays held twenty four of them. Sixty minus
twenty four leaves thirty six. Ada walks three miles to school and three miles back, every day from Monday to Friday.
<<5*12=60>> <<60-24=36>> #### 36 -> 0 1 2 3 4 5 6 7 8 9 + ( ) * = : ; ' " $ % & / . , ? ! [ ] { } @ _ ~ | ^
Das Mädchen zählt die Äpfel; où est le garçon? A b c d e f g h i j k l m n o p q r s t u v w x y z
A B C D E F G H I J K L M N O P Q R S T U V W X Y Z
"""


def sample_traces() -> list[Trace]:
    """Traces of both generated tasks: what the tokenizers are trained on, and a vocabulary that every one covers."""
    return [
        *get_task("multiplication").make(40, seed=0, digits="2x2,3x2"),
        *get_task("coin_flip").make(40, seed=0, flips=3),
    ]


def training_text() -> Iterable[str]:
    return [*PROSE.splitlines(), *iter_text(sample_traces())]


def byte_level_bpe(bos: bool) -> PreTrainedTokenizerBase:
    """As GPT-2's, with 400 merges of our own text; with `bos`, its post-processor writes one, as Llama's does."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
    from tokenizers import models as kinds

    tokenizer = Tokenizer(kinds.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=660,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_text(), trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", special_tokens=[("<|begin|>", tokenizer.token_to_id("<|begin|>"))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        bos_token="<|begin|>" if bos else None,
        clean_up_tokenization_spaces=False,
    )


def t5_like_unigram(bos: bool) -> PreTrainedTokenizerBase:
    """As T5's: Metaspace, white space folded (a line break is lost), NFKC, `</s>` appended."""
    from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
    from tokenizers import models as kinds

    tokenizer = Tokenizer(kinds.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(left=False, right=True)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>", "<s>"]
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(training_text(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if bos else "$A </s>",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>" if bos else None,
        clean_up_tokenization_spaces=False,
    )


def t5_tokenizer_of_transformers() -> PreTrainedTokenizerBase:
    """T5's own class, with the vocabulary of `t5_like_unigram` and ten of its `<extra_id_0>`."""
    vocabulary = json.loads(t5_like_unigram(bos=False).backend_tokenizer.to_str())["model"]["vocab"]
    pieces = [(piece, score) for piece, score in vocabulary if piece != "<s>"]
    return T5Tokenizer([*pieces, *((f"<extra_id_{i}>", 0.0) for i in range(10))], extra_ids=10)


# Chat templates as instruction-tuned models have them: (the tokenizer writes a BOS, the special tokens, the template).
CHATS = {
    "system": (  # with a default system message; its end-of-turn token ends sequences too
        False,
        ["<|turn|>", "<|over|>"],
        "{%- if messages[0]['role'] != 'system' -%}{{- '<|turn|>system\nBe brief.<|over|>\n' -}}{%- endif -%}"
        "{%- for m in messages -%}{{- '<|turn|>' + m['role'] + '\n' + m['content'] + '<|over|>\n' -}}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<|turn|>assistant\n' -}}{%- endif -%}",
    ),
    "headers": (  # a BOS in the template as well as from the tokenizer; trims what is said
        True,
        ["<|head|>", "<|body|>", "<|over|>"],
        "{{- bos_token -}}{%- for m in messages -%}"
        "{{- '<|head|>' + m['role'] + '<|body|>\n\n' + m['content'] | trim + '<|over|>' -}}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<|head|>assistant<|body|>\n\n' -}}{%- endif -%}",
    ),
    "brackets": (  # no special token but the BOS, and a space before a reply
        True,
        [],
        "{{- bos_token -}}{%- for m in messages -%}"
        "{%- if m['role'] == 'user' -%}{{- '[ASK] ' + m['content'] + ' [/ASK]' -}}"
        "{%- else -%}{{- ' ' + m['content'] + eos_token -}}{%- endif -%}{%- endfor -%}",
    ),
    "template-bos": (  # a BOS that the template alone writes
        False,
        ["<|say|>"],
        "{{- '<|begin|>' -}}{%- for m in messages -%}{{- m['role'] + ': ' + m['content'] + '\n' -}}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<|say|>' -}}{%- endif -%}",
    ),
}


def chat_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The byte-level tokenizer with one of the `CHATS`."""
    bos, special, template = CHATS[name]
    tokenizer = byte_level_bpe(bos)
    tokenizer.bos_token = "<|begin|>"
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    if "<|over|>" in special:
        tokenizer.eos_token = "<|over|>"
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="session", params=CHATS)
def chatting_tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    """A tokenizer with each of the `CHATS` in turn."""
    return chat_tokenizer(request.param)


@pytest.fixture(scope="session")
def gpt2_tokenizer(shared: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(str(shared / "tokenizers" / "gpt2"))


@pytest.fixture(scope="session")
def bpe_tokenizer() -> PreTrainedTokenizerBase:
    return byte_level_bpe(bos=False)


@pytest.fixture(scope="session")
def bpe_bos_tokenizer() -> PreTrainedTokenizerBase:
    return byte_level_bpe(bos=True)


@pytest.fixture(scope="session")
def unigram_tokenizer() -> PreTrainedTokenizerBase:
    return t5_like_unigram(bos=False)


@pytest.fixture(scope="session")
def unigram_bos_tokenizer() -> PreTrainedTokenizerBase:
    return t5_like_unigram(bos=True)


@pytest.fixture(scope="session")
def t5_tokenizer() -> PreTrainedTokenizerBase:
    return t5_tokenizer_of_transformers()


@pytest.fixture(scope="session")
def words_tokenizer() -> PreTrainedTokenizerBase:
    return models.word_tokenizer([*iter_text(sample_traces()), Template().words])


@pytest.fixture(
    scope="session",
    params=[
        pytest.param("gpt2_tokenizer", marks=pytest.mark.shared, id="gpt2"),
        pytest.param("bpe_tokenizer", id="bpe"),
        pytest.param("bpe_bos_tokenizer", id="bpe-bos"),
        pytest.param("unigram_tokenizer", id="unigram"),
        pytest.param("unigram_bos_tokenizer", id="unigram-bos"),
        pytest.param("t5_tokenizer", id="t5"),
        pytest.param("words_tokenizer", id="words"),
    ],
)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    """Each kind of tokenizer in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def traces() -> list[Trace]:
    """Eighty traces that every tokenizer here can represent."""
    return sample_traces()
