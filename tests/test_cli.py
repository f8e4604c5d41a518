"""The command line: help, listings, precedence of settings, errors, exit codes."""

import errno
import json
import os
import signal
import sys
from types import ModuleType, SimpleNamespace

import pytest
import yaml

import kerastrain
from kerastrain.cli import main, stages
from kerastrain.cli.show import metrics_table
from kerastrain.cli.tables import TABLES
from kerastrain.config import RunConfig, parse_config
from kerastrain.config.file import load_config
from kerastrain.errors import DivergenceError, ParityError, SourceError
from kerastrain.events import recording, warn
from kerastrain.store import RunFolder

COMMANDS = [
    "train", "profile", "predict", "evaluate", "report", "export", "reproduce",
    "compare", "explain", *TABLES
]  # fmt: skip
HEAVY = ["tensorflow", "keras", "pandas", "pyarrow", "duckdb", "sklearn", "plotly"]

METRICS = {
    "test": {"roc_auc": {"value": 0.84713, "low": 0.8213, "high": 0.8719}},
    "baselines": {"linear": {"roc_auc": 0.8411}},
    "verdict": {"sentence": "Better than the linear baseline."},
}


class StubRun:
    """A run whose methods tell what they were called with."""

    def __init__(self, folder):
        self.folder = folder
        self.metrics = METRICS

    def predict_file(self, data, out, *, id_column=None, max_bad_rows=0.0):
        out.write_text(f"{data} {id_column}")
        return 1234

    def evaluate(self, data, *, max_bad_rows=0.0):
        return METRICS["test"]

    def export(self, name, **options):
        return f"exported {name} {options}"


@pytest.fixture
def seen(monkeypatch, tmp_path):
    """Stages replaced by stubs; what `train` was given is kept here."""
    seen = SimpleNamespace(config=None, error=None, act=lambda: None)

    def train(config, *, progress, resume):
        seen.config = config
        seen.act()
        if seen.error is not None:
            raise seen.error
        folder = RunFolder.create(str(tmp_path / "run"), name="x")
        folder.config.write_text(config.dumps())
        (folder.exports / "saved_model").mkdir(parents=True)
        with recording(folder.events, progress.on_event):
            progress.on_stage("train")
            warn("rare", "A class is rare.")
        return StubRun(folder)

    stubs = {
        "run": {"train": train},
        "serving": {"load": lambda run: StubRun(RunFolder(run))},
        "report": {"write_report": lambda folder: folder.report},
    }
    for name, content in stubs.items():
        module = ModuleType(f"kerastrain.{name}")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv(stages.LEVEL, "3")
    return seen


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder.create(str(tmp_path / "old"), name="x")
    folder.config.write_text(parse_config({"target": "y", "seed": 5}).dumps())
    return folder.path


@pytest.fixture
def fails(capsys):
    """Run a command that must fail; gives its one line on stderr."""

    def run(*arguments, code=2):
        assert main([str(a) for a in arguments]) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        return err.strip()

    return run


def words(text):
    return " ".join(text.replace("│", " ").split())


# --- help ---------------------------------------------------------------------------


@pytest.mark.parametrize("command", [*COMMANDS, "config show", "config schema"])
def test_help_tells_every_option_and_an_example(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    text = words(capsys.readouterr().out)
    assert f"Example: kerastrain {command}" in text
    assert f"Usage: kerastrain {command} [OPTIONS]" in text


def test_without_a_command_the_help_is_shown_with_every_command(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(f" {command} " in text for command in [*COMMANDS, "config"])


def test_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{kerastrain.__version__}\n"


# One process for many commands, because a start takes 0.3 s.
LOADED = """
import json, sys
from kerastrain.cli import main
for arguments in json.loads(sys.argv[1]):
    code = main(arguments)
    loaded = [name for name in sys.argv[2].split() if name in sys.modules]
    print("LOADED", code, loaded, arguments)
"""


def loaded(run_python, commands):
    text = run_python(LOADED, json.dumps(commands), " ".join(HEAVY))
    return [line for line in text.splitlines() if line.startswith("LOADED")]


def test_help_loads_nothing_heavy(run_python):
    commands = [[*name.split(), "--help"] for name in [*COMMANDS, "config show", ""]]
    assert loaded(run_python, commands) == [f"LOADED 0 [] {c}" for c in commands]


def test_listings_and_refused_settings_load_nothing_heavy(run_python):
    good = [["models"], ["exports", "saved_model"], ["config", "show"]]
    good += [["config", "schema"]]
    bad = [
        ["train", "a.csv", "--target", "y", "--model", "mpl"],
        ["train", "a.csv", "--target", "y", "--set", "model.dropuot=1"],
        ["predict", "no_such_run", "a.csv", "-o", "b.csv"],
        ["export", "no_such_run", "--format", "onx"],
    ]
    expected = [f"LOADED 0 [] {c}" for c in good] + [f"LOADED 2 [] {c}" for c in bad]
    assert loaded(run_python, [*good, *bad]) == expected


# --- tables and config --------------------------------------------------------------


@pytest.mark.parametrize("command", TABLES)
def test_a_table_is_listed_with_a_line_and_the_options_of_each(command, capsys):
    assert main([command]) == 0
    lines = capsys.readouterr().out.splitlines()
    heads, options = lines[::2], lines[1::2]
    assert len(heads) == len(options) > 0
    assert all(len(head.split()) > 2 for head in heads)
    assert all(line.strip().startswith("options: ") for line in options)


def test_one_entry_is_told_with_what_its_options_do(capsys):
    assert main(["models", "mlp"]) == 0
    text = capsys.readouterr().out
    assert "dropout" in text
    assert "share of units dropped after each hidden layer" in text


def test_an_unknown_entry_is_refused(fails):
    assert "Unknown model 'mpl'. Did you mean 'mlp'?" in fails("models", "mpl")


def test_config_show_prints_what_train_takes(capsys, tmp_path, seen):
    assert main(["config", "show", "--set", "model.dropout=0.25"]) == 0
    path = tmp_path / "run.yaml"
    path.write_text(capsys.readouterr().out)
    arguments = ["train", "a.csv", "--target", "y", "--config", str(path)]
    assert main(arguments) == 0
    assert seen.config.model.options["dropout"] == 0.25


def test_config_show_of_a_run_prints_its_configuration(capsys, folder):
    assert main(["config", "show", str(folder)]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert parse_config(shown) == parse_config(load_config(folder / "config.yaml"))


def test_config_schema_prints_json(capsys):
    assert main(["config", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["properties"]) == set(RunConfig.model_fields)


# --- train --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "path", "value"),
    [
        (["--task", "regression"], "task", "regression"),
        (["--model", "linear"], "model.name", "linear"),
        (["--epochs", "3"], "fit.epochs", 3),
        (["--batch-size", "64"], "fit.batch_size", 64),
        (["--out", "runs/a"], "out", "runs/a"),
        (["--seed", "0"], "seed", 0),
        (["--test", "t.csv", "--test", "u.csv"], "test", ["t.csv", "u.csv"]),
        (["--weight", "w"], "weight", "w"),
        (["--positive", "Yes"], "positive_label", "Yes"),
        (["--ignore", "id", "--ignore", "name"], "ignore", ["id", "name"]),
        (["--keep", "id"], "keep", ["id"]),
        (["--max-bad-rows", "0"], "max_bad_rows", 0.0),
        (["--memory", "2GB"], "runtime.memory", 2_000_000_000),
        (["--precision", "float32"], "runtime.precision", "float32"),
        (["--set", "fit.patience=null"], "fit.patience", None),
        (["--set", "model.widths=[8, 4]"], "model.options", {"widths": [8, 4]}),
        (["--no-deterministic"], "runtime.deterministic", False),
        (["--time-limit", "10m"], "fit.time_limit", 600.0),
        (["--checkpoint-every", "500"], "checkpoint.every", 500),
        (["--checkpoint-every", "2m"], "checkpoint.every", "120s"),
        (["--remat"], "fit.remat", True),
        (["-q"], "data", ["a.csv"]),
    ],
)
def test_every_option_reaches_the_configuration(seen, options, path, value):
    assert main(["train", "a.csv", "--target", "y", *options]) == 0
    found = seen.config
    for key in path.split("."):
        found = getattr(found, key)
    if isinstance(value, dict):
        found = {key: found[key] for key in value}
    assert found == value


def test_a_column_may_have_an_equals_sign_in_its_name(seen):
    arguments = ["--column", "a=b=numeric", "--column", "c d=boolean"]
    assert main(["train", "a.csv", "--target", "y", *arguments]) == 0
    types = {name: column.type for name, column in seen.config.columns.items()}
    assert types == {"a=b": "numeric", "c d": "boolean"}


def test_set_goes_before_options_and_options_before_the_file(seen, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "data: a.csv\ntarget: y\nseed: 1\nfit: {epochs: 1, batch_size: 8}\n"
        "ignore: [id]\ncolumns: {a: numeric, b: numeric}\n"
        "model: {name: mlp, dropout: 0.5}\n"
    )
    options = ["--epochs", "2", "--seed", "2", "--set", "seed=3", "--ignore", "zip"]
    options += ["--column", "b=boolean", "--model", "mlp"]
    assert main(["train", "--config", str(path), *options]) == 0
    config = seen.config
    assert (config.fit.epochs, config.fit.batch_size, config.seed) == (2, 8, 3)
    assert config.ignore == ["id", "zip"]
    assert config.model.options["dropout"] == 0.5
    assert {k: c.type for k, c in config.columns.items()} == {
        "a": "numeric",
        "b": "boolean",
    }


def test_another_model_than_the_files_drops_the_options_of_that(seen, folder):
    arguments = ["--config", str(folder), "--model", "linear"]
    assert main(["train", "a.csv", *arguments]) == 0
    assert seen.config.model.name == "linear"
    assert "dropout" not in seen.config.model.options
    assert seen.config.seed == 5


def test_train_tells_the_verdict_the_metrics_and_where_things_are(
    seen, capsys, tmp_path
):
    assert main(["train", "a.csv", "--target", "y"]) == 0
    out, err = capsys.readouterr()
    run = tmp_path / "run"
    assert "Better than the linear baseline." in out
    assert words(out).count("roc_auc 0.8471 0.8213 to 0.8719 0.8411") == 1
    assert "1 warning, see the report." in out
    assert f"report       {run}/report.html" in out
    assert f"model        {run}/model.keras" in out
    assert f"saved_model  {run}/exports/saved_model" in out
    assert f"predict {run} NEW.csv -o predictions.csv" in out
    assert "warning: A class is rare." in err


def test_quiet_shows_no_stages_but_warnings_and_the_result(seen, capsys):
    assert main(["train", "a.csv", "--target", "y", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert "Better than the linear baseline." in out
    assert err == "warning: A class is rare.\n"


def test_a_missing_target_lists_the_columns(fails, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("age,Größe (cm)\n1,2\n3,4\n")
    assert fails("train", path) == (
        "error: Which column is to be predicted? Name it with --target. "
        "Columns: age, Größe (cm)."
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "No data are named. Name a file: kerastrain train mydata.csv"),
        (["train", "no.csv"], "There is no file no.csv"),
        (["train", "a.csv", "--column", "zip"], "--column zip: expected NAME=TYPE"),
        (
            ["train", "a.csv", "--config", "no.yaml"],
            "Cannot read no.yaml: No such file",
        ),
        (
            ["train", "a.csv", "--target", "y", "--task", "rank"],
            "configuration: task: Input should be 'auto', 'binary', 'multiclass' or",
        ),
        (["train", "a.csv", "--epochs", "x"], "Invalid value for '--epochs'"),
        (["train", "--no-such"], "No such option: --no-such"),
        (["trian"], "No such command 'trian'. Did you mean 'train'?"),
        (["predict", "run", "a.csv"], "Missing option '--out'"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(fails, arguments, message):
    line = fails(*arguments)
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    ("error", "code"),
    [(SourceError("s"), 2), (ParityError("p"), 3), (DivergenceError("d"), 4)],
)
def test_errors_of_ours_become_a_line_and_their_exit_code(seen, fails, error, code):
    seen.error = error
    line = fails("train", "a.csv", "--target", "y", code=code)
    assert line == f"error: {error}"


def test_ctrl_c_is_a_line_and_code_130(seen, fails):
    seen.error = KeyboardInterrupt()
    assert fails("train", "a.csv", "--target", "y", code=130) == "stopped."


def test_ctrl_c_that_comes_back_as_another_exception_is_still_ctrl_c(seen, fails):
    def interrupt():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise SystemError("KeyboardInterrupt: At: tensorflow.cc") from None

    seen.act = interrupt
    assert fails("train", "a.csv", "--target", "y", code=130) == "stopped."
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_any_other_exception_is_a_traceback_because_it_is_our_bug(seen):
    seen.error = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main(["train", "a.csv", "--target", "y"])


# --- finished runs ------------------------------------------------------------------


def test_predict_writes_the_file_and_counts_the_rows(seen, folder, tmp_path, capsys):
    out = tmp_path / "p.csv"
    arguments = [str(folder), "a.csv", "b.csv", "-o", str(out), "--id", "customer"]
    assert main(["predict", *arguments]) == 0
    assert capsys.readouterr().out == f"1,234 predictions in {out}\n"
    assert out.read_text() == "['a.csv', 'b.csv'] customer"


def test_predict_overwrites_only_with_force(seen, folder, tmp_path, fails):
    out = tmp_path / "p.parquet"
    out.write_text("old")
    line = fails("predict", folder, "a.csv", "-o", out)
    assert line.endswith("exists. Name another file, or overwrite with --force.")
    assert out.read_text() == "old"
    assert main(["predict", str(folder), "a.csv", "-o", str(out), "--force"]) == 0
    assert out.read_text() != "old"


def test_predict_refuses_an_ending_that_it_cannot_write(seen, folder, fails):
    line = fails("predict", folder, "a.csv", "-o", "p.xlsx")
    assert line == "error: --out p.xlsx: the name must end in .csv or .parquet."


@pytest.mark.parametrize("command", ["predict", "evaluate", "report", "export"])
def test_what_is_no_run_folder_is_told(command, fails, tmp_path):
    data = {"predict": ["a.csv", "-o", "p.csv"], "evaluate": ["a.csv"]}
    line = fails(command, tmp_path, *data.get(command, []))
    assert line.endswith("is not a run folder: it has no config.yaml.")


def test_evaluate_prints_a_table_or_json(seen, folder, capsys):
    assert main(["evaluate", str(folder), "a.csv"]) == 0
    assert "roc_auc 0.8471 0.8213 to 0.8719" in words(capsys.readouterr().out)
    assert main(["evaluate", str(folder), "a.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == METRICS["test"]


def test_report_prints_where_it_is(seen, folder, capsys):
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}/report.html\n"


def test_export_passes_checked_options_on(seen, folder, capsys, fails):
    arguments = ["--format", "saved_model", "--set", "batch_size=1"]
    assert main(["export", str(folder), *arguments]) == 0
    assert capsys.readouterr().out == "exported saved_model {'batch_size': 1}\n"
    line = fails("export", folder, "--set", "batchsize=1")
    assert "exports.saved_model has no option 'batchsize'. Did you mean" in line


def test_profile_prints_a_row_for_each_column_and_writes_the_schema(tmp_path, capsys):
    data, out = tmp_path / "a.csv", tmp_path / "schema.json"
    rows = "".join(f"{i % 40},{'xyz'[i % 3]},{i % 2}\n" for i in range(90))
    data.write_text("age,kind,y\n" + rows)
    assert main(["profile", str(data), "--target", "y", "-o", str(out)]) == 0
    text = capsys.readouterr().out
    assert "90 rows, 3 columns" in text
    assert "categorical" in text
    names = [column["name"] for column in json.loads(out.read_text())["columns"]]
    assert names == ["age", "kind", "y"]


# --- TensorFlow's own log -----------------------------------------------------------


def test_what_cpp_writes_while_a_stage_loads_is_held_back(monkeypatch, capfd):
    monkeypatch.setenv(stages.LEVEL, "")  # so that it is put back
    monkeypatch.delenv(stages.LEVEL)
    monkeypatch.setattr(
        stages.importlib, "import_module", lambda _: os.write(2, b"noise")
    )
    stages.load_stage("run")
    assert os.environ[stages.LEVEL] == "3"
    os.write(2, b"later")
    assert capfd.readouterr().err == "later"


def test_what_cpp_wrote_is_shown_when_the_stage_does_not_load(monkeypatch, capfd):
    def fail(_):
        os.write(2, b"why it failed")
        raise ImportError("no stage")

    monkeypatch.setenv(stages.LEVEL, "")  # so that it is put back
    monkeypatch.delenv(stages.LEVEL)
    monkeypatch.setattr(stages.importlib, "import_module", fail)
    with pytest.raises(ImportError, match="no stage"):
        stages.load_stage("run")
    assert capfd.readouterr().err == "why it failed"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/x/p.csv"),
         "error: /x/p.csv may not be written or read: Permission denied."),
        (OSError(errno.ENOSPC, "No space left on device"),
         "error: No space left on device."),
    ],
)  # fmt: skip
def test_what_the_machine_refuses_is_one_line(seen, fails, error, line):
    seen.error = error
    assert fails("train", "a.csv", "--target", "y") == line


def test_an_error_of_the_system_that_no_user_can_mend_is_shown_whole(seen):
    seen.error = OSError(errno.EBADF, "Bad file descriptor")
    with pytest.raises(OSError, match="Bad file descriptor"):
        main(["train", "a.csv", "--target", "y"])


def test_a_run_without_test_rows_is_summed_up(seen, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules[__name__], "METRICS", {"task": "binary"})
    assert main(["train", "a.csv", "--target", "y", "-q"]) == 0
    assert "No test rows, so nothing tells how good" in capsys.readouterr().out


def test_an_undefined_metric_is_left_blank(capsys):
    nothing = {"value": None, "low": None, "high": None}
    metrics_table({"roc_auc": nothing, "accuracy": METRICS["test"]["roc_auc"]})
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["roc_auc"]
    assert lines[2].split() == ["accuracy", "0.8471", "0.8213", "to", "0.8719"]


def test_profile_takes_settings_of_the_source_and_of_columns(tmp_path, capsys, fails):
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{i}|{i % 3}\n" for i in range(30)))
    arguments = ["--set", "source.header=false", "--column", "column1=categorical"]
    assert main(["profile", str(path), *arguments]) == 0
    assert "column1 categorical" in words(capsys.readouterr().out)
    assert "no key 'sauce'" in fails("profile", path, "--set", "sauce=1")


def test_malformed_lines_are_passed_over_in_predictions_only_when_asked(seen, folder):
    given = []
    StubRun.predict_file, plain = (
        lambda run, data, out, **options: given.append(options) or 1,
        StubRun.predict_file,
    )
    try:
        for more in ([], ["--max-bad-rows", "0.5"]):
            assert main(["predict", str(folder), "a.csv", "-o", "p.csv", *more]) == 0
    finally:
        StubRun.predict_file = plain
    assert [options["max_bad_rows"] for options in given] == [0.0, 0.5]
