"""wengert.data: small readers and batches. NumPy arrays in and out; a batch is made of tensors.

x, y = load_digits()
x_train, y_train, x_test, y_test = split(x / 16, y, fraction=0.2, seed=0)
for x_batch, y_batch in Batches(x_train, y_train, batch_size=32): ...
"""

from .batching import Batches, ShardedBatch, Split, Standardizer, split, split_indices, to_tensors
from .dataset import Dataset, Shards
from .digits import load_digits
from .errors import DataError, DataNotFoundError
from .files import load_idx, load_idx_directory, load_npz
from .frames import Encoder, load_frame
from .images import (
    ImageFolder,
    MixUp,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomRotation,
)
from .source import Loaded, load, load_inputs
from .tables import Table, load_csv

__all__ = [
    "Batches",
    "DataError",
    "DataNotFoundError",
    "Dataset",
    "Encoder",
    "ImageFolder",
    "Loaded",
    "MixUp",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomRotation",
    "ShardedBatch",
    "Shards",
    "Split",
    "Standardizer",
    "Table",
    "load",
    "load_csv",
    "load_digits",
    "load_frame",
    "load_idx",
    "load_idx_directory",
    "load_inputs",
    "load_npz",
    "split",
    "split_indices",
    "to_tensors",
]


def __dir__() -> list[str]:
    return __all__
