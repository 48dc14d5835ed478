"""A word problem while it is drawn: from what is asked for down to the numbers that are given."""

import random
from collections.abc import Callable

from tacit.tasks.task import NAMES
from tacit.tasks.word_problems.quantities import (
    CONTAINERS,
    FOODS,
    GAINING,
    LARGE,
    LOSING,
    OPPOSITE,
    PARTS,
    THINGS,
    Fact,
    Quantity,
    draw_style,
    relation,
    spaced,
    words,
)


class StuckError(Exception):
    """No number or no person fits: another story is to be drawn."""


class Story:
    """What is known of which quantity, and the sentences that tell it.

    The methods that make a quantity take the number of operations that lead to it and return it. A quantity is taken
    before anything below it is made, so that nothing is told twice; what it follows from speaks of the same account.

    Args:
        rng (`random.Random`): Draws.
        steps (`int`): Operations that lead to what is asked for.
        distractors (`int`): Sentences that lead nowhere.
        shuffled (`bool`): The sentences stand in any order; else each stands after those that it builds on.

    Raises:
        StuckError: The draw came to nothing.
    """

    def __init__(self, rng: random.Random, steps: int, distractors: int, shuffled: bool) -> None:
        self.rng = rng
        self.scene = rng.choice(tuple(SCENES))
        self.style = draw_style(rng, events=self.scene in ("changes", "shopping"))
        self.names, self.cast = rng.sample(NAMES, 24), list[str]()
        self.things = rng.sample(THINGS, 6)
        self.facts: dict[Quantity, Fact] = {}
        self.values: dict[Quantity, int] = {}
        self.taken: set[Quantity | tuple[str, str]] = set()
        self.sentences: list[str] = []
        self.distractors = distractors
        self.asked = self.ask(steps)
        known = list(self.facts)
        for _ in range(distractors):
            self.distract(known)
        if shuffled:
            rng.shuffle(self.sentences)

    # --- bookkeeping -------------------------------------------------------------------------------------------------

    def say(self, sentence: str) -> None:
        """Tells something."""
        self.sentences.append(f"{sentence[0].upper()}{sentence[1:]} .")

    def free(self, quantity: Quantity) -> bool:
        """Whether nothing speaks of it yet."""
        return quantity not in self.taken and self.taken.isdisjoint(quantity.slots)

    def take(self, quantity: Quantity) -> Quantity:
        """Sees to it that nothing else speaks of it."""
        if not self.free(quantity):
            raise StuckError
        self.taken.update((quantity, *quantity.slots))
        return quantity

    def name(self) -> str:
        """A person who is new to the story."""
        if not self.names:
            raise StuckError
        self.cast.append(self.names.pop())
        return self.cast[-1]

    def somebody(self, make: Callable[[str], Quantity]) -> Quantity:
        """A quantity of somebody who is in the story already, or of a new person."""
        if self.cast and self.rng.random() < 0.5:
            quantity = make(self.rng.choice(self.cast))
            if self.free(quantity):
                return self.take(quantity)
        return self.take(make(self.name()))

    def know(self, quantity: Quantity, fact: Fact, value: int) -> Quantity:
        """Notes how a quantity is known."""
        if value < 1:
            raise StuckError
        self.facts[quantity], self.values[quantity] = fact, value
        return quantity

    def follow(self, quantity: Quantity, kind: str, left: Quantity, operator: str, right: Quantity) -> Quantity:
        """A quantity that follows from two others without being told."""
        one, other = self.values[left], self.values[right]
        value = {"+": one + other, "-": one - other, "*": one * other}[operator]
        return self.know(quantity, Fact(kind, left, operator, right), value)

    def divide(self, quantity: Quantity, kind: str, whole: Quantity, sentence: str) -> Quantity:
        """A quantity that is one of equal parts; the sentence tells how many, in place of its `{}`."""
        numbers = [number for number in range(2, 10) if self.values[whole] % number == 0]
        if not numbers:
            raise StuckError
        number = self.rng.choice(numbers)
        self.say(sentence.format(spaced(number)))
        return self.know(quantity, Fact(kind, whole, "/", number), self.values[whole] // number)

    def split(self, steps: int) -> tuple[int, int]:
        """The operations that lead to either operand."""
        left = self.rng.randint(0, steps - 1)
        return left, steps - 1 - left

    # --- quantities that are told ------------------------------------------------------------------------------------

    def tell(self, quantity: Quantity, steps: int, least: int = 0) -> Quantity:
        """Tells a quantity that was taken: its number, or its relation to others."""
        low, given, high = quantity.range
        low = max(low, least)
        if low > high:
            raise StuckError
        if not steps:
            number = self.rng.randint(low, given if low <= given else high)
            self.say(quantity.tell(spaced(number)))
            return self.know(quantity, Fact("given", number), number)
        if steps > 1 and high == LARGE and " " not in quantity.who and self.rng.random() < 0.2:
            return self.tell_sum(quantity, steps, low)
        if high == LARGE and self.rng.random() < 0.6:
            other = self.amount(steps - 1, quantity.thing)
        else:
            other = self.tell(self.alike(quantity), steps - 1)
        return self.compare(quantity, other, low, high)

    def alike(self, quantity: Quantity) -> Quantity:
        """The same quantity of another person or another thing."""
        who, verb, thing, end = quantity
        if verb == "costs":
            return self.take(self.price(self.rng.choice(self.things)))
        if thing in self.things and self.rng.random() < 0.25:
            other = quantity._replace(thing=self.rng.choice(self.things))
            if self.free(other):
                return self.take(other)
        if verb == "holds":
            start = who.rpartition(" ")[0]
            return self.somebody(lambda name: Quantity(f"{start} {name}", verb, thing))
        return self.somebody(lambda name: Quantity(name, verb, thing, f"to {self.name()}" if verb == "gives" else end))

    def tell_sum(self, quantity: Quantity, steps: int, low: int) -> Quantity:
        """Tells that a quantity is as large as those of two others together."""
        one, other = self.split(steps)
        left, right = (
            self.tell(self.somebody(lambda name: quantity._replace(who=name)), some) for some in (one, other)
        )
        value = self.values[left] + self.values[right]
        if not low <= value <= LARGE:
            raise StuckError
        both = self.both(left, right)
        first, second = (quantity, both) if self.rng.random() < 0.6 else (both, quantity)
        self.say(words(first.tell("as many"), "as", second.beside(first)))
        return self.know(quantity, Fact("sum", left, "+", right), value)

    def compare(self, quantity: Quantity, other: Quantity, low: int, high: int) -> Quantity:
        """Tells a quantity by its relation to another one, from either end."""
        base, rng = self.values[other], self.rng
        ways: list[tuple[str, str, int, int]] = []
        if (least := max(2, low - base)) <= (most := min(20, high - base)):
            number = rng.randint(least, most)
            ways.append(("more", "+", number, base + number))
        if (least := max(2, base - high)) <= (most := min(20, base - low)):
            number = rng.randint(least, most)
            ways.append(("fewer", "-", number, base - number))
        if factors := [number for number in (2, 3, 4, 5) if low <= base * number <= high]:
            number = rng.choice(factors)
            ways.append(("times", "*", number, base * number))
        if factors := [number for number in PARTS if base % number == 0 and low <= base // number <= high]:
            number = rng.choice(factors)
            ways.append(("part", "/", number, base // number))
        if not ways:
            raise StuckError
        kind, operator, number, value = rng.choice(ways)
        told = (quantity, kind, number, other)
        if (kind != "times" or number in PARTS) and rng.random() < 0.3:
            told = (other, OPPOSITE[kind], number, quantity)
        self.say(relation(*told, in_other_words=rng.random() < 0.3))
        return self.know(quantity, Fact(kind, other, operator, number), value)

    # --- quantities of a scene ---------------------------------------------------------------------------------------

    def amount(self, steps: int, thing: str) -> Quantity:
        """A quantity such as there are in the scene."""
        return self.rng.choice([make for least, make in SCENES[self.scene] if least <= steps])(self, steps, thing)

    def owned(self, steps: int, thing: str) -> Quantity:
        """`Ada has pears`."""
        return self.tell(self.somebody(lambda name: Quantity(name, self.style.own, thing, self.style.first)), steps)

    def boxed(self, steps: int, thing: str) -> Quantity:
        """Boxes times what each of them holds."""
        boxes, one_box = self.style.container, f"each {CONTAINERS[self.style.container]} of"
        total = self.somebody(lambda name: Quantity(name, self.style.own, thing, f"in {boxes}"))
        left, right = self.split(steps)
        number = self.tell(self.take(total._replace(thing=boxes, end="")), left)
        each = self.tell(Quantity(f"{one_box} {total.who}", "holds", thing), right)
        return self.follow(total, "boxes", number, "*", each)

    def shared(self, steps: int, thing: str) -> Quantity:
        """What each friend gets."""
        whole = self.owned(steps - 1, thing)
        each = self.take(Quantity(f"each friend of {whole.who}", "gets", thing))
        way = self.rng.choice(
            ("shares all {} equally among {{}} friends", "gives {{}} friends equally many of all {}")
        )
        return self.divide(each, "shared", whole, f"{whole.who} {way.format(thing)}")

    def packed(self, steps: int, thing: str) -> Quantity:
        """The boxes that something fills."""
        whole = self.owned(steps - 1, thing)
        boxes = self.take(Quantity(whole.who, "fills", self.style.container))
        way = self.rng.choice(("puts all {} into {} of {{}}", "puts the {} into {} , {{}} in each"))
        return self.divide(boxes, "packed", whole, f"{whole.who} {way.format(thing, boxes.thing)}")

    def changed(self, steps: int, thing: str) -> Quantity:
        """What is left of what there was, or what there is now."""
        verb = self.rng.choice((*LOSING, *GAINING, "gives"))
        if verb == "eats" and thing not in FOODS:
            verb = "loses"
        gives = verb == "gives"
        change = self.somebody(lambda name: Quantity(name, verb, thing, f"to {self.name()}" if gives else ""))
        gains = verb in GAINING or (gives and self.rng.random() < 0.5)
        who = change.end.removeprefix("to ") if gives and gains else change.who
        before = Quantity(who, "has", thing, self.style.first)
        after = self.take(before._replace(end="now" if gains else "left"))
        left, right = self.split(steps)
        self.tell(change, right)
        self.tell(before, left, least=0 if gains else self.values[change] + 1)
        kind = "gift" if gives else "gain" if gains else "loss"
        return self.follow(after, kind, before, "+" if gains else "-", change)

    def made(self, steps: int, thing: str) -> Quantity:
        """`Ada picks pears in all`."""
        return self.tell(self.somebody(lambda name: Quantity(name, self.style.work, thing, self.style.whole)), steps)

    def daily(self, steps: int, thing: str) -> Quantity:
        """Days times what is made each day."""
        total = self.somebody(lambda name: Quantity(name, self.style.work, thing, self.style.whole))
        left, right = self.split(steps)
        rate = self.tell(total._replace(end=f"each {self.style.unit}"), left)
        days = Quantity(total.who, "works", f"{self.style.unit}s")
        if right or days not in self.facts:
            self.tell(self.take(days), right)
        return self.follow(total, "days", rate, "*", days)

    def paced(self, steps: int, thing: str) -> Quantity:
        """What is made each day, where the days and what is made in all are known."""
        total = self.made(steps - 1, thing)
        rate = total._replace(end=f"each {self.style.unit}")
        self.take(Quantity(total.who, "works", f"{self.style.unit}s"))
        way = self.rng.choice(("the same number of {} each {} for {{}} {}s", "equally many {} each {} for {{}} {}s"))
        way = way.format(thing, self.style.unit, self.style.unit)
        return self.divide(rate, "pace", total, f"{total.who} {self.style.work} {way}")

    def spent(self, steps: int, thing: str) -> Quantity:
        """`Ada spends dollars`."""
        return self.tell(self.somebody(lambda name: Quantity(name, "spends", thing)), steps)

    def bought(self, steps: int, thing: str) -> Quantity:
        """What is bought times its price."""
        total = self.somebody(lambda name: Quantity(name, "spends", thing))
        left, right = self.split(steps)
        goods = self.tell(Quantity(total.who, "buys", self.rng.choice(self.things)), left)
        price = self.price(goods.thing)
        if right or price not in self.facts:
            self.tell(self.take(price), right)
        return self.follow(total, "price", goods, "*", price)

    def price(self, thing: str) -> Quantity:
        """What one of these things costs."""
        return Quantity(f"{self.style.each} {thing[:-1]}", "costs", "dollars")

    def purse(self, steps: int, thing: str) -> Quantity:
        """The money that is left."""
        left, right = self.split(steps)
        costs = (self.bought if right else self.spent)(right, thing)
        money = Quantity(costs.who, "has", thing, self.style.first)
        rest = self.take(money._replace(end="left"))
        self.tell(money, left, least=self.values[costs] + 1)
        return self.follow(rest, "money", money, "-", costs)

    def together(self, steps: int, thing: str) -> Quantity:
        """What two people have or do."""
        left, right = self.pair(steps, thing)
        return self.follow(self.take(self.both(left, right)), "together", left, "+", right)

    def both(self, left: Quantity, right: Quantity) -> Quantity:
        """The quantity of two people."""
        return left._replace(who=f"{left.who} and {right.who}", end=words(left.end, self.style.both))

    def pair(self, steps: int, thing: str) -> tuple[Quantity, Quantity]:
        """The same quantity of two people; the first may depend on the second."""
        least, make = self.rng.choice([(least, make) for least, make in SCENES[self.scene][:2] if 2 * least < steps])
        if steps > 1 and self.rng.random() < 0.4:
            left = make(self, steps - 1, thing)
            below = [other for other in self.facts if other.who != left.who and other[1:] == left[1:]]
            if not below:
                raise StuckError
            return left, self.rng.choice(below)
        one = self.rng.randint(least, steps - 1 - least)
        left, right = make(self, one, thing), make(self, steps - 1 - one, thing)
        if left[1:] != right[1:]:
            raise StuckError
        return left, right

    # --- the problem -------------------------------------------------------------------------------------------------

    def ask(self, steps: int) -> Quantity:
        """What the problem asks for."""
        thing = "dollars" if self.scene == "shopping" else self.things[0]
        kind = self.rng.random()
        if kind < 0.1:
            left, right = sorted(self.pair(steps, thing), key=lambda quantity: -self.values[quantity])
            more = left._replace(thing=f"more {thing}", end=words(left.end, "than", right.who))
            return self.follow(more, "difference", left, "-", right)
        if kind < 0.2 and self.scene == "having":
            return self.packed(steps, thing)
        return self.amount(steps, thing)

    def distract(self, known: list[Quantity]) -> None:
        """Tells something on the people or the things of the story that leads nowhere."""
        told = [quantity for quantity in known if self.facts[quantity].kind in TOLD]
        quantity = self.alike(self.rng.choice(told))
        others = [other for other in known if other.thing == quantity.thing and other.range == quantity.range]
        if others and self.rng.random() < 0.5:
            self.compare(quantity, self.rng.choice(others), quantity.range[0], quantity.range[2])
            return
        self.tell(quantity, 0)
        self.sentences.insert(self.rng.randrange(len(self.sentences)), self.sentences.pop())


TOLD = ("given", "more", "fewer", "times", "part", "sum")
Make = Callable[[Story, int, str], Quantity]
# What there is in a scene, with the operations that it takes at least; of the first two, there are pairs.
SCENES: dict[str, tuple[tuple[int, Make], ...]] = {
    "having": ((0, Story.owned), (1, Story.boxed), (1, Story.shared), (1, Story.together)),
    "changes": ((0, Story.owned), (1, Story.changed), (1, Story.changed), (1, Story.together)),
    "working": ((0, Story.made), (1, Story.daily), (1, Story.paced), (1, Story.together)),
    "shopping": ((0, Story.spent), (1, Story.bought), (1, Story.purse), (1, Story.together)),
}
