"""The torch floor: models, objectives, the training loop. The only room with torch.

Libraries: torch, torchvision, safetensors. Takes arrays and plain values, writes checkpoints into
the folder it is given, and reports through callables; it knows nothing of the catalogue.
"""
