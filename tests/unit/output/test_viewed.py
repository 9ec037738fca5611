"""Output folders as commands read them."""

from pathlib import Path

from gemini_batch.output.viewed import ViewedFolder

FILES = ("b.png", "a/x.png", "a/y/z.png", "a-b.png", "A.png", "ä.png", "a b/c.png", "a.png")


def test_images_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    """All files below are named, part by part in order; a link to a folder is not followed."""
    for name in FILES:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    (tmp_path / "images" / "folder").symlink_to("a")
    (tmp_path / "images" / "file.png").symlink_to("a.png")
    (tmp_path / "images" / "dead.png").symlink_to("missing")
    (tmp_path / "drafts").mkdir()
    (tmp_path / "drafts" / "0.png").touch()
    expected = sorted(Path("images", name) for name in (*FILES, "file.png"))
    assert [*ViewedFolder(tmp_path).images()] == [*map(str, expected), "drafts/0.png"]
    assert [*ViewedFolder(tmp_path / "missing").images()] == []
