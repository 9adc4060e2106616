"""Looking at samples: are they right, and how many of them are independent?

The modules are plain functions over arrays, one subject each. They import neither training code
nor the compiled plugin.
"""
