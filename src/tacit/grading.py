"""Grading: take the answer out of a model's text and compare it with the gold answer.

An `AnswerFormat` says what an answer looks like, and reads and compares it in one of three ways:

    flexible  finds the answer in free text and compares by value; the default
    strict    the whole text must be an answer (outer white space and a final period aside)
    original  the rules of the official code of Fine-tune-CoT (arXiv 2212.10071) with their known defects, for
              comparison: a capital letter counts even inside a word, ".5" is 5, and in two data sets "18.0" is not 18

Usage: `NUMBER.extract("so she pays $1,080.") == "1080"`; `NUMBER.same("18.0", "18")`;
`extract_answer("5 + 2 #### 7") == "7"`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from tacit.errors import unknown_name

MARKER = "####"
GRADERS = ("flexible", "strict", "original")

# What announces an answer in the middle of a chain of thought.
ANNOUNCEMENT = re.compile(rf"{MARKER}|\\boxed\s*\{{|\banswer\b[^.\n]{{0,30}}?(?:\bis\b|[:=])", re.IGNORECASE)


def extract_answer(text: str, marker: str = MARKER) -> str:
    """What stands behind the last answer marker; the whole text where there is none."""
    return text.rpartition(marker)[2].strip()


def normalise(answer: str) -> str:
    """White space folded to single spaces and commas removed, as the official evaluation compares answers."""
    return " ".join(answer.replace(",", "").split())


def same_answer(answer: str, gold: str) -> bool:
    """Exact match after `normalise`. No numeric tolerance: "18.0" is not "18"."""
    return normalise(answer) == normalise(gold)


@dataclass(frozen=True)
class AnswerFormat:
    """What the answers of a task look like. This class itself takes a whole text as it stands, by every grader.

    A subclass has `_found` and `_same`, and may have others for the strict and the original grader.

    Args:
        name (`str`): For people.
    """

    name: str

    def extract(self, text: str, grader: str = "flexible", marked: bool = True) -> str:
        """The answer in a text; "" where there is none.

        Args:
            text (`str`): What a model wrote.
            grader (`str`): One of `GRADERS`.
            marked (`bool`): The text follows an answer marker or trigger, so its first candidate counts; otherwise it
                is a whole chain of thought, and its last one does (to the flexible grader: the first one behind the
                last "the answer is", `####` or `\\boxed{`, where there is one).
        """
        if _known(grader) == "strict":
            return self._whole(text.strip())
        if grader == "original":
            found = self._found_originally(text)
        else:
            found = self._found(text)
            announced = () if marked else tuple(ANNOUNCEMENT.finditer(text))
            if announced and (behind := self._found(text[announced[-1].end() :])):
                return behind[0]
        return found[0 if marked else -1] if found else ""

    def same(self, answer: str, gold: str, grader: str = "flexible") -> bool:
        """Whether an answer, as `extract` returns it, is the gold answer. No answer is never right."""
        compare = self._same_originally if _known(grader) == "original" else self._same
        return bool(answer) and compare(answer, gold)

    def _found(self, text: str) -> list[str]:
        return [text.strip()]

    def _same(self, answer: str, gold: str) -> bool:
        return same_answer(answer, gold)

    def _whole(self, text: str) -> str:
        return text

    def _found_originally(self, text: str) -> list[str]:
        return self._found(text)

    def _same_originally(self, answer: str, gold: str) -> bool:
        return self._same(answer, gold)


def _known(grader: str) -> str:
    if grader not in GRADERS:
        raise unknown_name("grader", grader, GRADERS)
    return grader


# --- numbers ---------------------------------------------------------------------------------------------------------

# Thousands may be set apart by commas, in India hundreds of them too.
WHOLE = r"[0-9]{1,3}(?:,[0-9]{2,3}){0,30},[0-9]{3}(?![0-9])|[0-9]+"
NUMBER_TEXT = re.compile(
    r"((?<![\w)\]}.,$-])[-−–])?(?:[$€£¥₹] ?([-−])?)?"
    r"(?<![A-Za-z0-9])((?<!/)(?:[0-9]+ )?[0-9]+ ?/ ?0*[1-9][0-9]*(?![0-9/])"
    rf"|(?:{WHOLE})(?:\.[0-9]+)?|\.[0-9]+)"
)
# "3 * 4" of "3 * 4 = 12": what was asked for is on the right.
LEFT_SIDE = re.compile(
    r"(?<![A-Za-z0-9.,])[-($]*[0-9](?=[^=\n]{0,200}?[-+*/×÷−])(?:[0-9 $€£%()+*/×÷−-]|[.,](?=[0-9])){0,200}+="
    r"(?=\s*[-−(]?[$€£]? ?[.0-9])"
)
SET_APART = re.compile(r"(?<=[0-9])(?:\{,\}|,?\\[,!]|[\u00a0\u2009\u202f])(?=[0-9]{3}(?![0-9]))")
LATEX_FRACTION = re.compile(r"\\[dt]?frac\{([0-9]+)\}\{([0-9]+)\}")

SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMERALS: dict[str, int] = {word: n for n, word in enumerate(SMALL)} | {word: 10 * n for n, word in enumerate(TENS, 2)}
SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
NUMERAL = rf"(?:{'|'.join((*NUMERALS, *SCALES))})\b"
IN_WORDS = re.compile(
    rf"\W*({NUMERAL}(?:(?:[ -]|(?:(?<=hundred)|(?<=thousand)) and ){NUMERAL})*+)(?! of\b| point\b)", re.IGNORECASE
)


@dataclass(frozen=True)
class Number(AnswerFormat):
    """A number, compared by value: 1,080 and 1080.00, 3/8 and .375, and (where it opens the text) thirty-eight.

    Args:
        as_text (`bool`): The original grader compares text (GSM8K and MultiArith), not values.
    """

    name: str = "number"
    as_text: bool = False

    def _found(self, text: str) -> list[str]:
        text = LATEX_FRACTION.sub(r"\1/\2", SET_APART.sub(",", text))
        found = [_plain(*match.groups()) for match in NUMBER_TEXT.finditer(LEFT_SIDE.sub("", text))]
        if not found and (words := IN_WORDS.match(text)):
            return [str(_read_words(re.findall(r"[a-z]+", words[1].lower())))]
        return found

    def _same(self, answer: str, gold: str) -> bool:
        found, golds = self._found(answer), self._found(gold)
        if not found or not golds:
            return same_answer(answer, gold)
        try:
            return abs(_value(found[0]) - _value(golds[0])) <= Fraction(1, 10**6)
        except ValueError:  # Python refuses to convert numbers of thousands of digits
            return found[0] == golds[0]

    def _whole(self, text: str) -> str:
        match = NUMBER_TEXT.fullmatch(text.removesuffix("."))
        return _plain(*match.groups()) if match else ""

    def _found_originally(self, text: str) -> list[str]:
        return re.findall(r"-?\d+(?:\.\d+)?", text.replace(",", ""))

    def _same_originally(self, answer: str, gold: str) -> bool:
        gold = gold.replace(",", "")
        if self.as_text:
            return answer == gold
        try:
            return abs(float(answer) - float(gold)) <= 1e-6
        except ValueError:
            return False


def _plain(sign: str | None, inner_sign: str | None, number: str) -> str:
    """One of the numbers that `NUMBER_TEXT` finds, as Python writes it: `-1080.5`, `3/8`, `1 1/2`."""
    minus = "-" if sign or inner_sign else ""
    return minus + re.sub(r" ?/ ?", "/", number.replace(",", ""))


def _value(number: str) -> Fraction:
    size = sum(map(Fraction, number.removeprefix("-").split()), Fraction(0))
    return -size if number.startswith("-") else size


def _read_words(words: Iterable[str]) -> int:
    """The words of "two hundred and four" as 204."""
    total = part = 0
    for word in words:
        if word in NUMERALS:
            part += NUMERALS[word]
        elif word == "hundred":
            part = max(part, 1) * SCALES[word]
        elif word in SCALES:
            total, part = total + max(part, 1) * SCALES[word], 0
    return total + part


JOINED_DIGITS = re.compile(r"(?<=[0-9]) (?=[0-9])")


@dataclass(frozen=True)
class SpacedNumber(Number):
    """A number whose digits may be set apart, as a tokenizer of words needs them: `1 4` is 14."""

    name: str = "number, its digits spaced"

    def extract(self, text: str, grader: str = "flexible", marked: bool = True) -> str:
        """As of any format, with the digits put together."""
        return super().extract(JOINED_DIGITS.sub("", text), grader, marked)

    def same(self, answer: str, gold: str, grader: str = "flexible") -> bool:
        """As of any format, with the digits put together."""
        return super().same(JOINED_DIGITS.sub("", answer), JOINED_DIGITS.sub("", gold), grader)


# --- letters of choices ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Letter(AnswerFormat):
    """The letter of a choice: `B`, `(B)`, `B.`, `b)`; never a letter of a word, and not the article "A".

    Args:
        last (`str`): The last of the letters, which begin with A.
    """

    last: str = "E"

    def _found(self, text: str) -> list[str]:
        small, large = f"[a-{self.last.lower()}]", f"[A-{self.last}]"
        matches = re.finditer(
            rf"[(\[]({small})[)\]]|\A\W*({small})(?:[):,]|\.(?!\w)|\s*\Z)"
            rf"|(?<![A-Za-z]\.)(?<![\w'’°])({large})(?![\w°]|['’-]\w|\.[A-Z]\b)",
            text,
        )
        return [match[match.lastindex or 0].upper() for match in matches if not _is_article(match)]

    def _same(self, answer: str, gold: str) -> bool:
        return answer in self._found(gold)[:1]

    def _whole(self, text: str) -> str:
        letter = text.removesuffix(".").upper()
        return letter if re.fullmatch(f"[A-{self.last}]", letter) else ""

    def _found_originally(self, text: str) -> list[str]:
        return re.findall(f"[A-{self.last}]", text)

    def _same_originally(self, answer: str, gold: str) -> bool:
        return answer == gold


def _is_article(match: re.Match[str]) -> bool:
    """An A before a small word ("A person"), unless it is spoken of as a choice ("A is right", "option A has")."""
    before, after = match.string[max(match.start() - 8, 0) : match.start()], match.string[match.end() :][:20]
    return (
        match[0] == "A"
        and re.match(r"\s+[a-z]", after) is not None
        and re.match(r"\s+(?:is|was|and|or|as|because|since)\b", after) is None
        and re.search(r"(?:option|choice|answer|letter)\s+\Z", before, re.IGNORECASE) is None
    )


def letters(last: str) -> Letter:
    """The format of choices from A to `last`."""
    return Letter(f"letter A-{last}", last)


# --- yes or no -------------------------------------------------------------------------------------------------------

# "no" before a small word is no answer ("there is no proof", "No one flips the coin"), but "no it is not" is one.
YES_OR_NO = re.compile(
    r"(?<![\w'’-])(?:[Yy]es|YES|(?:[Nn]o|NO)(?![ \t]+(?!(?:it|he|she|they|the|this|that|because|since|as)\b)[a-z]))"
    r"(?!['’-]?\w)"
)


@dataclass(frozen=True)
class YesNo(AnswerFormat):
    """Yes or no, as a word of its own."""

    name: str = "yes or no"

    def _found(self, text: str) -> list[str]:
        return [word.lower() for word in YES_OR_NO.findall(text)]

    def _same(self, answer: str, gold: str) -> bool:
        return answer.lower() == gold.strip().lower()

    def _whole(self, text: str) -> str:
        word = text.removesuffix(".").lower()
        return word if word in ("yes", "no") else ""

    def _found_originally(self, text: str) -> list[str]:
        return [word for word in re.split(r"[\"'\s.:,]", text.lower()) if word in ("yes", "no")]


# --- words -----------------------------------------------------------------------------------------------------------

SPELT = r"(?<!\w)[^\W\d_](?:(?: |-|, ?)[^\W\d_](?!\w))+"  # n-a-e-y
WORD_TEXT = re.compile(rf"{SPELT}|(?<!\w)[^\W\d_]+(?!\w)")
OPENING_WORD = re.compile(rf"[\s:\"'“‘*]*({SPELT}|[^\W\d_]+)(?=[\"'”’*]*(?:[.,;:\n]|\s*\Z))")
QUOTED = re.compile(r"[\"“]([^\"“”\n]+)[\"”]|(?<!\w)['‘]([^'‘’\n]+)['’](?!\w)")


@dataclass(frozen=True)
class Word(AnswerFormat):
    """One word, such as letters put together: `naey`, "naey", `n-a-e-y`; large and small letters count the same."""

    name: str = "word"

    def _found(self, text: str) -> list[str]:
        if opening := OPENING_WORD.match(text):
            return [_letters_of(opening[1])]
        quoted = [one or other for one, other in QUOTED.findall(text)]
        found = [word for word in quoted if len(_letters_of(word)) > 1] or re.findall(SPELT, text)
        return [_letters_of(word) for word in found or WORD_TEXT.findall(text)]

    def _same(self, answer: str, gold: str) -> bool:
        return _letters_of(answer).casefold() == _letters_of(gold).casefold()

    def _whole(self, text: str) -> str:
        match = WORD_TEXT.fullmatch(text.removesuffix("."))
        return _letters_of(match[0]) if match else ""

    def _found_originally(self, text: str) -> list[str]:
        return [re.sub(r"[\"'.\s]", "", text)]

    def _same_originally(self, answer: str, gold: str) -> bool:
        return answer == gold


def _letters_of(text: str) -> str:
    return re.sub(r"[\W\d_]", "", text)


TEXT = AnswerFormat("text")
NUMBER = Number()
NUMBER_AS_TEXT = Number(as_text=True)
SPACED_NUMBER = SpacedNumber()
YES_NO = YesNo()
WORD = Word()


@dataclass(frozen=True)
class LetterOrWord(Letter):
    """The letter of a choice, and a word where there are no choices: the gold answer tells."""

    def _found(self, text: str) -> list[str]:
        return super()._found(text) or [word for word in WORD._found(text) if len(word) > 1]

    def _same(self, answer: str, gold: str) -> bool:
        return super()._same(answer, gold) if super()._whole(gold) else WORD._same(answer, gold)

    def _whole(self, text: str) -> str:
        word = WORD._whole(text)
        return super()._whole(text) or word * (len(word) > 1)

    def _found_originally(self, text: str) -> list[str]:
        return super()._found_originally(text) or WORD._found_originally(text)
