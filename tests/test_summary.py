"""wengert.summary: figures of layers against counts by hand, and that nothing is changed by it."""

from __future__ import annotations

import pytest

import wengert as wg
from wengert import nn
from wengert.models.bert import BertConfig, BertModel


@pytest.mark.smoke
def test_a_linear_layer_by_hand() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    total, first, relu, last = wg.summary(model, wg.randn((7, 6))).layers
    assert (first.path, first.kind, first.output_shape) == ("0", "Linear", (7, 5))
    assert first.parameters == 35 and last.parameters == 12 and total.parameters == 47
    assert first.flops == 2 * 7 * 6 * 5 + 7 * 5  # the product, and the bias
    assert relu.flops == 35 and total.flops == first.flops + relu.flops + last.flops
    # the gradient of W alone: nobody asks for that of x; and the bias's sum
    assert first.training_flops == first.flops + 2 * 7 * 6 * 5 + 7 * 5
    assert last.training_flops == last.flops + 2 * (2 * 7 * 5 * 2) + 7 * 2
    assert relu.parameters == 0 and relu.training_bytes >= 7 * 5 * 4
    assert total.bytes > 0 and total.training_bytes > 0


def test_bert_and_its_table() -> None:
    c = BertConfig(60, 16, 2, 4, 24, max_position_embeddings=12)
    model = BertModel(c).eval()
    ids = wg.randint(0, 60, (2, 5))
    found = wg.summary(model, ids, attention_mask=wg.ones((2, 5)))
    by_path = {layer.path: layer for layer in found.layers}
    query = by_path["encoder.layer.1.attention.self.query"]
    assert query.flops == 2 * 10 * 16 * 16 + 10 * 16 and query.output_shape == (2, 5, 16)
    assert found.total.output_shape == [(2, 5, 16), (2, 16)]
    assert found.total.parameters == sum(p.numel() for p in model.parameters())
    assert found.total.training_flops > 2 * found.total.flops
    text = str(found)
    assert "query Linear" in text and "inference" in text.splitlines()[0]
    assert len(text.splitlines()) == 2 + len(found.layers)
    assert not model.training and all(p.grad is None for p in model.parameters())


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).eval()
    model[0].train()
    call = nn.Module.__call__
    wg.summary(model, wg.randn((2, 3)))
    assert nn.Module.__call__ is call
    assert [m.training for m in model.modules()] == [False, True, False]
    with pytest.raises(wg.ShapeError):
        wg.summary(model, wg.randn((2, 4)))
    assert nn.Module.__call__ is call
    with pytest.raises(TypeError, match=r"nn\.Module"):
        wg.summary(3, wg.randn((2, 4)))  # type: ignore[arg-type]
