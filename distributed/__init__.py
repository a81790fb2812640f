"""Several processes, one run: `ranks` (who does what, what is told), `sharding` (FSDP2)."""
