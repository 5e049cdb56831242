"""Training: configuration, data, losses, the loop, and freezing into a model for coding."""

import warnings

# compressai imports torch_geometric, which gives this warning in every command.
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
