"""Fashion-MNIST: the right bytes, from the right place, or an error that says what to do; never a stand-in."""

import gzip
import hashlib
import http.server
import os
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
import time

import pytest
import torch
from helpers import lacking
from torchvision import datasets

from d2lnets import data as d2lnets_data
from d2lnets import load_fashion_mnist
from d2lnets.data import PIXEL_MEAN, PIXEL_STD, SHA256, SUBSET, DataError, batches, shift_and_flip


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A machine without the data: an empty cache, no Debian package, no network. Returns the cache's place."""
    monkeypatch.delenv("D2LNETS_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(d2lnets_data, "DEBIAN", tmp_path / "no-debian")
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])  # nothing listens there
    return tmp_path / "cache" / "d2lnets" / "fashion-mnist"


@pytest.fixture(scope="module")
def whole():
    """The whole data set, with all 60,000 images in the training split."""
    data = load_fashion_mnist(validation=0)
    if data.source == SUBSET:
        lacking("whole Fashion-MNIST", "connect, set D2LNETS_DATA, or apt-get install dataset-fashion-mnist")
    return data


def copy_from(whole, folder, *names):
    """Put files of the whole data set in the place of the subset's."""
    for name in names:
        (folder / f"{name}.gz").unlink()
        for file in whole.source.glob(f"{name}*"):
            shutil.copy(file, folder)


@pytest.fixture
def folder(tmp_path):
    """A copy of the subset to spoil."""
    return shutil.copytree(SUBSET, tmp_path / "data")


class Mirror(http.server.ThreadingHTTPServer):
    """Serves the subset's files as a mirror of Fashion-MNIST; only `most` bytes a file, then waits `pause` seconds."""

    def __init__(self, most=None, pause=0):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                content = (SUBSET / self.path.strip("/")).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", len(content))
                self.end_headers()
                self.wfile.write(content[:most])
                self.wfile.flush()
                time.sleep(pause)

            def log_message(self, *args):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.resources = [
            (f"{name}.gz", hashlib.md5((SUBSET / f"{name}.gz").read_bytes()).hexdigest()) for name in SHA256
        ]

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return super().__enter__()

    def __exit__(self, *error):
        self.shutdown()
        super().__exit__(*error)


def use(mirror, monkeypatch):
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [mirror.url])
    monkeypatch.setattr(datasets.FashionMNIST, "resources", mirror.resources)


def in_another_process(mirror, cache):
    """A process that downloads from `mirror` into `cache` and prints how many training images it got."""
    program = f"""
from pathlib import Path
from torchvision import datasets
import d2lnets.data
d2lnets.data.DEBIAN = Path("nowhere")
datasets.FashionMNIST.mirrors, datasets.FashionMNIST.resources = [{mirror.url!r}], {mirror.resources!r}
print(len(d2lnets.data.load_fashion_mnist().train))
"""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache.parent.parent), "TQDM_DISABLE": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment,
        encoding="locale",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_this_machine_has_the_whole_data_set(whole):
    data = load_fashion_mnist(whole.source)
    assert (len(data.train), len(data.validation), len(data.test)) == (55_000, 5_000, 10_000)
    assert data.train.images.dtype == torch.uint8 and data.train.images.shape[1:] == (1, 28, 28)
    assert data.train.labels.dtype == torch.int64
    assert (data.train.labels.bincount() + data.validation.labels.bincount()).tolist() == [6000] * 10
    assert data.test.labels.bincount().tolist() == [1000] * 10


def test_the_pixel_constants_are_those_of_the_training_images(whole):
    pixels = whole.train.images.double()
    assert pixels.mean().item() == pytest.approx(PIXEL_MEAN, abs=0.005)
    assert pixels.std().item() == pytest.approx(PIXEL_STD, abs=0.005)
    images, _ = next(batches(whole.train, len(whole.train)))
    assert images.mean().item() == pytest.approx(0, abs=1e-3) and images.std().item() == pytest.approx(1, abs=1e-3)


def test_validation_is_the_end_of_the_training_images():
    whole, split = load_fashion_mnist(SUBSET, validation=0), load_fashion_mnist(SUBSET, validation=100)
    assert torch.equal(split.validation.images, whole.train.images[-100:])
    assert torch.equal(split.train.labels, whole.train.labels[:-100])
    for wrong in (-1, 3_600):
        with pytest.raises(ValueError, match=f"validation must be from 0 to 3,599, got {wrong}"):
            load_fashion_mnist(SUBSET, validation=wrong)


def test_the_subset_is_balanced():
    subset = load_fashion_mnist(SUBSET)
    assert subset.train.labels.bincount().tolist() == [330] * 10
    assert subset.validation.labels.bincount().tolist() == [30] * 10
    assert subset.test.labels.bincount().tolist() == [100] * 10


def test_the_subset_is_part_of_the_whole(whole):
    subset = load_fashion_mnist(SUBSET)
    known = {image.numpy().tobytes(): label for image, label in zip(whole.train.images, whole.train.labels.tolist())}
    for image, label in zip(subset.train.images, subset.train.labels.tolist()):
        assert known[image.numpy().tobytes()] == label


def test_take_keeps_the_first_images():
    data = load_fashion_mnist(SUBSET)
    assert torch.equal(data.take(10).train.images, data.train.images[:10])
    assert len(data.take(10).validation) == len(data.validation)
    some = data.take(10_000, 20)
    assert len(some.train) == len(data.train) and torch.equal(some.validation.labels, data.validation.labels[:20])
    assert len(data.take(1, 0).validation) == 0 and len(data.take(1, 0).test) == len(data.test)
    assert torch.equal(data.take(1, 0, 3).test.images, data.test.images[:3])
    for wrong in ((0,), (-5, 3), (5, -3), (5, 3, -1)):
        with pytest.raises(ValueError, match="at least 1 training and 0 other images, got"):
            data.take(*wrong)


# Where it looks


def test_the_environment_names_a_folder_and_a_path_goes_before_it(nowhere, folder, monkeypatch):
    monkeypatch.setenv("D2LNETS_DATA", str(folder))
    assert load_fashion_mnist().source == folder
    assert load_fashion_mnist(SUBSET).source == SUBSET


def test_the_cache_goes_before_debian(nowhere, monkeypatch):
    shutil.copytree(SUBSET, nowhere)
    monkeypatch.setattr(d2lnets_data, "DEBIAN", SUBSET)
    assert load_fashion_mnist().source == nowhere


def test_plain_files_are_as_good_as_gzipped_ones(folder):
    for file in list(folder.glob("*.gz")):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    assert len(load_fashion_mnist(folder).test) == 1_000


def test_files_as_7_zip_unpacks_them_are_as_good(folder):
    """With a dot for the second hyphen."""
    for file in list(folder.glob("*.gz")):
        file.with_name(file.stem.replace("-idx", ".idx")).write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    assert len(load_fashion_mnist(folder).test) == 1_000


def test_without_any_source_the_subset_is_used_and_one_line_says_so(nowhere, capfd):
    data = load_fashion_mnist()
    assert data.source == SUBSET
    lines = capfd.readouterr().err.strip().splitlines()
    assert len([line for line in lines if "real images that ship with d2lnets" in line]) == 1
    assert "3,300 train" in lines[-1] and "download failed" in lines[-1]
    assert not nowhere.exists()
    load_fashion_mnist(download=False)
    assert "download=False" in capfd.readouterr().err


def torchvisions_root(tmp_path):
    root = tmp_path / "root"
    shutil.copytree(SUBSET, root / "FashionMNIST" / "raw")
    (root / "MNIST" / "raw").mkdir(parents=True)
    return root


def test_torchvisions_root_is_as_good_as_the_folder_beneath(tmp_path, nowhere, monkeypatch):
    root = torchvisions_root(tmp_path)
    for path in (root, root / "FashionMNIST", root / "FashionMNIST" / "raw", str(root)):
        assert load_fashion_mnist(path).source == root / "FashionMNIST" / "raw"
    monkeypatch.setenv("D2LNETS_DATA", str(root))
    assert load_fashion_mnist().source == root / "FashionMNIST" / "raw"
    for file in (root / "FashionMNIST" / "raw").glob("*.gz"):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
    assert len(datasets.FashionMNIST(root, train=False)) == 1_000  # torchvision agrees that this is its root


def test_the_files_in_the_folder_itself_go_before_those_beneath(tmp_path):
    root = torchvisions_root(tmp_path)
    shutil.copytree(SUBSET, root, dirs_exist_ok=True)
    assert load_fashion_mnist(root).source == root


def test_the_home_folder_may_be_a_tilde(folder, nowhere, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_fashion_mnist("~/data").source == folder
    monkeypatch.setenv("D2LNETS_DATA", "~/data")
    assert load_fashion_mnist().source == folder
    monkeypatch.delenv("D2LNETS_DATA")
    shutil.copytree(SUBSET, nowhere)
    monkeypatch.setenv("XDG_CACHE_HOME", "~/cache")
    assert load_fashion_mnist().source == nowhere


# Faults


def test_a_folder_or_file_without_the_data_says_what_is_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"is not a folder with train-images-idx3-ubyte.*FashionMNIST/raw beneath it"):
        load_fashion_mnist(tmp_path)
    (tmp_path / "archive.zip").write_bytes(b"zip")
    with pytest.raises(DataError, match=r"archive\.zip is not a folder with"):
        load_fashion_mnist(tmp_path / "archive.zip")


def test_a_file_that_is_missing_beneath_torchvisions_root_is_named(tmp_path):
    root = torchvisions_root(tmp_path)
    (root / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"FashionMNIST/raw/t10k-images-idx3-ubyte .* is missing"):
        load_fashion_mnist(root)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
@pytest.mark.parametrize(
    "spoil", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:30] + bytes([b[30] ^ 1]) + b[31:]]
)
def test_a_spoilt_file_is_named_and_not_used(folder, name, spoil):
    (folder / name).write_bytes(spoil((folder / name).read_bytes()))
    with pytest.raises(DataError, match=f"{name} .*replace it"):
        load_fashion_mnist(folder)


def test_a_flipped_byte_in_a_plain_file_is_found(folder):
    name = "train-images-idx3-ubyte"
    content = bytearray(gzip.decompress((folder / f"{name}.gz").read_bytes()))
    content[1000] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} is not Fashion-MNIST"):
        load_fashion_mnist(folder)


def test_a_missing_file_and_a_missing_folder_are_named(folder, tmp_path):
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte .* is missing"):
        load_fashion_mnist(folder)
    with pytest.raises(DataError, match=r"no-such-folder.* is missing"):
        load_fashion_mnist(tmp_path / "no-such-folder")


def test_files_of_the_whole_and_of_the_subset_do_not_mix(folder, whole):
    copy_from(whole, folder, "train-labels-idx1-ubyte")
    with pytest.raises(DataError, match="mixes"):
        load_fashion_mnist(folder)


def test_the_whole_test_set_beside_the_subsets_training_set_does_not_pass(folder, whole):
    copy_from(whole, folder, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    with pytest.raises(DataError, match="mixes"):
        load_fashion_mnist(folder)


def test_a_mirror_that_talks_nonsense_leads_to_the_subset(nowhere, monkeypatch, capfd):
    with socketserver.TCPServer(("127.0.0.1", 0), Nonsense) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_address[1]}/"])
        assert load_fashion_mnist().source == SUBSET
        server.shutdown()
    assert "download failed" in capfd.readouterr().err


class Nonsense(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(1000)
        self.request.sendall(b"nonsense\r\n\r\n")


def test_a_spoilt_cache_says_to_delete_it(nowhere):
    shutil.copytree(SUBSET, nowhere)
    (nowhere / "train-images-idx3-ubyte.gz").write_bytes(b"cut off")
    with pytest.raises(DataError, match="delete the folder"):
        load_fashion_mnist()


def test_a_cache_that_cannot_be_written_still_gives_the_data(nowhere, monkeypatch, capfd):
    nowhere.parent.parent.write_text("a file where the cache's folder should be", encoding="utf-8")
    with Mirror() as mirror:
        use(mirror, monkeypatch)
        assert len(load_fashion_mnist().train) == 3_300
    assert "cannot be written" in capfd.readouterr().err


def test_a_read_only_cache_is_read(nowhere):
    shutil.copytree(SUBSET, nowhere)
    for file in nowhere.iterdir():
        file.chmod(0o444)
    nowhere.chmod(0o555)
    assert load_fashion_mnist().source == nowhere
    nowhere.chmod(0o755)


# Downloads: torchvision's own code, from a mirror on this machine that has the subset


def test_a_download_goes_to_the_cache_once(nowhere, monkeypatch):
    with Mirror() as mirror:
        use(mirror, monkeypatch)
        assert load_fashion_mnist().source == nowhere
    assert sorted(file.name for file in nowhere.iterdir()) == sorted(SHA256)
    assert [entry.name for entry in nowhere.parent.iterdir()] == ["fashion-mnist"]  # nothing else is left
    assert load_fashion_mnist().source == nowhere  # the mirror is gone: from the cache


def test_a_cut_off_download_is_never_taken_for_data(nowhere, monkeypatch, capfd):
    with Mirror(most=10_000) as mirror:
        use(mirror, monkeypatch)
        assert load_fashion_mnist().source == SUBSET
    assert "download failed" in capfd.readouterr().err
    assert list(nowhere.parent.iterdir()) == []


def test_a_download_of_other_bytes_is_refused(nowhere, monkeypatch):
    with Mirror() as mirror:
        use(mirror, monkeypatch)
        monkeypatch.setitem(SHA256, "t10k-labels-idx1-ubyte", {"full": "another"})
        with pytest.raises(DataError, match="t10k-labels-idx1-ubyte is not Fashion-MNIST"):
            load_fashion_mnist()
    assert list(nowhere.parent.iterdir()) == []


def test_a_killed_download_leaves_no_data_behind(nowhere, monkeypatch):
    with Mirror(most=10_000, pause=60) as mirror:
        process = in_another_process(mirror, nowhere)
        deadline = time.monotonic() + 60
        while not list(nowhere.parent.glob("download-*/**/*.gz")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        mirror.daemon_threads, mirror.block_on_close = True, False
    assert not nowhere.exists()
    with Mirror() as mirror:
        use(mirror, monkeypatch)
        assert load_fashion_mnist().source == nowhere


def test_two_processes_at_once_do_not_clash(nowhere):
    with Mirror(pause=0.2) as mirror:
        processes = [in_another_process(mirror, nowhere) for _ in range(2)]
        results = [process.communicate(timeout=120) for process in processes]
    assert [out.strip() for out, _ in results] == ["3300", "3300"], results
    assert [entry.name for entry in nowhere.parent.iterdir()] == ["fashion-mnist"]


# Batches


def test_shifted_images_are_the_image_moved():
    torch.manual_seed(0)
    image = torch.randint(1, 255, (1, 1, 28, 28), dtype=torch.uint8)
    framed = torch.nn.functional.pad(image, [2] * 4)[0, 0]
    possible = {
        crop.contiguous().numpy().tobytes()
        for y in range(5)
        for x in range(5)
        for crop in (framed[y : y + 28, x : x + 28], framed.flip(1)[y : y + 28, x : x + 28])
    }
    moved = shift_and_flip(image.expand(2000, 1, 28, 28), torch.Generator().manual_seed(0))
    seen = {one[0].contiguous().numpy().tobytes() for one in moved}
    assert seen == possible and len(seen) == 50  # 5 x 5 places, mirrored or not, and nothing else


def test_an_order_is_random_only_with_a_generator():
    data = load_fashion_mnist(SUBSET)
    _, labels = next(batches(data.test, 20))
    assert labels.tolist() == list(range(10)) * 2  # as stored
    (_, first), (_, second) = (next(batches(data.test, 20, generator=torch.Generator().manual_seed(s))) for s in (1, 1))
    assert torch.equal(first, second) and first.tolist() != labels.tolist()
