"""A plugin of pytest that makes property tests steady: the same examples each time, however busy the machine is.

Otherwise a test that takes longer than its deadline would pass for one that notices a fault. What fails is not shrunk,
for nobody reads it.
"""

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "steady",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("steady")
