"""Import and export of weights for github.com/aidinattar/snn, in PyTorch, as state_dict files.

For layer3_1 of our third stage that learns, a state_dict holds block3_1.conv.weight, the weights (F, C, kh, kw);
block3_1.stdp.layer.weight, the same tensor again, since a learning rule refers to its layer; block3_1.stdp.ltp_0 and
.ltd_0, (1,), a+ and a- of feature 0, and so on; the same under block3_1.anti_stdp if the layer learns by reward, of the
rule that punishes. A layer of fixed weights is skip_connection.weight. And once max_ap (1,), the limit of a+. All are
float32. A file is what `torch.save` writes (.pth, .pt; this needs torch) or an .npz of arrays with the same names.
Nothing in a file is ever executed.
"""

from snnjax.core import public
from snnjax.export.pytorch._state_dict import blocks_of as blocks_of
from snnjax.export.pytorch._state_dict import read as read
from snnjax.export.pytorch._state_dict import state_dict as state_dict
from snnjax.export.pytorch._state_dict import write as write

__all__ = public.names(vars())
