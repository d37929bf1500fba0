"""A simple model to compare with: TF-IDF + logistic regression."""

from collections.abc import Callable

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


def logistic_regression(texts: list[str], labels: np.ndarray) -> Callable[[list[str]], np.ndarray]:
    """Train TF-IDF of words and word pairs + logistic regression.

    Args:
        texts: n training texts.
        labels: int[n], 0 or 1.

    Returns:
        A function from m texts to float64[m], their probabilities of label 1.

    Raises ValueError for no texts, no words, or one label only.
    """
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True),
        LogisticRegression(C=3, max_iter=1000),
    )
    model.fit(texts, labels)

    def predict(texts: list[str]) -> np.ndarray:
        return np.asarray(model.predict_proba(texts)[:, 1])

    return predict
