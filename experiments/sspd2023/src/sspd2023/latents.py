"""Where mixtures lie in the latent space of speech: latents of both encoders for the same words, as a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from sottovoce.atomic import replacing
from sottovoce.metrics import plots
from sottovoce.metrics.latent_plots import principal_plane
from sottovoce.metrics.plots import COLOURS, GRID, INK, new_figure, tidy
from sottovoce.metrics.report import markdown_table, mean
from sottovoce.models.blocks import Past
from sottovoce.models.joint import JointSystem
from sspd2023.protocol import TestMixture
from sspd2023.report import CONDITIONS
from sspd2023.run import CURVE_MIXTURES, load_network, read_signal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METHOD = """\
h_s = G(E_S(s)) are the latents of the clean, dry speech s, h_m = G(E_M(y)) those of the mixture y of the same words.
D_A and D_P make speech of h_m, so that a mixture can only become its own words where h_m comes close to h_s. Nothing in
a loss on unpaired recordings asks for that; the pairs are used to measure it here, and for nothing else.

- *Distance*: the energy of h_m - h_s over that of h_s around its mean. 0 is the latent of the clean speech; 1 is what
  the mean of h_s would give, whatever was said.
- *To other speech*: the same between h_m and the h_s of another mixture. Where both are equal, h_m knows no words.
- *Correlation*: of h_m and h_s over time, the mean over all dimensions that vary.

Intervals are 95 % confidence intervals (Student's t) over mixtures, for the first seed."""

_COLUMNS = 4
_SHOWN_FRAMES = 1500
_DEAD = 1e-6


@dataclass(frozen=True)
class Latents:
    """Latents of both encoders for the same words.

    Attributes:
        speech: Of the clean speech by E_S, `(N, D)`.
        mixture: Of the mixture by E_M, `(N, D)`.
    """

    speech: NDArray[np.float64]
    mixture: NDArray[np.float64]

    def distance_to(self, speech: NDArray[np.float64]) -> float:
        """Energy of the difference of the mixture's latents and some of speech, relative to these around their mean.

        Args:
            speech: Latents of speech `(N', D)`; what is longer is cut.

        Returns:
            0 or more; NaN where those of speech do not vary.
        """
        frames = min(len(speech), len(self.mixture))
        speech, mixture = speech[:frames], self.mixture[:frames]
        energy = float(np.square(speech - speech.mean(axis=0)).sum())
        return float(np.square(mixture - speech).sum()) / energy if energy > _DEAD else float("nan")

    @property
    def correlation(self) -> float:
        """Mean over the dimensions that vary, -1 to 1; NaN where none does."""
        speech, mixture = (latent - latent.mean(axis=0) for latent in (self.speech, self.mixture))
        energy = np.sqrt(np.square(speech).sum(axis=0) * np.square(mixture).sum(axis=0))
        alive = energy > _DEAD
        if not alive.any():
            return float("nan")
        return float(((speech * mixture).sum(axis=0)[alive] / energy[alive]).mean())


@torch.no_grad()
def encode(network: JointSystem, test: TestMixture) -> Latents:
    """Encode a test mixture and its clean speech, each in the scale of its own running level.

    Args:
        network: In evaluation mode.
        test: The mixture.

    Returns:
        The latents.
    """

    def scaled(path: Path) -> torch.Tensor:
        spectra = network.analyse(torch.from_numpy(read_signal(path)[np.newaxis]))
        level: torch.Tensor = network.level(spectra, Past())
        return spectra / level

    of_speech = network.encode_speech(scaled(test.clean))
    of_mixture = network.translate(scaled(test.noisy)).latent
    speech, mixture = (latent[0].T.double().numpy() for latent in (of_speech, of_mixture))
    return Latents(speech, mixture)


def study(tests: Sequence[TestMixture], checkpoints: Mapping[str, Path]) -> dict[str, list[Latents]]:
    """Encode the first of the test mixtures by each system.

    Args:
        tests: Test mixtures of a condition.
        checkpoints: Finished trainings by system.

    Returns:
        By system, one per mixture; systems without latents of both encoders are left out.

    Raises:
        ModelError: A checkpoint is missing, foreign or cut.
    """
    found = {}
    for system, checkpoint in checkpoints.items():
        network = load_network(checkpoint)
        if isinstance(network, JointSystem):
            found[system] = [encode(network, test) for test in tests[:CURVE_MIXTURES]]
    return found


def write(
    studies: Mapping[str, Mapping[str, Sequence[Latents]]],
    labels: Mapping[str, str],
    notes: Sequence[str],
    output: Path,
) -> list[Path]:
    """Write `latents.md` and a figure for every condition.

    Args:
        studies: Latents of every mixture by system, by condition.
        labels: What systems are called, in the order of the rows.
        notes: Sentences for the top: what was run.
        output: Folder of the benchmark.

    Returns:
        What was written.

    Raises:
        MissingExtraError: The package matplotlib or scipy is not installed.
    """
    files = [output / "latents.md"]
    lines = ["# Latents of mixtures and of speech", "", *(f"- {note}" for note in notes), "", _METHOD, ""]
    for condition, by_system in studies.items():
        count = len(next(iter(by_system.values()), ()))
        lines += [f"## {CONDITIONS.get(condition, condition)}", "", f"`{condition}`, {count} mixtures.", ""]
        if by_system:
            files.append(output / "figures" / f"{condition}_latents.png")
            plots.save(maps(by_system, labels), files[-1])
            lines += [f"![Latents of speech and of mixtures](figures/{condition}_latents.png)", ""]
        lines += [*markdown_table(table(by_system, labels)), ""]
    with replacing(files[0]) as temporary:
        temporary.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    return files


def table(by_system: Mapping[str, Sequence[Latents]], labels: Mapping[str, str]) -> list[list[str]]:
    """How close the mixtures' latents come to those of their own words.

    Args:
        by_system: Latents of every mixture.
        labels: What systems are called, in the order of the rows.

    Returns:
        Rows of text, the heading first.

    Raises:
        MissingExtraError: The package scipy is not installed.
    """
    rows = [["system", "distance", "to other speech", "correlation"]]
    for system, label in labels.items():
        if latents := by_system.get(system):
            others = [*latents[1:], latents[0]]
            own = [each.distance_to(each.speech) for each in latents]
            to_others = [each.distance_to(other.speech) for each, other in zip(latents, others, strict=True)]
            correlations = [each.correlation for each in latents]
            rows.append([label, *(str(mean(values)) for values in (own, to_others, correlations))])
    return rows


def maps(by_system: Mapping[str, Sequence[Latents]], labels: Mapping[str, str]) -> "Figure":
    """A panel per system: latents of speech and of mixtures in the plane in which both together vary most.

    Args:
        by_system: Latents of every mixture.
        labels: What systems are called, in the order of the panels.

    Returns:
        Figure with up to four panels in a row.

    Raises:
        MissingExtraError: The package matplotlib is not installed.
    """
    systems = [system for system in labels if system in by_system]
    columns = min(_COLUMNS, len(systems))
    lines = -(-len(systems) // columns)
    figure = new_figure(0.4 + 2.8 * columns, 0.6 + 2.8 * lines)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axis in grid.flat[len(systems) :]:
        axis.set_visible(False)
    for axis, system in zip(grid.flat, systems, strict=False):
        pairs = by_system[system]
        kinds = [np.concatenate([each.speech for each in pairs]), np.concatenate([each.mixture for each in pairs])]
        (speech, mixture), shares = principal_plane(kinds)
        for points, colour, name in ((speech, COLOURS[0], "speech, by E_S"), (mixture, COLOURS[2], "mixtures, by E_M")):
            shown = points[:: max(1, len(points) // _SHOWN_FRAMES)]
            axis.scatter(*shown.T, s=4, color=colour, linewidth=0, alpha=0.45, label=name)
        axis.set_title(labels[system], fontsize=8, color=INK)
        axis.set_xlabel(f"{sum(shares):.0%} of the variance", fontsize=8, color=INK)
        axis.grid(color=GRID)
        tidy(axis)
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside upper center", ncols=2, frameon=False, fontsize=8, labelcolor=INK, markerscale=2.5
    )
    return figure
