"""Listing: which files of a directory are shards, and under which paths."""

import errno
import gzip
import os
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import Unavailable
from pipelines.sources import tables
from pipelines.sources.listing import directory_of, find, find_labelled, find_shards, require_apart
from pipelines.sources.names import FETCHED
from pipelines.sources.options import ReadOptions
from sentiment.errors import InputError
from testing.faulty_files import Faults, faulty

KNOWN = ".csv, .tsv, .json, .jsonl, .jsonlines, .ndjson, .txt, .text, .parquet, .parq, .pq"

TAR = b"a.csv".ljust(257, b"\0") + b"ustar\x0000".ljust(255, b"\0")


@pytest.fixture
def tree(tmp_path):
    """A function that makes shards of one row below a directory, and returns the directory."""

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("text\na\n")
        return tmp_path

    return make


def names(root, shards):
    return [os.path.relpath(shard.path, root) for shard in shards]


def test_directories_are_read_recursively(tree):
    root = tree(
        *("b.csv", "a/z.parquet", "a/a/deep.csv.gz", "a.csv", "c d.csv", "é.csv", "x#1%41.csv"),
        *(
            "_hidden.csv",
            ".hidden.csv",
            "a/_SUCCESS/in.csv",
            "a/.git/in.csv",
            "_manifest/x.parquet",
        ),
        *("README.md", "b.parquet.tmp", "csv", "a.gz", "a.csv.crc"),
    )
    shards = find_shards([str(root)], "--input")
    assert names(root, shards) == sorted(
        ["a.csv", "a/a/deep.csv.gz", "a/z.parquet", "b.csv", "c d.csv", "x#1%41.csv", "é.csv"]
    )
    for shard in shards:
        info = os.stat(shard.path)
        assert (shard.size, shard.modified) == (info.st_size, info.st_mtime_ns)


def test_names_above_a_directory_do_not_hide_it(tree):
    root = tree("_x/.y/a.csv", "_x/.y/_b.csv") / "_x" / ".y"
    assert names(root, find_shards([str(root)], "--input")) == ["a.csv"]
    assert names(root, find_shards([str(root / "_b.csv")], "--input")) == ["_b.csv"]


def test_paths_keep_their_order_and_a_file_is_found_once(tree):
    root = tree("a.csv", "b.csv", "c/d.csv", "c/e.csv")
    paths = [root / "c" / "e.csv", root / "b.csv", root, root / "b.csv", root / "c"]
    shards = find_shards([str(path) for path in paths], "--input")
    assert names(root, shards) == ["c/e.csv", "b.csv", "a.csv", "c/d.csv"]
    twice = find_shards([f"{root}/c/../a.csv", f"file://{root}/a.csv", f"{root}/a.csv"], "--input")
    assert names(root, twice) == ["a.csv"]


def test_a_file_that_links_lead_to_is_found_once(tree):
    root = tree("in/a.csv", "in/sub/b.csv", "blobs/0123", "in/z.csv")
    before = names(root, find_shards([str(root / "in")], "--input"))
    (root / "in" / "0.csv").symlink_to("a.csv")
    (root / "in" / "0.parquet").symlink_to("../blobs/0123")
    (root / "in" / "1.csv").hardlink_to(root / "blobs" / "0123")
    (root / "linked").symlink_to("in")
    (root / "in" / "again").symlink_to("sub")
    # The target of a link may have no extension; a hard link is a file of its own.
    expected = ["in/0.parquet", "in/1.csv", *before]
    for paths in (["in"], ["linked"], ["linked", "in"], ["in", "linked/sub/b.csv", "in/again"]):
        shards = find_shards([str(root / path) for path in paths], "--input")
        assert names(root, shards) == expected
    shards = find_shards([str(root / "linked" / "0.csv"), str(root / "in")], "--input")
    assert names(root, shards) == ["in/0.csv", *(name for name in expected if name != "in/a.csv")]


def test_file_uris_are_local_paths(tree):
    root = tree("a b/x#1.csv", "a b/data.csv")
    uri = f"file://{root}/a%20b"
    shards = find_shards([uri], "--input")
    assert shards == find_shards([str(root / "a b")], "--input")
    for shard in shards:
        assert shard.count(ReadOptions()).rows == 1
    assert names(root, find_shards([f"{uri}/x%231.csv"], "--input")) == ["a b/x#1.csv"]
    for given_as in (uri, f"{uri}/", str(root / "a b"), f"{root}/a b/"):
        assert names(root, find_labelled(given_as, "--data_dir").shards) == [
            "a b/data.csv",
            "a b/x#1.csv",
        ]


def test_relative_paths(tree, monkeypatch):
    root = tree("in/data.csv", "in/other.csv")
    monkeypatch.chdir(root)
    assert names(root, find_labelled("in", "--data_dir").shards) == ["in/data.csv", "in/other.csv"]
    assert names(root, find_shards(["in/other.csv", "in"], "--input")) == [
        "in/other.csv",
        "in/data.csv",
    ]


def test_only_data_csv_is_labelled_where_it_was_fetched(tree):
    """It is a usual name, too: elsewhere the other files are read."""
    root = tree("one/data.csv", "one/shards/a.csv", "two/a.csv", "two/below/data.csv")
    one = str(root / "one")
    both = ["one/data.csv", "one/shards/a.csv"]
    assert names(root, find_labelled(one, "--data_dir").shards) == both
    (root / "one" / FETCHED).write_text("{}")
    assert names(root, find_labelled(one, "--data_dir").shards) == ["one/data.csv"]
    assert names(root, find_labelled(f"file://{one}/", "--data_dir").shards) == ["one/data.csv"]
    assert names(root, find_labelled(str(root / "two"), "--data_dir").shards) == [
        "two/a.csv",
        "two/below/data.csv",
    ]
    file = str(root / "two" / "a.csv")
    assert names(root, find_labelled(file, "--data_dir").shards) == ["two/a.csv"]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("gone", "does not exist"),
        ("gone.csv", "does not exist"),
        ("notes.doc", f"does not end in any of {KNOWN} (also .gz, .zst, .bz2): pass --format"),
        ("empty", f"holds no shards: no file ends in {KNOWN}"),
        ("gone*", "matches no file and no directory"),
        (
            "docs",
            "holds no shards: 1 file is no shard and was left aside: 1 .doc ({root}/docs/a.doc)",
        ),
    ],
)
def test_the_error_names_the_flag(tree, path, problem):
    root = tree("notes.doc", "empty/_a.csv", "good.csv", "docs/a.doc")
    with pytest.raises(InputError) as caught:
        find_shards([str(root / "good.csv"), str(root / path)], "--input")
    assert str(caught.value) == f"--input {root / path} {problem.replace('{root}', str(root))}"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("b.xlsx", b"PK\x03\x04", "is a zip archive, or a workbook (.xlsx, .ods): unpack it, or"),
        ("b.avro", b"Obj\x01\x04", "is Avro: convert it to Parquet"),
        ("b", b"\x1f\x8b\x08", "is gzip: name it so that it ends in .gz"),
        ("b.tar.gz", b"\x1f\x8b\x08", "does not end in any of"),
        ("c.tar.gz", gzip.compress(TAR), "is a tar archive in gzip: unpack it"),
        ("c.tgz", gzip.compress(TAR), "is gzip: name it so that it ends in .gz"),
        ("c.tar", TAR, "is a tar archive: unpack it"),
        ("b.gz", b"Obj\x01\x04", "is Avro: convert it to Parquet"),
        ("b.doc", b"", "does not end in any of"),
    ],
)
def test_a_file_of_another_kind_is_named_for_what_it_is(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        find_shards([str(tmp_path / name)], "--input")
    assert str(caught.value).startswith(f"--input {tmp_path / name} {said}")


def test_a_name_that_is_not_unicode_is_refused(tree):
    root = tree("good.csv")
    with open(os.fsencode(root) + b"/\xff.csv", "w"):
        pass
    with pytest.raises(InputError, match=f"--input {root} cannot be listed"):
        find_shards([str(root)], "--input")


def test_a_deleted_shard_is_named(tree):
    root = tree("a.csv", "b.csv.gz", "c.parquet")
    shards = find_shards([str(root)], "--input")
    for shard in shards:
        os.unlink(shard.path)
        with pytest.raises(Unavailable, match=f"{shard.path} cannot be opened"):
            shard.count(ReadOptions())


@pytest.mark.parametrize("at", ["stat", "list"])
@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE, errno.ENOENT])
def test_what_cannot_be_listed_is_unavailable(tree, at, number):
    root = tree("a.csv")
    error = OSError(number, os.strerror(number))
    with faulty(Faults(at, error)), pytest.raises(Unavailable) as caught:
        find_shards([str(root)], "--input")
    assert str(caught.value).startswith(f"--input {root} cannot be listed: ")


def test_what_is_no_shard_is_counted_by_kind(tree):
    root = tree(
        *("a.csv", "b.xlsx", "c/d.xlsx", "e.log", "000000_0", "README.txt", "schema.json"),
        *("a.csv.crc", "_SUCCESS", ".hidden.xlsx", "_metadata", "x.json", "y.txt"),
    )
    found = find([str(root)], "--input")
    assert names(root, found.shards) == ["a.csv", "x.json", "y.txt"]
    assert found.aside == {
        ".log": [f"{root}/e.log"],
        ".xlsx": [f"{root}/b.xlsx", f"{root}/c/d.xlsx"],
        "document": [f"{root}/README.txt", f"{root}/schema.json"],
        "without extension": [f"{root}/000000_0"],
    }
    assert found.remark == (
        f"6 files are no shards and were left aside: 2 .xlsx ({root}/b.xlsx, ...), "
        f"2 document ({root}/README.txt, ...), 1 .log ({root}/e.log), "
        f"1 without extension ({root}/000000_0); --format reads files without extension"
    )
    given = find([str(root)], "--input", has_format=True)
    assert names(root, given.shards) == ["000000_0", "a.csv", "x.json", "y.txt"]
    assert find([str(root / "a.csv")], "--input").remark == ""


def test_a_data_set_as_hugging_face_saves_it_is_to_be_converted(tree):
    root = tree(
        *("dataset_dict.json", "train/data-00000-of-00001.arrow"),
        *("train/state.json", "train/dataset_info.json"),
    )
    arrow = root / "train" / "data-00000-of-00001.arrow"
    table = pa.table({"text": ["a"]})
    with pa.OSFile(str(arrow), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(InputError) as caught:
        find_shards([str(root)], "--input")
    assert str(caught.value) == (
        f"--input {root} holds no shards: 4 files are no shards and were left aside: 3 document "
        f"({root}/dataset_dict.json, ...), 1 .arrow ({arrow}); .arrow files are read when "
        "they are converted to Parquet"
    )
    with pytest.raises(InputError, match=r"\.arrow is an Arrow stream, .*: convert it to Parquet"):
        find_shards([str(arrow)], "--input")


def test_a_file_without_extension_is_a_shard_if_it_is_parquet(tree):
    root = tree("part-00000", "dir/000000_0")
    pq.write_table(pa.table({"text": ["a"]}), root / "dir" / "000000_1")
    found = find([str(root)], "--input")
    assert names(root, found.shards) == ["dir/000000_1"]
    assert list(found.aside) == ["without extension"]
    assert names(root, find_shards([str(root / "dir" / "000000_1")], "-")) == ["dir/000000_1"]
    with pytest.raises(InputError, match=r"part-00000 does not end in any of .*: pass --format"):
        find_shards([str(root / "part-00000")], "--input")
    named = find([str(root / "part-00000")], "--input", has_format=True)
    assert names(root, named.shards) == ["part-00000"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("y=*/*.csv", ["y=1/a.csv", "y=2/b.csv", "y=2/c.csv"]),
        ("y=*/[ab].csv", ["y=1/a.csv", "y=2/b.csv"]),
        ("y=2", ["y=2/b.csv", "y=2/c.csv", "y=2/deep/d.csv", "y=2/e.jsonl"]),
        ("y=?", ["y=1/a.csv", "y=2/b.csv", "y=2/c.csv", "y=2/deep/d.csv", "y=2/e.jsonl"]),
        ("**/*.csv", ["top.csv", "y=1/a.csv", "y=2/b.csv", "y=2/c.csv", "y=2/deep/d.csv"]),
        ("*/deep/*", ["y=2/deep/d.csv"]),
        ("y=2/**", ["y=2/b.csv", "y=2/c.csv", "y=2/deep/d.csv", "y=2/e.jsonl"]),
        ("y=2/*", ["y=2/b.csv", "y=2/c.csv", "y=2/deep/d.csv", "y=2/e.jsonl"]),
        ("*.csv", ["top.csv"]),
        ("odd[1]/a.csv", ["odd[1]/a.csv"]),
    ],
)
def test_patterns(tree, pattern, expected):
    root = tree(
        *("top.csv", "y=1/a.csv", "y=2/b.csv", "y=2/c.csv", "y=2/deep/d.csv", "y=2/e.jsonl"),
        *("y=2/_x/f.csv", "_h/g.csv", ".h/i.csv"),
    )
    if pattern.startswith("odd"):
        tree("odd[1]/a.csv", "odd1/b.csv")
    for given in (f"{root}/{pattern}", f"file://{root}/{pattern}"):
        if "://" not in given or not set("?[") & set(pattern):
            assert names(root, find_shards([given], "--input")) == sorted(expected)
    assert names(root, find_shards([f"{root}/{pattern}", str(root / "top.csv")], "--input"))


def test_conditions_on_directories(tree):
    root = tree(
        *("year=2023/month=12/a.csv", "year=2024/month=01/b.csv", "year=2024/month=10/c.csv"),
        *("year=__HIVE_DEFAULT_PARTITION__/d.csv", "e.csv"),
    )

    def chosen(*where):
        return [name[-5] for name in names(root, find([str(root)], "--input", where).shards)]

    assert chosen() == ["e", "a", "b", "c", "d"]
    assert chosen("year=2024") == ["b", "c"]
    assert chosen("year = 2024", "month>=2") == ["c"]
    assert chosen("month=1") == ["b"]
    assert chosen("year!=2024") == ["a"]
    assert chosen("year<2024.5") == ["a", "b", "c"]
    assert chosen("year<=x") == ["a", "b", "c"]
    with pytest.raises(InputError, match=r"named day=.*; the keys there are: month, year$"):
        chosen("day=1")
    with pytest.raises(InputError, match=r"--where year=2025: none of 5 shards is so"):
        chosen("year=2025")
    with pytest.raises(InputError, match=r"--where 'year' is no condition"):
        chosen("year")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("t/_delta_log/00000.json", "Delta Lake"),
        ("t/.hoodie/hoodie.properties", "Hudi"),
        ("t/metadata/v1.metadata.json", "Iceberg"),
    ],
)
def test_a_table_of_a_table_format_is_refused_by_name(tree, name, kind):
    root = tree("t/part-0.parquet", "t/data/x=1/part-1.parquet", name)
    for given in (root / "t", root, root / "*", root / "t" / "*"):
        with pytest.raises(InputError, match=rf"{root}/t is a table of {kind}, whose files .*: wr"):
            find_shards([str(given)], "--input")


@pytest.mark.parametrize(
    "kind", ["_delta_log/00000.json", ".hoodie/x", "metadata/v1.metadata.json"]
)
@pytest.mark.parametrize(
    "given",
    [
        *("t/x=1", "t/x=1/y=2/", "t/x=1/y=2/b.parquet", "t/a.parquet", "*/x=1", "*/x=1/*.parquet"),
        *(
            "t/x*",
            "t/*.parquet",
            "*/x*/*",
            "**/y=2",
            "**/b.parquet",
            "link/y=2",
            "links",
            "links/*",
        ),
    ],
)
def test_what_lies_in_a_table_is_refused_by_the_name_of_the_table(tree, kind, given):
    root = tree("t/a.parquet", "t/x=1/y=2/b.parquet", f"t/{kind}", "links/c.parquet")
    (root / "link").symlink_to("t/x=1")
    (root / "links" / "into").symlink_to("../t/x=1/y=2")
    with pytest.raises(InputError, match=rf"--input {root}/.*: {root}/t is a table of"):
        find_shards([str(root / given)], "--input")


def test_directories_beside_a_table_are_read(tree):
    root = tree("t/_delta_log/0.json", "u/a.csv", "u/metadata/b.csv")
    for given in ("u", "u/a.csv", "u/metadata", "u/*", "u*/a.csv", "**/b.csv"):
        assert find_shards([str(root / given)], "--input")


def test_each_directory_is_looked_into_once_for_all_paths(tree, monkeypatch):
    root = tree(*(f"x={i}/y={j}/a.csv" for i in range(3) for j in range(3)))
    looked_into = []
    marks = tables._marks

    def noted(filesystem, directory):
        looked_into.append(directory)
        return marks(filesystem, directory)

    monkeypatch.setattr(tables, "_marks", noted)
    assert len(find_shards([str(root)], "--input")) == 9
    assert len(looked_into) <= tables.LEVELS_LOOKED_INTO + 1
    looked_into.clear()
    assert len(find_shards([str(path) for path in root.glob("*/*/a.csv")], "--input")) == 9
    assert len(looked_into) == len(set(looked_into))
    assert {str(path) for path in root.glob("x=*/y=*")} < set(looked_into)


def test_an_output_inside_the_input_is_refused(tree):
    root = tree("in/a.csv", "in/sub/b.csv", "beside/c.csv")
    (root / "link").symlink_to("in")
    (root / "in" / "beside").symlink_to("../beside")
    for given, output in (
        ("in", "in/scored"),
        ("in", "in"),
        ("link", "in/scored"),
        ("in", "link/scored"),
        ("in/*.csv", "in/scored"),
        ("in/sub", "in"),
        ("in/sub/b.csv", "in"),
        ("in", "beside"),
        ("in", "beside/../in/x"),
    ):
        paths = [str(root / given)]
        with pytest.raises(InputError, match="the next run would read what this one writes"):
            require_apart(paths, find_shards(paths, "--input"), str(root / output))
    for given, output in (("in", "scored"), ("in", "in2"), ("in/a.csv", "in/scored"), ("in", "i")):
        paths = [str(root / given)]
        require_apart(paths, find_shards(paths, "--input"), str(root / output))
    for given, output in (("s3://b/in/", "s3://b/in/out"), ("gs://anonymous@b/x", "gs://b/x/y")):
        with pytest.raises(InputError, match="inside each other"):
            require_apart([given], [], output)
    require_apart(["s3://b/in"], [], "s3://b/in2")
    require_apart(["s3://b/in"], [], "gs://b/in/x")


@pytest.mark.parametrize(
    ("given", "directory"),
    [("in", "in"), ("in/a.csv", "in"), ("in/*.csv", "in"), ("*/a.csv", "")],
)
def test_the_directory_of_a_file_or_pattern(given, directory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("text\na\n")
    assert directory_of(given, find_shards([given], "--data_dir")) == directory


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_server_that_does_not_answer_is_told_soon(scheme, silent_buckets, capsys):
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"cannot be listed: no connection to 127\.0\.0\.1"):
        find_shards([f"{scheme}://bucket/texts"], "--input")
    assert time.monotonic() - began < 15
    line = f"--input {scheme}://bucket/texts: no answer yet, trying for some 10 s ...\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("old/_manifest/plan-00000.parquet", "old is an output of pipelines.score"),
        ("models/demo/checkpoint.json", "demo is a model of pipelines.train"),
        ("checkpoint.json", "in is a model of pipelines.train"),
    ],
)
def test_what_the_package_made_is_not_read_with_the_texts(file, what, tmp_path):
    for name in ("a.csv", file):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text("text\na\n")
    with pytest.raises(InputError, match=rf"--input .*{what}, .*: name the directories to read"):
        find_shards([str(tmp_path / "in")], "--input")


def test_an_output_is_read_where_it_is_named(tmp_path):
    (tmp_path / "_manifest").mkdir()
    (tmp_path / "a.csv").write_text("text\na\n")
    assert len(find_shards([str(tmp_path)], "--input")) == 1


def test_what_a_format_is_for_is_said_where_it_reads_nothing(tree):
    root = tree("in/a.dat")
    with pytest.raises(
        InputError, match=r"1 \.dat .*; --format reads .*, and those that are named$"
    ):
        find([str(root / "in")], "--input", has_format=True)
    assert len(find([str(root / "in" / "a.dat")], "--input", has_format=True).shards) == 1


@pytest.mark.parametrize("name", ["b.csv", "night"])
def test_a_link_to_what_is_away_is_an_outage(tree, name):
    """A file, or a directory on a disk that is not mounted: no shard of it is left out silently."""
    root = tree("in/a.csv")
    (root / "in" / name).symlink_to("/mnt/away/b")
    for given in (root / "in", root / "*", root / "in" / "*", root / "i*" / name):
        with pytest.raises(Unavailable, match=f"^{root}/in/{name} is a link to /mnt/away/b, which"):
            find_shards([str(given)], "--input")
    assert len(find_shards([str(root / "in" / "a*")], "--input")) == 1
    (root / "in" / name).rename(root / "in" / f"_{name}")
    assert len(find_shards([str(root / "in")], "--input")) == 1
