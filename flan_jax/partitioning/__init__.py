"""Device meshes, logical axis rules and TPU tori."""
