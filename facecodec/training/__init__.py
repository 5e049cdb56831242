"""Training: configuration, data, losses, the loop, and freezing into a model for coding."""

import warnings

# compressai brings torch_geometric, which says so whenever a command imports it.
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
