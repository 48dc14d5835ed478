"""The quantities of word problems, and the sentences that tell them."""

import random
from typing import NamedTuple

FOODS = "pears apples plums figs nuts eggs cakes rolls".split()
THINGS = (*FOODS, *"pens stamps shells cards books beads".split())
OWNING = "has owns keeps".split()
MAKING = "collects packs sorts counts".split()
LOSING = "loses eats sells uses gives".split()
GAINING = "finds gets wins".split()
CONTAINERS = {"boxes": "box", "bags": "bag", "tins": "tin"}
PARTS = {2: "half", 3: "a third", 4: "a quarter"}
OPPOSITE = {"more": "fewer", "fewer": "more", "times": "part", "part": "times"}
SMALL, LARGE = 9, 99  # the most of what others are multiplied by, and of what is told of other things


class Quantity(NamedTuple):
    """Something that can be counted: `Ada`, `has`, `pears`, `left`."""

    who: str
    verb: str
    thing: str
    end: str = ""

    @property
    def question(self) -> str:
        """How many there are."""
        does = "do" if " and " in self.who else "does"
        return words("How many", self.thing, does, self.who, _stem(self.verb), self.end, "?")

    @property
    def slots(self) -> tuple[tuple[str, str], ...]:
        """The accounts that it speaks of: telling something else of one of them might contradict it."""
        who, verb, thing, end = self
        if end in ("left", "now") or verb in ("costs", "fills", "works"):
            return ()
        if verb in ("buys", "spends"):
            return ((who, "goods"), (who, thing))
        if verb == "gives":
            return ((who, thing), (end.removeprefix("to "), thing))
        return ((who.rpartition(" ")[2] if verb == "holds" else who, thing),)

    @property
    def range(self) -> tuple[int, int, int]:
        """The least value, the most where it is given, and the most where it is told by its relation to another."""
        if self.verb in ("costs", "holds", "works") or (self.thing in CONTAINERS and self.verb != "fills"):
            return 2, SMALL, SMALL
        if self.verb == "buys" or self.end.startswith("each"):
            return 2, 12, 12
        return (10, 60, LARGE) if self.thing == "dollars" else (2, 30, LARGE)

    def tell(self, number: str) -> str:
        """That there are so many; the number may be a relation, such as `3 more`."""
        return words(self.who, _stem(self.verb) if " and " in self.who else self.verb, number, self.thing, self.end)

    def beside(self, other: "Quantity") -> str:
        """Its name in a sentence that begins with the other: `Ben`, `figs` or `Ben has left`."""
        if (self.verb, self.end) == (other.verb, other.end):
            if self.thing == other.thing:
                return self.who
            if self.who == other.who:
                return self.thing
        return (self if self.thing != other.thing else self._replace(thing="")).tell("")


class Fact(NamedTuple):
    """How a quantity is known: as a number, or from two operands."""

    kind: str
    left: Quantity | int
    operator: str = ""
    right: Quantity | int = 0


class Style(NamedTuple):
    """The words of one story, where there is a choice."""

    own: str
    first: str
    both: str
    work: str
    whole: str
    unit: str
    container: str
    each: str


def draw_style(rng: random.Random, events: bool) -> Style:
    """The words of a story; of things to which something happens, it tells what there was at first."""
    pick = rng.choice
    return Style(
        own="has" if events else pick(OWNING),
        first=pick(("at first", "initially")) if events else "",
        both=pick(("together", "combined")),
        work=pick(MAKING),
        whole=pick(("in all", "in total")),
        unit=pick(("day", "week")),
        container=pick(tuple(CONTAINERS)),
        each=pick(("one", "each")),
    )


def words(*parts: str) -> str:
    """The parts that are not empty."""
    return " ".join(filter(None, parts))


def spaced(number: int) -> str:
    """`12` as `1 2`."""
    return " ".join(str(number))


def relation(first: Quantity, kind: str, number: int, second: Quantity, in_other_words: bool) -> str:
    """What the first quantity is, told by the second: `3 more than`, `as many as ... plus 3`, `half as many as`."""
    name, amount = second.beside(first), spaced(number)
    if kind == "part":
        return words(first.tell(f"{PARTS[number]} as many"), "as", name)
    if kind == "times":
        times = "twice" if number == 2 and not in_other_words else f"{amount} times"
        return words(first.tell(f"{times} as many"), "as", name)
    if in_other_words:
        return words(first.tell("as many"), "as", name, "plus" if kind == "more" else "minus", amount)
    return words(first.tell(f"{amount} {kind}"), "than", name)


def _stem(verb: str) -> str:
    return "have" if verb == "has" else verb[:-1]
