"""One module for each thing that is measured; each has ``run(settings)`` that yields tables."""

PARTS = [
    "import_time",
    "store_lookup",
    "store_size",
    "reading",
    "one_image",
    "host_cost",
    "first_prediction",
    "engine_share",
    "codes_arrays",
    "codes_files",
    "many_files",
    "training_rate",
    "grid_search",
    "memory",
    "gpu",
]
