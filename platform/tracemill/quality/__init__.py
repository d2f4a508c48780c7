"""How good an answer is, how sure that is, and whether it is still as good as before."""
