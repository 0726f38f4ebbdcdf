"""Thin modules over fastlm.ops."""
