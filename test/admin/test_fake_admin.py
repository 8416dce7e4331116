"""The fake keeps the promises, so what is tested with it is tested."""

from dst.testing.admin_suite import AdminSpecimen, admin_suite
from dst.testing.fake_admin import FakeAdmin


def make_fake(case: object) -> AdminSpecimen:
    fake = FakeAdmin()
    return AdminSpecimen(fake, fake.settle)


class FakeAdminTests(admin_suite(FakeAdmin, make_fake)):
    """L{FakeAdmin} is a cluster admin."""
