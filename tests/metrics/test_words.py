"""Errors of a speech recogniser."""

import pytest

from sottovoce.metrics.words import word_errors


@pytest.mark.parametrize(
    ("recognised", "errors"),
    [
        ("ask not what your country can do", 0),
        ("", 7),
        ("ask knot what your country can do", 1),
        ("ask what your country can do", 1),
        ("please ask not what your own country can do", 2),
        ("not what your country can do ask", 2),
        ("a b c d e f g h", 8),
    ],
)
def test_word_errors(recognised, errors):
    reference = ["ask", "not", "what", "your", "country", "can", "do"]
    assert word_errors(reference, recognised.split()) == errors
    assert word_errors(recognised.split(), reference) == errors
