"""What a result was made with: versions of the packages and the hardware, for records and bug reports.

Usage: `environment()["versions"]["torch"]`; `environment()["hardware"]["cpu"]`.
"""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("tacit", "torch", "transformers", "accelerate", "tokenizers", "safetensors", "numpy", "datasets")


def environment() -> dict[str, Any]:
    """Versions of Python and of the installed `PACKAGES`, the platform, and the hardware.

    Returns:
        `{"versions": {name: version}, "platform": str, "hardware": {"cpu": str, "cores": int, "memory_gib": float or
        None, "gpus": [str]}}`; packages that are not installed are left out.
    """
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    hardware = {"cpu": processor(), "cores": _cores(), "memory_gib": _memory_gib(), "gpus": _gpus()}
    return {"versions": versions, "platform": platform.platform(), "hardware": hardware}


def processor() -> str:
    """The name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def fast_bf16(device: str) -> bool:
    """Whether bf16 matrix products are faster than float32's here.

    AMX is made for it. With avx512_bf16 alone, AMD's processors are faster in it, Intel's slower: docs/performance.md.

    Args:
        device (`str`): `"cuda"`; else the processor is asked about.
    """
    import torch

    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.cpu._is_amx_tile_supported():
        return True
    made_by_amd = any(mark in processor() for mark in ("AMD ", "AuthenticAMD"))  # "AMD64" may be anybody's
    return torch.cpu._is_avx512_bf16_supported() and made_by_amd


def _cores() -> int:
    """Those that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # Windows, and systems that do not tell
        return None


def _gpus() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
