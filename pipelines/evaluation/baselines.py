"""What a model must beat on the same rows: a linear model of n-grams."""

from collections.abc import Callable

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


def logistic_regression(texts: list[str], labels: np.ndarray) -> Callable[[list[str]], np.ndarray]:
    """TF-IDF of words and pairs of words, then logistic regression, trained on texts.

    Returns:
        A function from texts to float (n,) probabilities of label 1.
    """
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True),
        LogisticRegression(C=3, max_iter=1000),
    )
    model.fit(texts, labels)
    return lambda others: model.predict_proba(others)[:, 1]
