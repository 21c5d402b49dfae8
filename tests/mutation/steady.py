"""A plugin of pytest that makes property tests steady: the same examples each time, however busy the machine is.

Otherwise a test that takes longer than its deadline would pass for one that notices a fault.
"""

from hypothesis import HealthCheck, settings

settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
