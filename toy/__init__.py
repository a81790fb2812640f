"""The embedded world: a task small enough to train on a laptop, made from one seed.

Programs from a small grammar are translated between programming languages and compiled to LLVM IR.
world.py is the world (programs, what they compute, wrong habits, tests), render.py writes a program
in seven languages, and make.py makes the files of this folder: problems, IR groups, and a model
with its tokenizer, warm started to write the right form and the wrong one. train.py without
arguments trains that model on these files. probe.py shows in seconds what a preference does to the
habits of every language. corpus/ is written by hand.
"""
