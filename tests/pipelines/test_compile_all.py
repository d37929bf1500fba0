"""What `compile_all` compiles is all that predicting and reading text files need."""

import sys

import pyarrow as pa
import pytest

import sentiment
from pipelines import compile_all
from pipelines.sources.formats import FORMATS
from pipelines.sources.options import ReadOptions
from testing.generated import save_checkpoint


def signatures() -> dict[str, int]:
    """Of each cached function, how many types of arguments it is compiled for."""
    return {
        f"{module.__name__}.{name}": len(value.signatures)
        for module in list(sys.modules.values())
        if module.__name__.startswith(("sentiment.", "pipelines."))
        for name, value in vars(module).items()
        if hasattr(value, "py_func")
        and value.py_func.__module__ == module.__name__
        and value.stats.cache_path
    }


@pytest.mark.process
def test_nothing_is_left_to_compile(tmp_path):
    save_checkpoint(tmp_path)
    compile_all.main()
    before = signatures()
    assert before["sentiment.model.kernel._add_logits"] >= 2
    model = sentiment.load(str(tmp_path))
    for texts in (["what a day :)"], pa.array(["good", None], pa.large_string())):
        model.predict_proba(texts, null="nan")
    for name, content in (
        ("csv", b'id,text\n1,"a ""b"", c"\n2,d\n'),
        ("json", b'{"id": 1, "text": "a\\u00e9"}\n'),
        ("text", b"a\n"),
    ):
        source = pa.BufferReader(content)
        list(FORMATS[name].rows(source, name, ["text"], ReadOptions(), None, ["id"]))
    assert signatures() == before
