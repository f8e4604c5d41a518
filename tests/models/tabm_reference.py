"""TabM of its authors (the packages tabm and rtdl_num_embeddings, torch).

    python tabm_reference.py ARCH FILE

writes rows, weights and outputs of a small model to FILE (npz). Codes are those of
kerastrain: 0 missing, 1 and up known.
"""

import sys

import numpy as np
import rtdl_num_embeddings
import tabm
import torch


def main(arch, path):
    torch.manual_seed(0)
    numbers = torch.randn(50, 3)
    numbers[:, 2] = (numbers[:, 2] > 0).float()  # one bin alone
    numbers[:, 1] = numbers[:, 1].clamp(-0.5, 0.5)  # fewer bins than the others
    codes = torch.stack([torch.randint(0, 4, (50,)), torch.randint(0, 5, (50,))], 1)
    edges = rtdl_num_embeddings.compute_bins(numbers, n_bins=6)
    embedding = rtdl_num_embeddings.PiecewiseLinearEmbeddings(
        edges, 4, activation=False, version="B"
    )
    torch.nn.init.normal_(embedding.linear.weight)
    model = tabm.TabM.make(
        n_num_features=3,
        cat_cardinalities=[3, 4],
        d_out=3,
        num_embeddings=embedding,
        d_block=16,
        k=6,
        arch_type=arch,
    )
    for name, parameter in model.named_parameters():
        if name.endswith((".s", "bias")):
            torch.nn.init.normal_(parameter)
    model.eval()
    hot = model.cat_module.forward
    # Code 0 is one-hot of nothing: one of the cardinality above, without its first.
    model.cat_module.forward = lambda x: torch.cat(
        [torch.nn.functional.one_hot(x[:, i], n)[:, 1:] for i, n in enumerate((4, 5))],
        1,
    )
    assert hot is not None
    wide = numbers * 2  # outside of the bins too
    with torch.inference_mode():
        outputs = model(wide, codes)
        probabilities = outputs.softmax(-1).mean(1)
    found = {f"edges_{i}": edge for i, edge in enumerate(edges)}
    found |= {"numbers": wide, "codes": codes.int(), "outputs": outputs}
    found |= {"probabilities": probabilities}
    found |= embedding_weights(embedding, edges) | layer_weights(model, arch)
    np.savez(path, **{k: v.detach().numpy() for k, v in found.items()})


def embedding_weights(embedding, edges):
    """In the order of the bins; the authors put the last bin of a column last."""
    kernel = torch.zeros_like(embedding.linear.weight)
    for column, edge in enumerate(edges):
        last = len(edge) - 2
        kernel[column, :last] = embedding.linear.weight[column, :last]
        kernel[column, last] = embedding.linear.weight[column, -1]
    return {
        "embedding_kernel": kernel,
        "embedding_linear": embedding.linear0.weight,
        "embedding_bias": embedding.linear0.bias,
    }


def layer_weights(model, arch):
    found, first = {}, 0
    if arch == "tabm-mini":
        found["layer_0_scale"] = model.backbone.affine.weight
        first = 1
    for number, block in enumerate(model.backbone.blocks, first):
        linear = block[0]
        found[f"layer_{number}_kernel"] = linear.weight.T
        found[f"layer_{number}_bias"] = linear.bias
        if arch == "tabm":
            found[f"layer_{number}_r"] = linear.r
            found[f"layer_{number}_s"] = linear.s
    head = len(model.backbone.blocks) + first
    found[f"layer_{head}_kernel"] = model.output.weight
    found[f"layer_{head}_bias"] = model.output.bias
    return found


main(*sys.argv[1:])
