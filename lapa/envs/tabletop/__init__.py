"""A tabletop in the manner of Language Table: a pusher, four coloured blocks, templated English.

Small and fast enough that thousands of episodes are simulated, drawn and recorded within a minute on a
laptop, with no display, no GPU and no system library.
"""

import gymnasium

ENV_ID = "lapa/Tabletop-v0"

if ENV_ID not in gymnasium.registry:
    gymnasium.register(id=ENV_ID, entry_point="lapa.envs.tabletop.env:TabletopEnv")
