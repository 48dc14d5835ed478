"""Memory of a training on a processor: kept between steps instead of given back to the system and asked for again."""

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Tells glibc's allocator to keep freed memory, for the rest of the process.

    A training step frees and allocates the same large blocks again and again. By default each of them is mapped anew,
    and the kernel clears its pages: almost half of the time of a step at GPT-2's width (docs/performance.md). Other
    allocators and systems are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc
        return
    for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 * 2**20)):
        mallopt(option, value)
