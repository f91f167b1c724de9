"""Recognising objects of libraries that may not be installed, without importing any of them."""


def comes_from(value: object, package: str, name: str) -> bool:
    """Whether a class called `name` from `package` is among the classes of `value`."""
    return any(kind.__name__ == name and kind.__module__.split(".")[0] == package for kind in type(value).__mro__)


def is_frame(value: object) -> bool:
    """Whether this is a pandas DataFrame."""
    return comes_from(value, "pandas", "DataFrame")


def is_batch(value: object) -> bool:
    """Whether this is a pyarrow RecordBatch."""
    return comes_from(value, "pyarrow", "RecordBatch")


def is_table(value: object) -> bool:
    """Whether this is a pyarrow Table or RecordBatch."""
    return comes_from(value, "pyarrow", "Table") or is_batch(value)
