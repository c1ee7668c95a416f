"""What the tests of trainings share, and a development set that is scored in no time."""

import pytest

from ..training.conftest import folders  # noqa: F401 (a fixture; what it needs is looked for there)


@pytest.fixture(autouse=True, scope="session")
def few_mixtures():
    from sottovoce.search import development

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(development, "_COUNT", 4)
        patch.setattr(development, "_SECONDS", 2.0)
        yield
