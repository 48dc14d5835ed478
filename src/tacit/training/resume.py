"""Resume checkpoints: the state that we add to Trainer's, which checkpoints are whole, and the good one that is kept.

    METHOD/
      checkpoint-4200/  checkpoint-4400/    the newest, in rotation
      good/checkpoint-3200/                 of the last good stage, where a collapsed training goes back to

Usage: `folder = last_whole_checkpoint("runs/x/stepwise")`, then `read_state(Path(folder))["step"]`.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from tacit.errors import TacitError

STATE = "stage_state.json"
GOOD = "good"
VERSION = 1  # of what `write_state` is given; one more whenever a training cannot go on from what was written before


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What `write_state` put into a checkpoint that is whole. Raises `TacitError` where another version wrote it."""
    state = _read(checkpoint)
    if state.get("version") != VERSION:
        raise TacitError(
            f"{checkpoint} was written by another version of tacit, whose trainings this one cannot go on with; "
            "start anew (`tacit run` with --overwrite)"
        )
    return state


def _read(checkpoint: Path) -> dict[str, Any]:
    return json.loads((checkpoint / STATE).read_text(encoding="utf-8"))


def write_state(checkpoint: Path, state: dict[str, Any]) -> None:
    """Makes a checkpoint whole, or changes the state of one that is, in one instant.

    Args:
        checkpoint (`Path`): Its folder, with all other files.
        state (`dict`): JSON values. The version and the size of each of the other files are added.
    """
    part = checkpoint / f"{STATE}.part"
    others = [path for path in sorted(checkpoint.iterdir()) if path.is_file() and path.name not in (STATE, part.name)]
    sizes = {path.name: path.stat().st_size for path in others}
    part.write_text(json.dumps({**state, "version": VERSION, "files": sizes}), encoding="utf-8")
    part.replace(checkpoint / STATE)


def unmake(checkpoint: Path) -> None:
    """Makes a checkpoint that an earlier process began or wrote half-written, before it is written anew."""
    for name in (STATE, f"{STATE}.part"):
        (checkpoint / name).unlink(missing_ok=True)


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of a resume checkpoint is there in full."""
    try:
        files = _read(checkpoint)["files"]
        return all((checkpoint / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def last_whole_checkpoint(folder: str | os.PathLike) -> str | None:
    """The newest resume checkpoint that was written to its end, or None: of the last restart the one of most steps.

    Raises:
        TacitError: There is one of another version.
    """
    whole = []
    for path in (*_numbered(Path(folder)), *_numbered(Path(folder) / GOOD)):
        if is_whole(path):
            whole.append((read_state(path)["recovery"]["restarts"], int(path.name.rpartition("-")[2]), path))
    return str(max(whole)[2]) if whole else None


def _numbered(folder: Path) -> list[Path]:
    found = folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    return [path for path in found if path.name.rpartition("-")[2].isdigit()]


def good_checkpoint(folder: Path, step: int) -> Path:
    """Where the checkpoint of a good stage is kept."""
    return folder / GOOD / f"{PREFIX_CHECKPOINT_DIR}-{step}"


def keep_good(folder: Path, step: int) -> None:
    """Keeps a whole checkpoint outside the rotation, and drops the one that was kept before when that is done."""
    kept = good_checkpoint(folder, step)
    if not is_whole(kept):
        part = kept.with_name("part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder / kept.name, part, copy_function=_link)
        part.rename(kept)
    for other in kept.parent.iterdir():
        if other != kept:
            shutil.rmtree(other)


def _link(source: str, target: str) -> None:
    """A second name for a file: no checkpoint is changed once it is whole. A copy where there are no such names."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def forget_good(folder: Path) -> None:
    """Drops the kept checkpoint of an earlier training."""
    shutil.rmtree(folder / GOOD, ignore_errors=True)


def forget_rotation(folder: Path) -> None:
    """Drops all checkpoints but the kept one."""
    for path in _numbered(folder):
        shutil.rmtree(path)
