"""Runs tacit's command line in forked processes that have everything imported: for tests that kill it many times.

Reads the words of a command line a line, as JSON; answers with the process id at once, and the exit status at the end.
"""

import gc
import json
import os
import sys

import torch

from tacit.cli import main

torch.set_num_threads(1)
gc.freeze()
for line in sys.stdin:
    child = os.fork()
    if not child:
        os.dup2(2, 1)  # stdout is for the answers
        sys.argv = ["tacit", *json.loads(line)]
        main()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
