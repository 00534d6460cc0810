"""Data sets of people's own folders, written here as their publishers lay them out; and what is told of those amiss."""

import gzip
import pickle
import struct

import numpy as np
import pytest
from PIL import Image
from small_runs import run_all
from small_streams import small_stream

from plasticbench import plugins
from plasticbench.platform.definition.reading import BenchmarkError, from_dict

RNG = np.random.default_rng(0)


def load(kind, **settings):
    return plugins.config_from("datasets", kind, settings).load()


def write_cifar(folder, classes=10, rows=20):
    name, files, labels = (
        ("cifar-10-batches-py", [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"], b"labels")
        if classes == 10
        else ("cifar-100-python", ["train", "test"], b"fine_labels")
    )
    (folder / name).mkdir(parents=True)
    written = []
    for file in files:
        data = RNG.integers(256, size=(rows, 3072), dtype=np.uint8)
        batch = {b"data": data, labels: RNG.integers(classes, size=rows).tolist()}
        (folder / name / file).write_bytes(pickle.dumps(batch))
        written.append(batch)
    return written, labels


@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_has_its_channels_first_and_its_published_statistics(tmp_path, classes) -> None:
    written, labels = write_cifar(tmp_path, classes)
    found = load("cifar", folder=str(tmp_path), classes=classes)
    assert found.images.shape == (20 * (len(written) - 1), 3, 32, 32)
    np.testing.assert_array_equal(found.images[0].reshape(-1), written[0][b"data"][0])
    assert found.test_labels.tolist() == written[-1][labels]
    assert found.num_classes == classes
    assert found.mean[0] == {10: 0.4914, 100: 0.5071}[classes]


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_the_mnist_family_is_read_compressed_or_not(tmp_path, ending) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    images = RNG.integers(256, size=(12, 28, 28), dtype=np.uint8)
    labels = np.arange(12, dtype=np.uint8) % 10
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            data = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
            path = raw / f"{part}-{kind}-ubyte{ending}"
            path.write_bytes(gzip.compress(data) if ending else data)
    found = load("mnist", folder=str(tmp_path), name="FashionMNIST")
    np.testing.assert_array_equal(found.images[:, 0], images)
    assert found.labels.tolist() == labels.tolist()


def test_an_archive_of_ones_own_trains(tmp_path) -> None:
    images = RNG.integers(256, size=(60, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(60) % 3
    np.savez(tmp_path / "own.npz", x_train=images[:45], y_train=labels[:45], x_test=images[45:], y_test=labels[45:])
    found = load("npz", path=str(tmp_path / "own.npz"))
    assert found.images.shape == (45, 3, 8, 8)
    np.testing.assert_array_equal(found.images[4, 1], images[4, :, :, 1])
    assert found.mean == tuple(round(float(images[:45, ..., c].mean() / 255), 4) for c in range(3))
    assert found.std == pytest.approx([images[:45, ..., c].std() / 255 for c in range(3)], abs=1e-4)
    data = {"kind": "npz", "path": str(tmp_path / "own.npz")}
    stream = {"kind": "class_incremental", "phases": 3}
    plan = run_all(tmp_path / "run", small_stream(environments=[{"kind": "images", "data": data, "stream": stream}]))
    assert {trial.task for trial in plan.trials} == {"own_class_incremental"}
    assert {trial.change_steps for trial in plan.trials} == {(13, 40)}


def test_folders_of_images_are_classes_in_the_order_of_their_names(tmp_path) -> None:
    for part, count in (("train", 3), ("val", 1)):
        for number, name in enumerate(("ant", "bee")):
            (tmp_path / part / name).mkdir(parents=True)
            for row in range(count):
                picture = np.full((6, 6, 3), 40 * number + row, np.uint8)
                Image.fromarray(picture).save(tmp_path / part / name / f"{row}.png")
    found = load("image_folder", folder=str(tmp_path), size=4)
    assert found.images.shape == (6, 3, 4, 4)
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.images[:, 0, 0, 0].tolist() == [0, 1, 2, 40, 41, 42]
    plugins.load("datasets", "image_folder")._folder.cache_clear()
    for ending in ("jpg", "JPEG", "ppm", "bmp", "pgm", "tif", "tiff", "webp"):  # torchvision's ImageFolder reads them
        Image.new("L" if ending == "pgm" else "RGB", (6, 6)).save(tmp_path / "train" / "bee" / f"more.{ending}")
    assert load("image_folder", folder=str(tmp_path), size=4).labels.tolist() == [0] * 3 + [1] * 11
    (tmp_path / "val" / "wasp").mkdir()
    plugins.load("datasets", "image_folder")._folder.cache_clear()
    with pytest.raises(ValueError, match="a class 'wasp' that the training images have not"):
        load("image_folder", folder=str(tmp_path), size=4)


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_a_pickle_that_would_run_something_is_refused(tmp_path, capsys) -> None:
    write_cifar(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps({b"data": Evil()}))
    with pytest.raises(ValueError, match=r"holds a builtins\.print, which no data set needs"):
        load("cifar", folder=str(tmp_path))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "cifar", "folder": "nowhere"}, "nowhere has no cifar-10-batches-py/data_batch_1; expected is"),
        ({"kind": "mnist", "folder": "nowhere"}, "nowhere has no MNIST/raw/train-images-idx3-ubyte; expected is"),
        ({"kind": "image_folder", "folder": "nowhere", "size": 8}, "nowhere has no train; expected is train/<class>"),
        (
            {"kind": "hugging_face", "folder": "nowhere"},
            "nowhere has no dataset_dict.json; expected is what save_to_disk",
        ),
        (
            {"kind": "npz", "path": "nowhere.npz"},
            "nowhere.npz; expected is a file with x_train, y_train, x_test, y_test",
        ),
    ],
)
def test_missing_data_are_named_with_folder_and_layout(data, message: str) -> None:
    with pytest.raises(BenchmarkError) as caught:
        from_dict(
            small_stream(
                environments=[{"kind": "images", "data": data}], resets=None, methods={"none": {"kind": "none"}}
            )
        )
    assert message in str(caught.value)
    assert "environments.0.data" in str(caught.value)


def test_labels_outside_the_classes_and_rows_without_labels_are_refused(tmp_path) -> None:
    images = np.zeros((4, 3, 3), np.uint8)
    arrays = {"x_train": images, "y_train": np.arange(4), "x_test": images, "y_test": np.arange(4)}
    np.savez(tmp_path / "few.npz", **arrays)
    with pytest.raises(ValueError, match="training labels must be 0 to 2, got 3"):
        load("npz", path=str(tmp_path / "few.npz"), classes=3)
    np.savez(tmp_path / "odd.npz", **arrays | {"y_test": np.arange(3)})
    with pytest.raises(ValueError, match="x_test has 4 rows and y_test 3"):
        load("npz", path=str(tmp_path / "odd.npz"))
    np.savez(tmp_path / "floats.npz", **arrays | {"x_train": images / 2})
    with pytest.raises(ValueError, match="must hold bytes"):
        load("npz", path=str(tmp_path / "floats.npz"))
