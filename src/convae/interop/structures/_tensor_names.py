"""Names of tensors in published files of latent diffusion, former and current."""

from __future__ import annotations

import re

from convae.model.weights import State

_DEPRECATED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Former names of layers of an attention block in diffusers, which published files still use."""


def current_names(state: State) -> State:
    """Renames published tensors to current names of diffusers, and drops those of other models of a checkpoint.

    Former names of diffusers, and those of latent diffusion and taming-transformers, are converted.
    """
    prefix = next((each for each in ("first_stage_model.", "vae.") if any(key.startswith(each) for key in state)), "")
    state = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    if any(re.match(r"(encoder\.down|decoder\.up)\.\d+\.", key) for key in state):
        state = _from_latent_diffusion(state)
    renamed = {}
    for key, tensor in state.items():
        found = re.fullmatch(r"(.*\.attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)", key)
        renamed[f"{found[1]}.{_DEPRECATED[found[2]]}.{found[3]}" if found else key] = tensor
    return renamed


def _from_latent_diffusion(state: State) -> State:
    """Renames tensors of latent diffusion to the names of diffusers."""
    ups = [int(found[1]) for key in state if (found := re.match(r"decoder\.up\.(\d+)\.", key))]
    last = max(ups, default=0)
    rules = (
        (r"encoder\.down\.(\d+)\.block\.(\d+)\.", lambda f: f"encoder.down_blocks.{f[1]}.resnets.{f[2]}."),
        (r"encoder\.down\.(\d+)\.attn\.(\d+)\.", lambda f: f"encoder.down_blocks.{f[1]}.attentions.{f[2]}."),
        (r"encoder\.down\.(\d+)\.downsample\.", lambda f: f"encoder.down_blocks.{f[1]}.downsamplers.0."),
        (r"decoder\.up\.(\d+)\.block\.(\d+)\.", lambda f: f"decoder.up_blocks.{last - int(f[1])}.resnets.{f[2]}."),
        (r"decoder\.up\.(\d+)\.attn\.(\d+)\.", lambda f: f"decoder.up_blocks.{last - int(f[1])}.attentions.{f[2]}."),
        (r"decoder\.up\.(\d+)\.upsample\.", lambda f: f"decoder.up_blocks.{last - int(f[1])}.upsamplers.0."),
        (r"(encoder|decoder)\.mid\.block_(\d)\.", lambda f: f"{f[1]}.mid_block.resnets.{int(f[2]) - 1}."),
        (r"(encoder|decoder)\.mid\.attn_1\.", lambda f: f"{f[1]}.mid_block.attentions.0."),
        (r"(encoder|decoder)\.norm_out\.", lambda f: f"{f[1]}.conv_norm_out."),
        (r"(encoder|decoder)\.(quant_conv|post_quant_conv)\.", lambda f: f"{f[2]}."),
    )
    parts = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
    renamed = {}
    for key, tensor in state.items():
        name = key
        for pattern, new in rules:
            name = re.sub(f"^{pattern}", new, name)
        name = name.replace(".nin_shortcut.", ".conv_shortcut.")
        if found := re.fullmatch(r"(.*\.attentions\.\d+)\.(norm|q|k|v|proj_out)\.(weight|bias)", name):
            name = f"{found[1]}.{parts[found[2]]}.{found[3]}"
            is_kernel = tensor.ndim == 4 and found[2] != "norm"
            renamed[name] = tensor.flatten(1) if is_kernel else tensor
        else:
            renamed[name] = tensor
    return renamed
