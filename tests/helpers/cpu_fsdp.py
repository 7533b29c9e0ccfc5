"""`python tests/helpers/cpu_fsdp.py train ...` is `tubevit train ...`, in ranks on the CPU whose weights FSDP2 shards.

PyTorch's FSDP2 works on CPUs, over gloo. Accelerate selects it on accelerators only, and `tubevit` refuses it elsewhere; this script
changes both decisions and nothing else.
"""

import sys
from types import SimpleNamespace

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from tubevit.training.cli import main
from tubevit.training.trainer import run_config


create_state, check_sharding = AcceleratorState.__init__, run_config.check_sharding


def create_sharding_state(self, *args, fsdp_plugin=None, **kwargs):
    create_state(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def check_as_on_gpus(training, *args, **kwargs):
    check_sharding(
        SimpleNamespace(**vars(training) | {"sharding": training.sharding, "use_cpu": False}), *args, **kwargs
    )


if __name__ == "__main__":
    AcceleratorState.__init__, run_config.check_sharding = create_sharding_state, check_as_on_gpus
    sys.exit(main(sys.argv[1:]))
