"""The judge: runs untrusted programs under limits and says whether they are right.

In: a problem (a row of problems.jsonl) and the text of an answer; out: a Verdict. reward.py judges
one answer, JudgePool many at a time. TO CHANGE THE TIME LIMIT see limits.py; TO ADD A LANGUAGE see
languages.py.

    answer.py, harnesses.py    the program in the answer; MultiPL-E's around it (harness_table.py)
    languages.py               how a program of each language is compiled, run and limited
    sandbox.py, limits.py      one run under limits (slots.py, cgroups.py, seccomp.py are its parts)
    landlock.py, session.py    the same without namespaces: walls, and the processes behind them
    pool.py, verdict.py        many answers at a time; what comes out

Nothing is imported here: who needs the table of languages only, such as data/, loads no more.
"""
