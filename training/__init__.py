"""A run: everything around the step that train.py shows.

    inputs       problems, IR groups and pi_ref's log-probs of them; which of them a step takes
    run          setting a run up: its folder, the policy, the judge; recording and saving steps
    samples      a sampled translation, from its tokens to its advantage
    optimizer    AdamW, its schedule, one clipped step
    checkpoint   the run's folder on disk: rows, checkpoints, damage, locks
    plan         what a run will do and the memory it needs, printed before it starts
    log          times, a step's row of metrics.jsonl, the closing report; held-out scores

In: a Config. Out: a Run, a record that train.py passes to its phases. These files import the model,
the sampler and the judge; nothing below imports them.
"""
