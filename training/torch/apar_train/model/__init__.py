"""The model: opening it, teaching it to attend along branches, its adapter, and the folder it is written to."""
