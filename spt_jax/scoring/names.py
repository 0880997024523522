"""What the scores are called, and which of them is the one that others are chosen by."""

from __future__ import annotations

MAIN_SCORE = {"class": "f1_weighted", "regression": "r2"}
"""By kind of descriptor: settings, checkpoints, decisions and the best model are chosen by it, and it is told first."""
MAIN_WORDS = "weighted F1 of classes, R² of values"
COMMON = 10
"""Test sites from which on a class, or an element, is common: one more right answer hardly moves its score."""
CLASS_SCORES = {
    "f1_weighted": "weighted F1",
    "f1_macro_common": "common macro-F1",
    "f1_macro": "macro-F1",
    "accuracy": "accuracy",
    "nll": "NLL",
    "brier": "Brier",
    "ece": "calibration error",
}
"""Every score of a class descriptor, the main one first."""
ELEMENT_SCORES = {"ap_micro": "micro AP", "ap_macro": "macro AP"}
"""The same of the elements of a shell: average precision."""
VALUE_SCORES = {"r2": "R²", "rmse": "RMSE", "mae": "MAE"}
"""The same of a regression."""
WORDS = (
    "Weighted F1 counts every class by its sites and can be held against the F1 of the paper. Macro-F1 gives all classes "
    f"the same weight, common macro-F1 those of at least {COMMON} sites; with none of these there is no such score. NLL "
    "(negative log-likelihood) and the Brier score judge the probabilities, and so does the calibration error, the gap "
    "between confidence and accuracy: of these three less is better. R² is 1 where all is right and 0 for the mean of "
    "these labels; RMSE and MAE are the root mean square and the mean error in the descriptor's unit."
)
"""What they mean, for a page."""
