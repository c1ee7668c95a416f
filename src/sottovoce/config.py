"""Frozen settings of a system and its training, read from and written to YAML."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from sottovoce.errors import ConfigError
from sottovoce.older_settings import renamed, upgraded
from sottovoce.paths import resolved
from sottovoce.yaml_file import read_mapping, shown


def _in_samples(value: object) -> object:
    """Refuse a length that was meant in seconds or milliseconds."""
    if isinstance(value, bool):
        raise ValueError(f"is a whole number of samples, found {value}")
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"is a length in samples, found {value:g}; {value:g} s at 16 kHz would be {value * 16000:g}")
    if isinstance(value, str):
        raise ValueError(f"is a whole number of samples without a unit, found {value!r}; 16 ms at 16 kHz are 256")
    return value


# Bounds of what no training needs, so that a slip of the keyboard is named before it takes memory and days.
_MAX_BASES = 10
_MAX_WEIGHTS = 2**28  # of one part of a system: a GiB
_MAX_STEPS = 10**8
_MAX_CLIPS = 1000
_MAX_WIDTH = 4096
_MAX_LAYERS = 64
_MAX_KERNEL = 64

Samples = Annotated[int, Field(gt=0, le=2**14), BeforeValidator(_in_samples)]
Windows = Annotated[tuple[Samples, ...], Field(max_length=8)]
Width = Annotated[int, Field(ge=1, le=_MAX_WIDTH)]
Layers = Annotated[int, Field(ge=1, le=_MAX_LAYERS)]
Kernel = Annotated[int, Field(ge=1, le=_MAX_KERNEL)]
SpeechPart = Literal["speech_encoder", "shared", "amplitude_decoder", "phase_decoder"]
Steps = Annotated[int, Field(ge=1, le=_MAX_STEPS)]
Weight = Annotated[float, Field(ge=0, le=1e6)]


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    """Refuse a range whose ends are swapped."""
    low, high = value
    if low > high:
        raise ValueError(f"is a range from low to high, found {low:g} to {high:g}")
    return value


_Decibel = Annotated[float, Field(ge=-200, le=200)]
_Speed = Annotated[float, Field(ge=0.5, le=2)]  # beyond these, speech is none
_Seconds = Annotated[float, Field(gt=0, le=60)]
Decibels = Annotated[tuple[_Decibel, _Decibel], AfterValidator(_ordered)]
Speeds = Annotated[tuple[_Speed, _Speed], AfterValidator(_ordered)]
Seconds = Annotated[tuple[_Seconds, _Seconds], AfterValidator(_ordered)]
Decay = Annotated[float, Field(ge=0, lt=1)]


def _printable(value: str) -> str:
    """Refuse control characters, which would act on the terminal that shows them."""
    if not value.isprintable():
        raise ValueError(f"is text without control characters, found {value!r}")
    return value


_SettingsT = TypeVar("_SettingsT", bound="Settings")


def of_bounded_size(part: _SettingsT, weights: int) -> _SettingsT:
    """Refuse a part of a system whose weights would fill a computer's memory.

    Args:
        part: Its settings.
        weights: About so many weights it has.

    Returns:
        The same settings.

    Raises:
        ValueError: There are too many.
    """
    if weights > _MAX_WEIGHTS:
        raise ValueError(f"has {weights:,} weights, expected {_MAX_WEIGHTS:,} at most: make it narrower or shorter")
    return part


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FrontendSettings(Settings):
    """From samples to spectra in a scale of their own, and back."""

    sample_rate: int = Field(16000, ge=8000, le=48000, description="Rate at which the system works, in Hz.")
    window: Samples = Field(512, description="Length of the window in samples, even.")
    synthesis_window: Samples | None = Field(
        None,
        description="Length of the synthesis window in samples, even: the end of the window, which alone is given "
        "back, and so the latency. None for all of it.",
    )
    hop: Samples = Field(256, description="Hop in samples.")
    compression: float = Field(0.3, gt=0, le=1, description="Exponent p of amplitudes in features and losses.")
    loss_windows: Windows = Field((1024, 256), description="Windows of the multi-resolution losses.")
    level_horizon_seconds: float = Field(3.0, gt=0, le=60, description="Time over which the running level is taken.")
    level_fall_db_per_second: float = Field(
        0.5, ge=0, le=1000, description="How fast the level falls after speech, at most; 1000 to hold nothing."
    )

    @property
    def bins(self) -> int:
        """Bins F of the window, from 0 Hz to half the rate."""
        return self.window // 2 + 1

    @property
    def bin_spacing_hz(self) -> float:
        """Distance of these bins in Hz."""
        return self.sample_rate / self.window

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        if self.window % 2:
            raise ValueError(f"window is an even length in samples; found {self.window}")
        if any(w % 2 or w < 8 for w in self.loss_windows):
            raise ValueError(f"loss_windows are even lengths in samples, 8 or more; found {list(self.loss_windows)}")
        length = self.synthesis_window or self.window
        if length % 2 or length > self.window:
            raise ValueError(f"synthesis_window is even and at most the window ({self.window} samples); found {length}")
        if self.hop > length // 2:
            raise ValueError(f"hop is at most half the synthesis window ({length // 2} samples); found {self.hop}")
        return self


class ConvolutionSettings(Settings):
    """A plain stack of convolutions over time, frequency bins as channels."""

    widths: tuple[Width, ...] = Field(min_length=1, max_length=_MAX_LAYERS, description="Channels after each layer.")
    kernel: Kernel = Field(3, description="Frames that a layer sees.")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        return of_bounded_size(self, sum(a * b for a, b in pairwise(self.widths)) * self.kernel)


class BandSettings(Settings):
    """Recurrent layers along time that all bands of frequency share, and linear layers across the bands."""

    width: Annotated[int, Field(ge=1, le=1024)] = Field(40, description="Channels of a band.")
    blocks: int = Field(2, ge=0, le=_MAX_LAYERS, description="Pairs of a layer along time and one across the bands.")


class ModelSettings(Settings):
    """The joint system: speech autoencoder, mixture autoencoder, shared latent layer, mask."""

    latent: Width = Field(64, description="Width D of the shared latent space.")
    phase_features: Literal["compressed", "differences"] = Field(
        "compressed",
        description="Phase at the input, times amplitude^p: its cosine and sine, or its differences to the frame "
        "before and the bin below.",
    )
    speech_encoder: ConvolutionSettings
    mixture_encoder: BandSettings
    speech_decoder: ConvolutionSettings
    mixture_decoder: ConvolutionSettings
    noise_code: Width = Field(16, description="Width of a latent that only the mixture decoder sees.")
    mask: BandSettings = Field(description="Mask on the mixture, guided by D_A; as wide as the mixture encoder.")
    room_choice: bool = Field(
        False, description="Whether the networks are given what of the room to keep: all, the early sound, or none."
    )
    mask_pretask: bool = Field(
        False, description="Whether two masks are decoded from the latent: against noise, and against reverberation."
    )
    latent_noise: float = Field(1.0, ge=0, le=1000, description="Deviation of the noise on latents, in training only.")

    @model_validator(mode="after")
    def _bands_fit(self) -> Self:
        if self.mask.width != self.mixture_encoder.width:
            raise ValueError(
                f"mask.width is that of mixture_encoder, whose features it goes on from: "
                f"{self.mixture_encoder.width}; found {self.mask.width}"
            )
        return self


class SpeechWeights(Settings):
    """Weights of the loss terms of the speech stage."""

    amplitude: Weight = 1.0
    phase: Weight = 0.1
    prior: Weight = 1e-3
    multi_resolution: Weight = 0.0
    consistency: Weight = 0.0


class JointWeights(Settings):
    """Weights of the loss terms of the joint stage."""

    mixture_amplitude: Weight = 1.0
    cycle: Weight = 10.0
    latent_consistency: Weight = 1.0
    prior: Weight = 1e-3
    silence: Weight = 1e-3
    multi_resolution: Weight = 0.0
    consistency: Weight = 0.0
    simulated_latent: Weight = 0.0
    simulated_amplitude: Weight = 0.0
    simulated_magnitude: Weight = 0.0
    simulated_complex: Weight = 0.0
    simulated_multi_resolution: Weight = 0.0
    simulated_snr: Weight = 0.0
    simulated_disturbance: Weight = 0.0
    simulated_ratio_mask: Weight = 0.0
    simulated_dereverberation_mask: Weight = 0.0


class SimulatedSpeechSettings(Settings):
    """How the clean speech of simulated mixtures is varied."""

    speed: Speeds = Field((1.0, 1.0), description="Range of the speed perturbation: other voices from few.")
    held_vowel_share: float = Field(0.0, ge=0, le=1, description="Share in which a vowel is held, as in singing.")
    pause_share: float = Field(0.0, ge=0, le=1, description="Share in which nobody speaks for a while before a word.")
    effort_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share that is whispered, or spoken up as in noise (Lombard speech), from a word on.",
    )


class SimulatedRoomSettings(Settings):
    """Rooms that the speech of simulated mixtures is in, and what of their reverberation the target keeps."""

    share: float = Field(0.5, ge=0, le=1, description="Share of simulated mixtures in a room.")
    count: int = Field(64, ge=1, le=10_000, description="Number of rooms.")
    t60_seconds: Seconds = Field((0.15, 0.9), description="Range of the reverberation time.")
    far_share: float = Field(
        0.0, ge=0, le=1, description="Share of these in which the speaker is up to four times as far away."
    )
    keep_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of targets that keep the whole room, of which a network with a choice knows.",
    )
    dry_share: float = Field(0.0, ge=0, le=1, description="Share of targets that keep the direct sound alone.")
    early_ms: float = Field(50.0, ge=0, le=1000, description="Reflections up to here belong to the target.")
    target_t60_seconds: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Reverberation time to which later reflections fade in the target; 0 leaves none of them.",
    )


class SimulatedNoiseSettings(Settings):
    """Which noise simulated mixtures have, and how it is varied."""

    speed: Speeds = Field((1.0, 1.0), description="Range of the speed perturbation: other sources from few.")
    reversed_share: float = Field(0.0, ge=0, le=1, description="Share played backwards: what rings on swells.")
    swelling_share: float = Field(
        0.0, ge=0, le=1, description="Share whose level rises and falls: wind and traffic from few."
    )
    babble_share: float = Field(0.0, ge=0, le=1, description="Share that is several voices of the clean speech.")
    synthetic_share: float = Field(
        0.0, ge=0, le=1, description="Share that comes from no recording: random colours and shapes."
    )
    source_share: float = Field(
        0.0, ge=0, le=1, description="Share of these that is modelled on a source: engine, fan, keyboard, siren, music."
    )
    crowd_share: float = Field(
        0.0, ge=0, le=1, description="Share of the babble that is a crowd: dozens of voices in a hall."
    )
    second_share: float = Field(
        0.0, ge=0, le=1, description="Share of simulated mixtures with a second noise at the same time."
    )


class SimulationSettings(Settings):
    """How simulated mixtures are made: clean speech, in a room, plus noise."""

    snr_db: Decibels = Field((-5.0, 15.0), description="Range of the SNR.")
    quiet_share: float = Field(
        0.0, ge=0, le=1, description="Share in a quiet place: SNR above the range of snr_db, up to 50 dB."
    )
    attenuation_db: float | None = Field(
        None,
        gt=0,
        le=200,
        description="How far below the mixture what is removed stays audible in the target; null to remove it wholly.",
    )
    random_filter: float = Field(
        0.375, ge=0, lt=0.5, description="Range of the coefficients of the random filters; 0 for no filter."
    )
    band_limited_share: float = Field(
        0.0, ge=0, le=1, description="Share without high frequencies, as after a telephone or coder."
    )
    equaliser_share: float = Field(
        0.0, ge=0, le=1, description="Share with another frequency response; the target has it as well."
    )
    microphone_share: float = Field(
        0.0, ge=0, le=1, description="Share with self-noise and clipping of a microphone, which the target lacks."
    )
    codec_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share that went through a codec; the target has its band limit but not its quantisation.",
    )
    speech: SimulatedSpeechSettings = SimulatedSpeechSettings()
    room: SimulatedRoomSettings = SimulatedRoomSettings()
    noise: SimulatedNoiseSettings = SimulatedNoiseSettings()


class StreamSettings(Settings):
    """How recordings that a manifest lists come into memory, 2 MiB of each at most."""

    readers: int = Field(
        12,
        ge=1,
        le=1024,
        description="Readers among which the recordings are dealt out; as many processes as divide this number draw "
        "without reading a recording twice.",
    )
    recordings: int = Field(
        24, ge=1, le=10_000, description="Recordings of speech, and noisy ones, that a reader has in memory."
    )


class DataSettings(Settings):
    """What a training step draws."""

    clip_seconds: float = Field(2.0, ge=0.25, le=30, description="Length of every clip.")
    speech_clips: int = Field(20, ge=1, le=_MAX_CLIPS, description="Clean clips of a step.")
    mixture_clips: int = Field(14, ge=1, le=_MAX_CLIPS, description="Clips of noisy recordings of a step.")
    noise_clips: int = Field(6, ge=0, le=_MAX_CLIPS, description="Noise-only stretches of the recordings of a step.")
    simulated_clips: int = Field(0, ge=0, le=_MAX_CLIPS, description="Simulated mixtures of a step.")
    simulation: SimulationSettings = SimulationSettings()
    level_db: Decibels = Field((-45.0, -15.0), description="Range of the level of clips, full scale 0 dB.")
    held_back_share: float = Field(0.1, ge=0, lt=1, description="Share of speakers and sessions kept for the checks.")
    workers: int | None = Field(
        None,
        ge=0,
        le=64,
        description="Processes that draw batches beside the training; by default one, or for a GPU, which would wait "
        "for it, one on every core but that of the training, and no more than 16.",
    )
    stream: StreamSettings = StreamSettings()


class OptimiserSettings(Settings):
    """Adam and its learning rate."""

    learning_rate: float = Field(1e-3, gt=0, le=10)
    final_learning_rate: float = Field(1e-5, ge=0, le=10, description="Reached by a half cosine at the last step.")
    warmup_steps: int = Field(0, ge=0, le=_MAX_STEPS)
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    weight_decay: float = Field(0.0, ge=0, le=10)
    gradient_clip: float = Field(5.0, gt=0, le=1e6, description="Largest norm of a gradient.")


class JointLearningSettings(Settings):
    """How the speech autoencoder goes on learning in the joint stage."""

    rate: float = Field(1.0, gt=0, le=1, description="Its share of the learning rate.")
    from_mixtures: tuple[SpeechPart, ...] = Field(
        get_args(SpeechPart),
        max_length=len(get_args(SpeechPart)),
        description="Its parts that noisy clips train as well; clean speech alone trains the others.",
    )
    alternate: bool = Field(False, description="Whether a step takes clean or noisy clips, at random, instead of both.")


class TrainingSettings(Settings):
    """Stages, their lengths and what is logged."""

    seed: int = Field(1, ge=0, lt=2**32)
    speech_steps: int = Field(
        1500, ge=0, le=_MAX_STEPS, description="Steps of the speech stage; 0 for joint learning from the start."
    )
    joint_steps: Steps = Field(6000, description="Steps of the joint stage.")
    joint_learning: JointLearningSettings | None = Field(
        None, description="The speech autoencoder goes on learning in the joint stage; null to freeze it there."
    )
    check_every: Steps = Field(500, description="Steps between health checks, pictures and checkpoints.")
    processes: int = Field(
        1, ge=1, le=64, description="Processes that train together, on a GPU each where there are GPUs."
    )
    accumulate: int = Field(
        1,
        ge=1,
        le=1000,
        description="Batches of each process whose gradients are averaged for a step: `processes` times `accumulate` "
        "batches make a step.",
    )
    optimiser: OptimiserSettings = OptimiserSettings()
    data: DataSettings = DataSettings()


class RunSettings(Settings):
    """What the training of any system needs, whatever its networks are."""

    name: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
    frontend: FrontendSettings = FrontendSettings()
    speech_weights: SpeechWeights = SpeechWeights()
    joint_weights: JointWeights = JointWeights()
    training: TrainingSettings = TrainingSettings()

    @model_validator(mode="after")
    def _something_is_learned(self) -> Self:
        if not self.training.speech_steps and self.training.joint_learning is None:
            raise ValueError("training.speech_steps is 0, and the joint stage freezes what it would have trained")
        for name in ("speech_weights", "joint_weights"):
            if not any(weight for _, weight in getattr(self, name)):
                raise ValueError(f"{name} are all 0: nothing would be learned")
        return self


class SystemSettings(RunSettings):
    """Everything that makes a trained system: the whole of a YAML file of `conf/`."""

    model: ModelSettings

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        simulated = [name for name in JointWeights.model_fields if name.startswith("simulated_")]
        if not any(getattr(self.joint_weights, name) for name in simulated):
            raise ValueError("model.mask has nothing to learn from: give one of the joint_weights.simulated_* a weight")
        if not self.training.data.simulated_clips:
            raise ValueError("model.mask has nothing to learn from: training.data.simulated_clips is 0")
        for name in ("simulated_ratio_mask", "simulated_dereverberation_mask"):
            if getattr(self.joint_weights, name) and not self.model.mask_pretask:
                raise ValueError(f"joint_weights.{name} has no decoder: set model.mask_pretask to true")
        return self


Kind = TypeVar("Kind", bound=RunSettings)
"""The settings of this package's system, or those of another package's."""


def _merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        if (
            isinstance(old, dict)
            and isinstance(value, dict)
            and len({part["kind"] for part in (old, value) if "kind" in part}) < 2
        ):
            merged[key] = _merge(old, value)
        else:  # A part of another kind has other settings: nothing of the old one is kept.
            merged[key] = value
    return merged


def _read_mapping(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    # Names first, so that a value of this file takes the place of its base's.
    content = renamed(read_mapping(path), str(path))
    base = content.pop("base", None)
    if base is None:
        return content
    if not isinstance(base, str) or not base.isprintable():
        raise ConfigError(f"{path}: base: expected the name of settings or a YAML file, found {shown(repr(base))}")
    seen = (*seen, resolved(path))
    other = path.parent / base if base.endswith((".yaml", ".yml")) else find_settings(base)
    if resolved(other) in seen or len(seen) > _MAX_BASES:
        raise ConfigError(f"found settings that are based on themselves, or on more than {_MAX_BASES} others: {path}")
    return _merge(_read_mapping(other, seen), content)


def parse_settings(content: dict[str, Any], origin: str) -> SystemSettings:
    """Check a mapping of settings, of this version or an older one.

    Args:
        content: Nested mapping, as in a YAML file.
        origin: Where it comes from, for messages.

    Returns:
        The settings.

    Raises:
        ConfigError: A key is unknown or was removed, a value has a wrong type, unit or range, or settings contradict
            each other.
    """
    return parse_settings_as(SystemSettings, content, origin)


def parse_settings_as(kind: type[Kind], content: dict[str, Any], origin: str) -> Kind:
    """Check a mapping of settings of any kind, as `parse_settings` does."""
    try:
        return kind.model_validate(upgraded(content, origin, kind.model_fields))
    except ValidationError as error:
        raise explained(error, origin) from error


def explained(error: ValidationError, origin: str) -> ConfigError:
    """Say of what pydantic refuses where it is, what is wrong and what was found.

    Args:
        error: What pydantic says.
        origin: Where the settings come from.

    Returns:
        The error to raise: a sentence on the first problem, and the number of the others.
    """
    first, *others = error.errors()
    key = ".".join(shown(str(part)) for part in first["loc"]) or "settings"
    found = "" if first["type"] in ("missing", "value_error") else f", found {shown(repr(first['input']))}"
    problem = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    more = f" (and {len(others)} more)" if others else ""
    return ConfigError(f"{origin}: {key}: {problem}{found}{more}")


def changed(settings: Kind, change: dict[str, Any], origin: str) -> Kind:
    """Give some settings other values, which are checked.

    Args:
        settings: Any settings.
        change: Nested mapping of the new values.
        origin: Where they come from, for messages.

    Returns:
        The new settings.

    Raises:
        ConfigError: A value has a wrong type or range, or contradicts another.
    """
    return parse_settings_as(type(settings), _merge(settings.model_dump(), change), origin)


def load_settings(path: Path) -> SystemSettings:
    """Read settings from YAML; a key `base` names the settings that it changes: `default`, or a file beside it.

    Args:
        path: YAML file.

    Returns:
        The settings.

    Raises:
        ConfigError: The file is missing or wrong; the message names key and value.
    """
    return load_settings_as(SystemSettings, path)


def load_settings_as(kind: type[Kind], path: Path) -> Kind:
    """Read settings of any kind from YAML, as `load_settings` does."""
    return parse_settings_as(kind, _read_mapping(path), str(path))


def find_settings(name: str) -> Path:
    """Find settings by the name of one of those that come with sottovoce, or by a path.

    Args:
        name: "default", "poster", ... or the path of a YAML file.

    Returns:
        Path of the file; a path is given back as it is.

    Raises:
        ConfigError: There are no settings of that name.
    """
    package = Path(__file__).parent
    # An installed package holds conf/; a checkout has it at its root.
    folder = next((place for place in (package / "conf", package.parents[1] / "conf") if place.is_dir()), package)
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    known = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}
    if name not in known:
        raise ConfigError(f"found the settings {name!r}, expected one of {', '.join(known)}, or a YAML file")
    return known[name]


def dump_settings(settings: RunSettings) -> str:
    """Write settings as YAML.

    Args:
        settings: Any settings.

    Returns:
        Text from which `load_settings` gives the same settings.
    """
    import yaml

    return str(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))
