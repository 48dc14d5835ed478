"""Trains the tiny model in each of several processes, from a checkpoint if there is one; keeps the weights of each.

Usage: `python -m torch.distributed.run --standalone --nproc-per-node 2 train_ranks.py FOLDER ARCHITECTURE SETTINGS`,
the last as JSON.
"""

import json
import os
import sys
from pathlib import Path

import tiny
import torch
from safetensors.torch import save_file

torch.set_num_threads(1)
folder = Path(sys.argv[1])
student = tiny.model(architecture=sys.argv[2]).double()
trainer = tiny.trainer(folder, student, tiny.traces(40, tiny.LENGTHS), ddp_backend="gloo", **json.loads(sys.argv[3]))
trainer.train(resume_from_checkpoint=True)
save_file({"weights": tiny.weights(trainer.model)}, folder / f"rank{os.environ['RANK']}.safetensors")
torch.distributed.barrier()  # no rank may leave while another still talks to it
os._exit(0)  # gloo's threads now and then abort an interpreter that ends in the ordinary way
