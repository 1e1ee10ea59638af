"""From an action head's config to the head."""

from typing import assert_never

from lapa.config.vla import ActionHeadConfig, BinnedHead, FlowHead, L1Head
from lapa.models.vla.action_space import ActionSpace
from lapa.models.vla.heads.binned import BinnedActionHead
from lapa.models.vla.heads.flow import FlowActionHead
from lapa.models.vla.heads.l1 import L1ActionHead

ActionHead = BinnedActionHead | L1ActionHead | FlowActionHead


def build_action_head(config: ActionHeadConfig, space: ActionSpace, width: int, std: float) -> ActionHead:
    match config:
        case BinnedHead():
            return BinnedActionHead(config, space, width, std)
        case L1Head():
            return L1ActionHead(config, space, width)
        case FlowHead():
            return FlowActionHead(config, space, width)
        case _:
            assert_never(config)


def action_vocabulary(config: ActionHeadConfig, space: ActionSpace) -> int:
    """Rows the head needs in the backbone's token table, known before the backbone is built."""
    match config:
        case BinnedHead():
            return space.most_bins
        case L1Head():
            return config.horizon
        case FlowHead():
            return FlowActionHead.rows
        case _:
            assert_never(config)


def bins_of(config: ActionHeadConfig) -> int:
    """Bins to fit per action dimension; a head that regresses needs none, and gets those of the default head."""
    return config.bins if isinstance(config, BinnedHead) else BinnedHead().bins
