"""A fit goes on bit for bit after a crash, and carefully after a NaN."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pyarrow.parquet
import pytest
import tensorflow as tf

from kerastrain.blocks import Blocks
from kerastrain.config import AverageConfig, FitConfig, OptimizerConfig
from kerastrain.engine import Average, Clipping, Engine, RateFactors, make_optimizer
from kerastrain.errors import DataError, DivergenceError, Interrupted, RunError
from kerastrain.events import recording
from kerastrain.pipeline import Rows
from kerastrain.schedules import SCHEDULES, Monitor, Steps
from kerastrain.training.averaged import averaged
from kerastrain.training.history import HistoryFile
from kerastrain.training.recovery import Recovery
from kerastrain.training.resume import CheckpointFiles
from kerastrain.training.stopping import BestWeights

EPOCHS, NUM_ROWS, BATCH = 4, 150, 16  # 10 steps, 5 calls of 2


class Crash(Exception):
    """Stands for a kill: nothing behind it is done."""


class At(keras.callbacks.Callback):
    """Does something after call number `call` over all epochs, from 1; once."""

    remembered = ()

    def __init__(self, call, action):
        super().__init__()
        self.left = call
        self.action = action

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            self.action(self.model)


class Loss(keras.callbacks.Callback):
    """A validation loss, and what a callback of a user counts."""

    def __init__(self, rows):
        super().__init__()
        self.rows = rows
        self.counted = 0

    def on_train_batch_end(self, batch, logs=None):
        self.counted += 1

    def on_epoch_end(self, epoch, logs=None):
        error = self.model.outputs_of(self.rows)[:, 0] - self.rows.targets
        logs["val_loss"] = float(np.square(error).mean())
        logs["counted"] = self.counted


def crash(_):
    raise Crash


def rows_of(num_rows=NUM_ROWS):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num_rows, 4)).astype("float32")
    y = np.sin(x).sum(axis=1).astype("float32")
    return Rows({"x": x}, y, np.ones(num_rows, "float32"), np.arange(num_rows))


def squared(targets, outputs):
    return keras.ops.square(outputs[:, 0] - targets)


class Fit:
    """A whole fit with everything that has a state."""

    def __init__(self, folder=None, *, extra=(), rows=None, **options):
        keras.utils.set_random_seed(3)
        option = {"schedule": "cosine", "average": "none", "retries": 3} | options
        self.rows = rows or rows_of()
        x = inputs = keras.Input((4,))
        x = keras.layers.Dense(8, activation="relu")(x)
        if option.get("norm", True):
            x = keras.layers.BatchNormalization()(x)
            x = keras.layers.Dropout(0.3)(x)
        self.engine = Engine(inputs, keras.layers.Dense(1, dtype="float32")(x))
        self.blocks = Blocks(self.rows, BATCH, 2, seed=5)
        fit = FitConfig(epochs=EPOCHS, retries=option["retries"], patience=None)
        self.schedule = SCHEDULES.load(option["schedule"])(
            0.01, Steps(10 * EPOCHS, 10), Monitor("val_loss", "min")
        )
        config = OptimizerConfig(unfreeze=option.get("unfreeze", {}))
        name = option["average"]
        average = AverageConfig(name=name, momentum=0.9, start=0.25)
        self.engine.prepare(
            make_optimizer(
                config, self.schedule.learning_rate, self.engine.trainable_variables
            ),
            squared,
            clipping=Clipping(norm=option.get("clip_norm", 1.0)),
            factors=RateFactors(config, self.engine),
            average=None if name == "none" else Average(average, self.engine, EPOCHS),
        )
        self.best = BestWeights("val_loss", "min", None)
        self.history = HistoryFile(folder / "history.csv") if folder else None
        self.files = CheckpointFiles(folder / "state") if folder else None
        before, behind = averaged(self.engine, self.blocks)
        inner = [*before, Loss(self.rows), self.best, *behind, *self.schedule.callbacks]
        self.recovery = Recovery(
            self.engine,
            self.blocks,
            [*inner, *([self.history] if self.history else []), *extra],
            rate=self.schedule.learning_rate,
            fit=fit,
            files=self.files,
            every=option.get("every", 1 if folder else 0),
            explain=option.get("explain", lambda _: "Nobody knows why."),
        )

    def run(self):
        try:
            self.recovery.run()
        finally:
            if self.files is not None:
                self.files.close()
        return self

    @property
    def result(self):
        """All that has to be equal, as bytes and numbers."""
        variables = [*self.engine.variables, *self.engine.optimizer.variables]
        epochs = self.history.epochs if self.history else []
        return [v.numpy().tobytes() for v in variables], epochs, self.best.best_epoch


OPTIONS = [
    {},
    {"schedule": "plateau"},
    {"average": "ema"},
    {"average": "swa"},
    {"unfreeze": {"dense*": 2}},
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Fits that are never interrupted, by their options."""
    made = {}

    def result(options):
        key = str(options)
        if key not in made:
            folder = tmp_path_factory.mktemp("whole")
            made[key] = Fit(folder, **options).run().result
        return made[key]

    return result


CRASHES = [(1,), (7,), (5, 3), (10,), (13, 1, 6)]


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        pytest.param(o, c, marks=[] if c == (5, 3) else pytest.mark.slow)
        for o in OPTIONS
        for c in CRASHES
    ],
    ids=str,
)
def test_a_fit_that_crashes_ends_like_one_that_does_not(
    whole, tmp_path, options, calls
):
    for call in calls:
        with pytest.raises(Crash):
            Fit(tmp_path, extra=[At(call, crash)], **options).run()
    assert Fit(tmp_path, extra=[At(0, crash)], **options).run().result == whole(options)


def test_a_fit_that_is_finished_is_not_fitted_again(whole, tmp_path):
    Fit(tmp_path).run()
    again = Fit(tmp_path)
    again.engine.fit = crash
    assert again.run().result == whole({})


def test_a_checkpoint_cut_short_costs_steps_and_no_digit(whole, tmp_path):
    with pytest.raises(Crash):
        Fit(tmp_path, extra=[At(8, crash)]).run()
    newest = max((tmp_path / "state").iterdir())
    newest.write_bytes(newest.read_bytes()[:1_000])
    with recording() as recorder:
        result = Fit(tmp_path, extra=[At(0, crash)]).run().result
    codes = [event.code for event in recorder.events]
    assert codes[:2] == ["checkpoint_damaged", "resumed"]
    assert result == whole({})


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    with pytest.raises(Crash):
        Fit(tmp_path, extra=[At(8, crash)]).run()
    with pytest.raises(RunError, match="The checkpoint is of another model"):
        Fit(tmp_path, norm=False, extra=[At(0, crash)]).run()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_the_state_and_training_goes_on_from_there(
    whole, tmp_path, number
):
    before = signal.getsignal(number)
    stop = At(8, lambda _: os.kill(os.getpid(), number))
    with pytest.raises(Interrupted, match="in epoch 2. Its state is written") as found:
        Fit(tmp_path, extra=[stop], every=10_000).run()
    assert found.value.exit_code == 128 + number
    assert signal.getsignal(number) == before
    with recording() as recorder:
        result = Fit(tmp_path, extra=[At(0, crash)], every=10_000).run().result
    (event,) = recorder.events
    assert event.details == {"epoch": 2, "step": 6}
    assert result == whole({})


def spoil(model):
    kernel = model.trainable_variables[0]
    kernel.assign(np.full(kernel.shape, np.nan, "float32"))


def test_a_nan_goes_back_to_the_epoch_with_a_lower_rate_and_closer_clipping(tmp_path):
    with recording() as recorder:
        fit = Fit(tmp_path, extra=[At(8, spoil)]).run()
    (event,) = recorder.events
    assert event.code == "diverged" and event.severity == "warning"
    assert event.message == (
        "A weight of epoch 2 was not finite: training goes back to the start of epoch "
        "2; the learning rate is multiplied by 0.3, the gradient held to a norm of 0.3."
    )
    assert all(np.isfinite(v.numpy()).all() for v in fit.engine.variables)
    assert [row["epoch"] for row in fit.history.epochs] == [1, 2, 3, 4]
    assert float(fit.schedule.learning_rate.scale.numpy()) == pytest.approx(0.3)


def test_what_was_mended_outlives_a_crash(tmp_path):
    mended = Fit(tmp_path / "a", extra=[At(8, spoil)]).run().result
    with pytest.raises(Crash):
        Fit(tmp_path / "b", extra=[At(8, spoil), At(14, crash)]).run()
    again = Fit(tmp_path / "b", extra=[At(0, spoil), At(0, crash)])
    assert [*again.run().result[0]] == [*mended[0]]
    assert again.engine.clipping.norm == pytest.approx(0.3)


def test_where_there_was_no_clipping_there_is_some_after_a_nan():
    fit = Fit(extra=[At(3, spoil)], clip_norm=None).run()
    assert fit.engine.clipping.norm == 1.0


def with_row(value):
    rows = rows_of()
    rows.inputs["x"][20, 1] = value
    return rows


def test_a_nan_that_persists_ends_with_its_cause_and_exit_code_4(tmp_path):
    rows = with_row(np.inf)
    found = []

    def explain(error):
        found.append(error)
        return "Column b."

    with recording() as recorder, pytest.raises(DivergenceError) as caught:
        Fit(rows=rows, explain=explain, norm=False).run()
    assert caught.value.exit_code == 4
    assert "was not finite after 3 tries with lower rates. Column b." in str(
        caught.value
    )
    assert [event.code for event in recorder.events] == ["diverged"] * 3
    blocks = Blocks(rows, BATCH, 2, seed=5)
    (error,) = found
    assert 20 in blocks.rows_of(error.position.epoch, error.step)


def test_weights_are_checked_where_the_loss_stays_finite():
    """A ReLU of an infinite input: the loss is finite, the weights become NaN."""
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(8, activation="relu")(inputs)
    rows = with_row(-np.inf)
    fit = Fit(rows=rows, retries=0, norm=False)
    fit.engine = Engine(inputs, keras.layers.Dense(1)(hidden))
    with pytest.raises(DivergenceError, match="^The loss or the gradient in step "):
        Fit(rows=rows, retries=0, norm=False).run()


def too_small(fit, parts):
    """The step of `fit` fits into memory from so many parts on."""
    steps = fit.engine._steps

    def limited(data):
        if fit.engine.accumulate < parts:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")
        return steps(data)

    fit.engine._steps = limited
    return fit


def test_a_step_that_does_not_fit_is_divided_and_gives_the_same_weights():
    expected = Fit(norm=False).run()
    with recording() as recorder:
        fit = too_small(Fit(norm=False), 4).run()
    assert fit.engine.accumulate == 4
    assert [event.details["accumulate"] for event in recorder.events] == [2, 4]
    assert "divided into 4 parts of at most 4 rows" in recorder.events[-1].message
    for a, b in zip(
        fit.engine.get_weights(), expected.engine.get_weights(), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_where_a_row_does_not_fit_activations_are_computed_twice_then_it_ends():
    with recording() as recorder, pytest.raises(DataError, match="row by row and with"):
        too_small(Fit(norm=False), 10_000).run()
    assert recorder.events[-1].details == {"remat": True}


def test_the_offending_rows_are_kept_as_a_file(tmp_path):
    from kerastrain.training.keeper import Diverged
    from kerastrain.training.offender import Offender
    from kerastrain.training.state import Position

    rows = with_row(np.inf)
    rows = Rows({"numbers": rows.inputs["x"]}, rows.target, rows.weight, rows.index)
    blocks = Blocks(rows, BATCH, 2, seed=5)

    class Column:
        def __init__(self, name):
            self.name, self.width = name, 1

    class Front:
        def of_kind(self, kind):
            return [(Column(name), Column(name)) for name in "abcd"]

    step = next(s for s in range(10) if 20 in blocks.rows_of(1, s))
    path = tmp_path / "batch.parquet"
    told = Offender(rows, blocks, Front(), path)(Diverged(Position(1, 0), step, "loss"))
    assert told == (
        f"Infinite or missing values: b. The rows of the step are in {path}."
    )
    table = pyarrow.parquet.read_table(path)
    assert table.column_names == ["row", "a", "b", "c", "d", "(target)", "(weight)"]
    assert 20 in table["row"].to_pylist() and len(table) == 15


LITTLE_MEMORY = """
    import json, os, resource
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras, numpy as np, psutil
    from kerastrain.blocks import Blocks
    from kerastrain.config import FitConfig
    from kerastrain.engine import Engine
    from kerastrain.events import recording
    from kerastrain.pipeline import Rows
    from kerastrain.schedules.rate import Rate
    from kerastrain.training.recovery import Recovery

    rng = np.random.default_rng(0)
    x = rng.normal(size=(16_384, 16)).astype("float32")
    rows = Rows({"x": x}, x.sum(axis=1), np.ones(len(x), "float32"), np.arange(len(x)))

    def fitted(accumulate):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((16,))
        out = keras.layers.Dense(8_192)(inputs)
        for _ in range(3):
            out = keras.layers.Activation("tanh")(out)
        engine = Engine(inputs, keras.layers.Dense(1)(out))
        rate = Rate(1e-3, keras.ops.ones_like)
        loss = lambda y, out: keras.ops.square(out[:, 0] - y)
        engine.prepare(keras.optimizers.SGD(rate), loss, accumulate=accumulate)
        blocks = Blocks(rows, len(x), 1, seed=0)
        Recovery(engine, blocks, [], rate=rate, fit=FitConfig(epochs=2)).run()
        return engine

    whole = fitted(64).get_weights()[0]  # small parts, and all threads are there now
    limit = psutil.Process().memory_info().vms + (1_500 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with recording() as recorder:
        engine = fitted(1)
    gap = float(np.abs(engine.get_weights()[0] - whole).max())
    print(json.dumps([engine.accumulate, [e.code for e in recorder.events], gap]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits an address space")
def test_a_process_with_little_memory_trains_all_the_same():
    """The allocator itself refuses: 16,384 rows of 8,192 units, 512 MiB for each of
    the layers. What is left is more than any thread asks for its stack: with parts of
    64 MiB and 400 MiB in all, LLVM's own threads could not begin (-11)."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LITTLE_MEMORY)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    accumulate, codes, gap = json.loads(done.stdout.splitlines()[-1])
    assert accumulate > 1 and set(codes) == {"memory_short"}
    assert gap < 1e-6


def test_mixed_precision_is_switched_off_where_it_persists():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        fit = Fit(norm=False, retries=1)
    finally:
        keras.config.set_dtype_policy("float32")
    fit.recovery.precision = "mixed_bfloat16"
    steps = fit.engine._steps

    def broken_in_16_bits(data):
        told = steps(data)
        is_mixed = fit.engine.layers[1].compute_dtype == "bfloat16"
        return told | ({"first_bad": tf.constant(0)} if is_mixed else {})

    fit.engine._steps = broken_in_16_bits
    with recording() as recorder:
        fit.run()
    assert [event.code for event in recorder.events] == ["diverged"] * 2
    assert "mixed_bfloat16 is switched off" in recorder.events[-1].message
    assert {layer.compute_dtype for layer in fit.engine.layers} == {"float32"}
    assert int(fit.engine.optimizer.iterations) == 10 * EPOCHS


def test_weights_that_break_in_the_last_step_of_an_epoch_are_no_state_to_go_back_to():
    def spoil_a_weight(model):
        bias = model.trainable_variables[1]
        bias.assign(np.full(bias.shape, np.inf, "float32"))

    with recording() as recorder:
        fit = Fit(extra=[At(10, spoil_a_weight)]).run()
    (event,) = recorder.events
    assert "of epoch 2 was not finite: training goes back to the" in event.message
    assert all(np.isfinite(v.numpy()).all() for v in fit.engine.variables)


def test_memory_that_ends_in_validation_is_not_taken_for_a_step():
    fit = Fit(norm=False)

    def full(_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    fit.engine.outputs_of = full
    with pytest.raises(DataError, match="too little memory beside the steps"):
        fit.run()


def test_a_stop_amid_an_epoch_is_the_same_after_a_crash(tmp_path):
    def stopping(call):
        return At(call, lambda model: setattr(model, "stop_training", True))

    class CrashAtEnd(keras.callbacks.Callback):
        remembered = ()

        def __init__(self, is_on):
            super().__init__()
            self.is_on = is_on

        def on_epoch_end(self, epoch, logs=None):
            if self.is_on and epoch == 1:
                raise Crash

    whole = Fit(tmp_path / "a", extra=[stopping(8), CrashAtEnd(False)]).run()
    with pytest.raises(Crash):
        Fit(tmp_path / "b", extra=[stopping(8), CrashAtEnd(True)]).run()
    again = Fit(tmp_path / "b", extra=[stopping(1), CrashAtEnd(False)]).run()
    assert again.result == whole.result


class Rates(keras.callbacks.LearningRateScheduler):
    """Makes what it finds smaller at the start of each epoch."""

    def __init__(self, scale):
        super().__init__(lambda epoch, rate: rate)
        self.scale = scale

    def on_epoch_begin(self, epoch, logs=None):
        self.scale.assign(self.scale * 0.5)

    def on_epoch_end(self, epoch, logs=None):
        logs["scale"] = float(self.scale.numpy())


def test_what_callbacks_do_at_the_start_of_an_epoch_is_done_once(tmp_path):
    fit = Fit(tmp_path, extra=[At(8, spoil)])
    scale = fit.schedule.learning_rate.scale
    fit.recovery.callbacks = [*fit.recovery.callbacks, Rates(scale)]
    fit.run()
    halved = [
        row["learning_rate"] for row in fit.history.epochs if "learning_rate" in row
    ]
    assert float(scale.numpy()) == pytest.approx(0.3 * 0.5**EPOCHS), halved


def test_early_stopping_of_keras_goes_on_as_it_was(tmp_path):
    def stopping():
        return keras.callbacks.EarlyStopping("val_loss", min_delta=0.001, patience=1)

    folders = [tmp_path / "whole", tmp_path / "crashed"]
    whole = Fit(folders[0], extra=[stopping(), At(0, crash)]).run()
    with pytest.raises(Crash):
        Fit(folders[1], extra=[stopping(), At(7, crash)]).run()
    assert (
        Fit(folders[1], extra=[stopping(), At(0, crash)]).run().result == whole.result
    )


class Stopper(keras.callbacks.Callback):
    """Of a user; tells nobody."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == 1


def test_a_stop_by_a_callback_of_the_users_is_an_event(tmp_path):
    with recording() as recorder:
        fit = Fit(tmp_path, extra=[Stopper()]).run()
    (event,) = recorder.events
    assert event.message == "A callback stopped training after epoch 2."
    assert len(fit.history.epochs) == 2
    assert Fit(tmp_path, extra=[Stopper()]).run().result == fit.result
