"""The report of ``timewarp-openmm analyze``: survey the samples, assess, draw, write a page."""
