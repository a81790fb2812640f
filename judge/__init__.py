"""The judge: one untrusted program under limits."""
