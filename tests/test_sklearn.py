"""The estimators for scikit-learn, judged by its own checks, and as its users use them."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn import datasets
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from wengert.sklearn import MLPClassifier, MLPRegressor

X, Y = datasets.load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("estimator", [MLPClassifier(), MLPRegressor()], ids=lambda e: str(e))
def test_check_estimator(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator)
    assert sum(r["status"] == "passed" for r in results) > 40


def test_a_pipeline_searched_in_two_processes():
    model = make_pipeline(StandardScaler(), MLPClassifier(16, random_state=0, max_iter=60))
    search = GridSearchCV(
        model, {"mlpclassifier__learning_rate_init": [1e-6, 0.02]}, n_jobs=2, cv=2
    ).fit(X, NAMES)
    assert search.best_params_ == {"mlpclassifier__learning_rate_init": 0.02}
    assert search.best_score_ > 0.93
    best = search.best_estimator_[-1]
    assert best.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    p = search.predict_proba(X)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (best.classes_[p.argmax(axis=1)] == search.predict(X)).all()
    np.testing.assert_allclose(np.log(p), search.predict_log_proba(X), rtol=1e-6)
    other = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(other.predict_proba(X), p)
    assert [c.shape for c in best.coefs_] == [(4, 16), (16, 3)]


def test_equal_seeds_give_equal_networks_and_clones_are_fresh():
    model = MLPClassifier((8, 8), random_state=3, max_iter=5).fit(X, Y)
    again = clone(model)
    assert "module_" not in vars(again)
    np.testing.assert_array_equal(again.fit(X, Y).predict_proba(X), model.predict_proba(X))
    assert (
        MLPClassifier((8, 8), random_state=4, max_iter=5).fit(X, Y).coefs_[0] != model.coefs_[0]
    ).any()


def test_partial_fit_goes_on_after_a_pickle():
    one = MLPClassifier(8, random_state=0)
    one.partial_fit(X[:90], Y[:90], classes=[0, 1, 2])
    two = pickle.loads(pickle.dumps(one))
    for model in (one, two):
        for _ in range(3):
            model.partial_fit(X[60:], Y[60:])
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))
    assert one.n_iter_ == 4 and one.predict_proba(X).shape == (150, 3)
    with pytest.raises(ValueError, match=r"labels \[7\], which are not among the classes"):
        one.partial_fit(X, Y + 5 * (Y == 2))


def test_weights_of_samples_and_classes():
    y = np.r_[np.zeros(95, int), np.ones(5, int)]
    x = np.random.default_rng(0).standard_normal((100, 2)) + y[:, None]
    plain = MLPClassifier(8, random_state=0, max_iter=100, tol=0).fit(x, y)
    balanced = clone(plain).set_params(class_weight="balanced").fit(x, y)
    by_hand = clone(plain).fit(x, y, sample_weight=np.where(y, 10.0, 100 / 190))
    assert balanced.predict(x).sum() > plain.predict(x).sum()
    np.testing.assert_allclose(balanced.predict_proba(x), by_hand.predict_proba(x), rtol=1e-6)
    with pytest.raises(ValueError, match="non-zero"):
        plain.fit(x, y, sample_weight=np.zeros(100))


def test_early_stopping_ends_with_the_best_weights():
    model = MLPClassifier(
        32,
        learning_rate_init=0.02,
        random_state=0,
        early_stopping=True,
        max_iter=500,
        n_iter_no_change=5,
    ).fit(StandardScaler().fit_transform(X), Y)
    assert model.n_iter_ < 500 and len(model.validation_scores_) == model.n_iter_
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert model.best_validation_score_ > model.validation_scores_[0]
    model.set_params(warm_start=True, early_stopping=False, max_iter=3).fit(X, Y)
    assert model.n_iter_ == len(model.loss_curve_)


def test_several_values_and_several_labels():
    x, y = datasets.make_regression(80, 5, n_targets=2, random_state=0)
    model = MLPRegressor(32, random_state=0, learning_rate_init=0.02, max_iter=300).fit(x, y / 100)
    assert model.predict(x).shape == (80, 2) and model.score(x, y / 100) > 0.95
    x, y = datasets.make_multilabel_classification(100, n_classes=3, random_state=0)
    found = MLPClassifier(32, random_state=0, learning_rate_init=0.02).fit(x, y)
    assert found.predict(x).shape == (100, 3) == found.predict_proba(x).shape
    assert found.score(x, y) > 0.9 and set(found.predict(x).ravel()) == {0, 1}


def test_dtypes_frames_and_scores():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    model = MLPClassifier(8, random_state=0, max_iter=30).fit(frame, NAMES)
    assert model.feature_names_in_.tolist() == list("abcd")
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[list("dcba")])
    single = MLPClassifier(8, random_state=0, max_iter=3).fit(X.astype("float32"), Y)
    assert single.predict_proba(X[:2].astype("float32")).dtype == "float32"
    assert model.predict_proba(frame).dtype == "float64"
    scores = cross_val_score(MLPRegressor(8, random_state=0, max_iter=100), X[:, :3], X[:, 3], cv=3)
    assert scores.shape == (3,)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"solver": "lbfgs"}, "solver is 'lbfgs'; there are adam, adamw, nadam, rmsprop, sgd"),
        ({"activation": "step"}, "activation is 'step'; there are relu"),
        ({"hidden_layer_sizes": (8, 0)}, "expected a whole number above 0 for each"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0; it must be between 0 and 1"),
        ({"learning_rate_init": 1e300, "solver": "sgd"}, "scale the features"),
    ],
)
def test_what_will_not_do_is_said(wrong, text):
    with pytest.raises(ValueError, match=text):
        MLPRegressor(**wrong).fit(X, Y)


def test_it_says_when_it_has_not_converged():
    with pytest.warns(ConvergenceWarning, match=r"MLPRegressor: 2 iterations \(max_iter\)"):
        MLPRegressor(4, max_iter=2, random_state=0).fit(X, Y)


def test_without_scikit_learn_it_says_how_to_get_it():
    code = "import sys; sys.modules['sklearn'] = None; import wengert.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert 'pip install "wengert[sklearn]"' in done.stderr
