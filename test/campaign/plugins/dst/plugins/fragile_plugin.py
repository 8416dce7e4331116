"""The campaign's media, found by a daemon as a third party's plugin is."""

from test.campaign.fragile import FragileProvider

fragile = FragileProvider()
