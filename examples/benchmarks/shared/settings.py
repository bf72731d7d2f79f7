"""How much is measured."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What the command line sets; the defaults suit 2 cores."""

    networks: list | None = None
    size: int = 224
    images: int = 512
    repeats: int = 5
    seconds: float = 1.0
    search_images: int = 200
    many_files: int = 20_000
    paths: tuple = (500, 5_000, 20_000)
    rows: tuple = (10_000, 100_000, 1_000_000)
    photos: Path | None = None
    peers: bool = True

    @classmethod
    def quick(cls):
        """The least that still runs every line."""
        return cls(
            networks=["resnet18"],
            size=32,
            images=16,
            repeats=1,
            seconds=0.01,
            search_images=20,
            many_files=80,
            paths=(20,),
            rows=(100, 1_000),
            peers=False,
        )
