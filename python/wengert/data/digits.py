"""The 8x8 digits that are shipped inside the package: 1,797 images, values 0..16, ten classes.

E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
1998, doi 10.24432/C50P49, CC BY 4.0. The attribution in full stands in DIGITS.md beside the file.
"""

from __future__ import annotations

import gzip
import zlib
from importlib import resources

import numpy as np
import numpy.typing as npt

from .errors import DataError, DataNotFoundError

CRC32 = 0x2EBE3BB7  # of the text; a damaged installation must not train on other numbers


def load_digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Images (1797, 64) float32 with values 0..16, and labels (1797,) int64 with values 0..9."""
    file = resources.files(__package__).joinpath("digits.csv.gz")
    try:
        text = gzip.decompress(file.read_bytes())
    except FileNotFoundError:
        raise DataNotFoundError(
            "load_digits: digits.csv.gz is missing from the installed package; reinstall wengert"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"load_digits: digits.csv.gz is damaged ({error}); reinstall wengert"
        ) from None
    if zlib.crc32(text) != CRC32:
        raise DataError("load_digits: digits.csv.gz has been altered; reinstall wengert")
    table = np.array(text.replace(b"\n", b",").rstrip(b",").split(b","), dtype=np.uint8)
    table = table.reshape(-1, 65)
    return table[:, :64].astype(np.float32), table[:, 64].astype(np.int64)
