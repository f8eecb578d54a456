"""How many CPUs this process may use."""


def available_cpus() -> int:
    """Return the CPUs that this process may use, at least 1: what thread counts follow.

    A container's limit (cgroup v1 and v2, rounded up), the process's affinity, the machine's CPUs
    and `LOKY_MAX_CPU_COUNT`: the least of them.
    """
    # Here and not above: it brings NumPy, whose threads read the environment when it is imported.
    import joblib

    return int(joblib.cpu_count())
