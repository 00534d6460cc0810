"""Storage: the same bytes on a disk and in an object store, whole or not at all, and errors that people understand."""

import os
import subprocess
import sys

import pytest

from plasticbench import storage
from plasticbench.append_log import append_log
from plasticbench.records import Record, RecordWriter, read_records, record_length


@pytest.fixture(params=["disk", "S3", "memory"])
def folder(request, tmp_path):
    if request.param == "disk":
        return tmp_path
    if request.param == "S3":
        return request.getfixturevalue("bucket_folder")
    return storage.location(f"memory://{tmp_path.name}")


def test_a_file_is_read_back_whole_and_in_parts_and_listed_with_its_size(folder):
    storage.write_atomically(folder / "a" / "b", b"0123456789")
    assert storage.read(folder / "a" / "b") == b"0123456789"
    assert storage.read(folder / "a" / "b", 3, 6) == b"345"
    assert storage.read(folder / "a" / "b", 7) == b"789"
    assert storage.entries(folder / "a") == {"b": 10}
    assert storage.entries(folder).keys() == {"a"}
    storage.write_atomically(folder / "a" / "b", b"xy")
    assert storage.entries(folder / "a") == {"b": 2}, "listings must not be remembered"
    storage.remove(folder / "a" / "b")
    storage.remove(folder / "a" / "b")
    assert storage.entries(folder / "a") == {}
    with pytest.raises(FileNotFoundError, match="b"):
        storage.read(folder / "a" / "b")


def test_an_object_is_created_once(bucket_folder):
    storage.create(bucket_folder / "lock", b"first")
    with pytest.raises(FileExistsError):
        storage.create(bucket_folder / "lock", b"second")
    assert storage.read(bucket_folder / "lock") == b"first"


def test_what_another_process_wrote_is_seen(bucket_folder):
    assert storage.entries(bucket_folder) == {}
    write = (
        "import sys; from plasticbench import storage; storage.write_atomically(storage.location(sys.argv[1]), b'1')"
    )
    subprocess.run([sys.executable, "-c", write, f"{bucket_folder}/theirs"], check=True)
    assert storage.entries(bucket_folder) == {"theirs": 1}


def test_a_local_path_stays_a_plain_path(tmp_path):
    assert storage.location("runs/small") == storage.Path("runs/small")
    assert storage.location(f"file://{tmp_path}") == tmp_path
    assert type(storage.location(str(tmp_path))) is type(tmp_path)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("nosuch://bucket/run", "no storage called nosuch://. Give a local path, s3://"),
        ("gs://bucket/run", r"pip install .*\[gcs\]"),
        ("abfs://bucket/run", "adlfs"),
    ],
)
def test_unknown_storage_and_missing_drivers_say_what_to_do(uri, message):
    with pytest.raises(ValueError, match=message):
        storage.location(uri)


def test_a_store_without_a_server_is_an_os_error_that_names_both(object_store):
    connect = "from plasticbench import storage; storage.connect('s3://bucket/run')"
    dead = {**os.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    failed = subprocess.run([sys.executable, "-c", connect], env=dead, capture_output=True, text=True)
    last = failed.stderr.strip().splitlines()[-1]
    assert last.startswith("OSError: s3://bucket/run: ")
    assert "127.0.0.1:9" in last


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path):
    storage.write_atomically(tmp_path / "file", b"old")
    code = (
        "import resource, sys; from pathlib import Path; from plasticbench import storage\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "storage.write_atomically(Path(sys.argv[1]), bytes(1000))"
    )
    failed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "file")], capture_output=True, text=True)
    assert "File too large" in failed.stderr
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


# -- records -----------------------------------------------------------------------------------------------------


def _record(step: int) -> Record:
    return Record("t", step, "x", float(step), 0.0)


def _write(path, committed: int, *steps: int) -> int:
    writer = RecordWriter(path, committed)
    for step in steps:
        writer.write([_record(step)])
        length = writer.sync()
    return length


def test_records_grow_are_cut_and_grow_again(folder):
    path = folder / "records" / "t.jsonl"
    first = _write(path, 0, 1)
    _write(path, first, 2, 3, 4)
    end = _write(path, first, 5, 6)
    assert list(read_records(path)) == [_record(1), _record(5), _record(6)]
    assert list(read_records(path, first)) == [_record(5), _record(6)]
    assert list(read_records(path, 0, end - 3)) == [_record(1), _record(5)], "a torn last line is left out"
    assert record_length(path) == end
    writer = RecordWriter(path, end)
    writer.close()
    assert list(read_records(path)) == [_record(1), _record(5), _record(6)]
    with pytest.raises(ValueError, match=f"holds {end} bytes, but the checkpoint was committed with {end + 1}"):
        RecordWriter(path, end + 1)


def test_a_trial_without_records_is_missing(folder):
    assert record_length(folder / "t.jsonl") == 0
    with pytest.raises(FileNotFoundError):
        list(read_records(folder / "t.jsonl"))


def test_closing_merges_parts_into_one_object(bucket_folder):
    path = bucket_folder / "t.jsonl"
    writer = RecordWriter(path, 0)
    for step in (1, 2, 3):
        writer.write([_record(step)])
        length = writer.sync()
        assert writer.sync() == length, "nothing new takes no part"
    assert len(storage.entries(bucket_folder / "t")) == 3
    writer.close()
    assert storage.entries(bucket_folder / "t") == {f"{0:015d}-{length:015d}.jsonl": length}
    assert list(read_records(path)) == [_record(1), _record(2), _record(3)]


def test_parts_left_by_a_death_while_merging_or_cutting_change_nothing(bucket_folder):
    log = append_log(bucket_folder / "t.jsonl")
    for start, data in ((0, b"aaaa"), (4, b"bbbb"), (8, b"cc"), (0, b"aaaabbbbcc")):  # merged, nothing deleted yet
        log.write(start, data)
    assert (log.length(), log.read(0, None), log.read(3, 9)) == (10, b"aaaabbbbcc", b"abbbbc")
    log.cut(6)  # back to a commit in the middle of parts
    assert (log.length(), log.read(0, None)) == (6, b"aaaabb")
    log.write(6, b"dddd")
    assert log.read(0, None) == b"aaaabbdddd"
    log.merge()
    assert log.read(0, None) == b"aaaabbdddd"
    assert len(storage.entries(bucket_folder / "t")) == 1


def test_a_merge_that_a_death_broke_off_is_completed(bucket_folder):
    log = append_log(bucket_folder / "t.jsonl")
    for start, data in ((0, b"aaaa"), (4, b"bbbb"), (0, b"aaaabbbb")):  # merged, nothing deleted yet
        log.write(start, data)
    log.merge()
    assert log.read(0, None) == b"aaaabbbb"
    assert len(storage.entries(bucket_folder / "t")) == 1


def test_a_reader_finds_what_is_merged_under_its_eyes(bucket_folder, monkeypatch):
    log = append_log(bucket_folder / "t.jsonl")
    log.write(0, b"aaaa")
    log.write(4, b"bbbb")
    listed = log._walk()
    log.merge()
    listings = iter([listed])
    whole = type(log)._walk
    monkeypatch.setattr(log, "_walk", lambda: next(listings, None) or whole(log))
    assert log.read(0, None) == b"aaaabbbb"


def test_an_error_of_a_log_is_not_its_own_cause(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        append_log(tmp_path / "missing").write(0, b"x")
    assert caught.value.__cause__ is None
