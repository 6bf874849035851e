"""From the name a user gives to a directory that is ready to load. Never imports torch."""

from decoding.models.files import ModelError, ModelFiles
from decoding.models.progress import Progress, Silent, progress_on
from decoding.models.resolve import DEFAULT_MODEL, resolve

__all__ = [
    "DEFAULT_MODEL",
    "ModelError",
    "ModelFiles",
    "Progress",
    "Silent",
    "progress_on",
    "resolve",
]
