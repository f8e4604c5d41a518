"""RunConfig: refused settings, YAML both ways, overrides, JSON Schema."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kerastrain.config import RunConfig, parse_config
from kerastrain.config.file import load_config, with_overrides, with_values, yaml_text
from kerastrain.config.schema import config_schema
from kerastrain.errors import ConfigError, UnknownName
from kerastrain.models import LEARNERS
from kerastrain.optimizers import OPTIMIZER_OPTIONS


def config(**settings):
    return parse_config({"target": "y"} | settings)


def test_a_resolved_configuration_is_a_valid_input_that_gives_the_same(tmp_path):
    first = config(
        data=["a.csv", "b.csv"],
        columns={"zip": "categorical", "1": {"missing_values": ["-"]}},
        model={"name": "mlp", "widths": (64, 32)},
        objective={"class_weights": {"No": 1, "Yes": 3.5}},
        optimizer={"name": "sgd", "momentum": 0.9},
        positive_label="Yes",
        runtime={"memory": "2GiB"},
    )
    path = tmp_path / "config.yaml"
    path.write_text(first.dumps())
    assert parse_config(load_config(path)) == first
    assert parse_config(yaml.safe_load(first.dumps())) == first


def test_a_resolved_configuration_holds_the_options_that_were_not_given():
    assert set(config().model.options) == set(LEARNERS.options("mlp"))
    assert config(model={"widths": [8]}).model.options["widths"] == [8]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"epocs": 3},
            "configuration: no key 'epocs'. Did you mean 'exports'? Keys: data, ",
        ),
        ({"modle": "mlp"}, "no key 'modle'. Did you mean 'model'? Keys: data, target"),
        (
            {"fit": {"epoch": 3}},
            "no key 'fit.epoch'. Did you mean 'epochs'? Keys: epochs, batch_size, "
            "patience, min_delta, baseline, target, time_limit, monitor, "
            "steps_per_call, accumulate, remat, retries, find_rate.",
        ),
        (
            {"columns": {"zip": {"typ": "numeric"}}},
            "no key 'columns.zip.typ'. Did you mean 'type'? Keys: type, format, "
            "missing_values.",
        ),
        (
            {"fit": {"epochs": 0}},
            "configuration: fit.epochs: Input should be greater than or equal to 1 or "
            "'auto', got 0.",
        ),
        ({"fit": {"epochs": "many"}}, "fit.epochs: Input should be a valid integer"),
        ({"fit": 3}, "configuration: fit: "),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0, got -1."),
        ({"data": []}, "configuration: data: List should have at least 1 item"),
        ({"target": None}, "target: Input should be a valid string, got None."),
        (
            {"task": "ranking"},
            "task: Input should be 'auto', 'binary', 'multiclass' or",
        ),
        (
            {"split": {"validation": 0.6, "test": 0.4}},
            "configuration: split: validation + test must be below 1.",
        ),
        (
            {"split": {"validation": 0}},
            "configuration: split.validation: Input should be greater than 0, got 0.",
        ),
        (
            {"runtime": {"memory": "much"}},
            "runtime.memory: expected a size such as 500MB or 2GiB or 'auto'",
        ),
        ({"runtime": {"memory": -1}}, "runtime.memory: Input should be greater than"),
        (
            {"objective": {"class_weights": {"a": 0}}},
            "objective.class_weights",
        ),
        (
            {"optimizer": {"name": "adamw", "lerning_rate": 1}},
            "optimizer: adamw has no option 'lerning_rate'. Did you mean "
            "'learning_rate'? Options: learning_rate, weight_decay, "
            "decay_schedule, clip_norm, "
            "clip_each_norm, clip_value, no_decay, rates, layer_decay, unfreeze, "
            "beta_1, beta_2, epsilon, amsgrad.",
        ),
        (
            {"model": {"name": "mlp", "dropuot": 1}},
            "model.mlp has no option 'dropuot'. Did you mean 'dropout'? Options: wid",
        ),
        ({"exports": ["saved_model", {"name": 3}]}, "Unknown export"),
        ({"exports": "saved_model"}, "exports: Input should be a valid list"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_place(settings, message):
    with pytest.raises(ConfigError) as caught:
        config(**settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not str(caught.value).endswith("..")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "mpl"}, "Unknown model 'mpl'. Did you mean 'mlp'? Available: "),
        ({"schedule": "cosin"}, "Unknown schedule 'cosin'. Did you mean 'cosine'? "),
        ({"source": "cvs"}, "Unknown source 'cvs'. Did you mean 'csv'? "),
        (
            {"optimizer": "adm"},
            "optimizer: Unknown optimizer 'adm'. Did you mean 'adam",
        ),
        (
            {"columns": {"zip": "categorial"}},
            "columns.zip: Unknown column type 'categorial'. Did you mean 'categorical'",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(settings, message):
    with pytest.raises(UnknownName) as caught:
        config(**settings)
    assert message in str(caught.value)


def test_a_missing_target_is_named():
    with pytest.raises(ConfigError, match="^configuration: target: Field required.$"):
        parse_config({})


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("500", 500),
        ("1K", 1000),
        ("2GB", 2_000_000_000),
        ("1.5 GiB", 1_610_612_736),
        ("3mb", 3_000_000),
        (7, 7),
        ("auto", "auto"),
    ],
)
def test_memory_is_read_as_people_write_sizes(text, num_bytes):
    assert config(runtime={"memory": text}).runtime.memory == num_bytes


def test_labels_and_columns_may_be_numbers_in_yaml(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "target: 2020\npositive_label: 1\nignore: [7]\n"
        "objective: {class_weights: {0: 1, 1: 3}}\ncolumns: {5: numeric}\n"
    )
    read = parse_config(load_config(path))
    assert (read.target, read.positive_label, read.ignore) == ("2020", "1", ["7"])
    assert read.objective.class_weights == {"0": 1, "1": 3}
    assert read.columns["5"].type == "numeric"


def test_nothing_that_a_saved_configuration_names_is_imported():
    saved = {"target": "y", "model": "no_such_module:net"}
    assert parse_config(saved, trusted=False).model.name == "no_such_module:net"
    with pytest.raises(ConfigError, match="No module named 'no_such_module'"):
        parse_config(saved)


def test_it_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        config().seed = 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Yes", "Yes"),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("1e-3", 0.001),
        ("-2.5", -2.5),
        (".5", 0.5),
        ("010", "010"),
        ("1:30", "1:30"),
        ("2024-01-31", "2024-01-31"),
        ("1_000", "1_000"),
        ("null", None),
        ("", None),
        ("[8, 4]", [8, 4]),
        ("'5'", "5"),
        ("|", "|"),
        (">", ">"),
    ],
)
def test_values_of_overrides_are_read_as_people_mean_them(text, value):
    read = with_overrides({}, [f"a.b={text}"])["a"]["b"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["seed=1", "seed=2"], {"model": "mlp", "seed": 2}),
        (["model.dropout=0.2"], {"model": {"name": "mlp", "dropout": 0.2}}),
        (["model=linear"], {"model": "linear"}),
        (["model.dropout=0.2", "model.name=linear"], {"model": {"name": "linear"}}),
        (
            ["model.dropout=0.2", "model.name=mlp"],
            {"model": {"name": "mlp", "dropout": 0.2}},
        ),
        (["fit.epochs = 3"], {"model": "mlp", "fit": {"epochs": 3}}),
        (["out=a=b"], {"model": "mlp", "out": "a=b"}),
    ],
)
def test_overrides_set_a_path_and_leave_the_rest_and_the_original(overrides, expected):
    data = {"model": "mlp"}
    assert with_overrides(data, overrides) == expected
    assert data == {"model": "mlp"}


def test_values_do_not_reach_into_the_mapping_they_were_made_from():
    data = {"fit": {"epochs": 1}, "exports": [{"name": "a"}]}
    result = with_values(data, [("fit.epochs", 2)])
    result["exports"][0]["name"] = "b"
    assert data == {"fit": {"epochs": 1}, "exports": [{"name": "a"}]}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "--set seed: expected path=value, as model.dropout=0.2."),
        ("=3", "--set =3: expected path=value"),
        ("fit..epochs=3", "expected path=value"),
        ("fit.epochs=[1", "--set fit.epochs=\\[1: expected ',' or '\\]'"),
        ("exports.name=x", "exports is \\['a'\\] and has no keys: set it whole."),
        ("a={b: 1, b: 2}", "--set a=.*: the key 'b' stands there twice."),
    ],
)
def test_an_override_that_cannot_be_is_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        with_overrides({"exports": ["a"]}, [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "Cannot read .*run.yaml: No such file or directory."),
        ("a: [1", "run.yaml is not a valid configuration: while parsing a flow"),
        ("- a", "run.yaml: expected keys such as 'data' and 'target'."),
        ("", "run.yaml: expected keys such as 'data' and 'target'."),
        ("a: 1\na: 2", "run.yaml is not a valid configuration: the key 'a' stands"),
        ("a: !!python/name:os.system", "could not determine a constructor for the tag"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, message):
    path = tmp_path / "run.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


# Control characters and exotic line ends aside: YAML folds them.
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]))
PLAIN = st.none() | st.booleans() | st.integers() | TEXT | st.floats(allow_nan=False)


@given(st.dictionaries(TEXT, PLAIN | st.lists(PLAIN)))
def test_any_text_or_number_survives_yaml_both_ways(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("yaml") / "run.yaml"
    path.write_text(yaml_text(data), encoding="utf-8")
    assert load_config(path) == data


def test_the_schema_completes_the_options_of_each_name():
    parts = config_schema()["$defs"]
    by_name = {
        choice["properties"]["name"].get("const"): choice
        for choice in parts["ModelConfig"]["anyOf"]
        if "properties" in choice
    }
    assert set(by_name) == {*LEARNERS, None}
    for name in LEARNERS:
        own = set(by_name[name]["properties"]) - {"name"}
        assert own == set(LEARNERS.options(name))
    assert by_name["mlp"]["properties"]["dropout"]["type"] == "number"
    assert by_name["mlp"]["properties"]["dropout"]["description"]
    assert not by_name["mlp"]["additionalProperties"]


def test_the_schema_describes_every_setting_of_a_run():
    schema = config_schema()
    described = {
        k for k, field in schema["properties"].items() if "description" in field
    }
    parts = {k for k, field in schema["properties"].items() if "$ref" in field}
    lists = {"exports", "trackers"}
    assert described | parts | lists == set(RunConfig.model_fields)


def test_optimizers_and_their_options_are_those_of_keras():
    import inspect

    import keras

    base = set(inspect.signature(keras.optimizers.SGD).parameters)
    common = base - {"momentum", "nesterov"}
    wrappers = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap"}
    found = {
        name.lower(): set(inspect.signature(kind).parameters) - common - {"kwargs"}
        for name, kind in inspect.getmembers(keras.optimizers, inspect.isclass)
        if name not in wrappers
    }
    assert {name: set(keys) for name, keys in OPTIMIZER_OPTIONS.items()} == found
