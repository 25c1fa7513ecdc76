"""The solvers driven from the host: NumPy algebra over two compiled programs, gradient and product.

The solvers beside this folder are the reference: tests compare with them step by step. They run
where diffrax does, compiled whole; these where compiling costs more than computing.
"""
