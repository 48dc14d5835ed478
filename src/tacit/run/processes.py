"""Cells side by side: each is trained in a process of its own, which ends when this one does."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from typing import Any

import torch

from tacit import models
from tacit.environment import environment
from tacit.errors import TacitError
from tacit.recipe import Recipe, parse_recipe
from tacit.run.asking import Listener
from tacit.run.beginnings import Beginnings
from tacit.run.folder import Cell, cell_like
from tacit.run.training import train_cell
from tacit.training.restarts import Interrupted

INTERRUPTED = 130  # the status of a process that a signal has stopped


def train_side_by_side(recipe: Recipe, waiting: list[Cell], beginnings: Beginnings, tell: Listener) -> None:
    """Trains cells in processes of their own, `jobs` at a time. A signal reaches all; each keeps a checkpoint.

    A cell that is taught by the student of another one waits for it.
    """
    for cell in waiting:  # here once, and not in each process
        variant = recipe.at(cell.value)
        if variant.model.name is None:
            for name in variant.students(cell.method):
                settings = variant.settings(cell.method, cell.seed, cell.folder / name, name)
                beginnings.vocabulary_and_positions(cell.value, settings)
    context = multiprocessing.get_context("spawn")
    lines = context.Queue()
    threads = max(1, environment()["hardware"]["cores"] // recipe.jobs)
    waiting = list(waiting)
    running: dict[str, Any] = {}
    failed: list[str] = []
    interrupted = False
    watching = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    if watching:  # a polite kill ends all of them politely
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while waiting or running:
            while len(running) < recipe.jobs and not failed and not interrupted:
                cell = next((cell for cell in waiting if _ready(recipe, cell)), None)
                if cell is None:
                    break
                waiting.remove(cell)
                process = context.Process(
                    target=_work, args=(dict(recipe.document), cell, beginnings.found, threads, lines, os.getpid())
                )
                _start(process)
                running[cell.name] = process
            try:
                name, line = lines.get(timeout=0.2)
                if line["event"] == "failed":
                    failed.append(f"{name}: {line['text']}")
                    tell(name, {"event": "note", "text": f"failed: {line['text']}"})
                else:
                    tell(name, line)
                continue
            except queue.Empty:
                pass
            for name, process in list(running.items()):
                if not process.is_alive():
                    del running[name]
                    interrupted |= process.exitcode == INTERRUPTED
                    if process.exitcode not in (0, INTERRUPTED) and not failed:
                        failed.append(f"{name}: the process ended with status {process.exitcode}")
            if (failed or interrupted) and not running:
                break
    except KeyboardInterrupt:
        interrupted = True
        for process in running.values():
            if process.is_alive() and process.pid:
                os.kill(process.pid, signal.SIGTERM)
        for process in running.values():
            process.join()
    finally:
        if watching:
            signal.signal(signal.SIGTERM, before)
    if failed:
        raise TacitError("; ".join(failed))
    if interrupted:
        raise Interrupted


def _ready(recipe: Recipe, cell: Cell) -> bool:
    """Whether the teacher of a cell, if it has one, is finished."""
    return cell.method != "implicit_kd" or cell_like(recipe, cell, "cot").finished


def _start(process: Any) -> None:
    """Starts a process that Ctrl-C reaches when it has come to its work: before, it would print a traceback."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def _work(document: dict[str, Any], cell: Cell, found: dict[str, Any], threads: int, lines: Any, parent: int) -> None:
    """The process of one cell."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        torch.set_num_threads(threads)
        models.hush()
        recipe = parse_recipe(document)
        train_cell(recipe, cell, Beginnings(recipe, found), lambda name, line: lines.put((name, line)))
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except TacitError as error:
        lines.put((cell.name, {"event": "failed", "text": str(error)}))
        raise SystemExit(1) from None


def _end_with(parent: int) -> None:
    """Ends this process when its parent is killed: nobody would resume a training that still runs."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
