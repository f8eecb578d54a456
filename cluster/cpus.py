"""How many CPUs this process may use."""


def available_cpus() -> int:
    """Return the number of CPUs that this process may use, at least 1, for thread counts.

    It is the minimum of the container's limit (cgroup v1 and v2, rounded up), the process's
    affinity, the machine's CPUs and `LOKY_MAX_CPU_COUNT`.
    """
    # Here and not above: it imports NumPy, which reads the number of its threads at import.
    import joblib

    return int(joblib.cpu_count())
