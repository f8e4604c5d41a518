"""Where rows come from. A source is one file here and one line in `SOURCES`."""

from kerastrain.registry import Registry

__all__ = ["SOURCES"]

SOURCES = Registry(
    "source",
    {
        "csv": "kerastrain.sources.csv:CsvSource",
        "parquet": "kerastrain.sources.parquet:ParquetSource",
        "frame": "kerastrain.sources.frame:FrameSource",
    },
)
