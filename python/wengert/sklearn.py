"""Estimators for scikit-learn: `MLPClassifier` and `MLPRegressor`, which train a `wengert.nn.MLP`.

    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from wengert.sklearn import MLPClassifier

    model = make_pipeline(StandardScaler(), MLPClassifier((64, 64), random_state=0))
    model.fit(x_train, y_train).score(x_test, y_test)

Names, defaults and meaning are those of sklearn.neural_network: alpha is the L2 penalty of the
weights, divided by the samples of a batch; early_stopping keeps a part back and ends with the best
weights on it; without it training ends when the loss no longer falls by `tol`. They pass
`check_estimator`, and can be cloned, pickled and searched over in processes (GridSearchCV).
float32 data are trained on in float32, all other in float64. Each step is compiled.
Needs scikit-learn: pip install "wengert[sklearn]".
"""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
import numpy.typing as npt

import wengert
from wengert import nn, optim

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import accuracy_score, r2_score
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state, column_or_1d, compute_class_weight
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f'wengert.sklearn needs scikit-learn 1.6 or newer: pip install "wengert[sklearn]" ({error})'
    ) from None

__all__ = ["MLPClassifier", "MLPRegressor"]

Array = npt.NDArray[Any]
_SOLVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {"weight_decay": 0.0}),
    "nadam": ("NAdam", {}),
    "rmsprop": ("RMSprop", {}),
    "sgd": ("SGD", {"momentum": 0.9, "nesterov": True}),
}


class _MLP(BaseEstimator):  # type: ignore[misc]
    """What both estimators share."""

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate_init: float = 0.001,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
    ) -> None:
        """hidden_layer_sizes: a number for each hidden layer. activation: a name of
        nn.MLP.activations. solver: adam, adamw, nadam, rmsprop or sgd (Nesterov, momentum 0.9).
        batch_size: "auto" is 200, or all samples where they are fewer."""
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change

    @property
    def coefs_(self) -> list[Array]:
        """The weights of each layer, (inputs, outputs)."""
        return [p.detach().numpy().T for p in self._layers()[0]]

    @property
    def intercepts_(self) -> list[Array]:
        """The biases of each layer."""
        return [p.detach().numpy() for p in self._layers()[1]]

    def _layers(self) -> tuple[list[Any], list[Any]]:
        if "module_" not in vars(self):
            raise AttributeError(f"this {type(self).__name__} is not fitted yet")
        parameters = list(self.module_.parameters())
        return parameters[::2], parameters[1::2]

    def __getstate__(self) -> dict[str, Any]:
        """Without the compiled step, which the next call makes again."""
        return {k: v for k, v in super().__getstate__().items() if k != "_step"}

    # ---- what the two do otherwise

    def _targets(self, y: Array, sample_weight: Array) -> tuple[Array, Array, int]:
        """(targets to train on, weights, outputs of the network)."""
        raise NotImplementedError

    def _loss(self, outputs: Any, y: Any) -> Any:
        """The loss of each sample."""
        raise NotImplementedError

    def _score(self, outputs: Array, y: Array, sample_weight: Array) -> float:
        raise NotImplementedError

    # ---- training

    def _check(self) -> list[int]:
        name, hidden = type(self).__name__, self.hidden_layer_sizes
        sizes = [hidden] if isinstance(hidden, (int, np.integer)) else list(hidden)
        if not all(isinstance(n, (int, np.integer)) and n > 0 for n in sizes):
            raise ValueError(
                f"{name}: hidden_layer_sizes is {hidden!r}; expected a whole number above 0 for "
                "each hidden layer"
            )
        for key, known in (("solver", _SOLVERS), ("activation", nn.MLP.activations)):
            if getattr(self, key) not in known:
                raise ValueError(
                    f"{name}: {key} is {getattr(self, key)!r}; there are {', '.join(known)}"
                )
        for key, good, what in (
            ("alpha", self.alpha >= 0, "0 or more"),
            ("learning_rate_init", self.learning_rate_init > 0, "above 0"),
            ("max_iter", self.max_iter >= 1, "1 or more"),
            ("n_iter_no_change", self.n_iter_no_change >= 1, "1 or more"),
            ("validation_fraction", 0 < self.validation_fraction < 1, "between 0 and 1"),
            ("batch_size", self.batch_size == "auto" or self.batch_size >= 1, "auto, or 1 or more"),  # type: ignore[operator]
        ):
            if not good:
                raise ValueError(f"{name}: {key} is {getattr(self, key)!r}; it must be {what}")
        return [int(n) for n in sizes]

    def _begin(self, features: int, outputs: int, hidden: list[int], dtype: Any) -> None:
        seed = int(self._draws.randint(np.iinfo(np.int32).max))
        self.module_ = nn.MLP(
            [features, *hidden, outputs],
            self.activation,
            dtype=np.dtype(dtype).name,
            generator=wengert.Generator(seed),
        )
        kind, options = _SOLVERS[self.solver]
        self._optimizer = getattr(optim, kind)(
            self.module_.parameters(), lr=self.learning_rate_init, **options
        )
        self.__dict__.pop("_step", None)
        self.n_layers_, self.n_outputs_, self.n_iter_, self.t_ = len(hidden) + 2, outputs, 0, 0
        self.loss_curve_: list[float] = []
        self.best_loss_ = np.inf
        self._stale = 0
        self.validation_scores_: list[float] | None = None
        self.best_validation_score_: Any = None

    def _make_step(self) -> Any:
        """The compiled step: (x, y, weights) to the weighted mean of the losses."""
        module, optimizer, alpha, loss_of = self.module_, self._optimizer, self.alpha, self._loss
        weights = self._layers()[0]

        def step(x: Any, y: Any, w: Any) -> Any:
            optimizer.zero_grad()
            total = w.sum()
            loss = (loss_of(module(x), y) * w).sum() / total
            if alpha:
                squares = sum(p.square().sum() for p in weights)
                loss = loss + 0.5 * alpha * squares / total
            loss.backward()
            optimizer.step()
            return loss

        return wengert.compile(step)

    def _epoch(self, x: Array, y: Array, w: Array) -> float:
        """One pass; the mean loss."""
        if "_step" not in vars(self):
            self._step = self._make_step()
        n = len(x)
        size = min(200 if self.batch_size == "auto" else int(self.batch_size), n)
        order = self._draws.permutation(n) if self.shuffle else np.arange(n)
        total = 0.0
        for at in range(0, n, size):
            rows = order[at : at + size]
            batch = (wengert.from_numpy(np.ascontiguousarray(part[rows])) for part in (x, y, w))
            total += self._step(*batch).item() * w[rows].sum()
        self.n_iter_, self.t_ = self.n_iter_ + 1, self.t_ + n
        self.loss_ = float(total / w.sum())
        if not np.isfinite(self.loss_):
            raise ValueError(
                f"{type(self).__name__}: the loss became {self.loss_} in iteration "
                f"{self.n_iter_}; scale the features (StandardScaler), or take a smaller "
                f"learning_rate_init (it was {self.learning_rate_init:g})"
            )
        self.loss_curve_.append(self.loss_)
        if self.verbose:
            print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
        return self.loss_

    def _validated(self, X: Any, y: Any, reset: bool) -> tuple[Array, Array]:  # noqa: N803
        x, y = validate_data(
            self, X, y, dtype=(np.float64, np.float32), multi_output=True, reset=reset,
            y_numeric=isinstance(self, RegressorMixin),
        )  # fmt: skip
        return x, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _weighted(self, x: Array, y: Array, sample_weight: Any) -> tuple[Array, Array, Array]:
        """The samples that count, with their weights."""
        w = _check_sample_weight(sample_weight, x, dtype=x.dtype, ensure_non_negative=True)
        return x[w > 0], y[w > 0], w[w > 0]

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Train on X (n, features) and y. sample_weight (n,): how much each sample counts."""
        hidden = self._check()
        going_on = self.warm_start and "module_" in vars(self)
        x, y = self._validated(X, y, reset=not going_on)
        x, y, w = self._weighted(x, y, sample_weight)
        if not going_on:
            self._classes_from(y)
        y, w, outputs = self._targets(y, w)
        self._draws = check_random_state(self.random_state)
        if not going_on:
            self._begin(x.shape[1], outputs, hidden, x.dtype)
        x, y = x.astype(self.intercepts_[0].dtype, copy=False), self._cast(y)
        w = w.astype(x.dtype)
        kept = None
        if self.early_stopping:
            one_label_each = isinstance(self, ClassifierMixin) and y.ndim == 1
            x, kept_x, y, kept_y, w, kept_w = train_test_split(
                x, y, w, test_size=self.validation_fraction, random_state=self._draws,
                stratify=y if one_label_each else None,
            )  # fmt: skip
            kept = kept_x, kept_y, kept_w
            if self.validation_scores_ is None:
                self.validation_scores_, self.best_validation_score_ = [], -np.inf
        self._stale, best = 0, None
        for _ in range(self.max_iter):
            loss = self._epoch(x, y, w)
            if kept is not None:
                score = self._score(self._outputs(kept[0]), kept[1], kept[2])
                self.validation_scores_.append(score)  # type: ignore[union-attr]
                self._stale = (
                    0 if score > self.best_validation_score_ + self.tol else self._stale + 1
                )
                if score > self.best_validation_score_:
                    self.best_validation_score_ = score
                    best = {k: v.clone() for k, v in self.module_.state_dict().items()}
            else:
                self._stale = 0 if loss < self.best_loss_ - self.tol else self._stale + 1
            self.best_loss_ = min(loss, self.best_loss_)
            if self._stale > self.n_iter_no_change:
                break
        else:
            warnings.warn(
                f"{type(self).__name__}: {self.max_iter} iterations (max_iter) were made and the "
                "loss still falls; ask for more",
                ConvergenceWarning,
                stacklevel=2,
            )
        if best is not None:
            self.module_.load_state_dict(best)
        return self

    def _classes_from(self, y: Array) -> None:
        """What a classifier learns of its labels."""

    def _cast(self, y: Array) -> Array:
        return y if y.dtype == np.int64 else y.astype(self.intercepts_[0].dtype)

    def _one_pass(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Self:  # noqa: N803
        hidden, first = self._check(), "module_" not in vars(self)
        x, y = self._validated(X, y, reset=first)
        if first:
            self._classes_from(y if classes is None else np.asarray(classes))
        x, y, w = self._weighted(x, y, sample_weight)
        y, w, outputs = self._targets(y, w)
        if first:
            self._draws = check_random_state(self.random_state)
            self._begin(x.shape[1], outputs, hidden, x.dtype)
        dtype = self.intercepts_[0].dtype
        self._epoch(x.astype(dtype, copy=False), self._cast(y), w.astype(dtype))
        return self

    def _outputs(self, x: Array) -> Array:
        with wengert.no_grad():
            given = np.ascontiguousarray(x, dtype=self.intercepts_[0].dtype)
            made: Array = self.module_(wengert.from_numpy(given)).numpy()
        return made

    def _predicted(self, X: Any) -> Array:  # noqa: N803
        check_is_fitted(self, "module_")
        return self._outputs(validate_data(self, X, dtype=(np.float64, np.float32), reset=False))


class MLPClassifier(ClassifierMixin, _MLP):  # type: ignore[misc]
    """A multi-layer perceptron for classes, by cross-entropy; for rows of 0 and 1 (several labels a
    sample) by binary cross-entropy. See the module's text.

    class_weight: None, "balanced" (n / (classes * count)), or a dict from label to weight.
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate_init: float = 0.001,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        class_weight: Any = None,
    ) -> None:
        """See the class, and `_MLP`."""
        given = {
            k: v for k, v in locals().items() if k not in ("self", "class_weight", "__class__")
        }
        super().__init__(**given)
        self.class_weight = class_weight

    def __sklearn_tags__(self) -> Any:
        """Several labels a sample are supported."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _classes_from(self, y: Array) -> None:
        check_classification_targets(y)
        self._multilabel = type_of_target(y) == "multilabel-indicator"
        self.classes_ = np.arange(y.shape[1]) if self._multilabel else np.unique(y)

    def _targets(self, y: Array, sample_weight: Array) -> tuple[Array, Array, int]:
        check_classification_targets(y)
        if self._multilabel != (y.ndim == 2):
            raise ValueError(f"MLPClassifier: y has shape {y.shape}, other than in the first call")
        if self._multilabel:
            return y, sample_weight, y.shape[1]
        if strange := sorted(set(np.unique(y).tolist()) - set(self.classes_.tolist())):
            raise ValueError(
                f"MLPClassifier: y has the labels {strange[:5]}, which are not among the classes "
                f"{self.classes_.tolist()[:20]}"
            )
        numbers = np.searchsorted(self.classes_, y).astype(np.int64)
        if self.class_weight is not None:
            there = np.unique(y)
            weights = np.ones(len(self.classes_))
            weights[np.searchsorted(self.classes_, there)] = compute_class_weight(
                self.class_weight, classes=there, y=y
            )
            sample_weight = sample_weight * weights[numbers]
        return numbers, sample_weight, len(self.classes_)

    def _loss(self, outputs: Any, y: Any) -> Any:
        if self._multilabel:
            losses = wengert.binary_cross_entropy_with_logits(outputs, y, reduction="none")
            return losses.sum(1)
        return wengert.cross_entropy(outputs, y, reduction="none")

    def _score(self, outputs: Array, y: Array, sample_weight: Array) -> float:
        found = outputs > 0 if self._multilabel else outputs.argmax(axis=1)
        return float(accuracy_score(y, found, sample_weight=sample_weight))

    def partial_fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        classes: Any = None,
        sample_weight: Any = None,
    ) -> Self:
        """One pass over X and y. classes: all labels, in the first call (those of y otherwise)."""
        return self._one_pass(X, y, sample_weight, classes)

    def predict(self, X: Any) -> Array:  # noqa: N803
        """The label of each row."""
        outputs = self._predicted(X)
        if self._multilabel:
            return (outputs > 0).astype(np.int64)
        labels: Array = self.classes_[outputs.argmax(axis=1)]
        return labels

    def predict_proba(self, X: Any) -> Array:  # noqa: N803
        """The probability of each class, in the order of `classes_`."""
        outputs = wengert.from_numpy(self._predicted(X))
        made = wengert.sigmoid(outputs) if self._multilabel else wengert.softmax(outputs, 1)
        return np.array(made.numpy())

    def predict_log_proba(self, X: Any) -> Array:  # noqa: N803
        """The logarithms of the probabilities, without rounding small ones to 0."""
        outputs = wengert.from_numpy(self._predicted(X))
        made = wengert.logsigmoid(outputs) if self._multilabel else wengert.log_softmax(outputs, 1)
        return np.array(made.numpy())


class MLPRegressor(RegressorMixin, _MLP):  # type: ignore[misc]
    """A multi-layer perceptron for one or several values, by the squared error (half of it, as in
    scikit-learn). See the module's text."""

    def _targets(self, y: Array, sample_weight: Array) -> tuple[Array, Array, int]:
        self._vector = y.ndim == 1
        y = y.reshape(len(y), -1).astype(np.float64)
        return y, sample_weight, y.shape[1]

    def _loss(self, outputs: Any, y: Any) -> Any:
        return (outputs - y).square().mean(1) / 2

    def _score(self, outputs: Array, y: Array, sample_weight: Array) -> float:
        return float(r2_score(y, outputs, sample_weight=sample_weight))

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """One pass over X and y."""
        return self._one_pass(X, y, sample_weight)

    def predict(self, X: Any) -> Array:  # noqa: N803
        """The value of each row, or its values."""
        outputs = self._predicted(X)
        return np.array(outputs[:, 0] if self._vector else outputs)
