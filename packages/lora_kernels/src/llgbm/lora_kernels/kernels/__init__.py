"""Triton kernels, one a file; importing this package needs Triton."""
