"""Many models as one: a portfolio in the time there is, folds, weights, their mean."""
