"""Makes C{twistd dst} and C{twist dst}."""

from twisted.application.service import ServiceMaker

dst = ServiceMaker("DST", "dst.tap", "One dependable disk out of several undependable ones.", "dst")
