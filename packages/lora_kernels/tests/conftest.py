import os

import torch

# Without a GPU the kernels run in Triton's interpreter, which reads this when Triton is imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
