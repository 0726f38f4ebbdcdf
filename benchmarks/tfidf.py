"""The baseline that a classifier has to beat: TF-IDF and logistic regression, by scikit-learn.

``python -m benchmarks.tfidf TRAIN TEST [--text-column NAME] [--label-column NAME]`` prints accuracy and macro F1 with
words and with character n-grams as features.
"""

from __future__ import annotations

import argparse
import time

from fastlm.data.config import DataConfig
from fastlm.data.labelled import read

#: scikit-learn's analyzers: words and pairs of words; 1 to 4 characters within a word, which Korean's endings ask for
FEATURES = {"words": ("word", (1, 2)), "characters": ("char_wb", (1, 4))}


def main() -> None:
    """Prints a line for each kind of features."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--text-column", default="")
    parser.add_argument("--label-column", default="")
    args = parser.parse_args()
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, f1_score

    columns = {"text_column": args.text_column, "label_column": args.label_column}
    (texts, labels, _), (test_texts, test_labels, _) = (
        read(DataConfig(data=(path,), on_bad_row="skip", **columns)) for path in (args.train, args.test)
    )
    for name, (analyzer, grams) in FEATURES.items():
        begun = time.perf_counter()
        vectorizer = TfidfVectorizer(analyzer=analyzer, ngram_range=grams, min_df=2, sublinear_tf=True)
        model = LogisticRegression(C=4.0, max_iter=300)
        model.fit(vectorizer.fit_transform(texts), labels)
        called = model.predict(vectorizer.transform(test_texts))
        print(
            f"TF-IDF of {name}: accuracy {accuracy_score(test_labels, called):.4f}, "
            f"macro F1 {f1_score(test_labels, called, average='macro'):.4f} of {len(test_texts):,} texts, "
            f"{len(vectorizer.vocabulary_):,} features, {time.perf_counter() - begun:.0f} s"
        )


if __name__ == "__main__":
    main()
