"""The material's list of sources, and the clips that are cut from it."""

from __future__ import annotations

import hashlib
import platform
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest
import yaml

from flashbench import paths
from flashbench.assets import registry
from flashbench.data import material
from flashbench.data.views import Picture
from flashbench.decoding import colour
from flashbench.errors import InvalidError, MissingAsset, UsageError


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- the committed list -----------------------------------------------------------------------------------------


def test_the_splits_are_large_enough_and_apart() -> None:
    sources = material.read_sources()
    split = {name: [source for source in sources if source.split == name] for name in material.SPLITS}
    assert len(split["test"]) >= 10 and len({source.package for source in split["test"]}) >= 4
    assert len(split["dev"]) >= 3
    assert len(split["train"]) >= 14
    assert sum(source.kind == "video" for source in split["train"]) >= 5
    files = [{registry.get(source.asset).sha256 for source in split[name]} for name in material.SPLITS]
    assert len(set.union(*files)) == sum(map(len, files))


def test_every_source_is_described_and_in_the_registry() -> None:
    sources = material.read_sources()
    for source in sources:
        asset = registry.get(source.asset)
        assert source.licence == asset.licence
        wheel = asset.sources[-1].fields
        assert (source.package, source.member) == (f"{wheel['package']}=={wheel['version']}", wheel["member"])
        assert source.caption.endswith(".") and len(source.caption.split()) >= 8, source.id
        assert not asset.non_commercial
    used = {source.asset for source in sources}
    assert used == {name for name in registry.current().names() if name.startswith("material/")}


def test_scenes_of_one_film_do_not_overlap() -> None:
    scenes: dict[str, list[tuple[int, int]]] = {}
    for source in material.read_sources():
        if source.frames is not None:
            scenes.setdefault(source.asset, []).append(source.frames)
    for frames in scenes.values():
        ordered = sorted(frames)
        assert all(before[1] <= after[0] for before, after in zip(ordered, ordered[1:], strict=False))


def test_the_hashes_follow_content_and_not_words(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, train, wall = material.material_hash(), material.material_hash("train"), material.source_hash("wall")
    assert len({whole, train, material.material_hash("dev"), wall}) == 4
    sources = material.read_sources()

    def with_change(name: str, **change: Any) -> None:
        changed = tuple(
            material.Source(**(vars(source) | change)) if source.id == name else source for source in sources
        )
        monkeypatch.setattr(material, "read_sources", lambda: changed)

    with_change("wall", caption="Something else.", licence="none")
    assert (material.material_hash(), material.source_hash("wall")) == (whole, wall)
    with_change("wall", asset="material/china")
    assert material.source_hash("wall") != wall and material.material_hash("train") == train
    with_change("bigbuckbunny", frames=(0, 100))
    assert material.material_hash("train") != train


# --- lists that are wrong ---------------------------------------------------------------------------------------


def listed(**change: Any) -> dict[str, Any]:
    base = {
        "id": "one",
        "split": "train",
        "asset": "a",
        "kind": "image",
        "package": "p==1",
        "member": "m",
        "licence": "CC0-1.0",
        "caption": "One.",
    }
    return {key: value for key, value in (base | change).items() if value is not ...}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([listed(split="training")], "did you mean 'train'"),
        ([listed(kind="picture")], "unknown kind"),
        ([listed(caption=...)], "has the fields"),
        ([listed(caption=" ")], "caption is not a text"),
        ([listed(colour="red")], "has the fields"),
        ([listed(kind="video")], "a video has `frames`"),
        ([listed(frames=[0, 5])], "an image has none"),
        ([listed(kind="video", frames=[5, 5])], "one after the last"),
        ([listed(kind="video", frames=[0, "9"])], "one after the last"),
        ([listed(), listed(caption="Two.")], "id 'one' comes twice"),
        ([listed(), listed(id="two")], "caption 'One.' comes twice"),
        ([listed(), listed(id="two", caption="Two.", split="test")], "asset a lies in two splits"),
        (["words"], "has the fields"),
    ],
)
def test_a_wrong_list_is_a_usage_error(tmp_path: Path, entries: list[Any], words: str) -> None:
    file = tmp_path / "sources.yaml"
    file.write_text(yaml.safe_dump({"sources": entries}))
    with pytest.raises(UsageError, match=words):
        material.read_sources(file)


def test_a_list_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    file = tmp_path / "sources.yaml"
    with pytest.raises(UsageError, match="No such file"):
        material.read_sources(file)
    for text in ("sources: [", "sources: 3", ""):
        file.write_text(text)
        with pytest.raises(UsageError, match=r"sources\.yaml"):
            material.read_sources(file)
        file.unlink()


def test_an_unknown_source_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean 'wall'"):
        material.source_hash("wal")


def test_protocols_are_found_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.delenv("FLASHBENCH_PROTOCOLS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert paths.protocol_root() == root / "protocols"
    package = tmp_path / "site" / "flashbench"
    (package / "shipped" / "protocols").mkdir(parents=True)
    monkeypatch.setattr(paths, "PACKAGE", package)
    assert paths.protocol_root() == package / "shipped" / "protocols"
    (tmp_path / "protocols").mkdir()
    assert paths.protocol_root() == package / "shipped" / "protocols"
    (tmp_path / "protocols" / "tier").mkdir()
    assert paths.protocol_root() == Path("protocols")
    monkeypatch.setenv("FLASHBENCH_PROTOCOLS", str(tmp_path / "mine"))
    assert paths.protocol_root() == tmp_path / "mine"


# --- clips of sources -------------------------------------------------------------------------------------------


class Shelf:
    """A list of sources, a registry and a cache that holds what is put there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.sources, self.listed = folder, [], {}  # type: Path, list[Any], dict[str, Any]
        (folder / "material").mkdir()

    def put(self, name: str, content: bytes, suffix: str, *, here: bool = True, **change: Any) -> None:
        digest = hashlib.sha256(content).hexdigest()
        self.listed[name] = {
            "needed_by": "a test",
            "bytes": len(content),
            "sha256": digest,
            "licence": "CC0-1.0",
            "non_commercial": False,
            "home": "nowhere",
            "sources": [{"kind": "wheel", "package": "p", "version": "1", "member": f"m{suffix}"}],
        }
        self.sources.append(listed(id=name, asset=name, caption=f"{name}.", **change))
        (self.folder / "registry.yaml").write_text(yaml.safe_dump({"assets": self.listed}))
        (self.folder / "material" / "sources.yaml").write_text(yaml.safe_dump({"sources": self.sources}))
        if here:
            file = registry.get(name).file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


def noise_png(seed: int, height: int = 150, width: int = 170) -> bytes:
    picture = cv2.GaussianBlur(generator(seed).integers(0, 256, (height, width, 3), np.uint8), (0, 0), 1)
    return bytes(cv2.imencode(".png", picture)[1])


def lossless_video(frames: npt.NDArray[np.uint8], file: Path) -> bytes:
    with av.open(str(file), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0")))
        container.mux(stream.encode(None))
    return file.read_bytes()


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.setenv("FLASHBENCH_PROTOCOLS", str(tmp_path))
    monkeypatch.setenv("FLASHBENCH_ASSETS", str(tmp_path / "registry.yaml"))
    monkeypatch.setenv("FLASHBENCH_CACHE", str(tmp_path / "cache"))
    material.picture.cache_clear()
    return Shelf(tmp_path)


def test_case_clips_are_pure_in_source_and_index(shelf: Shelf) -> None:
    shelf.put("one", noise_png(1), ".png", split="test")
    shelf.put("two", noise_png(2), ".png", split="test")
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    clip = material.case_clip("one", 0, 5, 48, 64)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index]
    assert clip.frames.shape == (5, 48, 64, 3) and clip.fps == Fraction(8)
    others = [material.case_clip(*which, 5, 48, 64) for which in (("one", 1), ("two", 0), ("two", 1))]
    material.picture.cache_clear()
    assert material.case_clip(material.source("one"), 0, 5, 48, 64).digest == clip.digest
    assert len({clip.digest, *(other.digest for other in others)}) == 4


def test_missing_material_names_the_asset(shelf: Shelf) -> None:
    shelf.put("one", noise_png(1), ".png", here=False)
    with pytest.raises(MissingAsset, match="flashbench assets pull one"):
        material.case_clip("one", 0, 5, 48, 48)
    with pytest.raises(MissingAsset):
        list(material.training_clips(1, 5, 48, 48, seed=0))


def test_a_scene_of_a_video_is_decoded_exactly(shelf: Shelf, tmp_path: Path) -> None:
    frames = generator(0).integers(0, 256, (30, 64, 80, 3), np.uint8)
    shelf.put("film", lossless_video(frames, tmp_path / "film.mkv"), ".mkv", kind="video", frames=[8, 20])
    np.testing.assert_array_equal(material.picture(material.source("film")).frames, frames[8:20])


def test_a_large_video_is_kept_small(shelf: Shelf, tmp_path: Path) -> None:
    frames = np.full((2, 600, 800, 3), 77, np.uint8)
    shelf.put("large", lossless_video(frames, tmp_path / "large.mkv"), ".mkv", kind="video", frames=[0, 2])
    assert material.picture(material.source("large")).frames.shape == (2, 480, 640, 3)


def test_what_cannot_be_decoded_is_an_invalid_error(shelf: Shelf, tmp_path: Path) -> None:
    film_bytes = lossless_video(np.zeros((10, 64, 64, 3), np.uint8), tmp_path / "film.mkv")
    shelf.put("image", b"not an image", ".png")
    shelf.put("video", b"no video", ".mkv", kind="video", frames=[0, 9])
    shelf.put("short", film_bytes, ".mkv", kind="video", frames=[5, 11])
    for name, words in (("image", "not an image"), ("video", "cannot be decoded"), ("short", "no frames 5 to 11")):
        with pytest.raises(InvalidError, match=words):
            material.case_clip(name, 0, 3, 32, 32)


def test_training_clips_are_pure_in_seed_and_index(shelf: Shelf) -> None:
    for number in range(3):
        shelf.put(f"s{number}", noise_png(number), ".png")
    shape = (5, 48, 48)
    clips = list(material.training_clips(8, *shape, seed=3))
    assert all(clip.shape == (*shape, 3) and clip.dtype == np.uint8 and clip.flags.c_contiguous for clip in clips)
    assert len({clip.tobytes() for clip in clips}) == 8
    material.picture.cache_clear()
    for index in (7, 2):
        np.testing.assert_array_equal(material.training_clip(index, *shape, 3), clips[index])
    assert not np.array_equal(material.training_clip(0, *shape, 4), clips[0])


def test_training_takes_each_source_equally_often(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        shelf.put(f"s{number}", noise_png(number), ".png")
    shelf.put("held-out", noise_png(9), ".png", split="test")
    seen: list[str] = []
    shown = Picture.of("any", np.full((1, 80, 80, 3), 9, np.uint8))
    monkeypatch.setattr(material, "picture", lambda source: (seen.append(source.id), shown)[1])
    list(material.training_clips(40, 2, 32, 32, seed=0))
    rounds = [seen[start : start + 4] for start in range(0, 40, 4)]
    assert all(sorted(names) == ["s0", "s1", "s2", "s3"] for names in rounds)
    assert len({tuple(names) for names in rounds}) > 3, "always in the same order"


def test_training_refuses_what_is_held_out(shelf: Shelf) -> None:
    shelf.put("one", noise_png(1), ".png", split="test")
    for sources in (None, material.read_sources()):
        with pytest.raises(UsageError, match="split train"):
            material.training_clip(0, 2, 32, 32, 0, sources)


# --- the real thing ---------------------------------------------------------------------------------------------

DECODED = {
    "material/woman": "daa42bea0ffe50e102ad6245f614b38d83846bb366775afb90bd4ed311ac2e19",
    "material/bricks-toy": "a923a3be84d93488b1bf4d08909cbf20ab6e812f44ec8606ecd0f43e5c1881ab",
    "material/bigbuckbunny": "52126f0b88bddddb25abea5e135a998b93636fa15d94b5acb1f7eb6958fa4fc5",
    "material/bikes": "8e3c7ab1938e18b0aa0f61ffec5bfcf8385725bd35dd582e87c287096acb5ecf",
    "material/city": "bc9319f958fdfe7d921f3d30051057ff89e21824d52efaebba1d1da177aa9a6b",
    "material/cockatoo": "2c24b6a6e0e3d21a8edcfe6ad084d1ecea79118626957ebfe0149efcfad81997",
    "material/opossum": "76b273270f6652b8f98ca1fb8511318bddb375da9bd73f68b790bf1625f52006",
    "material/coast-flight": "3a0b0d19b0c9947898ae08bbeed20e8f8d4c517e62025216ad5906af76bd65af",
    "material/campus-walk": "fe9bdbc44a0ffd61ff4e530c491a1a865ebc97361017b88f20659be764aa29e1",
    "material/balance": "0007ba6d6df092afb580ec3aa4dfba2e7cd1dc011fc62aaf6d2aef2040dc1fb7",
    "material/playing-field": "44ad45af1ad9c58776b644da61fe354e739603c377c0a206aa9820d358651608",
    "material/garden-walk": "d4703026efcea6c3c7773baadcd4d8057d63b222300f891b57614540e71d2c88",
    "material/bunny-butterfly": "489f3072335ac98ac17db223ccd7918af1342db92cd682f32a767624d392668a",
}
"""sha256 of all frames' RGB bytes, which every committed result stands on."""


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="swscale rounds in other ways elsewhere")
def test_the_videos_decode_to_the_bytes_they_always_had() -> None:
    """Needs the videos, and fetches what is missing of them."""
    assert DECODED.keys() == {source.asset for source in material.read_sources() if source.kind == "video"}
    registry.pull(DECODED, report=lambda line: None)
    for asset, digest in DECODED.items():
        state = hashlib.sha256()
        with av.open(str(registry.path(asset))) as container:
            for frame in container.decode(video=0):
                shown = colour.shown(frame)
                assert not shown.transparent and np.array_equal(shown.rgb, frame.to_ndarray(format="rgb24"))
                state.update(np.ascontiguousarray(shown.rgb).data)
        assert state.hexdigest() == digest, asset


@pytest.mark.slow
def test_every_source_gives_clips_with_content() -> None:
    """Needs the material, and fetches what is missing of it."""
    sources = material.read_sources()
    registry.pull([source.asset for source in sources], report=lambda line: None)
    for source in sources:
        clip = material.case_clip(source, 0, 9, 192, 192)
        assert clip.frames.std() > 15, source.id
        assert np.abs(np.diff(clip.frames.astype(np.int16), axis=0)).mean() > 0.2, source.id
