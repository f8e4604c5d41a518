"""Where rows come from. A source is one file here and one line in `SOURCES`."""

from kerastrain.registry import Registry

__all__ = ["SOURCES"]

SOURCES = Registry(
    "source",
    {
        "csv": "kerastrain.sources.csv:CsvSource",
        "parquet": "kerastrain.sources.parquet:ParquetSource",
        "json": "kerastrain.sources.json:JsonSource",
        "arrow": "kerastrain.sources.arrow:ArrowSource",
        "excel": "kerastrain.sources.excel:ExcelSource [excel]",
        "npz": "kerastrain.sources.npz:NpzSource",
        "sql": "kerastrain.sources.sql:SqlSource [sql]",
        "frame": "kerastrain.sources.frame:FrameSource",
        "tfds": "kerastrain.sources.tfds:TfdsSource [datasets]",
        "huggingface": "kerastrain.sources.huggingface:HuggingFaceSource [datasets]",
        "image_folder": "kerastrain.sources.image_folder:ImageFolderSource",
        "text_folder": "kerastrain.sources.text_folder:TextFolderSource",
        "tfrecord": "kerastrain.sources.tfrecord:TfRecordSource",
        "tf_dataset": "kerastrain.sources.tf_dataset:TfDatasetSource",
    },
)
