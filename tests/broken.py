"""A model that cannot be fitted."""

__all__ = ["Broken"]


class Broken:
    def fit(self, x, y):
        raise RuntimeError("it is broken")

    def predict(self, x):
        return x
