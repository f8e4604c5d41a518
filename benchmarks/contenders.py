"""One contender on one fold: fits `train.parquet`, predicts `test.parquet`.

    python benchmarks/contenders.py NAME FOLDER --target COLUMN --task TASK

It imports nothing of kerastrain, so that each contender may have an environment of its
own (AutoGluon, pytabkit); `benchmarks/versus.py` starts it and scores what it wrote:
`NAME.npz` with `prediction`, probabilities `(rows, classes)` by sorted labels or values
`(rows,)`, and the seconds of fitting and predicting.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--seconds", type=float, default=None)
    chosen = parser.parse_args()
    train = pd.read_parquet(chosen.folder / "train.parquet")
    test = pd.read_parquet(chosen.folder / "test.parquet").drop(columns=chosen.target)
    begun_s = time.perf_counter()
    predict = CONTENDERS[chosen.name](train, chosen.target, chosen.task, chosen.seconds)
    fit_s = time.perf_counter() - begun_s
    begun_s = time.perf_counter()
    prediction = np.asarray(predict(test), "float64")
    predict_s = time.perf_counter() - begun_s
    begun_s = time.perf_counter()
    predict(test.head(1))
    row_s = time.perf_counter() - begun_s
    np.savez(
        chosen.folder / f"{chosen.name}.npz",
        prediction=prediction,
        fit_s=fit_s,
        predict_s=predict_s,
        row_s=row_s,
    )


# --- libraries at their own defaults ----------------------------------------------


def plain(train: pd.DataFrame, test: pd.DataFrame | None = None) -> pd.DataFrame:
    """Texts as categories by the train rows, all else as numbers."""
    frame = train if test is None else test
    columns = {}
    for name in train:
        if pd.api.types.is_numeric_dtype(train[name]):
            columns[name] = pd.to_numeric(frame[name], errors="coerce").astype(
                "float64"
            )
        else:
            known = pd.Index(train[name].dropna().astype(str).unique())
            texts = frame[name].astype(str).where(frame[name].notna())
            columns[name] = pd.Categorical(texts, categories=known)
    return pd.DataFrame(columns, index=frame.index)


def numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Categories as their codes, missing ones as NaN."""
    coded = frame.copy()
    for name in frame.select_dtypes("category"):
        coded[name] = frame[name].cat.codes.where(frame[name].notna()).astype("float64")
    return coded


def fitted(
    model: Any, train: pd.DataFrame, target: str, task: str, prepare: Any
) -> Any:
    x, y = train.drop(columns=target), train[target]
    if task != "regression":
        y = y.astype(str)
        labels = {label: i for i, label in enumerate(sorted(y.unique()))}
        y = y.map(labels)
    model.fit(prepare(plain(x)), y)

    def predict(test: pd.DataFrame) -> np.ndarray:
        ready = prepare(plain(x, test))
        if task == "regression":
            return model.predict(ready)
        return model.predict_proba(ready)

    return predict


def lightgbm(train: pd.DataFrame, target: str, task: str, seconds: Any) -> Any:
    import lightgbm as lgb

    kind = lgb.LGBMRegressor if task == "regression" else lgb.LGBMClassifier
    model = kind(random_state=SEED, verbose=-1)
    return fitted(model, train, target, task, lambda frame: frame)


def xgboost(train: pd.DataFrame, target: str, task: str, seconds: Any) -> Any:
    import xgboost as xgb

    kind = xgb.XGBRegressor if task == "regression" else xgb.XGBClassifier
    model = kind(random_state=SEED, enable_categorical=True)
    return fitted(model, train, target, task, lambda frame: frame)


def catboost(train: pd.DataFrame, target: str, task: str, seconds: Any) -> Any:
    import catboost as cb

    x = plain(train.drop(columns=target))
    texts = list(x.select_dtypes("category"))
    kind = cb.CatBoostRegressor if task == "regression" else cb.CatBoostClassifier
    model = kind(
        random_seed=SEED, verbose=False, cat_features=texts, allow_writing_files=False
    )

    def as_texts(frame: pd.DataFrame) -> pd.DataFrame:
        ready = frame.copy()
        for name in texts:
            ready[name] = frame[name].astype(object).where(frame[name].notna(), "")
        return ready

    return fitted(model, train, target, task, as_texts)


def hist_gradient_boosting(
    train: pd.DataFrame, target: str, task: str, seconds: Any
) -> Any:
    from sklearn import ensemble

    kind = (
        ensemble.HistGradientBoostingRegressor
        if task == "regression"
        else ensemble.HistGradientBoostingClassifier
    )
    return fitted(kind(random_state=SEED), train, target, task, numbers)


def random_forest(train: pd.DataFrame, target: str, task: str, seconds: Any) -> Any:
    from sklearn import ensemble

    kind = (
        ensemble.RandomForestRegressor
        if task == "regression"
        else ensemble.RandomForestClassifier
    )
    return fitted(kind(random_state=SEED, n_jobs=-1), train, target, task, numbers)


# --- with environments of their own -----------------------------------------------


def predictor(
    train: pd.DataFrame, target: str, task: str, seconds: Any, presets: str, path: str
) -> Any:
    """Of AutoGluon, fitted for the primary metric of the task and saved at `path`."""
    from autogluon.tabular import TabularPredictor

    metrics = {
        "binary": "roc_auc",
        "multiclass": "log_loss",
        "regression": "root_mean_squared_error",
    }
    metric = metrics[task]
    made = TabularPredictor(
        target, problem_type=task, eval_metric=metric, path=path, verbosity=1
    )
    return made.fit(train, presets=presets, time_limit=seconds)


def _autogluon(presets: str) -> Any:
    def fit(train: pd.DataFrame, target: str, task: str, seconds: Any) -> Any:
        path = tempfile.mkdtemp()
        fitted = predictor(train, target, task, seconds, presets, path)

        def predict(test: pd.DataFrame) -> np.ndarray:
            if task == "regression":
                return fitted.predict(test)
            shares = fitted.predict_proba(test)
            return shares[sorted(shares.columns, key=str)]

        return predict

    return fit


def realmlp(train: pd.DataFrame, target: str, task: str, seconds: Any) -> Any:
    from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor

    if task == "regression":
        model: Any = RealMLP_TD_Regressor(random_state=SEED, device="cpu")
    else:
        metric = "1-auc_ovr" if task == "binary" else "cross_entropy"
        model = RealMLP_TD_Classifier(
            random_state=SEED, device="cpu", val_metric_name=metric
        )
    means = train.drop(columns=target).mean(numeric_only=True)
    return fitted(model, train, target, task, lambda frame: frame.fillna(means))


CONTENDERS = {
    "lightgbm": lightgbm,
    "xgboost": xgboost,
    "catboost": catboost,
    "hist_gradient_boosting": hist_gradient_boosting,
    "random_forest": random_forest,
    "autogluon_medium": _autogluon("medium_quality"),
    "autogluon_best": _autogluon("best_quality"),
    "realmlp_td": realmlp,
}

if __name__ == "__main__":
    main()
