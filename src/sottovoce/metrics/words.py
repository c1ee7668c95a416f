"""Errors of a speech recogniser."""

from collections.abc import Sequence


def word_errors(reference: Sequence[str], recognised: Sequence[str]) -> int:
    """Count the words to replace, leave out or put in to turn what was recognised into the reference.

    Args:
        reference: Words that were said.
        recognised: Words that were recognised.

    Returns:
        The smallest number of such changes.
    """
    row = list(range(len(recognised) + 1))
    for i, said in enumerate(reference, start=1):
        above_left, row[0] = row[0], i
        for j, word in enumerate(recognised, start=1):
            above_left, row[j] = row[j], min(above_left + (said != word), row[j] + 1, row[j - 1] + 1)
    return row[-1]
