from cluster.environment import calm_openmp

# Here, because torch reads it when it is imported, and whatever of ours imports torch is below; in
# Ray's workers too, whose environment is that of the Ray that was joined.
calm_openmp()
