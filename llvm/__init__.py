"""What ir.py stands on."""
