"""A simple model to compare with: TF-IDF + logistic regression."""

from collections.abc import Callable

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

MAX_WEIGHTS = 10_000_000
"""Most weights, a class times a word or pair: training holds several float64 numbers for each."""


def logistic_regression(
    texts: list[str], labels: np.ndarray, classes: int = 2
) -> Callable[[list[str]], np.ndarray]:
    """Train TF-IDF of words and word pairs + (multinomial) logistic regression.

    Args:
        texts: n training texts.
        labels: int[n], 0 to classes - 1.
        classes: K. A class without a training text gets a probability of 0.

    Returns:
        A function from m texts to float64[m, K], the probabilities of each class.

    Raises ValueError for no texts, no words, or one label only.
    """
    model = make_pipeline(
        TfidfVectorizer(
            ngram_range=(1, 2), min_df=3, sublinear_tf=True, max_features=MAX_WEIGHTS // classes
        ),
        # The default, L-BFGS, ends farther from the optimum and takes 2 to 10 times as long.
        LogisticRegression(C=3, max_iter=1000, solver="newton-cg"),
    )
    model.fit(texts, labels)

    def predict(texts: list[str]) -> np.ndarray:
        probabilities = np.zeros((len(texts), classes))
        probabilities[:, model.classes_] = model.predict_proba(texts)
        return probabilities

    return predict
