"""The flow of Klein et al. 2023 in Cartesian coordinates."""
