"""Near-duplicates: from the sketches of texts to which record stays for which.

    bands      which signatures meet: bands of rows, their tags, what is promised of them
    link       texts that meet in a band, directly or through others, are one component
    settle     exact Jaccard within a component; the policies `star` and `component`
    block      the arrays that these work on
    plain      the loops of both in numpy, for some thousand texts
    kernels    the same loops compiled, for millions; imported only when needed
    forest     those of them that link texts
    segments   what is known of a batch of texts, as one memory-mapped file
    manifest   what the folder of an index holds, replaced last
    index      segments and decisions in a folder: new batches against all earlier ones
    explain    a dropped record beside the one that stayed

A decision on a text rests on its component alone, so a batch that arrives later makes anew only
the components that it touches, and the result does not depend on batches, order or threads.
"""
