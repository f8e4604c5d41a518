"""The file of losses and metrics."""

import csv

from kerastrain.training.history import HistoryFile


def test_the_history_file_is_whole_after_every_epoch(tmp_path):
    path = tmp_path / "history.csv"
    history = HistoryFile(path)
    history.on_epoch_end(0, {"loss": 2.0})
    history.on_epoch_end(1, {"loss": 1.0, "val_loss": 3.0})
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"epoch": "1", "loss": "2.0", "val_loss": ""},
        {"epoch": "2", "loss": "1.0", "val_loss": "3.0"},
    ]
