"""Saves two of the models here again, as torch's archives.

    pip install torch==2.11.0 safetensors numpy
    python archives.py

open_clip/epoch_1.pt            as open_clip_train saves it from several processes: the names behind
                                `module.`, the optimiser's state beside them
hugging_face/pytorch_model.bin  a bare state dict, of parameters and one view into a larger storage
"""

from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file

HERE = Path(__file__).parent

state = load_file(HERE / "open_clip/open_clip_model.safetensors")
parameter = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.AdamW([parameter], betas=(0.9, 0.98))
parameter.sum().backward()
optimizer.step()
torch.save({"epoch": 1, "name": "test", "optimizer": optimizer.state_dict(),
            "state_dict": OrderedDict((f"module.{k}", v) for k, v in state.items())},
           HERE / "open_clip/epoch_1.pt")

state = load_file(HERE / "hugging_face/model.safetensors")
name = "text_model.final_layer_norm.bias"
for key, tensor in state.items():
    if tensor.is_floating_point() and key != name:
        state[key] = torch.nn.Parameter(tensor)
state[name] = torch.cat([torch.zeros(5, dtype=torch.half), state[name], torch.ones(2).half()])[5:-2]
torch.save(state, HERE / "hugging_face/pytorch_model.bin")
