"""A stage of NeMo Curator that enhances the recordings of its tasks, each in a file of its own.

    pipeline = Pipeline("speech", stages=[..., EnhanceStage(output="enhanced"), ASRStage(...)])

A recording that fails keeps its entry, with a sentence in `enhance_error`; a stage that follows may filter by it.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from nemo_curator.backends.base import WorkerMetadata
from nemo_curator.stages.base import ProcessingStage
from nemo_curator.stages.resources import Resources
from nemo_curator.tasks import AudioTask

import sottovoce
from sottovoce.engine.files import enhance_files


@dataclass
class EnhanceStage(ProcessingStage[AudioTask, AudioTask]):
    """Enhances `audio_filepath`, which then names the enhanced version, and `original_filepath` the recording.

    Args:
        output: Folder for the enhanced versions, which are kept if they are there and not older.
        model: A bundled model, a model file, or the folder of a training.
    """

    output: str
    model: str = "default"
    name: str = "EnhanceStage"
    resources: Resources = field(default_factory=lambda: Resources(cpus=1.0))

    def inputs(self) -> tuple[list[str], list[str]]:
        """Name what a task must have."""
        return [], ["audio_filepath"]

    def outputs(self) -> tuple[list[str], list[str]]:
        """Name what a task has afterwards."""
        return [], ["audio_filepath", "original_filepath", "enhance_error"]

    def setup(self, worker_metadata: WorkerMetadata | None = None) -> None:
        """Load the model, once for each worker."""
        self._enhancer = sottovoce.load(self.model)

    def process(self, task: AudioTask) -> AudioTask:
        """Enhance one recording."""
        source = Path(task.data["audio_filepath"])
        # Equal names in different folders stay two.
        key = hashlib.sha256(str(source.absolute()).encode()).hexdigest()[:16]
        target = Path(self.output) / f"{source.stem}-{key}{source.suffix}"
        (result,) = enhance_files([source], target, self._enhancer, resume=True)
        task.data["original_filepath"] = str(source)
        task.data["enhance_error"] = result.error
        if result.error is None:
            task.data["audio_filepath"] = str(result.target)
        return task
