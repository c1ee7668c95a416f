"""What `sottovoce adapt` gains in places that are new to the bundled model, scored with clean versions.

    python recipes/prepare_data.py data
    python benchmarks/adaptation.py data

adapts to the recordings of each of `data/places`, by the defaults of the command, and scores the bundled model and the
adapted one on the mixtures of that place.
"""

import argparse
import os
import sys
from pathlib import Path

from _scoring import DEFAULT, UNPROCESSED, model, read_items, scored, unprocessed, write_scores

from sottovoce.metrics.report import differences, markdown_table, summarise
from sottovoce.metrics.scores import MEASURE_NAMES, WITHOUT_DNSMOS, FileScores
from sottovoce.training.adapt import adapt
from sottovoce.weights import CHECKPOINTS, DEFAULT_SPEECH, MODELS

RESULTS = Path(__file__).parent / "results"
SHOWN = ("pesq_wb", "stoi", "si_sdr_db", "covl")
ADAPTED = "adapted"


def main() -> int:
    """Adapt to the places of the command line's folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("data", type=Path, nargs="?", default=Path("data"), help="folder of recipes/prepare_data.py")
    add("-o", "--output", type=Path, default=RESULTS / "adaptation", help="folder of the table and all scores")
    add("--work", type=Path, default=Path("runs/adaptation"), help="folder of adaptations and enhanced recordings")
    add("--steps", type=int, default=150)
    add("--seed", type=int, default=1)
    add("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    places = sorted(path.parent.parent for path in (arguments.data / "places").glob("*/test/mixtures.csv"))
    if not places:
        print(f"Skipped: found no places in {arguments.data}; make them with recipes/prepare_data.py.")
        return 0
    rows = [["place", "taken", "", *(MEASURE_NAMES[measure] for measure in SHOWN)]]
    scores: dict[str, list[FileScores]] = {}
    for place in places:
        adaptation = adapt(
            place / "noisy",
            arguments.work / place.name,
            checkpoint=CHECKPOINTS["default"],
            speech=DEFAULT_SPEECH,
            steps=arguments.steps,
            seed=arguments.seed,
        )
        print(f"{place.name}: {adaptation.reason}")
        items, work = read_items(place / "test"), arguments.work / "scores" / place.name
        systems = {
            UNPROCESSED: unprocessed(),
            DEFAULT: model(MODELS["default"]),
            # What was learned, even if it was not taken: whether refusing it was right shows here.
            ADAPTED: model(adaptation.refused or adaptation.model),
        }
        found: list[FileScores] = []
        for name, system in systems.items():
            found += scored(items, name, system, work, arguments.jobs, measures=WITHOUT_DNSMOS)
        scores[place.name] = found
        taken = "yes" if adaptation.adopted else "no"
        for name, means in summarise(found, SHOWN).items():
            rows.append([place.name, taken, name, *map(str, means.values())])
        gains = differences(found, ADAPTED, DEFAULT, SHOWN)
        rows.append([place.name, taken, "gain", *(f"{gain:+.3f}" for gain in gains.values())])
    lines = [
        "# Adapting to a place",
        "",
        f"{len(places)} places, {arguments.steps} steps, seed {arguments.seed}; means "
        "with 95 % confidence intervals over the mixtures of each place, of paired differences for the gains.",
        "",
        *markdown_table(rows),
    ]
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_scores(arguments.output / "scores.csv", scores)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
