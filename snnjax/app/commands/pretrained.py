"""`snnjax pretrained`: lists the networks that come with snnjax."""

from snnjax.app import console, options
from snnjax.core import checks
from snnjax.runs import pretrained
from snnjax.runs.pretrained import Card

NAMES = dict(trained_accuracy="test accuracy before the weights were rounded", bits="bits of weights")
"""Descriptions of entries of a card whose names are not clear enough."""


def run(chosen: options.Pretrained) -> None:
    """Prints a table of all networks, or the card of one."""
    cards = pretrained.cards()
    if chosen.name is None:
        return listing(cards)
    checks.one_of("NAME", chosen.name, cards)
    for name, value in cards[chosen.name]._asdict().items():
        print(f"{NAMES.get(name, name.replace('_', ' '))}: {value}")


def listing(cards: dict[str, Card]) -> None:
    """Prints a table of all networks."""
    head = ("name", "data", "training images", "test accuracy", "bits", "kB")
    rows = []
    for name, card in cards.items():
        accuracy = f"{card.test_accuracy:.2%} of {card.test_images:,}"
        size = f"{card.file_bytes / 1000:,.0f}"
        rows.append([name, card.data, f"{card.train_images:,}", accuracy, f"{card.bits}", size])
    console.screen().print(console.table(head, [rows], "trained networks", left=2))
    print("`snnjax predict pretrained:NAME PICTURES` classifies pictures; in Python, `snnjax.load('pretrained:NAME')`.")
    print("Other commands also accept pretrained:NAME as RUN; `snnjax pretrained NAME` prints how it was made.")
