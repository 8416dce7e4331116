"""The campaign's media, found by a daemon as a third party's plugin is."""

import os

from test.campaign.fragile import FragileProvider

fragile = FragileProvider()

if "DST_CAMPAIGN_WITHOUT" in os.environ:
    # To see that the campaign notices: this daemon does not keep a rule.
    from test.scenarios.mutations import RULES

    without = RULES[os.environ["DST_CAMPAIGN_WITHOUT"]].off()
    without.__enter__()
