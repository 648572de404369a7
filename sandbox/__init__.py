"""Judges one candidate: trace on the CPU, check the plan, interpret or replay it, compare, time."""
