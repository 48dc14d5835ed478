"""Free text as thinking and steps, by stated rules; readers record the rule of the steps in `source["steps"]`.

Usage: `split_steps("Half is left. So 3 kg.") == (["Half is left.", "So 3 kg."], "sentences")`.
"""

import re

SPAN = re.compile(r"<<[^<>]*>>")
SPANS_ONLY = re.compile(r"<<[^<>]*>>( <<[^<>]*>>)*")
SPACED_SUM = re.compile(r"[0-9+() ]+")
ABBREVIATED = r"(?<!\bMr\.)(?<!\bMs\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bvs\.)"
# Text whose punctuation is set apart (as our own tasks write it) need not go on with a capital letter.
SENTENCE_END = re.compile(rf"(?<=[.!?]){ABBREVIATED}\s+(?=[A-Z0-9\"'(])|(?<=\s[.;])\s+")


def split_steps(chain: str) -> tuple[list[str], str]:
    """Splits a written chain of thought into steps; returns them and the name of the rule that was used.

    The rules, in their order: `lines` where there are several; `spans`, a chain of nothing but calculator annotations
    `<<a=b>>`; `terms`, a sum of spaced digits, split before each plus sign and each opening
    parenthesis; else `sentences`, which end in `.`, `!` or `?` before a capital letter, a digit, a quote or a bracket,
    and in a ` . ` or ` ; ` that stands alone.
    """
    chain = chain.strip()
    if "\n" in chain:
        return [line.strip() for line in chain.splitlines() if line.strip()], "lines"
    if SPANS_ONLY.fullmatch(chain):
        return SPAN.findall(chain), "spans"
    if SPACED_SUM.fullmatch(chain):
        return re.split(r" (?=\+ )|(?<!\+) (?=\( )", chain), "terms"
    return [sentence for sentence in SENTENCE_END.split(chain) if sentence], "sentences"


def split_thinking(text: str) -> tuple[str, str]:
    """The thinking and what is said after it, in a reply that holds both: `<think>...</think>` and the rest.

    The opening tag may be missing: some chat templates write it into the prompt. Without a closing tag the reply was
    cut while the model was thinking, and nothing was said.
    """
    opened = text.lstrip().startswith("<think>")
    thinking, closed, said = text.partition("</think>")
    if not closed and not opened:
        return "", text
    return thinking.lstrip().removeprefix("<think>").strip(), said.strip()
