"""The embedded world: a task small enough to train on a laptop, made from one seed.

Programs from a small grammar are translated between programming languages and compiled to LLVM IR.
world.py is the world (programs, what they compute, wrong habits, tests), render.py writes a program
in seven languages, and make.py makes the files of this folder: problems, IR groups, and a model
with its tokenizer, warm started to write the right form and the wrong one. train.py without
arguments trains that model on these files. corpus/ is written by hand.
"""
